//! Jobs, leases, artifacts and stage requests, as core tells them and takes them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
pub(crate) use smolotchi_store::{ArtifactState, JobState, Outcome, Process, StageState};

/// One job of `GET /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Ascending, never used twice.
    pub(crate) id: i64,
    /// What is to be done, such as `run`.
    pub(crate) kind: String,
    /// The profile, for kinds that have one.
    pub(crate) profile: Option<String>,
    /// Any JSON value.
    pub(crate) input: Value,
    /// Where it stands.
    pub(crate) state: JobState,
    /// Higher ones come first.
    pub(crate) priority: i64,
    /// RFC 3339.
    pub(crate) created_at: String,
    /// Who asked for it.
    pub(crate) created_by: String,
    /// Not before this moment, RFC 3339.
    pub(crate) due_at: String,
    /// How often it was begun.
    pub(crate) attempts: u32,
    /// How often it may be begun.
    pub(crate) max_attempts: u32,
    /// When its state last changed, RFC 3339.
    pub(crate) changed_at: String,
    /// What came out.
    pub(crate) result: Option<Value>,
    /// Why it failed the last time.
    pub(crate) error: Option<String>,
}

/// `GET /v1/jobs?state=&before=&limit=`: newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Jobs {
    /// Newest first.
    pub(crate) jobs: Vec<Job>,
    /// Where to go on: `before` of the next call. A page also ends at about 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<i64>,
}

/// `POST /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewJob {
    /// What is to be done.
    pub(crate) kind: String,
    /// The profile, for kinds that have one.
    #[serde(default)]
    pub(crate) profile: Option<String>,
    /// Any JSON value.
    #[serde(default)]
    pub(crate) input: Value,
    /// Higher ones come first.
    #[serde(default)]
    pub(crate) priority: i64,
    /// Seconds from now before which it is not begun.
    #[serde(default)]
    pub(crate) delay_s: u64,
    /// How often it may be begun; 3 if nobody says otherwise.
    #[serde(default)]
    pub(crate) max_attempts: Option<u32>,
    /// Who asks, besides what the kernel says of the caller.
    #[serde(default)]
    pub(crate) by: Option<String>,
}

/// `POST /v1/jobs/lease`: waits up to `wait_s` seconds (at most 100) for a job that is due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantJob {
    /// Who will do it.
    pub(crate) owner: Process,
    /// The kinds that it can do.
    pub(crate) kinds: Vec<String>,
    /// How long to wait for one.
    #[serde(default)]
    pub(crate) wait_s: u64,
    /// How long it will be held before it counts as lost, unless renewed.
    pub(crate) lease_s: u64,
}

/// The answer to `POST /v1/jobs/lease`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LeasedJob {
    /// The job, if there was one.
    pub(crate) job: Option<Job>,
    /// Proves who holds it; needed to renew and to finish.
    pub(crate) token: Option<String>,
}

/// `POST /v1/jobs/ID/renew`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenewJob {
    /// From the lease.
    pub(crate) token: String,
    /// From now.
    pub(crate) lease_s: u64,
}

/// `POST /v1/jobs/ID/finish`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FinishJob {
    /// From the lease.
    pub(crate) token: String,
    /// How it went.
    pub(crate) outcome: Outcome,
    /// What came out.
    #[serde(default)]
    pub(crate) result: Option<Value>,
    /// Why it failed.
    #[serde(default)]
    pub(crate) error: Option<String>,
}

/// The answer to `POST /v1/jobs/ID/renew`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Renewed {
    /// Always true: a lease that is lost is the error `job.not-held`.
    pub(crate) renewed: bool,
}

/// `POST /v1/jobs/ID/cancel`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelJob {
    /// Who, besides what the kernel says of the caller.
    #[serde(default)]
    pub(crate) by: Option<String>,
}

/// One lease of `GET /v1/locks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lock {
    /// What is held, such as `job/12`.
    pub(crate) name: String,
    /// By whom.
    pub(crate) owner: Process,
    /// Since when, RFC 3339.
    pub(crate) taken_at: String,
    /// Seconds until it ends; below 0: since it ended.
    pub(crate) expires_in_s: i64,
    /// Whether its owner can't be there any more.
    pub(crate) stale: bool,
    /// Why it is stale or not, in words.
    pub(crate) why: String,
}

/// `POST /v1/locks/clean`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CleanLocks {
    /// Only say what would be cleaned.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// `POST /v1/locks/take`, by the worker too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TakeLock {
    /// What is to be held; not `job/…`.
    pub(crate) name: String,
    /// By whom.
    pub(crate) owner: Process,
    /// How long, unless renewed.
    pub(crate) lease_s: u64,
}

/// The answer to `POST /v1/locks/take`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TakenLock {
    /// Proves who holds it; needed to renew it and to give it up.
    pub(crate) token: String,
}

/// `POST /v1/locks/renew` and, without `lease_s`, `POST /v1/locks/drop`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeldLock {
    /// What is held.
    pub(crate) name: String,
    /// From taking it.
    pub(crate) token: String,
    /// From now.
    #[serde(default)]
    pub(crate) lease_s: u64,
}

