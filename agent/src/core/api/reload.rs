//! `POST /v1/reload`: reads the configuration again.

use super::Answer;
use crate::core::{Core, configured};
use crate::wire;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use std::sync::Arc;

/// For admins.
pub(super) fn routes() -> Router<Arc<Core>> {
    Router::new().route("/v1/reload", post(reload))
}

async fn reload(State(core): State<Arc<Core>>) -> Answer<wire::Reloaded> {
    Ok(Json(configured::reload(&core)?))
}
