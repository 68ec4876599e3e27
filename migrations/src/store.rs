//! The open database: what core does with it while it runs.
//!
//! One owner at a time, of exactly this release's schema. It must never migrate, and never delete but by a retention policy.

use crate::connect::{self, failed};
use crate::rules::{self, Statements};
use crate::{NewEvent, Result, StoreError, records, ring, schema_own};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use serde::Serialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The longest topic, in bytes.
pub const TOPIC_BYTES: usize = 128;
/// How many events make a segment full when nobody says how many are kept.
const SEGMENT_EVENTS: u64 = 100_000;

/// The open database, of exactly this release's schema.
#[derive(Debug)]
pub struct Store {
    pub(crate) db: Connection,
    pub(crate) path: PathBuf,
    pub(crate) schema: u32,
    statements: Statements,
    /// What [`Store::look_over`] still has to look at.
    unread: bool,
    /// A segment of the event log with so many events is full.
    pub(crate) segment_events: u64,
    /// The database's file, to give space back. After the connection: closing it gives up the connection's locks.
    pub(crate) file: Option<File>,
}

/// What [`Store::append`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Appended {
    /// How many events were committed.
    pub appended: u64,
    /// The id of the last of them; of the newest stored event when the batch was empty; 0 when there is none.
    pub last_id: i64,
}

/// The figures that status shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many events are stored.
    pub events_total: u64,
    /// The newest event's id.
    pub newest_id: Option<i64>,
    /// The newest event's time, milliseconds since 1970.
    pub newest_at_ms: Option<i64>,
    /// The size of the database's pages, without the write-ahead log.
    pub bytes: u64,
}

/// A proof that the database commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// How long the commit took.
    pub micros: u64,
    /// The schema it was made in.
    pub schema: u32,
}

impl Store {
    /// Opens an existing, whole database of this release's schema. Never creates, never migrates.
    ///
    /// After a clean stop, segments of the event log that nothing is written to any more are not read: damage in them is found
    /// when they are read, by an audit and by [`crate::check`]. After any other end, everything is.
    ///
    /// # Errors
    /// `store.missing`, `store.damaged`, `store.older-schema`, `store.newer-schema`, `store.checksum`, `store.wrong-user`,
    /// `store.busy`.
    pub fn open(path: &Path) -> Result<Store> {
        Store::open_as(schema_own(), path)
    }

