//! The agent under systemd: starts in any order, stops, restarts and kills, what a stuck loop and a crash loop end in.
//!
//! `make test` takes RESTARTS=20 steps on each Debian, always the same ones (SEED=1); `make test-full` takes 200. Needs root and
//! `make dist-demo`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use nix::sys::ptrace;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use smolotchi_lab::{Node, Release, dist, wait_until};
use std::collections::BTreeMap;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(90);
const CORE: &str = "smolotchi-core.service";
const WEB: &str = "smolotchi-web.service";
/// What no start may ever end in: a folder that a sandbox names was not there.
const NAMESPACE: &str = "status=226";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

fn property(node: &Node, unit: &str, name: &str) -> String {
    node.run_ok(&["systemctl", "show", "-P", name, unit]).unwrap().trim().to_owned()
}

fn restarts(node: &Node, unit: &str) -> u64 {
    property(node, unit, "NRestarts").parse().unwrap()
}

/// Not for any order: the installer's own, a display without a panel, what is off as shipped, and sockets that live and die with core.
const APART: [&str; 6] =
    ["smolotchi-install", "smolotchi-display", "smolotchi-arp", "smolotchi-net.", "smolotchi-senses", "smolotchi-caller"];

/// The agent's services and sockets, whatever this version has.
fn units(node: &Node) -> Vec<String> {
    let text = node.sh_ok("cd /usr/lib/systemd/system && ls -d smolotchi-*.service smolotchi-*.socket").unwrap();
    text.lines().filter(|unit| !APART.iter().any(|apart| unit.starts_with(apart))).map(str::to_owned).collect()
}

/// Runs once and ends: active for nobody to see.
fn ends(node: &Node, unit: &str) -> bool {
    property(node, unit, "Type") == "oneshot"
}

/// Every unit that was asked for is up, none gave up, none was started by systemd itself.
fn assert_well(node: &Node, units: &[String], running: &BTreeMap<String, bool>, step: &str) {
    for unit in units {
        let state = property(node, unit, "ActiveState");
        match running.get(unit) {
            Some(true) if !ends(node, unit) => assert_eq!(state, "active", "{step}: {unit}"),
            _ => assert!(["active", "inactive", "activating"].contains(&state.as_str()), "{step}: {unit} is {state}"),
        }
        if unit.ends_with(".service") {
            assert_eq!(restarts(node, unit), 0, "{step}: {unit} was restarted by systemd");
        }
    }
    let journal = node.sh_ok("journalctl -b --no-pager -o cat -u 'smolotchi-*'").unwrap();
    assert!(!journal.contains(NAMESPACE), "{step}: {journal}");
}

/// Private memory of a service's process and its share of the rest, in KiB.
fn pss(node: &Node, unit: &str) -> u64 {
    let pid = property(node, unit, "MainPID");
    node.sh_ok(&format!("awk '/^Pss:/ {{print $2}}' /proc/{pid}/smaps_rollup")).unwrap().trim().parse().unwrap()
}

fn any_order(release: Release) {
    let lab = dist::healthy(release).unwrap();
    let node = lab.node(1);
    let (seed, steps) = (number("SEED", 1), number("RESTARTS", 20));
    println!("{release:?}: SEED={seed} RESTARTS={steps}");
    let units = units(node);
    assert!(units.iter().any(|unit| unit == CORE) && units.len() >= 5, "{units:?}");
    let services: Vec<_> = units.iter().filter(|unit| unit.ends_with(".service")).collect();

    // Each first, with nothing of the runtime folders there, as at the start of a boot; the others after it.
    let stop_all = format!("systemctl stop {}", units.join(" "));
    for first in &services {
        node.sh_ok(&format!("{stop_all}; rm -rf /run/smolotchi; systemctl start {first}")).unwrap();
        assert_well(node, &units, &BTreeMap::from([((*first).clone(), true)]), &format!("{first} alone"));
        for unit in services.iter().filter(|unit| unit != &first) {
            node.run_ok(&["systemctl", "start", unit]).unwrap();
        }
        node.wait_healthy().unwrap();
    }
    node.run_ok(&["systemctl", "start", "smolotchi-core.socket", "smolotchi-web.socket"]).unwrap();
    let before = pss(node, CORE);

    let mut dice = Dice(seed);
    for step in 0..steps {
        let unit = &units[dice.below(units.len())];
        let verb = ["start", "stop", "restart", "restart", "try-restart"][dice.below(5)];
        let step = format!("{release:?} step {step}: {verb} {unit}");
        node.run_ok(&["systemctl", verb, unit]).unwrap_or_else(|fault| panic!("{step}: {fault}"));
        let expected = if matches!(verb, "start" | "restart") { BTreeMap::from([(unit.clone(), true)]) } else { BTreeMap::new() };
        assert_well(node, &units, &expected, &step);
    }
    let mut start = vec!["systemctl", "start"];
    start.extend(units.iter().map(String::as_str));
    node.run_ok(&start).unwrap();
    assert_well(node, &units, &units.iter().map(|unit| (unit.clone(), true)).collect(), "the end");
    node.wait_healthy().unwrap();
    let after = pss(node, CORE);
    assert!(after <= before + before / 4, "core's memory went from {before} to {after} KiB");
    println!("{release:?}: core's PSS {before} KiB before, {after} KiB after");
}

