//! Going back: the packages of the slot, which take the database back to their schema with the undo that its migrations
//! left in it, then the same watch over the old version. Once; if that fails too, an operator is needed.
//!
//! The last resort, when the old version can't take the database back (a step that can't be undone, a damaged file): the
//! slot's snapshot in its place. What stood there is put aside, and what the snapshot lacks is exported and counted.

use super::{Context, packages, watch};
use crate::change::journal::Event;
use crate::change::memory::Memory;
use crate::change::{Writer, reachable, slot};
use crate::fault::OrFault;
use crate::gate::Expected;
use crate::host::agent::{self, Restored};
use crate::host::dpkg::{self, For, Installable};
use crate::host::{lock, systemd};
use smolotchi_operator::{Code, Fault, Result, durable, log};
use smolotchi_release::SlotManifest;
use std::path::PathBuf;

/// Brings the version before back and watches it.
pub(super) fn undo(context: &Context<'_>, writer: &mut Writer) -> Result<()> {
    let plan = &context.change.plan;
    systemd::reset_failed(&plan.health.units);
    let Some(from) = &plan.from else {
        if !writer.progress.reverted {
            let _lock = lock::dpkg_frontend(context.paths, context.patience())?;
            dpkg::remove(For::change(&context.change.id))?;
            writer.record(Event::Reverted)?;
        }
        return Ok(());
    };
    // What failed here once is no place to go back to: the two would take turns.
    if let Some(block) = Memory::load(context.paths)?.blocked.get(from) {
        return Err(Fault::new(Code::RollbackFailed, "the version before is blocked on this machine")
            .fact("version", from.as_str())
            .fact("reason", block.reason.as_str()));
    }
    let slot = slot::verified(context.paths, from)?;
    let folder = slot::folder(context.paths, from).join("debs");
    let debs =
        slot.debs.iter().map(|deb| Installable::hashed(&folder.join(&deb.file), deb.size, &deb.sha256)).collect::<Result<Vec<_>>>()?;
    if !writer.progress.reverted {
        let dpkg = lock::dpkg_frontend(context.paths, context.patience())?;
        let on_behalf = For::change(&context.change.id);
        let installed = dpkg::install(&debs, on_behalf);
        // A restore that was cut short may have left no database at all, which dpkg has nothing against.
        let cut_short = read_restored(context).is_some_and(|restored| restored.schema.is_none());
        if cut_short || (installed.is_err() && needs_snapshot(context, from)?) {
            if let Err(fault) = installed {
                log::fault(&fault);
            }
            restore(context, writer, from)?;
            dpkg::install(&debs, on_behalf)?;
        } else {
            installed?;
        }
        drop(dpkg);
        systemd::reset_failed(&plan.health.units);
        writer.record(Event::Reverted)?;
    }
    packages::whole_on_disk(context, &debs)?;
    writer.notes.restored = read_restored(context);
    let expected = Expected { version: from.clone(), schema: slot.schema, health: slot.health.unwrap_or_else(|| plan.health.clone()) };
    match watch::watch(context, writer, &expected)? {
        Ok(()) => Ok(()),
        Err(reason) => Err(Fault::new(Code::RollbackFailed, "the version before isn't healthy either")
            .fact("version", from.as_str())
            .fact("reason", reason)),
    }
}

/// The old version is unpacked but can't be configured, and the database isn't at its schema, or can't even be asked.
fn needs_snapshot(context: &Context<'_>, from: &str) -> Result<bool> {
    let unpacked = context.agent()?.is_some_and(|package| package.version == from && !package.is_whole());
    let settled = agent::schemas(context.paths).is_some_and(|(current, own)| current == own);
    Ok(unpacked && !settled && context.paths.database().exists())
}

/// Where it is written down what a restore did, before anything follows from it.
fn record_of(context: &Context<'_>) -> PathBuf {
    context.change.folder.join("restored.json")
}

fn read_restored(context: &Context<'_>) -> Option<Restored> {
    serde_json::from_slice(&std::fs::read(record_of(context)).ok()?).ok()
}

fn write_restored(context: &Context<'_>, restored: &Restored) -> Result<()> {
    let path = record_of(context);
    let json = serde_json::to_vec_pretty(restored)
        .map_err(|error| Fault::io("could not write down the restore", &path, &std::io::Error::other(error)))?;
    durable::replace(&path, &json, 0o644)
}

fn restore(context: &Context<'_>, writer: &mut Writer, from: &str) -> Result<()> {
    let snapshot = snapshot_of(context, from)?;
    writer.record(Event::Observed { text: format!("the database can't be taken back; restoring the snapshot of {from}") })?;
    // Beside the database, whose user writes it; purged with it, and never collected.
    let export = context.paths.database().with_file_name(format!("lacking-{}.jsonl", context.change.id));
    // First the intention: should the power go in the middle, the report still names the file.
    write_restored(context, &Restored { export: Some(export.display().to_string()), ..Restored::default() })?;
    systemd::stop(&["smolotchi-core.socket", "smolotchi-core.service"]);
    // Whatever umask the change was opened with, the database's user must get through to its inbox.
    reachable(&context.paths.changes())?;
    reachable(&context.change.folder)?;
    let restored = agent::restore(context.paths, &snapshot, &context.change.folder.join("inbox"), &export).map_err(|fault| {
        Fault::new(Code::RollbackFailed, "the slot's snapshot could not be restored").fact("slot", from).fact("why", fault.to_string())
    })?;
    write_restored(context, &restored)?;
    log::notice(format!("the snapshot of {from} is restored; see: smolotchi-install history {}", context.change.id));
    Ok(())
}

/// The slot's snapshot, if it is what was kept.
fn snapshot_of(context: &Context<'_>, from: &str) -> Result<PathBuf> {
    let folder = slot::folder(context.paths, from);
    let slot = SlotManifest::verify_in(&folder).or_fault()?;
    let none = || Fault::new(Code::SlotDamaged, "the slot has no snapshot").fact("slot", from);
    Ok(folder.join(slot.snapshot.ok_or_else(none)?.file))
}
