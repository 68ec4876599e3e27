//! The judge: a plan and what was recorded become a result. Pure, so that a replay gives the same bytes.
//!
//! What was found is compared with the baseline that was recorded with it; drift is a finding of its own.

use super::actions::{self, Found};
use super::files;
use super::plan::{Plan, Source, Word};
use crate::wire::NewFinding;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use smolotchi_store::{BASELINE_ACTION, Severity};
use std::collections::{BTreeMap, BTreeSet};

/// Of the inputs' document.
pub(crate) const INPUTS: &str = "smolotchi/inputs/1";
/// Of the result's document.
pub(crate) const RESULT: &str = "smolotchi/result/1";
/// How something differs from what is expected.
const DRIFTS: [&str; 3] = [CHANGED, NEW, GONE];
const CHANGED: &str = "changed";
const NEW: &str = "new";
const GONE: &str = "gone";
/// The longest key that is kept as it is, in bytes.
const KEY_BYTES: usize = 200;

/// Everything that a run saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Inputs {
    /// [`INPUTS`].
    pub(crate) format: String,
    /// The baseline that held.
    pub(crate) baseline: Option<Expected>,
    /// One for each step of the plan, in its order; fewer while the run waits.
    pub(crate) steps: Vec<Seen>,
}

/// What is expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Expected {
    /// The baseline.
    pub(crate) id: i64,
    /// The findings' keys, each with the sha256 of its detail.
    pub(crate) expected: BTreeMap<String, String>,
}

/// What came of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// From 1.
    pub(crate) step: u32,
    /// The action.
    pub(crate) action: String,
    /// Whether it looked.
    pub(crate) came: Came,
    /// Who decided and why, of a step that needed somebody's word; why not, of one that was denied.
    pub(crate) why: Option<String>,
    /// What it saw; null if it did not look.
    pub(crate) observation: Value,
}

/// Whether a step looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Came {
    /// It did.
    Looked,
    /// The policy denied it.
    Denied,
    /// Nobody allowed it.
    Refused,
}

/// What a run found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// [`RESULT`].
    pub(crate) format: String,
    /// By which profile.
    pub(crate) profile: Source,
    /// Compared with which baseline.
    pub(crate) baseline: Option<i64>,
    /// One for each step of the plan.
    pub(crate) steps: Vec<Judged>,
    /// The actions that could not look, or might not, and beginnings of keys, which end in `/`, below which nobody could look.
    pub(crate) unjudged: Vec<String>,
    /// By key.
    pub(crate) findings: Vec<NewFinding>,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Judged {
    /// From 1.
    pub(crate) step: u32,
    /// The action.
    pub(crate) action: String,
    /// `judged`, `absent`, `denied` or `refused`.
    pub(crate) outcome: String,
    /// Why it is not judged, or who allowed it.
    pub(crate) why: Option<String>,
    /// How many things it found.
    pub(crate) found: u64,
}

/// Judges what was recorded.
pub(crate) fn judge(plan: &Plan, inputs: &Inputs) -> Outcome {
    let mut findings: BTreeMap<String, NewFinding> = BTreeMap::new();
    let (mut steps, mut unjudged, mut unseen) = (Vec::with_capacity(plan.steps.len()), BTreeSet::new(), BTreeSet::new());
    for planned in &plan.steps {
        let seen = inputs.steps.iter().find(|seen| seen.step == planned.step);
        let action = actions::find(&planned.action);
        let (outcome, why) = match (seen, action) {
            (None, _) => ("absent", Some("it was never done".to_owned())),
            (Some(seen), _) if seen.came == Came::Denied => ("denied", seen.why.clone()),
            (Some(seen), _) if seen.came == Came::Refused => ("refused", seen.why.clone()),
            (Some(seen), Some(_)) if seen.observation["available"] == true => ("judged", seen.why.clone()),
            (Some(seen), _) => ("absent", Some(actions::text(&seen.observation["reason"]))),
        };
        let mut found = 0;
        if let ("judged", Some(action), Some(seen)) = (outcome, action, seen) {
            for one in (action.judge)(&planned.parameters, &seen.observation) {
                found += 1;
                let finding = finding(one, &planned.action, planned.step, &planned.word);
                findings.entry(finding.key.clone()).or_insert(finding);
            }
            unseen.extend(actions::unseen(action, &seen.observation));
        } else {
            unjudged.insert(planned.action.clone());
        }
        steps.push(Judged { step: planned.step, action: planned.action.clone(), outcome: outcome.to_owned(), why, found });
    }
    if let Some(baseline) = &inputs.baseline {
        let drifted = compare(plan, &mut findings, &baseline.expected, &unjudged, &unseen);
        findings.extend(drifted.into_iter().map(|finding| (finding.key.clone(), finding)));
        // What could not be looked at can't be said to have come back either.
        if !unjudged.is_empty() {
            unjudged.insert(BASELINE_ACTION.to_owned());
        }
        let drifts: Vec<_> = unseen.iter().flat_map(|keys| DRIFTS.map(|what| format!("{BASELINE_ACTION}/{what}/{keys}"))).collect();
        unseen.extend(drifts);
    }
    unjudged.extend(unseen);
    Outcome {
        format: RESULT.to_owned(),
        profile: plan.profile.clone(),
        baseline: inputs.baseline.as_ref().map(|baseline| baseline.id),
        steps,
        unjudged: unjudged.into_iter().collect(),
        findings: findings.into_values().collect(),
    }
}

