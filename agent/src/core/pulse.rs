//! One turn of core's loop: to the state's thread, and there the heartbeat, then the watchdog's ping.
//!
//! The order is the point: the loop asks for the ping, and the thread that does the work sends it. A stuck database or a
//! stuck loop lets systemd's watchdog fire. It costs two wake-ups.

use super::heartbeat::Heartbeat;
use super::owner::Owner;
use crate::clock;
use crate::notify::Notify;
use smolotchi_operator::{Result, log};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How often the loop turns at first: the watch of an upgrade falls there, and it may be an older installer's, which wants a
/// heartbeat every second.
const LIVELY: Duration = Duration::from_secs(1);
/// For how long after the start.
const AT_FIRST: Duration = Duration::from_secs(300);
/// How often afterwards. Whoever wants to see a turn sooner asks for one (`POST /v1/prove`).
const CALM: Duration = Duration::from_secs(30);

/// How long from one turn to the next: at least three turns in the watchdog's time.
fn pause(running: Duration, watchdog: Option<Duration>) -> Duration {
    let wanted = if running < AT_FIRST { LIVELY } else { CALM };
    watchdog.map_or(wanted, |timeout| wanted.min(timeout / 3))
}

/// What others may know about the loop, and how they ask it to turn.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    seq: watch::Sender<u64>,
    at_ms: AtomicU64,
    every_ms: AtomicU64,
    asked: tokio::sync::Notify,
}

impl Turns {
    /// How many turns were made.
    pub(crate) fn seq(&self) -> u64 {
        *self.seq.borrow()
    }

    /// Milliseconds since the last turn.
    pub(crate) fn age_ms(&self) -> u64 {
        clock::boottime_ms().saturating_sub(self.at_ms.load(Ordering::Relaxed))
    }

    /// Milliseconds from the last turn to the next.
    pub(crate) fn every_ms(&self) -> u64 {
        self.every_ms.load(Ordering::Relaxed)
    }

    /// Asks the loop to turn at once and waits until it has: its heartbeat is then fresh.
    pub(crate) async fn turn_now(&self) {
        let mut seq = self.seq.subscribe();
        self.asked.notify_one();
        // The sender is ours and stays.
        let _ = seq.changed().await;
    }

    /// Waits until somebody asks for a turn.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }
}

/// What the state's thread does at a turn.
struct Beat {
    turns: Arc<Turns>,
    file: PathBuf,
    schema: u32,
    notify: Arc<Notify>,
    writes: AtomicBool,
    /// Handed over and not done yet: a thread that was busy for long makes one turn, not all that it missed.
    waits: AtomicBool,
}

impl Beat {
    fn now(&self, every_ms: u64) {
        self.waits.store(false, Ordering::Relaxed);
        let seq = self.turns.seq() + 1;
        let beat = Heartbeat::now(seq, self.schema, every_ms);
        // Said once, not at every turn: the journal is on the card.
        let written = beat.write(&self.file);
        if let (true, Err(fault)) = (self.writes.swap(written.is_ok(), Ordering::Relaxed), written) {
            log::fault(&fault);
        }
        self.turns.at_ms.store(beat.boottime_ms, Ordering::Relaxed);
        self.turns.every_ms.store(every_ms, Ordering::Relaxed);
        self.turns.seq.send_replace(seq);
        self.notify.watchdog();
    }
}

/// The loop's pulse.
pub(crate) struct Pulse<S> {
    owner: Owner<S>,
    beat: Arc<Beat>,
    started_ms: u64,
}

