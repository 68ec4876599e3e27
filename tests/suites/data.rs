//! What stands between a release and somebody's rows: a migration that can't be undone is taken only by somebody who said so,
//! and one that fails on this machine's own rows isn't taken at all. Needs root and `make dist-demo`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use smolotchi_lab::{Disk, Lab, Node, Output, Release, dist};

const ROWS: u32 = 200;
const ROWS_NOW: &str = "SELECT id, at_ms, topic, body FROM events";
const UPGRADE: [&str; 8] = ["smolotchi-install", "upgrade", "--from", dist::TREE, "--channel", "beta", "--format", "json"];
const APT: [&str; 4] = ["apt-get", "install", "-y", "smolotchi"];

/// A machine with 0.2.0, its rows, a quick gate, and apt's eyes on the channel that has 0.4.0.
fn lab() -> Lab {
    let lab = dist::lab(Release::Bookworm, Disk::default(), Vec::new()).unwrap();
    let node = lab.node(1);
    let url = lab.serve(&dist::folder().unwrap().join("repo"), 0).unwrap();
    node.add_apt_source(&dist::keyring().unwrap(), &url, dist::channel("0.2.0")).unwrap();
    node.run_ok(&APT).unwrap();
    node.set_gate(3).unwrap();
    node.wait_healthy().unwrap();
    node.append_events("kept", ROWS).unwrap();
    node.follow_suite(&url, dist::channel("0.4.0")).unwrap();
    lab
}

fn query(node: &Node, sql: &str) -> String {
    node.sh_ok(&format!("runuser -u smolotchi -- sqlite3 -batch 'file:/var/lib/smolotchi/smolotchi.db?mode=ro' \"{sql}\"")).unwrap()
}

/// Tries 0.4.0 by every way; each refuses with this code and these words, and leaves all as it was.
fn refused(node: &Node, installer: &[&str], code: &str, words: &[&str]) {
    let dpkg = format!("dpkg -i {}", dist::agent_deb("0.4.0"));
    for (way, command) in [("installer", installer), ("apt", &APT), ("dpkg", &["sh", "-c", &dpkg])] {
        node.wait_idle().unwrap();
        let rows = query(node, ROWS_NOW);
        let output: Output = node.run(command).unwrap();
        let said = format!("{}{}", output.stdout, output.stderr);
        assert_ne!(output.status, 0, "{way}: {said}");
        for word in words.iter().chain([&code]) {
            assert!(said.contains(word), "{way}: {word:?} is not said: {said}");
        }
        assert_eq!(node.installed().unwrap(), "0.2.0", "{way}: {said}");
        assert_eq!(node.schema().unwrap(), 3, "{way}");
        let now = query(node, ROWS_NOW);
        // dpkg has asked the old package's scripts to begin by then, and they start core again: that is two events.
        let new = now.strip_prefix(rows.as_str()).unwrap_or_else(|| panic!("{way}: the rows are not what they were"));
        assert!(new.is_empty() || way == "dpkg" && new.lines().all(|row| row.contains("|core.st")), "{way}: {new}");
        assert_eq!(node.wait_idle().unwrap()["state"], "idle", "{way}");
        assert_eq!(node.sh_ok("dpkg --audit; apt-get check >/dev/null").unwrap(), "", "{way}");
    }
    assert_eq!(node.run(installer).unwrap().status, 20);
    node.wait_healthy().unwrap();
    let violations = node.invariants().unwrap();
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn a_migration_that_cant_be_undone_needs_the_operators_word() {
    let lab = lab();
    let node = lab.node(1);
    // Nobody who follows the default channel sees it.
    let plan = node.run(&["smolotchi-install", "plan", "--from", dist::TREE, "--format", "json"]).unwrap();
    assert!(!plan.stdout.contains("0.4.0"), "{plan:?}");

    // Core's own events come to the rows that it changes, so the figure is held against the installer's alone.
    let touched = query(node, "SELECT count(*) FROM events WHERE at_ms % 1000 <> 0");
    let output = node.run(&UPGRADE).unwrap();
    assert!(output.stderr.contains(&format!("irreversible ({} rows)", touched.trim())), "{touched}: {output:?}");
    let costs = ["irreversible (", "the only way back is the snapshot", "accept_irreversible"];
    refused(node, &UPGRADE, "change.irreversible", &costs);

    node.write("/etc/smolotchi-install/config.d/20-word.toml", b"[migrations]\naccept_irreversible = [\"0.4.0\"]\n").unwrap();
    let output = node.run(&APT).unwrap();
    assert_eq!(output.status, 0, "{output:?}");
    assert_eq!(node.wait_idle().unwrap()["last_change"]["verdict"], "committed");
    assert_eq!((node.installed().unwrap().as_str(), node.schema().unwrap()), ("0.4.0", 4));
    assert_eq!(node.count_events("kept").unwrap(), (u64::from(ROWS), u64::from(ROWS)));
    assert_eq!(query(node, "SELECT count(*) FROM events WHERE at_ms % 1000 <> 0 AND topic = 'lab.row'").trim(), "0");
}

#[test]
fn a_migration_that_fails_on_this_machines_rows_is_refused_by_every_way() {
    let lab = lab();
    let node = lab.node(1);
    node.run_ok(&["smolotchi", "events", "append", "demo.poison", "x"]).unwrap();
    // Also with the operator's word.
    node.write("/etc/smolotchi-install/config.d/20-word.toml", b"[migrations]\naccept_irreversible = [\"0.4.0\"]\n").unwrap();
    refused(node, &UPGRADE, "change.rehearsal-failed", &["irreversible", "is poison"]);
    let plan = node.json(&["smolotchi-install", "status", "--format", "json"]).unwrap();
    assert_eq!(plan["open_change"], Value::Null);
}
