//! Power cuts with the semantics of a disk: a scenario runs once on a node whose disk records ([`super::disk`]); then nodes
//! are booted from what a cut can leave at any place of that log.

use super::conductor::mix;
use super::disk::{Log, Loss, Recorder};
use super::judge::{self, Outcome};
use super::scenario::{Scenario, Start, append_one, bring_to};
use crate::image::copy_disk;
use crate::{Node, fault};
use serde::{Deserialize, Serialize};
use smolotchi_operator::{Fault, Result};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SYNCED: &str = "/var/tmp/lab-synced";
const UNSYNCED: &str = "/var/tmp/lab-unsynced";

/// One run of a scenario and all that reached the disk.
#[derive(Debug)]
pub struct Recorded {
    /// What was written.
    pub log: Log,
    /// What is known of it.
    pub marks: Marks,
}

/// Places in a log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Marks {
    /// Where the command was started.
    pub from: usize,
    /// Where all was done.
    pub to: usize,
    /// Where the row of this number had been acknowledged.
    pub acknowledged: Vec<(usize, u64)>,
    /// After a file was written and synced, and another written and not.
    pub last: usize,
}

/// The disk that a scenario begins with; made first if `folder` has none. `node` is some node of a lab on images.
fn start_image(node: &Node, start: Start, folder: &Path) -> Result<PathBuf> {
    let keep = |path: &Path| {
        node.run_ok(&["sync"])?;
        let partial = path.with_extension("partial");
        node.while_frozen(|disk| copy_disk(disk, &partial))?;
        std::fs::rename(&partial, path).map_err(|error| fault("could not keep a disk").cause(&error))
    };
    let image = folder.join(format!("start-{start:?}.img"));
    let blank = folder.join("start-blank.img");
    if image.exists() {
        return Ok(image);
    }
    if blank.exists() {
        node.swap_disk(|next| copy_disk(&blank, next))?;
        node.boot()?;
    } else {
        keep(&blank)?;
    }
    bring_to(node, start)?;
    keep(&image)?;
    Ok(image)
}

/// What a scenario's run wrote; from an earlier run if `folder` has one.
pub fn recorded(node: &Node, recorder: &Recorder, scenario: &Scenario, folder: &Path) -> Result<Recorded> {
    let (log, known) = (folder.join(format!("power-{}.log", scenario.name)), folder.join(format!("power-{}.json", scenario.name)));
    if let Some((start, marks)) = std::fs::read(&known).ok().and_then(|bytes| serde_json::from_slice::<(PathBuf, Marks)>(&bytes).ok()) {
        return Ok(Recorded { log: Log::load(&log, &start)?, marks });
    }
    let recorded = record(node, recorder, scenario, folder)?;
    recorded.log.save(&log)?;
    let text =
        serde_json::to_string(&(recorded.log.start(), &recorded.marks)).map_err(|error| fault("could not note a run").cause(&error))?;
    // Last, and whole: it says that the log is.
    let partial = known.with_extension("partial");
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, &known))
        .map_err(|error| Fault::io("could not note a run", &known, &error))?;
    Ok(recorded)
}

/// Runs a scenario on the recording disk.
fn record(node: &Node, recorder: &Recorder, scenario: &Scenario, folder: &Path) -> Result<Recorded> {
    let start = start_image(node, scenario.from, folder)?;
    recorder.begin(&start, &folder.join("recorded.img"))?;
    node.swap_disk(|next| {
        std::os::unix::fs::symlink(recorder.disk(), next).map_err(|error| fault("could not name the recorded disk").cause(&error))
    })?;
    node.boot()?;
    if scenario.old.is_some() {
        node.wait_healthy()?;
    }
    let from = recorder.length();
    let acknowledged = Mutex::new(Vec::new());
    let over = AtomicBool::new(scenario.old.is_none());
    let output = std::thread::scope(|threads| {
        threads.spawn(|| {
            for number in 1.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                // Measured after the answer: the log is then at least as long as it was when the row was durable.
                if append_one(node, number).is_ok_and(|done| done) {
                    acknowledged.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((recorder.length(), number));
                }
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        let output = node.run(&["sh", "-c", scenario.script]);
        let settled = judge::settle(node);
        over.store(true, Ordering::Relaxed);
        settled.and(output)
    })?;
    if !output.ok() {
        return Err(fault("the scenario failed though nothing was done to it")
            .fact("scenario", scenario.name)
            .fact("status", output.status)
            .fact("stdout", output.stdout)
            .fact("stderr", output.stderr));
    }
    let to = recorder.length();
    node.sh_ok(&format!("echo x >{SYNCED}; sync {SYNCED} /var/tmp; echo x >{UNSYNCED}"))?;
    let last = recorder.length();
    let acknowledged = acknowledged.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(Recorded { log: recorder.end(), marks: Marks { from, to, acknowledged, last } })
}

/// Boots a node from what a cut just before this entry of the log leaves, and judges it.
pub fn cut(node: &Node, scenario: &Scenario, recorded: &Recorded, at: usize, loss: Loss, seed: u64) -> Result<Outcome> {
    node.swap_disk(|next| recorded.log.leave(at, loss, mix(seed ^ at as u64), next))?;
    node.boot()?;
    let acknowledged = recorded.marks.acknowledged.iter().filter(|(length, _)| *length <= at).map(|(_, number)| *number).collect();
    judge::judge(node, scenario, Some(acknowledged))
}

/// Proves that this rig loses what isn't synced and keeps what is: otherwise it could find nothing.
pub fn check(node: &Node, recorded: &Recorded) -> Result<()> {
    node.swap_disk(|next| recorded.log.leave(recorded.marks.last, Loss::Dropped, 0, next))?;
    node.boot()?;
    let found = node.sh(&format!("test -s {SYNCED} && test ! -s {UNSYNCED}"))?;
    if found.ok() {
        return Ok(());
    }
    Err(fault("the recorded disk does not lose what was not synced, or loses what was").fact("found", node.sh("ls -la /var/tmp")?.stdout))
}
