//! The reference model: what a machine must be after each step, in a few rules and without a machine. It decides nothing that
//! a power cut decides: there it says what is allowed, and goes on from what was seen.

use std::collections::BTreeSet;
use std::fmt;

/// A release of `make dist-demo`, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    First,
    Second,
    /// Its core crashes.
    Crashing,
}

pub const VERSIONS: [Version; 3] = [Version::First, Version::Second, Version::Crashing];

impl Version {
    pub fn text(self) -> &'static str {
        match self {
            Version::First => "0.1.0",
            Version::Second => "0.2.0",
            Version::Crashing => "0.3.0",
        }
    }

    pub fn of(text: &str) -> Option<Version> {
        VERSIONS.into_iter().find(|version| version.text() == text)
    }

    fn is_good(self) -> bool {
        self != Version::Crashing
    }
}

/// Who is asked for an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Installer,
    /// `apt-get upgrade`, offered all versions up to this one.
    Apt,
    /// `dpkg -i`, also of an older version.
    Dpkg,
}

impl By {
    fn text(self) -> &'static str {
        match self {
            By::Installer => "installer",
            By::Apt => "apt",
            By::Dpkg => "dpkg",
        }
    }
}

/// What is done to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Append(u32),
    Upgrade(Version, By),
    /// To the version before, or to this one.
    Rollback(Option<Version>),
    /// By the installer, where nothing is.
    Install(Version),
    Purge,
    Hold,
    Unhold,
    Pause,
    Resume,
    Skip(Version),
    Unblock(Version),
    MaskWeb,
    UnmaskWeb,
    EditConfiguration(u32),
    DropSlot(Version),
    Reboot,
    /// While the disk is full; freed afterwards.
    OnAFullDisk(Box<Step>),
    /// The power goes so many milliseconds after the change was opened.
    Cut(u32, Box<Step>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Append(count) => write!(f, "append {count}"),
            Step::Upgrade(to, by) => write!(f, "upgrade {} {}", to.text(), by.text()),
            Step::Rollback(None) => f.write_str("rollback"),
            Step::Rollback(Some(to)) => write!(f, "rollback {}", to.text()),
            Step::Install(to) => write!(f, "install {}", to.text()),
            Step::Purge => f.write_str("purge"),
            Step::Hold => f.write_str("hold"),
            Step::Unhold => f.write_str("unhold"),
            Step::Pause => f.write_str("pause"),
            Step::Resume => f.write_str("resume"),
            Step::Skip(version) => write!(f, "skip {}", version.text()),
            Step::Unblock(version) => write!(f, "unblock {}", version.text()),
            Step::MaskWeb => f.write_str("mask"),
            Step::UnmaskWeb => f.write_str("unmask"),
            Step::EditConfiguration(number) => write!(f, "edit {number}"),
            Step::DropSlot(version) => write!(f, "drop-slot {}", version.text()),
            Step::Reboot => f.write_str("reboot"),
            Step::OnAFullDisk(step) => write!(f, "full {step}"),
            Step::Cut(after, step) => write!(f, "cut {after} {step}"),
        }
    }
}

/// The reverse of [`Step`]'s `Display`.
pub fn parse(text: &str) -> Option<Step> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let rest = |from: usize| parse(&words[from..].join(" ")).map(Box::new);
    Some(match words[..] {
        ["append", count] => Step::Append(count.parse().ok()?),
        ["upgrade", to, by] => {
            let by = [By::Installer, By::Apt, By::Dpkg].into_iter().find(|other| other.text() == by)?;
            Step::Upgrade(Version::of(to)?, by)
        }
        ["rollback"] => Step::Rollback(None),
        ["rollback", to] => Step::Rollback(Some(Version::of(to)?)),
        ["install", to] => Step::Install(Version::of(to)?),
        ["purge"] => Step::Purge,
        ["hold"] => Step::Hold,
        ["unhold"] => Step::Unhold,
        ["pause"] => Step::Pause,
        ["resume"] => Step::Resume,
        ["skip", version] => Step::Skip(Version::of(version)?),
        ["unblock", version] => Step::Unblock(Version::of(version)?),
        ["mask"] => Step::MaskWeb,
        ["unmask"] => Step::UnmaskWeb,
        ["edit", number] => Step::EditConfiguration(number.parse().ok()?),
        ["drop-slot", version] => Step::DropSlot(Version::of(version)?),
        ["reboot"] => Step::Reboot,
        ["full", ..] => Step::OnAFullDisk(rest(1)?),
        ["cut", after, ..] => Step::Cut(after.parse().ok()?, rest(2)?),
        _ => return None,
    })
}

/// What a machine is, as far as it can be seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub installed: Option<Version>,
    pub blocked: BTreeSet<Version>,
    pub skipped: BTreeSet<Version>,
    /// Versions that can be gone back to, newest slot first.
    pub slots: Vec<Version>,
    pub rows: u32,
    pub held: bool,
    pub paused: bool,
    pub web_masked: bool,
    /// The number in the operator's fragment.
    pub configuration: Option<u32>,
}

/// Slots that stay.
const KEPT: usize = 2;

