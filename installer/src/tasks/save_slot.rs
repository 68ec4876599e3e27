//! Task: keep the running version, so that going back needs nothing but this machine.
//!
//! Does: a complete slot for the plan's `from`, under a hidden name, then renamed. Undo: none needed, a slot harms
//! nothing. Again: makes it anew, because rows may have come since.

use crate::change::{list, make_folder, reachable, remove_tree, slot};
use crate::fault::OrFault;
use crate::host::{agent, clock, repack};
use crate::paths::Paths;
use crate::plan::Plan;
use smolotchi_operator::{Code, Fault, Result, durable, log};
use smolotchi_release::{Deb, Origin, ReleaseToml, SlotDeb, SlotManifest, Snapshot, Untrusted, sha256_file};
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
        // Made durable together with the next one: a cut in between finds neither, and then nothing else was touched yet.
        std::fs::rename(&target, &old).map_err(|error| Fault::io("could not put the slot before aside", &target, &error))?;
    }
    durable::rename(&staged, &target)?;
    remove_tree(&old)?;
    log::notice(format!("slot {from} is saved"));
    Ok(())
}

fn fill(paths: &Paths, from: &str, staged: &Path, debs: &Path, release: Option<ReleaseToml>, snapshots: Snapshots) -> Result<()> {
    let deb = match original(paths, from) {
        Some((source, deb)) => {
            let kept = debs.join(&deb.file);
            if source.starts_with(paths.apt_archives()) {
                // apt itself only renames and deletes there, but others copy packages over what lies there (apt-offline, an
                // operator's cp): with a second name that would reach into the slot.
                durable::copy(&source, &kept, 0o644)?;
            } else {
                // What we keep is never written again, so a second name is as good as a copy, and free.
                durable::link(&source, &kept)?;
            }
            deb
        }
        None => rebuilt(paths, from, debs)?,
    };

    // The snapshot's folder belongs to the database's user while it is made; nothing of ours is in there then.
    let inbox = staged.join("inbox");
    make_folder(&inbox)?;
    reachable(staged)?;
    let schema = match (agent::snapshot(paths, &inbox, SNAPSHOT), snapshots) {
        (Err(fault), Snapshots::Should) => {
            log::fault(&fault);
            None
        }
        (made, _) => made?,
    };
    let snapshot = if schema.is_some() {
        let file = staged.join(SNAPSHOT);
        std::fs::rename(inbox.join(SNAPSHOT), &file).map_err(|error| Fault::io("could not take the snapshot over", &file, &error))?;
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
        schema,
        health: release.map(|release| release.health),
        snapshot,
        debs: vec![deb],
    };
    // This also syncs `staged`, with every name that was made in it.
    durable::sync_folder(debs)?;
    durable::replace(&staged.join(smolotchi_release::slot::FILE), manifest.to_toml().or_fault()?.as_bytes(), 0o644)
}

/// The file that was installed, if it is still at hand: kept by us, in a slot, or by apt. Named and opened, so that a
/// file of another version or a torn one is not taken for it.
fn original(paths: &Paths, version: &str) -> Option<(PathBuf, SlotDeb)> {
    let places = [paths.debs(), slot::folder(paths, version).join("debs"), paths.apt_archives()];
    let files = places.iter().flat_map(|folder| list(folder).unwrap_or_default());
    let named = files.filter(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("smolotchi_")));
    named.filter_map(|file| entry(&file).map(|deb| (file, deb))).find(|(_, deb)| deb.package == PACKAGE && deb.version == version).map(
        |(file, deb)| {
            let origin = slot::origin(paths, version, &deb.sha256).unwrap_or(deb.origin);
            (file, SlotDeb { origin, ..deb })
        },
    )
}

/// The package rebuilt from the installed files.
fn rebuilt(paths: &Paths, version: &str, debs: &Path) -> Result<SlotDeb> {
    let file = repack::repack(paths, PACKAGE, debs)?;
    match entry(&file) {
        Some(deb) if deb.package == PACKAGE && deb.version == version => Ok(SlotDeb { origin: Origin::Rebuilt, ..deb }),
        _ => Err(Fault::new(Code::SlotDamaged, "the package that was rebuilt from the installed files is not the one that is installed")
            .fact("path", file.display().to_string())
            .fact("version", version)),
    }
}

/// A package file as a slot's entry; read once, whole. None: it can't be read.
fn entry(file: &Path) -> Option<SlotDeb> {
    let deb = Deb::<Untrusted>::open(file).ok()?;
    Some(SlotDeb {
        package: deb.package().to_owned(),
        version: deb.version().to_owned(),
        architecture: deb.architecture().to_owned(),
        file: file.file_name()?.to_string_lossy().into_owned(),
        size: deb.size(),
        sha256: deb.sha256().to_owned(),
        origin: Origin::Original,
    })
}
