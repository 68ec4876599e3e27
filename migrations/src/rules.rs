//! The statements of the running store, by schema: the only place that knows which columns which schema has.

/// The statements for one schema without a ring of events. Every one is a hot query: the tests read their plans.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statements {
    /// ?1 at_ms, ?2 topic, ?3 body, ?4 severity or NULL.
    pub(crate) append: &'static str,
    /// One number.
    pub(crate) total: &'static str,
}

/// The newest event: id, at_ms. For schemas before the ring.
pub(crate) const NEWEST: &str = "SELECT id, at_ms FROM events ORDER BY id DESC LIMIT 1";
/// The oldest and the newest id. For schemas before the ring.
pub(crate) const ENDS: &str = "SELECT (SELECT min(id) FROM events), (SELECT max(id) FROM events)";
/// The id of the newest event that a limit of ?1 events does not keep.
pub(crate) const BEYOND: &str = "SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?1";
/// The id of the oldest event that is not older than ?1, by a time that has come at ?2. It stops there: only what will be deleted
/// is read.
pub(crate) const FIRST_SINCE: &str = "SELECT id FROM events WHERE at_ms BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1";
/// How many events there are from id ?1 to id ?2.
pub(crate) const COUNT_BETWEEN: &str = "SELECT count(*) FROM events WHERE id BETWEEN ?1 AND ?2";
/// Deletes the events from id ?1 to id ?2.
pub(crate) const DELETE_BETWEEN: &str = "DELETE FROM events WHERE id BETWEEN ?1 AND ?2";
/// The first event of a table from id ?1 on: id, at_ms.
pub(crate) fn from_id(table: &str) -> String {
    format!("SELECT id, at_ms FROM {table} WHERE id >= ?1 ORDER BY id LIMIT 1")
}
/// Whether slot ?3 has an event of topic ?1 or below it; ?2 is what comes after those below.
pub(crate) const SEGMENT_HAS_TOPIC: &str =
    "SELECT 1 FROM segment_topics WHERE (topic = ?1 OR topic > ?1 || '.' AND topic < ?2) AND slot = ?3 LIMIT 1";
/// ?1 at_ms.
pub(crate) const PROVE: &str =
    "INSERT INTO proof (id, at_ms, times) VALUES (1, ?1, 1) ON CONFLICT (id) DO UPDATE SET at_ms = excluded.at_ms, times = times + 1";

const SCHEMA_1: Statements = Statements {
    append: "INSERT INTO events (at_ms, topic, body) SELECT ?1, ?2, ?3 WHERE ?4 IS NULL OR true",
    // Nothing keeps count in schema 1.
    total: "SELECT count(*) FROM events",
};

/// The rule of migration 2 for an event that names no severity; `tests` compare the two.
macro_rules! severity_rule {
    () => {
        "CASE
    WHEN json_extract(body, '$.severity') IN ('error', 'critical', 'fatal') THEN 4
    WHEN json_extract(body, '$.severity') IN ('warning', 'warn') THEN 3
    WHEN json_extract(body, '$.severity') = 'notice' THEN 2
    WHEN json_extract(body, '$.severity') = 'info' THEN 1
    WHEN json_extract(body, '$.severity') = 'debug' THEN 0
    WHEN topic GLOB '*[.]error' OR topic GLOB '*[.]failed' OR topic GLOB '*[.]crashed' THEN 4
    WHEN topic GLOB '*[.]warning' OR topic GLOB '*[.]low' OR topic GLOB '*[.]full' OR topic GLOB '*[.]lost' THEN 3
    WHEN topic GLOB '*[.]started' OR topic GLOB '*[.]stopped' OR topic GLOB '*[.]changed' THEN 2
    WHEN topic GLOB 'debug[.]*' THEN 0
    ELSE 1
END"
    };
}

/// The severity of an event that names none: ?1 topic, ?2 body.
pub(crate) const SEVERITY: &str = concat!("SELECT ", severity_rule!(), " FROM (SELECT ?1 AS topic, ?2 AS body)");

const SCHEMA_3: Statements = Statements {
    append: concat!(
        "INSERT INTO events (at_ms, topic, body, severity) SELECT ?1, topic, body, coalesce(?4, ",
        severity_rule!(),
        ") FROM (SELECT ?2 AS topic, ?3 AS body)"
    ),
    total: "SELECT coalesce(sum(events), 0) FROM topics",
};

