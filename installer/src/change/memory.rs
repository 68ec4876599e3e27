//! What the installer remembers between changes (`state.toml`): blocked and skipped versions, a pause, the highest channel
//! sequence seen; and the apt pins that follow from it and from the maintenance window.
//!
//! Everyone who changes it does so through [`update`], under one lock, so that no one's word is lost; it also lets go what
//! has run out and makes the pins say what the state says. Keeping out is apt's pin and never a failing hook, so that
//! other packages' upgrades go on.
//!
//! Read kindly: keys of a newer installer are kept as they are, and a damaged file is set aside under another name and said
//! so: losing a block or a sequence is better than a machine that can't be upgraded or rolled back.

use crate::host::{clock, dpkg, lock};
use crate::paths::Paths;
use crate::settings::{self, Settings};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use smolotchi_operator::{Code, Fault, Result, durable, log};
use std::collections::BTreeMap;

/// The content of `state.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Highest sequence seen, by channel.
    pub sequences: BTreeMap<String, u64>,
    /// Why a version may not come back, by version. Runs out.
    pub blocked: BTreeMap<String, Block>,
    /// Versions that the operator doesn't want. Never runs out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<String, Block>,
    /// No version may come while this stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// What a newer installer wrote.
    #[serde(flatten)]
    pub rest: toml::Table,
}

/// Why a version is kept out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// In one sentence.
    pub reason: String,
    /// Since when, by the wall clock.
    pub at: String,
    /// What a newer installer wrote.
    #[serde(flatten)]
    pub rest: toml::Table,
}

impl Block {
    /// A block from now on.
    pub fn now(reason: impl Into<String>) -> Block {
        Block { reason: reason.into(), at: clock::wall(), rest: toml::Table::new() }
    }
}

/// No version may come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// In one sentence.
    pub reason: String,
    /// Since when, by the wall clock.
    pub at: String,
    /// Until when; none: until `resume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// What a newer installer wrote.
    #[serde(flatten)]
    pub rest: toml::Table,
}

impl Pause {
    /// The words for people: how long and why.
    pub fn sentence(&self) -> String {
        match &self.until {
            Some(until) => format!("paused until {until}: {}", self.reason),
            None => format!("paused: {}", self.reason),
        }
    }
}

impl Memory {
    /// Reads it, for looking only; empty if there is none.
    pub fn load(paths: &Paths) -> Result<Memory> {
        let path = paths.memory();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Memory::default()),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => String::from("\0"),
            Err(error) => return Err(Fault::io("could not read the installer's state", &path, &error)),
        };
        match toml::from_str(&text) {
            Ok(memory) if !text.trim().is_empty() => Ok(memory),
            _ => {
                let aside = path.with_extension("toml.damaged");
                // Not everyone who looks may rename it.
                let so = match durable::rename(&path, &aside) {
                    Ok(()) => format!("set aside as {}", aside.display()),
                    Err(_) => "passed over".to_owned(),
                };
                log::warning(Code::JournalDamaged, format!("{} was damaged and is {so}", path.display()));
                Ok(Memory::default())
            }
        }
    }

    /// Lets go what has run out; what it let go, in words. A clock that is behind a record's own time ends nothing, and a
    /// record that was written before the clock was set counts from the first time that it is seen with one that is.
    fn expire(&mut self, now: Timestamp, block_days: u32) -> Vec<String> {
        let mut ended = Vec::new();
        if !clock::is_set(now) {
            return ended;
        }
        let days = SignedDuration::from_hours(24 * i64::from(block_days));
        self.blocked.retain(|version, block| match block.at.parse::<Timestamp>() {
            Ok(at) if clock::is_set(at) => {
                let over = now >= at && now.duration_since(at) >= days;
                if over {
                    ended.push(format!("{version} is no longer blocked: {block_days} days are over ({})", block.reason));
                }
                !over
            }
            _ => {
                block.at = now.to_string();
                true
            }
        });
        if let Some(pause) = &self.paused {
            let time = |text: &str| text.parse::<Timestamp>().ok();
            let begun = time(&pause.at).is_none_or(|at| now >= at);
            if begun && pause.until.as_deref().and_then(time).is_some_and(|until| now >= until) {
                ended.push(format!("the pause is over ({})", pause.reason));
                self.paused = None;
            }
        }
        ended
    }

    /// apt_preferences(5): exactly the bad versions are kept out, and the next release flows; or all but `installed`.
    /// `None`: nothing is to be kept out.
    fn pins(&self, closed: Option<&str>, installed: Option<&str>) -> Option<String> {
        let mut pins = Vec::new();
        let mut pin = |reason: &str, version: &str, priority: i32| {
            let reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            pins.push(format!("\nExplanation: {reason}\nPackage: smolotchi\nPin: version {version}\nPin-Priority: {priority}\n"));
        };
        for (version, block) in &self.blocked {
            pin(&format!("blocked: {}; lift with: smolotchi-install unblock {version}", block.reason), version, -1);
        }
        for (version, block) in &self.skipped {
            pin(&format!("skipped: {}; lift with: smolotchi-install unblock {version}", block.reason), version, -1);
        }
        let all = match (&self.paused, closed) {
            (Some(pause), _) => Some(format!("{}; end it with: smolotchi-install resume", pause.sentence())),
            (None, Some(closed)) => Some(closed.to_owned()),
            (None, None) => None,
        };
        if let Some(reason) = all {
            // The first record that fits a version counts, and apt is content with a package that stays what it is.
            if let Some(installed) = installed {
                pin("what is installed stays", installed, 100);
            }
            pin(&reason, "*", -1);
        }
        (!pins.is_empty())
            .then(|| format!("# Written by smolotchi-install from its state and settings; changes here are lost.\n{}", pins.concat()))
    }
}

