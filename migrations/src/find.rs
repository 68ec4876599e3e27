//! Looking for events: newest first or from an id on, by topic, severity, time and words. Only reads.
//!
//! Only the segments that can have what is asked for are touched. What no index finds is looked for in a stretch of ids at a
//! time, so that the caller decides how long it goes on.

use crate::connect::failed;
use crate::page::{self, PAGE_BYTES};
use crate::ring::{self, Segment};
use crate::work::search::containing;
use crate::{Event, Result, Severity, Store, rules};
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, params_from_iter};

/// How many ids one call looks at where no index helps.
const STRETCH: i64 = 10_000;

/// What is asked for; everything that is given must be true of an event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventQuery {
    /// At most so many events.
    pub limit: u32,
    /// Only older ones than this id.
    pub before: Option<i64>,
    /// Only newer ones than this id; the answer is then oldest first.
    pub after: Option<i64>,
    /// This topic, and those below it: `disk` is also `disk.full`.
    pub topic: Option<String>,
    /// At least so severe. Schema 1 has no severities, and so none of these.
    pub severity: Option<Severity>,
    /// Not older than this, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// These letters in topic or body, whatever their case.
    pub search: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FoundEvents {
    /// Newest first; with `after`, oldest first.
    pub events: Vec<Event>,
    /// Where to go on: `before` (or `after`) of the next call. `None` when everything was looked at; with `after` there is always
    /// one, for the events to come.
    pub next: Option<i64>,
}

impl Store {
    /// Finds events. A call ends at the limit, at [`PAGE_BYTES`], at the end, or after a stretch of ids; `next` says where to go on.
    pub fn find(&self, query: &EventQuery) -> Result<FoundEvents> {
        let fail = failed(&self.path, "could not read the events");
        let mut segments = self.segments()?;
        let after = query.after.unwrap_or(i64::MIN);
        let before = query.before.unwrap_or(i64::MAX);
        segments.retain(|segment| segment.first_id < before && segment.last_id > after);
        if query.after.is_some() {
            segments.reverse();
        }
        let mut page = FoundEvents::default();
        let mut left = query.limit as usize;
        let (mut stretch, mut bytes) = (STRETCH, 0);
        for segment in &segments {
            if !self.may_have(segment, query).map_err(&fail)? {
                continue;
            }
            // The ids to look at, both included.
            let (mut low, mut high) = (segment.first_id.max(after.saturating_add(1)), segment.last_id.min(before - 1));
            let mut cut = None;
            if query.is_slow() && high - low >= stretch {
                if query.after.is_some() {
                    high = low + stretch - 1
                } else {
                    low = high - stretch + 1
                }
                cut = Some(if query.after.is_some() { high } else { low });
            }
            stretch -= high - low + 1;
            let found = self.events_of(segment, query, low, high, left, PAGE_BYTES - bytes).map_err(&fail)?;
            left -= found.len();
            bytes += page::bytes(&found);
            page.events.extend(found);
            if left == 0 || bytes >= PAGE_BYTES {
                page.next = page.events.last().map(|event| event.id);
                return Ok(page);
            }
            if cut.is_some() || (query.is_slow() && stretch <= 0) {
                page.next = cut.or(Some(if query.after.is_some() { high } else { low }));
                return Ok(page);
            }
        }
        if query.after.is_some() {
            // The end: everything there is was looked at.
            page.next = Some(self.newest_id()?.unwrap_or(0).max(after));
        }
        Ok(page)
    }

    /// The newest events, newest first.
    pub fn recent(&self, limit: u32) -> Result<Vec<Event>> {
        self.find(&EventQuery { limit, ..EventQuery::default() }).map(|page| page.events)
    }

    /// The newest warnings and errors, newest first; empty in schema 1, which has no severities.
    pub fn recent_severe(&self, limit: u32) -> Result<Vec<Event>> {
        self.find(&EventQuery { limit, severity: Some(Severity::Warning), ..EventQuery::default() }).map(|page| page.events)
    }

    /// What is known of a segment without reading it.
    fn may_have(&self, segment: &Segment, query: &EventQuery) -> rusqlite::Result<bool> {
        if query.since_ms.is_some_and(|since| segment.newest_ms < since) {
            return Ok(false);
        }
        let (Some(slot), Some(topic)) = (segment.slot, &query.topic) else { return Ok(true) };
        let found = self.db.prepare_cached(rules::SEGMENT_HAS_TOPIC)?.query_row((topic, below(topic), slot), |_| Ok(())).optional()?;
        Ok(found.is_some())
    }

