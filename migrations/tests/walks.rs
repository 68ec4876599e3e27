//! Every path of up to four versions over the real ladder, with rows written and pruned at every stage. ROWS and SEED of the
//! environment choose how many rows there are (5,000) and which.

#![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]

mod common;

use common::{Dice, audit, database, fill, fill_work, number, retain};
use rusqlite::Connection;
use smolotchi_store::migrate::{Direction, inspect, run_as};
use smolotchi_store::{RetentionPolicy, Store, schema_own};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

/// What is known of an event; a severity that was once seen is the event's for good.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    at_ms: i64,
    topic: String,
    body: String,
    severity: Option<i64>,
}

/// What must be in the database, learned from what was written and seen.
#[derive(Debug, Clone, Default)]
struct Model {
    events: BTreeMap<i64, Rc<Known>>,
    first_ids: BTreeMap<String, i64>,
}

impl Model {
    /// Compares with the database at `path`, and learns what its schema shows for the first time. Rows newer than `since`
    /// are new.
    fn look(&mut self, path: &Path, since: i64, story: &str) {
        let db = Connection::open(path).unwrap();
        let schema: u32 = db.query_row("SELECT max(number) FROM schema_version", (), |row| row.get(0)).unwrap();
        let severity = if schema >= 2 { "severity" } else { "NULL" };
        let mut query = db.prepare(&format!("SELECT id, at_ms, topic, body, {severity} FROM events ORDER BY id")).unwrap();
        let mut rows = query.query(()).unwrap();
        let mut left = self.events.clone();
        while let Some(row) = rows.next().unwrap() {
            let id: i64 = row.get(0).unwrap();
            let found =
                Known { at_ms: row.get(1).unwrap(), topic: row.get(2).unwrap(), body: row.get(3).unwrap(), severity: row.get(4).unwrap() };
            let Some(mut known) = left.remove(&id) else {
                assert!(id > since, "{story}: event {id} came from nowhere");
                self.events.insert(id, Rc::new(found));
                continue;
            };
            if schema >= 2 && known.severity.is_none() {
                Rc::make_mut(&mut known).severity = found.severity;
                self.events.insert(id, known.clone());
            }
            if schema >= 2 {
                assert_eq!(found, *known, "{story}: event {id}");
            } else {
                assert_eq!(found, Known { severity: None, ..(*known).clone() }, "{story}: event {id}");
            }
        }
        assert!(left.is_empty(), "{story}: {} events are lost, such as {:?}", left.len(), left.first_key_value());
        if schema >= 3 {
            let mut query = db.prepare("SELECT name, first_id FROM topics").unwrap();
            let found: BTreeMap<String, i64> =
                query.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<rusqlite::Result<_>>().unwrap();
            for (name, first_id) in &self.first_ids {
                assert_eq!(found.get(name), Some(first_id), "{story}: the first event of topic {name}");
            }
            self.first_ids = found;
        }
    }
}

/// What the release of schema `own` does while it runs: appends and prunes. Returns the newest id before.
fn live(own: u32, path: &Path, dice: &mut Dice, model: &mut Model) -> i64 {
    let mut store = Store::open_as(own, path).unwrap();
    let newest = store.summary().unwrap().newest_id.unwrap_or(0);
    store.full_at(30);
    fill(&mut store, dice, 40);
    let total = store.summary().unwrap().events_total;
    retain(&mut store, &RetentionPolicy { max_events: Some(total - 25), ..RetentionPolicy::default() }, 0);
    if own >= 7 {
        let report = audit(&store);
        assert!(report.whole, "{report:?}");
    }
    drop(store);
    let oldest: i64 = Connection::open(path).unwrap().query_row("SELECT min(id) FROM events", (), |row| row.get(0)).unwrap();
    model.events.retain(|id, _| *id >= oldest);
    newest
}

/// Where a walk may stop: with steps of one migration at every schema, else at those that a release had.
fn stops(reach: u32) -> impl Iterator<Item = u32> {
    (1..=schema_own()).filter(move |schema| reach == 1 || [1, 3, schema_own()].contains(schema))
}

/// How many walks of `steps` steps there are, from every stop: counted without walking.
fn walks(reach: u32, steps: u32) -> u32 {
    let stops: Vec<u32> = stops(reach).collect();
    let near = |at: u32| stops.clone().into_iter().filter(move |to| *to != at && (reach > 1 || to.abs_diff(at) == 1));
    let (mut here, mut walked) = (stops.clone(), 0);
    for _ in 0..steps {
        here = here.into_iter().flat_map(&near).collect();
        walked += here.len() as u32;
    }
    walked
}

/// Takes every way on from here that is no longer than `reach` migrations.
fn walk(at: u32, path: &Path, model: &Model, steps: u32, reach: u32, story: &str, walked: &mut u32) {
    for to in stops(reach).filter(|to| *to != at && (reach > 1 || to.abs_diff(at) == 1)) {
        let story = format!("{story}-{to}");
        let next = path.with_file_name(format!("{steps}.db"));
        std::fs::copy(path, &next).unwrap();
        let mut model = model.clone();
        let went = run_as(to, &next, Direction::ToOwn, false).unwrap();
        assert_eq!((went.from, went.to, went.steps.len() as u32), (at, to, to.abs_diff(at)), "{story}");
        *walked += 1;
        let mut dice = Dice(u64::from(*walked));
        let newest = live(to, &next, &mut dice, &mut model);
        model.look(&next, newest, &story);
        assert_eq!(inspect(&next).unwrap().current, to);
        if steps > 1 {
            walk(to, &next, &model, steps - 1, reach, &story, walked);
        }
        std::fs::remove_file(&next).unwrap();
    }
}

/// Walks from every schema; returns how many steps were taken.
fn walk_all(rows: u64, reach: u32) -> u32 {
    let seed = number("SEED", 41);
    println!("{rows} rows, SEED={seed}");
    let mut walked = 0;
    for start in stops(reach) {
        let (_folder, path) = database(start);
        let mut store = Store::open_as(start, &path).unwrap();
        fill(&mut store, &mut Dice(seed), rows);
        drop(store);
        fill_work(&path);
        let mut model = Model::default();
        model.look(&path, 0, &start.to_string());
        walk(start, &path, &model, 4, reach, &format!("SEED={seed}: {start}"), &mut walked);
    }
    println!("{walked} steps were taken");
    walked
}

#[test]
fn every_path_of_four_versions_keeps_every_row() {
    assert_eq!(walk_all(200, schema_own()), walks(schema_own(), 4));
}

/// One migration at a time, over many rows.
#[test]
fn every_path_of_four_steps_keeps_every_row() {
    assert_eq!(walk_all(number("ROWS", 5000), 1), walks(1, 4));
}

#[test]
fn every_schema_is_reached_from_every_other_in_one_go() {
    for from in 1..=schema_own() {
        for to in 1..=schema_own() {
            let (_folder, path) = database(from);
            let mut model = Model::default();
            let newest = live_some(from, &path);
            model.look(&path, newest, "begin");
            let went = run_as(to, &path, Direction::ToOwn, false).unwrap();
            assert_eq!(went.steps.len() as u32, from.abs_diff(to));
            model.look(&path, i64::MAX, &format!("{from}-{to}"));
            run_as(from, &path, Direction::ToOwn, false).unwrap();
            model.look(&path, i64::MAX, &format!("{from}-{to}-{from}"));
        }
    }
}

fn live_some(own: u32, path: &Path) -> i64 {
    let mut store = Store::open_as(own, path).unwrap();
    fill(&mut store, &mut Dice(7), 300);
    0
}