/// Changes the state under its lock, lets go what has run out, and makes the pins follow. Writes nothing when nothing is new.
pub fn update<T>(paths: &Paths, change: impl FnOnce(&mut Memory) -> T) -> Result<T> {
    let _lock = lock::waited(&paths.memory_lock())?;
    let settings = settings::load(paths).unwrap_or_else(|fault| {
        // What is kept out must not depend on a file that someone just spoilt.
        log::fault(&fault);
        Settings::default()
    });
    let mut memory = Memory::load(paths)?;
    let before = memory.clone();
    let result = change(&mut memory);
    let now = clock::wall_time();
    for ended in memory.expire(now, settings.blocks.days) {
        log::notice(ended);
    }
    if memory != before {
        let text = toml::to_string(&memory)
            .map_err(|error| Fault::io("could not write the installer's state", paths.memory(), &std::io::Error::other(error)))?;
        super::make_folder(&paths.state())?;
        durable::replace(&paths.memory(), text.as_bytes(), 0o644)?;
    }
    let closed = settings.window.closed(now, clock::local(now));
    write_pins(paths, &memory, closed.as_deref())?;
    Ok(result)
}

/// Lets go what has run out and mends the pins. For the boot, for `apt update`, and for every command before it plans.
pub fn refresh(paths: &Paths) -> Result<()> {
    update(paths, |_| ())
}

