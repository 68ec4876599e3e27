//! Profiles, runs, findings and baselines in the database.
//!
//! What a run found becomes rows in one transaction, with its events. Who may ask for it is not decided here, and nothing is judged.

use crate::connect::failed;
use crate::page::{Listed, PAGE_BYTES, within};
use crate::store::insert_events;
use crate::work::search::containing;
use crate::{NewEvent, Result, Severity, Store, StoreError};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};

/// The action that findings about a baseline are of. They are never part of a baseline themselves.
pub const BASELINE_ACTION: &str = "baseline";

/// One version of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns of the table")]
pub struct Profile {
    pub name: String,
    pub version: u32,
    /// Of the text, in hexadecimal.
    pub sha256: String,
    pub text: String,
    pub added_ms: i64,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum RunState {
    Running,
    Waiting,
    Done,
    Failed,
}

/// One look by one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns of the table")]
pub struct Run {
    pub id: i64,
    pub job_id: Option<i64>,
    pub profile: String,
    pub profile_version: u32,
    pub state: RunState,
    pub replay_of: Option<i64>,
    pub started_ms: i64,
    pub ended_ms: Option<i64>,
    pub plan_artifact: Option<i64>,
    pub inputs_artifact: Option<i64>,
    pub result_artifact: Option<i64>,
}

impl Listed for Run {
    fn id(&self) -> i64 {
        self.id
    }

    fn text_bytes(&self) -> usize {
        self.profile.len()
    }
}

/// What changes in a run; `None` leaves what is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Advance {
    /// Not `Done`: that is what a report makes of it.
    pub state: Option<RunState>,
    /// Written once: a plan that is there already stays.
    pub plan_artifact: Option<i64>,
    /// Replaces the one before.
    pub inputs_artifact: Option<i64>,
}

/// Where a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum FindingState {
    Open,
    Expected,
    Gone,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns of the table")]
pub struct Finding {
    pub id: i64,
    pub profile: String,
    pub key: String,
    pub title: String,
    pub severity: Severity,
    pub state: FindingState,
    pub first_run: i64,
    pub last_run: i64,
    pub first_ms: i64,
    pub last_ms: i64,
    pub times: u64,
    pub profile_version: u32,
    pub action: String,
    pub step: u32,
    /// JSON.
    pub policy: String,
    pub evidence: Option<i64>,
    /// JSON.
    pub detail: String,
}

impl Listed for Finding {
    fn id(&self) -> i64 {
        self.id
    }

    fn text_bytes(&self) -> usize {
        self.profile.len() + self.key.len() + self.title.len() + self.action.len() + self.policy.len() + self.detail.len()
    }
}

/// What one run found of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in Finding")]
pub struct NewFinding {
    pub key: String,
    pub title: String,
    pub severity: Severity,
    /// In the baseline, with the same detail.
    pub expected: bool,
    pub action: String,
    pub step: u32,
    /// JSON.
    pub policy: String,
    /// JSON.
    pub detail: String,
}

/// What a run found in all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The artifact with what its actions saw.
    pub evidence: Option<i64>,
    /// The artifact with its result.
    pub result_artifact: Option<i64>,
    /// The actions that could not look, or might not, and beginnings of keys, which end in `/`, below which nobody could look: what
    /// was found there before stays as it is.
    pub unjudged: Vec<String>,
    /// What was found, each key once.
    pub findings: Vec<NewFinding>,
}

/// What a report changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reported {
    /// New ones, or there again, that nobody expected.
    pub opened: u64,
    /// Those that are open, with the new ones.
    pub open: u64,
    /// Those that were expected.
    pub expected: u64,
    /// Those that are not there any more.
    pub gone: u64,
}

/// Which findings to list, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct FindingFilter {
    pub state: Option<FindingState>,
    pub profile: Option<String>,
    /// At least so serious.
    pub severity: Option<Severity>,
    /// Part of the key or the title, whatever the case.
    pub search: Option<String>,
    /// Only ids below this one.
    pub before: Option<i64>,
    pub limit: u32,
}

/// What a profile is expected to find.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the columns of the table")]
pub struct Baseline {
    pub id: i64,
    pub profile: String,
    pub profile_version: u32,
    pub run_id: i64,
    pub made_ms: i64,
    pub made_by: String,
    pub note: Option<String>,
    pub expected: BTreeMap<String, String>,
}

impl Listed for Baseline {
    fn id(&self) -> i64 {
        self.id
    }

    fn text_bytes(&self) -> usize {
        let expected: usize = self.expected.iter().map(|(key, hash)| key.len() + hash.len()).sum();
        self.profile.len() + self.made_by.len() + self.note.as_ref().map_or(0, String::len) + expected
    }
}

impl RunState {
    const WORDS: [(RunState, &'static str); 4] =
        [(RunState::Running, "running"), (RunState::Waiting, "waiting"), (RunState::Done, "done"), (RunState::Failed, "failed")];

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(state, _)| *state == self).map_or("running", |(_, word)| word)
    }
}

impl FindingState {
    const WORDS: [(FindingState, &'static str); 3] =
        [(FindingState::Open, "open"), (FindingState::Expected, "expected"), (FindingState::Gone, "gone")];

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(state, _)| *state == self).map_or("open", |(_, word)| word)
    }
}

pub(crate) const PROFILE: &str =
    "SELECT name, version, sha256, text, added_ms FROM profiles WHERE name = ?1 ORDER BY version DESC LIMIT ?2";
pub(crate) const PROFILE_AT: &str = "SELECT name, version, sha256, text, added_ms FROM profiles WHERE name = ?1 AND version = ?2";
const PROFILES: &str = "SELECT name, version, sha256, text, added_ms FROM profiles AS p
    WHERE version = (SELECT max(version) FROM profiles WHERE name = p.name) ORDER BY name";
