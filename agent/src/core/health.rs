//! What core says about itself: the facts are gathered by the caller, decided here.

use super::heartbeat::stale_ms;
use crate::wire::{Check, Health};

/// The facts that core's health is decided from.
#[derive(Debug)]
pub(super) struct Facts {
    /// Turns of the loop so far.
    pub(super) turns: u64,
    /// Milliseconds since the last one.
    pub(super) turn_age_ms: u64,
    /// Milliseconds after which the next one is due.
    pub(super) every_ms: u64,
    /// The number of stored events, or why the database can't be read.
    pub(super) events: Result<u64, String>,
    /// The database's schema.
    pub(super) schema: u32,
    /// Free bytes where the database is, if they could be asked for.
    pub(super) free_bytes: Option<u64>,
    /// The least free space, in MiB; 0 for no check.
    pub(super) min_free_mib: u64,
}

/// Core's health.
pub(super) fn decide(facts: &Facts) -> Health {
    let mut checks = vec![
        Check::new("loop", facts.turn_age_ms <= stale_ms(facts.every_ms), format!("turn {}, {} ms ago", facts.turns, facts.turn_age_ms)),
        match &facts.events {
            Ok(events) => Check::new("database", true, format!("schema {}, {events} events", facts.schema)),
            Err(what) => Check::new("database", false, what.clone()),
        },
    ];
    if let Some(free) = facts.free_bytes {
        let free_mib = free / (1024 * 1024);
        let least = facts.min_free_mib;
        checks.push(Check::new("disk", free_mib >= least, format!("{free_mib} MiB free, at least {least} wanted")));
    }
    checks.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Verdict;

    #[test]
    fn each_fact_alone_makes_unhealthy() {
        let well = || Facts {
            turns: 9,
            turn_age_ms: 900,
            every_ms: 1_000,
            events: Ok(4),
            schema: 3,
            free_bytes: Some(17 << 20),
            min_free_mib: 16,
        };
        type Break = fn(&mut Facts);
        let cases: [(&str, Break, Option<&str>); 8] = [
            ("well", |_| {}, None),
            ("slow loop", |facts| facts.turn_age_ms = 5_001, Some("loop")),
            ("calm loop", |facts| (facts.turn_age_ms, facts.every_ms) = (52_500, 20_000), None),
            ("slow calm loop", |facts| (facts.turn_age_ms, facts.every_ms) = (52_501, 20_000), Some("loop")),
            ("no database", |facts| facts.events = Err("gone".into()), Some("database")),
            ("full disk", |facts| facts.free_bytes = Some(15 << 20), Some("disk")),
            ("disk not checked", |facts| (facts.free_bytes, facts.min_free_mib) = (Some(0), 0), None),
            ("disk not known", |facts| facts.free_bytes = None, None),
        ];
        for (name, change, broken) in cases {
            let mut facts = well();
            change(&mut facts);
            let health = decide(&facts);
            let found: Vec<_> = health.checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect();
            assert_eq!(found, broken.into_iter().collect::<Vec<_>>(), "{name}");
            assert_eq!(health.verdict == Verdict::Healthy, broken.is_none(), "{name}");
        }
    }
}
