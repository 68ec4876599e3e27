//! The collection on three real nodes over ssh, without Python on them: what an operator of a fleet does, each step twice.
//! Needs root and `make dist-demo`.

use crate::playbook::{Collection, Run, source};
use serde_json::json;
use smolotchi_lab::{Lab, Node, Options};
use std::path::PathBuf;
use std::time::Duration;

/// Three changes in a row, on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(900);
const NODES: [&str; 3] = ["node1", "node2", "node3"];

fn dist() -> PathBuf {
    let folder = source().join("dist/demo");
    assert!(folder.join("repo").is_dir(), "{} is missing: run `make dist-demo` first", folder.display());
    folder
}

struct Fleet {
    lab: Lab,
    collection: Collection,
}

impl Fleet {
    fn start() -> Self {
        smolotchi_lab::preflight().unwrap();
        let lab = Lab::start(Options { nodes: 3, ..Options::default() }).unwrap();
        for node in lab.nodes() {
            node.shorten_gate().unwrap();
        }
        Fleet { lab, collection: Collection::install() }
    }

    fn play(&self, playbook: &str, vars: serde_json::Value, flags: &[&str]) -> Run {
        let mut more: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let everywhere = json!({"smolotchi_hosts": "lab", "ansible_python_interpreter": "/nonexistent"});
        for vars in [everywhere, vars] {
            more.extend(["-e".to_owned(), vars.to_string()]);
        }
        let words = self.collection.words(&self.lab.folder().inventory(), playbook, &more);
        Run::of(self.lab.exec_in_network(&words, DEADLINE).unwrap())
    }

    fn assert_installed(&self, version: &str) {
        for node in self.lab.nodes() {
            assert_eq!(node.installed().unwrap(), version, "{}", node.name());
            let violations = node.invariants().unwrap();
            assert!(violations.is_empty(), "{}: {violations:#?}", node.name());
        }
    }
}

/// What is in the temporary folder that Ansible has on a node.
fn left_over(node: &Node) -> String {
    node.sh_ok("find /root/.ansible/tmp -mindepth 1 2>/dev/null; true").unwrap()
}