pub(crate) const RUN: &str = "SELECT id, job_id, profile, profile_version, state, replay_of, started_ms, ended_ms, plan_artifact,
    inputs_artifact, result_artifact FROM runs WHERE id = ?1";
pub(crate) const RUN_OF_JOB: &str = "SELECT id FROM runs WHERE job_id = ?1 ORDER BY id DESC LIMIT 1";
pub(crate) const RUNS: &str = "SELECT id, job_id, profile, profile_version, state, replay_of, started_ms, ended_ms, plan_artifact,
    inputs_artifact, result_artifact FROM runs WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
pub(crate) const RUNS_OF_PROFILE: &str =
    "SELECT id, job_id, profile, profile_version, state, replay_of, started_ms, ended_ms, plan_artifact,
    inputs_artifact, result_artifact FROM runs WHERE id < ?1 AND profile = ?3 ORDER BY id DESC LIMIT ?2";
pub(crate) const HELD: &str = "SELECT 1 FROM leases WHERE name = 'job/' || ?1 AND token = ?2";
pub(crate) const FINDING: &str =
    "SELECT id, profile, key, title, severity, state, first_run, last_run, first_ms, last_ms, times, profile_version,
    action, step, policy, evidence, detail FROM findings WHERE id = ?1";
pub(crate) const STATE_OF: &str = "SELECT state FROM findings WHERE profile = ?1 AND key = ?2";
pub(crate) const FOUND_BEFORE: &str =
    "SELECT id, key, action, title FROM findings WHERE profile = ?1 AND state <> 'gone' AND last_run <> ?2";
pub(crate) const OPEN: &str = "SELECT count(*) FROM findings WHERE state = 'open'";
pub(crate) const BASELINE: &str = "SELECT id, profile, profile_version, run_id, made_ms, made_by, note, expected FROM baselines
    WHERE profile = ?1 AND id < ?3 ORDER BY id DESC LIMIT ?2";
const BASELINES: &str = "SELECT id, profile, profile_version, run_id, made_ms, made_by, note, expected FROM baselines
    WHERE id < ?1 ORDER BY id DESC LIMIT ?2";

impl Store {
    /// Keeps a version of a profile. Returns whether it is new; the same text again is not, and writes nothing.
    ///
    /// # Errors
    /// `profile.changed`: this version is there with another text.
    pub fn add_profile(&mut self, name: &str, version: u32, text: &str, now_ms: i64) -> Result<bool> {
        self.needs(5, "profiles")?;
        let sha256 = sha256_hex(text);
        if let Some(there) = self.profile(name, Some(version))? {
            if there.sha256 == sha256 {
                return Ok(false);
            }
            return Err(StoreError::Refused {
                code: "profile.changed",
                what: "a version of a profile never changes",
                facts: vec![("profile", name.to_owned()), ("version", version.to_string())],
            });
        }
        let event = event("profile.added", Severity::Info, &json!({ "profile": name, "version": version, "sha256": sha256 }));
        self.transact("could not keep the profile", now_ms, |tx| {
            tx.execute(
                "INSERT INTO profiles (name, version, sha256, text, added_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![name, version, sha256, text, now_ms],
            )?;
            Ok((true, vec![event]))
        })
    }

    /// One version of a profile, or its newest.
    pub fn profile(&self, name: &str, version: Option<u32>) -> Result<Option<Profile>> {
        self.needs(5, "profiles")?;
        let found = match version {
            Some(version) => self.rows(PROFILE_AT, params![name, version], profile),
            None => self.rows(PROFILE, params![name, 1], profile),
        };
        Ok(found?.pop())
    }

    /// Every version of one profile, newest first, or the newest of each.
    pub fn profiles(&self, name: Option<&str>) -> Result<Vec<Profile>> {
        self.needs(5, "profiles")?;
        match name {
            Some(name) => self.rows(PROFILE, params![name, -1], profile),
            None => self.rows(PROFILES, params![], profile),
        }
    }