fn write_pins(paths: &Paths, memory: &Memory, closed: Option<&str>) -> Result<()> {
    let path = paths.apt_pin();
    let stops_all = memory.paused.is_some() || closed.is_some();
    let installed = if stops_all { dpkg::agent()?.map(|package| package.version) } else { None };
    let there = std::fs::read(&path).ok();
    match memory.pins(closed, installed.as_deref()) {
        None if there.is_none() => Ok(()),
        None => durable::remove(&path),
        Some(pins) if there.as_deref() == Some(pins.as_bytes()) => Ok(()),
        // In an image build there may be no apt.
        Some(pins) if path.parent().is_some_and(|folder| folder.is_dir()) => durable::replace(&path, pins.as_bytes(), 0o644),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(reason: &str, at: &str) -> Block {
        Block { reason: reason.into(), at: at.into(), rest: toml::Table::new() }
    }

    fn blocked() -> Memory {
        Memory {
            sequences: [("stable".to_owned(), 7)].into(),
            blocked: [("0.3.0".to_owned(), block("core\ncrashed", &clock::wall()))].into(),
            ..Memory::default()
        }
    }

    fn paths() -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        for folder in [paths.apt_pin().parent().unwrap(), &paths.state(), paths.memory_lock().parent().unwrap()] {
            std::fs::create_dir_all(folder).unwrap();
        }
        (root, paths)
    }

    #[test]
    fn the_pin_follows_the_blocks() {
        let (_root, paths) = paths();
        update(&paths, |memory| *memory = blocked()).unwrap();
        assert_eq!(Memory::load(&paths).unwrap().sequences["stable"], 7);
        let pin = std::fs::read_to_string(paths.apt_pin()).unwrap();
        let expected = "Explanation: blocked: core crashed; lift with: smolotchi-install unblock 0.3.0\nPackage: smolotchi\n\
                        Pin: version 0.3.0\nPin-Priority: -1\n";
        assert!(pin.contains(expected), "{pin}");
        // A pin that somebody spoilt is mended, and nothing is written when nothing is new.
        std::fs::write(paths.apt_pin(), "").unwrap();
        refresh(&paths).unwrap();
        assert_eq!(std::fs::read_to_string(paths.apt_pin()).unwrap(), pin);
        let written = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().modified().unwrap();
        let before = (written(paths.memory()), written(paths.apt_pin()));
        refresh(&paths).unwrap();
        assert_eq!((written(paths.memory()), written(paths.apt_pin())), before);
        update(&paths, |memory| memory.blocked.clear()).unwrap();
        assert!(!paths.apt_pin().exists());
    }

    #[test]
    fn a_pause_and_a_closed_window_keep_all_out_but_what_is_installed() {
        let mut memory = Memory::default();
        assert_eq!(memory.pins(None, Some("0.1.0")), None);
        let pins = memory.pins(Some("the maintenance window is closed"), Some("0.1.0")).unwrap();
        let installed = pins.find("Pin: version 0.1.0\nPin-Priority: 100\n").unwrap();
        let all =
            pins.find("Explanation: the maintenance window is closed\nPackage: smolotchi\nPin: version *\nPin-Priority: -1\n").unwrap();
        assert!(installed < all, "the first record that fits counts: {pins}");
        memory.skipped.insert("0.2.0".into(), block("not for us", "2026-01-01T00:00:00Z"));
        assert!(memory.pins(None, None).unwrap().contains("Explanation: skipped: not for us;"));
    }

    #[test]
    fn what_runs_out_and_when() {
        let since = "2026-03-01T00:00:00Z";
        // (the record's own time, the clock, whether the block stays, whether a pause until 2026-03-08 stays)
        for (at, now, blocked, paused) in [
            (since, "2026-03-01T00:00:01Z", true, true),
            (since, "2026-03-08T00:00:00Z", true, false),
            (since, "2026-03-30T23:59:59Z", true, false),
            (since, "2026-03-31T00:00:00Z", false, false),
            // The clock is behind the record's own time, or was never set.
            (since, "2026-02-01T00:00:00Z", true, true),
            (since, "1970-01-01T00:10:00Z", true, true),
            // The clock was ahead when it was written.
            ("2030-01-01T00:00:00Z", "2026-12-01T00:00:00Z", true, true),
            // The clock wasn't set when it was written.
            ("1970-01-01T00:10:00Z", "2026-12-01T00:00:00Z", true, false),
        ] {
            let pause =
                Pause { reason: "holidays".into(), at: at.into(), until: Some("2026-03-08T00:00:00Z".into()), rest: toml::Table::new() };
            let mut memory = Memory { blocked: [("0.3.0".into(), block("crashed", at))].into(), paused: Some(pause), ..Memory::default() };
            memory.skipped.insert("0.4.0".into(), block("not wanted", at));
            memory.expire(now.parse().unwrap(), 30);
            assert_eq!((memory.blocked.len() == 1, memory.paused.is_some()), (blocked, paused), "written {at}, now {now}");
            assert_eq!(memory.skipped.len(), 1, "a skipped version stays so");
        }
        let mut unset = Memory { blocked: [("0.3.0".into(), block("crashed", "1970-01-01T00:10:00Z"))].into(), ..Memory::default() };
        unset.expire("2026-12-01T00:00:00Z".parse().unwrap(), 30);
        assert_eq!(unset.blocked["0.3.0"].at, "2026-12-01T00:00:00Z", "it counts from the first set clock that sees it");
    }

    #[test]
    fn keys_of_a_newer_installer_are_kept() {
        let (_root, paths) = paths();
        let text = "mood = \"good\"\n[sequences]\nstable = 7\n[blocked.\"0.3.0\"]\nreason = \"crashed\"\nat = \"2126-01-01T00:00:00Z\"\n\
                    level = 3\n[later]\nx = [1, 2]\n";
        std::fs::write(paths.memory(), text).unwrap();
        update(&paths, |memory| memory.sequences.insert("beta".into(), 1)).unwrap();
        let now: toml::Table = toml::from_str(&std::fs::read_to_string(paths.memory()).unwrap()).unwrap();
        assert_eq!((now["mood"].as_str(), now["later"]["x"][1].as_integer()), (Some("good"), Some(2)));
        assert_eq!((now["blocked"]["0.3.0"]["level"].as_integer(), now["sequences"]["beta"].as_integer()), (Some(3), Some(1)));
    }

    #[test]
    fn no_word_is_lost_between_two_writers() {
        let (_root, paths) = paths();
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let paths = &paths;
                scope.spawn(move || {
                    for number in 0..5 {
                        let name = format!("{writer}.{number}.0");
                        update(paths, |memory| memory.skipped.insert(name, block("x", "2026-01-01T00:00:00Z"))).unwrap();
                    }
                });
            }
        });
        assert_eq!(Memory::load(&paths).unwrap().skipped.len(), 40);
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        for damage in [&b""[..], b"\0\0\0\0", b"[blocked", b"\xff\xfe"] {
            let (_root, paths) = paths();
            std::fs::write(paths.memory(), damage).unwrap();
            assert_eq!(Memory::load(&paths).unwrap(), Memory::default(), "{damage:?}");
            assert!(paths.memory().with_extension("toml.damaged").exists());
        }
    }
}
