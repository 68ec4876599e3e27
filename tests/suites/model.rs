//! Random sequences of what can happen to a machine (upgrades by every way, failing releases, power cuts, going back, holds,
//! pauses, mischief), carried out on real machines and compared after each step with a small reference model.
//!
//! `make test` takes four sequences, always the same (SEED=1), so that it says the same thing twice; SEED, SEQUENCES and
//! STEPS choose others. `MODEL='upgrade 0.2.0 apt; cut 900 rollback'` replays one, so that a failing one can be shortened
//! by hand. Needs root and `make dist-demo`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "model/reference.rs"]
mod reference;

use reference::{By, Machine, Step, Version};
use serde_json::Value;
use smolotchi_lab::story::CHANGE_DEADLINE;
use smolotchi_lab::{Disk, Lab, Node, Output, Release, dist};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// More nodes at the same time than this would only wait for each other.
const AT_ONCE: usize = 2;
/// Beside the version, so that a rollback can't take it along.
const FRAGMENT: &str = "/etc/smolotchi/config.d/50-lab.toml";

struct Real {
    lab: Lab,
    url: String,
    appended: u32,
    /// The last cut was in the middle of something.
    struck: bool,
}

impl Real {
    fn start() -> Real {
        let lab = dist::lab(Release::Bookworm, Disk::Image, Vec::new()).unwrap();
        let url = lab.serve(&dist::folder().unwrap().join("repo"), 0).unwrap();
        let real = Real { lab, url, appended: 0, struck: false };
        let node = real.node();
        node.add_apt_source(&dist::keyring().unwrap(), &real.url, "oldstable").unwrap();
        node.set_gate(4).unwrap();
        node.run_ok(&["apt-get", "install", "-y", "smolotchi"]).unwrap();
        node.wait_healthy().unwrap();
        node.run_ok(&["sync"]).unwrap();
        real
    }

    fn node(&self) -> &Node {
        self.lab.node(1)
    }

    /// Prepares what a step needs, and its shell line.
    fn line(&mut self, step: &Step) -> String {
        match step {
            Step::Upgrade(to, By::Installer) => {
                format!("smolotchi-install upgrade --from {} --channel {}", dist::TREE, dist::channel(to.text()))
            }
            Step::Upgrade(to, By::Apt) => {
                self.node().follow_suite(&self.url, dist::channel(to.text())).unwrap();
                "apt-get upgrade -y".to_owned()
            }
            Step::Upgrade(to, By::Dpkg) => format!("dpkg -i {}", dist::agent_deb(to.text())),
            Step::Rollback(None) => "smolotchi-install rollback".to_owned(),
            Step::Rollback(Some(to)) => format!("smolotchi-install rollback --to {}", to.text()),
            Step::Install(to) => format!("smolotchi-install install --from {} --channel {}", dist::TREE, dist::channel(to.text())),
            Step::Purge => "dpkg --purge smolotchi".to_owned(),
            Step::Hold => "apt-mark hold smolotchi".to_owned(),
            Step::Unhold => "apt-mark unhold smolotchi".to_owned(),
            Step::Pause => "smolotchi-install pause".to_owned(),
            Step::Resume => "smolotchi-install resume".to_owned(),
            Step::Skip(version) => format!("smolotchi-install skip {}", version.text()),
            Step::Unblock(version) => format!("smolotchi-install unblock {}", version.text()),
            Step::MaskWeb => "systemctl mask --now smolotchi-web.socket smolotchi-web.service".to_owned(),
            Step::UnmaskWeb => {
                "systemctl unmask smolotchi-web.socket smolotchi-web.service; systemctl start smolotchi-web.socket || true".to_owned()
            }
            Step::EditConfiguration(number) => {
                format!("mkdir -p /etc/smolotchi/config.d && printf '[retention]\\nmax_events = {number}\\n' >{FRAGMENT}")
            }
            Step::DropSlot(version) => format!("rm -rf /var/lib/smolotchi-install/slots/{}", version.text()),
            Step::OnAFullDisk(step) => self.line(step),
            Step::Append(_) | Step::Reboot | Step::Cut(..) => unreachable!("{step} is no command"),
        }
    }

