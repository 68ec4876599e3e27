//! What the senses read: each sensor with its newest value and its last day as a line; one sensor with its values.

use super::super::asked::{Asked, address};
use super::super::part::{Part, part};
use super::super::routes::Site;
use super::spark::spark;
use super::words::{reading, time};
use super::{Looked, Page, nothing_like, search, table};
use crate::clock;
use crate::wire::readings::{Lines, Readings as Series, Sensor, Sensors, Value};
use axum::http::StatusCode;
use maud::{Markup, html};
use serde::Serialize;
use std::collections::BTreeMap;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Values of one sensor on its own page.
const VALUES: &str = "500";
/// Values that its table shows.
const MAX_VALUES: usize = 100;

/// The sensors, and what they read since yesterday.
#[derive(Debug, Serialize)]
pub(in super::super) struct Readings {
    #[serde(flatten)]
    sensors: Part<Sensors>,
    /// All sensors' day.
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<Part<Lines>>,
    /// One sensor's values.
    #[serde(skip_serializing_if = "Option::is_none")]
    one: Option<Part<Series>>,
    #[serde(skip)]
    now_ms: i64,
}

impl Page for Readings {
    const SECTION: &'static str = "/readings";
    const RELOADS: bool = false;

    /// One sensor's page has no search.
    fn reloads(&self) -> bool {
        self.one.is_some()
    }

    async fn look(site: &Site, asked: &Asked) -> Looked<Self> {
        let now_ms = clock::now_ms();
        let mut sensors: Part<Sensors> = part(&site.core, "/v1/sensors").await?;
        let (mut day, mut one) = (None, None);
        if let Some(name) = asked.filter("sensor") {
            if let Part::Here(sensors) = &mut sensors {
                sensors.sensors.retain(|sensor| sensor.name == name);
            }
            let since = clock::rfc3339(now_ms - DAY_MS);
            let call = address("/v1/readings", [("sensor", name), ("since", since.as_str()), ("limit", VALUES)].into_iter());
            one = Some(part(&site.core, &call).await?);
        } else {
            let mut lines: Part<Lines> = part(&site.core, "/v1/lines").await?;
            if let (Some(letters), Part::Here(sensors)) = (asked.filter("search"), &mut sensors) {
                sensors.sensors.retain(|sensor| has(sensor, letters));
                if let Part::Here(lines) = &mut lines {
                    lines.lines.retain(|line| sensors.sensors.iter().any(|sensor| sensor.name == line.sensor));
                }
            }
            day = Some(lines);
        }
        Ok(Readings { sensors, day, one, now_ms })
    }

    fn title(&self) -> String {
        "Readings".to_owned()
    }

    fn status(&self) -> StatusCode {
        self.one.as_ref().map_or(StatusCode::OK, Part::status)
    }

    fn main(&self, asked: &Asked) -> Markup {
        match (&self.one, asked.filter("sensor")) {
            (Some(series), Some(name)) => self.one(asked, name, series),
            _ => html! {
                h1 { "Readings" }
                p.soft { "Each line is the last 24 hours. Only changes are kept." }
                (search(asked, &[("search", "Name, or why there is none", &[], "temperature")]))
                @match &self.sensors {
                    Part::Here(sensors) if sensors.sensors.is_empty() && asked.filter("search").is_some() => section { h2.hidden { "Sensors" } (nothing_like("sensor", None)) },
                    Part::Here(sensors) if sensors.sensors.is_empty() => section { h2.hidden { "Sensors" } p { "No sensor was read yet. Core looks by itself, a first time some seconds after it was started." } },
                    Part::Here(sensors) => (self.all(asked, &sensors.sensors)),
                    absent => section { h2.hidden { "Sensors" } (absent.show(|_| html! {})) },
                }
            },
        }
    }
}

