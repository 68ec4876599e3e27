//! The event log's calls: read, append, prune.

use super::Answer;
use crate::clock;
use crate::core::refuse::parse;
use crate::core::{Core, retention};
use crate::wire::{self, MAX_EVENTS};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;
use smolotchi_operator::{Code, Fault};
use smolotchi_store::{NewEvent, RetentionPolicy};
use std::sync::Arc;

/// Answers of `GET /v1/events` without a limit.
const USUAL_EVENTS: u32 = 50;

/// For everyone to read, and for admins.
pub(super) fn routes() -> Router<Arc<Core>> {
    Router::new().route("/v1/events", get(events).post(append)).route("/v1/retention", post(retain))
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

pub(super) fn shown(event: smolotchi_store::Event) -> wire::Event {
    wire::Event {
        id: event.id,
        at: clock::rfc3339(event.at_ms),
        topic: event.topic,
        severity: event.severity,
        // A body that is no JSON was written by other hands; its text is still shown.
        body: serde_json::from_str(&event.body).unwrap_or(Value::String(event.body)),
    }
}

async fn append(State(core): State<Arc<Core>>, body: Result<Bytes, BytesRejection>) -> Answer<wire::Appended> {
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

async fn retain(State(core): State<Arc<Core>>, body: Result<Bytes, BytesRejection>) -> Answer<wire::Retained> {
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
