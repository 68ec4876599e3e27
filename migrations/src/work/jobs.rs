//! The queue: a job is queued, leased to one worker, and then done, failed, waiting or queued again.
//!
//! Never with two workers at a time: the lease's row and the job's state change in one transaction.

use super::leases::{self, NewLease};
use super::{Change, Page, SCHEMA, stages, words};
use crate::connect::failed;
use crate::page::{Listed, PAGE_BYTES, within};
use crate::{Result, Severity, Store};
use rusqlite::{OptionalExtension, Row};
use serde_json::json;

words! {
    /// Where a job stands.
    JobState {
        /// To be done, once it is due.
        Queued = "queued",
        /// A worker holds it.
        Leased = "leased",
        /// It stopped at a stage request, and goes on when that is decided.
        Waiting = "waiting",
        /// Done, with a result.
        Done = "done",
        /// Given up, with an error.
        Failed = "failed",
        /// Taken back by an operator.
        Cancelled = "cancelled",
    }
}

words! {
    /// How a worker leaves a job.
    Outcome {
        /// Done.
        Done = "done",
        /// Failed; tried again if there are attempts left.
        Failed = "failed",
        /// Failed in a way that another try wouldn't mend.
        Refused = "refused",
        /// Stopped at a stage request.
        Waiting = "waiting",
    }
}

impl JobState {
    /// Whether nothing happens to it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, JobState::Done | JobState::Failed | JobState::Cancelled)
    }
}

/// The first pause after a failed attempt; each further one is twice as long.
const PAUSE_MS: i64 = 30_000;
/// The longest pause.
const PAUSE_MAX_MS: i64 = 3_600_000;

/// One job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Ascending, never used twice.
    pub id: i64,
    /// What is to be done.
    pub kind: String,
    /// The profile, for kinds that have one.
    pub profile: Option<String>,
    /// JSON text.
    pub input: String,
    /// Where it stands.
    pub state: JobState,
    /// Higher ones come first.
    pub priority: i64,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Who asked for it.
    pub created_by: String,
    /// Not before this moment.
    pub due_ms: i64,
    /// How often it was begun; a stop at a stage request doesn't count.
    pub attempts: u32,
    /// How often it may be begun.
    pub max_attempts: u32,
    /// When its state last changed. Of a leased one never before a decision that it follows, whatever the clock said.
    pub changed_ms: i64,
    /// JSON text.
    pub result: Option<String>,
    /// Why it failed the last time.
    pub error: Option<String>,
}

impl Listed for Job {
    fn id(&self) -> i64 {
        self.id
    }

    fn text_bytes(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.input.len() + self.created_by.len() + optional(&self.profile) + optional(&self.result) + optional(&self.error)
    }
}

/// A job to be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// What is to be done: 1 to 64 characters.
    pub kind: String,
    /// The profile, for kinds that have one.
    pub profile: Option<String>,
    /// JSON text.
    pub input: String,
    /// Higher ones come first.
    pub priority: i64,
    /// Who asks.
    pub created_by: String,
    /// Not before this moment.
    pub due_ms: i64,
    /// At least 1.
    pub max_attempts: u32,
}

/// Who wants a job, and of which kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantJob {
    /// Who; the name is given by the job.
    pub lease: NewLease,
    /// The kinds that it can do.
    pub kinds: Vec<String>,
}

/// What [`Store::lease_job`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leased {
    /// It is the caller's now.
    Job(Box<Job>),
    /// None is due; the next one is at this moment, if there is one.
    Nothing {
        /// Milliseconds since 1970.
        next_due_ms: Option<i64>,
    },
}

/// What became of a job that its worker left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// As it now stands.
    Job(Box<Job>),
    /// The token does not hold it: the lease was lost, the job cancelled.
    NotHeld,
}

pub(super) const COLUMNS: &str =
    "id, kind, profile, input, state, priority, created_ms, created_by, due_ms, attempts, max_attempts, changed_ms, result, error";
