//! Where the installer keeps its things. One place; everything else asks it.

use std::path::{Path, PathBuf};

/// The paths of a machine, below `root` (`/` but in tests).
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The paths below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Paths { root: root.into() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Everything that the installer remembers.
    pub fn state(&self) -> PathBuf {
        self.at("var/lib/smolotchi-install")
    }

    /// All changes, one folder each.
    pub fn changes(&self) -> PathBuf {
        self.state().join("changes")
    }

    /// The symbolic link to the open change; absent when there is none. systemd looks at it too.
    pub fn open(&self) -> PathBuf {
        self.state().join("open")
    }

    /// In its place when the open change could not be carried on.
    pub fn set_aside(&self) -> PathBuf {
        self.state().join("set-aside")
    }

    /// There while the healer mends packages: after a second power cut it looks at the others' too.
    pub fn healing(&self) -> PathBuf {
        self.state().join("healing")
    }

    /// All slots, one folder for each version.
    pub fn slots(&self) -> PathBuf {
        self.state().join("slots")
    }

    /// The packages of the version that runs.
    pub fn debs(&self) -> PathBuf {
        self.state().join("debs")
    }

    /// Blocked and skipped versions, a pause, and the highest channel sequences seen.
    pub fn memory(&self) -> PathBuf {
        self.state().join("state.toml")
    }

    /// What others (the web page, monitoring) may read.
    pub fn status(&self) -> PathBuf {
        self.state().join("status.json")
    }

    /// Held while a change is planned and opened.
    pub fn plan_lock(&self) -> PathBuf {
        self.at("run/smolotchi-install.plan.lock")
    }

    /// Held by the one process that carries a change on.
    pub fn executor_lock(&self) -> PathBuf {
        self.at("run/smolotchi-install.executor.lock")
    }

    /// Held while `state.toml` and the pins are changed.
    pub fn memory_lock(&self) -> PathBuf {
        self.at("run/smolotchi-install.state.lock")
    }

    /// Held by the one rehearsal.
    pub fn rehearsal_lock(&self) -> PathBuf {
        self.at("run/smolotchi-install.rehearsal.lock")
    }

    /// Where a rehearsal has its copy of the database; gone afterwards.
    pub fn rehearsal(&self) -> PathBuf {
        self.state().join("rehearsal")
    }

    /// The pin that keeps blocked versions out of apt's sight.
    pub fn apt_pin(&self) -> PathBuf {
        self.at("etc/apt/preferences.d/smolotchi-blocked")
    }

    /// The operator's settings.
    pub fn settings(&self) -> PathBuf {
        self.at("etc/smolotchi-install/config.d")
    }

    /// The folders of minisign keys that may sign releases: the keyring package's, the operator's.
    pub fn trust(&self) -> [PathBuf; 2] {
        [self.at("usr/share/smolotchi-archive-keyring"), self.at("etc/smolotchi-install/trust.d")]
    }

    /// What the installed release says of itself.
    pub fn release_toml(&self) -> PathBuf {
        self.at("usr/lib/smolotchi/release.toml")
    }

    /// The agent's binary.
    pub fn agent(&self) -> PathBuf {
        self.at("usr/bin/smolotchi")
    }

    /// The agent's database.
    pub fn database(&self) -> PathBuf {
        self.at("var/lib/smolotchi/smolotchi.db")
    }

    /// dpkg's folder.
    pub fn dpkg(&self) -> PathBuf {
        self.at("var/lib/dpkg")
    }

    /// Where apt keeps what it downloaded.
    pub fn apt_archives(&self) -> PathBuf {
        self.at("var/cache/apt/archives")
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Default for Paths {
    fn default() -> Self {
        Paths::new("/")
    }
}
