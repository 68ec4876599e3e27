//! A change: its folder, its plan, its journal, and what state it is in.
//!
//! `changes/ID/` is made complete under a hidden name and renamed; then the link `open` points to it, and from then on
//! the executor carries it on, whatever happens. Closing removes the link last.

pub mod journal;
pub mod memory;
pub mod report;
pub mod slot;
pub mod state;

use crate::host::clock;
use crate::paths::Paths;
use crate::plan::{Plan, Task};
use journal::{Event, Journal, Record, Verdict};
use smolotchi_operator::{Code, Fault, Result, durable, log};
use std::path::{Path, PathBuf};

/// What a change's journal says has happened so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Where that leads to.
    pub state: state::State,
    /// Tasks begun, in order.
    pub started: Vec<Task>,
    /// Tasks done, in order.
    pub done: Vec<Task>,
    /// Why it goes back, if it does.
    pub undoing: Option<String>,
    /// Whether that is the new version's fault.
    pub blame: bool,
    /// The packages of the version before are back.
    pub reverted: bool,
    /// How it ended, if it did.
    pub closed: Option<(Verdict, String)>,
}

impl Progress {
    fn apply(&mut self, event: Event) {
        self.state = self.state.after(&event);
        match event {
            Event::Opened | Event::Observed { .. } => {}
            Event::Started { task } => self.started.push(task),
            Event::Done { task } => self.done.push(task),
            Event::Undoing { reason, blame } => {
                self.undoing = Some(reason);
                self.blame = blame;
            }
            Event::Reverted => self.reverted = true,
            Event::Closed { verdict, reason } => self.closed = Some((verdict, reason)),
        }
    }
}

/// Folds the records into the state that they lead to.
pub fn progress(records: &[Record]) -> Progress {
    let mut state = Progress::default();
    records.iter().for_each(|record| state.apply(record.event.clone()));
    state
}

/// A change on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `0007-upgrade-0.2.0`: counted, because a machine without a clock battery can't name by time.
    pub id: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its plan.
    pub plan: Plan,
}

impl Change {
    /// The folder of the packages that the plan names.
    pub fn debs(&self) -> PathBuf {
        self.folder.join("debs")
    }

    /// Its journal's path.
    pub fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }

    /// Its report's path.
    pub fn report(&self) -> PathBuf {
        self.folder.join("report.json")
    }

    /// Reads a change from its folder.
    pub fn load(folder: &Path) -> Result<Change> {
        let path = folder.join("plan.json");
        let bytes = std::fs::read(&path).map_err(|error| Fault::io("could not read the plan of a change", &path, &error))?;
        let plan = serde_json::from_slice(&bytes).map_err(|error| {
            Fault::new(Code::JournalDamaged, "the plan of a change is not readable").fact("path", path.display().to_string()).cause(&error)
        })?;
        let id = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Change { id, folder: folder.to_owned(), plan })
    }

    /// Opens the journal for appending.
    pub fn write(&self) -> Result<Writer> {
        let (journal, records) = Journal::open(&self.journal())?;
        let same_boot = records.first().is_some_and(|record| record.boot == clock::boot_id());
        Ok(Writer { journal, progress: progress(&records), same_boot, notes: report::Notes::default() })
    }

    /// What its journal says now.
    pub fn progress(&self) -> Result<Progress> {
        Ok(progress(&journal::read(&self.journal())?))
    }
}

/// The one writer of a change's journal.
#[derive(Debug)]
pub struct Writer {
    journal: Journal,
    /// What has happened so far.
    pub progress: Progress,
    /// The machine has not been started anew since the change was opened.
    pub same_boot: bool,
    /// What the report will tell beside the verdict.
    pub notes: report::Notes,
}

impl Writer {
    /// Records an event durably, then counts it as happened.
    pub fn record(&mut self, event: Event) -> Result<()> {
        let record = Record { at: clock::wall(), boot: clock::boot_id(), event };
        self.journal.append(&record)?;
        self.progress.apply(record.event);
        Ok(())
    }
}

/// A change that is being put together; nothing of it counts before [`Draft::open`].
#[derive(Debug)]
pub struct Draft {
    folder: PathBuf,
}

impl Draft {
    /// Starts a draft. Whatever an earlier, interrupted draft left is removed.
    pub fn new(paths: &Paths) -> Result<Draft> {
        let changes = paths.changes();
        make_folder(&changes)?;
        for entry in list(&changes)? {
            if is_draft(&entry) {
                remove_tree(&entry)?;
            }
        }
        let folder = changes.join(format!(".new-{}", std::process::id()));
        make_folder(&folder.join("debs"))?;
        Ok(Draft { folder })
    }

