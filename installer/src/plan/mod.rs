//! What one change will do, with no choices left: a pure function of settings, inventory and release.
//!
//! Called by the commands (and so by `--dry-run`) and by the guard. Must never look at a file, a process or a clock;
//! clippy's disallowed methods hold it to that.

use crate::inventory::{Inventory, Rehearsal, RehearsedMigration, Undo};
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
    #[serde(deserialize_with = "smolotchi_release::slot::health_kindly")]
    pub health: Health,
    /// Units that were down before the change: what is wrong with them is nothing that the new version can be blamed for.
    /// Core is never excused.
    #[serde(default)]
    pub excused: Vec<String>,
    /// For how long.
    #[serde(deserialize_with = "gate_kindly")]
    pub gate: GateSettings,
    /// Bytes that the change needs at its peak.
    pub disk_needed: u64,
    /// Bytes that are free.
    pub disk_free: u64,
    /// How it can be undone, in one sentence.
    pub undo: String,
    /// What the change is expected to cost, and what it can lose.
    #[serde(default)]
    pub facts: Facts,
}

/// What a change is expected to cost, in numbers. Nothing is decided by them after the plan is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Bytes that have to come over the network.
    pub download_bytes: u64,
    /// Bytes that are taken at the worst moment, at most; [`Plan::disk_needed`] keeps a reserve on top.
    pub disk_peak: u64,
    /// Inodes that are taken at the worst moment, at most.
    pub inodes_peak: u64,
    /// Inodes that are free; none: the file system doesn't count them.
    pub inodes_free: Option<u64>,
    /// Bytes of memory that are taken at the worst moment, at most.
    pub memory_peak: u64,
    /// Bytes of memory that are available.
    pub memory_free: u64,
    /// The migrations and what they did to a copy of this machine's database.
    pub migrations: Vec<RehearsedMigration>,
    /// Whether they can be undone; none: there was no rehearsal.
    pub rehearsed: Option<Undo>,
    /// Why there was no rehearsal.
    pub unrehearsed: String,
    /// Milliseconds for which core doesn't answer, at most, unless the machine gets much busier than it is; none: it can't be
    /// known without a rehearsal.
    pub downtime_ms: Option<u64>,
    /// What would be lost in the worst case, in one sentence.
    pub worst_case: String,
    /// What the operator should know besides.
    pub notes: Vec<String>,
}

/// In the operator's settings a key that isn't known is a mistake; in a plan it comes from a newer installer.
fn gate_kindly<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<GateSettings, D::Error> {
    #[derive(Deserialize)]
    struct Kindly {
        window_s: u64,
        deadline_s: u64,
    }
    let Kindly { window_s, deadline_s } = Kindly::deserialize(from)?;
    Ok(GateSettings { window_s, deadline_s })
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
    /// They have to come over the network.
    pub remote: bool,
    /// What their files say, once they are at hand.
    pub contents: Contents,
}

/// What is inside the packages of a release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Bytes of all files in them; none: not known yet.
    pub installed_bytes: Option<u64>,
    /// The oldest C library that the agent runs with, from its `Depends`.
    pub libc: Option<String>,
}

impl Contents {
    /// The lower bound on libc6 in a raw `Depends` field, deb-control(5).
    pub fn libc_of(depends: &str) -> Option<String> {
        depends.split([',', '|']).find_map(|relation| {
            let (name, rest) = relation.trim().split_once('(')?;
            let bound = rest.trim_end().strip_suffix(')')?.trim().strip_prefix(">=")?;
            (name.trim() == "libc6").then(|| bound.trim().to_owned())
        })
    }
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
    Ok(Target {
        version: manifest.version.clone(),
        schema: Some(manifest.schema.own),
        health: manifest.health.clone(),
        debs,
        remote: false,
        contents: Contents::default(),
    })
}

/// What the operator asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// The kind of change.
    pub kind: Kind,
    /// Who changes the packages.
    pub trigger: Trigger,
    /// Install a version although it is blocked or skipped here.
    pub unblock: bool,
    /// Also outside of the maintenance window.
    pub now: bool,
    /// Also with migrations that can't be undone.
    pub accept_irreversible: bool,
}

