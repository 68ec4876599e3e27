//! Carries one run out, from wherever a worker before left it: what is recorded is never done again.
//!
//! The order is the point: the plan is recorded before a step is done, what was seen before it is judged, the result before it is
//! reported; and each record is one that a second try finds. So a worker may be killed anywhere.

use super::actions;
use super::judge::{Came, Expected, INPUTS, Inputs, Seen, judge};
use super::look::{Look, patiently};
use super::plan::{Plan, Planned, Verdict, plan};
use super::profile::Profile;
use crate::client::Client;
use crate::config;
use crate::paths::Paths;
use crate::wire::{AdvanceRun, Baselines, BeginRun, Job, NewStage, Profiles, ReportRun, Reported, Run, RunState, Runs, Stage, StageState};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use smolotchi_operator::{Code, Fault, Result};

const HOUR_MS: u64 = 3_600_000;

/// How a run was left.
#[derive(Debug, PartialEq)]
pub(super) enum Left {
    /// Done, with what came out.
    Done(Value),
    /// It waits for somebody's word.
    Waiting,
}

/// One run of one job.
struct Course<'a> {
    look: Look<'a>,
    run: Run,
}

/// Carries the run of a job out, or on.
pub(super) async fn carry_out(client: &Client, paths: &Paths, job: &Job, token: &str) -> Result<Left> {
    let name = job.profile.clone().unwrap_or_default();
    let profiles: Profiles = client.get(&format!("/v1/profiles?name={}", super::escaped(&name))).await?;
    let newest = profiles.profiles.into_iter().next();
    let newest = newest.ok_or_else(|| Fault::new(Code::ProfileUnknown, "there is no such profile").fact("profile", name.as_str()))?;
    let begin = BeginRun { job_id: job.id, token: token.to_owned(), profile: name, profile_version: newest.version };
    let run: Run = client.post("/v1/runs", &begin).await?;
    let mut course = Course { look: Look { client, paths, run_id: run.id, job_id: job.id, token, stage: None }, run };
    if course.run.state == RunState::Done {
        return Ok(Left::Done(json!({ "run": course.run.id })));
    }
    let plan = match course.recorded_plan().await? {
        Some((id, plan)) => {
            if course.run.plan_artifact.is_none() {
                course.advance(AdvanceRun { plan_artifact: Some(id), ..AdvanceRun::default() }).await?;
            }
            plan
        }
        None => course.make_plan(&newest).await?,
    };
    // The newest one: a worker may have been killed before the run named it.
    let (mut recorded, mut inputs) = match course.look.newest("inputs").await? {
        Some(artifact) => {
            let inputs: Inputs = document(client, artifact.id).await?;
            (Some((artifact.id, inputs.steps.len())), inputs)
        }
        None => (None, Inputs { format: INPUTS.to_owned(), baseline: course.baseline().await?, steps: Vec::new() }),
    };
    for step in plan.steps.get(inputs.steps.len()..).unwrap_or_default() {
        let Some(seen) = course.step(&plan, step).await? else {
            course.keep(&inputs, &mut recorded).await?;
            course.advance(AdvanceRun { state: Some(RunState::Waiting), ..AdvanceRun::default() }).await?;
            return Ok(Left::Waiting);
        };
        inputs.steps.push(seen);
        // A step that somebody allowed, and that may have written something, is never done again.
        if step.word.verdict == Verdict::Stage {
            course.keep(&inputs, &mut recorded).await?;
        }
    }
    course.keep(&inputs, &mut recorded).await?;
    let reported = course.report(&plan, &inputs).await?;
    Ok(Left::Done(json!({ "run": course.run.id, "reported": reported })))
}

