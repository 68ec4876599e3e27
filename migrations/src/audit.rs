//! Whether the event log is what was written: the chain of seals is worked out again, row by row. Only reads.
//!
//! In steps, so that the owner's thread is free for others in between, and with flat memory. What it can't tell by itself: a log
//! that was rewritten whole, seals and all. For that, core tells its head seal to the systemd journal, outside of the database.

use crate::connect::failed;
use crate::ring::{self, Range, Sealing, Segment};
use crate::{Result, Store, StoreError, connect, records};
use rusqlite::{Connection, Row};
use serde::Serialize;
use std::path::Path;

/// How many rows a step reads where nobody waits.
const STEP: u32 = 5_000;
/// The most gaps that a report names.
const GAPS: usize = 20;

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct AuditReport {
    /// Nothing is broken.
    pub whole: bool,
    /// How many events were looked at.
    pub events: u64,
    /// How many of them a seal covers.
    pub sealed: u64,
    /// How many were written before the chain began, or by a version without one: nothing is known of them.
    pub unsealed: u64,
    /// How many commits were sealed.
    pub commits: u64,
    /// The oldest event.
    pub first_id: Option<i64>,
    /// The oldest event that a seal covers.
    pub sealed_from: Option<i64>,
    /// The newest event.
    pub last_id: Option<i64>,
    /// The last seal, in hexadecimal.
    pub head: Option<String>,
    /// Ids that are not in the log, between what is: from, to. The log itself says that they were skipped, or it is not known, as
    /// they lie beside what is unsealed.
    pub skipped: Vec<(i64, i64)>,
    /// What is broken first.
    pub broken: Option<Broken>,
}

/// Where the log is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The first event of the commit that is not what it was.
    pub first_id: i64,
    /// The last event of it.
    pub last_id: i64,
    /// What is wrong, in words.
    pub what: String,
    /// Ids that are not there, in that commit: from, to.
    pub missing: Vec<(i64, i64)>,
}

/// An audit on its way.
#[derive(Debug, Default)]
pub struct Audit {
    report: AuditReport,
    /// The next id to look at.
    next: i64,
    /// The last id that was there.
    seen: i64,
    commit: Option<Commit>,
    /// The range that it is in, by its first id, and the last seal in it.
    range: Option<(i64, Vec<u8>)>,
    /// The event that the log begins with now, if a record must say that those before it were pruned.
    begins: Option<i64>,
}

/// Rows since the last seal.
#[derive(Debug)]
struct Commit {
    sealing: Sealing,
    first_id: i64,
    rows: u64,
    missing: Vec<(i64, i64)>,
}

impl Audit {
    /// What was found so far; final when a step said that it was the last.
    pub fn report(self) -> AuditReport {
        self.report
    }

    fn breaks(&mut self, first_id: i64, last_id: i64, what: impl Into<String>, missing: Vec<(i64, i64)>) {
        self.report.broken.get_or_insert(Broken { first_id, last_id, what: what.into(), missing });
    }

    fn skips(&mut self, gap: Option<(i64, i64)>) {
        self.report.skipped.extend(gap.filter(|_| self.report.skipped.len() < GAPS));
    }

