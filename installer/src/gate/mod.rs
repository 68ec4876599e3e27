//! The health gate: from samples of what can be seen from outside, is the version good? Pure; `host` takes the samples,
//! `tasks::watch` feeds them.
//!
//! Good is unbroken health for the window. One bad sample between good ones is a hiccup and doesn't break it; two in a
//! row do, and so does a restart. A crash loop or a failed unit ends it early; otherwise the deadline does.

use crate::settings::GateSettings;
use serde::{Deserialize, Serialize};
use smolotchi_release::Health;

/// What was seen of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitSample {
    /// Its name.
    pub name: String,
    /// systemd's ActiveState.
    pub active: String,
    /// systemd's NRestarts.
    pub restarts: u64,
    /// systemd's UnitFileState, to tell an operator's mask or disable from a failure.
    pub enabled: String,
    /// Milliseconds since the last watchdog ping, and the limit, for a unit that has a watchdog.
    pub watchdog: Option<(u64, u64)>,
}

/// The heartbeat as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Moves while core's loop turns.
    pub seq: u64,
    /// Milliseconds since boot when it was written.
    pub boottime_ms: u64,
    /// Core's version.
    pub version: String,
    /// The schema of its database.
    pub schema: u32,
    /// Milliseconds until the next one is due; a version that doesn't say writes one every second.
    #[serde(default = "every_second")]
    pub every_ms: u64,
}

fn every_second() -> u64 {
    1_000
}

impl Heartbeat {
    /// How old it may be before it isn't fresh any more: two and a half times its own promise, and a little for a machine that
    /// is slow. No promise is believed beyond a minute.
    fn stale_ms(&self) -> u64 {
        self.every_ms.clamp(1_000, 60_000) * 5 / 2 + 2_500
    }
}

/// Everything that one look shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Milliseconds since boot, suspend included.
    pub now_ms: u64,
    /// The packages of the change that dpkg doesn't have whole at the wanted version.
    pub packages: Vec<String>,
    /// The units that must be healthy.
    pub units: Vec<UnitSample>,
    /// The heartbeat; none: absent or unreadable.
    pub heartbeat: Option<Heartbeat>,
    /// The schema of a row that was committed just now, or why none was.
    pub proof: Result<u32, String>,
}

/// What the gate expects.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The version that must run.
    pub version: String,
    /// Its schema, if known.
    pub schema: Option<u32>,
    /// What must be healthy.
    pub health: Health,
}

/// The gate's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Look again; healthy for so many milliseconds so far.
    Waiting(u64),
    /// Healthy for the window.
    Healthy,
    /// Given up, and why.
    Unhealthy(String),
}

/// A unit is a crash loop after so many restarts, and a `failed` unit is believed after so many samples.
const PATIENCE: u64 = 3;
/// The unit that owns heartbeat and proof.
const CORE: &str = "smolotchi-core";

/// The judge of one version.
#[derive(Debug)]
pub struct Judge {
    expected: Expected,
    settings: GateSettings,
    began_ms: Option<u64>,
    good_since_ms: Option<u64>,
    bad_in_a_row: u32,
    failed_in_a_row: u64,
    /// Per unit: its restarts at the first and at the last sample.
    restarts: Vec<(String, u64, u64)>,
    last_seq: Option<u64>,
}

impl Judge {
    /// A judge that has seen nothing yet.
    pub fn new(expected: Expected, settings: GateSettings) -> Self {
        Judge {
            expected,
            settings,
            began_ms: None,
            good_since_ms: None,
            bad_in_a_row: 0,
            failed_in_a_row: 0,
            restarts: Vec::new(),
            last_seq: None,
        }
    }

