SELECT 'job ' || id || ' is leased, but nobody holds it' FROM jobs WHERE state = 'leased' AND NOT EXISTS (SELECT 1 FROM leases WHERE name = 'job/' || jobs.id);
SELECT 'lease ' || name || ' is of a job that is not leased' FROM leases WHERE name GLOB 'job/*' AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = CAST(substr(leases.name, 5) AS INTEGER) AND state = 'leased');
SELECT name || ' was left parked' FROM sqlite_schema WHERE name IN ('parked_jobs', 'parked_leases', 'parked_artifacts', 'parked_stages');
