//! The queue's calls: look, queue and cancel; for the worker lease, renew and finish.

use super::{Answer, Id};
use crate::clock;
use crate::core::Core;
use crate::core::refuse::{Refusal, parse, query};
use crate::core::work::Work;
use crate::serve::Caller;
use crate::wire;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::Uri;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use smolotchi_operator::{Code, Fault};
use smolotchi_store::{Finished, Job, JobState, NewJob, NewLease, Page, Process, Store, WantJob};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The longest wait for a job: below the time that a connection may take.
const MAX_WAIT_S: u64 = 300;
/// The most letters of why a job failed.
const MAX_WHY: usize = 4000;
/// The longest a lease may be without being renewed.
const MAX_LEASE_S: u64 = 3600;
/// The longest name of a profile, or of whom somebody acts for, in bytes.
const MAX_NAME: usize = 255;
/// The longest that a job may be put off.
const MAX_DELAY_S: u64 = 366 * 24 * 3600;
/// How often a job is begun when nobody says otherwise.
const USUAL_ATTEMPTS: u32 = 3;

/// For everyone to read, and for admins.
pub(super) fn routes() -> Router<Arc<Core>> {
    Router::new().route("/v1/jobs", get(jobs).post(add)).route("/v1/jobs/{id}", get(job)).route("/v1/jobs/{id}/cancel", post(cancel))
}

/// For the worker as well.
pub(super) fn worker_routes() -> Router<Arc<Core>> {
    Router::new().route("/v1/jobs/{id}/renew", post(renew)).route("/v1/jobs/{id}/finish", post(finish))
}

/// For the worker as well; whoever hangs up doesn't wait any more.
pub(super) fn waiting_routes() -> Router<Arc<Core>> {
    Router::new().route("/v1/jobs/lease", post(lease))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    state: Option<JobState>,
    search: Option<String>,
    before: Option<i64>,
    limit: Option<u32>,
}

pub(super) fn shown(job: Job) -> wire::Job {
    wire::Job {
        id: job.id,
        kind: job.kind,
        profile: job.profile,
        input: super::json(&job.input),
        state: job.state,
        priority: job.priority,
        created_at: clock::rfc3339(job.created_ms),
        created_by: job.created_by,
        due_at: clock::rfc3339(job.due_ms),
        attempts: job.attempts,
        max_attempts: job.max_attempts,
        changed_at: clock::rfc3339(job.changed_ms),
        result: job.result.as_deref().map(super::json),
        error: job.error,
    }
}

fn missing(id: i64) -> Refusal {
    Fault::new(Code::JobUnknown, "there is no such job").fact("job", id).into()
}

pub(super) fn not_held(id: i64) -> Fault {
    Fault::new(Code::JobNotHeld, "this token does not hold the job").fact("job", id)
}

async fn jobs(State(core): State<Arc<Core>>, uri: Uri) -> Answer<wire::Jobs> {
    let Which { state, search, before, limit } = query(&uri)?;
    let page = Page { before, limit: super::limit(limit)? };
    let look = move |store: &mut Store| store.search_jobs(search.as_deref(), state, page);
    let (jobs, next) = core.store(look).await?;
    Ok(Json(wire::Jobs { jobs: jobs.into_iter().map(shown).collect(), next }))
}

async fn job(State(core): State<Arc<Core>>, Id(id): Id) -> Answer<wire::Job> {
    let job = core.store(move |store| store.job(id)).await?;
    job.map(|job| Json(shown(job))).ok_or_else(|| missing(id))
}

