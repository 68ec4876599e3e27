-- since: 0.4.0
-- reversible: no (the milliseconds can't be brought back)

-- Only with the feature demo-irreversible: what a release that can't be undone does to a database, in the demonstration. The
-- events aren't what was sealed any more: all of them move to events_00, where those without a seal are, and the chain begins
-- anew behind them.
UPDATE events_00 SET at_ms = at_ms - at_ms % 1000 WHERE at_ms % 1000 <> 0;
INSERT INTO events_00 (id, at_ms, topic, body, severity)
SELECT id, at_ms - at_ms % 1000, topic, body, severity FROM events_01
UNION ALL SELECT id, at_ms - at_ms % 1000, topic, body, severity FROM events_02
UNION ALL SELECT id, at_ms - at_ms % 1000, topic, body, severity FROM events_03
UNION ALL SELECT id, at_ms - at_ms % 1000, topic, body, severity FROM events_04
UNION ALL SELECT id, at_ms - at_ms % 1000, topic, body, severity FROM events_05
UNION ALL SELECT id, at_ms - at_ms % 1000, topic, body, severity FROM events_06
UNION ALL SELECT id, at_ms - at_ms % 1000, topic, body, severity FROM events_07
UNION ALL SELECT id, at_ms - at_ms % 1000, topic, body, severity FROM events_08
UNION ALL SELECT id, at_ms - at_ms % 1000, topic, body, severity FROM events_09
UNION ALL SELECT id, at_ms - at_ms % 1000, topic, body, severity FROM events_10
UNION ALL SELECT id, at_ms - at_ms % 1000, topic, body, severity FROM events_11
UNION ALL SELECT id, at_ms - at_ms % 1000, topic, body, severity FROM events_12
UNION ALL SELECT id, at_ms - at_ms % 1000, topic, body, severity FROM events_13
UNION ALL SELECT id, at_ms - at_ms % 1000, topic, body, severity FROM events_14
UNION ALL SELECT id, at_ms - at_ms % 1000, topic, body, severity FROM events_15
ORDER BY id;
DELETE FROM sqlite_sequence WHERE name = 'events_00';
DELETE FROM events_01;
DELETE FROM events_02;
DELETE FROM events_03;
DELETE FROM events_04;
DELETE FROM events_05;
DELETE FROM events_06;
DELETE FROM events_07;
DELETE FROM events_08;
DELETE FROM events_09;
DELETE FROM events_10;
DELETE FROM events_11;
DELETE FROM events_12;
DELETE FROM events_13;
DELETE FROM events_14;
DELETE FROM events_15;
DELETE FROM segments;
INSERT INTO segments (slot, first_id, last_id, events, bytes, oldest_ms, newest_ms)
SELECT 0, min(id), max(id), count(*), sum(octet_length(topic) + octet_length(body)), min(at_ms), max(at_ms) FROM events_00 HAVING count(*) > 0;
CREATE TEMP TABLE counted AS SELECT topic, sum(events) AS events FROM segment_topics GROUP BY topic;
DELETE FROM segment_topics;
INSERT INTO segment_topics (topic, slot, events) SELECT topic, 0, events FROM counted;
DROP TABLE counted;
DELETE FROM seals_00;
DELETE FROM chain;
