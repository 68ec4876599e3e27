SELECT 'event ' || id || ' has no valid severity' FROM events WHERE severity IS NULL OR severity NOT BETWEEN 0 AND 4;
SELECT 'severities were left parked' FROM sqlite_schema WHERE name = 'parked_severity';
