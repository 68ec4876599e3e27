//! The keys that may sign releases: minisign public key files, in their strict two-line form.

use crate::{ErrorKind, ReleaseError, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use minisign_verify::PublicKey;
use std::path::{Path, PathBuf};

const PREFIX: &str = "untrusted comment: ";
/// A key file is two short lines.
const MAX_BYTES: u64 = 512;

/// A key's name: 64 bits, written as minisign shows them (16 upper-case hex digits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub(crate) [u8; 8]);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Little-endian in the file, printed as a number.
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

impl serde::Serialize for KeyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The trusted keys.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    keys: Vec<TrustedKey>,
}

#[derive(Debug, Clone)]
struct TrustedKey {
    id: KeyId,
    key: PublicKey,
    path: PathBuf,
}

impl Trust {
    /// All `*.pub` of the folders, in the order of their names. A folder that isn't there holds no keys; one malformed file is an
    /// error, because a key that is silently left out is worse than a message.
    pub fn load(folders: &[&Path]) -> Result<Trust> {
        let mut files = Vec::new();
        for folder in folders {
            let entries = match std::fs::read_dir(folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(ReleaseError::io("could not read a folder of keys", folder, error)),
            };
            let mut here = Vec::new();
            for entry in entries {
                let path = entry.map_err(|error| ReleaseError::io("could not read a folder of keys", folder, error))?.path();
                if path.extension().is_some_and(|extension| extension == "pub") {
                    here.push(path);
                }
            }
            here.sort();
            files.extend(here);
        }
        Self::from_files(&files)
    }

    /// The keys in these files. The same key twice is one key.
    pub fn from_files(files: &[PathBuf]) -> Result<Trust> {
        let mut keys: Vec<TrustedKey> = Vec::new();
        for path in files {
            let length = std::fs::metadata(path).map_err(|error| ReleaseError::io("could not read a public key", path, error))?.len();
            if length > MAX_BYTES {
                return Err(malformed("longer than two short lines").path(path));
            }
            let bytes = std::fs::read(path).map_err(|error| ReleaseError::io("could not read a public key", path, error))?;
            let (id, key) = parse(&bytes).map_err(|error| error.path(path))?;
            if !keys.iter().any(|known| known.key == key) {
                keys.push(TrustedKey { id, key, path: path.clone() });
            }
        }
        Ok(Trust { keys })
    }

    /// True when nothing can be verified.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys' names and files, for people.
    pub fn keys(&self) -> impl Iterator<Item = (KeyId, &Path)> {
        self.keys.iter().map(|key| (key.id, key.path.as_path()))
    }

    pub(crate) fn of(&self, id: KeyId) -> impl Iterator<Item = &PublicKey> {
        self.keys.iter().filter(move |key| key.id == id).map(|key| &key.key)
    }
}

fn malformed(why: &str) -> ReleaseError {
    ReleaseError::new(ErrorKind::KeyMalformed, "a public key file is malformed").fact("why", why)
}

fn parse(bytes: &[u8]) -> Result<(KeyId, PublicKey)> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("not text"))?;
    let text = text.strip_suffix('\n').ok_or_else(|| malformed("its last line does not end"))?;
    let (comment, line) = text.split_once('\n').ok_or_else(|| malformed("not two lines"))?;
    if !comment.starts_with(PREFIX) || comment.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err(malformed("its first line is not an untrusted comment"));
    }
    let raw = STANDARD.decode(line).map_err(|_| malformed("its second line is not base64"))?;
    if raw.len() != 42 || &raw[..2] != b"Ed" {
        return Err(malformed("its second line is not an Ed25519 key"));
    }
    let mut id = [0; 8];
    id.copy_from_slice(&raw[2..10]);
    let key = PublicKey::from_base64(line).map_err(|_| malformed("its second line is not a key"))?;
    Ok((KeyId(id), key))
}
