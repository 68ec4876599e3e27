//! Takes a database from one schema to another: one transaction, with every step, its record and the checks.
//!
//! Called by the agent's `db` and `maint` verbs, while core is stopped. Must never touch rows other than through the SQL of
//! a migration, and never create a database that was not asked for.

use crate::connect::{self, failed, io};
use crate::ladder::{LADDER, Migration};
use crate::records::{self, Record};
use crate::{Result, StoreError, ring, schema_own};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use serde::Serialize;
use std::path::Path;

/// Which way a migration may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Only up; a newer schema is refused.
    UpOnly,
    /// Up or down to this binary's schema.
    ToOwn,
}

/// A migration that the database has recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Its number, from 1.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// SHA-256 of its up, down and check.
    pub checksum: String,
    /// When it was applied, RFC 3339, UTC.
    pub applied_at: String,
    /// The release that applied it.
    pub release: String,
    /// Whether an undo is recorded.
    pub reversible: bool,
}

/// A migration that this binary has and the database has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Whether it can be undone.
    pub reversible: bool,
}

/// Where a database stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SchemaInfo {
    /// The database's schema.
    pub current: u32,
    /// This binary's schema.
    pub own: u32,
    /// What is recorded, in order.
    pub applied: Vec<Applied>,
    /// What would follow, in order.
    pub pending: Vec<Pending>,
}

/// One step that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The migration's number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// `up` or `down`.
    pub direction: &'static str,
    /// How many rows its SQL inserted, updated and deleted, counted by SQLite. Dropping a table or a column counts none.
    pub rows: u64,
}

/// What [`run`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// The schema before; 0 when the database was created.
    pub from: u32,
    /// The schema now.
    pub to: u32,
    /// The steps taken; empty when there was nothing to do.
    pub steps: Vec<Step>,
}

/// Reads where a database stands. Changes nothing and leaves no file behind.
pub fn inspect(path: &Path) -> Result<SchemaInfo> {
    let records = read_records(path)?;
    let current = records.len() as u32;
    let pending = LADDER.iter().filter(|migration| migration.number > current);
    Ok(SchemaInfo {
        current,
        own: schema_own(),
        pending: pending.map(|m| Pending { number: m.number, name: m.name.to_owned(), reversible: m.down.is_some() }).collect(),
        applied: records.into_iter().map(applied).collect(),
    })
}

/// A step that would be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ahead {
    /// The migration's number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// `up` or `down`.
    pub direction: &'static str,
    /// Whether it can be undone; a step down is an undo.
    pub reversible: bool,
}

/// What [`run`] would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Way {
    /// The schema now.
    pub from: u32,
    /// The schema then.
    pub to: u32,
    /// The steps in between, in order.
    pub steps: Vec<Ahead>,
}

/// Which steps [`run`] would take, or why it would refuse before the first: the database's content is not looked at. Changes nothing and
/// leaves no file behind.
pub fn plan(path: &Path, direction: Direction) -> Result<Way> {
    plan_as(schema_own(), path, direction)
}

/// As [`plan`], by a release whose schema is `own`.
#[doc(hidden)]
pub fn plan_as(own: u32, path: &Path, direction: Direction) -> Result<Way> {
    let ladder = up_to(own);
    let records = read_records(path)?;
    records::same_code(&records, ladder)?;
    let (from, to) = (records.len() as u32, ladder.len() as u32);
    if from > to && direction == Direction::UpOnly {
        return Err(StoreError::Newer { current: from, own: to });
    }
    let up = |m: &Migration| Ahead { number: m.number, name: m.name.to_owned(), direction: "up", reversible: m.down.is_some() };
    let mut steps: Vec<_> = ladder.iter().filter(|migration| migration.number > from).map(up).collect();
    for record in records.into_iter().filter(|record| record.number > to).rev() {
        if record.down_sql.is_none() {
            return Err(StoreError::Irreversible { number: record.number, name: record.name });
        }
        steps.push(Ahead { number: record.number, name: record.name, direction: "down", reversible: true });
    }
    Ok(Way { from, to, steps })
}

/// Takes the database to this binary's schema in one transaction: cut anywhere, it is at the schema that it had, or there. Nobody
/// else may have it open.
///
/// With `create`, a missing database is made (only a missing one: an empty file is damage).
pub fn run(path: &Path, direction: Direction, create: bool) -> Result<Migrated> {
    run_as(schema_own(), path, direction, create)
}

