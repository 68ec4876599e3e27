//! Every path of up to four versions over a ladder made for it, whose five schemas each hold what another can't. What must be
//! there is known from what was written, without the SQL of the migrations. ROWS and SEED of the environment choose how many
//! rows there are and which.

#[path = "../tests/common/dice.rs"]
mod dice;

use crate::ladder::Migration;
use crate::migrate::{Direction, run_on};
use crate::rehearse::{Undo, rehearse_on};
use dice::{Dice, number};
use rusqlite::{Connection, Transaction};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The last schema of [`LADDER`].
const TOP: u32 = 5;

/// Each migration parks in another way.
const LADDER: [Migration; TOP as usize] = [
    Migration {
        number: 1,
        name: "events",
        checksum: "1",
        up: "CREATE TABLE events (
                 id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, topic TEXT NOT NULL, body TEXT NOT NULL
             ) STRICT",
        down: None,
        check: "",
    },
    // A column that has a rule: what the rule would not give is parked.
    Migration {
        number: 2,
        name: "rank",
        checksum: "2",
        up: "ALTER TABLE events ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
             UPDATE events SET rank = length(topic) % 5 WHERE length(topic) % 5 <> 0;
             CREATE TABLE IF NOT EXISTS parked_ranks (event_id INTEGER PRIMARY KEY, rank INTEGER NOT NULL) STRICT;
             UPDATE events SET rank = parked_ranks.rank FROM parked_ranks WHERE parked_ranks.event_id = events.id;
             DROP TABLE parked_ranks",
        down: Some(
            "CREATE TABLE parked_ranks (event_id INTEGER PRIMARY KEY, rank INTEGER NOT NULL) STRICT;
             INSERT INTO parked_ranks SELECT id, rank FROM events WHERE rank <> length(topic) % 5;
             ALTER TABLE events DROP COLUMN rank",
        ),
        check: "SELECT 'event ' || id || ' has no rank' FROM events WHERE rank IS NULL",
    },
    // A table that has no place in the schema before: it is parked whole.
    Migration {
        number: 3,
        name: "labels",
        checksum: "3",
        up: "CREATE TABLE labels (
                 event_id INTEGER NOT NULL REFERENCES events (id) ON DELETE CASCADE, label TEXT NOT NULL, PRIMARY KEY (event_id, label)
             ) STRICT, WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS parked_labels (event_id INTEGER NOT NULL, label TEXT NOT NULL) STRICT;
             INSERT INTO labels SELECT event_id, label FROM parked_labels WHERE event_id IN (SELECT id FROM events);
             DROP TABLE parked_labels",
        down: Some(
            "CREATE TABLE parked_labels (event_id INTEGER NOT NULL, label TEXT NOT NULL) STRICT;
             INSERT INTO parked_labels SELECT event_id, label FROM labels;
             DROP TABLE labels",
        ),
        check: "SELECT 'event ' || event_id || ' is gone, but labelled' FROM labels WHERE event_id NOT IN (SELECT id FROM events)",
    },
    // What this schema can't hold of the one before is kept for the way down.
    Migration {
        number: 4,
        name: "spelling",
        checksum: "4",
        up: "CREATE TABLE spelling (event_id INTEGER PRIMARY KEY REFERENCES events (id) ON DELETE CASCADE, topic TEXT NOT NULL) STRICT;
             INSERT INTO spelling SELECT id, topic FROM events WHERE topic <> lower(topic);
             UPDATE events SET topic = lower(topic) WHERE topic <> lower(topic)",
        down: Some(
            "UPDATE events SET topic = spelling.topic FROM spelling WHERE spelling.event_id = events.id;
             DROP TABLE spelling",
        ),
        check: "SELECT 'event ' || id || ' is spelt in another way' FROM events WHERE topic <> lower(topic)",
    },
    // A column that becomes a table with ids and a column of its own: both rewritten, each way.
    Migration {
        number: 5,
        name: "bodies",
        checksum: "5",
        up: "CREATE TABLE bodies (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE, starred INTEGER NOT NULL DEFAULT 0) STRICT;
             CREATE TABLE IF NOT EXISTS parked_bodies (id INTEGER PRIMARY KEY, text TEXT NOT NULL, starred INTEGER NOT NULL) STRICT;
             INSERT INTO bodies SELECT id, text, starred FROM parked_bodies;
             DROP TABLE parked_bodies;
             INSERT OR IGNORE INTO bodies (text) SELECT body FROM events ORDER BY id;
             ALTER TABLE events ADD COLUMN body_id INTEGER REFERENCES bodies (id);
             UPDATE events SET body_id = bodies.id FROM bodies WHERE bodies.text = events.body;
             ALTER TABLE events DROP COLUMN body",
        down: Some(
            "ALTER TABLE events ADD COLUMN body TEXT NOT NULL DEFAULT '';
             UPDATE events SET body = bodies.text FROM bodies WHERE bodies.id = events.body_id;
             ALTER TABLE events DROP COLUMN body_id;
             CREATE TABLE parked_bodies (id INTEGER PRIMARY KEY, text TEXT NOT NULL, starred INTEGER NOT NULL) STRICT;
             INSERT INTO parked_bodies SELECT id, text, starred FROM bodies;
             DROP TABLE bodies",
        ),
        check: "SELECT 'event ' || id || ' has no body' FROM events WHERE body_id IS NULL OR body_id NOT IN (SELECT id FROM bodies);
                SELECT name || ' was left parked' FROM sqlite_schema WHERE name LIKE 'parked\\_%' ESCAPE '\\'",
    },
];

