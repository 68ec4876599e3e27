//! `smolotchi jobs`, `stages`, `artifacts` and `locks`: look at the work and decide, through core.

use super::events::words;
use crate::artifacts::too_large;
use crate::cli::{ArtifactsVerb, JobsVerb, LocksVerb, StagesVerb};
use crate::client::{Client, block_on};
use crate::paths::Paths;
use crate::wire::{
    Artifact, Artifacts, CancelJob, CleanLocks, Decision, Job, JobState, Jobs, Lock, Locks, MAX_ARTIFACT, NewJob, RemoveArtifacts, Removed,
    Stage, StageState, Stages, Verified, VerifyArtifacts,
};
use serde::Serialize;
use serde_json::Value;
use smolotchi_operator::output::{columns, counted, emit};
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table};
use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::path::Path;

/// Text for people on one line.
fn line(text: &str) -> String {
    words(&Value::String(text.to_owned()))
}

/// Named facts, one on each line; those without a value are left out.
fn facts(rows: &[(&str, Option<String>)]) -> String {
    let rows: Vec<_> = rows.iter().filter_map(|(name, value)| Some(vec![(*name).to_owned(), line(value.as_ref()?)])).collect();
    columns(&rows)
}

fn nothing(rows: &[Vec<String>], what: &str) -> String {
    if rows.is_empty() { format!("no {what}\n") } else { columns(rows) }
}

/// The user behind sudo: claimed, and written down beside what the kernel says.
pub(super) fn by() -> Option<String> {
    std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty())
}

impl Table for Jobs {
    fn table(&self) -> String {
        let row = |job: &Job| {
            let profile = job.profile.clone().unwrap_or_else(|| "-".to_owned());
            let attempts = format!("{}/{}", job.attempts, job.max_attempts);
            let note = job.error.as_deref().map(line).unwrap_or_default();
            vec![job.id.to_string(), job.changed_at.clone(), job.state.as_str().to_owned(), job.kind.clone(), profile, attempts, note]
        };
        nothing(&self.jobs.iter().map(row).collect::<Vec<_>>(), "jobs")
    }
}

impl Table for Job {
    fn table(&self) -> String {
        facts(&[
            ("job", Some(self.id.to_string())),
            ("state", Some(self.state.as_str().to_owned())),
            ("kind", Some(self.kind.clone())),
            ("profile", self.profile.clone()),
            ("input", Some(self.input.to_string()).filter(|text| text != "null")),
            ("priority", Some(self.priority.to_string())),
            ("asked for", Some(format!("{} by {}", self.created_at, self.created_by))),
            ("due", Some(self.due_at.clone())),
            ("attempts", Some(format!("{} of {}", self.attempts, self.max_attempts))),
            ("changed", Some(self.changed_at.clone())),
            ("result", self.result.as_ref().map(Value::to_string)),
            ("error", self.error.clone()),
        ])
    }
}

impl Table for Stages {
    fn table(&self) -> String {
        let row = |stage: &Stage| {
            let state = stage.state.as_str().to_owned();
            let what = format!("run {} step {}", stage.run_id, stage.step);
            let note = match (&stage.decided_by, &stage.why) {
                (Some(by), Some(why)) => format!("{by}: {}", line(why)),
                (None, Some(why)) => line(why),
                _ => format!("until {}: {}", stage.expires_at, line(&stage.reason)),
            };
            vec![stage.id.to_string(), stage.requested_at.clone(), state, what, stage.action.clone(), stage.risk.clone(), note]
        };
        nothing(&self.stages.iter().map(row).collect::<Vec<_>>(), "stage requests")
    }
}

impl Table for Stage {
    fn table(&self) -> String {
        facts(&[
            ("stage", Some(self.id.to_string())),
            ("state", Some(self.state.as_str().to_owned())),
            ("run", Some(format!("{}, step {} (job {})", self.run_id, self.step, self.job_id))),
            ("action", Some(self.action.clone())),
            ("risk", Some(self.risk.clone())),
            ("reason", Some(self.reason.clone())),
            ("requested", Some(self.requested_at.clone())),
            ("until", Some(self.expires_at.clone())),
            ("decided", self.decided_at.clone()),
            ("by", self.decided_by.clone()),
            ("why", self.why.clone()),
        ])
    }
}

