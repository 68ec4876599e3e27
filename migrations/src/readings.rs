//! What the senses read: the sensors, and their readings by time. Written in batches, one commit for each.

use crate::connect::failed;
use crate::{Result, Store};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, TransactionBehavior};
use serde::{Deserialize, Serialize};

/// The schema that has the tables.
pub(crate) const NEEDS: u32 = 6;
const WHAT: &str = "readings";

/// The longest sensor name, in bytes.
pub const SENSOR_BYTES: usize = 128;

/// A number or a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ReadingValue {
    /// A number, in the sensor's unit.
    Number(f64),
    /// A text, such as an address or a state.
    Text(String),
}

impl ToSql for ReadingValue {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            // A whole number takes fewer bytes as one.
            ReadingValue::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => Ok((*number as i64).into()),
            ReadingValue::Number(number) => number.to_sql(),
            ReadingValue::Text(text) => text.to_sql(),
        }
    }
}

impl FromSql for ReadingValue {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Integer(number) => Ok(ReadingValue::Number(number as f64)),
            ValueRef::Real(number) => Ok(ReadingValue::Number(number)),
            ValueRef::Text(text) => Ok(ReadingValue::Text(String::from_utf8_lossy(text).into_owned())),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// A sensor, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SensorRow {
    /// Such as `system.memory.available`: 1 to 128 bytes.
    pub name: String,
    /// Who reads it.
    pub provider: String,
    /// Empty for a text.
    pub unit: String,
    /// Why there is nothing to read.
    pub absent: Option<String>,
    /// When it was first seen, or last came or went; milliseconds since 1970.
    pub changed_ms: i64,
}

/// A reading to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NewReading {
    /// The sensor's name.
    pub sensor: String,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// What was read.
    pub value: ReadingValue,
}

/// The readings of one sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Empty for a text.
    pub unit: String,
    /// When, milliseconds since 1970, and what; oldest first.
    pub readings: Vec<(i64, ReadingValue)>,
}

const SENSORS: &str = "SELECT name, provider, unit, absent, changed_ms FROM sensors ORDER BY name";
const SENSOR: &str = "SELECT id, unit FROM sensors WHERE name = ?1";
const PUT_SENSOR: &str = "INSERT INTO sensors (name, provider, unit, absent, changed_ms) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (name) DO UPDATE SET provider = excluded.provider, unit = excluded.unit, absent = excluded.absent, changed_ms = excluded.changed_ms";
/// A clock that jumped back may come to the same moment twice: the newer reading counts.
const PUT: &str = "INSERT INTO readings (at_ms, sensor_id, value) SELECT ?1, id, ?3 FROM sensors WHERE name = ?2
    ON CONFLICT (at_ms, sensor_id) DO UPDATE SET value = excluded.value";
/// ?1 sensor, ?2 since, ?3 limit: the newest ones. Reads all sensors' rows of that time, and no others.
const OF_SENSOR: &str = "SELECT at_ms, value FROM readings WHERE at_ms >= ?2 AND sensor_id = ?1 ORDER BY at_ms DESC LIMIT ?3";
/// ?1 since, ?2 before: the oldest.
const OLDEST: &str = "SELECT at_ms FROM readings WHERE at_ms >= ?1 AND at_ms < ?2 ORDER BY at_ms LIMIT 1";
/// ?1 since, ?2 before, ?3 how many less one: the last of so many.
const LAST_OF: &str = "SELECT at_ms FROM readings WHERE at_ms >= ?1 AND at_ms < ?2 ORDER BY at_ms LIMIT 1 OFFSET ?3";
/// ?1 since, ?2 before: the newest.
const NEWEST: &str = "SELECT at_ms FROM readings WHERE at_ms >= ?1 AND at_ms < ?2 ORDER BY at_ms DESC LIMIT 1";
/// ?1 from, ?2 to.
const COUNT_BETWEEN: &str = "SELECT count(*) FROM readings WHERE at_ms BETWEEN ?1 AND ?2";
/// ?1 from, ?2 to.
const DELETE_BETWEEN: &str = "DELETE FROM readings WHERE at_ms BETWEEN ?1 AND ?2";
/// ?1 until: those that nobody changed since.
const OLD_SENSORS: &str = "SELECT id, name FROM sensors WHERE changed_ms <= ?1 ORDER BY id";
/// ?1 after: whoever has a later reading. Walks through all of them.
const READ_AFTER: &str = "SELECT DISTINCT sensor_id FROM readings WHERE at_ms > ?1";
/// ?1 ids as JSON.
const DELETE_SENSORS: &str =
    "DELETE FROM sensors WHERE id IN (SELECT value FROM json_each(?1)) AND id NOT IN (SELECT sensor_id FROM readings)";