#[test]
fn any_order_of_starts_and_stops_on_debian_12() {
    any_order(Release::Bookworm);
}

#[test]
fn any_order_of_starts_and_stops_on_debian_13() {
    any_order(Release::Trixie);
}

/// Kills a service until systemd gives up; how long it waited before each new start, in milliseconds.
fn kill_until_failed(node: &Node, unit: &str) -> Vec<u64> {
    // A restart by hand: from here on, crashes are counted.
    node.run_ok(&["systemctl", "restart", unit]).unwrap();
    let stamp = |name: &str| -> u64 { property(node, unit, name).parse().unwrap_or(0) };
    let mut waited = Vec::new();
    loop {
        let count = restarts(node, unit);
        node.run_ok(&["systemctl", "kill", "-s", "KILL", "--kill-who=main", unit]).unwrap();
        let mut failed = false;
        wait_until(&format!("{unit} is back or given up"), DEADLINE, || {
            failed = property(node, unit, "ActiveState") == "failed";
            // Ready again, not only about to be.
            Ok(failed || (restarts(node, unit) > count && property(node, unit, "ActiveState") == "active"))
        })
        .unwrap();
        if failed {
            return waited;
        }
        waited.push((stamp("ExecMainStartTimestampMonotonic") - stamp("ActiveExitTimestampMonotonic")) / 1000);
        assert!(waited.len() < 10, "{unit} is restarted for ever");
    }
}