/// As [`run`], by a release whose schema is `own`: for tests of what an older release does with a newer database.
#[doc(hidden)]
pub fn run_as(own: u32, path: &Path, direction: Direction, create: bool) -> Result<Migrated> {
    run_on(up_to(own), path, direction, create)
}

/// The migrations of a release whose schema is `own`: this build's own, as far as it has them.
pub(crate) fn up_to(own: u32) -> &'static [Migration] {
    LADDER.get(..own as usize).unwrap_or(LADDER)
}

/// As [`run`], for a release with these migrations.
pub(crate) fn run_on(ladder: &[Migration], path: &Path, direction: Direction, create: bool) -> Result<Migrated> {
    let own = ladder.len() as u32;
    let records = match read_records(path) {
        Err(StoreError::Missing { .. }) if create => return make(ladder, path),
        other => other?,
    };
    records::same_code(&records, ladder)?;
    let from = records.len() as u32;
    if from == own {
        return Ok(Migrated { from, to: own, steps: Vec::new() });
    }
    if from > own && direction == Direction::UpOnly {
        return Err(StoreError::Newer { current: from, own });
    }
    let mut db = connect::writer(path)?;
    // The whole check comes with the end. Up, no row moves, so what is damaged is still there to be found; down, they do.
    if from > own {
        sound(&db, path)?;
    }
    let steps = match climb(ladder, &mut db, path) {
        // What was damaged before is told as that.
        Err(error @ (StoreError::StepFailed { .. } | StoreError::CheckFailed { .. })) => {
            return Err(sound(&db, path).err().unwrap_or(error));
        }
        other => other?,
    };
    close(db, path)?;
    Ok(Migrated { from, to: own, steps })
}

/// Refuses a damaged database.
fn sound(db: &Connection, path: &Path) -> Result<()> {
    match connect::problems(db, path, false)?.into_iter().next() {
        Some(problem) => Err(connect::damaged(path, problem)),
        None => Ok(()),
    }
}

/// Makes a database beside its place and puts it there whole: a power cut leaves none or a finished one.
fn make(ladder: &[Migration], path: &Path) -> Result<Migrated> {
    let staged = connect::staging(path);
    for suffix in ["", "-wal", "-shm", "-journal"] {
        connect::remove(&connect::beside(&staged, suffix))?;
    }
    std::fs::File::create_new(&staged).map_err(io(&staged, "could not create the database"))?;
    connect::keep_private(&staged)?;
    let mut db = Connection::open(&staged).map_err(failed(path, "could not create the database"))?;
    let begin = || {
        db.pragma_update(None, "application_id", connect::APPLICATION_ID)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.execute_batch(records::TABLE)
    };
    begin().map_err(failed(path, "could not create the database"))?;
    let steps = climb(ladder, &mut db, path)?;
    close(db, path)?;
    connect::sync(&staged)?;
    // Unlike a rename, a link never replaces what came into being meanwhile.
    match std::fs::hard_link(&staged, path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(StoreError::Exists { path: path.to_owned() }),
        other => other.map_err(io(path, "could not put the new database in its place"))?,
    }
    connect::remove(&staged)?;
    connect::sync_folder_of(path)?;
    Ok(Migrated { from: 0, to: ladder.len() as u32, steps })
}

/// Takes every step to the ladder's last in one transaction, and looks at all of it at the end.
fn climb(ladder: &[Migration], db: &mut Connection, path: &Path) -> Result<Vec<Step>> {
    let tx = begin(db, path)?;
    let before = tally(&tx).map_err(failed(path, COUNT))?;
    let mut steps = Vec::new();
    // A column that is added would have every row looked at, and so would the next; the look at the end is at all of them.
    connect::without_demands(&tx, path, || {
        while let Some(step) = take(ladder, &tx, path)? {
            steps.push(step);
        }
        Ok(())
    })?;
    if let Some(last) = steps.last() {
        prove(&tx, path, last, before, &records::read(&tx, path)?, true)?;
    }
    tx.commit().map_err(failed(path, "could not commit a migration"))?;
    Ok(steps)
}

/// Takes one step towards the ladder's last in one transaction, or none if it is there: for those who look in between.
pub(crate) fn step(ladder: &[Migration], db: &mut Connection, path: &Path) -> Result<Option<Step>> {
    let tx = begin(db, path)?;
    let before = tally(&tx).map_err(failed(path, COUNT))?;
    let Some(step) = take(ladder, &tx, path)? else { return Ok(None) };
    let records = records::read(&tx, path)?;
    // On the way through, its own check and the events are looked at; the whole database is where the way ends.
    let ends = records.len() == ladder.len();
    prove(&tx, path, &step, before, if ends { &records } else { &records[records.len() - 1..] }, ends)?;
    tx.commit().map_err(failed(path, "could not commit a migration"))?;
    Ok(Some(step))
}