    /// Does a step and waits until it is over; its exit code where it has one.
    fn act(&mut self, step: &Step) -> Option<Output> {
        match step {
            Step::Append(count) => {
                self.appended += 1;
                let lines: String =
                    (0..*count).map(|n| format!("{{\"topic\":\"lab.row\",\"body\":\"row{} {n}\"}}\n", self.appended)).collect();
                Some(self.node().run_with_input(&["smolotchi", "events", "append"], lines.as_bytes()).unwrap())
            }
            Step::Reboot => {
                self.node().reboot().unwrap();
                None
            }
            Step::OnAFullDisk(inner) => {
                let line = self.line(inner);
                self.node().fill_disk(2 << 20).unwrap();
                let output = self.node().sh(&line).unwrap();
                self.node().free_disk().unwrap();
                Some(output)
            }
            Step::Cut(after, inner) => {
                let line = format!("rm -f /run/lab-over; ({}) >/dev/null 2>&1; touch /run/lab-over", self.line(inner));
                let node = self.lab.node(1);
                node.run_ok(&["sync"]).unwrap();
                let struck = std::thread::scope(|scope| {
                    let running = scope.spawn(|| node.run_within(&["sh", "-c", &line], CHANGE_DEADLINE));
                    if **inner != Step::Purge {
                        let begun = "until [ -L /var/lib/smolotchi-install/open ] || [ -e /run/lab-over ]; do :; done";
                        node.run_within(&["timeout", "120", "sh", "-c", begun], CHANGE_DEADLINE).unwrap();
                    }
                    std::thread::sleep(Duration::from_millis(u64::from(*after)));
                    let struck = node.sh("[ -L /var/lib/smolotchi-install/open ] || ! [ -e /run/lab-over ]").unwrap().ok();
                    node.power_cut().unwrap();
                    running.join().unwrap().unwrap();
                    struck
                });
                self.struck = struck;
                node.boot().unwrap();
                None
            }
            _ => {
                let line = self.line(step);
                let output = self.node().sh(&format!("export DEBIAN_FRONTEND=noninteractive; {line}")).unwrap();
                // An operator's own edit may be lost by the next power cut, and nobody else's fault.
                self.node().run_ok(&["sync"]).unwrap();
                Some(output)
            }
        }
    }

    /// What the machine is.
    fn look(&self) -> Result<Machine, String> {
        let node = self.node();
        let status = node.wait_idle().map_err(|fault| fault.to_string())?;
        let versions = |key: &str| -> BTreeSet<Version> {
            let list = status[key].as_array().cloned().unwrap_or_default();
            list.iter().filter_map(|entry| Version::of(entry["version"].as_str()?)).collect()
        };
        let state = node.installed().map_err(|fault| fault.to_string())?;
        let installed = match Version::of(&state) {
            Some(version) => Some(version),
            None if state.is_empty() || state.starts_with("not-installed") || state.starts_with("config-files") => None,
            None => return Err(format!("dpkg has {state:?}")),
        };
        let shown = |script: &str| node.sh(script).map(|output| output.stdout.trim().to_owned()).map_err(|fault| fault.to_string());
        let rows = shown(
            "db=/var/lib/smolotchi/smolotchi.db; [ -e $db ] || { echo 0 0; exit; }; runuser -u smolotchi -- sqlite3 -batch -cmd '.timeout 10000' \
             \"file:$db?mode=ro\" \"SELECT count(*) || ' ' || count(DISTINCT body) FROM events WHERE body LIKE '%row%'\"",
        )?;
        let rows = match rows.split_once(' ') {
            Some((all, different)) if all == different => all.parse().map_err(|_| format!("rows: {rows}"))?,
            _ => return Err(format!("rows, different rows: {rows}")),
        };
        let slots = status["slots"].as_array().cloned().unwrap_or_default();
        Ok(Machine {
            installed,
            blocked: versions("blocked"),
            skipped: versions("skipped"),
            slots: slots.iter().filter_map(|slot| Version::of(slot["version"].as_str()?)).collect(),
            rows,
            held: shown("apt-mark showhold")? == "smolotchi",
            paused: !status["paused"].is_null(),
            web_masked: shown("systemctl is-enabled smolotchi-web.socket")? == "masked",
            configuration: shown(&format!("sed -n 's/^max_events = //p' {FRAGMENT} 2>/dev/null"))?.parse().ok(),
        })
    }

    /// What is wrong with the machine itself, whatever was asked of it.
    fn ails(&self, machine: &Machine) -> Option<String> {
        let node = self.node();
        if machine.installed.is_some() {
            if let Err(fault) = node.wait_healthy() {
                return Some(format!("not healthy: {fault}"));
            }
        }
        let violations = node.invariants().unwrap();
        (!violations.is_empty()).then(|| format!("{violations:?}"))
    }
}

/// What sequences did, so that nobody takes much ado about nothing for a test.
#[derive(Debug, Default)]
struct Tally {
    steps: u32,
    /// Steps after which another version was installed, or none.
    changes: u32,
    cuts: u32,
    /// Cuts in the middle of something.
    struck: u32,
}

