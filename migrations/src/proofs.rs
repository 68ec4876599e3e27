//! Proofs over a ladder made for them: what the real migrations don't do (lie, fail, park differently) is done here.

use crate::ladder::Migration;
use crate::migrate::{Direction, run_on};
use crate::rehearse::{Undo, rehearse_on};
use rusqlite::Connection;
use std::path::{Path, PathBuf};

const NOTES: Migration = Migration {
    number: 1,
    name: "notes",
    checksum: "1",
    up: "CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL) STRICT",
    down: None,
    check: "",
};

/// A second migration with this way up and back.
const fn second(up: &'static str, down: Option<&'static str>, check: &'static str) -> Migration {
    Migration { number: 2, name: "second", checksum: "2", up, down, check }
}

fn notes() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("smolotchi.db");
    run_on(&[NOTES], &path, Direction::UpOnly, true).unwrap();
    let db = Connection::open(&path).unwrap();
    db.execute_batch("INSERT INTO notes (text) VALUES ('a'), ('b'), ('c'); DELETE FROM notes WHERE text = 'c'").unwrap();
    (folder, path)
}

fn texts(path: &Path) -> Vec<String> {
    let db = Connection::open(path).unwrap();
    let mut query = db.prepare("SELECT text FROM notes ORDER BY id").unwrap();
    query.query_map((), |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

/// Each undo lies in its own way; the step's own checks see none of it.
#[test]
fn a_rehearsal_finds_an_undo_that_lies() {
    let color = "ALTER TABLE notes ADD COLUMN color TEXT";
    let lies = [
        (color, "ALTER TABLE notes DROP COLUMN color; DELETE FROM notes WHERE id = 1", "table notes had 2 rows, has 1"),
        (
            color,
            "ALTER TABLE notes DROP COLUMN color; UPDATE notes SET text = 'x' WHERE id = 1",
            "table notes has other values in its 2 rows",
        ),
        (
            color,
            "ALTER TABLE notes DROP COLUMN color; UPDATE sqlite_sequence SET seq = 2",
            "table sqlite_sequence has other values in its 1 rows",
        ),
        (color, "SELECT 1", "table notes had the columns id text, has color id text"),
        (color, "ALTER TABLE notes DROP COLUMN color; CREATE TABLE left_over (id INTEGER)", "table left_over was not there"),
        (color, "ALTER TABLE notes DROP COLUMN color; CREATE INDEX by_text ON notes (text)", "index by_text was not there"),
    ];
    for (up, down, said) in lies {
        let (_folder, path) = notes();
        let error = rehearse_on(&[NOTES, second(up, Some(down), "")], &path).unwrap_err();
        assert_eq!(error.code(), "store.check-failed", "{down}");
        let facts = error.facts();
        assert_eq!(facts[..2], [("migration", "2".to_owned()), ("name", "second".to_owned())], "{down}");
        assert_eq!(facts[2].1, format!("after the way up and back: {said}"), "{down}");
    }
}

/// The way back keeps what the old schema can hold, but the way up again doesn't bring the rest back.
#[test]
fn a_rehearsal_finds_a_way_up_that_forgets_what_was_parked() {
    let (_folder, path) = notes();
    let up = "ALTER TABLE notes ADD COLUMN rank INTEGER; UPDATE notes SET rank = (SELECT seq FROM sqlite_sequence); UPDATE sqlite_sequence SET seq = seq + 1";
    let down = "ALTER TABLE notes DROP COLUMN rank; UPDATE sqlite_sequence SET seq = seq - 1; CREATE TABLE parked_tries (id INTEGER); INSERT INTO parked_tries VALUES (1)";
    let error = rehearse_on(&[NOTES, second(up, Some(down), "")], &path).unwrap_err();
    assert_eq!(error.facts()[2].1, "the second time up: table parked_tries was not there");
}

#[test]
fn a_rehearsal_says_which_migration_failed_and_why() {
    let cases = [
        ("UPDATE notes SET text = NULL", "", "store.failed", "NOT NULL constraint failed"),
        ("SELECT 1", "SELECT 'note ' || id || ' is poison' FROM notes WHERE id = 2", "store.check-failed", "note 2 is poison"),
        ("SELECT 1", "SELECT x FROM nowhere", "store.failed", "no such table"),
    ];
    for (up, check, code, reason) in cases {
        let (_folder, path) = notes();
        let error = rehearse_on(&[NOTES, second(up, None, check)], &path).unwrap_err();
        assert_eq!(error.code(), code, "{up}");
        assert_eq!(error.facts()[..2], [("migration", "2".to_owned()), ("name", "second".to_owned())], "{up}");
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert!(format!("{:?} {source:?}", error.facts()).contains(reason), "{up}: {error:?}");
        assert!(error.to_string().contains("migration 2 (second)"), "{error}");
        assert_eq!(texts(&path), ["a", "b"]);
    }
}

#[test]
fn what_cant_be_undone_is_rehearsed_one_way() {
    let (_folder, path) = notes();
    let found = rehearse_on(&[NOTES, second("UPDATE notes SET text = upper(text)", None, "")], &path).unwrap();
    assert_eq!((found.undo, found.undo_ms, found.migrations[0].rows, found.migrations[0].reversible), (Undo::Impossible, 0, 2, false));
    assert_eq!(texts(&path), ["A", "B"]);
}
