//! Whatever starts an upgrade, the guarantee is one: a table of the ways in, and for each the same story on a real machine.
//! A good release is committed with slot, snapshot and journal; a crashing one goes back by itself and is kept out; a power
//! cut while dpkg runs ends in the old version or the new one. Needs root and `make dist-demo`. SEED and CUTS choose.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use smolotchi_lab::story::CHANGE_DEADLINE;
use smolotchi_lab::{Disk, Lab, Node, Output, Release, dist};
use std::time::{Duration, Instant};

/// One way in.
struct Way {
    name: &'static str,
    /// What starts an upgrade to this version.
    start: fn(&Story, &str) -> Place,
    /// How it ends when the new version is taken back: those that don't wait for the watch don't know of it.
    exit_when_taken_back: i32,
    /// What it does when it is asked for the blocked version once more.
    again: Again,
}

/// Words and where they are run.
enum Place {
    Node(Vec<String>),
    Controller(Vec<String>),
}

enum Again {
    /// Finds nothing to do, and says 0.
    Nothing,
    /// Refuses, with this exit code.
    Refused(i32),
    /// dpkg knows no pins: whoever hands it the file wants it, and gets the same watch once more.
    Taken,
}

const APT_INSTALL: Way =
    Way { name: "apt-get install", start: |_, _| on_node("apt-get install -y smolotchi"), exit_when_taken_back: 0, again: Again::Nothing };
const APT_UPGRADE: Way =
    Way { name: "apt-get upgrade", start: |_, _| on_node("apt-get upgrade -y"), exit_when_taken_back: 0, again: Again::Nothing };
const UNATTENDED: Way =
    Way { name: "unattended-upgrade", start: |_, _| on_node("unattended-upgrade -v"), exit_when_taken_back: 0, again: Again::Nothing };
const DPKG: Way = Way {
    name: "dpkg -i",
    start: |_, version| on_node(&format!("dpkg -i {}", dist::agent_deb(version))),
    exit_when_taken_back: 0,
    again: Again::Taken,
};
const ANSIBLE: Way = Way { name: "Ansible's apt", start: Story::ansible, exit_when_taken_back: 0, again: Again::Nothing };
const URL: Way = Way {
    name: "smolotchi-install, URL",
    start: |story, version| on_node(&installer(&format!("{} --channel {}", story.url, dist::channel(version)))),
    exit_when_taken_back: 40,
    again: Again::Refused(20),
};
const FOLDER: Way = Way {
    name: "smolotchi-install, folder",
    start: |_, version| on_node(&installer(&format!("{} --channel {}", dist::TREE, dist::channel(version)))),
    exit_when_taken_back: 40,
    again: Again::Refused(20),
};
const BUNDLE: Way = Way {
    name: "smolotchi-install, bundle",
    start: |_, version| {
        on_node(&installer(&format!("{}/bundles/smolotchi-{version}-*.bundle --channel {}", dist::ON_NODE, dist::channel(version))))
    },
    exit_when_taken_back: 40,
    again: Again::Refused(20),
};

fn on_node(line: &str) -> Place {
    Place::Node(["sh", "-c", line].map(str::to_owned).to_vec())
}

fn installer(from: &str) -> String {
    format!("smolotchi-install upgrade --format json --from {from}")
}

/// What an operator writes so that unattended-upgrades takes this repository too (the package leaves that to them).
const UNATTENDED_FRAGMENT: &str = "Unattended-Upgrade::Origins-Pattern { \"origin=Smolotchi\"; };\n";

/// Rows that must survive everything.
const ROWS: u32 = 300;

struct Story {
    lab: Lab,
    url: String,
    ansible: tempfile::TempDir,
}

impl Story {
    /// A machine with 0.1.0, its rows and a quick gate.
    fn begin() -> Story {
        let lab = dist::lab(Release::Bookworm, Disk::Image, Vec::new()).unwrap();
        let url = lab.serve(&dist::folder().unwrap().join("repo"), 0).unwrap();
        let story = Story { lab, url, ansible: tempfile::tempdir().unwrap() };
        let node = story.node();
        node.add_apt_source(&dist::keyring().unwrap(), &story.url, "oldstable").unwrap();
        node.write("/etc/apt/apt.conf.d/60lab-unattended", UNATTENDED_FRAGMENT.as_bytes()).unwrap();
        node.set_gate(4).unwrap();
        node.run_ok(&["apt-get", "install", "-y", "smolotchi"]).unwrap();
        node.wait_healthy().unwrap();
        node.append_events("kept", ROWS).unwrap();
        node.run_ok(&["sync"]).unwrap();
        story
    }

    fn node(&self) -> &Node {
        self.lab.node(1)
    }

