//! install, upgrade, rollback and their dry runs: find, verify, plan, open the change, follow it.

use super::follow;
use crate::change::memory::{self, Memory};
use crate::change::{self, Draft, slot};
use crate::cli::{ReleaseArgs, RollbackArgs};
use crate::host::{clock, inventory, lock, rehearse};
use crate::paths::Paths;
use crate::plan::{self, Contents, Kind, Plan, PlannedDeb, Request, Target, Trigger};
use crate::settings::Settings;
use crate::source::{self, Wanted};
use crate::{settings, tasks};
use serde::Serialize;
use smolotchi_operator::progress::Progress;
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table, durable, output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The last line that a program reads: `{"event":"result",…}`.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    event: &'static str,
    changed: bool,
    installed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Plan>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<change::report::Report>,
}

impl Table for Outcome {
    fn table(&self) -> String {
        match (&self.plan, &self.report) {
            (Some(plan), _) => format!("{}\nThis is a plan; nothing was touched.\n", plan.table()),
            (None, Some(report)) => report.table(),
            (None, None) => format!("Nothing to do: {} is installed.\n", self.installed.as_deref().unwrap_or("nothing")),
        }
    }
}

/// Set by Ctrl-C and SIGTERM; looked at between steps.
fn interrupted() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .map_err(|error| Fault::new(Code::Io, "could not prepare for interruption").cause(&error))?;
    }
    Ok(flag)
}

fn go_on(flag: &AtomicBool) -> Result<()> {
    if flag.load(Ordering::Relaxed) { Err(Fault::new(Code::Interrupted, "interrupted before anything was touched")) } else { Ok(()) }
}

fn dry(format: Format, installed: Option<&str>, plan: Option<Plan>) -> Exit {
    let outcome = Outcome { event: "result", changed: plan.is_some(), installed: installed.map(str::to_owned), plan, report: None };
    output::emit(format, &outcome);
    Exit::Success
}

/// install and upgrade.
pub(super) fn release(paths: &Paths, format: Format, kind: Kind, args: &ReleaseArgs) -> Result<Exit> {
    if !args.dry_run {
        super::need_root()?;
    }
    let settings = settings::load(paths)?;
    let flag = interrupted()?;
    let progress = Progress::new(format);
    let from = source::named(args.source.from.as_ref(), settings.source.from.as_ref())?;
    let wanted = Wanted {
        version: args.source.to.clone(),
        channel: args.source.channel.clone().unwrap_or_else(|| settings.source.channel.clone()),
        accept_expired: args.source.accept_expired,
    };
    super::refresh(paths, args.dry_run)?;

    progress.step("verify", &format!("verifying the release at {from}"));
    let trust = source::trust(paths, &args.source.trust)?;
    let release = source::find(&from, &wanted, &trust, &Memory::load(paths)?)?;
    go_on(&flag)?;

    progress.step("plan", "planning");
    let mut inventory = inventory::gather(paths, &settings)?;
    let mut target = plan::target(&release.manifest, &inventory.architecture)?;
    target.remote = release.is_remote();
    release.check_bundle(&inventory.architecture)?;
    let request =
        Request { kind, trigger: Trigger::Installer, unblock: args.unblock, now: args.now, accept_irreversible: args.accept_irreversible };
    // What can be refused without the packages is refused before they are fetched.
    let Some(first) = plan::plan(&settings, &inventory, &target, request)? else {
        progress.done();
        if !args.dry_run {
            remember_sequence(paths, release.channel.as_ref())?;
        }
        return Ok(dry(format, inventory.installed(), None));
    };
    if !super::is_root() {
        inventory.unrehearsed = "only root can rehearse, and look at the database".to_owned();
        progress.done();
        return Ok(dry(format, inventory.installed(), plan::plan(&settings, &inventory, &target, request)?));
    }

    let place = if args.dry_run {
        Place::Scratch(
            tempfile::Builder::new()
                .prefix("smolotchi-install-")
                .tempdir_in("/var/tmp")
                .map_err(|error| Fault::io("could not make a folder for the packages", "/var/tmp", &error))?,
        )
    } else {
        let lock = lock::ours(&paths.plan_lock())?;
        none_open(paths)?;
        Place::Draft(Draft::new(paths)?, lock)
    };
    let folder = place.debs();
    let mut installed_bytes = 0;
    let mut agent = None;
    for deb in &first.debs {
        progress.step("fetch", &format!("fetching {} {} ({} bytes)", deb.package, deb.version, deb.size));
        let fetched = release.fetch(&deb.package, &inventory.architecture, &folder)?;
        installed_bytes += fetched.installed_bytes();
        if deb.package == "smolotchi" {
            target.contents.libc = fetched.depends().and_then(Contents::libc_of);
            agent = Some(fetched.path().to_owned());
        }
        go_on(&flag)?;
    }
    target.contents.installed_bytes = Some(installed_bytes);
    inventory.database_damage = inventory::database_damage(paths);
    if let Some(agent) = agent {
        progress.step("rehearse", "rehearsing on a copy of the database");
        rehearse::rehearse(paths, &agent, &mut inventory)?;
        go_on(&flag)?;
    }
    let planned = plan::plan(&settings, &inventory, &target, request)?;
    let (Place::Draft(draft, lock), Some(planned)) = (place, planned.clone()) else {
        progress.done();
        return Ok(dry(format, inventory.installed(), planned));
    };
    if args.unblock {
        memory::update(paths, |memory| (memory.blocked.remove(&planned.to), memory.skipped.remove(&planned.to)))?;
    }
    remember_sequence(paths, release.channel.as_ref())?;
    let change = draft.open(paths, planned)?;
    drop(lock);
    carry_out(paths, &settings, format, &progress, &change, &flag)
}

