//! How a database file is opened, and what must be true of it first. Never creates a file by looking.

use crate::content::quoted;
use crate::{Result, StoreError};
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use std::fmt::Write;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

/// Marks a SQLite file as ours ("Smol").
pub(crate) const APPLICATION_ID: i32 = 0x536d_6f6c;
/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Gives SQLite's words for a failure our error.
pub(crate) fn failed<'a>(path: &'a Path, what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + 'a {
    move |source| match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path: path.to_owned() },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(path, source.to_string()),
        _ => StoreError::Failed { what, source },
    }
}

pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), what: what.into() }
}

pub(crate) fn io<'a>(path: &'a Path, what: &'static str) -> impl Fn(std::io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { what, path: path.to_owned(), source }
}

/// Looks at the first bytes, so that SQLite never takes an empty file for a new database. Returns the owner's uid.
pub(crate) fn probe(path: &Path) -> Result<u32> {
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(StoreError::Missing { path: path.to_owned() }),
        Err(error) => return Err(io(path, "could not open the database")(error)),
    };
    let facts = file.metadata().map_err(io(path, "could not read the database's metadata"))?;
    if !facts.is_file() {
        return Err(damaged(path, "not a regular file"));
    }
    if facts.len() == 0 {
        return Err(damaged(path, "the file is empty"));
    }
    let mut head = [0; 16];
    match file.read_exact(&mut head) {
        Ok(()) if &head == MAGIC => Ok(facts.uid()),
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(io(path, "could not read the database")(error)),
        _ => Err(damaged(path, "the file is not a SQLite database")),
    }
}

/// Writers must be the file's owner: files that another user leaves beside it lock the owner out.
pub(crate) fn owned_by_caller(path: &Path, owner: u32) -> Result<()> {
    let caller = rustix::process::geteuid().as_raw();
    if caller == owner { Ok(()) } else { Err(StoreError::WrongUser { path: path.to_owned(), owner, caller }) }
}

/// Sets SQLite up for a small machine: nobody asks for its own books of memory, which cost a lock for every piece; and of the
/// 120 KB that each connection would keep for small pieces a third does, the rest is asked for when it is needed.
fn set_up() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        #[allow(unsafe_code, reason = "rusqlite has no safe name for it")]
        // SAFETY: sqlite3_config(3) with the numbers that these two options take, before the first connection. Where there already is
        // one, it changes nothing.
        unsafe {
            ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, 0);
            ffi::sqlite3_config(ffi::SQLITE_CONFIG_LOOKASIDE, 1200, 32);
        }
    });
}

/// Opens the file with what every connection has.
fn open(name: impl AsRef<Path>, flags: OpenFlags, path: &Path) -> Result<Connection> {
    set_up();
    let db =
        Connection::open_with_flags(name, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed(path, "could not open the database"))?;
    settle(&db, path)?;
    Ok(db)
}

/// Opens for writing, with the settings that every writer uses.
pub(crate) fn writer(path: &Path) -> Result<Connection> {
    owned_by_caller(path, probe(path)?)?;
    let db = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE, path)?;
    // FULL: a commit that was answered survives a power cut; WAL with NORMAL does not promise that.
    db.pragma_update(None, "journal_mode", "WAL")
        .and_then(|()| db.pragma_update(None, "synchronous", "FULL"))
        .map_err(failed(path, "could not set up the database"))?;
    Ok(db)
}

/// Opens for reading beside a writer. SQLite takes its locks and cleans up its own files, but nothing is written.
pub(crate) fn reader(path: &Path) -> Result<Connection> {
    probe(path)?;
    // Read-only connections can't remove -wal and -shm when they close as the last one.
    let db = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE, path)?;
    db.pragma_update(None, "query_only", true).map_err(failed(path, "could not set up the database"))?;
    Ok(db)
}

/// Opens a file that nobody writes to; touches nothing around it. Only for files without a write-ahead log.
pub(crate) fn frozen(path: &Path) -> Result<Connection> {
    probe(path)?;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            let _ = write!(uri, "%{byte:02x}");
        }
    }
    uri.push_str("?immutable=1");
    open(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI, path)
}

/// Settings of every connection, and the proof that the file is ours.
fn settle(db: &Connection, path: &Path) -> Result<()> {
    let set = || {
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.pragma_update(None, "foreign_keys", true)?;
        db.pragma_update(None, "trusted_schema", false)?;
        db.pragma_update(None, "cell_size_check", true)?;
        db.pragma_query_value(None, "application_id", |row| row.get::<_, i32>(0))
    };
    match set().map_err(failed(path, "could not read the database"))? {
        APPLICATION_ID => Ok(()),
        _ => Err(damaged(path, "a SQLite database, but not one of Smolotchi's")),
    }
}

