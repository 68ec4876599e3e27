//! The chain of seals: whole after whatever core does, broken by whatever else is done to the events; and what pruning leaves.

#![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]
#![cfg(not(schema_1))]

mod common;

use common::{Dice, audit, database, fill, retain};
use rusqlite::Connection;
use smolotchi_store::migrate::{Direction, run_as};
use smolotchi_store::{AuditReport, Going, NewEvent, Reason, RetentionPolicy, Store, audit_file, check, schema_own};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Events in several segments, with some from before the chain.
fn filled() -> (tempfile::TempDir, PathBuf) {
    let (folder, path) = database(3);
    fill(&mut Store::open_as(3, &path).unwrap(), &mut Dice(1), 50);
    run_as(schema_own(), &path, Direction::UpOnly, false).unwrap();
    let mut store = Store::open(&path).unwrap();
    store.full_at(60);
    fill(&mut store, &mut Dice(2), 400);
    (folder, path)
}

fn audited(path: &Path) -> AuditReport {
    audit(&Store::open(path).unwrap())
}

#[test]
fn an_untouched_log_is_whole_and_what_came_before_the_chain_is_said() {
    let (_folder, path) = filled();
    let report = audited(&path);
    assert!(report.whole, "{report:?}");
    assert_eq!((report.events, report.sealed, report.unsealed), (450, 400, 50));
    assert_eq!((report.first_id, report.sealed_from, report.last_id), (Some(1), Some(51), Some(450)));
    let (id, head) = Store::open(&path).unwrap().head().unwrap().unwrap();
    assert_eq!((id, Some(head)), (450, report.head));
    assert!(check(&path, true).unwrap().ok);
}

/// Each way of tampering, and the first event that is then said to be broken, at most.
#[test]
fn tampering_shows() {
    let ways: &[(&str, &str)] = &[
        ("a changed body", "UPDATE events_02 SET body = '1' WHERE id = (SELECT min(id) + 5 FROM events_02)"),
        ("a changed topic", "UPDATE events_02 SET topic = 'x' WHERE id = (SELECT max(id) FROM events_02)"),
        ("a changed time", "UPDATE events_01 SET at_ms = at_ms + 1 WHERE id = 51"),
        ("a changed severity", "UPDATE events_03 SET severity = (severity + 1) % 5 WHERE id = (SELECT min(id) FROM events_03)"),
        ("a removed row", "DELETE FROM events_02 WHERE id = (SELECT min(id) + 5 FROM events_02)"),
        ("a removed commit", "DELETE FROM events_02 WHERE id <= (SELECT min(id) FROM events_02 WHERE seal IS NOT NULL)"),
        ("a removed end of a segment", "DELETE FROM events_02 WHERE id > (SELECT min(id) + 5 FROM events_02)"),
        ("an emptied segment", "DELETE FROM events_02"),
        ("a moved row", "UPDATE events_02 SET id = id - 1000 WHERE id = (SELECT min(id) + 5 FROM events_02)"),
        ("a removed seal", "UPDATE events_02 SET seal = NULL"),
        ("a changed seal", "UPDATE events_02 SET seal = zeroblob(32) WHERE id = (SELECT max(id) FROM events_02)"),
        ("a cut tail", "DELETE FROM events_07 WHERE id > 440; DELETE FROM events_06 WHERE id > 440; DELETE FROM events_05 WHERE id > 440"),
        (
            "a cut tail, and its segment knows",
            "DELETE FROM events_01 WHERE id > (SELECT min(id) FROM events_01 WHERE seal IS NOT NULL);
             DELETE FROM events_02; DELETE FROM events_03; DELETE FROM events_04; DELETE FROM events_05; DELETE FROM events_06; DELETE FROM events_07;
             DELETE FROM segments WHERE slot > 1; UPDATE segments SET last_id = (SELECT max(id) FROM events_01) WHERE slot = 1",
        ),
        ("a dropped segment in the middle", "DELETE FROM events_02; DELETE FROM segments WHERE slot = 2"),
        ("no chain", "DELETE FROM chain"),
        ("a shorter chain", "UPDATE chain SET first_id = first_id + 1"),
        (
            "a piece cut out, and the chain says so",
            "CREATE TEMP TABLE ends AS SELECT id, seal FROM events_02 WHERE seal IS NOT NULL ORDER BY id;
             UPDATE chain SET last_id = (SELECT min(id) FROM ends), head = (SELECT seal FROM ends ORDER BY id LIMIT 1);
             INSERT INTO chain (first_id, anchor) SELECT max(id) + 1, (SELECT seal FROM ends ORDER BY id DESC LIMIT 1) FROM ends;
             DELETE FROM events_02 WHERE id > (SELECT min(id) FROM ends) AND id <= (SELECT max(id) FROM ends);
             UPDATE segments SET last_id = (SELECT min(id) FROM ends), events = (SELECT count(*) FROM events_02) WHERE slot = 2",
        ),
        (
            "seals taken off, and the chain says so",
            "UPDATE events_03 SET seal = NULL; UPDATE events_02 SET seal = NULL; UPDATE events_01 SET seal = NULL;
             UPDATE events_04 SET seal = NULL; UPDATE events_05 SET seal = NULL; UPDATE events_06 SET seal = NULL; UPDATE events_07 SET seal = NULL;
             UPDATE events_02 SET body = '1'; DELETE FROM chain",
        ),
        ("a row behind the end", "INSERT INTO events_01 SELECT 100000, at_ms, topic, body, severity, NULL FROM events_01 LIMIT 1"),
    ];
    for (name, sql) in ways {
        let (_folder, path) = filled();
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let report = audited(&path);
        assert!(!report.whole, "{name} was not seen: {report:?}");
        let broken = report.broken.unwrap();
        if name.contains("remove") && !name.contains("seal") || name.contains("cut tail") || name.contains("empt") {
            assert!(!broken.missing.is_empty() || *name == "a removed commit", "{name}: nothing is missing? {broken:?}");
        }
        println!("{name}: {broken:?}");
    }
}

