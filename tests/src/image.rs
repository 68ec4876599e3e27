//! The base of all nodes: one Debian per release, made once by debootstrap and kept in `/var/cache/smolotchi-lab/base`.
//!
//! `RELEASE-HASH/` is the folder that overlays stand on, `RELEASE-HASH.ext4` the same as a disk. The hash is over the
//! recipe below, so another recipe makes another base. Each is made under a temporary name and renamed; a lock keeps two
//! runs from making the same one. Nothing may write to a finished base.

use crate::folder::lock;
use crate::program::{self, host};
use crate::{Release, fault, host};
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};
use smolotchi_operator::{Code, Fault, Result, log};
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CACHE: &str = "/var/cache/smolotchi-lab/base";

/// On top of debootstrap's minbase: a small headless Debian that ssh, Ansible and the invariants can work with.
const PACKAGES: &[&str] = &[
    "ca-certificates",
    "curl",
    "dbus",
    "gpgv",
    "iproute2",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sqlite3",
    "sudo",
    "systemd",
    "systemd-sysv",
    // One of the ways in which an upgrade starts (`tests/suites/ways.rs`).
    "unattended-upgrades",
];

/// Units that can't work in a container, would touch the host, or would take apt's lock in the middle of a scenario.
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-modules-load.service",
    // Waits for the machine's shutdown in order to delay it; the suites call unattended-upgrade themselves.
    "unattended-upgrades.service",
];

/// Files of the base: path, content. The journal is kept over reboots, because the invariants read it.
const FILES: &[(&str, &str)] = &[
    ("etc/apt/sources.list", ""),
    ("etc/default/locale", "LANG=C.UTF-8\n"),
    ("etc/fstab", ""),
    ("etc/machine-id", ""),
    ("etc/hostname", "node\n"),
    ("etc/resolv.conf", ""),
    ("etc/systemd/journald.conf.d/lab.conf", "[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\n"),
];

/// Folders whose content goes: what was fetched to make the base, and the host's view of the network.
const EMPTIED: &[&str] = &["etc/apt/sources.list.d", "var/lib/apt/lists", "var/cache/apt", "var/log/apt", "run"];

/// The size of a node's own disk; sparse, so that only what is written takes space.
const DISK_SIZE: &str = "2G";

/// Raise it when the steps below change in a way that the tables above don't show.
const RECIPE: &str = "1";

/// A finished base.
#[derive(Debug)]
pub struct Base {
    /// Which Debian.
    pub release: Release,
    /// The folder that overlays stand on.
    pub folder: PathBuf,
    /// The same as an ext4 disk, which images are copied from.
    pub disk: PathBuf,
    /// Shared while it is in use, so that a refresh can't pull it away.
    _in_use: File,
}

impl Base {
    /// The base of a release; made first if it isn't there (a minute or two, needs the network).
    pub fn ensure(release: Release) -> Result<Self> {
        Self::get(release, false)
    }

    /// Makes the base anew, with today's packages. Refused while a lab stands on it.
    pub fn refresh(release: Release) -> Result<Self> {
        Self::get(release, true)
    }

    fn get(release: Release, anew: bool) -> Result<Self> {
        host::preflight()?;
        let name = format!("{release}-{}", recipe_hash(release));
        let folder = Path::new(CACHE).join(&name);
        let disk = Path::new(CACHE).join(format!("{name}.ext4"));
        let lock_path = Path::new(CACHE).join(format!("{name}.lock"));
        let take =
            |operation| lock(&lock_path, operation)?.ok_or_else(|| fault("the base is in use").hint("smolotchi-lab down, then again"));
        if anew {
            let exclusive = take(FlockOperation::NonBlockingLockExclusive)?;
            make(release, &folder, &disk, &exclusive)?;
        } else if !disk.exists() {
            let exclusive = match lock(&lock_path, FlockOperation::NonBlockingLockExclusive)? {
                Some(file) => file,
                None => {
                    log::notice(format!("waiting for another process that makes the base of {release}"));
                    take(FlockOperation::LockExclusive)?
                }
            };
            // Another process may have made it meanwhile.
            if !disk.exists() {
                make(release, &folder, &disk, &exclusive)?;
            }
        }
        // Closing the exclusive lock and taking the shared one leaves a gap in which a refresh may begin: look again after.
        let in_use = take(FlockOperation::LockShared)?;
        if !disk.exists() {
            return Err(fault("the base was taken away while a lab wanted it").fact("base", folder.display().to_string()));
        }
        Ok(Base { release, folder, disk, _in_use: in_use })
    }
}

/// Keeps the base of a lab from being refreshed for as long as the returned file is open.
pub(crate) fn hold(base: &Path) -> Result<Option<File>> {
    lock(&base.with_extension("lock"), FlockOperation::LockShared)
}