    /// Where the packages of the plan are put.
    pub fn debs(&self) -> PathBuf {
        self.folder.join("debs")
    }

    /// Makes the draft the open change: from here on it is carried to an end, also over a power cut.
    pub fn open(self, paths: &Paths, plan: Plan) -> Result<Change> {
        let json = serde_json::to_vec_pretty(&plan)
            .map_err(|error| Fault::io("could not write the plan", &self.folder, &std::io::Error::other(error)))?;
        durable::replace(&self.folder.join("plan.json"), &json, 0o644)?;
        let journal = self.folder.join("journal");
        Journal::create(&journal)?;
        Journal::open(&journal)?.0.append(&Record { at: clock::wall(), boot: clock::boot_id(), event: Event::Opened })?;
        durable::sync_folder(&self.debs())?;
        durable::sync_folder(&self.folder)?;
        let number = all(paths)?.iter().filter_map(|folder| number_of(folder)).max().unwrap_or(0) + 1;
        let id = format!("{number:04}-{}-{}", plan.kind.as_str(), plan.to);
        let folder = paths.changes().join(&id);
        durable::rename(&self.folder, &folder)?;
        let link = paths.open().with_file_name(".open.staging");
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(Path::new("changes").join(&id), &link)
            .map_err(|error| Fault::io("could not open the change", &link, &error))?;
        durable::rename(&link, &paths.open())?;
        Ok(Change { id, folder, plan })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After `open` the name is gone and this does nothing.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The open change, if there is one. One that can't be read is set aside: nothing could carry it on, and it must not keep
/// every later one out.
pub fn open(paths: &Paths) -> Result<Option<Change>> {
    let link = paths.open();
    match std::fs::read_link(&link) {
        Ok(target) => match Change::load(&paths.state().join(target)) {
            Ok(change) => Ok(Some(change)),
            Err(fault) => {
                set_aside(paths, fault)?;
                Ok(None)
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::io("could not read which change is open", &link, &error)),
    }
}

/// Takes a change that can't be carried on off the table. Its folder stays; `status` tells of it until the next change.
pub fn set_aside(paths: &Paths, fault: Fault) -> Result<()> {
    log::fault(&fault.fact("set_aside", paths.set_aside().display().to_string()));
    durable::rename(&paths.open(), &paths.set_aside())
}

/// The name of a change that was set aside.
pub fn aside(paths: &Paths) -> Option<String> {
    let target = std::fs::read_link(paths.set_aside()).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Removes the link to the open change, if it is this one's.
pub fn unlink(paths: &Paths, change: &Change) -> Result<()> {
    let named = std::fs::read_link(paths.open()).ok();
    if named.as_deref().and_then(Path::file_name).is_some_and(|name| name.to_string_lossy() == change.id) {
        durable::remove(&paths.open())?;
    }
    // A later change has come to an end: what was set aside before it is history.
    durable::remove(&paths.set_aside())
}

/// All changes' folders, oldest first.
pub fn all(paths: &Paths) -> Result<Vec<PathBuf>> {
    let mut folders: Vec<PathBuf> = list(&paths.changes())?.into_iter().filter(|path| number_of(path).is_some()).collect();
    folders.sort_by_key(|folder| number_of(folder));
    Ok(folders)
}

/// Closed changes beyond the newest `keep` are forgotten.
pub fn forget_old(paths: &Paths, keep: usize) -> Result<()> {
    let folders = all(paths)?;
    for folder in folders.iter().take(folders.len().saturating_sub(keep)) {
        remove_tree(folder)?;
    }
    Ok(())
}

fn number_of(folder: &Path) -> Option<u64> {
    folder.file_name()?.to_str()?.split_once('-')?.0.parse().ok()
}

/// A change that never came to be open.
pub fn is_draft(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".new-"))
}

/// The entries of a folder; none if it doesn't exist.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => Ok(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Fault::io("could not list a folder", folder, &error)),
    }
}

/// Makes a folder and its parents.
pub fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| Fault::io("could not make a folder", folder, &error))
}

/// For root alone, but for one thing: the database's user must get through to its inbox. What lies in there is 0600 (the
/// snapshot) or no secret (packages).
pub fn reachable(folder: &Path) -> Result<()> {
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o711))
        .map_err(|error| Fault::io("could not set a folder's mode", folder, &error))
}

/// Removes a folder and what is in it, if it is there.
pub fn remove_tree(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::io("could not remove a folder", folder, &error)),
    }
}
