//! Before anything is touched: what the operator says keeps a version out by every way in while the rest of the machine goes
//! on; what would fail is refused with its numbers; and what a plan says is held against what then happens. Needs root and
//! `make dist-demo`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use smolotchi_lab::story::CHANGE_DEADLINE;
use smolotchi_lab::{Bind, Disk, Lab, Node, Output, Release, dist};
use std::path::Path;

/// The error that a command ended with.
fn error(output: &Output) -> Value {
    let line = output.stderr.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no error line: {output:?}"));
    serde_json::from_str::<Value>(line).unwrap()["error"].clone()
}

/// The last line that a command said, which is its result.
fn result(output: &Output) -> Value {
    let line = output.stdout.lines().last().unwrap_or_else(|| panic!("said nothing: {output:?}"));
    serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {output:?}"))
}

fn upgrade(node: &Node) -> Output {
    node.run_within(&["smolotchi-install", "upgrade", "--from", dist::TREE, "--format", "json"], CHANGE_DEADLINE).unwrap()
}

fn assert_well(node: &Node, version: &str) {
    assert_eq!(node.installed().unwrap(), version);
    node.wait_healthy().unwrap();
    node.run_ok(&["apt-get", "check"]).unwrap();
    let violations = node.invariants().unwrap();
    assert!(violations.is_empty(), "{violations:#?}");
}

/// A machine with 0.1.0 by plain dpkg, some rows, and a quick gate.
fn installed(disk: Disk, more: Vec<Bind>) -> Lab {
    let lab = dist::lab(Release::Bookworm, disk, more).unwrap();
    let node = lab.node(1);
    node.sh_ok(&format!("dpkg -i {}", dist::debs("0.1.0"))).unwrap();
    node.set_gate(4).unwrap();
    node.wait_healthy().unwrap();
    node.append_events("kept", 100).unwrap();
    lab
}

/// Everything that a refusal must leave as it is: files, what dpkg knows, the process that runs, schema and rows. Only the
/// two folders that others fill are no trace by themselves.
const PICTURE: &str = "state='/var/lib/smolotchi-install /var/lib/smolotchi /etc /usr/bin /usr/lib/smolotchi /run/systemd/transient'
    find $state ! -path /run/systemd/transient ! -path /var/lib/smolotchi-install/changes -printf '%p %y %m %u\\n' | grep -v -e '[.]db-shm ' -e '[.]db-wal ' | sort
    find $state -type f ! -path '/usr/bin/*' ! -name 'smolotchi.db*' -exec sha256sum {} +  | sort -k 2
    sha256sum /usr/bin/smolotchi*
    dpkg-query -W -f '${Package} ${Version} ${Status}\\n'
    systemctl show -p MainPID smolotchi-core.service
    runuser -u smolotchi -- sqlite3 -batch -cmd '.timeout 10000' 'file:/var/lib/smolotchi/smolotchi.db?mode=ro' \
        'SELECT sql FROM sqlite_schema; SELECT * FROM events;'";

fn picture(node: &Node) -> Vec<String> {
    node.sh_ok(PICTURE).unwrap().lines().map(str::to_owned).collect()
}

fn assert_untouched(node: &Node, before: &[String], what: &str) {
    assert_untouched_but(node, before, what, |_| false);
}

/// When preinst refuses, dpkg unwinds by the old postinst (Policy 6.6), which restarts core once.
fn restarted(line: &str) -> bool {
    line.starts_with("MainPID=") || line.contains("|core.stopped|") || line.contains("|core.started|")
}

fn assert_untouched_but(node: &Node, before: &[String], what: &str, passed_over: fn(&str) -> bool) {
    let after = picture(node);
    let gone: Vec<_> = before.iter().filter(|line| !after.contains(line) && !passed_over(line)).collect();
    let new: Vec<_> = after.iter().filter(|line| !before.contains(line) && !passed_over(line)).collect();
    assert!(gone.is_empty() && new.is_empty(), "{what}: something was touched: gone {gone:#?}, new {new:#?}");
}

