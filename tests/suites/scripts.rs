//! Every maintainer script made to fail at every call of Debian Policy chapter 6, by real dpkg on a real machine. The table
//! is Policy's: what is called, in which order, when which calls fail. After dpkg's own unwinding, the engine's going back
//! and at the latest one boot, the machine runs what it ran before (or, where Policy lets the upgrade go on, the new
//! version), healthy, with every row, and apt works. The installer and the keyring only ever move up: where their own new
//! script keeps failing, the same command once more, without the failure, gets there.
//!
//! The packages are the real ones, unpacked, with a few lines put before each script (`smolotchi_lab::rebuilt`), and packed.
//! Needs root and `make dist-demo`. A sample, chosen by SEED (1 if it isn't set); WHOLE=1 runs each case by each caller and
//! at both ends of the failing scripts; CASE=TEXT those whose title holds the text.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use smolotchi_lab::rebuilt::{instrument, rebuild, set_version};
use smolotchi_lab::{Bind, Disk, Lab, Node, Output, Release, dist};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What is asked of dpkg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    /// The new version over the old one.
    Upgrade,
    /// The new version where nothing is.
    Install,
    /// The new version where only configuration files of the old one are left.
    InstallOverConfiguration,
    Remove,
    Purge,
    /// Another package comes that breaks it.
    Deconfigure,
    /// Another package comes in its place.
    Replace,
}

/// How it must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The old version, whole.
    Old,
    /// The new version, whole: Policy lets the operation go on.
    New,
    /// Nothing of it, as before.
    Nothing,
    /// There is no version before to go back to, or the operator wants it gone: dpkg says so, and the same once more, without
    /// the failure, gets there.
    Again,
}

/// One line of Policy: which calls fail, which calls follow.
struct Case {
    name: &'static str,
    operation: Operation,
    fails: &'static [&'static str],
    /// All calls of this package's scripts, in order.
    calls: &'static [&'static str],
    end: End,
}

use End::{Again, New, Nothing, Old};
use Operation::{Deconfigure, Install, InstallOverConfiguration, Purge, Remove, Replace, Upgrade};