const TOPICS: &[&str] = &["disk.full", "Sensor.Reading", "CORE", "job", "net.Lost", "a", "config.changed", "Plain"];
const BODIES: &[&str] = &["", "{}", "null", "text", "long long long long long long text", "'quoted'"];
const LABELS: &[&str] = &["blue", "checked", "later", "loud"];

/// One event as the newest schema and the oldest together could tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    at_ms: i64,
    topic: String,
    rank: i64,
    labels: BTreeSet<&'static str>,
    body: String,
}

/// What must be in the database.
#[derive(Debug, Clone, Default)]
struct Model {
    events: BTreeMap<i64, Rc<Event>>,
    newest: i64,
    starred: BTreeSet<String>,
}

impl Model {
    /// An event that is there, if there is one.
    fn any(&self, dice: &mut Dice) -> Option<i64> {
        let from = dice.below(self.newest.unsigned_abs().max(1)) as i64;
        self.events.range(from..).next().map(|(id, _)| *id)
    }

    /// Appends an event as a release of this schema would.
    fn append(&mut self, schema: u32, db: &Transaction<'_>, dice: &mut Dice) {
        let mut topic = (*dice.pick(TOPICS)).to_owned();
        if schema >= 4 {
            topic.make_ascii_lowercase();
        }
        let ruled = topic.len() as i64 % 5;
        let rank = if schema >= 2 && dice.below(3) == 0 { dice.below(9) as i64 } else { ruled };
        let body = if dice.below(4) == 0 { format!("value {}", dice.next()) } else { (*dice.pick(BODIES)).to_owned() };
        let at_ms = dice.below(1 << 40) as i64;
        let labels =
            if schema >= 3 && dice.below(5) == 0 { BTreeSet::from([*dice.pick(LABELS), *dice.pick(LABELS)]) } else { BTreeSet::new() };
        let run = |sql, parameters: &[&dyn rusqlite::ToSql]| db.prepare_cached(sql).unwrap().execute(parameters).unwrap();
        match schema {
            1 => run("INSERT INTO events (at_ms, topic, body) VALUES (?1, ?2, ?3)", &[&at_ms, &topic, &body]),
            2..=4 => run("INSERT INTO events (at_ms, topic, body, rank) VALUES (?1, ?2, ?3, ?4)", &[&at_ms, &topic, &body, &rank]),
            _ => {
                run("INSERT OR IGNORE INTO bodies (text) VALUES (?1)", &[&body]);
                let sql = "INSERT INTO events (at_ms, topic, body_id, rank) SELECT ?1, ?2, id, ?4 FROM bodies WHERE text = ?3";
                run(sql, &[&at_ms, &topic, &body, &rank])
            }
        };
        let id = db.last_insert_rowid();
        assert_eq!(id, self.newest + 1, "an id was given again or left out");
        for label in &labels {
            run("INSERT INTO labels VALUES (?1, ?2)", &[&id, label]);
        }
        self.newest = id;
        self.events.insert(id, Rc::new(Event { at_ms, topic, rank, labels, body }));
    }

