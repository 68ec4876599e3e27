//! A machine that lives: hours of load, with every service killed at random, the clock jumping both ways, the disk full and
//! empty again. Nothing that was answered for is lost, memory stays flat, and no unit gives up.
//!
//! An hour is one round: the services' clock (libfaketime) goes on by an hour, the load is an hour's. `make test` lives for
//! HOURS=8 on each Debian, always the same ones (SEED=1); `make test-full` for HOURS=24 with more of everything. Needs
//! root and `make dist-demo`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use smolotchi_lab::{Bind, Disk, Node, Release, dist};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(120);
/// What the machine keeps of events; more than this is appended, so that pruning has work.
const KEPT: u64 = 4_000;
const SERVICES: [&str; 3] = ["smolotchi-core", "smolotchi-web", "smolotchi-ai"];
/// Debian's package faketime, on the host (`tests/prepare.sh`).
const FAKETIME: &str = "usr/lib/x86_64-linux-gnu/faketime";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// What the machine answered for.
#[derive(Default)]
struct Ledger {
    /// The id of the last event of ours.
    last_event: i64,
    /// Artifacts by id, with their sha256.
    artifacts: BTreeMap<i64, String>,
    jobs: Vec<i64>,
}

struct Machine<'a> {
    node: &'a Node,
    dice: Dice,
    ledger: Ledger,
    /// Seconds that the services' clock is ahead.
    ahead: i64,
    kills: BTreeMap<&'static str, u64>,
}

