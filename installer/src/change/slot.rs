//! The slots on this machine: which there are, which one to go back to, and which may go.
//!
//! A slot is made complete under a hidden name and renamed (`tasks::save_slot`), so what is listed here was whole once;
//! before it is used, every file is hashed.

use crate::fault::OrFault;
use crate::paths::Paths;
use crate::settings::SlotSettings;
use serde::{Deserialize, Serialize};
use smolotchi_operator::{Code, Fault, Result, log};
use smolotchi_release::{Origin, SlotManifest, slot};
use std::path::PathBuf;

/// A slot in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The release that it goes back to.
    pub version: String,
    /// Schema of its database snapshot.
    pub schema: Option<u32>,
    /// When it was kept, by the wall clock.
    pub created_at: String,
}

/// The folder of a version's slot.
pub fn folder(paths: &Paths, version: &str) -> PathBuf {
    paths.slots().join(version)
}

/// All readable slots, newest first. An unreadable one is said and passed over.
pub fn all(paths: &Paths) -> Result<Vec<Summary>> {
    let mut slots = Vec::new();
    for folder in super::list(&paths.slots())? {
        if folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        match std::fs::read(folder.join(slot::FILE))
            .map_err(|error| error.to_string())
            .and_then(|bytes| SlotManifest::parse(&bytes).map_err(|error| error.to_string()))
        {
            Ok(slot) => slots.push(slot),
            Err(error) => log::warning(Code::SlotDamaged, format!("{}: {error}", folder.display())),
        }
    }
    // Not by time: a machine without a clock battery may have been in January when it made the newer one.
    slots.sort_by(|a, b| b.number.cmp(&a.number).then_with(|| b.created_at.cmp(&a.created_at)));
    Ok(slots
        .into_iter()
        .map(|slot| Summary { version: slot.version, schema: slot.schema, created_at: slot.created_at.to_string() })
        .collect())
}

/// The number that the next slot gets.
pub fn next_number(paths: &Paths) -> Result<u64> {
    let numbers = super::list(&paths.slots())?
        .into_iter()
        .filter_map(|folder| SlotManifest::parse(&std::fs::read(folder.join(slot::FILE)).ok()?).ok()?.number);
    Ok(numbers.max().unwrap_or(0) + 1)
}

/// What a version's slot says of where a package came from; none if it knows no such file.
pub fn origin(paths: &Paths, version: &str, sha256: &str) -> Option<Origin> {
    let slot = SlotManifest::parse(&std::fs::read(folder(paths, version).join(slot::FILE)).ok()?).ok()?;
    slot.debs.iter().find(|deb| deb.sha256 == sha256).map(|deb| deb.origin)
}

/// The version that a rollback without a named version goes to: the newest slot that is neither what runs nor blocked.
pub fn default_target<'a>(slots: &'a [Summary], installed: &str, blocked: &[(String, String)]) -> Option<&'a str> {
    slots
        .iter()
        .map(|slot| slot.version.as_str())
        .find(|version| *version != installed && !blocked.iter().any(|(blocked, _)| blocked == version))
}

/// Reads a slot and hashes its packages. The snapshot isn't needed to go back, so damage there doesn't stand in the way.
pub fn verified(paths: &Paths, version: &str) -> Result<SlotManifest> {
    let folder = folder(paths, version);
    let path = folder.join(slot::FILE);
    let bytes = std::fs::read(&path)
        .map_err(|error| Fault::new(Code::SlotDamaged, "a slot can't be read").fact("path", path.display().to_string()).cause(&error))?;
    let slot = SlotManifest { snapshot: None, ..SlotManifest::parse(&bytes).or_fault()? };
    slot.check_files(&folder).or_fault()?;
    Ok(slot)
}

