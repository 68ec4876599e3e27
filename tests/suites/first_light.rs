//! The product's main job, end to end on real machines: install, upgrade with a migration, go back with all rows, survive
//! a bad release, leave nothing behind; and every changed byte refused. Needs root and `make dist-demo`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use smolotchi_lab::story::CHANGE_DEADLINE;
use smolotchi_lab::{Bind, Disk, Lab, Node, Options, Output, Release, wait_until};
use std::path::{Path, PathBuf};

fn dist() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("dist/demo");
    assert!(folder.join("repo").is_dir(), "{} is missing: run `make dist-demo` first", folder.display());
    folder
}

fn keyring() -> PathBuf {
    dist().join("keys/smolotchi-archive-keyring.pgp")
}

/// A node that sees the release tree at /srv/demo, as a stick would be.
fn lab(release: Release, disk: Disk) -> Lab {
    smolotchi_lab::preflight().unwrap();
    Lab::start(Options { release, disk, binds: vec![Bind { from: dist(), to: "/srv/demo".into() }], ..Options::default() }).unwrap()
}

const TREE: &str = "/srv/demo/repo";

/// 0.1.0 by apt, with the gate made quick.
fn install(node: &Node, url: &str) {
    node.add_apt_source(&keyring(), url, "oldstable").unwrap();
    node.run_ok(&["apt-get", "install", "-y", "smolotchi"]).unwrap();
    node.shorten_gate().unwrap();
    assert_eq!(node.installed().unwrap(), "0.1.0");
    wait_healthy(node);
}

fn wait_healthy(node: &Node) {
    node.wait_until("smolotchi health to say 0", CHANGE_DEADLINE, "smolotchi health").unwrap();
}

fn assert_invariants(node: &Node) {
    let violations = node.invariants().unwrap();
    assert!(violations.is_empty(), "{violations:#?}");
}

fn error_code(output: &Output) -> String {
    let line = output.stderr.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no error line: {output:?}"));
    let value: Value = serde_json::from_str(line).unwrap();
    for key in ["code", "message", "hint"] {
        assert!(!value["error"][key].as_str().unwrap_or_default().is_empty(), "the error has no {key}: {line}");
    }
    value["error"]["code"].as_str().unwrap().to_owned()
}

fn result(output: &Output) -> Value {
    let line = output.stdout.lines().last().unwrap_or_else(|| panic!("said nothing: {output:?}"));
    let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {output:?}"));
    assert_eq!(value["event"], "result", "{line}");
    value
}

