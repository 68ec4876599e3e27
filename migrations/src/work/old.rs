//! Which rows of the work a policy does not keep, and removing them. What is named once is then removed just so, but for what
//! something has come to need meanwhile.
//!
//! Old is what lies before the first run that is young enough, by a time that has come: a row with the time of a clock that was never set is as
//! old as its neighbours. Never goes what a job that has not ended, a pending stage request, an open or expected finding or the
//! newest baseline of a profile needs, nor the last run that a baseline could be taken from.

use super::SCHEMA;
use crate::connect::failed;
use crate::{Reason, Result, Store};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What of the work may stay. `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkPolicy {
    /// The age in days, from their end, from which jobs go, and with them runs, stage requests that nobody decided, findings and older baselines.
    pub job_days: Option<u32>,
    /// The age in days from which artifacts go.
    pub artifact_days: Option<u32>,
    /// The bytes that artifacts may take.
    pub artifact_bytes: Option<u64>,
}

/// Rows of one kind that go for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldRows {
    /// What they are: `artifacts`, `findings`, `stages`, `baselines`, `runs` or `jobs`.
    pub kind: &'static str,
    /// Which, oldest first.
    pub ids: Vec<i64>,
    /// What their removal frees on the disk; of rows that lie in the database 0.
    pub bytes: u64,
    /// Why they go.
    pub reason: Reason,
}

/// A table whose rows go by age.
struct Kind {
    name: &'static str,
    /// By time alone: ?1 since when something is young, ?2 now. `first_young` is the first young run.
    old: &'static str,
    /// Nothing needs it.
    free: &'static str,
}

/// The job of a row has ended, or is gone.
macro_rules! job_is_over {
    () => {
        "NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = this.job_id AND jobs.state IN ('queued', 'leased', 'waiting'))"
    };
}

/// In the order in which they are removed: none of these plans needs another's removal.
const KINDS: [Kind; 4] = [
    Kind { name: "findings", old: "last_ms < ?1 AND last_run < first_young.id", free: "state = 'gone'" },
    Kind {
        name: "stages",
        old: "max(requested_ms, coalesce(decided_ms, requested_ms)) < ?1 AND run_id < first_young.id",
        // What somebody decided is kept for good: it is little, and the only word for it once its event was pruned.
        free: concat!("state = 'expired' AND ", job_is_over!()),
    },
    Kind {
        name: "baselines",
        old: "made_ms < ?1 AND run_id < first_young.id",
        free: "EXISTS (SELECT 1 FROM baselines AS newer WHERE newer.profile = this.profile AND newer.id > this.id)",
    },
    Kind {
        name: "runs",
        old: "max(started_ms, coalesce(ended_ms, started_ms)) < ?1 AND this.id < first_young.id",
        free: concat!(
            job_is_over!(),
            " AND this.id NOT IN (SELECT run_id FROM stages WHERE state = 'pending')
             AND this.id NOT IN (SELECT run_id FROM (SELECT run_id, max(id) FROM baselines GROUP BY profile))
             AND this.id NOT IN (SELECT last_run FROM findings WHERE state IN ('open', 'expected'))
             AND this.id NOT IN (SELECT max(id) FROM runs WHERE state = 'done' GROUP BY profile)"
        ),
    },
];

impl Store {
    /// What the policy does not keep, in the order in which it is to be removed. Writes nothing. Errors: `store.not-in-schema`.
    pub fn plan_work(&self, policy: &WorkPolicy, now_ms: i64) -> Result<Vec<OldRows>> {
        let artifacts = self.plan_artifacts(policy.artifact_days, policy.artifact_bytes, now_ms)?;
        let mut plan = Vec::new();
        for reason in [Reason::Age, Reason::Bytes] {
            let ones = || artifacts.iter().filter(|one| one.reason == reason);
            plan.push(OldRows {
                kind: "artifacts",
                ids: ones().map(|one| one.id).collect(),
                bytes: ones().map(|one| one.bytes).sum(),
                reason,
            });
        }
        if let Some(days) = policy.job_days {
            let since = now_ms.saturating_sub(i64::from(days).saturating_mul(DAY_MS));
            for Kind { name, old, free } in &KINDS {
                let sql = format!(
                    "SELECT this.id FROM (SELECT coalesce(min(id), 9223372036854775807) AS id FROM runs WHERE started_ms BETWEEN ?1 AND ?2) AS first_young
                     CROSS JOIN {name} AS this WHERE {old} AND {free} ORDER BY this.id"
                );
                let read =
                    || -> rusqlite::Result<Vec<i64>> { self.db.prepare(&sql)?.query_map((since, now_ms), |row| row.get(0))?.collect() };
                let ids = read().map_err(failed(&self.path, "could not plan what goes of the work"))?;
                plan.push(OldRows { kind: name, ids, bytes: 0, reason: Reason::Age });
            }
        }
        plan.push(OldRows { kind: "jobs", ids: self.plan_jobs(policy.job_days, now_ms)?, bytes: 0, reason: Reason::Age });
        plan.retain(|part| !part.ids.is_empty());
        Ok(plan)
    }

    /// Removes rows of a kind that [`Store::plan_work`] named, but for artifacts, which have content; how many. What something
    /// needs by now stays.
    pub fn remove_rows(&mut self, kind: &str, ids: &[i64], now_ms: i64) -> Result<u64> {
        if kind == "jobs" {
            return self.remove_jobs(ids, now_ms);
        }
        self.needs(SCHEMA + 1, "runs")?;
        let Some(Kind { name, free, .. }) = KINDS.iter().find(|one| one.name == kind) else { return Ok(0) };
        self.change("could not remove what is old", now_ms, |change| {
            let mut remove = change.tx.prepare_cached(&format!("DELETE FROM {name} AS this WHERE id = ?1 AND {free}"))?;
            ids.iter().try_fold(0, |count, id| Ok(count + remove.execute((id,))? as u64))
        })
    }
}
