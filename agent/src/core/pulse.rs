//! One turn of core's loop: through the state's thread and back, then heartbeat, then watchdog.
//!
//! The order is the point: the ping goes out only after the thread that does the work has answered. A stuck database or
//! a stuck loop lets systemd's watchdog fire.

use super::heartbeat::Heartbeat;
use super::owner::Owner;
use crate::clock;
use crate::notify::Notify;
use smolotchi_operator::{Result, log};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often the loop turns.
const EVERY: Duration = Duration::from_secs(1);

/// What others may know about the loop.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    seq: AtomicU64,
    at_ms: AtomicU64,
}

impl Turns {
    /// How many turns were made.
    pub(crate) fn seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }

    /// Milliseconds since the last turn.
    pub(crate) fn age_ms(&self) -> u64 {
        clock::boottime_ms().saturating_sub(self.at_ms.load(Ordering::Relaxed))
    }
}

/// The loop's pulse.
pub(crate) struct Pulse<S> {
    owner: Owner<S>,
    turns: Arc<Turns>,
    file: PathBuf,
    schema: u32,
    writes: bool,
}

impl<S: 'static> Pulse<S> {
    /// A pulse that writes to `file`.
    pub(crate) fn new(owner: Owner<S>, file: PathBuf, schema: u32) -> Self {
        Pulse { owner, turns: Arc::default(), file, schema, writes: true }
    }

    /// The figures of this pulse.
    pub(crate) fn turns(&self) -> Arc<Turns> {
        self.turns.clone()
    }

    /// How often to turn: once a second, or twice in a shorter watchdog's time.
    pub(crate) fn every(notify: &Notify) -> Duration {
        notify.watchdog_timeout().map_or(EVERY, |timeout| EVERY.min(timeout / 2))
    }

    /// One turn. Errors: `core.failed` when the state's thread has ended.
    pub(crate) async fn turn(&mut self, notify: &Notify) -> Result<()> {
        self.owner.call(|_| ()).await?;
        let seq = self.turns.seq() + 1;
        let beat = Heartbeat::now(seq, self.schema);
        self.turns.at_ms.store(beat.boottime_ms, Ordering::Relaxed);
        self.turns.seq.store(seq, Ordering::Relaxed);
        // Said once, not every second: the journal is on the card.
        match beat.write(&self.file) {
            Ok(()) => self.writes = true,
            Err(fault) if self.writes => {
                self.writes = false;
                log::fault(&fault);
            }
            Err(_) => {}
        }
        notify.watchdog();
        Ok(())
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
        let notify = Notify::new(SocketAddr::from_pathname(&socket).ok(), Some(Duration::from_secs(1)));
        let (owner, thread) = Owner::start(|| Ok(())).unwrap();
        let mut pulse = Pulse::new(owner.clone(), dir.path().join("heartbeat.json"), 3);
        let turns = pulse.turns();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

        runtime.block_on(pulse.turn(&notify)).unwrap();
        assert!(pinged(&systemd, Duration::from_secs(5)), "a turning loop pings");
        assert_eq!(turns.seq(), 1);

        let (release, stuck) = mpsc::channel::<()>();
        let job = owner.call(move |()| stuck.recv().ok());
        let blocked = runtime.block_on(async {
            let job = tokio::time::timeout(Duration::from_millis(50), job);
            assert!(job.await.is_err(), "the job holds the state");
            tokio::time::timeout(Duration::from_millis(300), pulse.turn(&notify)).await
        });
        assert!(blocked.is_err(), "the turn waits for the state");
        assert!(!pinged(&systemd, Duration::from_millis(50)), "no ping while stuck");
        assert_eq!(turns.seq(), 1, "and no heartbeat");

        release.send(()).unwrap();
        runtime.block_on(pulse.turn(&notify)).unwrap();
        assert!(pinged(&systemd, Duration::from_secs(5)), "pings again when it goes on");
        runtime.block_on(owner.stop());
        thread.join().unwrap();
    }

    #[test]
    fn a_short_watchdog_makes_the_loop_faster() {
        let every = |watchdog| Pulse::<()>::every(&Notify::new(None, watchdog));
        assert_eq!(every(None), Duration::from_secs(1));
        assert_eq!(every(Some(Duration::from_secs(30))), Duration::from_secs(1));
        assert_eq!(every(Some(Duration::from_secs(1))), Duration::from_millis(500));
    }
}