impl Table for Artifacts {
    fn table(&self) -> String {
        let row = |one: &Artifact| {
            let of =
                one.run_id.map(|run| format!("run {run}")).or(one.job_id.map(|job| format!("job {job}"))).unwrap_or_else(|| "-".to_owned());
            vec![
                one.id.to_string(),
                one.created_at.clone(),
                one.state.as_str().to_owned(),
                one.kind.clone(),
                of,
                one.bytes.to_string(),
                one.sha256.get(..12).unwrap_or_default().to_owned(),
                line(&one.name),
            ]
        };
        nothing(&self.artifacts.iter().map(row).collect::<Vec<_>>(), "artifacts")
    }
}

impl Table for Artifact {
    fn table(&self) -> String {
        facts(&[
            ("artifact", Some(self.id.to_string())),
            ("state", Some(self.state.as_str().to_owned())),
            ("fault", self.fault.clone()),
            ("kind", Some(self.kind.clone())),
            ("name", Some(self.name.clone())),
            ("media", Some(self.media.clone())),
            ("bytes", Some(self.bytes.to_string())),
            ("sha256", Some(self.sha256.clone())),
            ("created", Some(self.created_at.clone())),
            ("job", self.job_id.map(|id| id.to_string())),
            ("run", self.run_id.map(|id| id.to_string())),
            ("checked", self.checked_at.clone()),
        ])
    }
}

/// A job that would be cancelled.
#[derive(Debug, Serialize)]
struct WouldCancel {
    dry_run: bool,
    job: Job,
    /// What would end with it.
    stages: Vec<Stage>,
}

impl Table for WouldCancel {
    fn table(&self) -> String {
        let Job { id, kind, state, .. } = &self.job;
        let stage = |stage: &Stage| format!("  stage {}: {} ({})\n", stage.id, line(&stage.action), line(&stage.reason));
        format!("would cancel job {id} ({kind}, {})\n{}", state.as_str(), self.stages.iter().map(stage).collect::<String>())
    }
}

impl Table for Verified {
    fn table(&self) -> String {
        let mut text = format!("checked {} contents, {} bytes\n", self.checked, self.bytes);
        for one in &self.damaged {
            text.push_str(&format!("DAMAGED  {}  {}  {}\n", one.id, line(&one.name), one.fault.as_deref().map(line).unwrap_or_default()));
        }
        for sha256 in &self.strays {
            text.push_str(&format!("unknown  {sha256}\n"));
        }
        text
    }
}

impl Table for Removed {
    fn table(&self) -> String {
        let row = |one: &Artifact| vec![one.id.to_string(), one.kind.clone(), line(&one.name)];
        let rows: Vec<_> = self.artifacts.iter().map(row).collect();
        format!("{}{}, {} bytes on the disk\n", columns(&rows), counted(rows.len() as u64, "artifact"), self.bytes)
    }
}

impl Table for Locks {
    fn table(&self) -> String {
        let row = |lock: &Lock| {
            let state = if lock.stale { "stale" } else { "held" }.to_owned();
            vec![lock.name.clone(), state, format!("{} ({})", lock.owner.role, lock.owner.pid), lock.taken_at.clone(), lock.why.clone()]
        };
        nothing(&self.locks.iter().map(row).collect::<Vec<_>>(), "leases")
    }
}

/// `key=value` pairs of those that are given, as a query.
fn query(pairs: &[(&str, Option<String>)]) -> String {
    let pairs: Vec<_> = pairs.iter().filter_map(|(key, value)| Some(format!("{key}={}", escaped(value.as_ref()?)))).collect();
    pairs.join("&")
}

