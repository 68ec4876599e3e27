//! Carries out of a database the rows that a snapshot lacks, as JSON lines, before the snapshot takes its place.
//!
//! Knows nothing of any schema: tables are matched by name, rows by primary key, so that an older release can do it over a
//! newer database. Reads a damaged database as far as it goes, and says what it could not read. Changes neither.

use crate::connect::{self, failed, io};
use crate::content::{self, Table, quoted};
use crate::{Result, StoreError};
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, Statement};
use serde::Serialize;
use serde_json::{Map, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// In a damaged part of a table, so many rows are tried one by one before the steps grow.
const PROBES: u32 = 4096;

/// What was found beyond the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Beyond {
    /// Rows that the snapshot lacks, by table: all of them are in the export.
    pub(crate) lacking: BTreeMap<String, u64>,
    /// Rows that the snapshot has with other values, by table: they are not in the export.
    pub(crate) changed: BTreeMap<String, u64>,
    /// What could not be read, in words.
    pub(crate) unread: Vec<String>,
    /// The counters of ids, so that no id of an exported row is given again.
    pub(crate) counters: Vec<(String, i64)>,
    /// The export, if there is one.
    pub(crate) export: Option<PathBuf>,
}

/// Writes what `live` has and `snapshot` lacks to `export`, durably. Never overwrites: rows that an earlier export of this
/// name has are kept and counted, and none stands there twice.
pub(crate) fn export(live: &Path, snapshot: &Path, export: &Path) -> Result<Beyond> {
    let staged = connect::staging(export);
    let done = exported(live, snapshot, export, &staged);
    if done.is_err() {
        connect::remove(&staged)?;
    }
    done
}

fn exported(live: &Path, snapshot: &Path, export: &Path, staged: &Path) -> Result<Beyond> {
    let mut out = Lines::continued(export, staged)?;
    let mut beyond = Beyond::default();
    // A file without a log is complete in itself: reading it as it lies leaves nothing beside it.
    let log = ["-wal", "-journal"].iter().any(|suffix| connect::beside(live, suffix).exists());
    match if log { connect::reader(live) } else { connect::frozen(live) } {
        Ok(db) => {
            let kept = db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            kept.map_err(failed(live, "could not set up the database"))?;
            let copy = connect::frozen(snapshot)?;
            tables(&db, &copy, snapshot, &mut out, &mut beyond)?;
        }
        Err(error @ (StoreError::Busy { .. } | StoreError::Io { .. })) => return Err(error),
        Err(StoreError::Missing { .. }) => {}
        Err(error) => {
            let what = if let StoreError::Damaged { what, .. } = &error { what.clone() } else { error.to_string() };
            beyond.unread.push(format!("the whole database: {what}"));
        }
    }
    beyond.lacking.clone_from(&out.counts);
    beyond.export = out.finish(export)?;
    Ok(beyond)
}

fn tables(live: &Connection, copy: &Connection, snapshot: &Path, out: &mut Lines, beyond: &mut Beyond) -> Result<()> {
    let theirs = content::logical(copy).map_err(failed(snapshot, "could not read the snapshot"))?;
    let ours = match content::logical(live) {
        Ok(tables) => tables,
        Err(error) => {
            beyond.unread.push(format!("the list of tables: {error}"));
            return Ok(());
        }
    };
    for table in ours {
        if table.name == "sqlite_sequence" {
            match counters(live) {
                Ok(counters) => beyond.counters = counters,
                Err(error) => beyond.unread.push(format!("the counters of ids: {error}")),
            }
            continue;
        }
        let compared = Compared::new(copy, &table, theirs.iter().find(|other| other.name == table.name));
        let mut compared = compared.map_err(failed(snapshot, "could not read the snapshot"))?;
        let mut changed = 0;
        for part in &table.parts {
            let gaps = walk(live, &table, part, |row| {
                match compared.look(row).map_err(Stop::Snapshot)? {
                    Found::Lacking => out.add(&table, row).map_err(Stop::Write)?,
                    Found::Changed => changed += 1,
                    Found::Same => {}
                }
                Ok(())
            });
            match gaps {
                Ok(gaps) => beyond.unread.extend(gaps.into_iter().map(|gap| format!("table {}: {gap}", table.name))),
                Err(Stop::Snapshot(error)) => return Err(failed(snapshot, "could not read the snapshot")(error)),
                Err(Stop::Write(error)) => return Err(error),
                Err(Stop::Live(error)) => beyond.unread.push(format!("table {}: {error}", table.name)),
            }
        }
        if changed > 0 {
            beyond.changed.insert(table.name, changed);
        }
    }
    Ok(())
}

