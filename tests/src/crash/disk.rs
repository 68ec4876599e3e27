//! A disk that remembers: every write and every flush that reaches it is logged, and from the log come the disks that a
//! power cut can leave. What was written before the last flush is on all of them; of what was written after it nothing is,
//! or any part in any order, or one write is torn in the middle.
//!
//! On the host: one file on a FUSE mount, which a node's loop device stands on. The node's file system, its journal and its
//! flushes are the real ones; only the medium is ours. Used by the power suite; knows nothing of nodes and packages.

use super::conductor::mix;
use crate::fault;
use crate::image::{copy_disk, make_folder};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, MountOption,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use smolotchi_operator::{Fault, Result};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

/// Stands for a flush where an offset does.
const FLUSH: u64 = u64::MAX;
const NAME: &str = "disk";
const FILE: INodeNo = INodeNo(2);
/// What a medium writes whole or not at all.
const SECTOR: usize = 512;

#[derive(Debug)]
enum Entry {
    Write { offset: u64, data: Vec<u8> },
    Flush,
}

/// How unsynced writes end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// None is on the disk.
    Dropped,
    /// Each is there or not, as the seed says: a later one without an earlier one.
    Reordered,
    /// As they came, up to one of which only some sectors are there.
    Torn,
}

impl Loss {
    /// All there are.
    pub const ALL: [Loss; 3] = [Loss::Dropped, Loss::Reordered, Loss::Torn];

    /// Its name in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Loss::Dropped => "dropped",
            Loss::Reordered => "reordered",
            Loss::Torn => "torn",
        }
    }
}

/// What was written since the recording began.
#[derive(Debug)]
pub struct Log {
    start: PathBuf,
    entries: Vec<Entry>,
}

impl Log {
    /// Writes the log to a file, for [`Log::load`]: an offset and a length per entry, little-endian, then the data.
    pub fn save(&self, path: &Path) -> Result<()> {
        let write = || {
            let mut file = BufWriter::new(File::create(path)?);
            for entry in &self.entries {
                let (offset, data) = match entry {
                    Entry::Write { offset, data } => (*offset, data.as_slice()),
                    Entry::Flush => (FLUSH, &[][..]),
                };
                file.write_all(&offset.to_le_bytes())?;
                file.write_all(&(data.len() as u64).to_le_bytes())?;
                file.write_all(data)?;
            }
            file.flush()
        };
        write().map_err(|error| Fault::io("could not keep a log of writes", path, &error))
    }

    /// Reads a log; `start` is the disk that it began with.
    pub fn load(path: &Path, start: &Path) -> Result<Self> {
        let failed = |error: &std::io::Error| Fault::io("could not read a log of writes", path, error);
        let mut file = BufReader::new(File::open(path).map_err(|error| failed(&error))?);
        let mut entries = Vec::new();
        while !file.fill_buf().map_err(|error| failed(&error))?.is_empty() {
            let mut number = || {
                let mut bytes = [0; 8];
                file.read_exact(&mut bytes).map(|()| u64::from_le_bytes(bytes)).map_err(|error| failed(&error))
            };
            let (offset, length) = (number()?, number()?);
            let mut data = vec![0; length as usize];
            file.read_exact(&mut data).map_err(|error| failed(&error))?;
            entries.push(if offset == FLUSH { Entry::Flush } else { Entry::Write { offset, data } });
        }
        Ok(Log { start: start.to_owned(), entries })
    }

    /// The disk that it began with.
    pub fn start(&self) -> &Path {
        &self.start
    }

    /// The places between `from` and `to` at which most is at stake: before each flush, with something to lose.
    pub fn points(&self, from: usize, to: usize) -> Vec<usize> {
        let to = to.min(self.entries.len());
        (from.max(1)..to)
            .filter(|&at| matches!(self.entries[at], Entry::Flush) && matches!(self.entries[at - 1], Entry::Write { .. }))
            .collect()
    }

    /// How many writes are lost or not at this place.
    pub fn at_stake(&self, at: usize) -> usize {
        at - self.last_flush(at)
    }

    fn last_flush(&self, at: usize) -> usize {
        self.entries[..at].iter().rposition(|entry| matches!(entry, Entry::Flush)).map_or(0, |flush| flush + 1)
    }

    /// Makes `to` the disk that is left when the power goes just before entry `at`.
    pub fn leave(&self, at: usize, loss: Loss, seed: u64, to: &Path) -> Result<()> {
        copy_disk(&self.start, to)?;
        let failed = |error: &std::io::Error| Fault::io("could not write what a power cut leaves", to, error);
        let disk = File::options().write(true).open(to).map_err(|error| failed(&error))?;
        let synced = self.last_flush(at);
        // Any of the unsynced ones; the last one would be torn only at the very end.
        let torn = synced + (mix(seed) % (at - synced).max(1) as u64) as usize;
        for (number, entry) in self.entries[..at].iter().enumerate() {
            let Entry::Write { offset, data } = entry else { continue };
            let kept = match loss {
                _ if number < synced => data.len(),
                Loss::Dropped => 0,
                Loss::Reordered if mix(seed ^ number as u64) % 2 == 0 => 0,
                Loss::Reordered => data.len(),
                Loss::Torn if number < torn => data.len(),
                // At least one sector short, if it has more than one.
                Loss::Torn if number == torn => (mix(seed ^ 1) as usize % (data.len() / SECTOR).max(1)) * SECTOR,
                Loss::Torn => 0,
            };
            disk.write_all_at(&data[..kept], *offset).map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

struct Shared {
    /// The file that reads and writes go to.
    backing: Option<File>,
    size: u64,
    start: PathBuf,
    entries: Vec<Entry>,
}

/// The mounted disk. It must outlive the node that stands on it, and be mounted before the lab starts: labs see the mounts
/// that there were.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Mutex<Shared>>,
    folder: PathBuf,
    _session: BackgroundSession,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({} entries)", self.entries.len())
    }
}

impl Recorder {
    /// Mounts it in a new folder below `folder`.
    pub fn mount(folder: &Path) -> Result<Self> {
        let mount = folder.join("recorder");
        make_folder(&mount)?;
        let shared = Shared { backing: None, size: 0, start: PathBuf::new(), entries: Vec::new() };
        let shared = Arc::new(Mutex::new(shared));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("smolotchi-lab".to_owned())];
        let session = fuser::spawn_mount(Medium { shared: Arc::clone(&shared) }, &mount, &config)
            .map_err(|error| fault("could not mount a disk that records").cause(&error).hint("it needs /dev/fuse"))?;
        Ok(Recorder { shared, folder: mount, _session: session })
    }

