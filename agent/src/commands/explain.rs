//! `smolotchi explain`: why a finding is what it is: profile, policy, action, evidence, baseline.

use crate::ai::files;
use crate::ai::judge::Inputs;
use crate::ai::run::document;
use crate::client::{Client, block_on};
use crate::paths::Paths;
use crate::wire::{Finding, FindingState, RunState, WhyChain};
use serde::Serialize;
use serde_json::Value;
use smolotchi_operator::output::{columns, counted, emit};
use smolotchi_operator::{Exit, Format, Result, Table};
use smolotchi_store::BASELINE_ACTION;
use std::collections::BTreeMap;

/// A why-chain with what the action saw.
#[derive(Debug, Serialize)]
struct Explained {
    #[serde(flatten)]
    chain: WhyChain,
    /// What the finding's step saw; null if its record is not there any more.
    observation: Value,
}

impl Table for Explained {
    fn table(&self) -> String {
        let WhyChain { finding, profile, run, evidence, baseline } = &self.chain;
        let policy = |name: &str| finding.policy[name].as_str().unwrap_or("?").to_owned();
        let mut rows = vec![
            ["finding".to_owned(), format!("{} {}", finding.id, finding.title)],
            ["".to_owned(), format!("{}, {}, key {}", state_word(finding.state), finding.severity.as_str(), finding.key)],
            ["".to_owned(), format!("found {}, first {}, last {}", counted(finding.times, "time"), finding.first_at, finding.last_at)],
            ["facts".to_owned(), finding.detail.to_string()],
            [
                "profile".to_owned(),
                format!("{} version {}", finding.profile, finding.profile_version)
                    + &profile.as_ref().map(|profile| format!(", sha256 {}", profile.sha256)).unwrap_or_default(),
            ],
        ];
        if let Some(run) = run {
            let job = run.job_id.map_or_else(|| "no job".to_owned(), |job| format!("job {job}"));
            rows.push(["run".to_owned(), format!("{} ({}, {job}), begun {}", run.id, run_word(run.state), run.started_at)]);
        }
        rows.push(["action".to_owned(), format!("{}, step {} of the plan, risk {}", finding.action, finding.step, policy("risk"))]);
        rows.push(["policy".to_owned(), format!("{} by {}: {}", policy("verdict"), policy("rule"), policy("reason"))]);
        rows.push([
            "evidence".to_owned(),
            match (evidence, finding.evidence) {
                (Some(artifact), _) => format!("artifact {} {}, sha256 {}", artifact.id, artifact.name, artifact.sha256),
                (None, Some(id)) => format!("artifact {id}, which is not there any more"),
                (None, None) => "none".to_owned(),
            },
        ]);
        if !self.observation.is_null() {
            let items = self.observation["items"].as_array().map_or(0, |items| items.len() as u64);
            let at = self.observation["at"].as_str().map(|at| format!(", at {at}")).unwrap_or_default();
            rows.push(["".to_owned(), format!("the action saw {}{at}", counted(items, "thing"))]);
        }
        rows.push([
            "baseline".to_owned(),
            match baseline {
                None => "none: nothing is expected of this profile".to_owned(),
                Some(baseline) => {
                    format!("{} of {} by {}: {}", baseline.id, baseline.made_at, baseline.made_by, word(finding, &baseline.expected))
                }
            },
        ]);
        columns(&rows)
    }
}

/// What the baseline says of a finding.
fn word(finding: &Finding, expected: &BTreeMap<String, String>) -> &'static str {
    if finding.action == BASELINE_ACTION {
        return match (finding.state, finding.detail["drift"].as_str()) {
            (FindingState::Gone, _) => "what differed from it doesn't any more",
            (_, Some("gone")) => "it expects what is not there any more",
            (_, Some("changed")) => "it expects this with other facts",
            _ => "it doesn't expect this",
        };
    }
    let same = expected.get(&finding.key).map(|sha256| *sha256 == files::sha256(finding.detail.to_string().as_bytes()));
    match (finding.state, same) {
        (FindingState::Expected, _) | (FindingState::Open, Some(true)) => "it is expected",
        (FindingState::Open, Some(false)) => "it is expected, but not with these facts",
        (FindingState::Open, None) => "it is not expected",
        (FindingState::Gone, Some(true)) => "it is expected, just as it was, and not there any more",
        (FindingState::Gone, Some(false)) => "it is expected, with other facts than it last had, and not there any more",
        (FindingState::Gone, None) => "it was not expected, and is not there any more",
    }
}

/// Explains one finding. Errors: `finding.unknown`.
pub(crate) fn run(paths: &Paths, format: Format, id: i64) -> Result<Exit> {
    let client = Client::new(paths.socket());
    let explained = block_on(async {
        let chain: WhyChain = client.get(&format!("/v1/findings/{id}")).await?;
        // Evidence goes after a while; the rest of the chain stays.
        let inputs = match chain.finding.evidence {
            Some(evidence) => document::<Inputs>(&client, evidence).await.ok(),
            None => None,
        };
        let step = chain.finding.step;
        let seen = inputs.and_then(|inputs| inputs.steps.into_iter().find(|seen| seen.step == step));
        Ok(Explained { chain, observation: seen.map_or(Value::Null, |seen| seen.observation) })
    })?;
    emit(format, &explained);
    Ok(Exit::Success)
}

/// A finding's state in one word.
pub(super) fn state_word(state: FindingState) -> &'static str {
    match state {
        FindingState::Open => "open",
        FindingState::Expected => "expected",
        FindingState::Gone => "gone",
    }
}

/// A run's state in one word.
pub(super) fn run_word(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Waiting => "waiting",
        RunState::Done => "done",
        RunState::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_baseline_is_compared_by_its_facts() {
        let detail = json!({ "port": 22 });
        let finding = |state: &str, action: &str, detail: &Value| -> Finding {
            serde_json::from_value(json!({ "id": 1, "profile": "p", "key": "socket/22", "title": "t", "severity": "info", "state": state,
                "first_run": 1, "last_run": 1, "first_at": "x", "last_at": "x", "times": 1, "profile_version": 1, "action": action, "step": 1,
                "policy": null, "evidence": null, "detail": detail }))
            .unwrap()
        };
        let same = BTreeMap::from([("socket/22".to_owned(), files::sha256(detail.to_string().as_bytes()))]);
        let other = BTreeMap::from([("socket/22".to_owned(), "00".to_owned())]);
        let cases = [
            ("expected", "sockets", &same, "it is expected"),
            ("open", "sockets", &other, "it is expected, but not with these facts"),
            ("open", "sockets", &BTreeMap::new(), "it is not expected"),
            ("gone", "sockets", &same, "it is expected, just as it was, and not there any more"),
            ("gone", "sockets", &other, "it is expected, with other facts than it last had, and not there any more"),
            ("gone", "sockets", &BTreeMap::new(), "it was not expected, and is not there any more"),
        ];
        for (state, action, expected, said) in cases {
            assert_eq!(word(&finding(state, action, &detail), expected), said, "{state}");
        }
        let drifts = [
            ("gone", "it expects what is not there any more"),
            ("changed", "it expects this with other facts"),
            ("new", "it doesn't expect this"),
        ];
        for (drift, said) in drifts {
            assert_eq!(word(&finding("open", BASELINE_ACTION, &json!({ "drift": drift })), &same), said);
        }
    }
}
