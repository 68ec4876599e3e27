//! What is to be done, is being done and was done, and which steps wait for somebody's word.

use super::super::asked::Asked;
use super::super::part::{Part, part};
use super::super::routes::Site;
use super::words::{facts, json, mark, time, word};
use super::{Failure, Looked, Page, artifacts, choice, fact, nothing_like, one_more, search, shown, table, turn};
use crate::wire::{self, Stage, StageState};
use axum::http::StatusCode;
use maud::{Markup, html};
use serde::Serialize;
use serde_json::Value;
use smolotchi_operator::Code;

/// What core can look for in its jobs.
const FILTERS: [&str; 3] = ["state", "search", "before"];
/// How many stage requests are shown, decided ones as well.
const STAGES: &str = "/v1/stages?limit=20";

/// One page of jobs, with the stage requests.
#[derive(Debug, Serialize)]
pub(in super::super) struct Jobs {
    jobs: Part<wire::Jobs>,
    stages: Part<wire::Stages>,
}

impl Page for Jobs {
    const SECTION: &'static str = "/jobs";
    const RELOADS: bool = false;

    async fn look(site: &Site, asked: &Asked) -> Looked<Self> {
        let call = asked.call("/v1/jobs", &FILTERS, &[("limit", &one_more())]);
        Ok(Jobs { jobs: part(&site.core, &call).await?, stages: part(&site.core, STAGES).await? })
    }

    fn title(&self) -> String {
        "Jobs".to_owned()
    }

    fn status(&self) -> StatusCode {
        self.jobs.status()
    }

    fn main(&self, asked: &Asked) -> Markup {
        html! {
            h1 { "Jobs and stages" }
            section {
                h2 { "Stage requests" }
                p.soft { "A step above the allowed risk stops here until an operator decides, or time runs out." }
                (self.stages.show(|stages| html! {
                    @if stages.stages.is_empty() { p { "No step ever had to wait." } } @else { (requests(asked, &stages.stages)) }
                }))
            }
            section {
                h2 { "Jobs" }
                (choice(asked, "state", "State", &["queued", "leased", "waiting", "done", "failed", "cancelled"]))
                (search(asked, &[("search", "Kind, profile, who asked, or error", &[], "sockets")]))
                (self.jobs.show(|jobs| {
                    let (jobs, older) = shown(&jobs.jobs, jobs.next, |job| job.id);
                    html! {
                        @if jobs.is_empty() {
                            @if FILTERS.iter().any(|name| asked.filter(name).is_some()) { (nothing_like("job", older)) }
                            @else { p { "There is no job yet. " code { "smolotchi jobs add run --profile NAME" } " adds one." } }
                        } @else {
                            (table("Newest first", &["Job", "State", "Asked by", "Attempts", "Changed", "Error"], jobs.iter().map(|job| row(asked, job))))
                        }
                        (turn(asked, older))
                    }
                }))
            }
        }
    }
}

fn name(job: &wire::Job) -> String {
    job.profile.as_ref().map_or_else(|| job.kind.clone(), |profile| format!("{} {profile}", job.kind))
}

fn row(asked: &Asked, job: &wire::Job) -> Vec<Markup> {
    vec![
        html! { a href=(asked.to(&format!("/jobs/{}", job.id))) { (job.id) ": " (name(job)) } },
        mark(&word(job.state)),
        html! { (job.created_by) },
        html! { (job.attempts) " of " (job.max_attempts) },
        time(&job.changed_at),
        html! { (job.error.as_deref().unwrap_or("none")) },
    ]
}

fn requests(asked: &Asked, stages: &[Stage]) -> Markup {
    table("Newest first", &["Step", "State", "Risk", "Why it waits", "Decision"], stages.iter().map(|stage| {
        vec![
            html! { (stage.action) ", step " (stage.step) " of " a href=(asked.to(&format!("/jobs/{}", stage.job_id))) { "job " (stage.job_id) } },
            mark(&word(stage.state)),
            mark(&stage.risk),
            html! { (stage.reason) },
            match (stage.state, &stage.decided_at) {
                (StageState::Pending, _) => html! { "until " (time(&stage.expires_at)) ": " code { "smolotchi stages approve " (stage.id) } },
                (_, Some(at)) => html! { (time(at)) @if let Some(by) = &stage.decided_by { " by " (by) } @if let Some(why) = &stage.why { ": " (why) } },
                (_, None) => html! { (time(&stage.expires_at)) },
            },
        ]
    }))
}

/// Everything about one job.
#[derive(Debug, Serialize)]
pub(in super::super) struct Job {
    job: wire::Job,
    stages: Part<wire::Stages>,
    artifacts: Part<wire::Artifacts>,
}

impl Page for Job {
    const SECTION: &'static str = "/jobs";
    const RELOADS: bool = true;

    async fn look(site: &Site, asked: &Asked) -> Looked<Self> {
        let missing = || Failure::missing(Code::JobUnknown, "There is no such job.");
        let number = asked.number().ok_or_else(missing)?;
        let job: wire::Job = match site.core.ask(&format!("/v1/jobs/{number}")).await? {
            Ok(job) => job,
            Err((_, fault)) => return Err(Failure::missing(fault.code, format!("There is no job {number} to show: {}.", fault.message))),
        };
        let mut stages: Part<wire::Stages> = part(&site.core, "/v1/stages?limit=1000").await?;
        if let Part::Here(stages) = &mut stages {
            stages.stages.retain(|stage| stage.job_id == number);
        }
        Ok(Job { job, stages, artifacts: part(&site.core, &format!("/v1/artifacts?job={number}&limit=50")).await? })
    }

    fn title(&self) -> String {
        format!("Job {}", self.job.id)
    }

    fn main(&self, asked: &Asked) -> Markup {
        let job = &self.job;
        html! {
            p.crumbs { a href=(asked.to("/jobs")) { "Jobs" } " / " (job.id) }
            section.answer.ill[job.state == wire::JobState::Failed].busy[job.state == wire::JobState::Waiting] {
                h1 { "Job " (job.id) ": " (name(job)) }
                p { (mark(&word(job.state))) }
                @if let Some(error) = &job.error { p { (error) } }
                dl {
                    (fact("Asked for", html! { (time(&job.created_at)) span.soft { "by " (job.created_by) } }))
                    (fact("Due", time(&job.due_at)))
                    (fact("Changed", time(&job.changed_at)))
                    (fact("Attempts", html! { (job.attempts) " of " (job.max_attempts) }))
                    (fact("Priority", html! { (job.priority) }))
                }
            }
            @if self.stages.here().is_some_and(|stages| !stages.stages.is_empty()) {
                section { h2 { "Stage requests" } (self.stages.show(|stages| requests(asked, &stages.stages))) }
            }
            section {
                h2 { "Result" }
                @match &job.result { Some(result @ Value::Object(_)) => (facts(result)), Some(other) => (json(other)), None => p { "There is none." } }
            }
            section {
                h2 { "Artifacts" }
                (self.artifacts.show(|artifacts| html! {
                    @if artifacts.artifacts.is_empty() { p { "It made none." } } @else { (artifacts::list(asked, &artifacts.artifacts)) }
                }))
            }
            section { h2 { "Input" } @match &job.input { Value::Null => p { "It was asked for without." }, input => (facts(input)) } }
        }
    }
}
