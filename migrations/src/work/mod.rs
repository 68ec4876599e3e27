//! Jobs, leases, artifacts and stage requests: what the ai worker does, who holds it, what came out, what waits for a word.
//!
//! Every change of a job or a stage request is committed together with the event that tells of it.

mod artifacts;
mod jobs;
mod leases;
mod stages;

pub use artifacts::{Artifact, ArtifactFilter, ArtifactState, NewArtifact, Removal};
pub use jobs::{Finished, Job, JobState, Leased, NewJob, Outcome, WantJob};
pub use leases::{Lease, NewLease, Process};
pub use stages::{Decided, NewStage, Stage, StageState};

use crate::connect::failed;
use crate::store::insert_events;
use crate::{NewEvent, Result, Severity, Store};
use rusqlite::{Transaction, TransactionBehavior};
use serde_json::Value;

/// The first schema with these tables.
const SCHEMA: u32 = 4;

/// Words that the database, the API and the command line share.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> std::result::Result<Self, ()> {
                match text { $($text => Ok($name::$variant),)* _ => Err(()) }
            }
        }

        impl rusqlite::ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
                Ok(self.as_str().into())
            }
        }

        impl rusqlite::types::FromSql for $name {
            fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
                value.as_str()?.parse().map_err(|()| rusqlite::types::FromSqlError::InvalidType)
            }
        }
    };
}
use words;

/// One transaction under way, and the events that are committed with it.
pub(crate) struct Change<'a> {
    tx: Transaction<'a>,
    events: Vec<NewEvent>,
    now_ms: i64,
    /// Everything is taken back: it was only a look.
    undone: bool,
}

impl Change<'_> {
    /// Tells of it; `None` leaves the severity to the rules of migration 2.
    fn tell(&mut self, topic: &str, severity: Option<Severity>, body: Value) {
        self.events.push(NewEvent { topic: topic.to_owned(), severity, body: body.to_string() });
    }
}

impl Store {
    /// Runs `work` in one transaction and commits it with the events that it told. Nothing is written if nothing changed.
    pub(crate) fn change<T>(
        &mut self,
        what: &'static str,
        now_ms: i64,
        work: impl FnOnce(&mut Change<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        self.needs(SCHEMA, "jobs")?;
        let run = |store: &mut Store| -> rusqlite::Result<T> {
            let tx = store.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut change = Change { tx, events: Vec::new(), now_ms, undone: false };
            let done = work(&mut change)?;
            let Change { tx, events, undone, .. } = change;
            if undone {
                return tx.rollback().map(|()| done);
            }
            insert_events(&tx, store.statements.append, &events, now_ms)?;
            tx.commit().map(|()| done)
        };
        let done = run(self);
        done.map_err(failed(&self.path, what))
    }
}

/// A page of a list, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Only those with a smaller id.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

impl Page {
    fn before(self) -> i64 {
        self.before.unwrap_or(i64::MAX)
    }
}
