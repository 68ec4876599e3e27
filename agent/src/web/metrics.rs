//! The figures for a monitoring system, in Prometheus' text format (exposition format 0.0.4). Pure.

use crate::release::VERSION;
use crate::wire::readings::{Sensor, Value};
use crate::wire::{Now, Verdict};
use std::fmt::Write;

/// The media type that scrapers expect.
pub(super) const MEDIA: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One figure: its name without the prefix, its kind, what it is, and its samples by labels.
type Family<'a> = (&'a str, &'a str, &'a str, Vec<(Vec<(&'a str, &'a str)>, f64)>);

/// The whole answer. Without core it still says that core is away: a scrape that fails would look like a dead machine.
pub(super) fn metrics(now: Option<&Now>, sensors: &[Sensor]) -> String {
    let mut text = String::new();
    let mut put = |family: Family<'_>| write_family(&mut text, &family);
    put(("web_info", "gauge", "The page's version.", vec![(vec![("version", VERSION)], 1.0)]));
    put(("core_up", "gauge", "1 when core answers.", vec![(vec![], f64::from(u8::from(now.is_some())))]));
    let Some(now) = now else { return text };

    let schema = now.status.schema.to_string();
    put(("core_info", "gauge", "Core's version and schema.", vec![(vec![("version", &now.status.version), ("schema", &schema)], 1.0)]));
    let one = |value: f64| vec![(vec![], value)];
    put(("uptime_seconds", "gauge", "How long core has been running.", one(now.status.uptime_s as f64)));
    put(("healthy", "gauge", "1 when every check is ok.", one(f64::from(u8::from(now.health.verdict == Verdict::Healthy)))));
    let checks = now
        .health
        .checks
        .iter()
        .filter(|check| !check.unknown)
        .map(|check| (vec![("check", check.name.as_str())], f64::from(u8::from(check.ok))));
    put(("health_check", "gauge", "1 when this check is ok.", checks.collect()));
    let powers =
        now.status.powers.iter().map(|power| (vec![("unit", power.unit.as_str()), ("capability", power.capability.as_str())], 1.0));
    put(("power_on", "gauge", "1 for each service with a capability that the operator has turned on.", powers.collect()));
    put(("events_total", "counter", "Events ever appended.", one(now.status.events.newest_id.unwrap_or_default() as f64)));
    put(("events_stored", "gauge", "Events in the database.", one(now.status.events.total as f64)));
    put(("database_bytes", "gauge", "The database's size.", one(now.status.database.bytes as f64)));
    if let Some(figures) = &now.figures {
        let by = |label, counts: &'_ std::collections::BTreeMap<String, u64>| -> Vec<(Vec<(&str, String)>, f64)> {
            counts.iter().map(|(name, count)| (vec![(label, name.clone())], *count as f64)).collect()
        };
        let (jobs, findings, open) = (by("state", &figures.jobs), by("state", &figures.findings), by("severity", &figures.open));
        put(("jobs", "gauge", "Jobs by state.", borrowed(&jobs)));
        put(("findings", "gauge", "Findings by state.", borrowed(&findings)));
        put(("findings_open", "gauge", "Open findings by severity.", borrowed(&open)));
        put(("stages_pending", "gauge", "Stage requests that wait for a decision.", one(figures.stages_pending as f64)));
        put(("artifacts_damaged", "gauge", "Artifacts that are not what was put.", one(figures.artifacts_damaged as f64)));
    }
    let number = |sensor: &Sensor| if let Some(Value::Number(number)) = sensor.value { Some(number) } else { None };
    let readings =
        sensors.iter().filter_map(|sensor| Some((vec![("sensor", sensor.name.as_str()), ("unit", sensor.unit.as_str())], number(sensor)?)));
    put(("reading", "gauge", "The newest value of each sensor that reads a number.", readings.collect()));
    text
}

fn borrowed<'a>(samples: &'a [(Vec<(&'a str, String)>, f64)]) -> Vec<(Vec<(&'a str, &'a str)>, f64)> {
    samples.iter().map(|(labels, value)| (labels.iter().map(|(name, value)| (*name, value.as_str())).collect(), *value)).collect()
}

fn write_family(text: &mut String, (name, kind, help, samples): &Family<'_>) {
    if samples.is_empty() {
        return;
    }
    // Writing to a string can't fail.
    let _ = writeln!(text, "# HELP smolotchi_{name} {help}\n# TYPE smolotchi_{name} {kind}");
    for (labels, value) in samples {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let value = if value.is_finite() { value.to_string() } else { "NaN".to_owned() };
        let _ = writeln!(text, "smolotchi_{name}{labels} {value}");
    }
}

/// A label's value: backslash, quote and line feed are escaped, other control characters don't belong there.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_break_out() {
        let sensor = |name: &str, value| Sensor {
            name: name.into(),
            provider: "p".into(),
            unit: "C".into(),
            absent: None,
            value: Some(value),
            at: None,
        };
        let sensors =
            [sensor("a\"} 1\nevil 2\\", Value::Number(1.5)), sensor("t", Value::Text("x".into())), sensor("n", Value::Number(f64::NAN))];
        let now = serde_json::from_value(serde_json::json!({
            "status": {"version": "1\"", "schema": 3, "uptime_s": 61, "heartbeat_seq": 2, "events": {"total": 1, "newest_id": 1, "newest_at": null}, "database": {"bytes": 4096}, "started_at": ""},
            "health": {"verdict": "healthy", "checks": []}, "events": [], "severe": []}))
        .unwrap();
        let text = metrics(Some(&now), &sensors);
        assert!(text.contains("smolotchi_reading{sensor=\"a\\\"} 1\\nevil 2\\\\\",unit=\"C\"} 1.5\n"), "{text}");
        assert!(text.contains("{sensor=\"n\",unit=\"C\"} NaN\n") && !text.contains("\"t\"") && !text.contains("health_check"), "{text}");
        assert!(metrics(None, &[]).ends_with("smolotchi_core_up 0\n"));
    }
}