/// A package of the machine that has nothing to do with us, from a repository of its own.
const OTHER: &str = "set -e
    tree=/opt/other/tree; rm -rf /opt/other; mkdir -p $tree/DEBIAN; cd /opt/other
    printf 'Package: lab-other\\nVersion: %s\\nArchitecture: all\\nMaintainer: Lab <lab@lab.invalid>\\nDescription: another package\\n' $1 >$tree/DEBIAN/control
    dpkg-deb --root-owner-group --build $tree lab-other_$1_all.deb >/dev/null
    { dpkg-deb --field lab-other_$1_all.deb
      echo Filename: ./lab-other_$1_all.deb
      echo Size: $(stat -c %s lab-other_$1_all.deb)
      echo SHA256: $(sha256sum lab-other_$1_all.deb | cut -d' ' -f1); } >Packages
    echo 'deb [trusted=yes] file:/opt/other ./' >/etc/apt/sources.list.d/other.list
    apt-get -qq update";

/// Offers another version of the other package; whoever upgrades the machine now must bring it.
fn offer_other(node: &Node, version: u32) {
    node.run_ok(&["sh", "-c", OTHER, "sh", &version.to_string()]).unwrap();
}

fn other(node: &Node) -> String {
    node.run_ok(&["dpkg-query", "-W", "-f=${db:Status-Status} ${Version}", "lab-other"]).unwrap()
}

/// As apt's own timers do it, each in its service: `apt update`, then hours later unattended-upgrades.
const UNATTENDED: &str = "Unattended-Upgrade::Origins-Pattern { \"origin=*\"; };\nAPT::Periodic::Unattended-Upgrade \"always\";\n";

/// Neither we nor anybody else brings another version, with this code and fact; everything else on the machine goes on.
fn assert_kept_out(node: &Node, what: &str, code: &str, fact: &str, number: u32) {
    // What a window keeps out is in apt's pins from the first look on.
    node.run_ok(&["apt-get", "-qq", "update"]).unwrap();
    let before = picture(node);
    let refused = upgrade(node);
    assert_eq!((refused.status, error(&refused)["code"].as_str().unwrap()), (20, code), "{what}: {refused:?}");
    assert!(refused.stderr.contains(fact), "{what}: {fact:?} is not told: {}", refused.stderr);
    assert_untouched(node, &before, what);

    offer_other(node, number);
    node.run_ok(&["apt-get", "upgrade", "-y"]).unwrap();
    assert_eq!((node.installed().unwrap().as_str(), other(node)), ("0.1.0", format!("installed {number}")), "{what}: by apt-get upgrade");
    offer_other(node, number + 1);
    node.run_ok(&["systemctl", "start", "apt-daily-upgrade.service"]).unwrap();
    let said = || node.sh_ok("tail -n 30 /var/log/unattended-upgrades/unattended-upgrades.log").unwrap();
    assert_eq!(other(node), format!("installed {}", number + 1), "{what}: by unattended-upgrades: {}", said());
    assert_eq!(node.installed().unwrap(), "0.1.0", "{what}: by unattended-upgrades: {}", said());
    assert_eq!(node.change_status().unwrap()["last_change"], Value::Null, "{what}");
}

/// Nothing is in the way any more, neither ours nor apt's.
fn assert_free(node: &Node, what: &str) {
    node.run_ok(&["apt-get", "-qq", "update"]).unwrap();
    assert!(node.run_ok(&["apt-get", "-s", "upgrade"]).unwrap().contains("Inst smolotchi [0.1.0] (0.2.0"), "{what}: apt keeps it out");
    let plan = node.run(&["smolotchi-install", "plan", "--from", dist::TREE, "--format", "json"]).unwrap();
    assert_eq!((plan.status, result(&plan)["plan"]["to"].as_str()), (0, Some("0.2.0")), "{what}: {plan:?}");
    assert!(!node.exists("/etc/apt/preferences.d/smolotchi-blocked").unwrap(), "{what}: the pin stays");
}

