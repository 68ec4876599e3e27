//! A consistent copy of the database, and the way back to it.
//!
//! Called by the agent's `db` verbs on behalf of the installer. Must never overwrite or delete a database.

use crate::connect::{self, beside, damaged, failed, io};
use crate::{Result, StoreError, records};
use serde::Serialize;
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
    let copied = db.pragma_update(None, "query_only", false).and_then(|()| db.execute("VACUUM INTO ?1", (name,)));
    if let Err(error) = copied {
        connect::remove(&staged)?;
        return Err(failed(from, "could not write the snapshot")(error));
    }
    connect::keep_private(&staged)?;
    // VACUUM INTO does not sync what it wrote.
    connect::sync(&staged)?;
    let bytes = std::fs::metadata(&staged).map_err(io(&staged, "could not read the snapshot's size"))?.len();
    refuse_existing(to)?;
    std::fs::rename(&staged, to).map_err(io(to, "could not put the snapshot in its place"))?;
    connect::sync_folder_of(to)?;
    Ok(Snapshot { bytes, schema })
}

/// Puts a snapshot in the database's place. Nobody may have the database open.
///
/// The snapshot is copied under a new name and checked there first. What stood in the place is renamed to `….replaced`
/// together with its log, so that the log is never found beside a database that it does not belong to. A power cut in
/// between leaves the place empty (`store.missing`); doing it again finishes it.
pub fn restore(snapshot: &Path, path: &Path) -> Result<Restored> {
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
    connect::sync(&staged)?;
    let copy = connect::frozen(&staged)?;
    let schema = records::read(&copy, snapshot)?.len() as u32;
    if let Some(problem) = connect::problems(&copy, snapshot, true)?.into_iter().next() {
        drop(copy);
        connect::remove(&staged)?;
        return Err(damaged(snapshot, problem));
    }
    drop(copy);
    let replaced = put_aside(path)?;
    std::fs::rename(&staged, path).map_err(io(path, "could not put the snapshot in its place"))?;
    connect::sync_folder_of(path)?;
    Ok(Restored { schema, replaced })
}

/// Renames what stands at `path`, with its log, out of the way. Returns its new name, if there was anything.
fn put_aside(path: &Path) -> Result<Option<PathBuf>> {
    refuse_in_use(path)?;
    let files = ["", "-wal", "-journal"];
    // After a cut between the renames below, the log alone is still here and belongs to the newest name put aside.
    let whole = path.exists();
    if !whole && !files.iter().any(|suffix| beside(path, suffix).exists()) {
        return connect::remove(&beside(path, "-shm")).map(|()| None);
    }
    let names = (0..).map(|count| beside(path, &if count == 0 { ".replaced".to_owned() } else { format!(".replaced-{count}") }));
    let mut latest = beside(path, ".replaced");
    for name in names {
        let free = !name.exists();
        if whole || !free {
            latest.clone_from(&name);
        }
        if free {
            break;
        }
    }
    for suffix in files {
        let from = beside(path, suffix);
        if from.exists() {
            std::fs::rename(&from, beside(&latest, suffix)).map_err(io(&from, "could not put the old database aside"))?;
            connect::sync_folder_of(path)?;
        }
    }
    connect::remove(&beside(path, "-shm"))?;
    Ok(Some(latest))
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
