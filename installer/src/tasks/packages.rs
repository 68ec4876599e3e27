//! Task: the packages. Either we run dpkg, or apt or dpkg does and we wait for it and look at what came out.

use super::Context;
use crate::host::dpkg::{self, Installable};
use crate::host::lock;
use smolotchi_operator::Result;

/// Installs the plan's packages from the change's folder, each hashed once more just before. Again: dpkg heals.
pub(super) fn install(context: &Context<'_>) -> Result<()> {
    let _lock = lock::dpkg_frontend(context.paths, context.patience())?;
    let folder = context.change.debs();
    let debs = context
        .change
        .plan
        .debs
        .iter()
        .map(|deb| Installable::hashed(&folder.join(&deb.file), deb.size, &deb.sha256))
        .collect::<Result<Vec<_>>>()?;
    dpkg::install(&debs, &context.change.id)
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
        /// It got as far as its postinst.
        in_postinst: bool,
    },
}

/// Waits until apt or dpkg is through, then looks.
pub(super) fn settle(context: &Context<'_>) -> Result<Settled> {
    // Taking the lock is the wait; what is seen afterwards is final.
    drop(lock::dpkg_frontend(context.paths, context.patience())?);
    let plan = &context.change.plan;
    let Some(package) = context.agent()? else {
        return Ok(Settled::Unchanged("smolotchi was removed meanwhile".to_owned()));
    };
    Ok(match (package.version == plan.to, package.is_whole(), Some(&package.version) == plan.from.as_ref()) {
        (true, true, _) => Settled::Whole,
        (_, true, true) => Settled::Unchanged(format!("{} was not installed after all", plan.to)),
        (false, true, false) => Settled::Unchanged(format!("{} was installed instead", package.version)),
        (_, false, _) => Settled::Broken {
            reason: format!("dpkg left smolotchi {} half-installed (state {})", package.version, package.state.trim()),
            in_postinst: package.version == plan.to && package.state.get(1..2) == Some("F"),
        },
    })
}
