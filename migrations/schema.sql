-- What all migrations add up to; a test compares it with them. To read, never to run.

CREATE TABLE events (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    topic TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body  TEXT NOT NULL CHECK (json_valid(body))
, severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4)) STRICT;

CREATE TABLE proof (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    at_ms INTEGER NOT NULL,
    times INTEGER NOT NULL
) STRICT;

CREATE TABLE schema_version (
    number     INTEGER PRIMARY KEY CHECK (number > 0),
    name       TEXT NOT NULL,
    checksum   TEXT NOT NULL,
    applied_at TEXT NOT NULL,
    release    TEXT NOT NULL,
    down_sql   TEXT,
    check_sql  TEXT NOT NULL
) STRICT;

CREATE TABLE topics (
    name     TEXT PRIMARY KEY,
    events   INTEGER NOT NULL CHECK (events >= 0),
    first_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX events_severe ON events (id) WHERE severity >= 3;

CREATE TRIGGER events_topic_added AFTER INSERT ON events BEGIN
    INSERT INTO topics (name, events, first_id) VALUES (NEW.topic, 1, NEW.id)
    ON CONFLICT (name) DO UPDATE SET events = events + 1;
END;

CREATE TRIGGER events_topic_changed AFTER UPDATE OF topic ON events BEGIN
    UPDATE topics SET events = events - 1 WHERE name = OLD.topic;
    INSERT INTO topics (name, events, first_id) VALUES (NEW.topic, 1, NEW.id)
    ON CONFLICT (name) DO UPDATE SET events = events + 1;
END;

CREATE TRIGGER events_topic_gone AFTER DELETE ON events BEGIN
    UPDATE topics SET events = events - 1 WHERE name = OLD.topic;
END;
