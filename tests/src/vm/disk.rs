//! What a virtual machine starts from: Debian's own kernel with a small initial RAM disk, kept beside the lab's base, and a disk that is made anew from
//! both with whatever a suite wants installed. Installing here, in a chroot, takes seconds; in an emulated machine it would take minutes.
//!
//! `RELEASE-HASH-vm-HASH/` holds `layer/` (what the kernel's package put on top of the base), `vmlinuz` and `initrd`. Made under a temporary name and
//! renamed, under a lock; nothing may write to a finished one.

use crate::folder::lock;
use crate::image::{self, Base, hex, make_folder, write};
use crate::program::{self, Input, Output};
use crate::{Bind, Release, fault};
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};
use smolotchi_operator::{Code, Fault, Result, log};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Debian's kernel for virtual machines: as its other one, but for drivers.
const KERNEL: &str = "linux-image-cloud-amd64";

/// What answers the host, and how it is started. Never a victim when memory runs out: it tells of it.
const AGENT: &str = include_str!("agent.py");
const UNIT: &str = "[Unit]
Description=The lab's hand in this machine
[Service]
ExecStartPre=/bin/sh -c 'until test -e /dev/virtio-ports/lab; do sleep 0.1; done'
ExecStart=/usr/bin/python3 /usr/local/lib/lab-agent.py
Restart=always
OOMScoreAdjust=-1000
Environment=LANG=C.UTF-8 HOME=/root USER=root
[Install]
WantedBy=multi-user.target
";

/// Sparse: what is written takes space.
const SIZE: &str = "1500M";

/// Where images are, in folders that begin with the process that made them.
pub(super) const IMAGES: &str = "/var/lib/smolotchi-lab-vm";

/// $1 lower folders, $2 scratch folder with `upper`. What mounts are made goes with the shell, in a namespace of its own.
const ENTER: &str = r#"set -eu
root="$2/root"
mkdir "$2/work" "$root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$root"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
leave() { umount "$root/run" "$root/tmp" "$root/dev" "$root/proc"; }
"#;

/// $3 mirror, $4 code name, $5 kernel, $6 folder for kernel and initial RAM disk, which needs the disk's driver and no more.
const INSTALL_KERNEL: &str = r#"
echo "deb $3 $4 main" >"$root/etc/apt/sources.list"
cat /etc/resolv.conf >"$root/etc/resolv.conf"
chroot "$root" apt-get -q update
chroot "$root" apt-get -q -y --no-install-recommends install "$5"
printf 'MODULES=list\nBUSYBOX=n\nCOMPRESS=gzip\n' >"$root/etc/initramfs-tools/conf.d/lab"
printf 'virtio_pci\nvirtio_blk\n' >"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u
chroot "$root" systemctl enable lab-agent.service
chroot "$root" apt-get clean
cat "$root"/boot/vmlinuz-* >"$6/vmlinuz"
cat "$root"/boot/initrd.img-* >"$6/initrd"
rm -rf "$root"/boot/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
mkdir -p "$root/var/lib/apt/lists/partial"
: >"$root/etc/apt/sources.list"
: >"$root/etc/resolv.conf"
leave
"#;

/// $3 script, $4 disk, $5 its size.
const MAKE_DISK: &str = r#"
chroot "$root" sh -e -c "$3"
leave
mkfs.ext4 -q -m 0 -E lazy_itable_init=1 -d "$root" "$4" "$5"
"#;

/// A disk for virtual machines; gone when dropped. Machines don't change it.
#[derive(Debug)]
pub struct Image {
    folder: PathBuf,
    kept: PathBuf,
    /// Held while it is in use.
    base: Base,
}

