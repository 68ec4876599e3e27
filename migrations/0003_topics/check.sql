-- Every topic is counted once, for both: its count is right, and it is in the dictionary.
SELECT 'topic ' || coalesce(name || ' counts ' || topics.events || ', but there are ' || coalesce(counted.events, 0), topic || ' is not in the dictionary')
FROM (SELECT topic, count(*) AS events FROM events GROUP BY topic) AS counted FULL JOIN topics ON topics.name = counted.topic
WHERE topics.events IS NOT coalesce(counted.events, 0);
SELECT 'topics were left parked' FROM sqlite_schema WHERE name = 'parked_topics';
