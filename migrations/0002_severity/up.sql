-- since: 0.2.0
-- reversible: yes

-- 0 debug, 1 info, 2 notice, 3 warning, 4 error. The default makes this a change of the schema only: no row is rewritten.
ALTER TABLE events ADD COLUMN severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4);

-- Rows from before: what the body says of itself, else what the topic ends in. There are few topics, so each is looked at once,
-- together with whether any body of it may name a severity: most bodies don't, and are never taken apart. A backslash may hide
-- the word. Only rows that aren't "info" are written, each once.
CREATE TEMP TABLE ruled AS SELECT topic, max(named) AS named, CASE
    WHEN topic GLOB '*[.]error' OR topic GLOB '*[.]failed' OR topic GLOB '*[.]crashed' THEN 4
    WHEN topic GLOB '*[.]warning' OR topic GLOB '*[.]low' OR topic GLOB '*[.]full' OR topic GLOB '*[.]lost' THEN 3
    WHEN topic GLOB '*[.]started' OR topic GLOB '*[.]stopped' OR topic GLOB '*[.]changed' THEN 2
    WHEN topic GLOB 'debug[.]*' THEN 0
    ELSE 1
END AS severity FROM (SELECT DISTINCT topic, body LIKE '%severity%' OR body LIKE '%\%' AS named FROM events) GROUP BY topic;
CREATE UNIQUE INDEX temp.ruled_by_topic ON ruled (topic);
UPDATE events SET severity = (SELECT severity FROM ruled WHERE ruled.topic = events.topic)
WHERE topic IN (SELECT topic FROM ruled WHERE severity <> 1 AND NOT named);
UPDATE events SET severity = said.severity
FROM (SELECT id, coalesce(CASE json_extract(body, '$.severity')
    WHEN 'error' THEN 4 WHEN 'critical' THEN 4 WHEN 'fatal' THEN 4
    WHEN 'warning' THEN 3 WHEN 'warn' THEN 3
    WHEN 'notice' THEN 2
    WHEN 'info' THEN 1
    WHEN 'debug' THEN 0
END, (SELECT severity FROM ruled WHERE ruled.topic = events.topic)) AS severity
FROM events WHERE topic IN (SELECT topic FROM ruled WHERE named)
-- Without such a topic no row is read.
AND id >= (SELECT (SELECT min(id) FROM events) FROM ruled WHERE named LIMIT 1)) AS said
WHERE said.id = events.id AND said.severity <> 1;
DROP TABLE ruled;

-- Taken back from an earlier way down, for the rows that are still there.
CREATE TABLE IF NOT EXISTS parked_severity (event_id INTEGER PRIMARY KEY, severity INTEGER NOT NULL) STRICT;
UPDATE events SET severity = (SELECT severity FROM parked_severity WHERE event_id = events.id)
WHERE id IN (SELECT event_id FROM parked_severity);
DROP TABLE parked_severity;

-- Warnings and errors are few; they are found without reading the rest.
CREATE INDEX events_severe ON events (id) WHERE severity >= 3;
