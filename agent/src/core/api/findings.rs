//! Profiles, runs, findings and baselines: everybody reads; the ai worker writes its runs; admins add profiles and set baselines.

use super::{Answer, Id, fits};
use crate::ai::profile::Profile;
use crate::clock;
use crate::core::Core;
use crate::core::refuse::{Refusal, parse};
use crate::core::work::Work;
use crate::serve::Caller;
use crate::wire;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::Value;
use smolotchi_operator::{Code, Fault};
use smolotchi_store as store;
use std::sync::Arc;

/// Answers without a limit.
const USUAL: u32 = 50;
/// The most rows of one answer.
const MOST: u32 = 500;

type Given = Result<Bytes, BytesRejection>;
type Asked<T> = Result<Query<T>, QueryRejection>;

/// For everyone to read, and for admins.
pub(super) fn routes() -> Router<Arc<Core>> {
    Router::new()
        .route("/v1/profiles", get(profiles).post(add_profile))
        .route("/v1/runs", get(runs))
        .route("/v1/runs/{id}", get(run))
        .route("/v1/findings", get(findings))
        .route("/v1/findings/{id}", get(why))
        .route("/v1/baselines", get(baselines).post(set_baseline))
        .route("/v1/baselines/clear", post(clear_baselines))
}

/// For the ai worker.
pub(super) fn worker_routes() -> Router<Arc<Core>> {
    Router::new()
        .route("/v1/runs", post(begin_run))
        .route("/v1/runs/{id}", post(advance_run))
        .route("/v1/runs/{id}/report", post(report_run))
}

/// What a list may be asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    name: Option<String>,
    profile: Option<String>,
    state: Option<wire::FindingState>,
    severity: Option<store::Severity>,
    search: Option<String>,
    before: Option<i64>,
    limit: Option<u32>,
}

impl Wanted {
    fn limit(&self) -> u32 {
        self.limit.unwrap_or(USUAL).clamp(1, MOST)
    }
}

/// A list's query. Errors: `core.request`.
fn asked(query: Asked<Wanted>) -> Result<Wanted, Refusal> {
    let refused =
        |rejection: QueryRejection| Fault::new(Code::CoreRequest, "the query is not understood").fact("cause", rejection.body_text());
    Ok(query.map_err(refused)?.0)
}

async fn profiles(State(core): State<Arc<Core>>, query: Asked<Wanted>) -> Answer<wire::Profiles> {
    let wanted = asked(query)?;
    let found = core.store(move |store| store.profiles(wanted.name.as_deref())).await?;
    Ok(Json(wire::Profiles { profiles: found.into_iter().map(shown_profile).collect() }))
}

async fn add_profile(State(core): State<Arc<Core>>, body: Given) -> Answer<wire::Profile> {
    let wire::NewProfile { text } = parse(body)?;
    let Profile { name, version, .. } = Profile::parse("profile", &text)?;
    let kept = core.store(move |store| {
        store.add_profile(&name, version, &text, clock::now_ms())?;
        store.profile(&name, Some(version))
    });
    kept.await?.map(|profile| Json(shown_profile(profile))).ok_or_else(|| Fault::new(Code::CoreFailed, "the profile is not there").into())
}

async fn runs(State(core): State<Arc<Core>>, query: Asked<Wanted>) -> Answer<wire::Runs> {
    let wanted = asked(query)?;
    let limit = wanted.limit();
    let found = core.store(move |store| store.runs(wanted.profile.as_deref(), wanted.before, limit)).await?;
    let next = store::next(&found, limit);
    Ok(Json(wire::Runs { runs: found.into_iter().map(shown_run).collect(), next }))
}

async fn run(State(core): State<Arc<Core>>, Id(id): Id) -> Answer<wire::Run> {
    let found = core.store(move |store| store.run(id)).await?;
    found.map(|run| Json(shown_run(run))).ok_or_else(|| Fault::new(Code::RunUnknown, "there is no such run").fact("run", id).into())
}

