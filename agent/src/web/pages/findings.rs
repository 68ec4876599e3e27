//! What the profiles found: the list, and the dossier of one with its why-chain.

use super::super::asked::Asked;
use super::super::part::{Part, part};
use super::super::routes::Site;
use super::words::{facts, mark, time, word};
use super::{Failure, Looked, Page, choice, fact, one_more, search, shown, table, turn};
use crate::wire::{self, Finding, FindingState, WhyChain};
use axum::http::StatusCode;
use maud::{Markup, html};
use serde::Serialize;
use smolotchi_operator::Code;

/// What core can look for in its findings.
const FILTERS: [&str; 5] = ["state", "profile", "severity", "search", "before"];

/// One page of findings.
#[derive(Debug, Serialize)]
pub(in super::super) struct Findings {
    #[serde(flatten)]
    findings: Part<wire::Findings>,
}

impl Page for Findings {
    const SECTION: &'static str = "/findings";
    const RELOADS: bool = false;

    async fn look(site: &Site, asked: &Asked) -> Looked<Self> {
        let call = asked.call("/v1/findings", &FILTERS, &[("limit", &one_more())]);
        Ok(Findings { findings: part(&site.core, &call).await? })
    }

    fn title(&self) -> String {
        "Findings".to_owned()
    }

    fn status(&self) -> StatusCode {
        self.findings.status()
    }

    fn main(&self, asked: &Asked) -> Markup {
        html! {
            h1 { "Findings" }
            (choice(asked, "state", "State", &["open", "expected", "gone"]))
            (search(asked, &[
                ("search", "Text", &[], "0.0.0.0:22"),
                ("profile", "Profile", &[], "sockets"),
                ("severity", "At least", &["debug", "info", "notice", "warning", "error"], ""),
            ]))
            section {
                h2.hidden { "List of findings" }
                (self.findings.show(|found| {
                    let (findings, older) = shown(&found.findings, found.next, |finding| finding.id);
                    html! {
                        @if findings.is_empty() { (nothing(asked)) }
                        @else {
                            (table(&format!("{} open in all", found.open), &["Finding", "Severity", "State", "Profile", "Last seen", "Times"], findings.iter().map(|finding| row(asked, finding))))
                        }
                        (turn(asked, older))
                    }
                }))
            }
        }
    }
}

fn nothing(asked: &Asked) -> Markup {
    html! {
        @if FILTERS.iter().any(|name| asked.filter(name).is_some()) { p { "No finding is like this." } }
        @else { p { "Nothing was found yet. A profile says what to look at; a job runs it: " code { "smolotchi jobs add run --profile NAME" } "." } }
    }
}

fn row(asked: &Asked, finding: &Finding) -> Vec<Markup> {
    vec![
        html! { a href=(asked.to(&format!("/findings/{}", finding.id))) { (finding.title) } },
        mark(finding.severity.as_str()),
        mark(&word(finding.state)),
        html! { (finding.profile) },
        time(&finding.last_at),
        html! { (finding.times) },
    ]
}

/// Everything about one finding.
#[derive(Debug, Serialize)]
pub(in super::super) struct Dossier {
    #[serde(flatten)]
    chain: WhyChain,
}

impl Page for Dossier {
    const SECTION: &'static str = "/findings";
    const RELOADS: bool = false;

    async fn look(site: &Site, asked: &Asked) -> Looked<Self> {
        let missing = || Failure::missing(Code::FindingUnknown, "There is no such finding.");
        let number = asked.number().ok_or_else(missing)?;
        match site.core.ask(&format!("/v1/findings/{number}")).await? {
            Ok(chain) => Ok(Dossier { chain }),
            Err((_, fault)) => Err(Failure::missing(fault.code, format!("There is no finding {number} to show: {}.", fault.message))),
        }
    }

    fn title(&self) -> String {
        format!("Finding {}", self.chain.finding.id)
    }

