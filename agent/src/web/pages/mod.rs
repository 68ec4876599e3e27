//! The pages: each gathers its facts, shows them as HTML, and is the same facts as JSON.
//!
//! HTML is a pure function of the facts. No page has a script, a style of its own or anything from elsewhere.

mod artifacts;
mod findings;
mod jobs;
mod now;
mod readings;
mod spark;
mod timeline;
mod upgrades;
mod words;

pub(super) use artifacts::{Artifact, Artifacts};
pub(super) use findings::{Dossier, Findings};
pub(super) use jobs::{Job, Jobs};
pub(super) use now::Now;
pub(super) use readings::Readings;
pub(super) use timeline::Timeline;
pub(super) use upgrades::Upgrades;

use super::asked::{Asked, REFRESH};
use super::routes::Site;
use crate::clock;
use crate::release::VERSION;
use axum::http::StatusCode;
use maud::{DOCTYPE, Markup, html};
use serde::Serialize;
use smolotchi_operator::{Code, Fault};
use words::time;

/// How many rows a list shows at once.
const ROWS: usize = 50;

/// What stands in the navigation.
const SECTIONS: [(&str, &str); 7] = [
    ("/", "Now"),
    ("/timeline", "Timeline"),
    ("/findings", "Findings"),
    ("/jobs", "Jobs"),
    ("/artifacts", "Artifacts"),
    ("/readings", "Readings"),
    ("/upgrades", "Upgrades"),
];

/// Why there is no page.
#[derive(Debug)]
pub(super) enum Failure {
    /// Core can't be asked.
    Away(Fault),
    /// There is no such thing.
    Missing(Fault),
    /// It can't be asked like this.
    Refused(Fault),
}

impl Failure {
    /// There is no such thing; in words.
    pub(super) fn missing(code: Code, what: impl Into<String>) -> Failure {
        Failure::Missing(Fault::new(code, what))
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Failure::Away(_) => StatusCode::SERVICE_UNAVAILABLE,
            Failure::Missing(_) => StatusCode::NOT_FOUND,
            Failure::Refused(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// What core said, or what is told in its place.
    pub(super) fn fault(&self) -> &Fault {
        match self {
            Failure::Away(fault) | Failure::Missing(fault) | Failure::Refused(fault) => fault,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::Away(fault)
    }
}

/// A page, or why there is none.
pub(super) type Looked<P> = Result<P, Failure>;

/// One page.
pub(super) trait Page: Serialize + Sized + Send {
    /// Its place in the navigation.
    const SECTION: &'static str;
    /// Whether it may reload itself: not where somebody may be typing.
    const RELOADS: bool;
    /// The same, where that depends on what is shown.
    fn reloads(&self) -> bool {
        Self::RELOADS
    }

    /// Gathers the facts.
    fn look(site: &Site, asked: &Asked) -> impl Future<Output = Looked<Self>> + Send;
    /// What the browser's tab says.
    fn title(&self) -> String;
    /// What stands in `main`, with the one `h1`.
    fn main(&self, asked: &Asked) -> Markup;
    /// 200, unless a filter was refused.
    fn status(&self) -> StatusCode {
        StatusCode::OK
    }
}

/// What stands around a page.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) asked: &'a Asked,
    /// This machine's name.
    pub(super) host: String,
    /// When the facts were gathered, RFC 3339.
    pub(super) at: String,
    /// Seconds until pages that may reload themselves do.
    pub(super) refresh_seconds: Option<u64>,
}

impl<'a> Frame<'a> {
    /// Around what is gathered now.
    pub(super) fn now(site: &Site, asked: &'a Asked) -> Frame<'a> {
        Frame { asked, host: clock::host_name(), at: clock::rfc3339(clock::now_ms()), refresh_seconds: site.refresh_seconds }
    }

    /// The page.
    pub(super) fn page<P: Page>(&self, page: &P) -> Markup {
        self.whole(P::SECTION, page.reloads(), &page.title(), &page.main(self.asked))
    }

    /// The page that says why there is none.
    pub(super) fn failure(&self, failure: &Failure) -> Markup {
        match failure {
            Failure::Away(fault) => self.whole("", true, "No answer", &away(fault)),
            Failure::Missing(what) => self.whole(
                "",
                false,
                "Not found",
                &html! {
                    section.answer.ill {
                        h1 { "There is nothing here" }
                        p { (what.message) }
                        p { "It may have been pruned, or the address has a mistake. " a href=(self.asked.to("/")) { "What is now" } "." }
                    }
                },
            ),
            Failure::Refused(why) => self.whole(
                "",
                false,
                "Not understood",
                &html! {
                    section.answer.ill {
                        h1 { "This can't be asked" }
                        p { (why.message) }
                        p { a href=(self.asked.to("/")) { "What is now" } "." }
                    }
                },
            ),
        }
    }

    fn whole(&self, section: &str, reloads: bool, title: &str, main: &Markup) -> Markup {
        let refresh = self.refresh_seconds.filter(|_| reloads);
        let still = self.asked.is_still();
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    @if let Some(seconds) = refresh.filter(|_| !still) { meta http-equiv="refresh" content=(seconds); }
                    title { (title) " · " (self.host) }
                    link rel="stylesheet" href="/style.css";
                    link rel="icon" href="/icon.svg" type="image/svg+xml";
                }
                body {
                    a.skip href="#main" { "Skip to the content" }
                    header {
                        p { strong { "Smolotchi" } " on " (self.host) }
                        nav aria-label="Pages" {
                            ul {
                                @for (path, name) in SECTIONS {
                                    li { a href=(self.asked.to(path)) aria-current=[(path == section).then_some("page")] { (name) } }
                                }
                            }
                        }
                    }
                    main id="main" tabindex="-1" class=[(section == "/").then_some("now")] { (main) }
                    footer {
                        p {
                            "As of " (time(&self.at)) ". "
                            @if let Some(seconds) = refresh {
                                @if still { "It does not reload itself. " a href=(self.asked.with(REFRESH, None)) { "Reload every " (seconds) " s" } ". " }
                                @else { "It reloads itself every " (seconds) " s. " a href=(self.asked.with(REFRESH, Some("off"))) { "Stop reloading" } ". " }
                            }
                            a href=(self.json()) { "As JSON" } "."
                        }
                        p { "Pages by version " (VERSION) ". They only show; to change something, use the command line." }
                    }
                }
            }
        }
    }