fn the_whole_way(release: Release) {
    let lab = lab(release, Disk::default());
    let node = lab.node(1);
    let url = lab.serve(&dist().join("repo"), 8000).unwrap();
    // Every real Debian has this folder, for apt's own timers, which the lab masks.
    node.run_ok(&["mkdir", "-p", "/var/lib/systemd/timers"]).unwrap();
    let before = node.snapshot_fs().unwrap();

    install(node, &url);
    assert_eq!(node.schema().unwrap(), 1);
    node.append_events("before", 1_000).unwrap();

    // Up, with a migration.
    let upgrade = ["smolotchi-install", "upgrade", "--from", &url, "--channel", "stable", "--format", "json"];
    let output = node.run(&upgrade).unwrap();
    assert_eq!(output.status, 0, "{output:?}");
    assert_eq!(result(&output)["changed"], true);
    assert_eq!(node.installed().unwrap(), "0.2.0");
    assert_eq!(node.schema().unwrap(), smolotchi_lab::dist::schema("0.2.0").unwrap());
    let again = node.run(&upgrade).unwrap();
    assert_eq!((again.status, &result(&again)["changed"]), (0, &Value::Bool(false)), "the second run has nothing to do");

    // Back, with every row that was written after the upgrade.
    node.append_events("after", 10_000).unwrap();
    let output = node.run(&["smolotchi-install", "rollback", "--format", "json"]).unwrap();
    assert_eq!(output.status, 0, "{output:?}");
    assert_eq!(node.installed().unwrap(), "0.1.0");
    assert_eq!(node.schema().unwrap(), 1);
    assert_eq!(node.count_events("after").unwrap(), (10_000, 10_000));
    assert_eq!(node.count_events("before").unwrap(), (1_000, 1_000));
    assert_invariants(node);

    // The version that was left doesn't come back by itself.
    node.follow_suite(&url, "stable").unwrap();
    node.run_ok(&["apt-get", "upgrade", "-y"]).unwrap();
    assert_eq!(node.installed().unwrap(), "0.1.0");
    let refused = node.run(&upgrade).unwrap();
    assert_eq!((refused.status, error_code(&refused).as_str()), (20, "change.version-blocked"));
    node.run_ok(&["smolotchi-install", "unblock", "0.2.0"]).unwrap();

    // Up again, by apt this time: the guard keeps the slot and watches.
    node.run_ok(&["apt-get", "upgrade", "-y"]).unwrap();
    let status = node.wait_idle().unwrap();
    assert_eq!(status["last_change"]["verdict"], "committed", "{status}");
    assert_eq!(node.installed().unwrap(), "0.2.0");
    assert_eq!(node.count_events("after").unwrap(), (10_000, 10_000));

    // A release whose core crashes: apt says all is well, and it goes back on its own.
    node.follow_suite(&url, "edge").unwrap();
    node.run_ok(&["apt-get", "install", "-y", "smolotchi"]).unwrap();
    node.append_events("during", 1).ok();
    let status = node.wait_idle().unwrap();
    assert_eq!(status["last_change"]["verdict"], "rolled-back", "{status}");
    assert!(status["last_change"]["reason"].as_str().unwrap().contains("smolotchi-core"), "{status}");
    assert_eq!(node.installed().unwrap(), "0.2.0");
    assert_eq!(node.schema().unwrap(), smolotchi_lab::dist::schema("0.2.0").unwrap());
    wait_healthy(node);
    assert_eq!(node.count_events("after").unwrap(), (10_000, 10_000));
    node.run_ok(&["apt-get", "upgrade", "-y"]).unwrap();
    assert_eq!(node.installed().unwrap(), "0.2.0", "apt must not bring the bad version back");
    assert_invariants(node);

    // A reboot changes nothing.
    node.reboot().unwrap();
    wait_healthy(node);
    assert_invariants(node);

    // And nothing is left behind.
    node.run_ok(&["apt-get", "purge", "-y", "smolotchi", "smolotchi-install", "smolotchi-archive-keyring"]).unwrap();
    node.run_ok(&["rm", "-r", "/etc/apt/sources.list.d/smolotchi.sources", "/usr/share/keyrings/smolotchi.pgp"]).unwrap();
    let left = before.difference(&node.snapshot_fs().unwrap());
    assert!(left.is_empty(), "left after purge: {left:#?}");
}

#[test]
fn the_whole_way_on_debian_12() {
    the_whole_way(Release::Bookworm);
}

#[test]
fn the_whole_way_on_debian_13() {
    the_whole_way(Release::Trixie);
}

#[test]
fn plain_dpkg_gets_the_same_way_back() {
    let lab = lab(Release::Bookworm, Disk::default());
    let node = lab.node(1);
    node.sh_ok("dpkg -i /srv/demo/releases/0.1.0/debs/*.deb").unwrap();
    node.shorten_gate().unwrap();
    wait_healthy(node);
    node.append_events("kept", 100).unwrap();

    // Good: committed. The first version's package was never seen by us, so its slot is rebuilt from the installed files.
    node.sh_ok("dpkg -i /srv/demo/releases/0.2.0/debs/smolotchi_0.2.0_*.deb").unwrap();
    let status = node.wait_idle().unwrap();
    assert_eq!(status["last_change"]["verdict"], "committed", "{status}");
    let slot = String::from_utf8(node.read("/var/lib/smolotchi-install/slots/0.1.0/slot.toml").unwrap()).unwrap();
    assert!(slot.contains("origin = \"rebuilt\""), "{slot}");

    // Bad: back by itself.
    node.sh_ok("dpkg -i /srv/demo/releases/0.3.0/debs/smolotchi_0.3.0_*.deb").unwrap();
    let status = node.wait_idle().unwrap();
    assert_eq!(status["last_change"]["verdict"], "rolled-back", "{status}");
    assert_eq!(node.installed().unwrap(), "0.2.0");

    // And the rebuilt one works.
    node.run_ok(&["smolotchi-install", "rollback", "--to", "0.1.0"]).unwrap();
    assert_eq!(node.installed().unwrap(), "0.1.0");
    assert_eq!(node.schema().unwrap(), 1);
    assert_eq!(node.count_events("kept").unwrap(), (100, 100));
    wait_healthy(node);
    assert_invariants(node);
}