/// ?1 before, ?2 limit.
pub(crate) const LIST: &str =
    "SELECT id, kind, profile, input, state, priority, created_ms, created_by, due_ms, attempts, max_attempts, changed_ms, result, error
     FROM jobs WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
/// ?1 before, ?2 limit, ?3 state.
pub(crate) const LIST_STATE: &str =
    "SELECT id, kind, profile, input, state, priority, created_ms, created_by, due_ms, attempts, max_attempts, changed_ms, result, error
     FROM jobs WHERE state = ?3 AND id < ?1 ORDER BY id DESC LIMIT ?2";
/// The job to be done next: ?1 now, ?2 kinds as a JSON list. Due, or put off by a clock that has since gone back.
pub(crate) const NEXT: &str = "SELECT id FROM jobs INDEXED BY jobs_queued WHERE state = 'queued' AND (due_ms <= ?1 OR changed_ms > ?1)
     AND kind IN (SELECT value FROM json_each(?2)) ORDER BY priority DESC, id LIMIT 1";
/// When the next one is due: ?1 kinds as a JSON list.
pub(crate) const NEXT_DUE: &str =
    "SELECT min(due_ms) FROM jobs INDEXED BY jobs_queued WHERE state = 'queued' AND kind IN (SELECT value FROM json_each(?1))";

/// Whether one has not ended: ?1 kind, ?2 profile.
pub(crate) const OPEN: &str =
    "SELECT EXISTS (SELECT 1 FROM jobs WHERE state IN ('queued', 'leased', 'waiting') AND kind = ?1 AND profile = ?2)";
/// The last one: ?1 kind, ?2 profile, ?3 who asked for it. Looks back from the newest job.
pub(crate) const LAST: &str =
    "SELECT id, kind, profile, input, state, priority, created_ms, created_by, due_ms, attempts, max_attempts, changed_ms, result, error
     FROM jobs WHERE kind = ?1 AND profile = ?2 AND created_by = ?3 ORDER BY id DESC LIMIT 1";

pub(super) fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        id: row.get(0)?,
        kind: row.get(1)?,
        profile: row.get(2)?,
        input: row.get(3)?,
        state: row.get(4)?,
        priority: row.get(5)?,
        created_ms: row.get(6)?,
        created_by: row.get(7)?,
        due_ms: row.get(8)?,
        attempts: row.get(9)?,
        max_attempts: row.get(10)?,
        changed_ms: row.get(11)?,
        result: row.get(12)?,
        error: row.get(13)?,
    })
}

fn pause_ms(attempts: u32) -> i64 {
    PAUSE_MS.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(PAUSE_MAX_MS)
}

impl Change<'_> {
    pub(super) fn job(&self, id: i64) -> rusqlite::Result<Option<Job>> {
        self.tx.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1"))?.query_row((id,), job).optional()
    }

    /// Moves a job, keeps its lease and its stage requests in step, and tells of it.
    fn put(&mut self, mut job: Job, topic: &str, severity: Option<Severity>, by: Option<&str>) -> rusqlite::Result<Job> {
        job.changed_ms = self.now_ms;
        if job.state == JobState::Leased {
            // A clock that went back must not put the beginning of this attempt before a decision that it follows.
            let decided: Option<i64> = self.tx.prepare_cached(stages::LAST_DECIDED)?.query_row((job.id,), |row| row.get(0))?;
            job.changed_ms = decided.map_or(self.now_ms, |decided| self.now_ms.max(decided.saturating_add(1)));
        } else {
            self.tx.prepare_cached("DELETE FROM leases WHERE name = ?1")?.execute((leases::of_job(job.id),))?;
        }
        self.tx
            .prepare_cached(
                "UPDATE jobs SET state = ?2, due_ms = ?3, attempts = ?4, changed_ms = ?5, result = ?6, error = ?7 WHERE id = ?1",
            )?
            .execute((job.id, job.state, job.due_ms, job.attempts, job.changed_ms, &job.result, &job.error))?;
        let mut body = json!({ "job": job.id, "kind": job.kind, "profile": job.profile, "attempt": job.attempts });
        if let Some(error) = &job.error {
            body["error"] = json!(error);
        }
        if let Some(by) = by {
            body["by"] = json!(by);
        }
        self.tell(topic, severity, body);
        if job.state.is_final() {
            stages::expire_of_job(self, job.id)?;
        }
        Ok(job)
    }

    /// After a failure: again after a pause, or given up.
    fn put_again_or_fail(&mut self, mut job: Job, topic: &str, error: String) -> rusqlite::Result<Job> {
        job.error = Some(error);
        if job.attempts < job.max_attempts {
            job.state = JobState::Queued;
            job.due_ms = self.now_ms.saturating_add(pause_ms(job.attempts));
            self.put(job, topic, Some(Severity::Warning), None)
        } else {
            job.state = JobState::Failed;
            self.put(job, "job.failed", None, None)
        }
    }

    /// Lets a waiting job go on.
    pub(super) fn resume(&mut self, id: i64) -> rusqlite::Result<()> {
        if let Some(mut job) = self.job(id)?.filter(|job| job.state == JobState::Waiting) {
            job.state = JobState::Queued;
            job.due_ms = self.now_ms;
            self.put(job, "job.resumed", None, None)?;
        }
        Ok(())
    }
}

