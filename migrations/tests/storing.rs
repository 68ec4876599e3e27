//! What core does with its database: append, read, prove, retain.

#![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]

mod common;

use common::{Dice, database, event, names, retain};
use smolotchi_store::{NewEvent, RetentionPolicy, Severity, Store, schema_own};
#[cfg(not(schema_1))]
use smolotchi_store::{NewReading, ReadingValue, SensorRow};

const DAY: i64 = 24 * 60 * 60 * 1000;

fn new(topic: &str, body: &str) -> NewEvent {
    NewEvent { topic: topic.into(), severity: None, body: body.into() }
}

#[test]
fn what_was_appended_comes_back() {
    let (_folder, path) = database(schema_own());
    let mut store = Store::open(&path).unwrap();
    assert_eq!(store.append(&[], 1).unwrap().last_id, 0);
    assert_eq!(store.summary().unwrap().newest_id, None);
    let mut dice = Dice(9);
    let events: Vec<_> = (0..25).map(|_| event(&mut dice)).collect();
    let done = store.append(&events, 1234).unwrap();
    assert_eq!((done.appended, done.last_id), (25, 25));
    assert_eq!(store.append(&[], 1).unwrap().last_id, 25);
    drop(store);

    let store = Store::open(&path).unwrap();
    let back = store.recent(100).unwrap();
    for (stored, event) in back.iter().rev().zip(&events) {
        assert_eq!((stored.at_ms, &stored.topic, &stored.body), (1234, &event.topic, &event.body));
        match event.severity {
            Some(severity) if schema_own() > 1 => assert_eq!(stored.severity, Some(severity)),
            _ => assert_eq!(stored.severity.is_some(), schema_own() > 1),
        }
    }
    assert_eq!(store.recent(3).unwrap().iter().map(|e| e.id).collect::<Vec<_>>(), [25, 24, 23]);
    let summary = store.summary().unwrap();
    assert_eq!((summary.events_total, summary.newest_id, summary.newest_at_ms), (25, Some(25), Some(1234)));
    assert_eq!(summary.bytes % 4096, 0);
    assert!(store.recent_severe(100).unwrap().iter().all(|event| event.severity >= Some(Severity::Warning)));
}

#[test]
fn one_bad_event_refuses_the_batch() {
    let (_folder, path) = database(schema_own());
    let mut store = Store::open(&path).unwrap();
    let long = "x".repeat(129);
    for (topic, body) in [("", "{}"), (long.as_str(), "{}"), ("a\nb", "{}"), ("a", ""), ("a", "{"), ("a", "{}x"), ("a", "nonsense")] {
        let error = store.append(&[new("good", "{}"), new(topic, body)], 1).unwrap_err();
        assert_eq!(error.code(), "store.invalid-event", "{topic} {body}");
        assert!(error.to_string().contains("event 1"), "{error}");
    }
    assert_eq!(store.summary().unwrap().events_total, 0);
}

