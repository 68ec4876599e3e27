//! The clocks and the boot's identity, read at the edge. Nothing here decides anything.

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since 1970 by the machine's clock, which may be wrong or jump: there may be no clock battery.
pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Milliseconds since boot, counting suspend (CLOCK_BOOTTIME). Never jumps; the same for every process.
pub(crate) fn boottime_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap_or_default() * 1000 + u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000
}

/// Both clocks as of one moment: since boot, since 1970, and for how many milliseconds at most they were read apart. A process may be
/// put aside between two reads, and the machine to sleep.
pub(crate) fn both() -> (u64, i64, u64) {
    together(boottime_ms, now_ms)
}

fn together(mut boottime: impl FnMut() -> u64, wall: impl FnOnce() -> i64) -> (u64, i64, u64) {
    let before = boottime();
    let wall_ms = wall();
    (before, wall_ms, boottime().saturating_sub(before))
}

/// This boot's identity (random(4)), 32 hexadecimal digits. A unit whose sandbox hides /proc/sys hands it in as SMOLOTCHI_BOOT_ID=%b.
pub(crate) fn boot_id() -> Option<String> {
    let handed = std::env::var("SMOLOTCHI_BOOT_ID").ok().filter(|id| !id.is_empty());
    handed
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned()))
        .map(|id| id.replace('-', ""))
}

/// The machine's name.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Milliseconds since 1970 as RFC 3339 in UTC, to the second: what the API and the page show.
pub(crate) fn rfc3339(ms: i64) -> String {
    Timestamp::from_second(ms.div_euclid(1000)).map(|time| time.to_string()).unwrap_or_default()
}

/// A span for people, in its two largest units: `3 d 4 h`, `12 min 5 s`, `7 s`.
pub(crate) fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, name) in units {
        if rest >= size || (size == 1 && parts.is_empty()) {
            parts.push(format!("{} {name}", rest / size));
            rest %= size;
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_two_units() {
        let cases = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (3600, "1 h"),
            (3661, "1 h 1 min"),
            (90_061, "1 d 1 h"),
            (86_401, "1 d"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(span(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn clocks_that_were_read_apart_are_known() {
        let mut reads = [70_000, 75_000].into_iter();
        assert_eq!(together(|| reads.next().unwrap(), || 5), (70_000, 5, 5_000));
        let (boottime, _, apart) = both();
        assert!(boottime + apart <= boottime_ms());
    }

    #[test]
    fn times_are_utc_to_the_second() {
        assert_eq!(rfc3339(1_999), "1970-01-01T00:00:01Z");
    }
}
