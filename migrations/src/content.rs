//! What a database holds, table by table, whatever its schema: for comparing two states and for carrying rows out.
//!
//! Used by the rehearsal and by the export before a snapshot is restored. Only reads.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use sha2::{Digest, Sha256};

/// What an undo puts aside for the next way up lives in tables with this prefix.
const PARKED: &str = "parked_";

/// Says where in the ring which events are, not what they are. `seals_00` is a column of theirs.
const LAYOUT: &[&str] = &["segments", "segment_topics", "seals_00"];

/// One table with rows of somebody's: not the record of migrations, not SQLite's own but for its counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// Its columns, by name, so that a table which was made anew compares as what it was.
    pub(crate) columns: Vec<String>,
    /// The columns of its primary key, in order; empty if it has none.
    pub(crate) key: Vec<String>,
    /// The tables that its rows are in: itself, but for the event log in a ring.
    pub(crate) parts: Vec<String>,
}

impl Table {
    /// Whether an undo left it for the next way up.
    pub(crate) fn is_parked(&self) -> bool {
        self.name.starts_with(PARKED)
    }

    /// Its name as SQL has it.
    pub(crate) fn quoted(&self) -> String {
        quoted(&self.name)
    }
}

/// A name as SQL has it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Every table with rows of somebody's, by name.
pub(crate) fn tables(db: &Connection) -> rusqlite::Result<Vec<Table>> {
    let names: Vec<String> = db
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'schema_version'
             AND (name NOT LIKE 'sqlite\\_%' ESCAPE '\\' OR name = 'sqlite_sequence') ORDER BY name",
        )?
        .query_map((), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    names.into_iter().map(|name| table(db, name)).collect()
}

fn table(db: &Connection, name: String) -> rusqlite::Result<Table> {
    let mut columns: Vec<(String, u32)> = db
        .prepare("SELECT name, pk FROM pragma_table_info(?1) ORDER BY name")?
        .query_map((&name,), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let names = columns.iter().map(|(column, _)| column.clone()).collect();
    columns.retain(|(_, place)| *place > 0);
    columns.sort_by_key(|(_, place)| *place);
    let key = columns.into_iter().map(|(column, _)| column).collect();
    Ok(Table { parts: vec![name.clone()], name, columns: names, key })
}

/// As [`tables`], as one that knows nothing of the ring would see them: the event log is one table, `events`, and how it lies in
/// segments is not told.
pub(crate) fn logical(db: &Connection) -> rusqlite::Result<Vec<Table>> {
    let mut found = tables(db)?;
    let is_part =
        |name: &str| name.strip_prefix("events_").is_some_and(|slot| slot.len() == 2 && slot.bytes().all(|byte| byte.is_ascii_digit()));
    let parts: Vec<String> = found.iter().filter(|table| is_part(&table.name)).map(|table| table.name.clone()).collect();
    if parts.is_empty() {
        return Ok(found);
    }
    found.retain(|table| !parts.contains(&table.name) && !LAYOUT.contains(&table.name.as_str()));
    let mut events = table(db, "events".to_owned())?;
    (events.key, events.parts) = (vec!["id".to_owned()], parts);
    found.push(events);
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// What a state of a database holds. Two states with equal pictures hold the same rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    tables: Vec<(Table, Rows)>,
    /// Indexes and triggers, by kind, name and table.
    others: Vec<(String, String, String)>,
}

/// The rows of a table as a sum over them, which no order changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rows {
    count: u64,
    sum: u128,
}

/// Reads everything. With `parked` also what an undo left.
pub(crate) fn picture(db: &Connection, parked: bool) -> rusqlite::Result<Picture> {
    let mut found = Vec::new();
    for table in tables(db)? {
        if parked || !table.is_parked() {
            let rows = rows(db, &table)?;
            found.push((table, rows));
        }
    }
    let mut others: Vec<(String, String, String)> = db
        .prepare("SELECT type, name, tbl_name FROM sqlite_schema WHERE type <> 'table' ORDER BY type, name")?
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    others.retain(|(_, _, table)| parked || !table.starts_with(PARKED));
    Ok(Picture { tables: found, others })
}

fn rows(db: &Connection, table: &Table) -> rusqlite::Result<Rows> {
    let columns: Vec<String> = table.columns.iter().map(|column| quoted(column)).collect();
    // The counters of tables that an undo parks are theirs, not the user's.
    let only = if table.name == "sqlite_sequence" { " WHERE name NOT LIKE 'parked\\_%' ESCAPE '\\'" } else { "" };
    let mut query = db.prepare(&format!("SELECT {} FROM {}{only}", columns.join(", "), table.quoted()))?;
    let mut found = query.query(())?;
    let mut rows = Rows { count: 0, sum: 0 };
    let all: Vec<usize> = (0..columns.len()).collect();
    while let Some(row) = found.next()? {
        rows.count += 1;
        rows.sum = rows.sum.wrapping_add(fingerprint(row, &all)?);
    }
    Ok(rows)
}

/// A number that stands for these values of a row.
pub(crate) fn fingerprint(row: &Row<'_>, places: &[usize]) -> rusqlite::Result<u128> {
    let mut hash = Sha256::new();
    for at in places {
        feed(&mut hash, row.get_ref(*at)?);
    }
    Ok(half(hash))
}

/// A number that stands for these bytes.
pub(crate) fn number_of(bytes: &[u8]) -> u128 {
    half(Sha256::new_with_prefix(bytes))
}

fn half(hash: Sha256) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.finalize()[..16]);
    u128::from_be_bytes(half)
}

/// A value with its kind and length before it, so that no two rows feed the same bytes.
fn feed(hash: &mut Sha256, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => hash.update([0]),
        ValueRef::Integer(number) => {
            hash.update([1]);
            hash.update(number.to_be_bytes());
        }
        ValueRef::Real(number) => {
            hash.update([2]);
            hash.update(number.to_bits().to_be_bytes());
        }
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            hash.update([if matches!(value, ValueRef::Text(_)) { 3 } else { 4 }]);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        }
    }
}

impl Picture {
    /// The same but for the counters of ids, which may run ahead of the rows, and the chain, which knows of that.
    pub(crate) fn without_counters(mut self) -> Picture {
        self.tables.retain(|(table, _)| !["sqlite_sequence", "chain"].contains(&table.name.as_str()));
        self
    }

    /// What `now` has otherwise, in words; empty if nothing.
    pub(crate) fn differences(&self, now: &Picture) -> Vec<String> {
        let mut said = Vec::new();
        for (table, rows) in &self.tables {
            match now.tables.iter().find(|(other, _)| other.name == table.name) {
                None => said.push(format!("table {} is gone", table.name)),
                Some((other, _)) if other.columns != table.columns => {
                    said.push(format!("table {} had the columns {}, has {}", table.name, table.columns.join(" "), other.columns.join(" ")));
                }
                Some((_, other)) if other.count != rows.count => {
                    said.push(format!("table {} had {} rows, has {}", table.name, rows.count, other.count));
                }
                Some((_, other)) if other != rows => said.push(format!("table {} has other values in its {} rows", table.name, rows.count)),
                Some(_) => {}
            }
        }
        let new = now.tables.iter().filter(|(table, _)| !self.tables.iter().any(|(other, _)| other.name == table.name));
        said.extend(new.map(|(table, _)| format!("table {} was not there", table.name)));
        for (these, those, word) in [(&self.others, &now.others, "is gone"), (&now.others, &self.others, "was not there")] {
            said.extend(these.iter().filter(|one| !those.contains(one)).map(|(kind, name, _)| format!("{kind} {name} {word}")));
        }
        said
    }
}
