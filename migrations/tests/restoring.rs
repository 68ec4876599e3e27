//! The last resort: a snapshot takes the database's place, and nothing that only the database had is lost without a word.

#![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]

mod common;

use common::{Dice, database, dump, fill, names};
use rusqlite::Connection;
use serde_json::Value;
use smolotchi_store::migrate::{self, Direction};
use smolotchi_store::{Restored, Store, restore, schema_own, snapshot};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The rows of an export, each with its table.
fn exported(export: &Path) -> Vec<(String, Value)> {
    let text = std::fs::read_to_string(export).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|mut row| (row["table"].as_str().unwrap().to_owned(), row["row"].take())).collect()
}

fn ids(rows: &[(String, Value)]) -> Vec<i64> {
    rows.iter().filter(|(table, _)| table == "events").map(|(_, row)| row["id"].as_i64().unwrap()).collect()
}

/// A snapshot with `before` events, and a database that went on to have `after` more.
fn pair(own: u32, before: u64, after: u64) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let (folder, path) = database(own);
    let mut store = Store::open_as(own, &path).unwrap();
    store.full_at(before / 3);
    fill(&mut store, &mut Dice(21), before);
    let copy = folder.path().join("a.snapshot");
    snapshot(&path, &copy).unwrap();
    fill(&mut store, &mut Dice(22), after);
    (folder, path, copy)
}

#[test]
fn what_the_snapshot_lacks_is_exported_whole() {
    let (folder, path, copy) = pair(schema_own(), 100, 12);
    let events: Vec<_> = Store::open(&path).unwrap().recent(12).unwrap();
    let export = folder.path().join("export.jsonl");
    let done = restore(&copy, &path, &export).unwrap();
    assert_eq!((done.lacking["events"], done.export.as_deref(), done.unread.len()), (12, Some(export.as_path()), 0));
    for ((table, row), event) in exported(&export).iter().filter(|(table, _)| table == "events").zip(events.iter().rev()) {
        assert_eq!(table, "events");
        assert_eq!(
            (row["id"].as_i64(), row["at_ms"].as_i64(), row["topic"].as_str(), row["body"].as_str()),
            (Some(event.id), Some(event.at_ms), Some(event.topic.as_str()), Some(event.body.as_str()))
        );
        assert_eq!(row["severity"].as_u64(), event.severity.map(|severity| severity as u64));
    }
    assert_eq!(Store::open(&path).unwrap().summary().unwrap().events_total, 100);
}

/// Where the events lie is nobody's business: one table before, a ring of them now.
#[test]
#[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
fn events_are_one_table_whatever_the_schema() {
    for older in [1, 3, 6] {
        let (folder, path, copy) = pair(older, 90, 5);
        migrate::run(&path, Direction::UpOnly, false).unwrap();
        let mut store = Store::open(&path).unwrap();
        store.full_at(4);
        fill(&mut store, &mut Dice(23), 20);
        store.full_at(1000);
        fill(&mut store, &mut Dice(24), 10);
        drop(store);
        let export = folder.path().join("export.jsonl");
        let done = restore(&copy, &path, &export).unwrap();
        let mut found = ids(&exported(&export));
        found.sort_unstable();
        assert_eq!((done.schema, done.lacking["events"], done.unread.len()), (older, 35, 0));
        assert_eq!(found, (91..=125).collect::<Vec<_>>());
        let sealed = exported(&export).iter().filter(|(table, row)| table == "events" && row["seal"]["blob_hex"].is_string()).count();
        assert!(sealed > 1, "the seals are not in the export");
        assert_eq!(Store::open_as(older, &path).unwrap().append(&[common::event(&mut Dice(1))], 1).unwrap().last_id, 126);
    }
}

