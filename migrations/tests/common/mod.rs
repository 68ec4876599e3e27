//! Databases to test with: generated from a seed, read back as plain values.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]

mod dice;

pub(crate) use dice::{Dice, number};
use rusqlite::Connection;
use smolotchi_store::{NewEvent, Severity, Store};
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
/// when which migration ran.
pub(crate) fn dump(path: &Path) -> Vec<String> {
    let db = Connection::open(path).unwrap();
    let mut lines = schema(&db);
    let tables: Vec<String> = db
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'schema_version' ORDER BY name")
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

/// The names in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
