//! What the senses see: the sensors, their readings, and what is looked at in this moment.

use super::Answer;
use crate::clock;
use crate::core::Core;
use crate::core::refuse::Refusal;
use crate::core::senses::observe;
use crate::senses::World;
use crate::wire::readings::{Neighbour, Observation, Reading, Readings, Sensor, Sensors, Socket, Unit};
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use smolotchi_operator::{Code, Fault};
use std::sync::Arc;

/// The readings of an answer without a limit, and the most.
const USUAL: u32 = 1000;
const MOST: u32 = 10_000;
const DAY_MS: i64 = 24 * 3600 * 1000;

/// For everyone to read.
pub(super) fn routes() -> Router<Arc<Core>> {
    Router::new()
        .route("/v1/sensors", get(sensors))
        .route("/v1/readings", get(readings))
        .route("/v1/observations/neighbours", get(neighbours))
        .route("/v1/observations/sockets", get(sockets))
        .route("/v1/observations/units", get(units))
}

async fn sensors(State(core): State<Arc<Core>>) -> Json<Sensors> {
    let memory = core.senses.memory();
    let shown = memory.newest().map(|sensor| Sensor {
        name: sensor.name.to_owned(),
        provider: sensor.provider.to_owned(),
        unit: sensor.unit.to_owned(),
        absent: sensor.absent.map(ToOwned::to_owned),
        value: sensor.newest.map(|(_, value)| value.clone()),
        at: sensor.newest.map(|(at_ms, _)| clock::rfc3339(*at_ms)),
    });
    Json(Sensors { sensors: shown.collect() })
}

/// A query of `GET /v1/readings`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    sensor: String,
    since: Option<String>,
    limit: Option<u32>,
}

async fn readings(
    State(core): State<Arc<Core>>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Answer<Readings> {
    let Query(wanted) = wanted.map_err(|error| refused("expected", "sensor=NAME, since=RFC3339 and limit=N").cause(&error))?;
    let since_ms = match &wanted.since {
        Some(since) => since.parse::<jiff::Timestamp>().map_err(|error| refused("since", since).cause(&error))?.as_millisecond(),
        None => clock::now_ms().saturating_sub(DAY_MS),
    };
    let limit = wanted.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(refused("expected", &format!("limit=1 to limit={MOST}")).into());
    }
    let series = core.readings(wanted.sensor.clone(), since_ms, limit).await?;
    let series = series.ok_or_else(|| -> Refusal {
        Fault::new(Code::CoreNotFound, "there is no such sensor").fact("sensor", wanted.sensor.as_str()).into()
    })?;
    let readings = series.readings.into_iter().map(|(at_ms, value)| Reading { at: clock::rfc3339(at_ms), value });
    Ok(Json(Readings { sensor: wanted.sensor, unit: series.unit, readings: readings.collect() }))
}

async fn neighbours(State(core): State<Arc<Core>>) -> Answer<Observation<Neighbour>> {
    Ok(Json(observe(&core, World::neighbours).await?))
}

async fn sockets(State(core): State<Arc<Core>>) -> Answer<Observation<Socket>> {
    Ok(Json(observe(&core, World::sockets).await?))
}

async fn units(State(core): State<Arc<Core>>) -> Answer<Observation<Unit>> {
    Ok(Json(observe(&core, World::units).await?))
}

fn refused(name: &str, fact: &str) -> Fault {
    Fault::new(Code::CoreRequest, "the query is not understood").fact(name, fact)
}