/// Each way of cutting a piece out and telling the chain of it, as a prune or a restore would: the log has no record of those.
#[test]
fn what_was_cut_out_is_missed_although_the_chain_was_told() {
    let ways: &[(&str, &str)] = &[
        (
            "a tail",
            "DELETE FROM events_NEWEST; DELETE FROM segments WHERE slot = NEWEST; DELETE FROM segment_topics WHERE slot = NEWEST;
             UPDATE chain SET last_id = (SELECT max(last_id) FROM segments), head = (SELECT seal FROM events ORDER BY id DESC LIMIT 1)",
        ),
        (
            "the middle",
            "UPDATE chain SET last_id = (SELECT last_id FROM segments WHERE slot = 2), head = (SELECT anchor FROM segments WHERE slot = 4);
             INSERT INTO chain (first_id, anchor) SELECT first_id, anchor FROM segments WHERE slot = 4;
             DELETE FROM events_03; DELETE FROM segments WHERE slot = 3; DELETE FROM segment_topics WHERE slot = 3",
        ),
        (
            "everything",
            "DELETE FROM events_00; DELETE FROM events_01; DELETE FROM events_02; DELETE FROM events_03; DELETE FROM events_04;
             DELETE FROM events_05; DELETE FROM events_06; DELETE FROM events_07; DELETE FROM segments; DELETE FROM chain;
             DELETE FROM segment_topics",
        ),
        (
            "the beginning",
            "DELETE FROM events_00; DELETE FROM events_01; DELETE FROM segments WHERE slot < 2;
             UPDATE chain SET first_id = (SELECT first_id FROM segments WHERE slot = 2), anchor = (SELECT anchor FROM segments WHERE slot = 2)",
        ),
    ];
    // What is written then begins a segment, and stands in the one before it.
    for ((name, sql), most) in ways.iter().flat_map(|way| [(way, 60), (way, 100_000)]) {
        let (_folder, path) = filled();
        let db = Connection::open(&path).unwrap();
        let newest: u8 = db.query_row("SELECT slot FROM segments ORDER BY last_id DESC LIMIT 1", (), |row| row.get(0)).unwrap();
        let sql = sql.replace("events_NEWEST", &format!("events_{newest:02}")).replace("NEWEST", &newest.to_string());
        db.execute_batch(&sql).unwrap();
        drop(db);
        let mut store = Store::open(&path).unwrap();
        store.full_at(most);
        fill(&mut store, &mut Dice(6), 7);
        let report = audited(&path);
        assert!(!report.whole, "{name} was not missed: {report:?}");
        let broken = report.broken.clone().unwrap();
        assert_eq!(broken.missing.len(), 1, "{name}: {broken:?}");
        assert_eq!(audit_file(&path).unwrap(), report);
        println!("{name}: {broken:?}");
    }
}

