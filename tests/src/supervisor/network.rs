//! The lab's network, inside the supervisor's net namespace: a bridge, and per node a named namespace with a cable to it.
//! Every lab uses the same addresses; they never meet.

use crate::program::host;
use crate::protocol::{BRIDGE, address};
use smolotchi_operator::Result;

/// Makes the bridge.
pub(super) fn bridge() -> Result<()> {
    ip("link set lo up")?;
    ip("link add lab0 type bridge")?;
    ip(&format!("addr add {BRIDGE}/24 dev lab0"))?;
    ip("link set lab0 up")
}

/// Makes a node's namespace with its address. The node itself configures nothing, so a reboot changes nothing.
pub(super) fn node(index: u32) -> Result<()> {
    let name = namespace(index);
    ip(&format!("netns add {name}"))?;
    ip(&format!("link add v{index} type veth peer name eth0 netns {name}"))?;
    ip(&format!("link set v{index} master lab0 up"))?;
    ip(&format!("-n {name} link set lo up"))?;
    ip(&format!("-n {name} addr add {}/24 dev eth0", address(index)))?;
    ip(&format!("-n {name} link set eth0 up"))?;
    ip(&format!("-n {name} route add default via {BRIDGE}"))
}

/// The name of a node's network namespace.
pub(super) fn namespace(index: u32) -> String {
    format!("n{index}")
}

fn ip(arguments: &str) -> Result<()> {
    let words: Vec<&str> = std::iter::once("ip").chain(arguments.split(' ')).collect();
    host(&words).map(drop)
}
