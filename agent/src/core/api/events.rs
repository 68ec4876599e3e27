//! The event log's calls: find, append, audit, prune.

use super::{Answer, fits, limit};
use crate::clock;
use crate::core::refuse::{Refusal, parse};
use crate::core::{Core, retention};
use crate::wire::{self, MAX_EVENTS};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;
use smolotchi_operator::log::{self, Kind};
use smolotchi_operator::{Code, Fault};
use smolotchi_store::{Audit, AuditReport, EventQuery, FoundEvents, NewEvent, OldRows, RetentionPolicy, Severity};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The longest wait for an event: below the time that a connection may take.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// How long a search goes on before it says where it is: less than web waits for an answer.
const SEARCH_TIME: Duration = Duration::from_secs(2);
/// How many events an audit looks at before it lets others have their turn.
const AUDIT_STEP: u32 = 2_000;

/// For everyone to read, and for admins.
pub(super) fn routes() -> Router<Arc<Core>> {
    Router::new().route("/v1/events", get(events).post(append)).route("/v1/audit", get(audit)).route("/v1/retention", post(retain))
}

/// The query of `GET /v1/events`; nothing else may stand in it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    limit: Option<u32>,
    before: Option<i64>,
    after: Option<i64>,
    topic: Option<String>,
    severity: Option<Severity>,
    since: Option<String>,
    search: Option<String>,
    wait: Option<u64>,
}

async fn events(State(core): State<Arc<Core>>, wanted: Result<Query<Wanted>, QueryRejection>) -> Answer<wire::Events> {
    let refused = |rejection: QueryRejection| {
        let fault = Fault::new(Code::CoreRequest, "the query is not understood").fact("cause", rejection.body_text());
        fault.fact("expected", "limit, before, after, topic, severity, since=RFC3339, search, wait=SECONDS")
    };
    let Query(wanted) = wanted.map_err(refused)?;
    let not_a_time =
        |error: jiff::Error| Fault::new(Code::CoreRequest, "the query is not understood").fact("expected", "since=RFC3339").cause(&error);
    let since = wanted.since.map(|since| since.parse::<jiff::Timestamp>().map_err(not_a_time)).transpose()?;
    let query = EventQuery {
        limit: limit(wanted.limit)?,
        before: wanted.before,
        after: wanted.after,
        topic: wanted.topic,
        severity: wanted.severity,
        since_ms: since.map(|since| since.as_millisecond()),
        search: wanted.search,
    };
    // Before the first look, so that nothing comes between it and the wait.
    let newest = core.newest.subscribe();
    let look = |part: EventQuery| core.store(move |store| store.find(&part));
    let page = awaited(look, newest, query, wanted.wait.map(Duration::from_secs), SEARCH_TIME).await?;
    Ok(Json(wire::Events { events: page.events.into_iter().map(shown).collect(), next: page.next }))
}

/// What is found by now; with `after` and `wait`, what is found first, at most so long.
async fn awaited<L: Future<Output = Result<FoundEvents, Fault>>>(
    look: impl Fn(EventQuery) -> L,
    mut newest: watch::Receiver<Option<i64>>,
    mut query: EventQuery,
    wait: Option<Duration>,
    search_time: Duration,
) -> Result<FoundEvents, Fault> {
    let end = Instant::now() + wait.unwrap_or_default().min(MAX_WAIT);
    loop {
        let (page, through) = find(&look, &mut query, search_time).await?;
        // `None` says that core stops.
        if query.after.is_none() || wait.is_none() || !page.events.is_empty() || newest.borrow().is_none() {
            return Ok(page);
        }
        // What was not looked at yet may hold the match that is waited for.
        if !through && Instant::now() < end {
            continue;
        }
        if !matches!(tokio::time::timeout_at(end, newest.changed()).await, Ok(Ok(()))) {
            return Ok(page);
        }
    }
}

/// Looks until there is something to answer, a stretch of the log at a time, so that others get their turn in between; at most so
/// long, and then false says that it isn't through. `query` is left where a next look goes on.
async fn find<L: Future<Output = Result<FoundEvents, Fault>>>(
    look: &impl Fn(EventQuery) -> L,
    query: &mut EventQuery,
    within: Duration,
) -> Result<(FoundEvents, bool), Fault> {
    let began = Instant::now();
    let mut found = FoundEvents::default();
    let most = query.limit;
    loop {
        let part = EventQuery { limit: most - found.events.len() as u32, ..query.clone() };
        let page = look(part).await?;
        let empty = page.events.is_empty();
        found.events.extend(page.events);
        let stands = if query.after.is_some() {
            std::mem::replace(&mut query.after, page.next)
        } else {
            std::mem::replace(&mut query.before, page.next)
        };
        found.next = page.next;
        let over = page.next.is_none() || (empty && stands == page.next);
        let full = smolotchi_store::next(&found.events, most).is_some();
        if over || full || began.elapsed() >= within {
            return Ok((found, over));
        }
    }
}

