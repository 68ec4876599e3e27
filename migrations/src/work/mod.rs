//! Jobs, leases, artifacts and stage requests: what the ai worker does, who holds it, what came out, what waits for a word.
//!
//! Every change of a job or a stage request is committed together with the event that tells of it.

mod artifacts;
mod jobs;
mod leases;
mod old;
pub(crate) mod search;
mod stages;

pub use artifacts::{Artifact, ArtifactFilter, ArtifactState, NewArtifact, OldArtifact, Removal};
pub use jobs::{Finished, Job, JobState, Leased, NewJob, Outcome, WantJob};
pub use leases::{Lease, NewLease, Process};
pub use old::{OldRows, WorkPolicy};
pub use stages::{Decided, NewStage, Stage, StageState};

use crate::connect::failed;
use crate::store::insert_events;
use crate::{NewEvent, Result, Severity, Store};
use rusqlite::{Transaction, TransactionBehavior};
use serde_json::Value;

/// The first schema with these tables.
const SCHEMA: u32 = 4;

/// Words that the database, the API and the command line share.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> std::result::Result<Self, ()> {
                match text { $($text => Ok($name::$variant),)* _ => Err(()) }
            }
        }

        impl rusqlite::ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
                Ok(self.as_str().into())
            }
        }

        impl rusqlite::types::FromSql for $name {
            fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
                value.as_str()?.parse().map_err(|()| rusqlite::types::FromSqlError::InvalidType)
            }
        }
    };
}
use words;

/// One transaction under way, and the events that are committed with it.
pub(crate) struct Change<'a> {
    tx: Transaction<'a>,
    events: Vec<NewEvent>,
    now_ms: i64,
    /// Everything is taken back: it was only a look.
    undone: bool,
}

impl Change<'_> {
    /// Tells of it; `None` leaves the severity to the rules of migration 2.
    fn tell(&mut self, topic: &str, severity: Option<Severity>, body: Value) {
        self.events.push(NewEvent { topic: topic.to_owned(), severity, body: body.to_string() });
    }
}

impl Store {
    /// Runs `work` in one transaction and commits it with the events that it told. Nothing is written if nothing changed.
    pub(crate) fn change<T>(
        &mut self,
        what: &'static str,
        now_ms: i64,
        work: impl FnOnce(&mut Change<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        self.needs(SCHEMA, "jobs")?;
        let how = self.appending();
        let run = |store: &mut Store| -> rusqlite::Result<T> {
            let tx = store.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut change = Change { tx, events: Vec::new(), now_ms, undone: false };
            let done = work(&mut change)?;
            let Change { tx, events, undone, .. } = change;
            if undone {
                return tx.rollback().map(|()| done);
            }
            insert_events(&tx, how, &events, now_ms)?;
            tx.commit().map(|()| done)
        };
        let done = run(self);
        done.map_err(failed(&self.path, what))
    }
}

/// A page of a list, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Only those with a smaller id.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

impl Page {
    fn before(self) -> i64 {
        self.before.unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ladder::LADDER;
    use rusqlite::types::Value;
    use rusqlite::{Connection, StatementStatus};

    const ROWS: i64 = 2000;

    fn filled() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        for migration in LADDER {
            db.execute_batch(migration.up).unwrap();
        }
        db.execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
             INSERT INTO artifacts (kind, name, media, sha256, bytes, created_ms, job_id, run_id, state)
                 SELECT 'k' || i % 9, 'n', 'm', printf('%064d', i % 1500), 1, i, i % 100, i % 50, iif(i % 400 = 0, 'damaged', 'whole') FROM n;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
             INSERT INTO jobs (kind, input, state, priority, created_ms, created_by, due_ms, max_attempts, changed_ms)
                 SELECT 'run', '{}', iif(i % 100 = 0, 'queued', 'done'), i % 3, i, 'x', i, 1, i FROM n;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
             INSERT INTO stages (run_id, job_id, step, action, risk, reason, requested_ms, expires_ms, state, decided_ms)
                 SELECT i, i, 1, 'a', 'r', 'x', i, i, iif(i % 500 = 0, 'pending', 'denied'), i FROM n;
             INSERT INTO leases VALUES ('job/1', 'ai', 1, 1, 'b', 't', 0, 0);",
        )
        .unwrap();
        db
    }

