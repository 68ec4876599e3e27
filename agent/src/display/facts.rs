//! What a display shows of this machine, as plain values, and how they are asked of core.
//!
//! What core doesn't know, or what this core has no call for, is absent; it is never an error. A core that can't be asked is the one
//! thing that is always shown.

use crate::client::Client;
use crate::clock;
use crate::installs::{Course, Install};
use crate::paths::Paths;
use crate::wire::readings::{Sensor, Sensors, Value};
use crate::wire::{Findings, Health, Stages, Status};
use serde::Serialize;
use smolotchi_operator::Code;

/// Before this moment (2024-01-01) the clock can't be right: there may be no clock battery.
const CLOCK_IS_SET_MS: i64 = 1_704_067_200_000;

/// What is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Facts {
    /// The machine's name.
    pub(crate) host: String,
    /// When this was so, in words.
    pub(crate) as_of: String,
    /// Why it isn't well; empty if it is.
    pub(crate) ill: Vec<String>,
    /// Core's version.
    pub(crate) version: Option<String>,
    /// Since when core runs, in words.
    pub(crate) since: Option<String>,
    /// How many findings are open.
    pub(crate) findings: Option<u64>,
    /// How many stage requests wait for an operator; more are not counted beyond [`MAX_STAGES`].
    pub(crate) stages: Option<u64>,
    /// How the last upgrade went.
    pub(crate) upgrade: Option<String>,
    /// Used, in percent.
    pub(crate) disk: Option<u8>,
    /// Used, in percent.
    pub(crate) memory: Option<u8>,
    /// Degrees Celsius.
    pub(crate) temperature: Option<i16>,
    /// Addresses of this machine.
    pub(crate) addresses: Vec<String>,
}

/// The most stage requests that are counted.
const MAX_STAGES: u64 = 100;

impl Facts {
    /// Whether nothing is wrong.
    pub(crate) fn well(&self) -> bool {
        self.ill.is_empty()
    }

    /// What is known without asking anybody.
    pub(crate) fn here() -> Facts {
        Facts { host: clock::host_name(), as_of: moment(clock::now_ms()), ..Facts::default() }
    }

    /// Asks core for all of it.
    pub(crate) async fn ask(paths: &Paths, client: &Client) -> Facts {
        let mut facts = Facts::here();
        match client.get::<Status>("/v1/status").await {
            Ok(status) => {
                facts.take_status(&status);
                match client.get::<Health>("/v1/health").await {
                    Ok(health) => facts.take_health(&health),
                    Err(fault) => facts.ill.push(fault.message),
                }
                if let Ok(findings) = client.get::<Findings>("/v1/findings?state=open&limit=1").await {
                    facts.findings = Some(findings.open);
                }
                if let Ok(stages) = client.get::<Stages>(&format!("/v1/stages?state=pending&limit={MAX_STAGES}")).await {
                    facts.stages = u64::try_from(stages.stages.len()).ok();
                }
                if let Ok(sensors) = client.get::<Sensors>("/v1/sensors").await {
                    facts.take_sensors(&sensors.sensors);
                }
            }
            Err(fault) if fault.code == Code::CoreUnreachable => facts.ill.push("core can't be asked".to_owned()),
            Err(fault) => facts.ill.push(fault.message),
        }
        facts.take_install(Install::read(&paths.install_status()).as_ref());
        facts
    }

    fn take_status(&mut self, status: &Status) {
        self.version = Some(format!("{}, schema {}", status.version, status.schema));
        let started = status.started_at.parse::<jiff::Timestamp>().map(|at| at.as_millisecond());
        self.since = started.ok().filter(|at| *at >= CLOCK_IS_SET_MS).map(minute);
    }

    fn take_health(&mut self, health: &Health) {
        self.ill.extend(health.checks.iter().filter(|check| !check.ok).map(|check| format!("{}: {}", check.name, check.detail)));
    }

    fn take_install(&mut self, install: Option<&Install>) {
        self.upgrade = install.and_then(upgrade);
        if install.is_some_and(|install| install.course() == Course::Stuck) {
            self.ill.push("an upgrade needs an operator".to_owned());
        }
    }

    fn take_sensors(&mut self, sensors: &[Sensor]) {
        let number = |name: &str| {
            sensors.iter().find(|sensor| sensor.name == name).and_then(|sensor| match sensor.value {
                Some(Value::Number(number)) if number.is_finite() => Some(number),
                _ => None,
            })
        };
        let disk = |of: &str| used(number(&format!("system.disk.{of}.free")), number(&format!("system.disk.{of}.total")));
        // The fuller one of two.
        self.disk = disk("root").max(disk("state"));
        self.memory = used(number("system.memory.available"), number("system.memory.total"));
        #[expect(clippy::cast_possible_truncation, reason = "held within the type first")]
        let degrees = |celsius: f64| celsius.round().clamp(-99.0, 999.0) as i16;
        self.temperature = number("system.temperature").map(degrees);
        self.addresses = sensors
            .iter()
            .filter(|sensor| sensor.name.starts_with("network.") && sensor.name.ends_with(".addresses"))
            .filter_map(|sensor| match &sensor.value {
                Some(Value::Text(text)) => Some(text),
                _ => None,
            })
            .flat_map(|text| text.split([' ', ',']))
            .map(|address| address.split('/').next().unwrap_or(address))
            .filter(|address| is_worth_showing(address))
            .map(str::to_owned)
            .collect();
    }
}