    /// Begins the run of a job, or goes on with the one that it has: a job has one run, whoever holds it,
    /// and another one only after that has failed.
    ///
    /// # Errors
    /// `run.not-held`: the token is not of the one who holds the job.
    pub fn begin_run(&mut self, job_id: i64, token: &str, profile: &str, profile_version: u32, now_ms: i64) -> Result<Run> {
        self.needs(5, "runs")?;
        self.held(Some(job_id), token)?;
        let before = self.run_of_job(job_id)?.map(|id| self.run(id)).transpose()?.flatten();
        let id = match before.filter(|run| run.state != RunState::Failed).map(|run| run.id) {
            Some(id) => {
                self.transact("could not go on with the run", now_ms, |tx| {
                    tx.execute("UPDATE runs SET state = 'running' WHERE id = ?1 AND state = 'waiting'", (id,))?;
                    Ok(((), Vec::new()))
                })?;
                id
            }
            None => self.transact("could not begin the run", now_ms, |tx| {
                // Runs of the same profile whose job has been given up meanwhile are nobody's any more.
                tx.execute(
                    "UPDATE runs SET state = 'failed', ended_ms = ?2 WHERE profile = ?1 AND state IN ('running', 'waiting')
                        AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = runs.job_id AND state IN ('queued', 'leased', 'waiting'))",
                    params![profile, now_ms],
                )?;
                tx.execute(
                    "INSERT INTO runs (job_id, profile, profile_version, state, started_ms) VALUES (?1, ?2, ?3, 'running', ?4)",
                    params![job_id, profile, profile_version, now_ms],
                )?;
                Ok((tx.last_insert_rowid(), Vec::new()))
            })?,
        };
        self.run(id)?.ok_or_else(|| unknown_run(id))
    }

    /// Takes a run further.
    ///
    /// # Errors
    /// `run.unknown`, `run.not-held`.
    pub fn advance_run(&mut self, id: i64, token: &str, advance: Advance, now_ms: i64) -> Result<Run> {
        let before = self.run(id)?.ok_or_else(|| unknown_run(id))?;
        self.held(before.job_id, token)?;
        // A run that was reported is over.
        if before.state == RunState::Done {
            return Ok(before);
        }
        let state = advance.state.filter(|state| *state != RunState::Done).unwrap_or(before.state);
        let fails = state == RunState::Failed && before.state != state;
        let event = event("run.failed", Severity::Warning, &json!({ "run": id, "profile": before.profile }));
        self.transact("could not write the run", now_ms, |tx| {
            tx.execute(
                "UPDATE runs SET state = ?2, plan_artifact = coalesce(plan_artifact, ?3), inputs_artifact = coalesce(?4, inputs_artifact),
                    ended_ms = CASE WHEN ?2 = 'failed' THEN ?5 END WHERE id = ?1",
                params![id, state.word(), advance.plan_artifact, advance.inputs_artifact, now_ms],
            )?;
            Ok(((), if fails { vec![event] } else { Vec::new() }))
        })?;
        self.run(id)?.ok_or_else(|| unknown_run(id))
    }

    /// Takes what a run found: all of it and the run's end, or nothing. Reported again, nothing changes.
    ///
    /// The same key again is the same finding. What the profile found before and not this time is gone, unless its action is one
    /// that could not look.
    ///
    /// # Errors
    /// `run.unknown`, `run.not-held`, `run.invalid-finding`.
    pub fn report_run(&mut self, id: i64, token: &str, report: &Report, now_ms: i64) -> Result<Reported> {
        let run = self.run(id)?.ok_or_else(|| unknown_run(id))?;
        self.held(run.job_id, token)?;
        if run.state == RunState::Done {
            return self.tally(&run);
        }
        let mut keys = HashSet::new();
        for finding in &report.findings {
            validate(finding, &mut keys).map_err(|what| StoreError::Refused {
                code: "run.invalid-finding",
                what: "a finding can't be stored",
                facts: vec![("key", finding.key.chars().take(200).collect()), ("expected", what.to_owned())],
            })?;
        }
        self.transact("could not commit what the run found", now_ms, |tx| {
            let (mut reported, mut events) = (Reported::default(), Vec::new());
            for finding in &report.findings {
                events.extend(upsert(tx, &run, finding, report.evidence, now_ms, &mut reported)?);
            }
            for (finding, key, action, title) in missing(tx, &run, &report.unjudged)? {
                tx.execute("UPDATE findings SET state = 'gone' WHERE id = ?1", (finding,))?;
                reported.gone += 1;
                let body = json!({ "finding": finding, "profile": run.profile, "key": key, "action": action, "title": title, "run": id });
                events.push(event("finding.gone", Severity::Info, &body));
            }
            tx.execute(
                "UPDATE runs SET state = 'done', ended_ms = ?2, result_artifact = ?3, inputs_artifact = coalesce(?4, inputs_artifact)
                    WHERE id = ?1",
                params![id, now_ms, report.result_artifact, report.evidence],
            )?;
            let Reported { opened, open, expected, gone } = reported;
            let body = json!({ "run": id, "profile": run.profile, "opened": opened, "open": open, "expected": expected, "gone": gone });
            events.push(event("run.done", Severity::Info, &body));
            Ok((reported, events))
        })
    }

    /// One run.
    pub fn run(&self, id: i64) -> Result<Option<Run>> {
        self.needs(5, "runs")?;
        Ok(self.rows(RUN, params![id], run)?.pop())
    }

    /// The run of a job.
    pub fn run_of_job(&self, job_id: i64) -> Result<Option<i64>> {
        self.needs(5, "runs")?;
        Ok(self.rows(RUN_OF_JOB, params![job_id], |row| row.get(0))?.pop())
    }

    /// Runs, newest first, with ids below `before`, as many as a page takes.
    pub fn runs(&self, profile: Option<&str>, before: Option<i64>, limit: u32) -> Result<Vec<Run>> {
        self.needs(5, "runs")?;
        let before = before.unwrap_or(i64::MAX);
        match profile {
            Some(profile) => self.page(RUNS_OF_PROFILE, params![before, limit, profile], run),
            None => self.page(RUNS, params![before, limit], run),
        }
    }

    /// One finding.
    pub fn finding(&self, id: i64) -> Result<Option<Finding>> {
        self.needs(5, "findings")?;
        Ok(self.rows(FINDING, params![id], finding)?.pop())
    }

    /// Findings, newest first, as many as a page takes.
    pub fn findings(&self, filter: &FindingFilter) -> Result<Vec<Finding>> {
        self.needs(5, "findings")?;
        let (sql, values) = findings_sql(filter);
        self.page(&sql, rusqlite::params_from_iter(values), finding)
    }

    /// How many findings are open.
    pub fn findings_open(&self) -> Result<u64> {
        self.needs(5, "findings")?;
        Ok(self.rows(OPEN, params![], |row| row.get::<_, i64>(0))?.pop().unwrap_or_default().unsigned_abs())
    }

    /// Makes what a profile finds now what it is expected to find. Findings about an older baseline are gone with it.
    ///
    /// # Errors
    /// `baseline.no-run`: this profile has not looked yet.
    pub fn set_baseline(&mut self, profile: &str, by: &str, note: Option<&str>, now_ms: i64) -> Result<Baseline> {
        self.needs(5, "baselines")?;
        let done = self.runs(Some(profile), None, 100)?.into_iter().find(|run| run.state == RunState::Done);
        let run = done.ok_or_else(|| StoreError::Refused {
            code: "baseline.no-run",
            what: "this profile has not looked yet, so there is nothing to expect",
            facts: vec![("profile", profile.to_owned())],
        })?;
        let found: Vec<(String, String)> = self.rows(
            "SELECT key, detail FROM findings WHERE profile = ?1 AND state <> 'gone' AND action <> ?2 ORDER BY key",
            params![profile, BASELINE_ACTION],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let expected: BTreeMap<_, _> = found.into_iter().map(|(key, detail)| (key, sha256_hex(&detail))).collect();
        let body = json!({ "profile": profile, "run": run.id, "findings": expected.len(), "by": by });
        let event = event("baseline.set", Severity::Notice, &body);
        self.transact("could not keep the baseline", now_ms, |tx| {
            tx.execute(
                "INSERT INTO baselines (profile, profile_version, run_id, made_ms, made_by, note, expected) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![profile, run.profile_version, run.id, now_ms, by, note, json!(expected).to_string()],
            )?;
            let id = tx.last_insert_rowid();
            tx.execute(
                "UPDATE findings SET state = CASE WHEN action = ?2 THEN 'gone' ELSE 'expected' END WHERE profile = ?1 AND state <> 'gone'",
                params![profile, BASELINE_ACTION],
            )?;
            Ok((id, vec![event]))
        })?;
        let made = self.baselines(Some(profile), None, 1)?.pop();
        made.ok_or(StoreError::Refused { code: "store.failed", what: "the baseline is not there", facts: Vec::new() })
    }

    /// Forgets every baseline of a profile: nothing is expected, and nothing drifts. Returns how many there were.
    pub fn clear_baselines(&mut self, profile: &str, by: &str, now_ms: i64) -> Result<u64> {
        self.needs(5, "baselines")?;
        if self.baselines(Some(profile), None, 1)?.is_empty() {
            return Ok(0);
        }
        let event = event("baseline.cleared", Severity::Notice, &json!({ "profile": profile, "by": by }));
        self.transact("could not remove the baselines", now_ms, |tx| {
            let removed = tx.execute("DELETE FROM baselines WHERE profile = ?1", (profile,))?;
            tx.execute("UPDATE findings SET state = 'open' WHERE profile = ?1 AND state = 'expected'", (profile,))?;
            tx.execute(
                "UPDATE findings SET state = 'gone' WHERE profile = ?1 AND state <> 'gone' AND action = ?2",
                params![profile, BASELINE_ACTION],
            )?;
            Ok((removed as u64, vec![event]))
        })
    }

    /// Baselines, newest first, with ids below `before`, as many as a page takes.
    pub fn baselines(&self, profile: Option<&str>, before: Option<i64>, limit: u32) -> Result<Vec<Baseline>> {
        self.needs(5, "baselines")?;
        let before = before.unwrap_or(i64::MAX);
        match profile {
            Some(profile) => self.page(BASELINE, params![profile, limit, before], baseline),
            None => self.page(BASELINES, params![before, limit], baseline),
        }
    }

    /// Whether this token is of the one who holds the job.
    pub fn holds_job(&self, job_id: i64, token: &str) -> Result<bool> {
        self.needs(4, "jobs")?;
        Ok(!self.rows(HELD, params![job_id, token], |_| Ok(()))?.is_empty())
    }

    /// Only who holds the job may write its run: a worker that lost its lease must not.
    fn held(&self, job_id: Option<i64>, token: &str) -> Result<()> {
        if job_id.map_or(Ok(false), |job_id| self.holds_job(job_id, token))? {
            return Ok(());
        }
        let job = job_id.map_or_else(|| "none".to_owned(), |job| job.to_string());
        Err(StoreError::Refused { code: "run.not-held", what: "the run's job is not held with this token", facts: vec![("job", job)] })
    }

    /// The figures of a run that was reported before; what it opened and ended can't be told any more.
    fn tally(&self, run: &Run) -> Result<Reported> {
        let sql = "SELECT count(*) FILTER (WHERE state = 'open'), count(*) FILTER (WHERE state = 'expected') FROM findings
            WHERE profile = ?1 AND last_run = ?2";
        let count = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs()));
        let (open, expected) = self.rows(sql, params![run.profile, run.id], count)?.pop().unwrap_or_default();
        Ok(Reported { opened: 0, open, expected, gone: 0 })
    }

    fn rows<T>(&self, sql: &str, values: impl rusqlite::Params, take: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>> {
        let read = || -> rusqlite::Result<Vec<T>> { self.db.prepare_cached(sql)?.query_map(values, take)?.collect() };
        read().map_err(failed(&self.path, "could not read the findings"))
    }

    /// As [`Store::rows`], but no more than a page takes.
    fn page<T: Listed>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        take: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let read = || -> rusqlite::Result<Vec<T>> { within(self.db.prepare_cached(sql)?.query_map(values, take)?, PAGE_BYTES) };
        read().map_err(failed(&self.path, "could not read the findings"))
    }

    /// One transaction with its events; on return it survives a power cut.
    fn transact<T>(
        &mut self,
        what: &'static str,
        now_ms: i64,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<(T, Vec<NewEvent>)>,
    ) -> Result<T> {
        let append = self.appending();
        let write = |db: &mut Connection| -> rusqlite::Result<T> {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let (done, events) = work(&tx)?;
            insert_events(&tx, append, &events, now_ms)?;
            tx.commit().map(|()| done)
        };
        write(&mut self.db).map_err(failed(&self.path, what))
    }
}

