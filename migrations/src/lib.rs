//! Smolotchi's database: the SQL of every schema beside the code that runs it. The only user of SQLite.
//!
//! Used by the agent; uses nothing of ours. It must never be linked into the installer (what rolls back is not part of
//! what is rolled back), and opening a database must never create or migrate one.

mod audit;
mod check;
mod connect;
mod content;
mod error;
mod event;
mod export;
mod figures;
mod find;
mod findings;
mod ladder;
mod lines;
pub mod migrate;
mod page;
#[cfg(test)]
mod proofs;
mod prune;
mod readings;
mod records;
mod rehearse;
mod ring;
mod rules;
mod snapshot;
mod store;
#[cfg(test)]
mod walks;
mod work;

pub use audit::{Audit, AuditReport, Broken, audit_file};
pub use check::{CheckReport, check};
pub use error::{Result, StoreError};
pub use event::{Event, NewEvent, Severity};
pub use figures::Figures;
pub use find::{EventQuery, FoundEvents};
pub use findings::{
    Advance, BASELINE_ACTION, Baseline, Finding, FindingFilter, FindingState, NewFinding, Profile, Report, Reported, Run, RunState,
};
pub use page::{Listed, PAGE_BYTES, next};
pub use prune::{Going, Reason, RetentionPolicy};
pub use readings::{NewReading, ReadingSpan, ReadingValue, SENSOR_BYTES, SensorRow, Series};
pub use rehearse::{Rehearsal, Rehearsed, Undo, rehearse, rehearse_as};
pub use snapshot::{Restored, Snapshot, restore, snapshot};
pub use store::{Appended, Proof, Store, Summary, TOPIC_BYTES};
pub use work::*;

/// The schema that this build works on: the number of its last migration.
pub fn schema_own() -> u32 {
    ladder::LADDER.len() as u32
}