fn crash_loop(release: Release) {
    let lab = dist::healthy(release).unwrap();
    let node = lab.node(1);
    for unit in ["smolotchi-web.service", CORE] {
        let waited = kill_until_failed(node, unit);
        println!("{release:?}: {unit} was started again after {waited:?} ms, then given up");
        assert_eq!(waited.len(), 3, "fewer than five restarts");
        for (wait, at_least) in waited.iter().zip([1_000, 3_000, 7_000]) {
            assert!((at_least - 100..at_least + 5_000).contains(wait), "each wait has its length: {waited:?}");
        }
        assert!(waited.is_sorted_by(|one, next| *next > one + 500), "each wait is longer than the one before: {waited:?}");
        assert_eq!(property(node, unit, "Result"), "signal", "it stays failed, with the reason of its last end");
    }
    // Callers are told at once.
    let asked = std::time::Instant::now();
    let output = node.run(&["smolotchi", "health"]).unwrap();
    assert_eq!(output.status, 30, "{output:?}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    // The way back that the documentation names.
    node.sh_ok("systemctl reset-failed 'smolotchi-*'; systemctl start smolotchi-core.socket smolotchi-core.service smolotchi-web.socket")
        .unwrap();
    node.wait_healthy().unwrap();
}

#[test]
fn a_crash_loop_ends_in_failed_on_debian_12() {
    crash_loop(Release::Bookworm);
}

#[test]
fn a_crash_loop_ends_in_failed_on_debian_13() {
    crash_loop(Release::Trixie);
}

/// When systemd began each start of a unit, in milliseconds of the journal's monotonic clock.
fn starts(node: &Node, unit: &str) -> Vec<u64> {
    const STARTING: &str = "MESSAGE_ID=7d4958e842da4a758f6c1cdc7b36dcc5";
    let text = node.sh_ok(&format!("journalctl --sync; journalctl -b -q --no-pager -o json _PID=1 UNIT={unit} {STARTING}")).unwrap();
    let entry = |line: &str| -> serde_json::Value { serde_json::from_str(line).unwrap() };
    text.lines().map(|line| entry(line)["__MONOTONIC_TIMESTAMP"].as_str().unwrap().parse::<u64>().unwrap() / 1000).collect()
}

/// Puts a program in the place of ours that takes more and more memory. That a service is slowed down instead, by `MemoryHigh=`, can't be shown on a
/// node, which may have no memory controller: the suite `hardening` sees to it that there is none.
fn leaking(release: Release) {
    let lab = dist::healthy(release).unwrap();
    let node = lab.node(1);
    node.push(std::path::Path::new(env!("CARGO_BIN_EXE_smolotchi-probe")), "/root/probe").unwrap();
    let services = ["core", "web", "ai", "display"];
    for service in services {
        let path = format!("/run/systemd/system/smolotchi-{service}.service.d/50-lab.conf");
        node.write(&path, b"[Service]\nExecStart=\nExecStart=/usr/bin/smolotchi leak\n").unwrap();
    }
    node.sh_ok("systemctl stop 'smolotchi-*'; cp --remove-destination /root/probe /usr/bin/smolotchi; systemctl daemon-reload").unwrap();
    // Only what comes now is counted.
    let before: Vec<usize> = services.iter().map(|service| starts(node, &format!("smolotchi-{service}.service")).len()).collect();
    let units = services.map(|service| format!("smolotchi-{service}.service"));
    node.sh_ok(&format!("systemctl start --no-block {}", units.join(" "))).unwrap();
    for ((service, unit), before) in services.iter().zip(&units).zip(before) {
        wait_until(&format!("{unit} is given up"), DEADLINE, || Ok(property(node, unit, "ActiveState") == "failed")).unwrap();
        let began = starts(node, unit).split_off(before);
        let said = node.sh_ok(&format!("journalctl -b -q --no-pager -o cat -u {unit} -g '^leak '")).unwrap();
        let told: Vec<u64> = said.lines().map(|line| line["leak ".len()..].parse().unwrap()).collect();
        // How far each start came.
        let ends = told.iter().zip(told.iter().skip(1).chain([&0])).filter(|(this, next)| next <= this).map(|(this, _)| *this);
        let ends: Vec<u64> = ends.collect();
        let bound = property(node, unit, "LimitDATA").parse::<u64>().unwrap() >> 20;
        let result = property(node, unit, "Result");
        let between: Vec<u64> = began.windows(2).map(|pair| pair[1] - pair[0]).collect();
        println!("{release:?}: {service}: bound {bound} MiB, ended at {ends:?}, {result}; {between:?} ms from start to start");
        assert!(["signal", "core-dump", "oom-kill"].contains(&result.as_str()), "{unit}: {result}");
        assert_eq!((began.len(), ends.len()), (4, 4), "{unit}");
        assert!(ends.iter().all(|end| (bound - 10..=bound).contains(end)), "{unit}: its bound is {bound} MiB: {ends:?}");
        for (between, wait) in between.iter().zip([1_000, 3_000, 7_000]) {
            assert!((wait - 100..wait + 5_000).contains(between), "{unit} is slowed down, or not waited for: {between}");
        }
    }
    // The others, and the machine, go on.
    assert!(node.run(&["systemctl", "is-active", "dbus.service"]).unwrap().ok());
}

#[test]
fn a_service_that_leaks_is_ended_at_its_bound_and_started_again_on_debian_12() {
    leaking(Release::Bookworm);
}

#[test]
fn a_service_that_leaks_is_ended_at_its_bound_and_started_again_on_debian_13() {
    leaking(Release::Trixie);
}

/// The process's number on this host.
fn on_host(node: &Node, pid: &str) -> i32 {
    let boot = node.sh_ok(&format!("tr '\\0' '\\n' </proc/{pid}/environ | sed -n 's/^SMOLOTCHI_BOOT_ID=//p'")).unwrap();
    let boot = format!("SMOLOTCHI_BOOT_ID={}", boot.trim());
    let found = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let host: i32 = entry.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().last()?;
        let environ = std::fs::read(entry.path().join("environ")).ok()?;
        (inner == pid && environ.split(|byte| *byte == 0).any(|variable| variable == boot.as_bytes())).then_some(host)
    });
    found.unwrap_or_else(|| panic!("process {pid} of the node is not seen from here"))
}

