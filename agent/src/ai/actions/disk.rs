//! disk-forecast: when will the disk be full, if it goes on like this?
//!
//! A straight line through the readings of free space, in whole numbers: the same readings give the same day on every processor.

use super::{Action, Found, Kind, Parameter, Risk, absent, text};
use crate::ai::look::Look;
use crate::wire::readings::{Readings, Sensors, Value as Reading};
use serde_json::{Map, Value, json};
use smolotchi_operator::Result;
use smolotchi_store::Severity;

pub(super) const ACTION: Action = Action {
    name: "disk-forecast",
    keys: "disk",
    risk: Risk::Passive,
    about: "says when the disk will be full, from the readings of its free space",
    parameters: &[
        Parameter { name: "days", kind: Kind::Integer { min: 1, max: 365, usual: 14 } },
        Parameter { name: "min_free_percent", kind: Kind::Integer { min: 0, max: 99, usual: 5 } },
    ],
    judge,
};

/// The readings that are asked for: only changes are kept, so this is weeks.
const READINGS: u32 = 500;
/// The disks, the one with the state first: with its own file system it is the one that fills.
const DISKS: [(&str, &str); 2] = [("state", "/var/lib/smolotchi"), ("root", "/")];
const DAY: i128 = 86_400;
/// Fewer readings, or a shorter time, say nothing about days.
const LEAST_POINTS: usize = 6;

fn judge(parameters: &Map<String, Value>, observation: &Value) -> Vec<Found> {
    let mut found = Vec::new();
    let number = |name: &str| parameters.get(name).and_then(Value::as_i64).unwrap_or_default();
    let what = text(&observation["what"]);
    let (free, total) = (observation["free"].as_i64().unwrap_or_default(), observation["total"].as_i64().unwrap_or_default());
    if total > 0 && i128::from(free) * 100 < i128::from(total) * i128::from(number("min_free_percent")) {
        found.push(Found {
            key: format!("disk/low{what}"),
            title: format!("{what} has less than {} % free", number("min_free_percent")),
            severity: Severity::Error,
            detail: json!({ "what": what, "least_percent": number("min_free_percent") }),
        });
    }
    let points: Vec<(i64, i64)> = observation["points"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .filter_map(|point| Some((point[0].as_i64()?, point[1].as_i64()?)))
        .collect();
    if let Some(days) = days_left(&points).filter(|days| *days <= number("days")) {
        // In words, not days: the same forecast, a day nearer, is the same finding.
        let severity = if days <= 2 { Severity::Error } else { Severity::Warning };
        found.push(Found {
            key: format!("disk/full-soon{what}"),
            title: format!(
                "{what} will be full within {}",
                if days <= 2 { "2 days".to_owned() } else { format!("{} days", number("days")) }
            ),
            severity,
            detail: json!({ "what": what, "within_days": if days <= 2 { 2 } else { number("days") } }),
        });
    }
    found
}

/// The free space of the disk that holds the state, now and before, as core's senses have it.
pub(super) async fn look(look: &Look<'_>) -> Result<Value> {
    let sensors: Sensors = look.client.get("/v1/sensors").await?;
    let newest = |name: String| sensors.sensors.iter().find(|sensor| sensor.name == name).and_then(|sensor| number(sensor.value.as_ref()?));
    for (disk, what) in DISKS {
        let name = format!("system.disk.{disk}.free");
        let (Some(free), Some(total)) = (newest(name.clone()), newest(format!("system.disk.{disk}.total"))) else { continue };
        let since = look.since_days(60);
        let readings: Readings = look.client.get(&format!("/v1/readings?sensor={name}&since={since}&limit={READINGS}")).await?;
        let point = |at: &str, value: &Reading| Some(json!([at.parse::<jiff::Timestamp>().ok()?.as_second(), number(value)?]));
        let points: Vec<_> = readings.readings.iter().filter_map(|reading| point(&reading.at, &reading.value)).collect();
        return Ok(json!({ "available": true, "what": what, "free": free, "total": total, "points": points }));
    }
    Ok(absent("no sensor reads the free space"))
}

fn number(value: &Reading) -> Option<i64> {
    if let Reading::Number(number) = value { Some(*number as i64) } else { None }
}

/// Whole days until the line through `(seconds, bytes free)` meets zero, from the last point; `None` if it does not fall or there
/// is too little to say.
fn days_left(points: &[(i64, i64)]) -> Option<i64> {
    let (first, last) = (points.first()?, points.last()?);
    if points.len() < LEAST_POINTS || i128::from(last.0) - i128::from(first.0) < DAY / 4 {
        return None;
    }
    // Least squares around the first point, so that the sums stay small.
    let count = points.len() as i128;
    let (mut x, mut y, mut xx, mut xy) = (0_i128, 0_i128, 0_i128, 0_i128);
    for (at, free) in points {
        // What can't be a time or a size would only overflow the sums.
        let (at, free) = ((i128::from(*at) - i128::from(first.0)).clamp(0, 1 << 40), i128::from(*free).clamp(0, 1 << 60));
        (x, y, xx, xy) = (x + at, y + free, xx + at * at, xy + at * free);
    }
    let (fall, run) = (x.checked_mul(y)? - count.checked_mul(xy)?, count.checked_mul(xx)? - x.checked_mul(x)?);
    if fall <= 0 || run <= 0 {
        return None;
    }
    let seconds = i128::from(last.1.max(0)).checked_mul(run)? / fall;
    i64::try_from(seconds / DAY).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(count: i64, step_s: i64, from: i64, per_step: i64) -> Vec<(i64, i64)> {
        (0..count).map(|i| (1_700_000_000 + i * step_s, from + i * per_step)).collect()
    }

    #[test]
    fn a_line_meets_zero() {
        let gib = 1 << 30;
        let cases = [
            (line(24, 3600, 10 * gib, -(gib / 24)), Some(9)),
            (line(24, 3600, 10 * gib, 0), None),
            (line(24, 3600, 10 * gib, 1), None),
            (line(5, 36_000, gib, -1000), None),
            (line(20, 60, gib, -1_000_000), None),
            (line(48, 3600, 3 * gib, -(gib / 24)), Some(1)),
            (vec![], None),
            (vec![(i64::MIN, i64::MAX); 10], None),
            ((0..10).map(|i| (if i < 9 { i64::MIN } else { i64::MAX }, i64::MAX - i)).collect(), None),
        ];
        for (points, days) in cases {
            assert_eq!(days_left(&points), days, "{points:?}");
        }
    }

    #[test]
    fn a_full_disk_and_one_that_soon_is_are_found() {
        let parameters = json!({ "days": 14, "min_free_percent": 5 }).as_object().unwrap().clone();
        let points: Vec<_> = line(24, 3600, 10 << 30, -(1 << 26)).into_iter().map(|(at, free)| json!([at, free])).collect();
        let see = json!({ "available": true, "what": "/", "free": 4, "total": 100, "points": points });
        let keys: Vec<_> = judge(&parameters, &see).into_iter().map(|found| found.key).collect();
        assert_eq!(keys, ["disk/low/", "disk/full-soon/"]);
        assert!(judge(&parameters, &json!({ "available": true, "what": "/", "free": 5, "total": 100, "points": [] })).is_empty());
        assert!(judge(&parameters, &json!({ "available": true })).is_empty());
    }
}
