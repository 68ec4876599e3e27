//! The guard: called by apt's hook and by smolotchi's maintainer scripts, so that every way to change the package gets
//! the same slot, the same watch and the same way back.
//!
//! It opens a change before dpkg touches anything; the executor then waits until apt or dpkg is through. Where the
//! installer itself runs dpkg, it has opened the change already and says so in the environment.

mod hook;

use crate::change::{self, Draft, memory};
use crate::fault::OrFault;
use crate::host::{agent, caller, dpkg, inventory, lock, rehearse, systemd};
use crate::paths::Paths;
use crate::plan::{self, Contents, Kind, PlannedDeb, Request, Target, Task, Trigger};
use crate::settings::{self, Settings};
use crate::tasks::{self, Snapshots};
use smolotchi_operator::{Code, Exit, Fault, Result, log};
use smolotchi_release::{Deb, ReleaseToml, Untrusted, version};
use std::cmp::Ordering;
use std::path::PathBuf;

/// apt is about to run dpkg: `DPkg::Pre-Install-Pkgs`, version 3, on standard input. Refusing stops apt before dpkg.
pub fn apt(paths: &Paths) -> Result<Exit> {
    let text = std::io::read_to_string(std::io::stdin())
        .map_err(|error| Fault::new(Code::Io, "could not read what apt is about to do").cause(&error))?;
    let actions = hook::actions(&text, &dpkg::OURS)?;
    let Some(agent) = actions.iter().find(|action| action.package == "smolotchi") else { return Ok(Exit::Success) };
    let Some(from) = agent.from.clone().filter(|from| *from != agent.to) else { return Ok(Exit::Success) };
    memory::refresh(paths)?;
    let settings = settings::load(paths)?;
    let to = agent.to.clone();
    let debs: Vec<PathBuf> = actions.into_iter().map(|action| action.deb).collect();
    open(paths, &settings, Trigger::Apt, &from, &to, &debs)?;
    Ok(Exit::Success)
}

/// `apt update` is about to run: what has run out no longer keeps a version out. Never keeps apt from its work.
pub fn refresh(paths: &Paths) -> Result<Exit> {
    if let Err(fault) = memory::refresh(paths) {
        log::warning(fault.code, format!("apt's pins were left as they are: {fault}"));
    }
    Ok(Exit::Success)
}

/// smolotchi's preinst: dpkg is about to unpack. The old files are still there.
pub fn preinst(paths: &Paths, args: &[String]) -> Result<Exit> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    // Debian Policy 6.5; the new version is dpkg's own addition (deb-preinst(5)).
    let ["upgrade", from, to, ..] = words[..] else { return Ok(Exit::Success) };
    if from == to || std::env::var(dpkg::CHANGE_VARIABLE).is_ok_and(|what| what == dpkg::HEALING) {
        return Ok(Exit::Success);
    }
    if let Some(open) = change::open(paths)? {
        let ours = std::env::var(dpkg::CHANGE_VARIABLE).is_ok_and(|id| id == open.id);
        if ours || is_awaited(&open, from, to)? {
            return Ok(Exit::Success);
        }
        return Err(Fault::new(Code::ChangeOpen, "a change is being carried out; this package has to wait").fact("change", open.id));
    }
    memory::refresh(paths)?;
    let settings = settings::load(paths)?;
    let named = caller::debs(&dpkg::OURS);
    // Whatever else is on the command line, it is only of use if the agent's own package is.
    let known = named.iter().any(|named| named.package == "smolotchi" && named.version == to);
    let debs = if known { named.into_iter().map(|named| named.path).collect() } else { Vec::new() };
    open_change(paths, &settings, Trigger::Dpkg, from, to, &debs)?;
    Ok(Exit::Success)
}

/// smolotchi's postinst: nothing is left to do but to make sure that someone watches.
pub fn postinst(paths: &Paths, _args: &[String]) -> Result<Exit> {
    if change::open(paths)?.is_some() && !systemd::executor_is_busy().unwrap_or(false) {
        start();
    }
    Ok(Exit::Success)
}

/// smolotchi's postrm: the public status says that it is gone.
pub fn postrm(paths: &Paths, args: &[String]) -> Result<Exit> {
    if args.first().is_some_and(|word| word == "purge" || word == "remove") {
        crate::change::report::publish(paths, None);
    }
    Ok(Exit::Success)
}

/// apt's hook opened this change for this very unpacking, which is still to come.
fn is_awaited(open: &change::Change, from: &str, to: &str) -> Result<bool> {
    let plan = &open.plan;
    let named = plan.trigger == Trigger::Apt && plan.from.as_deref() == Some(from) && plan.to == to;
    let progress = open.progress()?;
    Ok(named && progress.undoing.is_none() && progress.closed.is_none() && !progress.done.contains(&Task::Watch))
}

fn open(paths: &Paths, settings: &Settings, trigger: Trigger, from: &str, to: &str, debs: &[PathBuf]) -> Result<()> {
    if let Some(open) = change::open(paths)? {
        // unattended-upgrades calls the hooks twice for one transaction, with the very files that we keep already.
        let kept = |path: &PathBuf| {
            smolotchi_release::sha256_file(path).is_ok_and(|(sha256, _)| open.plan.debs.iter().any(|deb| deb.sha256 == sha256))
        };
        if is_awaited(&open, from, to)? && debs.iter().all(kept) {
            return Ok(());
        }
        return Err(Fault::new(Code::ChangeOpen, "a change is being carried out; this upgrade has to wait").fact("change", open.id));
    }
    open_change(paths, settings, trigger, from, to, debs)
}

