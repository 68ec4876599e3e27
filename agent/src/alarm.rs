//! An alarm clock of the kernel's: one wake-up when it rings, and none before. tokio's own timers wake the process up to three
//! times for one that is more than four seconds ahead, which is what a machine that does nothing would mostly be doing.
//!
//! Counts suspend as time (CLOCK_BOOTTIME), so what was due meanwhile is done at once.

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime};
use smolotchi_operator::{Code, Fault, Result};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// One alarm, in the running event loop.
#[derive(Debug)]
pub(crate) struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    /// An alarm that isn't set.
    pub(crate) fn new() -> Result<Self> {
        #[expect(deprecated, reason = "sound for an OwnedFd, which names the same descriptor as long as it lives; its successor is unsafe")]
        let make = || {
            let clock = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            AsyncFd::with_interest(clock, tokio::io::Interest::READABLE).map(Alarm)
        };
        make().map_err(|error: std::io::Error| Fault::new(Code::Io, "could not make an alarm").cause(&error))
    }

    /// Sets it to ring once, so much from now, and forgets what it was set to.
    pub(crate) fn set(&self, after: Duration) -> Result<()> {
        // Nothing at all would switch it off.
        let after = after.max(Duration::from_millis(1));
        let it_value = Timespec { tv_sec: after.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: after.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        let set = timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once);
        set.map(drop).map_err(|error| Fault::new(Code::Io, "could not set an alarm").cause(&std::io::Error::from(error)))
    }

    /// Waits until it rings.
    pub(crate) async fn rings(&self) {
        let mut count = [0; 8];
        loop {
            // An alarm that can't be waited for would otherwise be a loop without pause.
            let Ok(mut ready) = self.0.readable().await else { return std::future::pending().await };
            // Readable is remembered from the last time; only what can be read has rung.
            if ready.try_io(|clock| rustix::io::read(clock.get_ref(), &mut count).map_err(std::io::Error::from)).is_ok() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::block_on;
    use std::time::Instant;

    #[test]
    fn it_rings_once_and_not_before() {
        let (first, again) = block_on(async {
            let alarm = Alarm::new()?;
            let began = Instant::now();
            alarm.set(Duration::from_secs(3600))?;
            alarm.set(Duration::from_millis(60))?;
            alarm.rings().await;
            let first = began.elapsed();
            Ok((first, tokio::time::timeout(Duration::from_millis(80), alarm.rings()).await))
        })
        .unwrap();
        assert!(first >= Duration::from_millis(60), "{first:?}");
        assert!(again.is_err(), "it was set once");
    }
}