/// Holds one thread of a process, as a disk that never answers would.
fn hold_thread(process: i32, name: &str) -> Pid {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let mut threads = threads.filter(|entry| std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == name));
    let thread = Pid::from_raw(threads.next().unwrap_or_else(|| panic!("no thread {name}")).file_name().to_str().unwrap().parse().unwrap());
    ptrace::seize(thread, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(thread).unwrap();
    assert!(matches!(
        waitpid(thread, Some(nix::sys::wait::WaitPidFlag::__WALL)).unwrap(),
        WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..)
    ));
    thread
}

fn stuck(release: Release) {
    let lab = dist::healthy(release).unwrap();
    let node = lab.node(1);
    // systemd says infinity of what was never started.
    node.run_ok(&["systemctl", "start", WEB]).unwrap();
    for (unit, limit) in [(CORE, "1min 30s"), (WEB, "10min")] {
        assert_eq!(property(node, unit, "WatchdogUSec"), limit, "{unit}");
        // The real unit, only quicker.
        node.write(&format!("/run/systemd/system/{unit}.d/50-lab.conf"), b"[Service]\nWatchdogSec=3\nTimeoutAbortSec=2\n").unwrap();
    }
    node.run_ok(&["systemctl", "daemon-reload"]).unwrap();
    node.run_ok(&["systemctl", "restart", CORE, WEB]).unwrap();

    for (unit, count, what) in [(CORE, 1, "the thread that owns the state"), (CORE, 2, "the whole process"), (WEB, 1, "the whole process")]
    {
        let pid = property(node, unit, "MainPID");
        let held = if what.contains("thread") {
            Some(hold_thread(on_host(node, &pid), "state"))
        } else {
            node.run_ok(&["kill", "-STOP", &pid]).unwrap();
            None
        };
        wait_until(&format!("systemd restarts {unit} although {what} stands still"), DEADLINE, || {
            if let Some(thread) = held {
                // The dead thread has to be taken note of, or its process never ends.
                let _ = waitpid(thread, Some(nix::sys::wait::WaitPidFlag::__WALL | nix::sys::wait::WaitPidFlag::WNOHANG));
            }
            Ok(restarts(node, unit) == count && property(node, unit, "ActiveState") == "active")
        })
        .unwrap();
        assert_ne!(property(node, unit, "MainPID"), pid, "{unit}: {what}");
        node.wait_healthy().unwrap();
    }
    node.sh_ok("curl -sf http://127.0.0.1:8080/api/ready").unwrap();

    // One that hangs again and again is given up like one that crashes.
    for count in [3, 4] {
        let pid = property(node, CORE, "MainPID");
        node.run_ok(&["kill", "-STOP", &pid]).unwrap();
        let state = if count == 3 { "active" } else { "failed" };
        wait_until(&format!("core is {state} after it hung {count} times"), DEADLINE, || {
            Ok(property(node, CORE, "MainPID") != pid && property(node, CORE, "ActiveState") == state)
        })
        .unwrap();
    }
    assert_eq!(property(node, CORE, "Result"), "watchdog");
    for (unit, times) in [(CORE, 4), (WEB, 1)] {
        // Once for each time that it stood still: who is pinged stays.
        let journal = node.sh_ok(&format!("journalctl -b --no-pager -o cat -u {unit}")).unwrap();
        assert_eq!(journal.matches("Watchdog timeout").count(), times, "{unit}: {journal}");
    }
}

#[test]
fn a_stuck_loop_is_restarted_on_debian_12() {
    stuck(Release::Bookworm);
}

#[test]
fn a_stuck_loop_is_restarted_on_debian_13() {
    stuck(Release::Trixie);
}