#[test]
fn a_commit_is_in_the_log_when_it_is_answered() {
    let (folder, path) = database(schema_own());
    let mut store = Store::open(&path).unwrap();
    store.append(&[new("a", "{}")], 1).unwrap();
    assert_eq!(store.prove(2).unwrap().schema, schema_own());
    // What a crash leaves: the files as they are now, without the index.
    let crashed = folder.path().join("crashed.db");
    std::fs::copy(&path, &crashed).unwrap();
    std::fs::copy(path.with_extension("db-wal"), folder.path().join("crashed.db-wal")).unwrap();
    let after = Store::open(&crashed).unwrap();
    assert_eq!(after.summary().unwrap().events_total, 1);
    let (rows, at_ms): (i64, i64) = rusqlite::Connection::open(&crashed)
        .unwrap()
        .query_row("SELECT count(*), max(at_ms) FROM proof", (), |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!((rows, at_ms), (1, 2));
}

#[test]
fn proving_never_adds_a_row_and_closing_leaves_one_file() {
    let (folder, path) = database(schema_own());
    let mut store = Store::open(&path).unwrap();
    for now in 0..20 {
        store.prove(now).unwrap();
    }
    drop(store);
    let db = rusqlite::Connection::open(&path).unwrap();
    let (rows, times): (i64, i64) =
        db.query_row("SELECT count(*), sum(times) FROM proof", (), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!((rows, times), (1, 20));
    drop(db);
    assert_eq!(names(folder.path()), ["smolotchi.db"]);
}

#[test]
fn retention_keeps_what_the_policy_keeps() {
    let now = 100 * DAY;
    // Days of the events, oldest id first; limits; how many go.
    type Row = (&'static [i64], Option<u64>, Option<u32>, u64);
    let table: &[Row] = &[
        (&[], Some(0), Some(0), 0),
        (&[1, 2, 3], None, None, 0),
        (&[1, 2, 3], Some(3), None, 0),
        (&[1, 2, 3], Some(2), None, 1),
        (&[1, 2, 3], Some(0), None, 3),
        (&[80, 90, 99], None, Some(15), 1),
        (&[80, 90, 99], None, Some(1), 2),
        (&[80, 90, 98], None, Some(1), 3),
        (&[80, 90, 99], Some(1), Some(15), 2),
        // From a clock that was ahead: as old as what came after.
        (&[80, 300, 81, 99], None, Some(15), 3),
        // A wrong clock among young events, and before them.
        (&[99, 0, 99], None, Some(15), 0),
        (&[0, 0, 99], None, Some(15), 2),
        (&[80, 99, 0], None, Some(15), 1),
    ];
    for (days, max_events, max_age_days, gone) in table {
        let (_folder, path) = database(schema_own());
        let mut store = Store::open(&path).unwrap();
        // With a segment for each event, segments go as rows did; but the newest one stays.
        store.full_at(1);
        let gone = if schema_own() >= 7 { (*gone).min((days.len() as u64).saturating_sub(1)) } else { *gone };
        for day in *days {
            store.append(&[new("a", "{}")], day * DAY).unwrap();
        }
        let policy = RetentionPolicy { max_events: *max_events, max_age_days: *max_age_days };
        assert_eq!(retain(&mut store, &policy, now), gone, "{days:?} {policy:?}");
        // Of what went the ring has a record.
        let last = days.len() as i64 + i64::from(gone > 0 && schema_own() >= 7);
        let left: Vec<_> = store.recent(100).unwrap().iter().map(|e| e.id).rev().collect();
        assert_eq!(left, (gone as i64 + 1..=last).collect::<Vec<_>>());
        assert_eq!(store.summary().unwrap().events_total, left.len() as u64);
        // Ids go on where they were, also when none is left.
        assert_eq!(store.append(&[new("a", "{}")], 1).unwrap().last_id, last + 1);
    }
}

/// Whether a clock is believed, from the days of the events, oldest id first.
#[test]
fn a_clock_is_believed_once_it_was_lived_by() {
    let table: &[(&[i64], i64, u32, bool)] = &[
        (&[], 100, 90, false),
        // Lived by: something is one to two weeks old.
        (&[1, 20, 60, 88, 100], 100, 90, true),
        (&[1, 86], 100, 90, true),
        (&[1, 93], 100, 90, true),
        (&[1, 85, 94], 100, 90, false),
        // Ahead, before and after something was written at the wrong time, and a week later.
        (&[1, 20, 60, 88, 100], 400, 90, false),
        (&[1, 20, 60, 88, 100, 400, 401], 402, 90, false),
        (&[1, 20, 60, 88, 100, 400, 401], 408, 90, true),
        // Set right again.
        (&[1, 20, 60, 300, 301, 88, 93, 99, 100], 100, 90, true),
        (&[1, 20, 60, 88, 92, 300, 301, 100], 100, 90, true),
        // Set to the beginning for a while.
        (&[1, 20, 88, 90, 0, 0, 99, 100], 100, 90, true),
        // Less than two weeks are kept.
        (&[80, 97, 100], 100, 5, false),
        (&[80, 98, 100], 100, 5, true),
    ];
    for (days, now, policy, believed) in table {
        for most in [1, 3, 100] {
            let (_folder, path) = database(schema_own());
            let mut store = Store::open(&path).unwrap();
            store.full_at(most);
            for day in *days {
                store.append(&[new("a", "{}")], day * DAY).unwrap();
            }
            assert_eq!(store.lived(now * DAY, *policy).unwrap(), *believed, "{days:?} {now} {policy} {most}");
        }
    }
}

#[test]
#[cfg(not(schema_1))]
fn a_reading_vouches_for_the_clock_too() {
    let (_folder, path) = database(schema_own());
    let mut store = Store::open(&path).unwrap();
    let sensor = SensorRow { name: "s".into(), provider: "p".into(), unit: "%".into(), absent: None, changed_ms: 0 };
    for (day, believed) in [(80, false), (95, false), (90, true)] {
        let reading = NewReading { sensor: "s".into(), at_ms: day * DAY, value: ReadingValue::Number(1.0) };
        store.keep_readings(std::slice::from_ref(&sensor), &[reading]).unwrap();
        assert_eq!(store.lived(100 * DAY, 90).unwrap(), believed, "{day}");
    }
}

#[test]
fn retention_with_nothing_to_do_writes_nothing() {
    let (_folder, path) = database(schema_own());
    let mut store = Store::open(&path).unwrap();
    store.full_at(10);
    for _ in 0..10 {
        store.append(&vec![new("a", "{}"); 10], 1_700_000_000_000).unwrap();
    }
    let log = path.with_extension("db-wal");
    let before = std::fs::read(&log).unwrap();
    let policy = RetentionPolicy { max_events: Some(100), max_age_days: Some(40_000) };
    assert_eq!(retain(&mut store, &policy, 1_800_000_000_000), 0);
    let policy = RetentionPolicy { max_events: Some(10), ..RetentionPolicy::default() };
    let going: u64 = store.plan_retention(&policy, 0).unwrap().iter().map(|going| going.events).sum();
    assert_eq!(going, 90);
    assert_eq!(std::fs::read(&log).unwrap(), before);
    assert_eq!(retain(&mut store, &policy, 0), 90);
    assert_ne!(std::fs::read(&log).unwrap(), before, "the log is not where writes show");
}

#[test]
fn an_older_schema_is_refused() {
    if schema_own() == 1 {
        // Nothing is older than schema 1; the next best is a record that was emptied.
        let (_folder, path) = database(1);
        rusqlite::Connection::open(&path).unwrap().execute("DELETE FROM schema_version", ()).unwrap();
        assert_eq!(Store::open(&path).unwrap_err().code(), "store.damaged");
        return;
    }
    let (_folder, path) = database(1);
    assert_eq!(Store::open(&path).unwrap_err().code(), "store.older-schema");
}

mod readings {
    use super::*;
    use smolotchi_store::ReadingValue::{Number, Text};
    use smolotchi_store::{NewReading, ReadingSpan, ReadingValue, SensorRow};

    fn sensor(name: &str, absent: Option<&str>, changed_ms: i64) -> SensorRow {
        let (name, provider) = (name.to_owned(), "system".to_owned());
        SensorRow { name, provider, unit: "%".to_owned(), absent: absent.map(str::to_owned), changed_ms }
    }

    fn reading(sensor: &str, at_ms: i64, value: ReadingValue) -> NewReading {
        NewReading { sensor: sensor.to_owned(), at_ms, value }
    }

    #[test]
    #[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
    fn readings_come_back_as_they_were_kept() {
        let (_folder, path) = database(schema_own());
        let mut store = Store::open(&path).unwrap();
        let rows = [sensor("b", None, 5), sensor("a", Some("no such device"), 5)];
        let values = [
            Number(1.0),
            Number(-0.5),
            Number(1e300),
            Number(9_007_199_254_740_993.0),
            Text("192.0.2.7/24".to_owned()),
            Text(String::new()),
        ];
        let readings: Vec<_> = values.iter().zip(10..).map(|(value, at)| reading("b", at, value.clone())).collect();
        store.keep_readings(&rows, &readings).unwrap();
        // Of nobody: dropped. The same moment again: the newer one. A sensor that changes is not a second one.
        let again = [reading("nobody", 1, Number(1.0)), reading("b", 10, Number(2.0))];
        store.keep_readings(&[sensor("a", None, 9)], &again).unwrap();
        drop(store);

        let mut store = Store::open(&path).unwrap();
        assert_eq!(store.sensors().unwrap(), [sensor("a", None, 9), sensor("b", None, 5)]);
        let series = store.readings("b", 0, 100).unwrap().unwrap();
        let mut expected: Vec<_> = (10..).zip(values).collect();
        expected[0].1 = Number(2.0);
        assert_eq!((series.unit.as_str(), &series.readings), ("%", &expected));
        // The newest ones of a limit, oldest first; none before `since`.
        assert_eq!(store.readings("b", 0, 2).unwrap().unwrap().readings, expected[4..]);
        assert_eq!(store.readings("b", 12, 100).unwrap().unwrap().readings, expected[2..]);
        assert_eq!(store.readings("a", 0, 100).unwrap().unwrap().readings, []);
        assert_eq!(store.readings("c", 0, 100).unwrap(), None);

        assert_eq!(store.plan_readings(10, 1000).unwrap(), []);
        let part = ReadingSpan { from_ms: 10, to_ms: 11, count: 2 };
        assert_eq!(store.plan_readings(12, 1000).unwrap(), [part]);
        assert_eq!((store.remove_readings(&part).unwrap(), store.remove_readings(&part).unwrap()), (2, 0));
        assert_eq!(store.readings("b", 0, 100).unwrap().unwrap().readings, expected[2..]);
    }

    #[test]
    #[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
    fn old_readings_go_in_parts() {
        let (_folder, path) = database(schema_own());
        let mut store = Store::open(&path).unwrap();
        // Two sensors, each moment twice.
        let readings: Vec<_> = (0..100).map(|number| reading(["a", "b"][number % 2], number as i64 / 2, Number(0.0))).collect();
        store.keep_readings(&[sensor("a", None, 0), sensor("b", None, 0)], &readings).unwrap();
        let parts = store.plan_readings(45, 20).unwrap();
        assert_eq!(parts.iter().map(|part| part.count).sum::<u64>(), 90);
        assert!(parts.len() == 5 && parts.iter().all(|part| part.count <= 21), "{parts:?}");
        assert!(parts.windows(2).all(|pair| pair[0].to_ms < pair[1].from_ms), "{parts:?}");
        let gone: u64 = parts.iter().map(|part| store.remove_readings(part).unwrap()).sum();
        assert_eq!((gone, store.plan_readings(45, 20).unwrap()), (90, vec![]));
        assert_eq!(store.readings("a", 0, 100).unwrap().unwrap().readings.first().unwrap().0, 45);
    }

    #[test]
    fn a_schema_without_readings_says_so() {
        if schema_own() < 6 {
            let (_folder, path) = database(schema_own());
            let mut store = Store::open(&path).unwrap();
            for error in [store.keep_readings(&[sensor("a", None, 0)], &[]).unwrap_err(), store.sensors().unwrap_err()] {
                assert_eq!(error.code(), "store.not-in-schema");
            }
        } else {
            let (_folder, path) = database(3);
            let store = Store::open_as(3, &path).unwrap();
            assert_eq!(store.sensors().unwrap_err().code(), "store.not-in-schema");
        }
    }
}
