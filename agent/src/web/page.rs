//! The page as HTML: the answer first, then the facts behind it. A pure function of what was gathered.

use super::view::{CoreView, View};
use crate::clock;
use crate::commands::events::words;
use crate::installs::{Course, Install};
use crate::release::VERSION;
use crate::wire::{Check, Event, Verdict};
use maud::{DOCTYPE, Markup, html};
use serde_json::Value;
use smolotchi_operator::Fault;
use smolotchi_store::Severity;

/// The longest body shown; the rest is for `smolotchi events list`.
const MAX_BODY_CHARS: usize = 300;

/// The whole page.
pub(super) fn page(view: &View) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(seconds) = view.refresh_seconds { meta http-equiv="refresh" content=(seconds); }
                title { (title(view)) " · " (view.host) }
                link rel="stylesheet" href="/style.css";
                link rel="icon" href="/icon.svg" type="image/svg+xml";
            }
            body {
                header { p { strong { "Smolotchi" } " on " (view.host) } }
                main {
                    @match &view.core {
                        Ok(core) => (answer(core)),
                        Err(fault) => (no_core(fault)),
                    }
                    @if let Some(install) = &view.install { (upgrades(install)) }
                    @if let Ok(core) = &view.core {
                        (checks(&core.health.checks))
                        (events(&core.events.events))
                    }
                }
                footer { p { "As of " (time(&view.at)) ", page by version " (VERSION) ". This page only shows; to change something, use the command line." } }
            }
        }
    }
}

fn title(view: &View) -> &'static str {
    match &view.core {
        Ok(core) if core.health.verdict == Verdict::Healthy => "Well",
        Ok(_) => "Not well",
        Err(_) => "No answer",
    }
}

fn answer(core: &CoreView) -> Markup {
    let well = core.health.verdict == Verdict::Healthy;
    let status = &core.status;
    html! {
        section.answer.well[well].ill[!well] {
            h1 { @if well { "This machine is well" } @else { "Something is wrong" } }
            @if !well {
                ul { @for check in core.health.checks.iter().filter(|check| !check.ok) { li { strong { (check.name) } ": " (check.detail) } } }
            }
            dl {
                div { dt { "Running for" } dd { (clock::span(status.uptime_s)) } dd.soft { "since " (time(&status.started_at)) } }
                div { dt { "Version" } dd { (status.version) } dd.soft { "schema " (status.schema) } }
                div { dt { "Events" } dd { (status.events.total) } }
                div { dt { "Database" } dd { (size(status.database.bytes)) } }
            }
        }
    }
}

fn no_core(fault: &Fault) -> Markup {
    html! {
        section.answer.ill {
            h1 { "The agent doesn't answer" }
            p { "This page runs, but core, the service behind it, can't be asked. Nothing is known about the machine's health. During an upgrade this lasts for some seconds." }
            p { code { (fault.to_string()) } }
            p { strong { "What to do: " } (fault.hint) }
        }
    }
}

fn upgrades(install: &Install) -> Markup {
    let course = install.course();
    let class = match course {
        Course::Quiet => "quiet",
        Course::UnderWay | Course::RolledBack => "busy",
        Course::Stuck => "ill",
    };
    let list = |versions: Vec<&str>| versions.join(", ");
    html! {
        section.upgrades.(class) {
            h2 { @match course {
                Course::Quiet => "Upgrades",
                Course::UnderWay => "A change is going on",
                Course::RolledBack => "The last change was taken back",
                Course::Stuck => "An operator is needed",
            } }
            @match install.sentence() {
                Some(sentence) => p { (sentence) "." @if let Some(at) = install.ended_at() { " " (time(at)) } },
                None => p { "Nothing was changed yet." },
            }
            dl {
                @if let Some(installed) = &install.installed { div { dt { "Installed" } dd { (installed) } } }
                @let slots: Vec<_> = install.slots.iter().filter_map(|slot| slot.version.as_deref()).filter(|version| install.installed.as_deref() != Some(*version)).collect();
                @if !slots.is_empty() { div { dt { "Can go back to" } dd { (list(slots)) } } }
            }
            @for blocked in &install.blocked {
                p { "Version " strong { (blocked.version.as_deref().unwrap_or("unknown")) } " is blocked" @if let Some(reason) = &blocked.reason { ": " (reason) } }
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
                        span.mark { @if check.ok { "ok" } @else { "failed" } }
                        strong { (check.name) }
                        span { (check.detail) }
                    }
                }
            }
        }
    }
}

