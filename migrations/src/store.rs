//! The open database: what core does with it while it runs.
//!
//! One owner at a time, of exactly this release's schema. It must never migrate, and never delete but by a retention policy.

use crate::connect::{self, failed};
use crate::rules::{self, Statements};
use crate::{Event, NewEvent, Result, Severity, StoreError, records, schema_own};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The longest topic, in bytes.
pub const TOPIC_BYTES: usize = 128;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// The open database, of exactly this release's schema.
#[derive(Debug)]
pub struct Store {
    pub(crate) db: Connection,
    pub(crate) path: PathBuf,
    schema: u32,
    pub(crate) statements: Statements,
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

/// What may stay. `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct RetentionPolicy {
    /// At most so many events.
    pub max_events: Option<u64>,
    /// No events older than so many days.
    pub max_age_days: Option<u32>,
}

/// What [`Store::retain`] did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Retained {
    /// How many events went (or would go).
    pub deleted: u64,
    /// How many stay (or would stay).
    pub kept: u64,
}

impl Store {
    /// Opens an existing, whole database of this release's schema. Never creates, never migrates.
    ///
    /// # Errors
    /// `store.missing`, `store.damaged`, `store.older-schema`, `store.newer-schema`, `store.checksum`, `store.wrong-user`,
    /// `store.busy`.
    pub fn open(path: &Path) -> Result<Store> {
        Store::open_as(schema_own(), path)
    }

    /// As [`Store::open`], by a release whose schema is `own`: for tests of what an older release writes.
    #[doc(hidden)]
    pub fn open_as(own: u32, path: &Path) -> Result<Store> {
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
        if let Some(problem) = connect::problems(&db, path, false)?.into_iter().next() {
            return Err(connect::damaged(path, problem));
        }
        Ok(Store { db, path: path.to_owned(), schema: own, statements: rules::statements(own) })
    }

    /// Refuses what this database has no tables for: an older release's schema. `what` is the thing, in the plural.
    pub(crate) fn needs(&self, schema: u32, what: &'static str) -> Result<()> {
        if self.schema < schema { Err(StoreError::NotInSchema { what, schema: self.schema, needs: schema }) } else { Ok(()) }
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
        let sql = self.statements.append;
        let write = |db: &mut Connection| -> rusqlite::Result<i64> {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            insert_events(&tx, sql, events, at_ms)?;
            let last = tx.last_insert_rowid();
            tx.commit().map(|()| last)
        };
        let last_id = write(&mut self.db).map_err(failed(&self.path, "could not commit the events"))?;
        Ok(Appended { appended: events.len() as u64, last_id })
    }

    /// The newest events, newest first.
    pub fn recent(&self, limit: u32) -> Result<Vec<Event>> {
        self.events(self.statements.recent, limit)
    }

    /// The newest warnings and errors, newest first; empty in schema 1, which has no severities.
    pub fn recent_severe(&self, limit: u32) -> Result<Vec<Event>> {
        self.statements.severe.map_or_else(|| Ok(Vec::new()), |sql| self.events(sql, limit))
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

    /// Deletes the oldest events that the policy does not keep. Writes nothing when there is nothing to delete.
    ///
    /// Age deletes from the oldest id up to the first event that is young enough, not by each row's own time: after a
    /// boot with a wrong clock, events dated 1970 among young ones stay.
    pub fn retain(&mut self, policy: &RetentionPolicy, now_ms: i64, dry_run: bool) -> Result<Retained> {
        let total = self.total()?;
        let Some(first_kept) = self.first_kept(policy, now_ms)? else {
            return Ok(Retained { deleted: 0, kept: total });
        };
        let fail = "could not delete old events";
        let deleted: u64 = if dry_run {
            let count = self.db.query_row(rules::COUNT_BEFORE, (first_kept,), |row| row.get::<_, i64>(0));
            count.map_err(failed(&self.path, fail))?.unsigned_abs()
        } else {
            self.db.execute(rules::DELETE_BEFORE, (first_kept,)).map_err(failed(&self.path, fail))? as u64
        };
        Ok(Retained { deleted, kept: total.saturating_sub(deleted) })
    }

    /// The id from which on events are kept; `None` if all are.
    fn first_kept(&self, policy: &RetentionPolicy, now_ms: i64) -> Result<Option<i64>> {
        let fail = || failed(&self.path, "could not find the old events");
        let (Some((newest, _)), Some((oldest, oldest_at))) = (self.newest()?, self.pair(rules::OLDEST)?) else { return Ok(None) };
        let mut first_kept = oldest;
        if let Some(most) = policy.max_events {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            // The span of ids is never less than the count: most days this alone says that nothing is to be done.
            if newest - oldest >= most {
                let beyond = self.db.query_row(rules::BEYOND, (most,), |row| row.get::<_, i64>(0)).optional().map_err(fail())?;
                first_kept = first_kept.max(beyond.map_or(oldest, |id| id + 1));
            }
        }
        if let Some(days) = policy.max_age_days {
            let since = now_ms.saturating_sub(i64::from(days).saturating_mul(DAY_MS));
            if oldest_at < since {
                let young = self.db.query_row(rules::FIRST_SINCE, (since,), |row| row.get::<_, i64>(0)).optional().map_err(fail())?;
                first_kept = first_kept.max(young.unwrap_or(newest + 1));
            }
        }
        Ok((first_kept > oldest).then_some(first_kept))
    }

    fn total(&self) -> Result<u64> {
        let total = self.db.query_row(self.statements.total, (), |row| row.get::<_, i64>(0));
        total.map(i64::unsigned_abs).map_err(failed(&self.path, "could not count the events"))
    }

    fn newest(&self) -> Result<Option<(i64, i64)>> {
        self.pair(rules::NEWEST)
    }

    fn pair(&self, sql: &str) -> Result<Option<(i64, i64)>> {
        let row = self.db.prepare_cached(sql).and_then(|mut query| query.query_row((), |row| Ok((row.get(0)?, row.get(1)?))).optional());
        row.map_err(failed(&self.path, "could not read the events"))
    }

    fn events(&self, sql: &str, limit: u32) -> Result<Vec<Event>> {
        let read = || -> rusqlite::Result<Vec<Event>> {
            let mut query = self.db.prepare_cached(sql)?;
            let rows = query.query_map((limit,), |row| {
                let severity: Option<i64> = row.get(4)?;
                Ok(Event {
                    id: row.get(0)?,
                    at_ms: row.get(1)?,
                    topic: row.get(2)?,
                    body: row.get(3)?,
                    severity: severity.and_then(Severity::from_number),
                })
            })?;
            rows.collect()
        };
        read().map_err(failed(&self.path, "could not read the events"))
    }
}

/// Appends events within a transaction of another's. `sql` is [`Statements::append`].
pub(crate) fn insert_events(tx: &rusqlite::Transaction<'_>, sql: &str, events: &[NewEvent], at_ms: i64) -> rusqlite::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut insert = tx.prepare_cached(sql)?;
    for event in events {
        insert.execute((at_ms, &event.topic, &event.body, event.severity.map(|severity| severity as u8)))?;
    }
    Ok(())
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