impl Machine<'_> {
    /// Sets the services' clock; it goes on from there.
    fn set_clock(&self, ahead: i64) {
        let text = format!("{}{}\n", if ahead < 0 { "-" } else { "+" }, ahead.abs());
        self.node.sh_ok(&format!("echo '{}' >/run/lab/clock.new && mv /run/lab/clock.new /run/lab/clock", text.trim())).unwrap();
    }

    fn verb(&self, words: &[&str]) -> Value {
        let mut command = vec!["smolotchi"];
        command.extend(words);
        command.extend(["--format", "json"]);
        let output = self.node.run_within(&command, DEADLINE).unwrap();
        assert!(output.ok(), "{}: {output:?}", words.join(" "));
        serde_json::from_str(output.stdout.lines().last().unwrap_or("null")).unwrap()
    }

    fn append(&mut self, count: u64) {
        let lines: String = (0..count).map(|n| format!("{{\"topic\":\"soak.row\",\"body\":\"soak {n}\"}}\n")).collect();
        let output = self.node.run_with_input(&["smolotchi", "events", "append", "--format", "json"], lines.as_bytes()).unwrap();
        assert!(output.ok(), "{output:?}");
        let appended: Value = serde_json::from_str(output.stdout.trim()).unwrap();
        assert_eq!(appended["appended"].as_u64(), Some(count), "{output:?}");
        self.ledger.last_event = appended["last_id"].as_i64().unwrap();
    }

    fn put(&mut self, hour: u64) {
        let path = format!("/tmp/soak-{hour}");
        let lines = 1 + self.dice.below(2000);
        self.node.sh_ok(&format!("seq {hour} {lines} | sed 's/^/soak {hour} /' >{path}")).unwrap();
        let put = self.verb(&["artifacts", "put", "--kind", "note", &path]);
        let sum = self.node.sh_ok(&format!("sha256sum {path} | cut -d' ' -f1; rm {path}")).unwrap();
        assert_eq!(put["sha256"], sum.trim(), "{put}");
        self.ledger.artifacts.insert(put["id"].as_i64().unwrap(), sum.trim().to_owned());
    }

    /// SIGKILL, and up again by itself. An hour lies between two of them, for systemd's counter too.
    fn kill(&mut self, service: &'static str) {
        *self.kills.entry(service).or_default() += 1;
        let pid = || self.node.sh_ok(&format!("systemctl show -P MainPID {service}.service")).unwrap().trim().to_owned();
        self.node.sh_ok(&format!("systemctl reset-failed {service}.service")).unwrap();
        let before = pid();
        if before == "0" {
            // web sleeps until somebody asks.
            return;
        }
        self.node.sh_ok(&format!("systemctl kill -s KILL {service}.service")).unwrap();
        let script = format!("systemctl is-active -q {service}.service && test $(systemctl show -P MainPID {service}.service) != {before}");
        self.node.wait_until(&format!("{service} to be up again"), DEADLINE, &script).unwrap();
    }

    /// Proportional memory of a service, in KiB.
    fn memory(&self, service: &str) -> u64 {
        let script =
            format!("pid=$(systemctl show -P MainPID {service}.service); awk '/^Pss:/ {{ print $2 }}' /proc/$pid/smaps_rollup 2>/dev/null");
        self.node.sh_ok(&script).unwrap().trim().parse().unwrap_or(0)
    }

    /// Nothing that was answered for is lost; what is gone is the oldest, and went by retention.
    fn look(&self, hour: u64) {
        let found = self.node.query("SELECT min(id) || ' ' || max(id) || ' ' || count(*) FROM events").unwrap();
        let numbers: Vec<i64> = found.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let [oldest, newest, count] = numbers[..] else { panic!("{found}") };
        assert_eq!(count, newest - oldest + 1, "hour {hour}: events are missing among {oldest} to {newest}");
        assert!(newest >= self.ledger.last_event, "hour {hour}: the newest event is {newest}, {} was answered", self.ledger.last_event);
        assert!(oldest == 1 || count as u64 >= KEPT, "hour {hour}: only {count} events are kept");
        let stored = self.node.query("SELECT id || ' ' || sha256 || ' ' || state FROM artifacts").unwrap();
        for (id, sum) in &self.ledger.artifacts {
            assert!(stored.lines().any(|line| line == format!("{id} {sum} whole")), "hour {hour}: artifact {id} is lost:\n{stored}");
        }
        let jobs = self.node.query("SELECT id FROM jobs").unwrap();
        for job in &self.ledger.jobs {
            assert!(jobs.lines().any(|line| line == job.to_string()), "hour {hour}: job {job} is lost");
        }
    }

    /// The disk runs full; what is refused says so, and what was answered for stays.
    fn fill(&mut self, hour: u64) {
        self.node.fill_disk(0).unwrap();
        let lines: String =
            (0..500).map(|n| format!("{{\"topic\":\"soak.full\",\"body\":\"{hour} {n} {}\"}}\n", "x".repeat(200))).collect();
        let output = self.node.run_with_input(&["smolotchi", "events", "append", "--format", "json"], lines.as_bytes()).unwrap();
        assert!(output.ok() || output.stderr.contains("io.disk-full"), "hour {hour}: {output:?}");
        self.node.free_disk().unwrap();
        self.node.wait_healthy().unwrap();
    }

    fn hour(&mut self, hour: u64, full: bool) {
        self.ahead += 3600;
        self.set_clock(self.ahead);
        match self.dice.below(6) {
            0 => self.set_clock(self.ahead - 86_400 * 365),
            1 => self.set_clock(self.ahead + 86_400 * 3),
            _ => {}
        }
        let events = 200 + self.dice.below(600);
        self.append(events);
        self.put(hour);
        if self.dice.below(3) == 0 {
            let added = self.verb(&["ai", "run", "watch"]);
            self.ledger.jobs.push(added["job"]["id"].as_i64().unwrap_or_else(|| panic!("{added}")));
        }
        self.node.sh_ok("curl -sf http://127.0.0.1:8080/ >/dev/null").unwrap();
        let service = SERVICES[self.dice.below(SERVICES.len() as u64) as usize];
        self.kill(service);
        self.append(50);
        if self.dice.below(3) == 0 {
            self.verb(&["prune"]);
        }
        if full {
            self.fill(hour);
        }
        self.look(hour);
    }
}

