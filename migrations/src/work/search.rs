//! Jobs and artifacts with some letters in their words, newest first. No index finds letters, so a call looks at a stretch of ids and says where
//! to go on: who searches never holds core up for long. Only reads.

use super::artifacts::{self, Artifact, ArtifactFilter};
use super::jobs::{self, Job, JobState};
use super::{Page, SCHEMA};
use crate::connect::failed;
use crate::page::{Listed, PAGE_BYTES, next, within};
use crate::{Result, Store};
use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};

/// How many ids one call looks at.
const STRETCH: i64 = 10_000;

/// For LIKE with `ESCAPE '\\'`: whatever holds these letters.
pub(crate) fn containing(letters: &str) -> String {
    format!("%{}%", letters.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"))
}

/// ?1 the least id, ?2 before, ?3 limit, ?4 letters, ?5 state or NULL.
pub(crate) const JOBS: &str = "WHERE id >= ?1 AND id < ?2 AND (?5 IS NULL OR +state = ?5) AND (kind LIKE ?4 ESCAPE '\\'
     OR profile LIKE ?4 ESCAPE '\\' OR created_by LIKE ?4 ESCAPE '\\' OR error LIKE ?4 ESCAPE '\\') ORDER BY id DESC LIMIT ?3";
/// ?1 to ?5 as for jobs, ?6 kind, ?7 job, ?8 run, ?9 sha256, each or NULL.
pub(crate) const ARTIFACTS: &str = "WHERE id >= ?1 AND id < ?2 AND (?5 IS NULL OR +state = ?5) AND (?6 IS NULL OR +kind = ?6)
     AND (?7 IS NULL OR +job_id = ?7) AND (?8 IS NULL OR +run_id = ?8) AND (?9 IS NULL OR +sha256 = ?9)
     AND (name LIKE ?4 ESCAPE '\\' OR kind LIKE ?4 ESCAPE '\\' OR media LIKE ?4 ESCAPE '\\') ORDER BY id DESC LIMIT ?3";

impl Store {
    /// Jobs with these letters, whatever their case, in kind, profile, error, or the name of who asked (all jobs without letters); and where to go
    /// on, also if none was found so far.
    pub fn search_jobs(&self, letters: Option<&str>, state: Option<JobState>, page: Page) -> Result<(Vec<Job>, Option<i64>)> {
        let Some(letters) = letters else { return self.jobs(state, page).map(|jobs| listed(jobs, page)) };
        let more = [text(state.map(JobState::as_str))];
        self.search("jobs", &format!("SELECT {} FROM jobs {JOBS}", jobs::COLUMNS), letters, page, more.into(), jobs::job)
    }

    /// The same for artifacts: in name, kind and media type.
    pub fn search_artifacts(&self, letters: Option<&str>, filter: &ArtifactFilter, page: Page) -> Result<(Vec<Artifact>, Option<i64>)> {
        let Some(letters) = letters else { return self.artifacts(filter, page).map(|artifacts| listed(artifacts, page)) };
        let ArtifactFilter { kind, job, run, sha256, state } = filter;
        let more = [
            text(state.map(super::ArtifactState::as_str)),
            text(kind.as_deref()),
            Value::from(*job),
            Value::from(*run),
            text(sha256.as_deref()),
        ];
        let sql = format!("SELECT {} FROM artifacts {ARTIFACTS}", artifacts::COLUMNS);
        self.search("artifacts", &sql, letters, page, more.into(), artifacts::artifact)
    }

    fn search<T: Listed>(
        &self,
        table: &'static str,
        sql: &str,
        letters: &str,
        page: Page,
        more: Vec<Value>,
        row: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<(Vec<T>, Option<i64>)> {
        self.needs(SCHEMA, table)?;
        let read = || -> rusqlite::Result<(Vec<T>, Option<i64>)> {
            let newest = |before: i64| -> rusqlite::Result<Option<i64>> {
                self.db.prepare_cached(&format!("SELECT max(id) FROM {table} WHERE id < ?1"))?.query_row((before,), |row| row.get(0))
            };
            let Some(high) = newest(page.before())? else { return Ok((Vec::new(), None)) };
            let least = high.saturating_sub(STRETCH - 1);
            let mut values = vec![least.into(), (high + 1).into(), page.limit.into(), containing(letters).into()];
            values.extend(more);
            let found = within(self.db.prepare_cached(sql)?.query_map(params_from_iter(values), row)?, PAGE_BYTES)?;
            let on = match next(&found, page.limit) {
                Some(next) => Some(next),
                None => newest(least)?.map(|older| older + 1),
            };
            Ok((found, on))
        };
        read().map_err(failed(&self.path, "could not search"))
    }
}

/// A page that was not searched, and where it goes on.
fn listed<T: Listed>(rows: Vec<T>, page: Page) -> (Vec<T>, Option<i64>) {
    let on = next(&rows, page.limit);
    (rows, on)
}

fn text(text: Option<&str>) -> Value {
    text.map_or(Value::Null, |text| text.to_owned().into())
}
