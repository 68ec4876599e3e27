//! Which address answers what: each page as HTML, the same facts as JSON below /api, and what monitoring asks for.

use super::access::Token;
use super::asked::Asked;
use super::guard::{Gate, guard};
use super::metrics::{self, metrics};
use super::pages::{self, Failure, Frame, Looked, Page};
use super::part::{Part, part};
use super::snapshots::{Answer, Snapshots};
use crate::client::Client;
use crate::installs::Install;
use crate::paths::Paths;
use crate::wire::readings::Sensors;
use crate::wire::{Health, Now, Status, Verdict};
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::routing::get;
use axum::{Router, middleware};
use maud::Markup;
use serde::Serialize;
use serde_json::json;
use smolotchi_operator::{Code, Fault};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a page waits for core: longer than an upgrade takes it away, and short enough for who looks at a page whose
/// core is down. Shorter than a stop of web waits for answers under way.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long core may take to answer: one that hangs must show before whoever asks, a scraper for one, gives up itself. What core
/// works on for long for a page is a search, two seconds.
const ANSWER_TIME: Duration = Duration::from_secs(3);

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// What the routes need; nothing in it changes but the snapshots.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) core: Client,
    pub(super) install_status: PathBuf,
    pub(super) refresh_seconds: Option<u64>,
    snapshots: Arc<Snapshots>,
}

type Shared = State<Arc<Site>>;

/// The site.
pub(super) fn router(paths: &Paths, settings: crate::config::WebSettings, token: Option<Token>) -> Router {
    let site = Site {
        core: Client::patient(paths.socket(), PATIENCE).answered_within(ANSWER_TIME).at(paths.caller(crate::account::WEB)),
        install_status: paths.install_status(),
        refresh_seconds: settings.refresh_seconds,
        snapshots: Arc::default(),
    };
    let gate = Gate { hosts: settings.hosts, token };
    Router::new()
        .route("/", get(html::<pages::Now>))
        .route("/timeline", get(html::<pages::Timeline>))
        .route("/findings", get(html::<pages::Findings>))
        .route("/findings/{id}", get(html::<pages::Dossier>))
        .route("/jobs", get(html::<pages::Jobs>))
        .route("/jobs/{id}", get(html::<pages::Job>))
        .route("/artifacts", get(html::<pages::Artifacts>))
        .route("/artifacts/{id}", get(html::<pages::Artifact>))
        .route("/readings", get(html::<pages::Readings>))
        .route("/upgrades", get(html::<pages::Upgrades>))
        .route("/api/now", get(data::<pages::Now>))
        .route("/api/timeline", get(data::<pages::Timeline>))
        .route("/api/findings", get(data::<pages::Findings>))
        .route("/api/findings/{id}", get(data::<pages::Dossier>))
        .route("/api/jobs", get(data::<pages::Jobs>))
        .route("/api/jobs/{id}", get(data::<pages::Job>))
        .route("/api/artifacts", get(data::<pages::Artifacts>))
        .route("/api/artifacts/{id}", get(data::<pages::Artifact>))
        .route("/api/readings", get(data::<pages::Readings>))
        .route("/api/upgrades", get(data::<pages::Upgrades>))
        .route("/api/health", get(health))
        .route("/api/ready", get(ready))
        .route("/api/status", get(status))
        .route("/metrics", get(figures))
        .route("/style.css", get(async || ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("style.css"))))
        .route("/icon.svg", get(async || ([(header::CONTENT_TYPE, "image/svg+xml")], include_str!("icon.svg"))))
        .fallback(missing)
        .layer(middleware::from_fn_with_state(Arc::new(gate), guard))
        .with_state(Arc::new(site))
}

/// A page. 503 when core can't be asked, 404 when there is no such thing; it then still says so.
async fn html<P: Page>(State(site): Shared, uri: Uri) -> Answer {
    let asked = match Asked::new(&uri) {
        Ok(asked) => asked,
        Err(fault) => return failed(&site, &Failure::Refused(fault)),
    };
    let look = async {
        let looked = P::look(&site, &asked).await;
        let frame = Frame::now(&site, &asked);
        let page = match &looked {
            Ok(page) => frame.page(page),
            Err(failure) => frame.failure(failure),
        };
        Answer { status: code(&looked), media: HTML, body: text(page).into() }
    };
    site.snapshots.get(&uri.to_string(), look).await
}

