//! `smolotchi readings`: what the senses saw, from core.

use crate::cli::ReadingsVerb;
use crate::client::{Client, block_on};
use crate::clock;
use crate::paths::Paths;
use crate::wire::readings::{Reading, Readings, Sensors, Value};
use jiff::Timestamp;
use serde::Serialize;
use smolotchi_operator::output::{columns, emit};
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table};
use std::io::IsTerminal;

/// How many bars a line has.
const BARS: usize = 60;
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

impl Table for Sensors {
    fn table(&self) -> String {
        let rows: Vec<_> = self
            .sensors
            .iter()
            .map(|sensor| match (&sensor.value, &sensor.absent) {
                (Some(value), _) => vec![sensor.name.clone(), words(value, &sensor.unit), sensor.at.clone().unwrap_or_default()],
                (None, reason) => vec![sensor.name.clone(), "-".to_owned(), reason.clone().unwrap_or_default()],
            })
            .collect();
        columns(&rows)
    }
}

/// The readings of one sensor, and how they are shown.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    series: Readings,
    /// From and to, milliseconds since 1970, where a line of bars is wanted.
    #[serde(skip)]
    bars: Option<(i64, i64)>,
}

impl Table for Shown {
    fn table(&self) -> String {
        let Readings { sensor, unit, readings } = &self.series;
        if readings.is_empty() {
            return format!("{sensor}: nothing was kept in this time\n");
        }
        let rows: Vec<_> = readings.iter().map(|reading| vec![reading.at.clone(), words(&reading.value, unit)]).collect();
        let line = self.bars.and_then(|(from_ms, to_ms)| {
            let (bars, least, most) = bars(readings, from_ms, to_ms)?;
            Some(format!("\n{bars}\n{} to {}\n", words(&Value::Number(least), unit), words(&Value::Number(most), unit)))
        });
        columns(&rows) + &line.unwrap_or_default()
    }
}

/// Runs the verb.
pub(crate) fn run(paths: &Paths, format: Format, verb: ReadingsVerb) -> Result<Exit> {
    let client = Client::new(paths.socket());
    match verb {
        ReadingsVerb::List => emit(format, &block_on(client.get::<Sensors>("/v1/sensors"))?),
        ReadingsVerb::Show { sensor, since, limit } => {
            let now_ms = clock::now_ms();
            let from_ms = moment(&since, now_ms)?;
            let from = clock::rfc3339(from_ms);
            let series = block_on(client.get(&format!("/v1/readings?sensor={}&since={from}&limit={limit}", escaped(&sensor))))?;
            let bars = std::io::stdout().is_terminal().then_some((from_ms, now_ms));
            emit(format, &Shown { series, bars });
        }
    }
    Ok(Exit::Success)
}

/// A moment, or so long ago.
fn moment(text: &str, now_ms: i64) -> Result<i64> {
    let refused = || {
        Fault::new(Code::Usage, "this is no time")
            .fact("given", text)
            .fact("expected", "a span such as \"24 h\" or \"7 d\", or an RFC 3339 moment")
    };
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment.as_millisecond());
    }
    let span: jiff::Span = text.trim_start_matches('-').parse().map_err(|_| refused())?;
    let long = span.total((jiff::Unit::Millisecond, jiff::SpanRelativeTo::days_are_24_hours())).map_err(|_| refused())?;
    if long > 0.0 && long < 1e15 { Ok(now_ms.saturating_sub(long as i64)) } else { Err(refused()) }
}

/// A name as part of a query.
fn escaped(name: &str) -> String {
    name.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
            },
        )
        .collect()
}

/// A value for people: bytes in binary units, everything on one line.
fn words(value: &Value, unit: &str) -> String {
    match (value, unit) {
        (Value::Text(text), _) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        (Value::Number(number), "B" | "B/s") => {
            let (mut number, mut step) = (*number, 0);
            let units = ["", "Ki", "Mi", "Gi", "Ti"];
            while number.abs() >= 1024.0 && step + 1 < units.len() {
                (number, step) = (number / 1024.0, step + 1);
            }
            format!("{} {}{unit}", plain(number), units[step])
        }
        (Value::Number(number), "count" | "") => plain(*number),
        (Value::Number(number), "C") => format!("{} °C", plain(*number)),
        (Value::Number(number), unit) => format!("{} {unit}", plain(*number)),
    }
}

