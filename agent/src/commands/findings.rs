//! `smolotchi findings`: what was found, and where it stands.

use super::explain;
use crate::ai::escaped;
use crate::cli::{FindingState, FindingsVerb};
use crate::client::{Client, block_on};
use crate::paths::Paths;
use crate::wire::{Finding, Findings};
use smolotchi_operator::output::{columns, emit};
use smolotchi_operator::{Exit, Format, Result, Table};

impl Table for Findings {
    fn table(&self) -> String {
        let row = |finding: &Finding| {
            let state = explain::state_word(finding.state).to_owned();
            vec![finding.id.to_string(), state, finding.severity.as_str().to_owned(), finding.last_at.clone(), finding.title.clone()]
        };
        if self.findings.is_empty() {
            return format!("nothing to show; {} are open\n", self.open);
        }
        columns(&self.findings.iter().map(row).collect::<Vec<_>>())
    }
}

/// Runs the verb.
pub(crate) fn run(paths: &Paths, format: Format, verb: FindingsVerb) -> Result<Exit> {
    let FindingsVerb::List { state, all, profile, severity, search, limit } = verb else {
        let FindingsVerb::Show { id } = verb else { return Ok(Exit::Success) };
        return explain::run(paths, format, id);
    };
    let mut path = format!("/v1/findings?limit={limit}");
    let state = match state {
        FindingState::Open => "open",
        FindingState::Expected => "expected",
        FindingState::Gone => "gone",
    };
    let severity = severity.map(|severity| super::events::severity_of(severity).as_str().to_owned());
    let filters = [("state", (!all).then(|| state.to_owned())), ("profile", profile), ("severity", severity), ("search", search)];
    for (name, value) in filters.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        path.push_str(&format!("&{name}={}", escaped(&value)));
    }
    emit(format, &block_on(Client::new(paths.socket()).get::<Findings>(&path))?);
    Ok(Exit::Success)
}
