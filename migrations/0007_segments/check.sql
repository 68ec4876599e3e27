SELECT 'segment ' || slot || ' should have the events ' || coalesce(segments.first_id || ' to ' || segments.last_id, 'none') || ', and has '
    || coalesce(there.low || ' to ' || there.high, 'none')
FROM (
    SELECT 0 AS slot, (SELECT min(id) FROM events_00) AS low, (SELECT max(id) FROM events_00) AS high
    UNION ALL SELECT 1 AS slot, (SELECT min(id) FROM events_01) AS low, (SELECT max(id) FROM events_01) AS high
    UNION ALL SELECT 2 AS slot, (SELECT min(id) FROM events_02) AS low, (SELECT max(id) FROM events_02) AS high
    UNION ALL SELECT 3 AS slot, (SELECT min(id) FROM events_03) AS low, (SELECT max(id) FROM events_03) AS high
    UNION ALL SELECT 4 AS slot, (SELECT min(id) FROM events_04) AS low, (SELECT max(id) FROM events_04) AS high
    UNION ALL SELECT 5 AS slot, (SELECT min(id) FROM events_05) AS low, (SELECT max(id) FROM events_05) AS high
    UNION ALL SELECT 6 AS slot, (SELECT min(id) FROM events_06) AS low, (SELECT max(id) FROM events_06) AS high
    UNION ALL SELECT 7 AS slot, (SELECT min(id) FROM events_07) AS low, (SELECT max(id) FROM events_07) AS high
    UNION ALL SELECT 8 AS slot, (SELECT min(id) FROM events_08) AS low, (SELECT max(id) FROM events_08) AS high
    UNION ALL SELECT 9 AS slot, (SELECT min(id) FROM events_09) AS low, (SELECT max(id) FROM events_09) AS high
    UNION ALL SELECT 10 AS slot, (SELECT min(id) FROM events_10) AS low, (SELECT max(id) FROM events_10) AS high
    UNION ALL SELECT 11 AS slot, (SELECT min(id) FROM events_11) AS low, (SELECT max(id) FROM events_11) AS high
    UNION ALL SELECT 12 AS slot, (SELECT min(id) FROM events_12) AS low, (SELECT max(id) FROM events_12) AS high
    UNION ALL SELECT 13 AS slot, (SELECT min(id) FROM events_13) AS low, (SELECT max(id) FROM events_13) AS high
    UNION ALL SELECT 14 AS slot, (SELECT min(id) FROM events_14) AS low, (SELECT max(id) FROM events_14) AS high
    UNION ALL SELECT 15 AS slot, (SELECT min(id) FROM events_15) AS low, (SELECT max(id) FROM events_15) AS high
) AS there LEFT JOIN segments USING (slot) WHERE there.low IS NOT segments.first_id OR there.high IS NOT segments.last_id;
SELECT 'segment ' || slot || ' counts ' || events || ' events, its topics ' || counted
FROM (SELECT slot, events, (SELECT coalesce(sum(events), 0) FROM segment_topics WHERE segment_topics.slot = segments.slot) AS counted FROM segments)
WHERE counted <> events;
SELECT 'topic ' || topic || ' has no name' FROM segment_topics WHERE topic NOT IN (SELECT name FROM topic_names);
SELECT 'topics are counted for segment ' || slot || ', which is empty' FROM segment_topics WHERE slot NOT IN (SELECT slot FROM segments);
SELECT 'the chain goes on in ' || count(*) || ' places' FROM chain WHERE last_id IS NULL HAVING count(*) > 1;
SELECT name || ' was left parked' FROM sqlite_schema WHERE name IN ('parked_seals', 'parked_chain');
