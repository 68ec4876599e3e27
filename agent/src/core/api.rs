//! Core's API: who may ask what, and what is answered. Every call goes to the state's thread; nothing is kept here.

use super::refuse::{Refusal, parse};
use super::{Core, retention};
use crate::clock;
use crate::serve::Caller;
use crate::wire::{self, MAX_BODY, MAX_EVENTS};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::Value;
use smolotchi_operator::{Code, Fault};
use smolotchi_store::{NewEvent, RetentionPolicy};
use std::sync::Arc;

/// Answers of `GET /v1/events` without a limit.
const USUAL_EVENTS: u32 = 50;

type Answer<T> = Result<Json<T>, Refusal>;

/// All calls of version 1.
pub(super) fn router(core: Arc<Core>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/health", get(health))
        .route("/v1/events", get(events).post(append))
        .route("/v1/prove", post(prove))
        .route("/v1/retention", post(retain))
        .fallback(async || Refusal::no_such_call())
        .method_not_allowed_fallback(async || Refusal::no_such_call())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(core.clone(), authorise))
        .with_state(core)
}

/// Everyone may read; only root and core's own user may change something. The kernel says who calls.
async fn authorise(State(core): State<Arc<Core>>, Extension(Caller(uid)): Extension<Caller>, request: Request, next: Next) -> Response {
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    if reads || uid == Some(0) || uid == Some(core.uid) {
        return next.run(request).await;
    }
    let fault = Fault::new(Code::CoreRefused, "this caller may only read").fact("uid", uid.map_or(Value::Null, Value::from));
    Refusal::from(fault).into_response()
}

async fn status(State(core): State<Arc<Core>>) -> Answer<wire::Status> {
    Ok(Json(core.status().await?))
}

async fn health(State(core): State<Arc<Core>>) -> Json<wire::Health> {
    Json(core.health().await)
}

async fn events(State(core): State<Arc<Core>>, RawQuery(query): RawQuery) -> Answer<wire::Events> {
    let limit = limit(query.as_deref().unwrap_or_default())?;
    let events = core.store(move |store| store.recent(limit)).await?;
    Ok(Json(wire::Events { events: events.into_iter().map(shown).collect() }))
}

/// `limit=N` of a query; nothing else may stand in it.
fn limit(query: &str) -> Result<u32, Fault> {
    if query.is_empty() {
        return Ok(USUAL_EVENTS);
    }
    let limit = query.strip_prefix("limit=").and_then(|number| number.parse().ok());
    limit.filter(|limit| (1..=MAX_EVENTS as u32).contains(limit)).ok_or_else(|| {
        Fault::new(Code::CoreRequest, "the query is not understood")
            .fact("query", query)
            .fact("expected", format!("limit=1 to limit={MAX_EVENTS}"))
    })
}

fn shown(event: smolotchi_store::Event) -> wire::Event {
    wire::Event {
        id: event.id,
        at: clock::rfc3339(event.at_ms),
        topic: event.topic,
        severity: event.severity,
        // A body that is no JSON was written by other hands; its text is still shown.
        body: serde_json::from_str(&event.body).unwrap_or(Value::String(event.body)),
    }
}

async fn append(State(core): State<Arc<Core>>, body: Result<Bytes, axum::extract::rejection::BytesRejection>) -> Answer<wire::Appended> {
    let wire::NewEvents { events } = parse(body)?;
    if events.len() > MAX_EVENTS {
        let fault = Fault::new(Code::CoreRequest, "there are too many events in one request");
        return Err(fault.fact("given", events.len()).fact("at_most", MAX_EVENTS).into());
    }
    let events: Vec<_> =
        events.into_iter().map(|event| NewEvent { topic: event.topic, severity: event.severity, body: event.body.to_string() }).collect();
    let appended = core.store(move |store| store.append(&events, clock::now_ms())).await?;
    Ok(Json(wire::Appended { appended: appended.appended, last_id: appended.last_id }))
}

async fn prove(State(core): State<Arc<Core>>) -> Answer<wire::Proved> {
    let proof = core.store(|store| store.prove(clock::now_ms())).await?;
    Ok(Json(wire::Proved { committed: true, schema: proof.schema, micros: proof.micros }))
}

async fn retain(State(core): State<Arc<Core>>, body: Result<Bytes, axum::extract::rejection::BytesRejection>) -> Answer<wire::Retained> {
    let wire::Retention { max_events, max_age_days, dry_run } = parse(body)?;
    let policy = RetentionPolicy { max_events, max_age_days };
    let retained = match dry_run {
        true => core.store(move |store| store.retain(&policy, clock::now_ms(), true)).await?,
        false => retention::apply(&core.owner, policy, retention::STEP).await?,
    };
    Ok(Json(wire::Retained { deleted: retained.deleted, kept: retained.kept }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_or_refused() {
        let cases = [
            ("", Some(50)),
            ("limit=1", Some(1)),
            ("limit=1000", Some(1000)),
            ("limit=0", None),
            ("limit=1001", None),
            ("limit=-1", None),
            ("x=1", None),
        ];
        for (query, expected) in cases {
            assert_eq!(limit(query).ok(), expected, "{query}");
        }
    }
}