    /// As the test of the same name for events: each statement names its plan and how many rows it may step over.
    #[test]
    fn hot_queries_read_no_more_than_they_return() {
        if crate::schema_own() < 5 {
            return;
        }
        let db = filled();
        let number = Value::Integer;
        let text = |text: &str| Value::Text(text.to_owned());
        let page = Page { before: Some(1000), limit: 10 };
        let listed = |filter: ArtifactFilter| artifacts::list(&filter, page).0;
        let any = ArtifactFilter::default;
        let page_of = |first: Vec<Value>| [first, vec![number(1000), number(10)]].concat();
        let check = format!("SELECT id {}", artifacts::TO_CHECK);
        let table: Vec<(String, Vec<Value>, Vec<&str>, i32)> = vec![
            (jobs::LIST.into(), page_of(vec![]), vec!["SEARCH jobs USING INTEGER PRIMARY KEY (rowid<?)"], 10),
            (
                jobs::LIST_STATE.into(),
                vec![number(ROWS), number(10), text("queued")],
                vec!["SEARCH jobs USING INDEX jobs_by_state (state=? AND id<?)"],
                10,
            ),
            (
                jobs::NEXT.into(),
                vec![number(ROWS), text("[\"run\"]")],
                vec![
                    "SCAN jobs USING INDEX jobs_queued",
                    "LIST SUBQUERY 1",
                    "SCAN json_each VIRTUAL TABLE INDEX 1:",
                    "CREATE BLOOM FILTER",
                ],
                3,
            ),
            (
                jobs::NEXT_DUE.into(),
                vec![text("[\"run\"]")],
                vec![
                    "SEARCH jobs USING INDEX jobs_queued",
                    "LIST SUBQUERY 1",
                    "SCAN json_each VIRTUAL TABLE INDEX 1:",
                    "CREATE BLOOM FILTER",
                ],
                22,
            ),
            (
                jobs::OF_BASELINE.into(),
                vec![number(1)],
                vec![
                    "SCAN CONSTANT ROW",
                    "SCALAR SUBQUERY 2",
                    // One row for each baseline that was ever set, by hand.
                    "SCAN baselines",
                    "CORRELATED SCALAR SUBQUERY 1",
                    "SEARCH newer USING COVERING INDEX baselines_by_profile (profile=?)",
                    "SEARCH runs USING COVERING INDEX runs_by_job (job_id=? AND rowid=?)",
                ],
                0,
            ),
            (
                jobs::OPEN.into(),
                vec![text("run"), text("night")],
                vec!["SCAN CONSTANT ROW", "SCALAR SUBQUERY 1", "SEARCH jobs USING INDEX jobs_by_state (state=?)"],
                20,
            ),
            // Finds it at once, or looks at all that are kept: once an hour.
            (jobs::LAST.into(), vec![text("run"), text("night"), text("schedule")], vec!["SCAN jobs"], ROWS as i32),
            (leases::FIND.into(), vec![text("job/1")], vec!["SEARCH leases USING PRIMARY KEY (name=?)"], 0),
            (stages::LIST.into(), page_of(vec![]), vec!["SEARCH stages USING INTEGER PRIMARY KEY (rowid<?)"], 10),
            (stages::LIST_PENDING.into(), page_of(vec![]), vec!["SEARCH stages USING INDEX stages_pending (id<?)"], 10),
            (stages::OVER.into(), vec![number(ROWS)], vec!["SCAN stages USING INDEX stages_pending"], 4),
            (stages::NEXT_END.into(), vec![], vec!["SEARCH stages USING INDEX stages_pending"], 4),
            (stages::PENDING_OF_JOB.into(), vec![number(500)], vec!["SEARCH stages USING INDEX stages_by_job (job_id=?)"], 1),
            (
                stages::DECIDED_SINCE.into(),
                vec![number(500), number(1)],
                vec!["SCAN CONSTANT ROW", "SCALAR SUBQUERY 1", "SEARCH stages USING INDEX stages_by_job (job_id=?)"],
                1,
            ),
            (stages::LAST_DECIDED.into(), vec![number(500)], vec!["SEARCH stages USING INDEX stages_by_job (job_id=?)"], 1),
            (listed(any()), page_of(vec![]), vec!["SEARCH artifacts USING INTEGER PRIMARY KEY (rowid<?)"], 10),
            (
                listed(ArtifactFilter { kind: Some("k1".into()), ..any() }),
                page_of(vec![text("k1")]),
                vec!["SEARCH artifacts USING INDEX artifacts_by_kind (kind=? AND id<?)"],
                10,
            ),
            (
                listed(ArtifactFilter { job: Some(7), ..any() }),
                page_of(vec![number(7)]),
                vec!["SEARCH artifacts USING INDEX artifacts_by_job (job_id=? AND id<?)"],
                10,
            ),
            (
                listed(ArtifactFilter { run: Some(7), ..any() }),
                page_of(vec![number(7)]),
                vec!["SEARCH artifacts USING INDEX artifacts_by_run (run_id=? AND id<?)"],
                10,
            ),
            (
                listed(ArtifactFilter { sha256: Some("0".into()), ..any() }),
                page_of(vec![text("0")]),
                vec!["SEARCH artifacts USING INDEX artifacts_by_sha256 (sha256=? AND rowid<?)"],
                10,
            ),
            (
                listed(ArtifactFilter { state: Some(ArtifactState::Damaged), ..any() }),
                page_of(vec![]),
                vec!["SEARCH artifacts USING INDEX artifacts_damaged (id<?)"],
                10,
            ),
            (
                format!("SELECT {} FROM jobs {}", jobs::COLUMNS, search::JOBS),
                vec![number(1990), number(ROWS), number(10), text("%rare%"), text("failed")],
                vec!["SEARCH jobs USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"],
                0,
            ),
            (
                format!("SELECT {} FROM artifacts {}", artifacts::COLUMNS, search::ARTIFACTS),
                [number(1990), number(ROWS), number(10), text("%rare%")].into_iter().chain(vec![Value::Null; 5]).collect(),
                vec!["SEARCH artifacts USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"],
                0,
            ),
            (
                artifacts::KNOWN.into(),
                vec![text("0")],
                vec!["SCAN CONSTANT ROW", "SCALAR SUBQUERY 1", "SEARCH artifacts USING COVERING INDEX artifacts_by_sha256 (sha256=?)"],
                0,
            ),
            (
                check,
                vec![number(1990), number(10)],
                vec![
                    "SEARCH this USING INTEGER PRIMARY KEY (rowid>?)",
                    "CORRELATED SCALAR SUBQUERY 1",
                    "SEARCH other USING INDEX artifacts_by_sha256 (sha256=? AND rowid<?)",
                ],
                20,
            ),
            (artifacts::EVIDENCE.into(), vec![], vec!["SEARCH findings USING INDEX findings_by_state (state=?)"], 0),
        ];
        let mut wrong = Vec::new();
        for (sql, parameters, plan, most) in table {
            let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let said: Vec<String> = explain
                .query_map(rusqlite::params_from_iter(parameters.clone()), |row| row.get(3))
                .unwrap()
                .collect::<rusqlite::Result<_>>()
                .unwrap();
            if said != plan {
                wrong.push(format!("{sql}\n  {said:?}"));
            }
            let mut run = db.prepare(&sql).unwrap();
            let mut rows = run.query(rusqlite::params_from_iter(parameters)).unwrap();
            while rows.next().unwrap().is_some() {}
            drop(rows);
            let steps = run.get_status(StatementStatus::FullscanStep);
            if steps > most {
                wrong.push(format!("{sql}\n  {steps} rows stepped over, {most} allowed"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
