-- since: 0.4.0
-- reversible: no (the milliseconds can't be brought back)

-- Only with the feature demo-irreversible: what a release that can't be undone does to a database, in the demonstration.
UPDATE events SET at_ms = at_ms - at_ms % 1000 WHERE at_ms % 1000 <> 0;
