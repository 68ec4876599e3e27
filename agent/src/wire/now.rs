//! Everything that says in one answer how the machine is: for the first page and for metrics.

use super::{Event, Finding, Health, Job, Stage, Status};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /v1/now`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Now {
    /// As `GET /v1/status`.
    pub(crate) status: Status,
    /// As `GET /v1/health`.
    pub(crate) health: Health,
    /// The newest events, newest first.
    pub(crate) events: Vec<Event>,
    /// The newest warnings and errors, newest first.
    pub(crate) severe: Vec<Event>,
    /// `None` in a release that has neither jobs nor findings.
    pub(crate) figures: Option<Figures>,
    /// The newest open findings.
    #[serde(default)]
    pub(crate) findings: Option<Vec<Finding>>,
    /// The newest stage requests that wait for a decision.
    #[serde(default)]
    pub(crate) stages: Option<Vec<Stage>>,
    /// The newest jobs that failed.
    #[serde(default)]
    pub(crate) failed: Option<Vec<Job>>,
}

/// How many there are of each. Every state is there, also with 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Jobs by state.
    pub(crate) jobs: BTreeMap<String, u64>,
    /// Findings by state.
    pub(crate) findings: BTreeMap<String, u64>,
    /// Open findings by severity.
    pub(crate) open: BTreeMap<String, u64>,
    /// Stage requests that wait for a decision.
    pub(crate) stages_pending: u64,
    /// Artifacts that are not what was put.
    pub(crate) artifacts_damaged: u64,
}