/// What a prune dropped is on record, also when the next prune drops the record.
#[test]
fn a_prune_leaves_a_record_and_the_log_whole() {
    let (_folder, path) = filled();
    let mut store = Store::open(&path).unwrap();
    store.full_at(60);
    for kept in [300, 200, 1, 0] {
        let oldest = audit(&store).first_id;
        retain(&mut store, &RetentionPolicy { max_events: Some(kept), ..RetentionPolicy::default() }, 5);
        let report = audit(&store);
        assert!(report.whole && report.first_id > oldest, "{report:?}");
        let record = store.recent(1).unwrap().remove(0);
        let body: serde_json::Value = serde_json::from_str(&record.body).unwrap();
        assert_eq!((record.topic.as_str(), record.at_ms, body["last_id"].as_i64()), ("events.pruned", 5, report.first_id.map(|id| id - 1)));
        fill(&mut store, &mut Dice(kept), 130);
    }
    assert_eq!(audit_file(&path).unwrap(), audit(&store));
}

/// The chain goes over versions without it, and what those prune: their rows are told as unsealed, nothing is broken.
#[test]
fn older_versions_in_between_leave_the_chain_whole() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let (_folder, path) = filled();
        let mut unsealed = 0_u64;
        for _ in 0..4 {
            let low = 1 + dice.below(u64::from(schema_own()) - 1) as u32;
            run_as(low, &path, Direction::ToOwn, false).unwrap();
            let mut old = Store::open_as(low, &path).unwrap();
            let more = dice.below(3) * 10;
            fill(&mut old, &mut dice, more);
            unsealed = unsealed.saturating_add(more);
            if dice.below(2) == 0 {
                let most = dice.below(300);
                retain(&mut old, &RetentionPolicy { max_events: Some(most), ..RetentionPolicy::default() }, 0);
                unsealed = u64::MAX;
            }
            drop(old);
            run_as(schema_own(), &path, Direction::UpOnly, false).unwrap();
            let mut store = Store::open(&path).unwrap();
            let report = audit(&store);
            assert!(report.whole, "seed {seed}: {report:?}");
            assert!(unsealed == u64::MAX || report.unsealed == 50 + unsealed, "seed {seed}: {unsealed}, {report:?}");
            store.full_at(1 + dice.below(80));
            let more = dice.below(3) * 20;
            fill(&mut store, &mut dice, more);
            if dice.below(3) == 0 {
                retain(&mut store, &RetentionPolicy { max_events: Some(dice.below(200)), ..RetentionPolicy::default() }, 0);
                unsealed = u64::MAX;
            }
            let report = audit(&store);
            assert!(report.whole, "seed {seed}: {report:?}");
            assert!(check(&path, true).unwrap().ok);
        }
    }
}

#[test]
fn a_tampered_row_is_found_after_a_way_down_and_up() {
    let (_folder, path) = filled();
    run_as(6, &path, Direction::ToOwn, false).unwrap();
    Connection::open(&path).unwrap().execute("UPDATE events SET body = '1' WHERE id = 200", ()).unwrap();
    run_as(schema_own(), &path, Direction::UpOnly, false).unwrap();
    let broken = audited(&path).broken.unwrap();
    assert!((broken.first_id..=broken.last_id).contains(&200), "{broken:?}");
}

