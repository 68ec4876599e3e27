//! The folder inside a tree where everything is made before it is renamed into place. Its existence is also the lock: two publications
//! into one tree would make two channels of the same sequence number.

use super::fault::{input, make_folder};
use smolotchi_operator::{Fault, Result};
use std::path::{Path, PathBuf};

const NAME: &str = ".publishing";

/// The staging folder; removed when dropped.
pub(crate) struct Staging(PathBuf);

impl Staging {
    /// Makes it in a tree.
    pub(crate) fn begin(tree: &Path) -> Result<Staging> {
        make_folder(tree)?;
        let path = tree.join(NAME);
        std::fs::create_dir(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => input("another publication into this tree is running, or was killed")
                .hint("if none is running, remove the folder and publish again")
                .fact("path", path.display().to_string()),
            _ => Fault::io("could not make a folder", &path, &error),
        })?;
        Ok(Staging(path))
    }

    /// A new folder in it.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        make_folder(&path)?;
        Ok(path)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Nothing in it counts; what stays is named by the next publication's error.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
