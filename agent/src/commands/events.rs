//! `smolotchi events`: read and write the event log, through core.

use crate::cli::{EventsVerb, Severity};
use crate::client::{Client, block_on};
use crate::paths::Paths;
use crate::wire::{Appended, Event, Events, MAX_BODY, MAX_EVENTS, NewEvent, NewEvents};
use serde_json::Value;
use smolotchi_operator::output::{columns, emit};
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table};
use std::io::{BufRead, IsTerminal};

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
        EventsVerb::List { limit } => {
            let events: Events = block_on(client.get(&format!("/v1/events?limit={limit}")))?;
            emit(format, &events);
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
    fn words_stay_on_one_line() {
        assert_eq!(words(&Value::from("a\nb\u{1b}[31m")), "a b [31m");
        assert_eq!(words(&serde_json::json!({"a": 1})), r#"{"a":1}"#);
    }
}