/// Policy 6.6, "Details of unpack phase of installation or upgrade", and 6.7 for postinst.
const UPGRADES: &[Case] = &[
    Case {
        name: "old prerm; the new one copes",
        operation: Upgrade,
        fails: &["old prerm upgrade"],
        calls: &["old prerm upgrade", "new prerm failed-upgrade", "new preinst upgrade", "old postrm upgrade", "new postinst configure"],
        end: New,
    },
    Case {
        name: "old and new prerm",
        operation: Upgrade,
        fails: &["old prerm upgrade", "new prerm failed-upgrade"],
        calls: &["old prerm upgrade", "new prerm failed-upgrade", "old postinst abort-upgrade"],
        end: Old,
    },
    Case {
        name: "old and new prerm, and the unwinding",
        operation: Upgrade,
        fails: &["old prerm upgrade", "new prerm failed-upgrade", "old postinst abort-upgrade"],
        calls: &["old prerm upgrade", "new prerm failed-upgrade", "old postinst abort-upgrade"],
        end: Old,
    },
    Case {
        name: "new preinst",
        operation: Upgrade,
        fails: &["new preinst upgrade"],
        calls: &["old prerm upgrade", "new preinst upgrade", "new postrm abort-upgrade", "old postinst abort-upgrade"],
        end: Old,
    },
    Case {
        name: "new preinst, and the new postrm unwinding",
        operation: Upgrade,
        fails: &["new preinst upgrade", "new postrm abort-upgrade"],
        calls: &["old prerm upgrade", "new preinst upgrade", "new postrm abort-upgrade"],
        end: Old,
    },
    Case {
        name: "new preinst, and the old postinst unwinding",
        operation: Upgrade,
        fails: &["new preinst upgrade", "old postinst abort-upgrade"],
        calls: &["old prerm upgrade", "new preinst upgrade", "new postrm abort-upgrade", "old postinst abort-upgrade"],
        end: Old,
    },
    Case {
        name: "old postrm; the new one copes",
        operation: Upgrade,
        fails: &["old postrm upgrade"],
        calls: &["old prerm upgrade", "new preinst upgrade", "old postrm upgrade", "new postrm failed-upgrade", "new postinst configure"],
        end: New,
    },
    Case {
        name: "old and new postrm",
        operation: Upgrade,
        fails: &["old postrm upgrade", "new postrm failed-upgrade"],
        calls: &[
            "old prerm upgrade",
            "new preinst upgrade",
            "old postrm upgrade",
            "new postrm failed-upgrade",
            "old preinst abort-upgrade",
            "new postrm abort-upgrade",
            "old postinst abort-upgrade",
        ],
        end: Old,
    },
    Case {
        name: "old and new postrm, and the old preinst unwinding",
        operation: Upgrade,
        fails: &["old postrm upgrade", "new postrm failed-upgrade", "old preinst abort-upgrade"],
        calls: &[
            "old prerm upgrade",
            "new preinst upgrade",
            "old postrm upgrade",
            "new postrm failed-upgrade",
            "old preinst abort-upgrade",
        ],
        end: Old,
    },
    Case {
        name: "old and new postrm, and the new postrm unwinding",
        operation: Upgrade,
        fails: &["old postrm upgrade", "new postrm failed-upgrade", "new postrm abort-upgrade"],
        calls: &[
            "old prerm upgrade",
            "new preinst upgrade",
            "old postrm upgrade",
            "new postrm failed-upgrade",
            "old preinst abort-upgrade",
            "new postrm abort-upgrade",
        ],
        end: Old,
    },
    Case {
        name: "old and new postrm, and the old postinst unwinding",
        operation: Upgrade,
        fails: &["old postrm upgrade", "new postrm failed-upgrade", "old postinst abort-upgrade"],
        calls: &[
            "old prerm upgrade",
            "new preinst upgrade",
            "old postrm upgrade",
            "new postrm failed-upgrade",
            "old preinst abort-upgrade",
            "new postrm abort-upgrade",
            "old postinst abort-upgrade",
        ],
        end: Old,
    },
    Case {
        name: "new postinst",
        operation: Upgrade,
        fails: &["new postinst configure"],
        calls: &["old prerm upgrade", "new preinst upgrade", "old postrm upgrade", "new postinst configure"],
        end: Old,
    },
];

/// Policy 6.6 for a first installation and over configuration files, and 6.7.
const INSTALLS: &[Case] = &[
    Case {
        name: "preinst of a first installation",
        operation: Install,
        fails: &["new preinst install"],
        calls: &["new preinst install", "new postrm abort-install"],
        end: Nothing,
    },
    Case {
        name: "preinst of a first installation, and the unwinding",
        operation: Install,
        fails: &["new preinst install", "new postrm abort-install"],
        calls: &["new preinst install", "new postrm abort-install"],
        end: Again,
    },
    Case {
        name: "postinst of a first installation",
        operation: Install,
        fails: &["new postinst configure"],
        calls: &["new preinst install", "new postinst configure"],
        end: Again,
    },
    Case {
        name: "preinst over configuration files",
        operation: InstallOverConfiguration,
        fails: &["new preinst install"],
        calls: &["new preinst install", "new postrm abort-install"],
        end: Nothing,
    },
    Case {
        name: "preinst over configuration files, and the unwinding",
        operation: InstallOverConfiguration,
        fails: &["new preinst install", "new postrm abort-install"],
        calls: &["new preinst install", "new postrm abort-install"],
        end: Again,
    },
];

