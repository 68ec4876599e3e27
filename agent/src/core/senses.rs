//! Drives the senses: with the turns of core's loop, so that a look costs no wake-up of its own, and writes what they saw in
//! batches.
//!
//! A look runs on a thread that lives as long as the look: what it asks may take its time, and the loop must not wait.

use super::Core;
use crate::clock;
use crate::config::SensesSettings;
use crate::paths::Paths;
use crate::senses::{Limits, Memory, Moment, ReadingProvider, Schedule, World, providers};
use crate::wire::readings::Observation;
use smolotchi_operator::{Code, Fault, Result, log};
use smolotchi_store::{NewEvent, StoreError};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How long a stop waits for a look under way.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// A provider and its times.
struct Sense {
    provider: Box<dyn ReadingProvider>,
    schedule: Schedule,
}

/// The senses of core.
pub(super) struct Senses {
    senses: Mutex<Vec<Sense>>,
    world: Arc<World>,
    memory: Mutex<Memory>,
    /// Held by the one who looks and writes.
    turn: tokio::sync::Mutex<()>,
    /// One look at a time for those who ask.
    asked: Arc<tokio::sync::Semaphore>,
    /// A disk that takes no readings is told of once.
    writes: AtomicBool,
}

impl Senses {
    /// Every provider, not read yet, with the netlink sockets that were handed in.
    pub(super) fn new(paths: &Paths, netlink: Vec<OwnedFd>) -> Self {
        let world = Arc::new(World::new(paths, netlink));
        let senses = providers(paths, &world).into_iter().map(|provider| Sense { provider, schedule: Schedule::default() }).collect();
        Senses {
            senses: Mutex::new(senses),
            world,
            memory: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            asked: Arc::new(tokio::sync::Semaphore::new(1)),
            writes: AtomicBool::new(true),
        }
    }

    /// What is known now.
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        // Whoever broke while it had this left a map of whole values.
        self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn is_due(&self, boottime_ms: u64) -> bool {
        // Held only during a look, and then nothing is due.
        self.senses.try_lock().is_ok_and(|senses| senses.iter().any(|sense| sense.schedule.is_due(boottime_ms)))
    }
}

/// After a turn of the loop: looks at what is due, beside the loop. What the look needed, and whoever called since the last turn, is
/// not needed until the next time, and given back.
pub(super) fn turn(core: &Arc<Core>) {
    if core.senses.is_due(clock::boottime_ms()) {
        let core = core.clone();
        tokio::spawn(async move {
            // A look that takes longer than a turn is not begun again meanwhile.
            if let Ok(_turn) = core.senses.turn.try_lock() {
                look(&core).await;
                keep(&core, false).await;
                give_back(&core).await;
            }
        });
    } else if core.asked.load(Ordering::Relaxed) {
        let core = core.clone();
        tokio::spawn(async move { give_back(&core).await });
    }
}

async fn give_back(core: &Core) {
    core.asked.store(false, Ordering::Relaxed);
    let _ = core.owner.post(super::run::give_back).await;
}

/// At the end: writes everything that waits. A look that hangs is not waited for.
pub(super) async fn close(core: &Core) {
    let _turn = tokio::time::timeout(LAST_LOOK, core.senses.turn.lock()).await;
    keep(core, true).await;
}

/// Reads what is due, and writes a batch if it is time.
async fn look(core: &Arc<Core>) {
    let queued = core.store(|store| store.figures().map(Some).or_else(not_in_schema)).await.unwrap_or_default();
    let queued = queued.and_then(|figures| figures.jobs.iter().find(|(state, _)| *state == "queued").map(|(_, count)| *count));
    let (boottime_ms, wall_ms, apart_ms) = clock::both();
    let now = Moment { boottime_ms, wall_ms, apart_ms, queued };
    let looking = core.clone();
    let looked = tokio::task::spawn_blocking(move || read(&looking, now)).await;
    let events = looked.unwrap_or_else(|_| {
        log::fault(&Fault::new(Code::CoreFailed, "the senses broke"));
        Vec::new()
    });
    if !events.is_empty() {
        if let Err(fault) = core.store(move |store| store.append(&events, now.wall_ms)).await {
            log::fault(&fault);
        }
    }
}

