//! How many there are of each thing that somebody should look at: for the page and for metrics.
//!
//! Each number is counted inside an index, and none is kept beside the rows: what is counted can't drift from what is there.

use crate::connect::failed;
use crate::{Result, Severity, Store};

const JOB_STATES: [&str; 6] = ["queued", "leased", "waiting", "done", "failed", "cancelled"];
const FINDING_STATES: [&str; 3] = ["open", "expected", "gone"];

const JOBS: &str = "SELECT count(*) FROM jobs WHERE state = ?1";
const FINDINGS: &str = "SELECT count(*) FROM findings WHERE state = ?1";
const OPEN: &str = "SELECT count(*) FROM findings WHERE state = 'open' AND severity = ?1";
const PENDING: &str = "SELECT count(*) FROM stages WHERE state = 'pending'";
const DAMAGED: &str = "SELECT count(*) FROM artifacts WHERE state = 'damaged'";

/// The numbers; every state is there, also with 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Jobs by state.
    pub jobs: Vec<(&'static str, u64)>,
    /// Findings by state.
    pub findings: Vec<(&'static str, u64)>,
    /// Open findings by severity.
    pub open: Vec<(&'static str, u64)>,
    /// Stage requests that wait for a decision.
    pub stages_pending: u64,
    /// Artifacts that are not what was put.
    pub artifacts_damaged: u64,
}

impl Store {
    /// Counts. Errors: `store.not-in-schema` before schema 5.
    pub fn figures(&self) -> Result<Figures> {
        self.needs(5, "jobs and findings")?;
        let read = || -> rusqlite::Result<Figures> {
            let each = |sql, states: &[&'static str]| -> rusqlite::Result<Vec<(&'static str, u64)>> {
                let mut count = self.db.prepare_cached(sql)?;
                states.iter().map(|state| Ok((*state, count.query_row((state,), |row| row.get::<_, i64>(0))?.unsigned_abs()))).collect()
            };
            let one = |sql| self.db.prepare_cached(sql)?.query_row((), |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
            let mut open = self.db.prepare_cached(OPEN)?;
            let by_severity = |severity: &Severity| -> rusqlite::Result<(&'static str, u64)> {
                Ok((severity.as_str(), open.query_row((*severity as u8,), |row| row.get::<_, i64>(0))?.unsigned_abs()))
            };
            Ok(Figures {
                jobs: each(JOBS, &JOB_STATES)?,
                findings: each(FINDINGS, &FINDING_STATES)?,
                open: Severity::ALL.iter().map(by_severity).collect::<rusqlite::Result<_>>()?,
                stages_pending: one(PENDING)?,
                artifacts_damaged: one(DAMAGED)?,
            })
        };
        read().map_err(failed(&self.path, "could not count"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::{self, Direction};

    #[test]
    fn everything_is_counted_inside_an_index() {
        if crate::schema_own() < 5 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("smolotchi.db");
        migrate::run(&path, Direction::UpOnly, true).unwrap();
        let store = Store::open(&path).unwrap();
        let job = "INSERT INTO jobs (kind, input, state, created_ms, created_by, due_ms, max_attempts, changed_ms) VALUES ('run', '{}', ?1, 0, 'x', 0, 1, 0)";
        for state in ["queued", "done", "done"] {
            store.db.execute(job, (state,)).unwrap();
        }
        let finding = "INSERT INTO findings (profile, key, title, severity, state, first_run, last_run, first_ms, last_ms, times, profile_version, action, step, policy, detail)
            VALUES ('p', ?1, 't', ?2, ?3, 1, 1, 0, 0, 1, 1, 'a', 1, '{}', '{}')";
        for (key, severity, state) in [("a", 4, "open"), ("b", 3, "open"), ("c", 4, "gone"), ("d", 4, "open")] {
            store.db.execute(finding, (key, severity, state)).unwrap();
        }
        store
            .db
            .execute("INSERT INTO stages (run_id, job_id, step, action, risk, reason, requested_ms, expires_ms, state) VALUES (1, 1, 1, 'a', 'r', 'x', 0, 0, 'pending')", ())
            .unwrap();
        let figures = store.figures().unwrap();
        assert_eq!(figures.jobs, [("queued", 1), ("leased", 0), ("waiting", 0), ("done", 2), ("failed", 0), ("cancelled", 0)]);
        assert_eq!(figures.findings, [("open", 3), ("expected", 0), ("gone", 1)]);
        assert_eq!(figures.open, [("debug", 0), ("info", 0), ("notice", 0), ("warning", 1), ("error", 2)]);
        assert_eq!((figures.stages_pending, figures.artifacts_damaged), (1, 0));

        let plans = [
            (JOBS, "SEARCH jobs USING COVERING INDEX jobs_by_state (state=?)"),
            (FINDINGS, "SEARCH findings USING COVERING INDEX findings_by_state (state=?)"),
            (OPEN, "SEARCH findings USING COVERING INDEX findings_open (severity=?)"),
            (PENDING, "SCAN stages USING COVERING INDEX stages_pending"),
            (DAMAGED, "SCAN artifacts USING COVERING INDEX artifacts_damaged"),
        ];
        for (sql, expected) in plans {
            let mut explain = store.db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let parameters = if sql.contains("?1") { vec![0] } else { vec![] };
            let said: Vec<String> = explain
                .query_map(rusqlite::params_from_iter(parameters), |row| row.get(3))
                .unwrap()
                .collect::<rusqlite::Result<_>>()
                .unwrap();
            assert_eq!(said, [expected], "{sql}");
        }
    }
}