/// A maintenance window that begins so many hours from now, and lasts one.
fn window(node: &Node, hours: u32) {
    let at = |hours: u32| node.run_ok(&["date", "-d", &format!("+{hours} hours"), "+%H:%M"]).unwrap();
    let text = format!("[window]\nfrom = \"{}\"\nto = \"{}\"\n", at(hours).trim(), at(hours + 2).trim());
    node.write("/etc/smolotchi-install/config.d/20-window.toml", text.as_bytes()).unwrap();
}

#[test]
fn what_is_kept_out_stays_out_and_the_rest_goes_on() {
    let lab = installed(Disk::default(), Vec::new());
    let node = lab.node(1);
    let url = lab.serve(&dist::folder().unwrap().join("repo"), 0).unwrap();
    node.write("/etc/apt/apt.conf.d/60lab-unattended", UNATTENDED.as_bytes()).unwrap();
    node.add_apt_source(&dist::keyring().unwrap(), &url, "stable").unwrap();
    offer_other(node, 1);
    node.run_ok(&["apt-get", "install", "-y", "lab-other"]).unwrap();
    assert_free(node, "nothing");

    node.run_ok(&["smolotchi-install", "pause", "--for", "7d", "--reason", "the fair"]).unwrap();
    assert_kept_out(node, "pause", "change.paused", "the fair", 10);
    // It ends by itself: another one, of three seconds, is over when its time is.
    let end = node.run_ok(&["date", "-u", "-d", "+3 seconds", "+%Y-%m-%dT%H:%M:%SZ"]).unwrap();
    node.run_ok(&["smolotchi-install", "pause", "--until", end.trim()]).unwrap();
    let visible = "apt-get -qq update && apt-cache policy smolotchi | grep -q 'Candidate: 0.2.0'";
    node.wait_until("the pause is over", CHANGE_DEADLINE, visible).unwrap();
    assert_free(node, "a pause that is over");
    node.run_ok(&["smolotchi-install", "pause"]).unwrap();
    assert_eq!(error(&upgrade(node))["code"], "change.paused");
    node.run_ok(&["smolotchi-install", "resume"]).unwrap();
    assert_free(node, "resume");

    node.run_ok(&["smolotchi-install", "skip", "0.2.0", "--reason", "not this one"]).unwrap();
    assert_kept_out(node, "skip", "change.version-skipped", "not this one", 20);
    node.run_ok(&["smolotchi-install", "unblock", "0.2.0"]).unwrap();
    assert_free(node, "a skipped version that is wanted after all");

    node.run_ok(&["apt-mark", "hold", "smolotchi"]).unwrap();
    assert_kept_out(node, "hold", "change.held", "apt-mark unhold", 30);
    node.run_ok(&["apt-mark", "unhold", "smolotchi"]).unwrap();
    assert_free(node, "a hold that is over");

    window(node, 6);
    assert_kept_out(node, "window", "change.window-closed", "maintenance window", 40);
    let now = node.run(&["smolotchi-install", "upgrade", "--from", dist::TREE, "--now", "--dry-run", "--format", "json"]).unwrap();
    assert_eq!((now.status, result(&now)["plan"]["to"].as_str()), (0, Some("0.2.0")), "--now: {now:?}");
    window(node, 23);
    assert_free(node, "a window that is open");
    // It closes after `apt update` has looked, and before unattended-upgrades begins.
    window(node, 6);
    assert!(!node.exists("/etc/apt/preferences.d/smolotchi-blocked").unwrap());
    node.run_ok(&["systemctl", "start", "apt-daily-upgrade.service"]).unwrap();
    assert_eq!(node.installed().unwrap(), "0.1.0", "the window closed in between");
    // And what is let in then is brought by the same service.
    window(node, 23);
    node.run_ok(&["systemctl", "start", "apt-daily-upgrade.service"]).unwrap();
    let status = node.wait_idle().unwrap();
    assert_eq!(status["last_change"]["verdict"], "committed", "{status}");
    assert_well(node, "0.2.0");
}

