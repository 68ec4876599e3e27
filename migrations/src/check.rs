//! Looks whether a database is whole. Never changes it, and never mends it.

use crate::{Result, connect, records};
use serde::Serialize;
use std::path::Path;

/// What a check found. Problems are data, not errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// No problem was found.
    pub ok: bool,
    /// The database's schema.
    pub schema: u32,
    /// Whether indexes were compared with their tables and the migrations' checks were run.
    pub full: bool,
    /// What is wrong, in SQLite's or the checks' words.
    pub problems: Vec<String>,
}

/// Checks a database without changing it: `quick_check`, or with `full` `integrity_check` and the recorded checks.
///
/// # Errors
/// `store.missing`, or `store.damaged` when so little is left that not even the schema can be read.
pub fn check(path: &Path, full: bool) -> Result<CheckReport> {
    let db = connect::reader(path)?;
    let records = records::read(&db, path)?;
    let mut problems = connect::problems(&db, path, full)?;
    if full && problems.is_empty() {
        problems = records::violations(&db, &records).map_err(connect::failed(path, "could not run the checks"))?;
    }
    Ok(CheckReport { ok: problems.is_empty(), schema: records.len() as u32, full, problems })
}
