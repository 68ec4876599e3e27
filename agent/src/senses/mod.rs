//! The senses: what this machine can be seen to do, without asking anybody outside of it. Only core uses them.
//!
//! A provider reads a few sensors; each is a module here and a line in [`providers`]. Parsing is done by pure functions
//! over text and bytes; only the `read` of a provider touches files and sockets. A sensor that isn't there is absent with
//! the reason, never an error. Nothing here may change anything on the machine, or send anything to another host.

mod bus;
mod memory;
pub(crate) mod netlink;
pub(crate) mod network;
mod schedule;
mod system;
mod time;
mod units;

pub(crate) use memory::Memory;
pub(crate) use schedule::{Limits, Schedule};

use crate::paths::Paths;
use crate::wire::readings::{Neighbour, Socket, Unit, Value};
use netlink::Kernel;
use smolotchi_store::NewEvent;
use std::borrow::Cow;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The moment of a look, and what core knows of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Since boot; never jumps.
    pub(crate) boottime_ms: u64,
    /// Since 1970 by the machine's clock.
    pub(crate) wall_ms: i64,
    /// For how long at most the two were read apart.
    pub(crate) apart_ms: u64,
    /// How many jobs wait, in a release that has jobs.
    pub(crate) queued: Option<u64>,
}

/// What a sensor said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// Its name, which begins with what it is about: `system.load`.
    pub(crate) sensor: Cow<'static, str>,
    /// `%`, `C`, `B`, `B/s`, `count`, `s`; empty for a text.
    pub(crate) unit: &'static str,
    /// Numbers that differ by less than this from the last one kept are not kept.
    pub(crate) step: f64,
    /// The value, or why there is none.
    pub(crate) outcome: Result<Value, String>,
}

impl Sample {
    /// A number.
    pub(crate) fn number(sensor: impl Into<Cow<'static, str>>, unit: &'static str, step: f64, outcome: Result<f64, String>) -> Self {
        // A tenth is as fine as anything here is; it also keeps rows short.
        let outcome = outcome.map(|number| Value::Number((number * 10.0).round() / 10.0));
        Sample { sensor: sensor.into(), unit, step, outcome }
    }

    /// A text.
    pub(crate) fn text(sensor: impl Into<Cow<'static, str>>, outcome: Result<String, String>) -> Self {
        Sample { sensor: sensor.into(), unit: "", step: 0.0, outcome: outcome.map(Value::Text) }
    }
}

/// A module of senses.
pub(crate) trait ReadingProvider: Send {
    /// Its name in the configuration.
    fn name(&self) -> &'static str;

    /// Never more often than this, whatever is configured: for what is dear to ask.
    fn least(&self) -> Duration {
        Duration::ZERO
    }

    /// Looks at every sensor, those that are absent too. May take milliseconds; runs on a thread that may wait.
    fn read(&mut self, now: Moment) -> Vec<Sample>;

    /// What happened by the last look that is an event of its own.
    fn events(&mut self) -> Vec<NewEvent> {
        Vec::new()
    }
}

/// Who can be asked at any moment, besides files.
#[derive(Debug)]
pub(crate) struct World {
    kernel: Arc<Kernel>,
    bus: PathBuf,
}

impl World {
    /// With the netlink sockets that were handed in, if there were any.
    pub(crate) fn new(paths: &Paths, netlink: Vec<OwnedFd>) -> Self {
        World { kernel: Arc::new(Kernel::new(netlink)), bus: paths.bus() }
    }

    /// The kernel's neighbour table, in a fixed order. Errors: why it can't be read.
    pub(crate) fn neighbours(&self) -> Result<Vec<Neighbour>, String> {
        network::neighbours(&self.kernel)
    }

    /// The sockets that anybody may talk to, in a fixed order. Errors: why they can't be asked for.
    pub(crate) fn sockets(&self) -> Result<Vec<Socket>, String> {
        network::sockets(&self.kernel)
    }

    /// The units that failed and those of Smolotchi, by name. Errors: why systemd can't be asked.
    pub(crate) fn units(&self) -> Result<Vec<Unit>, String> {
        units::units(&self.bus)
    }
}

/// The names of [`providers`].
pub(crate) const PROVIDER_NAMES: [&str; 4] = ["system", "network", "units", "time"];

/// Every provider there is.
pub(crate) fn providers(paths: &Paths, world: &World) -> Vec<Box<dyn ReadingProvider>> {
    vec![
        Box::new(system::System::new(paths)),
        Box::new(network::Network::new(world.kernel.clone())),
        Box::new(units::Units::new(paths)),
        Box::new(time::Time::new(paths)),
    ]
}

/// The most of a file of the kernel's that is read.
const FILE_BYTES: u64 = 64 * 1024;

/// A file of the kernel's as text; or why not, in words.
fn text(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(format!("{} can't be read: {}", path.display(), words(&error))),
    }
}

/// An error in words, without the number of the operating system.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// A counter that only grows, as what it grew by in a second; at first, since boot.
#[derive(Debug, Default)]
struct Rate {
    last: (u64, u64),
}

impl Rate {
    fn per_second(&mut self, counter: u64, boottime_ms: u64) -> f64 {
        let (before, then) = std::mem::replace(&mut self.last, (counter, boottime_ms));
        let seconds = boottime_ms.saturating_sub(then).max(1) as f64 / 1000.0;
        // One that starts again (a device that was replaced) counts from nothing.
        let grown = if counter >= before { counter - before } else { counter };
        grown as f64 / seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_by_the_time_between() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(1000, 10_000), 100.0);
        assert_eq!(rate.per_second(1000, 20_000), 0.0);
        assert_eq!(rate.per_second(3000, 22_000), 1000.0);
        assert_eq!(rate.per_second(500, 23_000), 500.0);
        // The same moment again is no division by zero.
        assert!(rate.per_second(600, 23_000).is_finite());
    }

    #[test]
    fn every_provider_can_be_configured() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(dir.path()));
        let names: Vec<_> = providers(&paths, &World::new(&paths, Vec::new())).iter().map(|provider| provider.name()).collect();
        assert_eq!(names, PROVIDER_NAMES);
    }

    #[test]
    fn a_file_that_is_not_there_is_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let reason = text(&dir.path().join("x")).unwrap_err();
        assert!(reason.ends_with("x can't be read: No such file or directory"), "{reason}");
    }
}
