//! Stage requests: a step of a run that an operator must allow first. A decision is audit: it is committed with its event
//! and with the job that goes on.

use super::{Change, Page, SCHEMA, words};
use crate::connect::failed;
use crate::page::{Listed, PAGE_BYTES, within};
use crate::{Result, Severity, Store};
use rusqlite::{OptionalExtension, Row};
use serde_json::json;

words! {
    /// Where a stage request stands.
    StageState {
        /// An operator has to decide.
        Pending = "pending",
        /// The run goes on with the step.
        Approved = "approved",
        /// The run goes on without it.
        Denied = "denied",
        /// Nobody decided in time, or the job ended: as denied.
        Expired = "expired",
    }
}

/// One stage request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Ascending, never used twice.
    pub id: i64,
    /// The run that waits.
    pub run_id: i64,
    /// Its job.
    pub job_id: i64,
    /// The step of its plan, from 1.
    pub step: u32,
    /// The action of the step.
    pub action: String,
    /// Its risk class.
    pub risk: String,
    /// Why it needs somebody's word.
    pub reason: String,
    /// Milliseconds since 1970.
    pub requested_ms: i64,
    /// Milliseconds since 1970.
    pub expires_ms: i64,
    /// Where it stands.
    pub state: StageState,
    /// Milliseconds since 1970, but never before its job was begun for the last time.
    pub decided_ms: Option<i64>,
    /// Who.
    pub decided_by: Option<String>,
    /// Why.
    pub why: Option<String>,
}

impl Listed for Stage {
    fn id(&self) -> i64 {
        self.id
    }

    fn text_bytes(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.action.len() + self.risk.len() + self.reason.len() + optional(&self.decided_by) + optional(&self.why)
    }
}

/// A stage request to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in Stage")]
pub struct NewStage {
    pub run_id: i64,
    pub job_id: i64,
    pub step: u32,
    pub action: String,
    pub risk: String,
    pub reason: String,
    pub expires_ms: i64,
}

/// What [`Store::decide_stage`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// Decided now; its job goes on.
    Now(Stage),
    /// It was decided or over before; it is as it was.
    Before(Stage),
    /// There is none.
    Missing,
}

const COLUMNS: &str = "id, run_id, job_id, step, action, risk, reason, requested_ms, expires_ms, state, decided_ms, decided_by, why";
/// ?1 before, ?2 limit.
pub(crate) const LIST: &str =
    "SELECT id, run_id, job_id, step, action, risk, reason, requested_ms, expires_ms, state, decided_ms, decided_by, why
     FROM stages WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
/// ?1 before, ?2 limit.
pub(crate) const LIST_PENDING: &str =
    "SELECT id, run_id, job_id, step, action, risk, reason, requested_ms, expires_ms, state, decided_ms, decided_by, why
     FROM stages WHERE state = 'pending' AND id < ?1 ORDER BY id DESC LIMIT ?2";
/// ?1 before, ?2 limit, ?3 state.
pub(crate) const LIST_STATE: &str =
    "SELECT id, run_id, job_id, step, action, risk, reason, requested_ms, expires_ms, state, decided_ms, decided_by, why
     FROM stages WHERE state = ?3 AND id < ?1 ORDER BY id DESC LIMIT ?2";
/// ?1 now: what is pending and over.
pub(crate) const OVER: &str = "SELECT id FROM stages WHERE state = 'pending' AND expires_ms <= ?1 ORDER BY id";
pub(crate) const NEXT_END: &str = "SELECT min(expires_ms) FROM stages WHERE state = 'pending'";
/// ?1 job.
pub(crate) const PENDING_OF_JOB: &str = "SELECT id FROM stages WHERE state = 'pending' AND job_id = ?1 ORDER BY id";
/// ?1 job.
pub(crate) const LAST_DECIDED: &str = "SELECT max(decided_ms) FROM stages WHERE job_id = ?1";
/// ?1 job, ?2 since.
pub(crate) const DECIDED_SINCE: &str = "SELECT EXISTS (SELECT 1 FROM stages WHERE job_id = ?1 AND decided_ms >= ?2)";

fn stage(row: &Row<'_>) -> rusqlite::Result<Stage> {
    Ok(Stage {
        id: row.get(0)?,
        run_id: row.get(1)?,
        job_id: row.get(2)?,
        step: row.get(3)?,
        action: row.get(4)?,
        risk: row.get(5)?,
        reason: row.get(6)?,
        requested_ms: row.get(7)?,
        expires_ms: row.get(8)?,
        state: row.get(9)?,
        decided_ms: row.get(10)?,
        decided_by: row.get(11)?,
        why: row.get(12)?,
    })
}

fn ids(change: &Change<'_>, sql: &str, parameter: i64) -> rusqlite::Result<Vec<i64>> {
    change.tx.prepare_cached(sql)?.query_map((parameter,), |row| row.get(0))?.collect()
}

/// Ends what nobody decided in time; the jobs go on without.
pub(super) fn expire(change: &mut Change<'_>) -> rusqlite::Result<usize> {
    let over = ids(change, OVER, change.now_ms)?;
    for id in &over {
        let stage = change.decide(*id, StageState::Expired, None, "nobody decided in time")?;
        change.resume(stage.job_id)?;
    }
    Ok(over.len())
}

/// Ends what nobody needs to decide any more.
pub(super) fn expire_of_job(change: &mut Change<'_>, job: i64) -> rusqlite::Result<()> {
    for id in ids(change, PENDING_OF_JOB, job)? {
        change.decide(id, StageState::Expired, None, "its job ended")?;
    }
    Ok(())
}

