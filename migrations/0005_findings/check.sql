SELECT 'finding ' || id || ' names a run that is not known' FROM findings WHERE last_run > (SELECT seq FROM sqlite_sequence WHERE name = 'runs');
SELECT name || ' was left parked' FROM sqlite_schema WHERE name IN ('parked_profiles', 'parked_runs', 'parked_findings', 'parked_baselines');