/// Percent-encoded, so that any text can stand in a query.
fn escaped(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// Runs a verb of the queue.
pub(crate) fn jobs(paths: &Paths, format: Format, verb: JobsVerb) -> Result<Exit> {
    let client = Client::new(paths.socket());
    match verb {
        JobsVerb::List { state, before, limit } => {
            let state = state.map(|state| state.as_str().to_owned());
            let asked = query(&[("limit", Some(limit.to_string())), ("state", state), ("before", before.map(|id| id.to_string()))]);
            emit(format, &block_on(client.get::<Jobs>(&format!("/v1/jobs?{asked}")))?);
        }
        JobsVerb::Show { id } => emit(format, &block_on(client.get::<Job>(&format!("/v1/jobs/{id}")))?),
        JobsVerb::Add { kind, profile, input, priority, delay } => {
            let new = NewJob { kind, profile, input: input.unwrap_or_default(), priority, delay_s: delay, max_attempts: None, by: by() };
            emit(format, &block_on(client.post::<_, Job>("/v1/jobs", &new))?);
        }
        JobsVerb::Cancel { id, dry_run: true } => emit(format, &block_on(would_cancel(&client, id))?),
        JobsVerb::Cancel { id, dry_run: false } => {
            emit(format, &block_on(client.post::<_, Job>(&format!("/v1/jobs/{id}/cancel"), &CancelJob { by: by() }))?);
        }
    }
    Ok(Exit::Success)
}

/// What cancelling would end. Errors: as cancelling itself.
async fn would_cancel(client: &Client, id: i64) -> Result<WouldCancel> {
    let job: Job = client.get(&format!("/v1/jobs/{id}")).await?;
    if !matches!(job.state, JobState::Queued | JobState::Leased | JobState::Waiting) {
        return Err(Fault::new(Code::JobEnded, "the job has ended already").fact("job", id).fact("state", job.state.as_str()));
    }
    Ok(WouldCancel { dry_run: true, stages: super::ai::pending(client, id).await?, job })
}

/// Runs a verb of the stage requests.
pub(crate) fn stages(paths: &Paths, format: Format, verb: StagesVerb) -> Result<Exit> {
    let client = Client::new(paths.socket());
    let decide = |id: i64, word: &str, why: String| -> Result<()> {
        let decision = Decision { why, by: by() };
        emit(format, &block_on(client.post::<_, Stage>(&format!("/v1/stages/{id}/{word}"), &decision))?);
        Ok(())
    };
    match verb {
        StagesVerb::List { state, all, limit } => {
            let state = if all { None } else { Some(state.unwrap_or(StageState::Pending).as_str().to_owned()) };
            let asked = query(&[("limit", Some(limit.to_string())), ("state", state)]);
            emit(format, &block_on(client.get::<Stages>(&format!("/v1/stages?{asked}")))?);
        }
        StagesVerb::Show { id } => emit(format, &block_on(client.get::<Stage>(&format!("/v1/stages/{id}")))?),
        StagesVerb::Approve { id, why } => decide(id, "approve", why)?,
        StagesVerb::Deny { id, why } => decide(id, "deny", why)?,
    }
    Ok(Exit::Success)
}

/// Runs a verb of the artifacts.
pub(crate) fn artifacts(paths: &Paths, format: Format, verb: ArtifactsVerb) -> Result<Exit> {
    let client = Client::new(paths.socket());
    match verb {
        ArtifactsVerb::List { kind, job, run, state, before, limit } => {
            let number = |number: Option<i64>| number.map(|number| number.to_string());
            let state = state.map(|state| state.as_str().to_owned());
            let pairs = [("limit", Some(limit.to_string())), ("kind", kind), ("job", number(job)), ("run", number(run))];
            let more = [("state", state), ("before", number(before))];
            emit(format, &block_on(client.get::<Artifacts>(&format!("/v1/artifacts?{}", query(&[&pairs[..], &more[..]].concat()))))?);
        }
        ArtifactsVerb::Show { id } => emit(format, &block_on(client.get::<Artifact>(&format!("/v1/artifacts/{id}")))?),
        ArtifactsVerb::Verify { ids } => {
            let verified = block_on(verified(&client, &ids))?;
            emit(format, &verified);
            if !verified.damaged.is_empty() {
                return Err(Fault::new(Code::ArtifactDamaged, "artifacts are damaged").fact("damaged", verified.damaged.len()));
            }
        }
        ArtifactsVerb::Export { id, to } => export(&client, format, id, to.as_deref())?,
        ArtifactsVerb::Put { file, kind, name, media } => put(&client, format, &file, kind, name, media)?,
        ArtifactsVerb::Remove { ids, dry_run } => {
            let request = RemoveArtifacts { ids, dry_run, by: by() };
            emit(format, &block_on(client.post::<_, Removed>("/v1/artifacts/remove", &request))?);
        }
    }
    Ok(Exit::Success)
}

/// All parts of a pass as one; what was known as damaged before is in it.
async fn verified(client: &Client, ids: &[i64]) -> Result<Verified> {
    let mut all = Verified::default();
    let ask = async |request: VerifyArtifacts, all: &mut Verified| -> Result<Option<i64>> {
        let part: Verified = client.post("/v1/artifacts/verify", &request).await?;
        all.checked += part.checked;
        all.bytes += part.bytes;
        all.damaged.extend(part.damaged);
        all.strays.extend(part.strays);
        Ok(part.next)
    };
    for id in ids {
        ask(VerifyArtifacts { after: 0, only: Some(*id) }, &mut all).await?;
    }
    if ids.is_empty() {
        let mut next = Some(0);
        while let Some(after) = next {
            next = ask(VerifyArtifacts { after, only: None }, &mut all).await?;
        }
        all.damaged = client.get::<Artifacts>("/v1/artifacts?state=damaged&limit=1000").await?.artifacts;
    }
    Ok(all)
}

fn export(client: &Client, format: Format, id: i64, to: Option<&Path>) -> Result<()> {
    let path = format!("/v1/artifacts/{id}/content");
    let Some(to) = to else {
        if std::io::stdout().is_terminal() {
            let artifact: Artifact = block_on(client.get(&format!("/v1/artifacts/{id}")))?;
            if !artifact.media.starts_with("text/") && artifact.media != "application/json" {
                return Err(Fault::new(Code::Usage, "this content is not for a terminal: name a file with --to, or pipe it"));
            }
        }
        return block_on(client.fetch(&path, &mut std::io::stdout().lock())).map(drop);
    };
    let artifact: Artifact = block_on(client.get(&format!("/v1/artifacts/{id}")))?;
    let wrong = |error| Fault::io("could not write the content", to, &error);
    let opened = OpenOptions::new().write(true).create_new(true).open(to);
    let mut file = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Fault::new(Code::StoreExists, "the file exists").fact("path", to.display().to_string()),
        _ => wrong(error),
    })?;
    let written = block_on(client.fetch(&path, &mut file)).and_then(|_| file.sync_all().map_err(wrong));
    if let Err(fault) = written {
        // Half of it would look like the whole.
        let _ = std::fs::remove_file(to);
        return Err(fault);
    }
    emit(format, &artifact);
    Ok(())
}

