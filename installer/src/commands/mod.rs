//! The operator's verbs. Each plans or looks; none changes the machine but by opening a change.

mod change;
mod docs;
mod follow;
mod look;
mod verify;

use crate::change::memory::Memory;
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
        Command::Unblock { version } => unblock(&paths, format, &version),
        Command::CarryOn => carry_on(&paths),
        Command::Guard { caller } => match caller {
            GuardCaller::Apt => guard::apt(&paths),
            GuardCaller::Preinst { args } => guard::preinst(&paths, &args),
            GuardCaller::Postinst { args } => guard::postinst(&paths, &args),
            GuardCaller::Prerm { .. } => Ok(Exit::Success),
            GuardCaller::Postrm { args } => guard::postrm(&paths, &args),
        },
        Command::Docs { folder } => docs::write(&folder),
    }
}

/// Refuses to go on without root.
fn need_root() -> Result<()> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(Fault::new(Code::NotRoot, "changing the machine needs root")) }
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

fn unblock(paths: &Paths, format: Format, version: &str) -> Result<Exit> {
    need_root()?;
    let mut memory = Memory::load(paths)?;
    if memory.blocked.remove(version).is_some() {
        memory.save(paths)?;
        let installed = crate::host::dpkg::agent()?;
        crate::change::report::publish(paths, installed.map(|package| package.version));
        if format == Format::Table {
            log::notice(format!("{version} may be installed again"));
        }
    } else if format == Format::Table {
        log::notice(format!("{version} was not blocked"));
    }
    Ok(Exit::Success)
}
