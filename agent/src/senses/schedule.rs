//! When a provider is read: often while something changes, ever more seldom while nothing does. Pure: the clock is given.

use std::time::Duration;

/// How often at most, and at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Between two looks while something changes.
    pub(crate) min: Duration,
    /// Between two looks when nothing changes any more.
    pub(crate) max: Duration,
}

/// The times at which one provider is read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schedule {
    interval_ms: u64,
    due_ms: u64,
}

impl Schedule {
    /// Whether it is time.
    pub(crate) fn is_due(&self, boottime_ms: u64) -> bool {
        boottime_ms >= self.due_ms
    }

    /// Whether it is time as soon as another one is read: one wake-up serves both.
    pub(crate) fn is_nearly_due(&self, boottime_ms: u64) -> bool {
        boottime_ms + self.interval_ms / 4 >= self.due_ms
    }

    /// After a look: the next one soon if something changed, else after twice the time.
    pub(crate) fn looked(&mut self, boottime_ms: u64, changed: bool, limits: Limits) {
        let (min, max) = (millis(limits.min), millis(limits.max.max(limits.min)));
        self.interval_ms = if changed { min } else { (self.interval_ms * 2).clamp(min, max) };
        self.due_ms = boottime_ms + self.interval_ms;
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { min: Duration::from_secs(20), max: Duration::from_secs(600) };
    /// The seconds at which a provider is read in so long, on a loop that turns every 20 s; `changes` says at which look
    /// something is seen to have changed.
    fn looks(seconds: u64, changes: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut schedule = Schedule::default();
        let mut looks = Vec::new();
        for now in (0..seconds).step_by(20) {
            if schedule.is_due(now * 1000) {
                looks.push(now);
                schedule.looked(now * 1000, changes(now), LIMITS);
            }
        }
        looks
    }

    #[test]
    fn nothing_changes_ever_more_seldom() {
        assert_eq!(looks(3_000, |now| now == 0), [0, 20, 60, 140, 300, 620, 1220, 1820, 2420]);
    }

    #[test]
    fn a_change_is_followed_closely_then_left_alone() {
        let all = looks(3_600, |now| now < 100 || (1200..=1400).contains(&now));
        assert_eq!(all[..6], [0, 20, 40, 60, 80, 100]);
        let after = all.iter().filter(|now| (1200..=1400).contains(*now)).count();
        assert!(after >= 4, "{all:?}");
        assert!(all.len() < 30, "{all:?}");
    }

    #[test]
    fn what_is_nearly_due_goes_along() {
        let mut schedule = Schedule::default();
        schedule.looked(1_000, true, LIMITS);
        let at = |now| (schedule.is_nearly_due(now), schedule.is_due(now));
        assert_eq!([at(15_999), at(16_000), at(20_999), at(21_000)], [(false, false), (true, false), (true, false), (true, true)]);
    }

    #[test]
    fn limits_hold_whatever_comes() {
        for changed in [true, false] {
            let mut schedule = Schedule::default();
            let mut now = 0;
            for _ in 0..100 {
                schedule.looked(now, changed, LIMITS);
                let wait = schedule.due_ms - now;
                assert!((20_000..=600_000).contains(&wait), "{wait}");
                now = schedule.due_ms;
            }
        }
        // A least interval beyond the most is the interval.
        let mut schedule = Schedule::default();
        schedule.looked(0, false, Limits { min: Duration::from_secs(60), max: Duration::from_secs(30) });
        assert_eq!(schedule.due_ms, 60_000);
    }
}
