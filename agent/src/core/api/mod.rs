//! Core's API: who may ask what, and what is answered. Every call goes to the state's thread; nothing is kept here.
//!
//! One file for each part of the state: its `routes` are for reading and for admins, its `worker` routes also for the ai worker.

mod artifacts;
mod events;
mod findings;
mod jobs;
mod lines;
mod locks;
mod now;
mod powers;
mod readings;
mod reload;
mod stages;

use super::Core;
use super::refuse::Refusal;
use crate::clock;
use crate::serve::Caller;
use crate::wire::{self, MAX_BODY, MAX_TEXT};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
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
        .merge(lines::routes())
        .merge(now::routes())
        .merge(readings::routes())
        .merge(reload::routes())
        .merge(jobs::routes())
        .merge(locks::routes())
        .merge(artifacts::routes())
        .merge(stages::routes())
        .layer(middleware::from_fn(whole))
        .layer(middleware::from_fn_with_state(core.clone(), admins));
    let worker = Router::new()
        .merge(findings::worker_routes())
        .merge(jobs::worker_routes())
        .merge(locks::worker_routes())
        .merge(artifacts::worker_routes())
        .merge(stages::worker_routes())
        .merge(powers::worker_routes())
        .layer(middleware::from_fn(whole))
        .merge(jobs::waiting_routes())
        .layer(middleware::from_fn_with_state(core.clone(), workers));
    admin
        .merge(worker)
        .fallback(async || Refusal::no_such_call())
        .method_not_allowed_fallback(async || Refusal::no_such_call())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(core)
}

/// What changes something is done to its end, whoever hangs up meanwhile: what is committed must be told to those who wait for
/// it, and what is locked stays locked until the work on files is over.
async fn whole(request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let done = tokio::spawn(next.run(request)).await;
    done.unwrap_or_else(|_| Refusal::from(Fault::new(Code::CoreFailed, "the call broke")).into_response())
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

/// The number in a call's path.
struct Id(i64);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        Path::from_request_parts(parts, state).await.map(|Path(id)| Id(id)).map_err(|_| Refusal::no_such_call())
    }
}

/// The most rows of one answer.
const MAX_ROWS: u32 = 1000;
/// The rows of an answer when nobody says otherwise.
const USUAL_ROWS: u32 = 50;

fn limit(limit: Option<u32>) -> Result<u32, Refusal> {
    let limit = limit.unwrap_or(USUAL_ROWS);
    if (1..=MAX_ROWS).contains(&limit) {
        return Ok(limit);
    }
    let fault = Fault::new(Code::CoreRequest, "the query is not understood").fact("limit", limit);
    Err(fault.fact("expected", format!("limit=1 to limit={MAX_ROWS}")).into())
}

/// JSON of the database; what other hands wrote there is shown as text.
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// A name of ours: 1 to 64 characters of `a-z`, `0-9`, `.`, `-` and `_`.
fn word(field: &str, text: &str) -> Result<(), Refusal> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
    if (1..=64).contains(&text.len()) && text.chars().all(fits) {
        return Ok(());
    }
    Err(wrong(field, text, "1 to 64 characters of a-z, 0-9, '.', '-' and '_'"))
}

/// A file's name, which may become one again on another machine: no path, nothing hidden.
fn file_name(field: &str, name: &str) -> Result<(), Refusal> {
    text(field, name, 255)?;
    if name.contains('/') || name.starts_with('.') {
        Err(wrong(field, name, "a file name without '/', not beginning with '.'"))
    } else {
        Ok(())
    }
}

/// What somebody gives to be kept, if it isn't too long: an answer tells many of them at once.
fn fits(field: &str, text: String) -> Result<String, Refusal> {
    if text.len() <= MAX_TEXT {
        return Ok(text);
    }
    let fault = Fault::new(Code::CoreTooLarge, "a text is too long").fact("field", field);
    Err(fault.fact("bytes", text.len()).fact("at_most", MAX_TEXT).into())
}

/// Text on one line.
fn text(field: &str, text: &str, most: usize) -> Result<(), Refusal> {
    if (1..=most).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(wrong(field, text, &format!("1 to {most} bytes without control characters")))
}

fn wrong(field: &str, given: &str, expected: &str) -> Refusal {
    let given: String = given.chars().take(100).collect();
    let fault = Fault::new(Code::CoreRequest, "a value is not what this call takes").fact("field", field);
    fault.fact("given", given).fact("expected", expected).into()
}
