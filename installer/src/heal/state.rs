//! The healer's first step: the installer's own files. Torn ones (empty, zeros, half a document) are rebuilt from what
//! is known or set aside; what drafts and renames left is removed or finished.

use super::Healed;
use crate::change::{self, journal, list, memory, remove_tree, report};
use crate::fault::OrFault;
use crate::host::{dpkg, lock};
use crate::paths::Paths;
use smolotchi_operator::{Result, durable};
use smolotchi_release::{Origin, SlotDeb, SlotManifest, sha256_file};
use std::collections::BTreeSet;
use std::path::Path;

/// Mends what it finds.
pub(super) fn mend(paths: &Paths, healed: &mut Healed) -> Result<()> {
    for step in [drafts, rehearsal, staged, slots, pins, open_change, reports, public_status] {
        healed.step(|healed| step(paths, healed));
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Changes that never came to be open: still a draft, or complete but cut before the link.
fn drafts(paths: &Paths, healed: &mut Healed) -> Result<()> {
    let linked: Vec<String> =
        [paths.open(), paths.set_aside()].iter().filter_map(|link| Some(name(&std::fs::read_link(link).ok()?))).collect();
    for folder in list(&paths.changes())? {
        let never_open = || {
            !linked.contains(&name(&folder))
                && !folder.join("report.json").exists()
                && journal::read(&folder.join("journal")).is_ok_and(|records| records.len() <= 1)
        };
        if change::is_draft(&folder) || never_open() {
            remove_tree(&folder)?;
            healed.mended(format!("{} was never opened and is removed", name(&folder)));
        }
    }
    Ok(())
}

/// The copy that a rehearsal worked on. One that is going on keeps its own.
fn rehearsal(paths: &Paths, healed: &mut Healed) -> Result<()> {
    if !paths.rehearsal().exists() {
        return Ok(());
    }
    let Ok(_lock) = lock::ours(&paths.rehearsal_lock()) else { return Ok(()) };
    remove_tree(&paths.rehearsal())?;
    healed.mended("what a rehearsal left is removed");
    Ok(())
}

/// Files that were being written when the power went; what they were to replace stands untouched.
fn staged(paths: &Paths, healed: &mut Healed) -> Result<()> {
    let mut folders = vec![paths.state()];
    folders.extend(change::all(paths)?);
    let mut found = Vec::new();
    for folder in folders {
        found.extend(list(&folder)?.into_iter().filter(|file| name(file).starts_with('.') && name(file).ends_with(".staging")));
    }
    let pins = paths.apt_pin().parent().map(list).transpose()?.unwrap_or_default();
    found.extend(pins.into_iter().filter(|file| name(file).starts_with(".smolotchi") && name(file).ends_with(".staging")));
    for file in found {
        if file.is_dir() {
            remove_tree(&file)?
        } else {
            durable::remove(&file)?
        }
        healed.mended(format!("{} was half-written and is removed", file.display()));
    }
    Ok(())
}

/// A slot between its two renames gets its name back, the newer one if that is whole; a torn slot.toml is written anew.
fn slots(paths: &Paths, healed: &mut Healed) -> Result<()> {
    let folder = paths.slots();
    let hidden: BTreeSet<String> = list(&folder)?
        .iter()
        .map(|path| name(path))
        .filter_map(|name| {
            let rest = name.strip_prefix('.')?;
            Some(rest.strip_suffix(".staging").or_else(|| rest.strip_suffix(".old"))?.to_owned())
        })
        .collect();
    for version in hidden {
        let (target, staged, old) =
            (folder.join(&version), folder.join(format!(".{version}.staging")), folder.join(format!(".{version}.old")));
        if !target.exists() && SlotManifest::verify_in(&staged).is_ok() {
            durable::rename(&staged, &target)?;
        } else if !target.exists() && old.exists() {
            durable::rename(&old, &target)?;
        }
        remove_tree(&staged)?;
        remove_tree(&old)?;
        healed.mended(format!("slot {version}: what was half-saved is finished or removed"));
    }
    for slot in list(&folder)?.into_iter().filter(|path| path.is_dir() && !name(path).starts_with('.')) {
        let file = slot.join(smolotchi_release::slot::FILE);
        if std::fs::read(&file).is_ok_and(|bytes| SlotManifest::parse(&bytes).is_ok()) {
            continue;
        }
        match rebuilt(&slot) {
            Some(manifest) => {
                durable::replace(&file, manifest.to_toml().or_fault()?.as_bytes(), 0o644)?;
                healed.mended(format!("slot {}: its torn slot.toml is written anew", name(&slot)));
            }
            None => {
                remove_tree(&slot)?;
                healed.mended(format!("slot {}: neither its record nor its package was whole, so it is removed", name(&slot)));
            }
        }
    }
    Ok(())
}

/// What a slot's record must have said, from the package in it. The snapshot can't be vouched for any more.
fn rebuilt(folder: &Path) -> Option<SlotManifest> {
    let version = name(folder);
    let mut debs = Vec::new();
    for file in list(&folder.join("debs")).ok()? {
        let (package, found) = dpkg::identify(&file)?;
        let (sha256, size) = sha256_file(&file).ok()?;
        let architecture = dpkg::architecture().ok()?;
        debs.push(SlotDeb { package, version: found, architecture, file: name(&file), size, sha256, origin: Origin::Rebuilt });
    }
    if !debs.iter().any(|deb| deb.package == "smolotchi" && deb.version == version) {
        return None;
    }
    let created_at = crate::host::clock::wall_time();
    let kind = smolotchi_release::slot::KIND.to_owned();
    Some(SlotManifest { kind, version, number: None, created_at, healthy_since: None, schema: None, health: None, snapshot: None, debs })
}

/// What is blocked, and the pin that follows from it: a torn pin breaks every command of apt.
fn pins(paths: &Paths, healed: &mut Healed) -> Result<()> {
    let seen = || (std::fs::read(paths.memory()).ok(), std::fs::read(paths.apt_pin()).ok());
    let before = seen();
    memory::refresh(paths)?;
    if seen() != before {
        healed.mended("the installer's memory and apt's pins agree again");
    }
    Ok(())
}

/// An open change whose plan can't be read is set aside by looking at it; one whose journal is gone begins anew.
fn open_change(paths: &Paths, healed: &mut Healed) -> Result<()> {
    let had_one = std::fs::read_link(paths.open()).is_ok();
    match change::open(paths)? {
        Some(change) if !journal::is_usable(&change.journal()) => {
            durable::remove(&change.journal())?;
            journal::Journal::create(&change.journal())?;
            durable::sync_folder(&change.folder)?;
            healed.mended(format!("the journal of {} was torn and begins anew", change.id));
        }
        None if had_one => healed.mended("a change that can't be read is set aside; see: smolotchi-install status"),
        _ => {}
    }
    Ok(())
}

/// A torn report is written anew from the journal.
fn reports(paths: &Paths, healed: &mut Healed) -> Result<()> {
    for folder in change::all(paths)? {
        if !folder.join("report.json").exists() || report::read(&folder).is_some() {
            continue;
        }
        let Ok(change) = change::Change::load(&folder) else { continue };
        let Some(report) = report::from_journal(&change) else { continue };
        report::write(&change, &report)?;
        healed.mended(format!("the report of {} was torn and is written anew", change.id));
    }
    Ok(())
}

/// Removed here, written anew when the healing is over.
fn public_status(paths: &Paths, healed: &mut Healed) -> Result<()> {
    let path = paths.status();
    match std::fs::read(&path) {
        Ok(bytes) if serde_json::from_slice::<serde_json::Value>(&bytes).is_err() => {
            durable::remove(&path)?;
            healed.mended("the public status was torn and is written anew");
            Ok(())
        }
        _ => Ok(()),
    }
}
