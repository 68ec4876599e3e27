//! `smolotchi prune`: asks core to apply the configured retention. Run every day by smolotchi-prune.timer.

use crate::client::{Client, block_on};
use crate::config;
use crate::paths::Paths;
use crate::wire::{Retained, Retention};
use serde::Serialize;
use smolotchi_operator::output::emit;
use smolotchi_operator::{Exit, Format, Result, Table};

/// What was done, and by which policy.
#[derive(Debug, Serialize)]
struct Pruned {
    dry_run: bool,
    max_events: Option<u64>,
    max_age_days: Option<u32>,
    #[serde(flatten)]
    retained: Retained,
}

impl Table for Pruned {
    fn table(&self) -> String {
        let Retained { deleted, kept } = self.retained;
        let verb = if self.dry_run { "would remove" } else { "removed" };
        let limit =
            |limit: Option<String>, unit: &str| limit.map_or_else(|| format!("any number of {unit}"), |limit| format!("{limit} {unit}"));
        let events = limit(self.max_events.map(|limit| limit.to_string()), "events");
        let days = limit(self.max_age_days.map(|limit| limit.to_string()), "days");
        format!("{verb} {deleted} events, {kept} stay (policy: {events}, {days})\n")
    }
}

/// Applies the policy, or with `dry_run` says what it would do.
pub(crate) fn run(paths: &Paths, format: Format, dry_run: bool) -> Result<Exit> {
    smolotchi_operator::log::role("prune");
    let policy = config::load(paths)?.retention;
    let request = Retention { max_events: policy.max_events, max_age_days: policy.max_age_days, dry_run };
    let retained = block_on(Client::new(paths.socket()).post("/v1/retention", &request))?;
    emit(format, &Pruned { dry_run, max_events: policy.max_events, max_age_days: policy.max_age_days, retained });
    Ok(Exit::Success)
}
