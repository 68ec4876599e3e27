//! A consistent copy of the database, and the way back to it.
//!
//! Called by the agent's `db` verbs on behalf of the installer. Must never overwrite or delete a database.

use crate::connect::{self, beside, damaged, failed, io};
use crate::content::{self, Picture};
use crate::{Result, StoreError, export, records, ring};
use rusqlite::Connection;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A snapshot that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Its size.
    pub bytes: u64,
    /// The schema it holds.
    pub schema: u32,
}

/// What [`restore`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The schema of the database that is now in place.
    pub schema: u32,
    /// Where the database that stood there was put aside; it is never deleted.
    pub replaced: Option<PathBuf>,
    /// How many rows, by table, that database had and the snapshot lacks. All of them are in the export.
    pub lacking: BTreeMap<String, u64>,
    /// How many rows, by table, the snapshot has with other values. They are in the database put aside only.
    pub changed: BTreeMap<String, u64>,
    /// What could not be read of that database, in words; empty if it was whole.
    pub unread: Vec<String>,
    /// The export: JSON lines, `{"table":…,"row":{…}}`; `None` if there was nothing to export.
    pub export: Option<PathBuf>,
}

/// Writes a consistent copy of `from`, also while core writes to it, durably. Refuses an existing `to`.
///
/// The copy is one file without a log. A power cut leaves none or a whole one.
pub fn snapshot(from: &Path, to: &Path) -> Result<Snapshot> {
    refuse_existing(to)?;
    let staged = connect::staging(to);
    connect::remove(&staged)?;
    let db = connect::reader(from)?;
    let schema = records::read(&db, from)?.len() as u32;
    // VACUUM INTO writes another file only, but SQLite's query_only can't tell.
    let name = staged.to_str().ok_or_else(|| damaged(to, "the target's name is not UTF-8"))?;
    let copied = db
        .pragma_update(None, "query_only", false)
        // What it writes has no name yet that counts: one sync at the end is enough, and saves four.
        .and_then(|()| db.pragma_update(None, "synchronous", "OFF"))
        .and_then(|()| db.execute("VACUUM INTO ?1", (name,)));
    // Before it closes: the last connection to a database takes the log into the file, and there every sync counts.
    let copied = db.pragma_update(None, "synchronous", "FULL").and(copied);
    if let Err(error) = copied {
        connect::remove(&staged)?;
        return Err(failed(from, "could not write the snapshot")(error));
    }
    connect::keep_private(&staged)?;
    connect::sync(&staged)?;
    let bytes = std::fs::metadata(&staged).map_err(io(&staged, "could not read the snapshot's size"))?.len();
    refuse_existing(to)?;
    std::fs::rename(&staged, to).map_err(io(to, "could not put the snapshot in its place"))?;
    connect::sync_folder_of(to)?;
    Ok(Snapshot { bytes, schema })
}

/// Puts a snapshot in the database's place, after what the database has beyond it was written to `export`. Nobody may have
/// the database open.
///
/// The snapshot is copied under a new name and checked there first. The export is on the disk before anything is renamed.
/// What stood in the place is renamed to `….replaced` together with its log, so that the log is never found beside a database
/// that it does not belong to. A power cut in between leaves the place empty (`store.missing`); doing it again finishes it, and
/// doing it once more changes nothing. No id of an exported row is given again.
///
/// # Errors
/// `store.damaged` for the snapshot (a damaged database is replaced, and what could not be read of it is said);
/// `store.exists` when `export` is something else's file; `store.busy`, `store.missing` (the snapshot), `io.disk-full`.
pub fn restore(snapshot: &Path, path: &Path, export: &Path) -> Result<Restored> {
    let staged = connect::staging(path);
    for suffix in ["", "-wal", "-shm", "-journal"] {
        connect::remove(&beside(&staged, suffix))?;
    }
    connect::probe(snapshot)?;
    if ["-wal", "-journal"].iter().any(|suffix| beside(snapshot, suffix).exists()) {
        return Err(damaged(snapshot, "a log stands beside it: this is a database in use, not a snapshot"));
    }
    std::fs::copy(snapshot, &staged).map_err(io(&staged, "could not copy the snapshot"))?;
    connect::keep_private(&staged)?;
    let done = put_in_place(&staged, snapshot, path, export);
    if done.is_err() {
        connect::remove(&staged)?;
    }
    done
}

