//! Which address answers what.

use super::guard::guard;
use super::page::page;
use super::view::View;
use crate::client::Client;
use crate::installs::Install;
use crate::paths::Paths;
use crate::wire::{Health, Status, Verdict};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde_json::json;
use smolotchi_operator::Fault;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a page waits for core: longer than an upgrade takes it away, and short enough for who looks at a page whose
/// core is down. Shorter than a stop of web waits for answers under way.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the routes need; nothing in it changes.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) core: Client,
    pub(super) install_status: PathBuf,
    pub(super) refresh_seconds: Option<u64>,
}

/// The site.
pub(super) fn router(paths: &Paths, settings: crate::config::WebSettings) -> Router {
    let site = Site {
        core: Client::patient(paths.socket(), PATIENCE),
        install_status: paths.install_status(),
        refresh_seconds: settings.refresh_seconds,
    };
    let hosts: Arc<[String]> = settings.hosts.into();
    Router::new()
        .route("/", get(home))
        .route("/style.css", get(async || ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("style.css"))))
        .route("/icon.svg", get(async || ([(header::CONTENT_TYPE, "image/svg+xml")], include_str!("icon.svg"))))
        .route("/api/health", get(health))
        .route("/api/status", get(status))
        .fallback(async || (StatusCode::NOT_FOUND, "There is no such page; the only one is /\n"))
        .layer(middleware::from_fn_with_state(hosts, guard))
        .with_state(Arc::new(site))
}

/// The page: 200, or 503 when core can't be asked. It then still says so.
async fn home(State(site): State<Arc<Site>>) -> Response {
    let view = View::look(&site).await;
    let code = if view.core.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Html(page(&view).into_string())).into_response()
}

/// Core's health for monitoring: 200 only when healthy, else 503.
async fn health(State(site): State<Arc<Site>>) -> Response {
    match site.core.get::<Health>("/v1/health").await {
        Ok(health) if health.verdict == Verdict::Healthy => Json(health).into_response(),
        Ok(health) => (StatusCode::SERVICE_UNAVAILABLE, Json(health)).into_response(),
        Err(fault) => unavailable(&fault),
    }
}

/// Core's status, with what the installer says as `install`.
async fn status(State(site): State<Arc<Site>>) -> Response {
    #[derive(serde::Serialize)]
    struct Whole {
        #[serde(flatten)]
        status: Status,
        install: Option<Install>,
    }
    match site.core.get::<Status>("/v1/status").await {
        Ok(status) => Json(Whole { status, install: Install::read(&site.install_status) }).into_response(),
        Err(fault) => unavailable(&fault),
    }
}

fn unavailable(fault: &Fault) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": fault }))).into_response()
}