const COUNT: &str = "could not count the events";

fn begin<'a>(db: &'a mut Connection, path: &Path) -> Result<Transaction<'a>> {
    db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(path, "could not begin a migration"))
}

/// Runs the SQL of the next step, in the caller's transaction.
fn take(ladder: &[Migration], db: &Connection, path: &Path) -> Result<Option<Step>> {
    let records = records::read_any(db, path)?;
    records::same_code(&records, ladder)?;
    let (number, name, direction, done) = if let Some(next) = ladder.get(records.len()) {
        (next.number, next.name.to_owned(), "up", up(db, next).map_err(failed(path, "a migration's SQL failed")))
    } else if let Some(last) = records.last().filter(|_| records.len() > ladder.len()) {
        let Some(sql) = &last.down_sql else {
            return Err(StoreError::Irreversible { number: last.number, name: last.name.clone() });
        };
        let done = down(db, last.number, sql).map_err(failed(path, "a migration's undo failed"));
        (last.number, last.name.clone(), "down", done)
    } else {
        return Ok(None);
    };
    match done {
        Err(StoreError::Failed { what, source }) => Err(StoreError::StepFailed { number, name, what, source }),
        other => other.map(|rows| Some(Step { number, name, direction, rows })),
    }
}

/// Refuses what a step, the last one taken, has left, if these records' checks, the events or, with `whole`, the file are not right.
fn prove(db: &Connection, path: &Path, last: &Step, before: Option<Tally>, records: &[Record], whole: bool) -> Result<()> {
    let (number, name) = (last.number, last.name.clone());
    let mut violations = if whole { connect::problems_beside_checks(db, path)? } else { Vec::new() };
    let look = || Ok((records::violations(db, records)?, tally(db)?));
    let (found, after) = match ring::narrowed(db, look).map_err(failed(path, "a migration's check failed to run")) {
        Err(StoreError::Failed { what, source }) => return Err(StoreError::StepFailed { number, name, what, source }),
        other => other?,
    };
    violations.extend(found);
    if before.is_some_and(|before| Some(before) != after) {
        violations.push(format!("the events are not the same: {before:?} before, {after:?} after"));
    }
    if violations.is_empty() { Ok(()) } else { Err(StoreError::CheckFailed { number, name, violations }) }
}

/// Returns how many rows the migration's own SQL changed.
fn up(db: &Connection, migration: &Migration) -> rusqlite::Result<u64> {
    let before = db.total_changes();
    db.execute_batch(migration.up)?;
    let rows = db.total_changes() - before;
    records::add(db, migration).map(|_| rows)
}

/// Returns how many rows the undo itself changed.
fn down(db: &Connection, number: u32, sql: &str) -> rusqlite::Result<u64> {
    let before = db.total_changes();
    db.execute_batch(sql)?;
    let rows = db.total_changes() - before;
    db.execute("DELETE FROM schema_version WHERE number = ?1", (number,)).map(|_| rows)
}

/// How many events there are, and the sum of their ids: no step may change either.
type Tally = (i64, i64);

/// `None` before the first migration.
fn tally(db: &Connection) -> rusqlite::Result<Option<Tally>> {
    let there: bool = db.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'events')", (), |row| row.get(0))?;
    let count = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    if there { db.query_row("SELECT count(*), coalesce(sum(id), 0) FROM events", (), count).map(Some) } else { Ok(None) }
}

pub(crate) fn close(db: Connection, path: &Path) -> Result<()> {
    db.close().map_err(|(_, error)| failed(path, "could not close the database")(error))
}

/// Reads the records without a trace. A file without a log is complete in itself: it is read as it lies. Should a writer
/// begin in that moment, what is read may be torn; then it is read again under locks.
pub(crate) fn read_records(path: &Path) -> Result<Vec<Record>> {
    connect::probe(path)?;
    let log = std::fs::metadata(connect::beside(path, "-wal")).is_ok();
    if !log {
        if let Ok(records) = connect::frozen(path).and_then(|db| records::read(&db, path)) {
            return Ok(records);
        }
    }
    records::read(&connect::reader(path)?, path)
}

fn applied(record: Record) -> Applied {
    Applied {
        number: record.number,
        name: record.name,
        checksum: record.checksum,
        applied_at: record.applied_at,
        release: record.release,
        reversible: record.down_sql.is_some(),
    }
}
