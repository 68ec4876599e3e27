//! The stage requests' calls: look, approve and deny; for the worker a new one. Who decided is the kernel's word.

use super::{Answer, Id, jobs::not_held};
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
use smolotchi_store::{Decided, NewStage, Page, Stage, StageState, Store};
use std::sync::Arc;

/// The longest a request may wait for a word: a year.
const MAX_VALID_S: u64 = 366 * 86_400;
/// The longest reason of an operator, in bytes.
const MAX_WHY: usize = 1000;

/// For everyone to read, and for admins.
pub(super) fn routes() -> Router<Arc<Core>> {
    Router::new()
        .route("/v1/stages", get(stages))
        .route("/v1/stages/{id}", get(stage))
        .route("/v1/stages/{id}/approve", post(approve))
        .route("/v1/stages/{id}/deny", post(deny))
}

/// For the worker as well.
pub(super) fn worker_routes() -> Router<Arc<Core>> {
    Router::new().route("/v1/stages", post(add))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    state: Option<StageState>,
    before: Option<i64>,
    limit: Option<u32>,
}

pub(super) fn shown(stage: Stage) -> wire::Stage {
    wire::Stage {
        id: stage.id,
        run_id: stage.run_id,
        job_id: stage.job_id,
        step: stage.step,
        action: stage.action,
        risk: stage.risk,
        reason: stage.reason,
        requested_at: clock::rfc3339(stage.requested_ms),
        expires_at: clock::rfc3339(stage.expires_ms),
        state: stage.state,
        decided_at: stage.decided_ms.map(clock::rfc3339),
        decided_by: stage.decided_by,
        why: stage.why,
    }
}

fn missing(id: i64) -> Refusal {
    Fault::new(Code::StageUnknown, "there is no such stage request").fact("stage", id).into()
}

async fn stages(State(core): State<Arc<Core>>, uri: Uri) -> Answer<wire::Stages> {
    let Which { state, before, limit } = query(&uri)?;
    let page = Page { before, limit: super::limit(limit)? };
    let stages = core.store(move |store| store.stages(state, page)).await?;
    let next = smolotchi_store::next(&stages, page.limit);
    Ok(Json(wire::Stages { stages: stages.into_iter().map(shown).collect(), next }))
}

async fn stage(State(core): State<Arc<Core>>, Id(id): Id) -> Answer<wire::Stage> {
    let stage = core.store(move |store| store.stage(id)).await?;
    stage.map(|stage| Json(shown(stage))).ok_or_else(|| missing(id))
}

async fn add(State(core): State<Arc<Core>>, body: Result<Bytes, BytesRejection>) -> Answer<wire::Stage> {
    let new: wire::NewStage = parse(body)?;
    super::word("action", &new.action)?;
    super::word("risk", &new.risk)?;
    let token = new.token;
    let now_ms = clock::now_ms();
    let valid_ms = i64::try_from(new.valid_s.min(MAX_VALID_S) * 1000).unwrap_or(i64::MAX);
    let new = NewStage {
        run_id: new.run_id,
        job_id: new.job_id,
        step: new.step,
        action: new.action,
        risk: new.risk,
        reason: super::fits("reason", new.reason)?,
        expires_ms: now_ms.saturating_add(valid_ms),
    };
    let job = new.job_id;
    let add = move |store: &mut Store| if store.holds_job(job, &token)? { store.add_stage(&new, now_ms).map(Some) } else { Ok(None) };
    let stage = core.store(add).await?.ok_or_else(|| not_held(job))?;
    core.watch_stages();
    Ok(Json(shown(stage)))
}

async fn approve(core: State<Arc<Core>>, id: Id, caller: Extension<Caller>, body: Result<Bytes, BytesRejection>) -> Answer<wire::Stage> {
    decide(core, id, caller, body, true).await
}

async fn deny(core: State<Arc<Core>>, id: Id, caller: Extension<Caller>, body: Result<Bytes, BytesRejection>) -> Answer<wire::Stage> {
    decide(core, id, caller, body, false).await
}

async fn decide(
    State(core): State<Arc<Core>>,
    Id(id): Id,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
    yes: bool,
) -> Answer<wire::Stage> {
    let wire::Decision { why, by } = parse(body)?;
    if why.trim().is_empty() || why.len() > MAX_WHY {
        let fault = Fault::new(Code::CoreRequest, "a decision needs a reason");
        return Err(fault.fact("expected", format!("1 to {MAX_WHY} bytes")).fact("given", why.len()).into());
    }
    let by = Work::who(caller, by.as_deref());
    let decided = core.store(move |store| store.decide_stage(id, yes, &by, &why, clock::now_ms())).await?;
    core.job_may_be_due();
    match decided {
        Decided::Now(stage) => {
            core.watch_stages();
            Ok(Json(shown(stage)))
        }
        Decided::Missing => Err(missing(id)),
        Decided::Before(stage) => {
            let mut fault =
                Fault::new(Code::StageDecided, format!("the stage request is {} already", stage.state.as_str())).fact("stage", id);
            for (name, value) in [("by", stage.decided_by), ("why", stage.why), ("at", stage.decided_ms.map(clock::rfc3339))] {
                if let Some(value) = value {
                    fault = fault.fact(name, value);
                }
            }
            Err(fault.into())
        }
    }
}
