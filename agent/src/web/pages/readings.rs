//! What the senses read: each sensor with its newest value and its last day as a line; one sensor with its values.

use super::super::asked::{Asked, address};
use super::super::part::{Part, part};
use super::super::routes::Site;
use super::spark::spark;
use super::words::{reading, time};
use super::{Looked, Page, table};
use crate::clock;
use crate::wire::readings::{Readings as Series, Sensor, Sensors, Value};
use axum::http::StatusCode;
use maud::{Markup, html};
use serde::Serialize;
use std::collections::BTreeMap;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// The most lines on one page; sensors beyond it are shown without.
const MAX_LINES: usize = 48;
/// Values of one sensor that a line is made from.
const LINE: &str = "240";
/// Values of one sensor on its own page.
const VALUES: &str = "500";
/// Values that its table shows.
const MAX_VALUES: usize = 100;

/// The sensors, and what they read since yesterday.
#[derive(Debug, Serialize)]
pub(in super::super) struct Readings {
    #[serde(flatten)]
    sensors: Part<Sensors>,
    /// By sensor, those with numbers only.
    lines: BTreeMap<String, Series>,
    /// One sensor alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    one: Option<Part<Series>>,
    #[serde(skip)]
    now_ms: i64,
}

impl Page for Readings {
    const SECTION: &'static str = "/readings";
    const RELOADS: bool = true;

    async fn look(site: &Site, asked: &Asked) -> Looked<Self> {
        let now_ms = clock::now_ms();
        let since = clock::rfc3339(now_ms - DAY_MS);
        let call = |name: &str, limit| address("/v1/readings", [("sensor", name), ("since", since.as_str()), ("limit", limit)].into_iter());
        let mut sensors: Part<Sensors> = part(&site.core, "/v1/sensors").await?;
        let mut lines = BTreeMap::new();
        if let Some(name) = asked.filter("sensor") {
            if let Part::Here(sensors) = &mut sensors {
                sensors.sensors.retain(|sensor| sensor.name == name);
            }
            let one = Some(part(&site.core, &call(name, VALUES)).await?);
            return Ok(Readings { sensors, lines, one, now_ms });
        }
        let numbers =
            sensors.here().into_iter().flat_map(|sensors| &sensors.sensors).filter(|sensor| matches!(sensor.value, Some(Value::Number(_))));
        for sensor in numbers.take(MAX_LINES) {
            if let Part::Here(series) = part(&site.core, &call(&sensor.name, LINE)).await? {
                lines.insert(sensor.name.clone(), series);
            }
        }
        Ok(Readings { sensors, lines, one: None, now_ms })
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
                @match &self.sensors {
                    Part::Here(sensors) if sensors.sensors.is_empty() => section { h2.hidden { "Sensors" } p { "No sensor was read yet. Core looks by itself, a first time some seconds after it was started." } },
                    Part::Here(sensors) => @for group in sensors.sensors.chunk_by(|a, b| a.provider == b.provider) { (self.group(asked, group)) },
                    absent => section { h2.hidden { "Sensors" } (absent.show(|_| html! {})) },
                }
            },
        }
    }
}

impl Readings {
    fn group(&self, asked: &Asked, sensors: &[Sensor]) -> Markup {
        html! {
            section {
                h2 { (sensors.first().map(|sensor| sensor.provider.as_str()).unwrap_or_default()) }
                ul.sensors {
                    @for sensor in sensors {
                        li {
                            p.name { a href=(asked.with("sensor", Some(&sensor.name))) { (sensor.name) } }
                            p.value { (value(sensor)) }
                            @if let Some(series) = self.lines.get(&sensor.name) { (self.line(series)) }
                        }
                    }
                }
            }
        }
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