impl Store {
    /// Whether a job was made in a time, its ends included. Looks through the jobs; asked once a day at most.
    pub(crate) fn has_job(&self, from_ms: i64, to_ms: i64) -> Result<bool> {
        if self.schema < SCHEMA {
            return Ok(false);
        }
        let read = || self.db.prepare_cached("SELECT 1 FROM jobs WHERE created_ms BETWEEN ?1 AND ?2")?.exists((from_ms, to_ms));
        read().map_err(failed(&self.path, "could not read the jobs' times"))
    }

    /// Queues a job, durably. Errors: `store.not-in-schema`, `io.disk-full`, `store.failed`.
    pub fn add_job(&mut self, new: &NewJob, now_ms: i64) -> Result<Job> {
        self.change("could not queue the job", now_ms, |change| {
            let sql = format!(
                "INSERT INTO jobs (kind, profile, input, state, priority, created_ms, created_by, due_ms, max_attempts, changed_ms)
                 VALUES (?1, ?2, ?3, 'queued', ?4, ?5, ?6, ?7, ?8, ?5) RETURNING {COLUMNS}"
            );
            let values = (&new.kind, &new.profile, &new.input, new.priority, now_ms, &new.created_by, new.due_ms, new.max_attempts);
            let job = change.tx.prepare_cached(&sql)?.query_row(values, job)?;
            let body = json!({ "job": job.id, "kind": job.kind, "profile": job.profile, "by": job.created_by });
            change.tell("job.added", None, body);
            Ok(job)
        })
    }

    /// One job.
    pub fn job(&self, id: i64) -> Result<Option<Job>> {
        self.needs(SCHEMA, "jobs")?;
        let read = || self.db.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1"))?.query_row((id,), job).optional();
        read().map_err(failed(&self.path, "could not read the job"))
    }

    /// Jobs, newest first, as many as a page takes.
    pub fn jobs(&self, state: Option<JobState>, page: Page) -> Result<Vec<Job>> {
        self.needs(SCHEMA, "jobs")?;
        let read = || -> rusqlite::Result<Vec<Job>> {
            match state {
                Some(state) => within(self.db.prepare_cached(LIST_STATE)?.query_map((page.before(), page.limit, state), job)?, PAGE_BYTES),
                None => within(self.db.prepare_cached(LIST)?.query_map((page.before(), page.limit), job)?, PAGE_BYTES),
            }
        };
        read().map_err(failed(&self.path, "could not read the jobs"))
    }

    /// Whether a job of this kind and profile has not ended.
    pub fn has_open_job(&self, kind: &str, profile: &str) -> Result<bool> {
        self.needs(SCHEMA, "jobs")?;
        let read = || self.db.prepare_cached(OPEN)?.query_row((kind, profile), |row| row.get(0));
        read().map_err(failed(&self.path, "could not read the jobs"))
    }

