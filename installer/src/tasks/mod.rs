//! Carries the open change to an end: the executor. The same code runs when a command or the guard opens a change and
//! when the machine boots with an open one; every task is safe to run again.
//!
//! Runs in `smolotchi-install-change.service`, so it outlives the terminal, ssh, apt, and the services that it restarts.

mod packages;
mod save_slot;
mod undo;
mod watch;

pub use save_slot::{Snapshots, save_slot};

use crate::change::journal::{Event, Verdict};
use crate::change::memory::{self, Block, Memory};
use crate::change::report::{self, Report};
use crate::change::{self, Change, Writer, slot};
use crate::host::{clock, dpkg, lock, measure, systemd};
use crate::paths::Paths;
use crate::plan::{Kind, Task, Trigger};
use crate::settings::Settings;
use smolotchi_operator::{Code, Result, durable, log};
use std::time::Duration;

/// Changes that stay in the history.
const HISTORY: usize = 20;
/// Log lines of a failed version that stay in its report.
const EVIDENCE_LINES: u32 = 40;
/// The service whose restart is its downtime.
const CORE: &str = "smolotchi-core.service";
/// The package that changes are about.
const AGENT: &str = "smolotchi";

/// What the executor works with.
pub(crate) struct Context<'a> {
    pub paths: &'a Paths,
    pub settings: &'a Settings,
    pub change: &'a Change,
}

impl Context<'_> {
    /// How long to wait for other package operations.
    fn patience(&self) -> Duration {
        Duration::from_secs(self.settings.packages.lock_timeout_s)
    }

    /// The agent's package as dpkg knows it.
    fn agent(&self) -> Result<Option<crate::inventory::Package>> {
        dpkg::agent()
    }
}

/// Carries the open change on until it is closed. `None`: there was no open change.
pub fn carry_on(paths: &Paths, settings: &Settings) -> Result<Option<Report>> {
    // The healer may hold it for a moment, by hand also now.
    let _executor = lock::waited(&paths.executor_lock())?;
    let Some(change) = change::open(paths)? else { return Ok(None) };
    let context = Context { paths, settings, change: &change };
    let mut writer = match change.write() {
        Ok(writer) => writer,
        Err(fault) if fault.code == Code::JournalDamaged => {
            change::set_aside(paths, fault)?;
            report::publish(paths, context.agent()?.map(|package| package.version));
            return Ok(None);
        }
        Err(fault) => return Err(fault),
    };
    log::notice(format!("carrying on {}", change.id));
    let (verdict, reason) = match writer.progress.closed.clone() {
        // The power went between the last record and the removal of the link.
        Some(closed) => closed,
        None => run(&context, &mut writer)?,
    };
    close(&context, &mut writer, verdict, &reason).map(Some)
}

/// Does what is left of the plan, or of going back.
fn run(context: &Context<'_>, writer: &mut Writer) -> Result<(Verdict, String)> {
    if writer.progress.undoing.is_none() {
        match forward(context, writer)? {
            Forward::Healthy => return Ok((Verdict::Committed, format!("{} is healthy", context.change.plan.to))),
            Forward::Nothing(reason) => return Ok((Verdict::Abandoned, reason)),
            // Removed by the operator while it was watched: that is no failure of the version, and it must not come back.
            Forward::Sick { .. } if context.change.plan.from.is_some() && context.agent()?.is_none() => {
                return Ok((Verdict::Abandoned, "smolotchi was removed meanwhile".to_owned()));
            }
            Forward::Sick { reason, blame } => {
                log::notice(format!("going back from {}: {reason}", context.change.plan.to));
                gather_evidence(context, writer);
                writer.record(Event::Undoing { reason, blame })?;
                report::publish(context.paths, Some(context.change.plan.to.clone()));
            }
        }
    }
    let reason = writer.progress.undoing.clone().unwrap_or_default();
    match undo::undo(context, writer) {
        Ok(()) => Ok((Verdict::RolledBack, reason)),
        // The machine's own trouble (a lock, a program that can't be run) says nothing about the slot: try again, also at the next boot.
        Err(fault) if !matches!(fault.code, Code::RollbackFailed | Code::SlotDamaged | Code::FileMismatch | Code::TaskFailed) => Err(fault),
        Err(fault) => {
            log::fault(&fault);
            gather_evidence(context, writer);
            Ok((Verdict::OperatorNeeded, format!("{reason}; and going back failed: {fault}")))
        }
    }
}

