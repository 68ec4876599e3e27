//! What the lab's handle asks of its supervisor, over a unix socket in the lab's folder: one JSON line each way.

use crate::Release;
use serde::{Deserialize, Serialize};
use smolotchi_operator::Fault;
use std::path::PathBuf;

/// What a node's root file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Disk {
    /// An overlay over the shared base: quickest; can't lose power or run full.
    #[default]
    Overlay,
    /// Its own ext4 file system of 2 GiB on a loop device: can lose power and run full.
    Image,
}

/// What the supervisor is to build, written to the lab's folder before it starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) release: Release,
    pub(crate) nodes: u32,
    pub(crate) disk: Disk,
    /// (path on the host, path on the nodes), read-only.
    pub(crate) binds: Vec<(PathBuf, PathBuf)>,
    /// The folder that overlays stand on.
    pub(crate) base: PathBuf,
    /// The disk that images are copied from.
    pub(crate) image: PathBuf,
    /// False: the supervisor ends when its standard input does.
    pub(crate) detached: bool,
}

/// The address of the lab's bridge, where [`crate::Lab::serve`] answers.
pub(crate) const BRIDGE: &str = "10.77.0.1";

/// The most nodes that fit the lab's network.
pub(crate) const MOST_NODES: u32 = 200;

/// A node's address.
pub(crate) fn address(index: u32) -> String {
    format!("10.77.0.{}", 10 + index)
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum Request {
    Status,
    /// Start a node that is off.
    Boot {
        node: u32,
    },
    /// Answer when the node has booted at least `boots` times and is up.
    Wait {
        node: u32,
        boots: u32,
        seconds: u64,
    },
    /// Take the power away.
    Cut {
        node: u32,
    },
    /// Take the node away as it stands and put the prepared disk (`disk.next`) in the place of its own.
    Swap {
        node: u32,
    },
    /// Serve a folder over HTTP on the bridge.
    Serve {
        folder: PathBuf,
        port: u16,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum Answer {
    Done,
    Status { release: Release, nodes: Vec<NodeStatus> },
    Url { url: String },
    Failed { message: String, details: serde_json::Map<String, serde_json::Value> },
}

impl From<Fault> for Answer {
    fn from(fault: Fault) -> Self {
        Answer::Failed { message: fault.message, details: fault.details }
    }
}

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Its init runs, but start-up isn't finished.
    Booting,
    /// Start-up is finished (units may have failed).
    Running,
    /// Powered off, cut, or dead.
    Off,
}

impl NodeState {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            NodeState::Booting => "booting",
            NodeState::Running => "running",
            NodeState::Off => "off",
        }
    }
}

/// One node, as the supervisor sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeStatus {
    /// 1 and up.
    pub node: u32,
    /// Its host name.
    pub name: String,
    /// Its address in the lab's network.
    pub address: String,
    /// What it is doing.
    pub state: NodeState,
    /// How often it was started.
    pub boots: u32,
    /// What its root file system is.
    pub disk: Disk,
    /// The process id of its init, in the supervisor's pid namespace.
    pub init: Option<u32>,
}
