//! The event log, newest first, with filters.

use super::super::asked::Asked;
use super::super::part::{Part, part};
use super::super::routes::Site;
use super::{Looked, Page, ROWS, nothing_like, now, search};
use crate::wire::Event;
use axum::http::StatusCode;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};

/// What core can look for in its events.
const FILTERS: [&str; 6] = ["topic", "severity", "since", "search", "before", "after"];

/// One page of events.
#[derive(Debug, Serialize)]
pub(in super::super) struct Timeline {
    #[serde(flatten)]
    events: Part<Found>,
}

/// `GET /v1/events`, newest first.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    events: Vec<Event>,
    /// Where to look further, also if nothing was found so far: a search ends after a while.
    #[serde(default)]
    next: Option<i64>,
}

impl Page for Timeline {
    const SECTION: &'static str = "/timeline";
    const RELOADS: bool = false;

    async fn look(site: &Site, asked: &Asked) -> Looked<Self> {
        let limit = ROWS.to_string();
        let since = asked.filter("since").map(moment);
        let own = [("limit", limit.as_str())].into_iter().chain(since.as_deref().map(|since| ("since", since))).collect::<Vec<_>>();
        let call = asked.call("/v1/events", &["topic", "severity", "search", "before", "after"], &own);
        let mut events: Part<Found> = part(&site.core, &call).await?;
        if let (Part::Here(found), Some(_)) = (&mut events, asked.filter("after")) {
            // Asked for newer ones, core tells the oldest of them first.
            found.events.reverse();
            found.next = found.events.last().map(|event| event.id);
        }
        Ok(Timeline { events })
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
                ("topic", "Topic, and below it", &[], "core"),
                ("severity", "At least", &["debug", "info", "notice", "warning", "error"], ""),
                ("since", "Since (UTC)", &[], "2026-01-31 12:00"),
            ]))
            section {
                h2.hidden { "Events" }
                (self.events.show(|found| html! {
                    @if !found.events.is_empty() || !FILTERS.iter().any(|name| asked.filter(name).is_some()) { (now::list(&found.events)) }
                    @else if asked.filter("after").is_some() { p { "There is nothing newer yet." } }
                    @else { (nothing_like("event", found.next)) }
                    (turn(asked, found))
                }))
            }
        }
    }
}

/// A moment as core wants it: a day, or a day and a time, is meant in UTC. What is none is left for core to refuse.
fn moment(text: &str) -> String {
    let civil = text.parse::<jiff::civil::DateTime>().ok().filter(|_| text.parse::<jiff::Timestamp>().is_err());
    let moment = civil.and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC).ok());
    moment.map_or_else(|| text.to_owned(), |moment| moment.timestamp().to_string())
}

/// The way to older and to newer events.
fn turn(asked: &Asked, found: &Found) -> Markup {
    let turned = asked.filter("before").is_some() || asked.filter("after").is_some();
    let newer = found.events.first().map(|event| event.id).filter(|_| turned);
    html! {
        @if turned || found.next.is_some() {
            nav.turn aria-label="Older and newer" {
                @if turned { a href=(asked.with("before", None)) { "Newest" } }
                @if let Some(newer) = newer { a rel="prev" href=(asked.with("after", Some(&newer.to_string()))) { "Newer" } }
                @if let Some(older) = found.next { a rel="next" href=(asked.with("before", Some(&older.to_string()))) { "Older" } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_moment_too() {
        let cases = [
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("2026-01-31 12:30", "2026-01-31T12:30:00Z"),
            ("2026-01-31T12:30:05", "2026-01-31T12:30:05Z"),
            ("2026-01-31T12:00:00+02:00", "2026-01-31T12:00:00+02:00"),
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
            ("yesterday", "yesterday"),
        ];
        for (text, expected) in cases {
            assert_eq!(moment(text), expected);
        }
    }
}
