//! `smolotchi doctor`: the operator's checklist.

use crate::doctor::{self, Check, State};
use crate::paths::Paths;
use serde::Serialize;
use smolotchi_operator::output::emit;
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table};

/// The checklist with its outcome.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The worst state of all.
    verdict: State,
    checks: Vec<Check>,
}

impl Report {
    /// Looks at everything.
    pub(super) fn new(paths: &Paths, security: bool) -> Self {
        let checks = doctor::examine(paths, security);
        Report { verdict: checks.iter().map(|check| check.state).max().unwrap_or(State::Unknown), checks }
    }
}

impl Table for Report {
    fn table(&self) -> String {
        let mut text = String::new();
        let mut part = "";
        for check in &self.checks {
            if check.part != part {
                part = check.part;
                text.push_str(&format!("{part}\n"));
            }
            let state = match check.state {
                State::Ok => "ok",
                State::Unknown => "unknown",
                State::Warning => "warning",
                State::Failed => "FAILED",
            };
            text.push_str(&format!("  {state:<8} {}: {}\n", check.name, check.detail));
            if let Some(hint) = &check.hint {
                text.push_str(&format!("           {hint}\n"));
            }
        }
        let count = |state| self.checks.iter().filter(|check| check.state == state).count();
        let (failed, warnings, unknown) = (count(State::Failed), count(State::Warning), count(State::Unknown));
        text + &format!("{} checks: {failed} failed, {warnings} warnings, {unknown} unknown\n", self.checks.len())
    }
}

/// Prints the checklist. Exit 0 if nothing failed, else `doctor.failed` (10).
pub(crate) fn run(paths: &Paths, format: Format, security: bool) -> Result<Exit> {
    let report = Report::new(paths, security);
    emit(format, &report);
    let failed: Vec<_> = report.checks.iter().filter(|check| check.state == State::Failed).map(|check| check.name.as_str()).collect();
    if failed.is_empty() {
        return Ok(Exit::Success);
    }
    Err(Fault::new(Code::DoctorFailed, "something on this machine is not as it should be").fact("failed", failed.join(", ")))
}