async fn begin_run(State(core): State<Arc<Core>>, body: Given) -> Answer<wire::Run> {
    let wire::BeginRun { job_id, token, profile, profile_version } = parse(body)?;
    let run = core.store(move |store| store.begin_run(job_id, &token, &profile, profile_version, clock::now_ms())).await?;
    Ok(Json(shown_run(run)))
}

async fn advance_run(State(core): State<Arc<Core>>, Id(id): Id, body: Given) -> Answer<wire::Run> {
    let wire::AdvanceRun { token, state, plan_artifact, inputs_artifact } = parse(body)?;
    let advance = store::Advance { state: state.map(stored_state), plan_artifact, inputs_artifact };
    let run = core.store(move |store| store.advance_run(id, &token, advance, clock::now_ms())).await?;
    Ok(Json(shown_run(run)))
}

async fn report_run(State(core): State<Arc<Core>>, Id(id): Id, body: Given) -> Answer<wire::Reported> {
    let wire::ReportRun { token, evidence, result_artifact, unjudged, findings } = parse(body)?;
    let new = |finding: wire::NewFinding| {
        Ok(store::NewFinding {
            key: finding.key,
            title: fits("title", finding.title)?,
            severity: finding.severity,
            expected: finding.expected,
            action: fits("action", finding.action)?,
            step: finding.step,
            policy: fits("policy", finding.policy.to_string())?,
            detail: fits("detail", finding.detail.to_string())?,
        })
    };
    let findings = findings.into_iter().map(new).collect::<Result<Vec<_>, Refusal>>()?;
    let report = store::Report { evidence, result_artifact, unjudged, findings };
    let store::Reported { opened, open, expected, gone } =
        core.store(move |store| store.report_run(id, &token, &report, clock::now_ms())).await?;
    Ok(Json(wire::Reported { opened, open, expected, gone }))
}

async fn findings(State(core): State<Arc<Core>>, query: Asked<Wanted>) -> Answer<wire::Findings> {
    let wanted = asked(query)?;
    let filter = store::FindingFilter {
        limit: wanted.limit(),
        state: wanted.state.map(stored_finding_state),
        profile: wanted.profile,
        severity: wanted.severity,
        search: wanted.search,
        before: wanted.before,
    };
    let limit = filter.limit;
    let (found, open) = core.store(move |store| Ok((store.findings(&filter)?, store.findings_open()?))).await?;
    let next = store::next(&found, limit);
    Ok(Json(wire::Findings { findings: found.into_iter().map(shown_finding).collect(), open, next }))
}

async fn why(State(core): State<Arc<Core>>, Id(id): Id) -> Answer<wire::WhyChain> {
    let found = core.store(move |store| {
        let Some(finding) = store.finding(id)? else { return Ok(None) };
        let profile = store.profile(&finding.profile, Some(finding.profile_version))?;
        let (run, baseline) = (store.run(finding.last_run)?, store.baselines(Some(&finding.profile), None, 1)?.pop());
        let evidence = finding.evidence.map(|id| store.artifact(id)).transpose()?.flatten();
        Ok(Some((finding, profile, run, evidence, baseline)))
    });
    let (finding, profile, run, evidence, baseline) =
        found.await?.ok_or_else(|| Fault::new(Code::FindingUnknown, "there is no such finding").fact("finding", id))?;
    Ok(Json(wire::WhyChain {
        finding: shown_finding(finding),
        profile: profile.map(shown_profile),
        run: run.map(shown_run),
        evidence: evidence.map(super::artifacts::shown),
        baseline: baseline.map(shown_baseline),
    }))
}

async fn baselines(State(core): State<Arc<Core>>, query: Asked<Wanted>) -> Answer<wire::Baselines> {
    let wanted = asked(query)?;
    let limit = wanted.limit();
    let found = core.store(move |store| store.baselines(wanted.profile.as_deref(), wanted.before, limit)).await?;
    let next = store::next(&found, limit);
    Ok(Json(wire::Baselines { baselines: found.into_iter().map(shown_baseline).collect(), next }))
}