/// Works the chain of seals out again. Everyone may ask, one at a time.
async fn audit(State(core): State<Arc<Core>>) -> Answer<wire::Audited> {
    let _alone = core.auditing.lock().await;
    let mut audit = Audit::default();
    loop {
        let (over, now) = core.store(move |store| store.audit(&mut audit, AUDIT_STEP).map(|over| (over, audit))).await?;
        audit = now;
        if over {
            break;
        }
    }
    Ok(Json(audit.report().into()))
}

impl From<AuditReport> for wire::Audited {
    fn from(report: AuditReport) -> Self {
        let broken = |broken: smolotchi_store::Broken| wire::Broken {
            first_id: broken.first_id,
            last_id: broken.last_id,
            what: broken.what,
            missing: broken.missing,
        };
        wire::Audited {
            whole: report.whole,
            events: report.events,
            sealed: report.sealed,
            unsealed: report.unsealed,
            commits: report.commits,
            first_id: report.first_id,
            sealed_from: report.sealed_from,
            last_id: report.last_id,
            head: report.head,
            skipped: report.skipped,
            broken: report.broken.map(broken),
        }
    }
}

pub(super) fn shown(event: smolotchi_store::Event) -> wire::Event {
    wire::Event {
        id: event.id,
        at: clock::rfc3339(event.at_ms),
        topic: event.topic,
        severity: event.severity,
        // A body that is no JSON was written by other hands; its text is still shown.
        body: serde_json::from_str(&event.body).unwrap_or(Value::String(event.body)),
    }
}

async fn append(State(core): State<Arc<Core>>, body: Result<Bytes, BytesRejection>) -> Answer<wire::Appended> {
    let wire::NewEvents { events } = parse(body)?;
    if events.len() > MAX_EVENTS {
        let fault = Fault::new(Code::CoreRequest, "there are too many events in one request");
        return Err(fault.fact("given", events.len()).fact("at_most", MAX_EVENTS).into());
    }
    let new = |(index, event): (usize, wire::NewEvent)| {
        let body = fits("body", event.body.to_string())?;
        is_topic(&event.topic).map_err(|fault| fault.fact("index", index))?;
        Ok(NewEvent { topic: event.topic, severity: event.severity, body })
    };
    let events = events.into_iter().enumerate().map(new).collect::<Result<Vec<_>, Refusal>>()?;
    let appended = core.store(move |store| store.append(&events, clock::now_ms())).await?;
    Ok(Json(wire::Appended { appended: appended.appended, last_id: appended.last_id }))
}

/// First words of the topics that core itself writes: nobody else may, or an approval could be made up.
const OWN_TOPICS: [&str; 13] =
    ["artifact", "baseline", "clock", "config", "core", "events", "finding", "job", "lease", "network", "profile", "run", "stage"];

/// Refuses a topic that is not lower-case words joined by dots, and one of core's own.
fn is_topic(topic: &str) -> Result<(), Fault> {
    let fault = |what: &str| Fault::new(Code::StoreInvalidEvent, what).fact("topic", topic.chars().take(80).collect::<String>());
    let is_word = |word: &str| {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        !word.is_empty() && word.bytes().all(known)
    };
    if topic.len() > smolotchi_store::TOPIC_BYTES || !topic.split('.').all(is_word) {
        return Err(fault("the topic is not lower-case words joined by dots"));
    }
    let first = topic.split('.').next().unwrap_or_default();
    if OWN_TOPICS.contains(&first) {
        return Err(fault("only core itself writes events of this topic").hint("begin the topic with another word"));
    }
    Ok(())
}

async fn retain(State(core): State<Arc<Core>>, body: Result<Bytes, BytesRejection>) -> Answer<wire::Retained> {
    let wire::Retention { max_events, max_age_days, max_bytes, min_free_mib, dry_run } = parse(body)?;
    let min_free_bytes = min_free_mib.map(|mib| mib.saturating_mul(1024 * 1024));
    let read = core.senses.memory().read().map(str::to_owned).collect();
    let asked = retention::asked(RetentionPolicy { max_events, max_age_days }, max_bytes, min_free_bytes, &core.state, read);
    // Planned with the rest, before anything is removed; the policy of the work is core's own.
    let (work, held_back) = core.old_work().await?;
    let mut retained = retention::apply(&core.owner, asked, dry_run).await?;
    core.tell_newest().await?;
    if held_back {
        retained.held_back = Some(retention::CLOCK.to_owned());
    }
    if let Some(why) = &retained.held_back {
        log::note(Kind::HeldBack, why);
    }
    for old in &work {
        let (count, bytes) = if dry_run { (old.ids.len() as u64, old.bytes) } else { core.remove_work(old).await? };
        retained.going.extend(part(old, count, bytes));
    }
    Ok(Json(retained))
}