    /// The last job of this kind and profile that `by` asked for.
    pub fn last_job(&self, kind: &str, profile: &str, by: &str) -> Result<Option<Job>> {
        self.needs(SCHEMA, "jobs")?;
        let read = || self.db.prepare_cached(LAST)?.query_row((kind, profile, by), job).optional();
        read().map_err(failed(&self.path, "could not read the jobs"))
    }

    /// Gives the next due job to a worker: the highest priority, then the oldest. Stage requests whose time is over are
    /// ended first. Writes nothing if there is no job.
    pub fn lease_job(&mut self, want: &WantJob, now_ms: i64) -> Result<Leased> {
        let kinds = json!(want.kinds).to_string();
        self.change("could not lease a job", now_ms, |change| {
            stages::expire(change)?;
            let next = change.tx.prepare_cached(NEXT)?.query_row((now_ms, &kinds), |row| row.get(0)).optional()?;
            let Some(mut job) = next.map_or(Ok(None), |id| change.job(id))? else {
                let next_due_ms = change.tx.prepare_cached(NEXT_DUE)?.query_row((&kinds,), |row| row.get(0))?;
                return Ok(Leased::Nothing { next_due_ms });
            };
            job.state = JobState::Leased;
            job.attempts += 1;
            let lease = NewLease { name: leases::of_job(job.id), ..want.lease.clone() };
            leases::insert(&change.tx, &lease, now_ms)?;
            let by = format!("{} ({})", lease.owner.role, lease.owner.pid);
            change.put(job, "job.leased", None, Some(&by)).map(|job| Leased::Job(Box::new(job)))
        })
    }

    /// A worker leaves a job that it holds.
    pub fn finish_job(
        &mut self,
        id: i64,
        token: &str,
        outcome: Outcome,
        result: Option<String>,
        error: Option<String>,
        now_ms: i64,
    ) -> Result<Finished> {
        self.change("could not finish the job", now_ms, |change| {
            let held = leases::find(&change.tx, &leases::of_job(id))?.is_some_and(|lease| lease.token == token);
            let Some(mut job) = change.job(id)?.filter(|job| held && job.state == JobState::Leased) else { return Ok(Finished::NotHeld) };
            let reason = error.unwrap_or_else(|| "the worker gave no reason".to_owned());
            let begun_ms = job.changed_ms;
            job.result = result;
            let job = match outcome {
                Outcome::Done => {
                    (job.state, job.error) = (JobState::Done, None);
                    change.put(job, "job.done", None, None)
                }
                Outcome::Failed => change.put_again_or_fail(job, "job.retried", reason),
                Outcome::Refused => {
                    (job.state, job.error) = (JobState::Failed, Some(reason));
                    change.put(job, "job.failed", None, None)
                }
                Outcome::Waiting if stages::is_pending(change, id)? => {
                    job.state = JobState::Waiting;
                    job.attempts -= 1;
                    change.put(job, "job.waiting", None, None)
                }
                // Decided while the worker was on its way here.
                Outcome::Waiting if stages::decided_since(change, id, begun_ms)? => {
                    (job.state, job.due_ms) = (JobState::Queued, now_ms);
                    job.attempts -= 1;
                    change.put(job, "job.resumed", None, None)
                }
                Outcome::Waiting => {
                    change.put_again_or_fail(job, "job.retried", "it waits, but no stage request of it is pending".to_owned())
                }
            };
            job.map(|job| Finished::Job(Box::new(job)))
        })
    }

    /// Takes a job back that has not ended; `None` if there is none. The worker that holds it learns it when it renews.
    pub fn cancel_job(&mut self, id: i64, by: &str, now_ms: i64) -> Result<Option<Job>> {
        self.change("could not cancel the job", now_ms, |change| match change.job(id)? {
            Some(mut job) if !job.state.is_final() => {
                job.state = JobState::Cancelled;
                change.put(job, "job.cancelled", Some(Severity::Notice), Some(by)).map(Some)
            }
            _ => Ok(None),
        })
    }