/// Policy 6.8, "Details of removal and/or configuration purging", and 6.6 for what another package brings about.
const REMOVALS: &[Case] = &[
    Case {
        name: "prerm of a removal",
        operation: Remove,
        fails: &["old prerm remove"],
        calls: &["old prerm remove", "old postinst abort-remove"],
        end: Old,
    },
    Case {
        name: "prerm of a removal, and the unwinding",
        operation: Remove,
        fails: &["old prerm remove", "old postinst abort-remove"],
        calls: &["old prerm remove", "old postinst abort-remove"],
        end: Again,
    },
    Case {
        name: "postrm of a removal",
        operation: Remove,
        fails: &["old postrm remove"],
        calls: &["old prerm remove", "old postrm remove"],
        end: Again,
    },
    Case {
        name: "postrm of a purge",
        operation: Purge,
        fails: &["old postrm purge"],
        calls: &["old prerm remove", "old postrm remove", "old postrm purge"],
        end: Again,
    },
    Case {
        name: "prerm of a deconfiguration",
        operation: Deconfigure,
        fails: &["old prerm deconfigure"],
        calls: &["old prerm deconfigure", "old postinst abort-deconfigure"],
        end: Old,
    },
    Case {
        name: "prerm of a deconfiguration, and the unwinding",
        operation: Deconfigure,
        fails: &["old prerm deconfigure", "old postinst abort-deconfigure"],
        calls: &["old prerm deconfigure", "old postinst abort-deconfigure"],
        end: Old,
    },
    Case {
        name: "prerm of a replacement",
        operation: Replace,
        fails: &["old prerm remove"],
        calls: &["old prerm remove", "old postinst abort-remove"],
        end: Old,
    },
];

/// Who calls dpkg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Dpkg,
    Apt,
}

/// Where the failing scripts fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before they have done anything.
    Begin,
    /// When they have done all their work.
    End,
}

/// Where the scripts leave and find their words on a node.
const WORDS: &str = "/var/lib/lab";
/// Where a node sees the packages.
const PACKAGES: &str = "/srv/scripts";
const ROWS: u32 = 100;
/// Without WHOLE, one in so many runs is done.
const SAMPLE: usize = 14;

/// What made it well, from the least to the most.
const MENDED: [&str; 4] = ["dpkg's unwinding", "the engine", "one boot", "dpkg once more"];

/// What dpkg can't unwind and no change was open for: nothing of ours ran before it, so that only the healer sees it, at boot.
const BY_A_BOOT: &[(&str, By, At)] = &[
    ("old and new prerm, and the unwinding", By::Dpkg, At::Begin),
    ("old and new prerm, and the unwinding", By::Dpkg, At::End),
    ("new preinst, and the new postrm unwinding", By::Dpkg, At::Begin),
    ("new preinst, and the old postinst unwinding", By::Dpkg, At::Begin),
    ("prerm of a deconfiguration, and the unwinding", By::Dpkg, At::Begin),
    ("prerm of a deconfiguration, and the unwinding", By::Dpkg, At::End),
];

/// A package with an old and a new version.
struct Subject {
    package: &'static str,
    old: &'static str,
    new: &'static str,
}

const AGENT: Subject = Subject { package: "smolotchi", old: "0.1.0", new: "0.2.0" };
const INSTALLER: Subject = Subject { package: "smolotchi-install", old: "0.2.0", new: "0.2.1" };
const KEYRING: Subject = Subject { package: "smolotchi-archive-keyring", old: "2026.1", new: "2026.2" };

/// The packages, made once for the suite: `old/` and `new/` of the three, and two that drive ours away.
fn packages() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scripts");
        let _ = std::fs::remove_dir_all(&folder);
        for subject in [AGENT, INSTALLER, KEYRING] {
            for (label, version) in [("old", subject.old), ("new", subject.new)] {
                let release = if subject.package == "smolotchi" { version } else { "0.2.0" };
                let source = original(subject.package, release);
                rebuild(&source, &folder.join(label), |tree| {
                    set_version(tree, version)?;
                    instrument(tree, label, &format!("{WORDS}/{}", subject.package))
                })
                .unwrap();
            }
        }
        for (name, relation) in [("lab-breaks", "Breaks: smolotchi"), ("lab-replaces", "Conflicts: smolotchi\nReplaces: smolotchi")] {
            let tree = folder.join(name);
            std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
            let control = format!(
                "Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: lab <lab@smolotchi.invalid>\n{relation}\nDescription: drives ours away\n"
            );
            std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
            let deb = folder.join(format!("{name}.deb"));
            let built = std::process::Command::new("dpkg-deb").args(["--root-owner-group", "-b"]).arg(&tree).arg(&deb).output().unwrap();
            assert!(built.status.success(), "{built:?}");
        }
        folder
    })
}