/// Also what a process said that was gone before the journal looked at it.
fn explained(release: Release) {
    let lab = dist::healthy(release).unwrap();
    let node = lab.node(1);
    node.write("/etc/smolotchi/config.d/50-lab.toml", b"[core]\nmin_free_mib = \"much\"\n").unwrap();
    assert!(!node.run(&["systemctl", "restart", CORE]).unwrap().ok());
    assert_eq!((property(node, CORE, "ActiveState"), property(node, CORE, "ExecMainStatus")), ("failed".into(), "20".into()));
    assert_eq!(restarts(node, CORE), 0, "another try would end the same way");

    let entries = node.run_ok(&["journalctl", "-b", "--no-pager", "-o", "json", "-u", CORE, "SMOLOTCHI_CODE=config.invalid"]).unwrap();
    let entry: serde_json::Value = serde_json::from_str(entries.lines().next().unwrap_or_else(|| panic!("no entry of its unit"))).unwrap();
    let expected = [
        ("PRIORITY", "3"),
        ("SMOLOTCHI_ROLE", "core"),
        ("SYSLOG_IDENTIFIER", "smolotchi"),
        ("SMOLOTCHI_FACT_FILE", "/etc/smolotchi/config.d/50-lab.toml"),
        ("SMOLOTCHI_FACT_LINE", "2"),
        ("SMOLOTCHI_FACT_KEY", "core.min_free_mib"),
    ];
    for (name, value) in expected {
        assert_eq!(entry[name], value, "{name}: {entry}");
    }
    let told = node.sh_ok(&format!("journalctl -b --no-pager -x -u {CORE}")).unwrap();
    for words in [
        "░ Subject: Smolotchi reports config.invalid",
        "░ What to do: mend the file, then check with: smolotchi config check.",
        "░ Subject: Smolotchi reports service.ready",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // Whoever asks meanwhile starts it once more, until systemd has seen enough; then a start alone is refused.
    for _ in 0..4 {
        assert_eq!(node.run(&["smolotchi", "status"]).unwrap().status, 30);
    }
    node.run_ok(&["rm", "/etc/smolotchi/config.d/50-lab.toml"]).unwrap();
    assert!(!node.run(&["systemctl", "start", CORE]).unwrap().ok());
    node.sh_ok("systemctl reset-failed 'smolotchi-*'; systemctl start smolotchi-core.socket smolotchi-core.service smolotchi-web.socket")
        .unwrap();
    node.wait_healthy().unwrap();
}

#[test]
fn the_journal_explains_itself_on_debian_12() {
    explained(Release::Bookworm);
}

#[test]
fn the_journal_explains_itself_on_debian_13() {
    explained(Release::Trixie);
}

/// The lines of `smolotchi doctor` by name, and its exit code.
fn doctor(node: &Node) -> (i32, BTreeMap<String, serde_json::Value>) {
    let output = node.run(&["smolotchi", "--format", "json", "doctor"]).unwrap();
    let report: serde_json::Value = serde_json::from_str(output.stdout.trim()).unwrap_or_else(|_| panic!("{output:?}"));
    let checks = report["checks"].as_array().unwrap().clone();
    let name = |check: &serde_json::Value| format!("{} {}", check["part"].as_str().unwrap(), check["name"].as_str().unwrap());
    (output.status, checks.into_iter().map(|check| (name(&check), check)).collect())
}

const SICKEN: &str = r"
systemctl mask --now smolotchi-prune.timer
systemctl stop smolotchi-web.socket
mkdir -p /etc/systemd/system/smolotchi-core.service.d
printf '[Service]\nCapabilityBoundingSet=CAP_NET_RAW\nNoNewPrivileges=no\n' >/etc/systemd/system/smolotchi-core.service.d/90-lab.conf
printf '[web]\nrefresh_seconds = 1\n' >/etc/smolotchi/config.d/90-lab.toml
rm /usr/share/smolotchi-archive-keyring/*.pub
systemctl daemon-reload";

/// Core runs with less around it than its unit says afterwards.
const LOOSEN: &str = "
rm /etc/smolotchi/config.d/90-lab.toml
systemctl restart smolotchi-core.service
rm /etc/systemd/system/smolotchi-core.service.d/90-lab.conf
systemctl daemon-reload";

/// Secrets in every place where they are met.
const PLANT: &str = r#"
mkdir -p /run/systemd/system/smolotchi-core.service.d
printf '[Service]\nEnvironment=API_TOKEN=S3CRET-env WIFI_PSK=S3CRET-psk\n' >/run/systemd/system/smolotchi-core.service.d/91-lab.conf
systemctl daemon-reload
systemctl restart smolotchi-core.service
printf '# wpa_passphrase=S3CRET wifi\n' >/etc/smolotchi/config.d/91-lab.toml
smolotchi events append lab.said 'from https://user:S3CRET-url@host.example/x'
systemd-run -q --wait --unit=smolotchi-lab-secret sh -c 'echo "password: S3CRET journal"; echo "Authorization: Bearer S3CRET-bearer"'
umask 000
smolotchi support-bundle --output /root/bundle.tar.gz
mkdir /root/b
tar -xzf /root/bundle.tar.gz -C /root/b"#;

fn examined(release: Release) {
    let lab = dist::healthy(release).unwrap();
    let node = lab.node(1);
    let (exit, well) = doctor(node);
    let failed: Vec<_> = well.values().filter(|check| check["state"] == "failed").collect();
    assert!(exit == 0 && failed.is_empty(), "{failed:#?}");
    for name in [
        "agent loop",
        "agent database file",
        "agent configuration",
        "units smolotchi-core.service",
        "units smolotchi-web.socket",
        "processes smolotchi-core.service",
        "packages dpkg",
        "packages release keys",
        "packages apt's key",
        "security smolotchi-core.service",
        "security smolotchi-web.service",
    ] {
        assert_eq!(well[name]["state"], "ok", "{name}: {}", well[name]);
    }

    // Each thing that goes wrong has its line, and a hint.
    node.sh_ok(SICKEN).unwrap();
    let (exit, sick) = doctor(node);
    assert_eq!(exit, 10);
    let wrong = [
        ("units smolotchi-prune.timer", "warning"),
        ("units smolotchi-web.socket", "failed"),
        ("agent configuration", "failed"),
        ("packages release keys", "warning"),
    ];
    for (name, state) in wrong {
        assert_eq!(sick[name]["state"], state, "{name}: {}", sick[name]);
        assert!(sick[name]["hint"].is_string(), "{name}: {}", sick[name]);
    }
    node.sh_ok(LOOSEN).unwrap();
    let loose = doctor(node).1["processes smolotchi-core.service"].clone();
    assert_eq!(loose["state"], "failed", "{loose}");

    node.sh_ok(PLANT).unwrap();
    assert_eq!(node.sh_ok("stat -c %a:%u /root/bundle.tar.gz").unwrap().trim(), "600:0");
    let leaked = node.sh("grep -r S3CRET /root/b").unwrap();
    assert_eq!(leaked.status, 1, "a secret is in it: {leaked:?}");
    for (file, words) in [
        ("journal.txt", "password: \\[redacted\\]"),
        ("units.txt", "\\[redacted\\]"),
        ("config.txt", "wpa_passphrase=\\[redacted\\]"),
        ("events.json", "https://\\[redacted\\]@host.example"),
        ("units.txt", "ActiveState=active"),
        ("journal.txt", "is ready, schema"),
        ("packages.txt", "smolotchi 0.2.0"),
        ("upgrades.txt", "\"state\":\"idle\""),
        ("memory.txt", "VmRSS"),
        ("doctor.txt", "exposure"),
        ("index.json", "journal.txt"),
    ] {
        node.run_ok(&["grep", "-q", words, &format!("/root/b/smolotchi-support/{file}")])
            .unwrap_or_else(|fault| panic!("{words}: {fault}"));
    }
}

#[test]
fn the_doctor_and_the_support_bundle_on_debian_12() {
    examined(Release::Bookworm);
}

#[test]
fn the_doctor_and_the_support_bundle_on_debian_13() {
    examined(Release::Trixie);
}

/// Every line of the guide's boxes, in order, on a fresh machine.
fn guided(release: Release) {
    let guide = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides/operator.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let boxes = guide.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let lines: Vec<&str> = boxes.flat_map(str::lines).filter(|line| !line.is_empty()).collect();
    assert!(lines.len() > 20, "{lines:?}");
    let lab = dist::healthy(release).unwrap();
    let node = lab.node(1);
    for line in lines {
        let output = node.sh(line).unwrap();
        assert!(output.ok(), "{line}: {output:?}");
        assert!(!output.stderr.contains("error"), "{line}: {output:?}");
    }
    node.wait_healthy().unwrap();
    let shown = node.run_ok(&["smolotchi", "health"]).unwrap();
    assert!(shown.contains("at least 32 wanted"), "the setting of the guide holds: {shown}");
}

#[test]
fn the_operators_guide_works_as_written_on_debian_12() {
    guided(Release::Bookworm);
}

#[test]
fn the_operators_guide_works_as_written_on_debian_13() {
    guided(Release::Trixie);
}
