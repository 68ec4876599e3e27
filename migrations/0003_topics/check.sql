SELECT 'topic ' || name || ' counts ' || topics.events || ', but there are ' || coalesce(counted.events, 0)
FROM topics LEFT JOIN (SELECT topic, count(*) AS events FROM events GROUP BY topic) AS counted ON counted.topic = topics.name
WHERE topics.events <> coalesce(counted.events, 0);
SELECT 'topic ' || topic || ' is not in the dictionary' FROM (SELECT DISTINCT topic FROM events) WHERE topic NOT IN (SELECT name FROM topics);
SELECT 'topics were left parked' FROM sqlite_schema WHERE name = 'parked_topics';
