//! Reads and hashes files for the actions. Never writes, and never follows a link out of the folder it was given.

use md5::Md5;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The most files of a folder that are looked at.
const MOST: usize = 1000;

/// What is below a folder.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Below {
    /// The regular files, sorted; links are left out.
    pub(super) files: Vec<PathBuf>,
    /// The folders that can't be listed; the given one, if it has more files than are looked at.
    pub(super) unseen: Vec<PathBuf>,
}

/// The files below a folder. One that isn't there has none.
pub(super) fn below(folder: &Path) -> Below {
    let (mut below, mut folders) = (Below::default(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(_) => {
                below.unseen.push(folder);
                continue;
            }
        };
        for entry in entries {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => below.files.push(entry.path()),
                _ => {}
            }
        }
        if below.files.len() > MOST {
            break;
        }
    }
    below.files.sort();
    if below.files.len() > MOST {
        below.files.truncate(MOST);
        below.unseen.push(folder.to_owned());
    }
    below.unseen.sort();
    below
}

/// A path as it is below the root.
pub(super) fn shown(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    format!("/{}", below.display())
}

/// Of bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Of a file, in hexadecimal.
pub(super) fn sha256_of(path: &Path) -> std::io::Result<String> {
    digest::<Sha256>(path)
}

/// Of a file, in hexadecimal, as dpkg writes it: not against an enemy.
pub(super) fn md5_of(path: &Path) -> std::io::Result<String> {
    digest::<Md5>(path)
}

fn digest<D: Digest>(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, D::new(), [0; 16 * 1024]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
