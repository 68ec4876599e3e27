//! The watchdog's ping: sent by the loops that take callers in, once each of them has gone round again. A loop that stands still, for
//! want of a seat or for good, is found by systemd; a timer beside the loops would ping on.

use crate::notify::Notify;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// What the loops share.
#[derive(Debug)]
pub(super) struct Rounds {
    notify: Notify,
    /// Which of them have gone round since the last ping.
    went: Mutex<Vec<bool>>,
}

/// One loop's part.
#[derive(Debug)]
pub(super) struct Round<'a> {
    rounds: &'a Rounds,
    loop_index: usize,
    every: Option<Duration>,
    due: Instant,
}

impl Rounds {
    pub(super) fn new(notify: Notify) -> Rounds {
        Rounds { notify, went: Mutex::default() }
    }

    /// One more loop that has to go round. It wakes up for that twice in the watchdog's time, and never without a watchdog.
    pub(super) fn join(&self) -> Round<'_> {
        let loop_index = self.went.lock().map_or(0, |mut went| {
            went.push(false);
            went.len() - 1
        });
        let every = self.notify.watchdog_timeout().map(|timeout| timeout / 2);
        Round { rounds: self, loop_index, every, due: Instant::now() + every.unwrap_or_default() }
    }

    /// What systemd is told besides.
    pub(super) fn notify(&self) -> &Notify {
        &self.notify
    }
}

impl Round<'_> {
    /// Returns when the loop has to show that it goes round. May be given up and begun again.
    pub(super) async fn due(&self) {
        match self.every {
            Some(_) => tokio::time::sleep_until(self.due).await,
            None => std::future::pending().await,
        }
    }

    /// The loop went round.
    pub(super) fn went(&mut self) {
        self.due = Instant::now() + self.every.unwrap_or_default();
        let Ok(mut went) = self.rounds.went.lock() else { return };
        if let Some(this) = went.get_mut(self.loop_index) {
            *this = true;
        }
        if went.iter().all(|went| *went) {
            went.fill(false);
            self.rounds.notify.watchdog();
        }
    }
}
