-- since: 0.2.0
-- reversible: yes

-- The event log in a ring of tables, so that pruning drops whole ones. What was there before becomes events_00, as it stands: no
-- row moves, and nothing is appended to it any more. The counter of ids keeps its name.
DROP TRIGGER events_topic_added;
DROP TRIGGER events_topic_gone;
DROP TRIGGER events_topic_changed;
ALTER TABLE events RENAME TO events_00;
UPDATE sqlite_sequence SET name = 'events' WHERE name = 'events_00';
INSERT INTO sqlite_sequence (name, seq) SELECT 'events', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'events');

-- The last row of each commit has the seal: sha256 over the seal before it and all rows since.
CREATE TABLE events_01 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;
CREATE INDEX events_01_severe ON events_01 (id) WHERE severity >= 3;
CREATE TABLE events_02 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;
CREATE INDEX events_02_severe ON events_02 (id) WHERE severity >= 3;
CREATE TABLE events_03 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;
CREATE INDEX events_03_severe ON events_03 (id) WHERE severity >= 3;
CREATE TABLE events_04 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;
CREATE INDEX events_04_severe ON events_04 (id) WHERE severity >= 3;
CREATE TABLE events_05 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;
CREATE INDEX events_05_severe ON events_05 (id) WHERE severity >= 3;
CREATE TABLE events_06 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;
CREATE INDEX events_06_severe ON events_06 (id) WHERE severity >= 3;
CREATE TABLE events_07 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;
CREATE INDEX events_07_severe ON events_07 (id) WHERE severity >= 3;
CREATE TABLE events_08 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;
CREATE INDEX events_08_severe ON events_08 (id) WHERE severity >= 3;
CREATE TABLE events_09 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;
CREATE INDEX events_09_severe ON events_09 (id) WHERE severity >= 3;
CREATE TABLE events_10 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;
CREATE INDEX events_10_severe ON events_10 (id) WHERE severity >= 3;
CREATE TABLE events_11 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;
CREATE INDEX events_11_severe ON events_11 (id) WHERE severity >= 3;
CREATE TABLE events_12 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;
CREATE INDEX events_12_severe ON events_12 (id) WHERE severity >= 3;
CREATE TABLE events_13 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;
CREATE INDEX events_13_severe ON events_13 (id) WHERE severity >= 3;
CREATE TABLE events_14 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;
CREATE INDEX events_14_severe ON events_14 (id) WHERE severity >= 3;
CREATE TABLE events_15 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;
CREATE INDEX events_15_severe ON events_15 (id) WHERE severity >= 3;

-- Which of them are in use; the last one is appended to. Between `first_id` and `last_id` there may be gaps: ids that a restore
-- kept from being given again. `bytes` is what topics and bodies take; `anchor` the seal before its first row.
CREATE TABLE segments (
    slot      INTEGER PRIMARY KEY CHECK (slot BETWEEN 0 AND 15),
    first_id  INTEGER NOT NULL,
    last_id   INTEGER NOT NULL CHECK (last_id >= first_id),
    events    INTEGER NOT NULL CHECK (events > 0),
    bytes     INTEGER NOT NULL,
    oldest_ms INTEGER NOT NULL,
    newest_ms INTEGER NOT NULL,
    anchor    BLOB
) STRICT;
INSERT INTO segments (slot, first_id, last_id, events, bytes, oldest_ms, newest_ms)
SELECT 0, (SELECT min(id) FROM events_00), (SELECT max(id) FROM events_00), count(*),
    (SELECT sum(events * octet_length(name)) FROM topics) + sum(octet_length(body)), min(at_ms), max(at_ms)
FROM events_00 HAVING count(*) > 0;

-- The counts, kept for each segment, so that a dropped one is subtracted without reading it.
CREATE TABLE segment_topics (
    topic  TEXT NOT NULL,
    slot   INTEGER NOT NULL,
    events INTEGER NOT NULL CHECK (events > 0),
    PRIMARY KEY (topic, slot)
) STRICT, WITHOUT ROWID;
INSERT INTO segment_topics (topic, slot, events) SELECT name, 0, events FROM topics WHERE events > 0;
CREATE TABLE topic_names (
    name     TEXT PRIMARY KEY,
    first_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO topic_names (name, first_id) SELECT name, first_id FROM topics;
DROP TABLE topics;

-- The ranges of ids that the chain of seals covers; the last one goes on while it has no end. Rows outside of them were written
-- by a version without seals. What an earlier way down left is taken back: the seals of rows that are in events_00 now.
CREATE TABLE IF NOT EXISTS parked_seals (event_id INTEGER PRIMARY KEY, seal BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS parked_chain (
    first_id INTEGER PRIMARY KEY,
    anchor   BLOB NOT NULL,
    last_id  INTEGER,
    head     BLOB
) STRICT;
-- What the older version pruned in the meantime: the range begins after the first seal that can still be told from the rows.
CREATE TEMP TABLE low AS SELECT coalesce((SELECT first_id FROM segments), (SELECT seq + 1 FROM sqlite_sequence WHERE name = 'events')) AS id;
UPDATE parked_chain SET (first_id, anchor) = (
    SELECT event_id + 1, seal FROM parked_seals WHERE event_id BETWEEN (SELECT id - 1 FROM low) AND parked_chain.last_id ORDER BY event_id LIMIT 1
) WHERE first_id < (SELECT id FROM low) AND last_id >= (SELECT id - 1 FROM low);
DELETE FROM parked_chain WHERE last_id < (SELECT id - 1 FROM low) AND first_id < (SELECT max(first_id) FROM parked_chain);
UPDATE parked_chain SET first_id = last_id + 1, anchor = head WHERE last_id < (SELECT id - 1 FROM low);
DELETE FROM parked_seals WHERE event_id < coalesce((SELECT min(first_id) FROM parked_chain), (SELECT id FROM low));
DROP TABLE low;
UPDATE parked_chain SET last_id = NULL, head = NULL WHERE last_id = (SELECT seq FROM sqlite_sequence WHERE name = 'events');
ALTER TABLE parked_seals RENAME TO seals_00;
ALTER TABLE parked_chain RENAME TO chain;

-- For people and checks; the store asks the tables.
CREATE VIEW topics AS
SELECT name, coalesce(counted.events, 0) AS events, first_id
FROM topic_names LEFT JOIN (SELECT topic, sum(events) AS events FROM segment_topics GROUP BY topic) AS counted ON counted.topic = name;
CREATE VIEW events AS
SELECT id, at_ms, topic, body, severity, (SELECT seal FROM seals_00 WHERE event_id = id) AS seal FROM events_00
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_01
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_02
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_03
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_04
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_05
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_06
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_07
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_08
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_09
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_10
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_11
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_12
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_13
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_14
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_15;