/// The problems that SQLite finds in the file itself: `full` also compares every index with its table.
pub(crate) fn problems(db: &Connection, path: &Path, full: bool) -> Result<Vec<String>> {
    let pragma = if full { "PRAGMA integrity_check(20)" } else { "PRAGMA quick_check(20)" };
    let read = || -> rusqlite::Result<Vec<String>> { db.prepare(pragma)?.query_map((), |row| row.get(0))?.collect() };
    said(read(), path)
}

fn said(read: rusqlite::Result<Vec<String>>, path: &Path) -> Result<Vec<String>> {
    match read {
        Ok(lines) => Ok(lines.into_iter().filter(|line| line != "ok").collect()),
        Err(error) => match failed(path, "could not check the database")(error) {
            StoreError::Damaged { what, .. } => Ok(vec![what]),
            other => Err(other),
        },
    }
}

/// As [`problems`] without `full`, but these tables are left out. Only where the log is empty.
pub(crate) fn problems_beside(db: &Connection, path: &Path, left_out: &[String]) -> Result<Vec<String>> {
    let bytes = |pragma| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    let needed = bytes("page_count")
        .and_then(|pages| bytes("page_size").map(|size| pages * size))
        .map_err(failed(path, "could not read the size"))?;
    let there = std::fs::metadata(path).map_err(io(path, "could not read the database's metadata"))?.len();
    if there < needed {
        return Ok(vec![format!("the file has {there} bytes, not {needed}: its end is missing")]);
    }
    if left_out.is_empty() {
        return problems(db, path, false);
    }
    let rest = quick_checks(db, |table| !left_out.iter().any(|left_out| left_out == table)).and_then(|mut found| {
        for table in ["sqlite_schema", "sqlite_sequence"] {
            quick_check(db, table, &mut found)?;
        }
        Ok(found)
    });
    said(rest, path)
}

/// As [`problems`] with `full`, but what the tables of events demand of a row is not worked out: the recorded checks, which are run
/// next, demand the same of every event, and that is most of the time of a large log.
pub(crate) fn problems_beside_checks(db: &Connection, path: &Path) -> Result<Vec<String>> {
    let mut found = without_demands(db, path, || problems(db, path, true))?;
    if found.is_empty() {
        found = said(quick_checks(db, |table| table != "events" && !table.starts_with("events_")), path)?;
    }
    Ok(found)
}

/// Works without looking at what a table demands of a row (CHECK): whoever calls this looks at all of it afterwards.
pub(crate) fn without_demands<T>(db: &Connection, path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let look = |on: bool| db.pragma_update(None, "ignore_check_constraints", !on).map_err(failed(path, "could not set up the check"));
    look(false)?;
    let done = work();
    look(true)?;
    done
}

fn quick_checks(db: &Connection, which: impl Fn(&str) -> bool) -> rusqlite::Result<Vec<String>> {
    let tables: Vec<String> = db
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")?
        .query_map((), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut found = Vec::new();
    for table in tables.iter().filter(|table| which(table)) {
        quick_check(db, table, &mut found)?;
    }
    Ok(found)
}

/// Adds what is wrong with a table.
fn quick_check(db: &Connection, table: &str, found: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut check = db.prepare(&format!("PRAGMA quick_check({})", quoted(table)))?;
    for line in check.query_map((), |row| row.get::<_, String>(0))? {
        found.extend(Some(line?).filter(|line| line != "ok"));
    }
    Ok(())
}

/// The name of a file that SQLite or we keep beside the database.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The hidden name used while a file is being made.
pub(crate) fn staging(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    path.with_file_name(format!(".{name}.staging"))
}

/// Removes a file that may be there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path, "could not remove a file")(error)),
        _ => Ok(()),
    }
}

/// Keeps a new database from everybody but its owner and group, whatever the umask; SQLite gives its log the same mode.
pub(crate) fn keep_private(path: &Path) -> Result<()> {
    let mode = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(path, mode).map_err(io(path, "could not set a file's mode"))
}

/// Syncs a file's content.
pub(crate) fn sync(path: &Path) -> Result<()> {
    std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(io(path, "could not sync a file"))
}

/// Syncs the folder of a file, so that its name survives a power cut.
pub(crate) fn sync_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync(folder)
}
