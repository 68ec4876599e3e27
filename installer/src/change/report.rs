//! What happened and why: `report.json` of each closed change, and `status.json` for everyone who may look.

use super::journal::Verdict;
use super::memory::{Block, Memory};
use super::{Change, slot};
use crate::host::clock;
use crate::paths::Paths;
use crate::settings;
use serde::{Deserialize, Serialize};
use smolotchi_operator::{Exit, Fault, Result, Table, durable, output};
use std::collections::BTreeMap;

/// The report of one change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The change.
    pub id: String,
    /// `install`, `upgrade` or `rollback`.
    pub kind: String,
    /// The version before.
    pub from: Option<String>,
    /// The version that it wanted.
    pub to: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub reason: String,
    /// Whether the machine is different from before.
    pub changed: bool,
    /// The exit code of the command that asked for it.
    pub exit: u8,
    /// When it ended, by the wall clock.
    pub at: String,
    /// The last log lines and samples of a version that failed.
    pub evidence: Vec<String>,
}

impl Report {
    /// The exit code as a value.
    pub fn exit(&self) -> Exit {
        exit(self.verdict)
    }
}

/// The exit code that a verdict means.
pub fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Committed => Exit::Success,
        Verdict::Abandoned => Exit::Runtime,
        Verdict::RolledBack => Exit::RolledBack,
        Verdict::OperatorNeeded => Exit::Operator,
    }
}

impl Table for Report {
    fn table(&self) -> String {
        let mut rows = vec![
            vec!["change".to_owned(), self.id.clone()],
            vec!["from".to_owned(), self.from.clone().unwrap_or_else(|| "nothing installed".to_owned())],
            vec!["to".to_owned(), self.to.clone()],
            vec!["verdict".to_owned(), self.verdict.as_str().to_owned()],
            vec!["reason".to_owned(), self.reason.clone()],
        ];
        if !self.evidence.is_empty() {
            rows.push(vec!["evidence".to_owned(), format!("{} lines, see: smolotchi-install history {}", self.evidence.len(), self.id)]);
        }
        output::columns(&rows)
    }
}

/// Writes a change's report durably.
pub fn write(change: &Change, report: &Report) -> Result<()> {
    let json = serde_json::to_vec_pretty(report)
        .map_err(|error| Fault::io("could not write the report", change.report(), &std::io::Error::other(error)))?;
    durable::replace(&change.report(), &json, 0o644)
}

/// Reads the report in a change's folder; none if there is none or it isn't whole.
pub fn read(folder: &std::path::Path) -> Option<Report> {
    serde_json::from_slice(&std::fs::read(folder.join("report.json")).ok()?).ok()
}

/// What `smolotchi-install status` prints and the web page shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The agent's installed version.
    pub installed: Option<String>,
    /// `idle` or what the open change is doing.
    pub state: String,
    /// The open change.
    pub open_change: Option<String>,
    /// The newest closed change.
    pub last_change: Option<Report>,
    /// Versions that failed here and are kept out.
    pub blocked: Vec<BlockedVersion>,
    /// Versions that the operator doesn't want.
    #[serde(default)]
    pub skipped: Vec<BlockedVersion>,
    /// Why no version may come, if the operator said so.
    #[serde(default)]
    pub paused: Option<String>,
    /// The maintenance window, and whether it is open; none: no window is set.
    #[serde(default)]
    pub window: Option<String>,
    /// Releases that can be gone back to, newest first.
    pub slots: Vec<slot::Summary>,
}

/// One line of [`Status::blocked`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BlockedVersion {
    /// The version.
    pub version: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: String,
}

/// Gathers the status from the installer's own files; `installed` is dpkg's word.
pub fn status(paths: &Paths, installed: Option<String>) -> Result<Status> {
    let open = super::open(paths)?;
    let state = match &open {
        None => "idle",
        Some(change) => change.progress()?.state.word(),
    }
    .to_owned();
    let last_change = super::all(paths)?.iter().rev().find_map(|folder| read(folder));
    let memory = Memory::load(paths)?;
    let listed = |blocks: BTreeMap<String, Block>| {
        blocks.into_iter().map(|(version, block)| BlockedVersion { version, reason: block.reason, at: block.at }).collect()
    };
    let window = settings::load(paths).unwrap_or_default().window;
    Ok(Status {
        installed,
        state,
        open_change: open.map(|change| change.id),
        last_change,
        blocked: listed(memory.blocked),
        skipped: listed(memory.skipped),
        paused: memory.paused.map(|pause| pause.sentence()),
        window: window.is_set().then(|| {
            let now = clock::wall_time();
            window.closed(now, clock::local(now)).unwrap_or_else(|| format!("the maintenance window ({window}) is open"))
        }),
        slots: slot::all(paths)?,
    })
}

/// Publishes the status for readers without privileges. A convenience: failing to write it fails nothing.
pub fn publish(paths: &Paths, installed: Option<String>) {
    let result = status(paths, installed).and_then(|mut status| {
        // Log lines may hold what not everyone may read.
        if let Some(report) = &mut status.last_change {
            report.evidence.clear();
        }
        durable::replace(&paths.status(), output::json_line(&status).as_bytes(), 0o644)
    });
    if let Err(fault) = result {
        smolotchi_operator::log::warning(fault.code, format!("the public status was not written: {}", fault.message));
    }
}

impl Status {
    /// One line for each fact.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let none = || "none".to_owned();
        let mut rows =
            vec![vec!["installed".to_owned(), self.installed.clone().unwrap_or_else(none)], vec!["state".to_owned(), self.state.clone()]];
        if let Some(change) = &self.open_change {
            rows.push(vec!["open change".to_owned(), change.clone()]);
        }
        if let Some(report) = &self.last_change {
            rows.push(vec!["last change".to_owned(), format!("{}: {}", report.id, report.verdict.as_str())]);
            rows.push(vec!["reason".to_owned(), report.reason.clone()]);
        }
        for blocked in &self.blocked {
            rows.push(vec!["blocked".to_owned(), format!("{}: {}", blocked.version, blocked.reason)]);
        }
        for skipped in &self.skipped {
            rows.push(vec!["skipped".to_owned(), format!("{}: {}", skipped.version, skipped.reason)]);
        }
        for (name, text) in [("pause", &self.paused), ("window", &self.window)] {
            rows.extend(text.iter().map(|text| vec![name.to_owned(), text.clone()]));
        }
        for slot in &self.slots {
            let schema = slot.schema.map_or_else(|| "no database".to_owned(), |schema| format!("schema {schema}"));
            rows.push(vec!["slot".to_owned(), format!("{} ({schema}, kept {})", slot.version, slot.created_at)]);
        }
        rows
    }
}