/// Carries a sequence out; what went wrong, if anything.
fn carry_out(name: &str, steps: &[Step], tally: &Mutex<Tally>) -> Result<(), String> {
    let mut real = Real::start();
    let mut model = Machine::new();
    for (number, step) in steps.iter().enumerate() {
        let began = std::time::Instant::now();
        let failed = |what: String| {
            let so_far: Vec<String> = steps[..=number].iter().map(ToString::to_string).collect();
            format!("{name}, step {}: {step}: {what}\nreplay: MODEL='{}'", number + 1, so_far.join("; "))
        };
        if model.is_unpromised(step) {
            println!("{name}: {}: {step}: passed over, there is nothing to go back to", number + 1);
            continue;
        }
        let before = model.installed;
        let output = real.act(step);
        let seen = real.look().map_err(|what| failed(format!("{what}\nbefore: {model:?}\nit said: {output:?}")))?;
        if let Step::Cut(_, inner) = step {
            if !model.after_a_cut(inner, &seen) {
                let done = model.outcome(inner).machine;
                return Err(failed(format!("found {seen:?}\nbefore {model:?}\nwith power {done:?}\n{}", last(&real))));
            }
            model = seen;
        } else {
            let expected = model.outcome(step);
            if seen != expected.machine {
                return Err(failed(format!(
                    "found {seen:?}\nwanted {:?}\nbefore {model:?}\nit said: {output:?}\n{}",
                    expected.machine,
                    last(&real)
                )));
            }
            if let Some(output) = &output {
                let good = expected.exit.map_or(output.status != 0, |exit| output.status == exit);
                if !good {
                    return Err(failed(format!("ended with {}, not {:?}: {output:?}", output.status, expected.exit)));
                }
            }
            model = expected.machine;
        }
        if let Some(what) = real.ails(&model) {
            return Err(failed(format!("{what}\nit said: {output:?}\n{}", last(&real))));
        }
        let version = model.installed.map_or("nothing", Version::text);
        let is_cut = matches!(step, Step::Cut(..));
        let note = if is_cut && real.struck { ", in the middle" } else { "" };
        println!("{name}: {}: {step} -> {version}, {} rows ({:.1?}{note})", number + 1, model.rows, began.elapsed());
        let mut tally = tally.lock().unwrap();
        tally.steps += 1;
        tally.changes += u32::from(model.installed != before);
        tally.cuts += u32::from(is_cut);
        tally.struck += u32::from(is_cut && real.struck);
    }
    Ok(())
}

fn last(real: &Real) -> Value {
    real.node().change_status().map(|status| status["last_change"].clone()).unwrap_or_default()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn real_machines_do_what_the_model_says() {
    if let Ok(text) = std::env::var("MODEL") {
        let steps: Vec<Step> = text
            .split(';')
            .filter(|word| !word.trim().is_empty())
            .map(|word| reference::parse(word).unwrap_or_else(|| panic!("{word:?} is no step")))
            .collect();
        return carry_out("replay", &steps, &Mutex::default()).unwrap_or_else(|what| panic!("{what}"));
    }
    let (seed, sequences, steps) = (number("SEED", 1), number("SEQUENCES", 4), number("STEPS", 8));
    println!("SEED={seed} SEQUENCES={sequences} STEPS={steps}");
    let next = AtomicU64::new(0);
    let (tally, failures) = (Mutex::default(), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= sequences {
                        return;
                    }
                    let sequence = reference::sequence(seed + index, usize::try_from(steps).unwrap());
                    let name = format!("sequence {}", seed + index);
                    let done = std::panic::catch_unwind(|| carry_out(&name, &sequence, &tally));
                    let so = done.unwrap_or_else(|panic| {
                        let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                        let words: Vec<String> = sequence.iter().map(ToString::to_string).collect();
                        Err(format!("{name}: {said}\nreplay: MODEL='{}'", words.join("; ")))
                    });
                    if let Err(what) = so {
                        println!("{what}");
                        failures.lock().unwrap().push(what);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let Tally { steps, changes, cuts, struck } = tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!(
        "model: {sequences} sequences, {steps} steps, {changes} changes of the version, {cuts} cuts ({struck} in the middle), {} bad",
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// What is written is what is read, so that a replay is the sequence that failed.
#[test]
fn steps_are_read_as_they_are_written() {
    for seed in 0..500 {
        for step in reference::sequence(seed, 20) {
            assert_eq!(reference::parse(&step.to_string()), Some(step.clone()), "{step}");
        }
    }
    assert_eq!(reference::parse("upgrade 9.9.9 apt"), None);
}

/// The rules themselves keep what they promise, over more sequences than machines have time for.
#[test]
fn the_model_keeps_its_promises() {
    let mut changes = 0;
    for seed in 0..2_000 {
        let mut machine = Machine::new();
        for step in reference::sequence(seed, 30) {
            let next = machine.outcome(&step).machine;
            if machine.is_unpromised(&step) {
                continue;
            }
            assert_ne!(next.installed, Some(Version::Crashing), "seed {seed}: {step} leaves the crashing version");
            let gone = step == Step::Purge || matches!(&step, Step::Cut(_, inner) if **inner == Step::Purge);
            assert!(gone || next.rows >= machine.rows, "seed {seed}: {step} loses rows");
            assert!(next.slots.len() <= 2, "seed {seed}: {step}: {:?}", next.slots);
            changes += u32::from(next.installed != machine.installed);
            machine = next;
        }
    }
    assert!(changes > 10_000, "the sequences hardly change anything: {changes}");
}
