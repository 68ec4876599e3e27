//! Where things are on a node, in one place. `--root` moves all of it below a folder, for development and tests.

use std::path::{Path, PathBuf};

/// The folder of the sockets that one user each may connect to.
pub(crate) const CALLERS: &str = "callers";

/// The places that this program reads or writes; none is created by naming it.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The paths of a node (`None`), or the same below another root.
    pub(crate) fn new(root: Option<&Path>) -> Self {
        let root = root.unwrap_or(Path::new("/"));
        Paths { root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()) }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The folder of core's state; its owner is the database's user.
    pub(crate) fn state(&self) -> PathBuf {
        self.at("var/lib/smolotchi")
    }

    /// The database.
    pub(crate) fn database(&self) -> PathBuf {
        self.at("var/lib/smolotchi/smolotchi.db")
    }

    /// The content of artifacts.
    pub(crate) fn artifacts(&self) -> PathBuf {
        self.at("var/lib/smolotchi/artifacts")
    }

    /// Core's API socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.at("run/smolotchi/core.sock")
    }

    /// Core's API socket for one user, who is known by it (`smolotchi-caller@.socket`).
    pub(crate) fn caller(&self, user: &str) -> PathBuf {
        self.at("run/smolotchi").join(CALLERS).join(user)
    }

    /// Where a service with a capability is asked, while the operator has it on.
    pub(crate) fn power_socket(&self, name: &str) -> PathBuf {
        self.at(&format!("run/smolotchi/{name}.sock"))
    }

    /// What a link had before it was taken down, for as long as that is not put back.
    pub(crate) fn net_note(&self) -> PathBuf {
        self.at("run/smolotchi/net/restart.json")
    }

    /// Core's heartbeat.
    pub(crate) fn heartbeat(&self) -> PathBuf {
        self.at("run/smolotchi/core/heartbeat.json")
    }

    /// The operator's settings; on the same file system as `/`.
    pub(crate) fn settings(&self) -> PathBuf {
        self.at("etc/smolotchi")
    }

    /// Folders of configuration fragments, lowest precedence first.
    pub(crate) fn config_folders(&self) -> [PathBuf; 3] {
        [self.at("usr/lib/smolotchi/config.d"), self.at("run/smolotchi/config.d"), self.at("etc/smolotchi/config.d")]
    }

    /// Folders of profiles: shipped ones, then the operator's.
    pub(crate) fn profile_folders(&self) -> [PathBuf; 2] {
        [self.at("usr/lib/smolotchi/profiles"), self.at("etc/smolotchi/profiles")]
    }

    /// What the installer tells everybody about the last change and the kept releases.
    pub(crate) fn install_status(&self) -> PathBuf {
        self.at("var/lib/smolotchi-install/status.json")
    }

    /// The list of users that sysusers writes.
    pub(crate) fn passwd(&self) -> PathBuf {
        self.at("etc/passwd")
    }

    /// There when systemd is process 1 (sd_booted(3)).
    pub(crate) fn systemd_runs(&self) -> PathBuf {
        self.at("run/systemd/system")
    }

    /// The kernel's view of processes and memory.
    pub(crate) fn proc(&self) -> PathBuf {
        self.at("proc")
    }

    /// The system's D-Bus.
    pub(crate) fn bus(&self) -> PathBuf {
        self.at("run/dbus/system_bus_socket")
    }

    /// What systemd-timesyncd leaves while it runs.
    pub(crate) fn timesync(&self) -> PathBuf {
        self.at("run/systemd/timesync")
    }

    /// The kernel's view of devices.
    pub(crate) fn sys(&self) -> PathBuf {
        self.at("sys")
    }

    /// The root that everything is below.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}
