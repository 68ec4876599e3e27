//! The operator's checklist: what somebody who knows the machine would look at, one line each.
//!
//! Every part looks (files, systemd, dpkg, core) and then decides by a pure function of what it saw. It never changes
//! anything, and what can't be looked at is `unknown` with the reason, never silently well. Called by `smolotchi doctor` and for the
//! support bundle.

mod agent;
mod ask;
mod journal;
mod machine;
mod packages;
mod processes;
mod security;
mod units;

pub(crate) use ask::ask;
use ask::ask_here;
pub(crate) use units::names as unit_names;

use crate::paths::Paths;
use serde::Serialize;
use smolotchi_operator::exposure::Held;

/// How one check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// It could not be looked at; the detail says why.
    Unknown,
    /// Works, but somebody should know.
    Warning,
    /// Doesn't work as it should.
    Failed,
}

/// One line of the checklist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// Which part of the checklist.
    pub(crate) part: &'static str,
    /// What was looked at.
    pub(crate) name: String,
    /// How it ended.
    pub(crate) state: State,
    /// What was seen.
    pub(crate) detail: String,
    /// What to do; only where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// The figures, of a line of the part security.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exposure: Option<Held>,
}

impl Check {
    fn new(part: &'static str, name: impl Into<String>, state: State, detail: impl Into<String>) -> Self {
        Check { part, name: name.into(), state, detail: detail.into(), hint: None, exposure: None }
    }

    fn ok(part: &'static str, name: impl Into<String>, detail: impl Into<String>) -> Self {
        Check::new(part, name, State::Ok, detail)
    }

    fn unknown(part: &'static str, name: impl Into<String>, why: impl Into<String>) -> Self {
        Check::new(part, name, State::Unknown, why)
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The whole checklist; with `security`, also what is left open by each unit. Takes a second or two.
pub(crate) fn examine(paths: &Paths, with_security: bool) -> Vec<Check> {
    let mut checks = agent::look(paths);
    checks.extend(units::look(paths));
    checks.extend(processes::look(paths));
    checks.extend(journal::look(paths));
    checks.extend(machine::look(paths));
    checks.extend(packages::look(paths));
    checks.extend(security::look(paths, with_security));
    checks
}