fn read(core: &Core, now: Moment) -> Vec<NewEvent> {
    let mut events = Vec::new();
    let Ok(SensesSettings { providers, limits }) = core.settings.read().map(|settings| settings.senses.clone()) else { return events };
    let mut senses = core.senses.senses.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for sense in senses.iter_mut().filter(|sense| sense.schedule.is_nearly_due(now.boottime_ms)) {
        // Before the look: one that breaks is not tried again at once.
        let least = sense.provider.least();
        let limits = Limits { min: limits.min.max(least), max: limits.max.max(least) };
        sense.schedule.looked(now.boottime_ms, false, limits);
        let name = sense.provider.name();
        if !providers.iter().any(|provider| provider == name) {
            core.senses.memory().off(name, now);
            continue;
        }
        let samples = sense.provider.read(now);
        let changed = core.senses.memory().take(name, samples, now);
        if changed {
            sense.schedule.looked(now.boottime_ms, true, limits);
        }
        events.extend(sense.provider.events());
    }
    events
}

/// Writes what waits: if it is time, or everything.
async fn keep(core: &Core, all: bool) {
    let now = clock::boottime_ms();
    let Some(batch) = core.senses.memory().batch(now, all) else { return };
    let kept = core.store(move |store| store.keep_readings(&batch.sensors, &batch.readings).map(Some).or_else(not_in_schema)).await;
    match kept {
        Ok(Some(())) => {
            core.senses.memory().written();
            core.senses.writes.store(true, Ordering::Relaxed);
        }
        Ok(None) => core.senses.memory().not_written(now),
        Err(fault) => {
            core.senses.memory().not_written(now);
            if core.senses.writes.swap(false, Ordering::Relaxed) {
                log::fault(&fault);
            }
        }
    }
}

/// The release before has no place for it: nothing, and no error.
pub(super) fn not_in_schema<T>(error: StoreError) -> std::result::Result<Option<T>, StoreError> {
    match error {
        StoreError::NotInSchema { .. } => Ok(None),
        error => Err(error),
    }
}

/// Looks at something now, beside the loop. What can't be looked at has a reason.
///
/// # Errors
/// `core.busy`.
pub(super) async fn observe<T, L>(core: &Core, look: L) -> Result<Observation<T>>
where
    T: Send + 'static,
    L: FnOnce(&World) -> std::result::Result<Vec<T>, String> + Send + 'static,
{
    let (at, world) = (clock::rfc3339(clock::now_ms()), core.senses.world.clone());
    Ok(match super::work::in_turn(&core.senses.asked, move || look(&world)).await {
        Ok(Ok(items)) => Observation { at, available: true, reason: None, items },
        Ok(Err(reason)) => Observation { at, available: false, reason: Some(reason), items: Vec::new() },
        Err(fault) if fault.code == Code::CoreBusy => return Err(fault),
        Err(_) => Observation { at, available: false, reason: Some("the look broke".to_owned()), items: Vec::new() },
    })
}

impl Core {
    /// The stored readings of a sensor, with those that still wait: the newest `limit`, oldest first.
    pub(super) async fn readings(&self, sensor: String, since_ms: i64, limit: u32) -> Result<Option<smolotchi_store::Series>> {
        let waiting = self.senses.memory().waiting(&sensor);
        let stored = self.store(move |store| store.readings(&sensor, since_ms, limit).or_else(not_in_schema)).await?;
        let mut series = match (stored, &waiting) {
            (Some(series), _) => series,
            (None, Some((unit, _))) => smolotchi_store::Series { unit: (*unit).to_owned(), readings: Vec::new() },
            (None, None) => return Ok(None),
        };
        let newer = waiting.into_iter().flat_map(|(_, readings)| readings).filter(|(at_ms, _)| *at_ms >= since_ms);
        series.readings.extend(newer);
        // A clock that jumped back may have put a later reading before an earlier one.
        series.readings.sort_by_key(|(at_ms, _)| *at_ms);
        let beyond = series.readings.len().saturating_sub(limit as usize);
        series.readings.drain(..beyond);
        Ok(Some(series))
    }
}
