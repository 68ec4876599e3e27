//! Going up, going down, and coming back: no row is lost, nothing is done twice, nothing foreign is touched.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't be set up fails")]

mod common;

use common::{Dice, database, dump, fill, fill_work, names, retain, schema};
use rusqlite::Connection;
use smolotchi_store::migrate::{Direction, inspect, plan_as, run, run_as};
use smolotchi_store::{RetentionPolicy, Store, schema_own};

#[test]
fn a_new_database_is_of_our_schema_and_doing_it_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("smolotchi.db");
    assert_eq!(run(&path, Direction::UpOnly, false).unwrap_err().code(), "store.missing");
    assert_eq!(names(folder.path()), [""; 0]);

    let made = run(&path, Direction::UpOnly, true).unwrap();
    assert_eq!((made.from, made.to, made.steps.len()), (0, schema_own(), schema_own() as usize));
    assert_eq!(names(folder.path()), ["smolotchi.db"]);
    let bytes = std::fs::read(&path).unwrap();
    for direction in [Direction::UpOnly, Direction::ToOwn] {
        assert_eq!(run(&path, direction, true).unwrap().steps, []);
    }
    assert_eq!(inspect(&path).unwrap().pending, []);
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "a second run wrote to the database");
    assert_eq!(names(folder.path()), ["smolotchi.db"]);
}

#[test]
fn what_is_announced_is_what_is_done() {
    let (_folder, path) = database(schema_own());
    for own in (1..=schema_own()).rev().chain(1..=schema_own()) {
        let said = plan_as(own, &path, Direction::ToOwn);
        let refused = plan_as(own, &path, Direction::UpOnly);
        let copy = path.with_file_name("copy.db");
        std::fs::copy(&path, &copy).unwrap();
        let done = run_as(own, &path, Direction::ToOwn, false);
        match (said, done) {
            (Ok(said), Ok(done)) => {
                assert_eq!((said.from, said.to), (done.from, done.to));
                let announced: Vec<_> = said.steps.into_iter().map(|step| (step.number, step.name, step.direction)).collect();
                let taken: Vec<_> = done.steps.into_iter().map(|step| (step.number, step.name, step.direction)).collect();
                assert_eq!(announced, taken);
            }
            (Err(said), Err(done)) => assert_eq!(said.code(), done.code()),
            (said, done) => panic!("{said:?}, but {done:?}"),
        }
        let done = run_as(own, &copy, Direction::UpOnly, false);
        assert_eq!(refused.map(drop).map_err(|error| error.code()), done.map(drop).map_err(|error| error.code()));
    }
}

#[test]
fn a_half_made_database_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("smolotchi.db");
    for suffix in ["", "-wal", "-journal"] {
        std::fs::write(folder.path().join(format!(".smolotchi.db.staging{suffix}")), b"left by a power cut").unwrap();
    }
    run(&path, Direction::UpOnly, true).unwrap();
    assert_eq!(names(folder.path()), ["smolotchi.db"]);
}

#[test]
#[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
fn the_migrations_add_up_to_schema_sql() {
    let (_folder, path) = database(schema_own());
    let migrated = schema(&Connection::open(&path).unwrap()).join(";\n\n") + ";\n";
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.sql");
    let text = std::fs::read_to_string(&file).unwrap();
    let (head, sql) = text.split_once("\n\n").unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, format!("{head}\n\n{migrated}")).unwrap();
        return;
    }
    assert_eq!(sql, migrated, "schema.sql is not what the migrations make");
    let fresh = Connection::open_in_memory().unwrap();
    fresh.execute_batch(sql).unwrap();
    assert_eq!(schema(&fresh).join(";\n\n") + ";\n", migrated);
}