async fn add(
    State(core): State<Arc<Core>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<wire::Job> {
    let new: wire::NewJob = parse(body)?;
    super::word("kind", &new.kind)?;
    let input = super::fits("input", new.input.to_string())?;
    for (field, text) in [("profile", &new.profile), ("by", &new.by)] {
        text.as_deref().map_or(Ok(()), |text| super::text(field, text, MAX_NAME))?;
    }
    if new.delay_s > MAX_DELAY_S {
        let fault = Fault::new(Code::CoreRequest, "a job can't be put off for that long").fact("delay_s", new.delay_s);
        return Err(fault.fact("expected", format!("0 to {MAX_DELAY_S}, a year")).into());
    }
    let now_ms = clock::now_ms();
    let new = NewJob {
        kind: new.kind,
        profile: new.profile,
        input,
        priority: new.priority,
        created_by: Work::who(caller, new.by.as_deref()),
        due_ms: now_ms.saturating_add_unsigned(new.delay_s * 1000),
        max_attempts: new.max_attempts.unwrap_or(USUAL_ATTEMPTS).max(1),
    };
    // Whose profile nobody knows would only fail, later.
    let (kind, profile) = (new.kind.clone(), new.profile.clone());
    let add = move |store: &mut Store| match &new.profile {
        Some(name) if new.kind == "run" && store.profile(name, None)?.is_none() => Ok(None),
        _ => store.add_job(&new, now_ms).map(Some),
    };
    let Some(job) = core.store(add).await? else {
        let fault = Fault::new(Code::ProfileUnknown, "there is no such profile");
        return Err(fault.fact("kind", kind).fact("profile", profile.unwrap_or_default()).into());
    };
    core.job_may_be_due();
    Ok(Json(shown(job)))
}

async fn cancel(
    State(core): State<Arc<Core>>,
    Id(id): Id,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<wire::Job> {
    let wire::CancelJob { by } = parse(body)?;
    let by = Work::who(caller, by.as_deref());
    let (cancelled, job) = core.store(move |store| Ok((store.cancel_job(id, &by, clock::now_ms())?, store.job(id)?))).await?;
    let job = job.ok_or_else(|| missing(id))?;
    if cancelled.is_none() {
        let fault = Fault::new(Code::JobEnded, "the job has ended already");
        return Err(fault.fact("job", id).fact("state", job.state.as_str()).into());
    }
    core.unwatch_lease(id);
    Ok(Json(shown(job)))
}

async fn lease(State(core): State<Arc<Core>>, body: Result<Bytes, BytesRejection>) -> Answer<wire::LeasedJob> {
    let wire::WantJob { owner, kinds, wait_s, lease_s } = parse(body)?;
    super::word("owner.role", &owner.role)?;
    let lease_s = lease_time(lease_s)?;
    let end = Instant::now() + Duration::from_secs(wait_s.min(MAX_WAIT_S));
    let owner = Process { boot_id: owner.boot_id.replace('-', ""), ..owner };
    let lease = NewLease { name: String::new(), owner, token: String::new(), expires_boottime_ms: 0 };
    let leased = core.next_job(WantJob { lease, kinds }, lease_s, end).await?;
    let (job, token) = leased.unzip();
    Ok(Json(wire::LeasedJob { job: job.map(shown), token }))
}

/// Seconds of a lease, or a refusal.
pub(super) fn lease_time(lease_s: u64) -> Result<u64, Refusal> {
    if (1..=MAX_LEASE_S).contains(&lease_s) {
        return Ok(lease_s);
    }
    let fault = Fault::new(Code::CoreRequest, "a lease can't be that long").fact("lease_s", lease_s);
    Err(fault.fact("expected", format!("1 to {MAX_LEASE_S}")).into())
}

async fn renew(State(core): State<Arc<Core>>, Id(id): Id, body: Result<Bytes, BytesRejection>) -> Answer<wire::Renewed> {
    let wire::RenewJob { token, lease_s } = parse(body)?;
    let ends = clock::boottime_ms() + lease_time(lease_s)? * 1000;
    let held = core.store(move |store| store.renew_lease(&format!("job/{id}"), &token, ends, clock::now_ms())).await?;
    if held { Ok(Json(wire::Renewed { renewed: true })) } else { Err(not_held(id).into()) }
}

async fn finish(State(core): State<Arc<Core>>, Id(id): Id, body: Result<Bytes, BytesRejection>) -> Answer<wire::Job> {
    let wire::FinishJob { token, outcome, result, error } = parse(body)?;
    let result = result.map(|result| super::fits("result", result.to_string())).transpose()?;
    // Why a job failed is worth less than its end.
    let error = error.map(|error| error.chars().take(MAX_WHY).collect());
    let finished = core.store(move |store| store.finish_job(id, &token, outcome, result, error, clock::now_ms())).await?;
    let Finished::Job(job) = finished else { return Err(not_held(id).into()) };
    core.unwatch_lease(id);
    core.job_may_be_due();
    Ok(Json(shown(*job)))
}