impl<S: 'static> Pulse<S> {
    /// A pulse that writes to `file`.
    pub(crate) fn new(owner: Owner<S>, file: PathBuf, schema: u32, notify: Arc<Notify>) -> Self {
        let (writes, waits) = (AtomicBool::new(true), AtomicBool::new(false));
        let beat = Beat { turns: Arc::default(), file, schema, notify, writes, waits };
        Pulse { owner, beat: Arc::new(beat), started_ms: clock::boottime_ms() }
    }

    /// The figures of this pulse.
    pub(crate) fn turns(&self) -> Arc<Turns> {
        self.beat.turns.clone()
    }

    /// One turn, done when the state's thread comes to it; how long until the next. Errors: `core.failed` when that thread
    /// has ended.
    pub(crate) async fn turn(&self) -> Result<Duration> {
        let running = Duration::from_millis(clock::boottime_ms().saturating_sub(self.started_ms));
        let pause = pause(running, self.beat.notify.watchdog_timeout());
        if !self.beat.waits.swap(true, Ordering::Relaxed) {
            let every_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            let beat = self.beat.clone();
            self.owner.post(move |_| beat.now(every_ms)).await?;
        }
        Ok(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::sync::mpsc;

    fn pinged(systemd: &UnixDatagram, within: Duration) -> bool {
        systemd.set_read_timeout(Some(within)).unwrap();
        let mut buffer = [0; 64];
        systemd.recv(&mut buffer).is_ok_and(|size| &buffer[..size] == b"WATCHDOG=1")
    }

    #[test]
    fn a_stuck_state_is_not_pinged_over() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&socket).unwrap();
        let notify = Arc::new(Notify::new(SocketAddr::from_pathname(&socket).ok(), Some(Duration::from_secs(1))));
        let (owner, thread) = Owner::start(|| Ok(())).unwrap();
        let pulse = Pulse::new(owner.clone(), dir.path().join("heartbeat.json"), 3, notify);
        let turns = pulse.turns();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

        runtime.block_on(pulse.turn()).unwrap();
        assert!(pinged(&systemd, Duration::from_secs(5)), "a turning loop pings");
        assert_eq!(turns.seq(), 1);

        let (release, stuck) = mpsc::channel::<()>();
        let job = owner.call(move |()| stuck.recv().ok());
        runtime.block_on(async {
            let job = tokio::time::timeout(Duration::from_millis(50), job);
            assert!(job.await.is_err(), "the job holds the state");
            for _ in 0..100 {
                pulse.turn().await.unwrap();
            }
        });
        assert!(!pinged(&systemd, Duration::from_millis(300)), "no ping while stuck");
        assert_eq!(turns.seq(), 1, "and no heartbeat");

        release.send(()).unwrap();
        assert!(pinged(&systemd, Duration::from_secs(5)), "pings again when it goes on");
        runtime.block_on(owner.stop());
        thread.join().unwrap();
        assert_eq!(turns.seq(), 2, "one turn, not all that were missed");
    }

    #[test]
    fn the_loop_is_lively_at_first_then_calm_and_never_slower_than_the_watchdog() {
        let seconds = Duration::from_secs;
        let cases = [
            (0, None, 1_000),
            (299, None, 1_000),
            (300, None, 30_000),
            (300, Some(90), 30_000),
            (300, Some(60), 20_000),
            (300, Some(10), 3_333),
            (0, Some(60), 1_000),
            (0, Some(2), 666),
        ];
        for (running, watchdog, millis) in cases {
            assert_eq!(pause(seconds(running), watchdog.map(seconds)).as_millis(), millis, "{running} {watchdog:?}");
        }
    }

    #[test]
    fn who_asks_for_a_turn_gets_one_with_its_heartbeat() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("heartbeat.json");
        let (owner, thread) = Owner::start(|| Ok(())).unwrap();
        let pulse = Pulse::new(owner.clone(), file.clone(), 3, Arc::default());
        let turns = pulse.turns();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ((), turned) = tokio::join!(turns.turn_now(), async {
                turns.asked().await;
                pulse.turn().await
            });
            turned.unwrap();
            assert_eq!((turns.seq(), Heartbeat::read(&file).unwrap().seq), (1, 1), "the heartbeat is there before the answer");
            let nobody = tokio::time::timeout(Duration::from_millis(50), turns.turn_now());
            assert!(nobody.await.is_err(), "nobody turns");
            owner.stop().await;
        });
        thread.join().unwrap();
    }
}