/// The last change, or the one under way, in few words.
fn upgrade(install: &Install) -> Option<String> {
    if install.course() == Course::UnderWay {
        return Some(format!("under way: {}", install.state.as_deref().unwrap_or("unknown")));
    }
    let change = install.last_change.as_ref()?;
    let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let kind = change.kind.as_ref().filter(|kind| *kind != "upgrade").map(|kind| format!("{kind} ")).unwrap_or_default();
    let why = change.reason.as_ref().filter(|_| install.course() != Course::Quiet).map(|why| format!(": {why}")).unwrap_or_default();
    Some(format!("{kind}{} > {}, {}{why}", word(&change.from), word(&change.to), word(&change.verdict)))
}

/// How much of a whole is used, in percent.
fn used(free: Option<f64>, total: Option<f64>) -> Option<u8> {
    let (free, total) = (free?, total.filter(|total| *total > 0.0)?);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "held within 0 to 100 first")]
    let percent = (100.0 - free * 100.0 / total).round().clamp(0.0, 100.0) as u8;
    Some(percent)
}

/// Not what every machine has.
fn is_worth_showing(address: &str) -> bool {
    match address.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(address)) => !address.is_loopback(),
        Ok(std::net::IpAddr::V6(address)) => !address.is_loopback() && (address.segments()[0] & 0xffc0) != 0xfe80,
        Err(_) => false,
    }
}

/// The moment of a look, in words.
fn moment(now_ms: i64) -> String {
    if now_ms < CLOCK_IS_SET_MS { "the clock is not set".to_owned() } else { format!("as of {}", minute(now_ms)) }
}

/// A moment to the minute.
fn minute(ms: i64) -> String {
    let text = clock::rfc3339(ms);
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(time)) => format!("{day} {time} UTC"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Check;

    fn sensor(name: &str, value: Option<Value>) -> Sensor {
        Sensor { name: name.into(), provider: "x".into(), unit: String::new(), absent: None, value, at: None }
    }

    #[test]
    fn sensors_become_a_few_figures_and_absent_ones_nothing() {
        let number = |number| Some(Value::Number(number));
        let mut facts = Facts::default();
        facts.take_sensors(&[
            sensor("system.disk.root.free", number(390.0)),
            sensor("system.disk.root.total", number(1000.0)),
            sensor("system.memory.available", None),
            sensor("system.memory.total", number(512.0)),
            sensor("system.temperature", number(41.6)),
            sensor("network.wlan0.addresses", Some(Value::Text("192.0.2.7/24, fe80::1/64,2001:db8::7/64 nonsense".into()))),
            sensor("network.lo.addresses", Some(Value::Text("127.0.0.1/8 ::1/128".into()))),
        ]);
        assert_eq!((facts.disk, facts.memory, facts.temperature), (Some(61), None, Some(42)));
        assert_eq!(facts.addresses, ["192.0.2.7", "2001:db8::7"]);
        for (free, total, percent) in [(2.0, 1.0, Some(0)), (-1.0, 1.0, Some(100)), (0.0, 0.0, None)] {
            assert_eq!(used(Some(free), Some(total)), percent);
        }
    }

    #[test]
    fn each_failed_check_and_a_stuck_upgrade_is_a_reason() {
        let mut facts = Facts::default();
        facts.take_health(&vec![Check::new("loop", true, "turns"), Check::new("disk", false, "3 MiB free")].into());
        assert_eq!(facts.ill, ["disk: 3 MiB free"]);
        facts.take_install(Some(&Install { state: Some("stuck".into()), ..Install::default() }));
        assert_eq!(facts.ill.len(), 2);
    }

    #[test]
    fn an_upgrade_is_told_in_few_words() {
        let told = |text: &str| upgrade(&serde_json::from_str(text).unwrap());
        assert_eq!(told("{}"), None);
        let change = r#""last_change":{"kind":"upgrade","from":"0.1.0","to":"0.2.0","verdict":"committed","reason":"asked"}"#;
        assert_eq!(told(&format!("{{{change}}}")).as_deref(), Some("0.1.0 > 0.2.0, committed"));
        assert_eq!(told(&format!(r#"{{"state":"watching",{change}}}"#)).as_deref(), Some("under way: watching"));
        let back = r#"{"last_change":{"kind":"rollback","to":"0.1.0","verdict":"rolled-back","reason":"ill"}}"#;
        assert_eq!(told(back).as_deref(), Some("rollback - > 0.1.0, rolled-back: ill"));
    }

    #[test]
    fn a_clock_that_was_never_set_is_said() {
        assert_eq!(moment(7_000), "the clock is not set");
        assert_eq!(moment(1_795_286_595_000), "as of 2026-11-21 18:43 UTC");
    }
}
