//! failed-units: which units of systemd have failed?

use super::{Action, Found, Risk, items, text};
use serde_json::{Map, Value, json};
use smolotchi_store::Severity;

pub(super) const ACTION: Action = Action {
    name: "failed-units",
    keys: "unit",
    risk: Risk::Passive,
    about: "names the units of systemd that have failed",
    parameters: &[],
    judge,
};

fn judge(_: &Map<String, Value>, observation: &Value) -> Vec<Found> {
    let failed = |item: &&Value| item["active"] == "failed";
    let one = |item: &Value| {
        let name = text(&item["name"]);
        Found {
            key: format!("unit/{name}"),
            title: format!("{name} has failed"),
            severity: Severity::Error,
            detail: json!({ "name": name, "description": text(&item["description"]) }),
        }
    };
    items(observation).iter().filter(failed).map(one).collect()
}
