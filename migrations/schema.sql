-- What all migrations add up to; a test compares it with them (`UPDATE=1 cargo test -p smolotchi-store --test migrating` writes it). To read, never to run.

CREATE TABLE "artifacts" (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT NOT NULL CHECK (length(kind) BETWEEN 1 AND 64),
    name       TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    media      TEXT NOT NULL,
    sha256     TEXT NOT NULL CHECK (length(sha256) = 64),
    bytes      INTEGER NOT NULL CHECK (bytes >= 0),
    created_ms INTEGER NOT NULL,
    job_id     INTEGER,
    run_id     INTEGER,
    state      TEXT NOT NULL DEFAULT 'whole' CHECK (state IN ('whole', 'damaged')),
    -- What was found wrong with it.
    fault      TEXT,
    checked_ms INTEGER
) STRICT;

CREATE TABLE "baselines" (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    profile         TEXT NOT NULL,
    profile_version INTEGER NOT NULL,
    run_id          INTEGER NOT NULL,
    made_ms         INTEGER NOT NULL,
    made_by         TEXT NOT NULL,
    note            TEXT,
    -- {"KEY": "sha256 of the finding's detail"}
    expected        TEXT NOT NULL CHECK (json_valid(expected))
) STRICT;

CREATE TABLE "chain" (
    first_id INTEGER PRIMARY KEY,
    anchor   BLOB NOT NULL,
    last_id  INTEGER,
    head     BLOB
) STRICT;

CREATE VIEW events AS
SELECT id, at_ms, topic, body, severity, (SELECT seal FROM seals_00 WHERE event_id = id) AS seal FROM events_00
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_01
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_02
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_03
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_04
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_05
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_06
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_07
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_08
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_09
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_10
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_11
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_12
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_13
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_14
UNION ALL SELECT id, at_ms, topic, body, severity, seal FROM events_15;

CREATE TABLE "events_00" (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    topic TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body  TEXT NOT NULL CHECK (json_valid(body))
, severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4)) STRICT;

CREATE TABLE events_01 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;

CREATE TABLE events_02 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;

CREATE TABLE events_03 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;

CREATE TABLE events_04 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;

CREATE TABLE events_05 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;

CREATE TABLE events_06 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;

CREATE TABLE events_07 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;

CREATE TABLE events_08 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;

CREATE TABLE events_09 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;

CREATE TABLE events_10 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;

CREATE TABLE events_11 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;

CREATE TABLE events_12 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;

CREATE TABLE events_13 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;

CREATE TABLE events_14 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;

CREATE TABLE events_15 (
    id       INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    topic    TEXT NOT NULL CHECK (length(topic) BETWEEN 1 AND 128),
    body     TEXT NOT NULL CHECK (json_valid(body)),
    severity INTEGER NOT NULL DEFAULT 1 CHECK (severity BETWEEN 0 AND 4),
    seal     BLOB
) STRICT;

CREATE TABLE "findings" (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    profile         TEXT NOT NULL,
    key             TEXT NOT NULL,
    title           TEXT NOT NULL,
    severity        INTEGER NOT NULL CHECK (severity BETWEEN 0 AND 4),
    -- open: there; expected: there, and in the baseline; gone: not there any more.
    state           TEXT NOT NULL CHECK (state IN ('open', 'expected', 'gone')),
    first_run       INTEGER NOT NULL,
    last_run        INTEGER NOT NULL,
    first_ms        INTEGER NOT NULL,
    last_ms         INTEGER NOT NULL,
    times           INTEGER NOT NULL,
    profile_version INTEGER NOT NULL,
    action          TEXT NOT NULL,
    step            INTEGER NOT NULL,
    -- The policy's word on the step: which rule, what it said.
    policy          TEXT NOT NULL CHECK (json_valid(policy)),
    evidence        INTEGER,
    detail          TEXT NOT NULL CHECK (json_valid(detail)),
    UNIQUE (profile, key)
) STRICT;

CREATE TABLE "jobs" (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    kind         TEXT NOT NULL CHECK (length(kind) BETWEEN 1 AND 64),
    profile      TEXT,
    input        TEXT NOT NULL CHECK (json_valid(input)),
    state        TEXT NOT NULL CHECK (state IN ('queued', 'leased', 'waiting', 'done', 'failed', 'cancelled')),
    priority     INTEGER NOT NULL DEFAULT 0,
    created_ms   INTEGER NOT NULL,
    created_by   TEXT NOT NULL,
    -- Not before this moment.
    due_ms       INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL CHECK (max_attempts > 0),
    changed_ms   INTEGER NOT NULL,
    result       TEXT CHECK (json_valid(result)),
    error        TEXT
) STRICT;

