//! How the machine is, in one answer: one job of the state's thread for the first page and for metrics.

use super::Answer;
use super::events::shown;
use super::findings::shown_finding;
use super::{jobs, stages};
use crate::core::{Core, READ_TIME};
use crate::wire;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use smolotchi_operator::{Code, Fault};
use smolotchi_store::{FindingFilter, FindingState, JobState, Page, StageState, StoreError};
use std::sync::Arc;

/// The newest events that are told.
const EVENTS: u32 = 8;
/// The newest warnings and errors that are told.
const SEVERE: u32 = 20;
/// The newest requests and failed jobs that are told.
const FEW: u32 = 5;
/// The newest open findings that are told.
const FINDINGS: u32 = 20;

/// For everyone to read.
pub(super) fn routes() -> Router<Arc<Core>> {
    Router::new().route("/v1/now", get(now))
}

async fn now(State(core): State<Arc<Core>>) -> Answer<wire::Now> {
    let look = core.store(|store| {
        let work = match store.figures() {
            Ok(figures) => {
                let page = Page { before: None, limit: FEW };
                let filter = FindingFilter { state: Some(FindingState::Open), limit: FINDINGS, ..FindingFilter::default() };
                let (pending, failed) = (store.stages(Some(StageState::Pending), page)?, store.jobs(Some(JobState::Failed), page)?);
                Some((figures, store.findings(&filter)?, pending, failed))
            }
            Err(StoreError::NotInSchema { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok((store.summary()?, store.recent(EVENTS)?, store.recent_severe(SEVERE)?, work))
    });
    let (read, services) = tokio::join!(tokio::time::timeout(READ_TIME, look), crate::core::health::services(&core));
    let (summary, events, severe, work) =
        read.unwrap_or_else(|_| Err(Fault::new(Code::CoreFailed, "the database did not answer in time")))?;
    let mut now = wire::Now {
        status: core.status_with(summary),
        health: core.health_with(Ok(summary.events_total), services),
        events: events.into_iter().map(shown).collect(),
        severe: severe.into_iter().map(shown).collect(),
        figures: None,
        findings: None,
        stages: None,
        failed: None,
    };
    if let Some((figures, findings, pending, failed)) = work {
        let named = |pairs: Vec<(&str, u64)>| pairs.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        now.figures = Some(wire::Figures {
            jobs: named(figures.jobs),
            findings: named(figures.findings),
            open: named(figures.open),
            stages_pending: figures.stages_pending,
            artifacts_damaged: figures.artifacts_damaged,
        });
        now.findings = Some(findings.into_iter().map(shown_finding).collect());
        now.stages = Some(pending.into_iter().map(stages::shown).collect());
        now.failed = Some(failed.into_iter().map(jobs::shown).collect());
    }
    Ok(Json(now))
}