fn original(package: &str, release: &str) -> PathBuf {
    let folder = dist::folder().unwrap().join(format!("releases/{release}/debs"));
    let wanted = format!("{package}_");
    std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with(&wanted))
        .unwrap_or_else(|| panic!("no {package} in {}", folder.display()))
}

struct Bench {
    lab: Lab,
    subject: Subject,
    failures: Vec<String>,
    /// Runs by what made them well.
    counts: [u32; MENDED.len()],
}

impl Bench {
    fn start(release: Release, subject: Subject) -> Bench {
        let bind = Bind { from: packages().to_owned(), to: PACKAGES.into() };
        let lab = dist::lab(release, Disk::default(), vec![bind]).unwrap();
        lab.node(1).set_gate(2).unwrap();
        let bench = Bench { lab, subject, failures: Vec::new(), counts: [0; MENDED.len()] };
        bench.anew();
        bench
    }

    fn node(&self) -> &Node {
        self.lab.node(1)
    }

    /// The old versions of all three, with rows.
    fn anew(&self) {
        let node = self.node();
        node.sh_ok(&format!(
            "rm -rf {WORDS}; dpkg --purge --force-all smolotchi lab-breaks lab-replaces >/dev/null 2>&1; dpkg -i {PACKAGES}/old/*.deb"
        ))
        .unwrap();
        node.wait_idle().unwrap();
        node.wait_healthy().unwrap();
        node.append_events("kept", ROWS).unwrap();
    }

    /// The state that a case begins in.
    fn prepare(&self, case: &Case) {
        let (node, subject) = (self.node(), &self.subject);
        node.sh_ok(&format!("rm -rf {WORDS}")).unwrap();
        // The agent's going down is watched; that of the others is nothing.
        if self.state() != format!("ii {}", subject.old) {
            node.sh_ok(&format!("dpkg -i {PACKAGES}/old/{}_*.deb", subject.package)).unwrap();
            node.wait_idle().unwrap();
        }
        node.wait_healthy().unwrap();
        // After a purge there is a new database.
        if node.count_events("kept").unwrap() == (0, 0) {
            node.append_events("kept", ROWS).unwrap();
        }
        node.sh_ok(&format!("smolotchi-install unblock {} 2>/dev/null || true", AGENT.new)).unwrap();
        match case.operation {
            Install => node.sh_ok(&format!("dpkg --purge {}", subject.package)).map(drop).unwrap(),
            InstallOverConfiguration => node.sh_ok(&format!("dpkg --remove {}", subject.package)).map(drop).unwrap(),
            _ => {}
        }
        node.sh_ok(&format!("rm -rf {WORDS}")).unwrap();
    }

    fn state(&self) -> String {
        let output = self.node().run(&["dpkg-query", "-W", "-f=${db:Status-Abbrev}${Version}", self.subject.package]).unwrap();
        if output.ok() { output.stdout.trim().to_owned() } else { String::new() }
    }

    fn operate(&self, operation: Operation, by: By) -> Output {
        let package = self.subject.package;
        let new = format!("{PACKAGES}/new/{package}_*.deb");
        let line = match (operation, by) {
            (Upgrade | Install | InstallOverConfiguration, By::Dpkg) => format!("dpkg -i {new}"),
            (Upgrade | Install | InstallOverConfiguration, By::Apt) => format!("apt-get install -y {new}"),
            (Remove, By::Dpkg) => format!("dpkg --remove {package}"),
            (Remove, By::Apt) => format!("apt-get remove -y {package}"),
            (Purge, By::Dpkg) => format!("dpkg --purge {package}"),
            (Purge, By::Apt) => format!("apt-get purge -y {package}"),
            (Deconfigure, _) => format!("dpkg --auto-deconfigure -i {PACKAGES}/lab-breaks.deb"),
            (Replace, _) => format!("dpkg -i {PACKAGES}/lab-replaces.deb"),
        };
        self.node().sh(&format!("export DEBIAN_FRONTEND=noninteractive; {line}")).unwrap()
    }

