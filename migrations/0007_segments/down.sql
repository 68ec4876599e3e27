-- The chain ends here for the schema before; its seals wait beside the rows.
UPDATE chain SET last_id = (SELECT max(last_id) FROM segments) WHERE last_id IS NULL AND first_id <= (SELECT max(last_id) FROM segments);
UPDATE chain SET head = (SELECT seal FROM events WHERE events.id = chain.last_id) WHERE head IS NULL AND last_id IS NOT NULL;
UPDATE chain SET last_id = first_id - 1, head = anchor WHERE last_id IS NULL;
INSERT INTO seals_00 (event_id, seal) SELECT id, seal FROM events_01 WHERE seal IS NOT NULL;
INSERT INTO seals_00 (event_id, seal) SELECT id, seal FROM events_02 WHERE seal IS NOT NULL;
INSERT INTO seals_00 (event_id, seal) SELECT id, seal FROM events_03 WHERE seal IS NOT NULL;
INSERT INTO seals_00 (event_id, seal) SELECT id, seal FROM events_04 WHERE seal IS NOT NULL;
INSERT INTO seals_00 (event_id, seal) SELECT id, seal FROM events_05 WHERE seal IS NOT NULL;
INSERT INTO seals_00 (event_id, seal) SELECT id, seal FROM events_06 WHERE seal IS NOT NULL;
INSERT INTO seals_00 (event_id, seal) SELECT id, seal FROM events_07 WHERE seal IS NOT NULL;
INSERT INTO seals_00 (event_id, seal) SELECT id, seal FROM events_08 WHERE seal IS NOT NULL;
INSERT INTO seals_00 (event_id, seal) SELECT id, seal FROM events_09 WHERE seal IS NOT NULL;
INSERT INTO seals_00 (event_id, seal) SELECT id, seal FROM events_10 WHERE seal IS NOT NULL;
INSERT INTO seals_00 (event_id, seal) SELECT id, seal FROM events_11 WHERE seal IS NOT NULL;
INSERT INTO seals_00 (event_id, seal) SELECT id, seal FROM events_12 WHERE seal IS NOT NULL;
INSERT INTO seals_00 (event_id, seal) SELECT id, seal FROM events_13 WHERE seal IS NOT NULL;
INSERT INTO seals_00 (event_id, seal) SELECT id, seal FROM events_14 WHERE seal IS NOT NULL;
INSERT INTO seals_00 (event_id, seal) SELECT id, seal FROM events_15 WHERE seal IS NOT NULL;
ALTER TABLE seals_00 RENAME TO parked_seals;
ALTER TABLE chain RENAME TO parked_chain;

-- Back into one table: events_00 as it stands, the others in the order of their ids, which is a merge of tables in order.
DROP VIEW events;
DELETE FROM sqlite_sequence WHERE name = 'events_00';
ALTER TABLE events_00 RENAME TO events;
INSERT INTO events (id, at_ms, topic, body, severity)
SELECT id, at_ms, topic, body, severity FROM events_01
UNION ALL SELECT id, at_ms, topic, body, severity FROM events_02
UNION ALL SELECT id, at_ms, topic, body, severity FROM events_03
UNION ALL SELECT id, at_ms, topic, body, severity FROM events_04
UNION ALL SELECT id, at_ms, topic, body, severity FROM events_05
UNION ALL SELECT id, at_ms, topic, body, severity FROM events_06
UNION ALL SELECT id, at_ms, topic, body, severity FROM events_07
UNION ALL SELECT id, at_ms, topic, body, severity FROM events_08
UNION ALL SELECT id, at_ms, topic, body, severity FROM events_09
UNION ALL SELECT id, at_ms, topic, body, severity FROM events_10
UNION ALL SELECT id, at_ms, topic, body, severity FROM events_11
UNION ALL SELECT id, at_ms, topic, body, severity FROM events_12
UNION ALL SELECT id, at_ms, topic, body, severity FROM events_13
UNION ALL SELECT id, at_ms, topic, body, severity FROM events_14
UNION ALL SELECT id, at_ms, topic, body, severity FROM events_15
ORDER BY id;
-- SQLite begins to count when it is told to insert, also when there is nothing.
DELETE FROM sqlite_sequence WHERE name = 'events' AND seq = 0;
DROP TABLE events_01;
DROP TABLE events_02;
DROP TABLE events_03;
DROP TABLE events_04;
DROP TABLE events_05;
DROP TABLE events_06;
DROP TABLE events_07;
DROP TABLE events_08;
DROP TABLE events_09;
DROP TABLE events_10;
DROP TABLE events_11;
DROP TABLE events_12;
DROP TABLE events_13;
DROP TABLE events_14;
DROP TABLE events_15;
DROP TABLE segments;

DROP VIEW topics;
CREATE TABLE topics (
    name     TEXT PRIMARY KEY,
    events   INTEGER NOT NULL CHECK (events >= 0),
    first_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO topics (name, events, first_id)
SELECT name, coalesce((SELECT sum(events) FROM segment_topics WHERE topic = name), 0), first_id FROM topic_names;
DROP TABLE segment_topics;
DROP TABLE topic_names;

CREATE TRIGGER events_topic_added AFTER INSERT ON events BEGIN
    INSERT INTO topics (name, events, first_id) VALUES (NEW.topic, 1, NEW.id)
    ON CONFLICT (name) DO UPDATE SET events = events + 1;
END;
CREATE TRIGGER events_topic_gone AFTER DELETE ON events BEGIN
    UPDATE topics SET events = events - 1 WHERE name = OLD.topic;
END;
CREATE TRIGGER events_topic_changed AFTER UPDATE OF topic ON events BEGIN
    UPDATE topics SET events = events - 1 WHERE name = OLD.topic;
    INSERT INTO topics (name, events, first_id) VALUES (NEW.topic, 1, NEW.id)
    ON CONFLICT (name) DO UPDATE SET events = events + 1;
END;