fn events(events: &[Event]) -> Markup {
    html! {
        section {
            h2 { "What happened last" }
            @if events.is_empty() { p { "Nothing yet." } }
            ol.events {
                @for event in events {
                    @let severity = event.severity.unwrap_or(Severity::Info);
                    li.(severity.as_str()) {
                        p.head {
                            span.topic { (event.topic) }
                            @if severity >= Severity::Warning { span.mark { (severity.as_str()) } }
                            (time(&event.at))
                        }
                        p.body { (shortened(&body(&event.body))) }
                    }
                }
            }
        }
    }
}

/// A moment: for people in UTC without seconds' fractions, for programs as it is.
fn time(rfc3339: &str) -> Markup {
    let shown = rfc3339.trim_end_matches('Z').replacen('T', " ", 1);
    html! { time datetime=(rfc3339) { (shown) " UTC" } }
}

/// A body for people: an object as its pairs, everything else as at the command line.
fn body(value: &Value) -> String {
    let pair = |(name, value): (&String, &Value)| format!("{}: {}", words(&Value::from(name.as_str())), words(value));
    match value {
        Value::Object(pairs) => pairs.iter().map(pair).collect::<Vec<_>>().join(", "),
        other => words(other),
    }
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= MAX_BODY_CHARS { text.to_owned() } else { text.chars().take(MAX_BODY_CHARS).chain(['…']).collect() }
}

fn size(bytes: u64) -> String {
    if bytes < 1024 * 1024 { format!("{} KiB", bytes / 1024) } else { format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smolotchi_operator::Code;

    fn view(core: Result<CoreView, Fault>) -> View {
        View { host: "node7".into(), at: "2026-01-02T03:04:05Z".into(), core, install: None, refresh_seconds: None }
    }

    fn core(ok: bool, body: &str) -> CoreView {
        CoreView {
            status: serde_json::from_value(serde_json::json!({"version": "9.8.7", "schema": 3, "uptime_s": 61, "heartbeat_seq": 2,
                "events": {"total": 1, "newest_id": 1, "newest_at": null}, "database": {"bytes": 4096}, "started_at": "2026-01-01T00:00:00Z"}))
            .unwrap(),
            health: vec![Check::new("disk", ok, "15 MiB free")].into(),
            events: serde_json::from_value(serde_json::json!({"events": [{"id": 1, "at": "2026-01-01T00:00:00Z", "topic": "a.b", "severity": "error", "body": body}]}))
                .unwrap(),
        }
    }

    #[test]
    fn the_answer_comes_first_and_nothing_is_markup() {
        let well = page(&view(Ok(core(true, "<script>alert(1)</script>")))).into_string();
        assert!(well.contains("This machine is well") && well.contains("9.8.7") && well.contains("1 min 1 s"), "{well}");
        assert!(!well.contains("<script"), "{well}");
        let ill = page(&view(Ok(core(false, "x")))).into_string();
        assert!(ill.contains("Something is wrong") && ill.contains("15 MiB free"), "{ill}");
        let none = page(&view(Err(Fault::new(Code::CoreUnreachable, "core can't be reached")))).into_string();
        assert!(none.contains("The agent doesn") && none.contains("core.unreachable") && none.contains("systemctl start"), "{none}");
    }

    #[test]
    fn no_style_or_script_stands_in_the_page() {
        let text = page(&view(Ok(core(true, "x")))).into_string();
        for forbidden in ["style=", "<style", "<script", "onclick", "http://", "https://"] {
            assert!(!text.contains(forbidden), "{forbidden}: {text}");
        }
    }

    #[test]
    fn a_rollback_is_told() {
        let mut view = view(Ok(core(true, "x")));
        view.install = serde_json::from_str(
            r#"{"installed":"0.1.0","state":"idle","last_change":{"kind":"upgrade","from":"0.1.0","to":"0.2.0","verdict":"rolled-back","reason":"core crashed"},
                "blocked":[{"version":"0.2.0","reason":"core crashed"}],"slots":[{"version":"0.1.0"},{"version":"0.0.9"}]}"#,
        )
        .unwrap();
        let text = page(&view).into_string();
        assert!(text.contains("The last change was taken back") && text.contains("core crashed") && text.contains("is blocked"), "{text}");
        assert!(text.contains("<dt>Can go back to</dt><dd>0.0.9</dd>"), "what runs is nothing to go back to: {text}");
    }
}