#[test]
fn a_release_that_cant_migrate_this_database_is_refused_by_every_way_in() {
    let lab = installed(Disk::default(), Vec::new());
    let node = lab.node(1);
    let url = lab.serve(&dist::folder().unwrap().join("repo"), 0).unwrap();
    node.add_apt_source(&dist::keyring().unwrap(), &url, "stable").unwrap();
    let sql = |text: &str| {
        let words =
            ["runuser", "-u", "smolotchi", "--", "sqlite3", "-batch", "-cmd", ".timeout 10000", "/var/lib/smolotchi/smolotchi.db", text];
        node.run_ok(&words).unwrap();
    };
    // A name that the third migration wants for itself.
    sql("CREATE TABLE topics (x)");
    let deb = dist::agent_deb("0.2.0");
    for (way, script, exit) in [
        ("apt-get install", "apt-get install -y smolotchi".to_owned(), 100),
        ("apt-get upgrade", "apt-get upgrade -y".to_owned(), 100),
        ("dpkg -i", format!("dpkg -i {deb}"), 1),
        ("smolotchi-install", format!("smolotchi-install upgrade --from {} --format json", dist::TREE), 20),
        ("its dry run", format!("smolotchi-install plan --from {} --format json", dist::TREE), 20),
    ] {
        let before = picture(node);
        let output = node.sh(&script).unwrap();
        assert_eq!(output.status, exit, "{way}: {output:?}");
        let said = format!("{}{}", output.stdout, output.stderr);
        for fact in ["change.rehearsal-failed", "topics"] {
            assert!(said.contains(fact), "{way}: {fact:?} is not told: {said}");
        }
        assert_untouched_but(node, &before, way, if way == "dpkg -i" { restarted } else { |_| false });
        assert_well(node, "0.1.0");
    }
    // What was in the way is gone, and so is the refusal.
    sql("DROP TABLE topics");
    let output = upgrade(node);
    assert_eq!(output.status, 0, "{output:?}");
    assert_well(node, "0.2.0");
    assert_eq!(node.count_events("kept").unwrap(), (100, 100));
}

/// One thing that is wrong with a machine.
struct Wrong {
    what: &'static str,
    make: &'static str,
    mend: &'static str,
    /// Which check refuses.
    check: &'static str,
    /// Two numbers of the refusal, the first of which is the greater.
    numbers: Option<(&'static str, &'static str)>,
    /// apt and dpkg are refused too, by the guard; else they may be the repair.
    guard: bool,
}

const WRONGS: &[Wrong] = &[
    Wrong {
        what: "a small file system for the installer's state",
        make: "mount -t tmpfs -o size=16m tmpfs /var/lib/smolotchi-install",
        mend: "umount /var/lib/smolotchi-install",
        check: "disk",
        numbers: Some(("needed_bytes", "free_bytes")),
        guard: true,
    },
    Wrong {
        what: "no inodes there",
        make: "mount -t tmpfs -o size=512m,nr_inodes=100 tmpfs /var/lib/smolotchi-install",
        mend: "umount /var/lib/smolotchi-install",
        check: "inodes",
        numbers: Some(("needed_inodes", "free_inodes")),
        guard: true,
    },
    Wrong {
        what: "a card that has become read-only",
        make: "mount --bind /var/lib/smolotchi-install /var/lib/smolotchi-install
            mount -o remount,ro,bind /var/lib/smolotchi-install",
        mend: "umount /var/lib/smolotchi-install",
        check: "file system",
        numbers: None,
        guard: true,
    },
    Wrong {
        what: "programs that can't be replaced",
        make: "mount --bind /usr /usr && mount -o remount,ro,bind /usr",
        // Lazily: what has come from there since stays in use.
        mend: "umount --lazy /usr",
        check: "file system",
        numbers: None,
        guard: true,
    },
    Wrong {
        what: "little memory",
        make: "sed 's/^MemAvailable:.*/MemAvailable: 20000 kB/' /proc/meminfo >/run/lab-meminfo
            mount --bind /run/lab-meminfo /proc/meminfo",
        mend: "umount /proc/meminfo",
        check: "memory",
        numbers: Some(("needed_bytes", "free_bytes")),
        guard: false,
    },
    Wrong {
        what: "an old C library",
        make: "mkdir -p /opt/fake && cat >/opt/fake/dpkg-query <<'EOF' && chmod +x /opt/fake/dpkg-query
#!/bin/sh
/usr/bin/dpkg-query \"$@\" | sed 's/^installed 2[.][0-9]*/installed 2.28/'
EOF",
        mend: "rm -r /opt/fake",
        check: "C library",
        numbers: None,
        guard: true,
    },
    Wrong {
        what: "a package that dpkg has half installed",
        make: "dpkg --unpack /opt/other/lab-other_1_all.deb",
        // What the hint says.
        mend: "smolotchi-install heal && dpkg-query -W -f '${Status}' lab-other | grep -qx 'install ok installed' && dpkg --purge lab-other",
        check: "dpkg",
        numbers: None,
        guard: false,
    },
];

