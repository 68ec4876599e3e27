//! Locks: ours by flock (released by the kernel when the holder dies, so never stale), dpkg's by fcntl, as apt does it.

use crate::paths::Paths;
use rustix::fs::{FlockOperation, flock};
use smolotchi_operator::{Code, Fault, Result};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// How often a lock that someone else holds is tried again.
const AGAIN: Duration = Duration::from_millis(250);

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| Fault::io("could not open a lock", path, &error))
}

/// Takes one of our locks, or says that another process of ours holds it.
pub fn ours(path: &Path) -> Result<Lock> {
    let file = open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Fault::new(Code::ChangeOpen, "another smolotchi-install is at work")
            .fact("lock", path.display().to_string())
            .hint("wait for it; see: smolotchi-install status")),
        Err(error) => Err(Fault::io("could not take a lock", path, &error.into())),
    }
}

/// Takes one of our locks, waiting for whoever holds it: for locks that are only ever held for a moment.
pub fn waited(path: &Path) -> Result<Lock> {
    let file = open(path)?;
    flock(&file, FlockOperation::LockExclusive).map_err(|error| Fault::io("could not take a lock", path, &error.into()))?;
    Ok(Lock { _file: file })
}

/// Waits for dpkg's front-end lock, which apt and dpkg hold for a whole operation. `DPKG_FRONTEND_LOCKED` tells the dpkg
/// that we start that we hold it.
pub fn dpkg_frontend(paths: &Paths, patience: Duration) -> Result<Lock> {
    let path = paths.dpkg().join("lock-frontend");
    let began = Instant::now();
    loop {
        let file = open(&path)?;
        match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            // A dpkg that outlived whoever started it holds only the inner lock.
            Ok(()) if inner_is_free(paths)? => return Ok(Lock { _file: file }),
            Ok(()) | Err(rustix::io::Errno::ACCESS | rustix::io::Errno::AGAIN) if began.elapsed() < patience => std::thread::sleep(AGAIN),
            Ok(()) | Err(rustix::io::Errno::ACCESS | rustix::io::Errno::AGAIN) => {
                return Err(Fault::new(Code::Locked, "another package operation holds dpkg's lock")
                    .fact("lock", path.display().to_string())
                    .fact("waited_s", patience.as_secs())
                    .hint("find it with: fuser -v /var/lib/dpkg/lock-frontend"));
            }
            Err(error) => return Err(Fault::io("could not take dpkg's lock", &path, &error.into())),
        }
    }
}

/// True when no dpkg is at work. Closing the file drops the lock again: dpkg takes it itself.
fn inner_is_free(paths: &Paths) -> Result<bool> {
    let path = paths.dpkg().join("lock");
    let file = open(&path)?;
    match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::ACCESS | rustix::io::Errno::AGAIN) => Ok(false),
        Err(error) => Err(Fault::io("could not take dpkg's lock", &path, &error.into())),
    }
}
