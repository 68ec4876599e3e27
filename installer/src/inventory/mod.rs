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

    /// The operator wants it to stay as it is (`apt-mark hold`).
    pub fn is_held(&self) -> bool {
        self.state.starts_with('h')
    }

    /// Some files or scripts of it are on the machine (anything but "not installed" and "config files only").
    pub fn is_present(&self) -> bool {
        !matches!(self.state.get(1..2), Some("n" | "c") | None)
    }
}

/// Whether the undo of the migrations holds, as a rehearsal saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// Up, down and up again gave the same.
    Proven,
    /// A migration has none.
    Impossible,
    /// The schema stays, or goes down itself.
    NotNeeded,
    /// A word of a newer release.
    #[serde(other)]
    Unknown,
}

/// One step of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RehearsedMigration {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// `up` or `down`.
    pub direction: String,
    /// Whether it can be undone.
    pub reversible: bool,
    /// Rows that it changed on this machine's own data.
    pub rows: u64,
}

/// What the target release's own binary measured on a copy of this machine's database (`smolotchi maint rehearse`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// Schema of the copy before.
    pub from: u32,
    /// Schema of the target release.
    pub to: u32,
    /// The steps between, in order.
    pub migrations: Vec<RehearsedMigration>,
    /// Whether they can be undone.
    pub undo: Undo,
    /// Milliseconds that going there took.
    pub duration_ms: u64,
    /// Milliseconds that going back took.
    pub undo_ms: u64,
    /// Size of the copy before.
    pub bytes_before: u64,
    /// Size of the copy after.
    pub bytes_after: u64,
}

impl Rehearsal {
    /// The steps that can't be undone.
    pub fn irreversible(&self) -> impl Iterator<Item = &RehearsedMigration> {
        self.migrations.iter().filter(|step| step.direction == "up" && !step.reversible)
    }
}

/// Everything that a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// dpkg's name of this machine's architecture.
    pub architecture: String,
    /// Our packages that dpkg knows.
    pub packages: Vec<Package>,
    /// The features of its processor, as the kernel names them; empty: it doesn't tell.
    pub cpu: Vec<String>,
    /// Milliseconds that looking at this machine took: how quickly it starts small programs at present, load included.
    pub pace_ms: u64,
    /// The version of the installed C library, if it is GNU's.
    pub libc: Option<String>,
    /// The schema that the installed release migrates to; none: not installed, or older than release.toml.
    pub schema: Option<u32>,
    /// Bytes free for the installer's state and the packages' files.
    pub disk_free: u64,
    /// Inodes free there; none: the file system doesn't count them.
    pub inodes_free: Option<u64>,
    /// Bytes of memory that are available without swapping.
    pub memory_free: u64,
    /// Why nothing can be written where it has to be, if so; none: it can, or only root can tell.
    pub unwritable: Option<String>,
    /// Size of the agent's database with its write-ahead log; none: there is no database.
    pub database_bytes: Option<u64>,
    /// What is wrong with the database, as far as the installed agent was asked.
    pub database_damage: Option<String>,
    /// What the rehearsal measured.
    pub rehearsal: Option<Rehearsal>,
    /// Why there was no rehearsal; empty when there was one.
    pub unrehearsed: String,
    /// Milliseconds that core took for its last start.
    pub core_start_ms: Option<u64>,
    /// What `dpkg --audit` complains about; empty when all is well.
    pub dpkg_audit: String,
    /// dpkg was interrupted and has not yet looked at what it was doing.
    pub dpkg_interrupted: bool,
    /// Files that tell dpkg not to sync what it unpacks.
    pub unsafe_io: Vec<String>,
    /// Versions that may not be installed here, with the reason.
    pub blocked: Vec<(String, String)>,
    /// Versions that the operator doesn't want, with the reason.
    pub skipped: Vec<(String, String)>,
    /// Why no version may come at all, if the operator said so.
    pub paused: Option<String>,
    /// Why no version may come at this hour.
    pub closed: Option<String>,
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
