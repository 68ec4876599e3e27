//! Core's life: open, say ready, turn until told to stop, close.

use super::configured::{self, Configured};
use super::listen::Handed;
use super::owner::Owner;
use super::pulse::Pulse;
use super::{Core, api, listen, senses};
use crate::account::{self, Account};
use crate::alarm::Alarm;
use crate::clock;
use crate::config::Settings;
use crate::memory;
use crate::notify::Notify;
use crate::paths::Paths;
use crate::release::VERSION;
use crate::serve::{Caller, Listener, serve};
use crate::store_fault::store_fault;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde_json::json;
use smolotchi_operator::log::{self, Kind};
use smolotchi_operator::{Code, Exit, Fault, Result};
use smolotchi_store::migrate::{self, Direction};
use smolotchi_store::{NewEvent, Severity, Store, StoreError};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Runs until SIGTERM or SIGINT. Errors before READY: wrong user, configuration, `store.missing` (30),
/// `store.newer-schema` and `store.older-schema` (20).
pub(crate) fn run(paths: &Paths, socket: Option<&Path>) -> Result<Exit> {
    log::role("core");
    account::refuse_root()?;
    let configured = Configured::load(paths)?;
    let (database, state) = (paths.database(), paths.state());
    let handed = listen::handed(socket)?;
    // Until the process ends, however that is.
    let _alone = alone(&state)?;
    let kept = configured.0.retention.max_events;
    let (owner, thread) = Owner::start(move || {
        let mut store = open(&database, &state)?;
        store.expect_events(kept);
        Ok(store)
    })?;
    // Two threads beside the loop for files: the unit allows few, and more would not make a card faster.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).thread_keep_alive(Duration::ZERO).build();
    let runtime = runtime.map_err(|error| Fault::new(Code::CoreFailed, "could not start the event loop").cause(&error))?;
    let result = runtime.block_on(async {
        let result = turn(paths, handed, configured, owner.clone()).await;
        owner.stop().await;
        result
    });
    // The database closes on its own thread; a stop that doesn't wait for it leaves a log to replay.
    if thread.join().is_err() {
        return Err(Fault::new(Code::CoreFailed, "the state's thread broke"));
    }
    result.map(|()| Exit::Success)
}

/// Takes the state folder for this core alone, so that a second one doesn't live on the same database. Errors: `store.busy`.
fn alone(state: &Path) -> Result<Option<File>> {
    let folder = match File::open(state) {
        Ok(folder) => folder,
        // No database either: who opens that says so.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::io("could not open the state folder", state, &error)),
    };
    match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(folder)),
        Err(Errno::WOULDBLOCK) => Err(Fault::new(Code::StoreBusy, "another core has this state folder")
            .hint("there is one core for a machine: systemctl status smolotchi-core")
            .fact("path", state.display().to_string())),
        // A file system without locks must not keep core from starting.
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
        Err(error) => Err(Fault::io("could not lock the state folder", state, &error.into())),
    }
}

/// Opens the database. Makes it only if the state folder is empty: an image build leaves that to the first start, and
/// anything else that lacks its database has lost it.
fn open(database: &Path, state: &Path) -> Result<Store> {
    match Store::open_unread(database) {
        Err(StoreError::Missing { .. }) if is_empty(state) => {
            let made = migrate::run(database, Direction::UpOnly, true).map_err(store_fault)?;
            log::note(Kind::DatabaseMade, format!("made the database with schema {}", made.to));
            Store::open_unread(database).map_err(store_fault)
        }
        other => other.map_err(store_fault),
    }
}

/// Nothing but what a first start that lost its power may have left half-made.
pub(crate) fn is_empty(folder: &Path) -> bool {
    let half_made = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".smolotchi.db.");
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| half_made(&entry.file_name()))))
}

