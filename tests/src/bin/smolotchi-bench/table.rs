//! Medians, ratios and tables of what was measured. Pure.

use crate::measure::Measured;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// What an upgrade has to bring at least.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Payload {
    /// The package file.
    pub(crate) deb_bytes: u64,
    /// The files in it.
    pub(crate) installed_bytes: u64,
}

/// One measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    /// By what.
    pub(crate) way: String,
    /// `upgrade` or `back`.
    pub(crate) direction: String,
    /// What was seen.
    pub(crate) seen: Measured,
}

/// All measurements.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Results {
    /// What is brought.
    pub(crate) payload: Payload,
    /// The health gate's window.
    pub(crate) window_s: u64,
    /// Rows in the database.
    pub(crate) rows: u32,
    /// In the order in which they were made.
    pub(crate) runs: Vec<Run>,
}

/// How the repeats of a measure become one number.
#[derive(Clone, Copy)]
enum Of {
    Median,
    Most,
    Sum,
}

/// One line of the tables: what it is called (SPECIFICATION.md names these), and how it comes out of a run.
struct Measure {
    name: &'static str,
    of: Of,
    decimals: usize,
    value: fn(&Measured, &Payload) -> Option<f64>,
}

const MEASURES: [Measure; 15] = [
    Measure { name: "core down, ms", of: Of::Median, decimals: 0, value: |seen, _| Some(seen.downtime_ms) },
    Measure { name: "core down, ms, worst", of: Of::Most, decimals: 0, value: |seen, _| Some(seen.downtime_ms) },
    Measure { name: "failed requests", of: Of::Sum, decimals: 0, value: |seen, _| Some(seen.web_failed as f64) },
    Measure { name: "requests", of: Of::Sum, decimals: 0, value: |seen, _| Some(seen.web_polls as f64) },
    Measure { name: "answers without core (503)", of: Of::Sum, decimals: 0, value: |seen, _| Some(seen.web_unavailable as f64) },
    Measure { name: "slowest answer of web, ms", of: Of::Most, decimals: 0, value: |seen, _| Some(seen.web_slowest_ms) },
    Measure { name: "wanted version answers, s", of: Of::Median, decimals: 2, value: |seen, _| seen.answered_ms.map(seconds) },
    Measure {
        name: "and dpkg is through, s",
        of: Of::Median,
        decimals: 2,
        value: |seen, _| Some(seconds(seen.answered_ms?.max(seen.dpkg_ms?))),
    },
    Measure { name: "command ends, s", of: Of::Median, decimals: 2, value: |seen, _| Some(seconds(seen.ended_ms)) },
    Measure { name: "change closed, s", of: Of::Median, decimals: 2, value: |seen, _| Some(seconds(seen.closed_ms)) },
    Measure { name: "card, MB", of: Of::Median, decimals: 1, value: |seen, _| Some(seen.card_bytes as f64 / 1e6) },
    Measure {
        name: "card / .deb",
        of: Of::Median,
        decimals: 2,
        value: |seen, payload| Some(seen.card_bytes as f64 / payload.deb_bytes as f64),
    },
    Measure {
        name: "card / (.deb + its files)",
        of: Of::Median,
        decimals: 2,
        value: |seen, payload| Some(seen.card_bytes as f64 / (payload.deb_bytes + payload.installed_bytes) as f64),
    },
    Measure { name: "flushes", of: Of::Median, decimals: 0, value: |seen, _| seen.card_flushes.map(|count| count as f64) },
    Measure { name: "peak memory, MB", of: Of::Most, decimals: 1, value: |seen, _| Some(seen.memory_bytes as f64 / 1e6) },
];

fn seconds(ms: f64) -> f64 {
    ms / 1e3
}