/// How the units ended, the last looks of the watch and the last log lines, before anything is done about them.
fn gather_evidence(context: &Context<'_>, writer: &mut Writer) {
    let samples = writer.notes.take_samples();
    let evidence = &mut writer.notes.evidence;
    if evidence.is_empty() {
        *evidence = report::kept_evidence(context.change, Vec::new());
    }
    evidence.extend(systemd::ends(&context.change.plan.health.units).into_iter().map(|line| format!("unit {line}")));
    evidence.extend(samples);
    evidence.extend(systemd::last_lines(EVIDENCE_LINES));
    // Going back may be cut short: then this is what the report has.
    told("the evidence was not kept", report::keep_evidence(context.change, evidence));
}

/// How the way forward ended.
enum Forward {
    Healthy,
    /// Nothing was changed, and why.
    Nothing(String),
    /// What was changed isn't good.
    Sick {
        /// Why.
        reason: String,
        /// Whether that is the version's fault, rather than the machine's.
        blame: bool,
    },
}

fn forward(context: &Context<'_>, writer: &mut Writer) -> Result<Forward> {
    let plan = &context.change.plan;
    let began_us = clock::monotonic_us();
    let gauge = measure::DiskGauge::start(context.paths);
    for task in &plan.tasks {
        if writer.progress.done.contains(task) {
            continue;
        }
        if !writer.progress.started.contains(task) {
            writer.record(Event::Started { task: *task })?;
            report::publish(context.paths, plan.from.clone());
        }
        match task {
            Task::SaveSlot => {
                // Nothing is touched yet: a failure here costs nothing but the change.
                if let Err(fault) = save_slot(context.paths, plan, None, Snapshots::Must) {
                    log::fault(&fault);
                    return Ok(Forward::Nothing(format!("the slot could not be saved: {fault}")));
                }
            }
            Task::Packages => {
                if let Err(fault) = packages::install(context) {
                    log::fault(&fault);
                    let reason = format!("the packages could not be installed: {fault}");
                    let agent = context.agent()?;
                    let untouched = agent.as_ref().is_none_or(|package| Some(&package.version) == plan.from.as_ref() && package.is_whole());
                    // A lock that never came free, or dpkg unwound it all: the version was never tried.
                    if untouched {
                        return Ok(Forward::Nothing(reason));
                    }
                    return Ok(Forward::Sick { reason, blame: packages::failed_in_postinst(context)? });
                }
            }
            Task::Watch => {
                if plan.trigger != Trigger::Installer {
                    match packages::settle(context, writer.same_boot)? {
                        packages::Settled::Whole => {}
                        packages::Settled::Unchanged(reason) => return Ok(Forward::Nothing(reason)),
                        packages::Settled::Broken { reason, in_postinst } => {
                            // The power, a full disk or Ctrl-C in the middle of dpkg is not the version's fault.
                            return Ok(Forward::Sick { reason, blame: in_postinst });
                        }
                    }
                }
                if let Err(fault) = packages::verify(context) {
                    log::fault(&fault);
                    return Ok(Forward::Sick { reason: format!("the installed files are not whole: {fault}"), blame: false });
                }
                writer.notes.measured.disk_peak_bytes = gauge.as_ref().map(measure::DiskGauge::peak);
                writer.notes.measured.program_peak_bytes = measure::children_peak_bytes();
                match watch::watch(context, writer, &watch::to(context))? {
                    Ok(()) => {}
                    Err(reason) => return Ok(Forward::Sick { reason, blame: true }),
                }
                let facts = &plan.facts;
                writer.notes.measured.rows_migrated = facts.rehearsed.map(|_| facts.migrations.iter().map(|step| step.rows).sum());
                writer.notes.measured.core_down_ms = systemd::last_gap_ms(CORE, began_us);
                // dpkg may be told not to sync (force-unsafe-io), and apt may have been the one that ran it: what was
                // compared and watched has to be on the card before it counts.
                rustix::fs::sync();
            }
        }
        writer.record(Event::Done { task: *task })?;
    }
    Ok(Forward::Healthy)
}

