//! The healer's first step: the installer's own files. Torn ones (empty, zeros, half a document) are rebuilt from what
//! is known or set aside; what drafts and renames left is removed or finished.

use super::Healed;
use crate::change::{self, journal, list, memory, remove_tree, report};
use crate::fault::OrFault;
use crate::host::{dpkg, lock};
use crate::paths::Paths;
use smolotchi_operator::{Fault, Result, durable};
use smolotchi_release::{Origin, SlotDeb, SlotManifest, sha256_file};
use std::collections::BTreeSet;
use std::path::Path;

/// Mends what it finds.
pub(super) fn mend(paths: &Paths, healed: &mut Healed) -> Result<()> {
    for step in [drafts, rehearsal, staged, slots, open_change, reports, public_status] {
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
    // By hand, another process may be about to rename one of them.
    let _memory = lock::waited(&paths.memory_lock())?;
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
        if !is_torn(&file)? {
            continue;
        }
        match rebuilt(&slot)? {
            Some(manifest) => {
                durable::replace(&file, manifest.to_toml().or_fault()?.as_bytes(), 0o644)?;
                healed.mended(format!("slot {}: its torn slot.toml is written anew", name(&slot)));
            }
            None => {
                // Out of the way until the next slot is saved: its snapshot may still be of use to somebody.
                durable::rename(&slot, &folder.join(format!(".{}.damaged", name(&slot))))?;
                healed.mended(format!("slot {}: neither its record nor its package is whole, so it is put aside", name(&slot)));
            }
        }
    }
    Ok(())
}

/// A record that a power cut tore or took away. One of another kind is a newer installer's, and whole.
fn is_torn(file: &Path) -> Result<bool> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(Fault::io("could not read a slot's record", file, &error)),
    };
    if SlotManifest::parse(&bytes).is_ok() {
        return Ok(false);
    }
    let table = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse::<toml::Table>().ok());
    let kind = table.as_ref().and_then(|table| table.get("kind")).and_then(toml::Value::as_str);
    Ok(kind.is_none_or(|kind| kind == smolotchi_release::slot::KIND))
}

/// What a slot's record must have said, from the package in it; none without one. The snapshot can't be vouched for any
/// more, and having no number makes it the last that a rollback goes to by itself.
fn rebuilt(folder: &Path) -> Result<Option<SlotManifest>> {
    let version = name(folder);
    let architecture = dpkg::architecture()?;
    let mut debs = Vec::new();
    for file in list(&folder.join("debs"))? {
        let Some((package, found)) = dpkg::identify(&file) else { continue };
        let (sha256, size) = sha256_file(&file).or_fault()?;
        let architecture = architecture.clone();
        debs.push(SlotDeb { package, version: found, architecture, file: name(&file), size, sha256, origin: Origin::Rebuilt });
    }
    if !debs.iter().any(|deb| deb.package == "smolotchi" && deb.version == version) {
        return Ok(None);
    }
    let created_at = crate::host::clock::wall_time();
    let kind = smolotchi_release::slot::KIND.to_owned();
    let (number, healthy_since, schema, health, snapshot) = (None, None, None, None, None);
    Ok(Some(SlotManifest { kind, version, number, created_at, healthy_since, schema, health, snapshot, debs }))
}

/// What is blocked, and the pin that follows from it: a torn pin breaks every command of apt. After the packages, because a
/// pause pins what is installed.
pub(super) fn pins(paths: &Paths, healed: &mut Healed) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_installers_slot_is_not_torn() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("slot.toml");
        assert!(is_torn(&file).unwrap(), "it is gone");
        let ours = format!("kind = \"{}\"\n", smolotchi_release::slot::KIND);
        for (text, torn) in [("", true), ("\0\0\0\0", true), ("kind = \"smo", true), (ours.as_str(), true), ("kind = \"other/9\"\n", false)]
        {
            std::fs::write(&file, text).unwrap();
            assert_eq!(is_torn(&file).unwrap(), torn, "{text:?}");
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(is_torn(&file).is_err(), "what can't be read is left alone");
    }
}
