//! The first page: is it well, what changed since yesterday, and what waits for somebody. One screen.

use super::super::asked::Asked;
use super::super::routes::Site;
use super::upgrades::{class, course_title, sentence};
use super::words::{line, mark, size, time};
use super::{Looked, Page, fact};
use crate::clock;
use crate::installs::{Course, Install};
use crate::powers::loudly;
use crate::wire::{self, Check, Event, Finding, Job, Stage, Verdict};
use maud::{Markup, html};
use serde::Serialize;
use smolotchi_store::Severity;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// How many findings and requests stand on the first page.
const FEW: usize = 5;

/// What core and the installer say.
#[derive(Debug, Serialize)]
pub(in super::super) struct Now {
    #[serde(flatten)]
    core: wire::Now,
    install: Option<Install>,
    /// Since when something counts as new, RFC 3339.
    since: String,
}

impl Page for Now {
    const SECTION: &'static str = "/";
    const RELOADS: bool = true;

    async fn look(site: &Site, _: &Asked) -> Looked<Self> {
        let core = site.core.get("/v1/now").await?;
        Ok(Now { core, install: Install::read(&site.install_status), since: clock::rfc3339(clock::now_ms() - DAY_MS) })
    }

    fn title(&self) -> String {
        match (self.is_well(), self.concerns().is_empty()) {
            (true, true) => "Well",
            (true, false) => "Needs a look",
            (false, _) => "Not well",
        }
        .to_owned()
    }

    fn main(&self, asked: &Asked) -> Markup {
        html! {
            (self.answer(asked))
            (self.powers())
            (self.changed(asked))
            (self.stages(asked))
            (self.findings(asked))
            (self.upgrades(asked))
            (checks(&self.core.health.checks))
            (self.events(asked))
        }
    }
}

impl Now {
    fn is_well(&self) -> bool {
        self.core.health.verdict == Verdict::Healthy
    }

    /// What somebody should look at although every check is ok.
    fn concerns(&self) -> Vec<String> {
        let Some(figures) = &self.core.figures else { return Vec::new() };
        let errors = figures.open.get("error").copied().unwrap_or_default();
        let named = |count: u64, what: &str| (count > 0).then(|| format!("{what}: {count}"));
        named(errors, "Open findings that are errors").into_iter().chain(named(figures.artifacts_damaged, "Damaged artifacts")).collect()
    }

    fn answer(&self, asked: &Asked) -> Markup {
        let (well, concerns, status) = (self.is_well(), self.concerns(), &self.core.status);
        html! {
            section.answer.well[well && concerns.is_empty()].busy[well && !concerns.is_empty()].ill[!well] {
                h1 { @if !well { "Something is wrong" } @else if concerns.is_empty() { "This machine is well" } @else { "The agent is well, and something needs a look" } }
                @if !concerns.is_empty() { ul { @for concern in &concerns { li { (concern) } } } }
                @if !well {
                    ul { @for check in self.core.health.checks.iter().filter(|check| !check.ok) { li { strong { (check.name) } ": " (check.detail) } } }
                }
                dl {
                    (fact("Running for", html! { (clock::span(status.uptime_s)) span.soft { "since " (time(&status.started_at)) } }))
                    (fact("Version", html! { (status.version) span.soft { "schema " (status.schema) } }))
                    (fact("Events", html! { a href=(asked.to("/timeline")) { (status.events.total) } }))
                    (fact("Database", html! { (size(status.database.bytes as f64)) }))
                    @if let Some(figures) = &self.core.figures {
                        @let count = |name: &str| figures.jobs.get(name).copied().unwrap_or_default();
                        (fact("Jobs", html! { a href=(asked.to("/jobs")) { (count("queued")) " queued, " (count("leased")) " at work" } }))
                        (fact("Open findings", html! { a href=(asked.to("/findings")) { (figures.findings.get("open").copied().unwrap_or_default()) } }))
                    }
                }
            }
        }
    }

    /// What the operator has turned on beyond what is shipped.
    fn powers(&self) -> Markup {
        let powers = &self.core.status.powers;
        html! {
            @if !powers.is_empty() {
                section.busy {
                    h2 { "More is allowed than as shipped" }
                    ul.plain { @for power in powers { li { (mark("on")) span { strong { (power.unit) } " " (loudly(power)) } } } }
                }
            }
        }
    }