async fn set_baseline(State(core): State<Arc<Core>>, Extension(caller): Extension<Caller>, body: Given) -> Answer<wire::Baseline> {
    let wire::NewBaseline { profile, note, by } = parse(body)?;
    let (by, note) = (Work::who(caller, by.as_deref()), note.map(|note| fits("note", note)).transpose()?);
    let made = core.store(move |store| store.set_baseline(&profile, &by, note.as_deref(), clock::now_ms())).await?;
    Ok(Json(shown_baseline(made)))
}

async fn clear_baselines(State(core): State<Arc<Core>>, Extension(caller): Extension<Caller>, body: Given) -> Answer<wire::Cleared> {
    let wire::ClearBaseline { profile, by } = parse(body)?;
    let by = Work::who(caller, by.as_deref());
    let removed = core.store(move |store| store.clear_baselines(&profile, &by, clock::now_ms())).await?;
    Ok(Json(wire::Cleared { removed }))
}

fn shown_profile(profile: store::Profile) -> wire::Profile {
    let store::Profile { name, version, sha256, text, added_ms } = profile;
    wire::Profile { name, version, sha256, text, added_at: clock::rfc3339(added_ms) }
}

fn shown_run(run: store::Run) -> wire::Run {
    wire::Run {
        id: run.id,
        job_id: run.job_id,
        profile: run.profile,
        profile_version: run.profile_version,
        state: match run.state {
            store::RunState::Running => wire::RunState::Running,
            store::RunState::Waiting => wire::RunState::Waiting,
            store::RunState::Done => wire::RunState::Done,
            store::RunState::Failed => wire::RunState::Failed,
        },
        replay_of: run.replay_of,
        started_at: clock::rfc3339(run.started_ms),
        ended_at: run.ended_ms.map(clock::rfc3339),
        plan_artifact: run.plan_artifact,
        inputs_artifact: run.inputs_artifact,
        result_artifact: run.result_artifact,
    }
}

fn stored_state(state: wire::RunState) -> store::RunState {
    match state {
        wire::RunState::Running => store::RunState::Running,
        wire::RunState::Waiting => store::RunState::Waiting,
        wire::RunState::Done => store::RunState::Done,
        wire::RunState::Failed => store::RunState::Failed,
    }
}

fn stored_finding_state(state: wire::FindingState) -> store::FindingState {
    match state {
        wire::FindingState::Open => store::FindingState::Open,
        wire::FindingState::Expected => store::FindingState::Expected,
        wire::FindingState::Gone => store::FindingState::Gone,
    }
}

pub(super) fn shown_finding(finding: store::Finding) -> wire::Finding {
    // A text that is no JSON was written by other hands; it is still shown.
    let json = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    wire::Finding {
        id: finding.id,
        profile: finding.profile,
        key: finding.key,
        title: finding.title,
        severity: finding.severity,
        state: match finding.state {
            store::FindingState::Open => wire::FindingState::Open,
            store::FindingState::Expected => wire::FindingState::Expected,
            store::FindingState::Gone => wire::FindingState::Gone,
        },
        first_run: finding.first_run,
        last_run: finding.last_run,
        first_at: clock::rfc3339(finding.first_ms),
        last_at: clock::rfc3339(finding.last_ms),
        times: finding.times,
        profile_version: finding.profile_version,
        action: finding.action,
        step: finding.step,
        policy: json(finding.policy),
        evidence: finding.evidence,
        detail: json(finding.detail),
    }
}

fn shown_baseline(baseline: store::Baseline) -> wire::Baseline {
    wire::Baseline {
        id: baseline.id,
        profile: baseline.profile,
        profile_version: baseline.profile_version,
        run_id: baseline.run_id,
        made_at: clock::rfc3339(baseline.made_ms),
        made_by: baseline.made_by,
        note: baseline.note,
        expected: baseline.expected,
    }
}