CREATE TABLE "leases" (
    name                TEXT PRIMARY KEY,
    role                TEXT NOT NULL,
    pid                 INTEGER NOT NULL,
    start_ticks         INTEGER NOT NULL,
    boot_id             TEXT NOT NULL,
    token               TEXT NOT NULL,
    taken_ms            INTEGER NOT NULL,
    expires_boottime_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE "profiles" (
    name     TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    version  INTEGER NOT NULL CHECK (version > 0),
    sha256   TEXT NOT NULL CHECK (length(sha256) = 64),
    text     TEXT NOT NULL,
    added_ms INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE proof (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    at_ms INTEGER NOT NULL,
    times INTEGER NOT NULL
) STRICT;

CREATE TABLE "readings" (
    at_ms     INTEGER NOT NULL,
    sensor_id INTEGER NOT NULL,
    value     ANY NOT NULL,
    PRIMARY KEY (at_ms, sensor_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE "runs" (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id          INTEGER,
    profile         TEXT NOT NULL,
    profile_version INTEGER NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('running', 'waiting', 'done', 'failed')),
    -- The run whose recorded inputs this one was made from again.
    replay_of       INTEGER,
    started_ms      INTEGER NOT NULL,
    ended_ms        INTEGER,
    plan_artifact   INTEGER,
    inputs_artifact INTEGER,
    result_artifact INTEGER
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

CREATE TABLE "seals_00" (event_id INTEGER PRIMARY KEY, seal BLOB NOT NULL) STRICT;

CREATE TABLE segment_topics (
    topic  TEXT NOT NULL,
    slot   INTEGER NOT NULL,
    events INTEGER NOT NULL CHECK (events > 0),
    PRIMARY KEY (topic, slot)
) STRICT, WITHOUT ROWID;

CREATE TABLE segments (
    slot      INTEGER PRIMARY KEY CHECK (slot BETWEEN 0 AND 15),
    first_id  INTEGER NOT NULL,
    last_id   INTEGER NOT NULL CHECK (last_id >= first_id),
    events    INTEGER NOT NULL CHECK (events > 0),
    bytes     INTEGER NOT NULL,
    oldest_ms INTEGER NOT NULL,
    newest_ms INTEGER NOT NULL,
    anchor    BLOB
) STRICT;

CREATE TABLE "sensors" (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 128),
    provider   TEXT NOT NULL,
    -- '' for text; else %, C, B, B/s, count, s, …
    unit       TEXT NOT NULL,
    -- Why there is nothing to read; NULL where there is.
    absent     TEXT,
    changed_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE "stages" (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id       INTEGER NOT NULL,
    job_id       INTEGER NOT NULL,
    step         INTEGER NOT NULL,
    action       TEXT NOT NULL,
    risk         TEXT NOT NULL,
    reason       TEXT NOT NULL,
    requested_ms INTEGER NOT NULL,
    expires_ms   INTEGER NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'expired')),
    decided_ms   INTEGER,
    decided_by   TEXT,
    why          TEXT,
    UNIQUE (run_id, step)
) STRICT;

CREATE TABLE topic_names (
    name     TEXT PRIMARY KEY,
    first_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE VIEW topics AS
SELECT name, coalesce(counted.events, 0) AS events, first_id
FROM topic_names LEFT JOIN (SELECT topic, sum(events) AS events FROM segment_topics GROUP BY topic) AS counted ON counted.topic = name;

CREATE INDEX artifacts_by_job ON "artifacts" (job_id, id) WHERE job_id IS NOT NULL;

CREATE INDEX artifacts_by_kind ON "artifacts" (kind, id);

CREATE INDEX artifacts_by_run ON "artifacts" (run_id, id) WHERE run_id IS NOT NULL;

CREATE INDEX artifacts_by_sha256 ON "artifacts" (sha256);

CREATE INDEX artifacts_damaged ON "artifacts" (id) WHERE state = 'damaged';

CREATE INDEX baselines_by_profile ON "baselines" (profile, id);

CREATE INDEX events_01_severe ON events_01 (id) WHERE severity >= 3;

CREATE INDEX events_02_severe ON events_02 (id) WHERE severity >= 3;

CREATE INDEX events_03_severe ON events_03 (id) WHERE severity >= 3;

CREATE INDEX events_04_severe ON events_04 (id) WHERE severity >= 3;

CREATE INDEX events_05_severe ON events_05 (id) WHERE severity >= 3;

CREATE INDEX events_06_severe ON events_06 (id) WHERE severity >= 3;

CREATE INDEX events_07_severe ON events_07 (id) WHERE severity >= 3;

CREATE INDEX events_08_severe ON events_08 (id) WHERE severity >= 3;

CREATE INDEX events_09_severe ON events_09 (id) WHERE severity >= 3;

CREATE INDEX events_10_severe ON events_10 (id) WHERE severity >= 3;

CREATE INDEX events_11_severe ON events_11 (id) WHERE severity >= 3;

CREATE INDEX events_12_severe ON events_12 (id) WHERE severity >= 3;

CREATE INDEX events_13_severe ON events_13 (id) WHERE severity >= 3;

CREATE INDEX events_14_severe ON events_14 (id) WHERE severity >= 3;

CREATE INDEX events_15_severe ON events_15 (id) WHERE severity >= 3;

CREATE INDEX events_severe ON "events_00" (id) WHERE severity >= 3;

CREATE INDEX findings_by_state ON "findings" (state, id);

CREATE INDEX findings_open ON "findings" (severity DESC, id) WHERE state = 'open';

CREATE INDEX jobs_by_state ON "jobs" (state, id);

CREATE INDEX jobs_queued ON "jobs" (priority DESC, id) WHERE state = 'queued';

CREATE INDEX runs_by_job ON "runs" (job_id) WHERE job_id IS NOT NULL;

CREATE INDEX runs_by_profile ON "runs" (profile, id);

CREATE INDEX stages_by_job ON "stages" (job_id);

CREATE INDEX stages_pending ON "stages" (id) WHERE state = 'pending';