#[test]
fn a_fleet_from_nothing_to_stable_and_back() {
    let dist = dist();
    let fleet = Fleet::start();
    let url = fleet.lab.serve(&dist.join("repo"), 0).unwrap();
    let trust = json!([dist.join("keys/smolotchi.pub")]);
    let bundle = |version: &str| {
        let names = std::fs::read_dir(dist.join("bundles")).unwrap().map(|entry| entry.unwrap().path());
        let wanted = format!("smolotchi-{version}-");
        let found = names.into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with(&wanted)).unwrap();
        format!("bundle:{}", found.display())
    };

    // Check mode on fresh nodes tells what would be done, and does nothing.
    let install = json!({"smolotchi_source": url, "smolotchi_channel": "oldstable", "smolotchi_bootstrap": dist.join("repo"), "smolotchi_trust": trust, "smolotchi_serial": 3});
    let before: Vec<_> = fleet.lab.nodes().iter().map(|node| node.snapshot_fs().unwrap()).collect();
    let checked = fleet.play("install", install.clone(), &["--check", "--diff"]);
    checked.assert_changed(&NODES);
    assert!(checked.output.stdout.contains("+smolotchi: 0.1.0"), "{}", checked.text());
    for (node, before) in fleet.lab.nodes().iter().zip(&before) {
        assert_eq!(before.difference(&node.snapshot_fs().unwrap()), Vec::<String>::new(), "{}", node.name());
        assert_eq!(left_over(node), "");
    }

    // From a server, and, without a network of its own, from a bundle on the controller.
    fleet.play("install", install.clone(), &["--limit", "node1:node2"]).assert_changed(&NODES[..2]);
    let from_bundle = json!({"smolotchi_source": bundle("0.1.0"), "smolotchi_trust": trust});
    fleet.play("install", from_bundle.clone(), &["--limit", "node3", "--check"]).assert_changed(&NODES[2..]);
    fleet.play("install", from_bundle, &["--limit", "node3"]).assert_changed(&NODES[2..]);
    fleet.assert_installed("0.1.0");
    fleet.play("install", install.clone(), &[]).assert_changed(&[]);
    fleet.play("install", install, &["--check"]).assert_changed(&[]);

    // Up, with rows that were there before.
    for node in fleet.lab.nodes() {
        node.append_events("before", 50).unwrap();
    }
    let upgrade = json!({"smolotchi_source": url, "smolotchi_channel": "stable"});
    fleet.play("upgrade", upgrade.clone(), &["--check"]).assert_changed(&NODES);
    fleet.assert_installed("0.1.0");
    fleet.play("upgrade", upgrade.clone(), &[]).assert_changed(&NODES);
    fleet.assert_installed("0.2.0");
    fleet.play("upgrade", upgrade.clone(), &[]).assert_changed(&[]);

    // A broken release fails on the first node, which takes itself back, and goes no further.
    let broken = json!({"smolotchi_source": url, "smolotchi_channel": "edge"});
    let failed = fleet.play("upgrade", broken.clone(), &[]);
    assert_ne!(failed.output.status, 0, "{}", failed.text());
    assert_eq!(failed.failures.keys().collect::<Vec<_>>(), ["node1"], "{}", failed.text());
    assert_eq!((&failed.failures["node1"]["rc"], &failed.failures["node1"]["code"]), (&json!(40), &json!("change.rolled-back")));
    assert!(failed.failures["node1"]["msg"].as_str().unwrap().contains("safely back on 0.2.0"), "{}", failed.text());
    fleet.assert_installed("0.2.0");
    for node in fleet.lab.nodes() {
        let blocked = node.change_status().unwrap()["blocked"].as_array().unwrap().len();
        assert_eq!(blocked, usize::from(node.index() == 1), "{} was touched, or doesn't remember", node.name());
    }
    // Again, on all at once: refused where it failed before, taken back elsewhere.
    let mut at_once = broken;
    at_once["smolotchi_serial"] = json!(3);
    let failed = fleet.play("upgrade", at_once, &[]);
    let codes: Vec<_> =
        failed.failures.iter().map(|(host, result)| (host.as_str(), result["rc"].as_u64(), result["code"].as_str())).collect();
    let expected = [
        ("node1", Some(20), Some("change.version-blocked")),
        ("node2", Some(40), Some("change.rolled-back")),
        ("node3", Some(40), Some("change.rolled-back")),
    ];
    assert_eq!(codes, expected, "{}", failed.text());
    fleet.assert_installed("0.2.0");

    // Back, with all rows; then up again from a bundle, which after that must be asked for knowingly.
    let back = json!({"smolotchi_version": "0.1.0", "smolotchi_serial": 3});
    fleet.play("rollback", back.clone(), &["--check"]).assert_changed(&NODES);
    fleet.assert_installed("0.2.0");
    fleet.play("rollback", back.clone(), &[]).assert_changed(&NODES);
    fleet.assert_installed("0.1.0");
    fleet.play("rollback", back, &[]).assert_changed(&[]);
    for node in fleet.lab.nodes() {
        assert_eq!(node.count_events("before").unwrap(), (50, 50), "{}", node.name());
    }
    let mut from_bundle = json!({"smolotchi_source": bundle("0.2.0"), "smolotchi_serial": 3});
    let refused = fleet.play("upgrade", from_bundle.clone(), &["--check"]);
    assert_eq!(refused.failures["node2"]["code"], "change.version-blocked", "{}", refused.text());
    from_bundle["smolotchi_unblock"] = json!(true);
    fleet.play("upgrade", from_bundle.clone(), &[]).assert_changed(&NODES);
    fleet.assert_installed("0.2.0");
    fleet.play("upgrade", from_bundle, &[]).assert_changed(&[]);

    let status = fleet.play("status", json!({}), &[]);
    status.assert_changed(&[]);
    assert_eq!(status.output.stdout.matches("\"installed\": \"0.2.0\"").count(), 3, "{}", status.text());
    assert_eq!(
        status.output.stdout.matches("smolotchi-core.service: 535 points, 535 at most, -2210 since 0.1.0: ok").count(),
        3,
        "{}",
        status.text()
    );
    // Whoever looks from afar is told which file opens it.
    let opened = "/etc/systemd/system/smolotchi-display.service.d/60-mine.conf";
    fleet.lab.nodes()[1].write(opened, b"[Service]\nPrivateNetwork=no\n").unwrap();
    assert_eq!(fleet.lab.nodes()[1].sh("systemctl daemon-reload").unwrap().status, 0);
    let status = fleet.play("status", json!({}), &[]);
    status.assert_changed(&[]);
    assert_eq!(status.output.stdout.matches(&format!("shaped also by {opened}")).count(), 1, "{}", status.text());
    for node in fleet.lab.nodes() {
        assert_eq!(left_over(node), "");
    }
}