/// Writes one finding of a run; an event if nobody knew of it.
fn upsert(
    tx: &Transaction<'_>,
    run: &Run,
    new: &NewFinding,
    evidence: Option<i64>,
    now_ms: i64,
    reported: &mut Reported,
) -> rusqlite::Result<Option<NewEvent>> {
    let before: Option<String> = tx.prepare_cached(STATE_OF)?.query_row(params![run.profile, new.key], |row| row.get(0)).optional()?;
    let state = if new.expected { FindingState::Expected } else { FindingState::Open };
    // Not INSERT … ON CONFLICT: that uses up an id each time, also where the row is there.
    let sql = if before.is_some() {
        "UPDATE findings SET title = ?3, severity = ?4, state = ?5, last_run = ?6, last_ms = ?7, times = times + 1,
            profile_version = ?8, action = ?9, step = ?10, policy = ?11, evidence = ?12, detail = ?13
            WHERE profile = ?1 AND key = ?2 RETURNING id"
    } else {
        "INSERT INTO findings (profile, key, title, severity, state, first_run, last_run, first_ms, last_ms, times,
            profile_version, action, step, policy, evidence, detail)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?7, 1, ?8, ?9, ?10, ?11, ?12, ?13) RETURNING id"
    };
    let values = params![
        run.profile,
        new.key,
        new.title,
        new.severity as u8,
        state.word(),
        run.id,
        now_ms,
        run.profile_version,
        new.action,
        new.step,
        new.policy,
        evidence,
        new.detail
    ];
    let id: i64 = tx.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
    if new.expected {
        reported.expected += 1;
        return Ok(None);
    }
    reported.open += 1;
    if before.as_ref().is_some_and(|state| state == FindingState::Open.word()) {
        return Ok(None);
    }
    reported.opened += 1;
    let body = json!({ "finding": id, "profile": run.profile, "key": new.key, "action": new.action, "title": new.title, "run": run.id,
        "again": before.is_some() });
    Ok(Some(event("finding.opened", new.severity, &body)))
}

