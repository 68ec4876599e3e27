//! The calls that go on to the services with a capability; for the worker only. They are jobs of the worker's, and core decides.

use super::Answer;
use crate::core::Core;
use crate::core::refuse::parse;
use crate::wire::readings::Observation;
use crate::wire::{Heard, Operated};
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::routing::post;
use axum::{Json, Router};
use std::sync::Arc;

/// For the worker.
pub(super) fn worker_routes() -> Router<Arc<Core>> {
    Router::new().route("/v1/observations/arp", post(listen)).route("/v1/network", post(change))
}

async fn listen(State(core): State<Arc<Core>>, body: Result<Bytes, BytesRejection>) -> Answer<Observation<Heard>> {
    Ok(Json(core.listen(parse(body)?).await?))
}

async fn change(State(core): State<Arc<Core>>, body: Result<Bytes, BytesRejection>) -> Answer<Observation<Operated>> {
    Ok(Json(core.change_network(parse(body)?).await?))
}
