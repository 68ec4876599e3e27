//! Removing what a lab leaves: its control groups and its folder. Everything else goes with the supervisor by itself.

use crate::cgroup::Group;
use crate::folder::Folder;
use crate::wait_until;
use smolotchi_operator::Result;
use std::path::Path;
use std::time::Duration;

/// Removes the remains of test labs whose process was killed. Best effort: the next start tries again.
pub(crate) fn remains() {
    for folder in Folder::all().into_iter().filter(|name| was_numbered(name)).filter_map(|name| Folder::of(&name).ok()) {
        if let Ok(Some(_lock)) = folder.lock() {
            let _ = sweep(&folder);
        }
    }
}

/// A name that [`crate::Options::default`] made: nobody will ask for that lab again.
fn was_numbered(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_prefix('t').and_then(|rest| rest.split_once('-')).is_some_and(|(process, count)| digits(process) && digits(count))
}

/// Removes what outlives a supervisor. The caller knows that none runs.
pub(crate) fn sweep(folder: &Folder) -> Result<()> {
    let group = Group::of_lab(folder.name())?;
    // Commands from outside aren't in the supervisor's pid namespace, and a node may have been frozen at the time.
    let _ = group.kill();
    group.remove()?;
    // The kernel lets the mounts of a dead namespace go a moment after its last process.
    wait_until("the lab's loop devices are free", Duration::from_secs(30), || Ok(loops_under(folder.path()).is_empty()))?;
    folder.remove()
}

/// Loop devices whose file is in this folder.
fn loops_under(folder: &Path) -> Vec<String> {
    let prefix = format!("{}/", folder.display());
    std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("loop/backing_file")).ok())
        .filter(|file| file.starts_with(&prefix))
        .collect()
}