impl Image {
    /// Makes the disk of a release: the base, Debian's kernel, copies of these files of the host, and what a shell script does then in a chroot. The
    /// kernel is installed first if this host hasn't got it (half a minute, needs the network).
    pub fn make(release: Release, files: &[Bind], script: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        crate::preflight()?;
        if std::env::consts::ARCH != "x86_64" {
            return Err(fault("virtual machines are only made on x86-64").fact("here", std::env::consts::ARCH));
        }
        let base = Base::ensure(release)?;
        let kept = kernel(release, &base.folder)?;
        sweep();
        let folder = Path::new(IMAGES).join(format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let image = Image { folder, kept, base };
        let scratch = image.folder.join("scratch");
        let upper = scratch.join("upper");
        make_folder(&upper)?;
        for Bind { from, to } in files {
            let at = upper.join(to.strip_prefix("/").unwrap_or(to));
            make_folder(at.parent().unwrap_or(&upper))?;
            let mut copy = Command::new("cp");
            copy.args(["-aL", "--no-preserve=ownership"]).arg(from).arg(&at);
            program::demand(copy, Duration::from_secs(60))?;
        }
        let lower = format!("{}:{}", image.kept.join("layer").display(), image.base.folder.display());
        enter(MAKE_DISK, &lower, &scratch, &[script, &image.disk().display().to_string(), SIZE], Duration::from_secs(300))?;
        std::fs::remove_dir_all(&scratch).map_err(|error| Fault::io("could not remove a scratch folder", &scratch, &error))?;
        Ok(image)
    }

    pub(super) fn disk(&self) -> PathBuf {
        self.folder.join("disk.ext4")
    }

    /// Kernel and initial RAM disk.
    pub(super) fn kernel(&self) -> [PathBuf; 2] {
        ["vmlinuz", "initrd"].map(|name| self.kept.join(name))
    }

    /// Where a machine of this image may keep what it needs.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The folder with the kernel of a release; made first if it isn't there.
fn kernel(release: Release, base: &Path) -> Result<PathBuf> {
    let stem = base.display().to_string();
    let recipe = hex(&Sha256::digest(format!("{stem}\n{KERNEL}\n{AGENT}\n{UNIT}\n{ENTER}\n{INSTALL_KERNEL}")))[..6].to_owned();
    let folder = PathBuf::from(format!("{stem}-vm-{recipe}"));
    if !folder.is_dir() {
        let _held = lock(Path::new(&format!("{stem}-vm.lock")), FlockOperation::LockExclusive)?;
        // Another process may have made it meanwhile.
        if !folder.is_dir() {
            install_kernel(release, base, &folder)?;
        }
    }
    Ok(folder)
}

fn install_kernel(release: Release, base: &Path, folder: &Path) -> Result<()> {
    let started = Instant::now();
    log::notice(format!("installing Debian's kernel for virtual machines of {release}: once, half a minute"));
    let stem = base.display().to_string();
    // What another recipe or a killed run left.
    for entry in folder.parent().into_iter().flat_map(std::fs::read_dir).flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && path.display().to_string().starts_with(&format!("{stem}-vm")) {
            std::fs::remove_dir_all(&path).map_err(|error| Fault::io("could not remove an old kernel", &path, &error))?;
        }
    }
    let (scratch, partial) = (PathBuf::from(format!("{stem}-vm.scratch")), PathBuf::from(format!("{stem}-vm.partial")));
    make_folder(&partial)?;
    write(&scratch.join("upper/usr/local/lib/lab-agent.py"), AGENT.as_bytes(), 0o644)?;
    write(&scratch.join("upper/etc/systemd/system/lab-agent.service"), UNIT.as_bytes(), 0o644)?;
    let mirror = image::mirror().unwrap_or_else(|| "http://deb.debian.org/debian".to_owned());
    let words = [mirror.as_str(), release.code_name(), KERNEL, &partial.display().to_string()];
    enter(INSTALL_KERNEL, &stem, &scratch, &words, Duration::from_secs(900))
        .map_err(|fault| fault.hint("is the Debian mirror of this host's apt configuration reachable?"))?;
    smolotchi_operator::durable::rename(&scratch.join("upper"), &partial.join("layer"))?;
    std::fs::remove_dir_all(&scratch).map_err(|error| Fault::io("could not remove a scratch folder", &scratch, &error))?;
    smolotchi_operator::durable::rename(&partial, folder)?;
    log::notice(format!("installed it in {} s: {}", started.elapsed().as_secs(), folder.display()));
    Ok(())
}

/// Runs a script on the host with a root file system mounted at `$root`.
fn enter(script: &str, lower: &str, scratch: &Path, words: &[&str], deadline: Duration) -> Result<()> {
    let mut command = Command::new("unshare");
    command.args(["-m", "-p", "-f", "--kill-child=SIGKILL", "--mount-proc", "sh", "-c", &format!("{ENTER}{script}"), "sh", lower]);
    command.arg(scratch).args(words).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8");
    let output = Output::from(program::capture(command, Input::Nothing, deadline)?);
    if output.ok() {
        return Ok(());
    }
    Err(Fault::new(Code::ProgramFailed, "could not install something on the disk of a virtual machine")
        .fact("status", output.status)
        .fact("said", program::tail(format!("{}{}", output.stdout, output.stderr).as_bytes())))
}

/// Removes what processes that are gone left.
fn sweep() {
    for entry in std::fs::read_dir(IMAGES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.split('-').next().and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
