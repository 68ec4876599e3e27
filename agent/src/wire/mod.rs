//! What core's API says and takes, as types: core serialises them, the client and the page read them.
//!
//! The shapes are the contract of version 1 (`/v1/…`): fields are only added, readers ignore unknown ones.

mod findings;
mod now;
mod powers;
pub(crate) mod readings;
mod work;

pub(crate) use findings::*;
pub(crate) use now::*;
pub(crate) use powers::*;
pub(crate) use work::*;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use smolotchi_store::Severity;

/// The most events of one request, both ways.
pub(crate) const MAX_EVENTS: usize = 1000;

/// The most bytes of one text that a caller gives: the body of an event, the input of a job, the detail of a finding.
pub(crate) const MAX_TEXT: usize = 64 * 1024;

/// The largest request body, in bytes.
pub(crate) const MAX_BODY: usize = 1024 * 1024;

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Core's version.
    pub(crate) version: String,
    /// The database's schema.
    pub(crate) schema: u32,
    /// Seconds since core started, by the clock that never jumps.
    pub(crate) uptime_s: u64,
    /// The heartbeat's number.
    pub(crate) heartbeat_seq: u64,
    /// The event log in figures.
    pub(crate) events: EventFigures,
    /// The database in figures.
    pub(crate) database: DatabaseFigures,
    /// When core started, RFC 3339.
    pub(crate) started_at: String,
    /// Services with a capability that the operator has turned on; none as shipped.
    #[serde(default)]
    pub(crate) powers: Vec<Power>,
}

/// The event log in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EventFigures {
    /// How many are stored.
    pub(crate) total: u64,
    /// The newest one's id.
    pub(crate) newest_id: Option<i64>,
    /// The newest one's time, RFC 3339.
    pub(crate) newest_at: Option<String>,
}

/// The database in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DatabaseFigures {
    /// Its size.
    pub(crate) bytes: u64,
}

/// The answer to "is it well?".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Every check is ok.
    Healthy,
    /// At least one is not.
    Unhealthy,
}

/// One check of `GET /v1/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) name: String,
    /// Whether it is well, or not known to be ill.
    pub(crate) ok: bool,
    /// It could not be looked at; the detail says why.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unknown: bool,
    /// The fact, in words.
    pub(crate) detail: String,
}

impl Check {
    /// A check with its outcome.
    pub(crate) fn new(name: &str, ok: bool, detail: impl Into<String>) -> Self {
        Check { name: name.to_owned(), ok, unknown: false, detail: detail.into() }
    }

    /// A check that could not be made, which is not ill.
    pub(crate) fn unknown(name: &str, why: impl Into<String>) -> Self {
        Check { name: name.to_owned(), ok: true, unknown: true, detail: why.into() }
    }

    /// In one word.
    pub(crate) fn word(&self) -> &'static str {
        match (self.unknown, self.ok) {
            (true, _) => "unknown",
            (false, true) => "ok",
            (false, false) => "FAILED",
        }
    }
}

/// `GET /v1/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    /// Healthy only if every check is ok.
    pub(crate) verdict: Verdict,
    /// What was looked at.
    pub(crate) checks: Vec<Check>,
}

impl From<Vec<Check>> for Health {
    fn from(checks: Vec<Check>) -> Self {
        let verdict = if checks.iter().all(|check| check.ok) { Verdict::Healthy } else { Verdict::Unhealthy };
        Health { verdict, checks }
    }
}

/// One event of `GET /v1/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Ascending, never used twice.
    pub(crate) id: i64,
    /// RFC 3339.
    pub(crate) at: String,
    /// What it is about.
    pub(crate) topic: String,
    /// How serious it is.
    pub(crate) severity: Option<Severity>,
    /// Any JSON value.
    pub(crate) body: Value,
}

/// `GET /v1/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Events {
    /// Newest first; with `after`, oldest first.
    pub(crate) events: Vec<Event>,
    /// Where to go on: `before`, or `after`, of the next call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<i64>,
}

/// One event to append.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEvent {
    /// What it is about.
    pub(crate) topic: String,
    /// How serious it is; without it the store decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) severity: Option<Severity>,
    /// Any JSON value.
    pub(crate) body: Value,
}

