//! What is known of artifacts. Their content lies on the disk, which is not this crate's.

use super::{Page, SCHEMA, words};
use crate::connect::failed;
use crate::{Result, Severity, Store};
use rusqlite::{OptionalExtension, Row, ToSql};
use serde_json::json;

words! {
    /// Whether an artifact's content is what was put.
    ArtifactState {
        /// As far as known.
        Whole = "whole",
        /// Not what was put; set aside, and never served.
        Damaged = "damaged",
    }
}

/// One artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Ascending, never used twice.
    pub id: i64,
    /// What it is.
    pub kind: String,
    /// A file name.
    pub name: String,
    /// A media type.
    pub media: String,
    /// Of the content, in hexadecimal.
    pub sha256: String,
    /// Of the content.
    pub bytes: u64,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// The job that made it.
    pub job_id: Option<i64>,
    /// The run that made it.
    pub run_id: Option<i64>,
    /// Whether its content is what was put.
    pub state: ArtifactState,
    /// What was found wrong.
    pub fault: Option<String>,
    /// When its content was last read and compared, milliseconds since 1970.
    pub checked_ms: Option<i64>,
}

/// An artifact whose content is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in Artifact")]
pub struct NewArtifact {
    pub kind: String,
    pub name: String,
    pub media: String,
    pub sha256: String,
    pub bytes: u64,
    pub job_id: Option<i64>,
    pub run_id: Option<i64>,
}

/// Which artifacts; `None` is any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "as in Artifact")]
pub struct ArtifactFilter {
    pub kind: Option<String>,
    pub job: Option<i64>,
    pub run: Option<i64>,
    pub sha256: Option<String>,
    pub state: Option<ArtifactState>,
}

const COLUMNS: &str = "id, kind, name, media, sha256, bytes, created_ms, job_id, run_id, state, fault, checked_ms";

fn artifact(row: &Row<'_>) -> rusqlite::Result<Artifact> {
    Ok(Artifact {
        id: row.get(0)?,
        kind: row.get(1)?,
        name: row.get(2)?,
        media: row.get(3)?,
        sha256: row.get(4)?,
        bytes: row.get::<_, i64>(5)?.unsigned_abs(),
        created_ms: row.get(6)?,
        job_id: row.get(7)?,
        run_id: row.get(8)?,
        state: row.get(9)?,
        fault: row.get(10)?,
        checked_ms: row.get(11)?,
    })
}

/// The statement for a filter, with its parameters. `before` and `limit` are the last two.
pub(crate) fn list(filter: &ArtifactFilter, page: Page) -> (String, Vec<Box<dyn ToSql>>) {
    let mut sql = format!("SELECT {COLUMNS} FROM artifacts WHERE ");
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let mut only = |clause: &str, value: Option<Box<dyn ToSql>>| {
        if let Some(value) = value {
            sql.push_str(clause);
            sql.push_str(" = ? AND ");
            values.push(value);
        }
    };
    let text = |text: &Option<String>| text.clone().map(|text| Box::new(text) as Box<dyn ToSql>);
    let number = |number: Option<i64>| number.map(|number| Box::new(number) as Box<dyn ToSql>);
    only("run_id", number(filter.run));
    only("job_id", number(filter.job));
    only("sha256", text(&filter.sha256));
    only("kind", text(&filter.kind));
    match filter.state {
        // In words, so that its own index can be used.
        Some(ArtifactState::Damaged) => sql.push_str("state = 'damaged' AND "),
        Some(ArtifactState::Whole) => sql.push_str("state = 'whole' AND "),
        None => {}
    }
    sql.push_str("id < ? ORDER BY id DESC LIMIT ?");
    values.push(Box::new(page.before()));
    values.push(Box::new(page.limit));
    (sql, values)
}

impl Store {
    /// Makes an artifact known whose content is on the disk, durably. Others with the same content that were damaged are
    /// whole again.
    pub fn put_artifact(&mut self, new: &NewArtifact, now_ms: i64) -> Result<Artifact> {
        self.change("could not store the artifact", now_ms, |change| {
            change
                .tx
                .prepare_cached("UPDATE artifacts SET state = 'whole', fault = NULL, checked_ms = ?2 WHERE sha256 = ?1 AND state = 'damaged'")?
                .execute((&new.sha256, now_ms))?;
            let sql = format!(
                "INSERT INTO artifacts (kind, name, media, sha256, bytes, created_ms, job_id, run_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 RETURNING {COLUMNS}"
            );
            let bytes = i64::try_from(new.bytes).unwrap_or(i64::MAX);
            let values = (&new.kind, &new.name, &new.media, &new.sha256, bytes, now_ms, new.job_id, new.run_id);
            change.tx.prepare_cached(&sql)?.query_row(values, artifact)
        })
    }

    /// One artifact.
    pub fn artifact(&self, id: i64) -> Result<Option<Artifact>> {
        self.needs(SCHEMA, "artifacts")?;
        let read =
            || self.db.prepare_cached(&format!("SELECT {COLUMNS} FROM artifacts WHERE id = ?1"))?.query_row((id,), artifact).optional();
        read().map_err(failed(&self.path, "could not read the artifact"))
    }

    /// Artifacts, newest first.
    pub fn artifacts(&self, filter: &ArtifactFilter, page: Page) -> Result<Vec<Artifact>> {
        self.needs(SCHEMA, "artifacts")?;
        let (sql, values) = list(filter, page);
        let read = || -> rusqlite::Result<Vec<Artifact>> {
            self.db.prepare_cached(&sql)?.query_map(rusqlite::params_from_iter(values), artifact)?.collect()
        };
        read().map_err(failed(&self.path, "could not read the artifacts"))
    }

    /// Content was found to be something else, or not there: every artifact with it is damaged, with an event.
    pub fn damage_artifacts(&mut self, sha256: &str, fault: &str, now_ms: i64) -> Result<Vec<Artifact>> {
        self.change("could not mark the artifacts as damaged", now_ms, |change| {
            let sql = format!(
                "UPDATE artifacts SET state = 'damaged', fault = ?2, checked_ms = ?3 WHERE sha256 = ?1 AND state = 'whole' RETURNING {COLUMNS}"
            );
            let marked: Vec<Artifact> = change.tx.prepare_cached(&sql)?.query_map((sha256, fault, now_ms), artifact)?.collect::<rusqlite::Result<_>>()?;
            if !marked.is_empty() {
                let ids: Vec<_> = marked.iter().map(|artifact| artifact.id).collect();
                let names: Vec<_> = marked.iter().map(|artifact| artifact.name.as_str()).collect();
                let body = json!({ "sha256": sha256, "fault": fault, "artifacts": ids, "names": names });
                change.tell("artifact.damaged", Some(Severity::Error), body);
            }
            Ok(marked)
        })
    }
}
