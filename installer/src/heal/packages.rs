//! The healer's second step: dpkg. Ours first, from the open change, the slot, what is kept of the version that runs, or
//! apt's archives; then whatever else dpkg was interrupted in, because apt refuses everything until that is finished.

use super::Healed;
use crate::change::journal::Verdict;
use crate::change::{self, Change, list, make_folder, remove_tree, slot};
use crate::host::dpkg::{self, For, Installable};
use crate::host::{lock, repack};
use crate::inventory::Package;
use crate::paths::Paths;
use crate::plan::Task;
use crate::settings::Settings;
use smolotchi_operator::{Code, Fault, Result, durable, log};
use smolotchi_release::version;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// At boot nobody holds dpkg's lock for long; by hand it is told soon.
const PATIENCE: Duration = Duration::from_secs(60);
/// The package that changes are about.
const AGENT: &str = "smolotchi";

/// What this step works with.
pub(super) struct Healing<'a> {
    pub(super) paths: &'a Paths,
    pub(super) settings: &'a Settings,
    pub(super) open: Option<&'a Change>,
    pub(super) booting: bool,
}

impl Healing<'_> {
    /// Mends what dpkg has not finished. True if dpkg was run.
    pub(super) fn mend(&self, healed: &mut Healed) -> Result<bool> {
        let survey = dpkg::survey(self.paths)?;
        let marked = self.paths.healing().exists();
        let ours_broken = survey.ours.iter().any(|package| is_broken(package) || is_leaving(package));
        // Others' troubles are ours only where we may have had a part in them, or where we are asked.
        let others = survey.others_unfinished && (self.open.is_some() || marked || survey.triggered || !self.booting);
        if !ours_broken && !survey.interrupted && !others {
            if marked {
                self.unmark();
            }
            return Ok(false);
        }
        let patience = PATIENCE.min(Duration::from_secs(self.settings.packages.lock_timeout_s));
        let _lock = lock::dpkg_frontend(self.paths, patience)?;
        if self.paths.state().is_dir() {
            // A disk that is full keeps nobody from mending: dpkg may well make room.
            told(durable::replace(&self.paths.healing(), b"", 0o644));
        }
        let on_behalf = For { change: self.open.map_or(dpkg::HEALING, |change| change.id.as_str()), booting: self.booting };
        self.finish(on_behalf)?;
        told(remove_tree(&self.rebuilding()));
        self.sweep();
        let left: Vec<Package> = dpkg::unfinished()?;
        let ours = dpkg::packages()?;
        let left_of_ours: Vec<&Package> = ours.iter().filter(|package| is_broken(package)).collect();
        if left_of_ours.is_empty() {
            // What is left of others is their own affair from now on.
            self.unmark();
        }
        if !left_of_ours.is_empty() || left.iter().any(|package| !is_tolerable(package)) {
            let names: BTreeSet<String> = left_of_ours
                .iter()
                .map(|package| package.name.clone())
                .chain(left.iter().map(|package| format!("{} ({})", package.name, package.state.trim())))
                .collect();
            let names: Vec<String> = names.into_iter().collect();
            if self.open.is_some() {
                // It has another way: back.
                log::warning(Code::TaskFailed, format!("left to the executor: {}", names.join(", ")));
                return Ok(true);
            }
            return Err(Fault::new(Code::HealFailed, "packages could not be finished").fact("packages", names.join(", ")));
        }
        healed.mended(match ours.iter().find(|package| package.name == AGENT && package.is_present()) {
            Some(package) => format!("dpkg's packages are whole again; smolotchi is {}", package.version),
            None => "dpkg's packages are whole again; smolotchi is not installed".to_owned(),
        });
        Ok(true)
    }

    fn unmark(&self) {
        if self.paths.state().is_dir() {
            told(durable::remove(&self.paths.healing()));
        }
    }

    /// dpkg, as often as it takes; each failure is told, and what counts is what is left afterwards.
    fn finish(&self, on_behalf: For<'_>) -> Result<()> {
        let ours = dpkg::packages()?;
        let broken: Vec<&Package> = ours.iter().filter(|package| is_broken(package)).collect();
        let mut debs = self.for_ours(&broken)?;
        let unfinished = dpkg::unfinished()?;
        debs.extend(self.for_others(&unfinished)?);
        if !debs.is_empty() {
            told(dpkg::install(&debs, on_behalf));
        }
        let others = unfinished.into_iter().filter(|package| !dpkg::OURS.contains(&package.name.as_str()) && is_leaving(package));
        self.take_off(&ours.iter().cloned().chain(others).collect::<Vec<_>>(), on_behalf);
        if !dpkg::unfinished()?.is_empty() || dpkg::survey(self.paths)?.interrupted {
            told(dpkg::configure_all(on_behalf));
        }
        // A first installation that has no package anywhere: what was before it is nothing. And a removal that failed in the
        // middle, for which apt took the wish back: without reinstreq, dpkg was taking files away, and only the end is left.
        for package in dpkg::packages()?.iter().filter(|package| is_broken(package)) {
            let nowhere = !debs.iter().any(|deb| is_of(deb, &package.name));
            let removing = package.state.starts_with("iH") && !package.state.ends_with('R');
            let never_whole = package.state.get(1..2) != Some("F") && !dpkg::was_configured(&package.name);
            if nowhere && (removing || never_whole) {
                log::notice(format!("{}: half on the machine, and its package is not at hand: removing it", package.name));
                told(dpkg::take_off("--remove", &[&package.name], on_behalf));
            }
        }
        Ok(())
    }

    /// A removal or purge that was begun, to its end. Once one is begun, those that were to go with it go too.
    fn take_off(&self, packages: &[Package], on_behalf: For<'_>) {
        if !packages.iter().any(is_leaving) {
            return;
        }
        for (want, verb) in [("r", "--remove"), ("p", "--purge")] {
            let names: Vec<&str> = packages
                .iter()
                .filter(|package| package.state.starts_with(want) && (is_leaving(package) || package.is_present()))
                .map(|package| package.name.as_str())
                .collect();
            if !names.is_empty() {
                told(dpkg::take_off(verb, &names, on_behalf));
            }
        }
    }

    /// The packages that make ours whole, all that belong together in one run.
    fn for_ours(&self, broken: &[&Package]) -> Result<Vec<Installable>> {
        if broken.is_empty() {
            return Ok(Vec::new());
        }
        let mut debs = self.of_change();
        for package in broken {
            if !debs.iter().any(|deb| is_of(deb, &package.name)) {
                debs.extend(self.search(package));
            }
        }
        Ok(debs)
    }

    /// Of the open change: its own while it goes forward, the slot's while it goes back.
    fn of_change(&self) -> Vec<Installable> {
        let Some(change) = self.open else { return Vec::new() };
        let Ok(progress) = change.progress() else { return Vec::new() };
        let back = progress.undoing.is_some() || matches!(progress.closed, Some((Verdict::RolledBack, _)));
        // As long as the slot isn't saved, the version that runs is not to be replaced.
        let unsaved = change.plan.tasks.contains(&Task::SaveSlot) && !progress.done.contains(&Task::SaveSlot);
        let known = dpkg::packages().unwrap_or_default();
        let folder = change.debs();
        let mut kept: Vec<Installable> = Vec::new();
        let mut all_kept = !change.plan.debs.is_empty();
        for deb in &change.plan.debs {
            // Going back takes the agent along and nothing else: the installer and the keyring only ever move up.
            if (deb.package == AGENT && (back || unsaved)) || dpkg::is_overtaken(&known, &deb.package, &deb.version) {
                continue;
            }
            match Installable::hashed(&folder.join(&deb.file), deb.size, &deb.sha256) {
                Ok(deb) => kept.push(deb),
                Err(fault) => {
                    log::fault(&fault);
                    all_kept = false;
                }
            }
        }
        if !back && all_kept {
            return kept;
        }
        kept.retain(|deb| !is_of(deb, AGENT));
        if let Some(from) = &change.plan.from {
            kept.extend(self.of_slot(from));
        }
        kept
    }

    fn of_slot(&self, version: &str) -> Vec<Installable> {
        let Ok(slot) = slot::verified(self.paths, version) else { return Vec::new() };
        let folder = slot::folder(self.paths, version).join("debs");
        slot.debs.iter().filter_map(|deb| Installable::hashed(&folder.join(&deb.file), deb.size, &deb.sha256).ok()).collect()
    }

    /// The right version of a package from wherever it may lie, or rebuilt from what is installed if dpkg had not touched that
    /// yet; for want of it, the newest that is anywhere.
    fn search(&self, package: &Package) -> Option<Installable> {
        let mut places = vec![self.paths.debs()];
        places.extend(list(&self.paths.slots()).unwrap_or_default().iter().map(|slot| slot.join("debs")));
        places.extend(change::all(self.paths).unwrap_or_default().iter().rev().map(|change| change.join("debs")));
        places.push(self.paths.apt_archives());
        let found: Vec<(String, PathBuf)> = places.iter().flat_map(|folder| files_of(folder, &package.name)).collect();
        let right = found.iter().find(|(version, _)| *version == package.version);
        let newest = || found.iter().max_by(|a, b| version::compare(&a.0, &b.0));
        if let Some((_, path)) = right {
            return Some(Installable::found(path));
        }
        self.rebuilt(package).or_else(|| newest().map(|(_, path)| Installable::found(path)))
    }

    /// The next run, or this one's end, takes the folder away: its name says that it is unfinished.
    fn rebuilt(&self, package: &Package) -> Option<Installable> {
        if !dpkg::was_configured(&package.name) || !repack::is_faithful(&package.name) {
            return None;
        }
        let folder = self.rebuilding();
        let made = make_folder(&folder).and_then(|()| repack::repack(self.paths, &package.name, &folder));
        match made {
            Ok(path) => {
                log::notice(format!("{} {} is rebuilt from its installed files", package.name, package.version));
                Some(Installable::found(&path))
            }
            Err(fault) => {
                told(Err(fault));
                None
            }
        }
    }

    fn rebuilding(&self) -> PathBuf {
        self.paths.state().join(".rebuilt.staging")
    }

    /// Packages of others that only unpacking again can finish, from apt's archives.
    /// Of the same architecture, and no older than what dpkg has begun with.
    fn for_others(&self, unfinished: &[Package]) -> Result<Vec<Installable>> {
        let mut debs = Vec::new();
        let wanted = unfinished
            .iter()
            .filter(|package| !dpkg::OURS.contains(&package.name.as_str()) && !is_tolerable(package))
            .filter(|package| !package.state.starts_with(['r', 'p']))
            .filter(|package| package.state.get(1..2) == Some("H") || package.state.ends_with('R'));
        for package in wanted {
            let name = package.name.split(':').next().unwrap_or(&package.name);
            let end = format!("_{}.deb", dpkg::architecture_of(&package.name)?);
            let newest = files_of(&self.paths.apt_archives(), name)
                .into_iter()
                .filter(|(version, path)| {
                    path.to_string_lossy().ends_with(&end) && version::compare(version, &package.version) != std::cmp::Ordering::Less
                })
                .max_by(|a, b| version::compare(&a.0, &b.0));
            debs.extend(newest.map(|(_, path)| Installable::found(&path)));
        }
        Ok(debs)
    }

    /// What dpkg wrote beside its target and doesn't know of any more, in the folders that are ours.
    fn sweep(&self) {
        let folders = [
            "usr/bin",
            "usr/lib/smolotchi",
            "usr/lib/smolotchi/config.d",
            "usr/lib/systemd/system",
            "usr/lib/systemd/system/multi-user.target.wants",
            "usr/lib/systemd/system/smolotchi-.service.d",
            "usr/lib/systemd/system/smolotchi-install-change.service.d",
            "usr/lib/systemd/system/smolotchi-install-heal.service.d",
            "usr/lib/sysusers.d",
            "usr/lib/tmpfiles.d",
            "usr/share/man/man1",
            "usr/share/doc/smolotchi",
            "usr/share/doc/smolotchi-install",
            "usr/share/bash-completion/completions",
            "usr/share/zsh/vendor-completions",
            "usr/share/fish/vendor_completions.d",
            "usr/share/lintian/overrides",
            "etc/apt/apt.conf.d",
        ];
        for folder in folders {
            for file in list(&self.paths.root().join(folder)).unwrap_or_default() {
                let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let in_ours = folder.contains("smolotchi") || name.contains("smolotchi");
                if in_ours && (name.ends_with(".dpkg-new") || name.ends_with(".dpkg-tmp")) {
                    told(durable::remove(&file));
                }
            }
        }
    }
}

