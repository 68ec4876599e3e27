//! configuration-drift: are our packages' files what dpkg unpacked, and which files has the operator put into /etc/smolotchi?
//!
//! A local file is a finding of its own, by its hash: what is wanted goes into the baseline, and from then on a change is drift.

use super::{Action, Found, Risk, items, text};
use serde_json::{Map, Value, json};
use smolotchi_store::Severity;

pub(super) const ACTION: Action = Action {
    name: "configuration-drift",
    keys: "file",
    risk: Risk::Passive,
    about: "compares the files of our packages with what dpkg unpacked, and names the files in /etc/smolotchi",
    parameters: &[],
    judge,
};

fn judge(_: &Map<String, Value>, observation: &Value) -> Vec<Found> {
    let one = |item: &Value| {
        let (path, state, package) = (text(&item["path"]), text(&item["state"]), text(&item["package"]));
        let (title, severity) = match state.as_str() {
            "changed" => (format!("{path} is not what {package} brought"), Severity::Error),
            "missing" => (format!("{path} of {package} is missing"), Severity::Error),
            "unreadable" => (format!("{path} can't be read"), Severity::Notice),
            "local" => (format!("{path} is a local setting"), Severity::Info),
            // "same" is what nothing is to be said about.
            _ => return None,
        };
        let detail = json!({ "path": path, "state": state, "package": package, "hash": text(&item["hash"]) });
        Some(Found { key: format!("file{path}"), title, severity, detail })
    };
    items(observation).iter().filter(|item| item["path"].as_str().is_some_and(|path| path.starts_with('/'))).filter_map(one).collect()
}