impl Readings {
    /// The sensors by the first word of their names; those without a reading in a list of their own, by reason.
    fn all(&self, asked: &Asked, sensors: &[Sensor]) -> Markup {
        let group = |sensor: &Sensor| sensor.name.split('.').next().unwrap_or_default().to_owned();
        let (absent, here): (Vec<&Sensor>, Vec<&Sensor>) = sensors.iter().partition(|sensor| sensor.absent.is_some());
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for sensor in absent {
            reasons.entry(sensor.absent.as_deref().unwrap_or_default()).or_default().push(&sensor.name);
        }
        html! {
            @for sensors in here.chunk_by(|a, b| group(a) == group(b)) {
                section {
                    h2 { (sensors.first().map(|sensor| group(sensor)).unwrap_or_default()) }
                    ul.sensors {
                        @for sensor in sensors {
                            li {
                                p.name { a href=(asked.with("sensor", Some(&sensor.name))) { (sensor.name) } }
                                p.value { (value(sensor)) }
                                (self.line_of(sensor))
                            }
                        }
                    }
                }
            }
            @if !reasons.is_empty() {
                section {
                    h2 { "Absent" }
                    dl.facts { @for (reason, names) in reasons { div { dt { (reason) } dd { (names.join(", ")) } } } }
                }
            }
        }
    }

    fn line_of(&self, sensor: &Sensor) -> Markup {
        let Some(Part::Here(day)) = &self.day else { return html! {} };
        let line = day.lines.iter().find(|line| line.sensor == sensor.name);
        html! { @if let Some(line) = line { (spark(&sensor.name, &sensor.unit, &line.points, day.from_ms, day.to_ms)) } }
    }

    fn line(&self, series: &Series) -> Markup {
        let number = |value: &Value| if let Value::Number(number) = value { Some(*number) } else { None };
        let points: Vec<_> = series.readings.iter().filter_map(|reading| Some((ms(&reading.at)?, number(&reading.value)?))).collect();
        spark(&series.sensor, &series.unit, &points, self.now_ms - DAY_MS, self.now_ms)
    }

    fn one(&self, asked: &Asked, name: &str, series: &Part<Series>) -> Markup {
        let sensor = self.sensors.here().and_then(|sensors| sensors.sensors.first());
        html! {
            p.crumbs { a href=(asked.to("/readings")) { "Readings" } " / " (name) }
            section.answer {
                h1 { (name) }
                @match sensor {
                    Some(sensor) => p.value { (value(sensor)) @if let Some(at) = &sensor.at { " " span.soft { (time(at)) } } },
                    None => p { "There is no sensor of this name." },
                }
            }
            section {
                h2 { "The last 24 hours" }
                (series.show(|series| html! {
                    @if series.readings.is_empty() { p { "Nothing was kept in this time." } }
                    @else {
                        @if series.readings.iter().any(|reading| matches!(reading.value, Value::Number(_))) { div.wide { (self.line(series)) } }
                        (table("Changes, newest first", &["Time", "Value"], series.readings.iter().rev().take(MAX_VALUES).map(|one| vec![time(&one.at), html! { (reading(&one.value, &series.unit)) }])))
                    }
                }))
            }
        }
    }
}

/// Whether a sensor's name, or the reason why it has no value, has these letters, whatever their case.
fn has(sensor: &Sensor, letters: &str) -> bool {
    let letters = letters.to_lowercase();
    [Some(&sensor.name), sensor.absent.as_ref()].into_iter().flatten().any(|text| text.to_lowercase().contains(&letters))
}

fn value(sensor: &Sensor) -> Markup {
    html! {
        @match (&sensor.value, &sensor.absent) {
            (_, Some(why)) => span.soft { "absent: " (why) },
            (Some(value), None) => (reading(value, &sensor.unit)),
            (None, None) => span.soft { "not read yet" },
        }
    }
}

fn ms(rfc3339: &str) -> Option<i64> {
    rfc3339.parse::<jiff::Timestamp>().ok().map(|time| time.as_millisecond())
}
