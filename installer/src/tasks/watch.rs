//! Task: watch. Samples once a second what can be seen from outside, until the judge has decided.

use super::Context;
use crate::change::Writer;
use crate::change::journal::Event;
use crate::gate::{Expected, Judge, Judgement, Sample};
use crate::host::{agent, clock, dpkg, inventory, systemd};
use crate::paths::Paths;
use crate::plan::Trigger;
use smolotchi_operator::Result;
use std::time::Duration;

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(1);
/// Core is asked to commit a row at every fifth sample.
const PROOF_EVERY: u64 = 5;

/// What the plan's new version must show. With plain dpkg the plan couldn't look into the package; now that it is
/// installed, the release says it itself.
pub(super) fn to(context: &Context<'_>) -> Expected {
    let plan = &context.change.plan;
    let installed = inventory::release(context.paths).filter(|release| plan.trigger != Trigger::Installer && release.version == plan.to);
    match installed {
        Some(release) => Expected { version: release.version, schema: Some(release.schema.own), health: release.health },
        None => Expected { version: plan.to.clone(), schema: plan.schema_to, health: plan.health.clone() },
    }
}

/// Watches until decided: `Ok(Ok(()))` healthy, `Ok(Err(reason))` given up.
pub(super) fn watch(context: &Context<'_>, writer: &mut Writer, expected: &Expected) -> Result<std::result::Result<(), String>> {
    if !systemd::is_running() {
        // An image build: there is nothing to watch, and the first boot starts everything.
        writer.record(Event::Observed { text: "no service manager is running, so nothing was watched".to_owned() })?;
        return Ok(Ok(()));
    }
    let mut expected = expected.clone();
    expected.health.units.retain(|unit| !context.change.plan.excused.contains(unit));
    let expected = &expected;
    systemd::start_enabled(&expected.health.units);
    let mut judge = Judge::new(expected.clone(), context.change.plan.gate);
    let mut said = String::new();
    let mut proof = Err("not asked yet".to_owned());
    let mut packages = Packages::default();
    for number in 0_u64.. {
        // Each proof is a write to the card: a good one is believed for a while.
        if number % PROOF_EVERY == 0 || proof.is_err() {
            proof = agent::prove(&expected.health.prove);
        }
        let sample = sample(expected, packages.complaints(context.paths, &expected.version)?, proof.clone())?;
        writer.notes.saw(&sample);
        let judgement = judge.feed(&sample);
        let text = match &judgement {
            Judgement::Healthy => return Ok(Ok(())),
            Judgement::Unhealthy(reason) => return Ok(Err(reason.clone())),
            Judgement::Waiting(0) => format!("waiting for {} to be healthy", expected.version),
            Judgement::Waiting(_) => {
                format!("{} is healthy, and must stay so for {} s", expected.version, context.change.plan.gate.window_s)
            }
        };
        // Only what is new is worth a write to the card.
        if text != said {
            writer.record(Event::Observed { text: text.clone() })?;
            said = text;
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(Err("it was watched for ever".to_owned()))
}

fn sample(expected: &Expected, packages: Vec<String>, proof: std::result::Result<u32, String>) -> Result<Sample> {
    let units = systemd::samples(&expected.health.units)?;
    // The clock is read after the slow parts, just before what is compared with it.
    let heartbeat = agent::heartbeat(&expected.health.heartbeat);
    Ok(Sample { now_ms: clock::boottime_ms(), packages, units, heartbeat, proof })
}

/// dpkg's word on the agent's package. Asking it reads all of its database, each second, on a small machine: so only when
/// that has changed.
#[derive(Default)]
struct Packages {
    seen: Option<dpkg::Stamp>,
    complaints: Vec<String>,
}

impl Packages {
    fn complaints(&mut self, paths: &Paths, version: &str) -> Result<Vec<String>> {
        // Before asking: what changes meanwhile is seen the next time.
        let stamp = dpkg::stamp(paths);
        if stamp.is_none() || stamp != self.seen {
            let agent = dpkg::packages()?.into_iter().find(|package| package.name == "smolotchi");
            self.complaints = match agent {
                Some(package) if package.version == version && package.is_whole() => Vec::new(),
                Some(package) => vec![format!("dpkg has smolotchi {} in state {}", package.version, package.state.trim())],
                None => vec!["dpkg doesn't have smolotchi".to_owned()],
            };
            self.seen = stamp;
        }
        Ok(self.complaints.clone())
    }
}
