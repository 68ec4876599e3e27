//! Snapshots under a live writer, and restoring them.

#![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]

mod common;

use common::{Dice, database, dump, event, fill, names};
use smolotchi_store::{Store, check, restore, schema_own, snapshot};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[test]
fn a_snapshot_under_a_writer_is_whole_and_holds_what_was_answered() {
    let (folder, path) = database(schema_own());
    let mut store = Store::open(&path).unwrap();
    fill(&mut store, &mut Dice(1), 500);
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(500));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut dice = Dice(2);
            while !stop.load(Ordering::SeqCst) {
                store.append(&[event(&mut dice), event(&mut dice)], 5).unwrap();
                answered.fetch_add(2, Ordering::SeqCst);
            }
        });
        for round in 0..5 {
            let to = folder.path().join(format!("{round}.snapshot"));
            let least = answered.load(Ordering::SeqCst);
            assert_eq!(snapshot(&path, &to).unwrap().schema, schema_own());
            let report = check(&to, true).unwrap();
            assert!(report.ok, "{report:?}");
            let copy = Store::open(&to).unwrap().summary().unwrap();
            assert!(copy.events_total >= least && copy.events_total % 2 == 0, "{copy:?}, {least} were answered");
        }
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn nobody_else_may_read_a_database() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = database(schema_own());
    let mut store = Store::open(&path).unwrap();
    fill(&mut store, &mut Dice(1), 3);
    snapshot(&path, &folder.path().join("a.snapshot")).unwrap();
    restore(&folder.path().join("a.snapshot"), &folder.path().join("b.db"), &folder.path().join("export")).unwrap();
    for name in names(folder.path()) {
        let mode = std::fs::metadata(folder.path().join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{name}");
    }
}

#[test]
fn a_snapshot_refuses_an_existing_target_and_leaves_no_trace() {
    let (folder, path) = database(schema_own());
    let to = folder.path().join("a.snapshot");
    snapshot(&path, &to).unwrap();
    let before = std::fs::read(&to).unwrap();
    assert_eq!(snapshot(&path, &to).unwrap_err().code(), "store.exists");
    assert_eq!(std::fs::read(&to).unwrap(), before);
    assert_eq!(names(folder.path()), ["a.snapshot", "smolotchi.db"]);
}

#[test]
fn restoring_brings_the_rows_back_and_keeps_what_was_there() {
    let (folder, path) = database(schema_own());
    let mut store = Store::open(&path).unwrap();
    fill(&mut store, &mut Dice(1), 100);
    let to = folder.path().join("a.snapshot");
    snapshot(&path, &to).unwrap();
    fill(&mut store, &mut Dice(2), 50);
    assert_eq!(restore(&to, &path, &folder.path().join("export")).unwrap_err().code(), "store.busy", "the owner has it open");
    drop(store);

    let done = restore(&to, &path, &folder.path().join("export")).unwrap();
    assert_eq!(done.schema, schema_own());
    let rows = |path| -> Vec<String> {
        dump(path).into_iter().filter(|line| !line.starts_with("sqlite_sequence") && !line.starts_with("chain:")).collect()
    };
    assert!(rows(&path) == rows(&to), "it is not what the snapshot holds");
    let replaced = Store::open(done.replaced.as_deref().unwrap()).unwrap();
    assert_eq!(replaced.summary().unwrap().events_total, 150);
    drop(replaced);
    let files = ["a.snapshot", "export", "smolotchi.db", "smolotchi.db.replaced"];
    assert_eq!(names(folder.path()), files);
    // Once more, as after a cut that came before the answer was written down: the same answer, and nothing is done.
    assert_eq!(restore(&to, &path, &folder.path().join("export")).unwrap().lacking, done.lacking);
    assert_eq!(names(folder.path()), files);

    let mut store = Store::open(&path).unwrap();
    fill(&mut store, &mut Dice(4), 1);
    assert!(store.recent(1).unwrap()[0].id > 150, "the id of a row that was exported was given again");
    drop(store);
    restore(&to, &path, &folder.path().join("export")).unwrap();
    assert_eq!(names(folder.path()), [&files[..], &["smolotchi.db.replaced-1"]].concat());
}

#[test]
fn a_foreign_log_never_meets_the_restored_database() {
    let (folder, path) = database(schema_own());
    let to = folder.path().join("a.snapshot");
    snapshot(&path, &to).unwrap();
    let mut store = Store::open(&path).unwrap();
    fill(&mut store, &mut Dice(1), 30);
    // What a crash leaves: a log that was not folded back, and here a database that is damaged besides.
    let (log, whole) = (std::fs::read(path.with_extension("db-wal")).unwrap(), std::fs::read(&path).unwrap());
    drop(store);
    let mut broken = whole.clone();
    broken[..16].fill(0);
    for database in [Some(broken), None] {
        match &database {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            // A cut in the middle of a restore: the database is put aside already, its log not yet.
            None => {
                std::fs::remove_file(&path).unwrap();
                std::fs::write(folder.path().join("smolotchi.db.replaced-1"), &whole).unwrap();
            }
        }
        std::fs::write(path.with_extension("db-wal"), &log).unwrap();
        let done = restore(&to, &path, &folder.path().join("export")).unwrap();
        assert_eq!(Store::open(&path).unwrap().summary().unwrap().events_total, 0);
        let aside = done.replaced.unwrap();
        let mut name = aside.into_os_string();
        name.push("-wal");
        assert_eq!(std::fs::read(&name).unwrap(), log);
    }
    let after_cut = Store::open(&folder.path().join("smolotchi.db.replaced-1")).unwrap();
    assert_eq!(after_cut.summary().unwrap().events_total, 30, "the pair that a cut tore apart is together again");
}

#[test]
fn a_damaged_snapshot_is_not_restored() {
    let (folder, path) = database(schema_own());
    let mut store = Store::open(&path).unwrap();
    fill(&mut store, &mut Dice(1), 2000);
    drop(store);
    let to = folder.path().join("a.snapshot");
    snapshot(&path, &to).unwrap();
    let mut bytes = std::fs::read(&to).unwrap();
    let page = bytes.len() / 2 / 4096 * 4096;
    bytes[page..page + 64].fill(0xff);
    std::fs::write(&to, &bytes).unwrap();
    let before = dump(&path);
    assert_eq!(restore(&to, &path, &folder.path().join("export")).unwrap_err().code(), "store.damaged");
    assert_eq!(dump(&path), before);
    assert_eq!(names(folder.path()), ["a.snapshot", "smolotchi.db"]);
}
