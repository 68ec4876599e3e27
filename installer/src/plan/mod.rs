//! What one change will do, with no choices left: a pure function of settings, inventory and release.
//!
//! Called by the commands (and so by `--dry-run`) and by the guard. Must never look at a file, a process or a clock;
//! clippy's disallowed methods hold it to that.

use crate::inventory::Inventory;
use crate::settings::{GateSettings, Settings};
use serde::{Deserialize, Serialize};
use smolotchi_operator::{Code, Fault, Result, Table, output};
use smolotchi_release::{Health, Manifest, version};
use std::cmp::Ordering;

/// What kind of change it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// No version before.
    Install,
    /// To a newer version.
    Upgrade,
    /// To an older version.
    Rollback,
}

impl Kind {
    /// The word for people and names.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Install => "install",
            Kind::Upgrade => "upgrade",
            Kind::Rollback => "rollback",
        }
    }
}

/// Who changes the packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// `smolotchi-install`: the executor runs dpkg itself.
    Installer,
    /// apt, through its hook: the executor watches.
    Apt,
    /// dpkg alone, through the maintainer scripts: the executor watches.
    Dpkg,
}

/// One package to be installed, by the name of its file in the change's `debs/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDeb {
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Name of the file, without folder.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// Lower-case hex.
    pub sha256: String,
}

/// One step of a change, in the order in which they are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Keep the running version: its packages and a snapshot of the database.
    SaveSlot,
    /// Unpack and configure the packages (the migration runs in postinst).
    Packages,
    /// Watch the new version until it is healthy for the gate's window, or given up.
    Watch,
}

impl Task {
    /// One sentence for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Task::SaveSlot => "keep the running version and a snapshot of the database, to go back to",
            Task::Packages => "install the packages, migrate the database, restart the services",
            Task::Watch => "watch the new version until it has proved healthy, else go back",
        }
    }
}

/// The whole plan. Durable as `plan.json` in the change's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What kind of change.
    pub kind: Kind,
    /// Who changes the packages.
    pub trigger: Trigger,
    /// The version before; none for an installation.
    pub from: Option<String>,
    /// The version after.
    pub to: String,
    /// Schema of the database before, as far as known.
    pub schema_from: Option<u32>,
    /// Schema of the database after, as far as known.
    pub schema_to: Option<u32>,
    /// The packages that will be installed.
    pub debs: Vec<PlannedDeb>,
    /// The steps.
    pub tasks: Vec<Task>,
    /// What must be healthy afterwards.
    pub health: Health,
    /// Units that were down before the change: what is wrong with them is nothing that the new version can be blamed for.
    /// Core is never excused.
    #[serde(default)]
    pub excused: Vec<String>,
    /// For how long.
    pub gate: GateSettings,
    /// Bytes that the change needs at its peak.
    pub disk_needed: u64,
    /// Bytes that are free.
    pub disk_free: u64,
    /// How it can be undone, in one sentence.
    pub undo: String,
}

/// The release that a plan goes to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its version.
    pub version: String,
    /// Its schema, if it says so.
    pub schema: Option<u32>,
    /// What must be healthy.
    pub health: Health,
    /// Its packages for this machine.
    pub debs: Vec<PlannedDeb>,
}

/// The packages of a manifest for this machine: one entry per package, or which one has none.
pub fn target(manifest: &Manifest, architecture: &str) -> Result<Target> {
    let mut names: Vec<&str> = manifest.debs.iter().map(|deb| deb.package.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut debs = Vec::new();
    for name in names {
        let Some(entry) = manifest.deb(name, architecture) else {
            let mut offered: Vec<&str> =
                manifest.debs.iter().filter(|deb| deb.package == name).map(|deb| deb.architecture.as_str()).collect();
            offered.sort_unstable();
            return Err(Fault::new(Code::DebWrongArchitecture, format!("release {} has no {name} for this machine", manifest.version))
                .fact("machine", architecture)
                .fact("offered", offered.join(", ")));
        };
        let file = entry.path.rsplit('/').next().unwrap_or(&entry.path).to_owned();
        debs.push(PlannedDeb {
            package: entry.package.clone(),
            version: entry.version.clone(),
            file,
            size: entry.size,
            sha256: entry.sha256.clone(),
        });
    }
    Ok(Target { version: manifest.version.clone(), schema: Some(manifest.schema.own), health: manifest.health.clone(), debs })
}

/// What the operator asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// The kind of change.
    pub kind: Kind,
    /// Who changes the packages.
    pub trigger: Trigger,
    /// Install a version although it is blocked here.
    pub unblock: bool,
}

/// Unpacking keeps the old files until the new ones are whole, and a gzip .deb holds about two fifths of its files' bytes.
const UNPACKED_PER_PACKED: u64 = 3;
/// Room for the journal, dpkg's own database and the unforeseen.
const RESERVE: u64 = 16 << 20;