/// The ids that a restore skips are not taken for a log that was cut off; those that were cut off are.
#[test]
#[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
fn the_chain_goes_on_after_a_restore() {
    let (folder, path, copy) = pair(schema_own(), 40, 9);
    restore(&copy, &path, &folder.path().join("export.jsonl")).unwrap();
    for _ in 0..2 {
        let mut store = Store::open(&path).unwrap();
        let report = common::audit(&store);
        assert!(report.whole, "{report:?}");
        fill(&mut store, &mut Dice(5), 3);
        assert!(common::audit(&store).whole);
    }
    let store = Store::open(&path).unwrap();
    let newest = store.recent(8).unwrap();
    assert_eq!(newest.iter().map(|event| event.id).collect::<Vec<_>>(), [56, 55, 54, 53, 52, 51, 50, 40]);
    let record = (newest[6].topic.as_str(), newest[6].body.as_str());
    assert_eq!(record, ("events.skipped", r#"{"first_id":41,"last_id":49}"#));
    assert_eq!(common::audit(&store).skipped, [(41, 49)]);
}

#[test]
fn without_new_rows_there_is_no_export() {
    let (folder, path, copy) = pair(schema_own(), 30, 0);
    Store::open(&path).unwrap().prove(5).unwrap();
    let export = folder.path().join("export.jsonl");
    let mut store = Store::open(&path).unwrap();
    store.prove(6).unwrap();
    drop(store);
    snapshot(&path, &folder.path().join("b.snapshot")).unwrap();
    Store::open(&path).unwrap().prove(7).unwrap();
    let done = restore(&folder.path().join("b.snapshot"), &path, &export).unwrap();
    assert_eq!((done.export, done.lacking.len(), done.changed.get("proof")), (None, 0, Some(&1)));
    assert!(!export.exists() && copy.exists());
}

/// The release that goes back has never seen the schema that it goes back over.
#[test]
fn an_older_release_restores_over_a_schema_that_it_doesnt_know() {
    let (folder, path, copy) = pair(1, 80, 20);
    migrate::run_as(schema_own().min(6), &path, Direction::UpOnly, false).unwrap();
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "ALTER TABLE events ADD COLUMN place TEXT;
             CREATE TABLE marvel (a TEXT, b BLOB, c REAL, PRIMARY KEY (a, c)) WITHOUT ROWID;
             INSERT INTO marvel VALUES ('x', x'00ff', 1.5), ('x', NULL, 9e999);
             CREATE TABLE loose (rowid TEXT);
             INSERT INTO loose VALUES (CAST(x'ff' AS TEXT)), (NULL);
             UPDATE events SET topic = upper(topic) WHERE id <= 7;
             INSERT INTO schema_version SELECT max(number) + 1, 'marvel', 'abc', '2030-01-01T00:00:00Z', '9.0.0', NULL, '' FROM schema_version",
        )
        .unwrap();
    assert_eq!(migrate::run_as(1, &path, Direction::ToOwn, false).unwrap_err().code(), "store.irreversible");
    let export = folder.path().join("export.jsonl");
    let done = restore(&copy, &path, &export).unwrap();
    assert_eq!((done.schema, done.unread.len()), (1, 0));
    let rows = exported(&export);
    assert_eq!((done.lacking["events"], done.lacking["marvel"], done.lacking["loose"]), (20, 2, 2));
    assert_eq!(ids(&rows), (81..=100).collect::<Vec<_>>());
    assert!(rows.iter().any(|(_, row)| row.as_object().unwrap().contains_key("place")));
    for row in
        [r#"{"a":"x","b":{"blob_hex":"00ff"},"c":1.5}"#, r#"{"a":"x","b":null,"c":{"real":"inf"}}"#, r#"{"rowid":{"text_hex":"ff"}}"#]
    {
        let row: Value = serde_json::from_str(row).unwrap();
        assert!(rows.iter().any(|(_, found)| *found == row), "{row} is not in the export");
    }
    assert!(done.changed["events"] >= 7, "{:?}", done.changed);
    Store::open_as(1, &path).unwrap();
}

/// Rows of tables without a key are told apart by their values, each as often as it is there.
#[test]
fn rows_without_a_key_are_counted() {
    let (folder, path) = database(schema_own());
    let db = Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE loose (a, b); INSERT INTO loose VALUES (1, 2), (1, 2), (3, NULL)").unwrap();
    let copy = folder.path().join("a.snapshot");
    snapshot(&path, &copy).unwrap();
    db.execute_batch("INSERT INTO loose VALUES (1, 2), (3, NULL), (4, 4)").unwrap();
    drop(db);
    let export = folder.path().join("export.jsonl");
    let done = restore(&copy, &path, &export).unwrap();
    assert_eq!(done.lacking.into_iter().collect::<Vec<_>>(), [("loose".to_owned(), 3)]);
}

/// Of a damaged database everything is exported but what stands on the damaged pages, and those rows are named.
#[test]
fn a_damaged_database_is_exported_as_far_as_it_goes() {
    for seed in 0..12 {
        let mut dice = Dice(900 + seed);
        let (folder, path, copy) = pair(schema_own(), 10, 3000);
        let mut bytes = std::fs::read(&path).unwrap();
        let pages = common::pages_of_events(&path);
        let hit: BTreeSet<usize> = (0..1 + dice.below(4)).map(|_| *dice.pick(&pages)).collect();
        for at in &hit {
            bytes[*at..*at + 64].fill(0xff);
        }
        std::fs::write(&path, &bytes).unwrap();
        let export = folder.path().join("export.jsonl");
        let done = restore(&copy, &path, &export).unwrap();
        let found: BTreeSet<i64> = ids(&exported(&export)).into_iter().collect();
        let gaps = gaps(&done);
        let lost: Vec<i64> = (11..=3010).filter(|id| !found.contains(id)).collect();
        for id in &lost {
            assert!(
                gaps.iter().any(|(low, high)| (low..=high).contains(&id)),
                "seed {seed}: event {id} is lost without a word: {:?}",
                done.unread
            );
        }
        // A page holds some hundred of these rows at most, and what could be read around it was.
        assert!(lost.len() as u64 <= 200 * hit.len() as u64, "seed {seed}: {} rows lost by {} pages", lost.len(), hit.len());
        assert!(!lost.is_empty() || found.len() == 3000);
        assert_eq!(Store::open(&path).unwrap().summary().unwrap().events_total, 10);
        let aside = std::fs::read(done.replaced.unwrap()).unwrap();
        assert!(aside == bytes, "seed {seed}: the damaged file was changed");
    }
}

/// The parts of the table of events that were said to be unread.
fn gaps(done: &Restored) -> Vec<(i64, i64)> {
    let words = |text: &str| -> Vec<i64> { text.split(' ').filter_map(|word| word.trim_matches(',').parse().ok()).collect() };
    let events = done.unread.iter().filter(|text| text.starts_with("table events: "));
    events.map(|text| words(text)).map(|numbers| (numbers[0], numbers.get(1).copied().unwrap_or(i64::MAX))).collect()
}

#[test]
fn a_database_that_cant_be_opened_is_said_and_replaced() {
    let (folder, path, copy) = pair(schema_own(), 10, 10);
    std::fs::write(&path, b"no database at all, but long enough").unwrap();
    let export = folder.path().join("export.jsonl");
    let done = restore(&copy, &path, &export).unwrap();
    assert_eq!(done.unread, ["the whole database: the file is not a SQLite database"]);
    assert_eq!(std::fs::read(done.replaced.unwrap()).unwrap(), b"no database at all, but long enough");
    Store::open(&path).unwrap();
}

#[test]
fn nothing_is_written_over_by_an_export() {
    let (folder, path, copy) = pair(schema_own(), 10, 10);
    let export = folder.path().join("export.jsonl");
    std::fs::write(&export, "somebody's notes\n").unwrap();
    let before = dump(&path);
    assert_eq!(restore(&copy, &path, &export).unwrap_err().code(), "store.exists");
    assert!(dump(&path) == before);
    assert_eq!(names(folder.path()), ["a.snapshot", "export.jsonl", "smolotchi.db"]);
    assert_eq!(std::fs::read_to_string(&export).unwrap(), "somebody's notes\n");
}
