//! What the lab needs of the host, checked before anything is made.

use crate::fault;
use smolotchi_operator::{Code, Fault, Result, log};
use std::path::Path;

/// Programs that the lab runs, with the Debian package that has them.
const PROGRAMS: &[(&str, &str)] = &[
    ("systemd-nspawn", "systemd-container"),
    ("debootstrap", "debootstrap"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("ip", "iproute2"),
    ("mkfs.ext4", "e2fsprogs"),
    ("ssh-keygen", "openssh-client"),
];

/// Checks user and programs. Changes nothing.
pub fn preflight() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Fault::new(Code::NotRoot, "the lab makes namespaces, mounts and loop devices, so it must run as root"));
    }
    for (program, package) in PROGRAMS {
        if !["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|folder| Path::new(folder).join(program).exists()) {
            return Err(
                Fault::new(Code::ProgramMissing, format!("the program {program} is missing")).hint(format!("apt-get install {package}"))
            );
        }
    }
    crate::cgroup::hierarchy().map(drop)
}

/// The search path for programs of the host and of nodes: nothing of the caller's environment leaks into a node.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A booted node takes some five inotify instances of root's share; when they run out, boots hang without a word.
pub(crate) fn make_room_for(nodes: u32) -> Result<()> {
    const FILE: &str = "/proc/sys/fs/inotify/max_user_instances";
    let now: u32 = std::fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(u32::MAX);
    if nodes <= 10 || now >= 4096 {
        return Ok(());
    }
    log::notice(format!("raising fs.inotify.max_user_instances from {now} to 4096 on this host: {nodes} nodes need it"));
    std::fs::write(FILE, "4096").map_err(|error| fault("could not raise fs.inotify.max_user_instances").cause(&error))
}