/// How a step must end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code of its command; none: any but 0.
    pub exit: Option<i32>,
    /// What the machine is then.
    pub machine: Machine,
}

impl Machine {
    /// 0.1.0 with no history.
    pub fn new() -> Machine {
        Machine {
            installed: Some(Version::First),
            blocked: BTreeSet::new(),
            skipped: BTreeSet::new(),
            slots: Vec::new(),
            rows: 0,
            held: false,
            paused: false,
            web_masked: false,
            configuration: None,
        }
    }

    /// How a step must end when nothing interferes. Not for cuts: [`Machine::after_a_cut`].
    pub fn outcome(&self, step: &Step) -> Outcome {
        let mut next = self.clone();
        let exit = next.go(step);
        Outcome { exit, machine: next }
    }

    /// Whether nothing is promised about a step: a version that dpkg is given where there is none before has nothing to go
    /// back to.
    pub fn is_unpromised(&self, step: &Step) -> bool {
        match step {
            Step::Cut(_, step) | Step::OnAFullDisk(step) => self.is_unpromised(step),
            Step::Upgrade(Version::Crashing, By::Dpkg) => self.installed.is_none(),
            _ => false,
        }
    }

    /// Whether the machine may be `seen` after the power went in the middle of a step: the old version or the new one, and
    /// nothing else is different from how the step would have left it or found it.
    pub fn after_a_cut(&self, step: &Step, seen: &Machine) -> bool {
        let done = self.outcome(step).machine;
        if *step == Step::Purge {
            // A removal that was begun is finished: all of it or nothing.
            return *seen == *self || *seen == done;
        }
        let version = seen.installed == self.installed || seen.installed == done.installed;
        // A block is a word about a version that was tried; the power is nothing that a good version can be blamed for.
        let blocked = seen.blocked == self.blocked || (seen.blocked == done.blocked && (seen.installed == done.installed));
        let slots = seen.slots == self.slots || seen.slots == done.slots;
        // dpkg takes a hold away when it begins.
        let held = seen.held == self.held || seen.held == done.held;
        let rest = Machine {
            installed: seen.installed,
            blocked: seen.blocked.clone(),
            slots: seen.slots.clone(),
            held: seen.held,
            ..self.clone()
        };
        version && blocked && slots && held && *seen == rest
    }

    /// Does the step; its exit code.
    fn go(&mut self, step: &Step) -> Option<i32> {
        match step {
            Step::Append(count) => {
                if self.installed.is_some() {
                    self.rows += count;
                    Some(0)
                } else {
                    None
                }
            }
            Step::Upgrade(to, By::Installer) => Some(self.upgrade_by_installer(*to)),
            Step::Upgrade(to, By::Apt) => {
                self.upgrade_by_apt(*to);
                Some(0)
            }
            Step::Upgrade(to, By::Dpkg) => Some(self.dpkg(*to)),
            Step::Rollback(to) => Some(self.rollback(*to)),
            Step::Install(to) => Some(self.install(*to)),
            Step::Purge => {
                // The state of the installer is another package's.
                *self = Machine { installed: None, rows: 0, held: false, configuration: None, ..self.clone() };
                Some(0)
            }
            Step::Hold => {
                self.held = self.installed.is_some();
                Some(0)
            }
            Step::Unhold => {
                self.held = false;
                Some(0)
            }
            Step::Pause => {
                self.paused = true;
                Some(0)
            }
            Step::Resume => {
                self.paused = false;
                Some(0)
            }
            Step::Skip(version) => {
                self.skipped.insert(*version);
                Some(0)
            }
            Step::Unblock(version) => {
                self.blocked.remove(version);
                self.skipped.remove(version);
                Some(0)
            }
            Step::MaskWeb => {
                self.web_masked = true;
                Some(0)
            }
            Step::UnmaskWeb => {
                self.web_masked = false;
                Some(0)
            }
            Step::EditConfiguration(number) => {
                self.configuration = Some(*number);
                Some(0)
            }
            Step::DropSlot(version) => {
                self.slots.retain(|slot| slot != version);
                Some(0)
            }
            Step::Reboot => Some(0),
            Step::OnAFullDisk(step) => {
                let mut free = self.clone();
                let exit = free.go(step);
                // What would not change the version needs no space; dpkg unpacks also what is there already, and forgets the
                // hold before our guard stops it.
                let by_dpkg = matches!(**step, Step::Upgrade(_, By::Dpkg));
                let changes = by_dpkg || free.installed != self.installed || exit == Some(40);
                if !changes {
                    *self = free;
                    return exit;
                }
                self.held = free.held;
                match **step {
                    Step::Upgrade(_, By::Installer) | Step::Rollback(_) | Step::Install(_) => Some(20),
                    _ => None,
                }
            }
            // Seen from outside only.
            Step::Cut(_, step) => self.go(step),
        }
    }

    fn is_kept_out(&self, version: Version) -> bool {
        self.blocked.contains(&version) || self.skipped.contains(&version)
    }

