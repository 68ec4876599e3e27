//! The content of artifacts: `FOLDER/ab/SHA256`, each file whole or not there. Used by core only.
//!
//! Written beside in `.incoming`, synced, renamed, its folder synced; only then may the database know it. What does not match
//! its name goes to `damaged` and is never given out. Nothing here removes content that was ever known.

use sha2::{Digest, Sha256};
use smolotchi_operator::{Code, Fault, Result, durable};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How much is read or kept in memory at a time.
pub(crate) const CHUNK: usize = 64 * 1024;

/// Where the content lies; nothing is made by naming it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    next: AtomicU64,
}

/// Content on its way in: removed again unless it is kept.
#[derive(Debug)]
pub(crate) struct Incoming {
    file: File,
    path: PathBuf,
    hash: Sha256,
    bytes: u64,
    kept: bool,
}

/// Content that is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// In hexadecimal.
    pub(crate) sha256: String,
    /// Its size.
    pub(crate) bytes: u64,
}

/// What was found in a content's place.
#[derive(Debug)]
pub(crate) enum Looked {
    /// What was put, opened and at its start.
    Whole(File),
    /// Something else, or nothing.
    Damaged(String),
}

impl Folder {
    /// The content below this folder.
    pub(crate) fn new(path: PathBuf) -> Self {
        Folder { path, next: AtomicU64::new(0) }
    }

    fn place(&self, sha256: &str) -> PathBuf {
        self.path.join(sha256.get(..2).unwrap_or("__")).join(sha256)
    }

    fn incoming(&self) -> PathBuf {
        self.path.join(".incoming")
    }

    /// Removes what a power cut left half-written; how many files. Called once, before anything is put.
    pub(crate) fn sweep(&self) -> Result<u64> {
        let folder = self.incoming();
        let mut count = 0;
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            other => other.map_err(|error| Fault::io("could not look for leftovers", &folder, &error))?,
        };
        for entry in entries {
            let removed = entry.and_then(|entry| std::fs::remove_file(entry.path()));
            removed.map_err(|error| Fault::io("could not remove a leftover", &folder, &error))?;
            count += 1;
        }
        Ok(count)
    }

    /// Begins to take content in.
    pub(crate) fn begin(&self) -> Result<Incoming> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.incoming().join(number.to_string());
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path);
        let file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make(&self.incoming())?;
                open()
            }
            other => other,
        };
        let file = file.map_err(|error| Fault::io("could not take the content in", &path, &error))?;
        Ok(Incoming { file, path, hash: Sha256::new(), bytes: 0, kept: false })
    }

    /// Keeps content for good; it survives a power cut when this returns. What is there already is written only once:
    /// then it says false.
    pub(crate) fn keep(&self, mut incoming: Incoming) -> Result<(Content, bool)> {
        let sha256 = hex(&incoming.hash.clone().finalize());
        let content = Content { bytes: incoming.bytes, sha256 };
        let place = self.place(&content.sha256);
        // What lies there is trusted only after a look; anything else is replaced.
        if place.exists() && matches!(self.look(&content.sha256, content.bytes)?, Looked::Whole(_)) {
            return Ok((content, false));
        }
        let failed = |error| Fault::io("could not take the content in", &incoming.path, &error);
        incoming.file.sync_all().map_err(failed)?;
        if let Some(folder) = place.parent().filter(|folder| !folder.is_dir()) {
            make(folder)?;
        }
        durable::rename(&incoming.path, &place)?;
        incoming.kept = true;
        Ok((content, true))
    }

    /// Reads the whole content and compares it with its name.
    pub(crate) fn look(&self, sha256: &str, bytes: u64) -> Result<Looked> {
        let place = self.place(sha256);
        let mut file = match File::open(&place) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Looked::Damaged("the content is not there".to_owned())),
            other => other.map_err(|error| Fault::io("could not open the content", &place, &error))?,
        };
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        let mut seen = 0;
        loop {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => {
                    hash.update(&chunk[..count]);
                    seen += count as u64;
                }
                // A block that the card can't give any more is damage, not a passing trouble.
                Err(error) => return Ok(Looked::Damaged(format!("the content can't be read: {error}"))),
            }
        }
        let found = hex(&hash.finalize());
        if found != sha256 {
            return Ok(Looked::Damaged(format!("the content has {seen} bytes with sha256 {found}, not {bytes} with {sha256}")));
        }
        std::io::Seek::rewind(&mut file).map_err(|error| Fault::io("could not read the content", &place, &error))?;
        Ok(Looked::Whole(file))
    }

    /// The contents whose name begins with this byte.
    pub(crate) fn names(&self, part: u8) -> Result<Vec<String>> {
        let folder = self.path.join(format!("{part:02x}"));
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| Fault::io("could not list the content", &folder, &error))?,
        };
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
        entries.map(name).collect::<std::io::Result<_>>().map_err(|error| Fault::io("could not list the content", &folder, &error))
    }

    /// Removes content that nobody has any more, also where it was set aside. A power cut may bring it back, as a stray.
    pub(crate) fn forget(&self, sha256: &str) -> Result<()> {
        for path in [self.place(sha256), self.path.join("damaged").join(sha256)] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(Fault::io("could not remove the content", &path, &error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts what lies in a content's place aside, if anything does.
    pub(crate) fn set_aside(&self, sha256: &str) -> Result<()> {
        let aside = self.path.join("damaged");
        if !aside.is_dir() {
            make(&aside)?;
        }
        let (from, to) = (self.place(sha256), aside.join(sha256));
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Fault::io("could not set the content aside", &from, &error)),
            Ok(()) => durable::sync_folder(&aside),
        }
    }
}

impl Incoming {
    /// Takes some bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| Fault::io("could not take the content in", &self.path, &error))?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes a folder and those above it, so that they survive a power cut.
fn make(folder: &Path) -> Result<()> {
    if let Some(above) = folder.parent().filter(|above| !above.is_dir()) {
        make(above)?;
    }
    match std::fs::DirBuilder::new().mode(0o750).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(Fault::io("could not make a folder", folder, &error)),
        _ => folder.parent().map_or(Ok(()), durable::sync_folder),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Too much for one artifact.
pub(crate) fn too_large(limit: u64) -> Fault {
    Fault::new(Code::ArtifactTooLarge, "the content is too large for an artifact").fact("at_most_bytes", limit)
}