async fn turn(paths: &Paths, handed: Handed, (settings, configured): (Settings, Configured), owner: Owner<Store>) -> Result<()> {
    let on = |kind| signal(kind).map_err(|error| Fault::new(Code::CoreFailed, "could not wait for signals").cause(&error));
    let (mut terminate, mut interrupt, mut hangup) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?, on(SignalKind::hangup())?);
    let passwd = std::fs::read_to_string(paths.passwd()).unwrap_or_default();
    let uid_of = |user: &str| Account::in_passwd(&passwd, user).map(|user| user.uid);
    let mut listeners = vec![Listener::Unix(listen::in_loop(handed.api)?)];
    for (user, listener) in handed.callers {
        listeners.push(Listener::Of(listen::in_loop(listener)?, Caller(uid_of(&user))));
    }
    let notify = Arc::new(Notify::from_env());
    let schema = smolotchi_store::schema_own();
    let pulse = Pulse::new(owner.clone(), paths.heartbeat(), schema, notify.clone());
    let core = Arc::new(Core {
        owner,
        turns: pulse.turns(),
        settings: RwLock::new(settings),
        configured,
        state: paths.state(),
        senses: senses::Senses::new(paths, handed.netlink),
        services: super::health::Services::default(),
        newest: watch::Sender::new(Some(0)),
        asked: AtomicBool::new(false),
        auditing: tokio::sync::Mutex::default(),
        uid: rustix::process::geteuid().as_raw(),
        worker: uid_of(crate::account::AI),
        work: super::work::Work::new(paths.artifacts()),
        powers: super::powers::Powers::new(paths),
        schema,
        started_at_ms: clock::now_ms(),
        started_boottime_ms: clock::boottime_ms(),
    });
    // What is not alive is not ready; and until the first turn health would say that the loop stands still.
    let alarm = Alarm::new()?;
    alarm.set(pulse.turn().await?)?;
    core.owner.call(|_| ()).await?;
    notify.ready(&format!("version {VERSION}, schema {schema}"));
    log::note(Kind::Ready, format!("core {VERSION} is ready, schema {schema}"));
    // Who waits for core to be there need not wait for all this; who calls does, as nobody is answered before: above all not from a
    // database that is damaged.
    core.store(Store::look_over).await?;
    note(&core, "core.started", json!({ "version": VERSION, "schema": schema, "boot_id": clock::boot_id() })).await;
    core.begin_work().await?;
    super::schedule::take_profiles(&core, paths).await;
    let (stop, stopped) = watch::channel(false);
    // What the callers needed is given back with the turns, which wake up anyway.
    let mut calls = JoinSet::new();
    for listener in listeners {
        calls.spawn(serve(listener, api::router(core.clone()), stopped.clone()));
    }
    super::schedule::begin(&core);
    #[cfg(feature = "demo-crash")]
    tokio::spawn(super::demo::crash());
    #[cfg(feature = "demo-irreversible")]
    tokio::spawn(super::demo::crash_if_sick(core.clone()));

    let result = loop {
        let due = async {
            tokio::select! {
                () = alarm.rings() => {}
                () = core.turns.asked() => {}
            }
        };
        tokio::select! {
            () = due => match pulse.turn().await.and_then(|next| alarm.set(next)) {
                Ok(()) => senses::turn(&core),
                Err(fault) => break Err(fault),
            },
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            _ = hangup.recv() => reload(&core, &notify),
        }
    };
    notify.stopping();
    // Told to stop, the server finishes the answers under way; its own limit makes this end.
    core.work.stop();
    core.newest.send_replace(None);
    let _ = stop.send(true);
    while calls.join_next().await.is_some() {}
    if result.is_ok() {
        senses::close(&core).await;
        note(&core, "core.stopped", json!({ "version": VERSION })).await;
        super::retention::witness(&core.owner).await;
        log::note(Kind::Stopped, "core has stopped");
    }
    result
}

/// Gives back the memory that a burst of work left.
pub(super) fn give_back(store: &mut Store) {
    store.forget_pages();
    memory::give_back();
}

/// Appends an event of core's own. A full disk must not keep core from starting or stopping: it is then only told.
async fn note(core: &Core, topic: &str, body: serde_json::Value) {
    let event = NewEvent { topic: topic.to_owned(), severity: Some(Severity::Info), body: body.to_string() };
    if let Err(fault) = core.store(move |store| store.append(&[event], clock::now_ms())).await {
        log::fault(&fault);
    }
}

/// Reads the configuration again; a broken one changes nothing and is told in the journal.
fn reload(core: &Core, notify: &Notify) {
    match configured::reload(core) {
        Ok(_) => notify.status("configuration read again"),
        Err(fault) => {
            notify.status(&format!("the configuration could not be read again: {}", fault.code));
            log::fault(&fault);
        }
    }
}
