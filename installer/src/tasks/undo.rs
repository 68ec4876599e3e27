//! Going back: the packages of the slot, which take the database back to their schema with the undo that its migrations
//! left in it, then the same watch over the old version. Once; if that fails too, an operator is needed.

use super::{Context, watch};
use crate::change::journal::Event;
use crate::change::{Writer, slot};
use crate::gate::Expected;
use crate::host::dpkg::{self, Installable};
use crate::host::{lock, systemd};
use smolotchi_operator::{Code, Fault, Result};

/// Brings the version before back and watches it.
pub(super) fn undo(context: &Context<'_>, writer: &mut Writer) -> Result<()> {
    let plan = &context.change.plan;
    systemd::reset_failed(&plan.health.units);
    let Some(from) = &plan.from else {
        if !writer.progress.reverted {
            let _lock = lock::dpkg_frontend(context.paths, context.patience())?;
            dpkg::remove(&context.change.id)?;
            writer.record(Event::Reverted)?;
        }
        return Ok(());
    };
    let slot = slot::verified(context.paths, from)?;
    if !writer.progress.reverted {
        let _lock = lock::dpkg_frontend(context.paths, context.patience())?;
        let folder = slot::folder(context.paths, from).join("debs");
        let debs =
            slot.debs.iter().map(|deb| Installable::hashed(&folder.join(&deb.file), deb.size, &deb.sha256)).collect::<Result<Vec<_>>>()?;
        dpkg::install(&debs, &context.change.id)?;
        systemd::reset_failed(&plan.health.units);
        writer.record(Event::Reverted)?;
    }
    let expected = Expected { version: from.clone(), schema: slot.schema, health: slot.health.unwrap_or_else(|| plan.health.clone()) };
    match watch::watch(context, writer, &expected)? {
        Ok(()) => Ok(()),
        Err(reason) => Err(Fault::new(Code::RollbackFailed, "the version before isn't healthy either")
            .fact("version", from.as_str())
            .fact("reason", reason)),
    }
}
