//! How the machine is, in one answer: one job of the state's thread for the first page and for metrics.

use super::Answer;
use super::events::shown;
use crate::core::{Core, READ_TIME};
use crate::wire;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use smolotchi_operator::{Code, Fault};
use smolotchi_store::StoreError;
use std::sync::Arc;

/// The newest events that are told.
const EVENTS: u32 = 8;
/// The newest warnings and errors that are told.
const SEVERE: u32 = 5;

/// For everyone to read.
pub(super) fn routes() -> Router<Arc<Core>> {
    Router::new().route("/v1/now", get(now))
}

async fn now(State(core): State<Arc<Core>>) -> Answer<wire::Now> {
    let look = core.store(|store| {
        let figures = match store.figures() {
            Ok(figures) => Some(figures),
            Err(StoreError::NotInSchema { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok((store.summary()?, store.recent(EVENTS)?, store.recent_severe(SEVERE)?, figures))
    });
    let read = tokio::time::timeout(READ_TIME, look).await;
    let (summary, events, severe, figures) =
        read.unwrap_or_else(|_| Err(Fault::new(Code::CoreFailed, "the database did not answer in time")))?;
    let named = |pairs: Vec<(&str, u64)>| pairs.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    Ok(Json(wire::Now {
        status: core.status_with(summary),
        health: core.health_with(Ok(summary.events_total)),
        events: events.into_iter().map(shown).collect(),
        severe: severe.into_iter().map(shown).collect(),
        figures: figures.map(|figures| wire::Figures {
            jobs: named(figures.jobs),
            findings: named(figures.findings),
            open: named(figures.open),
            stages_pending: figures.stages_pending,
            artifacts_damaged: figures.artifacts_damaged,
        }),
        findings: None,
        stages: None,
        failed: None,
    }))
}