    /// As [`Store::open`], but after a clean stop only the schema and its record are read, however much is stored: call
    /// [`Store::look_over`] before anything is written or answered.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_unread(path: &Path) -> Result<Store> {
        Store::open_unread_as(schema_own(), path)
    }

    /// Reads what [`Store::open_unread`] left out.
    ///
    /// # Errors
    /// `store.damaged`, `store.busy`, `store.failed`.
    pub fn look_over(&mut self) -> Result<()> {
        if self.unread {
            let full = ring::full(&self.db).map_err(failed(&self.path, "could not read the segments"))?;
            whole(&self.path, connect::problems_beside(&self.db, &self.path, &full)?)?;
            self.unread = false;
        }
        Ok(())
    }

    /// As [`Store::open`], by a release whose schema is `own`: for tests of what an older release writes.
    #[doc(hidden)]
    pub fn open_as(own: u32, path: &Path) -> Result<Store> {
        let mut store = Store::open_unread_as(own, path)?;
        store.look_over()?;
        Ok(store)
    }

    fn open_unread_as(own: u32, path: &Path) -> Result<Store> {
        // A log that is still there was left by an end that was not a stop: then everything is looked at, else what may be written to.
        let stopped = std::fs::metadata(connect::beside(path, "-wal")).map_or(true, |log| log.len() == 0);
        let db = connect::writer(path)?;
        let records = records::read(&db, path)?;
        let current = records.len() as u32;
        if current > own {
            return Err(StoreError::Newer { current, own });
        }
        records::same_code(&records, crate::migrate::up_to(own))?;
        if current < own {
            return Err(StoreError::Older { current, own });
        }
        let unread = stopped && own >= ring::SCHEMA;
        if !unread {
            whole(path, connect::problems(&db, path, false)?)?;
        }
        let statements = rules::statements(own);
        Ok(Store { db, path: path.to_owned(), schema: own, statements, unread, segment_events: SEGMENT_EVENTS, file: None })
    }

    /// Refuses what this database has no tables for: an older release's schema. `what` is the thing, in the plural.
    pub(crate) fn needs(&self, schema: u32, what: &'static str) -> Result<()> {
        if self.schema < schema { Err(StoreError::NotInSchema { what, schema: self.schema, needs: schema }) } else { Ok(()) }
    }

    /// Makes segments of the event log of a size that fits how many events are kept: an eighth, 1,000 to 100,000.
    pub fn expect_events(&mut self, kept: Option<u64>) {
        self.segment_events = kept.map_or(SEGMENT_EVENTS, |kept| (kept / 8).clamp(1_000, SEGMENT_EVENTS));
    }

    /// As [`Store::expect_events`], for tests of what otherwise takes many events.
    #[doc(hidden)]
    pub fn full_at(&mut self, events: u64) {
        self.segment_events = events;
    }

    /// Counts what this connection has changed so far: it only says whether there was anything.
    pub fn changes(&self) -> u64 {
        self.db.total_changes()
    }

    /// How a transaction of the store appends its events: [`insert_events`].
    pub(crate) fn appending(&self) -> Appending {
        Appending { schema: self.schema, sql: self.statements.append, most: self.segment_events }
    }

    /// Commits a batch in one transaction; on return it survives a power cut. All or nothing; an empty batch writes nothing.
    ///
    /// # Errors
    /// `store.invalid-event` names the first event that can't be stored; `io.disk-full`, `store.busy`, `store.failed`.
    pub fn append(&mut self, events: &[NewEvent], at_ms: i64) -> Result<Appended> {
        for (index, event) in events.iter().enumerate() {
            validate(event).map_err(|what| StoreError::InvalidEvent { index, what })?;
        }
        if events.is_empty() {
            let newest = self.newest()?;
            return Ok(Appended { appended: 0, last_id: newest.map_or(0, |(id, _)| id) });
        }
        let how = self.appending();
        let write = |db: &mut Connection| -> rusqlite::Result<i64> {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let last = insert_events(&tx, how, events, at_ms)?;
            tx.commit().map(|()| last)
        };
        let last_id = write(&mut self.db).map_err(failed(&self.path, "could not commit the events"))?;
        Ok(Appended { appended: events.len() as u64, last_id })
    }

    /// Gives up the pages that the connection keeps in memory and no statement uses; they are read again when they are needed.
    pub fn forget_pages(&self) {
        // It can only fail for want of memory, and then nothing is lost.
        let _ = self.db.release_memory();
    }

    /// Figures for status. Cheap: the counts are kept, not counted (but in schema 1).
    pub fn summary(&self) -> Result<Summary> {
        let newest = self.newest()?;
        let pages = |pragma| self.db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
        let bytes = pages("page_count")
            .and_then(|count| pages("page_size").map(|size| count * size))
            .map_err(failed(&self.path, "could not read the database's size"))?;
        Ok(Summary {
            events_total: self.total()?,
            newest_id: newest.map(|(id, _)| id),
            newest_at_ms: newest.map(|(_, at_ms)| at_ms),
            bytes: bytes.unsigned_abs(),
        })
    }

    /// Commits one row, always the same, durably: the proof that the database takes writes.
    pub fn prove(&mut self, now_ms: i64) -> Result<Proof> {
        let begun = Instant::now();
        self.db
            .prepare_cached(rules::PROVE)
            .and_then(|mut prove| prove.execute((now_ms,)))
            .map_err(failed(&self.path, "could not commit the proof"))?;
        Ok(Proof { micros: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX), schema: self.schema })
    }

    pub(crate) fn total(&self) -> Result<u64> {
        if self.schema >= ring::SCHEMA {
            return Ok(self.segments()?.iter().map(|segment| segment.events).sum());
        }
        let total = self.db.query_row(self.statements.total, (), |row| row.get::<_, i64>(0));
        total.map(i64::unsigned_abs).map_err(failed(&self.path, "could not count the events"))
    }

    /// The newest event's id.
    pub fn newest_id(&self) -> Result<Option<i64>> {
        self.newest().map(|newest| newest.map(|(id, _)| id))
    }

    /// The newest event's id and time.
    fn newest(&self) -> Result<Option<(i64, i64)>> {
        if self.schema >= ring::SCHEMA {
            return self.recent(1).map(|events| events.first().map(|event| (event.id, event.at_ms)));
        }
        let sql = rules::NEWEST;
        let row = self.db.prepare_cached(sql).and_then(|mut query| query.query_row((), |row| Ok((row.get(0)?, row.get(1)?))).optional());
        row.map_err(failed(&self.path, "could not read the events"))
    }
}

/// How the events of a transaction are appended: [`Store::appending`] says it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appending {
    schema: u32,
    sql: &'static str,
    most: u64,
}

/// Appends events in somebody's transaction; returns the last id, 0 if there are none. They must be valid.
pub(crate) fn insert_events(db: &Connection, how: Appending, events: &[NewEvent], at_ms: i64) -> rusqlite::Result<i64> {
    if events.is_empty() {
        return Ok(0);
    }
    if how.schema >= ring::SCHEMA {
        return ring::append(db, events, at_ms, how.most);
    }
    let mut insert = db.prepare_cached(how.sql)?;
    for event in events {
        insert.execute((at_ms, &event.topic, &event.body, event.severity.map(|severity| severity as u8)))?;
    }
    Ok(db.last_insert_rowid())
}

/// Refuses a file with problems.
fn whole(path: &Path, problems: Vec<String>) -> Result<()> {
    problems.into_iter().next().map_or(Ok(()), |problem| Err(connect::damaged(path, problem)))
}

/// What the schema's own constraints would refuse, said in words.
fn validate(event: &NewEvent) -> std::result::Result<(), String> {
    if event.topic.is_empty() || event.topic.len() > TOPIC_BYTES {
        return Err(format!("the topic has {} bytes, not 1 to {TOPIC_BYTES}", event.topic.len()));
    }
    if event.topic.chars().any(char::is_control) {
        return Err("the topic has control characters".to_owned());
    }
    serde_json::from_str::<serde::de::IgnoredAny>(&event.body).map(drop).map_err(|error| format!("the body is not JSON: {error}"))
}
