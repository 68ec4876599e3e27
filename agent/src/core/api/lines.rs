//! The last hours of all sensors at once, as few points as a small picture shows.

use super::Answer;
use crate::clock;
use crate::core::Core;
use crate::wire::readings::{Line, Lines, Value};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use smolotchi_store::StoreError;
use std::sync::Arc;

/// What is told: the last day, in so many columns.
const SPAN_MS: i64 = 24 * 3600 * 1000;
const COLUMNS: u32 = 96;

/// For everyone to read.
pub(super) fn routes() -> Router<Arc<Core>> {
    Router::new().route("/v1/lines", get(lines))
}

async fn lines(State(core): State<Arc<Core>>) -> Answer<Lines> {
    let to_ms = clock::now_ms();
    let from_ms = to_ms.saturating_sub(SPAN_MS);
    let stored = core.store(move |store| match store.lines(from_ms, to_ms, COLUMNS) {
        Err(StoreError::NotInSchema { .. }) => Ok(Default::default()),
        other => other,
    });
    let mut stored = stored.await?;
    let memory = core.senses.memory();
    let lines = memory.newest().filter_map(|sensor| {
        let mut points = stored.remove(sensor.name).unwrap_or_default();
        // Those that are not on the disk yet.
        let waiting = memory.waiting(sensor.name).into_iter().flat_map(|(_, readings)| readings);
        points.extend(waiting.filter_map(|(at_ms, value)| match value {
            Value::Number(number) if at_ms >= from_ms => Some((at_ms, number)),
            _ => None,
        }));
        // A clock that jumped back may have put a later reading before an earlier one.
        points.sort_by_key(|(at_ms, _)| *at_ms);
        (!points.is_empty()).then(|| Line { sensor: sensor.name.to_owned(), points })
    });
    Ok(Json(Lines { from_ms, to_ms, lines: lines.collect() }))
}
