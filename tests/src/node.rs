//! One node: commands, files, power and disk. Commands enter the node's namespaces and its init's control group, with a
//! clean environment, so that they see and are what a root shell on that machine would.

use crate::cgroup::Group;
use crate::folder::Folder;
use crate::host::PATH;
use crate::link::ask;
use crate::program::{self, Input};
use crate::protocol::{Answer, Request, address};
use crate::{Disk, NodeState, NodeStatus, Output, fault};
use rustix::process::Pid;
use smolotchi_operator::{Fault, Result};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a command may take when nothing else is said. Generous: the suites share their processors.
const DEADLINE: Duration = Duration::from_secs(180);

/// What fills a full disk.
pub(crate) const BALLAST: &str = "/var/lib/.lab-ballast";

const JOIN: &str = "echo 0 >\"$1/cgroup.procs\" && shift && exec \"$@\"";

/// The cgroup namespace comes last: from inside it the way to another group is barred on hosts that delegate strictly.
const BELONG: &str = "echo 0 2>/dev/null >/sys/fs/cgroup/init.scope/cgroup.procs; exec nsenter -t 1 -C -- \"$@\"";

/// A node of a running lab.
#[derive(Debug, Clone)]
pub struct Node {
    folder: Folder,
    supervisor: Pid,
    index: u32,
    disk: Disk,
}

impl Node {
    pub(crate) fn new(folder: Folder, supervisor: Pid, status: &NodeStatus) -> Self {
        Node { folder, supervisor, index: status.node, disk: status.disk }
    }

    /// 1 and up.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its host name.
    pub fn name(&self) -> String {
        format!("node{}", self.index)
    }

    /// Its address in the lab's network.
    pub fn address(&self) -> String {
        address(self.index)
    }

    /// What it is doing.
    pub fn status(&self) -> Result<NodeStatus> {
        match ask(&self.folder, &Request::Status, Duration::from_secs(60))? {
            Answer::Status { nodes, .. } => nodes.into_iter().find(|status| status.node == self.index),
            _ => None,
        }
        .ok_or_else(|| fault("the supervisor answered something unexpected"))
    }

