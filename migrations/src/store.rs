//! The open database: what core does with it while it runs.

use crate::{Event, NewEvent, Result, StoreError};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The open database, of exactly this release's schema. One owner at a time: core.
#[derive(Debug)]
pub struct Store {}

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
    /// How many stay.
    pub kept: u64,
}

impl Store {
    /// Opens an existing database of this release's schema. Never creates, never migrates.
    pub fn open(path: &Path) -> Result<Store> {
        Err(StoreError::Missing { path: path.to_owned() })
    }

    /// Commits a batch in one transaction; on return it survives a power cut. All or nothing.
    pub fn append(&mut self, _events: &[NewEvent], _at_ms: i64) -> Result<Appended> {
        Ok(Appended { appended: 0, last_id: 0 })
    }

    /// The newest events, newest first.
    pub fn recent(&self, _limit: u32) -> Result<Vec<Event>> {
        Ok(Vec::new())
    }

    /// The newest warnings and errors, newest first; empty in schema 1.
    pub fn recent_severe(&self, _limit: u32) -> Result<Vec<Event>> {
        Ok(Vec::new())
    }

    /// Figures for status.
    pub fn summary(&self) -> Result<Summary> {
        Ok(Summary { events_total: 0, newest_id: None, newest_at_ms: None, bytes: 0 })
    }

    /// Commits one row, always the same, durably.
    pub fn prove(&mut self, _now_ms: i64) -> Result<Proof> {
        Ok(Proof { micros: 0, schema: crate::schema_own() })
    }

    /// Deletes the oldest events that the policy does not keep. Writes nothing when there is nothing to delete.
    pub fn retain(&mut self, _policy: &RetentionPolicy, _now_ms: i64, _dry_run: bool) -> Result<Retained> {
        Ok(Retained { deleted: 0, kept: 0 })
    }
}