#[test]
fn the_installer_says_40_when_it_had_to_go_back() {
    let lab = lab(Release::Trixie, Disk::default());
    let node = lab.node(1);
    node.sh_ok(
        "dpkg -i /srv/demo/releases/0.2.0/debs/smolotchi-install_*.deb /srv/demo/releases/0.2.0/debs/smolotchi-archive-keyring_*.deb",
    )
    .unwrap();
    node.shorten_gate().unwrap();

    // From a bundle, offline.
    let bundle = node.sh_ok("ls /srv/demo/bundles/smolotchi-0.2.0-*.bundle").unwrap();
    let output = node.run(&["smolotchi-install", "install", "--from", bundle.trim(), "--format", "json"]).unwrap();
    assert_eq!(output.status, 0, "{output:?}");
    assert_eq!(node.installed().unwrap(), "0.2.0");

    // From a folder; the plan first, which touches nothing.
    let plan = ["smolotchi-install", "plan", "--from", TREE, "--channel", "edge", "--format", "json"];
    let output = node.run(&plan).unwrap();
    let shown = result(&output);
    assert_eq!((output.status, &shown["changed"], &shown["plan"]["to"]), (0, &Value::Bool(true), &Value::from("0.3.0")), "{output:?}");
    assert_eq!(node.installed().unwrap(), "0.2.0");

    let output = node.run(&["smolotchi-install", "upgrade", "--from", TREE, "--channel", "edge", "--format", "json"]).unwrap();
    assert_eq!(output.status, 40, "{output:?}");
    let shown = result(&output);
    assert_eq!((&shown["report"]["verdict"], &shown["installed"]), (&Value::from("rolled-back"), &Value::from("0.2.0")));
    assert!(!shown["report"]["evidence"].as_array().unwrap().is_empty(), "the failed version's last log lines are missing");
    let history = node.run_ok(&["smolotchi-install", "history"]).unwrap();
    assert!(history.contains("rolled back"), "{history}");
    assert_invariants(node);
}