impl Request {
    /// A request without any of the operator's exceptions.
    pub fn plain(kind: Kind, trigger: Trigger) -> Request {
        Request { kind, trigger, unblock: false, now: false, accept_irreversible: false }
    }
}

/// A gzip .deb holds at least a third of its files' bytes.
const UNPACKED_PER_PACKED: u64 = 3;
/// The journal of the change, and dpkg's own database written anew.
const RECORDS: u64 = 2 << 20;
/// Room for the unforeseen: logs, what else runs on the machine.
const RESERVE: u64 = 16 << 20;
/// Names that unpacking one package makes, beside the old ones, and dpkg's notes on it.
const INODES_PER_PACKAGE: u64 = 128;
/// Names of the change, the slot and the rehearsal.
const INODES: u64 = 64;
/// dpkg holds all of its database in memory (some 10 MB for 500 packages, 30 MB for 3,000) while we watch (10 MB): 33 to
/// 39 MB were seen of a whole change on a lab machine (`tests/suites/policy.rs`). The rehearsal runs before, and takes
/// 11 MB for 300,000 rows.
const MEMORY: u64 = 48 << 20;
/// What no measurement here tells: waiting for the card, letting the last requests go.
const DOWN_MS: u64 = 1_000;
/// How much slower than it was when it was measured the machine may be while it happens.
const SLOWER: u64 = 3;
/// How long core takes to start where it was never seen to.
const START_MS: u64 = 1_000;

/// Makes the plan, or says why there can be none. `Ok(None)`: nothing to do.
pub fn plan(settings: &Settings, inventory: &Inventory, target: &Target, request: Request) -> Result<Option<Plan>> {
    if let Some(open) = &inventory.open_change {
        return Err(Fault::new(Code::ChangeOpen, "a change is being carried out already").fact("change", open.as_str()));
    }
    let from = inventory.installed();
    let agent = inventory.package("smolotchi");
    let whole = agent.is_some_and(|package| package.is_whole());
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
        policy(inventory, target, request)?;
        // A broken agent is healed by unpacking it anew, and going back must always be possible.
        let heals = request.kind == Kind::Rollback || agent.is_some_and(|package| !package.is_whole());
        if !heals {
            dpkg_is_at_rest(inventory)?;
        }
    }

    let debs: Vec<PlannedDeb> = match request.trigger {
        Trigger::Installer => target.debs.iter().filter(|deb| is_wanted(inventory, deb)).cloned().collect(),
        Trigger::Apt | Trigger::Dpkg => target.debs.clone(),
    };
    let disk_peak = disk_peak(inventory, target, &debs);
    let inodes_peak = INODES + INODES_PER_PACKAGE * debs.len() as u64;
    let disk_needed = disk_peak + RESERVE;
    preflight(inventory, target, request, disk_needed, inodes_peak)?;
    irreversible(settings, inventory, target, request)?;

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
    let debs_bytes = debs.iter().map(|deb| deb.size).sum();
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
        facts: Facts {
            download_bytes: if target.remote { debs_bytes } else { 0 },
            disk_peak,
            inodes_peak,
            inodes_free: inventory.inodes_free,
            memory_peak: MEMORY,
            memory_free: inventory.memory_free,
            migrations: inventory.rehearsal.as_ref().map(|rehearsal| rehearsal.migrations.clone()).unwrap_or_default(),
            rehearsed: inventory.rehearsal.as_ref().map(|rehearsal| rehearsal.undo),
            unrehearsed: inventory.unrehearsed.clone(),
            downtime_ms: downtime(inventory, target),
            worst_case: worst_case(inventory),
            notes: notes(inventory),
        },
    }))
}