/// Readings of a span of time, of all sensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadingSpan {
    /// The first moment, milliseconds since 1970.
    pub from_ms: i64,
    /// The last moment.
    pub to_ms: i64,
    /// How many they are.
    pub count: u64,
}

impl Store {
    /// Commits sensors and readings in one transaction; nothing at all is written for nothing. A reading of a sensor that is
    /// neither stored nor among `sensors` is dropped.
    ///
    /// # Errors
    /// `store.not-in-schema`, `io.disk-full`, `store.busy`, `store.failed`.
    pub fn keep_readings(&mut self, sensors: &[SensorRow], readings: &[NewReading]) -> Result<()> {
        self.needs(NEEDS, WHAT)?;
        if sensors.is_empty() && readings.is_empty() {
            return Ok(());
        }
        let mut write = || -> rusqlite::Result<()> {
            let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut put = tx.prepare_cached(PUT_SENSOR)?;
                for sensor in sensors {
                    put.execute((&sensor.name, &sensor.provider, &sensor.unit, &sensor.absent, sensor.changed_ms))?;
                }
                let mut put = tx.prepare_cached(PUT)?;
                for reading in readings {
                    put.execute((reading.at_ms, &reading.sensor, &reading.value))?;
                }
            }
            tx.commit()
        };
        write().map_err(failed(&self.path, "could not commit the readings"))
    }

    /// Every sensor ever read, by name.
    pub fn sensors(&self) -> Result<Vec<SensorRow>> {
        self.needs(NEEDS, WHAT)?;
        let read = || -> rusqlite::Result<Vec<SensorRow>> {
            self.db
                .prepare_cached(SENSORS)?
                .query_map((), |row| {
                    Ok(SensorRow {
                        name: row.get(0)?,
                        provider: row.get(1)?,
                        unit: row.get(2)?,
                        absent: row.get(3)?,
                        changed_ms: row.get(4)?,
                    })
                })?
                .collect()
        };
        read().map_err(failed(&self.path, "could not read the sensors"))
    }

    /// The newest readings of a sensor that aren't older than `since_ms`, oldest first; `None` for a sensor
    /// that was never stored.
    pub fn readings(&self, sensor: &str, since_ms: i64, limit: u32) -> Result<Option<Series>> {
        self.needs(NEEDS, WHAT)?;
        let read = || -> rusqlite::Result<Option<Series>> {
            let found = self.db.prepare_cached(SENSOR)?.query_row((sensor,), |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let Some((id, unit)): Option<(i64, String)> = found else { return Ok(None) };
            let mut query = self.db.prepare_cached(OF_SENSOR)?;
            let rows = query.query_map((id, since_ms, limit), |row| Ok((row.get(0)?, row.get(1)?)))?;
            let mut readings = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            readings.reverse();
            Ok(Some(Series { unit, readings }))
        };
        read().map_err(failed(&self.path, "could not read the readings"))
    }

    /// Whether there is a reading of this time.
    pub(crate) fn has_reading(&self, from_ms: i64, to_ms: i64) -> Result<bool> {
        let read = || self.db.prepare_cached(OLDEST)?.exists((from_ms, to_ms.saturating_add(1)));
        read().map_err(failed(&self.path, "could not read the readings' times"))
    }

    /// When the newest reading was taken; `None` also in a schema without them.
    pub fn newest_reading_ms(&self) -> Result<Option<i64>> {
        if self.schema < NEEDS {
            return Ok(None);
        }
        let read = || self.db.prepare_cached(NEWEST)?.query_row((i64::MIN, i64::MAX), |row| row.get(0)).optional();
        read().map_err(failed(&self.path, "could not read the readings' times"))
    }

    /// The readings before a moment, oldest first, in parts of about so many. Writes nothing.
    pub fn plan_readings(&self, before_ms: i64, part: u32) -> Result<Vec<ReadingSpan>> {
        self.needs(NEEDS, WHAT)?;
        let plan = || -> rusqlite::Result<Vec<ReadingSpan>> {
            let moment = |sql, parameters: &[i64]| {
                let parameters = rusqlite::params_from_iter(parameters);
                self.db.prepare_cached(sql)?.query_row(parameters, |row| row.get::<_, i64>(0)).optional()
            };
            let mut parts = Vec::new();
            let mut since_ms = i64::MIN;
            while let Some(from_ms) = moment(OLDEST, &[since_ms, before_ms])? {
                let last = moment(LAST_OF, &[from_ms, before_ms, i64::from(part.max(1)) - 1])?;
                let Some(to_ms) = last.map_or_else(|| moment(NEWEST, &[from_ms, before_ms]), |last| Ok(Some(last)))? else { break };
                let count = moment(COUNT_BETWEEN, &[from_ms, to_ms])?.unwrap_or_default().unsigned_abs();
                parts.push(ReadingSpan { from_ms, to_ms, count });
                since_ms = to_ms + 1;
            }
            Ok(parts)
        };
        plan().map_err(failed(&self.path, "could not find the old readings"))
    }

    /// Removes the readings of a part that [`Store::plan_readings`] named; how many went.
    pub fn remove_readings(&mut self, part: &ReadingSpan) -> Result<u64> {
        self.needs(NEEDS, WHAT)?;
        let gone = self.db.execute(DELETE_BETWEEN, (part.from_ms, part.to_ms));
        gone.map(|gone| gone as u64).map_err(failed(&self.path, "could not delete old readings"))
    }

    /// The sensors that have no reading once those until a moment are gone, but for those that are still `read`: their ids, in order.
    /// Writes nothing.
    pub fn plan_sensors(&self, until_ms: i64, read: &[String]) -> Result<Vec<i64>> {
        self.needs(NEEDS, WHAT)?;
        let plan = || -> rusqlite::Result<Vec<i64>> {
            let mut old: Vec<(i64, String)> = self
                .db
                .prepare_cached(OLD_SENSORS)?
                .query_map((until_ms,), |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            old.retain(|(_, name)| !read.contains(name));
            if !old.is_empty() {
                let mut later = self.db.prepare_cached(READ_AFTER)?;
                let mut rows = later.query((until_ms,))?;
                while let Some(row) = rows.next()? {
                    let id: i64 = row.get(0)?;
                    old.retain(|(old, _)| *old != id);
                }
            }
            Ok(old.into_iter().map(|(id, _)| id).collect())
        };
        plan().map_err(failed(&self.path, "could not find the sensors that are gone"))
    }

    /// Removes sensors that [`Store::plan_sensors`] named, but for those that have readings by now; how many went.
    pub fn remove_sensors(&mut self, ids: &[i64]) -> Result<u64> {
        self.needs(NEEDS, WHAT)?;
        let gone = self.db.execute(DELETE_SENSORS, (serde_json::json!(ids).to_string(),));
        gone.map(|gone| gone as u64).map_err(failed(&self.path, "could not delete the sensors that are gone"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ladder::LADDER;
    use rusqlite::{Connection, StatementStatus};

    /// Ten sensors, 50 moments.
    fn filled() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        for migration in LADDER {
            db.execute_batch(migration.up).unwrap();
        }
        for sensor in 0..10 {
            db.execute(PUT_SENSOR, (format!("s{sensor}"), "system", "%", None::<String>, 0)).unwrap();
        }
        for at in 0..500 {
            db.execute(PUT, (at / 10, format!("s{}", at % 10), at)).unwrap();
        }
        db
    }

    #[test]
    #[cfg_attr(schema_1, ignore = "this build has schema 1 only, without readings")]
    fn hot_queries_read_no_more_than_their_time() {
        let db = filled();
        let by_time = "SEARCH readings USING PRIMARY KEY (at_ms>?)";
        let between = "SEARCH readings USING PRIMARY KEY (at_ms>? AND at_ms<?)";
        let table = [
            (SENSOR, vec!["'s3'"], vec!["SEARCH sensors USING INDEX sqlite_autoindex_sensors_1 (name=?)"]),
            (OF_SENSOR, vec!["4", "45", "100"], vec![by_time]),
            (OLDEST, vec!["5", "9"], vec![between]),
            (LAST_OF, vec!["5", "9", "2"], vec![between]),
            (NEWEST, vec!["5", "9"], vec![between]),
            (COUNT_BETWEEN, vec!["5", "9"], vec![between]),
            (DELETE_BETWEEN, vec!["5", "9"], vec![between]),
            (READ_AFTER, vec!["45"], vec![by_time, "USE TEMP B-TREE FOR DISTINCT"]),
        ];
        for (sql, parameters, plan) in table {
            let mut bound = sql.to_owned();
            for (number, value) in parameters.iter().enumerate() {
                bound = bound.replace(&format!("?{}", number + 1), value);
            }
            let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {bound}")).unwrap();
            let said: Vec<String> = explain.query_map((), |row| row.get(3)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
            assert_eq!(said, plan, "{sql}");
            let mut run = db.prepare(&bound).unwrap();
            let mut rows = run.query(()).unwrap();
            while rows.next().unwrap().is_some() {}
            drop(rows);
            assert_eq!(run.get_status(StatementStatus::FullscanStep), 0, "{sql}");
        }
    }
}
