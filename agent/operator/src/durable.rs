//! File writes that a power cut leaves whole or not at all: write beside, fsync, rename, fsync the folder.
//!
//! A failed fsync is never retried: the kernel may have dropped the dirty pages, so the caller writes again from its source.

use crate::{Fault, Result};
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Replaces `path` with `bytes` and `mode`, durably. On return the new content survives a power cut; before that the
/// old content does.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    rename(&stage(path, bytes, mode, true)?, path)
}

/// As [`replace`], but flushes nothing: readers see the old content or the new; after a power cut either, or on some file
/// systems an empty file. Only for what is soon written again.
pub fn replace_unsynced(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let staged = stage(path, bytes, mode, false)?;
    std::fs::rename(&staged, path).map_err(|error| Fault::io("could not rename a file into place", path, &error))
}

/// Writes the new content beside `path`; its name there.
fn stage(path: &Path, bytes: &[u8], mode: u32, synced: bool) -> Result<PathBuf> {
    let staged = staging_name(path);
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&staged)?;
        // The mode given to open is cut by the umask.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        if synced { file.sync_all() } else { Ok(()) }
    };
    match write() {
        Ok(()) => Ok(staged),
        Err(error) => {
            let _ = std::fs::remove_file(&staged);
            Err(Fault::io("could not write a file", path, &error))
        }
    }
}

/// Renames within one file system and syncs the folder of the new name.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|error| Fault::io("could not rename a file into place", to, &error))?;
    sync_folder_of(to)
}

/// Removes a file, if it is there, and syncs its folder.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_folder_of(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::io("could not remove a file", path, &error)),
    }
}

/// Copies a file's content to a new name, durably. Returns the number of bytes.
pub fn copy(from: &Path, to: &Path, mode: u32) -> Result<u64> {
    let staged = staging_name(to);
    let write = || -> std::io::Result<u64> {
        let mut source = File::open(from)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&staged)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        let count = std::io::copy(&mut source, &mut file)?;
        file.sync_all()?;
        Ok(count)
    };
    match write() {
        Ok(count) => rename(&staged, to).map(|()| count),
        Err(error) => {
            let _ = std::fs::remove_file(&staged);
            Err(Fault::io("could not copy a file", to, &error))
        }
    }
}

/// Gives a file a second name: a hard link, or a durable copy where that can't be (another file system). Only for files that are
/// synced already, stand where root alone can change them, and are never written again, only replaced. The new name survives a
/// power cut once its folder is synced.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    if std::fs::hard_link(from, to).is_ok() { Ok(()) } else { copy(from, to, 0o644).map(drop) }
}

/// Syncs a folder, so that names made or removed in it survive a power cut.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| Fault::io("could not sync a folder", folder, &error))
}

fn sync_folder_of(path: &Path) -> Result<()> {
    sync_folder(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// The name used while writing: in the same folder, hidden, and recognisable as ours by the healer.
fn staging_name(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    path.with_file_name(format!(".{name}.staging"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn replace_is_whole_and_keeps_the_old_on_failure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        replace(&path, b"one", 0o640).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // A folder in the way of the staging name makes the write fail; the old content must stay.
        std::fs::create_dir(dir.path().join(".state.staging")).unwrap();
        assert_eq!(replace(&path, b"three", 0o600).unwrap_err().code, Code::Io);
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn a_second_name_costs_no_blocks_and_replaces_what_stood_there() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let name = |name: &str| dir.path().join(name);
        replace(&name("a"), b"x", 0o644).unwrap();
        link(&name("a"), &name("b")).unwrap();
        assert_eq!(std::fs::metadata(name("b")).unwrap().ino(), std::fs::metadata(name("a")).unwrap().ino());
        replace(&name("c"), b"old", 0o644).unwrap();
        link(&name("a"), &name("c")).unwrap();
        assert_eq!(std::fs::read(name("c")).unwrap(), b"x");
        assert_eq!(link(&name("none"), &name("d")).unwrap_err().code, Code::Io);
    }

    #[test]
    fn nothing_stays_staged() {
        let dir = tempfile::tempdir().unwrap();
        replace(&dir.path().join("a"), b"x", 0o600).unwrap();
        copy(&dir.path().join("a"), &dir.path().join("b"), 0o600).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a", "b"]);
    }
}
