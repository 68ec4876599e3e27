//! What the senses read, as core tells it.

#![allow(dead_code, reason = "the parts that speak it come one by one")]

use serde::{Deserialize, Serialize};

/// A number or a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Value {
    /// A number, in the sensor's unit.
    Number(f64),
    /// A text, such as an address or a state.
    Text(String),
}

/// One sensor with its newest reading. `GET /v1/sensors`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sensor {
    /// Such as `system.memory.available`.
    pub(crate) name: String,
    /// The provider: `system`, `network`, `units`, `time`.
    pub(crate) provider: String,
    /// `%`, `C`, `B`, `B/s`, `count`, `s`; empty for a text.
    pub(crate) unit: String,
    /// Why there is nothing to read.
    pub(crate) absent: Option<String>,
    /// The newest value.
    pub(crate) value: Option<Value>,
    /// When it was read, RFC 3339.
    pub(crate) at: Option<String>,
}

/// `GET /v1/sensors`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sensors {
    /// By name.
    pub(crate) sensors: Vec<Sensor>,
}

/// One stored value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// RFC 3339.
    pub(crate) at: String,
    /// The value.
    pub(crate) value: Value,
}

/// The readings of one sensor, oldest first. `GET /v1/readings?sensor=NAME&since=RFC3339&limit=N`: the newest `limit` of
/// them, with those that are not on the disk yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Readings {
    /// The sensor.
    pub(crate) sensor: String,
    /// Its unit.
    pub(crate) unit: String,
    /// Oldest first.
    pub(crate) readings: Vec<Reading>,
}