/// The body of `POST /v1/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEvents {
    /// At most [`MAX_EVENTS`].
    pub(crate) events: Vec<NewEvent>,
}

/// The answer to `POST /v1/events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Appended {
    /// How many were committed.
    pub(crate) appended: u64,
    /// The id of the last one.
    pub(crate) last_id: i64,
}

/// The answer to `POST /v1/prove`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proved {
    /// Always true: a failed commit is an error.
    pub(crate) committed: bool,
    /// The schema it was made in.
    pub(crate) schema: u32,
    /// How long the commit took.
    pub(crate) micros: u64,
}

/// The body of `POST /v1/retention`; without a limit, nothing is removed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retention {
    /// At most so many events.
    #[serde(default)]
    pub(crate) max_events: Option<u64>,
    /// None older than so many days.
    #[serde(default)]
    pub(crate) max_age_days: Option<u32>,
    /// The oldest go while the database takes more.
    #[serde(default)]
    pub(crate) max_bytes: Option<u64>,
    /// The oldest go while the file system has less free.
    #[serde(default)]
    pub(crate) min_free_mib: Option<u64>,
    /// Only count.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// The answer to `POST /v1/retention`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retained {
    /// How many events went, or would go.
    pub(crate) deleted: u64,
    /// How many stay.
    pub(crate) kept: u64,
    /// What went, or would go, part by part.
    #[serde(default)]
    pub(crate) going: Vec<Going>,
    /// How many bytes of free pages the file system has back.
    #[serde(default)]
    pub(crate) given_back: u64,
    /// Why something that is old by the clock stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_back: Option<String>,
}

/// A part that goes as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Going {
    /// What it is: `events`, `readings`, `sensors`, `artifacts`, `findings`, `stages`, `baselines`, `runs` or `jobs`.
    pub(crate) kind: String,
    /// Which one.
    pub(crate) name: String,
    /// The id of its first row; of readings their first moment, in milliseconds since 1970.
    pub(crate) first_id: i64,
    /// The id of its last row; of readings their last moment.
    pub(crate) last_id: i64,
    /// How many rows.
    pub(crate) count: u64,
    /// About how much they take; of artifacts what the disk has back; of what else belongs to the work 0.
    pub(crate) bytes: u64,
    /// `count`, `age`, `bytes` or `disk`.
    pub(crate) reason: String,
    /// Exactly which rows, where others between the first and the last may stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ids: Vec<i64>,
}

/// `GET /v1/audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Audited {
    /// Nothing is broken.
    pub(crate) whole: bool,
    /// How many events were looked at.
    pub(crate) events: u64,
    /// How many of them a seal covers.
    pub(crate) sealed: u64,
    /// How many were written before the chain of seals began, or by a version without it: nothing is known of them.
    pub(crate) unsealed: u64,
    /// How many commits were sealed.
    pub(crate) commits: u64,
    /// The oldest event.
    pub(crate) first_id: Option<i64>,
    /// The oldest event that a seal covers.
    pub(crate) sealed_from: Option<i64>,
    /// The newest event.
    pub(crate) last_id: Option<i64>,
    /// The last seal, in hexadecimal.
    pub(crate) head: Option<String>,
    /// Ids between the oldest and the newest event that are not in the log: from, to; at most 20. It says so itself, or they lie beside
    /// what is unsealed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) skipped: Vec<(i64, i64)>,
    /// What is broken first.
    pub(crate) broken: Option<Broken>,
}

/// Where the event log is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Broken {
    /// The first event of the commit that is not what it was.
    pub(crate) first_id: i64,
    /// The last event of it.
    pub(crate) last_id: i64,
    /// What is wrong, in words.
    pub(crate) what: String,
    /// Ids that are not there: from, to.
    pub(crate) missing: Vec<(i64, i64)>,
}

/// The answer to `POST /v1/reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reloaded {
    /// The settings that differ from those that core read before.
    pub(crate) changed: Vec<Changed>,
}

/// One setting that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Changed {
    /// `section.name`.
    pub(crate) key: String,
    /// What it was.
    pub(crate) from: String,
    /// What it is.
    pub(crate) to: String,
    /// It holds once this unit is restarted; none: it holds now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restart: Option<String>,
}
