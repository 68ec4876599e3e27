-- since: 0.2.0
-- reversible: yes

-- Every series that a provider reads, or why it can't.
CREATE TABLE IF NOT EXISTS parked_sensors (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 128),
    provider   TEXT NOT NULL,
    -- '' for text; else %, C, B, B/s, count, s, …
    unit       TEXT NOT NULL,
    -- Why there is nothing to read; NULL where there is.
    absent     TEXT,
    changed_ms INTEGER NOT NULL
) STRICT;
ALTER TABLE parked_sensors RENAME TO sensors;

-- A number or a text. Written in batches: the newest ones of a machine that loses its power may be missing. By time first:
-- a batch then fills a page or two of the card; by sensor first it would change a page for each sensor.
CREATE TABLE IF NOT EXISTS parked_readings (
    at_ms     INTEGER NOT NULL,
    sensor_id INTEGER NOT NULL,
    value     ANY NOT NULL,
    PRIMARY KEY (at_ms, sensor_id)
) STRICT, WITHOUT ROWID;
ALTER TABLE parked_readings RENAME TO readings;
