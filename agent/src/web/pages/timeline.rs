//! The event log, newest first, with filters.

use super::super::asked::Asked;
use super::super::part::{Part, part};
use super::super::routes::Site;
use super::{Looked, Page, now, one_more, search, shown, turn};
use crate::wire;
use axum::http::StatusCode;
use maud::{Markup, html};
use serde::Serialize;

/// What core can look for in its events.
const FILTERS: [&str; 6] = ["topic", "severity", "since", "until", "search", "before"];

/// One page of events.
#[derive(Debug, Serialize)]
pub(in super::super) struct Timeline {
    #[serde(flatten)]
    events: Part<wire::Events>,
}

impl Page for Timeline {
    const SECTION: &'static str = "/timeline";
    const RELOADS: bool = false;

    async fn look(site: &Site, asked: &Asked) -> Looked<Self> {
        let call = asked.call("/v1/events", &FILTERS, &[("limit", &one_more())]);
        Ok(Timeline { events: part(&site.core, &call).await? })
    }

    fn title(&self) -> String {
        "Timeline".to_owned()
    }

    fn status(&self) -> StatusCode {
        self.events.status()
    }

    fn main(&self, asked: &Asked) -> Markup {
        html! {
            h1 { "Timeline" }
            (search(asked, &[
                ("search", "Text", &[], "front door"),
                ("topic", "Topic", &[], "core.started"),
                ("severity", "At least", &["debug", "info", "notice", "warning", "error"], ""),
                ("since", "Since", &[], "2026-01-31T12:00:00Z"),
                ("until", "Until", &[], "2026-02-01T12:00:00Z"),
            ]))
            section {
                h2.hidden { "Events" }
                (self.events.show(|events| {
                    let (events, older) = shown(&events.events, |event| event.id);
                    html! {
                        @if events.is_empty() && FILTERS.iter().any(|name| asked.filter(name).is_some()) { p { "No event is like this." } }
                        @else { (now::list(events)) }
                        (turn(asked, older))
                    }
                }))
            }
        }
    }
}
