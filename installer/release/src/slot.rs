//! The slot: a release that can be gone back to, in one folder: `slot.toml`, `debs/`, `smolotchi.db`. The contract between versions
//! of the installer, so its format outlives them: what a newer one adds is passed over by an older one. Written and read by the installer as root; hashed, not signed.

use crate::manifest::Health;
use crate::{ErrorKind, ReleaseError, Result, document, hash, sha256_file, tree, version};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use std::path::Path;

/// The slot's kind and format.
pub const KIND: &str = "smolotchi/slot/1";
/// Its file's name.
pub const FILE: &str = "slot.toml";

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotManifest {
    /// Always [`KIND`].
    pub kind: String,
    /// The release that it goes back to.
    pub version: String,
    /// Counts the slots of this machine, whose clock may have been wrong: the highest is the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// When it was saved, by this machine's clock.
    pub created_at: Timestamp,
    /// Since when that release was known to be healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_since: Option<Timestamp>,
    /// Of the database when it was saved; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<u32>,
    /// What must be healthy once it runs again.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "health")]
    pub health: Option<Health>,
    /// A consistent copy of the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// The packages, in `debs/`.
    #[serde(rename = "deb")]
    pub debs: Vec<SlotDeb>,
}

/// A consistent copy of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name in the slot's folder.
    pub file: String,
    /// In bytes.
    pub size: u64,
    /// 64 lower-case hex digits.
    pub sha256: String,
}

/// One package of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotDeb {
    /// The package's name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// A Debian architecture, or `all`.
    pub architecture: String,
    /// Its name in the slot's `debs/`.
    pub file: String,
    /// In bytes.
    pub size: u64,
    /// 64 lower-case hex digits.
    pub sha256: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a slot's package comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The very file that was installed.
    Original,
    /// Rebuilt from the installed files, because the original wasn't at hand.
    Rebuilt,
}

impl SlotManifest {
    /// Reads and checks a slot.toml.
    pub fn parse(bytes: &[u8]) -> Result<SlotManifest> {
        let slot: SlotManifest = document::parse(bytes, ErrorKind::SlotDamaged, "slot.toml")?;
        slot.check()?;
        Ok(slot)
    }

    /// Its form on disk.
    pub fn to_toml(&self) -> Result<String> {
        self.check()?;
        document::write(self, ErrorKind::SlotDamaged, "slot.toml")
    }

    /// Reads the slot in a folder and hashes every file that it names. After it the slot can be gone back to.
    pub fn verify_in(folder: &Path) -> Result<SlotManifest> {
        let path = folder.join(FILE);
        let bytes = std::fs::read(&path).map_err(|error| damaged("could not read slot.toml").path(&path).caused(error))?;
        let slot = Self::parse(&bytes).map_err(|error| error.path(&path))?;
        slot.check_files(folder)?;
        Ok(slot)
    }

    /// Hashes every file that it names, in a folder.
    pub fn check_files(&self, folder: &Path) -> Result<()> {
        let debs = self.debs.iter().map(|deb| (folder.join("debs").join(&deb.file), deb.size, &deb.sha256));
        let snapshot = self.snapshot.iter().map(|snapshot| (folder.join(&snapshot.file), snapshot.size, &snapshot.sha256));
        for (path, size, sha256) in debs.chain(snapshot) {
            let (found, length) =
                sha256_file(&path).map_err(|error| damaged("could not read a file of the slot").path(&path).caused(error))?;
            if length != size {
                return Err(damaged("a file of the slot has another size").path(&path).differs(size, length));
            }
            if found != *sha256 {
                return Err(damaged("a file of the slot has other content").path(&path).differs(sha256, found));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.kind != KIND {
            return Err(damaged("slot.toml is of another kind or a later format").differs(KIND, &self.kind));
        }
        if !version::is_release_version(&self.version) {
            return Err(damaged("slot.toml has an impossible version").fact("found", &self.version));
        }
        if let Some(health) = &self.health {
            health.check(ErrorKind::SlotDamaged)?;
        }
        if self.debs.is_empty() {
            return Err(damaged("slot.toml names no packages"));
        }
        for deb in &self.debs {
            let good = tree::is_package_name(&deb.package)
                && tree::is_architecture(&deb.architecture)
                && !deb.version.is_empty()
                && tree::is_file_name(&deb.file)
                && hash::is_sha256(&deb.sha256);
            if !good {
                return Err(damaged("slot.toml has an impossible entry for a package").fact("package", &deb.package));
            }
        }
        if self.snapshot.as_ref().is_some_and(|snapshot| !tree::is_file_name(&snapshot.file) || !hash::is_sha256(&snapshot.sha256)) {
            return Err(damaged("slot.toml has an impossible entry for the snapshot"));
        }
        Ok(())
    }
}

/// In a signed document a field that isn't known is refused; in our own state it comes from a newer installer.
pub fn health_kindly<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Health, D::Error> {
    #[derive(Deserialize)]
    struct Kindly {
        units: Vec<String>,
        heartbeat: String,
        prove: String,
    }
    let Kindly { units, heartbeat, prove } = Kindly::deserialize(from)?;
    Ok(Health { units, heartbeat, prove })
}

fn health<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Health>, D::Error> {
    health_kindly(from).map(Some)
}

fn damaged(what: &str) -> ReleaseError {
    ReleaseError::new(ErrorKind::SlotDamaged, what)
}
