-- since: 0.2.0
-- reversible: yes

-- What to look at. A version never changes once it is here.
CREATE TABLE IF NOT EXISTS parked_profiles (
    name     TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    version  INTEGER NOT NULL CHECK (version > 0),
    sha256   TEXT NOT NULL CHECK (length(sha256) = 64),
    text     TEXT NOT NULL,
    added_ms INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;
ALTER TABLE parked_profiles RENAME TO profiles;

-- One look by one profile. Plan, inputs and result are artifacts.
CREATE TABLE IF NOT EXISTS parked_runs (
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
CREATE INDEX IF NOT EXISTS runs_by_job ON parked_runs (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS runs_by_profile ON parked_runs (profile, id);
ALTER TABLE parked_runs RENAME TO runs;

-- What was found. The same thing found again by the same profile is the same finding.
CREATE TABLE IF NOT EXISTS parked_findings (
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
CREATE INDEX IF NOT EXISTS findings_open ON parked_findings (severity DESC, id) WHERE state = 'open';
CREATE INDEX IF NOT EXISTS findings_by_state ON parked_findings (state, id);
ALTER TABLE parked_findings RENAME TO findings;

-- What a profile is expected to find. The newest one of a profile holds.
CREATE TABLE IF NOT EXISTS parked_baselines (
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
CREATE INDEX IF NOT EXISTS baselines_by_profile ON parked_baselines (profile, id);
ALTER TABLE parked_baselines RENAME TO baselines;