/// What the profile found before and this run did not, but for what could not be looked at.
fn missing(tx: &Transaction<'_>, run: &Run, unjudged: &[String]) -> rusqlite::Result<Vec<(i64, String, String, String)>> {
    let mut query = tx.prepare_cached(FOUND_BEFORE)?;
    let rows = query.query_map(params![run.profile, run.id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let unseen = |key: &str, action: &str| unjudged.iter().any(|word| word == action || (word.ends_with('/') && key.starts_with(word)));
    let looked = |row: &rusqlite::Result<(i64, String, String, String)>| row.as_ref().map_or(true, |row| !unseen(&row.1, &row.2));
    rows.filter(looked).collect()
}

/// What the table's own constraints would refuse, in words.
fn validate<'a>(finding: &'a NewFinding, keys: &mut HashSet<&'a str>) -> std::result::Result<(), &'static str> {
    let json = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if !(1..=255).contains(&finding.key.len()) || finding.key.chars().any(char::is_control) {
        return Err("a key of 1 to 255 bytes without control characters");
    }
    if !keys.insert(&finding.key) {
        return Err("each key once");
    }
    if !json(&finding.policy) || !json(&finding.detail) { Err("policy and detail in JSON") } else { Ok(()) }
}

/// The query for a list of findings, with its values.
pub(crate) fn findings_sql(filter: &FindingFilter) -> (String, Vec<Sql>) {
    let mut sql = FINDING.trim_end_matches("id = ?1").to_owned();
    sql.push_str("id < ?");
    let mut values = vec![Sql::from(filter.before.unwrap_or(i64::MAX))];
    if let Some(state) = filter.state {
        sql.push_str(" AND state = ?");
        values.push(Sql::from(state.word().to_owned()));
    }
    if let Some(profile) = &filter.profile {
        // The order by id is worth more than an index on the profile: the first rows are the answer.
        sql.push_str(" AND +profile = ?");
        values.push(Sql::from(profile.clone()));
    }
    if let Some(severity) = filter.severity {
        sql.push_str(" AND +severity >= ?");
        values.push(Sql::from(severity as i64));
    }
    if let Some(search) = &filter.search {
        sql.push_str(" AND (key LIKE ? ESCAPE '\\' OR title LIKE ? ESCAPE '\\')");
        let pattern = containing(search);
        values.extend([Sql::from(pattern.clone()), Sql::from(pattern)]);
    }
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    values.push(Sql::from(i64::from(filter.limit)));
    (sql, values)
}

fn event(topic: &str, severity: Severity, body: &Value) -> NewEvent {
    NewEvent { topic: topic.to_owned(), severity: Some(severity), body: body.to_string() }
}

fn unknown_run(id: i64) -> StoreError {
    StoreError::Refused { code: "run.unknown", what: "there is no such run", facts: vec![("run", id.to_string())] }
}

fn sha256_hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn profile(row: &Row<'_>) -> rusqlite::Result<Profile> {
    Ok(Profile { name: row.get(0)?, version: row.get(1)?, sha256: row.get(2)?, text: row.get(3)?, added_ms: row.get(4)? })
}

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let state: String = row.get(4)?;
    Ok(Run {
        id: row.get(0)?,
        job_id: row.get(1)?,
        profile: row.get(2)?,
        profile_version: row.get(3)?,
        state: RunState::WORDS.iter().find(|(_, word)| *word == state).map_or(RunState::Failed, |(state, _)| *state),
        replay_of: row.get(5)?,
        started_ms: row.get(6)?,
        ended_ms: row.get(7)?,
        plan_artifact: row.get(8)?,
        inputs_artifact: row.get(9)?,
        result_artifact: row.get(10)?,
    })
}

fn finding(row: &Row<'_>) -> rusqlite::Result<Finding> {
    let (severity, state): (i64, String) = (row.get(4)?, row.get(5)?);
    Ok(Finding {
        id: row.get(0)?,
        profile: row.get(1)?,
        key: row.get(2)?,
        title: row.get(3)?,
        severity: Severity::from_number(severity).unwrap_or(Severity::Error),
        state: FindingState::WORDS.iter().find(|(_, word)| *word == state).map_or(FindingState::Open, |(state, _)| *state),
        first_run: row.get(6)?,
        last_run: row.get(7)?,
        first_ms: row.get(8)?,
        last_ms: row.get(9)?,
        times: row.get::<_, i64>(10)?.unsigned_abs(),
        profile_version: row.get(11)?,
        action: row.get(12)?,
        step: row.get(13)?,
        policy: row.get(14)?,
        evidence: row.get(15)?,
        detail: row.get(16)?,
    })
}

fn baseline(row: &Row<'_>) -> rusqlite::Result<Baseline> {
    let expected: String = row.get(7)?;
    Ok(Baseline {
        id: row.get(0)?,
        profile: row.get(1)?,
        profile_version: row.get(2)?,
        run_id: row.get(3)?,
        made_ms: row.get(4)?,
        made_by: row.get(5)?,
        note: row.get(6)?,
        expected: serde_json::from_str(&expected).unwrap_or_default(),
    })
}

#[cfg(test)]
#[cfg_attr(schema_1, allow(dead_code, unused_imports, reason = "this build keeps no findings"))]
mod tests {
    use super::*;
    use crate::migrate::{self, Direction};
    use rusqlite::StatementStatus;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("smolotchi.db");
        migrate::run(&path, Direction::UpOnly, true).unwrap();
        (dir, Store::open(&path).unwrap())
    }

    /// A job that is held with the token "t".
    fn hold(store: &Store, job: i64) {
        let sql = "INSERT INTO jobs (id, kind, input, state, created_ms, created_by, due_ms, max_attempts, changed_ms)
            VALUES (?1, 'run', 'null', 'leased', 0, 'test', 0, 3, 0)";
        store.db.execute(sql, (job,)).unwrap();
        let sql = "INSERT INTO leases VALUES ('job/' || ?1, 'ai', 1, 1, 'b', 't', 0, 0)";
        store.db.execute(sql, (job,)).unwrap();
    }

    fn new(key: &str, action: &str) -> NewFinding {
        NewFinding {
            key: key.into(),
            title: format!("{key} is there"),
            severity: Severity::Notice,
            expected: false,
            action: action.into(),
            step: 1,
            policy: "{}".into(),
            detail: format!("{{\"k\":\"{key}\"}}"),
        }
    }

    fn run(store: &mut Store, job: i64, report: &Report) -> Reported {
        hold(store, job);
        let run = store.begin_run(job, "t", "watch", 1, job * 1000).unwrap();
        store.report_run(run.id, "t", report, job * 1000).unwrap()
    }

    fn report(findings: &[NewFinding], unjudged: &[&str]) -> Report {
        let unjudged = unjudged.iter().map(|action| (*action).to_owned()).collect();
        Report { evidence: Some(7), result_artifact: Some(8), unjudged, findings: findings.to_vec() }
    }

    fn states(store: &Store) -> Vec<(String, FindingState, u64)> {
        let mut found = store.findings(&FindingFilter { limit: 100, ..FindingFilter::default() }).unwrap();
        found.reverse();
        found.into_iter().map(|finding| (finding.key, finding.state, finding.times)).collect()
    }

    fn topics(store: &Store) -> Vec<String> {
        let mut topics: Vec<_> = store.recent(100).unwrap().into_iter().map(|event| event.topic).collect();
        topics.reverse();
        topics
    }

    #[test]
    #[cfg_attr(schema_1, ignore = "this build keeps no findings")]
    fn found_again_is_the_same_and_not_found_is_gone_unless_nobody_looked() {
        let (_dir, mut store) = store();
        let (a, b) = (new("a/1", "A"), new("b/1", "B"));
        let open = |opened, open, gone| Reported { opened, open, expected: 0, gone };
        assert_eq!(run(&mut store, 1, &report(&[a.clone(), b.clone()], &[])), open(2, 2, 0));
        assert_eq!(run(&mut store, 2, &report(std::slice::from_ref(&a), &["B"])), open(0, 1, 0));
        assert_eq!(states(&store), [("a/1".into(), FindingState::Open, 2), ("b/1".into(), FindingState::Open, 1)]);
        assert_eq!(run(&mut store, 3, &report(std::slice::from_ref(&a), &[])), open(0, 1, 1));
        assert_eq!(states(&store)[1], ("b/1".into(), FindingState::Gone, 1));
        assert_eq!(run(&mut store, 4, &report(&[a, b], &[])), open(1, 2, 0));
        assert_eq!(states(&store), [("a/1".into(), FindingState::Open, 4), ("b/1".into(), FindingState::Open, 2)]);
        let expected = "finding.opened finding.opened run.done run.done finding.gone run.done finding.opened run.done";
        assert_eq!(topics(&store).join(" "), expected);
        let finding = store.finding(2).unwrap().unwrap();
        assert_eq!((finding.first_run, finding.last_run, finding.first_ms, finding.last_ms, finding.evidence), (1, 4, 1000, 4000, Some(7)));
    }

    #[test]
    #[cfg_attr(schema_1, ignore = "this build keeps no findings")]
    fn below_what_was_not_seen_nothing_is_gone() {
        let (_dir, mut store) = store();
        let found = ["file/etc/a/x", "file/etc/ab", "file/etc/b"].map(|key| new(key, "A"));
        run(&mut store, 1, &report(&found, &[]));
        assert_eq!(run(&mut store, 2, &report(&[], &["file/etc/a/"])).gone, 2);
        let open: Vec<_> = states(&store).into_iter().filter(|(_, state, _)| *state == FindingState::Open).collect();
        assert_eq!(open, [("file/etc/a/x".to_owned(), FindingState::Open, 1)]);
        assert_eq!(run(&mut store, 3, &report(&[], &[])).gone, 1);
    }

    #[test]
    #[cfg_attr(schema_1, ignore = "this build keeps no findings")]
    fn a_job_has_one_run_that_is_reported_once_by_who_holds_it() {
        let (_dir, mut store) = store();
        hold(&store, 1);
        let first = store.begin_run(1, "t", "watch", 1, 0).unwrap();
        assert_eq!(store.begin_run(1, "t", "watch", 1, 5).unwrap(), first);
        let refused = |error: StoreError| error.code();
        assert_eq!(store.begin_run(1, "x", "watch", 1, 0).map_err(refused), Err("run.not-held"));
        assert_eq!(store.begin_run(2, "t", "watch", 1, 0).map_err(refused), Err("run.not-held"));
        let plan = |plan| Advance { plan_artifact: Some(plan), ..Advance::default() };
        assert_eq!(store.advance_run(first.id, "t", plan(3), 0).unwrap().plan_artifact, Some(3));
        assert_eq!(store.advance_run(first.id, "t", plan(4), 0).unwrap().plan_artifact, Some(3), "a plan stays");
        assert_eq!(store.advance_run(first.id, "x", plan(4), 0).map_err(refused), Err("run.not-held"));
        assert_eq!(store.advance_run(9, "t", plan(4), 0).map_err(refused), Err("run.unknown"));
        let both = report(&[new("a/1", "A")], &[]);
        assert_eq!(store.report_run(first.id, "x", &both, 0).map_err(refused), Err("run.not-held"));
        let twice = report(&[new("a/1", "A"), new("a/1", "A")], &[]);
        assert_eq!(store.report_run(first.id, "t", &twice, 0).map_err(refused), Err("run.invalid-finding"));
        assert!(states(&store).is_empty() && topics(&store).is_empty(), "all or nothing");
        assert_eq!(store.report_run(first.id, "t", &both, 0).unwrap().opened, 1);
        assert_eq!(store.report_run(first.id, "t", &both, 9).unwrap(), Reported { opened: 0, open: 1, expected: 0, gone: 0 });
        assert_eq!(states(&store), [("a/1".into(), FindingState::Open, 1)]);
        assert_eq!(store.advance_run(first.id, "t", plan(9), 0).unwrap().state, RunState::Done, "what was reported is over");
    }

    #[test]
    #[cfg_attr(schema_1, ignore = "this build keeps no findings")]
    fn a_failed_run_is_followed_by_another() {
        let (_dir, mut store) = store();
        hold(&store, 1);
        let first = store.begin_run(1, "t", "watch", 1, 0).unwrap();
        let failed = Advance { state: Some(RunState::Failed), ..Advance::default() };
        assert_eq!(store.advance_run(first.id, "t", failed, 3).unwrap().ended_ms, Some(3));
        assert_eq!(topics(&store), ["run.failed"]);
        let second = store.begin_run(1, "t", "watch", 1, 0).unwrap();
        assert_ne!(second.id, first.id);
        // Its job is taken away; the next run of the profile sees that nobody will go on with it.
        store.db.execute_batch("DELETE FROM leases; UPDATE jobs SET state = 'failed'").unwrap();
        hold(&store, 2);
        store.begin_run(2, "t", "watch", 1, 0).unwrap();
        assert_eq!(store.run(second.id).unwrap().unwrap().state, RunState::Failed);
    }

    #[test]
    #[cfg_attr(schema_1, ignore = "this build keeps no findings")]
    fn a_baseline_takes_what_is_there_and_gives_it_back() {
        let (_dir, mut store) = store();
        assert_eq!(store.set_baseline("watch", "op", None, 0).map_err(|error| error.code()), Err("baseline.no-run"));
        run(&mut store, 1, &report(&[new("a/1", "A"), new("baseline/new/x", BASELINE_ACTION)], &[]));
        let made = store.set_baseline("watch", "op", Some("as built"), 5).unwrap();
        let hash = sha256_hex("{\"k\":\"a/1\"}");
        assert_eq!(made.expected, BTreeMap::from([("a/1".to_owned(), hash)]));
        assert_eq!((made.made_by.as_str(), made.note.as_deref(), made.run_id), ("op", Some("as built"), 1));
        let after: Vec<_> = states(&store).into_iter().map(|(_, state, _)| state).collect();
        assert_eq!(after, [FindingState::Expected, FindingState::Gone]);
        let expected = NewFinding { expected: true, ..new("a/1", "A") };
        assert_eq!(run(&mut store, 2, &report(&[expected], &[])), Reported { opened: 0, open: 0, expected: 1, gone: 0 });
        assert_eq!(store.findings_open().unwrap(), 0);
        // Changed against the baseline, it is open again.
        assert_eq!(run(&mut store, 3, &report(&[new("a/1", "A")], &[])).opened, 1);
        store.set_baseline("watch", "op", None, 6).unwrap();
        assert_eq!(store.baselines(Some("watch"), None, 10).unwrap().len(), 2);
        assert_eq!((store.clear_baselines("watch", "op", 7).unwrap(), store.clear_baselines("watch", "op", 7).unwrap()), (2, 0));
        assert_eq!(states(&store)[0].1, FindingState::Open);
        assert_eq!(topics(&store).iter().filter(|topic| *topic == "baseline.cleared").count(), 1);
    }

    #[test]
    #[cfg_attr(schema_1, ignore = "this build keeps no findings")]
    fn a_version_of_a_profile_never_changes() {
        let (_dir, mut store) = store();
        assert!(store.add_profile("watch", 1, "one", 0).unwrap());
        assert!(!store.add_profile("watch", 1, "one", 9).unwrap());
        assert_eq!(store.add_profile("watch", 1, "two", 0).map_err(|error| error.code()), Err("profile.changed"));
        assert!(store.add_profile("watch", 2, "two", 0).unwrap());
        assert!(store.add_profile("other", 1, "three", 0).unwrap());
        let newest: Vec<_> = store.profiles(None).unwrap().into_iter().map(|profile| (profile.name, profile.version)).collect();
        assert_eq!(newest, [("other".into(), 1), ("watch".into(), 2)]);
        let all: Vec<_> = store.profiles(Some("watch")).unwrap().into_iter().map(|profile| profile.version).collect();
        assert_eq!(all, [2, 1]);
        assert_eq!(topics(&store), ["profile.added"; 3]);
    }

    #[test]
    #[cfg_attr(schema_1, ignore = "this build keeps no findings")]
    fn lists_are_filtered() {
        let (_dir, mut store) = store();
        let loud = NewFinding { severity: Severity::Error, title: "50% of it_all".into(), ..new("b/2", "B") };
        run(&mut store, 1, &report(&[new("a/1", "A"), loud, new("c/3", "C")], &[]));
        run(&mut store, 2, &report(&[new("a/1", "A")], &["B"]));
        let all = FindingFilter { limit: 10, ..FindingFilter::default() };
        let search = |text: &str| FindingFilter { search: Some(text.to_owned()), ..all.clone() };
        let cases = [
            (all.clone(), "c/3 b/2 a/1"),
            (FindingFilter { limit: 1, ..all.clone() }, "c/3"),
            (FindingFilter { before: Some(3), ..all.clone() }, "b/2 a/1"),
            (FindingFilter { state: Some(FindingState::Gone), ..all.clone() }, "c/3"),
            (FindingFilter { severity: Some(Severity::Warning), ..all.clone() }, "b/2"),
            (FindingFilter { profile: Some("other".into()), ..all.clone() }, ""),
            (search("A/"), "a/1"),
            (search("0% of it_"), "b/2"),
            (search("%"), "b/2"),
            (search("_"), "b/2"),
            (search("\\"), ""),
        ];
        for (filter, keys) in cases {
            let found: Vec<_> = store.findings(&filter).unwrap().into_iter().map(|finding| finding.key).collect();
            assert_eq!(found.join(" "), keys, "{filter:?}");
        }
    }

    #[test]
    #[cfg_attr(schema_1, ignore = "this build keeps no findings")]
    fn hot_queries_read_no_more_than_they_return() {
        let (_dir, mut store) = store();
        let many: Vec<_> = (0..300).map(|i| new(&format!("a/{i}"), "A")).collect();
        for job in 1..=40 {
            run(&mut store, job, &report(if job % 2 == 0 { &many } else { &many[..290] }, &[]));
        }
        let text = |text: &str| Sql::from(text.to_owned());
        let number = |number: i64| Sql::from(number);
        let gone = FindingFilter { state: Some(FindingState::Gone), limit: 5, ..FindingFilter::default() };
        let newest = FindingFilter { limit: 5, profile: Some("watch".into()), ..FindingFilter::default() };
        let mut table = vec![
            (RUN.to_owned(), vec![number(3)], "SEARCH runs USING INTEGER PRIMARY KEY (rowid=?)"),
            (RUN_OF_JOB.to_owned(), vec![number(3)], "SEARCH runs USING COVERING INDEX runs_by_job (job_id=?)"),
            (RUNS.to_owned(), vec![number(30), number(5)], "SEARCH runs USING INTEGER PRIMARY KEY (rowid<?)"),
            (
                RUNS_OF_PROFILE.to_owned(),
                vec![number(30), number(5), text("watch")],
                "SEARCH runs USING INDEX runs_by_profile (profile=? AND id<?)",
            ),
            (FINDING.to_owned(), vec![number(3)], "SEARCH findings USING INTEGER PRIMARY KEY (rowid=?)"),
            (
                STATE_OF.to_owned(),
                vec![text("watch"), text("a/7")],
                "SEARCH findings USING INDEX sqlite_autoindex_findings_1 (profile=? AND key=?)",
            ),
            (
                FOUND_BEFORE.to_owned(),
                vec![text("watch"), number(40)],
                "SEARCH findings USING INDEX sqlite_autoindex_findings_1 (profile=?)",
            ),
            (OPEN.to_owned(), vec![], "SEARCH findings USING COVERING INDEX findings_by_state (state=?)"),
            (
                BASELINE.to_owned(),
                vec![text("watch"), number(1), number(9)],
                "SEARCH baselines USING INDEX baselines_by_profile (profile=? AND id<?)",
            ),
            (PROFILE_AT.to_owned(), vec![text("watch"), number(1)], "SEARCH profiles USING PRIMARY KEY (name=? AND version=?)"),
            (HELD.to_owned(), vec![number(40), text("t")], "SEARCH leases USING PRIMARY KEY (name=?)"),
        ];
        for (filter, plan) in [
            (gone, "SEARCH findings USING INDEX findings_by_state (state=? AND id<?)"),
            (newest, "SEARCH findings USING INTEGER PRIMARY KEY (rowid<?)"),
        ] {
            let (sql, values) = findings_sql(&filter);
            table.push((sql, values, plan));
        }
        for (sql, values, plan) in table {
            let mut explain = store.db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let said: Vec<String> = explain
                .query_map(rusqlite::params_from_iter(values.clone()), |row| row.get(3))
                .unwrap()
                .collect::<rusqlite::Result<_>>()
                .unwrap();
            assert_eq!(said, [plan], "{sql}");
            let mut run = store.db.prepare(&sql).unwrap();
            let mut rows = run.query(rusqlite::params_from_iter(values)).unwrap();
            while rows.next().unwrap().is_some() {}
            drop(rows);
            assert_eq!(run.get_status(StatementStatus::Sort), 0, "{sql}: sorts");
        }
    }
}
