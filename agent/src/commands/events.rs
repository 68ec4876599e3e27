//! `smolotchi events`: read and write the event log, through core.

use crate::cli::{EventsVerb, Severity, Which};
use crate::client::{Client, block_on};
use crate::clock;
use crate::paths::Paths;
use crate::wire::{Appended, Event, Events, MAX_BODY, MAX_EVENTS, NewEvent, NewEvents};
use serde_json::Value;
use smolotchi_operator::output::{self, columns, emit};
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table};
use std::io::{BufRead, IsTerminal};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long a core that is being upgraded is waited for while its events are followed.
const PATIENCE: Duration = Duration::from_secs(120);
/// Half of what core takes: the rest is room for how JSON writes it.
const BATCH_BYTES: usize = MAX_BODY / 2;

impl Table for Events {
    fn table(&self) -> String {
        columns(&self.events.iter().map(row).collect::<Vec<_>>())
    }
}

impl Table for Appended {
    fn table(&self) -> String {
        format!("appended {}, last id {}\n", self.appended, self.last_id)
    }
}

/// One event as a row for people.
pub(super) fn row(event: &Event) -> Vec<String> {
    let severity = event.severity.map_or("-", |severity| severity.as_str());
    vec![event.id.to_string(), event.at.clone(), severity.to_owned(), event.topic.clone(), words(&event.body)]
}

/// A body for people: text as it is, but on one line and without control characters; everything else as JSON.
pub(crate) fn words(body: &Value) -> String {
    let text = match body {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Runs the verb.
pub(crate) fn run(paths: &Paths, format: Format, verb: EventsVerb) -> Result<Exit> {
    let client = Client::new(paths.socket());
    match verb {
        EventsVerb::List { limit, which } => {
            let filter = filter(&which, clock::now_ms())?;
            if which.follow {
                return block_on(follow(&Client::patient(paths.socket(), PATIENCE), format, limit, &filter));
            }
            emit(format, &block_on(newest(&client, limit, &filter, which.before))?);
        }
        EventsVerb::Append { topic: Some(topic), body, severity } => {
            let severity = severity.map(severity_of);
            let events = vec![NewEvent { topic, severity, body: Value::String(body.unwrap_or_default()) }];
            emit(format, &block_on(client.post::<_, Appended>("/v1/events", &NewEvents { events }))?);
        }
        EventsVerb::Append { topic: None, .. } if std::io::stdin().is_terminal() => {
            return Err(Fault::new(Code::Usage, "there are no events: name a topic and a body, or pipe JSON lines in"));
        }
        EventsVerb::Append { topic: None, .. } => emit(format, &block_on(stream(&client, &mut std::io::stdin().lock()))?),
    }
    Ok(Exit::Success)
}

/// What is asked for, as a query's end.
fn filter(which: &Which, now_ms: i64) -> Result<String> {
    let mut text = String::new();
    let mut add = |name: &str, value: &str| {
        text += &format!("&{name}=");
        // Every byte that isn't plain is written as its number.
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
                text.push(char::from(byte))
            } else {
                text += &format!("%{byte:02X}")
            }
        }
    };
    if let Some(topic) = &which.topic {
        add("topic", topic);
    }
    if let Some(severity) = which.severity {
        add("severity", severity_of(severity).as_str());
    }
    if let Some(since) = &which.since {
        add("since", &clock::rfc3339(moment(since, now_ms)?));
    }
    if let Some(search) = &which.search {
        add("search", search);
    }
    Ok(text)
}

/// A time, or how long before now.
fn moment(text: &str, now_ms: i64) -> Result<i64> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = [("s", 1), ("min", 60), ("h", 3600), ("d", 86_400)].into_iter().find(|(name, _)| *name == unit.trim());
    let span = number.parse::<i64>().ok().zip(unit).and_then(|(number, (_, seconds))| number.checked_mul(seconds * 1000));
    span.map(|span| now_ms.saturating_sub(span)).ok_or_else(|| {
        Fault::new(Code::Usage, "this is no time").fact("since", text).fact("expected", "2026-01-31T12:00:00Z, or 90 s, 15 min, 2 h, 3 d")
    })
}

/// The newest events before an id. What takes core long to search, or is large, is answered in parts.
async fn newest(client: &Client, limit: u32, filter: &str, before: Option<i64>) -> Result<Events> {
    let mut all = Events { events: Vec::new(), next: before };
    loop {
        let left = limit as usize - all.events.len();
        let before = all.next.map_or_else(String::new, |id| format!("&before={id}"));
        let part: Events = client.get(&format!("/v1/events?limit={left}{filter}{before}")).await?;
        all.events.extend(part.events);
        all.next = part.next;
        if all.next.is_none() || all.events.len() >= limit as usize {
            return Ok(all);
        }
    }
}