pub(super) fn is_pending(change: &Change<'_>, job: i64) -> rusqlite::Result<bool> {
    Ok(!ids(change, PENDING_OF_JOB, job)?.is_empty())
}

pub(super) fn decided_since(change: &Change<'_>, job: i64, since_ms: i64) -> rusqlite::Result<bool> {
    change.tx.prepare_cached(DECIDED_SINCE)?.query_row((job, since_ms), |row| row.get(0))
}

impl Change<'_> {
    fn stage(&self, id: i64) -> rusqlite::Result<Option<Stage>> {
        self.tx.prepare_cached(&format!("SELECT {COLUMNS} FROM stages WHERE id = ?1"))?.query_row((id,), stage).optional()
    }

    fn decide(&mut self, id: i64, state: StageState, by: Option<&str>, why: &str) -> rusqlite::Result<Stage> {
        // Whoever works on the job finds that this was decided since it began, also if the clock went back meanwhile.
        let sql = format!(
            "UPDATE stages SET state = ?2, decided_ms = coalesce((SELECT max(changed_ms, ?3) FROM jobs
            WHERE jobs.id = stages.job_id AND jobs.state = 'leased'), ?3), decided_by = ?4, why = ?5 WHERE id = ?1 RETURNING {COLUMNS}"
        );
        let stage = self.tx.prepare_cached(&sql)?.query_row((id, state, self.now_ms, by, why), stage)?;
        let body = json!({
            "stage": stage.id, "run": stage.run_id, "job": stage.job_id, "step": stage.step, "action": stage.action, "by": by, "why": why,
        });
        self.tell(&format!("stage.{}", state.as_str()), Some(Severity::Notice), body);
        Ok(stage)
    }
}

impl Store {
    /// Asks for an operator's word, durably. The same run and step again is the same request.
    pub fn add_stage(&mut self, new: &NewStage, now_ms: i64) -> Result<Stage> {
        self.change("could not make the stage request", now_ms, |change| {
            let sql = format!(
                "INSERT INTO stages (run_id, job_id, step, action, risk, reason, requested_ms, expires_ms, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'pending') ON CONFLICT DO NOTHING RETURNING {COLUMNS}"
            );
            let values = (new.run_id, new.job_id, new.step, &new.action, &new.risk, &new.reason, now_ms, new.expires_ms);
            let made = change.tx.prepare_cached(&sql)?.query_row(values, stage).optional()?;
            let Some(made) = made else {
                let sql = format!("SELECT {COLUMNS} FROM stages WHERE run_id = ?1 AND step = ?2");
                return change.tx.prepare_cached(&sql)?.query_row((new.run_id, new.step), stage);
            };
            let body = json!({
                "stage": made.id, "run": made.run_id, "job": made.job_id, "step": made.step, "action": made.action, "risk": made.risk,
                "reason": made.reason,
            });
            change.tell("stage.requested", Some(Severity::Notice), body);
            Ok(made)
        })
    }

    /// One stage request.
    pub fn stage(&self, id: i64) -> Result<Option<Stage>> {
        self.needs(SCHEMA, "stage requests")?;
        let read = || self.db.prepare_cached(&format!("SELECT {COLUMNS} FROM stages WHERE id = ?1"))?.query_row((id,), stage).optional();
        read().map_err(failed(&self.path, "could not read the stage request"))
    }

    /// Stage requests, newest first, as many as a page takes.
    pub fn stages(&self, state: Option<StageState>, page: Page) -> Result<Vec<Stage>> {
        self.needs(SCHEMA, "stage requests")?;
        let (before, limit) = (page.before(), page.limit);
        let read = || -> rusqlite::Result<Vec<Stage>> {
            match state {
                None => within(self.db.prepare_cached(LIST)?.query_map((before, limit), stage)?, PAGE_BYTES),
                Some(StageState::Pending) => within(self.db.prepare_cached(LIST_PENDING)?.query_map((before, limit), stage)?, PAGE_BYTES),
                Some(state) => within(self.db.prepare_cached(LIST_STATE)?.query_map((before, limit, state), stage)?, PAGE_BYTES),
            }
        };
        read().map_err(failed(&self.path, "could not read the stage requests"))
    }

    /// An operator's word, durably, with its event; the waiting job is queued again in the same commit.
    pub fn decide_stage(&mut self, id: i64, approve: bool, by: &str, why: &str, now_ms: i64) -> Result<Decided> {
        self.change("could not decide the stage request", now_ms, |change| {
            expire(change)?;
            match change.stage(id)? {
                None => Ok(Decided::Missing),
                Some(stage) if stage.state != StageState::Pending => Ok(Decided::Before(stage)),
                Some(_) => {
                    let state = if approve { StageState::Approved } else { StageState::Denied };
                    let stage = change.decide(id, state, Some(by), why)?;
                    change.resume(stage.job_id)?;
                    Ok(Decided::Now(stage))
                }
            }
        })
    }

    /// Ends what nobody decided in time; how many. Writes nothing if there is none.
    pub fn expire_stages(&mut self, now_ms: i64) -> Result<usize> {
        self.change("could not end stage requests", now_ms, expire)
    }

    /// When the next pending request ends, milliseconds since 1970.
    pub fn next_stage_end(&self) -> Result<Option<i64>> {
        self.needs(SCHEMA, "stage requests")?;
        let read = || self.db.prepare_cached(NEXT_END)?.query_row((), |row| row.get(0));
        read().map_err(failed(&self.path, "could not read the stage requests"))
    }
}
