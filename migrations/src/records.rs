//! The table `schema_version`: which migrations a database has, and how each is undone. The undo travels in the database,
//! so that an older release can go back over a migration that it has never seen.

use crate::connect::{damaged, failed};
use crate::ladder::{Migration, RELEASE};
use crate::{Result, StoreError};
use rusqlite::Connection;
use rusqlite::fallible_iterator::FallibleIterator;
use std::path::Path;

/// Belongs to the runner, not to a migration: it must be there before the first.
pub(crate) const TABLE: &str = "CREATE TABLE schema_version (
    number     INTEGER PRIMARY KEY CHECK (number > 0),
    name       TEXT NOT NULL,
    checksum   TEXT NOT NULL,
    applied_at TEXT NOT NULL,
    release    TEXT NOT NULL,
    down_sql   TEXT,
    check_sql  TEXT NOT NULL
) STRICT";

/// One recorded migration.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) checksum: String,
    pub(crate) applied_at: String,
    pub(crate) release: String,
    pub(crate) down_sql: Option<String>,
    pub(crate) check_sql: String,
}

/// All records, in order, without gaps from 1; at least one.
pub(crate) fn read(db: &Connection, path: &Path) -> Result<Vec<Record>> {
    let records = read_any(db, path)?;
    if records.is_empty() { Err(damaged(path, "the record of its schema is empty")) } else { Ok(records) }
}

/// As [`read`], but a database that is just being made has none.
pub(crate) fn read_any(db: &Connection, path: &Path) -> Result<Vec<Record>> {
    let there: bool = db
        .query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_version')", (), |row| row.get(0))
        .map_err(failed(path, "could not read the schema"))?;
    if !there {
        return Err(damaged(path, "it has no record of its schema"));
    }
    let query = || -> rusqlite::Result<Vec<Record>> {
        db.prepare("SELECT number, name, checksum, applied_at, release, down_sql, check_sql FROM schema_version ORDER BY number")?
            .query_map((), |row| {
                Ok(Record {
                    number: row.get(0)?,
                    name: row.get(1)?,
                    checksum: row.get(2)?,
                    applied_at: row.get(3)?,
                    release: row.get(4)?,
                    down_sql: row.get(5)?,
                    check_sql: row.get(6)?,
                })
            })?
            .collect()
    };
    let records = query().map_err(failed(path, "could not read the schema's record"))?;
    if records.iter().zip(1..).any(|(record, number)| record.number != number) {
        return Err(damaged(path, "the record of its schema has gaps"));
    }
    Ok(records)
}

/// Refuses a database whose migrations are recorded with other checksums than these have.
pub(crate) fn same_code(records: &[Record], ladder: &[Migration]) -> Result<()> {
    match records.iter().zip(ladder).find(|(record, compiled)| record.checksum != compiled.checksum) {
        Some((record, compiled)) => Err(StoreError::Checksum {
            number: record.number,
            name: record.name.clone(),
            recorded: record.checksum.clone(),
            compiled: compiled.checksum.to_owned(),
        }),
        None => Ok(()),
    }
}

/// Records a migration as applied now.
pub(crate) fn add(db: &Connection, migration: &Migration) -> rusqlite::Result<usize> {
    let now = jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string();
    db.execute(
        "INSERT INTO schema_version (number, name, checksum, applied_at, release, down_sql, check_sql) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (migration.number, migration.name, migration.checksum, now, RELEASE, migration.down, migration.check),
    )
}

/// Every violation that the recorded checks find. A check holds from its own schema on, so all of them are run.
pub(crate) fn violations(db: &Connection, records: &[Record]) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    for record in records {
        let mut batch = rusqlite::Batch::new(db, &record.check_sql);
        while let Some(mut query) = batch.next()? {
            let rows = query.query_map((), |row| row.get::<_, String>(0))?;
            for row in rows.take(20) {
                found.push(row?);
            }
        }
    }
    Ok(found)
}
