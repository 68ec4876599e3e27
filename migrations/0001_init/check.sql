-- Every row that comes out is a violation. What stands here holds from schema 1 on, in every later schema too.
SELECT 'event ' || id || ' has no valid body' FROM events WHERE NOT json_valid(body);
SELECT 'event ' || id || ' has no valid topic' FROM events WHERE length(topic) NOT BETWEEN 1 AND 128;
SELECT 'proof has ' || count(*) || ' rows' FROM proof HAVING count(*) > 1;
SELECT 'event ids have passed their counter' WHERE (SELECT max(id) FROM events) > (SELECT seq FROM sqlite_sequence WHERE name = 'events');
