//! What the two services with a capability are asked and what they tell, by core and by the worker through core.

use serde::{Deserialize, Serialize};

/// A service with a capability that the operator has turned on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Power {
    /// The unit that turns it on and off.
    pub(crate) unit: String,
    /// What it may.
    pub(crate) capability: String,
    /// The interfaces that the configuration names for it.
    pub(crate) interfaces: Vec<String>,
}

/// What core asks the service arp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    /// Where.
    pub(crate) interface: String,
    /// How long.
    pub(crate) seconds: u64,
}

/// Somebody who spoke ARP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heard {
    /// Where.
    pub(crate) interface: String,
    /// Its IPv4 address, by its own word.
    pub(crate) address: String,
    /// Its link address, by its own word.
    pub(crate) link: String,
}

/// What core asks the service net.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Operate {
    /// One of its table.
    pub(crate) operation: String,
    /// Where.
    pub(crate) interface: String,
}

/// What the service net did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operated {
    /// What.
    pub(crate) operation: String,
    /// Where.
    pub(crate) interface: String,
    /// What the kernel had forgotten and was put back: addresses, routes, and what somebody wrote into the neighbour table.
    pub(crate) put_back: u32,
    /// Of that, what could not be put back, and why.
    pub(crate) lost: Vec<String>,
    /// The link did not come up while somebody waited.
    #[serde(default)]
    pub(crate) down: bool,
    /// Entries of the neighbour table that were removed.
    pub(crate) removed: u32,
}

/// `POST /v1/observations/arp`, by the worker, with the token of its job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenFor {
    /// Of the job's lease.
    pub(crate) token: String,
    /// The job.
    pub(crate) job_id: i64,
    /// Where.
    pub(crate) interface: String,
    /// How long.
    pub(crate) seconds: u64,
}

/// `POST /v1/network`, by the worker: does what an approved stage request says, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeNetwork {
    /// Of the lease of the request's job.
    pub(crate) token: String,
    /// The request.
    pub(crate) stage_id: i64,
    /// Where; the request's words name it.
    pub(crate) interface: String,
}
