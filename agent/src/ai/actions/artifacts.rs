//! artifact-verification: is every artifact's content what was put? Core reads and compares; what is damaged it sets aside.

use super::{Action, Found, Risk, absent, items, text};
use crate::ai::look::Look;
use crate::wire::{Verified, VerifyArtifacts};
use serde_json::{Map, Value, json};
use smolotchi_operator::{Code, Result};
use smolotchi_store::Severity;

pub(super) const ACTION: Action = Action {
    name: "artifact-verification",
    keys: "artifact",
    risk: Risk::Passive,
    about: "reads every artifact and compares it with its sha256",
    parameters: &[],
    judge,
};

fn judge(_: &Map<String, Value>, observation: &Value) -> Vec<Found> {
    let one = |item: &Value| {
        let id = item["id"].as_i64()?;
        let detail = json!({ "artifact": id, "kind": text(&item["kind"]), "name": text(&item["name"]), "sha256": text(&item["sha256"]), "fault": text(&item["fault"]) });
        Some(Found {
            key: format!("artifact/{id}"),
            title: format!("artifact {id} ({}) is damaged", text(&item["name"])),
            severity: Severity::Error,
            detail,
        })
    };
    items(observation).iter().filter_map(one).collect()
}

/// Asks core to read and compare them all; then names those that are damaged, also from before.
pub(super) async fn look(look: &Look<'_>) -> Result<Value> {
    let (mut checked, mut bytes, mut next) = (0, 0, Some(0));
    // Core reads for some seconds at a time, and says where to go on.
    while let Some(after) = next {
        let verified: Verified = match look.client.post("/v1/artifacts/verify", &VerifyArtifacts { after, only: None }).await {
            Ok(verified) => verified,
            Err(fault) if matches!(fault.code, Code::CoreRequest | Code::CoreRefused) => return Ok(absent(&fault.message)),
            Err(fault) => return Err(fault),
        };
        checked += verified.checked;
        bytes += verified.bytes;
        next = verified.next;
    }
    let damaged: Value = look.client.get("/v1/artifacts?state=damaged&limit=1000").await?;
    Ok(json!({ "available": true, "checked": checked, "bytes": bytes, "items": damaged["artifacts"] }))
}