    fn main(&self, asked: &Asked) -> Markup {
        let finding = &self.chain.finding;
        let severe = finding.state == FindingState::Open && finding.severity >= smolotchi_store::Severity::Warning;
        html! {
            p.crumbs { a href=(asked.to("/findings")) { "Findings" } " / " (finding.id) }
            section.answer.busy[severe] {
                h1 { (finding.title) }
                p { (mark(finding.severity.as_str())) " " (mark(&word(finding.state))) " " (state(finding.state)) }
                p { code { (finding.key) } }
            }
            section {
                h2 { "Facts" }
                (facts(&finding.detail))
            }
            (self.why(asked))
            (self.history())
            section {
                h2 { "At the command line" }
                p { code { "smolotchi explain " (finding.id) } }
            }
        }
    }
}

fn state(state: FindingState) -> &'static str {
    match state {
        FindingState::Open => "It is there, and nobody said that it should be.",
        FindingState::Expected => "It is there, and the profile's baseline expects it.",
        FindingState::Gone => "It is not there any more.",
    }
}

impl Dossier {
    /// From the finding back to what was seen, link by link.
    fn why(&self, asked: &Asked) -> Markup {
        let WhyChain { finding, profile, run, evidence, .. } = &self.chain;
        let said = |name: &str| finding.policy.get(name).and_then(|value| value.as_str()).unwrap_or("unknown").to_owned();
        html! {
            section {
                h2 { "Why" }
                ol.chain {
                    li { h3 { "Finding" } p { (finding.title) } }
                    li {
                        h3 { "Profile" }
                        p { a href=(asked.to(&format!("/findings?profile={}", encoded(&finding.profile)))) { (finding.profile) } ", version " (finding.profile_version) }
                        @if let Some(profile) = profile {
                            details { summary { "What it says" } pre tabindex="0" { (profile.text) } }
                            p.soft { "added " (time(&profile.added_at)) ", sha256 " code { (profile.sha256) } }
                        } @else { p.soft { "This version is not kept any more." } }
                    }
                    li {
                        h3 { "Policy" }
                        p { "Rule " strong { (said("rule")) } " said " strong { (said("verdict")) } ": " (said("reason")) }
                        p.soft { "risk: " (said("risk")) }
                    }
                    li {
                        h3 { "Action" }
                        p { strong { (finding.action) } ", step " (finding.step) " of run " (finding.last_run) }
                        @if let Some(run) = run {
                            p.soft {
                                "run " (word(run.state)) ", begun " (time(&run.started_at))
                                @if let Some(job) = run.job_id { ", by " a href=(asked.to(&format!("/jobs/{job}"))) { "job " (job) } }
                            }
                        } @else { p.soft { "This run is not kept any more." } }
                    }
                    li {
                        h3 { "Evidence" }
                        @match (evidence, finding.evidence) {
                            (Some(artifact), _) => {
                                p { a href=(asked.to(&format!("/artifacts/{}", artifact.id))) { (artifact.name) } " " (mark(&word(artifact.state))) }
                                p.soft { "sha256 " code { (artifact.sha256) } }
                            }
                            (None, Some(id)) => p.soft { "Artifact " (id) " is not kept any more." },
                            (None, None) => p.soft { "Nothing was kept of what the action saw." },
                        }
                    }
                }
            }
        }
    }

    fn history(&self) -> Markup {
        let WhyChain { finding, baseline, .. } = &self.chain;
        html! {
            section {
                h2 { "History" }
                dl.facts {
                    (fact("First seen", html! { (time(&finding.first_at)) ", run " (finding.first_run) }))
                    (fact("Last seen", html! { (time(&finding.last_at)) ", run " (finding.last_run) }))
                    (fact("Seen", html! { (finding.times) @if finding.times == 1 { " time" } @else { " times" } }))
                    (fact("Baseline", match baseline {
                        Some(baseline) => html! {
                            "number " (baseline.id) " of " (time(&baseline.made_at)) " by " (baseline.made_by) ", "
                            @if baseline.expected.contains_key(&finding.key) { "expects it" } @else { "doesn't know it" }
                            @if let Some(note) = &baseline.note { ": " (note) }
                        },
                        None => html! { "none: nothing says what this profile should find" },
                    }))
                }
            }
        }
    }
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