    /// A command in the node, for callers that want its streams. It fails when the node is off.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Result<Command> {
        let status = self.status()?;
        let Some(init) = status.init else {
            return Err(fault(format!("{} is {}", self.name(), status.state.as_str())).hint("start it with: smolotchi-lab boot"));
        };
        let group = Group::of_lab(self.folder.name())?.node(self.index).of_commands();
        let mut command = Command::new("sh");
        // In the node's group first: a command that isn't in it would go on running while the node is frozen for a power cut.
        command.args(["-c", JOIN, "sh"]).arg(group);
        // Twice, because the node's init has a number that only the supervisor's own /proc knows.
        command.args(["nsenter", "-t", &self.supervisor.as_raw_nonzero().to_string(), "-m", "-p", "--"]);
        command.args(["nsenter", "-t", &init.to_string(), "-m", "-u", "-i", "-p", "-n", "-r", "-w", "--"]);
        // The command itself belongs to the node's init; the two above must not: they have no number inside, and systemctl
        // stumbles over processes without one.
        command.args(["sh", "-c", BELONG, "sh"]).args(words);
        command.env_clear().envs([("PATH", PATH), ("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root"), ("SHELL", "/bin/bash")]);
        command.envs([("LANG", "C.UTF-8"), ("TERM", "dumb"), ("DEBIAN_FRONTEND", "noninteractive")]).current_dir("/");
        Ok(command)
    }

    /// Runs a command to its end. A non-zero exit code is an answer, not a fault.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Result<Output> {
        self.run_within(words, DEADLINE)
    }

    /// The same with another deadline.
    pub fn run_within<S: AsRef<std::ffi::OsStr>>(&self, words: &[S], deadline: Duration) -> Result<Output> {
        program::capture(self.command(words)?, Input::Nothing, deadline).map(Output::from)
    }

    /// Runs a command that reads these bytes.
    pub fn run_with_input<S: AsRef<std::ffi::OsStr>>(&self, words: &[S], input: &[u8]) -> Result<Output> {
        program::capture(self.command(words)?, Input::Bytes(input.to_vec()), DEADLINE).map(Output::from)
    }

    /// Runs a command and demands exit code 0; the fault holds what it said. Returns its standard output.
    pub fn run_ok<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Result<String> {
        let output = self.run(words)?;
        let line = || words.iter().map(|word| word.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ");
        if output.ok() { Ok(output.stdout) } else { Err(program::failed(&line(), &output).fact("node", self.name())) }
    }

    /// Runs a shell script to its end.
    pub fn sh(&self, script: &str) -> Result<Output> {
        self.run(&["sh", "-c", script])
    }

    /// Runs a shell script and demands exit code 0. Returns its standard output.
    pub fn sh_ok(&self, script: &str) -> Result<String> {
        self.run_ok(&["sh", "-c", script])
    }

    /// Writes a file, with the folders above it. Not durable, as for any `cat >file`.
    pub fn write(&self, path: &str, content: &[u8]) -> Result<()> {
        const SCRIPT: &str = "mkdir -p -- \"$(dirname -- \"$1\")\" && cat >\"$1\"";
        let output = self.run_with_input(&["sh", "-c", SCRIPT, "sh", path], content)?;
        if output.ok() { Ok(()) } else { Err(program::failed(&format!("write {path}"), &output).fact("node", self.name())) }
    }

    /// Reads a file, as bytes.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let raw = program::capture(self.command(&["cat", "--", path])?, Input::Nothing, DEADLINE)?;
        if raw.status == 0 { Ok(raw.stdout) } else { Err(program::failed(&format!("read {path}"), &raw.into()).fact("node", self.name())) }
    }

    /// True when the path is there (a dangling link counts).
    pub fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.run(&["sh", "-c", "test -e \"$1\" || test -L \"$1\"", "sh", path])?.ok())
    }

    /// Copies a file or folder of the host; `to` becomes its name on the node. Modes are kept, owners become root.
    pub fn push(&self, from: &Path, to: &str) -> Result<()> {
        let mut pack = tar_of(from)?;
        pack.stdout(Stdio::piped());
        let mut packing = pack.spawn().map_err(|error| fault("could not start tar").cause(&error))?;
        let input = packing.stdout.take().map_or_else(Stdio::null, Stdio::from);
        // A folder comes as its content, a file as one entry of any name.
        let script = if from.is_dir() {
            "mkdir -p -- \"$1\" && tar -C \"$1\" --no-same-owner -xf -"
        } else {
            "mkdir -p -- \"$(dirname -- \"$1\")\" && d=$(mktemp -d -- \"$1.XXXXXX\") && tar -C \"$d\" --no-same-owner -xf - \
             && mv -fT -- \"$d\"/* \"$1\" && rmdir -- \"$d\""
        };
        let unpacked = program::capture(self.command(&["sh", "-c", script, "sh", to])?, Input::From(input), DEADLINE);
        let packed = packing.wait().map_err(|error| fault("could not wait for tar").cause(&error))?;
        let output = Output::from(unpacked?);
        if output.ok() && packed.success() {
            return Ok(());
        }
        Err(program::failed(&format!("push {} to {to}", from.display()), &output)
            .fact("node", self.name())
            .fact("tar", program::code(packed)))
    }

    /// Copies a file or folder of the node; `to` becomes its name on the host.
    pub fn pull(&self, from: &str, to: &Path) -> Result<()> {
        let is_folder = self.run(&["test", "-d", from])?.ok();
        if !is_folder {
            return crate::image::write(to, &self.read(from)?, 0o644);
        }
        crate::image::make_folder(to)?;
        let packed = program::capture(self.command(&["tar", "-C", from, "-cf", "-", "."])?, Input::Nothing, DEADLINE)?;
        if packed.status != 0 {
            return Err(program::failed(&format!("pull {from}"), &packed.into()).fact("node", self.name()));
        }
        let mut unpack = Command::new("tar");
        unpack.arg("-C").arg(to).args(["--no-same-owner", "-xf", "-"]);
        let output = Output::from(program::capture(unpack, Input::Bytes(packed.stdout), DEADLINE)?);
        if output.ok() { Ok(()) } else { Err(program::failed(&format!("pull {from}"), &output).fact("node", self.name())) }
    }

    /// Takes the power away at this moment. Only what was synced survives. The node stays off until [`Node::boot`].
    /// Commands that run in it end with 137. Only nodes with [`Disk::Image`].
    pub fn power_cut(&self) -> Result<()> {
        ask(&self.folder, &Request::Cut { node: self.index }, DEADLINE).map(drop)
    }

    /// Takes the node away as it stands, without any semantics of power, and gives it another disk, which `prepare` makes at
    /// the path it gets: a folder for the overlay's upper layer, or a file for [`Disk::Image`]. Off until [`Node::boot`].
    pub fn swap_disk(&self, prepare: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let next = crate::supervisor::next_disk(&self.folder.node(self.index));
        let _ = std::fs::remove_dir_all(&next);
        let _ = std::fs::remove_file(&next);
        prepare(&next)?;
        ask(&self.folder, &Request::Swap { node: self.index }, DEADLINE).map(drop)
    }

    /// Runs `look` while every process of the node stands still; it gets the overlay's upper folder (or the disk's file).
    pub fn while_frozen<T>(&self, look: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let group = Group::of_lab(self.folder.name())?.node(self.index);
        let disk = self.folder.node(self.index).join(if self.disk == Disk::Overlay { "upper" } else { "disk.img" });
        let looked = group.freeze().and_then(|()| look(&disk));
        group.thaw()?;
        looked
    }

    /// Starts a node that is off, and waits until it is up.
    pub fn boot(&self) -> Result<()> {
        let boots = self.status()?.boots + 1;
        ask(&self.folder, &Request::Boot { node: self.index }, Duration::from_secs(60))?;
        self.wait_up(boots, DEADLINE)
    }

    /// Reboots in good order, as `systemctl reboot` does, and waits until it is up again.
    pub fn reboot(&self) -> Result<()> {
        let boots = self.status()?.boots + 1;
        self.run(&["systemctl", "reboot"])?;
        self.wait_up(boots, DEADLINE)
    }

    /// Waits until the node has been started `boots` times and is up.
    pub fn wait_up(&self, boots: u32, deadline: Duration) -> Result<()> {
        let request = Request::Wait { node: self.index, boots, seconds: deadline.as_secs() };
        ask(&self.folder, &request, deadline + Duration::from_secs(30)).map(drop)
    }

    /// Waits until the node is off, for example after `systemctl poweroff`.
    pub fn wait_off(&self, deadline: Duration) -> Result<()> {
        crate::wait_until(&format!("{} is off", self.name()), deadline, || Ok(self.status()?.state == NodeState::Off))
    }

    /// Waits until a shell script ends with 0 in the node. `what` completes "waited in vain until …".
    pub fn wait_until(&self, what: &str, deadline: Duration, script: &str) -> Result<()> {
        let mut last = None;
        crate::wait_until(what, deadline, || {
            let output = self.sh(script)?;
            let ok = output.ok();
            last = Some(output);
            Ok(ok)
        })
        .map_err(|fault| match last {
            Some(output) => fault.fact("node", self.name()).fact("stdout", output.stdout).fact("stderr", output.stderr),
            None => fault,
        })
    }

    /// Fills the node's disk until `leave` bytes are free (0: none). Only nodes with [`Disk::Image`]: an overlay would fill
    /// the host's disk.
    pub fn fill_disk(&self, leave: u64) -> Result<()> {
        if self.disk == Disk::Overlay {
            return Err(fault(format!("{} stands on an overlay, whose disk is the host's", self.name()))
                .hint("start the lab with nodes on their own disk: --disk image, or Options { disk: Disk::Image }"));
        }
        // fallocate takes whole blocks and gives up early; dd takes the rest, to the last block.
        const SCRIPT: &str = "sync; free=$(df --output=avail -B1 / | tail -n 1); take=$((free - $2)); [ $take -gt 0 ] || exit 0
            fallocate -l $take \"$1\" 2>/dev/null || fallocate -l $((take - 1048576)) \"$1\" 2>/dev/null
            if [ $2 = 0 ]; then dd if=/dev/zero of=\"$1\" bs=4096 oflag=append conv=notrunc status=none 2>/dev/null; sync; fi
            test -s \"$1\"";
        self.run_ok(&["sh", "-c", SCRIPT, "sh", BALLAST, &leave.to_string()]).map(drop)
    }

    /// Frees what [`Node::fill_disk`] took.
    pub fn free_disk(&self) -> Result<()> {
        self.run_ok(&["sh", "-c", "rm -f -- \"$1\" && sync", "sh", BALLAST]).map(drop)
    }
}

/// A folder as its content, a file as one entry.
fn tar_of(path: &Path) -> Result<Command> {
    let path = path.canonicalize().map_err(|error| Fault::io("could not find what to copy", path, &error))?;
    let mut tar = Command::new("tar");
    match (path.is_dir(), path.parent(), path.file_name()) {
        (false, Some(parent), Some(name)) => tar.arg("-C").arg(parent).args(["-cf", "-", "--"]).arg(name),
        _ => tar.arg("-C").arg(&path).args(["-cf", "-", "."]),
    };
    Ok(tar)
}
