//! The errors of the store. Each carries the code that the error catalogue knows; none repeats its source in its text.

use std::path::PathBuf;

/// What went wrong with the database.
#[derive(Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are the facts that the variant names")]
pub enum StoreError {
    /// There is no database; opening never makes one.
    Missing { path: PathBuf },
    /// There is something already where a new file was to be made.
    Exists { path: PathBuf },
    /// The database was migrated by a newer release.
    Newer { current: u32, own: u32 },
    /// The database is waiting for migrations of this release.
    Older { current: u32, own: u32 },
    /// The migration recorded no undo.
    Irreversible { number: u32, name: String },
    /// The database was migrated by other code under the same number.
    Checksum { number: u32, name: String, recorded: String, compiled: String },
    /// A migration's own check found violations; its transaction was rolled back.
    CheckFailed { number: u32, name: String, violations: Vec<String> },
    /// The file is not a whole database of ours.
    Damaged { path: PathBuf, what: String },
    /// Another process holds the database.
    Busy { path: PathBuf },
    /// The caller is not the user that owns the file.
    WrongUser { path: PathBuf, owner: u32, caller: u32 },
    /// An event that cannot be stored: the whole batch is refused.
    InvalidEvent { index: usize, what: String },
    /// What was asked for can't be, under a code of the catalogue.
    Refused { code: &'static str, what: &'static str, facts: Vec<(&'static str, String)> },
    /// This release's schema has no place for it.
    NotInSchema { what: &'static str, schema: u32, needs: u32 },
    /// A file operation failed.
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    /// SQLite refused a migration's SQL; its transaction was rolled back.
    StepFailed { number: u32, name: String, what: &'static str, source: rusqlite::Error },
    /// SQLite failed in a way that has no code of its own.
    Failed { what: &'static str, source: rusqlite::Error },
}

/// The result of everything in this crate.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl StoreError {
    /// The catalogue's string for this error, stable once released.
    pub fn code(&self) -> &'static str {
        match self {
            StoreError::Missing { .. } => "store.missing",
            StoreError::Exists { .. } => "store.exists",
            StoreError::Newer { .. } => "store.newer-schema",
            StoreError::Older { .. } => "store.older-schema",
            StoreError::Irreversible { .. } => "store.irreversible",
            StoreError::Checksum { .. } => "store.checksum",
            StoreError::CheckFailed { .. } => "store.check-failed",
            StoreError::Damaged { .. } => "store.damaged",
            StoreError::Busy { .. } => "store.busy",
            StoreError::WrongUser { .. } => "store.wrong-user",
            StoreError::InvalidEvent { .. } => "store.invalid-event",
            StoreError::Refused { code, .. } => code,
            StoreError::NotInSchema { .. } => "store.not-in-schema",
            StoreError::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => "io.disk-full",
                _ => "io.failed",
            },
            StoreError::Failed { source, .. } | StoreError::StepFailed { source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DiskFull) => "io.disk-full",
                _ => "store.failed",
            },
        }
    }

    /// The facts by name, for an error's details.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        match self {
            StoreError::Missing { path } | StoreError::Exists { path } | StoreError::Busy { path } => {
                vec![("path", path.display().to_string())]
            }
            StoreError::Newer { current, own } | StoreError::Older { current, own } => {
                vec![("schema", current.to_string()), ("own_schema", own.to_string())]
            }
            StoreError::Irreversible { number, name } | StoreError::StepFailed { number, name, .. } => {
                vec![("migration", number.to_string()), ("name", name.clone())]
            }
            StoreError::Checksum { number, name, recorded, compiled } => vec![
                ("migration", number.to_string()),
                ("name", name.clone()),
                ("recorded", recorded.clone()),
                ("compiled", compiled.clone()),
            ],
            StoreError::CheckFailed { number, name, violations } => {
                vec![("migration", number.to_string()), ("name", name.clone()), ("violations", violations.join("; "))]
            }
            StoreError::Damaged { path, what } => vec![("path", path.display().to_string()), ("what", what.clone())],
            StoreError::WrongUser { path, owner, caller } => {
                vec![("path", path.display().to_string()), ("owner_uid", owner.to_string()), ("caller_uid", caller.to_string())]
            }
            StoreError::InvalidEvent { index, what } => vec![("index", index.to_string()), ("what", what.clone())],
            StoreError::Refused { facts, .. } => facts.clone(),
            StoreError::NotInSchema { schema, needs, .. } => vec![("schema", schema.to_string()), ("needs", needs.to_string())],
            StoreError::Io { path, .. } => vec![("path", path.display().to_string())],
            StoreError::Failed { .. } => Vec::new(),
        }
    }
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreError::Missing { .. } => f.write_str("there is no database"),
            StoreError::Exists { .. } => f.write_str("the target exists already"),
            StoreError::Newer { current, own } => write!(f, "the database has schema {current}, this release knows only up to {own}"),
            StoreError::Older { current, own } => write!(f, "the database has schema {current}, this release needs {own}"),
            StoreError::Irreversible { number, name } => write!(f, "migration {number} ({name}) can't be undone"),
            StoreError::Checksum { number, name, .. } => write!(f, "migration {number} ({name}) is recorded with another checksum"),
            StoreError::CheckFailed { number, name, .. } => write!(f, "the check of migration {number} ({name}) failed"),
            StoreError::StepFailed { number, name, what, .. } => write!(f, "migration {number} ({name}): {what}"),
            StoreError::Damaged { .. } => f.write_str("the database is damaged"),
            StoreError::Busy { .. } => f.write_str("the database is in use"),
            StoreError::WrongUser { .. } => f.write_str("the database belongs to another user"),
            StoreError::NotInSchema { what, .. } => write!(f, "this release keeps no {what}"),
            StoreError::InvalidEvent { index, .. } => write!(f, "event {index} of the batch can't be stored"),
            StoreError::Refused { what, .. } => f.write_str(what),
            StoreError::Io { what, .. } | StoreError::Failed { what, .. } => f.write_str(what),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Io { source, .. } => Some(source),
            StoreError::Failed { source, .. } | StoreError::StepFailed { source, .. } => Some(source),
            _ => None,
        }
    }
}