    /// Changes what a release of this schema can change of an event, whether it was there before the last step or not.
    fn change(&mut self, schema: u32, db: &Transaction<'_>, dice: &mut Dice) {
        let Some(id) = self.any(dice) else { return };
        let event = Rc::make_mut(self.events.get_mut(&id).unwrap());
        let run = |sql, parameters: &[&dyn rusqlite::ToSql]| db.prepare_cached(sql).unwrap().execute(parameters).unwrap();
        event.body = format!("changed {}", dice.below(50));
        if schema < 5 {
            run("UPDATE events SET body = ?2 WHERE id = ?1", &[&id, &event.body]);
        } else {
            run("INSERT OR IGNORE INTO bodies (text) VALUES (?1)", &[&event.body]);
            run("UPDATE events SET body_id = (SELECT id FROM bodies WHERE text = ?2) WHERE id = ?1", &[&id, &event.body]);
            let starred = dice.below(2) == 0;
            run("UPDATE bodies SET starred = ?2 WHERE text = ?1", &[&event.body, &i64::from(starred)]);
            if starred {
                self.starred.insert(event.body.clone())
            } else {
                self.starred.remove(&event.body)
            };
        }
        if schema < 4 {
            event.topic.make_ascii_uppercase();
            run("UPDATE events SET topic = ?2 WHERE id = ?1", &[&id, &event.topic]);
        }
        if schema >= 2 {
            event.rank = dice.below(9) as i64;
            run("UPDATE events SET rank = ?2 WHERE id = ?1", &[&id, &event.rank]);
        }
        if schema >= 3 {
            let label = *dice.pick(LABELS);
            if event.labels.insert(label) {
                run("INSERT INTO labels VALUES (?1, ?2)", &[&id, &label]);
            } else {
                event.labels.remove(label);
                run("DELETE FROM labels WHERE event_id = ?1 AND label = ?2", &[&id, &label]);
            }
        }
    }

    /// What a release of this schema does while it runs: it appends, changes, deletes here and there, and prunes.
    fn live(&mut self, schema: u32, path: &Path, dice: &mut Dice) {
        let mut db = Connection::open(path).unwrap();
        db.pragma_update(None, "foreign_keys", true).unwrap();
        // Nothing is cut here.
        db.pragma_update(None, "synchronous", "OFF").unwrap();
        let tx = db.transaction().unwrap();
        for _ in 0..12 {
            self.append(schema, &tx, dice);
        }
        for _ in 0..8 {
            self.change(schema, &tx, dice);
        }
        let some: Vec<i64> = (0..3).filter_map(|_| self.any(dice)).collect();
        for id in self.events.keys().copied().take(4).chain(some).collect::<BTreeSet<_>>() {
            assert_eq!(tx.execute("DELETE FROM events WHERE id = ?1", (id,)).unwrap(), 1);
            self.events.remove(&id);
        }
        tx.commit().unwrap();
    }

    /// Compares with every row of the database.
    fn compare(&self, schema: u32, path: &Path, story: &str) {
        let db = Connection::open(path).unwrap();
        let rank = if schema >= 2 { "rank" } else { "NULL" };
        let labels = match schema {
            ..3 => "NULL",
            _ => "(SELECT group_concat(label, ' ') FROM (SELECT label FROM labels WHERE event_id = events.id ORDER BY label))",
        };
        let body = if schema >= 5 { "(SELECT text FROM bodies WHERE bodies.id = body_id)" } else { "body" };
        let mut query = db.prepare(&format!("SELECT id, at_ms, topic, {rank}, {labels}, {body} FROM events ORDER BY id")).unwrap();
        let mut rows = query.query(()).unwrap();
        for (id, event) in &self.events {
            let row = rows.next().unwrap().unwrap_or_else(|| panic!("{story}: event {id} and what follows is lost"));
            let topic = if schema >= 4 { event.topic.to_ascii_lowercase() } else { event.topic.clone() };
            let labels = event.labels.iter().copied().collect::<Vec<_>>().join(" ");
            let labels = (schema >= 3 && !labels.is_empty()).then_some(labels);
            let wanted = (*id, event.at_ms, topic, (schema >= 2).then_some(event.rank), labels, event.body.clone());
            assert_eq!(<(i64, i64, String, Option<i64>, Option<String>, String)>::try_from(row).unwrap(), wanted, "{story}");
        }
        assert!(rows.next().unwrap().is_none(), "{story}: an event came from nowhere");
        if schema >= 5 {
            let mut query = db.prepare("SELECT text FROM bodies WHERE starred").unwrap();
            let starred: BTreeSet<String> = query.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
            assert_eq!(starred, self.starred, "{story}");
        }
    }
}