/// The statements for a schema before the ring. A release worked on 1 (0.1.0) and 3.
pub(crate) const fn statements(schema: u32) -> Statements {
    if schema < 3 { SCHEMA_1 } else { SCHEMA_3 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ladder::LADDER;
    use rusqlite::{Connection, StatementStatus};

    #[test]
    #[cfg_attr(schema_1, ignore = "this build has schema 1 only, without severities")]
    fn the_rule_for_new_rows_is_the_rule_of_the_migration() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(LADDER[0].up).unwrap();
        let ends = ["error", "failed", "crashed", "warning", "low", "full", "lost", "started", "stopped", "changed", "else"];
        let topics = ends.iter().flat_map(|end| [format!("x.{end}"), format!("x{end}"), (*end).to_owned(), format!("debug.{end}")]);
        let words = ["error", "critical", "fatal", "warning", "warn", "notice", "info", "debug", "else", "ERROR"];
        let mut bodies: Vec<String> = words.iter().map(|word| format!("{{\"severity\":\"{word}\"}}")).collect();
        bodies.extend(
            ["{}", "null", "3", "[]", "\"error\"", "{\"severity\":4}", "{\"severity\":null}", "{\"severity\":[\"error\"]}"]
                .map(str::to_owned),
        );
        bodies
            .extend(["{\"sever\\u0069ty\":\"error\"}", "{\"Severity\":\"error\"}", "{\"a\":{\"severity\":\"error\"}}"].map(str::to_owned));
        for topic in topics {
            for body in &bodies {
                db.execute("INSERT INTO events (at_ms, topic, body) VALUES (1, ?1, ?2)", (&topic, body)).unwrap();
            }
        }
        // Topics of which no body names a severity, and one of which one hides it.
        for (topic, body) in [("only.error", "{}"), ("only.else", "{}"), ("hidden.else", "{\"sever\\u0069ty\":\"error\"}")] {
            db.execute("INSERT INTO events (at_ms, topic, body) VALUES (1, ?1, ?2)", (topic, body)).unwrap();
        }
        db.execute_batch(LADDER[1].up).unwrap();
        let others = concat!("SELECT count(*), sum(severity <> ", severity_rule!(), "), count(DISTINCT severity) FROM events");
        let found: (i64, i64, i64) = db.query_row(others, (), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        assert_eq!(found, (44 * 21 + 3, 0, 5), "rows, those with another severity, severities");
        assert!(LADDER[1].down.unwrap().contains(severity_rule!()), "down.sql has another rule");
    }

    /// SQLite's plan says SCAN both for reading a whole table and for walking it until LIMIT rows are found, so each
    /// statement names what its plan may say and how many rows of a table of 500 it may step over.
    #[test]
    fn hot_queries_read_no_more_than_they_return() {
        for schema in [1, 3].into_iter().filter(|schema| *schema <= LADDER.len()) {
            let db = Connection::open_in_memory().unwrap();
            for migration in &LADDER[..schema] {
                db.execute_batch(migration.up).unwrap();
            }
            let own = statements(schema as u32);
            for i in 0..500 {
                let topic = ["disk.full", "sensor.reading", "core.started"][i % 3];
                db.execute(own.append, (i as i64, topic, "{}", None::<i64>)).unwrap();
            }
            let range = "SEARCH events USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)";
            let table = [
                (NEWEST, vec![], vec!["SCAN events"], 1),
                (ENDS, vec![], vec!["SCAN CONSTANT ROW", "SCALAR SUBQUERY 1", "SEARCH events", "SCALAR SUBQUERY 2", "SEARCH events"], 2),
                (FIRST_SINCE, vec![5, 999], vec!["SCAN events"], 6),
                (&from_id("events"), vec![5], vec!["SEARCH events USING INTEGER PRIMARY KEY (rowid>?)"], 0),
                (COUNT_BETWEEN, vec![5, 9], vec![range], 0),
                (DELETE_BETWEEN, vec![5, 9], vec![range], 0),
                match schema {
                    1 => (own.total, vec![], vec!["SCAN events"], 500),
                    _ => (own.total, vec![], vec!["SCAN topics"], 3),
                },
            ];
            for (sql, parameters, plan, most) in table {
                let parameters = rusqlite::params_from_iter(parameters.iter().copied().map(i64::from));
                let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
                let said: Vec<String> =
                    explain.query_map(parameters.clone(), |row| row.get(3)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
                assert_eq!(said, plan, "{sql}");
                let mut run = db.prepare(sql).unwrap();
                let mut rows = run.query(parameters).unwrap();
                while rows.next().unwrap().is_some() {}
                drop(rows);
                let steps = run.get_status(StatementStatus::FullscanStep);
                assert!(steps <= most, "{sql}: {steps} rows stepped over, {most} allowed");
            }
        }
    }
}
