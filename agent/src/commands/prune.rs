//! `smolotchi prune`: asks core to apply the configured retention. Run every day by smolotchi-prune.timer.

use crate::client::{Client, block_on};
use crate::config;
use crate::paths::Paths;
use crate::wire::{Going, Retained, Retention};
use serde::Serialize;
use smolotchi_operator::output::emit;
use smolotchi_operator::{Exit, Format, Result, Table};

/// What was done, and by which policy.
#[derive(Debug, Serialize)]
struct Pruned {
    dry_run: bool,
    max_events: Option<u64>,
    max_age_days: Option<u32>,
    max_bytes: Option<u64>,
    min_free_mib: Option<u64>,
    #[serde(flatten)]
    retained: Retained,
}

impl Table for Pruned {
    fn table(&self) -> String {
        let Retained { deleted, kept, going, given_back, held_back } = &self.retained;
        let verb = if self.dry_run { "would remove" } else { "removed" };
        let limit =
            |limit: Option<String>, unit: &str| limit.map_or_else(|| format!("any number of {unit}"), |limit| format!("{limit} {unit}"));
        let events = limit(self.max_events.map(|limit| limit.to_string()), "events");
        let days = limit(self.max_age_days.map(|limit| limit.to_string()), "days");
        let mut text: String = going
            .iter()
            .map(|part| {
                let Going { kind, name, first_id, last_id, count, bytes, reason, ids } = part;
                let which = if ids.is_empty() { format!("{first_id} to {last_id}") } else { ranges(ids) };
                let part = if kind == name { kind.clone() } else { format!("{kind} {name}") };
                format!("{part}: {which}, {count} rows, {} KiB ({reason})\n", bytes / 1024)
            })
            .collect();
        let given = if *given_back == 0 { String::new() } else { format!(", {} KiB are free again", given_back / 1024) };
        text += &format!("{verb} {deleted} events, {kept} stay{given} (policy: {events}, {days})\n");
        if let Some(why) = held_back {
            text += &format!("{why}\n");
        }
        text
    }
}

/// Numbers in ascending order as people write them: `7 to 10, 12, 14 to 21`.
fn ranges(ids: &[i64]) -> String {
    let parts: Vec<_> = ids
        .chunk_by(|a, b| a + 1 == *b)
        .filter_map(|run| match (run.first()?, run.last()?) {
            (first, last) if first == last => Some(first.to_string()),
            (first, last) => Some(format!("{first} to {last}")),
        })
        .collect();
    parts.join(", ")
}

/// Applies the policy, or with `dry_run` says what it would do.
pub(crate) fn run(paths: &Paths, format: Format, dry_run: bool) -> Result<Exit> {
    smolotchi_operator::log::role("prune");
    let policy = config::load(paths)?.retention;
    let config::RetentionSettings { max_events, max_age_days, max_bytes, min_free_mib } = policy;
    let request = Retention { max_events, max_age_days, max_bytes, min_free_mib, dry_run };
    let retained = block_on(Client::new(paths.socket()).post("/v1/retention", &request))?;
    emit(format, &Pruned { dry_run, max_events, max_age_days, max_bytes, min_free_mib, retained });
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_exactly() {
        assert_eq!(ranges(&[7, 8, 9, 10, 12, 14, 15]), "7 to 10, 12, 14 to 15");
        assert_eq!(ranges(&[3]), "3");
    }
}