const DPKG_SHOWS_FAKES: &str = "export PATH=/opt/fake:$PATH; ";

#[test]
fn each_refusal_tells_what_is_wrong_and_nothing_is_touched() {
    let lab = installed(Disk::Image, Vec::new());
    let node = lab.node(1);
    offer_other(node, 1);
    let ours = format!("{DPKG_SHOWS_FAKES}smolotchi-install upgrade --from {} --format json", dist::TREE);
    let theirs = format!("{DPKG_SHOWS_FAKES}dpkg -i {}", dist::agent_deb("0.2.0"));
    for wrong in WRONGS {
        node.sh_ok(wrong.make).unwrap();
        let before = picture(node);
        let output = node.sh(&ours).unwrap();
        let told = error(&output);
        assert_eq!((output.status, told["code"].as_str().unwrap()), (20, "change.preflight"), "{}: {output:?}", wrong.what);
        let facts = &told["details"];
        assert_eq!(facts["check"], wrong.check, "{}: {output:?}", wrong.what);
        if let Some((greater, smaller)) = wrong.numbers {
            let number = |name: &str| facts[name].as_u64().unwrap_or_else(|| panic!("{}: no number {name}: {output:?}", wrong.what));
            assert!(number(greater) > number(smaller), "{}: {output:?}", wrong.what);
        }
        assert_untouched(node, &before, wrong.what);
        if wrong.guard {
            let output = node.sh(&theirs).unwrap();
            assert_eq!(output.status, 1, "{}: {output:?}", wrong.what);
            assert!(output.stderr.contains("change.preflight"), "{}: {output:?}", wrong.what);
            assert_untouched_but(node, &before, wrong.what, restarted);
        } else if wrong.check == "dpkg" {
            let hint = told["hint"].as_str().unwrap();
            assert!(hint.contains("smolotchi-install heal"), "it offers no way out: {hint}");
        }
        node.sh_ok(wrong.mend).unwrap();
    }

    // dpkg calls an ARMv6 machine's system armhf too, and would unpack what then can't start.
    node.sh_ok(
        "mkdir -p /opt/fake && cat >/opt/fake/dpkg <<'EOF' && chmod +x /opt/fake/dpkg
#!/bin/sh
[ \"$1\" = --print-architecture ] && { echo armhf; exit 0; }
exec /usr/bin/dpkg \"$@\"
EOF
        printf 'processor\\t: 0\\nmodel name\\t: ARMv6-compatible processor rev 7 (v6l)\\nFeatures\\t: half thumb fastmult vfp edsp java tls\\n\
        CPU architecture: 7\\n' >/run/lab-cpuinfo && mount --bind /run/lab-cpuinfo /proc/cpuinfo",
    )
    .unwrap();
    let before = picture(node);
    let output = node.sh(&theirs).unwrap();
    assert_eq!(output.status, 1, "{output:?}");
    assert!(output.stderr.contains("ARMv7 with VFPv3") && output.stderr.contains("half thumb fastmult vfp edsp java tls"), "{output:?}");
    assert_untouched_but(node, &before, "an old processor", restarted);
    node.sh_ok("umount /proc/cpuinfo && rm -r /opt/fake").unwrap();

    // A database that is damaged already. Core is stopped for the moment, so that all of it is in the file.
    let units = "smolotchi-core.socket smolotchi-core.service";
    let file = "/var/lib/smolotchi/smolotchi.db";
    node.sh_ok(&format!("systemctl stop {units} && cp -p {file} /opt/whole.db && systemctl start {units}")).unwrap();
    node.sh_ok(&format!("dd if=/dev/urandom of={file} bs=4096 seek=1 count=2 conv=notrunc status=none")).unwrap();
    let output = node.sh(&ours).unwrap();
    let told = error(&output);
    assert_eq!((output.status, &told["details"]["check"]), (20, &Value::from("database")), "{output:?}");
    assert!(!told["details"]["found"].as_str().unwrap().is_empty(), "{output:?}");
    assert_eq!(node.installed().unwrap(), "0.1.0");
    node.sh_ok(&format!("systemctl stop {units} && rm -f {file}-wal {file}-shm && cp -p /opt/whole.db {file} && systemctl start {units}"))
        .unwrap();

    // With all that mended it goes, and while it is watched, everything else has to wait.
    node.set_gate(10).unwrap();
    node.sh_ok(&format!("dpkg -i {}", dist::agent_deb("0.2.0"))).unwrap();
    let open = node.change_status().unwrap()["open_change"].clone();
    let output = upgrade(node);
    let told = error(&output);
    assert_eq!((output.status, told["code"].as_str().unwrap()), (20, "change.open"), "{output:?}");
    assert!(!told["details"]["change"].as_str().unwrap_or_default().is_empty() && open != Value::Null, "{open} {output:?}");
    let status = node.wait_idle().unwrap();
    assert_eq!(status["last_change"]["verdict"], "committed", "{status}");
    assert_well(node, "0.2.0");
    assert_eq!(node.count_events("kept").unwrap(), (100, 100));
}

/// Samples, as fast as it can, how much of the disk is taken; the most stands in /run/lab-disk when it is stopped.
const WATCH_DISK: &str = "import os, signal, sys, time
most = [0, 0]
def look():
    s = os.statvfs('/')
    most[0] = max(most[0], (s.f_blocks - s.f_bfree) * s.f_frsize)
    most[1] = max(most[1], s.f_files - s.f_ffree)
def end(*_):
    open('/run/lab-disk', 'w').write('%d %d' % tuple(most))
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
look()
open('/run/lab-disk.first', 'w').write('%d %d' % tuple(most))
while True:
    look()
    time.sleep(0.002)
";

/// Two numbers of a file.
fn pair(node: &Node, file: &str) -> (u64, u64) {
    let text = String::from_utf8(node.read(file).unwrap()).unwrap();
    let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn received(node: &Node) -> u64 {
    // Not from /sys, which shows the network of whoever mounted it.
    let text = String::from_utf8(node.read("/proc/net/dev").unwrap()).unwrap();
    let cards = text.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    cards.map(|(_, counts)| counts.split_whitespace().next().unwrap().parse::<u64>().unwrap()).sum()
}

/// What a plan said, beside what then happened.
fn hold_against(node: &Node, plan: &Value, script: &str, version: &str) -> Value {
    let before = received(node);
    node.run_ok(&[
        "sh",
        "-c",
        "rm -f /run/lab-disk*; sync; python3 -c \"$1\" >/dev/null 2>&1 & echo $! >/run/lab-disk.pid",
        "sh",
        WATCH_DISK,
    ])
    .unwrap();
    node.wait_until("the disk is watched", CHANGE_DEADLINE, "test -s /run/lab-disk.first").unwrap();
    let words = ["/srv/bench/smolotchi-bench", "measure", "--version", version, "--polls", "0", "--", "sh", "-c", script];
    let output = node.run_within(&words, CHANGE_DEADLINE).unwrap();
    let seen: Value = serde_json::from_str(output.stdout.trim()).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(seen["exit"], 0, "{seen}");
    node.sh_ok("kill $(cat /run/lab-disk.pid)").unwrap();
    node.wait_until("the disk was watched", CHANGE_DEADLINE, "test -s /run/lab-disk").unwrap();
    let ((bytes, inodes), (first_bytes, first_inodes)) = (pair(node, "/run/lab-disk"), pair(node, "/run/lab-disk.first"));
    let facts = &plan["facts"];
    let number = |name: &str| facts[name].as_u64().unwrap_or_else(|| panic!("no number {name}: {facts}"));
    let downtime = seen["downtime_ms"].as_f64().unwrap();
    println!(
        "{script}\n  {:<12}{:>12}{:>12}\n  {:<12}{:>12}{:>12}\n  {:<12}{:>12}{:>12}\n  {:<12}{:>12}{:>12}\n  {:<12}{:>12}{:>12}\n  {:<12}{:>12}{:>12}",
        "",
        "planned",
        "seen",
        "download",
        number("download_bytes"),
        received(node) - before,
        "disk",
        number("disk_peak"),
        bytes - first_bytes,
        "inodes",
        number("inodes_peak"),
        inodes - first_inodes,
        "memory",
        number("memory_peak"),
        seen["memory_bytes"],
        "downtime",
        number("downtime_ms"),
        downtime.round(),
    );
    assert!(bytes - first_bytes <= number("disk_peak"), "more disk than planned");
    assert!(bytes - first_bytes >= number("disk_peak") / 8, "the plan's disk is no estimate");
    assert!(inodes - first_inodes <= number("inodes_peak"), "more inodes than planned");
    assert!(seen["memory_bytes"].as_u64().unwrap() <= number("memory_peak"), "more memory than planned: {seen}");
    assert!(downtime <= number("downtime_ms") as f64, "away for longer than planned: {seen}");
    assert!(downtime >= 20.0, "core was never seen away: the measurement is broken: {seen}");
    let came = received(node) - before;
    let planned = number("download_bytes");
    // Headers of packets and requests, channel, manifest, signatures.
    assert!(planned <= came && came <= planned + planned / 10 + (64 << 10), "planned to fetch {planned}, and {came} bytes came");
    seen
}

#[test]
fn what_happens_keeps_within_what_was_planned() {
    let bench = Path::new(env!("CARGO_BIN_EXE_smolotchi-bench"));
    let binds = vec![Bind { from: bench.parent().unwrap().to_owned(), to: "/srv/bench".into() }];
    let lab = installed(Disk::Image, binds);
    let node = lab.node(1);
    let url = lab.serve(&dist::folder().unwrap().join("repo"), 0).unwrap();
    // A third of the rows says of itself that it is worth a warning, and migration 2 will give those a severity.
    let lines: String = (0..3_000)
        .map(|n| format!("{{\"topic\":\"lab.{}\",\"body\":\"{n} {}\"}}\n", if n % 3 == 0 { "full" } else { "row" }, "x".repeat(200)))
        .collect();
    assert!(node.run_with_input(&["smolotchi", "events", "append"], lines.as_bytes()).unwrap().ok());
    let query = |sql: &str| -> u64 { node.query(sql).unwrap().trim().parse().unwrap() };
    let (last, topics) = (query("SELECT max(id) FROM events"), query("SELECT count(DISTINCT topic) FROM events"));
    let plan = |words: &[&str]| {
        let output = node.run_within(words, CHANGE_DEADLINE).unwrap();
        assert_eq!(output.status, 0, "{output:?}");
        result(&output)["plan"].clone()
    };

    let planned = plan(&["smolotchi-install", "plan", "--from", &url, "--format", "json"]);
    let facts = &planned["facts"];
    let steps: Vec<_> = facts["migrations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| [step["number"].clone(), step["rows"].clone(), step["reversible"].clone()])
        .collect();
    let wanted = dist::schema("0.2.0").unwrap() - 1;
    assert_eq!((facts["rehearsed"].as_str(), steps.len() as u64), (Some("proven"), wanted), "{facts}");
    assert_eq!(facts["download_bytes"], planned["debs"][0]["size"], "{planned}");
    assert!(facts["worst_case"].as_str().unwrap().starts_with("0 rows"), "{facts}");
    let seen = hold_against(node, &planned, &format!("exec smolotchi-install upgrade --from {url}"), "0.2.0");
    assert!(seen["answered_ms"].is_number(), "{seen}");
    assert_well(node, "0.2.0");
    let severe = query(&format!("SELECT count(*) FROM events WHERE severity <> 1 AND id <= {last}"));
    let expected = [(2, severe), (3, topics)].map(|(number, rows)| [Value::from(number), rows.into(), true.into()]);
    assert!(severe >= 1_000, "{severe}");
    assert_eq!(steps[..2], expected, "the rows that the migrations changed");
    // The others move no rows: they make tables, and note a few facts about what is there.
    for [number, rows, reversible] in &steps[2..] {
        assert!(rows.as_u64().unwrap() <= topics + 20 && *reversible == Value::Bool(true), "migration {number} changes {rows} rows");
    }
    assert_eq!(query("SELECT count(*) FROM events WHERE topic GLOB 'lab.*'"), 3_100);

    // And back: nothing is fetched, and the rows are what they were.
    let planned = plan(&["smolotchi-install", "plan", "rollback", "--format", "json"]);
    assert_eq!((&planned["to"], &planned["facts"]["download_bytes"]), (&Value::from("0.1.0"), &Value::from(0)), "{planned}");
    hold_against(node, &planned, "exec smolotchi-install rollback", "0.1.0");
    assert_well(node, "0.1.0");
    assert_eq!(query("SELECT count(*) FROM events WHERE topic GLOB 'lab.*'"), 3_100);
}

#[test]
fn what_cant_be_undone_needs_the_operators_word() {
    let lab = installed(Disk::default(), Vec::new());
    let node = lab.node(1);
    let url = lab.serve(&dist::folder().unwrap().join("repo"), 0).unwrap();
    node.add_apt_source(&dist::keyring().unwrap(), &url, dist::channel("0.4.0")).unwrap();
    let ours = format!("smolotchi-install upgrade --from {} --channel {} --format json", dist::TREE, dist::channel("0.4.0"));
    for (way, script, exit) in [
        ("smolotchi-install", ours.clone(), 20),
        ("apt-get install", "apt-get install -y smolotchi".to_owned(), 100),
        ("dpkg -i", format!("dpkg -i {}", dist::agent_deb("0.4.0")), 1),
    ] {
        let before = picture(node);
        let output = node.sh(&script).unwrap();
        assert_eq!(output.status, exit, "{way}: {output:?}");
        // Which migration, what it costs, and where the word is given.
        for fact in ["change.irreversible", "irreversible (", "snapshot from before", "accept_irreversible = "] {
            assert!(output.stderr.contains(fact), "{way}: {fact:?} is not told: {}", output.stderr);
        }
        assert_untouched_but(node, &before, way, if way == "dpkg -i" { restarted } else { |_| false });
    }

    let output = node.sh(&format!("{ours} --accept-irreversible --dry-run")).unwrap();
    let facts = &result(&output)["plan"]["facts"];
    let kinds: Vec<_> = facts["migrations"].as_array().unwrap().iter().map(|step| step["reversible"].as_bool().unwrap()).collect();
    let last_only = kinds.iter().rev().eq([false].iter().chain(std::iter::repeat_n(&true, kinds.len() - 1)));
    assert_eq!((output.status, facts["rehearsed"].as_str(), last_only), (0, Some("impossible"), true), "{output:?}");
    assert!(facts["worst_case"].as_str().unwrap().contains("the only way back is the snapshot"), "{facts}");

    // The word for those who can't say it on a command line.
    node.write("/etc/smolotchi-install/config.d/30-word.toml", b"[migrations]\naccept_irreversible = [\"0.4.0\"]\n").unwrap();
    node.run_ok(&["apt-get", "install", "-y", "smolotchi"]).unwrap();
    let status = node.wait_idle().unwrap();
    assert_eq!(status["last_change"]["verdict"], "committed", "{status}");
    assert_well(node, "0.4.0");
    assert_eq!(node.count_events("kept").unwrap(), (100, 100));
}