/// What the operator said about versions and times. Going back is never kept out.
fn policy(inventory: &Inventory, target: &Target, request: Request) -> Result<()> {
    let version = target.version.as_str();
    let listed = |list: &[(String, String)]| list.iter().find(|(listed, _)| listed == version).map(|(_, reason)| reason.clone());
    if !request.unblock {
        if let Some(reason) = listed(&inventory.blocked) {
            return Err(Fault::new(Code::Blocked, format!("version {version} is blocked on this machine")).fact("reason", reason));
        }
        if let Some(reason) = listed(&inventory.skipped) {
            return Err(Fault::new(Code::Skipped, format!("version {version} is not wanted on this machine"))
                .fact("reason", reason)
                .hint(format!("if it is wanted after all: smolotchi-install unblock {version}, or --unblock")));
        }
    }
    if request.kind == Kind::Rollback {
        return Ok(());
    }
    if inventory.package("smolotchi").is_some_and(|package| package.is_held()) {
        return Err(Fault::new(Code::Held, "smolotchi is on hold").fact("package", "smolotchi"));
    }
    if let Some(paused) = &inventory.paused {
        return Err(Fault::new(Code::Paused, "changes of the version are paused on this machine").fact("pause", paused.as_str()));
    }
    match &inventory.closed {
        Some(closed) if !request.now => Err(Fault::new(Code::WindowClosed, closed.as_str())),
        _ => Ok(()),
    }
}

fn dpkg_is_at_rest(inventory: &Inventory) -> Result<()> {
    if inventory.dpkg_audit.is_empty() && !inventory.dpkg_interrupted {
        return Ok(());
    }
    let said = if inventory.dpkg_audit.is_empty() { "it has not folded in what it was doing" } else { &inventory.dpkg_audit };
    Err(Fault::new(Code::Preflight, "dpkg was interrupted, or has packages that are not wholly installed")
        .fact("check", "dpkg")
        .fact("dpkg_audit", said)
        .hint("finish them first: smolotchi-install heal"))
}

/// Refuses where nothing can be written: the guard asks before it keeps anything.
pub fn writable(inventory: &Inventory) -> Result<()> {
    let Some(why) = &inventory.unwritable else { return Ok(()) };
    Err(Fault::new(Code::Preflight, "the file system can't be written")
        .fact("check", "file system")
        .fact("found", why.as_str())
        .hint("see: dmesg; a card that has become read-only is often at its end"))
}

/// Everything that would stop the change in the middle is told before it begins.
fn preflight(inventory: &Inventory, target: &Target, request: Request, disk_needed: u64, inodes_peak: u64) -> Result<()> {
    let refuse = |check: &str, message: &str| Fault::new(Code::Preflight, message).fact("check", check);
    writable(inventory)?;
    if disk_needed > inventory.disk_free {
        return Err(refuse("disk", "there is too little disk space for the change")
            .fact("needed_bytes", disk_needed)
            .fact("free_bytes", inventory.disk_free)
            .hint("free some space; nothing was touched"));
    }
    if let Some(free) = inventory.inodes_free.filter(|free| *free < inodes_peak) {
        return Err(refuse("inodes", "there are too few inodes for the change")
            .fact("needed_inodes", inodes_peak)
            .fact("free_inodes", free)
            .hint("remove files that are not needed (df -i tells where); nothing was touched"));
    }
    if request.kind == Kind::Rollback {
        return Ok(());
    }
    if let Some(needed) = cpu_lacks(inventory) {
        return Err(refuse("CPU", "this machine's processor is older than what the release is built for")
            .fact("needed", needed)
            .fact("found", inventory.cpu.join(" "))
            .hint("there is no release for this processor; nothing was touched"));
    }
    if let (Some(needed), Some(found)) = (&target.contents.libc, &inventory.libc) {
        if version::compare(found, needed) == Ordering::Less {
            return Err(refuse("C library", "the release needs a newer C library")
                .fact("needed", needed.as_str())
                .fact("found", found.as_str())
                .hint("upgrade Debian first, or take the release that was made for it"));
        }
    }
    // From here on only what we start ourselves is kept back: apt and dpkg may be what repairs the machine.
    if request.trigger != Trigger::Installer {
        return Ok(());
    }
    if inventory.memory_free < MEMORY {
        return Err(refuse("memory", "there is too little memory for the change")
            .fact("needed_bytes", MEMORY)
            .fact("free_bytes", inventory.memory_free)
            .hint("stop what can be stopped for the moment, or add swap; nothing was touched"));
    }
    match &inventory.database_damage {
        Some(damage) => Err(refuse("database", "the database is damaged, and would be carried into the new version")
            .fact("found", damage.as_str())
            .hint("keep a copy of it, then: smolotchi-install rollback; a version that is meant to mend it can be given to apt or dpkg")),
        None => Ok(()),
    }
}

