//! One node, from the supervisor's side: its disk, its systemd-nspawn, its power.

use super::network::namespace;
use crate::cgroup::Group;
use crate::folder::Folder;
use crate::host::PATH;
use crate::image::{copy_disk, hex, make_folder, write};
use crate::program::host;
use crate::protocol::{BRIDGE, Plan, address};
use crate::{Disk, NodeState, fault, program, wait_until};
use rustix::process::Pid;
use sha2::{Digest, Sha256};
use smolotchi_operator::{Fault, Result};
use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The exit code of systemd-nspawn --keep-unit when the machine in it asked for a reboot (systemd.exec's EXIT_FORCE_RESTART).
const REBOOT: i32 = 133;

pub(super) struct Machine {
    pub(super) index: u32,
    pub(super) state: NodeState,
    pub(super) boots: u32,
    pub(super) disk: Disk,
    /// Its init, in this pid namespace.
    pub(super) init: Option<u32>,
    /// Its systemd-nspawn.
    nspawn: Option<Pid>,
    exit: Option<i32>,
    /// A power cut failed half-way: its disk is neither the old one nor the cut one.
    broken: bool,
    group: Group,
    folder: PathBuf,
    console: PathBuf,
}

/// Where the disk that a swap puts in place is prepared.
pub(crate) fn next_disk(node: &Path) -> PathBuf {
    node.join("disk.next")
}

impl Machine {
    /// Makes the node's root file system and mounts it. It isn't started yet.
    pub(super) fn prepare(index: u32, plan: &Plan, folder: &Folder, group: Group) -> Result<Self> {
        let console = folder.console(index);
        let machine = Machine {
            index,
            state: NodeState::Off,
            boots: 0,
            disk: plan.disk,
            init: None,
            nspawn: None,
            exit: None,
            broken: false,
            group,
            folder: folder.node(index),
            console,
        };
        make_folder(&machine.root())?;
        match plan.disk {
            Disk::Overlay => machine.mount_overlay(&plan.base)?,
            Disk::Image => {
                copy_disk(&plan.image, &machine.disk_file())?;
                machine.mount_disk()?;
            }
        }
        machine.seed(plan, &folder.key().with_extension("pub"))?;
        Ok(machine)
    }

    pub(super) fn name(&self) -> String {
        format!("node{}", self.index)
    }

    pub(super) fn is(&self, pid: Pid) -> bool {
        self.nspawn == Some(pid)
    }

    /// The socket on which nspawn says how far the node is.
    pub(super) fn notify_socket(&self) -> Result<UnixDatagram> {
        UnixDatagram::bind(self.notify_path()).map_err(|error| fault("could not make a notify socket").cause(&error))
    }

    /// Starts it. Returns at once; [`Machine::notified`] hears when it is up.
    pub(super) fn boot(&mut self, plan: &Plan) -> Result<()> {
        if self.broken {
            return Err(fault(format!("{} is broken: its power cut failed half-way", self.name())));
        }
        self.group.create()?;
        let console = File::options()
            .create(true)
            .append(true)
            .open(&self.console)
            .map_err(|error| Fault::io("could not open the node's console", &self.console, &error))?;
        let errors = console.try_clone().map_err(|error| fault("could not hand a file on").cause(&error))?;
        let mut command = Command::new("sh");
        // The shell enters the group before nspawn starts: nspawn shares it out among itself and the node.
        command.args(["-c", "echo 0 >\"$1/cgroup.procs\" && shift && exec \"$@\"", "sh"]).arg(self.group.path());
        command.args(["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--notify-ready=yes", "--console=pipe"]);
        command.args(["--resolv-conf=off", "--timezone=off", "--link-journal=no"]);
        // Without both, IPAddressDeny=, SocketBindDeny= and DevicePolicy= do nothing, silently.
        command.args(["--capability=all", "--system-call-filter=bpf"]);
        command.arg(format!("--machine={}", self.name()));
        command.arg(format!("--network-namespace-path=/run/netns/{}", namespace(self.index)));
        for (from, to) in &plan.binds {
            command.arg(format!("--bind-ro={}:{}", from.display(), to.display()));
        }
        command.arg("-D").arg(self.root());
        command.env_clear().env("PATH", PATH).env("NOTIFY_SOCKET", self.notify_path()).env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        command.stdin(Stdio::null()).stdout(Stdio::from(console)).stderr(Stdio::from(errors));
        let child = command.spawn().map_err(|error| fault("could not start systemd-nspawn").cause(&error))?;
        self.nspawn = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        self.state = NodeState::Booting;
        self.boots += 1;
        self.exit = None;
        Ok(())
    }

    pub(super) fn notified(&mut self, text: &str) {
        for line in text.lines() {
            if let Some(pid) = line.strip_prefix("X_NSPAWN_LEADER_PID=") {
                self.init = pid.parse().ok();
            } else if line == "READY=1" && self.state == NodeState::Booting {
                self.state = NodeState::Running;
            }
        }
    }

    pub(super) fn ended(&mut self, exit: i32) {
        self.nspawn = None;
        self.init = None;
        self.exit = Some(exit);
        self.state = NodeState::Off;
    }

    pub(super) fn wants_reboot(&self) -> bool {
        self.exit == Some(REBOOT)
    }

    /// Takes the power away: what the disk holds at this moment is what the next boot finds. Written but unsynced data is
    /// in the memory of a machine that isn't there any more.
    pub(super) fn cut(&mut self) -> Result<()> {
        if self.disk == Disk::Overlay {
            return Err(fault(format!("{} stands on an overlay, which can't lose power", self.name()))
                .hint("start the lab with nodes on their own disk: --disk image, or Options { disk: Disk::Image }"));
        }
        if self.nspawn.is_none() {
            return Err(fault(format!("{} is off", self.name())));
        }
        let after = self.folder.join("disk.cut");
        if let Err(fault) = self.group.freeze().and_then(|()| copy_disk(&self.disk_file(), &after)) {
            self.group.thaw()?;
            return Err(fault);
        }
        // A cut that stops half-way must not look like one: the node stays unusable.
        self.broken = true;
        self.kill()?;
        // A mount that stayed would write its memory over what the cut left.
        self.unmount()?;
        std::fs::rename(&after, self.disk_file()).map_err(|error| Fault::io("could not put the cut disk in place", &after, &error))?;
        self.mount_disk()?;
        self.broken = false;
        Ok(())
    }

    /// Takes the node away as it stands and mounts what was prepared as `disk.next`: an overlay's upper folder, or a disk.
    pub(super) fn swap(&mut self, base: &Path) -> Result<()> {
        let next = next_disk(&self.folder);
        if !next.exists() {
            return Err(fault(format!("no disk was prepared for {}", self.name())).fact("path", next.display().to_string()));
        }
        self.broken = true;
        self.kill()?;
        self.unmount()?;
        let place = if self.disk == Disk::Overlay { self.folder.join("upper") } else { self.disk_file() };
        let failed = |error: std::io::Error| Fault::io("could not put another disk in place", &place, &error);
        match self.disk {
            Disk::Overlay => {
                std::fs::remove_dir_all(&place).map_err(failed)?;
                std::fs::remove_dir_all(self.folder.join("work")).map_err(failed)?;
                std::fs::rename(&next, &place).map_err(failed)?;
                self.mount_overlay(base)?;
            }
            Disk::Image => {
                std::fs::rename(&next, &place).map_err(failed)?;
                self.mount_disk()?;
            }
        }
        self.broken = false;
        Ok(())
    }

    /// Ends every process of the node, frozen or not.
    fn kill(&mut self) -> Result<()> {
        let Some(nspawn) = self.nspawn else { return Ok(()) };
        self.group.kill()?;
        wait_until("the node's processes are gone", Duration::from_secs(30), || {
            // This one only: the loop of the supervisor waits for the others.
            if let Ok(Some(_)) = rustix::process::waitpid(Some(nspawn), rustix::process::WaitOptions::NOHANG) {
                self.ended(128 + 9);
            }
            Ok(self.nspawn.is_none() && !self.group.populated()?)
        })
    }

    /// Why a wait for this node failed.
    pub(super) fn not_up(&self, boots: u32) -> Fault {
        fault(format!("{} did not come up", self.name()))
            .fact("state", self.state.as_str())
            .fact("boots", self.boots)
            .fact("boots_wanted", boots)
            .fact("exit", self.exit)
            .fact("console", program::tail(&std::fs::read(&self.console).unwrap_or_default()))
    }

    fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    fn disk_file(&self) -> PathBuf {
        self.folder.join("disk.img")
    }

    fn notify_path(&self) -> PathBuf {
        PathBuf::from(format!("/run/lab/notify-{}", self.index))
    }

    fn mount_overlay(&self, base: &Path) -> Result<()> {
        let (upper, work) = (self.folder.join("upper"), self.folder.join("work"));
        make_folder(&upper)?;
        make_folder(&work)?;
        let layers = format!("lowerdir={},upperdir={},workdir={}", base.display(), upper.display(), work.display());
        let mount = |options: &str| host(&["mount", "-t", "overlay", "-o", options, "overlay", &self.root().display().to_string()]);
        // The node's syncs then cost nothing; nothing of an overlay node is meant to survive.
        mount(&format!("volatile,{layers}")).or_else(|_| mount(&layers)).map(drop)
    }

    /// The kernel lets the loop device go when the mount does, also when this process is killed.
    fn mount_disk(&self) -> Result<()> {
        host(&["mount", "-o", "loop", &self.disk_file().display().to_string(), &self.root().display().to_string()]).map(drop)
    }

    fn unmount(&self) -> Result<()> {
        let root = self.root().display().to_string();
        let mut last = None;
        wait_until("the node's disk is unmounted", Duration::from_secs(20), || {
            last = host(&["umount", &root]).err();
            Ok(last.is_none())
        })
        .map_err(|late| last.unwrap_or(late))
    }

    /// What makes this node itself: name, machine id, who may log in. Fixed per node number, so that apt's phasing and
    /// everything else that looks at the machine id comes out the same each time.
    fn seed(&self, plan: &Plan, key: &Path) -> Result<()> {
        let root = self.root();
        let name = self.name();
        let id = &hex(&Sha256::digest(format!("smolotchi-lab {name}")))[..32];
        let mut hosts = format!("127.0.0.1 localhost\n::1 localhost\n{BRIDGE} lab\n");
        for index in 1..=plan.nodes {
            hosts.push_str(&format!("{} node{index}\n", address(index)));
        }
        let key = std::fs::read(key).map_err(|error| Fault::io("could not read the lab's key", key, &error))?;
        write(&root.join("etc/machine-id"), format!("{id}\n").as_bytes(), 0o444)?;
        write(&root.join("etc/hostname"), format!("{name}\n").as_bytes(), 0o644)?;
        write(&root.join("etc/hosts"), hosts.as_bytes(), 0o644)?;
        write(&root.join("root/.ssh/authorized_keys"), &key, 0o600)
    }
}