/// Records the end and what follows from it, so that doing it again changes nothing; the link goes last.
fn close(context: &Context<'_>, writer: &mut Writer, verdict: Verdict, reason: &str) -> Result<Report> {
    let (paths, change) = (context.paths, context.change);
    let plan = &change.plan;
    // A disk that is full by now must not keep the change open: the verdict needs no new blocks, all else is told and left.
    told("what is blocked was not written", remember(context, verdict, reason, writer.progress.blame));
    let report = Report {
        id: change.id.clone(),
        kind: plan.kind.as_str().to_owned(),
        from: plan.from.clone(),
        to: plan.to.clone(),
        verdict,
        reason: reason.to_owned(),
        changed: report::changes(verdict),
        exit: report::exit(verdict) as u8,
        at: clock::wall(),
        evidence: report::kept_evidence(change, std::mem::take(&mut writer.notes.evidence)),
        measured: writer.notes.measured,
        restored: writer.notes.restored.take(),
    };
    // Written again after a power cut here, it would lose the evidence.
    if report::read(&change.folder).is_none() {
        told("the report was not written", report::write(change, &report));
    }
    if writer.progress.closed.is_none() {
        writer.record(Event::Closed { verdict, reason: reason.to_owned() })?;
    }
    told("the packages were not kept", keep_packages(context, verdict));
    let needed: Vec<&str> = plan.from.iter().map(String::as_str).collect();
    let memory = Memory::load(paths).unwrap_or_default();
    let blocked: Vec<&str> = memory.blocked.keys().map(String::as_str).collect();
    told("old slots were not removed", slot::collect(paths, context.settings.slots, &needed, &blocked));
    change::unlink(paths, change)?;
    told("old changes were not removed", change::forget_old(paths, HISTORY));
    report::publish(paths, context.agent()?.map(|package| package.version));
    match verdict {
        Verdict::OperatorNeeded => log::fault(
            &smolotchi_operator::Fault::new(Code::RollbackFailed, "the machine could not be brought back by itself")
                .fact("change", change.id.as_str())
                .fact("reason", reason),
        ),
        _ => log::note(log::Kind::ChangeEnded, format!("{}: {}: {reason}", change.id, verdict.as_str())),
    }
    Ok(report)
}

/// A step of closing that may fail without keeping the change open.
fn told(what: &str, result: Result<()>) {
    if let Err(fault) = result {
        log::fault(&fault.fact("so", what));
    }
}

/// A version that had to be left is blocked, so that apt doesn't bring it back tomorrow; one that proved good is not.
fn remember(context: &Context<'_>, verdict: Verdict, reason: &str, blame: bool) -> Result<()> {
    let plan = &context.change.plan;
    memory::update(context.paths, |memory| match (verdict, plan.kind, &plan.from) {
        (Verdict::RolledBack | Verdict::OperatorNeeded, Kind::Upgrade, _) if blame => {
            memory.blocked.insert(plan.to.clone(), Block::now(reason));
        }
        (Verdict::Committed, Kind::Rollback, Some(from)) => {
            memory.blocked.remove(&plan.to);
            memory.blocked.entry(from.clone()).or_insert_with(|| Block::now(format!("the operator went back from it to {}", plan.to)));
        }
        (Verdict::Committed, _, _) => {
            memory.blocked.remove(&plan.to);
        }
        _ => {}
    })
}

/// The packages of the version that runs now are kept for the next slot; the change needs its own no longer.
fn keep_packages(context: &Context<'_>, verdict: Verdict) -> Result<()> {
    let source = match verdict {
        Verdict::Committed => context.change.debs(),
        Verdict::RolledBack => match &context.change.plan.from {
            Some(from) => slot::folder(context.paths, from).join("debs"),
            None => return change::remove_tree(&context.change.debs()),
        },
        Verdict::Abandoned | Verdict::OperatorNeeded => return change::remove_tree(&context.change.debs()),
    };
    if change::list(&source)?.is_empty() {
        // Done already, before the power went.
        return Ok(());
    }
    let kept = context.paths.debs();
    let staged = kept.with_file_name(".debs.staging");
    change::remove_tree(&staged)?;
    change::make_folder(&staged)?;
    for file in change::list(&source)? {
        if let Some(name) = file.file_name() {
            durable::link(&file, &staged.join(name))?;
        }
    }
    durable::sync_folder(&staged)?;
    change::remove_tree(&kept)?;
    durable::rename(&staged, &kept)?;
    change::remove_tree(&context.change.debs())
}
