//! What is known of artifacts. Their content lies on the disk, which is not this crate's.

use super::{Page, SCHEMA, words};
use crate::connect::failed;
use crate::page::{Listed, PAGE_BYTES, within};
use crate::{Reason, Result, Severity, Store};
use rusqlite::{Connection, OptionalExtension, Row, ToSql};
use serde_json::json;
use std::collections::HashMap;

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

impl Listed for Artifact {
    fn id(&self) -> i64 {
        self.id
    }

    fn text_bytes(&self) -> usize {
        self.kind.len() + self.name.len() + self.media.len() + self.sha256.len() + self.fault.as_ref().map_or(0, String::len)
    }
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

/// What [`Store::remove_artifacts`] did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removal {
    /// Gone.
    pub removed: Vec<Artifact>,
    /// They stay, and why.
    pub needed: Vec<(Artifact, &'static str)>,
    /// Content that no artifact has any more, by sha256.
    pub contents: Vec<String>,
    /// Its bytes.
    pub bytes: u64,
}

/// One that a policy does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldArtifact {
    /// Which.
    pub id: i64,
    /// What its removal frees, once those before it are gone: nothing while another artifact has the same content.
    pub bytes: u64,
    /// Why it goes: its age, or the bytes of all.
    pub reason: Reason,
}

/// The schema that also has runs, findings and baselines.
const KEPT_SCHEMA: u32 = 5;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Runs whose artifacts stay, and why.
pub(crate) const KEPT_RUNS: &[(&str, &str)] = &[
    ("SELECT runs.id FROM jobs JOIN runs ON runs.job_id = jobs.id WHERE jobs.state IN ('queued', 'leased', 'waiting')", "its run goes on"),
    ("SELECT run_id FROM stages WHERE state = 'pending'", "its run waits for a decision"),
    ("SELECT run_id, max(id) FROM baselines GROUP BY profile", "it belongs to a baseline"),
];
/// Artifacts that findings point at.
pub(crate) const EVIDENCE: &str = "SELECT evidence FROM findings WHERE state IN ('open', 'expected') AND evidence IS NOT NULL";
/// ?1 sha256.
pub(crate) const KNOWN: &str = "SELECT EXISTS (SELECT 1 FROM artifacts WHERE sha256 = ?1)";
/// ?1 after, ?2 limit.
pub(crate) const TO_CHECK: &str = "FROM artifacts AS this WHERE id > ?1 AND state = 'whole'
     AND NOT EXISTS (SELECT 1 FROM artifacts AS other WHERE other.sha256 = this.sha256 AND other.id < this.id AND other.state = 'whole')
     ORDER BY id LIMIT ?2";
const TOTAL: &str = "SELECT coalesce(sum(bytes), 0) FROM (SELECT bytes FROM artifacts GROUP BY sha256)";

pub(super) const COLUMNS: &str = "id, kind, name, media, sha256, bytes, created_ms, job_id, run_id, state, fault, checked_ms";

