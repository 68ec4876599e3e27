//! The registry: every action that a profile may name. Nothing else can be done by a run, and nothing here sends a packet of its own.
//!
//! An action looks (impure: asks core or reads files; its answer is recorded) and judges (pure: what was recorded becomes
//! findings). The same records always give the same findings, so a judge must not ask for the time, a file or anything else.

mod arp;
mod artifacts;
mod disk;
mod drift;
mod neighbours;
mod network;
mod packages;
mod snapshot;
mod sockets;
mod units;

use super::look::Look;
use super::policy::Network;
use crate::powers::Power;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use smolotchi_operator::Result;
use smolotchi_store::Severity;

/// How much an action can do, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Risk {
    /// Only looks at what this machine knows anyway.
    Passive,
    /// Also writes into the agent's own state.
    Record,
    /// Also changes the machine's network.
    Change,
    /// Sends something to others. No action of this release does.
    Active,
}

impl Risk {
    /// Every class, least first.
    pub(crate) const ALL: [Risk; 4] = [Risk::Passive, Risk::Record, Risk::Change, Risk::Active];

    /// The word used in profiles, plans and settings.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Risk::Passive => "passive",
            Risk::Record => "record",
            Risk::Change => "change",
            Risk::Active => "active",
        }
    }
}

/// What a parameter's value must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A whole number within these limits.
    Integer {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
        /// When it is not given.
        usual: i64,
    },
    /// One of the interfaces of a service with a capability, which are none as shipped; without it, the only one.
    Interface(Power),
    /// Network interfaces; without it, all that the policy allows.
    Interfaces,
    /// Networks; without it, all that the policy allows.
    Networks,
}

impl Kind {
    /// Whether this value fits.
    pub(crate) fn takes(self, value: &Value) -> bool {
        let each = |fit: fn(&str) -> bool| value.as_array().is_some_and(|items| items.iter().all(|item| item.as_str().is_some_and(fit)));
        match self {
            Kind::Integer { min, max, .. } => value.as_i64().is_some_and(|number| (min..=max).contains(&number)),
            Kind::Interface(_) => value.as_str().is_some_and(super::policy::is_interface),
            Kind::Interfaces => each(super::policy::is_interface),
            Kind::Networks => each(|text| Network::parse(text).is_some()),
        }
    }

    /// What was expected, in words.
    pub(crate) fn expected(self) -> String {
        match self {
            Kind::Integer { min, max, .. } => format!("a whole number from {min} to {max}"),
            Kind::Interface(_) => "an interface such as \"eth0\"".to_owned(),
            Kind::Interfaces => "a list of interfaces such as [\"eth0\"]".to_owned(),
            Kind::Networks => "a list of networks such as [\"198.51.100.0/24\"]".to_owned(),
        }
    }
}

/// One parameter of an action.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    /// Its name.
    pub(crate) name: &'static str,
    /// What its value must be.
    pub(crate) kind: Kind,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    /// What makes it the same thing when it is found again; begins with the action's `keys`.
    pub(crate) key: String,
    /// One sentence.
    pub(crate) title: String,
    /// How serious it is.
    pub(crate) severity: Severity,
    /// The facts, an object.
    pub(crate) detail: Value,
}

/// One action.
pub(crate) struct Action {
    /// Its name.
    pub(crate) name: &'static str,
    /// What the keys of its findings begin with, before the first `/`.
    pub(crate) keys: &'static str,
    /// How much it can do.
    pub(crate) risk: Risk,
    /// One sentence.
    pub(crate) about: &'static str,
    /// What it can be told.
    pub(crate) parameters: &'static [Parameter],
    /// What was recorded becomes findings. Called only with an observation that says `"available": true`; if it names `unseen` paths,
    /// what was found below them before stays as it is.
    pub(crate) judge: fn(&Map<String, Value>, &Value) -> Vec<Found>,
}

/// Every action.
pub(crate) const ALL: &[&Action] = &[
    &arp::ACTION,
    &artifacts::ACTION,
    &drift::ACTION,
    &snapshot::ACTION,
    &disk::ACTION,
    &units::ACTION,
    &network::RESTART,
    &sockets::ACTION,
    &neighbours::ACTION,
    &network::FLUSH,
    &packages::ACTION,
];

/// The action of this name.
pub(crate) fn find(name: &str) -> Option<&'static Action> {
    ALL.iter().copied().find(|action| action.name == name)
}

/// The action whose findings have keys such as this one.
pub(crate) fn of_key(key: &str) -> Option<&'static Action> {
    let keys = key.split('/').next().unwrap_or_default();
    ALL.iter().copied().find(|action| action.keys == keys)
}

/// All names, for errors.
pub(crate) fn names() -> String {
    ALL.iter().map(|action| action.name).collect::<Vec<_>>().join(", ")
}

/// Looks: what an action sees, or `{"available": false, "reason"}`. An error is one of the run, not of what is looked at.
pub(crate) async fn look(action: &Action, parameters: &Map<String, Value>, look: &Look<'_>) -> Result<Value> {
    match action.name {
        "arp-listen" => arp::look(look, parameters).await,
        "artifact-verification" => artifacts::look(look).await,
        "configuration-drift" => drift::look(look),
        "configuration-snapshot" => snapshot::look(look).await,
        "disk-forecast" => disk::look(look).await,
        "failed-units" => look.observation("units").await,
        "link-restart" | "neighbours-flush" => network::look(look, parameters).await,
        "listening-sockets" => look.observation("sockets").await,
        "neighbours" => neighbours::look(look, parameters).await,
        "package-updates" => packages::look(look).await,
        other => Ok(absent(&format!("this release has no action {other}"))),
    }
}

/// What is recorded when there is nothing to look at.
pub(crate) fn absent(reason: &str) -> Value {
    serde_json::json!({ "available": false, "reason": reason })
}

/// A text of an observation, on one line and of a bounded length; empty if there is none. What is observed may be anything.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().filter(|c| !c.is_control()).take(120).collect()
}

/// The beginnings of keys of what an action, although it looked, could not see: below the `unseen` paths of its observation.
pub(crate) fn unseen(action: &Action, observation: &Value) -> Vec<String> {
    let paths = observation["unseen"].as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(Value::as_str);
    let keys = |path: &str| format!("{}{}/", action.keys, path.trim_end_matches('/'));
    paths.filter(|path| path.starts_with('/')).map(keys).collect()
}

/// The `items` of an observation.
pub(crate) fn items(observation: &Value) -> &[Value] {
    observation["items"].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_keys_are_unique_and_sorted() {
        let names: Vec<_> = ALL.iter().map(|action| action.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        let mut keys: Vec<_> = ALL.iter().map(|action| action.keys).collect();
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
        assert!(ALL.iter().all(|action| super::super::profile::is_name(action.name) && !action.keys.contains('/')));
    }

    #[test]
    fn nothing_sends_a_packet() {
        assert!(ALL.iter().all(|action| action.risk < Risk::Active));
        // What changes the network can't be allowed without asking.
        let changing: Vec<_> = ALL.iter().filter(|action| action.risk == Risk::Change).map(|action| action.name).collect();
        assert_eq!(changing, ["link-restart", "neighbours-flush"]);
        assert!(!crate::ai::policy::is_risk("change") && crate::ai::policy::is_risk("record"));
    }
}
