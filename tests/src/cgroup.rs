//! The control groups of a lab: one per node, in the unified hierarchy, so that a node can be frozen and killed whole.
//!
//! Works on hosts with the unified hierarchy alone (`/sys/fs/cgroup`) and beside the old controllers
//! (`/sys/fs/cgroup/unified`). Groups are the only thing that outlives a killed supervisor; [`Group::remove`] takes them.

use crate::{fault, wait_until};
use smolotchi_operator::{Code, Fault, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the unified hierarchy is mounted.
pub(crate) fn hierarchy() -> Result<PathBuf> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .iter()
        .map(PathBuf::from)
        .find(|folder| folder.join("cgroup.controllers").exists())
        .ok_or_else(|| fault("this host has no unified cgroup hierarchy").fact("looked_at", "/sys/fs/cgroup, /sys/fs/cgroup/unified"))
}

/// One lab's or one node's group.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Relative to the root of a hierarchy.
    relative: PathBuf,
    path: PathBuf,
}

impl Group {
    /// The group of a whole lab.
    pub(crate) fn of_lab(name: &str) -> Result<Self> {
        let relative = PathBuf::from(format!("smolotchi-lab-{name}"));
        Ok(Group { path: hierarchy()?.join(&relative), relative })
    }

    /// The group of one node of this lab.
    pub(crate) fn node(&self, index: u32) -> Self {
        let name = format!("node{index}");
        Group { path: self.path.join(&name), relative: self.relative.join(&name) }
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it, empty of what an earlier boot left.
    pub(crate) fn create(&self) -> Result<()> {
        self.remove()?;
        let folder = self.of_commands();
        std::fs::create_dir_all(&folder).map_err(|error| Fault::io("could not make a control group", &folder, &error))
    }

    /// The group that commands from outside enter first, beside those of nspawn and the node's own.
    pub(crate) fn of_commands(&self) -> PathBuf {
        self.path.join("commands")
    }

    /// Stops every process in it where it stands, and waits until all stand.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.write("cgroup.freeze", "1")?;
        wait_until("the node is frozen", Duration::from_secs(20), || Ok(self.event("frozen")? == Some(true)))
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.write("cgroup.freeze", "0")
    }

    /// Kills every process in it, frozen or not.
    pub(crate) fn kill(&self) -> Result<()> {
        self.write("cgroup.kill", "1")
    }

    /// True while a process is in it or below.
    pub(crate) fn populated(&self) -> Result<bool> {
        Ok(self.event("populated")? == Some(true))
    }

    /// Removes it with all below, in every hierarchy of the host. Waits a moment for the last processes to leave.
    pub(crate) fn remove(&self) -> Result<()> {
        let roots: Vec<PathBuf> = std::fs::read_dir("/sys/fs/cgroup")
            .map(|entries| entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
            .unwrap_or_default();
        for root in roots.iter().map(PathBuf::as_path).chain([Path::new("/sys/fs/cgroup")]) {
            let folder = root.join(&self.relative);
            if folder.exists() {
                let mut last = None;
                wait_until("a control group is empty", Duration::from_secs(20), || {
                    last = remove_tree(&folder).err();
                    Ok(last.is_none())
                })
                .map_err(|fault| last.map_or(fault.clone(), |error| fault.fact("path", folder.display().to_string()).cause(&error)))?;
            }
        }
        Ok(())
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.path.join(file);
        std::fs::write(&path, text).map_err(|error| Fault::io("could not write to a control group", &path, &error))
    }

    /// One line of cgroup.events; nothing when the group is gone.
    fn event(&self, name: &str) -> Result<Option<bool>> {
        let path = self.path.join("cgroup.events");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim() == "1")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(Fault::new(Code::Io, "could not read a control group").fact("path", path.display().to_string()).cause(&error))
            }
        }
    }
}

/// Removes folders only: the files of a control group can't be unlinked and go with it.
fn remove_tree(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