/// Shows the newest events, then each new one. Ends without an error by Ctrl-C, SIGTERM, or when nobody reads any more.
async fn follow(client: &Client, format: Format, limit: u32, filter: &str) -> Result<Exit> {
    let failed = |error: std::io::Error| Fault::new(Code::Io, "could not wait for signals").cause(&error);
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?);
    let shown = async {
        // Asked for first: what comes from here on is either on the page below or newer than all of it.
        let known: Events = client.get("/v1/events?limit=1").await?;
        let known = known.events.first().map_or(0, |event| event.id);
        let first = newest(client, limit, filter, None).await?;
        if !print(format, first.events.iter().rev()) {
            return Ok(());
        }
        let mut after = first.events.first().map_or(known, |event| event.id.max(known));
        loop {
            let more: Events = client.get_long(&format!("/v1/events?limit={MAX_EVENTS}&after={after}&wait=50{filter}")).await?;
            if !print(format, more.events.iter()) {
                return Ok(());
            }
            after = more.next.unwrap_or(after);
        }
    };
    tokio::select! {
        ended = shown => ended.map(|()| Exit::Success),
        _ = interrupt.recv() => Ok(Exit::Success),
        _ = terminate.recv() => Ok(Exit::Success),
    }
}

/// Writes each event on its own line; false when nobody reads them any more.
fn print<'events>(format: Format, mut events: impl Iterator<Item = &'events Event>) -> bool {
    events.all(|event| {
        output::print(&match format {
            Format::Json => output::json_line(event),
            _ => columns(&[row(event)]),
        })
    })
}

/// Appends JSON lines, batch by batch. A fault says how many were appended before it.
async fn stream(client: &Client, lines: &mut impl BufRead) -> Result<Appended> {
    let mut done = Appended::default();
    let mut batch = Batch::default();
    let outcome = async {
        let mut number = 0_u64;
        loop {
            let mut line = String::new();
            let read = lines.read_line(&mut line).map_err(|error| Fault::io("could not read the events", "standard input", &error))?;
            number += 1;
            let event = if line.trim().is_empty() { None } else { Some(event(&line, number)?) };
            if batch.is_full(line.len()) || read == 0 {
                batch.send(client, &mut done).await?;
            }
            if read == 0 {
                return Ok(());
            }
            batch.bytes += line.len();
            batch.events.extend(event);
        }
    };
    match outcome.await {
        Ok(()) => Ok(done),
        Err(fault) => Err(Fault::fact(fault, "appended", done.appended)),
    }
}

#[derive(Default)]
struct Batch {
    events: Vec<NewEvent>,
    bytes: usize,
}

impl Batch {
    fn is_full(&self, next: usize) -> bool {
        self.events.len() >= MAX_EVENTS || self.bytes + next > BATCH_BYTES
    }

    async fn send(&mut self, client: &Client, done: &mut Appended) -> Result<()> {
        let Batch { events, .. } = std::mem::take(self);
        if !events.is_empty() {
            let appended: Appended = client.post("/v1/events", &NewEvents { events }).await?;
            done.appended += appended.appended;
            done.last_id = appended.last_id;
        }
        Ok(())
    }
}

fn event(line: &str, number: u64) -> Result<NewEvent> {
    serde_json::from_str(line).map_err(|error| {
        Fault::new(Code::StoreInvalidEvent, "a line is not an event")
            .hint("one JSON object a line: {\"topic\": \"door.opened\", \"body\": \"front door\"}")
            .fact("line", number)
            .cause(&error)
    })
}

pub(super) fn severity_of(severity: Severity) -> smolotchi_store::Severity {
    match severity {
        Severity::Debug => smolotchi_store::Severity::Debug,
        Severity::Info => smolotchi_store::Severity::Info,
        Severity::Notice => smolotchi_store::Severity::Notice,
        Severity::Warning => smolotchi_store::Severity::Warning,
        Severity::Error => smolotchi_store::Severity::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_events_or_say_which_is_not() {
        assert_eq!(event(r#"{"topic":"a.b","body":{"x":1},"severity":"warning"}"#, 1).unwrap().body["x"], 1);
        for line in
            ["x", "{}", r#"{"topic":"a"}"#, r#"{"topic":"a","body":1,"sevrity":"info"}"#, r#"{"topic":"a","body":1,"severity":"loud"}"#]
        {
            let fault = event(line, 7).unwrap_err();
            assert_eq!((fault.code, &fault.details["line"]), (Code::StoreInvalidEvent, &Value::from(7)), "{line}");
        }
    }

    #[test]
    fn filters_become_a_query_or_are_refused() {
        let which = Which {
            topic: Some("disk".into()),
            severity: Some(Severity::Warning),
            since: Some("2 h".into()),
            search: Some("50 % & é".into()),
            before: None,
            follow: false,
        };
        assert_eq!(
            filter(&which, 7_200_000).unwrap(),
            "&topic=disk&severity=warning&since=1970-01-01T00%3A00%3A00Z&search=50%20%25%20%26%20%C3%A9"
        );
        for (text, ms) in
            [("1970-01-01T00:00:05Z", 5000), ("90s", 1_000_000 - 90_000), ("15 min", 100_000), ("1 d", 1_000_000 - 86_400_000)]
        {
            assert_eq!(moment(text, 1_000_000).unwrap(), ms, "{text}");
        }
        for text in ["", "2", "h", "2 m", "yesterday", "-2 h", "99999999999999999999 h", "9999999999999999 d"] {
            assert_eq!(moment(text, 0).unwrap_err().code, Code::Usage, "{text}");
        }
    }

    #[test]
    fn words_stay_on_one_line() {
        assert_eq!(words(&Value::from("a\nb\u{1b}[31m")), "a b [31m");
        assert_eq!(words(&serde_json::json!({"a": 1})), r#"{"a":1}"#);
    }
}
