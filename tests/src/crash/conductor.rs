//! The conductor: hears on the host what the tracers on a node are about to do, numbers it, and says what happens.
//!
//! One conductor at a time listens for one node. Events come one after the other, also from several tracers: the call that
//! asks stands still until it has its answer, and the node is frozen while a disk state is taken.

use super::state::{State, Store};
use super::tracer::{Event, Order};
use crate::{Node, fault};
use serde::{Deserialize, Serialize};
use smolotchi_operator::{Fault, Result};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What is done to the calls of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Score {
    /// All are made; before one in so many, which the seed chooses, the disk's state is taken.
    Capture {
        /// 1: before each.
        one_in: u64,
        /// Any number.
        seed: u64,
    },
    /// All are made but the first of these calls from a number on, which fails with this errno. (Numbers shift a little from
    /// run to run; a call that can't fail so is passed over.)
    Fail {
        /// From which, counted from 0.
        at: usize,
        /// The errno.
        errno: i32,
        /// The calls that may fail.
        calls: &'static [&'static str],
        /// True: every one of them from then on.
        on: bool,
    },
    /// All are made, except that every call that syncs only says so.
    NoSync,
    /// All are made and counted.
    Count,
}

/// What a run was.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Heard {
    /// Every call in order.
    pub events: Vec<Event>,
    /// The distinct disk states: (number of the first event before which it was seen, fingerprint).
    pub states: Vec<(usize, String)>,
    /// The number of the call that was made to fail first.
    #[serde(skip)]
    pub failed: Option<usize>,
    /// Where taking a state failed; the run is worth nothing then.
    #[serde(skip)]
    pub fault: Option<Fault>,
}

struct Shared {
    heard: Heard,
    seen: BTreeSet<String>,
    store: Option<Store>,
    node: Node,
    score: Score,
}

/// A conductor that listens, until it is dropped.
pub struct Conductor {
    shared: Arc<Mutex<Shared>>,
    socket: PathBuf,
}

impl std::fmt::Debug for Conductor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Conductor({})", self.socket.display())
    }
}

impl Conductor {
    /// Listens at `socket`. States go to the store in `folder`.
    pub fn listen(node: &Node, socket: &Path, score: Score, folder: &Path) -> Result<Self> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).map_err(|error| fault("could not listen for the tracers").cause(&error))?;
        let store = if matches!(score, Score::Capture { .. }) { Some(Store::open(folder)?) } else { None };
        let shared = Shared { heard: Heard::default(), seen: BTreeSet::new(), store, node: node.clone(), score };
        let shared = Arc::new(Mutex::new(shared));
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&for_thread);
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Ok(Conductor { shared, socket: socket.to_owned() })
    }

    /// How many calls there were so far.
    pub fn count(&self) -> usize {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).heard.events.len()
    }

    /// Takes the state that the node is in now, after the last call, and gives back what was heard.
    pub fn end(self) -> Result<Heard> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(shared.score, Score::Capture { one_in: 1, .. }) {
            shared.capture()?;
        }
        let heard = std::mem::take(&mut shared.heard);
        match &heard.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(heard),
        }
    }
}

impl Drop for Conductor {
    fn drop(&mut self) {
        // Tracers that start later find nobody and let their command go; the thread stays with its unreachable socket.
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn serve(stream: &UnixStream, shared: &Mutex<Shared>) {
    let mut writer = stream;
    for line in BufReader::new(stream).lines() {
        let Ok(event) = line.map_err(drop).and_then(|line| serde_json::from_str::<Event>(&line).map_err(drop)) else { return };
        let order = shared.lock().unwrap_or_else(PoisonError::into_inner).hear(event);
        if writer.write_all(smolotchi_operator::output::json_line(&order).as_bytes()).is_err() {
            return;
        }
    }
}

/// Spreads a number over all 64 bits (the finalizer of SplitMix64).
pub(super) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Shared {
    fn hear(&mut self, event: Event) -> Order {
        let number = self.heard.events.len();
        let syncs = matches!(event.call.as_str(), "fsync" | "fdatasync" | "sync" | "syncfs" | "sync_file_range");
        let chosen = matches!(self.score, Score::Capture { one_in, seed } if mix(seed ^ number as u64) % one_in == 0);
        if chosen && self.heard.fault.is_none() {
            self.heard.fault = self.capture().err();
        }
        let can_fail = matches!(self.score, Score::Fail { calls, .. } if calls.contains(&event.call.as_str()));
        self.heard.events.push(event);
        match self.score {
            Score::Fail { at, errno, on, .. } if number >= at && can_fail && (on || self.heard.failed.is_none()) => {
                self.heard.failed.get_or_insert(number);
                Order::Fail { errno }
            }
            Score::NoSync if syncs => Order::Pretend,
            _ => Order::Go,
        }
    }

    fn capture(&mut self) -> Result<()> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let state: State = self.node.while_frozen(|upper| store.take(upper))?;
        if self.seen.insert(state.fingerprint.clone()) {
            store.save(&state)?;
            self.heard.states.push((self.heard.events.len(), state.fingerprint));
        }
        Ok(())
    }
}
