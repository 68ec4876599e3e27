//! link-restart and neighbours-flush: the two things that a run may change in the machine's network, after an operator has said yes.
//!
//! Core does them, by the stage request that was approved, and once; here is only asked.

use super::{Action, Found, Kind, Parameter, Risk, absent, items, text};
use crate::ai::look::Look;
use crate::powers::Power;
use crate::powers::net::{LINK_RESTART, NEIGHBOURS_FLUSH};
use serde_json::{Map, Value, json};
use smolotchi_operator::Result;
use smolotchi_store::Severity;

const INTERFACE: &[Parameter] = &[Parameter { name: "interface", kind: Kind::Interface(Power::Net) }];

pub(super) const RESTART: Action = Action {
    name: LINK_RESTART,
    keys: "link",
    risk: Risk::Change,
    about: "takes a network interface down and up again; needs smolotchi-net.socket and an operator's word",
    parameters: INTERFACE,
    judge,
};

pub(super) const FLUSH: Action = Action {
    name: NEIGHBOURS_FLUSH,
    keys: "flushed",
    risk: Risk::Change,
    about: "empties the kernel's table of neighbours on an interface; needs smolotchi-net.socket and an operator's word",
    parameters: INTERFACE,
    judge,
};

/// What was done is in the record; only a link that stays down and what could not be put back is found.
fn judge(_: &Map<String, Value>, observation: &Value) -> Vec<Found> {
    let one = |item: &Value| {
        let lost: Vec<_> = item["lost"].as_array()?.iter().map(text).collect();
        let interface = text(&item["interface"]);
        if item["down"] == true {
            return Some(Found {
                key: format!("link/{interface}"),
                title: format!("{interface} did not come up again after its restart"),
                severity: Severity::Error,
                detail: json!({ "interface": interface }),
            });
        }
        (!lost.is_empty()).then(|| Found {
            key: format!("link/{interface}"),
            title: format!("{interface} lacks what it had before its restart, first of all {}", lost[0]),
            severity: Severity::Warning,
            detail: json!({ "interface": interface, "lost": lost }),
        })
    };
    items(observation).iter().filter_map(one).collect()
}

pub(super) async fn look(look: &Look<'_>, parameters: &Map<String, Value>) -> Result<Value> {
    let Some(stage) = look.stage else { return Ok(absent("nobody was asked")) };
    look.ask("/v1/network", &json!({ "token": look.token, "stage_id": stage, "interface": parameters["interface"] })).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_could_not_be_put_back_is_found() {
        let seen =
            |lost: Value| json!({ "available": true, "items": [{ "operation": "link-restart", "interface": "wlan0", "lost": lost }, 7] });
        assert_eq!(judge(&Map::new(), &seen(json!([]))), []);
        let found = judge(&Map::new(), &seen(json!(["route to 198.51.100.0/24: the kernel refused: x"])));
        assert_eq!((found.len(), found[0].severity, found[0].key.as_str()), (1, Severity::Warning, "link/wlan0"));
        assert!(found[0].title.contains("198.51.100.0/24"), "{found:?}");
        let down = json!({ "available": true, "items": [{ "operation": "link-restart", "interface": "wlan0", "lost": [], "down": true }] });
        assert_eq!(judge(&Map::new(), &down)[0].severity, Severity::Error);
    }
}
