//! `smolotchi ai`: the service, and what an operator does with runs. Replays and comparisons happen here, from what is recorded;
//! they change nothing.

use super::explain::run_word;
use super::profiles::newest;
use crate::ai::actions;
use crate::ai::judge::{Outcome, judge};
use crate::ai::plan::{Plan, plan};
use crate::ai::profile::Profile;
use crate::ai::run::{bytes, document};
use crate::cli::{Ai, AiVerb};
use crate::client::{Client, block_on};
use crate::config;
use crate::paths::Paths;
use crate::wire::{Job, JobState, NewFinding, Run, RunState, Runs, Stage, StageState, Stages};
use serde::Serialize;
use serde_json::{Value, json};
use smolotchi_operator::output::{columns, emit};
use smolotchi_operator::progress::Progress;
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often a run that is followed is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long a worker that is there may take to begin.
const NOBODY: Duration = Duration::from_secs(5);

impl Table for Runs {
    fn table(&self) -> String {
        let row = |run: &Run| {
            let profile = format!("{} {}", run.profile, run.profile_version);
            vec![
                run.id.to_string(),
                profile,
                run_word(run.state).to_owned(),
                run.started_at.clone(),
                run.ended_at.clone().unwrap_or_default(),
            ]
        };
        columns(&self.runs.iter().map(row).collect::<Vec<_>>())
    }
}

impl Table for Plan {
    fn table(&self) -> String {
        let row = |step: &crate::ai::plan::Planned| {
            let word = &step.word;
            let given = if step.parameters.is_empty() { String::new() } else { Value::from(step.parameters.clone()).to_string() };
            vec![
                step.step.to_string(),
                step.action.clone(),
                word.verdict.as_str().to_owned(),
                format!("{}: {}", word.rule, word.reason),
                given,
            ]
        };
        format!("{} version {}\n{}", self.profile.name, self.profile.version, columns(&self.steps.iter().map(row).collect::<Vec<_>>()))
    }
}

/// A run that was queued, or followed to where it stands.
#[derive(Debug, Serialize)]
struct Followed {
    job: Job,
    /// The requests that it waits for.
    stages: Vec<Stage>,
}

impl Table for Followed {
    fn table(&self) -> String {
        let id = self.job.id;
        match self.job.state {
            JobState::Done => {
                let result = self.job.result.clone().unwrap_or_default();
                let figure = |name: &str| result["reported"][name].as_u64().unwrap_or_default();
                let (opened, open, expected, gone) = (figure("opened"), figure("open"), figure("expected"), figure("gone"));
                format!("run {} is done: {opened} new, {open} open, {expected} expected, {gone} gone\n", result["run"])
            }
            JobState::Waiting => {
                let row =
                    |stage: &Stage| format!("  stage {}: {} ({}), until {}\n", stage.id, stage.action, stage.reason, stage.expires_at);
                format!("job {id} waits for an operator's word:\n{}", self.stages.iter().map(row).collect::<String>())
            }
            _ => format!("job {id} is queued\n"),
        }
    }
}

/// What a replay gave.
#[derive(Debug, Serialize)]
struct Replayed {
    run: i64,
    same: bool,
    bytes: usize,
    findings: usize,
}

impl Table for Replayed {
    fn table(&self) -> String {
        format!("run {}: the same {} bytes with {} findings\n", self.run, self.bytes, self.findings)
    }
}

/// What differs between two results, by key.
#[derive(Debug, Serialize, PartialEq, Default)]
struct Differs {
    only_a: Vec<String>,
    only_b: Vec<String>,
    changed: Vec<String>,
}

impl Table for Differs {
    fn table(&self) -> String {
        let lines = |sign: char, keys: &[String]| keys.iter().map(|key| format!("{sign} {key}\n")).collect::<String>();
        let all = lines('-', &self.only_a) + &lines('+', &self.only_b) + &lines('~', &self.changed);
        if all.is_empty() { "nothing differs\n".to_owned() } else { all }
    }
}

/// Every action.
#[derive(Debug, Serialize)]
struct Actions {
    actions: Vec<Value>,
}