    /// Takes a row in.
    fn row(&mut self, slot: u8, ranges: &[Range], row: &Row<'_>) -> rusqlite::Result<()> {
        let (id, seal): (i64, Option<Vec<u8>>) = (row.get(0)?, row.get(5)?);
        let gap = (id > self.seen + 1 && self.report.first_id.is_some()).then_some((self.seen + 1, id - 1));
        let (topic, body) = (row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_str()?);
        let record = [ring::PRUNED, ring::SKIPPED].contains(&topic).then(|| ring::recorded(body)).flatten();
        let skips = record.filter(|(_, to)| topic == ring::SKIPPED && *to == id - 1);
        if self.report.first_id.is_none() && slot != 0 {
            // What is in slot 0 may have been pruned by a version that keeps no record.
            self.begins = Some(id);
        }
        if self.begins == Some(id) {
            self.begins = Some(skips.map_or(id, |(from, _)| from)).filter(|id| *id > 1);
        }
        if record.is_some_and(|(_, last)| topic == ring::PRUNED && self.begins == Some(last.saturating_add(1))) {
            self.begins = None;
        }
        let before = self.range.is_some();
        self.report.first_id.get_or_insert(id);
        self.report.events += 1;
        (self.seen, self.next) = (id, id.saturating_add(1));
        let covering = ranges.iter().find(|range| range.first_id <= id && range.last_id.is_none_or(|last| id <= last));
        let Some(range) = covering else {
            self.end_of_range(ranges);
            self.report.unsealed += 1;
            self.skips(gap);
            if seal.is_some() {
                self.breaks(id, id, "it has a seal, but the chain is not said to cover it", Vec::new());
            } else if slot != 0 {
                // What was there before the ring, or came from a version without it, is in slot 0: nothing else is without a seal.
                self.breaks(id, id, "it was written under the chain, but the chain is not said to cover it", Vec::new());
            }
            return Ok(());
        };
        if self.range.as_ref().is_none_or(|(first_id, _)| *first_id != range.first_id) {
            self.end_of_range(ranges);
            if let Some((from, to)) = gap.filter(|gap| before && slot != 0 && skips != Some(*gap)) {
                self.breaks(from, to, "these events are not there, and nothing in the log says why", vec![(from, to)]);
            }
            self.skips(gap);
            // A range begins where the one before it ended; otherwise somebody cut a piece out of the chain itself.
            let before = ranges.iter().rfind(|before| before.first_id < range.first_id);
            if before.is_some_and(|before| before.head.as_ref() != Some(&range.anchor)) {
                self.breaks(range.first_id, id, "the chain goes on with another seal than it ended with", Vec::new());
            }
            self.report.sealed_from.get_or_insert(id);
            self.range = Some((range.first_id, range.anchor.clone()));
        }
        let Some((_, last_seal)) = &mut self.range else { return Ok(()) };
        let commit =
            self.commit.get_or_insert_with(|| Commit { sealing: Sealing::after(last_seal), first_id: id, rows: 0, missing: Vec::new() });
        commit.missing.extend(gap.filter(|_| commit.missing.len() < GAPS));
        commit.rows += 1;
        commit.sealing.add(id, row.get(1)?, row.get(4)?, topic, body);
        if let Some(seal) = seal {
            let Some(commit) = self.commit.take() else { return Ok(()) };
            if commit.sealing.finish() == seal {
                self.report.commits += 1;
                self.report.sealed += commit.rows;
                *last_seal = seal;
            } else {
                self.breaks(commit.first_id, id, "the seal of this commit doesn't fit its events and the seal before it", commit.missing);
            }
        }
        Ok(())
    }

    /// What must be true when a range, or the log, is over.
    fn end_of_range(&mut self, ranges: &[Range]) {
        if let Some(commit) = self.commit.take() {
            let last = self.seen.max(commit.first_id);
            self.breaks(commit.first_id, last, "these events have no seal after them", commit.missing);
        }
        let Some((first_id, seal)) = self.range.take() else { return };
        self.report.head = Some(seal.iter().map(|byte| format!("{byte:02x}")).collect());
        let ended = ranges.iter().find(|range| range.first_id == first_id).and_then(|range| range.head.as_ref().zip(range.last_id));
        if let Some((_, last_id)) = ended.filter(|(head, _)| **head != seal) {
            self.breaks(self.seen + 1, last_id, "the chain ended with another seal", vec![(self.seen + 1, last_id)]);
        }
    }
}

impl Store {
    /// Looks at the next `rows` events, at most. Returns whether the audit is over.
    ///
    /// # Errors
    /// `store.not-in-schema`; `store.damaged` where rows can't be read.
    pub fn audit(&self, audit: &mut Audit, rows: u32) -> Result<bool> {
        self.needs(ring::SCHEMA, "seals")?;
        audited(&self.db, audit, rows).map_err(failed(&self.path, "could not read the events"))
    }

    /// The id of the newest sealed event and the last seal, in hexadecimal; `None` without a chain.
    pub fn head(&self) -> Result<Option<(i64, String)>> {
        if self.schema < ring::SCHEMA {
            return Ok(None);
        }
        let head = ring::head(&self.db).map_err(failed(&self.path, "could not read the last seal"))?;
        Ok(head.map(|(id, seal)| (id, seal.iter().map(|byte| format!("{byte:02x}")).collect())))
    }
}

