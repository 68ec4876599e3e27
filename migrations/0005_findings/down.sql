-- The schema before has no place for them: they wait, whole, under other names.
ALTER TABLE profiles RENAME TO parked_profiles;
ALTER TABLE runs RENAME TO parked_runs;
ALTER TABLE findings RENAME TO parked_findings;
ALTER TABLE baselines RENAME TO parked_baselines;
