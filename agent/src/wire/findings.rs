//! Profiles, runs, findings and baselines, as core tells them and takes them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use smolotchi_store::Severity;
use std::collections::BTreeMap;

/// One version of a profile. `GET /v1/profiles` (the newest of each; `?name=` every version); `POST /v1/profiles` takes
/// `{"text"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// Its name.
    pub(crate) name: String,
    /// From 1; a version never changes.
    pub(crate) version: u32,
    /// Of the text, in hexadecimal.
    pub(crate) sha256: String,
    /// TOML.
    pub(crate) text: String,
    /// RFC 3339.
    pub(crate) added_at: String,
}

/// `GET /v1/profiles`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Profiles {
    /// By name, newest version first.
    pub(crate) profiles: Vec<Profile>,
}

/// `POST /v1/profiles`, by an admin: the same text again changes nothing; another text under the same version is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProfile {
    /// TOML.
    pub(crate) text: String,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RunState {
    /// A worker is at it.
    Running,
    /// It waits for a decision.
    Waiting,
    /// Done.
    Done,
    /// Given up.
    Failed,
}

/// One look by one profile. `GET /v1/runs?profile=&before=&limit=` newest first, `GET /v1/runs/ID`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Ascending, never used twice.
    pub(crate) id: i64,
    /// Its job; none for a replay.
    pub(crate) job_id: Option<i64>,
    /// The profile.
    pub(crate) profile: String,
    /// The profile's version.
    pub(crate) profile_version: u32,
    /// Where it stands.
    pub(crate) state: RunState,
    /// The run whose recorded inputs it was made from again.
    pub(crate) replay_of: Option<i64>,
    /// RFC 3339.
    pub(crate) started_at: String,
    /// RFC 3339.
    pub(crate) ended_at: Option<String>,
    /// The artifact with its plan.
    pub(crate) plan_artifact: Option<i64>,
    /// The artifact with what its actions saw.
    pub(crate) inputs_artifact: Option<i64>,
    /// The artifact with its result.
    pub(crate) result_artifact: Option<i64>,
}

/// `GET /v1/runs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Runs {
    /// Newest first.
    pub(crate) runs: Vec<Run>,
    /// Where to go on: `before` of the next call. A page also ends at about 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<i64>,
}

/// `POST /v1/runs`, by who holds the job: its run, begun now or by a worker before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BeginRun {
    /// The job.
    pub(crate) job_id: i64,
    /// From the lease.
    pub(crate) token: String,
    /// The profile.
    pub(crate) profile: String,
    /// Its version.
    pub(crate) profile_version: u32,
}

/// `POST /v1/runs/ID`, by who holds its job; what is not given stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdvanceRun {
    /// From the lease.
    pub(crate) token: String,
    /// Not `done`: that is what a report makes of it.
    #[serde(default)]
    pub(crate) state: Option<RunState>,
    /// Written once: a plan that is there stays.
    #[serde(default)]
    pub(crate) plan_artifact: Option<i64>,
    /// Replaces the one before.
    #[serde(default)]
    pub(crate) inputs_artifact: Option<i64>,
}

/// One thing that a run found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "as in Finding")]
pub(crate) struct NewFinding {
    pub(crate) key: String,
    pub(crate) title: String,
    pub(crate) severity: Severity,
    /// In the baseline, with the same detail.
    #[serde(default)]
    pub(crate) expected: bool,
    pub(crate) action: String,
    pub(crate) step: u32,
    pub(crate) policy: Value,
    pub(crate) detail: Value,
}

/// `POST /v1/runs/ID/report`, by who holds its job: all that it found and its end, in one commit. Again: nothing changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReportRun {
    /// From the lease.
    pub(crate) token: String,
    /// The artifact with what its actions saw.
    pub(crate) evidence: Option<i64>,
    /// The artifact with its result.
    pub(crate) result_artifact: Option<i64>,
    /// The actions that could not look, or might not, and beginnings of keys, which end in `/`, below which nobody could look: what
    /// was found there before stays as it is.
    #[serde(default)]
    pub(crate) unjudged: Vec<String>,
    /// Each key once.
    pub(crate) findings: Vec<NewFinding>,
}