/// Saves the slot, then opens the change and starts the executor, which waits for dpkg's lock.
fn open_change(paths: &Paths, settings: &Settings, trigger: Trigger, from: &str, to: &str, debs: &[PathBuf]) -> Result<()> {
    let _lock = lock::ours(&paths.plan_lock())?;
    let mut inventory = inventory::gather(paths, settings)?;
    let installed = inventory::release(paths);
    let whole = match trigger {
        // In preinst dpkg has marked the package half-installed already, so the files have to speak for themselves.
        Trigger::Dpkg => {
            agent::version(paths).as_deref() == Some(from) && installed.as_ref().is_some_and(|release| release.version == from)
        }
        _ => inventory.package("smolotchi").is_some_and(|package| package.version == from && package.is_whole()),
    };
    if !whole {
        // Only configuration files are left of it, or it is broken: there is nothing good to go back to, and what comes may be the repair.
        log::notice(format!("smolotchi {from} is not whole: no way back is kept"));
        return Ok(());
    }
    if !systemd::has_executor() {
        // An image build, or the operator masked the executor: nobody would ever close a change.
        log::notice("nobody would carry a change on here: no way back is kept");
        return Ok(());
    }
    plan::writable(&inventory)?;
    let draft = Draft::new(paths)?;
    let kept = debs.iter().map(|path| keep(path, &draft)).collect::<Result<Vec<_>>>()?;
    let agent = kept.iter().find(|kept| kept.planned.package == "smolotchi");
    let incoming = agent.and_then(|kept| kept.release.clone());
    let described = incoming.as_ref().or(installed.as_ref());
    let Some(described) = described else {
        log::warning(Code::Preflight, "the installed release doesn't say what must be healthy: no way back is kept");
        return Ok(());
    };
    let target = Target {
        version: to.to_owned(),
        schema: incoming.as_ref().map(|release| release.schema.own),
        health: described.health.clone(),
        debs: kept.iter().map(|kept| kept.planned.clone()).collect(),
        remote: false,
        contents: Contents {
            installed_bytes: (!kept.is_empty()).then(|| kept.iter().map(|kept| kept.installed_bytes).sum()),
            libc: agent.and_then(|kept| kept.libc.clone()),
        },
    };
    let kind = if version::compare(to, from) == Ordering::Less { Kind::Rollback } else { Kind::Upgrade };
    let request = Request::plain(kind, trigger);
    // What can be refused in numbers is refused before a copy of the database takes up room.
    if plan::plan(settings, &inventory, &target, request)?.is_none() {
        return Ok(());
    }
    match agent {
        Some(kept) => rehearse::rehearse(paths, &draft.debs().join(&kept.planned.file), &mut inventory)?,
        None => inventory.unrehearsed = "the file that dpkg was given could not be found".to_owned(),
    }
    if !inventory.unrehearsed.is_empty() {
        log::notice(format!("smolotchi {to} was not rehearsed: {}", inventory.unrehearsed));
    }
    let Some(planned) = plan::plan(settings, &inventory, &target, request)? else { return Ok(()) };
    log::notice(format!("smolotchi {from} -> {to}: keeping the way back"));
    // A database that is damaged must not keep out the version that may mend it.
    tasks::save_slot(paths, &planned, installed, Snapshots::Should)?;
    let change = draft.open(paths, planned)?;
    change.write()?.record(change::journal::Event::Done { task: Task::SaveSlot })?;
    start();
    Ok(())
}

/// Starts the executor. Where systemd refuses (it is shutting down), the next boot starts it: the change is open.
fn start() {
    if let Err(fault) = systemd::start_executor() {
        log::warning(fault.code, format!("the watch could not be started and waits for the next boot: {fault}"));
    }
}

/// An incoming package that stands in the change's folder.
struct Kept {
    planned: PlannedDeb,
    release: Option<ReleaseToml>,
    installed_bytes: u64,
    libc: Option<String>,
}

/// Keeps an incoming package in the change (apt deletes its own after success). apt has verified it against the
/// repository's signature, or somebody gave it to dpkg by hand; what we want of it is that it is the file that dpkg will get.
fn keep(path: &std::path::Path, draft: &Draft) -> Result<Kept> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let kept = draft.debs().join(&name);
    smolotchi_operator::durable::copy(path, &kept, 0o644)?;
    let deb = Deb::<Untrusted>::open(&kept).or_fault()?;
    let release = deb.read_file(smolotchi_release::release_toml::PATH).or_fault()?;
    let release = release.map(|bytes| ReleaseToml::parse(&bytes)).transpose().or_fault()?;
    let planned = PlannedDeb {
        package: deb.package().to_owned(),
        version: deb.version().to_owned(),
        file: name,
        size: deb.size(),
        sha256: deb.sha256().to_owned(),
    };
    let libc = deb.depends().and_then(Contents::libc_of);
    Ok(Kept { planned, release, installed_bytes: deb.installed_bytes(), libc })
}
