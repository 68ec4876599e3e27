-- since: 0.2.0
-- reversible: yes

-- 0 debug, 1 info, 2 notice, 3 warning, 4 error. The default makes this a change of the schema only: no row is rewritten.
ALTER TABLE events ADD COLUMN severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4);

-- Rows from before: what the body says of itself, else what the topic ends in. There are few topics, so each is looked at once;
-- and only rows that aren't "info" are written.
UPDATE events SET severity = ruled.severity
FROM (WITH topics_ruled AS MATERIALIZED (SELECT topic, CASE
    WHEN topic GLOB '*[.]error' OR topic GLOB '*[.]failed' OR topic GLOB '*[.]crashed' THEN 4
    WHEN topic GLOB '*[.]warning' OR topic GLOB '*[.]low' OR topic GLOB '*[.]full' OR topic GLOB '*[.]lost' THEN 3
    WHEN topic GLOB '*[.]started' OR topic GLOB '*[.]stopped' OR topic GLOB '*[.]changed' THEN 2
    WHEN topic GLOB 'debug[.]*' THEN 0
    ELSE 1
END AS severity FROM (SELECT DISTINCT topic FROM events))
SELECT id, coalesce(CASE json_extract(body, '$.severity')
    WHEN 'error' THEN 4 WHEN 'critical' THEN 4 WHEN 'fatal' THEN 4
    WHEN 'warning' THEN 3 WHEN 'warn' THEN 3
    WHEN 'notice' THEN 2
    WHEN 'info' THEN 1
    WHEN 'debug' THEN 0
END, topics_ruled.severity) AS severity FROM events CROSS JOIN topics_ruled ON topics_ruled.topic = events.topic) AS ruled
WHERE ruled.id = events.id AND ruled.severity <> 1;

-- Taken back from an earlier way down, for the rows that are still there.
CREATE TABLE IF NOT EXISTS parked_severity (event_id INTEGER PRIMARY KEY, severity INTEGER NOT NULL) STRICT;
UPDATE events SET severity = parked_severity.severity FROM parked_severity WHERE parked_severity.event_id = events.id;
DROP TABLE parked_severity;

-- Warnings and errors are few; they are found without reading the rest.
CREATE INDEX events_severe ON events (id) WHERE severity >= 3;