    /// What is new since yesterday, one line for each kind of thing.
    fn changed(&self, asked: &Asked) -> Markup {
        let new = |at: &str| at >= self.since.as_str();
        // What happened to jobs, requests and findings is told by themselves.
        let told =
            |event: &Event| ["job.", "stage.", "finding."].iter().any(|of| event.topic.starts_with(of)) && self.core.findings.is_some();
        let severe: Vec<&Event> = self.core.severe.iter().filter(|event| new(&event.at) && !told(event)).take(FEW).collect();
        let findings: Vec<&Finding> = self.core.findings.iter().flatten().filter(|finding| new(&finding.first_at)).collect();
        let failed: Vec<&Job> = self.core.failed.iter().flatten().filter(|job| new(&job.changed_at)).collect();
        let change = self.install.as_ref().filter(|install| install.ended_at().is_some_and(new));
        let started = new(&self.core.status.started_at);
        html! {
            section {
                h2 { "Since yesterday" }
                @if severe.is_empty() && findings.is_empty() && failed.is_empty() && change.is_none() && !started {
                    p { "Nothing that needs a look: no warnings, no new findings, no failed jobs, no changes of version." }
                } @else {
                    ul.plain {
                        @if let Some(install) = change { li { (mark("change")) span { (sentence(install)) } } }
                        @for event in &severe { li { (mark(severity(event).as_str())) span { (event.topic) ": " (line(&event.body)) " " span.soft { (time(&event.at)) } } } }
                        @for job in &failed {
                            li { (mark("failed")) span { a href=(asked.to(&format!("/jobs/{}", job.id))) { "Job " (job.id) } " failed: " (job.error.as_deref().unwrap_or("without a reason")) " " span.soft { (time(&job.changed_at)) } } }
                        }
                        @if !findings.is_empty() { li { (mark("new")) span { (findings.len()) @if findings.len() == 1 { " new finding" } @else { " new findings" } } } }
                        @if started { li { (mark("start")) span { "Core was started " span.soft { (time(&self.core.status.started_at)) } } } }
                    }
                }
            }
        }
    }

    fn stages(&self, asked: &Asked) -> Markup {
        let pending: &[Stage] = self.core.stages.as_deref().unwrap_or_default();
        let count = self.core.figures.as_ref().map_or(0, |figures| figures.stages_pending);
        html! {
            @if !pending.is_empty() {
                section.busy {
                    h2 { (count) @if count == 1 { " decision waits" } @else { " decisions wait" } " for you" }
                    ul.plain {
                        @for stage in pending.iter().take(FEW) {
                            li { (mark(&stage.risk)) span { strong { (stage.action) } ": " (stage.reason) " " span.soft { "until " (time(&stage.expires_at)) } " " code { "smolotchi stages approve " (stage.id) } } }
                        }
                    }
                    p { a href=(asked.to("/jobs")) { "All requests" } }
                }
            }
        }
    }

    fn findings(&self, asked: &Asked) -> Markup {
        let Some(findings) = &self.core.findings else { return html! {} };
        let mut worst: Vec<&Finding> = findings.iter().collect();
        worst.sort_by_key(|finding| std::cmp::Reverse((finding.severity, finding.id)));
        html! {
            section {
                h2 { "Open findings" }
                @if worst.is_empty() {
                    p { "There are none. Findings come from runs of profiles: " code { "smolotchi profiles" } " lists those that look." }
                } @else {
                    ul.plain {
                        @for finding in worst.iter().take(FEW) {
                            li { (mark(finding.severity.as_str())) span { a href=(asked.to(&format!("/findings/{}", finding.id))) { (finding.title) } " " span.soft { (finding.profile) ", " (time(&finding.last_at)) } } }
                        }
                    }
                    @if worst.len() > FEW { p { a href=(asked.to("/findings")) { "All findings" } } }
                }
            }
        }
    }

    fn upgrades(&self, asked: &Asked) -> Markup {
        let Some(install) = &self.install else { return html! {} };
        html! {
            section.(class(install.course())) {
                h2 { @if install.course() == Course::Quiet { "Last upgrade" } @else { (course_title(install.course())) } }
                p { (sentence(install)) }
                p { a href=(asked.to("/upgrades")) { "Upgrades and ways back" } }
            }
        }
    }

