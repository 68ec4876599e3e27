-- since: 0.2.0
-- reversible: yes

-- The dictionary of topics, by their names: giving the rows a number instead would rewrite the whole table, both ways.
-- `first_id` is the first event that ever had the topic, also after that event was pruned.
CREATE TABLE topics (
    name     TEXT PRIMARY KEY,
    events   INTEGER NOT NULL CHECK (events >= 0),
    first_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO topics (name, events, first_id) SELECT topic, count(*), min(id) FROM events GROUP BY topic;

-- Taken back from an earlier way down.
CREATE TABLE IF NOT EXISTS parked_topics (name TEXT PRIMARY KEY, first_id INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO topics (name, events, first_id) SELECT name, 0, first_id FROM parked_topics WHERE true
ON CONFLICT (name) DO UPDATE SET first_id = min(first_id, excluded.first_id);
DROP TABLE parked_topics;

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
