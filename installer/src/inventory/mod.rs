//! What this machine is and has, as values. Gathered by `host`, judged by `plan`; nothing here looks at anything.

use serde::{Deserialize, Serialize};

/// One package as dpkg knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// `smolotchi`, `smolotchi-install`, …
    pub name: String,
    /// The version that dpkg has on record.
    pub version: String,
    /// dpkg's three-letter state, for example `ii `, `iU `, `iF `, `iHR`.
    pub state: String,
}

impl Package {
    /// Unpacked and configured, whatever is wanted of it (installed or held), and no reinstallation required.
    pub fn is_whole(&self) -> bool {
        self.state.get(1..).map(str::trim_end) == Some("i")
    }

    /// Some files or scripts of it are on the machine (anything but "not installed" and "config files only").
    pub fn is_present(&self) -> bool {
        !matches!(self.state.get(1..2), Some("n" | "c") | None)
    }
}

/// Everything that a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// dpkg's name of this machine's architecture.
    pub architecture: String,
    /// Our packages that dpkg knows.
    pub packages: Vec<Package>,
    /// The schema that the installed release migrates to; none: not installed, or older than release.toml.
    pub schema: Option<u32>,
    /// Bytes free for the installer's state and the packages' files.
    pub disk_free: u64,
    /// Size of the agent's database with its write-ahead log; none: there is no database.
    pub database_bytes: Option<u64>,
    /// What `dpkg --audit` complains about; empty when all is well.
    pub dpkg_audit: String,
    /// Versions that may not be installed here, with the reason.
    pub blocked: Vec<(String, String)>,
    /// Units of the installed release that should be healthy and aren't active now, before anything was done.
    pub down: Vec<String>,
    /// An open change, if any.
    pub open_change: Option<String>,
}

impl Inventory {
    /// The package `name` if it is on the machine.
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name && package.is_present())
    }

    /// The installed version of the agent.
    pub fn installed(&self) -> Option<&str> {
        self.package("smolotchi").map(|package| package.version.as_str())
    }
}
