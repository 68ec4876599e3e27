//! configuration-snapshot: keeps a copy of what everybody may read in /etc/smolotchi, as an artifact.
//!
//! The one action of this release that writes: into the agent's own state, and only after somebody has allowed it.

use super::{Action, Found, Risk, items, text};
use serde_json::{Map, Value, json};
use smolotchi_store::Severity;

pub(super) const ACTION: Action = Action {
    name: "configuration-snapshot",
    keys: "kept",
    risk: Risk::Record,
    about: "keeps a copy of the files in /etc/smolotchi that everybody may read, as an artifact",
    parameters: &[],
    judge,
};

fn judge(_: &Map<String, Value>, observation: &Value) -> Vec<Found> {
    let one = |item: &Value| {
        let path = text(&item["path"]);
        (item["state"] == "left-out").then(|| Found {
            key: format!("kept{path}"),
            title: format!("{path} is not in the copy of the configuration"),
            severity: Severity::Info,
            detail: json!({ "path": path, "why": text(&item["why"]) }),
        })
    };
    items(observation).iter().filter_map(one).collect()
}