/// Marks what is expected, and returns the drift.
fn compare(
    plan: &Plan,
    findings: &mut BTreeMap<String, NewFinding>,
    expected: &BTreeMap<String, String>,
    unjudged: &BTreeSet<String>,
    unseen: &BTreeSet<String>,
) -> Vec<NewFinding> {
    let mut drifted = Vec::new();
    for finding in findings.values_mut() {
        let sha256 = files::sha256(finding.detail.to_string().as_bytes());
        let (what, title) = match expected.get(&finding.key) {
            Some(before) if *before == sha256 => {
                finding.expected = true;
                continue;
            }
            Some(_) => (CHANGED, format!("not as expected any more: {}", finding.title)),
            None => (NEW, format!("not expected: {}", finding.title)),
        };
        let severity = finding.severity.max(if what == CHANGED { Severity::Warning } else { Severity::Notice });
        let detail = json!({ "drift": what, "key": finding.key, "sha256": sha256, "expected": expected.get(&finding.key) });
        drifted.push(drift(what, &finding.key, title, severity, finding.step, finding.policy.clone(), detail));
    }
    for (key, sha256) in expected.iter().filter(|(key, _)| !findings.contains_key(*key)) {
        let action = actions::of_key(key).map(|action| action.name);
        if action.is_some_and(|action| unjudged.contains(action)) || unseen.iter().any(|keys| key.starts_with(keys.as_str())) {
            continue;
        }
        let step = plan.steps.iter().find(|step| Some(step.action.as_str()) == action);
        let word = step.map_or(Value::Null, |step| json!(step.word));
        let detail = json!({ "drift": GONE, "key": key, "sha256": null, "expected": sha256 });
        let title = format!("expected, but not there any more: {key}");
        drifted.push(drift(GONE, key, title, Severity::Notice, step.map_or(0, |step| step.step), word, detail));
    }
    drifted
}

fn drift(what: &str, key: &str, title: String, severity: Severity, step: u32, policy: Value, detail: Value) -> NewFinding {
    let key = bounded(format!("{BASELINE_ACTION}/{what}/{key}"));
    NewFinding { key, title, severity, expected: false, action: BASELINE_ACTION.to_owned(), step, policy, detail }
}

fn finding(found: Found, action: &str, step: u32, word: &Word) -> NewFinding {
    let Found { key, title, severity, detail } = found;
    NewFinding { key: bounded(key), title, severity, expected: false, action: action.to_owned(), step, policy: json!(word), detail }
}