#[test]
#[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
fn down_and_up_again_is_the_identity() {
    for seed in 0..12 {
        let mut dice = Dice(seed);
        let (_folder, path) = database(schema_own());
        let mut store = Store::open(&path).unwrap();
        store.full_at(1 + seed * 17);
        fill(&mut store, &mut dice, 300);
        retain(&mut store, &RetentionPolicy { max_events: Some(250), ..RetentionPolicy::default() }, 0);
        store.prove(77).unwrap();
        drop(store);
        fill_work(&path);
        let before = dump(&path);
        for low in (1..schema_own()).rev() {
            let went = run_as(low, &path, Direction::ToOwn, false).unwrap();
            let steps: Vec<_> = went.steps.iter().map(|step| (step.number, step.direction)).collect();
            assert_eq!(steps, (low + 1..=schema_own()).rev().map(|number| (number, "down")).collect::<Vec<_>>());
            assert_ne!(dump(&path), before);
            run(&path, Direction::UpOnly, false).unwrap();
            assert_eq!(dump(&path), before, "seed {seed}, by way of schema {low}");
        }
    }
}

#[test]
#[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
fn what_the_old_version_writes_in_between_stays() {
    for seed in 0..6 {
        let mut dice = Dice(1000 + seed);
        let (_folder, path) = database(schema_own());
        let mut store = Store::open(&path).unwrap();
        fill(&mut store, &mut dice, 200);
        drop(store);
        let new_ids: Vec<_> = Store::open(&path).unwrap().recent(500).unwrap();

        run_as(1, &path, Direction::ToOwn, false).unwrap();
        let mut old = Store::open_as(1, &path).unwrap();
        retain(&mut old, &RetentionPolicy { max_events: Some(150), ..RetentionPolicy::default() }, 0);
        fill(&mut old, &mut dice, 100);
        let old_ids = old.recent(500).unwrap();
        assert_eq!(old_ids.len(), 250);
        assert_eq!(old_ids[0].id, 300);
        drop(old);

        run(&path, Direction::UpOnly, false).unwrap();
        let store = Store::open(&path).unwrap();
        let after = store.recent(500).unwrap();
        assert_eq!(store.summary().unwrap().events_total, 250);
        for (event, old) in after.iter().zip(&old_ids) {
            assert_eq!((event.id, event.at_ms, &event.topic, &event.body), (old.id, old.at_ms, &old.topic, &old.body));
            if let Some(known) = new_ids.iter().find(|new| new.id == event.id) {
                assert_eq!(event, known, "seed {seed}: a row changed on its way");
            }
        }
        assert!(smolotchi_store::check(&path, true).unwrap().ok);
    }
}

