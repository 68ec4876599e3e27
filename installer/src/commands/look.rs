//! status and history: what is and what was. Touches nothing.

use crate::change::report::{self, Report, Status};
use crate::change::{self};
use crate::host::dpkg;
use crate::paths::Paths;
use serde::Serialize;
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table, output};

/// [`Status`] and what dpkg says besides.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    status: Status,
    /// dpkg has the agent unpacked and configured; none: it hasn't got it.
    whole: Option<bool>,
    /// The operator wants the package to stay as it is.
    held: bool,
}

impl Table for Shown {
    fn table(&self) -> String {
        let package = match (self.whole, self.held) {
            (None, _) => "not on this machine",
            (Some(false), _) if self.status.open_change.is_some() => "being changed",
            (Some(false), _) => "not whole; mend it with: smolotchi-install heal",
            (Some(true), false) => "whole",
            (Some(true), true) => "whole, and on hold",
        };
        let mut rows = self.status.rows();
        rows.insert(1, vec!["package".to_owned(), package.to_owned()]);
        output::columns(&rows)
    }
}

/// What runs, what happened last, what is kept out and why, what it can go back to. Without root: as it was told last.
pub(super) fn status(paths: &Paths, format: Format) -> Result<Exit> {
    let agent = dpkg::agent()?;
    let installed = agent.as_ref().map(|package| package.version.clone());
    let status = if super::is_root() { report::status(paths, installed)? } else { Status { installed, ..published(paths)? } };
    let (whole, held) = (agent.as_ref().map(|package| package.is_whole()), agent.is_some_and(|package| package.is_held()));
    output::emit(format, &Shown { status, whole, held });
    Ok(Exit::Success)
}

fn published(paths: &Paths) -> Result<Status> {
    let bytes = std::fs::read(paths.status()).unwrap_or_default();
    serde_json::from_slice(&bytes).map_err(|error| {
        Fault::new(Code::NotRoot, "nothing was told to those who aren't root yet")
            .fact("path", paths.status().display().to_string())
            .cause(&error)
    })
}

#[derive(Serialize)]
struct History {
    changes: Vec<Report>,
}

impl Table for History {
    fn table(&self) -> String {
        if self.changes.is_empty() {
            return "No change has been made on this machine.\n".to_owned();
        }
        let mut rows = vec![["CHANGE", "AT", "FROM", "TO", "VERDICT", "REASON"].map(str::to_owned).to_vec()];
        for report in &self.changes {
            let from = report.from.clone().unwrap_or_else(|| "-".to_owned());
            let verdict = report.verdict.as_str().to_owned();
            rows.push(vec![report.id.clone(), report.at.clone(), from, report.to.clone(), verdict, report.reason.clone()]);
        }
        output::columns(&rows)
    }
}

#[derive(Serialize)]
struct One {
    #[serde(flatten)]
    report: Report,
    journal: Vec<change::journal::Record>,
}

impl Table for One {
    fn table(&self) -> String {
        let mut text = self.report.table();
        text.push_str("\nWhat was done:\n");
        for record in &self.journal {
            let event = serde_json::to_value(&record.event).unwrap_or_default();
            let word = |name: &str| event.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
            let rest = [word("task"), word("text"), word("verdict"), word("reason")].into_iter().filter(|part| !part.is_empty());
            text.push_str(format!("  {} {} {}", record.at, word("event"), rest.collect::<Vec<_>>().join(": ")).trim_end());
            text.push('\n');
        }
        if !self.report.evidence.is_empty() {
            text.push_str("\nThe last log lines of the version that was left:\n");
            for line in &self.report.evidence {
                text.push_str(&format!("  {line}\n"));
            }
        }
        text
    }
}

/// All changes, newest first; or one, with its journal and evidence.
pub(super) fn history(paths: &Paths, format: Format, id: Option<&str>) -> Result<Exit> {
    super::need_root()?;
    let folders = change::all(paths)?;
    match id {
        None => {
            let changes = folders.iter().rev().filter_map(|folder| report::read(folder)).collect();
            output::emit(format, &History { changes });
        }
        Some(id) => {
            let folder = folders.iter().find(|folder| folder.file_name().is_some_and(|name| name == id));
            let report = folder.and_then(|folder| report::read(folder));
            let (Some(folder), Some(report)) = (folder, report) else {
                return Err(Fault::new(Code::Usage, "there is no such closed change")
                    .fact("change", id)
                    .hint("see: smolotchi-install history"));
            };
            output::emit(format, &One { report, journal: change::journal::read(&folder.join("journal"))? });
        }
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_mend_what_is_only_under_way() {
        let told = |open: Option<&str>, whole| {
            let status = serde_json::json!({"installed": "0.2.0", "state": "x", "open_change": open, "blocked": [], "slots": []});
            Shown { status: serde_json::from_value(status).unwrap(), whole: Some(whole), held: false }.table()
        };
        assert!(told(Some("0001-upgrade-0.3.0"), false).contains("package      being changed\n"));
        assert!(told(None, false).contains("mend it with: smolotchi-install heal"));
        assert!(told(Some("0001-upgrade-0.3.0"), true).contains("package      whole\n"));
    }

    #[test]
    fn a_window_that_can_not_be_read_is_not_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/smolotchi-install/config.d");
        std::fs::create_dir_all(&folder).unwrap();
        let window = || report::status(&Paths::new(root.path()), None).unwrap().window;
        assert_eq!(window(), None);
        std::fs::write(folder.join("window.toml"), "[window]\ndays = [\"someday\"]\n").unwrap();
        assert_eq!(window().unwrap(), "not known: the installer's settings are not valid; see: smolotchi-install plan");
    }
}