    /// What is wrong with the end; nothing if it is as it must be.
    fn judge(&self, case: &Case, end: End) -> Option<String> {
        let node = self.node();
        let subject = &self.subject;
        let gone = matches!(case.operation, Remove | Purge);
        let wanted = match end {
            Old => format!("ii {}", subject.old),
            New | Again if !gone => format!("ii {}", subject.new),
            Nothing if case.operation == InstallOverConfiguration => format!("ic {}", subject.old),
            Again if case.operation == Remove => format!("rc {}", subject.old),
            New | Again | Nothing => String::new(),
        };
        let state = self.state();
        // dpkg keeps a line with nothing in it for a package that was once asked for.
        let state = if state.get(1..2) == Some("n") { "" } else { &state };
        // The first letter is only what was wanted of the package.
        if state.get(1..) != wanted.get(1..) {
            return Some(format!("dpkg has {state:?}, not {wanted:?}"));
        }
        let check = node.run(&["apt-get", "check"]).unwrap();
        if !check.ok() {
            return Some(format!("apt-get check: {}", check.stderr));
        }
        // Without the agent there is nothing to be healthy.
        if subject.package != AGENT.package || matches!(end, Old | New) {
            if let Err(fault) = node.wait_healthy() {
                return Some(format!("not healthy: {fault}"));
            }
            let rows = u64::from(ROWS);
            let counted = node.count_events("kept").unwrap();
            if counted != (rows, rows) {
                return Some(format!("rows: {counted:?} of {ROWS}"));
            }
        }
        let violations = node.invariants().unwrap();
        (!violations.is_empty()).then(|| format!("{violations:?}"))
    }

    /// Goes on from what dpkg left to the end of the case: what made it well, or what is wrong.
    fn mend(&self, case: &Case, left: &str) -> Result<usize, String> {
        let node = self.node();
        let mut wrong = String::new();
        if case.end != Again {
            node.wait_idle().map_err(|fault| fault.to_string())?;
            match self.judge(case, case.end) {
                None => return Ok(usize::from(self.state() != left)),
                Some(at_first) => wrong = at_first,
            }
            node.reboot().unwrap();
            node.wait_idle().map_err(|fault| fault.to_string())?;
            match self.judge(case, case.end) {
                None => return Ok(2),
                Some(still) => wrong = format!("after a boot: {still}; before: {wrong}"),
            }
            if self.subject.package == AGENT.package {
                return Err(wrong);
            }
        }
        node.sh_ok(&format!("rm -rf {WORDS}")).unwrap();
        let output = self.operate(case.operation, By::Dpkg);
        node.wait_idle().map_err(|fault| fault.to_string())?;
        if case.end != Again {
            // As the runbook of change.heal-failed has it.
            let healed = node.sh("smolotchi-install heal && systemctl reset-failed 'smolotchi-install-heal*'").unwrap();
            if !healed.ok() {
                return Err(format!("once more, and then heal: {healed:?}; {wrong}"));
            }
        }
        match self.judge(case, Again) {
            None if output.ok() => Ok(3),
            still => Err(format!("once more: {still:?} {output:?}; {wrong}")),
        }
    }

    fn title(&self, case: &Case, by: By, at: At) -> String {
        format!("{}: {} (by {by:?}, at {at:?})", self.subject.package, case.name)
    }

    fn run(&mut self, case: &Case, by: By, at: At) {
        self.prepare(case);
        let node = self.node();
        let folder = format!("{WORDS}/{}", self.subject.package);
        for call in case.fails {
            node.write(&format!("{folder}/{}/{call}", if at == At::Begin { "begin" } else { "end" }), b"").unwrap();
        }
        let output = self.operate(case.operation, by);
        let said = format!("{}{}", output.stdout, output.stderr);
        let left = self.state();
        let calls = node.sh_ok(&format!("cat {folder}/calls 2>/dev/null || true")).unwrap();
        let seen: Vec<&str> = calls.lines().take(case.calls.len()).collect();
        let goes_on = case.end == New;
        let mut wrong = Vec::new();
        if seen != case.calls {
            wrong.push(format!("called {:?}, Policy says {:?}", calls.lines().collect::<Vec<_>>(), case.calls));
        }
        if output.ok() != goes_on {
            wrong.push(format!("ended with {}", output.status));
        }
        let mended = self.mend(case, &left).map_err(|still| wrong.push(still));
        let title = self.title(case, by, at);
        match mended {
            Ok(by) if wrong.is_empty() => {
                self.counts[by] += 1;
                println!("{title}: dpkg left {left:?}; well by {}", MENDED[by]);
            }
            _ => {
                println!("{title}: FAILED: {wrong:?}");
                let status = self.node().change_status().map(|status| status["last_change"].to_string()).unwrap_or_default();
                self.failures.push(format!("{title}: dpkg left {left:?}: {wrong:#?}\n{said}\n{status}"));
                self.anew();
            }
        }
    }