/// The answer to `POST /v1/locks/drop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dropped {
    /// Always true: a lease that is lost is the error `lease.not-held`.
    pub(crate) dropped: bool,
}

/// `GET /v1/locks`, and the answer to `POST /v1/locks/clean` (what was cleaned).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Locks {
    /// By name.
    pub(crate) locks: Vec<Lock>,
}

/// One artifact of `GET /v1/artifacts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Artifact {
    /// Ascending, never used twice.
    pub(crate) id: i64,
    /// What it is, such as `plan`, `inputs`, `result`, `note`.
    pub(crate) kind: String,
    /// A file name.
    pub(crate) name: String,
    /// A media type, such as `application/json`.
    pub(crate) media: String,
    /// Of the content, in hexadecimal.
    pub(crate) sha256: String,
    /// Of the content.
    pub(crate) bytes: u64,
    /// RFC 3339.
    pub(crate) created_at: String,
    /// The job that made it.
    pub(crate) job_id: Option<i64>,
    /// The run that made it.
    pub(crate) run_id: Option<i64>,
    /// Whether its content is what was put.
    pub(crate) state: ArtifactState,
    /// What was found wrong.
    pub(crate) fault: Option<String>,
    /// When its content was last read and compared, RFC 3339.
    pub(crate) checked_at: Option<String>,
}

/// `GET /v1/artifacts?kind=&job=&run=&before=&limit=`: newest first. One: `GET /v1/artifacts/ID`; its content:
/// `GET /v1/artifacts/ID/content`; a new one: `POST /v1/artifacts?kind=&name=&media=&job=&run=&token=` with the content as the body;
/// the worker's needs the token of the job's lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Artifacts {
    /// Newest first.
    pub(crate) artifacts: Vec<Artifact>,
    /// Where to go on: `before` of the next call. A page also ends at about 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<i64>,
}

/// The most bytes of one artifact.
pub(crate) const MAX_ARTIFACT: u64 = 64 * 1024 * 1024;

/// `POST /v1/artifacts/verify`, by the worker too: reads content and compares it. Answers after some seconds or when all is
/// read; then `next` says where to go on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyArtifacts {
    /// Only those after this one.
    #[serde(default)]
    pub(crate) after: i64,
    /// Only this one.
    #[serde(default)]
    pub(crate) only: Option<i64>,
}

/// `POST /v1/artifacts/remove`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoveArtifacts {
    /// Which, at most 1000.
    pub(crate) ids: Vec<i64>,
    /// Only say what would be removed.
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// Who, besides what the kernel says of the caller.
    #[serde(default)]
    pub(crate) by: Option<String>,
}

/// The answer to `POST /v1/artifacts/remove`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Removed {
    /// Removed, or to be removed.
    pub(crate) artifacts: Vec<Artifact>,
    /// The bytes that this frees: content that another artifact has stays.
    pub(crate) bytes: u64,
}

/// The answer to `POST /v1/artifacts/verify`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verified {
    /// How many were read and compared.
    pub(crate) checked: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Those whose content is missing or something else.
    pub(crate) damaged: Vec<Artifact>,
    /// Content that no artifact knows, by its sha256; only in the last answer of a whole pass.
    pub(crate) strays: Vec<String>,
    /// Ask again with this as `after`; none when all is read.
    pub(crate) next: Option<i64>,
}

/// One request of `GET /v1/stages`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stage {
    /// Ascending, never used twice.
    pub(crate) id: i64,
    /// The run that waits.
    pub(crate) run_id: i64,
    /// Its job.
    pub(crate) job_id: i64,
    /// The step of its plan, from 1.
    pub(crate) step: u32,
    /// The action of the step.
    pub(crate) action: String,
    /// Its risk class.
    pub(crate) risk: String,
    /// Why it needs somebody's word.
    pub(crate) reason: String,
    /// RFC 3339.
    pub(crate) requested_at: String,
    /// RFC 3339.
    pub(crate) expires_at: String,
    /// Where it stands.
    pub(crate) state: StageState,
    /// RFC 3339.
    pub(crate) decided_at: Option<String>,
    /// Who.
    pub(crate) decided_by: Option<String>,
    /// Why.
    pub(crate) why: Option<String>,
}

/// `GET /v1/stages?state=&limit=`: newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stages {
    /// Newest first.
    pub(crate) stages: Vec<Stage>,
    /// Where to go on: `before` of the next call. A page also ends at about 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<i64>,
}

/// `POST /v1/stages`, by the worker. The same run and step again is the same request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "as in Stage")]
pub(crate) struct NewStage {
    /// From the lease of the job.
    #[serde(default)]
    pub(crate) token: String,
    pub(crate) run_id: i64,
    pub(crate) job_id: i64,
    pub(crate) step: u32,
    pub(crate) action: String,
    pub(crate) risk: String,
    pub(crate) reason: String,
    /// How long it may be decided.
    pub(crate) valid_s: u64,
}

/// `POST /v1/stages/ID/approve` and `/deny`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decision {
    /// Why.
    pub(crate) why: String,
    /// Who, besides what the kernel says of the caller.
    #[serde(default)]
    pub(crate) by: Option<String>,
}