impl Table for Actions {
    fn table(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let row = |action: &Value| vec![text(&action["name"]), text(&action["risk"]), text(&action["about"])];
        columns(&self.actions.iter().map(row).collect::<Vec<_>>())
    }
}

/// Runs the verb, or without one the service.
pub(crate) fn run(paths: &Paths, format: Format, options: Ai) -> Result<Exit> {
    let Some(verb) = options.verb else { return crate::ai::serve(paths) };
    let client = Client::new(paths.socket());
    match verb {
        AiVerb::Run { profile, wait, timeout } => return enqueue(&client, format, profile, wait, timeout.map(Duration::from_secs)),
        AiVerb::Runs { limit } => emit(format, &block_on(client.get::<Runs>(&format!("/v1/runs?limit={limit}")))?),
        AiVerb::Plan { profile } => {
            let found = block_on(newest(&client, &profile, None))?;
            let parsed = Profile::parse_kept(&found.name, &found.text)?;
            emit(format, &plan(&parsed, &found.sha256, &config::load(paths)?.policy, 0));
        }
        AiVerb::Replay { run } => emit(format, &block_on(replay(&client, run))?),
        AiVerb::Diff { a, b } => {
            let (a, b) = block_on(async { Ok((result(&client, a).await?, result(&client, b).await?)) })?;
            emit(format, &differs(&a, &b));
        }
        AiVerb::Actions => {
            let shown = actions::ALL.iter().map(|action| {
                let parameters: BTreeMap<_, _> =
                    action.parameters.iter().map(|parameter| (parameter.name, parameter.kind.expected())).collect();
                json!({ "name": action.name, "risk": action.risk.as_str(), "about": action.about, "parameters": parameters })
            });
            emit(format, &Actions { actions: shown.collect() });
        }
    }
    Ok(Exit::Success)
}

