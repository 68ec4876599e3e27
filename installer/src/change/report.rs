//! What happened and why: `report.json` of each closed change, and `status.json` for everyone who may look.

use super::journal::Verdict;
use super::memory::{Block, Memory};
use super::{Change, slot};
use crate::gate::Sample;
use crate::host::agent::Restored;
use crate::host::clock;
use crate::paths::Paths;
use crate::settings;
use serde::{Deserialize, Serialize};
use smolotchi_operator::{Exit, Fault, Result, Table, durable, output};
use std::collections::{BTreeMap, VecDeque};

/// What is gathered while a change is carried on, for its report.
#[derive(Debug, Default)]
pub struct Notes {
    /// The newest looks of the watch, one line each.
    samples: VecDeque<String>,
    /// What it cost.
    pub measured: Measured,
    /// What the last resort did.
    pub restored: Option<Restored>,
    /// Log lines and unit ends of a version that failed.
    pub evidence: Vec<String>,
}

impl Notes {
    /// Remembers one look of the watch; only the last ones count.
    pub fn saw(&mut self, sample: &Sample) {
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(line(sample));
    }

    /// The samples, and from now on none.
    pub fn take_samples(&mut self) -> Vec<String> {
        self.samples.drain(..).collect()
    }
}

/// Looks of the watch that are kept.
const SAMPLES: usize = 12;

/// A look in one line.
fn line(sample: &Sample) -> String {
    let units: Vec<String> =
        sample.units.iter().map(|unit| format!("{} {} ({} restarts)", unit.name, unit.active, unit.restarts)).collect();
    let beat = sample.heartbeat.as_ref().map_or_else(
        || "no heartbeat".to_owned(),
        |beat| {
            format!(
                "heartbeat {} of {} schema {}, {} ms old",
                beat.seq,
                beat.version,
                beat.schema,
                sample.now_ms.saturating_sub(beat.boottime_ms)
            )
        },
    );
    let proof = match &sample.proof {
        Ok(schema) => format!("commits at schema {schema}"),
        Err(reason) => format!("can't commit: {reason}"),
    };
    let packages = if sample.packages.is_empty() { String::new() } else { format!("; {}", sample.packages.join(", ")) };
    format!("sample at {} ms: {}; {beat}; {proof}{packages}", sample.now_ms, units.join(", "))
}

/// What a change cost, as far as it was seen; what a power cut or another program hid is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// For how long core was not active when it was restarted for the new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_down_ms: Option<u64>,
    /// Bytes of disk taken at most, before the watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_peak_bytes: Option<u64>,
    /// Memory of the largest single program that was started (dpkg, the agent's own verbs).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_peak_bytes: Option<u64>,
    /// Rows that the migrations changed, by the rehearsal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_migrated: Option<u64>,
}

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
    /// Of a version that failed: how its units ended, the last looks of the watch, the last log lines.
    #[serde(default)]
    pub evidence: Vec<String>,
    /// What it cost.
    #[serde(default)]
    pub measured: Measured,
    /// What the slot's snapshot replaced, where only that helped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
}

impl Report {
    /// Where the evidence is, in one line; none without any.
    fn evidence_line(&self) -> Option<String> {
        (!self.evidence.is_empty()).then(|| format!("{} lines, see: smolotchi-install history {}", self.evidence.len(), self.id))
    }

    /// What the last resort cost, in one line; none if it wasn't needed.
    fn restored_line(&self) -> Option<String> {
        let restored = self.restored.as_ref()?;
        let lacking: Vec<String> = restored.lacking.iter().map(|(table, rows)| format!("{rows} rows of {table}")).collect();
        let lacking = if lacking.is_empty() { "no rows".to_owned() } else { lacking.join(", ") };
        Some(format!("the slot's snapshot, which lacks {lacking}"))
    }

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
        rows.extend(self.evidence_line().map(|line| vec!["evidence".to_owned(), line]));
        rows.extend(self.restored_line().map(|line| vec!["restored".to_owned(), line]));
        if let Some(restored) = &self.restored {
            rows.extend(restored.export.iter().map(|file| vec!["rows kept in".to_owned(), file.clone()]));
            rows.extend(restored.replaced.iter().map(|file| vec!["database before".to_owned(), file.clone()]));
        }
        let measured = [
            self.measured.core_down_ms.map(|ms| format!("core down {ms} ms")),
            self.measured.disk_peak_bytes.map(|bytes| format!("disk {} KiB", bytes >> 10)),
            self.measured.program_peak_bytes.map(|bytes| format!("memory of a program {} KiB", bytes >> 10)),
            self.measured.rows_migrated.map(|rows| format!("{rows} rows migrated")),
        ];
        let measured: Vec<String> = measured.into_iter().flatten().collect();
        if !measured.is_empty() {
            rows.push(vec!["measured".to_owned(), measured.join(", ")]);
        }
        output::columns(&rows)
    }
}

