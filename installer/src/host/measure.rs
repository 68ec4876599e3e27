//! What a change costs, measured while it happens: disk space at its peak, memory of the programs that it started.
//!
//! Used by the executor, for the report. Decides nothing.

use crate::paths::Paths;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Between two looks at the free space: shorter than anything that dpkg leaves standing.
const INTERVAL: Duration = Duration::from_millis(100);

/// Watches the free space from its making until it is read or dropped.
#[derive(Debug)]
pub struct DiskGauge {
    paths: Paths,
    before: u64,
    least: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
}

impl DiskGauge {
    /// Starts to look. None where the space can't be asked for.
    pub fn start(paths: &Paths) -> Option<DiskGauge> {
        let before = super::inventory::room(paths).ok()?.0;
        let gauge = DiskGauge { paths: paths.clone(), before, least: Arc::new(AtomicU64::new(before)), done: Arc::default() };
        let (paths, least, done) = (gauge.paths.clone(), Arc::clone(&gauge.least), Arc::clone(&gauge.done));
        std::thread::Builder::new()
            .name("disk-gauge".to_owned())
            .spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    least.fetch_min(super::inventory::room(&paths).map_or(u64::MAX, |room| room.0), Ordering::Relaxed);
                    std::thread::sleep(INTERVAL);
                }
            })
            .ok()?;
        Some(gauge)
    }

    /// The most bytes that were taken since the start, whoever took them.
    pub fn peak(&self) -> u64 {
        let now = super::inventory::room(&self.paths).map_or(u64::MAX, |room| room.0);
        self.before.saturating_sub(self.least.load(Ordering::Relaxed).min(now))
    }
}

impl Drop for DiskGauge {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

/// The most memory that one program started by this process ever held, in bytes; none before the first has ended.
pub fn children_peak_bytes() -> Option<u64> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).ok()?;
    // Linux counts it in KiB.
    u64::try_from(usage.max_rss()).ok().filter(|kib| *kib > 0).map(|kib| kib << 10)
}