/// Makes the plan, or says why there can be none. `Ok(None)`: nothing to do.
pub fn plan(settings: &Settings, inventory: &Inventory, target: &Target, request: Request) -> Result<Option<Plan>> {
    if let Some(open) = &inventory.open_change {
        return Err(Fault::new(Code::ChangeOpen, "a change is being carried out already").fact("change", open.as_str()));
    }
    let from = inventory.installed();
    let whole = inventory.package("smolotchi").is_some_and(|package| package.is_whole());
    if request.trigger == Trigger::Installer {
        match (request.kind, from) {
            (Kind::Upgrade | Kind::Rollback, None) => {
                return Err(Fault::new(Code::NotInstalled, "smolotchi is not installed on this machine"));
            }
            (_, Some(from)) if from == target.version && whole => return Ok(None),
            (Kind::Install, Some(from)) => {
                return Err(Fault::new(Code::AlreadyInstalled, "smolotchi is installed already")
                    .fact("installed", from)
                    .fact("wanted", target.version.as_str()));
            }
            (Kind::Upgrade, Some(from)) if version::compare(&target.version, from) == Ordering::Less => {
                return Err(Fault::new(Code::Downgrade, "the release is older than what is installed")
                    .fact("installed", from)
                    .fact("wanted", target.version.as_str()));
            }
            _ => {}
        }
        if !request.unblock {
            if let Some((_, reason)) = inventory.blocked.iter().find(|(version, _)| *version == target.version) {
                return Err(Fault::new(Code::Blocked, format!("version {} is blocked on this machine", target.version))
                    .fact("reason", reason.as_str()));
            }
        }
        // A broken agent is healed by unpacking it anew, and going back must always be possible.
        let heals = request.kind == Kind::Rollback || inventory.package("smolotchi").is_some_and(|package| !package.is_whole());
        if !inventory.dpkg_audit.is_empty() && !heals {
            return Err(Fault::new(Code::Preflight, "dpkg has packages that are not wholly installed")
                .fact("dpkg_audit", inventory.dpkg_audit.as_str())
                .hint("finish them first: dpkg --configure -a, then apt-get -f install"));
        }
    }

    let debs: Vec<PlannedDeb> = match request.trigger {
        Trigger::Installer => target.debs.iter().filter(|deb| is_wanted(inventory, deb)).cloned().collect(),
        Trigger::Apt | Trigger::Dpkg => target.debs.clone(),
    };
    let packed: u64 = debs.iter().map(|deb| deb.size).sum();
    let snapshot = inventory.database_bytes.unwrap_or(0);
    let slot = if from.is_some() { packed * UNPACKED_PER_PACKED + snapshot } else { 0 };
    // The migration may rewrite the database once more, in its write-ahead log.
    let disk_needed = packed + packed * UNPACKED_PER_PACKED + slot + snapshot + RESERVE;
    if disk_needed > inventory.disk_free {
        return Err(Fault::new(Code::Preflight, "there is too little disk space for the change")
            .fact("needed_bytes", disk_needed)
            .fact("free_bytes", inventory.disk_free)
            .hint("free some space; nothing was touched"));
    }

    let mut tasks = Vec::new();
    if from.is_some() {
        tasks.push(Task::SaveSlot);
    }
    if request.trigger == Trigger::Installer {
        tasks.push(Task::Packages);
    }
    tasks.push(Task::Watch);
    let undo = match from {
        Some(from) => format!("going back to {from} from its slot, offline; rows written meanwhile stay"),
        None => "removing the package; the database stays".to_owned(),
    };
    Ok(Some(Plan {
        kind: request.kind,
        trigger: request.trigger,
        from: from.map(str::to_owned),
        to: target.version.clone(),
        schema_from: inventory.schema.filter(|_| inventory.database_bytes.is_some()),
        schema_to: target.schema,
        debs,
        tasks,
        health: target.health.clone(),
        excused: inventory.down.iter().filter(|unit| !unit.starts_with("smolotchi-core.")).cloned().collect(),
        gate: settings.gate,
        disk_needed,
        disk_free: inventory.disk_free,
        undo,
    }))
}

/// The agent itself moves to the release's version, whichever way. The others (the installer, the keyring) have versions
/// of their own and only ever move up: what rolls back is not part of what is rolled back.
fn is_wanted(inventory: &Inventory, deb: &PlannedDeb) -> bool {
    match inventory.package(&deb.package) {
        None => true,
        Some(package) if deb.package == "smolotchi" => package.version != deb.version || !package.is_whole(),
        Some(package) => version::compare(&deb.version, &package.version) == Ordering::Greater,
    }
}

impl Table for Plan {
    fn table(&self) -> String {
        let schema = |schema: Option<u32>| schema.map_or_else(|| "none".to_owned(), |number| number.to_string());
        let mut rows = vec![
            vec!["change".to_owned(), self.kind.as_str().to_owned()],
            vec!["from".to_owned(), self.from.clone().unwrap_or_else(|| "nothing installed".to_owned())],
            vec!["to".to_owned(), self.to.clone()],
            vec!["schema".to_owned(), format!("{} -> {}", schema(self.schema_from), schema(self.schema_to))],
        ];
        for deb in &self.debs {
            rows.push(vec!["package".to_owned(), format!("{} {} ({} bytes)", deb.package, deb.version, deb.size)]);
        }
        for (number, task) in self.tasks.iter().enumerate() {
            rows.push(vec![format!("task {}", number + 1), task.sentence().to_owned()]);
        }
        rows.push(vec!["disk".to_owned(), format!("{} MiB needed, {} MiB free", self.disk_needed.div_ceil(1 << 20), self.disk_free >> 20)]);
        rows.push(vec!["gate".to_owned(), format!("healthy for {} s, given up after {} s", self.gate.window_s, self.gate.deadline_s)]);
        for unit in &self.excused {
            rows.push(vec!["note".to_owned(), format!("{unit} is down already and will not be judged")]);
        }
        rows.push(vec!["undo".to_owned(), self.undo.clone()]);
        output::columns(&rows)
    }
}

#[cfg(test)]
mod tests;
