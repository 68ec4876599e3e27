//! Who holds what. A holder is a process, known so that no other one is ever taken for it; a lease ends by the boot's clock.
//!
//! Whether a holder is still there is not the store's to know: it is told.

use super::SCHEMA;
use crate::connect::failed;
use crate::{Result, Severity, Store};
use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A process, so that no other one is ever taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The service's role, such as `ai`.
    pub role: String,
    /// Its number.
    pub pid: u32,
    /// When it was started, in clock ticks since boot (proc_pid_stat(5), field 22).
    pub start_ticks: u64,
    /// The boot that it lives in.
    pub boot_id: String,
}

/// A lease to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLease {
    /// What is held, such as `job/12`.
    pub name: String,
    /// By whom.
    pub owner: Process,
    /// Proves who holds it.
    pub token: String,
    /// When it ends, by CLOCK_BOOTTIME of the owner's boot, in milliseconds.
    pub expires_boottime_ms: u64,
}

/// A lease that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What is held.
    pub name: String,
    /// By whom.
    pub owner: Process,
    /// Proves who holds it. Never to be shown.
    pub token: String,
    /// Since when, milliseconds since 1970.
    pub taken_ms: i64,
    /// When it ends, by CLOCK_BOOTTIME of the owner's boot, in milliseconds.
    pub expires_boottime_ms: u64,
}

impl Lease {
    /// The job that is held, if it is one.
    pub fn job(&self) -> Option<i64> {
        self.name.strip_prefix("job/")?.parse().ok()
    }
}

/// ?1 name.
pub(crate) const FIND: &str =
    "SELECT name, role, pid, start_ticks, boot_id, token, taken_ms, expires_boottime_ms FROM leases WHERE name = ?1";
const ALL: &str = "SELECT name, role, pid, start_ticks, boot_id, token, taken_ms, expires_boottime_ms FROM leases ORDER BY name";

/// The name of a job's lease.
pub(super) fn of_job(id: i64) -> String {
    format!("job/{id}")
}

fn lease(row: &Row<'_>) -> rusqlite::Result<Lease> {
    let owner = Process { role: row.get(1)?, pid: row.get(2)?, start_ticks: row.get::<_, i64>(3)?.unsigned_abs(), boot_id: row.get(4)? };
    Ok(Lease {
        name: row.get(0)?,
        owner,
        token: row.get(5)?,
        taken_ms: row.get(6)?,
        expires_boottime_ms: row.get::<_, i64>(7)?.unsigned_abs(),
    })
}

pub(super) fn find(db: &Connection, name: &str) -> rusqlite::Result<Option<Lease>> {
    db.prepare_cached(FIND)?.query_row((name,), lease).optional()
}

pub(super) fn insert(db: &Connection, new: &NewLease, now_ms: i64) -> rusqlite::Result<usize> {
    let NewLease { name, owner, token, expires_boottime_ms } = new;
    db.prepare_cached(
        "INSERT INTO leases (name, role, pid, start_ticks, boot_id, token, taken_ms, expires_boottime_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT DO NOTHING",
    )?
    .execute((name, &owner.role, owner.pid, number(owner.start_ticks), &owner.boot_id, token, now_ms, number(*expires_boottime_ms)))
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Store {
    /// Everything that is held, by name.
    pub fn leases(&self) -> Result<Vec<Lease>> {
        self.needs(SCHEMA, "leases")?;
        let read = || -> rusqlite::Result<Vec<Lease>> { self.db.prepare_cached(ALL)?.query_map((), lease)?.collect() };
        read().map_err(failed(&self.path, "could not read the leases"))
    }

    /// Takes a name that nobody holds; else says who does. Jobs are leased by [`Store::lease_job`] only.
    pub fn take_lease(&mut self, new: &NewLease, now_ms: i64) -> Result<Option<Lease>> {
        self.change("could not take the lease", now_ms, |change| match insert(&change.tx, new, now_ms)? {
            0 => find(&change.tx, &new.name),
            _ => Ok(None),
        })
    }

    /// Gives up a lease that is no job's whose holder is gone. False if that token does not hold it. Jobs: [`Store::lose_job`].
    pub fn break_lease(&mut self, lease: &Lease, why: &str, now_ms: i64) -> Result<bool> {
        self.change("could not give up the lease", now_ms, |change| {
            let mut drop = change.tx.prepare_cached("DELETE FROM leases WHERE name = ?1 AND token = ?2 AND name NOT GLOB 'job/*'")?;
            let broken = drop.execute((&lease.name, &lease.token))? > 0;
            std::mem::drop(drop);
            if broken {
                let body = json!({ "lease": lease.name, "role": lease.owner.role, "pid": lease.owner.pid, "why": why });
                change.tell("lease.broken", Some(Severity::Warning), body);
            }
            Ok(broken)
        })
    }

    /// Puts off the end of a lease. False if that token does not hold it.
    pub fn renew_lease(&mut self, name: &str, token: &str, expires_boottime_ms: u64, now_ms: i64) -> Result<bool> {
        self.change("could not renew the lease", now_ms, |change| {
            let mut renew = change.tx.prepare_cached("UPDATE leases SET expires_boottime_ms = ?3 WHERE name = ?1 AND token = ?2")?;
            renew.execute((name, token, number(expires_boottime_ms))).map(|rows| rows > 0)
        })
    }

    /// Gives up a lease that is no job's. False if that token does not hold it.
    pub fn drop_lease(&mut self, name: &str, token: &str, now_ms: i64) -> Result<bool> {
        self.change("could not give up the lease", now_ms, |change| {
            let mut drop = change.tx.prepare_cached("DELETE FROM leases WHERE name = ?1 AND token = ?2 AND name NOT GLOB 'job/*'")?;
            drop.execute((name, token)).map(|rows| rows > 0)
        })
    }
}
