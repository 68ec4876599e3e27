//! Disk states of an overlay node: what its upper folder holds at one moment, kept once per content, put back at will.
//!
//! A state is taken while the node is frozen, so it is exactly what a kill at that moment leaves when the kernel's cache
//! survives. Two states that differ only in what changes by itself (logs, times) have one fingerprint and are one state.

use crate::fault;
use crate::image::{hex, make_folder};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smolotchi_operator::{Fault, Result};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Left out of states altogether: logs are large, and what they hold changes nothing at the next boot.
const LEFT_OUT: &[&str] = &["var/log/journal", "etc/systemd/system/smolotchi-install-change.service.d/lab.conf", HEAL_DROP_IN];
const HEAL_DROP_IN: &str = "etc/systemd/system/smolotchi-install-heal.service.d/lab.conf";
/// Kept, but no difference.
const NOISE: &[&str] = &["var/log/", "var/tmp/", "var/lib/systemd/", "etc/machine-id", "lab", "var/lib/smolotchi/smolotchi.db-shm"];

/// One entry of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// Type and mode, as in stat.
    mode: u32,
    uid: u32,
    gid: u32,
    #[serde(default)]
    rdev: u64,
    /// A file's hash, a link's target.
    #[serde(default)]
    content: String,
    /// For files with several names: which are the same.
    #[serde(default)]
    inode: u64,
    seconds: i64,
    nanoseconds: i64,
    /// Extended attributes, values in hex. Overlays keep what they know about folders in them.
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

/// A disk state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    entries: BTreeMap<String, Entry>,
    /// The hash over all that isn't noise.
    pub fingerprint: String,
}

/// Where states are kept: `states/FINGERPRINT.json`, and `pool/HASH` for the content of files.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// inode, size, change time → hash, so that only what changed is read again.
    hashes: HashMap<(u64, u64, i64, i64), String>,
}

impl Store {
    /// Opens or makes one.
    pub fn open(folder: &Path) -> Result<Self> {
        for name in ["states", "pool"] {
            make_folder(&folder.join(name))?;
        }
        Ok(Store { folder: folder.to_owned(), hashes: HashMap::new() })
    }

    /// Takes the state of an upper folder. Nothing may change it meanwhile.
    pub fn take(&mut self, upper: &Path) -> Result<State> {
        let mut entries = BTreeMap::new();
        self.walk(upper, upper, &mut entries)?;
        let mut hash = Sha256::new();
        let mut groups: HashMap<u64, usize> = HashMap::new();
        for (path, entry) in &entries {
            if NOISE.iter().any(|noise| path.starts_with(noise)) {
                continue;
            }
            let count = groups.len();
            let group = if entry.inode == 0 { 0 } else { *groups.entry(entry.inode).or_insert(count + 1) };
            let plain: Vec<_> = entry.attributes.iter().filter(|(name, _)| !name.starts_with("trusted.overlay.origin")).collect();
            hash.update(format!("{path}\0{} {} {} {} {} {group} {plain:?}\n", entry.mode, entry.uid, entry.gid, entry.rdev, entry.content));
        }
        Ok(State { entries, fingerprint: hex(&hash.finalize())[..16].to_owned() })
    }