    /// Takes one sample into account. Time is what the samples say: it starts anew after a reboot, with a new judge.
    pub fn feed(&mut self, sample: &Sample) -> Judgement {
        let began = *self.began_ms.get_or_insert(sample.now_ms);
        let complaints = self.complaints(sample);
        self.last_seq = sample.heartbeat.as_ref().map(|heartbeat| heartbeat.seq);

        for unit in &sample.units {
            match self.restarts.iter_mut().find(|(name, _, _)| *name == unit.name) {
                None => self.restarts.push((unit.name.clone(), unit.restarts, unit.restarts)),
                Some((_, first, _)) if unit.restarts >= *first + PATIENCE => {
                    return Judgement::Unhealthy(format!("{} crashes again and again ({} restarts)", unit.name, unit.restarts));
                }
                Some((_, _, last)) => {
                    // A crash is no hiccup, however quickly systemd had it running again.
                    if unit.restarts > *last {
                        self.good_since_ms = None;
                    }
                    *last = unit.restarts;
                }
            }
        }
        self.failed_in_a_row = if sample.units.iter().any(|unit| unit.active == "failed") { self.failed_in_a_row + 1 } else { 0 };
        if self.failed_in_a_row >= PATIENCE {
            return Judgement::Unhealthy(complaints.join("; "));
        }

        if complaints.is_empty() {
            self.bad_in_a_row = 0;
            let since = *self.good_since_ms.get_or_insert(sample.now_ms);
            if sample.now_ms.saturating_sub(since) >= self.settings.window_s * 1000 {
                return Judgement::Healthy;
            }
        } else {
            self.bad_in_a_row += 1;
            if self.bad_in_a_row > 1 {
                self.good_since_ms = None;
            }
        }
        if sample.now_ms.saturating_sub(began) >= self.settings.deadline_s * 1000 {
            let last = if complaints.is_empty() { "it was not healthy for long enough".to_owned() } else { complaints.join("; ") };
            return Judgement::Unhealthy(format!("not healthy within {} s: {last}", self.settings.deadline_s));
        }
        Judgement::Waiting(self.good_since_ms.map_or(0, |since| sample.now_ms.saturating_sub(since)))
    }

    /// What is wrong in one sample, in sentences.
    fn complaints(&self, sample: &Sample) -> Vec<String> {
        let mut complaints: Vec<String> = sample.packages.clone();
        for unit in &sample.units {
            // The operator's word is nothing that a version can be blamed for.
            let unwanted = is_unwanted(unit) && unit.active == "inactive";
            if unit.active != "active" && !unwanted {
                complaints.push(format!("{} is {}", unit.name, unit.active));
            }
            if let Some((age, limit)) = unit.watchdog.filter(|(age, limit)| age > limit) {
                complaints.push(format!("{} did not ping its watchdog for {age} ms (limit {limit} ms)", unit.name));
            }
        }
        // With core itself masked or disabled it can't be asked; any other unit is no excuse.
        let silenced = sample.units.iter().any(|unit| unit.name.starts_with(CORE) && unit.active == "inactive" && is_unwanted(unit));
        if silenced {
            return complaints;
        }
        match &sample.heartbeat {
            None => complaints.push("there is no heartbeat".to_owned()),
            Some(beat) => {
                let age = sample.now_ms.saturating_sub(beat.boottime_ms);
                let stale = beat.stale_ms();
                if age > stale {
                    complaints.push(format!("the heartbeat is {age} ms old"));
                } else if self.last_seq == Some(beat.seq) && age > stale / 2 {
                    complaints.push(format!("the heartbeat stands still at {}", beat.seq));
                }
                if beat.version != self.expected.version {
                    complaints.push(format!("version {} is running, not {}", beat.version, self.expected.version));
                }
                if self.expected.schema.is_some_and(|schema| schema != beat.schema) {
                    complaints.push(format!("the database is at schema {}", beat.schema));
                }
            }
        }
        if let Err(reason) = &sample.proof {
            complaints.push(format!("core could not commit: {reason}"));
        }
        complaints
    }
}

/// Masked or disabled by the operator.
fn is_unwanted(unit: &UnitSample) -> bool {
    matches!(unit.enabled.as_str(), "masked" | "masked-runtime" | "disabled")
}

#[cfg(test)]
mod tests;