#[test]
fn whatever_was_changed_is_refused_before_anything_is_touched() {
    let lab = lab(Release::Bookworm, Disk::default());
    let node = lab.node(1);
    let url = lab.serve(&dist().join("repo"), 8000).unwrap();
    install(node, &url);
    let state = "find /var/lib/smolotchi-install /usr/bin/smolotchi /var/lib/dpkg/status /etc -type f | sort | xargs sha256sum";
    let untouched = node.sh_ok(state).unwrap();
    let flip = "flip() { size=$(stat -c %s \"$1\"); at=$((size * $2 / 100)); \
                byte=$(od -An -tu1 -j $at -N 1 \"$1\"); printf \"\\\\$(printf %o $((byte ^ 1)))\" | dd of=\"$1\" bs=1 seek=$at conv=notrunc status=none; }; \
                mistype() { sed -i '2s/^\\(.\\{50\\}\\)A/\\1B/; t; 2s/^\\(.\\{50\\}\\)./\\1A/' \"$1\"; }; \
                rm -rf /var/tmp/t; mkdir /var/tmp/t; cp -r /srv/demo/repo/channels /srv/demo/repo/releases /srv/demo/repo/pool /var/tmp/t; \
                cp /srv/demo/bundles/smolotchi-0.2.0-*.bundle /var/tmp/t/b.bundle; cd /var/tmp/t; deb=$(ls pool/smolotchi_0.2.0_*.deb); ";
    let cases: &[(&str, &str, &str)] = &[
        ("a byte of the package", "flip $deb 50", "release.file-mismatch"),
        ("a truncated package", "truncate -s -1000 $deb", "release.file-truncated"),
        ("a package that goes on", "echo x >>$deb", "release.file-mismatch"),
        ("a missing package", "rm $deb", "release.file-missing"),
        ("a byte of the manifest", "flip releases/0.2.0/manifest.toml 50", "release.file-mismatch"),
        // Another letter of base64: a signature of the right shape that is wrong.
        ("a byte of the manifest's signature", "mistype releases/0.2.0/manifest.toml.minisig", "release.signature-invalid"),
        ("a missing manifest", "rm releases/0.2.0/manifest.toml", "release.file-missing"),
        ("a missing signature", "rm releases/0.2.0/manifest.toml.minisig", "release.signature-missing"),
        ("a byte of the channel", "flip channels/stable.toml 50", "release.signature-invalid"),
        ("a cut signature", "truncate -s 100 channels/stable.toml.minisig", "release.signature-malformed"),
        (
            "another channel's document",
            "cp channels/edge.toml channels/stable.toml; cp channels/edge.toml.minisig channels/stable.toml.minisig",
            "release.channel-invalid",
        ),
        ("no such channel", "rm channels/stable.toml", "release.channel-unknown"),
    ];
    for (what, change, code) in cases {
        node.sh_ok(&format!("{flip}{change}")).unwrap();
        let output =
            node.run(&["smolotchi-install", "upgrade", "--from", "/var/tmp/t", "--channel", "stable", "--format", "json"]).unwrap();
        assert_eq!((output.status, error_code(&output).as_str()), (20, *code), "{what}: {output:?}");
        assert_eq!(node.sh_ok(state).unwrap(), untouched, "{what}: something was touched");
    }
    for (what, change, code) in [
        ("a byte of a bundle's package", "flip b.bundle 50", "release.file-mismatch"),
        ("a truncated bundle", "truncate -s -4096 b.bundle", "release.file-truncated"),
        ("a bundle that goes on", "echo x >>b.bundle", "release.bundle-invalid"),
    ] {
        node.sh_ok(&format!("{flip}{change}")).unwrap();
        let output = node.run(&["smolotchi-install", "upgrade", "--from", "/var/tmp/t/b.bundle", "--format", "json"]).unwrap();
        assert_eq!((output.status, error_code(&output).as_str()), (20, code), "{what}: {output:?}");
        assert_eq!(node.sh_ok(state).unwrap(), untouched, "{what}: something was touched");
    }
    // A key that this machine doesn't know, in the place of the one that it does.
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/keys/other.pub");
    node.push(&golden, "/var/tmp/other.pub").unwrap();
    let unknown = ["smolotchi-install", "upgrade", "--from", TREE, "--trust", "/var/tmp/other.pub", "--format", "json"];
    let output = node.run(&unknown).unwrap();
    assert_eq!((output.status, error_code(&output).as_str()), (20, "release.signature-unknown-key"));
    // A machine of another kind, as dpkg tells it: the same release is refused.
    node.sh_ok("mkdir -p /opt/fake && printf '#!/bin/sh\\n[ \"$1\" = --print-architecture ] && { echo riscv64; exit 0; }\\nexec /usr/bin/dpkg \"$@\"\\n' >/opt/fake/dpkg && chmod +x /opt/fake/dpkg").unwrap();
    let output = node.sh(&format!("PATH=/opt/fake:$PATH smolotchi-install upgrade --from {TREE} --format json")).unwrap();
    assert_eq!((output.status, error_code(&output).as_str()), (20, "release.wrong-architecture"));
    node.sh_ok("rm -r /opt/fake /var/tmp/t").unwrap();

    // An older copy of a channel that was seen before.
    node.run_ok(&["smolotchi-install", "upgrade", "--from", TREE]).unwrap();
    node.sh_ok("sed -i 's/^stable = .*/stable = 1000000/' /var/lib/smolotchi-install/state.toml").unwrap();
    let output = node.run(&["smolotchi-install", "upgrade", "--from", TREE, "--format", "json"]).unwrap();
    assert_eq!((output.status, error_code(&output).as_str()), (20, "release.channel-replayed"));
    assert_invariants(node);
}

#[test]
fn a_power_cut_ends_in_the_old_version_or_the_new_one() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (seed, cuts) = (number("SEED", 1), number("CUTS", 3));
    println!("SEED={seed} CUTS={cuts}");
    let lab = lab(Release::Bookworm, Disk::Image);
    let node = lab.node(1);
    node.sh_ok("dpkg -i /srv/demo/releases/0.1.0/debs/*.deb").unwrap();
    node.shorten_gate().unwrap();
    wait_healthy(node);
    node.append_events("kept", 500).unwrap();
    node.run_ok(&["sync"]).unwrap();
    let mut random = seed;
    for cut in 0..cuts {
        let to = if node.installed().unwrap() == "0.1.0" { "stable" } else { "oldstable" };
        let verb = if to == "stable" {
            "smolotchi-install unblock 0.2.0; smolotchi-install upgrade --from /srv/demo/repo --channel stable"
        } else {
            "smolotchi-install rollback --to 0.1.0"
        };
        // Somewhere between the first record and the end of the watch.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after = (random >> 33) % 4_000;
        node.sh_ok(&format!("( {verb} ) >/dev/null 2>&1 &")).unwrap();
        node.wait_until("the change to be open", CHANGE_DEADLINE, "test -L /var/lib/smolotchi-install/open").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(after));
        println!("cut {cut}: {to}, {after} ms after the change was opened");
        node.power_cut().unwrap();
        node.boot().unwrap();
        let status = node.wait_idle().unwrap();
        let installed = node.installed().unwrap();
        println!("cut {cut}: {installed}, {}", status["last_change"]["verdict"]);
        assert!(["0.1.0", "0.2.0"].contains(&installed.as_str()), "{installed}: {status}");
        wait_healthy(node);
        assert_eq!(node.count_events("kept").unwrap(), (500, 500));
        assert_invariants(node);
    }
}

