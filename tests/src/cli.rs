//! The command line: what can be said, and the help that teaches it. It does nothing.

use clap::{Args, Parser, Subcommand};
use smolotchi_lab::{Disk, Release};
use smolotchi_operator::Format;
use std::ffi::OsString;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  smolotchi-lab up 3                          three Debian 12 nodes: node1, node2, node3
  smolotchi-lab run 1 -- systemctl status     a command on node1, without ssh
  smolotchi-lab ssh 2                         a shell on node2, over ssh
  smolotchi-lab copy ./x.deb 1:/root/x.deb    files to a node, or from one (1:/path ./path)
  smolotchi-lab check 1                       what must be true of a node, whatever was done to it
  smolotchi-lab down                          everything away (up --foreground: when it is interrupted)

With their own disks, nodes can lose power and run full:
  smolotchi-lab up 1 --disk image --release trixie
  smolotchi-lab cut 1 && smolotchi-lab boot 1
  smolotchi-lab fill-disk 1

Ansible, inside the lab's network (the nodes' addresses exist only there):
  smolotchi-lab exec -- ansible-playbook -i /var/lib/smolotchi-lab/lab/inventory.yml play.yml

Nodes are offline. To give them a package repository, serve a folder and write a source on the node:
  smolotchi-lab serve dist/demo/repo --port 8000        prints http://10.77.0.1:8000

Needs root, systemd-container, debootstrap, iproute2, e2fsprogs, openssh-client. The first start makes the base
(a minute or two, needs the network); after that a lab takes seconds. Bases: /var/cache/smolotchi-lab; labs:
/var/lib/smolotchi-lab/NAME.";

/// Real Debian machines in systemd-nspawn, in seconds.
#[derive(Debug, Parser)]
#[command(name = "smolotchi-lab", version, after_long_help = EXAMPLES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Which lab; several can run at once, they never meet.
    #[arg(long, global = true, default_value = "lab", env = "SMOLOTCHI_LAB")]
    pub(crate) name: String,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) format: Format,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start a lab, and leave it running.
    Up(Up),
    /// Log in to a node over ssh, or run a command there.
    Ssh {
        /// The node's number.
        node: u32,
        /// A command; nothing for a shell.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Run a command on a node without ssh, as its root; ends as the command does.
    Run {
        /// The node's number.
        node: u32,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Run a command of this host inside the lab's network, for example ansible-playbook; ends as the command does.
    Exec {
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Copy a file or folder to a node (./x 1:/path) or from one (1:/path ./x). The second name is the copy's own.
    Copy {
        /// PATH, or NODE:PATH.
        from: String,
        /// NODE:PATH, or PATH.
        to: String,
    },
    /// Take a node's power away: only what was synced survives. Needs --disk image.
    Cut {
        /// The node's number.
        node: u32,
    },
    /// Start a node that is off.
    Boot {
        /// The node's number.
        node: u32,
    },
    /// Reboot a node in good order.
    Reboot {
        /// The node's number.
        node: u32,
    },
    /// Fill a node's disk, or free it again. Needs --disk image.
    FillDisk {
        /// The node's number.
        node: u32,
        /// Leave this many KiB free.
        #[arg(long, default_value_t = 0)]
        leave: u64,
        /// Free what was filled.
        #[arg(long, conflicts_with = "leave")]
        free: bool,
    },
    /// Serve a folder to the nodes over HTTP, for as long as the lab runs.
    Serve {
        /// The folder.
        folder: PathBuf,
        /// The port; 0 for any.
        #[arg(long, default_value_t = 8000)]
        port: u16,
    },
    /// Check what must be true of a node, whatever was done to it; ends with 10 if anything is not.
    Check {
        /// The node's number.
        node: u32,
    },
    /// Show the lab: nodes, addresses, and the files for ssh and Ansible.
    Status,
    /// Take the lab away, or what a killed one left.
    Down {
        /// All labs of this host, also those of running test suites.
        #[arg(long)]
        all: bool,
    },
    /// Make the base that nodes stand on, if it isn't there.
    Image {
        /// Which Debian; all that are supported by default.
        #[arg(long, value_enum)]
        release: Option<Release>,
        /// Make it anew, with today's packages.
        #[arg(long)]
        refresh: bool,
    },
    /// Runs a command on a node under the tracer; for the crash suite.
    #[command(hide = true)]
    Trace {
        /// Where the conductor listens.
        #[arg(long)]
        socket: PathBuf,
        /// Under which name its calls are told.
        #[arg(long)]
        source: String,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// The second stage of trace.
    #[command(hide = true)]
    Traced {
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// The supervisor; started by up.
    #[command(hide = true)]
    Supervise {
        /// The lab.
        lab: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// How many nodes.
    #[arg(default_value_t = 1)]
    pub(crate) nodes: u32,
    /// Which Debian they run.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) release: Release,
    /// What they stand on: overlay is quickest; image can lose power and run full.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) disk: Disk,
    /// A folder of this host that they see read-only; may be given several times.
    #[arg(long, value_name = "HOST:NODE")]
    pub(crate) bind: Vec<String>,
    /// Stay, and take the lab away when this command ends, however it ends.
    #[arg(long)]
    pub(crate) foreground: bool,
}
