//! The service core: owner of the database, and the only one that others ask.
//!
//! One event loop on one thread; the database on a thread of its own. Writes to the card only when somebody appends,
//! and one event at start and at stop.

mod api;
mod configured;
#[cfg(any(feature = "demo-crash", feature = "demo-irreversible"))]
mod demo;
mod health;
pub(crate) mod heartbeat;
mod listen;
pub(crate) mod owner;
mod powers;
mod pulse;
mod refuse;
mod retention;
mod run;
mod schedule;
mod senses;
mod work;

pub(crate) use run::{is_empty, run};

use crate::clock;
use crate::config::Settings;
use crate::release::VERSION;
use crate::store_fault::store_fault;
use crate::wire;
use owner::Owner;
use pulse::Turns;
use smolotchi_operator::{Code, Fault, Result};
use smolotchi_store::{Store, StoreError};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::sync::watch;

/// How long a read of figures or a turn of the loop may take before core counts as stuck.
const READ_TIME: Duration = Duration::from_secs(5);

/// What the API and the loop share.
pub(crate) struct Core {
    owner: Owner<Store>,
    turns: Arc<Turns>,
    settings: RwLock<Settings>,
    configured: configured::Configured,
    state: PathBuf,
    senses: senses::Senses,
    /// How the other services stood when somebody last asked.
    services: health::Services,
    /// The newest event's id, for those who wait for the next one; `None` when core stops.
    newest: watch::Sender<Option<i64>>,
    /// The database was asked since memory was last given back.
    asked: AtomicBool,
    /// One audit at a time: each reads the whole log.
    auditing: tokio::sync::Mutex<()>,
    uid: u32,
    /// The ai worker's user, where there is one.
    worker: Option<u32>,
    work: work::Work,
    powers: powers::Powers,
    schema: u32,
    started_at_ms: i64,
    started_boottime_ms: u64,
}

/// Takes a newer id over; none once core stops: who waits must not begin again.
fn is_newer(known: &mut Option<i64>, id: Option<i64>) -> bool {
    known.is_some() && id > *known && std::mem::replace(known, id) != id
}

impl Core {
    /// Root and core's own user may do all.
    fn is_admin(&self, uid: Option<u32>) -> bool {
        uid == Some(0) || uid == Some(self.uid)
    }

    /// The ai worker's user may do what its work needs.
    fn is_worker(&self, uid: Option<u32>) -> bool {
        uid.is_some() && uid == self.worker
    }

    /// Runs a job on the database.
    async fn store<R: Send + 'static>(&self, job: impl FnOnce(&mut Store) -> Result<R, StoreError> + Send + 'static) -> Result<R> {
        self.asked.store(true, Ordering::Relaxed);
        let newest = self.newest.clone();
        let job = move |store: &mut Store| {
            let before = store.changes();
            let done = job(store);
            if newest.receiver_count() > 0 && store.changes() != before {
                if let Ok(id) = store.newest_id() {
                    newest.send_if_modified(|known| is_newer(known, id));
                }
            }
            done
        };
        self.owner.call(job).await?.map_err(store_fault)
    }

    /// Wakes those who wait for the next event, after work that wrote some but went past [`Core::store`].
    async fn tell_newest(&self) -> Result<()> {
        let id = self.owner.call(|store| store.newest_id()).await?.map_err(store_fault)?;
        self.newest.send_if_modified(|known| is_newer(known, id));
        Ok(())
    }

    /// Reads the figures of the event log, but doesn't wait for ever.
    async fn summary(&self) -> Result<smolotchi_store::Summary> {
        let read = tokio::time::timeout(READ_TIME, self.store(|store| store.summary())).await;
        read.unwrap_or_else(|_| Err(Fault::new(Code::CoreFailed, "the database did not answer in time")))
    }

    /// Makes the loop turn; its heartbeat is then fresh.
    async fn turn_now(&self) -> Result<()> {
        let turned = tokio::time::timeout(READ_TIME, self.turns.turn_now()).await;
        turned.map_err(|_| Fault::new(Code::CoreFailed, "core's loop does not turn"))
    }

    async fn status(&self) -> Result<wire::Status> {
        Ok(self.status_with(self.summary().await?))
    }

    /// The status that these figures belong to.
    fn status_with(&self, summary: smolotchi_store::Summary) -> wire::Status {
        wire::Status {
            version: VERSION.to_owned(),
            schema: self.schema,
            uptime_s: clock::boottime_ms().saturating_sub(self.started_boottime_ms) / 1000,
            heartbeat_seq: self.turns.seq(),
            events: wire::EventFigures {
                total: summary.events_total,
                newest_id: summary.newest_id,
                newest_at: summary.newest_at_ms.map(clock::rfc3339),
            },
            database: wire::DatabaseFigures { bytes: summary.bytes },
            started_at: clock::rfc3339(self.started_at_ms),
            powers: self.powers(),
        }
    }

    async fn health(&self) -> wire::Health {
        let services = health::services(self).await;
        self.health_with(self.summary().await.map(|summary| summary.events_total).map_err(|fault| fault.to_string()), services)
    }

    /// The health with this number of events, or why they can't be read, and these services.
    fn health_with(&self, events: Result<u64, String>, services: Vec<wire::Check>) -> wire::Health {
        let facts = health::Facts {
            turns: self.turns.seq(),
            turn_age_ms: self.turns.age_ms(),
            every_ms: self.turns.every_ms(),
            events,
            schema: self.schema,
            free_bytes: rustix::fs::statvfs(&self.state).ok().map(|disk| disk.f_bavail * disk.f_frsize),
            powers: self.powers(),
            min_free_mib: self.settings.read().map_or(0, |settings| settings.core.min_free_mib),
        };
        health::decide(&facts, services)
    }

    fn set(&self, settings: Settings) {
        let (owner, kept) = (self.owner.clone(), settings.retention.max_events);
        tokio::spawn(async move { owner.call(move |store| store.expect_events(kept)).await });
        if let Ok(mut current) = self.settings.write() {
            *current = settings;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_newer;

    #[test]
    fn what_is_written_while_core_stops_wakes_nobody_up_to_wait_again() {
        let mut known = Some(0);
        assert!(is_newer(&mut known, Some(7)) && known == Some(7));
        assert!(!is_newer(&mut known, Some(7)) && !is_newer(&mut known, None) && known == Some(7));
        known = None;
        assert!(!is_newer(&mut known, Some(8)) && known.is_none());
    }
}
