//! Databases to test with: generated from a seed, read back as plain values.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]

mod dice;

pub(crate) use dice::{Dice, number};
use rusqlite::Connection;
use smolotchi_store::{Audit, AuditReport, NewEvent, RetentionPolicy, Severity, Store};
use std::path::{Path, PathBuf};

const TOPICS: &[&str] =
    &["disk.full", "sensor.reading", "core.started", "job.failed", "debug.loop", "net.lost", "config.changed", "é", "x.error", "plain"];
const BODIES: &[&str] = &[
    "{}",
    "null",
    "[1,2]",
    "\"text\"",
    r#"{"severity":"error"}"#,
    r#"{"severity":"warn"}"#,
    r#"{"severity":7}"#,
    r#"{"severity":"nonsense"}"#,
    r#"{"severity":"debug","x":"\u0000"}"#,
    r#"{"a":{"severity":"error"}}"#,
];

pub(crate) fn event(dice: &mut Dice) -> NewEvent {
    let severity = (dice.below(3) == 0).then(|| *dice.pick(&Severity::ALL));
    let body = if dice.below(4) == 0 { format!("{{\"value\":{}}}", dice.next()) } else { (*dice.pick(BODIES)).to_owned() };
    NewEvent { topic: (*dice.pick(TOPICS)).to_owned(), severity, body }
}

/// Appends `count` events in batches, with a clock that jumps now and then.
pub(crate) fn fill(store: &mut Store, dice: &mut Dice, count: u64) {
    let mut left = count;
    while left > 0 {
        let batch = (1 + dice.below(60)).min(left);
        let events: Vec<_> = (0..batch).map(|_| event(dice)).collect();
        let at_ms = if dice.below(10) == 0 { 1000 } else { 1_700_000_000_000 + dice.below(1_000_000_000) as i64 };
        store.append(&events, at_ms).unwrap();
        left -= batch;
    }
}

/// A temporary folder and a database in it, of schema `own`.
pub(crate) fn database(own: u32) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("smolotchi.db");
    smolotchi_store::migrate::run_as(own, &path, smolotchi_store::migrate::Direction::UpOnly, true).unwrap();
    (folder, path)
}

/// Everything that a database holds, in words: the schema's own SQL and every row of every table, but for the record of
/// when which migration ran, and for where in the ring which events lie: those are one table.
pub(crate) fn dump(path: &Path) -> Vec<String> {
    let db = Connection::open(path).unwrap();
    let mut lines = schema(&db);
    let tables: Vec<String> = db
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT GLOB 'events_[0-9][0-9]'
             AND name NOT IN ('schema_version', 'segments', 'segment_topics', 'seals_00') ORDER BY name",
        )
        .unwrap()
        .query_map((), |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for table in tables {
        let mut query = db.prepare(&format!("SELECT * FROM {table} ORDER BY 1")).unwrap();
        let width = query.column_count();
        let mut rows = query.query(()).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cells: Vec<String> = (0..width).map(|i| format!("{:?}", row.get_ref(i).unwrap())).collect();
            lines.push(format!("{table}: {}", cells.join(" ")));
        }
    }
    lines
}

/// Applies a policy as core does; returns how many events went.
pub(crate) fn retain(store: &mut Store, policy: &RetentionPolicy, now_ms: i64) -> u64 {
    let planned = store.plan_retention(policy, now_ms).unwrap();
    let parts: Vec<_> = planned.iter().map(|going| (going.first_id, going.last_id)).collect();
    let gone = store.remove_parts(&parts, now_ms).unwrap();
    assert_eq!(gone, planned.iter().map(|going| going.events).collect::<Vec<_>>(), "what went is not what was planned");
    gone.iter().sum()
}

/// What an audit finds, looked at in steps of a few rows.
pub(crate) fn audit(store: &Store) -> AuditReport {
    let mut audit = Audit::default();
    while !store.audit(&mut audit, 37).unwrap() {}
    audit.report()
}

/// The SQL of every table, index and trigger, as SQLite keeps it.
pub(crate) fn schema(db: &Connection) -> Vec<String> {
    db.prepare(
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type = 'trigger', type = 'index', name",
    )
    .unwrap()
    .query_map((), |row| row.get(0))
    .unwrap()
    .map(Result::unwrap)
    .collect()
}

/// Where in the file the pages stand that hold rows of events and nothing else.
pub(crate) fn pages_of_events(path: &Path) -> Vec<usize> {
    let db = Connection::open(path).unwrap();
    let pages = "SELECT pageno FROM dbstat WHERE name IN (SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'events*')
                 AND pagetype = 'leaf' AND ncell > 1 ORDER BY pageno";
    let pages: Vec<i64> = db.prepare(pages).unwrap().query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    pages.into_iter().map(|page| (page as usize - 1) * 4096).collect()
}

/// Rows in the tables that migrations 4 to 6 made, as the release of that schema could have written them.
pub(crate) fn fill_work(path: &Path) {
    let db = Connection::open(path).unwrap();
    let schema: u32 = db.query_row("SELECT max(number) FROM schema_version", (), |row| row.get(0)).unwrap();
    let rows = [
        (
            4,
            "INSERT INTO jobs (kind, input, state, created_ms, created_by, due_ms, max_attempts, changed_ms)
             VALUES ('look', '{}', 'queued', 1, 'root', 2, 3, 4), ('look', '{}', 'leased', 1, 'root', 2, 3, 4);
             INSERT INTO leases VALUES ('job/2', 'ai', 7, 8, 'b', 't', 9, 10);
             INSERT INTO artifacts (kind, name, media, sha256, bytes, created_ms) VALUES ('plan', 'p', 'text/plain', hex(zeroblob(32)), 5, 6);
             INSERT INTO stages (run_id, job_id, step, action, risk, reason, requested_ms, expires_ms, state)
             VALUES (1, 2, 1, 'a', 'high', 'r', 1, 2, 'pending')",
        ),
        (
            5,
            "INSERT INTO profiles VALUES ('p', 1, hex(zeroblob(32)), 't', 1);
             INSERT INTO runs (profile, profile_version, state, started_ms) VALUES ('p', 1, 'done', 2);
             INSERT INTO findings (profile, key, title, severity, state, first_run, last_run, first_ms, last_ms, times, profile_version, action,
                 step, policy, detail) VALUES ('p', 'k', 't', 3, 'open', 1, 1, 1, 1, 1, 1, 'a', 1, '{}', '{}');
             INSERT INTO baselines (profile, profile_version, run_id, made_ms, made_by, expected) VALUES ('p', 1, 1, 1, 'root', '{}')",
        ),
        (
            6,
            "INSERT INTO sensors (name, provider, unit, changed_ms) VALUES ('load', 'system', '', 1), ('temperature', 'system', 'C', 1);
             INSERT INTO readings VALUES (1, 1, 0.5), (1, 2, 'high'), (2, 1, 48)",
        ),
    ];
    for (_, sql) in rows.iter().filter(|(number, _)| *number <= schema) {
        db.execute_batch(sql).unwrap();
    }
}

/// The names in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