    fn events(&self, asked: &Asked) -> Markup {
        html! {
            section {
                h2 { "What happened last" }
                (list(&self.core.events))
                p { a href=(asked.to("/timeline")) { "The whole timeline" } }
            }
        }
    }
}

fn checks(checks: &[Check]) -> Markup {
    html! {
        section {
            h2 { "Checks" }
            ul.checks {
                @for check in checks {
                    li.ill[!check.ok] {
                        span.mark.ok[check.ok && !check.unknown].failed[!check.ok] { (check.word().to_lowercase()) }
                        strong { (check.name) }
                        span { (check.detail) }
                    }
                }
            }
        }
    }
}

fn severity(event: &Event) -> Severity {
    event.severity.unwrap_or(Severity::Info)
}

/// Events, each with its moment.
pub(super) fn list(events: &[Event]) -> Markup {
    html! {
        @if events.is_empty() { p { "Nothing yet. Core notes each start and stop here, and " code { "smolotchi events append" } " adds what you want to keep." } }
        ol.events {
            @for event in events {
                @let severity = severity(event);
                li {
                    p.head {
                        span.topic { (event.topic) }
                        @if severity >= Severity::Notice { (mark(severity.as_str())) }
                        (time(&event.at))
                    }
                    p.body { (line(&event.body)) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Frame;
    use super::*;
    use serde_json::json;

    fn now(ok: bool, body: &str) -> Now {
        Now {
            core: serde_json::from_value(json!({
                "status": {"version": "9.8.7", "schema": 3, "uptime_s": 61, "heartbeat_seq": 2,
                    "events": {"total": 1, "newest_id": 1, "newest_at": null}, "database": {"bytes": 4096}, "started_at": "2026-01-01T00:00:00Z"},
                "health": {"verdict": if ok { "healthy" } else { "unhealthy" }, "checks": [{"name": "disk", "ok": ok, "detail": "15 MiB free"}]},
                "events": [{"id": 1, "at": "2026-01-01T00:00:00Z", "topic": "a.b", "severity": "error", "body": body}],
                "severe": [{"id": 1, "at": "2026-01-02T00:00:00Z", "topic": "a.b", "severity": "error", "body": body}],
            }))
            .unwrap(),
            install: None,
            since: "2026-01-01T12:00:00Z".into(),
        }
    }

    fn shown(now: &Now) -> String {
        let asked = Asked::new(&"/".parse().unwrap()).unwrap();
        Frame { asked: &asked, host: "node7".into(), at: "2026-01-02T03:04:05Z".into(), refresh_seconds: Some(60) }.page(now).into_string()
    }

    #[test]
    fn the_answer_comes_first_and_nothing_is_markup() {
        let well = shown(&now(true, "<script>alert(1)</script>"));
        assert!(well.contains("This machine is well") && well.contains("9.8.7") && well.contains("1 min 1 s"), "{well}");
        let ill = shown(&now(false, "x"));
        assert!(ill.contains("Something is wrong") && ill.contains("15 MiB free"), "{ill}");
        for forbidden in ["style=", "<style", "<script", "onclick", "http://", "https://"] {
            assert!(!well.contains(forbidden), "{forbidden}: {well}");
        }
    }

    #[test]
    fn a_power_that_is_on_cannot_be_missed() {
        let mut now = now(true, "x");
        assert!(!shown(&now).contains("CAP_NET_ADMIN"));
        now.core.status.powers =
            vec![wire::Power { unit: "smolotchi-net.socket".into(), capability: "CAP_NET_ADMIN".into(), interfaces: vec!["wlan0".into()] }];
        let page = shown(&now);
        assert!(page.contains("More is allowed") && page.contains("CAP_NET_ADMIN on wlan0") && page.contains("disable --now"), "{page}");
    }

    #[test]
    fn only_what_is_young_changed_since_yesterday() {
        let mut now = now(true, "x");
        assert!(shown(&now).contains("a.b: x"));
        now.since = "2026-01-03T00:00:00Z".into();
        assert!(shown(&now).contains("Nothing that needs a look"));
    }
}
