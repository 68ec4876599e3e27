//! The machine's clock: whether somebody sets it, whether it outlives the power, and whether it jumped.
//!
//! Whether the kernel's clock is disciplined can't be asked (adjtimex is what the sandbox denies), so this is what
//! systemd-timesyncd leaves behind.

use super::{Moment, ReadingProvider, Sample, text};
use crate::paths::Paths;
use serde_json::json;
use smolotchi_store::{NewEvent, Severity};
use std::path::PathBuf;

/// A clock that is set gently gains less than this between two looks.
const JUMP_MS: u64 = 2_000;
/// Of clocks that were read further apart nothing can be told.
const APART_MS: u64 = JUMP_MS / 4;

/// The provider `time`.
pub(crate) struct Time {
    timesync: PathBuf,
    clock: PathBuf,
    /// The time of boot by the machine's clock, at the last look.
    boot_ms: Option<i64>,
    jumps: u32,
    events: Vec<NewEvent>,
}

impl Time {
    /// Nothing is read yet.
    pub(crate) fn new(paths: &Paths) -> Self {
        Time { timesync: paths.timesync(), clock: paths.sys().join("class/rtc/rtc0/name"), boot_ms: None, jumps: 0, events: Vec::new() }
    }

    /// How far the clock went by itself since the last look, in milliseconds; 0 for what is no jump.
    fn jumped(&mut self, now: Moment) -> i64 {
        if now.apart_ms > APART_MS {
            return 0;
        }
        let boot_ms = now.wall_ms.saturating_sub(i64::try_from(now.boottime_ms).unwrap_or(i64::MAX));
        let by = self.boot_ms.replace(boot_ms).map_or(0, |before| boot_ms.saturating_sub(before));
        if by.unsigned_abs() >= JUMP_MS { by } else { 0 }
    }
}

impl ReadingProvider for Time {
    fn name(&self) -> &'static str {
        "time"
    }

    fn read(&mut self, now: Moment) -> Vec<Sample> {
        let synchronised = match (self.timesync.join("synchronized").exists(), self.timesync.exists()) {
            (true, _) => Ok("yes".to_owned()),
            (false, true) => Ok("no".to_owned()),
            (false, false) => Err("systemd-timesyncd does not run here".to_owned()),
        };
        let hardware = text(&self.clock)
            .map(|name| name.trim().to_owned())
            .map_err(|_| "this machine has no clock that outlives its power".to_owned());
        let by_ms = self.jumped(now);
        if by_ms != 0 {
            self.jumps = self.jumps.saturating_add(1);
            let body = json!({ "by_ms": by_ms }).to_string();
            self.events.push(NewEvent { topic: "clock.jumped".to_owned(), severity: Some(Severity::Notice), body });
        }
        vec![
            Sample::text("time.synchronised", synchronised),
            Sample::text("time.hardware_clock", hardware),
            Sample::number("time.jumps", "count", 1.0, Ok(f64::from(self.jumps))),
        ]
    }

    fn events(&mut self) -> Vec<NewEvent> {
        std::mem::take(&mut self.events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::readings::Value;

    fn at(boottime_ms: u64, wall_ms: i64) -> Moment {
        Moment { boottime_ms, wall_ms, apart_ms: 0, queued: None }
    }

    #[test]
    fn jumps_both_ways_are_seen_and_gentle_setting_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut time = Time::new(&Paths::new(Some(dir.path())));
        let looks = [
            // A machine without a clock battery, whose clock is then set; then back by an hour.
            (at(10_000, 1_000_000), 0_i64),
            (at(70_000, 1_060_000), 0),
            (at(130_000, 1_120_300), 0),
            (at(190_000, 1_760_000_000_000), 1_760_000_000_000 - 190_000 - (1_120_300 - 130_000)),
            (at(790_000, 1_760_000_600_000), 0),
            (at(850_000, 1_759_997_060_000), -3_600_000),
            (at(910_000, 0), -1_759_997_120_000),
        ];
        for (index, (moment, by_ms)) in looks.into_iter().enumerate() {
            time.read(moment);
            let said: Vec<_> = time.events().into_iter().map(|event| event.body).collect();
            let expected: Vec<_> = (by_ms != 0).then(|| json!({ "by_ms": by_ms }).to_string()).into_iter().collect();
            assert_eq!(said, expected, "look {index}");
        }
        assert_eq!(time.read(at(970_000, 60_000))[2].outcome, Ok(Value::Number(3.0)));
        assert!(time.events().is_empty(), "told once");
        // Nonsense is no panic.
        time.read(at(u64::MAX, i64::MIN));
        time.read(at(0, i64::MAX));
    }

    #[test]
    fn clocks_that_were_read_apart_are_no_jump() {
        let dir = tempfile::tempdir().unwrap();
        let mut time = Time::new(&Paths::new(Some(dir.path())));
        let looks = [
            (at(10_000, 1_010_000), 0_i64),
            // Put aside for five seconds between the two clocks.
            (Moment { apart_ms: 5_000, ..at(70_000, 1_075_000) }, 0),
            (at(130_000, 1_130_000), 0),
            // A jump meanwhile is seen by the next look.
            (Moment { apart_ms: 5_000, ..at(190_000, 4_795_000) }, 0),
            (at(250_000, 4_850_000), 3_600_000),
        ];
        for (index, (moment, by_ms)) in looks.into_iter().enumerate() {
            time.read(moment);
            let said: Vec<_> = time.events().into_iter().map(|event| event.body).collect();
            let expected: Vec<_> = (by_ms != 0).then(|| json!({ "by_ms": by_ms }).to_string()).into_iter().collect();
            assert_eq!(said, expected, "look {index}");
        }
    }

    #[test]
    fn who_sets_the_clock_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut time = Time::new(&Paths::new(Some(dir.path())));
        let mut said = || time.read(at(0, 0))[0].outcome.clone();
        assert_eq!(said(), Err("systemd-timesyncd does not run here".into()));
        std::fs::create_dir_all(dir.path().join("run/systemd/timesync")).unwrap();
        assert_eq!(said(), Ok(Value::Text("no".into())));
        std::fs::write(dir.path().join("run/systemd/timesync/synchronized"), "").unwrap();
        assert_eq!(said(), Ok(Value::Text("yes".into())));
    }
}
