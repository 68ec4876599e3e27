//! Looks whether a database is whole.

use crate::{Result, StoreError};
use serde::Serialize;
use std::path::Path;

/// What a check found. Problems are data, not errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// No problem was found.
    pub ok: bool,
    /// The database's schema.
    pub schema: u32,
    /// Whether every index and every migration's check was gone through.
    pub full: bool,
    /// What is wrong, in SQLite's or the checks' words.
    pub problems: Vec<String>,
}

/// Checks a database without changing it: `quick_check`, or with `full` also `integrity_check` and the migrations' checks.
pub fn check(path: &Path, _full: bool) -> Result<CheckReport> {
    Err(StoreError::Missing { path: path.to_owned() })
}