/// The package files of `name` in a folder that are whole, with their versions.
fn files_of(folder: &std::path::Path, name: &str) -> Vec<(String, PathBuf)> {
    let prefix = format!("{name}_");
    list(folder)
        .unwrap_or_default()
        .into_iter()
        .filter(|file| file.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&prefix)))
        .filter(|file| file.extension().is_some_and(|extension| extension == "deb"))
        .filter_map(|file| {
            let (found, version) = dpkg::identify(&file)?;
            (found == name).then_some((version, file))
        })
        .collect()
}

fn is_of(deb: &Installable, package: &str) -> bool {
    deb.path().file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{package}_")))
}

/// Wanted, and neither whole nor cleanly absent.
fn is_broken(package: &Package) -> bool {
    let absent = matches!(package.state.get(1..2), Some("n" | "c")) && !package.state.ends_with('R');
    !package.is_whole() && !absent && !package.state.starts_with(['r', 'p']) && !is_tolerable(package)
}

/// On its way out, and not out.
fn is_leaving(package: &Package) -> bool {
    let state = package.state.get(1..2).unwrap_or_default();
    match package.state.get(..1) {
        Some("r") => !package.is_whole() && !matches!(state, "n" | "c"),
        Some("p") => !package.is_whole() && state != "n",
        _ => false,
    }
}

/// Triggers that wait for another package are dpkg's own business, and apt goes on over them.
fn is_tolerable(package: &Package) -> bool {
    matches!(package.state.get(1..2), Some("W" | "t")) && !package.state.ends_with('R')
}

fn told(result: Result<()>) {
    if let Err(fault) = result {
        log::warning(fault.code, fault.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_broken_and_what_is_leaving() {
        for (state, broken, leaving) in [
            ("ii ", false, false),
            ("hi ", false, false),
            ("ri ", false, false),
            ("pi ", false, false),
            ("rc ", false, false),
            ("pn ", false, false),
            ("un ", false, false),
            ("iHR", true, false),
            ("iU ", true, false),
            ("iF ", true, false),
            ("iiR", true, false),
            ("it ", false, false),
            ("rH ", false, true),
            ("rF ", false, true),
            ("pc ", false, true),
            ("pH ", false, true),
        ] {
            let package = Package { name: AGENT.to_owned(), version: "1".to_owned(), state: state.to_owned() };
            assert_eq!((is_broken(&package), is_leaving(&package)), (broken, leaving), "{state}");
        }
    }
}
