//! The healer: mends what a power cut left, before anything of the agent starts (`smolotchi-install-heal.service`), or by
//! hand (`smolotchi-install heal`).
//!
//! In this order: torn files of the installer's own state and leftovers of drafts, the packages, the database's schema, apt's
//! pins. Each step looks at facts, needs no network, and is safe to run again, so a second cut in the middle only means that it begins anew.
//! It never judges health and never closes a change: that stays with the executor. With nothing to mend it writes nothing and
//! starts no program (but for asking dpkg which version a pause keeps).

mod packages;
mod state;

use crate::change::{self, report};
use crate::host::{agent, dpkg, lock, systemd};
use crate::paths::Paths;
use crate::settings::Settings;
use serde::Serialize;
use smolotchi_operator::{Exit, Fault, Result, Table, log};

/// What is started once packages were mended, if it is enabled; systemd knew nothing of it when it planned the boot.
const UNITS: [&str; 9] = [
    "smolotchi-core.socket",
    "smolotchi-web.socket",
    "smolotchi-prune.timer",
    "smolotchi-core.service",
    "smolotchi-ai.service",
    "smolotchi-display.service",
    "smolotchi-arp.socket",
    "smolotchi-net.socket",
    systemd::EXECUTOR,
];
/// Those of them that come and go with the agent.
const AGENTS: [&str; 10] = [
    "smolotchi-core.socket",
    "smolotchi-senses.socket",
    "smolotchi-caller@*.socket",
    "smolotchi-web.socket",
    "smolotchi-prune.timer",
    "smolotchi-core.service",
    "smolotchi-ai.service",
    "smolotchi-display.service",
    "smolotchi-arp.socket",
    "smolotchi-net.socket",
];

/// What was mended, and what could not be.
#[derive(Debug, Default, Serialize)]
pub struct Healed {
    event: &'static str,
    changed: bool,
    mended: Vec<String>,
    failed: Vec<String>,
}

impl Healed {
    /// 0: nothing was wrong, or it is mended. 50: something is left.
    pub fn exit(&self) -> Exit {
        if self.failed.is_empty() { Exit::Success } else { Exit::Operator }
    }

    fn mended(&mut self, what: impl Into<String>) {
        let what = what.into();
        log::note(log::Kind::Mended, format!("mended: {what}"));
        self.changed = true;
        self.mended.push(what);
    }

    fn failed(&mut self, fault: &Fault) {
        log::fault(fault);
        self.failed.push(fault.to_string());
    }

    /// A step that failed doesn't keep the next from its work.
    fn step(&mut self, step: impl FnOnce(&mut Self) -> Result<()>) {
        if let Err(fault) = step(self) {
            self.failed(&fault);
        }
    }
}

impl Table for Healed {
    fn table(&self) -> String {
        if self.mended.is_empty() && self.failed.is_empty() {
            return "Nothing to mend.\n".to_owned();
        }
        let lines = |what: &str, all: &[String]| all.iter().map(|line| format!("{what}  {line}\n")).collect::<String>();
        format!("{}{}", lines("mended", &self.mended), lines("failed", &self.failed))
    }
}

/// Mends what is broken. With `booting`, maintainer scripts start and stop nothing. `change.open` when another process of
/// ours is at work: what looks broken then is only unfinished.
pub fn heal(paths: &Paths, settings: &Settings, booting: bool) -> Result<Healed> {
    let mut healed = Healed { event: "result", ..Healed::default() };
    let _planner = lock::ours(&paths.plan_lock())?;
    let executor = lock::ours(&paths.executor_lock())?;
    healed.step(|healed| state::mend(paths, healed));
    let open = change::open(paths).unwrap_or_else(|fault| {
        healed.failed(&fault);
        None
    });
    let healing = packages::Healing { paths, settings, open: open.as_ref(), booting };
    let mut packages_changed = false;
    healed.step(|healed| {
        packages_changed = healing.mend(healed)?;
        Ok(())
    });
    // Asking for the schema takes two programs: only when there is a reason to.
    if packages_changed || open.is_some() || !booting {
        healed.step(|healed| schema(paths, booting, healed));
    }
    healed.step(|healed| state::pins(paths, healed));
    if healed.changed && paths.state().is_dir() {
        report::publish(paths, dpkg::agent().ok().flatten().map(|package| package.version));
    }
    drop(executor);
    if packages_changed && systemd::is_running() {
        // A removal was finished: the boot planned to start what is no longer there. Before the reload, because systemd
        // stops nothing that it has no file of.
        if dpkg::agent().is_ok_and(|agent| agent.is_none()) {
            systemd::call_off(&AGENTS);
        }
        healed.step(|_| systemd::reload());
        systemd::queue_enabled(&UNITS);
    }
    Ok(healed)
}

/// A package that is whole over a database that is not at its schema: what its postinst does, once more.
fn schema(paths: &Paths, booting: bool, healed: &mut Healed) -> Result<()> {
    if !dpkg::agent()?.is_some_and(|package| package.is_whole()) {
        return Ok(());
    }
    match agent::schemas(paths) {
        Some((current, own)) if current != own => {
            agent::configure(paths, booting)?;
            if !booting {
                systemd::queue_enabled(&UNITS);
            }
            healed.mended(format!("the database went from schema {current} to {own}"));
            Ok(())
        }
        _ => Ok(()),
    }
}