impl Course<'_> {
    /// Plans by the newest profile and the policy of this moment, and records it.
    async fn make_plan(&mut self, newest: &crate::wire::Profile) -> Result<Plan> {
        let policy = config::load(self.look.paths)?.policy;
        let profile = Profile::parse_kept(&format!("{} {}", newest.name, newest.version), &newest.text)?;
        let runs: Runs = self.look.client.get("/v1/runs?limit=200").await?;
        let now = crate::clock::now_ms();
        let recent = |run: &&Run| {
            let started = run.started_at.parse::<jiff::Timestamp>().map(|at| at.as_millisecond());
            // Either way: after a jump of the clock, runs may lie ahead.
            run.id != self.run.id && started.is_ok_and(|at| now.abs_diff(at) < HOUR_MS)
        };
        let recent = runs.runs.iter().filter(recent).count() as u64;
        let made = plan(&profile, &newest.sha256, &policy, recent);
        let id = self.look.put("plan", "plan.json", bytes(&made)?).await?;
        self.advance(AdvanceRun { plan_artifact: Some(id), ..AdvanceRun::default() }).await?;
        Ok(made)
    }

    /// One step: what came of it, or nothing yet because somebody has to decide first.
    async fn step(&self, plan: &Plan, step: &Planned) -> Result<Option<Seen>> {
        let seen = |came, why, observation| Seen { step: step.step, action: step.action.clone(), came, why, observation };
        let mut look = self.look;
        let allowed = match step.word.verdict {
            Verdict::Deny => return Ok(Some(seen(Came::Denied, Some(format!("{}: {}", step.word.rule, step.word.reason)), Value::Null))),
            Verdict::Allow => None,
            Verdict::Stage => {
                let stage = self.stage(plan, step).await?;
                let by = stage.decided_by.as_deref().unwrap_or("nobody");
                let why =
                    format!("stage {} was {} by {by}: {}", stage.id, word(stage.state), stage.why.as_deref().unwrap_or("no reason given"));
                match stage.state {
                    StageState::Pending => return Ok(None),
                    StageState::Approved => {
                        look.stage = Some(stage.id);
                        Some(why)
                    }
                    StageState::Denied | StageState::Expired => return Ok(Some(seen(Came::Refused, Some(why), Value::Null))),
                }
            }
        };
        let observation = match actions::find(&step.action) {
            Some(action) => actions::look(action, &step.parameters, &look).await?,
            None => actions::absent("this release has no such action"),
        };
        Ok(Some(seen(Came::Looked, allowed, observation)))
    }

    /// The step's request, made now or before.
    async fn stage(&self, plan: &Plan, step: &Planned) -> Result<Stage> {
        let new = NewStage {
            token: self.look.token.to_owned(),
            run_id: self.run.id,
            job_id: self.look.job_id,
            step: step.step,
            action: step.action.clone(),
            risk: step.word.risk.clone(),
            reason: step.word.reason.clone(),
            valid_s: plan.policy.decision_hours * 3600,
        };
        self.look.client.post("/v1/stages", &new).await
    }

    /// The baseline that holds now.
    async fn baseline(&self) -> Result<Option<Expected>> {
        let found: Baselines =
            self.look.client.get(&format!("/v1/baselines?profile={}&limit=1", super::escaped(&self.run.profile))).await?;
        Ok(found.baselines.into_iter().next().map(|baseline| Expected { id: baseline.id, expected: baseline.expected }))
    }

    /// The plan that the run has already: the one that it names, or one that a worker put before it was killed.
    async fn recorded_plan(&self) -> Result<Option<(i64, Plan)>> {
        let id = match self.run.plan_artifact {
            Some(id) => Some(id),
            None => self.look.newest("plan").await?.map(|artifact| artifact.id),
        };
        match id {
            Some(id) => document(self.look.client, id).await.map(|plan| Some((id, plan))),
            None => Ok(None),
        }
    }

    /// Records what was seen, unless that is recorded already: `recorded` is the artifact and how many steps it has.
    async fn keep(&mut self, inputs: &Inputs, recorded: &mut Option<(i64, usize)>) -> Result<()> {
        let count = inputs.steps.len();
        let id = match recorded {
            Some((id, steps)) if *steps == count => *id,
            _ => self.look.put("inputs", &format!("inputs-{count}.json"), bytes(inputs)?).await?,
        };
        *recorded = Some((id, count));
        if self.run.inputs_artifact == Some(id) {
            return Ok(());
        }
        self.advance(AdvanceRun { inputs_artifact: Some(id), ..AdvanceRun::default() }).await
    }

    /// Judges, records the result and reports it.
    async fn report(&mut self, plan: &Plan, inputs: &Inputs) -> Result<Reported> {
        let outcome = judge(plan, inputs);
        let result = match self.look.newest("result").await? {
            Some(artifact) => artifact.id,
            None => self.look.put("result", "result.json", bytes(&outcome)?).await?,
        };
        let report = ReportRun {
            token: self.look.token.to_owned(),
            evidence: self.run.inputs_artifact,
            result_artifact: Some(result),
            unjudged: outcome.unjudged,
            findings: outcome.findings,
        };
        self.look.client.post(&format!("/v1/runs/{}/report", self.run.id), &report).await
    }

    async fn advance(&mut self, change: AdvanceRun) -> Result<()> {
        let change = AdvanceRun { token: self.look.token.to_owned(), ..change };
        self.run = self.look.client.post(&format!("/v1/runs/{}", self.run.id), &change).await?;
        Ok(())
    }
}

/// An artifact's content as a document of ours.
pub(crate) async fn document<T: DeserializeOwned>(client: &Client, id: i64) -> Result<T> {
    let path = format!("/v1/artifacts/{id}/content");
    let content = patiently(async || client.content(&path).await).await?;
    serde_json::from_slice(&content).map_err(|error| {
        Fault::new(Code::RunRecord, "what the run recorded is not what this release understands").fact("artifact", id).cause(&error)
    })
}

/// A document as it is recorded.
pub(crate) fn bytes<T: Serialize>(document: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|error| Fault::new(Code::RunRecord, "could not put the record into words").cause(&error))
}

fn word(state: StageState) -> &'static str {
    match state {
        StageState::Pending => "not decided",
        StageState::Approved => "approved",
        StageState::Denied => "denied",
        StageState::Expired => "left to expire",
    }
}