/// Removes the oldest slots beyond the limits, in number and in bytes; those of `needed` versions always stay, and so does
/// the newest one that isn't `blocked`.
pub fn collect(paths: &Paths, limits: SlotSettings, needed: &[&str], blocked: &[&str]) -> Result<()> {
    let slots = all(paths)?;
    let newest = slots.iter().map(|slot| slot.version.as_str()).find(|version| !blocked.contains(version));
    let (stay, spare): (Vec<&Summary>, Vec<&Summary>) =
        slots.iter().partition(|slot| needed.contains(&slot.version.as_str()) || newest == Some(slot.version.as_str()));
    let bytes = |slot: &Summary| bytes_below(&folder(paths, &slot.version));
    let (mut count, mut taken) = (stay.len(), stay.into_iter().map(bytes).sum::<u64>());
    for slot in spare {
        let size = bytes(slot);
        if count < limits.keep && taken + size <= limits.max_bytes {
            count += 1;
            taken += size;
            continue;
        }
        super::remove_tree(&folder(paths, &slot.version))?;
        log::notice(format!("slot {} removed: {} or {} bytes are kept", slot.version, limits.keep, limits.max_bytes));
    }
    Ok(())
}

/// Sizes of all files below a folder.
fn bytes_below(folder: &std::path::Path) -> u64 {
    let entries = super::list(folder).unwrap_or_default();
    let size = |path: PathBuf| match std::fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => bytes_below(&path),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.into_iter().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_never_goes_to_what_runs_or_is_blocked() {
        let slots: Vec<Summary> = ["0.3.0", "0.2.0", "0.1.0"]
            .iter()
            .map(|version| Summary { version: (*version).into(), schema: None, created_at: String::new() })
            .collect();
        let blocked = [("0.3.0".to_owned(), "crashed".to_owned())];
        for (installed, blocked, expected) in
            [("0.4.0", &blocked[..0], Some("0.3.0")), ("0.4.0", &blocked[..], Some("0.2.0")), ("0.2.0", &blocked[..], Some("0.1.0"))]
        {
            assert_eq!(default_target(&slots, installed, blocked), expected);
        }
        assert_eq!(default_target(&slots[2..], "0.1.0", &[]), None);
    }

    #[test]
    fn the_oldest_go_first_and_the_needed_stay() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        for (number, version, at) in
            [(1, "0.1.0", "2026-03-01T00:00:00Z"), (2, "0.2.0", "2026-01-02T00:00:00Z"), (3, "0.3.0", "2026-01-01T00:00:00Z")]
        {
            let folder = folder(&paths, version);
            std::fs::create_dir_all(&folder).unwrap();
            let slot = format!(
                "kind = \"{}\"\nnumber = {number}\nversion = \"{version}\"\ncreated_at = \"{at}\"\n[[deb]]\npackage = \"smolotchi\"\nversion = \"{version}\"\n\
                 architecture = \"arm64\"\nfile = \"a.deb\"\nsize = 1\nsha256 = \"{}\"\norigin = \"original\"\n",
                slot::KIND,
                "00".repeat(32)
            );
            std::fs::write(folder.join(slot::FILE), slot).unwrap();
        }
        let left = |paths: &Paths| all(paths).unwrap().into_iter().map(|slot| slot.version).collect::<Vec<_>>();
        assert_eq!(left(&paths), ["0.3.0", "0.2.0", "0.1.0"]);
        let limits = |keep, max_bytes| SlotSettings { keep, max_bytes };
        collect(&paths, limits(9, 9_999), &["0.1.0"], &[]).unwrap();
        assert_eq!(left(&paths), ["0.3.0", "0.2.0", "0.1.0"]);
        collect(&paths, limits(2, 9_999), &["0.1.0"], &["0.3.0"]).unwrap();
        assert_eq!(left(&paths), ["0.2.0", "0.1.0"], "the newest good one and the needed one");
        let too_little_for_two = 2 * bytes_below(&folder(&paths, "0.2.0")) - 1;
        collect(&paths, limits(9, too_little_for_two), &["0.1.0"], &[]).unwrap();
        assert_eq!(left(&paths), ["0.2.0", "0.1.0"], "what must stay may be too big");
        collect(&paths, limits(9, too_little_for_two), &[], &[]).unwrap();
        assert_eq!(left(&paths), ["0.2.0"], "the oldest one goes");
    }
}