    fn events_of(
        &self,
        segment: &Segment,
        query: &EventQuery,
        low: i64,
        high: i64,
        limit: usize,
        bytes: usize,
    ) -> rusqlite::Result<Vec<Event>> {
        let (sql, values) = query.sql(self.schema, &segment.table(), low, high, limit);
        let mut found = self.db.prepare_cached(&sql)?;
        let rows = found.query_map(params_from_iter(values), |row| {
            let severity: Option<i64> = row.get(4)?;
            Ok(Event {
                id: row.get(0)?,
                at_ms: row.get(1)?,
                topic: row.get(2)?,
                body: row.get(3)?,
                severity: severity.and_then(Severity::from_number),
            })
        })?;
        page::within(rows, bytes)
    }

    /// Every segment, newest first. A schema without a ring is one segment.
    pub(crate) fn segments(&self) -> Result<Vec<Segment>> {
        let fail = failed(&self.path, "could not read the events");
        if self.schema >= ring::SCHEMA {
            return ring::segments(&self.db, ring::SLOTS).map_err(fail);
        }
        let all = self.db.prepare_cached(rules::ENDS).and_then(|mut ends| {
            ends.query_row((), |row| {
                let (Some(first_id), Some(last_id)) = (row.get(0)?, row.get(1)?) else { return Ok(None) };
                Ok(Some(Segment { slot: None, first_id, last_id, events: 0, bytes: 0, newest_ms: i64::MAX, anchor: None }))
            })
        });
        all.map(|all| all.into_iter().collect()).map_err(fail)
    }
}

/// What comes after every topic below this one.
fn below(topic: &str) -> String {
    format!("{topic}/")
}

impl EventQuery {
    /// Whether rows have to be looked at that are not asked for.
    fn is_slow(&self) -> bool {
        self.topic.is_some()
            || self.since_ms.is_some()
            || self.search.is_some()
            || self.severity.is_some_and(|least| least < Severity::Warning)
    }

