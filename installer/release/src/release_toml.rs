//! `/usr/lib/smolotchi/release.toml`: what an installed release says of itself. Printed by the agent at packaging time, read by the
//! release maker (into the manifest) and by the health gate.

use crate::manifest::{Health, Schema};
use crate::{ErrorKind, ReleaseError, Result, document, version};
use serde::{Deserialize, Serialize};

/// Where it stands on a node.
pub const PATH: &str = "/usr/lib/smolotchi/release.toml";

/// A release's own description. Unlike signed documents it may hold keys that this version doesn't know: an older installer must
/// still be able to watch a newer release that apt brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseToml {
    /// The release's version.
    pub version: String,
    /// Of its database.
    pub schema: Schema,
    /// What must be healthy once it runs.
    pub health: Health,
}

impl ReleaseToml {
    /// Reads and checks it.
    pub fn parse(bytes: &[u8]) -> Result<ReleaseToml> {
        let release: ReleaseToml = document::parse(bytes, ErrorKind::ReleaseTomlInvalid, "release.toml")?;
        release.check()?;
        Ok(release)
    }

    /// Its form on disk.
    pub fn to_toml(&self) -> Result<String> {
        self.check()?;
        document::write(self, ErrorKind::ReleaseTomlInvalid, "release.toml")
    }

    fn check(&self) -> Result<()> {
        if !version::is_release_version(&self.version) {
            return Err(
                ReleaseError::new(ErrorKind::ReleaseTomlInvalid, "release.toml has an impossible version").fact("found", &self.version)
            );
        }
        self.health.check(ErrorKind::ReleaseTomlInvalid)
    }
}
