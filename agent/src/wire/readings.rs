//! What the senses read, as core tells it.

use serde::{Deserialize, Serialize};
pub(crate) use smolotchi_store::ReadingValue as Value;

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

/// What the senses see at this moment: `GET /v1/observations/neighbours`, `/sockets` and `/units`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Observation<T> {
    /// When it was looked at, RFC 3339.
    pub(crate) at: String,
    /// Whether it could be looked at.
    pub(crate) available: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// What was seen, in a fixed order.
    #[serde(default = "Vec::new")]
    pub(crate) items: Vec<T>,
}

/// An entry of the kernel's neighbour table (ARP and NDP), without multicast and broadcast.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Neighbour {
    /// The interface's name.
    pub(crate) interface: String,
    /// Its IP address.
    pub(crate) address: String,
    /// Its link address, such as `02:00:5e:10:00:01`; `None` where the kernel doesn't know it.
    pub(crate) link: Option<String>,
    /// `reachable`, `stale`, `delay`, `probe`, `incomplete`, `failed`, `permanent`.
    pub(crate) state: String,
}

/// A socket that takes connections (TCP) or datagrams from anybody (UDP).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Socket {
    /// `tcp` or `udp`.
    pub(crate) proto: String,
    /// Where it listens: `0.0.0.0` and `::` are everywhere.
    pub(crate) address: String,
    /// Its port.
    pub(crate) port: u16,
    /// The user that opened it.
    pub(crate) uid: u32,
}

/// A unit that failed, or one of Smolotchi's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Unit {
    /// Such as `smolotchi-core.service`.
    pub(crate) name: String,
    /// systemd's words for it.
    pub(crate) description: String,
    /// `loaded`, `not-found`, `masked`, …
    pub(crate) load: String,
    /// `active`, `inactive`, `failed`, …
    pub(crate) active: String,
    /// `running`, `dead`, `listening`, …
    pub(crate) sub: String,
    /// How often systemd restarted it by itself, of Smolotchi's services.
    pub(crate) restarts: Option<u32>,
}

/// The last day of all sensors that read numbers. `GET /v1/lines`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lines {
    /// Where the day begins, milliseconds since 1970.
    pub(crate) from_ms: i64,
    /// Where it ends.
    pub(crate) to_ms: i64,
    /// By sensor.
    pub(crate) lines: Vec<Line>,
}

/// The last day of one sensor, thinned out so that no peak is lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// The sensor.
    pub(crate) sensor: String,
    /// Milliseconds since 1970 and value, oldest first; a value holds until the next one.
    pub(crate) points: Vec<(i64, f64)>,
}