impl Results {
    /// One table for each direction, in Markdown.
    pub(crate) fn tables(&self) -> String {
        let mut ways: Vec<&str> = Vec::new();
        for run in &self.runs {
            if !ways.contains(&run.way.as_str()) {
                ways.push(&run.way);
            }
        }
        let mut text = format!(
            "The package: {} bytes, its files {} bytes. The database: {} rows. The gate's window: {} s. Repeats: {}.\n",
            self.payload.deb_bytes,
            self.payload.installed_bytes,
            self.rows,
            self.window_s,
            self.runs.len() / (2 * ways.len().max(1))
        );
        for (direction, title) in [("upgrade", "Upgrade"), ("back", "Back to the version before")] {
            let _ = write!(text, "\n| {title} |");
            ways.iter().for_each(|way| text.extend([" ", way, " |"]));
            text.push_str("\n|---|");
            ways.iter().for_each(|_| text.push_str("---:|"));
            for measure in &MEASURES {
                let _ = write!(text, "\n| {} |", measure.name);
                for way in &ways {
                    let values: Vec<f64> = self
                        .runs
                        .iter()
                        .filter(|run| run.way == *way && run.direction == direction)
                        .filter_map(|run| (measure.value)(&run.seen, &self.payload))
                        .collect();
                    let _ = match one(measure.of, &values) {
                        Some(value) => write!(text, " {value:.*} |", measure.decimals),
                        None => write!(text, " |"),
                    };
                }
            }
            text.push('\n');
        }
        text
    }

    /// The page of the documentation.
    pub(crate) fn page(&self) -> String {
        format!("{PAGE}{}", self.tables())
    }
}

const PAGE: &str = "\
# Benchmarks

Printed by `make bench` (needs root and some ten minutes); `make bench PAGE=docs/reference/benchmarks.md` writes this page anew. Nothing here fails when
it is slow: times depend on the machine and on what else it does, so compare columns, not runs. Bytes, flushes, memory and failed requests hardly do.

Two Debian machines (systemd-nspawn, each on its own ext4 disk) change between the same two releases, with a migration in between; one has the guard, from the other its
program was taken away. Debian's own package lists are there, because apt's caches are made of them. Each machine went there and back once before, uncounted.

- **core down**: the longest time between two answers of core's API, asked every millisecond.
- **failed requests**: web is asked on its own connection every millisecond, before, while and after; refused, reset, cut off or timed out counts. A 503 is an
  answer: it says that core can't be asked.
- **wanted version answers**, **and dpkg is through**: since the command was started. **change closed**: the watch (the gate's window) is over; without a guard nobody watches.
- **card**: what the disk was given until a `sync` after the end, divided by the package file alone, and by the package file and its files: unpacking writes the latter whoever does it.
- **peak memory**: the most, looked at every 15 ms, of the summed PSS of all processes that were not there before, without the agent's own services.

";

/// The repeats as one number; none if nothing was measured.
fn one(of: Of, values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match of {
        Of::Sum => (!sorted.is_empty()).then(|| sorted.iter().sum()),
        Of::Most => sorted.last().copied(),
        Of::Median => {
            let middle = sorted.len() / 2;
            let upper = *sorted.get(middle)?;
            Some(if sorted.len() % 2 == 0 { (sorted[middle - 1] + upper) / 2.0 } else { upper })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_become_one_number() {
        let values = [3.0, 1.0, 2.0, 10.0];
        assert_eq!(one(Of::Median, &values), Some(2.5));
        assert_eq!(one(Of::Median, &values[..3]), Some(2.0));
        assert_eq!(one(Of::Most, &values), Some(10.0));
        assert_eq!(one(Of::Sum, &values), Some(16.0));
        assert_eq!((one(Of::Median, &[]), one(Of::Most, &[]), one(Of::Sum, &[])), (None, None, None));
    }

    #[test]
    fn a_table_has_a_column_for_each_way() {
        let run = |way: &str, direction: &str, bytes| Run {
            way: way.into(),
            direction: direction.into(),
            seen: Measured { card_bytes: bytes, ..Measured::default() },
        };
        let results = Results {
            payload: Payload { deb_bytes: 100, installed_bytes: 300 },
            window_s: 5,
            rows: 1,
            runs: vec![run("a", "upgrade", 400), run("a", "back", 0), run("b", "upgrade", 800), run("b", "back", 0)],
        };
        let text = results.tables();
        assert!(text.contains("| Upgrade | a | b |\n|---|---:|---:|\n"), "{text}");
        assert!(text.contains("| card / .deb | 4.00 | 8.00 |"), "{text}");
        assert!(text.contains("| card / (.deb + its files) | 1.00 | 2.00 |"), "{text}");
        assert!(text.contains("| wanted version answers, s | | |"), "{text}");
    }
}