    /// As an operator of a fleet does who doesn't use our collection: Debian's own module, over ssh.
    fn ansible(&self, _version: &str) -> Place {
        let home = self.ansible.path().display().to_string();
        let mut words = vec!["env".to_owned()];
        words.extend(
            [
                ("ANSIBLE_HOME", home.as_str()),
                ("ANSIBLE_LOCAL_TEMP", &format!("{home}/tmp")),
                ("ANSIBLE_SSH_CONTROL_PATH_DIR", &format!("{home}/cp")),
                // So that it notices when the machine is gone.
                ("ANSIBLE_SSH_ARGS", "-o ControlMaster=no -o ServerAliveInterval=2 -o ServerAliveCountMax=3"),
                ("ANSIBLE_NOCOLOR", "1"),
                ("LC_ALL", "C.UTF-8"),
            ]
            .map(|(name, value)| format!("{name}={value}")),
        );
        let inventory = self.lab.folder().inventory().display().to_string();
        words.extend(["ansible", "-i", &inventory, "node1", "-m", "apt", "-a", "name=smolotchi state=latest"].map(str::to_owned));
        Place::Controller(words)
    }

    /// Starts the upgrade and waits for the end of what started it, which need not be the end of the change.
    fn start(&self, way: &Way, version: &str) -> Output {
        match (way.start)(self, version) {
            Place::Node(words) => self.node().run_within(&words, CHANGE_DEADLINE).unwrap(),
            Place::Controller(words) => self.lab.exec_in_network(&words, CHANGE_DEADLINE).unwrap(),
        }
    }

    fn offer(&self, version: &str) {
        self.node().follow_suite(&self.url, dist::channel(version)).unwrap();
    }

    /// What holds after every part of the story.
    fn assert_well(&self, version: &str) {
        let node = self.node();
        assert_eq!(node.installed().unwrap(), version);
        node.wait_healthy().unwrap();
        let rows = u64::from(ROWS);
        assert_eq!(node.count_events("kept").unwrap(), (rows, rows), "rows are lost");
        node.run_ok(&["apt-get", "check"]).unwrap();
        let violations = node.invariants().unwrap();
        assert!(violations.is_empty(), "{violations:#?}");
    }
}

fn events(change: &Value) -> Vec<String> {
    let records = change["journal"].as_array().unwrap();
    records
        .iter()
        .map(|record| format!("{} {}", record["event"].as_str().unwrap(), record["task"].as_str().unwrap_or_default()).trim().to_owned())
        .collect()
}

fn the_way(way: &Way) {
    let began = Instant::now();
    let story = Story::begin();
    a_good_release_is_committed(&story, way);
    let good = began.elapsed();
    a_crashing_release_goes_back(&story, way);
    let bad = began.elapsed();
    let cuts = number("CUTS", 1);
    for cut in 0..cuts {
        a_power_cut_ends_old_or_new(&story, way, cut);
    }
    println!("{}: good {good:.1?}, bad {:.1?}, {cuts} cuts {:.1?}", way.name, bad - good, began.elapsed() - bad);
}

fn a_good_release_is_committed(story: &Story, way: &Way) {
    let node = story.node();
    story.offer("0.2.0");
    let output = story.start(way, "0.2.0");
    assert_eq!(output.status, 0, "{}: {output:?}", way.name);
    let status = node.wait_idle().unwrap();
    let last = &status["last_change"];
    assert_eq!(
        [&last["verdict"], &last["kind"], &last["from"], &last["to"]],
        [&Value::from("committed"), &"upgrade".into(), &"0.1.0".into(), &"0.2.0".into()],
        "{}: {status}\n{output:?}",
        way.name
    );
    story.assert_well("0.2.0");

    // The slot: the old packages, whole, and the database as it was, whole.
    let slot = "/var/lib/smolotchi-install/slots/0.1.0";
    let manifest: toml::Table = String::from_utf8(node.read(&format!("{slot}/slot.toml")).unwrap()).unwrap().parse().unwrap();
    let check = |file: String, entry: &toml::Value| {
        let sum = node.sh_ok(&format!("sha256sum <{file}")).unwrap();
        assert_eq!(Some(sum.split_whitespace().next().unwrap()), entry["sha256"].as_str(), "{}: {file}", way.name);
    };
    for deb in manifest["deb"].as_array().unwrap() {
        check(format!("{slot}/debs/{}", deb["file"].as_str().unwrap()), deb);
    }
    check(format!("{slot}/{}", manifest["snapshot"]["file"].as_str().unwrap()), &manifest["snapshot"]);
    let query = "PRAGMA integrity_check; SELECT count(DISTINCT body) FROM events WHERE body LIKE '%kept %'";
    let said = node.sh_ok(&format!("sqlite3 -batch 'file:{slot}/smolotchi.db?mode=ro&immutable=1' \"{query}\"")).unwrap();
    assert_eq!(said.trim(), format!("ok\n{ROWS}"), "{}: the snapshot isn't whole", way.name);

    // The journal tells it from the beginning to the end.
    let change = node.last_change().unwrap();
    let events = events(&change);
    let at =
        |event: &str| events.iter().position(|other| other == event).unwrap_or_else(|| panic!("{}: no {event:?}: {events:?}", way.name));
    assert!(at("opened") < at("done save-slot") && at("done save-slot") < at("done watch"), "{events:?}");
    assert_eq!(events.last().map(String::as_str), Some("closed"), "{events:?}");
}