    /// The address of the same facts as JSON.
    fn json(&self) -> String {
        let path = if self.asked.path == "/" { "/now" } else { self.asked.path.as_str() };
        let address = self.asked.with(REFRESH, None);
        let query = address.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
        format!("/api{path}{query}")
    }
}

fn away(fault: &Fault) -> Markup {
    html! {
        section.answer.ill {
            h1 { "The agent doesn't answer" }
            p { "This page runs, but core, the service behind it, can't be asked. Nothing is known about the machine's health. During an upgrade this lasts for some seconds." }
            p { code { (fault.to_string()) } }
            p { strong { "What to do: " } (fault.hint) }
        }
    }
}

/// A table that stays one to a screen reader and becomes a list of cards on a phone. Each row starts with its heading.
fn table(caption: &str, heads: &[&str], rows: impl Iterator<Item = Vec<Markup>>) -> Markup {
    html! {
        table role="table" {
            caption { (caption) }
            thead role="rowgroup" { tr role="row" { @for head in heads { th role="columnheader" scope="col" { (head) } } } }
            tbody role="rowgroup" {
                @for row in rows {
                    tr role="row" {
                        @for (index, cell) in row.iter().enumerate() {
                            @if index == 0 { th role="rowheader" scope="row" { (cell) } }
                            @else { td role="cell" data-label=(heads.get(index).copied().unwrap_or_default()) { div { (cell) } } }
                        }
                    }
                }
            }
        }
    }
}

/// A list's rows to be shown, and where older ones begin; core was asked for one more than is shown, but may have told fewer and
/// said where it goes on.
fn shown<T>(rows: &[T], next: Option<i64>, id: impl Fn(&T) -> i64) -> (&[T], Option<i64>) {
    match rows.get(ROWS - 1) {
        Some(last) if rows.len() > ROWS => (&rows[..ROWS], Some(id(last))),
        _ => (rows, next),
    }
}

/// How many rows core is asked for.
fn one_more() -> String {
    (ROWS + 1).to_string()
}

/// What is said of a list whose filters let nothing through; core looks for letters in a part of the rows at a time.
fn nothing_like(what: &str, older: Option<i64>) -> Markup {
    html! {
        @if older.is_some() { p { "No " (what) " is like this so far; older ones were not looked at yet." } }
        @else { p { "No " (what) " is like this." } }
    }
}

/// The way to older rows, and back to the newest.
fn turn(asked: &Asked, older: Option<i64>) -> Markup {
    let newest = asked.filter("before").is_some();
    html! {
        @if newest || older.is_some() {
            nav.turn aria-label="Older and newer" {
                @if newest { a href=(asked.with("before", None)) { "Newest" } }
                @if let Some(older) = older { a rel="next" href=(asked.with("before", Some(&older.to_string()))) { "Older" } }
            }
        }
    }
}

/// Links that set one filter to one of a few values.
fn choice(asked: &Asked, name: &str, label: &str, values: &[&str]) -> Markup {
    let chosen = asked.filter(name);
    html! {
        nav.choice aria-label=(label) {
            a href=(asked.with(name, None)) aria-current=[chosen.is_none().then_some("true")] { "all" }
            @for value in values {
                a href=(asked.with(name, Some(value))) aria-current=[(chosen == Some(*value)).then_some("true")] { (value) }
            }
        }
    }
}

/// A form that searches. `fields` are (name, label, values to choose from or none for free text, example).
fn search(asked: &Asked, fields: &[(&str, &str, &[&str], &str)]) -> Markup {
    let any = fields.iter().any(|(name, ..)| asked.filter(name).is_some());
    html! {
        form role="search" method="get" action=(asked.path) {
            @for (name, label, values, example) in fields {
                p.field {
                    label for=(name) { (label) }
                    @if values.is_empty() {
                        input id=(name) name=(name) value=[asked.filter(name)] placeholder=(example) autocomplete="off" autocapitalize="none" spellcheck="false";
                    } @else {
                        select id=(name) name=(name) {
                            option value="" { "any" }
                            @for value in *values { option value=(value) selected[asked.filter(name) == Some(*value)] { (value) } }
                        }
                    }
                }
            }
            @if asked.is_still() { input type="hidden" name=(REFRESH) value="off"; }
            p.field { button { "Search" } @if any { a href=(asked.to(&asked.path)) { "Show all" } } }
        }
    }
}

/// One fact of a list of facts.
fn fact(name: &str, value: Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}
