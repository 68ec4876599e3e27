//! configuration-snapshot: keeps a copy of what everybody may read in /etc/smolotchi, as an artifact.
//!
//! The one action of this release that writes: into the agent's own state, and only after somebody has allowed it.

use super::{Action, Found, Risk, items, text};
use crate::ai::files;
use crate::ai::look::Look;
use serde_json::{Map, Value, json};
use smolotchi_operator::Result;
use smolotchi_store::Severity;
use std::os::unix::fs::PermissionsExt;

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
        (item["state"] == "left-out" && path.starts_with('/')).then(|| Found {
            key: format!("kept{path}"),
            title: format!("{path} is not in the copy of the configuration"),
            severity: Severity::Info,
            detail: json!({ "path": path, "why": text(&item["why"]) }),
        })
    };
    items(observation).iter().filter_map(one).collect()
}

/// The largest file that is kept.
const MAX_FILE: u64 = 256 * 1024;

/// Puts the copy, unless a worker before has put it for the same run.
pub(super) async fn look(look: &Look<'_>) -> Result<Value> {
    let (mut copy, mut seen) = (Map::new(), Vec::new());
    let below = files::below(&look.paths.root().join("etc/smolotchi"));
    let unseen: Vec<_> = below.unseen.iter().map(|folder| files::shown(look.paths.root(), folder)).collect();
    seen.extend(unseen.iter().map(|name| json!({ "path": name, "state": "left-out", "why": "not all of its files can be listed" })));
    for path in below.files {
        let name = files::shown(look.paths.root(), &path);
        let left_out = |why: &str| json!({ "path": name, "state": "left-out", "why": why });
        let Ok(facts) = std::fs::symlink_metadata(&path) else { continue };
        // What not everybody may read may be a secret, and artifacts are for everybody.
        seen.push(if facts.permissions().mode() & 0o004 == 0 {
            left_out("not everybody may read it")
        } else if facts.len() > MAX_FILE {
            left_out("too large")
        } else {
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    let item = json!({ "path": name, "state": "kept", "hash": files::sha256(text.as_bytes()) });
                    copy.insert(name, Value::from(text));
                    item
                }
                Err(error) => left_out(&error.to_string()),
            }
        });
    }
    let artifact = look.put_once("configuration", "configuration.json", &Value::from(copy)).await?;
    Ok(json!({ "available": true, "artifact": artifact, "items": seen, "unseen": unseen }))
}