fn put_in_place(staged: &Path, snapshot: &Path, path: &Path, export: &Path) -> Result<Restored> {
    let schema = whole(staged, snapshot)?;
    refuse_in_use(path)?;
    // With the place empty, or the snapshot in it, this is another try after a cut: the rows come from what is put aside.
    let aside = if path.exists() { None } else { put_aside(path)? };
    let done = aside.is_none() && in_place(staged, path);
    let aside = if done { latest_aside(path) } else { aside };
    let beyond = export::export(aside.as_deref().unwrap_or(path), staged, export)?;
    let restored = |replaced| Restored {
        schema,
        replaced,
        lacking: beyond.lacking,
        changed: beyond.changed,
        unread: beyond.unread,
        export: beyond.export,
    };
    if done {
        connect::remove(staged)?;
        return Ok(restored(aside));
    }
    raise_counters(staged, &beyond.counters)?;
    connect::sync(staged)?;
    let replaced = if aside.is_some() { aside } else { put_aside(path)? };
    std::fs::rename(staged, path).map_err(io(path, "could not put the snapshot in its place"))?;
    connect::sync_folder_of(path)?;
    Ok(restored(replaced))
}

/// The schema of a whole copy of `snapshot`.
fn whole(copy: &Path, snapshot: &Path) -> Result<u32> {
    let db = connect::frozen(copy)?;
    let schema = records::read(&db, snapshot)?.len() as u32;
    match connect::problems(&db, snapshot, true)?.into_iter().next() {
        Some(problem) => Err(damaged(snapshot, problem)),
        None => Ok(schema),
    }
}

/// Whether the database at `path` is whole and holds just what the copy of the snapshot does, but for counters raised.
fn in_place(copy: &Path, path: &Path) -> bool {
    let picture = |db: &Connection| content::picture(db, true).map(Picture::without_counters).ok();
    let Ok(live) = connect::reader(path) else { return false };
    let sound = records::read(&live, path).is_ok() && connect::problems(&live, path, true).is_ok_and(|problems| problems.is_empty());
    sound && connect::frozen(copy).is_ok_and(|copy| picture(&copy).is_some_and(|copy| picture(&live) == Some(copy)))
}

/// Never lets the copy give an id again that the database put aside gave to a row.
fn raise_counters(copy: &Path, counters: &[(String, i64)]) -> Result<()> {
    let db = connect::writer(copy)?;
    let raise = || -> rusqlite::Result<()> {
        for (table, last) in counters {
            let known = db.execute("UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1", (table, last))?;
            if known == 0 {
                let there = "INSERT INTO sqlite_sequence (name, seq) SELECT name, ?2 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
                db.execute(there, (table, last))?;
            }
        }
        Ok(())
    };
    raise().and_then(|()| ring::skip(&db)).map_err(failed(copy, "could not carry the counters of ids over"))?;
    db.close().map_err(|(_, error)| failed(copy, "could not close the database")(error))
}

/// Renames what stands at `path`, with its log, out of the way. Returns its new name; with the place already empty, that of
/// what was put aside last.
fn put_aside(path: &Path) -> Result<Option<PathBuf>> {
    // After a cut between the renames below, the log alone is still here and belongs to the newest name put aside.
    let whole = path.exists();
    let free = free_aside(path);
    let target = if whole { free } else { latest_aside(path).unwrap_or(free) };
    for suffix in ["", "-wal", "-journal"] {
        let from = beside(path, suffix);
        if from.exists() {
            std::fs::rename(&from, beside(&target, suffix)).map_err(io(&from, "could not put the old database aside"))?;
            connect::sync_folder_of(path)?;
        }
    }
    connect::remove(&beside(path, "-shm"))?;
    Ok(target.exists().then_some(target))
}

/// The names for databases put aside, in order.
fn asides(path: &Path) -> impl Iterator<Item = PathBuf> {
    (0..).map(move |count| beside(path, &if count == 0 { ".replaced".to_owned() } else { format!(".replaced-{count}") }))
}

fn free_aside(path: &Path) -> PathBuf {
    asides(path).find(|name| !name.exists()).unwrap_or_else(|| beside(path, ".replaced"))
}

fn latest_aside(path: &Path) -> Option<PathBuf> {
    asides(path).take_while(|name| name.exists()).last()
}

/// An owner that still has it open would go on writing to the file put aside. A damaged file can't be asked.
fn refuse_in_use(path: &Path) -> Result<()> {
    let Ok(db) = connect::reader(path) else { return Ok(()) };
    let alone = || {
        db.pragma_update(None, "query_only", false)?;
        db.busy_timeout(std::time::Duration::ZERO)?;
        // In this mode SQLite needs the log's index for itself alone, which any other connection prevents.
        db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        db.execute_batch("BEGIN EXCLUSIVE; ROLLBACK")
    };
    match alone().map_err(failed(path, "could not lock the database")) {
        Err(error @ StoreError::Busy { .. }) => Err(error),
        _ => Ok(()),
    }
}

fn refuse_existing(to: &Path) -> Result<()> {
    match std::fs::symlink_metadata(to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io(to, "could not look at the target")(error)),
        Ok(_) => Err(StoreError::Exists { path: to.to_owned() }),
    }
}
