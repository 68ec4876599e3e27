//! Core's API: who may ask what, and what is answered. Every call goes to the state's thread; nothing is kept here.
//!
//! One file for each part of the state: its `routes` are for reading and for admins, its `worker` routes also for the ai worker.

mod events;
mod findings;
mod now;
mod readings;

use super::Core;
use super::refuse::Refusal;
use crate::clock;
use crate::serve::Caller;
use crate::wire::{self, MAX_BODY};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::Value;
use smolotchi_operator::{Code, Fault};
use std::sync::Arc;

type Answer<T> = Result<Json<T>, Refusal>;

/// All calls of version 1.
pub(super) fn router(core: Arc<Core>) -> Router {
    let admin = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/health", get(health))
        .route("/v1/prove", post(prove))
        .merge(events::routes())
        .merge(findings::routes())
        .merge(now::routes())
        .merge(readings::routes())
        .layer(middleware::from_fn_with_state(core.clone(), admins));
    let worker = findings::worker_routes().layer(middleware::from_fn_with_state(core.clone(), workers));
    admin
        .merge(worker)
        .fallback(async || Refusal::no_such_call())
        .method_not_allowed_fallback(async || Refusal::no_such_call())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(core)
}

/// Everyone may read; only root and core's own user may change something. The kernel says who calls.
async fn admins(State(core): State<Arc<Core>>, Extension(Caller(uid)): Extension<Caller>, request: Request, next: Next) -> Response {
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    if reads || core.is_admin(uid) { next.run(request).await } else { refused(uid) }
}

/// What the ai worker may do as well.
async fn workers(State(core): State<Arc<Core>>, Extension(Caller(uid)): Extension<Caller>, request: Request, next: Next) -> Response {
    if core.is_admin(uid) || core.is_worker(uid) { next.run(request).await } else { refused(uid) }
}

fn refused(uid: Option<u32>) -> Response {
    let fault = Fault::new(Code::CoreRefused, "this caller may only read").fact("uid", uid.map_or(Value::Null, Value::from));
    Refusal::from(fault).into_response()
}

async fn status(State(core): State<Arc<Core>>) -> Answer<wire::Status> {
    Ok(Json(core.status().await?))
}

async fn health(State(core): State<Arc<Core>>) -> Json<wire::Health> {
    Json(core.health().await)
}

async fn prove(State(core): State<Arc<Core>>) -> Answer<wire::Proved> {
    let proof = core.store(|store| store.prove(clock::now_ms())).await?;
    // Who proves also looks at the heartbeat: it is written before the answer.
    core.turn_now().await?;
    Ok(Json(wire::Proved { committed: true, schema: proof.schema, micros: proof.micros }))
}