    fn upgrade_by_installer(&mut self, to: Version) -> i32 {
        let Some(from) = self.installed else { return 20 };
        if from == to {
            return 0;
        }
        if to < from || self.is_kept_out(to) || self.held || self.paused {
            return 20;
        }
        self.change(from, to)
    }

    fn upgrade_by_apt(&mut self, newest: Version) {
        let Some(from) = self.installed else { return };
        if self.held || self.paused {
            return;
        }
        if let Some(to) = VERSIONS.into_iter().rev().find(|version| *version <= newest && !self.is_kept_out(*version)) {
            if to > from {
                self.change(from, to);
            }
        }
    }

    fn dpkg(&mut self, to: Version) -> i32 {
        // dpkg takes the operator's handing it the file for their wish, against a hold too.
        self.held = false;
        match self.installed {
            Some(from) if from != to => {
                self.change(from, to);
            }
            _ => self.installed = Some(to),
        }
        0
    }

    fn rollback(&mut self, to: Option<Version>) -> i32 {
        let Some(from) = self.installed else { return 20 };
        if to == Some(from) {
            return 0;
        }
        let found = match to {
            Some(to) => self.slots.iter().find(|slot| **slot == to),
            None => self.slots.iter().find(|slot| **slot != from && !self.blocked.contains(slot)),
        };
        let Some(to) = found.copied() else { return 20 };
        self.held = false;
        self.keep(from);
        self.blocked.remove(&to);
        self.blocked.insert(from);
        self.installed = Some(to);
        0
    }

    fn install(&mut self, to: Version) -> i32 {
        match self.installed {
            Some(installed) if installed == to => 0,
            Some(_) => 20,
            None if self.is_kept_out(to) || self.paused => 20,
            None if to.is_good() => {
                self.installed = Some(to);
                self.blocked.remove(&to);
                0
            }
            None => 40,
        }
    }

    /// A watched change of the version, with a slot before it.
    fn change(&mut self, from: Version, to: Version) -> i32 {
        self.keep(from);
        if !to.is_good() {
            self.blocked.insert(to);
            return 40;
        }
        self.blocked.remove(&to);
        if to < from {
            self.blocked.insert(from);
        }
        self.installed = Some(to);
        0
    }

    fn keep(&mut self, version: Version) {
        self.slots.retain(|slot| *slot != version);
        self.slots.insert(0, version);
        self.slots.truncate(KEPT);
    }
}

/// A random sequence, the same for the same seed. It follows the model as if no cut changed anything, so that most steps do
/// something; what is refused is worth trying too, but not most of the time.
pub fn sequence(seed: u64, steps: usize) -> Vec<Step> {
    let mut random = Random(seed);
    let mut machine = Machine::new();
    let mut sequence = Vec::new();
    while sequence.len() < steps {
        let mut step = random.step(&machine);
        for _ in 0..2 {
            if machine.outcome(&step).machine != machine {
                break;
            }
            step = random.step(&machine);
        }
        machine = machine.outcome(&step).machine;
        sequence.push(step);
    }
    sequence
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        // SplitMix64: neighbouring seeds give unrelated sequences.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % u64::from(limit)) as u32
    }

    fn version(&mut self) -> Version {
        [Version::First, Version::Second, Version::Second, Version::Crashing][self.below(4) as usize]
    }

    fn good(&mut self) -> Version {
        [Version::First, Version::Second][self.below(2) as usize]
    }

    fn change(&mut self) -> Step {
        match self.below(10) {
            0..=3 => Step::Upgrade(self.version(), By::Installer),
            4..=5 => Step::Upgrade(self.version(), By::Apt),
            6..=7 => Step::Upgrade(self.version(), By::Dpkg),
            8 => Step::Rollback(None),
            _ => Step::Rollback(Some(self.good())),
        }
    }

    fn step(&mut self, machine: &Machine) -> Step {
        // Where nothing is installed nearly all else would be refused.
        if machine.installed.is_none() && self.below(4) > 0 {
            return match self.below(4) {
                0 => Step::Upgrade(self.good(), By::Dpkg),
                1 => Step::Cut(self.below(4_000), Box::new(Step::Install(self.version()))),
                _ => Step::Install(self.version()),
            };
        }
        match self.below(32) {
            0..=2 => Step::Append(1 + self.below(200)),
            3..=11 => self.change(),
            12..=17 => Step::Cut(self.below(6_000), Box::new(self.change())),
            18 => match self.below(2) {
                0 => Step::Purge,
                _ => Step::Cut(self.below(2_000), Box::new(Step::Purge)),
            },
            19 => Step::Hold,
            20 => Step::Unhold,
            21 => Step::Pause,
            22..=23 => Step::Resume,
            24 => Step::Skip(self.good()),
            25..=26 => Step::Unblock(self.version()),
            27 => Step::MaskWeb,
            28 => Step::UnmaskWeb,
            29 => Step::EditConfiguration(50_000 + self.below(1_000)),
            30 => Step::DropSlot(self.good()),
            _ => match self.below(3) {
                0 => Step::Reboot,
                _ => Step::OnAFullDisk(Box::new(Step::Upgrade(self.version(), [By::Installer, By::Dpkg][self.below(2) as usize]))),
            },
        }
    }
}