/// What goes of the work, or went; nothing if that is none.
fn part(old: &OldRows, count: u64, bytes: u64) -> Option<wire::Going> {
    let mut ids = old.ids.clone();
    ids.sort_unstable();
    let (first_id, last_id) = (*ids.first()?, *ids.last()?);
    // What something has come to need meanwhile stayed, and which that was is not known.
    ids.retain(|_| count == old.ids.len() as u64);
    let (kind, reason) = (old.kind.to_owned(), old.reason.as_str().to_owned());
    (count > 0).then(|| wire::Going { name: kind.clone(), kind, first_id, last_id, count, bytes, reason, ids })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn the_help_names_cores_own_topics() {
        let command = <crate::cli::Cli as clap::CommandFactory>::command();
        let append = command.find_subcommand("events").unwrap().find_subcommand("append").unwrap();
        let help = append.get_after_help().unwrap().to_string();
        let (_, own) = help.split_once("begin with ").unwrap();
        let own: Vec<_> = own.trim_end_matches('.').split([',', ' ']).filter(|word| !["", "or"].contains(word)).collect();
        assert_eq!(own, OWN_TOPICS);
    }

    #[test]
    fn topics_are_words_and_none_of_cores_own() {
        let long = "a".repeat(128);
        for topic in ["t", "disk.full", "a-b.c_d.9", "corex", "runs.a", long.as_str()] {
            assert!(is_topic(topic).is_ok(), "{topic}");
        }
        let longer = "a".repeat(129);
        let wrong = ["", ".", "a.", ".a", "a..b", "a b", "A", "a\n", "ä", "a/b", longer.as_str()];
        let own = ["core", "core.started", "stage.approved", "baseline.set", "events.pruned"];
        for topic in wrong.iter().chain(&own) {
            assert_eq!(is_topic(topic).unwrap_err().code, Code::StoreInvalidEvent, "{topic}");
        }
    }

    fn event(id: i64) -> smolotchi_store::Event {
        smolotchi_store::Event { id, at_ms: 0, topic: "t".into(), body: "1".into(), severity: None }
    }

    /// A log of 50,000 events that is searched by 10,000 at a time, with one match at the end.
    fn searched(query: &EventQuery) -> FoundEvents {
        let next = (query.after.unwrap_or(0) + 10_000).min(50_000);
        let found = next == 50_000 && query.after.unwrap_or(0) < 50_000;
        FoundEvents { events: found.then(|| event(50_000)).into_iter().collect(), next: Some(next) }
    }

    #[tokio::test]
    async fn a_search_that_takes_long_is_not_put_off_until_the_next_event() {
        let (_core, newest) = watch::channel(Some(50_000));
        let asked = RefCell::new(Vec::new());
        let look = |query: EventQuery| {
            asked.borrow_mut().push(query.after);
            std::future::ready(Ok(searched(&query)))
        };
        let query = EventQuery { limit: 10, after: Some(0), search: Some("x".into()), ..EventQuery::default() };
        let wait = Some(Duration::from_secs(50));
        let found = awaited(look, newest.clone(), query.clone(), wait, Duration::ZERO);
        let found = tokio::time::timeout(Duration::from_secs(5), found).await.expect("it waits for an event").unwrap();
        assert_eq!((found.events.first().map(|event| event.id), found.next), (Some(50_000), Some(50_000)));
        assert_eq!(asked.take(), [Some(0), Some(10_000), Some(20_000), Some(30_000), Some(40_000)]);
        // Who doesn't wait is told how far it went.
        let found = awaited(look, newest, query, None, Duration::ZERO).await.unwrap();
        assert_eq!((found.events.len(), found.next), (0, Some(10_000)));
    }

    #[tokio::test]
    async fn who_waits_is_told_of_the_next_match_or_of_the_end() {
        let (core, newest) = watch::channel(Some(7));
        let (looked, mut looks) = tokio::sync::mpsc::unbounded_channel();
        let answers = RefCell::new(vec![vec![], vec![], vec![event(9)]].into_iter());
        let look = |query: EventQuery| {
            let _ = looked.send(());
            std::future::ready(Ok(FoundEvents { events: answers.borrow_mut().next().unwrap_or_default(), next: query.after.max(Some(7)) }))
        };
        let query = EventQuery { limit: 10, after: Some(7), ..EventQuery::default() };
        let events = async {
            for id in 8..10 {
                looks.recv().await;
                core.send_replace(Some(id));
            }
        };
        let wait = Some(Duration::from_secs(50));
        let (found, ()) = tokio::join!(awaited(look, newest.clone(), query.clone(), wait, SEARCH_TIME), events);
        assert_eq!(found.unwrap().events.first().map(|event| event.id), Some(9));
        core.send_replace(None);
        assert!(awaited(look, newest, query, wait, SEARCH_TIME).await.unwrap().events.is_empty());
    }
}