/// The report that a closed change's journal still tells, for when its own is torn.
pub fn from_journal(change: &Change) -> Option<Report> {
    let records = super::journal::read(&change.journal()).ok()?;
    let (verdict, reason) = super::progress(&records).closed?;
    let plan = &change.plan;
    Some(Report {
        id: change.id.clone(),
        kind: plan.kind.as_str().to_owned(),
        from: plan.from.clone(),
        to: plan.to.clone(),
        verdict,
        reason,
        changed: changes(verdict),
        exit: exit(verdict) as u8,
        at: records.last()?.at.clone(),
        evidence: kept_evidence(change, Vec::new()),
        measured: Measured::default(),
        restored: None,
    })
}

/// Whether a verdict leaves the machine different from before.
pub fn changes(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Committed | Verdict::OperatorNeeded)
}

/// Writes a change's report durably.
pub fn write(change: &Change, report: &Report) -> Result<()> {
    let json = serde_json::to_vec_pretty(report)
        .map_err(|error| Fault::io("could not write the report", change.report(), &std::io::Error::other(error)))?;
    durable::replace(&change.report(), &json, 0o644)
}

/// Keeps the evidence of a failed version durably, before going back: a power cut would take it along.
pub fn keep_evidence(change: &Change, evidence: &[String]) -> Result<()> {
    durable::replace(&change.folder.join(EVIDENCE), evidence.join("\n").as_bytes(), 0o600)
}

/// What was gathered in this run, or else what a run before a power cut kept.
pub fn kept_evidence(change: &Change, gathered: Vec<String>) -> Vec<String> {
    let path = change.folder.join(EVIDENCE);
    if !gathered.is_empty() {
        return gathered;
    }
    std::fs::read_to_string(path).map(|text| text.lines().map(str::to_owned).collect()).unwrap_or_default()
}

/// The evidence's file in a change's folder.
const EVIDENCE: &str = "evidence.log";

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
    /// A change that could not be carried on (its record is torn, or a newer smolotchi-install wrote it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_aside: Option<String>,
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
    let window = match settings::load(paths).map(|settings| settings.window) {
        Ok(window) => window.is_set().then(|| {
            let now = clock::wall_time();
            window.closed(now, clock::local(now)).unwrap_or_else(|| format!("the maintenance window ({window}) is open"))
        }),
        // The change that is asked for next is refused with the place of it.
        Err(fault) => Some(format!("not known: {}; see: smolotchi-install plan", fault.message)),
    };
    Ok(Status {
        installed,
        state,
        open_change: open.map(|change| change.id),
        set_aside: super::aside(paths),
        last_change,
        blocked: listed(memory.blocked),
        skipped: listed(memory.skipped),
        paused: memory.paused.map(|pause| pause.sentence()),
        window,
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
        let json = output::json_line(&status);
        // While a change is open this is written again, also after a power cut: only the last word has to survive one.
        let write = if status.open_change.is_some() { durable::replace_unsynced } else { durable::replace };
        write(&paths.status(), json.as_bytes(), 0o644)
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
            rows.extend(report.evidence_line().map(|line| vec!["evidence".to_owned(), line]));
            rows.extend(report.restored_line().map(|line| vec!["restored".to_owned(), line]));
        }
        if let Some(change) = &self.set_aside {
            rows.push(vec![
                "set aside".to_owned(),
                format!("{change}: this smolotchi-install can't carry it on; its packages are left as they are"),
            ]);
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
