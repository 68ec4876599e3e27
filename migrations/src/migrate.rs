//! Takes a database from one schema to another.

use crate::{Result, StoreError};
use serde::Serialize;
use std::path::Path;

/// Which way a migration may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Only up; a newer schema is refused.
    UpOnly,
    /// Up or down to this binary's schema.
    ToOwn,
}

/// A migration that the database has recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Its number, from 1.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// SHA-256 of its up, down and check.
    pub checksum: String,
    /// When it was applied, RFC 3339, UTC.
    pub applied_at: String,
    /// The release that applied it.
    pub release: String,
    /// Whether an undo is recorded.
    pub reversible: bool,
}

/// A migration that this binary has and the database has not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Whether it can be undone.
    pub reversible: bool,
}

/// Where a database stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SchemaInfo {
    /// The database's schema.
    pub current: u32,
    /// This binary's schema.
    pub own: u32,
    /// What is recorded, in order.
    pub applied: Vec<Applied>,
    /// What would follow, in order.
    pub pending: Vec<Pending>,
}

/// One step that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The migration's number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// `up` or `down`.
    pub direction: &'static str,
}

/// What [`run`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// The schema before; 0 when the database was created.
    pub from: u32,
    /// The schema now.
    pub to: u32,
    /// The steps taken; empty when there was nothing to do.
    pub steps: Vec<Step>,
}

/// Reads where a database stands. Changes nothing.
pub fn inspect(path: &Path) -> Result<SchemaInfo> {
    Err(StoreError::Missing { path: path.to_owned() })
}

/// Takes the database to this binary's schema, one transaction a step. Nobody else may have it open.
///
/// With `create`, a missing database is made (only a missing one: an empty file is damage).
pub fn run(path: &Path, _direction: Direction, _create: bool) -> Result<Migrated> {
    Err(StoreError::Missing { path: path.to_owned() })
}
