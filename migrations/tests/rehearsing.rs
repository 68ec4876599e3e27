//! The rehearsal on a copy: it says what a migration does and whether its undo holds, and finds an undo that lies.

#![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]

mod common;

use common::{Dice, database, dump, fill, fill_work};
use rusqlite::Connection;
use smolotchi_store::{Store, Undo, rehearse, rehearse_as, schema_own};
use std::path::Path;

fn filled(own: u32, seed: u64) -> (tempfile::TempDir, std::path::PathBuf) {
    let (folder, path) = database(own);
    let mut store = Store::open_as(own, &path).unwrap();
    fill(&mut store, &mut Dice(seed), 400);
    drop(store);
    fill_work(&path);
    (folder, path)
}

fn rows(path: &Path, sql: &str) -> u64 {
    Connection::open(path).unwrap().query_row(sql, (), |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
}

#[test]
#[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
fn a_rehearsal_says_what_each_step_does_and_that_the_undo_holds() {
    let (_folder, path) = filled(1, 5);
    let before = rows(&path, "PRAGMA page_count") * 4096;
    let found = rehearse_as(3, &path).unwrap();
    assert_eq!((found.from, found.to, found.undo), (1, 3, Undo::Proven));
    let steps: Vec<_> = found.migrations.iter().map(|m| (m.number, m.name.as_str(), m.direction, m.reversible)).collect();
    assert_eq!(steps, [(2, "severity", "up", true), (3, "topics", "up", true)]);
    // The copy is left in the new schema, so what the steps changed can be counted in it.
    let topics = rows(&path, "SELECT count(*) FROM topics");
    assert_eq!(found.migrations[0].rows, rows(&path, "SELECT count(*) FROM events WHERE severity <> 1"));
    assert_eq!(found.migrations[1].rows, topics);
    assert_eq!(found.bytes_before, before);
    assert!(found.bytes_after > found.bytes_before, "{found:?}");
    assert_eq!(serde_json::to_value(&found).unwrap()["undo"], "proven");
}

#[test]
#[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
fn a_rehearsal_after_a_rollback_takes_the_parked_rows_back() {
    let (_folder, path) = filled(schema_own(), 6);
    let top = dump(&path);
    smolotchi_store::migrate::run_as(1, &path, smolotchi_store::migrate::Direction::ToOwn, false).unwrap();
    assert!(dump(&path).iter().any(|line| line.starts_with("parked_severity:")));
    assert_eq!(rehearse(&path).unwrap().undo, Undo::Proven);
    assert_eq!(dump(&path), top);
}

#[test]
#[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
fn an_older_release_rehearses_the_way_down() {
    let (_folder, path) = filled(3, 7);
    let found = rehearse_as(1, &path).unwrap();
    let steps: Vec<_> = found.migrations.iter().map(|m| (m.number, m.direction, m.reversible)).collect();
    assert_eq!((found.from, found.to, found.undo), (3, 1, Undo::NotNeeded));
    assert_eq!(steps, [(3, "down", true), (2, "down", true)]);
}

#[test]
fn an_empty_database_is_rehearsed_from_every_schema() {
    for from in 1..schema_own() {
        let (_folder, path) = database(from);
        assert_eq!(rehearse(&path).unwrap().undo, Undo::Proven, "from {from}");
    }
}

#[test]
fn the_same_schema_needs_nothing() {
    let (_folder, path) = filled(schema_own(), 8);
    let before = dump(&path);
    let found = rehearse(&path).unwrap();
    assert_eq!((found.from, found.to, found.undo, found.migrations.len()), (schema_own(), schema_own(), Undo::NotNeeded, 0));
    assert_eq!((found.bytes_before, found.duration_ms, found.undo_ms), (found.bytes_after, 0, 0));
    assert_eq!(dump(&path), before);
}

#[test]
fn a_step_down_that_cant_be_taken_is_said_and_none_is_taken() {
    let (_folder, path) = filled(schema_own(), 9);
    let own = schema_own();
    {
        let db = Connection::open(&path).unwrap();
        let record =
            "INSERT INTO schema_version SELECT max(number) + 1, ?1, 'abc', '2030-01-01T00:00:00Z', '9.0.0', ?2, '' FROM schema_version";
        db.execute(record, ("for-good", None::<String>)).unwrap();
        db.execute(record, ("marvel", Some("SELECT 1"))).unwrap();
    }
    let before = dump(&path);
    let found = rehearse(&path).unwrap();
    assert_eq!((found.from, found.to, found.undo), (own + 2, own, Undo::Impossible));
    let steps: Vec<_> = found.migrations.iter().map(|m| (m.number, m.name.as_str(), m.reversible)).collect();
    assert_eq!(steps, [(own + 2, "marvel", true), (own + 1, "for-good", false)]);
    assert_eq!(dump(&path), before);
}
