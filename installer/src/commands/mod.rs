//! The operator's verbs. Each plans or looks; none changes the machine but by opening a change.

mod change;
mod docs;
mod follow;
mod look;
mod policy;
mod verify;

use crate::change::memory;
use crate::cli::{Cli, Command, GuardCaller, PlanKind, ReleaseArgs, RollbackArgs};
use crate::paths::Paths;
use crate::plan::Kind;
use crate::{guard, settings, tasks};
use smolotchi_operator::{Code, Exit, Fault, Format, Result, log};

/// Runs the command.
pub fn run(cli: Cli) -> Result<Exit> {
    let paths = Paths::default();
    let format = cli.format;
    match cli.command {
        Command::Install(release) => change::release(&paths, format, Kind::Install, &release),
        Command::Upgrade(release) => change::release(&paths, format, Kind::Upgrade, &release),
        Command::Rollback(rollback) => change::rollback(&paths, format, &rollback),
        Command::Plan { kind: PlanKind::Rollback, release } => {
            change::rollback(&paths, format, &RollbackArgs { to: release.source.to, dry_run: true })
        }
        Command::Plan { kind, release } => change::release(&paths, format, kind.into(), &ReleaseArgs { dry_run: true, ..release }),
        Command::Status => look::status(&paths, format),
        Command::History { id } => look::history(&paths, format, id.as_deref()),
        Command::Verify(source) => verify::verify(&paths, format, &source),
        Command::Pause(pause) => policy::pause(&paths, format, &pause),
        Command::Resume => policy::resume(&paths, format),
        Command::Skip { version, reason } => policy::skip(&paths, format, &version, &reason),
        Command::Unblock { version } => policy::unblock(&paths, format, &version),
        Command::Heal { at_boot } => heal(&paths, format, at_boot),
        Command::CarryOn => {
            log::role("installer");
            carry_on(&paths)
        }
        Command::Guard { caller } => match caller {
            GuardCaller::Apt => guard::apt(&paths),
            GuardCaller::Refresh => guard::refresh(&paths),
            GuardCaller::Preinst { args } => guard::preinst(&paths, &args),
            GuardCaller::Postinst { args } => guard::postinst(&paths, &args),
            GuardCaller::Prerm { .. } => Ok(Exit::Success),
            GuardCaller::Postrm { args } => guard::postrm(&paths, &args),
        },
        Command::Docs { folder } => docs::write(&folder),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Refuses to go on without root.
fn need_root() -> Result<()> {
    if is_root() { Ok(()) } else { Err(Fault::new(Code::NotRoot, "changing the machine needs root")) }
}

/// Lets go what has run out before it is looked at. A dry run touches nothing, also not that.
fn refresh(paths: &Paths, dry_run: bool) -> Result<()> {
    if dry_run || !is_root() { Ok(()) } else { memory::refresh(paths) }
}

fn heal(paths: &Paths, format: Format, at_boot: bool) -> Result<Exit> {
    need_root()?;
    let settings = settings::load(paths).unwrap_or_else(|fault| {
        log::fault(&fault);
        settings::Settings::default()
    });
    let healed = crate::heal::heal(paths, &settings, at_boot)?;
    if !at_boot {
        smolotchi_operator::output::emit(format, &healed);
    }
    Ok(healed.exit())
}

fn carry_on(paths: &Paths) -> Result<Exit> {
    need_root()?;
    let settings = settings::load(paths).unwrap_or_else(|fault| {
        // An open change must be carried to its end even with settings that someone spoilt meanwhile.
        log::fault(&fault);
        settings::Settings::default()
    });
    // The unit's own success is that the change is closed; how it ended is in the report.
    // Another one may be opened while this one is being closed.
    while tasks::carry_on(paths, &settings)?.is_some() {}
    Ok(Exit::Success)
}
