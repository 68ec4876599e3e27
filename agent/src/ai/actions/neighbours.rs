//! neighbours: who is in the kernel's table of neighbours? Only looks: nothing is asked over the network.

use super::{Action, Found, Kind, Parameter, Risk, items, text};
use crate::ai::look::Look;
use crate::ai::policy::Network;
use serde_json::{Map, Value, json};
use smolotchi_operator::Result;
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
        let (interface, address, mac) = (text(&item["interface"]), text(&item["address"]), text(&item["link"]));
        // One that never answered is no neighbour yet.
        if address.is_empty() || mac.is_empty() {
            return None;
        }
        Some(Found {
            key: format!("neighbour/{interface}/{address}"),
            title: format!("{address} is a neighbour on {interface}, as {mac}"),
            severity: Severity::Info,
            detail: json!({ "interface": interface, "address": address, "link": mac }),
        })
    };
    items(observation).iter().filter_map(one).collect()
}

/// What lies outside of the scope is not even recorded.
pub(super) async fn look(look: &Look<'_>, parameters: &Map<String, Value>) -> Result<Value> {
    let mut seen = look.observation("neighbours").await?;
    if let Some(items) = seen["items"].as_array_mut() {
        items.retain(|item| in_scope(parameters, item));
    }
    Ok(seen)
}

fn in_scope(parameters: &Map<String, Value>, item: &Value) -> bool {
    let named = |name: &str| parameters.get(name).and_then(Value::as_array);
    let interface = named("interfaces").is_none_or(|names| names.contains(&item["interface"]));
    let lies_in = |networks: &Vec<Value>| {
        let address = item["address"].as_str().and_then(Network::parse);
        networks
            .iter()
            .filter_map(|network| Network::parse(network.as_str()?))
            .any(|network| address.is_some_and(|address| network.holds(&address)))
    };
    interface && named("networks").is_none_or(lies_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_scope_is_left_out() {
        let item = json!({ "interface": "eth0", "address": "192.0.2.7", "link": "02:00:5e:10:00:01", "state": "stale" });
        let cases = [
            (json!({}), true),
            (json!({ "interfaces": ["eth0"] }), true),
            (json!({ "interfaces": ["wlan0"] }), false),
            (json!({ "interfaces": [] }), false),
            (json!({ "networks": ["192.0.2.0/24"] }), true),
            (json!({ "networks": ["198.51.100.0/24", "192.0.2.7"] }), true),
            (json!({ "networks": ["198.51.100.0/24"] }), false),
            (json!({ "interfaces": ["eth0"], "networks": [] }), false),
        ];
        for (parameters, within) in cases {
            assert_eq!(in_scope(parameters.as_object().unwrap(), &item), within, "{parameters}");
        }
    }

    #[test]
    fn only_who_has_answered_is_a_neighbour() {
        let items = json!([{ "interface": "eth0", "address": "192.0.2.7", "link": "02:00:5e:10:00:01", "state": "stale" },
            { "interface": "eth0", "address": "192.0.2.8", "link": null, "state": "failed" }, { "x": 1 }, 7]);
        let found = judge(&Map::new(), &json!({ "available": true, "items": items }));
        assert_eq!(found.iter().map(|found| found.key.as_str()).collect::<Vec<_>>(), ["neighbour/eth0/192.0.2.7"]);
    }
}
