-- since: 0.2.0
-- reversible: yes

-- Made under their parked names, then renamed: an earlier way down left them so, with every row and counter.
CREATE TABLE IF NOT EXISTS parked_jobs (
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
CREATE INDEX IF NOT EXISTS jobs_queued ON parked_jobs (priority DESC, id) WHERE state = 'queued';
CREATE INDEX IF NOT EXISTS jobs_by_state ON parked_jobs (state, id);
ALTER TABLE parked_jobs RENAME TO jobs;

-- Who holds what: a job while it is worked on (`job/12`), or any other name. A process is known by its pid, its start time
-- and the boot; the end is by the clock that never jumps.
CREATE TABLE IF NOT EXISTS parked_leases (
    name                TEXT PRIMARY KEY,
    role                TEXT NOT NULL,
    pid                 INTEGER NOT NULL,
    start_ticks         INTEGER NOT NULL,
    boot_id             TEXT NOT NULL,
    token               TEXT NOT NULL,
    taken_ms            INTEGER NOT NULL,
    expires_boottime_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
ALTER TABLE parked_leases RENAME TO leases;

-- The content lies on the disk under its sha256; this is what is known of it.
CREATE TABLE IF NOT EXISTS parked_artifacts (
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
CREATE INDEX IF NOT EXISTS artifacts_by_sha256 ON parked_artifacts (sha256);
CREATE INDEX IF NOT EXISTS artifacts_by_kind ON parked_artifacts (kind, id);
CREATE INDEX IF NOT EXISTS artifacts_by_job ON parked_artifacts (job_id, id) WHERE job_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS artifacts_by_run ON parked_artifacts (run_id, id) WHERE run_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS artifacts_damaged ON parked_artifacts (id) WHERE state = 'damaged';
ALTER TABLE parked_artifacts RENAME TO artifacts;

-- A step of a run that an operator must allow first.
CREATE TABLE IF NOT EXISTS parked_stages (
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
CREATE INDEX IF NOT EXISTS stages_pending ON parked_stages (id) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS stages_by_job ON parked_stages (job_id);
ALTER TABLE parked_stages RENAME TO stages;