    /// Takes a job back that its worker never heard of: it was not begun. False if that token does not hold it.
    pub fn give_back_job(&mut self, id: i64, token: &str, now_ms: i64) -> Result<bool> {
        self.change("could not take the job back", now_ms, |change| {
            let held = leases::find(&change.tx, &leases::of_job(id))?.is_some_and(|lease| lease.token == token);
            let Some(mut job) = change.job(id)?.filter(|job| held && job.state == JobState::Leased) else { return Ok(false) };
            (job.state, job.due_ms) = (JobState::Queued, now_ms);
            job.attempts -= 1;
            change.put(job, "job.resumed", None, None).map(|_| true)
        })
    }

    /// Takes a job from a worker that is gone: queued again after a pause, or given up. False if that token does not hold it.
    pub fn lose_job(&mut self, id: i64, token: &str, why: &str, now_ms: i64) -> Result<bool> {
        self.change("could not take the job back", now_ms, |change| {
            let held = leases::find(&change.tx, &leases::of_job(id))?.is_some_and(|lease| lease.token == token);
            let Some(job) = change.job(id)?.filter(|job| held && job.state == JobState::Leased) else { return Ok(false) };
            change.put_again_or_fail(job, "job.lost", format!("its worker was lost: {why}")).map(|_| true)
        })
    }

    /// The jobs that have ended so long ago that a policy does not keep them, oldest first: those before the first that was
    /// made later, by a time that has come: what a clock ahead made keeps no others. Never one whose run belongs to a baseline.
    pub fn plan_jobs(&self, max_age_days: Option<u32>, now_ms: i64) -> Result<Vec<i64>> {
        self.needs(SCHEMA + 1, "jobs")?;
        let Some(days) = max_age_days else { return Ok(Vec::new()) };
        let since = now_ms.saturating_sub(i64::from(days).saturating_mul(24 * 60 * 60 * 1000));
        let plan = || -> rusqlite::Result<Vec<i64>> {
            let mut query = self.db.prepare_cached("SELECT id, state, created_ms, changed_ms FROM jobs ORDER BY id")?;
            let mut kept = self.db.prepare_cached(OF_BASELINE)?;
            let mut rows = query.query(())?;
            let mut plan = Vec::new();
            while let Some(row) = rows.next()? {
                let (id, state): (i64, JobState) = (row.get(0)?, row.get(1)?);
                let (created_ms, changed_ms): (i64, i64) = (row.get(2)?, row.get(3)?);
                if (since..=now_ms).contains(&created_ms) {
                    break;
                }
                if state.is_final() && changed_ms < since && !kept.query_row((id,), |row| row.get::<_, bool>(0))? {
                    plan.push(id);
                }
            }
            Ok(plan)
        };
        plan().map_err(failed(&self.path, "could not plan what jobs go"))
    }

    /// Forgets jobs that have ended; how many. All others stay.
    pub fn remove_jobs(&mut self, ids: &[i64], now_ms: i64) -> Result<u64> {
        self.change("could not remove the jobs", now_ms, |change| {
            let mut remove = change.tx.prepare_cached("DELETE FROM jobs WHERE id = ?1 AND state IN ('done', 'failed', 'cancelled')")?;
            ids.iter().try_fold(0, |count, id| Ok(count + remove.execute((id,))? as u64))
        })
    }
}

/// ?1 job.
pub(crate) const OF_BASELINE: &str = "SELECT EXISTS (SELECT 1 FROM runs JOIN baselines ON baselines.run_id = runs.id
     WHERE runs.job_id = ?1 AND baselines.id = (SELECT max(id) FROM baselines AS newer WHERE newer.profile = baselines.profile))";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour() {
        let pauses: Vec<_> = (0..=9).map(|attempts| pause_ms(attempts) / 1000).collect();
        assert_eq!(pauses, [30, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(pause_ms(u32::MAX), PAUSE_MAX_MS);
    }
}
