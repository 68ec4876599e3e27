//! Tries a migration on a copy of somebody's database: there, back by the recorded undo, and there again, comparing.
//!
//! Called by the agent's `maint rehearse`, which the installer runs before it touches anything. Must never be given the live
//! database: it leaves the copy in the new schema.

use crate::content::{self, Picture};
use crate::ladder::{LADDER, Migration};
use crate::migrate::{self, Step};
use crate::{Result, StoreError, connect, records};
use connect::failed;
use rusqlite::Connection;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// What [`rehearse`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rehearsal {
    /// The copy's schema.
    pub from: u32,
    /// This build's schema.
    pub to: u32,
    /// The steps between them, in the order in which they are taken.
    pub migrations: Vec<Rehearsed>,
    /// Whether the way back holds.
    pub undo: Undo,
    /// How long the way there took; 0 if there is none.
    pub duration_ms: u64,
    /// How long the way back took; 0 if none was taken.
    pub undo_ms: u64,
    /// The size of the database's pages before.
    pub bytes_before: u64,
    /// The size of the database's pages after the first way there.
    pub bytes_after: u64,
}

/// One step of the way there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rehearsed {
    /// The migration's number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// `up` or `down`.
    pub direction: &'static str,
    /// Whether the migration can be undone.
    pub reversible: bool,
    /// How many rows the step inserted, updated and deleted.
    pub rows: u64,
}

/// Whether the way back holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// There and back gave the same rows as before; there again the same as the first time.
    Proven,
    /// A step on the way can't be undone. On the way down this means that the way there is closed: no step was taken.
    Impossible,
    /// There is nothing to undo: the schema stays, or the way there was itself made of undos.
    NotNeeded,
}

/// Migrates the copy at `path` to this build's schema, back and there again.
///
/// Up: after each step back, and after each step of the second way there, the rows must be those of the first time at that
/// schema (what an undo parks aside, but at the top all of them). Down, there is nothing to compare with; the steps' own
/// checks hold, and no event may be lost.
///
/// # Errors
/// As [`migrate::run`]; `store.check-failed` with the migration's number and name when a way back or a second way there
/// gives other rows.
pub fn rehearse(path: &Path) -> Result<Rehearsal> {
    rehearse_on(LADDER, path)
}

/// As [`rehearse`], by a release whose schema is `own`: for tests of what an older release does with a newer database.
#[doc(hidden)]
pub fn rehearse_as(own: u32, path: &Path) -> Result<Rehearsal> {
    rehearse_on(migrate::up_to(own), path)
}

/// As [`rehearse`], for a release with these migrations.
pub(crate) fn rehearse_on(ladder: &[Migration], path: &Path) -> Result<Rehearsal> {
    let mut db = connect::writer(path)?;
    // The copy is thrown away: nothing in it has to survive a power cut.
    db.pragma_update(None, "synchronous", "OFF").map_err(failed(path, "could not set up the database"))?;
    let recorded = records::read(&db, path)?;
    records::same_code(&recorded, ladder)?;
    let (from, to) = (recorded.len(), ladder.len());
    let bytes_before = bytes(&db, path)?;
    let mut rehearsal = Rehearsal {
        from: from as u32,
        to: to as u32,
        migrations: Vec::new(),
        undo: Undo::NotNeeded,
        duration_ms: 0,
        undo_ms: 0,
        bytes_before,
        bytes_after: bytes_before,
    };
    if from > to {
        let way: Vec<_> = recorded[to..].iter().rev().map(|record| (record.number, &record.name, record.down_sql.is_some())).collect();
        if way.iter().any(|(_, _, reversible)| !reversible) {
            let planned = way.into_iter().map(|(number, name, reversible)| Rehearsed {
                number,
                name: name.clone(),
                direction: "down",
                reversible,
                rows: 0,
            });
            rehearsal.migrations = planned.collect();
            rehearsal.undo = Undo::Impossible;
            return Ok(rehearsal);
        }
    }
    // Pictures are taken only where there will be something to compare with them.
    let way_back = from < to && ladder[from..].iter().all(|migration| migration.down.is_some());
    let mut seen = Vec::new();
    let look = |db: &Connection, at: usize| content::picture(db, at == to).map_err(failed(path, "could not read the rows"));
    if way_back {
        seen.push(look(&db, from)?);
    }
    let mut there = Duration::ZERO;
    while let Some((step, took)) = timed(ladder, &mut db, path)? {
        there += took;
        if way_back {
            seen.push(look(&db, from + seen.len())?);
        }
        let reversible = step.direction == "down" || ladder.get(step.number as usize - 1).is_some_and(|migration| migration.down.is_some());
        rehearsal.migrations.push(Rehearsed {
            number: step.number,
            name: step.name,
            direction: step.direction,
            reversible,
            rows: step.rows,
        });
    }
    rehearsal.duration_ms = milliseconds(there);
    rehearsal.bytes_after = bytes(&db, path)?;
    if way_back {
        let mut back = Duration::ZERO;
        while let Some((step, took)) = timed(&ladder[..from], &mut db, path)? {
            back += took;
            let at = step.number as usize - 1;
            same(&step, &seen[at - from], &look(&db, at)?, "after the way up and back")?;
        }
        rehearsal.undo_ms = milliseconds(back);
        while let Some((step, _)) = timed(ladder, &mut db, path)? {
            let at = step.number as usize;
            same(&step, &seen[at - from], &look(&db, at)?, "the second time up")?;
        }
    }
    rehearsal.undo = match (from < to, way_back) {
        (true, true) => Undo::Proven,
        (true, false) => Undo::Impossible,
        (false, _) => Undo::NotNeeded,
    };
    migrate::close(db, path)?;
    Ok(rehearsal)
}

/// One step, and how long it took.
fn timed(ladder: &[Migration], db: &mut Connection, path: &Path) -> Result<Option<(Step, Duration)>> {
    let begun = Instant::now();
    Ok(migrate::step(ladder, db, path)?.map(|step| (step, begun.elapsed())))
}

fn same(step: &Step, first: &Picture, now: &Picture, when: &str) -> Result<()> {
    let violations: Vec<_> = first.differences(now).into_iter().map(|what| format!("{when}: {what}")).collect();
    if violations.is_empty() { Ok(()) } else { Err(StoreError::CheckFailed { number: step.number, name: step.name.clone(), violations }) }
}

fn bytes(db: &Connection, path: &Path) -> Result<u64> {
    let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let size = pragma("page_count").and_then(|count| pragma("page_size").map(|size| count * size));
    size.map(i64::unsigned_abs).map_err(failed(path, "could not read the database's size"))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
