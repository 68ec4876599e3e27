//! Clocks. The wall clock may be wrong (no clock battery); time that is measured uses the clock since boot.

use rustix::time::{ClockId, clock_gettime};

/// The wall clock, as text.
pub fn wall() -> String {
    wall_time().to_string()
}

/// The wall clock, to the second.
pub fn wall_time() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Whether a wall clock was ever set: no release of ours is older than 2026. A machine without a clock battery starts in
/// 1970, or where it was when it went down.
pub fn is_set(now: jiff::Timestamp) -> bool {
    // 2026-01-01T00:00:00Z
    now.as_second() >= 1_767_225_600
}

/// The same moment by the clock on this machine's wall; UTC where it names no time zone.
pub fn local(now: jiff::Timestamp) -> jiff::civil::DateTime {
    now.to_zoned(jiff::tz::TimeZone::system()).datetime()
}

/// Milliseconds since boot, suspend included.
pub fn boottime_ms() -> u64 {
    milliseconds(ClockId::Boottime)
}

/// Microseconds of the clock that systemd's `…TimestampMonotonic` properties use.
pub fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000
}

fn milliseconds(id: ClockId) -> u64 {
    let now = clock_gettime(id);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}

/// Which boot this is, as the kernel writes it (random(4)). A unit whose sandbox hides /proc/sys hands it in as SMOLOTCHI_BOOT_ID=%b, to us and to
/// whatever we run.
pub fn boot_id() -> String {
    let handed = std::env::var("SMOLOTCHI_BOOT_ID").ok().and_then(|id| grouped(&id));
    handed.unwrap_or_else(|| std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned())
}

/// systemd writes 32 digits, the kernel five groups of them.
fn grouped(digits: &str) -> Option<String> {
    let whole = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    whole.then(|| [0..8, 8..12, 12..16, 16..20, 20..32].map(|group| &digits[group]).join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_the_same_by_systemd_and_by_the_kernel() {
        assert_eq!(grouped("0123456789abcdef0123456789abcdef").as_deref(), Some("01234567-89ab-cdef-0123-456789abcdef"));
        for other in ["", "0123", "01234567-89ab-cdef-0123-456789abcdef", "%b", "0123456789abcdef0123456789abcdeg"] {
            assert_eq!(grouped(other), None, "{other}");
        }
    }
}