/// Where the packages are fetched to.
enum Place {
    /// A dry run's folder, which goes with it.
    Scratch(tempfile::TempDir),
    /// The change that is being made.
    Draft(Draft, lock::Lock),
}

impl Place {
    fn debs(&self) -> std::path::PathBuf {
        match self {
            Place::Scratch(folder) => folder.path().to_owned(),
            Place::Draft(draft, _) => draft.debs(),
        }
    }
}

/// rollback.
pub(super) fn rollback(paths: &Paths, format: Format, args: &RollbackArgs) -> Result<Exit> {
    if !super::is_root() {
        return Err(Fault::new(Code::NotRoot, "only root can look into the kept releases, also to plan"));
    }
    let settings = settings::load(paths)?;
    let flag = interrupted()?;
    let progress = Progress::new(format);
    super::refresh(paths, args.dry_run)?;
    progress.step("plan", "planning");
    let mut inventory = inventory::gather(paths, &settings)?;
    let Some(installed) = inventory.installed().map(str::to_owned) else {
        return Err(Fault::new(Code::NotInstalled, "smolotchi is not installed on this machine"));
    };
    if let Some(open) = &inventory.open_change {
        return Err(Fault::new(Code::ChangeOpen, "a change is being carried out already").fact("change", open.as_str()));
    }
    if args.to.as_deref() == Some(installed.as_str()) {
        progress.done();
        return Ok(dry(format, Some(&installed), None));
    }
    let slots = slot::all(paths)?;
    let to = match &args.to {
        Some(to) if slots.iter().any(|slot| slot.version == *to) => to.clone(),
        Some(to) => {
            let kept: Vec<_> = slots.iter().map(|slot| slot.version.as_str()).collect();
            return Err(Fault::new(Code::NoSlot, "this version is not kept on this machine")
                .fact("wanted", to.as_str())
                .fact("kept", kept.join(", ")));
        }
        None => slot::default_target(&slots, &installed, &inventory.blocked)
            .ok_or_else(|| Fault::new(Code::NoSlot, "no earlier version is kept on this machine"))?
            .to_owned(),
    };
    progress.step("verify", &format!("checking the kept {to}"));
    let slot = slot::verified(paths, &to)?;
    let health = match slot.health.clone().or_else(|| inventory::release(paths).map(|release| release.health)) {
        Some(health) => health,
        None => {
            return Err(
                Fault::new(Code::SlotDamaged, "neither the slot nor the installed release says what must be healthy").fact("slot", to)
            );
        }
    };
    let folder = slot::folder(paths, &to).join("debs");
    if let Some(deb) = slot.debs.iter().find(|deb| deb.package == "smolotchi") {
        progress.step("rehearse", "rehearsing on a copy of the database");
        rehearse::rehearse(paths, &folder.join(&deb.file), &mut inventory)?;
        go_on(&flag)?;
    }
    let debs = slot
        .debs
        .iter()
        .map(|deb| PlannedDeb {
            package: deb.package.clone(),
            version: deb.version.clone(),
            file: deb.file.clone(),
            size: deb.size,
            sha256: deb.sha256.clone(),
        })
        .collect();
    let target = Target { version: to, schema: slot.schema, health, debs, remote: false, contents: Contents::default() };
    let request = Request { unblock: true, ..Request::plain(Kind::Rollback, Trigger::Installer) };
    let planned = plan::plan(&settings, &inventory, &target, request)?;
    let planned = match planned {
        Some(planned) if !args.dry_run => planned,
        shown => {
            progress.done();
            return Ok(dry(format, Some(&installed), shown));
        }
    };
    go_on(&flag)?;

    let lock = lock::ours(&paths.plan_lock())?;
    none_open(paths)?;
    let draft = Draft::new(paths)?;
    for deb in &planned.debs {
        durable::link(&folder.join(&deb.file), &draft.debs().join(&deb.file))?;
    }
    let change = draft.open(paths, planned)?;
    drop(lock);
    carry_out(paths, &settings, format, &progress, &change, &flag)
}

/// Someone else may have opened a change since the inventory was taken; the plan's lock keeps it so from here on.
fn none_open(paths: &Paths) -> Result<()> {
    match change::open(paths)? {
        None => Ok(()),
        Some(open) => Err(Fault::new(Code::ChangeOpen, "a change is being carried out already").fact("change", open.id)),
    }
}

/// A channel is never believed at a lower sequence again.
fn remember_sequence(paths: &Paths, channel: Option<&(String, u64)>) -> Result<()> {
    let Some((name, sequence)) = channel else { return Ok(()) };
    memory::update(paths, |memory| {
        let seen = memory.sequences.entry(name.clone()).or_default();
        *seen = (*seen).max(*sequence);
    })
}

/// Hands the open change to the executor and follows it.
fn carry_out(
    paths: &Paths,
    settings: &Settings,
    format: Format,
    progress: &Progress,
    change: &change::Change,
    flag: &AtomicBool,
) -> Result<Exit> {
    let began = clock::boottime_ms();
    let report = if crate::host::systemd::has_executor() {
        crate::host::systemd::start_executor()?;
        follow::follow(change, progress, flag, began)?
    } else {
        tasks::carry_on(paths, settings)?.ok_or_else(|| Fault::new(Code::JournalDamaged, "the change was closed by someone else"))?
    };
    progress.done();
    let installed = crate::host::dpkg::agent()?;
    let exit = report.exit();
    let outcome = Outcome {
        event: "result",
        changed: report.changed,
        installed: installed.map(|package| package.version),
        plan: None,
        report: Some(report),
    };
    output::emit(format, &outcome);
    Ok(exit)
}