/// A key that the database takes: what is too long ends in its hash.
fn bounded(key: String) -> String {
    let key = key.replace(char::is_control, "?");
    if key.len() <= KEY_BYTES {
        return key;
    }
    let end = (0..=KEY_BYTES - 20).rev().find(|at| key.is_char_boundary(*at)).unwrap_or_default();
    format!("{}…{}", &key[..end], &files::sha256(key.as_bytes())[..16])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ai::dice::Dice;
    use crate::ai::plan::{plan, tests::policy};
    use crate::ai::profile::{Profile, Step};
    use serde_json::Map;

    fn watch() -> Plan {
        let steps = actions::ALL.iter().map(|action| Step { action: action.name.into(), parameters: Map::new() }).collect();
        plan(&Profile { name: "p".into(), version: 1, description: "d".into(), steps }, "00", &policy(), 0)
    }

    /// What an action might see, also from a machine or a core that is not well.
    fn observation(dice: &mut Dice, action: &str) -> Value {
        if dice.below(6) == 0 {
            return actions::absent("not on this machine");
        }
        let odd = |dice: &mut Dice| {
            [json!(null), json!(-1), json!("é\u{7}\n"), json!("x".repeat(400)), json!([1]), json!({})][dice.below(6) as usize].clone()
        };
        let mut items = Vec::new();
        for _ in 0..dice.below(9) {
            let small = dice.below(5);
            let mut item = match action {
                "neighbours" => {
                    json!({ "interface": "eth0", "address": format!("192.0.2.{small}"), "link": format!("02:00:00:00:00:0{small}") })
                }
                "listening-sockets" => json!({ "proto": "tcp", "address": "0.0.0.0", "port": small * 11, "uid": 0 }),
                "failed-units" => json!({ "name": format!("u{small}.service"), "active": if small < 3 { "failed" } else { "active" } }),
                "package-updates" => json!({ "name": format!("p{small}"), "from": "1", "to": "2", "security": small < 2 }),
                "configuration-drift" => {
                    json!({ "path": format!("/etc/x{small}"), "state": "local", "hash": format!("{}", dice.below(2)) })
                }
                "artifact-verification" => json!({ "id": small, "name": "a", "kind": "plan", "sha256": "00", "fault": "gone" }),
                _ => json!({ "path": format!("/etc/x{small}"), "state": "left-out", "why": "w" }),
            };
            if dice.below(5) == 0 {
                let names: Vec<String> = item.as_object().unwrap().keys().cloned().collect();
                let name = names[dice.below(names.len() as u64) as usize].clone();
                item[name] = odd(dice);
            }
            items.push(item);
        }
        let points: Vec<_> =
            (0..dice.below(40)).map(|i| json!([1_700_000_000 + i * 3600, (1_u64 << 30) - i * dice.below(1 << 24)])).collect();
        json!({ "available": true, "items": items, "what": "/", "free": dice.below(100), "total": 100, "points": points })
    }

    pub(crate) fn inputs(dice: &mut Dice, plan: &Plan) -> Inputs {
        let steps = plan.steps.iter().map(|step| {
            let came = [Came::Looked, Came::Looked, Came::Looked, Came::Denied, Came::Refused][dice.below(5) as usize];
            let observation = if came == Came::Looked { observation(dice, &step.action) } else { Value::Null };
            Seen { step: step.step, action: step.action.clone(), came, why: None, observation }
        });
        Inputs { format: INPUTS.into(), baseline: None, steps: steps.collect() }
    }

    /// Over many recorded inputs: the same bytes again, also after a way over the disk; each key once, within what the database
    /// takes; against a baseline of what was found nothing drifts; what was not looked at is neither found nor gone.
    #[test]
    fn a_replay_gives_the_same_bytes() {
        let plan = watch();
        let mut found = 0;
        for seed in 0..400 {
            let mut dice = Dice::new(seed);
            let mut seen = inputs(&mut dice, &plan);
            let first = judge(&plan, &seen);
            let bytes = serde_json::to_vec(&first).unwrap();
            let read: Inputs = serde_json::from_slice(&serde_json::to_vec(&seen).unwrap()).unwrap();
            let plan_read: Plan = serde_json::from_slice(&serde_json::to_vec(&plan).unwrap()).unwrap();
            assert_eq!(serde_json::to_vec(&judge(&plan_read, &read)).unwrap(), bytes, "seed {seed}");
            found += first.findings.len();
            let mut keys: Vec<_> = first.findings.iter().map(|finding| finding.key.as_str()).collect();
            assert!(keys.is_sorted_by(|a, b| a < b), "seed {seed}: {keys:?}");
            assert!(keys.iter().all(|key| key.len() <= 255 && !key.chars().any(char::is_control)), "seed {seed}: {keys:?}");
            assert!(first.findings.iter().all(|finding| !first.unjudged.contains(&finding.action)), "seed {seed}");
            for finding in &first.findings {
                assert_eq!(actions::of_key(&finding.key).map(|action| action.name), Some(finding.action.as_str()), "seed {seed}");
            }
            // What was found is what is expected: nothing drifts, and all of it is expected.
            let hash = |finding: &NewFinding| files::sha256(finding.detail.to_string().as_bytes());
            let expected: BTreeMap<_, _> = first.findings.iter().map(|finding| (finding.key.clone(), hash(finding))).collect();
            seen.baseline = Some(Expected { id: 1, expected: expected.clone() });
            let same = judge(&plan, &seen);
            assert!(same.findings.iter().all(|finding| finding.expected), "seed {seed}: {:?}", same.findings);
            assert_eq!(same.findings.len(), first.findings.len(), "seed {seed}");
            // Against another one, each difference is exactly one drift.
            let other = judge(&plan, &inputs(&mut Dice::new(seed + 100_000), &plan));
            let theirs: BTreeMap<_, _> = other.findings.iter().map(|finding| (finding.key.clone(), hash(finding))).collect();
            seen.baseline = Some(Expected { id: 1, expected: theirs.clone() });
            let drifted = judge(&plan, &seen);
            let drifts = drifted.findings.iter().filter(|finding| finding.action == BASELINE_ACTION).count();
            let differ = first.findings.iter().filter(|finding| theirs.get(&finding.key) != Some(&hash(finding))).count();
            keys.sort_unstable();
            let judged = |key: &str| actions::of_key(key).is_some_and(|action| !first.unjudged.contains(&action.name.to_owned()));
            let gone = theirs.keys().filter(|key| keys.binary_search(&key.as_str()).is_err() && judged(key)).count();
            assert_eq!(drifts, differ + gone, "seed {seed}");
        }
        assert!(found > 2_000, "the seeds find too little to say anything: {found}");
    }

    #[test]
    fn drift_is_a_finding() {
        let plan = watch();
        let observation = json!({ "available": true, "items": [{ "name": "a.service", "active": "failed" }, { "name": "b.service", "active": "failed" }] });
        let number = plan.steps.iter().find(|step| step.action == "failed-units").unwrap().step;
        let step = Seen { step: number, action: "failed-units".into(), came: Came::Looked, why: None, observation };
        let a = files::sha256(json!({ "name": "a.service", "description": "" }).to_string().as_bytes());
        let expected = BTreeMap::from([
            ("unit/a.service".to_owned(), a),
            ("unit/b.service".to_owned(), "0".repeat(64)),
            ("unit/c.service".to_owned(), "0".repeat(64)),
            // Not looked at this time: neither there nor gone.
            ("neighbour/eth0/192.0.2.7".to_owned(), "0".repeat(64)),
        ]);
        let inputs = Inputs { format: INPUTS.into(), baseline: Some(Expected { id: 3, expected }), steps: vec![step] };
        let found: Vec<_> =
            judge(&plan, &inputs).findings.into_iter().map(|finding| (finding.key, finding.expected, finding.severity)).collect();
        let expected = [
            ("baseline/changed/unit/b.service".to_owned(), false, Severity::Error),
            ("baseline/gone/unit/c.service".to_owned(), false, Severity::Notice),
            ("unit/a.service".to_owned(), true, Severity::Error),
            ("unit/b.service".to_owned(), false, Severity::Error),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn below_what_was_not_seen_nothing_is_gone() {
        let plan = watch();
        let items = json!([{ "path": "/etc/smolotchi/s", "state": "unreadable", "package": "", "hash": "" }]);
        let observation = json!({ "available": true, "items": items, "unseen": ["/etc/smolotchi/s", 7, "relative"] });
        let number = plan.steps.iter().find(|step| step.action == "configuration-drift").unwrap().step;
        let step = Seen { step: number, action: "configuration-drift".into(), came: Came::Looked, why: None, observation };
        let keys = ["file/etc/smolotchi/s/key", "file/etc/smolotchi/sa"];
        let expected = keys.map(|key| (key.to_owned(), "0".repeat(64))).into();
        let inputs = Inputs { format: INPUTS.into(), baseline: Some(Expected { id: 3, expected }), steps: vec![step] };
        let outcome = judge(&plan, &inputs);
        let found: Vec<_> = outcome.findings.iter().map(|finding| finding.key.as_str()).collect();
        assert_eq!(found, ["baseline/gone/file/etc/smolotchi/sa", "baseline/new/file/etc/smolotchi/s", "file/etc/smolotchi/s"]);
        for keys in ["file/etc/smolotchi/s/", "baseline/gone/file/etc/smolotchi/s/", "baseline/new/file/etc/smolotchi/s/"] {
            assert!(outcome.unjudged.iter().any(|word| word == keys), "{keys}: {:?}", outcome.unjudged);
        }
        assert!(!outcome.unjudged.iter().any(|word| word == "configuration-drift"));
    }

    #[test]
    fn long_keys_stay_apart() {
        let (one, other) = (bounded(format!("a/{}1", "é".repeat(300))), bounded(format!("a/{}2", "é".repeat(300))));
        assert!(one != other && one.len() <= KEY_BYTES && one.starts_with("a/é"), "{one}");
        assert_eq!(bounded("a\nb".into()), "a?b");
    }
}
