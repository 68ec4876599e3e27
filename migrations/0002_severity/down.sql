-- Only what the way up would not work out by itself is parked.
CREATE TABLE parked_severity (event_id INTEGER PRIMARY KEY, severity INTEGER NOT NULL) STRICT;
INSERT INTO parked_severity (event_id, severity)
SELECT events.id, events.severity
FROM events JOIN (SELECT id, CASE
    WHEN json_extract(body, '$.severity') IN ('error', 'critical', 'fatal') THEN 4
    WHEN json_extract(body, '$.severity') IN ('warning', 'warn') THEN 3
    WHEN json_extract(body, '$.severity') = 'notice' THEN 2
    WHEN json_extract(body, '$.severity') = 'info' THEN 1
    WHEN json_extract(body, '$.severity') = 'debug' THEN 0
    WHEN topic GLOB '*[.]error' OR topic GLOB '*[.]failed' OR topic GLOB '*[.]crashed' THEN 4
    WHEN topic GLOB '*[.]warning' OR topic GLOB '*[.]low' OR topic GLOB '*[.]full' OR topic GLOB '*[.]lost' THEN 3
    WHEN topic GLOB '*[.]started' OR topic GLOB '*[.]stopped' OR topic GLOB '*[.]changed' THEN 2
    WHEN topic GLOB 'debug[.]*' THEN 0
    ELSE 1
END AS severity FROM events) AS ruled USING (id)
WHERE events.severity <> ruled.severity;

DROP INDEX events_severe;
-- SQLite rewrites the table for this. It is paid on the way back only.
ALTER TABLE events DROP COLUMN severity;
