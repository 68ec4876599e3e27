//! The heartbeat file: written at each turn of the loop, read by the installer's gate and by `health`. It says itself when the
//! next one is due, and is judged by that.

use crate::clock;
use serde::{Deserialize, Serialize};
use smolotchi_operator::{Fault, Result};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    /// Moves by one with each turn of core's loop, from 1.
    pub(crate) seq: u64,
    /// When, in milliseconds since boot (CLOCK_BOOTTIME).
    pub(crate) boottime_ms: u64,
    /// Core's process.
    pub(crate) pid: u32,
    /// Core's version.
    pub(crate) version: String,
    /// The database's schema.
    pub(crate) schema: u32,
    /// Milliseconds until the next one. Absent: written by a version whose loop turned every second.
    #[serde(default = "every_second")]
    pub(crate) every_ms: u64,
}

fn every_second() -> u64 {
    1_000
}

/// How old a heartbeat may be whose next one was due after so many milliseconds: two and a half times that, and a little for
/// a machine that is slow. 5 s for a loop that turns every second.
pub(crate) fn stale_ms(every_ms: u64) -> u64 {
    every_ms.clamp(1_000, 60_000) * 5 / 2 + 2_500
}

impl Heartbeat {
    /// The heartbeat after this many turns, now, with the next one due after `every_ms`.
    pub(crate) fn now(seq: u64, schema: u32, every_ms: u64) -> Self {
        let version = crate::release::VERSION.to_owned();
        Heartbeat { seq, boottime_ms: clock::boottime_ms(), pid: std::process::id(), version, schema, every_ms }
    }

    /// Replaces the file, whole but without fsync: it is in /run, and must cost the card nothing.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let staged: PathBuf = path.with_extension("staging");
        let write = || {
            std::fs::write(&staged, serde_json::to_vec(self)?)?;
            // Everybody may read it, whatever the service's umask.
            std::fs::set_permissions(&staged, Permissions::from_mode(0o644))?;
            std::fs::rename(&staged, path)
        };
        write().map_err(|error: std::io::Error| Fault::io("could not write the heartbeat", path, &error))
    }

    /// Reads the file; an error is in words.
    pub(crate) fn read(path: &Path) -> Result<Heartbeat, String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }

    /// How old it is; a heartbeat from the future is of another boot.
    pub(crate) fn age_ms(&self, boottime_ms: u64) -> Option<u64> {
        boottime_ms.checked_sub(self.boottime_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_age() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("heartbeat.json");
        let beat = Heartbeat::now(12, 3, 20_000);
        beat.write(&path).unwrap();
        assert_eq!(Heartbeat::read(&path).unwrap(), beat);
        assert_eq!(beat.age_ms(beat.boottime_ms + 5), Some(5));
        assert_eq!(beat.age_ms(beat.boottime_ms - 1), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing stays staged");
    }

    #[test]
    fn a_heartbeat_is_stale_by_its_own_promise() {
        for (every, stale) in [(0, 5_000), (200, 5_000), (1_000, 5_000), (20_000, 52_500), (60_000, 152_500), (u64::MAX, 152_500)] {
            assert_eq!(stale_ms(every), stale, "{every}");
        }
        let old = r#"{"seq":12,"boottime_ms":81234,"pid":321,"version":"0.1.0","schema":1}"#;
        assert_eq!(serde_json::from_str::<Heartbeat>(old).unwrap().every_ms, 1_000, "a version that promised nothing");
    }
}