fn enqueue(client: &Client, format: Format, profile: String, wait: bool, timeout: Option<Duration>) -> Result<Exit> {
    let followed = block_on(async {
        newest(client, &profile, None).await?;
        let new = json!({ "kind": "run", "profile": profile, "by": super::work::by() });
        let mut job: Job = client.post("/v1/jobs", &new).await?;
        let progress = Progress::new(format);
        let (mut told, mut nobody, began) = (None, false, Instant::now());
        while wait && matches!(job.state, JobState::Queued | JobState::Leased) {
            if told != Some(job.state) {
                progress.step(if job.state == JobState::Queued { "queued" } else { "running" }, &format!("job {}", job.id));
                told = Some(job.state);
            }
            if timeout.is_some_and(|timeout| began.elapsed() >= timeout) {
                progress.done();
                return Err(Fault::new(Code::RunNotInTime, "the run has not ended in time")
                    .fact("job", job.id)
                    .fact("state", job.state.as_str()));
            }
            if job.state == JobState::Queued && !nobody && began.elapsed() >= NOBODY {
                let what = format!("job {} is queued, and no worker has taken it yet; see: systemctl status smolotchi-ai", job.id);
                match format {
                    Format::Json => progress.step("queued", &what),
                    Format::Table => progress.note(&what),
                }
                nobody = true;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            job = client.get(&format!("/v1/jobs/{}", job.id)).await?;
        }
        progress.done();
        let mut stages = Vec::new();
        if job.state == JobState::Waiting {
            stages = pending(client, job.id).await?;
        }
        Ok(Followed { job, stages })
    })?;
    if matches!(followed.job.state, JobState::Failed | JobState::Cancelled) {
        let why = followed.job.error.clone().unwrap_or_else(|| "it was cancelled".to_owned());
        return Err(Fault::new(Code::RunFailed, "the run failed").fact("job", followed.job.id).fact("why", why));
    }
    emit(format, &followed);
    Ok(Exit::Success)
}

/// The stage requests of a job that wait for a word.
pub(super) async fn pending(client: &Client, job: i64) -> Result<Vec<Stage>> {
    let Stages { mut stages, .. } = client.get("/v1/stages?state=pending").await?;
    stages.retain(|stage| stage.job_id == job && stage.state == StageState::Pending);
    Ok(stages)
}

/// A run that is done.
async fn done(client: &Client, id: i64) -> Result<Run> {
    let run: Run = client.get(&format!("/v1/runs/{id}")).await?;
    if run.state == RunState::Done {
        return Ok(run);
    }
    Err(Fault::new(Code::RunNotDone, "the run is not done, so there is nothing to compare")
        .fact("run", id)
        .fact("state", run_word(run.state)))
}

async fn result(client: &Client, id: i64) -> Result<Outcome> {
    let run = done(client, id).await?;
    document(client, run.result_artifact.ok_or_else(|| lost(id, "result"))?).await
}

async fn replay(client: &Client, id: i64) -> Result<Replayed> {
    let run = done(client, id).await?;
    let plan: Plan = document(client, run.plan_artifact.ok_or_else(|| lost(id, "plan"))?).await?;
    let inputs = document(client, run.inputs_artifact.ok_or_else(|| lost(id, "inputs"))?).await?;
    let result = run.result_artifact.ok_or_else(|| lost(id, "result"))?;
    let recorded = client.content(&format!("/v1/artifacts/{result}/content")).await?;
    let again = judge(&plan, &inputs);
    let made = bytes(&again)?;
    if made == recorded {
        return Ok(Replayed { run: id, same: true, bytes: made.len(), findings: again.findings.len() });
    }
    let mut fault = Fault::new(Code::ReplayDiffers, "the same inputs give another result now").fact("run", id);
    fault = fault.fact("bytes_recorded", recorded.len()).fact("bytes_now", made.len());
    if let Ok(before) = serde_json::from_slice::<Outcome>(&recorded) {
        fault = fault.fact("differs", json!(differs(&before, &again)));
    }
    Err(fault)
}

fn lost(run: i64, what: &str) -> Fault {
    Fault::new(Code::RunRecord, "the run has no such record").fact("run", run).fact("record", what)
}

/// Compares two results by the keys of their findings.
fn differs(a: &Outcome, b: &Outcome) -> Differs {
    let by_key = |outcome: &Outcome| -> BTreeMap<String, NewFinding> {
        outcome.findings.iter().map(|finding| (finding.key.clone(), finding.clone())).collect()
    };
    let (a, b) = (by_key(a), by_key(b));
    let only = |one: &BTreeMap<String, NewFinding>, other: &BTreeMap<String, NewFinding>| {
        one.keys().filter(|key| !other.contains_key(*key)).cloned().collect::<Vec<_>>()
    };
    // Which step of which plan found it is not what was found.
    let same =
        |x: &NewFinding, y: &NewFinding| (&x.title, x.severity, x.expected, &x.detail) == (&y.title, y.severity, y.expected, &y.detail);
    let changed = a.iter().filter(|(key, finding)| b.get(*key).is_some_and(|other| !same(finding, other)));
    Differs { only_a: only(&a, &b), only_b: only(&b, &a), changed: changed.map(|(key, _)| key.clone()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::plan::Source;

    #[test]
    fn results_are_compared_by_key() {
        let finding = |key: &str, detail: i64, step| NewFinding {
            key: key.into(),
            title: "t".into(),
            severity: smolotchi_store::Severity::Info,
            expected: false,
            action: "a".into(),
            step,
            policy: Value::Null,
            detail: json!(detail),
        };
        let outcome = |findings| Outcome {
            format: "f".into(),
            profile: Source { name: "p".into(), version: 1, sha256: String::new() },
            baseline: None,
            steps: Vec::new(),
            unjudged: Vec::new(),
            findings,
        };
        let a = outcome(vec![finding("a", 1, 1), finding("b", 1, 1), finding("c", 1, 1)]);
        let b = outcome(vec![finding("b", 2, 1), finding("c", 1, 2), finding("d", 1, 1)]);
        let expected = Differs { only_a: vec!["a".into()], only_b: vec!["d".into()], changed: vec!["b".into()] };
        assert_eq!(differs(&a, &b), expected);
        assert_eq!(differs(&a, &a), Differs::default());
    }
}