#[test]
#[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
fn rows_from_before_get_their_severity() {
    let (_folder, path) = database(1);
    let mut old = Store::open_as(1, &path).unwrap();
    let rows = [
        ("disk.full", "{}", "warning"),
        ("job.failed", "{}", "error"),
        ("core.started", "[]", "notice"),
        ("debug.loop", "null", "debug"),
        ("sensor.reading", "{}", "info"),
        ("sensor.reading", r#"{"severity":"critical"}"#, "error"),
        ("job.failed", r#"{"severity":"info"}"#, "info"),
        ("failed", "{}", "info"),
    ];
    for (topic, body, _) in rows {
        let event = smolotchi_store::NewEvent { topic: topic.into(), severity: None, body: body.into() };
        old.append(&[event], 5).unwrap();
    }
    drop(old);
    run(&path, Direction::UpOnly, false).unwrap();
    let mut store = Store::open(&path).unwrap();
    let found: Vec<_> = store.recent(100).unwrap().iter().rev().map(|event| event.severity.unwrap().as_str()).collect();
    assert_eq!(found, rows.map(|(_, _, severity)| severity));
    // The same rows written now, without a severity, get the same.
    for (topic, body, severity) in rows {
        let event = smolotchi_store::NewEvent { topic: topic.into(), severity: None, body: body.into() };
        store.append(&[event], 5).unwrap();
        assert_eq!(store.recent(1).unwrap()[0].severity.unwrap().as_str(), severity);
    }
    assert_eq!(store.recent_severe(100).unwrap().len(), 6);
}

#[test]
#[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
fn going_up_rewrites_no_table() {
    let (folder, path) = database(1);
    let mut old = Store::open_as(1, &path).unwrap();
    let events: Vec<_> = (0..100_000)
        .map(|i| smolotchi_store::NewEvent { topic: "sensor.reading".into(), severity: None, body: format!("{{\"value\":{i}}}") })
        .collect();
    old.append(&events, 5).unwrap();
    drop(old);
    // A reader's open transaction keeps the log from being folded back, so its size is what the migration wrote.
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    run(&path, Direction::UpOnly, false).unwrap();
    let wrote = std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
    let size = std::fs::metadata(&path).unwrap().len();
    assert!(wrote * 5 < size, "the migration wrote {wrote} bytes for a database of {size}");

    // After a power cut the migration is in the log only: looking must see it there.
    let cut = path.with_file_name("cut.db");
    std::fs::copy(&path, &cut).unwrap();
    std::fs::copy(path.with_extension("db-wal"), cut.with_extension("db-wal")).unwrap();
    assert_eq!(inspect(&cut).unwrap().current, schema_own());
    assert_eq!(names(folder.path()), ["cut.db", "smolotchi.db", "smolotchi.db-shm", "smolotchi.db-wal"]);
}

#[test]
fn a_newer_schema_is_refused_but_for_going_down() {
    let (_folder, path) = database(schema_own());
    add_future(&path, Some("DROP TABLE marvel"));
    assert_eq!(run(&path, Direction::UpOnly, false).unwrap_err().code(), "store.newer-schema");
    assert_eq!(Store::open(&path).unwrap_err().code(), "store.newer-schema");
    let info = inspect(&path).unwrap();
    assert_eq!((info.current, info.applied.last().unwrap().name.as_str()), (schema_own() + 1, "marvel"));

    let went = run(&path, Direction::ToOwn, false).unwrap();
    assert_eq!((went.from, went.to, went.steps[0].direction), (schema_own() + 1, schema_own(), "down"));
    Store::open(&path).unwrap();
    assert!(!dump(&path).iter().any(|line| line.contains("marvel")));
}

#[test]
fn without_an_undo_there_is_no_way_back() {
    let (_folder, path) = database(schema_own());
    add_future(&path, None);
    let before = dump(&path);
    assert_eq!(run(&path, Direction::ToOwn, false).unwrap_err().code(), "store.irreversible");
    assert_eq!(dump(&path), before);
}

#[test]
fn an_undo_that_loses_rows_is_itself_undone() {
    let (_folder, path) = database(schema_own());
    let mut store = Store::open(&path).unwrap();
    fill(&mut store, &mut Dice(3), 20);
    drop(store);
    let table = if schema_own() >= 7 { "events_01" } else { "events" };
    add_future(&path, Some(&format!("DROP TABLE marvel; DELETE FROM {table} WHERE id = 7")));
    let before = dump(&path);
    let error = run(&path, Direction::ToOwn, false).unwrap_err();
    assert_eq!(error.code(), "store.check-failed", "{error:?}");
    assert_eq!(dump(&path), before);
}

#[test]
fn an_undo_after_which_a_check_fails_is_itself_undone() {
    let (_folder, path) = database(schema_own());
    let mut store = Store::open(&path).unwrap();
    fill(&mut store, &mut Dice(3), 20);
    drop(store);
    add_future(&path, Some("DROP TABLE marvel; UPDATE sqlite_sequence SET seq = 0 WHERE name = 'events'"));
    let before = dump(&path);
    let error = run(&path, Direction::ToOwn, false).unwrap_err();
    assert!(error.facts().iter().any(|(_, fact)| fact.contains("passed their counter")), "{error:?}");
    assert_eq!(dump(&path), before);
}

/// What a table demands of a row is looked at, whether by SQLite or by the recorded checks.
#[test]
#[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
fn a_row_that_its_table_would_refuse_stops_a_migration() {
    let (_folder, path) = database(6);
    fill(&mut Store::open_as(6, &path).unwrap(), &mut Dice(3), 20);
    fill_work(&path);
    let whole = std::fs::read(&path).unwrap();
    let ways = [
        ("", true),
        ("UPDATE events SET body = '{' WHERE id = 7", false),
        ("UPDATE events SET topic = '' WHERE id = 7", false),
        ("UPDATE events SET topic = printf('%0200d', 1) WHERE id = 7", false),
        ("UPDATE events SET severity = 5 WHERE id = 7", false),
        ("UPDATE jobs SET kind = ''", false),
        ("UPDATE sensors SET name = '' WHERE id = (SELECT min(id) FROM sensors)", false),
    ];
    for (way, good) in ways {
        std::fs::write(&path, &whole).unwrap();
        let db = Connection::open(&path).unwrap();
        db.execute_batch(&format!("PRAGMA ignore_check_constraints = ON; {way}")).unwrap();
        assert!(good || db.changes() > 0, "{way}");
        drop(db);
        assert_eq!(run(&path, Direction::UpOnly, false).is_ok(), good, "{way}");
        assert_eq!(inspect(&path).unwrap().current, if good { schema_own() } else { 6 }, "{way}");
    }
    // Those are all that an event's table demands: more would have to be in a check.sql too.
    let (_folder, path) = database(schema_own());
    let mut demands: Vec<String> = Connection::open(&path)
        .unwrap()
        .prepare("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name GLOB 'events*'")
        .unwrap()
        .query_map((), |row| row.get::<_, String>(0))
        .unwrap()
        .flat_map(|sql| {
            sql.unwrap()
                .split("CHECK ")
                .skip(1)
                .map(|rest| rest.split(['\n', ',']).next().unwrap().trim_end_matches(") STRICT").to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    demands.sort();
    demands.dedup();
    assert_eq!(demands, ["(json_valid(body))", "(length(topic) BETWEEN 1 AND 128)", "(severity BETWEEN 0 AND 4)"]);
}

#[test]
#[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
fn a_topic_that_is_counted_wrong_stops_a_migration() {
    let (_folder, path) = database(6);
    fill(&mut Store::open_as(6, &path).unwrap(), &mut Dice(3), 200);
    let whole = std::fs::read(&path).unwrap();
    for (way, says) in [
        ("UPDATE topics SET events = events + 1 WHERE name = 'plain'", "topic plain counts "),
        ("INSERT INTO topics (name, events, first_id) VALUES ('none', 3, 1)", "topic none counts 3, but there are 0"),
        ("DELETE FROM topics WHERE name = 'plain'", "topic plain is not in the dictionary"),
    ] {
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(Connection::open(&path).unwrap().execute(way, ()).unwrap(), 1, "{way}");
        let error = run(&path, Direction::UpOnly, false).unwrap_err();
        assert!(error.facts().iter().any(|(_, fact)| fact.contains(says)), "{way}: {error:?}");
        assert_eq!(inspect(&path).unwrap().current, 6, "{way}");
    }
}

#[test]
fn a_record_with_a_gap_is_damage() {
    let (_folder, path) = database(schema_own());
    add_future(&path, Some("DROP TABLE marvel"));
    Connection::open(&path).unwrap().execute("UPDATE schema_version SET number = number + 1 WHERE name = 'marvel'", ()).unwrap();
    assert_eq!(run(&path, Direction::ToOwn, false).unwrap_err().code(), "store.damaged");
}

#[test]
fn other_code_under_the_same_number_is_refused() {
    let (_folder, path) = database(schema_own());
    Connection::open(&path).unwrap().execute("UPDATE schema_version SET checksum = 'other' WHERE number = 1", ()).unwrap();
    assert_eq!(Store::open(&path).unwrap_err().code(), "store.checksum");
    assert_eq!(run(&path, Direction::ToOwn, true).unwrap_err().code(), "store.checksum");
    assert_eq!(inspect(&path).unwrap().current, schema_own());
}

/// What a later release would leave: a table, and its record with or without an undo.
fn add_future(path: &std::path::Path, undo: Option<&str>) {
    let db = Connection::open(path).unwrap();
    db.execute_batch("CREATE TABLE marvel (id INTEGER PRIMARY KEY)").unwrap();
    db.execute(
        "INSERT INTO schema_version SELECT max(number) + 1, 'marvel', 'abc', '2030-01-01T00:00:00Z', '9.0.0', ?1, '' FROM schema_version",
        (undo,),
    )
    .unwrap();
}