fn recipe_hash(release: Release) -> String {
    let text = format!("{RECIPE}\n{release}\n{PACKAGES:?}\n{MASKED:?}\n{FILES:?}\n{EMPTIED:?}\n{DISK_SIZE}\n");
    hex(&Sha256::digest(text))[..12].to_owned()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn make(release: Release, folder: &Path, disk: &Path, lock: &File) -> Result<()> {
    let started = Instant::now();
    log::notice(format!("making the base of {release}: debootstrap, once, a minute or two"));
    let partial = folder.with_extension("partial");
    let partial_disk = disk.with_extension("partial-disk");
    // The disk is made last and looked for first: without it the base counts as missing.
    for path in [&partial, &partial_disk, &disk.to_owned(), &folder.to_owned()] {
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Fault::io("could not remove an old base", path, &error));
            }
            _ => {}
        }
    }
    debootstrap(release, &partial, lock)?;
    finish(&partial)?;
    let text = |path: &Path| path.display().to_string();
    host(&["mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", "-d", &text(&partial), &text(&partial_disk), DISK_SIZE])?;
    smolotchi_operator::durable::rename(&partial, folder)?;
    smolotchi_operator::durable::rename(&partial_disk, disk)?;
    log::notice(format!("made the base of {release} in {} s: {}", started.elapsed().as_secs(), folder.display()));
    Ok(())
}

/// Runs debootstrap in its own namespaces: killed or not, it leaves no mount and no process behind.
fn debootstrap(release: Release, target: &Path, lock: &File) -> Result<()> {
    let log = target.with_extension("log");
    let open = || File::create(&log).map_err(|error| Fault::io("could not make a log", &log, &error));
    let output = open()?;
    let copy = |file: &File| file.try_clone().map_err(|error| fault("could not hand a file on").cause(&error));
    let mut command = Command::new("unshare");
    command.args(["-m", "-p", "-f", "--kill-child=SIGKILL", "--mount-proc", "debootstrap", "--variant=minbase"]);
    command.arg(format!("--include={}", PACKAGES.join(","))).arg(release.code_name()).arg(target).args(mirror());
    // It reads the lock (an empty file): should this process die, the lock stays taken until debootstrap is gone too.
    command.stdin(Stdio::from(copy(lock)?)).stdout(Stdio::from(copy(&output)?)).stderr(Stdio::from(output));
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
    let status = command.status().map_err(|error| fault("could not start debootstrap").cause(&error))?;
    if status.success() {
        return Ok(());
    }
    Err(Fault::new(Code::ProgramFailed, format!("debootstrap could not make {release}"))
        .fact("status", program::code(status))
        .fact("log", log.display().to_string())
        .fact("said", program::tail(&std::fs::read(&log).unwrap_or_default()))
        .hint("is the Debian mirror of this host's apt configuration reachable?"))
}

/// The Debian mirror that the host's own apt uses; nothing to leave it to debootstrap.
pub(crate) fn mirror() -> Option<String> {
    let list =
        |filters: &[&str]| host(&[&["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"], filters].concat());
    let listed = list(&["Origin: Debian", "Label: Debian"]).ok().filter(|text| !text.trim().is_empty());
    // Without fetched lists apt knows no origin, only addresses.
    let text = listed.or_else(|| list(&[]).ok())?;
    text.lines().map(str::trim).find(|uri| uri.trim_end_matches('/').ends_with("/debian")).map(str::to_owned)
}

fn finish(root: &Path) -> Result<()> {
    for name in EMPTIED {
        let folder = root.join(name);
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if is_folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(|error| Fault::io("could not empty a folder of the base", &path, &error))?;
        }
    }
    // apt wants its own folders there.
    for name in ["var/lib/apt/lists/partial", "var/cache/apt/archives/partial"] {
        make_folder(&root.join(name))?;
    }
    for (name, content) in FILES {
        write(&root.join(name), content.as_bytes(), 0o644)?;
    }
    for unit in MASKED {
        let path = root.join("etc/systemd/system").join(unit);
        std::os::unix::fs::symlink("/dev/null", &path).map_err(|error| Fault::io("could not mask a unit", &path, &error))?;
    }
    make_folder(&root.join("var/log/journal"))
}

/// Makes a folder with those above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| Fault::io("could not make a folder", path, &error))
}

/// Writes a file with its mode; makes its folder. Not durable: a lab is thrown away.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    // A link of the base must not lead the write out of it.
    if path.is_symlink() {
        std::fs::remove_file(path).map_err(|error| Fault::io("could not remove a link", path, &error))?;
    }
    std::fs::write(path, content)
        .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(|error| Fault::io("could not write a file", path, &error))
}

/// Copies a disk, sparse, sharing blocks where the file system can.
pub(crate) fn copy_disk(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("cp");
    command.args(["--sparse=always", "--reflink=auto"]).arg(from).arg(to);
    program::demand(command, Duration::from_secs(120)).map(drop)
}