    /// The query for one table, and its values.
    fn sql(&self, schema: u32, table: &str, low: i64, high: i64, limit: usize) -> (String, Vec<Value>) {
        let severity = if schema >= 2 { "severity" } else { "NULL" };
        let mut values: Vec<Value> = vec![low.into(), high.into(), (limit as i64).into()];
        let mut terms = String::new();
        let mut term = |sql: &str, value: Value| {
            values.push(value);
            terms += " AND ";
            terms += &sql.replace("?", &format!("?{}", values.len()));
        };
        if let Some(topic) = &self.topic {
            term("(topic = ? OR topic > ? || '.' AND topic < ? || '/')", topic.clone().into());
        }
        if let Some(least) = self.severity {
            // The index of warnings and errors is only taken for what it says itself.
            let index = if least >= Severity::Warning { "severity >= 3 AND " } else { "" };
            term(&if schema >= 2 { format!("{index}severity >= ?") } else { "NULL >= ?".to_owned() }, (least as i64).into());
        }
        if let Some(since) = self.since_ms {
            term("at_ms >= ?", since.into());
        }
        if let Some(words) = &self.search {
            term("(topic LIKE ? ESCAPE '\\' OR body LIKE ? ESCAPE '\\')", containing(words).into());
        }
        let order = if self.after.is_some() { "" } else { " DESC" };
        let sql =
            format!("SELECT id, at_ms, topic, body, {severity} FROM {table} WHERE id BETWEEN ?1 AND ?2{terms} ORDER BY id{order} LIMIT ?3");
        (sql, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NewEvent;
    use crate::migrate::{Direction, run};
    use rusqlite::StatementStatus;

    const TOPICS: [&str; 5] = ["core", "core.started", "corex", "disk.full", "sensor.reading"];

    /// Events of four segments and more, each second one info, every hundredth a warning.
    fn filled(count: usize) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("smolotchi.db");
        run(&path, Direction::UpOnly, true).unwrap();
        let mut store = Store::open(&path).unwrap();
        store.segment_events = 100;
        for first in (0..count).step_by(50) {
            let events: Vec<_> = (first..first + 50)
                .map(|index| NewEvent {
                    topic: TOPICS[if index < 100 { 4 } else { index % 4 }].into(),
                    severity: Some(if index % 100 == 7 {
                        Severity::Warning
                    } else if index % 2 == 0 {
                        Severity::Info
                    } else {
                        Severity::Debug
                    }),
                    body: format!("\"Number {index}_%\""),
                })
                .collect();
            store.append(&events, first as i64).unwrap();
        }
        (folder, store)
    }

    fn all(store: &Store, mut query: EventQuery) -> Vec<i64> {
        let mut ids = Vec::new();
        loop {
            let page = store.find(&query).unwrap();
            assert!(page.events.len() <= query.limit as usize);
            let found = page.events.len();
            ids.extend(page.events.into_iter().map(|event| event.id));
            match (query.after, page.next) {
                (_, None) => return ids,
                (Some(after), Some(next)) if found == 0 && next == after => return ids,
                (Some(_), next) => query.after = next,
                (None, next) => query.before = next,
            }
        }
    }

    /// Each filter against the same filter over all rows, page by page of many sizes.
    #[test]
    #[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
    fn every_filter_finds_what_it_should_page_by_page() {
        let (_folder, store) = filled(500);
        type Test = fn(&Event) -> bool;
        let filters: [(EventQuery, Test); 7] = [
            (EventQuery::default(), |_| true),
            (EventQuery { topic: Some("core".into()), ..EventQuery::default() }, |event| {
                event.topic == "core" || event.topic.starts_with("core.")
            }),
            (EventQuery { topic: Some("sensor".into()), ..EventQuery::default() }, |event| event.topic.starts_with("sensor.")),
            (EventQuery { severity: Some(Severity::Info), ..EventQuery::default() }, |event| event.severity >= Some(Severity::Info)),
            (EventQuery { severity: Some(Severity::Warning), ..EventQuery::default() }, |event| event.severity >= Some(Severity::Warning)),
            (EventQuery { since_ms: Some(333), ..EventQuery::default() }, |event| event.at_ms >= 333),
            (EventQuery { search: Some("NUMBER 4".into()), topic: Some("core".into()), ..EventQuery::default() }, |event| {
                event.body.contains("Number 4") && (event.topic == "core" || event.topic.starts_with("core."))
            }),
        ];
        let everything = store.recent(1000).unwrap();
        assert_eq!(everything.len(), 500);
        for (query, test) in filters {
            let wanted: Vec<i64> = everything.iter().filter(|event| test(event)).map(|event| event.id).collect();
            for limit in [1, 7, 100, 1000] {
                assert_eq!(all(&store, EventQuery { limit, ..query.clone() }), wanted, "{query:?} by {limit}");
                let mut rising: Vec<i64> = wanted.iter().copied().filter(|id| *id > 210).collect();
                rising.reverse();
                assert_eq!(all(&store, EventQuery { limit, after: Some(210), ..query.clone() }), rising, "{query:?} by {limit}, rising");
            }
        }
        assert_eq!(all(&store, EventQuery { limit: 9, search: Some("%".into()), ..EventQuery::default() }).len(), 500);
        assert_eq!(all(&store, EventQuery { limit: 9, search: Some("r_".into()), ..EventQuery::default() }).len(), 0);
    }

    /// The plan of every shape, and that no rows beyond the stretch are stepped over.
    #[test]
    #[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
    fn no_query_reads_more_than_its_stretch() {
        let (_folder, store) = filled(500);
        let by_id = "SEARCH events_03 USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)";
        let severe = "SEARCH events_03 USING INDEX events_03_severe (id>? AND id<?)";
        let queries = [
            (EventQuery::default(), by_id),
            (EventQuery { after: Some(1), ..EventQuery::default() }, by_id),
            (EventQuery { topic: Some("core".into()), ..EventQuery::default() }, by_id),
            (EventQuery { severity: Some(Severity::Notice), ..EventQuery::default() }, by_id),
            (EventQuery { severity: Some(Severity::Warning), ..EventQuery::default() }, severe),
            (EventQuery { severity: Some(Severity::Error), ..EventQuery::default() }, severe),
            (EventQuery { since_ms: Some(5), ..EventQuery::default() }, by_id),
            (EventQuery { search: Some("x".into()), ..EventQuery::default() }, by_id),
        ];
        for (query, plan) in queries {
            let (sql, values) = query.sql(store.schema, "events_03", 201, 300, 10);
            let mut explain = store.db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let said: Vec<String> =
                explain.query_map(params_from_iter(values.clone()), |row| row.get(3)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
            assert_eq!(said, [plan], "{query:?}");
            let mut run = store.db.prepare(&sql).unwrap();
            assert!(run.query(params_from_iter(values)).unwrap().next().is_ok());
            assert_eq!(run.get_status(StatementStatus::FullscanStep), 0, "{query:?}");
        }
        for (sql, plan) in [
            (
                rules::SEGMENT_HAS_TOPIC,
                vec![
                    "MULTI-INDEX OR",
                    "INDEX 1",
                    "SEARCH segment_topics USING PRIMARY KEY (topic=? AND slot=?)",
                    "INDEX 2",
                    "SEARCH segment_topics USING PRIMARY KEY (topic>? AND topic<?)",
                ],
            ),
            (ring::SEGMENTS, vec!["SCAN segments", "USE TEMP B-TREE FOR ORDER BY"]),
        ] {
            let mut explain = store.db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let values = vec![Value::Null; explain.parameter_count()];
            let said: Vec<String> =
                explain.query_map(params_from_iter(values), |row| row.get(3)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
            assert_eq!(said, plan, "{sql}");
        }
    }
}