/// What this machine's processor lacks of what our packages are built for; none: nothing, or the kernel doesn't tell.
///
/// Only dpkg's `armhf` hides two kinds of machines: Debian's needs ARMv7 with VFPv3, and a system made for ARMv6 (Pi Zero W,
/// Pi 1) bears the same name. Elsewhere no processor that runs the system lacks anything.
fn cpu_lacks(inventory: &Inventory) -> Option<&'static str> {
    // The last two are a 64-bit kernel's names for what an ARMv8 processor has.
    const ANY: [&str; 5] = ["vfpv3", "vfpv3d16", "vfpv4", "fp", "asimd"];
    let has = inventory.cpu.is_empty() || inventory.cpu.iter().any(|feature| ANY.contains(&feature.as_str()));
    (inventory.architecture == "armhf" && !has).then_some("ARMv7 with VFPv3")
}

/// Migrations without a way back are taken only by somebody who said so.
fn irreversible(settings: &Settings, inventory: &Inventory, target: &Target, request: Request) -> Result<()> {
    let Some(rehearsal) = inventory.rehearsal.as_ref().filter(|_| request.kind != Kind::Rollback) else { return Ok(()) };
    let names: Vec<String> = rehearsal.irreversible().map(|step| format!("{} ({} rows)", step.name, step.rows)).collect();
    let hopeless = !names.is_empty() || matches!(rehearsal.undo, Undo::Impossible | Undo::Unknown);
    if !hopeless || request.accept_irreversible || settings.migrations.accept_irreversible.contains(&target.version) {
        return Ok(());
    }
    let version = target.version.as_str();
    Err(Fault::new(Code::Irreversible, format!("{version} changes the database in a way that can't be undone"))
        .fact("migrations", names.join(", "))
        .fact("costs", worst_case(inventory))
        .hint(format!(
            "take it with --accept-irreversible, or for apt and dpkg with accept_irreversible = [\"{version}\"] below [migrations] in \
             /etc/smolotchi-install/config.d"
        )))
}

/// Bytes at the worst of two moments: while the copy of the database is rehearsed on, or while dpkg unpacks beside the old
/// files, with the slot made and the migration in the write-ahead log.
fn disk_peak(inventory: &Inventory, target: &Target, debs: &[PlannedDeb]) -> u64 {
    let packed: u64 = debs.iter().map(|deb| deb.size).sum();
    let unpacked = target.contents.installed_bytes.unwrap_or(packed * UNPACKED_PER_PACKED);
    let database = inventory.database_bytes.unwrap_or(0);
    let migrated = match &inventory.rehearsal {
        Some(rehearsal) if rehearsal.migrations.is_empty() => 0,
        // All of it may stand in the log once more, and the file grows.
        Some(rehearsal) => rehearsal.bytes_after + rehearsal.bytes_after.saturating_sub(rehearsal.bytes_before),
        None => database,
    };
    let rehearsing = if inventory.database_bytes.is_some() { unpacked + database + 2 * migrated } else { 0 };
    // At worst the slot's package is rebuilt, and then it is not compressed.
    let slot = if inventory.installed().is_some() { unpacked + database } else { 0 };
    packed + RECORDS + rehearsing.max(slot + unpacked + migrated)
}

/// An upper bound, from what was measured on this machine a moment ago. `make bench` and `tests/suites/policy.rs` see 0.7 to
/// 0.8 s on a machine whose load is ten times its processors, where this says 2 to 3.3 s.
fn downtime(inventory: &Inventory, target: &Target) -> Option<u64> {
    let migrating = match (&inventory.rehearsal, inventory.database_bytes) {
        (Some(rehearsal), _) => rehearsal.duration_ms,
        (None, None) => 0,
        // The schema is known to stay.
        (None, Some(_)) if target.schema.is_some() && target.schema == inventory.schema => 0,
        (None, Some(_)) => return None,
    };
    // Core stops, a few small programs run, the migration among them, and core starts.
    Some(DOWN_MS + SLOWER * (inventory.core_start_ms.unwrap_or(START_MS) + inventory.pace_ms + migrating))
}