/// The same facts as JSON.
async fn data<P: Page>(State(site): Shared, uri: Uri) -> Answer {
    let look = async {
        let looked = match Asked::new(&uri) {
            Ok(asked) => P::look(&site, &asked).await,
            Err(fault) => Err(Failure::Refused(fault)),
        };
        match &looked {
            Ok(page) => document(code(&looked), page),
            Err(failure) => refused(failure.status(), failure.fault()),
        }
    };
    site.snapshots.get(&uri.to_string(), look).await
}

fn code<P: Page>(looked: &Looked<P>) -> StatusCode {
    match looked {
        Ok(page) => page.status(),
        Err(failure) => failure.status(),
    }
}

/// A page's text. What the database holds may have control characters, which have no place in HTML.
fn text(page: Markup) -> String {
    let stray = |byte: u8| byte.is_ascii_control() && !matches!(byte, b'\n' | b'\r' | b'\t');
    let text = page.into_string();
    // All of it, whatever is found on the way: many bytes at a time.
    if text.bytes().fold(false, |found, byte| found | stray(byte)) {
        text.replace(|c: char| u8::try_from(c).is_ok_and(stray), "\u{fffd}")
    } else {
        text
    }
}

/// The page that says why there is none, whatever was asked.
fn failed(site: &Site, failure: &Failure) -> Answer {
    let asked = Asked::default();
    Answer { status: failure.status(), media: HTML, body: text(Frame::now(site, &asked).failure(failure)).into() }
}

/// What is not there: in the words of who asks, a person or a program.
async fn missing(State(site): Shared, uri: Uri) -> Answer {
    let path = uri.path();
    if path.starts_with("/api/") {
        let fault = Fault::new(Code::CoreNotFound, "there is no such address").fact("path", path);
        return refused(StatusCode::NOT_FOUND, &fault.hint("see /usr/share/doc/smolotchi/guides/web.md"));
    }
    failed(&site, &Failure::missing(Code::CoreNotFound, format!("There is no page {path}.")))
}

/// Core's health for monitoring: 200 only when healthy, else 503.
async fn health(State(site): Shared) -> Answer {
    let look = async {
        match site.core.get::<Health>("/v1/health").await {
            Ok(health) if health.verdict == Verdict::Healthy => document(StatusCode::OK, &health),
            Ok(health) => document(StatusCode::SERVICE_UNAVAILABLE, &health),
            Err(fault) => unavailable(&fault),
        }
    };
    site.snapshots.get("/api/health", look).await
}

/// Whether pages can be made: 200 when core answers, however well it is.
async fn ready(State(site): Shared) -> Answer {
    let look = async {
        match site.core.get::<Status>("/v1/status").await {
            Ok(_) => document(StatusCode::OK, &json!({ "ready": true })),
            Err(fault) => unavailable(&fault),
        }
    };
    site.snapshots.get("/api/ready", look).await
}

/// Core's status, with what the installer says as `install`.
async fn status(State(site): Shared) -> Answer {
    #[derive(Serialize)]
    struct Whole {
        #[serde(flatten)]
        status: Status,
        install: Option<Install>,
    }
    let look = async {
        match site.core.get::<Status>("/v1/status").await {
            Ok(status) => document(StatusCode::OK, &Whole { status, install: Install::read(&site.install_status) }),
            Err(fault) => unavailable(&fault),
        }
    };
    site.snapshots.get("/api/status", look).await
}

/// The figures for a monitoring system; 200 also when core is away, which is then one of them.
async fn figures(State(site): Shared) -> Answer {
    let look = async {
        let now = site.core.get::<Now>("/v1/now").await.ok();
        let sensors = match &now {
            Some(_) => part(&site.core, "/v1/sensors").await.ok(),
            None => None,
        };
        let sensors: &[_] = match &sensors {
            Some(Part::Here(Sensors { sensors })) => sensors,
            _ => &[],
        };
        Answer { status: StatusCode::OK, media: metrics::MEDIA, body: metrics(now.as_ref(), sensors).into() }
    };
    site.snapshots.get("/metrics", look).await
}

fn document(status: StatusCode, it: &impl Serialize) -> Answer {
    Answer { status, media: JSON, body: serde_json::to_vec(it).unwrap_or_default().into() }
}

fn unavailable(fault: &Fault) -> Answer {
    refused(StatusCode::SERVICE_UNAVAILABLE, fault)
}

fn refused(status: StatusCode, fault: &Fault) -> Answer {
    document(status, &json!({ "error": fault }))
}