fn go(to: u32, path: &Path) -> usize {
    run_on(&LADDER[..to as usize], path, Direction::ToOwn, true).unwrap().steps.len()
}

/// A database of this schema with so many events, and what is in it.
fn filled(schema: u32, rows: u64, dice: &mut Dice) -> (tempfile::TempDir, PathBuf, Model) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("smolotchi.db");
    go(schema, &path);
    let mut model = Model::default();
    let mut db = Connection::open(&path).unwrap();
    let tx = db.transaction().unwrap();
    for _ in 0..rows {
        model.append(schema, &tx, dice);
    }
    tx.commit().unwrap();
    drop(db);
    model.compare(schema, &path, "filled");
    (folder, path, model)
}

/// Takes every way on from here that is no longer than `reach` migrations; returns how many.
fn walk(at: u32, path: &Path, model: &Model, steps: u32, reach: u32, story: &str, seed: u64) -> u64 {
    let mut walked = 0;
    for to in (1..=TOP).filter(|to| (1..=reach).contains(&to.abs_diff(at))) {
        let story = format!("{story}-{to}");
        let next = path.with_file_name(format!("{steps}.db"));
        std::fs::copy(path, &next).unwrap();
        let mut model = model.clone();
        assert_eq!(go(to, &next) as u32, at.abs_diff(to), "{story}");
        model.compare(to, &next, &story);
        walked += 1;
        if steps > 1 {
            let seed = Dice(seed ^ u64::from(to)).next();
            model.live(to, &next, &mut Dice(seed));
            walked += walk(to, &next, &model, steps - 1, reach, &story, seed);
        }
        std::fs::remove_file(&next).unwrap();
    }
    walked
}

/// Walks from every schema; returns how many steps were taken.
fn walk_all(rows: u64, reach: u32) -> u64 {
    let seed = number("SEED", 43);
    println!("{rows} rows, SEED={seed}");
    (1..=TOP)
        .map(|start| {
            let (_folder, path, model) = filled(start, rows, &mut Dice(seed));
            walk(start, &path, &model, 4, reach, &format!("SEED={seed}: {start}"), seed)
        })
        .sum()
}

/// From every schema to any other, up to four times: 5 × (4 + 16 + 64 + 256).
#[test]
fn every_path_of_four_versions_keeps_every_row() {
    let walked = walk_all(40, TOP);
    println!("{walked} changes of version");
    assert_eq!(walked, 1700);
}

/// One migration at a time over many rows: 8 + 14 + 24 + 42.
#[test]
fn every_path_of_four_migrations_keeps_every_row() {
    let walked = walk_all(number("ROWS", 1000), 1);
    println!("{walked} migrations up or down");
    assert_eq!(walked, 88);
}

/// Nothing is lived in between, so every table, also what was parked, must be what it was.
#[test]
fn up_down_and_up_again_is_the_identity_from_every_schema() {
    let (rows, seed) = (number("ROWS", 5000), number("SEED", 44));
    println!("{rows} rows, SEED={seed}");
    for start in 1..TOP {
        let (_folder, path, mut model) = filled(start, rows, &mut Dice(seed));
        for lived in [start, TOP, start] {
            go(lived, &path);
            model.live(lived, &path, &mut Dice(seed ^ u64::from(lived)));
        }
        let found = rehearse_on(&LADDER, &path).unwrap();
        assert_eq!((found.undo, found.migrations.len() as u32), (Undo::Proven, TOP - start));
        model.compare(TOP, &path, "rehearsed");
        println!("{start} to {TOP}, back and there again: {} ms there, {} ms back", found.duration_ms, found.undo_ms);
    }
}