pub(super) fn artifact(row: &Row<'_>) -> rusqlite::Result<Artifact> {
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

    /// Artifacts, newest first, as many as a page takes.
    pub fn artifacts(&self, filter: &ArtifactFilter, page: Page) -> Result<Vec<Artifact>> {
        self.needs(SCHEMA, "artifacts")?;
        let (sql, values) = list(filter, page);
        let read = || -> rusqlite::Result<Vec<Artifact>> {
            within(self.db.prepare_cached(&sql)?.query_map(rusqlite::params_from_iter(values), artifact)?, PAGE_BYTES)
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

    /// Whole artifacts after this one in the order of their numbers, each content once: to be read and compared.
    pub fn artifacts_to_check(&self, after: i64, limit: u32) -> Result<Vec<Artifact>> {
        self.needs(SCHEMA, "artifacts")?;
        let sql = format!("SELECT {COLUMNS} {TO_CHECK}");
        let read = || -> rusqlite::Result<Vec<Artifact>> { self.db.prepare_cached(&sql)?.query_map((after, limit), artifact)?.collect() };
        read().map_err(failed(&self.path, "could not read the artifacts"))
    }

    /// These contents were read and are whole.
    pub fn artifacts_checked(&mut self, sha256: &[String], now_ms: i64) -> Result<()> {
        self.change("could not note that artifacts are whole", now_ms, |change| {
            let mut mark = change.tx.prepare_cached("UPDATE artifacts SET checked_ms = ?2 WHERE sha256 = ?1")?;
            sha256.iter().try_for_each(|sha256| mark.execute((sha256, now_ms)).map(drop))
        })
    }

    /// Those of these contents that no artifact has.
    pub fn unknown_contents(&self, sha256: Vec<String>) -> Result<Vec<String>> {
        self.needs(SCHEMA, "artifacts")?;
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut known = self.db.prepare_cached(KNOWN)?;
            let mut unknown = Vec::new();
            for sha256 in sha256 {
                if !known.query_row((&sha256,), |row| row.get(0))? {
                    unknown.push(sha256);
                }
            }
            Ok(unknown)
        };
        read().map_err(failed(&self.path, "could not read the artifacts"))
    }

    /// Forgets artifacts, but not those that something needs. With `dry_run` only says which. `by` makes it an event.
    pub fn remove_artifacts(&mut self, ids: &[i64], by: Option<&str>, dry_run: bool, now_ms: i64) -> Result<Removal> {
        self.needs(KEPT_SCHEMA, "artifacts")?;
        self.change("could not remove the artifacts", now_ms, |change| {
            let kept = Kept::read(&change.tx)?;
            let mut removal = Removal::default();
            for id in ids {
                let sql = format!("SELECT {COLUMNS} FROM artifacts WHERE id = ?1");
                let Some(found) = change.tx.prepare_cached(&sql)?.query_row((id,), artifact).optional()? else { continue };
                match kept.why(&found) {
                    Some(why) => removal.needed.push((found, why)),
                    None => removal.removed.push(found),
                }
            }
            // With the rows gone, what is still known is what others have.
            for gone in &removal.removed {
                change.tx.prepare_cached("DELETE FROM artifacts WHERE id = ?1")?.execute((gone.id,))?;
            }
            for gone in &removal.removed {
                let known: bool = change.tx.prepare_cached(KNOWN)?.query_row((&gone.sha256,), |row| row.get(0))?;
                if !known && !removal.contents.contains(&gone.sha256) {
                    removal.contents.push(gone.sha256.clone());
                    removal.bytes += gone.bytes;
                }
            }
            if let Some(by) = by.filter(|_| !dry_run && !removal.removed.is_empty()) {
                let ids: Vec<_> = removal.removed.iter().map(|artifact| artifact.id).collect();
                change.tell("artifact.removed", Some(Severity::Notice), json!({ "artifacts": ids, "bytes": removal.bytes, "by": by }));
            }
            change.undone = dry_run;
            Ok(removal)
        })
    }

    /// The artifacts that a policy does not keep, oldest first: those before the first that is young enough, by a time that has
    /// come, then as many as the bytes ask for. In the order in which they are to be removed; never what something needs.
    pub fn plan_artifacts(&self, max_age_days: Option<u32>, max_bytes: Option<u64>, now_ms: i64) -> Result<Vec<OldArtifact>> {
        self.needs(KEPT_SCHEMA, "artifacts")?;
        let plan = || -> rusqlite::Result<Vec<OldArtifact>> {
            let kept = Kept::read(&self.db)?;
            let since = max_age_days.map(|days| now_ms.saturating_sub(i64::from(days).saturating_mul(DAY_MS)));
            let mut total: u64 = self.db.query_row(TOTAL, (), |row| row.get::<_, i64>(0))?.unsigned_abs();
            // How many of those that have a content would stay.
            let mut holders: HashMap<String, u64> = HashMap::new();
            let mut plan: Vec<(OldArtifact, Artifact)> = Vec::new();
            let mut old = since.is_some();
            let mut count = self.db.prepare_cached("SELECT count(*) FROM artifacts WHERE sha256 = ?1")?;
            let mut query = self.db.prepare(&format!("SELECT {COLUMNS} FROM artifacts ORDER BY id"))?;
            let mut rows = query.query(())?;
            while let Some(row) = rows.next()? {
                let found = artifact(row)?;
                let over = max_bytes.is_some_and(|most| total > most);
                let to_come = found.created_ms > now_ms;
                old = old && since.is_some_and(|since| found.created_ms < since || to_come);
                if !old && !over {
                    break;
                }
                if (over || !to_come) && kept.why(&found).is_none() {
                    let left = match holders.get(&found.sha256) {
                        Some(left) => left - 1,
                        None => count.query_row((&found.sha256,), |row| row.get::<_, i64>(0))?.unsigned_abs() - 1,
                    };
                    holders.insert(found.sha256.clone(), left);
                    total -= if left == 0 { found.bytes.min(total) } else { 0 };
                    let reason = if old && !to_come { Reason::Age } else { Reason::Bytes };
                    plan.push((OldArtifact { id: found.id, bytes: 0, reason }, found));
                }
            }
            // Those that are old go first; a content goes with the last one that has it.
            plan.sort_by_key(|(old, _)| old.reason == Reason::Bytes);
            for (old, found) in plan.iter_mut().rev() {
                if holders.remove(&found.sha256) == Some(0) {
                    old.bytes = found.bytes;
                }
            }
            Ok(plan.into_iter().map(|(old, _)| old).collect())
        };
        plan().map_err(failed(&self.path, "could not plan what artifacts go"))
    }
}

/// Why an artifact stays.
struct Kept {
    runs: HashMap<i64, &'static str>,
    artifacts: HashMap<i64, &'static str>,
}

impl Kept {
    fn read(db: &Connection) -> rusqlite::Result<Kept> {
        let mut runs = HashMap::new();
        for (sql, why) in KEPT_RUNS {
            let mut query = db.prepare_cached(sql)?;
            let mut rows = query.query(())?;
            while let Some(row) = rows.next()? {
                runs.insert(row.get(0)?, *why);
            }
        }
        let mut artifacts = HashMap::new();
        for (run, why) in &runs {
            let sql = "SELECT plan_artifact, inputs_artifact, result_artifact FROM runs WHERE id = ?1";
            let of: Option<[Option<i64>; 3]> =
                db.prepare_cached(sql)?.query_row((run,), |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?])).optional()?;
            artifacts.extend(of.into_iter().flatten().flatten().map(|id| (id, *why)));
        }
        let mut query = db.prepare_cached(EVIDENCE)?;
        let mut rows = query.query(())?;
        while let Some(row) = rows.next()? {
            artifacts.insert(row.get(0)?, "it is the evidence of a finding");
        }
        Ok(Kept { runs, artifacts })
    }

    fn why(&self, artifact: &Artifact) -> Option<&'static str> {
        self.artifacts.get(&artifact.id).or_else(|| self.runs.get(&artifact.run_id?)).copied()
    }
}