/// With a tenth where there is one.
fn plain(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or(text.clone(), ToOwned::to_owned)
}

/// Numbers as a line of bars over a span of time, with the least and the greatest. A value holds until the next one; before
/// the first there is nothing. `None` if there are no numbers.
fn bars(readings: &[Reading], from_ms: i64, to_ms: i64) -> Option<(String, f64, f64)> {
    let numbers: Vec<(i64, f64)> = readings
        .iter()
        .filter_map(|reading| match reading.value {
            Value::Number(number) => Some((reading.at.parse::<Timestamp>().ok()?.as_millisecond(), number)),
            Value::Text(_) => None,
        })
        .collect();
    let least = numbers.iter().map(|(_, number)| *number).reduce(f64::min)?;
    let most = numbers.iter().map(|(_, number)| *number).reduce(f64::max)?;
    let long = to_ms.saturating_sub(from_ms).max(1);
    let line = (0..BARS as i64).map(|bar| {
        let (begin, end) = (from_ms + long * bar / BARS as i64, from_ms + long * (bar + 1) / BARS as i64);
        let within = numbers.iter().filter(|(at, _)| (begin..end).contains(at)).map(|(_, number)| *number).reduce(f64::max);
        let held = numbers.iter().rfind(|(at, _)| *at < begin).map(|(_, number)| *number);
        within.or(held).map_or(' ', |number| {
            let part = if most > least { (number - least) / (most - least) } else { 0.0 };
            HEIGHTS[((part * 7.0).round() as usize).min(7)]
        })
    });
    Some((line.collect(), least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spans_or_moments() {
        let hour = 3_600_000;
        let now = 1_000 * hour;
        let cases = [
            ("24 h", Some(now - 24 * hour)),
            ("24h", Some(now - 24 * hour)),
            ("7 d", Some(now - 168 * hour)),
            ("90 min", Some(now - hour * 3 / 2)),
            ("1970-01-01T01:00:00Z", Some(hour)),
            ("yesterday", None),
            ("0 s", None),
            ("", None),
            ("24", None),
        ];
        for (text, expected) in cases {
            assert_eq!(moment(text, now).ok(), expected, "{text}");
        }
    }

    #[test]
    fn values_are_said_in_their_unit() {
        let cases = [
            (281_698_304.0, "B", "268.6 MiB"),
            (0.0, "B", "0 B"),
            (1536.0, "B/s", "1.5 KiB/s"),
            (41.2, "C", "41.2 °C"),
            (3.0, "count", "3"),
            (-58.0, "dBm", "-58 dBm"),
        ];
        for (number, unit, expected) in cases {
            assert_eq!(words(&Value::Number(number), unit), expected);
        }
        assert_eq!(words(&Value::Text("a\nb".into()), ""), "a b");
        assert_eq!(escaped("network.eth0:1 x&limit=2"), "network.eth0%3A1%20x%26limit%3D2");
    }

    #[test]
    fn bars_hold_a_value_until_the_next() {
        let reading = |second: i64, number: f64| Reading { at: clock::rfc3339(second * 1000), value: Value::Number(number) };
        let (line, least, most) = bars(&[reading(10, 1.0), reading(30, 8.0), reading(31, 2.0), reading(50, 4.5)], 0, 60_000).unwrap();
        assert_eq!((least, most), (1.0, 8.0));
        let expected = format!("{}{}█{}{}", " ".repeat(10), "▁".repeat(20), "▂".repeat(19), "▅".repeat(10));
        assert_eq!(line, expected);
        assert_eq!(bars(&[reading(10, 3.0)], 0, 60_000).unwrap().0.trim(), "▁".repeat(50));
        assert_eq!(bars(&[Reading { at: String::new(), value: Value::Text("x".into()) }], 0, 1), None);
        assert!(bars(&[reading(10, 3.0)], 5, 5).is_some());
    }
}
