//! neighbours: who is in the kernel's table of neighbours? Only looks: nothing is asked over the network.

use super::{Action, Found, Kind, Parameter, Risk, items, text};
use serde_json::{Map, Value, json};
use smolotchi_store::Severity;

pub(super) const ACTION: Action = Action {
    name: "neighbours",
    keys: "neighbour",
    risk: Risk::Passive,
    about: "names the neighbours that the kernel knows of",
    parameters: &[Parameter { name: "interfaces", kind: Kind::Interfaces }, Parameter { name: "networks", kind: Kind::Networks }],
    judge,
};

fn judge(_: &Map<String, Value>, observation: &Value) -> Vec<Found> {
    let one = |item: &Value| {
        let (interface, address, mac) = (text(&item["interface"]), text(&item["address"]), text(&item["mac"]));
        if address.is_empty() || mac.is_empty() {
            return None;
        }
        Some(Found {
            key: format!("neighbour/{interface}/{address}"),
            title: format!("{address} is a neighbour on {interface}, as {mac}"),
            severity: Severity::Info,
            detail: json!({ "interface": interface, "address": address, "mac": mac }),
        })
    };
    items(observation).iter().filter_map(one).collect()
}