fn a_day(release: Release) {
    let (seed, hours) = (number("SEED", 1), number("HOURS", 8));
    println!("{release:?}: SEED={seed} HOURS={hours}");
    let host = Path::new("/").join(FAKETIME);
    assert!(host.join("libfaketime.so.1").exists(), "{} is missing: make prepare", host.display());
    let lab = dist::lab(release, Disk::Image, vec![Bind { from: host, to: "/srv/faketime".into() }]).unwrap();
    let node = lab.node(1);
    // All units of ours have the clock; only the wall clock is false, as on a machine without a battery.
    node.sh_ok(
        "mkdir -p /run/lab /etc/systemd/system/smolotchi-.service.d /etc/smolotchi/config.d && cp /srv/faketime/libfaketime.so.1 /usr/local/lib/
        echo '+0' >/run/lab/clock
        cat >/etc/systemd/system/smolotchi-.service.d/90-lab-clock.conf <<'END'
[Service]
Environment=LD_PRELOAD=/usr/local/lib/libfaketime.so.1 FAKETIME_TIMESTAMP_FILE=/run/lab/clock FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1
BindReadOnlyPaths=/usr/local/lib/libfaketime.so.1 /run/lab
ExecPaths=+/usr/local/lib/libfaketime.so.1
END
        mkdir -p /etc/systemd/system/smolotchi-install-change.service.d /etc/systemd/system/smolotchi-install-heal.service.d
        for unit in change heal; do ln -s /dev/null /etc/systemd/system/smolotchi-install-$unit.service.d/90-lab-clock.conf; done",
    )
    .unwrap();
    node.write("/etc/smolotchi/config.d/50-soak.toml", format!("[retention]\nmax_events = {KEPT}\nmax_age_days = 0\n").as_bytes()).unwrap();
    node.sh_ok(&format!("dpkg -i {}", dist::debs("0.2.0"))).unwrap();
    node.wait_healthy().unwrap();
    let mut machine = Machine { node, dice: Dice(seed), ledger: Ledger::default(), ahead: 0, kills: BTreeMap::new() };
    let mut memory: Vec<(u64, u64)> = Vec::new();
    for hour in 1..=hours {
        machine.hour(hour, hour % 5 == 3);
        let core = machine.memory("smolotchi-core");
        let all = SERVICES.iter().map(|service| machine.memory(service)).sum();
        println!("{release:?}: hour {hour}: last event {}, core {core} KiB, all {all} KiB", machine.ledger.last_event);
        memory.push((core, all));
    }
    machine.set_clock(machine.ahead);

    // Every job ends, however often its worker was killed.
    let open = "test 0 = $(runuser -u smolotchi -- sqlite3 -batch -cmd '.timeout 10000' 'file:/var/lib/smolotchi/smolotchi.db?mode=ro' \
                \"SELECT count(*) FROM jobs WHERE state IN ('queued', 'leased')\")";
    node.wait_until("every job to end", Duration::from_secs(300), open).unwrap();
    machine.look(hours);
    let verified = machine.verb(&["artifacts", "verify"]);
    assert_eq!(verified["damaged"].as_array().map(Vec::len), Some(0), "{verified}");
    machine.verb(&["audit", "verify"]);
    // Flat: after hours of work as much as after the first ones, but for what the allocator keeps.
    let third = memory.len() / 3;
    let most = |range: &[(u64, u64)]| range.iter().map(|(_, all)| *all).max().unwrap_or(0);
    let (early, late) = (most(&memory[..=third]), most(&memory[memory.len() - third..]));
    assert!(late <= early + 1536, "memory grew from {early} to {late} KiB: {memory:?}");
    println!("{release:?}: killed {:?}; memory {early} KiB early, {late} KiB late", machine.kills);
    node.wait_healthy().unwrap();
    let violations = node.invariants().unwrap();
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn a_day_on_debian_12() {
    a_day(Release::Bookworm);
}

#[test]
fn a_day_on_debian_13() {
    a_day(Release::Trixie);
}
