-- The counts can be counted again; which event was a topic's first can't, once it is pruned.
CREATE TABLE parked_topics (name TEXT PRIMARY KEY, first_id INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO parked_topics (name, first_id) SELECT name, first_id FROM topics;

DROP TRIGGER events_topic_added;
DROP TRIGGER events_topic_gone;
DROP TRIGGER events_topic_changed;
DROP TABLE topics;
