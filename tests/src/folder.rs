//! Where a lab keeps what it needs: one folder per lab under `/var/lib/smolotchi-lab`, one lock under `/run/lock`.

use crate::fault;
use rustix::fs::FlockOperation;
use smolotchi_operator::{Code, Fault, Result};
use std::fs::File;
use std::path::{Path, PathBuf};

const LABS: &str = "/var/lib/smolotchi-lab";
const LOCKS: &str = "/run/lock/smolotchi-lab";

/// The folder of one lab.
#[derive(Debug, Clone)]
pub struct Folder {
    name: String,
    path: PathBuf,
}

impl Folder {
    /// The folder of the lab of this name, whether it is there or not. The name becomes part of paths and group names.
    pub fn of(name: &str) -> Result<Self> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 40 || !name.chars().all(good) || name.starts_with('-') {
            return Err(Fault::new(Code::Usage, format!("{name:?} can't be the name of a lab"))
                .hint("1 to 40 lower-case letters, digits and hyphens"));
        }
        Ok(Folder { name: name.to_owned(), path: Path::new(LABS).join(name) })
    }

    /// The names of all labs that have a folder, sorted.
    pub fn all() -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(LABS)
            .map(|entries| entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration for ssh that knows the nodes by name.
    pub fn ssh_config(&self) -> PathBuf {
        self.path.join("ssh_config")
    }

    /// The Ansible inventory.
    pub fn inventory(&self) -> PathBuf {
        self.path.join("inventory.yml")
    }

    /// What the supervisor said.
    pub fn log(&self) -> PathBuf {
        self.path.join("supervisor.log")
    }

    /// What a node's console showed.
    pub fn console(&self, index: u32) -> PathBuf {
        self.node(index).join("console.log")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.path.join("id_ed25519")
    }

    pub(crate) fn plan(&self) -> PathBuf {
        self.path.join("plan.json")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    pub(crate) fn node(&self, index: u32) -> PathBuf {
        self.path.join(format!("nodes/{index}"))
    }

    /// Takes the lab's lock without waiting; nothing when a lab of this name runs. The lock lives as long as any process
    /// that has the file open: it is handed to the supervisor.
    pub(crate) fn lock(&self) -> Result<Option<File>> {
        let path = Path::new(LOCKS).join(&self.name);
        lock(&path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Removes the folder with all in it.
    pub(crate) fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Fault::io("could not remove the lab's folder", &self.path, &error))
            }
            _ => Ok(()),
        }
    }
}

/// Opens, makes and locks a file; nothing when a lock that must not wait is held by another.
pub(crate) fn lock(path: &Path, operation: FlockOperation) -> Result<Option<File>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Fault::io("could not make a folder", folder, &error))?;
    }
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| Fault::io("could not open a lock", path, &error))?;
    match rustix::fs::flock(&file, operation) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(fault("could not take a lock").fact("path", path.display().to_string()).cause(&error)),
    }
}