fn put(client: &Client, format: Format, path: &Path, kind: String, name: Option<String>, media: Option<String>) -> Result<()> {
    let wrong = |error| Fault::io("could not read the file", path, &error);
    let file = File::open(path).map_err(wrong)?;
    let facts = file.metadata().map_err(wrong)?;
    if !facts.is_file() {
        return Err(Fault::new(Code::Usage, "only a file can be stored").fact("path", path.display().to_string()));
    }
    if facts.len() > MAX_ARTIFACT {
        return Err(too_large(MAX_ARTIFACT).fact("bytes", facts.len()));
    }
    let own = || path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let asked = query(&[("kind", Some(kind)), ("name", Some(name.unwrap_or_else(own))), ("media", media)]);
    emit(format, &block_on(client.send::<Artifact>(&format!("/v1/artifacts?{asked}"), file, facts.len()))?);
    Ok(())
}

/// Runs a verb of the leases.
pub(crate) fn locks(paths: &Paths, format: Format, verb: LocksVerb) -> Result<Exit> {
    let client = Client::new(paths.socket());
    let locks: Locks = match verb {
        LocksVerb::List => block_on(client.get("/v1/locks"))?,
        LocksVerb::Clean { dry_run } => block_on(client.post("/v1/locks/clean", &CleanLocks { dry_run }))?,
    };
    emit(format, &locks);
    Ok(Exit::Success)
}