    /// Each case by each caller and at both ends of the failing scripts, or some of these runs. What only a boot mends is
    /// apart.
    fn run_all(mut self, cases: &[&'static [Case]], by_a_boot: bool) {
        let mut runs = Vec::new();
        for case in cases.iter().copied().flatten() {
            for by in [By::Dpkg, By::Apt] {
                for at in [At::Begin, At::End] {
                    let apart = self.subject.package == AGENT.package && BY_A_BOOT.contains(&(case.name, by, at));
                    // No command of apt asks for these.
                    let asked = by == By::Dpkg || !matches!(case.operation, Deconfigure | Replace);
                    if asked && apart == by_a_boot {
                        runs.push((case, by, at));
                    }
                }
            }
        }
        let all = runs.len();
        let chosen = match std::env::var("CASE") {
            Ok(text) => runs.into_iter().filter(|(case, by, at)| self.title(case, *by, *at).contains(&text)).collect(),
            Err(_) => sample(self.subject.package, runs),
        };
        for (case, by, at) in chosen {
            self.run(case, by, at);
        }
        let bad = self.failures.len();
        let runs = self.counts.iter().sum::<u32>() as usize + bad;
        let counts: Vec<String> = self.counts.iter().zip(MENDED).map(|(count, by)| format!("{count} well by {by}")).collect();
        println!("{}: {runs} of {all} runs: {}, {bad} bad", self.subject.package, counts.join(", "));
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n\n"));
    }
}

/// All runs, in their order; or, without WHOLE, one in [`SAMPLE`] of them, each as likely as any other, and others for
/// another package.
fn sample<T>(package: &str, runs: Vec<T>) -> Vec<T> {
    if std::env::var_os("WHOLE").is_some() {
        return runs;
    }
    let seed: u64 = std::env::var("SEED").map_or(1, |text| text.parse().unwrap_or_else(|_| panic!("SEED={text} is no number")));
    println!("SEED={seed}");
    let seed = package.bytes().fold(seed, |seed, byte| random(seed, u64::from(byte)));
    let mut keyed: Vec<(u64, T)> = runs.into_iter().zip(0_u64..).map(|(run, number)| (random(seed, number), run)).collect();
    keyed.sort_by_key(|(key, _)| *key);
    let count = keyed.len().div_ceil(SAMPLE);
    keyed.into_iter().take(count).map(|(_, run)| run).collect()
}

/// SplitMix64 of both.
fn random(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Over some seeds every run has its turn.
#[test]
fn samples_leave_nothing_out() {
    let chosen = |seed: u64| (0..44_u64).min_by_key(|number| random(seed, *number));
    let seen: std::collections::BTreeSet<_> = (0..1_000).map(chosen).collect();
    assert_eq!(seen.len(), 44);
}

#[test]
fn every_call_of_an_upgrade_of_the_agent() {
    Bench::start(Release::Bookworm, AGENT).run_all(&[UPGRADES], false);
}

#[test]
fn every_call_of_an_installation_and_a_removal_of_the_agent() {
    Bench::start(Release::Trixie, AGENT).run_all(&[INSTALLS, REMOVALS], false);
}

#[test]
fn what_only_a_boot_mends() {
    Bench::start(Release::Bookworm, AGENT).run_all(&[UPGRADES, REMOVALS], true);
}

#[test]
fn every_call_of_an_upgrade_of_the_installer() {
    Bench::start(Release::Bookworm, INSTALLER).run_all(&[UPGRADES], false);
}

#[test]
fn every_call_of_an_upgrade_of_the_keyring() {
    Bench::start(Release::Trixie, KEYRING).run_all(&[UPGRADES], false);
}
