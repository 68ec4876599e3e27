//! Results over runs: one line of JSON per point that was tried, kept in the scenario's folder, so that a run that was
//! interrupted goes on where it stopped; and the table of counts at the end.

use super::judge::Outcome;
use crate::fault;
use serde::{Deserialize, Serialize};
use smolotchi_operator::{Fault, Result, output};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// One point that was tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tried {
    /// Which scenario.
    pub scenario: String,
    /// `kill`, `enospc`, `full`, `eio`, `pair`.
    pub fault: String,
    /// Names the point within scenario and fault.
    pub point: String,
    /// The call that it stands before.
    pub event: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// The results of one folder.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    tried: Mutex<Vec<Tried>>,
}

/// How many points there were, whether tried or not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    /// Calls at which it can happen.
    pub points: usize,
    /// Those of them that differ: in the disk, or in the file that is written.
    pub states: usize,
}

impl Record {
    /// Opens the results in this folder. A last line that was cut off is forgotten, and so is what ended badly: it is tried
    /// again.
    pub fn open(folder: &Path) -> Result<Self> {
        crate::image::make_folder(folder)?;
        let path = folder.join("results.jsonl");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let tried = text.lines().filter_map(|line| serde_json::from_str::<Tried>(line).ok());
        let tried: Vec<Tried> = tried.filter(|one| one.outcome.problems.is_empty()).collect();
        Ok(Record { path, tried: Mutex::new(tried) })
    }

    /// True if this point was tried before, or one that goes on from it (`POINT+SECOND`).
    pub fn has(&self, scenario: &str, fault: &str, point: &str) -> bool {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.iter().any(|known| known.scenario == scenario && known.fault == fault && known.point.split('+').next() == Some(point))
    }

    /// Adds one, and says it.
    pub fn add(&self, one: Tried) -> Result<()> {
        let line = serde_json::to_string(&one).map_err(|error| fault("could not write a result").cause(&error))?;
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .map_err(|error| Fault::io("could not open the results", &self.path, &error))?;
        // A line of its own also after one that was cut off.
        let line = format!("\n{line}\n");
        file.write_all(line.as_bytes()).map_err(|error| Fault::io("could not write a result", &self.path, &error))?;
        println!("{} {} at {}: {} {:?}", one.scenario, one.fault, one.event, one.outcome.end, one.outcome.problems);
        tried.push(one);
        Ok(())
    }

    /// Everything that was tried.
    pub fn all(&self) -> Vec<Tried> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The table: scenario × fault.
    pub fn table(&self, known: &BTreeMap<(String, String), Known>) -> String {
        let tried = self.all();
        let mut keys: BTreeSet<(String, String)> = known.keys().cloned().collect();
        keys.extend(tried.iter().map(|one| (one.scenario.clone(), one.fault.clone())));
        let mut rows = vec![["SCENARIO", "FAULT", "CALLS", "POINTS", "TRIED", "OLD", "NEW", "BAD"].map(str::to_owned)];
        for key in keys {
            let of: Vec<&Tried> = tried.iter().filter(|one| one.scenario == key.0 && one.fault == key.1).collect();
            let ended = |end: &str| of.iter().filter(|one| one.outcome.problems.is_empty() && one.outcome.end == end).count().to_string();
            let bad = of.iter().filter(|one| !one.outcome.problems.is_empty()).count().to_string();
            let there = known.get(&key).copied().unwrap_or_default();
            let count = of.len().to_string();
            rows.push([key.0, key.1, there.points.to_string(), there.states.to_string(), count, ended("old"), ended("new"), bad]);
        }
        output::columns(&rows)
    }
}
