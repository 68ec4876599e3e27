-- The schema before has no place for them: they wait, whole, under other names.
ALTER TABLE jobs RENAME TO parked_jobs;
ALTER TABLE leases RENAME TO parked_leases;
ALTER TABLE artifacts RENAME TO parked_artifacts;
ALTER TABLE stages RENAME TO parked_stages;
