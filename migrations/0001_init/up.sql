-- since: 0.1.0
-- reversible: no (nothing comes before it)

-- AUTOINCREMENT: an id is never used twice, also after pruning, so that side tables can name rows for good.
CREATE TABLE events (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    topic TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body  TEXT NOT NULL CHECK (json_valid(body))
) STRICT;

-- One row, replaced by every proof that the database commits.
CREATE TABLE proof (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    at_ms INTEGER NOT NULL,
    times INTEGER NOT NULL
) STRICT;