fn counters(db: &Connection) -> rusqlite::Result<Vec<(String, i64)>> {
    db.prepare("SELECT name, seq FROM sqlite_sequence ORDER BY name")?.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Why reading a table ended early.
enum Stop {
    Live(rusqlite::Error),
    Snapshot(rusqlite::Error),
    Write(StoreError),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Stop {
        Stop::Live(error)
    }
}

/// Gives every row that can be read to `take`; returns the parts that can't, in words.
fn walk(db: &Connection, table: &Table, part: &str, mut take: impl FnMut(&Row<'_>) -> Result<(), Stop>) -> Result<Vec<String>, Stop> {
    // The bulk of the events has its seals beside it.
    let beside = |column: &String| part == "events_00" && column == "seal";
    let column =
        |column: &String| if beside(column) { "(SELECT seal FROM seals_00 WHERE event_id = id)".to_owned() } else { quoted(column) };
    let columns: Vec<String> = table.columns.iter().map(column).collect();
    let (list, name) = (columns.join(", "), quoted(part));
    // `rowid` names another column in some tables, and there is none in others: those are walked in one go.
    let by_rowid = !table.columns.iter().any(|column| column.eq_ignore_ascii_case("rowid"))
        && db.prepare(&format!("SELECT rowid FROM {name}")).is_ok();
    if !by_rowid {
        let mut all = db.prepare(&format!("SELECT {list}, 0 FROM {name}"))?;
        let mut count = 0;
        let broke = scan(&mut all, &[], &mut None, &mut |row| {
            count += 1;
            take(row)
        })?;
        return Ok(broke.map(|error| format!("what follows its first {count} rows can't be read: {error}")).into_iter().collect());
    }
    let mut forward = db.prepare(&format!("SELECT {list}, rowid FROM {name} WHERE rowid >= ?1 ORDER BY rowid"))?;
    let mut backward = db.prepare(&format!("SELECT {list}, rowid FROM {name} WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid DESC"))?;
    let mut unread = Vec::new();
    let (mut from, mut step, mut tries) = (i64::MIN, 1_i64, 0);
    let mut gap: Option<(i64, rusqlite::Error)> = None;
    loop {
        let mut last = None;
        let broke = scan(&mut forward, &[from], &mut last, &mut take)?;
        if broke.is_none() || last.is_some() {
            if let Some((begin, error)) = gap.take() {
                // Steps of one row miss nothing; longer ones are walked back.
                let mut end = from - 1;
                if step > 1 {
                    let mut first = None;
                    scan(&mut backward, &[begin, end], &mut first, &mut take)?;
                    end = first.map_or(end, |first: i64| first.saturating_sub(1));
                }
                unread.push(format!("rows {begin} to {end}, as far as there were any, can't be read: {error}"));
            }
            (step, tries) = (1, 0);
        }
        let Some(error) = broke else { return Ok(unread) };
        // Ids begin at 1 unless somebody gave others.
        let begin = last.map_or(from, |row: i64| row.saturating_add(1));
        let (begin, error) = gap.take().unwrap_or((begin, error));
        let next = if last.is_some() || from == i64::MIN { begin.max(1) } else { from.saturating_add(step) };
        tries += 1;
        if tries > PROBES {
            step = step.saturating_mul(2);
        }
        if next == i64::MAX {
            unread.push(format!("rows from {begin} on can't be read: {error}"));
            return Ok(unread);
        }
        from = next;
        gap = Some((begin, error));
    }
}

/// Runs a query whose last column is the row's number, and remembers the last one taken. Returns what ended it early.
fn scan(
    query: &mut Statement<'_>,
    bounds: &[i64],
    last: &mut Option<i64>,
    take: &mut impl FnMut(&Row<'_>) -> Result<(), Stop>,
) -> Result<Option<rusqlite::Error>, Stop> {
    let number = query.column_count() - 1;
    let mut rows = match query.query(rusqlite::params_from_iter(bounds)) {
        Ok(rows) => rows,
        Err(error) => return Ok(Some(error)),
    };
    loop {
        match rows.next() {
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(error)),
            Ok(Some(row)) => {
                let at = match row.get(number) {
                    Ok(at) => at,
                    Err(error) => return Ok(Some(error)),
                };
                take(row)?;
                *last = Some(at);
            }
        }
    }
}

/// What the snapshot has of a row.
enum Found {
    Lacking,
    Changed,
    Same,
}

/// How a table's rows are looked up in the snapshot.
enum Compared<'copy> {
    /// The snapshot has no such table.
    Absent,
    /// By the primary key: its places among the row's columns; the values to compare come with their own places.
    ByKey { query: Statement<'copy>, key: Vec<usize>, shared: Vec<usize> },
    /// Without a common key: by all columns that both have. How often the snapshot has each row.
    ByValues { seen: HashMap<u128, u64>, shared: Vec<usize> },
}

impl<'copy> Compared<'copy> {
    fn new(copy: &'copy Connection, ours: &Table, theirs: Option<&Table>) -> rusqlite::Result<Compared<'copy>> {
        let Some(theirs) = theirs else { return Ok(Compared::Absent) };
        let place = |column: &String| ours.columns.iter().position(|other| other == column);
        let both: Vec<(&String, usize)> = theirs.columns.iter().filter_map(|column| place(column).map(|at| (column, at))).collect();
        if both.is_empty() {
            return Ok(Compared::Absent);
        }
        let list: Vec<String> = both.iter().map(|(column, _)| quoted(column)).collect();
        let list = format!("SELECT {} FROM {}", list.join(", "), theirs.quoted());
        let shared = both.iter().map(|(_, at)| *at).collect();
        let key: Option<Vec<usize>> = ours.key.iter().map(place).collect();
        if let Some(key) = key.filter(|key| !key.is_empty() && ours.key == theirs.key) {
            let terms: Vec<String> = ours.key.iter().enumerate().map(|(at, name)| format!("{} IS ?{}", quoted(name), at + 1)).collect();
            let query = copy.prepare(&format!("{list} WHERE {}", terms.join(" AND ")))?;
            return Ok(Compared::ByKey { query, key, shared });
        }
        let mut seen = HashMap::new();
        let mut query = copy.prepare(&list)?;
        let mut rows = query.query(())?;
        while let Some(row) = rows.next()? {
            let values: Vec<usize> = (0..both.len()).collect();
            *seen.entry(content::fingerprint(row, &values)?).or_default() += 1;
        }
        Ok(Compared::ByValues { seen, shared })
    }

    fn look(&mut self, row: &Row<'_>) -> rusqlite::Result<Found> {
        match self {
            Compared::Absent => Ok(Found::Lacking),
            Compared::ByKey { query, key, shared } => {
                let mut values = Vec::with_capacity(key.len());
                for at in key.iter() {
                    values.push(ToSqlOutput::Borrowed(row.get_ref(*at)?));
                }
                let mut found = query.query(rusqlite::params_from_iter(values))?;
                let Some(other) = found.next()? else { return Ok(Found::Lacking) };
                for (theirs, ours) in shared.iter().enumerate() {
                    if row.get_ref(*ours)? != other.get_ref(theirs)? {
                        return Ok(Found::Changed);
                    }
                }
                Ok(Found::Same)
            }
            Compared::ByValues { seen, shared } => match seen.get_mut(&content::fingerprint(row, shared)?) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    Ok(Found::Same)
                }
                _ => Ok(Found::Lacking),
            },
        }
    }
}

/// The export while it is written: beside its place, and put there whole.
struct Lines {
    file: BufWriter<std::fs::File>,
    path: PathBuf,
    counts: BTreeMap<String, u64>,
    /// Lines of an earlier export that stands in the place.
    earlier: HashSet<u128>,
}

impl Lines {
    fn continued(export: &Path, staged: &Path) -> Result<Lines> {
        connect::remove(staged)?;
        let file = std::fs::File::create_new(staged).map_err(io(staged, "could not create the export"))?;
        connect::keep_private(staged)?;
        let mut lines = Lines { file: BufWriter::new(file), path: staged.to_owned(), counts: BTreeMap::new(), earlier: HashSet::new() };
        let earlier = match std::fs::File::open(export) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(lines),
            other => other.map_err(io(export, "could not read the earlier export"))?,
        };
        for line in BufReader::new(earlier).lines() {
            let line = line.map_err(io(export, "could not read the earlier export"))?;
            let table = serde_json::from_str::<serde_json::Value>(&line).ok().and_then(|row| Some(row["table"].as_str()?.to_owned()));
            // Something else stands here: it is nothing of ours to write over.
            let Some(table) = table else { return Err(StoreError::Exists { path: export.to_owned() }) };
            lines.write(&table, &line)?;
            lines.earlier.insert(content::number_of(line.as_bytes()));
        }
        Ok(lines)
    }

    fn add(&mut self, table: &Table, row: &Row<'_>) -> Result<()> {
        let mut values = Map::new();
        for (at, column) in table.columns.iter().enumerate() {
            let value = row.get_ref(at).map_err(failed(&self.path, "could not read a row"))?;
            values.insert(column.clone(), told(value));
        }
        let line = json!({"table": table.name, "row": values}).to_string();
        if self.earlier.contains(&content::number_of(line.as_bytes())) { Ok(()) } else { self.write(&table.name, &line) }
    }

    fn write(&mut self, table: &str, line: &str) -> Result<()> {
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.write_all(b"\n"));
        written.map_err(io(&self.path, "could not write the export"))?;
        *self.counts.entry(table.to_owned()).or_default() += 1;
        Ok(())
    }

    /// Puts it in its place, if there is anything in it.
    fn finish(mut self, export: &Path) -> Result<Option<PathBuf>> {
        if self.counts.is_empty() {
            drop(self.file);
            connect::remove(&self.path)?;
            return Ok(None);
        }
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(io(&self.path, "could not write the export"))?;
        std::fs::rename(&self.path, export).map_err(io(export, "could not put the export in its place"))?;
        connect::sync_folder_of(export)?;
        Ok(Some(export.to_owned()))
    }
}

/// A value as JSON. What JSON has no form for is an object that names its kind.
fn told(value: ValueRef<'_>) -> serde_json::Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match value {
        ValueRef::Null => json!(null),
        ValueRef::Integer(number) => json!(number),
        ValueRef::Real(number) if number.is_finite() => json!(number),
        ValueRef::Real(number) => json!({"real": number.to_string()}),
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).map_or_else(|_| json!({"text_hex": hex(bytes)}), |text| json!(text)),
        ValueRef::Blob(bytes) => json!({"blob_hex": hex(bytes)}),
    }
}