#[test]
fn a_full_disk_is_told_in_numbers_and_nothing_is_touched() {
    let lab = lab(Release::Bookworm, Disk::Image);
    let node = lab.node(1);
    node.sh_ok("dpkg -i /srv/demo/releases/0.1.0/debs/*.deb").unwrap();
    node.shorten_gate().unwrap();
    wait_healthy(node);
    node.fill_disk(4 << 20).unwrap();
    let output = node.run(&["smolotchi-install", "upgrade", "--from", TREE, "--format", "json"]).unwrap();
    assert_eq!((output.status, error_code(&output).as_str()), (20, "change.preflight"), "{output:?}");
    assert!(output.stderr.contains("needed_bytes") && output.stderr.contains("free_bytes"), "{}", output.stderr);
    // Plain dpkg is stopped by the guard, before it unpacks.
    let output = node.sh("dpkg -i /srv/demo/releases/0.2.0/debs/smolotchi_0.2.0_*.deb").unwrap();
    assert_ne!(output.status, 0, "{output:?}");
    assert_eq!(node.installed().unwrap(), "0.1.0");
    node.free_disk().unwrap();
    wait_healthy(node);
    let output = node.run(&["smolotchi-install", "upgrade", "--from", TREE, "--format", "json"]).unwrap();
    assert_eq!(output.status, 0, "{output:?}");
    assert_invariants(node);
}

#[test]
fn the_wrong_user_and_the_wrong_moment_are_told() {
    let lab = lab(Release::Bookworm, Disk::default());
    let node = lab.node(1);
    node.sh_ok("dpkg -i /srv/demo/releases/0.1.0/debs/*.deb").unwrap();
    node.shorten_gate().unwrap();
    wait_healthy(node);
    for (words, exit, code) in [
        (&["runuser", "-u", "nobody", "--", "smolotchi-install", "upgrade", "--from", TREE, "--format", "json"][..], 2, "cli.not-root"),
        (&["smolotchi-install", "rollback", "--format", "json"], 20, "change.no-slot"),
        (&["smolotchi-install", "install", "--from", TREE, "--format", "json"], 20, "change.already-installed"),
        (&["smolotchi-install", "upgrade", "--format", "json"], 2, "source.missing"),
        (&["smolotchi-install", "upgrade", "--from", "/nowhere", "--format", "json"], 30, "source.unreachable"),
        (&["smolotchi-install", "upgrade", "--from", "http://10.255.255.1:9/", "--format", "json"], 30, "source.unreachable"),
        (&["smolotchi-install", "upgrade", "--from", TREE, "--to", "9.9.9", "--format", "json"], 20, "release.version-unknown"),
    ] {
        let output = node.run(words).unwrap();
        assert_eq!((output.status, error_code(&output).as_str()), (exit, code), "{words:?}: {output:?}");
    }

    // While a change is open, another one has to wait: ours, and dpkg's.
    node.sh_ok("smolotchi-install upgrade --from /srv/demo/repo >/tmp/upgrade.log 2>&1 &").unwrap();
    node.wait_until("the change to be open", CHANGE_DEADLINE, "test -L /var/lib/smolotchi-install/open").unwrap();
    let output = node.run(&["smolotchi-install", "rollback", "--to", "0.1.0", "--format", "json"]).unwrap();
    assert_ne!(output.status, 0, "{output:?}");
    wait_until("the upgrade to end", CHANGE_DEADLINE, || Ok(node.change_status()?["state"] == "idle")).unwrap();
    assert_eq!(node.installed().unwrap(), "0.2.0");
    assert_invariants(node);
}