fn worst_case(inventory: &Inventory) -> String {
    let rows = |rehearsal: &Rehearsal| rehearsal.migrations.iter().map(|step| step.rows).sum::<u64>();
    match &inventory.rehearsal {
        _ if inventory.database_bytes.is_none() => "0 rows: there is no database yet".to_owned(),
        Some(rehearsal) if rehearsal.migrations.is_empty() => "0 rows: the database stays as it is".to_owned(),
        Some(rehearsal) if rehearsal.undo == Undo::Proven => format!(
            "0 rows: the way back was rehearsed on a copy of this machine's data ({} rows changed and back in {} ms)",
            rows(rehearsal),
            rehearsal.undo_ms
        ),
        Some(rehearsal) if rehearsal.undo == Undo::NotNeeded => {
            format!("0 rows: the schema goes down by the undo that was recorded, rehearsed on {} rows", rows(rehearsal))
        }
        Some(rehearsal) => format!(
            "the only way back is the snapshot from before the change: {} rows as they were then; what is written later is put into a file \
             beside it and not taken over",
            rehearsal.irreversible().map(|step| step.rows).sum::<u64>()
        ),
        None => "unknown, because nothing was rehearsed: if the undo failed, the snapshot from before the change would be restored, \
                 and what was written later put into a file beside it"
            .to_owned(),
    }
}

fn notes(inventory: &Inventory) -> Vec<String> {
    let mut notes = Vec::new();
    for file in &inventory.unsafe_io {
        notes.push(format!(
            "{file} says force-unsafe-io: apt and dpkg may leave empty files after a power cut (smolotchi-install itself doesn't)"
        ));
    }
    if inventory.package("smolotchi").is_some_and(|package| package.is_held()) {
        notes.push("smolotchi is on hold, which dpkg forgets when the package changes".to_owned());
    }
    notes
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
        let facts = &self.facts;
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let mut row = |name: &str, text: String| rows.push(vec![name.to_owned(), text]);
        row("download", format!("{} bytes", facts.download_bytes));
        row(
            "disk",
            format!(
                "{} MiB at most, {} MiB with the reserve, {} MiB free",
                mib(facts.disk_peak),
                mib(self.disk_needed),
                self.disk_free >> 20
            ),
        );
        let free = facts.inodes_free.map_or_else(|| "not counted here".to_owned(), |free| format!("{free} free"));
        row("inodes", format!("{} at most, {free}", facts.inodes_peak));
        let free = if facts.memory_free == u64::MAX { "unknown".to_owned() } else { format!("{} MiB", facts.memory_free >> 20) };
        row("memory", format!("{} MiB at most, {free} available", mib(facts.memory_peak)));
        for step in &facts.migrations {
            let way = if step.reversible { "can be undone" } else { "CAN'T BE UNDONE" };
            row("migration", format!("{} {:04} {}: {} rows, {way}", step.direction, step.number, step.name, step.rows));
        }
        row(
            "rehearsal",
            match facts.rehearsed {
                Some(Undo::Proven) => "went well on a copy of the database, there and back".to_owned(),
                Some(_) => "went well on a copy of the database".to_owned(),
                None => format!("none: {}", facts.unrehearsed),
            },
        );
        row("downtime", facts.downtime_ms.map_or_else(|| "unknown without a rehearsal".to_owned(), |ms| format!("{ms} ms at most")));
        row("worst case", facts.worst_case.clone());
        rows.push(vec!["gate".to_owned(), format!("healthy for {} s, given up after {} s", self.gate.window_s, self.gate.deadline_s)]);
        for unit in &self.excused {
            rows.push(vec!["note".to_owned(), format!("{unit} is down already and will not be judged")]);
        }
        for note in &self.facts.notes {
            rows.push(vec!["note".to_owned(), note.clone()]);
        }
        rows.push(vec!["undo".to_owned(), self.undo.clone()]);
        output::columns(&rows)
    }
}

#[cfg(test)]
mod tests;
