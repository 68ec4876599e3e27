//! What is stored: events and their severities. Only data; reading and writing them is the store's.

use crate::page::Listed;
use serde::{Deserialize, Serialize};

/// How much an event matters, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Severity {
    /// Only for who looks closely.
    Debug = 0,
    /// The usual course of things.
    Info = 1,
    /// Normal, but worth finding later.
    Notice = 2,
    /// Something may need attention.
    Warning = 3,
    /// Something failed.
    Error = 4,
}

impl Severity {
    /// Every severity, least first.
    pub const ALL: [Severity; 5] = [Severity::Debug, Severity::Info, Severity::Notice, Severity::Warning, Severity::Error];

    /// The word used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Debug => "debug",
            Severity::Info => "info",
            Severity::Notice => "notice",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }

    /// The severity for a number of the database; `None` for a number that no release ever wrote.
    pub fn from_number(number: i64) -> Option<Severity> {
        usize::try_from(number).ok().and_then(|index| Severity::ALL.get(index).copied())
    }
}

/// An event to be stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NewEvent {
    /// What it is about, such as `disk.full`: 1 to 128 bytes.
    pub topic: String,
    /// `None`: decided from topic and body by the rules of migration 2. Schema 1 has no severities and drops it.
    #[serde(default)]
    pub severity: Option<Severity>,
    /// JSON text.
    pub body: String,
}

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Ascending, never used twice.
    pub id: i64,
    /// Milliseconds since 1970 by the clock of the moment.
    pub at_ms: i64,
    /// What it is about.
    pub topic: String,
    /// `None` only in schema 1.
    pub severity: Option<Severity>,
    /// JSON text.
    pub body: String,
}

impl Listed for Event {
    fn id(&self) -> i64 {
        self.id
    }

    fn text_bytes(&self) -> usize {
        self.topic.len() + self.body.len()
    }
}