/// Looks at every event of a database file, which may be a copy, or in use: what is committed when it begins is what counts.
///
/// # Errors
/// `store.missing`, `store.damaged`, `store.not-in-schema`.
pub fn audit_file(path: &Path) -> Result<AuditReport> {
    let db = connect::reader(path)?;
    let schema = records::read(&db, path)?.len() as u32;
    if schema < ring::SCHEMA {
        return Err(StoreError::NotInSchema { what: "seals", schema, needs: ring::SCHEMA });
    }
    let whole = || {
        // One look: who else writes meanwhile must not make it look cut off.
        let look = db.unchecked_transaction()?;
        let mut audit = Audit::default();
        while !audited(&look, &mut audit, STEP)? {}
        Ok(audit.report())
    };
    whole().map_err(failed(path, "could not read the events"))
}

fn audited(db: &Connection, audit: &mut Audit, rows: u32) -> rusqlite::Result<bool> {
    let ranges = ring::chain(db)?;
    let segments = ring::segments(db, ring::SLOTS)?;
    let Some(segment) = segments.iter().rev().find(|segment| segment.last_id >= audit.next) else {
        end(db, audit, &ranges, &segments)?;
        return Ok(true);
    };
    if segment.first_id > audit.next {
        // Pruned meanwhile: log and chain now begin here. What was half looked at went with what was before.
        let begins = segments.last() == Some(segment) && ranges.first().is_some_and(|range| range.first_id == segment.first_id);
        let pruned = begins && audit.range.as_ref().is_some_and(|(id, _)| *id < segment.first_id);
        if pruned {
            (audit.commit, audit.range) = (None, None);
            audit.seen = segment.first_id - 1;
        }
        if audit.report.first_id.is_some() && segments.last() == Some(segment) {
            audit.begins = Some(segment.first_id);
        }
        audit.next = segment.first_id;
    }
    let slot = segment.slot.unwrap_or(0);
    let seal = if slot == 0 { "(SELECT seal FROM seals_00 WHERE event_id = id)" } else { "seal" };
    let sql = format!(
        "SELECT id, at_ms, topic, body, severity, {seal} FROM {} WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3",
        ring::table(slot)
    );
    let mut query = db.prepare_cached(&sql)?;
    let mut found = query.query((audit.next, segment.last_id, rows))?;
    let mut count = 0;
    while let Some(row) = found.next()? {
        audit.row(slot, &ranges, row)?;
        count += 1;
        if audit.report.broken.is_some() {
            audit.end_of_range(&[]);
            return Ok(true);
        }
    }
    if count < rows && audit.seen < segment.last_id {
        let from = audit.seen.max(segment.first_id - 1) + 1;
        audit.breaks(from, segment.last_id, "the end of this part of the log is cut off", vec![(from, segment.last_id)]);
        audit.end_of_range(&[]);
        return Ok(true);
    }
    Ok(false)
}

/// The last look, when every row was seen.
fn end(db: &Connection, audit: &mut Audit, ranges: &[Range], segments: &[Segment]) -> rusqlite::Result<()> {
    audit.end_of_range(ranges);
    let last = segments.first().map(|segment| segment.last_id);
    audit.report.last_id = last;
    let counter: Option<i64> = db.query_row("SELECT max(seq) FROM sqlite_sequence WHERE name = 'events'", (), |row| row.get(0))?;
    if counter.unwrap_or(0) < last.unwrap_or(0) {
        let last = last.unwrap_or(0);
        audit.breaks(last, last, "the counter of ids was set back", Vec::new());
    }
    if let Some(begins) = audit.begins {
        let what = "the beginning of the log is not there, and nothing in the log says that it was pruned";
        audit.breaks(1, begins - 1, what, vec![(1, begins - 1)]);
    }
    // Rows that no segment knows.
    for slot in 0..ring::SLOTS {
        let known = segments.iter().find(|segment| segment.slot == Some(slot)).map_or(0, |segment| segment.last_id);
        let sql = format!("SELECT max(id) FROM {}", ring::table(slot));
        let there: Option<i64> = db.query_row(&sql, (), |row| row.get(0))?;
        if let Some(id) = there.filter(|id| *id > known) {
            audit.breaks(known + 1, id, "events were put behind the end", Vec::new());
        }
    }
    // Where the chain goes on, the counter is the last id: that of the newest event, or what a restore skipped.
    if let (Some(range), Some(last), Some(counter)) = (ranges.iter().find(|range| range.last_id.is_none()), last, counter) {
        let skipped = if range.first_id > last { range.first_id - 1 } else { last };
        if counter > skipped {
            audit.breaks(skipped + 1, counter, "the end of the log is cut off", vec![(skipped + 1, counter)]);
        }
    }
    audit.report.whole = audit.report.broken.is_none();
    Ok(())
}
