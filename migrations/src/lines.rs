//! The readings of all sensors together, as few points as a small picture shows: one walk through the time that it spans.

use crate::connect::failed;
use crate::{ReadingValue, Result, Store};
use std::collections::BTreeMap;

/// By time, which is how they lie on the disk.
const RANGE: &str = "SELECT sensor_id, at_ms, value FROM readings WHERE at_ms >= ?1 AND at_ms < ?2 ORDER BY at_ms, sensor_id";
const NAMES: &str = "SELECT id, name FROM sensors";

/// Milliseconds since 1970, and the value.
type Points = Vec<(i64, f64)>;

/// The lowest, the highest and the last value of one column.
#[derive(Debug, Clone, Copy)]
struct Column {
    number: i64,
    first_ms: i64,
    last_ms: i64,
    low: f64,
    high: f64,
    last: f64,
}

impl Store {
    /// By sensor, points (milliseconds since 1970, value) from `since_ms` up to but not at `until_ms`, oldest first: for each
    /// of `columns` spans at most three. Texts have none. Holds as much as it returns, however many readings there are.
    pub fn lines(&self, since_ms: i64, until_ms: i64, columns: u32) -> Result<BTreeMap<String, Points>> {
        self.needs(6, "readings")?;
        let width = (until_ms.saturating_sub(since_ms) / i64::from(columns.max(1))).max(1);
        let read = || -> rusqlite::Result<BTreeMap<String, Points>> {
            let mut sensors: BTreeMap<i64, (Option<Column>, Points)> = BTreeMap::new();
            let mut query = self.db.prepare_cached(RANGE)?;
            let mut rows = query.query((since_ms, until_ms))?;
            while let Some(row) = rows.next()? {
                let ReadingValue::Number(value) = row.get(2)? else { continue };
                let (open, points) = sensors.entry(row.get(0)?).or_default();
                take(open, points, row.get(1)?, value, since_ms, width);
            }
            let names = self
                .db
                .prepare_cached(NAMES)?
                .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<BTreeMap<i64, String>>>()?;
            Ok(sensors
                .into_iter()
                .filter_map(|(id, (open, mut points))| {
                    open.iter().for_each(|column| close(column, &mut points));
                    Some((names.get(&id)?.clone(), points))
                })
                .collect())
        };
        read().map_err(failed(&self.path, "could not read the readings"))
    }
}

fn take(open: &mut Option<Column>, points: &mut Points, at_ms: i64, value: f64, since_ms: i64, width: i64) {
    let number = (at_ms - since_ms) / width;
    match open {
        Some(column) if column.number == number => {
            (column.low, column.high) = (column.low.min(value), column.high.max(value));
            (column.last_ms, column.last) = (at_ms, value);
        }
        _ => {
            open.iter().for_each(|column| close(column, points));
            *open = Some(Column { number, first_ms: at_ms, last_ms: at_ms, low: value, high: value, last: value });
        }
    }
}

fn close(column: &Column, points: &mut Points) {
    for point in [(column.first_ms, column.low), (column.first_ms, column.high), (column.last_ms, column.last)] {
        if points.last() != Some(&point) {
            points.push(point);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::{self, Direction};
    use crate::{NewReading, SensorRow};

    #[test]
    #[cfg_attr(schema_1, ignore = "this build keeps no readings")]
    fn a_day_of_readings_is_a_few_points_and_no_peak_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("smolotchi.db");
        migrate::run(&path, Direction::UpOnly, true).unwrap();
        let mut store = Store::open(&path).unwrap();
        let sensor = |name: &str| SensorRow { name: name.into(), provider: "system".into(), unit: "C".into(), absent: None, changed_ms: 0 };
        let reading = |name: &str, at_ms, value| NewReading { sensor: name.into(), at_ms, value };
        let mut readings: Vec<_> = (0..2000).map(|at| reading("a", at, ReadingValue::Number(f64::from(at == 777)))).collect();
        readings.extend([reading("t", 5, ReadingValue::Text("x".into())), reading("b", 1000, ReadingValue::Number(-3.5))]);
        store.keep_readings(&[sensor("a"), sensor("b"), sensor("t")], &readings).unwrap();

        let lines = store.lines(500, 1500, 10).unwrap();
        assert_eq!(lines.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(lines["b"], [(1000, -3.5)]);
        let a = &lines["a"];
        assert!(a.len() <= 30 && a.iter().all(|(at, _)| (500..1500).contains(at)), "{a:?}");
        assert!(a.contains(&(700, 1.0)) && a.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{a:?}");

        let mut explain = store.db.prepare(&format!("EXPLAIN QUERY PLAN {RANGE}")).unwrap();
        let said: Vec<String> = explain.query_map((0, 1), |row| row.get(3)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
        assert_eq!(said, ["SEARCH readings USING PRIMARY KEY (at_ms>? AND at_ms<?)"]);
    }
}
