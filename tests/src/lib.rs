//! Real Debian machines in systemd-nspawn, in seconds, for the scenario suites and for people.
//!
//! A **lab** is one supervisor process in its own pid, mount and net namespace, with **nodes** under it: a booted Debian
//! each, with its own systemd, network and disk. Killing the supervisor takes all of it away: mounts, namespaces,
//! interfaces, loop devices and processes. The suites use [`Lab`]; people use the command `smolotchi-lab`.
//!
//! ```no_run
//! use smolotchi_lab::{Disk, Lab, Options};
//! # fn main() -> smolotchi_operator::Result<()> {
//! let lab = Lab::start(Options { nodes: 1, disk: Disk::Image, ..Options::default() })?;
//! let node = lab.node(1);
//! node.run_ok(&["sync"])?;
//! node.power_cut()?;
//! node.boot()?;
//! assert!(node.invariants()?.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! A node is not a virtual machine: the kernel is the host's, memory and CPU limits are not enforced, and the clock is
//! shared; what needs a kernel of its own is in [`vm`]. Nodes are offline; their apt knows no repository until a suite writes one.

mod access;
mod cgroup;
pub mod crash;
pub mod dist;
pub mod exposure;
mod folder;
mod host;
mod image;
mod invariants;
mod lab;
mod link;
mod node;
mod program;
mod protocol;
pub mod rebuilt;
mod release;
pub mod sandbox;
mod serve;
mod snapshot;
pub mod story;
pub mod supervisor;
mod sweep;
pub mod vm;
mod wait;

pub use folder::Folder;
pub use host::preflight;
pub use image::Base;
pub use invariants::{Violation, judge_journal};
pub use lab::{Bind, Lab, Options};
pub use node::Node;
pub use program::Output;
pub use protocol::{Disk, NodeState, NodeStatus};
pub use release::Release;
pub use snapshot::Snapshot;
pub use wait::wait_until;

use smolotchi_operator::{Code, Fault};

/// A fault of the lab itself.
fn fault(message: impl Into<String>) -> Fault {
    Fault::new(Code::LabFailed, message)
}
