//! `smolotchi baseline`: what a profile is expected to find.

use crate::ai::escaped;
use crate::cli::BaselineVerb;
use crate::client::{Client, block_on};
use crate::paths::Paths;
use crate::wire::{Baseline, Baselines, ClearBaseline, Cleared, NewBaseline};
use serde::Serialize;
use smolotchi_operator::output::{columns, counted, emit};
use smolotchi_operator::{Exit, Format, Result, Table};

impl Table for Baselines {
    fn table(&self) -> String {
        let row = |baseline: &Baseline| {
            let note = baseline.note.clone().unwrap_or_default();
            let count = format!("{} expected", baseline.expected.len());
            vec![baseline.id.to_string(), baseline.profile.clone(), baseline.made_at.clone(), baseline.made_by.clone(), count, note]
        };
        if self.baselines.is_empty() { "there is none\n".to_owned() } else { columns(&self.baselines.iter().map(row).collect::<Vec<_>>()) }
    }
}

impl Table for Baseline {
    fn table(&self) -> String {
        let mut text = format!("{} of run {}, made {} by {}", self.profile, self.run_id, self.made_at, self.made_by);
        if let Some(note) = &self.note {
            text.push_str(&format!(": {note}"));
        }
        text.push('\n');
        for key in self.expected.keys() {
            text.push_str(&format!("  {key}\n"));
        }
        text
    }
}

/// What was forgotten, or would be.
#[derive(Debug, Serialize)]
struct Forgotten {
    dry_run: bool,
    #[serde(flatten)]
    cleared: Cleared,
}

impl Table for Forgotten {
    fn table(&self) -> String {
        format!("{} {}\n", if self.dry_run { "would forget" } else { "forgot" }, counted(self.cleared.removed, "baseline"))
    }
}

/// Runs the verb. Errors: `baseline.no-run`.
pub(crate) fn run(paths: &Paths, format: Format, verb: BaselineVerb) -> Result<Exit> {
    let client = Client::new(paths.socket());
    let of = |profile: &str, limit: u32| format!("/v1/baselines?profile={}&limit={limit}", escaped(profile));
    let by = super::work::by();
    match verb {
        BaselineVerb::Set { profile, note } => {
            emit(format, &block_on(client.post::<_, Baseline>("/v1/baselines", &NewBaseline { profile, note, by }))?);
        }
        BaselineVerb::Show { profile } => {
            let found: Baselines = block_on(client.get(&of(&profile, 1)))?;
            match found.baselines.into_iter().next() {
                Some(baseline) => emit(format, &baseline),
                None => emit(format, &Baselines { baselines: Vec::new(), next: None }),
            }
        }
        BaselineVerb::List => emit(format, &block_on(client.get::<Baselines>("/v1/baselines"))?),
        BaselineVerb::Clear { profile, dry_run: true } => {
            let found: Baselines = block_on(client.get(&of(&profile, 500)))?;
            emit(format, &Forgotten { dry_run: true, cleared: Cleared { removed: found.baselines.len() as u64 } });
        }
        BaselineVerb::Clear { profile, dry_run: false } => {
            let cleared = block_on(client.post("/v1/baselines/clear", &ClearBaseline { profile, by }))?;
            emit(format, &Forgotten { dry_run: false, cleared });
        }
    }
    Ok(Exit::Success)
}
