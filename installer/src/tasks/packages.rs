//! Task: the packages. Either we run dpkg, or apt or dpkg does and we wait for it and look at what came out. What was cut
//! half-way is finished forward when its packages are all kept. Before the watch, every installed file is compared with
//! the package that it came from.

use super::Context;
use crate::host::dpkg::{self, For, Installable};
use crate::host::lock;
use smolotchi_operator::{Code, Fault, Result, log};

/// Installs the plan's packages from the change's folder, each hashed once more just before. Again: dpkg heals. Does
/// nothing when dpkg has them all, whole: the healer may have been here.
pub(super) fn install(context: &Context<'_>) -> Result<()> {
    let _lock = lock::dpkg_frontend(context.paths, context.patience())?;
    if all_whole(context)? {
        return Ok(());
    }
    dpkg::install(&kept(context)?, For::change(&context.change.id))
}

/// The plan's packages, but for what was overtaken meanwhile, each hashed.
fn kept(context: &Context<'_>) -> Result<Vec<Installable>> {
    let folder = context.change.debs();
    let known = dpkg::packages()?;
    let debs = context.change.plan.debs.iter().filter(|deb| !dpkg::is_overtaken(&known, &deb.package, &deb.version));
    debs.map(|deb| Installable::hashed(&folder.join(&deb.file), deb.size, &deb.sha256)).collect()
}

/// dpkg has every package of the plan whole, at its version.
fn all_whole(context: &Context<'_>) -> Result<bool> {
    let known = dpkg::packages()?;
    let is_whole =
        |package: &str, version: &str| known.iter().any(|known| known.name == package && known.version == version && known.is_whole());
    let debs = &context.change.plan.debs;
    Ok(debs.iter().all(|deb| is_whole(&deb.package, &deb.version) || dpkg::is_overtaken(&known, &deb.package, &deb.version)))
}

/// The version's own postinst said no: what dpkg has unpacked and begun to configure. All else that fails in dpkg (a lock, a
/// full disk, a damaged file) is the machine's trouble.
pub(super) fn failed_in_postinst(context: &Context<'_>) -> Result<bool> {
    Ok(matches!(look(context)?, Settled::Broken { in_postinst: true, .. }))
}

/// What someone else's package operation left.
pub(super) enum Settled {
    /// The wanted version, whole.
    Whole,
    /// The version before, whole: nothing happened, or dpkg unwound it.
    Unchanged(String),
    /// Anything else, and it won't mend itself.
    Broken {
        /// What was seen.
        reason: String,
        /// Its own postinst failed.
        in_postinst: bool,
    },
}

/// Waits until apt or dpkg is through, then looks. What was cut short by anything but the version's own scripts in this
/// boot is finished forward, when every package of it is kept.
pub(super) fn settle(context: &Context<'_>, same_boot: bool) -> Result<Settled> {
    // Taking the lock is the wait; what is seen afterwards is final.
    drop(lock::dpkg_frontend(context.paths, context.patience())?);
    let seen = look(context)?;
    let may_finish = match &seen {
        Settled::Unchanged(_) => false,
        Settled::Whole => !all_whole(context)?,
        // Its scripts said no, and would again.
        Settled::Broken { in_postinst, .. } => !(*in_postinst && same_boot),
    };
    if !may_finish || context.change.plan.debs.is_empty() {
        return Ok(match seen {
            // A power cut in the middle of its postinst is not the version's fault.
            Settled::Broken { reason, in_postinst } => Settled::Broken { reason, in_postinst: in_postinst && same_boot },
            other => other,
        });
    }
    log::notice("the package operation was cut short; finishing it with the packages that were kept");
    match install(context) {
        Ok(()) => {}
        // A kept package that is damaged: then back, from the slot.
        Err(fault) if matches!(fault.code, Code::FileMismatch | Code::TaskFailed) => log::fault(&fault),
        Err(fault) => return Err(fault),
    }
    look(context)
}

fn look(context: &Context<'_>) -> Result<Settled> {
    let plan = &context.change.plan;
    let known = dpkg::packages()?;
    let Some(package) = known.iter().find(|package| package.name == super::AGENT && package.is_present()) else {
        return Ok(Settled::Unchanged("smolotchi was removed meanwhile".to_owned()));
    };
    let broken = known.iter().find(|known| {
        !known.is_whole() && known.is_present() && (known.name == super::AGENT || plan.debs.iter().any(|deb| deb.package == known.name))
    });
    if let Some(broken) = broken {
        return Ok(Settled::Broken {
            reason: format!("dpkg left {} {} half-installed (state {})", broken.name, broken.version, broken.state.trim()),
            in_postinst: broken.name == super::AGENT && broken.version == plan.to && broken.state.get(1..2) == Some("F"),
        });
    }
    Ok(match (package.version == plan.to, Some(&package.version) == plan.from.as_ref()) {
        (true, _) => Settled::Whole,
        (false, true) => Settled::Unchanged(format!("{} was not installed after all", plan.to)),
        (false, false) => Settled::Unchanged(format!("{} was installed instead", package.version)),
    })
}

/// The packages of the plan against the files on disk; see [`whole_on_disk`].
pub(super) fn verify(context: &Context<'_>) -> Result<()> {
    match kept(context) {
        Ok(debs) => whole_on_disk(context, &debs),
        // Nothing to compare with is no reason to leave a version that may be good.
        Err(fault) => {
            log::warning(fault.code, format!("the installed files could not be compared with their packages: {fault}"));
            Ok(())
        }
    }
}

/// Compares the installed files with their packages, which dpkg doesn't: with `force-unsafe-io`, or on a card that lies,
/// a power cut leaves files of zeros with status `ii`. What is torn is unpacked again, once.
pub(super) fn whole_on_disk(context: &Context<'_>, debs: &[Installable]) -> Result<()> {
    let torn = torn(context, debs);
    if torn.is_empty() {
        return Ok(());
    }
    log::warning(Code::FileMismatch, format!("installed files are torn and unpacked again: {}", torn.join(", ")));
    let _lock = lock::dpkg_frontend(context.paths, context.patience())?;
    dpkg::install(debs, For::change(&context.change.id))?;
    let still = self::torn(context, debs);
    if still.is_empty() {
        return Ok(());
    }
    Err(Fault::new(Code::TaskFailed, "installed files are torn, also after they were unpacked again").fact("files", still.join(", ")))
}

fn torn(context: &Context<'_>, debs: &[Installable]) -> Vec<String> {
    debs.iter().flat_map(|deb| dpkg::torn(context.paths, deb.path())).collect()
}
