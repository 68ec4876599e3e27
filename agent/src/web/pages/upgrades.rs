//! How upgrades stand: the last change, a change under way, what is blocked, and what can be gone back to.

use super::super::asked::Asked;
use super::super::routes::Site;
use super::words::time;
use super::{Looked, Page, fact};
use crate::installs::{Course, Install};
use maud::{Markup, html};
use serde::Serialize;

/// What the installer says.
#[derive(Debug, Serialize)]
pub(in super::super) struct Upgrades {
    install: Option<Install>,
}

impl Page for Upgrades {
    const SECTION: &'static str = "/upgrades";
    const RELOADS: bool = true;

    async fn look(site: &Site, _: &Asked) -> Looked<Self> {
        Ok(Upgrades { install: Install::read(&site.install_status) })
    }

    fn title(&self) -> String {
        "Upgrades".to_owned()
    }

    fn main(&self, _: &Asked) -> Markup {
        let Some(install) = &self.install else {
            return html! {
                h1 { "Upgrades" }
                section { h2.hidden { "State" } p { "The installer has not written anything yet. " code { "smolotchi-install status" } " asks it." } }
            };
        };
        let back: Vec<_> = install
            .slots
            .iter()
            .filter_map(|slot| slot.version.as_deref())
            .filter(|version| install.installed.as_deref() != Some(*version))
            .collect();
        html! {
            h1 { "Upgrades" }
            section.(class(install.course())) {
                h2 { (course_title(install.course())) }
                p { (sentence(install)) }
                @if let Some(installed) = &install.installed { dl { (fact("Installed", html! { (installed) })) } }
            }
            section {
                h2 { "Way back" }
                @if back.is_empty() { p { "No other release is kept: there is nothing to go back to. One is kept at each upgrade." } }
                @else {
                    p { "Kept on this machine, with the database as it was then: " strong { (back.join(", ")) } "." }
                    p { "To go back, also offline: " code { "smolotchi-install rollback" } "." }
                }
            }
            section {
                h2 { "Kept out" }
                @if install.blocked.is_empty() { p { "No version is blocked on this machine." } }
                @else {
                    ul { @for blocked in &install.blocked {
                        li { strong { (blocked.version.as_deref().unwrap_or("unknown")) } @if let Some(reason) = &blocked.reason { ": " (reason) } }
                    } }
                }
            }
        }
    }
}

/// The heading for how upgrades stand.
pub(super) fn course_title(course: Course) -> &'static str {
    match course {
        Course::Quiet => "Nothing goes on",
        Course::UnderWay => "A change is going on",
        Course::RolledBack => "The last change was taken back",
        Course::Stuck => "An operator is needed",
    }
}

/// The colour for it.
pub(super) fn class(course: Course) -> &'static str {
    match course {
        Course::Quiet => "quiet",
        Course::UnderWay | Course::RolledBack => "busy",
        Course::Stuck => "ill",
    }
}

/// The last change in a sentence, with its moment.
pub(super) fn sentence(install: &Install) -> Markup {
    html! {
        @match install.sentence() {
            Some(sentence) => { (sentence) "." @if let Some(at) = install.ended_at() { " " (time(at)) } },
            None => "Nothing was changed yet.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_is_told() {
        let install = serde_json::from_str(
            r#"{"installed":"0.1.0","state":"idle","last_change":{"kind":"upgrade","from":"0.1.0","to":"0.2.0","verdict":"rolled-back","reason":"core crashed"},
                "blocked":[{"version":"0.2.0","reason":"core crashed"}],"slots":[{"version":"0.1.0"},{"version":"0.0.9"}]}"#,
        )
        .unwrap();
        let text = Upgrades { install: Some(install) }.main(&Asked::default()).into_string();
        assert!(text.contains("The last change was taken back") && text.contains("<strong>0.2.0</strong>: core crashed"), "{text}");
        assert!(text.contains("<strong>0.0.9</strong>."), "what runs is nothing to go back to: {text}");
    }
}
