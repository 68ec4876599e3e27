//! Files that are not a database of ours: each is named for what it is, and none is touched.

#![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]

mod common;

use common::{Dice, database, fill, names};
use smolotchi_store::migrate::{Direction, inspect, run};
use smolotchi_store::{Store, StoreError, check, restore, snapshot};
use std::path::Path;

type Try = fn(&Path) -> Option<StoreError>;
const WAYS_IN: &[(&str, Try)] = &[
    ("open", |path| Store::open(path).err()),
    ("inspect", |path| inspect(path).err()),
    ("migrate", |path| run(path, Direction::ToOwn, true).err()),
    ("check", |path| check(path, true).err()),
    ("snapshot", |path| snapshot(path, &path.with_extension("snapshot")).err()),
    ("restore", |path| restore(path, &path.with_extension("restored"), &path.with_extension("jsonl")).err()),
];

#[test]
fn damaged_files_are_named_and_left_alone() {
    let (_folder, good) = database(smolotchi_store::schema_own());
    let good = std::fs::read(good).unwrap();
    let mut zero_tail = good.clone();
    zero_tail[100..].fill(0);
    let cases: &[(&str, Vec<u8>)] = &[
        ("empty", Vec::new()),
        ("short", b"SQLite".to_vec()),
        ("garbage", b"This is certainly no database, however long it may be.".repeat(100)),
        ("zeroes", vec![0; 8192]),
        ("header only", good[..16].to_vec()),
        ("zero pages", zero_tail),
        ("foreign", foreign()),
    ];
    for (name, bytes) in cases {
        for (way, open) in WAYS_IN {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("smolotchi.db");
            std::fs::write(&path, bytes).unwrap();
            let error = open(&path).unwrap_or_else(|| panic!("{name} was taken by {way}"));
            assert_eq!(error.code(), "store.damaged", "{name} by {way}: {error:?}");
            assert_eq!(&std::fs::read(&path).unwrap(), bytes, "{way} changed {name}");
            let left: Vec<_> = names(folder.path()).into_iter().filter(|name| name != ".smolotchi.restored.staging").collect();
            assert_eq!(left, ["smolotchi.db"], "{way} left files beside {name}");
        }
    }
}

#[test]
fn a_missing_database_is_missing_and_stays_so() {
    for (way, open) in WAYS_IN.iter().filter(|(way, _)| *way != "migrate") {
        let folder = tempfile::tempdir().unwrap();
        let error = open(&folder.path().join("smolotchi.db")).unwrap();
        assert_eq!(error.code(), "store.missing", "{way}");
        assert_eq!(names(folder.path()), [""; 0], "{way}");
    }
}

#[test]
fn a_damaged_page_is_found() {
    let (_folder, path) = database(smolotchi_store::schema_own());
    let mut store = Store::open(&path).unwrap();
    fill(&mut store, &mut Dice(5), 2000);
    drop(store);
    let pages = common::pages_of_events(&path);
    let page = pages[pages.len() / 2];
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[page..page + 64].fill(0xff);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(Store::open(&path).unwrap_err().code(), "store.damaged");
    // Later where the start leaves it for later, but found.
    let later = Store::open_unread(&path).and_then(|mut store| store.look_over());
    assert_eq!(later.unwrap_err().code(), "store.damaged");
    for full in [false, true] {
        let report = check(&path, full).unwrap();
        assert!(!report.ok && !report.problems.is_empty(), "{report:?}");
    }
}

#[test]
#[cfg_attr(schema_1, ignore = "this build has schema 1 only, without counts")]
fn a_full_check_runs_the_recorded_checks() {
    let (_folder, path) = database(3);
    let mut store = Store::open_as(3, &path).unwrap();
    fill(&mut store, &mut Dice(5), 50);
    drop(store);
    rusqlite::Connection::open(&path).unwrap().execute("UPDATE topics SET events = events + 1 WHERE name = 'plain'", ()).unwrap();
    assert!(check(&path, false).unwrap().ok);
    let report = check(&path, true).unwrap();
    assert!(!report.ok && report.problems[0].starts_with("topic plain counts"), "{report:?}");
}

/// A whole SQLite database of somebody else.
fn foreign() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreign.db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE events (id); CREATE TABLE schema_version (number)").unwrap();
    drop(db);
    std::fs::read(path).unwrap()
}
