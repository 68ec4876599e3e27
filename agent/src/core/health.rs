//! What core says about itself and the other services: the facts are gathered by the caller (of services: here), and decided here.

use super::Core;
use super::heartbeat::stale_ms;
use super::senses::observe;
use crate::clock;
use crate::powers::loudly;
use crate::senses::World;
use crate::wire::readings::Unit;
use crate::wire::{Check, Health, Power};
use std::time::Duration;

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
    /// Services with a capability that are on.
    pub(super) powers: Vec<Power>,
}

/// Core's health.
pub(super) fn decide(facts: &Facts, services: Vec<Check>) -> Health {
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
    checks.extend(services);
    // It is as the operator wants it, so it is well; but nobody should have to look for it.
    checks.extend(facts.powers.iter().map(|power| Check::new(&power.unit, true, loudly(power))));
    checks.into()
}

/// So long what was seen of the services, or that it could not be seen, is good for the next who ask.
const FRESH: Duration = Duration::from_secs(5);
/// So long systemd may take: who asks for health must not wait for it.
const SYSTEMD_TIME: Duration = Duration::from_secs(1);

/// How the services stood last, and when by CLOCK_BOOTTIME.
pub(super) type Services = tokio::sync::Mutex<Option<(u64, Vec<Check>)>>;

/// How each service stands. What systemd can't be asked is unknown, which is not ill.
pub(super) async fn services(core: &Core) -> Vec<Check> {
    let unknown = |why: &str| vec![Check::unknown("services", why)];
    if !core.settings.read().is_ok_and(|settings| settings.senses.providers.iter().any(|name| name == "units")) {
        return unknown("senses.providers has no units");
    }
    let mut last = core.services.lock().await;
    if let Some((at_ms, checks)) = last.as_ref() {
        if u128::from(clock::boottime_ms().saturating_sub(*at_ms)) < FRESH.as_millis() {
            return checks.clone();
        }
    }
    let checks = match tokio::time::timeout(SYSTEMD_TIME, observe(core, World::units)).await {
        Ok(Ok(seen)) => seen.reason.map_or_else(|| judged(&seen.items), |why| unknown(&why)),
        Ok(Err(fault)) => unknown(&fault.to_string()),
        Err(_) => unknown("systemd did not answer in time"),
    };
    last.insert((clock::boottime_ms(), checks)).1.clone()
}

/// One that failed is ill. One that doesn't run may wait for its socket or timer, or have been switched off: it is only told.
fn judged(units: &[Unit]) -> Vec<Check> {
    // The installer's units fail when they need an operator: smolotchi-install status tells that.
    let ours = |unit: &&Unit| {
        // A socket or timer only when it was given up: then nothing starts its service.
        let is_told = unit.name.ends_with(".service") || unit.active == "failed";
        unit.name.starts_with("smolotchi-") && !unit.name.starts_with("smolotchi-install") && is_told
    };
    let judge = |unit: &Unit| {
        let again = unit.restarts.filter(|count| *count > 0).map(|count| format!(", started again {count} times")).unwrap_or_default();
        Check::new(&unit.name, unit.active != "failed", format!("{} ({}){again}", unit.active, unit.sub))
    };
    units.iter().filter(ours).map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Verdict;

    #[test]
    fn a_failed_service_makes_unhealthy() {
        let unit = |name: &str, active: &str, restarts| Unit {
            name: name.into(),
            description: String::new(),
            load: "loaded".into(),
            active: active.into(),
            sub: "x".into(),
            restarts,
        };
        let units = [
            unit("smolotchi-core.service", "active", Some(2)),
            unit("smolotchi-web.service", "failed", Some(0)),
            unit("smolotchi-web.socket", "failed", None),
            unit("smolotchi-net.socket", "inactive", None),
            unit("smolotchi-install-change.service", "failed", Some(0)),
            unit("other.service", "failed", None),
        ];
        let checks = judged(&units);
        let expected = [
            Check::new("smolotchi-core.service", true, "active (x), started again 2 times"),
            Check::new("smolotchi-web.service", false, "failed (x)"),
            Check::new("smolotchi-web.socket", false, "failed (x)"),
        ];
        assert_eq!(checks, expected);
    }

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
            powers: Vec::new(),
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
            let health = decide(&facts, vec![Check::unknown("services", "no D-Bus")]);
            let found: Vec<_> = health.checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect();
            assert_eq!(found, broken.into_iter().collect::<Vec<_>>(), "{name}");
            assert_eq!(health.verdict == Verdict::Healthy, broken.is_none(), "{name}");
        }
    }
}