    fn walk(&mut self, top: &Path, folder: &Path, entries: &mut BTreeMap<String, Entry>) -> Result<()> {
        let failed = |path: &Path, error: &std::io::Error| Fault::io("could not take a disk state", path, error);
        for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
            let path = entry.map_err(|error| failed(folder, &error))?.path();
            let name = path.strip_prefix(top).unwrap_or(&path).to_string_lossy().into_owned();
            if LEFT_OUT.contains(&name.as_str()) {
                continue;
            }
            let meta = path.symlink_metadata().map_err(|error| failed(&path, &error))?;
            let kind = meta.file_type();
            let content = if kind.is_file() {
                self.keep(&path, &meta)?
            } else if kind.is_symlink() {
                std::fs::read_link(&path).map_err(|error| failed(&path, &error))?.to_string_lossy().into_owned()
            } else {
                String::new()
            };
            let several = kind.is_file() && meta.nlink() > 1;
            let device = kind.is_char_device() || kind.is_block_device();
            entries.insert(
                name,
                Entry {
                    mode: meta.mode(),
                    uid: meta.uid(),
                    gid: meta.gid(),
                    rdev: if device { meta.rdev() } else { 0 },
                    content,
                    inode: if several { meta.ino() } else { 0 },
                    seconds: meta.mtime(),
                    nanoseconds: meta.mtime_nsec(),
                    attributes: attributes(&path).map_err(|error| failed(&path, &error))?,
                },
            );
            if kind.is_dir() {
                self.walk(top, &path, entries)?;
            }
        }
        Ok(())
    }

    /// Keeps a file's content and returns its hash.
    fn keep(&mut self, path: &Path, meta: &std::fs::Metadata) -> Result<String> {
        let key = (meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec());
        if let Some(known) = self.hashes.get(&key) {
            return Ok(known.clone());
        }
        let failed = |error: &std::io::Error| Fault::io("could not keep a file of a disk state", path, error);
        let mut file = File::open(path).map_err(|error| failed(&error))?;
        let partial = self.partial();
        let mut copy = File::create(&partial).map_err(|error| failed(&error))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = file.read(&mut buffer).map_err(|error| failed(&error))?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            copy.write_all(&buffer[..count]).map_err(|error| failed(&error))?;
        }
        let hash = hex(&hash.finalize());
        std::fs::rename(&partial, self.blob(&hash)).map_err(|error| failed(&error))?;
        // The clock of file times ticks every few milliseconds: a file that was just changed may change again unseen.
        let age = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis() as i64
            - (meta.ctime() * 1000 + meta.ctime_nsec() / 1_000_000);
        if age > 50 {
            self.hashes.insert(key, hash.clone());
        }
        Ok(hash)
    }

    /// A name that no other process or thread uses.
    fn partial(&self) -> PathBuf {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        self.folder.join(format!("pool/.partial-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    fn blob(&self, hash: &str) -> PathBuf {
        self.folder.join("pool").join(hash)
    }

    /// Writes a state down.
    pub fn save(&self, state: &State) -> Result<()> {
        let path = self.path_of(&state.fingerprint);
        if path.exists() {
            return Ok(());
        }
        let partial = self.partial();
        let text = serde_json::to_vec(state).map_err(|error| fault("could not write a disk state").cause(&error))?;
        std::fs::write(&partial, text)
            .and_then(|()| std::fs::rename(&partial, &path))
            .map_err(|error| Fault::io("could not write a disk state", &path, &error))
    }

    /// Reads one again.
    pub fn load(&self, fingerprint: &str) -> Result<State> {
        let path = self.path_of(fingerprint);
        let bytes = std::fs::read(&path).map_err(|error| Fault::io("could not read a disk state", &path, &error))?;
        serde_json::from_slice(&bytes).map_err(|error| fault("could not read a disk state").cause(&error))
    }

    fn path_of(&self, fingerprint: &str) -> PathBuf {
        self.folder.join(format!("states/{fingerprint}.json"))
    }

    /// Makes `to`, which must not be there yet, an upper folder in this state.
    pub fn put(&self, state: &State, to: &Path) -> Result<()> {
        make_folder(to)?;
        let mut first: HashMap<u64, PathBuf> = HashMap::new();
        for (name, entry) in &state.entries {
            let path = to.join(name);
            let failed = |error: std::io::Error| Fault::io("could not put a disk state back", &path, &error);
            if let Some(other) = (entry.inode != 0).then(|| first.get(&entry.inode)).flatten() {
                std::fs::hard_link(other, &path).map_err(failed)?;
                continue;
            }
            self.make(&path, entry).map_err(failed)?;
            if entry.inode != 0 {
                first.insert(entry.inode, path);
            }
        }
        // Folders last and from below: filling them changed their times.
        for (name, entry) in state.entries.iter().rev() {
            if FileType::from_raw_mode(entry.mode) == FileType::Directory {
                let path = to.join(name);
                set_times(&path, entry).map_err(|error| Fault::io("could not put a disk state back", &path, &error))?;
            }
        }
        Ok(())
    }

    fn make(&self, path: &Path, entry: &Entry) -> std::io::Result<()> {
        let kind = FileType::from_raw_mode(entry.mode);
        let mode = Mode::from_raw_mode(entry.mode & 0o7777);
        match kind {
            FileType::Directory => std::fs::create_dir(path)?,
            FileType::Symlink => std::os::unix::fs::symlink(&entry.content, path)?,
            FileType::RegularFile => drop(std::fs::copy(self.blob(&entry.content), path)?),
            other => rustix::fs::mknodat(CWD, path, other, mode, entry.rdev)?,
        }
        rustix::fs::chownat(CWD, path, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)), AtFlags::SYMLINK_NOFOLLOW)?;
        if kind != FileType::Symlink {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(entry.mode & 0o7777))?;
        }
        for (name, value) in &entry.attributes {
            rustix::fs::lsetxattr(path, name.as_str(), &unhex(value), rustix::fs::XattrFlags::empty())?;
        }
        set_times(path, entry)
    }
}

fn set_times(path: &Path, entry: &Entry) -> std::io::Result<()> {
    let time = Timespec { tv_sec: entry.seconds, tv_nsec: entry.nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn attributes(path: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let mut names = vec![0; 4096];
    let count = rustix::fs::llistxattr(path, &mut names[..])?;
    let mut found = BTreeMap::new();
    for name in names[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        let mut value = vec![0; 4096];
        let count = rustix::fs::lgetxattr(path, name.as_str(), &mut value[..])?;
        found.insert(name, hex(&value[..count]));
    }
    Ok(found)
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let upper = dir.path().join("upper");
        std::fs::create_dir_all(upper.join("etc")).unwrap();
        std::fs::create_dir_all(upper.join("var/log/journal")).unwrap();
        std::fs::write(upper.join("etc/a"), "one").unwrap();
        std::fs::hard_link(upper.join("etc/a"), upper.join("etc/b")).unwrap();
        std::os::unix::fs::symlink("a", upper.join("etc/c")).unwrap();
        std::fs::write(upper.join("var/log/journal/x"), "log").unwrap();
        let mut store = Store::open(&dir.path().join("store")).unwrap();
        let state = store.take(&upper).unwrap();
        store.save(&state).unwrap();
        assert_eq!(store.load(&state.fingerprint).unwrap(), state);
        let back = dir.path().join("back");
        store.put(&state, &back).unwrap();
        assert_eq!(std::fs::read_to_string(back.join("etc/b")).unwrap(), "one");
        assert_eq!(back.join("etc/a").metadata().unwrap().ino(), back.join("etc/b").metadata().unwrap().ino());
        assert!(!back.join("var/log/journal").exists());
        assert_eq!(store.take(&back).unwrap().fingerprint, state.fingerprint);

        // Noise is no difference; a byte, a name and a mode are.
        std::fs::write(back.join("var/log/dpkg.log"), "x").unwrap();
        assert_eq!(store.take(&back).unwrap().fingerprint, state.fingerprint);
        std::fs::write(back.join("etc/a"), "two").unwrap();
        let changed = store.take(&back).unwrap().fingerprint;
        assert_ne!(changed, state.fingerprint);
        std::fs::set_permissions(back.join("etc/a"), std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_ne!(store.take(&back).unwrap().fingerprint, changed);
    }
}