fn a_crashing_release_goes_back(story: &Story, way: &Way) {
    let node = story.node();
    story.offer("0.3.0");
    let output = story.start(way, "0.3.0");
    assert_eq!(output.status, way.exit_when_taken_back, "{}: {output:?}", way.name);
    let status = node.wait_idle().unwrap();
    assert_eq!(status["last_change"]["verdict"], "rolled-back", "{}: {status}", way.name);
    assert!(status["last_change"]["reason"].as_str().unwrap().contains("smolotchi-core"), "{status}");
    story.assert_well("0.2.0");
    let blocked = status["blocked"].as_array().unwrap();
    assert!(
        matches!(&blocked[..], [one] if one["version"] == "0.3.0" && !one["reason"].as_str().unwrap().is_empty()),
        "{}: {status}",
        way.name
    );

    // It is kept out of apt's sight, and of this way's.
    assert_eq!(node.candidate().unwrap(), "0.2.0", "{}", way.name);
    let expected = match way.again {
        Again::Nothing => 0,
        Again::Refused(code) => code,
        Again::Taken => return,
    };
    let output = story.start(way, "0.3.0");
    assert_eq!(output.status, expected, "{}: {output:?}", way.name);
    assert_eq!(node.change_status().unwrap()["open_change"], Value::Null, "{}: {output:?}", way.name);
    assert_eq!(node.installed().unwrap(), "0.2.0", "{}: the version that was left came back: {output:?}", way.name);
}

/// dpkg has begun with the agent's package.
const DPKG_RUNS: &str = "while [ \"$(dpkg-query -W -f '${db:Status-Status}' smolotchi)\" = installed ]; do :; done";

fn a_power_cut_ends_old_or_new(story: &Story, way: &Way, cut: u64) {
    let node = story.node();
    if node.installed().unwrap() != "0.1.0" {
        node.run_ok(&["smolotchi-install", "rollback", "--to", "0.1.0"]).unwrap();
    }
    node.sh_ok("smolotchi-install unblock 0.2.0 && sync").unwrap();
    story.offer("0.2.0");
    let after = moment(way, cut);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| story.start(way, "0.2.0"));
        node.run_within(&["timeout", "120", "sh", "-c", DPKG_RUNS], CHANGE_DEADLINE).unwrap();
        std::thread::sleep(after);
        let phase = node.sh("dpkg-query -W -f '${db:Status-Status}' smolotchi; ls /var/lib/smolotchi-install/open/debs | wc -l").unwrap();
        node.power_cut().unwrap();
        let output = running.join().unwrap();
        println!("{}: cut {cut}: {} ms after dpkg began, {:?}, exit {}", way.name, after.as_millis(), phase.stdout.trim(), output.status);
    });
    node.boot().unwrap();
    let status = node.wait_idle().unwrap();
    let installed = node.installed().unwrap();
    println!("{}: cut {cut}: {installed}, {}", way.name, status["last_change"]["verdict"]);
    assert!(["0.1.0", "0.2.0"].contains(&installed.as_str()), "{}: {installed}: {status}", way.name);
    story.assert_well(&installed);
}

/// Somewhere in dpkg's run or shortly after.
fn moment(way: &Way, cut: u64) -> Duration {
    let mut random = number("SEED", 1).wrapping_add(cut);
    for byte in way.name.bytes() {
        random = (random ^ u64::from(byte)).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    }
    Duration::from_millis((random >> 33) % 1_500)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn by_apt_get_install() {
    the_way(&APT_INSTALL);
}

#[test]
fn by_apt_get_upgrade() {
    the_way(&APT_UPGRADE);
}

#[test]
fn by_unattended_upgrades() {
    the_way(&UNATTENDED);
}

#[test]
fn by_plain_dpkg() {
    the_way(&DPKG);
}

#[test]
fn by_ansibles_apt_module() {
    the_way(&ANSIBLE);
}

#[test]
fn by_the_installer_from_a_url() {
    the_way(&URL);
}

#[test]
fn by_the_installer_from_a_folder() {
    the_way(&FOLDER);
}

#[test]
fn by_the_installer_from_a_bundle() {
    the_way(&BUNDLE);
}
