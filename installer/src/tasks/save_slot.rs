//! Task: keep the running version, so that going back needs nothing but this machine.
//!
//! Does: a complete slot for the plan's `from`, under a hidden name, then renamed. Undo: none needed, a slot harms
//! nothing. Again: makes it anew, because rows may have come since.

use crate::change::{list, make_folder, remove_tree, slot};
use crate::fault::OrFault;
use crate::host::{agent, clock, repack};
use crate::paths::Paths;
use crate::plan::Plan;
use smolotchi_operator::{Code, Fault, Result, durable, log};
use smolotchi_release::{Deb, Origin, ReleaseToml, SlotDeb, SlotManifest, Snapshot, Untrusted, sha256_file};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The name of the database's snapshot in a slot.
pub const SNAPSHOT: &str = "smolotchi.db";
/// What a slot holds packages for. The installer itself isn't rolled back.
const PACKAGE: &str = "smolotchi";

/// Whether a slot may be without its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshots {
    /// Then the change doesn't begin.
    Must,
    /// It is said, and the change goes on.
    Should,
}

/// Saves the slot of the version that `plan` leaves. `release` is what the installed release says of itself; none: it is
/// read from the machine, which is right as long as dpkg hasn't unpacked the new one.
pub fn save_slot(paths: &Paths, plan: &Plan, release: Option<ReleaseToml>, snapshots: Snapshots) -> Result<()> {
    let Some(from) = &plan.from else { return Ok(()) };
    let slots = paths.slots();
    make_folder(&slots)?;
    reachable(&slots)?;
    for leftover in list(&slots)?.into_iter().filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))) {
        remove_tree(&leftover)?;
    }
    let staged = slots.join(format!(".{from}.staging"));
    let debs = staged.join("debs");
    make_folder(&debs)?;
    let made = fill(paths, from, &staged, &debs, release, snapshots);
    if made.is_err() {
        remove_tree(&staged)?;
    }
    made?;
    let target = slot::folder(paths, from);
    let old = slots.join(format!(".{from}.old"));
    if target.exists() {
        durable::rename(&target, &old)?;
    }
    durable::rename(&staged, &target)?;
    remove_tree(&old)?;
    log::notice(format!("slot {from} is saved"));
    Ok(())
}

fn fill(paths: &Paths, from: &str, staged: &Path, debs: &Path, release: Option<ReleaseToml>, snapshots: Snapshots) -> Result<()> {
    let (file, origin) = match original(paths, from) {
        Some(source) => {
            let name = source.file_name().map(PathBuf::from).unwrap_or_default();
            let target = debs.join(name);
            durable::copy(&source, &target, 0o644)?;
            (target, Origin::Original)
        }
        None => (repack::repack(paths, PACKAGE, debs)?, Origin::Rebuilt),
    };
    let (sha256, size) = sha256_file(&file).or_fault()?;
    let architecture = crate::host::dpkg::architecture()?;
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();

    // The snapshot's folder belongs to the database's user while it is made; nothing of ours is in there then.
    let inbox = staged.join("inbox");
    make_folder(&inbox)?;
    reachable(staged)?;
    let has_database = match (agent::snapshot(paths, &inbox, SNAPSHOT), snapshots) {
        (Err(fault), Snapshots::Should) => {
            log::fault(&fault);
            false
        }
        (made, _) => made?,
    };
    let snapshot = if has_database {
        let file = staged.join(SNAPSHOT);
        durable::rename(&inbox.join(SNAPSHOT), &file)?;
        let (sha256, size) = sha256_file(&file).or_fault()?;
        if size == 0 {
            return Err(Fault::new(Code::StoreFailed, "the snapshot of the database is empty").fact("path", file.display().to_string()));
        }
        Some(Snapshot { file: SNAPSHOT.to_owned(), size, sha256 })
    } else {
        None
    };
    remove_tree(&inbox)?;

    let release = release.or_else(|| crate::host::inventory::release(paths));
    let manifest = SlotManifest {
        kind: smolotchi_release::slot::KIND.to_owned(),
        version: from.to_owned(),
        number: Some(slot::next_number(paths)?),
        created_at: clock::wall_time(),
        healthy_since: None,
        schema: if has_database { agent::schema(paths) } else { None },
        health: release.map(|release| release.health),
        snapshot,
        debs: vec![SlotDeb { package: PACKAGE.to_owned(), version: from.to_owned(), architecture, file: name, size, sha256, origin }],
    };
    durable::replace(&staged.join(smolotchi_release::slot::FILE), manifest.to_toml().or_fault()?.as_bytes(), 0o644)?;
    durable::sync_folder(debs)?;
    durable::sync_folder(staged)
}

/// The file that was installed, if it is still at hand: kept by us, in a slot, or by apt. Named and opened, so that a
/// file of another version or a torn one is not taken for it.
fn original(paths: &Paths, version: &str) -> Option<PathBuf> {
    let places = [paths.debs(), slot::folder(paths, version).join("debs"), paths.apt_archives()];
    places.iter().flat_map(|folder| list(folder).unwrap_or_default()).find(|file| {
        let named = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("smolotchi_"));
        named && Deb::<Untrusted>::open(file).is_ok_and(|deb| deb.package() == PACKAGE && deb.version() == version)
    })
}

/// For root alone, but for one thing: the database's user must get through to its inbox. What lies in there is 0600 (the
/// snapshot) or no secret (packages).
fn reachable(folder: &Path) -> Result<()> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711))
        .map_err(|error| Fault::io("could not set a folder's mode", folder, &error))
}
