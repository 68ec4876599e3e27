//! Everything that one page shows, gathered at one moment.

use super::routes::Site;
use crate::clock;
use crate::installs::Install;
use crate::wire::{Events, Health, Status};
use smolotchi_operator::Fault;

/// What core says.
#[derive(Debug)]
pub(super) struct CoreView {
    pub(super) status: Status,
    pub(super) health: Health,
    pub(super) events: Events,
}

/// One page's facts.
#[derive(Debug)]
pub(super) struct View {
    /// This machine's name.
    pub(super) host: String,
    /// When this was gathered, RFC 3339.
    pub(super) at: String,
    /// What core says, or why it can't be asked.
    pub(super) core: Result<CoreView, Fault>,
    /// What the installer says, if it ever ran.
    pub(super) install: Option<Install>,
    /// Seconds until the page reloads itself.
    pub(super) refresh_seconds: Option<u64>,
}

impl View {
    /// Asks everybody.
    pub(super) async fn look(site: &Site) -> View {
        let core = async {
            let (status, health, events) =
                tokio::try_join!(site.core.get("/v1/status"), site.core.get("/v1/health"), site.core.get("/v1/events?limit=20"))?;
            Ok(CoreView { status, health, events })
        };
        View {
            host: clock::host_name(),
            at: clock::rfc3339(clock::now_ms()),
            core: core.await,
            install: Install::read(&site.install_status),
            refresh_seconds: site.refresh_seconds,
        }
    }
}