/// An audit that others prune and append under goes on with what is there.
#[test]
fn an_audit_goes_on_while_others_write() {
    let (_folder, path) = filled();
    let mut store = Store::open(&path).unwrap();
    store.full_at(60);
    let mut audit = smolotchi_store::Audit::default();
    let mut round = 0;
    while !store.audit(&mut audit, 30).unwrap() {
        round += 1;
        if round == 3 {
            let gone = retain(&mut store, &RetentionPolicy { max_events: Some(200), ..RetentionPolicy::default() }, 0);
            assert!(gone > 150, "{gone}");
        }
        if round < 6 {
            fill(&mut store, &mut Dice(round), 10);
        }
    }
    let report = audit.report();
    assert!(report.whole, "{report:?}");
    // And the record of what was pruned.
    assert_eq!(report.last_id, Some(501));
}

/// Each reason takes whole segments, the oldest first, and never the newest.
#[test]
fn the_plan_says_which_segments_go_and_why() {
    let (_folder, path) = database(schema_own());
    let mut store = Store::open(&path).unwrap();
    store.full_at(10);
    let event = NewEvent { topic: "a".into(), severity: None, body: format!("\"{}\"", "x".repeat(3000)) };
    for day in 0..5 {
        store.append(&vec![event.clone(); 10], day * 24 * 3600 * 1000).unwrap();
    }
    let (now_ms, none) = (5 * 24 * 3600 * 1000, RetentionPolicy::default());
    let named =
        |going: Vec<Going>| going.into_iter().map(|going| (going.name, going.first_id, going.last_id, going.reason)).collect::<Vec<_>>();
    let plan = |policy: RetentionPolicy| named(store.plan_retention(&policy, now_ms).unwrap());
    let first = |reason| ("events_01".to_owned(), 1, 10, reason);
    assert_eq!(plan(none), []);
    assert_eq!(plan(RetentionPolicy { max_events: Some(41), ..none }), []);
    assert_eq!(plan(RetentionPolicy { max_events: Some(40), ..none }), [first(Reason::Count)]);
    assert_eq!(plan(RetentionPolicy { max_events: Some(0), ..none }).len(), 4);
    assert_eq!(plan(RetentionPolicy { max_age_days: Some(4), ..none }), [first(Reason::Age)]);
    assert_eq!(plan(RetentionPolicy { max_age_days: Some(0), ..none }).len(), 4);
    let spare = named(store.spare(now_ms).unwrap());
    assert_eq!((spare.len(), &spare[0]), (4, &first(Reason::Bytes)));
    let one = &store.spare(now_ms).unwrap()[0];
    assert!((30_000..31_000).contains(&one.bytes), "{one:?}");
}

/// What a plan named and what changed since isn't removed.
#[test]
fn a_plan_that_is_out_of_date_removes_nothing() {
    let (_folder, path) = filled();
    let mut store = Store::open(&path).unwrap();
    let going = store.plan_retention(&RetentionPolicy { max_events: Some(1), ..RetentionPolicy::default() }, 0).unwrap();
    let part = [(going[1].first_id, going[1].last_id)];
    assert_eq!(store.remove_parts(&part, 0).unwrap(), [going[1].events]);
    assert_eq!(store.remove_parts(&part, 0).unwrap(), [0]);
    assert!(!audit(&store).whole, "a hole in the middle of the log is told");
}

/// Removed together, parts leave what they leave one by one, and write much less.
#[test]
fn parts_removed_together_write_less() {
    let wrote = [true, false].map(|together| {
        let (_folder, path) = filled();
        let mut store = Store::open(&path).unwrap();
        let going = store.plan_retention(&RetentionPolicy { max_events: Some(1), ..RetentionPolicy::default() }, 0).unwrap();
        let mut parts: Vec<_> = going.iter().map(|going| (going.first_id, going.last_id)).collect();
        let mut events: Vec<_> = going.iter().map(|going| going.events).collect();
        assert!(parts.len() > 3);
        // One that is not what it was is left alone.
        parts.push((1, 2));
        events.push(0);
        let log = || std::fs::metadata(path.with_extension("db-wal")).map_or(0, |log| log.len());
        store.give_back().unwrap();
        let gone = if together {
            store.remove_parts(&parts, 0).unwrap()
        } else {
            parts.iter().flat_map(|part| store.remove_parts(&[*part], 0).unwrap()).collect()
        };
        assert_eq!(gone, events);
        assert!(audit(&store).whole);
        let wrote = log();
        drop(store);
        assert!(check(&path, true).unwrap().ok);
        wrote
    });
    println!("together {} bytes, one by one {}", wrote[0], wrote[1]);
    assert!(wrote[0] * 3 < wrote[1] * 2, "{wrote:?}");
}

