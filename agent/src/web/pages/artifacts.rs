//! What runs left behind: the list, and one with its content where that is short text.

use super::super::asked::Asked;
use super::super::part::{Part, part};
use super::super::routes::Site;
use super::words::{mark, size, time, word};
use super::{Failure, Looked, Page, choice, fact, nothing_like, one_more, search, shown, table, turn};
use crate::wire::{self, ArtifactState};
use axum::http::StatusCode;
use maud::{Markup, html};
use serde::Serialize;
use smolotchi_operator::Code;

/// What core can look for in its artifacts.
const FILTERS: [&str; 6] = ["search", "kind", "job", "run", "state", "before"];
/// Content up to this is shown, if it is text.
const MAX_SHOWN: u64 = 32 * 1024;

/// One page of artifacts.
#[derive(Debug, Serialize)]
pub(in super::super) struct Artifacts {
    #[serde(flatten)]
    artifacts: Part<wire::Artifacts>,
}

impl Page for Artifacts {
    const SECTION: &'static str = "/artifacts";
    const RELOADS: bool = false;

    async fn look(site: &Site, asked: &Asked) -> Looked<Self> {
        let call = asked.call("/v1/artifacts", &FILTERS, &[("limit", &one_more())]);
        Ok(Artifacts { artifacts: part(&site.core, &call).await? })
    }

    fn title(&self) -> String {
        "Artifacts".to_owned()
    }

    fn status(&self) -> StatusCode {
        self.artifacts.status()
    }

    fn main(&self, asked: &Asked) -> Markup {
        html! {
            h1 { "Artifacts" }
            (choice(asked, "state", "State", &["whole", "damaged"]))
            (search(asked, &[("search", "Name, kind, or media type", &[], "plan.json"), ("kind", "Kind", &[], "plan"), ("job", "Job", &[], "12"), ("run", "Run", &[], "7")]))
            section {
                h2.hidden { "List of artifacts" }
                (self.artifacts.show(|artifacts| {
                    let (artifacts, older) = shown(&artifacts.artifacts, artifacts.next, |artifact| artifact.id);
                    html! {
                        @if !artifacts.is_empty() { (list(asked, artifacts)) }
                        @else if FILTERS.iter().any(|name| asked.filter(name).is_some()) { (nothing_like("artifact", older)) }
                        @else { p { "There is none yet. Runs keep here what they planned, saw and found." } }
                        (turn(asked, older))
                    }
                }))
            }
        }
    }
}

/// Artifacts as a table.
pub(super) fn list(asked: &Asked, artifacts: &[wire::Artifact]) -> Markup {
    table(
        "Newest first",
        &["Artifact", "Kind", "State", "Size", "Made"],
        artifacts.iter().map(|artifact| {
            vec![
                html! { a href=(asked.to(&format!("/artifacts/{}", artifact.id))) { (artifact.id) ": " (artifact.name) } },
                html! { (artifact.kind) },
                mark(&word(artifact.state)),
                html! { (size(artifact.bytes as f64)) },
                time(&artifact.created_at),
            ]
        }),
    )
}

/// Everything about one artifact.
#[derive(Debug, Serialize)]
pub(in super::super) struct Artifact {
    artifact: wire::Artifact,
    /// Its text, if it is short.
    text: Option<String>,
}

impl Page for Artifact {
    const SECTION: &'static str = "/artifacts";
    const RELOADS: bool = false;

    async fn look(site: &Site, asked: &Asked) -> Looked<Self> {
        let missing = || Failure::missing(Code::ArtifactUnknown, "There is no such artifact.");
        let number = asked.number().ok_or_else(missing)?;
        let artifact: wire::Artifact = match site.core.ask(&format!("/v1/artifacts/{number}")).await? {
            Ok(artifact) => artifact,
            Err((_, fault)) => {
                return Err(Failure::missing(fault.code, format!("There is no artifact {number} to show: {}.", fault.message)));
            }
        };
        let text = if is_text(&artifact) {
            // What core refuses to give (it found it damaged just now) is not shown either.
            let content = site.core.ask_bytes(&format!("/v1/artifacts/{number}/content")).await?;
            content.ok().and_then(|content| String::from_utf8(content.to_vec()).ok())
        } else {
            None
        };
        Ok(Artifact { artifact, text })
    }

    fn title(&self) -> String {
        format!("Artifact {}", self.artifact.id)
    }

    fn main(&self, asked: &Asked) -> Markup {
        let artifact = &self.artifact;
        html! {
            p.crumbs { a href=(asked.to("/artifacts")) { "Artifacts" } " / " (artifact.id) }
            section.answer.ill[artifact.state == ArtifactState::Damaged] {
                h1 { (artifact.name) }
                p { (mark(&word(artifact.state))) @if let Some(fault) = &artifact.fault { " " (fault) } }
                dl.facts {
                    (fact("Kind", html! { (artifact.kind) ", " (artifact.media) }))
                    (fact("Size", html! { (size(artifact.bytes as f64)) " (" (artifact.bytes) " bytes)" }))
                    (fact("sha256", html! { code { (artifact.sha256) } }))
                    (fact("Made", html! {
                        (time(&artifact.created_at))
                        @if let Some(job) = artifact.job_id { " by " a href=(asked.to(&format!("/jobs/{job}"))) { "job " (job) } }
                        @if let Some(run) = artifact.run_id { ", run " (run) }
                    }))
                    (fact("Compared", match &artifact.checked_at { Some(at) => time(at), None => html! { "not since it was put" } }))
                }
            }
            section {
                h2 { "Content" }
                @match &self.text {
                    Some(text) if text.is_empty() => p { "It is empty." },
                    Some(text) => pre tabindex="0" { (pretty(artifact, text)) },
                    None if artifact.state == ArtifactState::Damaged => p { "It is not what was put, and is not shown." },
                    None => p { "It is not shown here: it is not text, or too long. " code { "smolotchi artifacts export " (artifact.id) } " writes it to a file." },
                }
            }
        }
    }
}

/// Whether it is short text, by its media type.
fn is_text(artifact: &wire::Artifact) -> bool {
    let media = artifact.media.split(';').next().unwrap_or_default().trim();
    let text = media.starts_with("text/") || ["application/json", "application/toml"].contains(&media);
    text && artifact.bytes <= MAX_SHOWN && artifact.state == ArtifactState::Whole
}

/// JSON indented; other text as it is.
fn pretty(artifact: &wire::Artifact, text: &str) -> String {
    let json = artifact.media.starts_with("application/json").then(|| serde_json::from_str::<serde_json::Value>(text).ok()).flatten();
    json.and_then(|json| serde_json::to_string_pretty(&json).ok()).unwrap_or_else(|| text.to_owned())
}