/// The answer to `POST /v1/runs/ID/report`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Reported {
    /// New ones, or there again, that nobody expected.
    pub(crate) opened: u64,
    /// Those that are open, with the new ones.
    pub(crate) open: u64,
    /// Those that were expected.
    pub(crate) expected: u64,
    /// Those that are not there any more.
    pub(crate) gone: u64,
}

/// Where a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FindingState {
    /// There.
    Open,
    /// There, and in the profile's baseline.
    Expected,
    /// Not there any more.
    Gone,
}

/// One finding. `GET /v1/findings?state=&profile=&severity=&search=&before=&limit=`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// Ascending, never used twice.
    pub(crate) id: i64,
    /// The profile that found it.
    pub(crate) profile: String,
    /// What makes it the same thing when it is found again, such as `socket/tcp/0.0.0.0:22`.
    pub(crate) key: String,
    /// One sentence.
    pub(crate) title: String,
    /// How serious it is.
    pub(crate) severity: Severity,
    /// Where it stands.
    pub(crate) state: FindingState,
    /// The run that found it first.
    pub(crate) first_run: i64,
    /// The run that found it last.
    pub(crate) last_run: i64,
    /// RFC 3339.
    pub(crate) first_at: String,
    /// RFC 3339.
    pub(crate) last_at: String,
    /// How often it was found.
    pub(crate) times: u64,
    /// The profile's version at the last time.
    pub(crate) profile_version: u32,
    /// The action that found it.
    pub(crate) action: String,
    /// The step of the last run's plan, from 1.
    pub(crate) step: u32,
    /// The policy's word on that step: `{"rule","verdict","reason","risk"}`.
    pub(crate) policy: Value,
    /// The artifact with what the action saw.
    pub(crate) evidence: Option<i64>,
    /// The facts, an object.
    pub(crate) detail: Value,
}

/// `GET /v1/findings`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Findings {
    /// Newest first.
    pub(crate) findings: Vec<Finding>,
    /// How many are open.
    pub(crate) open: u64,
    /// Where to go on: `before` of the next call. A page also ends at about 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<i64>,
}

/// Why a finding is what it is. `GET /v1/findings/ID`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WhyChain {
    /// The finding.
    pub(crate) finding: Finding,
    /// Its profile in the version that found it last.
    pub(crate) profile: Option<Profile>,
    /// Its last run.
    pub(crate) run: Option<Run>,
    /// What is known of the evidence.
    pub(crate) evidence: Option<super::Artifact>,
    /// The baseline that it was compared with.
    pub(crate) baseline: Option<Baseline>,
}

/// What a profile is expected to find. `GET /v1/baselines?profile=&before=&limit=`, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// Ascending, never used twice.
    pub(crate) id: i64,
    /// The profile.
    pub(crate) profile: String,
    /// Its version at that time.
    pub(crate) profile_version: u32,
    /// The run that it was taken from.
    pub(crate) run_id: i64,
    /// RFC 3339.
    pub(crate) made_at: String,
    /// Who.
    pub(crate) made_by: String,
    /// Why.
    pub(crate) note: Option<String>,
    /// The findings' keys, each with the sha256 of its detail.
    pub(crate) expected: BTreeMap<String, String>,
}

/// `GET /v1/baselines`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Baselines {
    /// Newest first.
    pub(crate) baselines: Vec<Baseline>,
    /// Where to go on: `before` of the next call. A page also ends at about 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<i64>,
}

/// `POST /v1/baselines`, by an admin: what the profile finds now is expected from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBaseline {
    /// The profile.
    pub(crate) profile: String,
    /// Why.
    #[serde(default)]
    pub(crate) note: Option<String>,
    /// Who, besides what the kernel says of the caller.
    #[serde(default)]
    pub(crate) by: Option<String>,
}

/// `POST /v1/baselines/clear`, by an admin: nothing is expected any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClearBaseline {
    /// The profile.
    pub(crate) profile: String,
    /// Who, besides what the kernel says of the caller.
    #[serde(default)]
    pub(crate) by: Option<String>,
}

/// The answer to `POST /v1/baselines/clear`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cleared {
    /// How many there were.
    pub(crate) removed: u64,
}