    /// The disk, for a loop device.
    pub fn disk(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    /// Begins anew: the disk holds what `start` holds, which stays as it is. Nothing may have the disk open.
    pub fn begin(&self, start: &Path, backing: &Path) -> Result<()> {
        copy_disk(start, backing)?;
        let failed = |error: &std::io::Error| Fault::io("could not open the recorded disk", backing, error);
        let file = File::options().read(true).write(true).open(backing).map_err(|error| failed(&error))?;
        let size = file.metadata().map_err(|error| failed(&error))?.len();
        *self.shared() = Shared { backing: Some(file), size, start: start.to_owned(), entries: Vec::new() };
        Ok(())
    }

    /// How long the log is now.
    pub fn length(&self) -> usize {
        self.shared().entries.len()
    }

    /// The log so far; recording ends.
    pub fn end(&self) -> Log {
        let mut shared = self.shared();
        Log { start: std::mem::take(&mut shared.start), entries: std::mem::take(&mut shared.entries) }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Medium {
    shared: Arc<Mutex<Shared>>,
}

/// Nothing changes a name or a size.
const VALID: Duration = Duration::from_secs(3600);

impl Medium {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let (kind, perm, size) =
            if ino == FILE { (FileType::RegularFile, 0o600, self.shared().size) } else { (FileType::Directory, 0o700, 0) };
        let time = UNIX_EPOCH;
        FileAttr {
            ino,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Medium {
    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        // Before there is a disk nobody may remember that there is none.
        if name == NAME { reply.entry(&Duration::ZERO, &self.attributes(FILE), Generation(0)) } else { reply.error(Errno::ENOENT) }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        let valid = if ino == FILE { Duration::ZERO } else { VALID };
        reply.attr(&valid, &self.attributes(ino));
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Without FOPEN_KEEP_CACHE: what an earlier recording held is forgotten.
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let shared = self.shared();
        let Some(file) = &shared.backing else { return reply.error(Errno::EIO) };
        let mut data = vec![0; size as usize];
        match file.read_at(&mut data, offset) {
            Ok(count) => reply.data(&data[..count]),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut shared = self.shared();
        let written = shared.backing.as_ref().is_some_and(|file| file.write_all_at(data, offset).is_ok());
        if !written {
            return reply.error(Errno::EIO);
        }
        shared.entries.push(Entry::Write { offset, data: data.to_vec() });
        reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX));
    }

    fn fsync(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.shared().entries.push(Entry::Flush);
        reply.ok();
    }

    fn flush(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        // What close() calls; it promises nothing.
        reply.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, byte: u8) -> Entry {
        Entry::Write { offset, data: vec![byte; 4096] }
    }

    #[test]
    fn what_was_flushed_stays_and_the_rest_is_lost_as_told() {
        let dir = tempfile::tempdir().unwrap();
        let (start, to) = (dir.path().join("start"), dir.path().join("to"));
        std::fs::write(&start, vec![b'.'; 5 * 4096]).unwrap();
        let entries =
            vec![write(0, b'a'), Entry::Flush, write(4096, b'b'), write(8192, b'c'), write(12288, b'd'), Entry::Flush, write(16384, b'e')];
        let kept = dir.path().join("log");
        Log { start: PathBuf::new(), entries }.save(&kept).unwrap();
        let log = Log::load(&kept, &start).unwrap();
        assert_eq!(log.points(0, 7), [1, 5]);
        assert_eq!(log.at_stake(5), 3);
        let left = |loss, seed| {
            log.leave(5, loss, seed, &to).unwrap();
            let disk = std::fs::read(&to).unwrap();
            assert!(disk[..4096].iter().all(|byte| *byte == b'a') && disk[16384..].iter().all(|byte| *byte == b'.'), "{loss:?} {seed}");
            disk[4096..16384].chunks(4096).map(|block| block.iter().filter(|byte| **byte != b'.').count()).collect::<Vec<_>>()
        };
        assert_eq!(left(Loss::Dropped, 1), [0, 0, 0]);
        let several: Vec<_> = (0..64).map(|seed| left(Loss::Reordered, seed)).collect();
        assert!(several.contains(&vec![0, 4096, 0]) && several.contains(&vec![4096, 0, 4096]), "{several:?}");
        for torn in (0..64).map(|seed| left(Loss::Torn, seed)) {
            let parts = torn.iter().filter(|count| **count != 4096).count();
            let whole = torn.iter().take_while(|count| **count == 4096).count();
            assert!(torn[whole] % SECTOR == 0 && torn[whole + 1..].iter().all(|count| *count == 0) && parts >= 1, "{torn:?}");
        }
    }
}