/// The file gets smaller on the disk, and every byte that is left is what it was.
#[test]
fn a_dropped_segment_gives_its_space_back() {
    let (_folder, path) = database(schema_own());
    let mut store = Store::open(&path).unwrap();
    store.full_at(2000);
    let mut dice = Dice(3);
    let event = NewEvent { topic: "a".into(), severity: None, body: format!("\"{}\"", "x".repeat(300)) };
    for _ in 0..10 {
        store.append(&vec![event.clone(); 1000], 1).unwrap();
    }
    let policy = RetentionPolicy { max_events: Some(2000), ..RetentionPolicy::default() };
    let newest = store.recent(2000).unwrap();
    store.give_back().unwrap();
    let before = std::fs::metadata(&path).unwrap().blocks() * 512;
    assert!(retain(&mut store, &policy, 0) >= 6000);
    let given = store.give_back().unwrap();
    let after = std::fs::metadata(&path).unwrap().blocks() * 512;
    println!("{before} bytes on the disk before, {after} after, {given} given back");
    assert!(after + given / 2 < before && after * 2 < before, "{before} before, {after} after, {given} given back");
    let kept = store.recent(2001).unwrap();
    assert_eq!((kept[0].topic.as_str(), &kept[1..]), ("events.pruned", &newest[..]));
    assert!(audit(&store).whole);
    // The holes are used again.
    fill(&mut store, &mut dice, 9_000);
    drop(store);
    assert!(check(&path, true).unwrap().ok);
    assert!(audited(&path).whole);
}

/// Somebody who reads keeps the pages from being given back, and nothing from working.
#[test]
fn a_reader_is_not_disturbed_by_giving_back() {
    let (_folder, path) = filled();
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = |db: &Connection| db.query_row("SELECT count(*) FROM events", (), |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(&reader), 450);
    let mut store = Store::open(&path).unwrap();
    retain(&mut store, &RetentionPolicy { max_events: Some(60), ..RetentionPolicy::default() }, 0);
    assert_eq!(store.give_back().unwrap(), 0);
    assert_eq!(count(&reader), 450);
    reader.execute_batch("COMMIT").unwrap();
    assert!(store.give_back().unwrap() > 0);
    // The locks are still there: nobody takes the log away from under the store.
    fill(&mut store, &mut Dice(4), 5);
    drop(reader);
    drop(Connection::open(&path).unwrap());
    fill(&mut store, &mut Dice(5), 5);
    assert!(audit(&store).whole);
}

/// The migration of the demonstration that can't be undone leaves a log that an audit understands, and that goes on.
#[test]
fn after_the_demonstrations_migration_the_log_is_whole() {
    let (_folder, path) = database(6);
    fill(&mut Store::open_as(6, &path).unwrap(), &mut Dice(5), 100);
    run_as(schema_own(), &path, Direction::UpOnly, false).unwrap();
    let mut store = Store::open(&path).unwrap();
    store.full_at(40);
    fill(&mut store, &mut Dice(6), 300);
    let before = store.recent(1000).unwrap();
    drop(store);
    Connection::open(&path).unwrap().execute_batch(include_str!("../demo/0008_irreversible/up.sql")).unwrap();
    let mut store = Store::open(&path).unwrap();
    let mut expected = before.clone();
    expected.iter_mut().for_each(|event| event.at_ms -= event.at_ms % 1000);
    assert_ne!(expected, before);
    assert_eq!(store.recent(1000).unwrap(), expected);
    let report = audit(&store);
    assert_eq!((report.whole, report.events, report.unsealed), (true, 400, 400), "{report:?}");
    fill(&mut store, &mut Dice(7), 100);
    let report = audit(&store);
    assert_eq!((report.whole, report.events, report.sealed), (true, 500, 100), "{report:?}");
    drop(store);
    let found = check(&path, true).unwrap();
    assert!(found.ok, "{found:?}");
}
