//! The release maker with the real minisign, gpg, apt-ftparchive and apt: what it publishes is taken, and what was changed afterwards,
//! in any file, is not. Needs feature `sign` and those programs.

#![cfg(feature = "sign")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;
use smolotchi_release::{Channel, Deb, Manifest, Trust, bundle};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

struct Rig {
    folder: tempfile::TempDir,
}

impl Rig {
    fn new() -> Rig {
        Rig { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Builds the packages of a version into `debs/VERSION` with the real dpkg-deb; `says` is the version in release.toml.
    fn build(&self, version: &str, says: &str, architectures: &[&str]) {
        let out = self.path(&format!("debs/{version}"));
        std::fs::create_dir_all(&out).unwrap();
        for architecture in architectures {
            let release = String::from_utf8(common::read("release.toml")).unwrap().replace("0.2.0", says);
            self.deb(&out, "smolotchi", version, architecture, &[("usr/lib/smolotchi/release.toml", &release)]);
        }
        self.deb(&out, "smolotchi-archive-keyring", "2026.1", "all", &[]);
    }

    fn deb(&self, out: &Path, package: &str, version: &str, architecture: &str, files: &[(&str, &str)]) {
        let root = self.path("build");
        let control = format!(
            "Package: {package}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: x <x@example.invalid>\nDescription: x\n"
        );
        for (name, text) in files.iter().chain(&[("DEBIAN/control", control.as_str())]) {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::write(root.join(name), text).unwrap();
        }
        let built = Command::new("dpkg-deb")
            .args(["-Zgzip", "--root-owner-group", "--build"])
            .args([&root, out])
            .env("SOURCE_DATE_EPOCH", "1767225600")
            .output()
            .unwrap();
        assert!(built.status.success(), "{built:?}");
        std::fs::remove_dir_all(&root).unwrap();
    }

    fn run(&self, args: &[&str]) -> Result<serde_json::Value, (i32, serde_json::Value)> {
        let output = Command::new(env!("CARGO_BIN_EXE_smolotchi-release"))
            .args(["--format", "json"])
            .args(args)
            .current_dir(self.folder.path())
            .env_remove("SOURCE_DATE_EPOCH")
            .output()
            .unwrap();
        let parse = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or_else(|_| panic!("{args:?}: {output:?}"));
        match output.status.code() {
            Some(0) => Ok(parse(&output.stdout)),
            code => Err((code.unwrap(), parse(&output.stderr))),
        }
    }

    fn publish(&self, channel: &str, version: &str, more: &[&str]) -> Result<serde_json::Value, (i32, serde_json::Value)> {
        let debs = format!("debs/{version}");
        let args = ["publish", "--tree", "tree", "--keys", "keys", "--channel", channel, "--version", version, "--debs", &debs];
        self.run(&[&args, more].concat())
    }

    fn verify(&self) -> Result<serde_json::Value, (i32, serde_json::Value)> {
        self.run(&["verify", "--tree", "tree", "--trust", "keys"])
    }

    /// Keys, two releases, two channels.
    fn published() -> Rig {
        let rig = Rig::new();
        rig.run(&["keys", "--out", "keys"]).unwrap();
        rig.build("0.1.0", "0.1.0", &["amd64", "arm64"]);
        rig.build("0.2.0", "0.2.0", &["amd64", "arm64"]);
        rig.publish("stable", "0.1.0", &[]).unwrap();
        rig.publish("oldstable", "0.1.0", &[]).unwrap();
        rig.publish("stable", "0.2.0", &[]).unwrap();
        rig
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, (i32, serde_json::Value)>) -> (i32, String) {
    let (exit, error) = result.unwrap_err();
    (exit, error["error"]["code"].as_str().unwrap().to_owned())
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn what_is_published_is_whole_and_apt_takes_it() {
    let rig = Rig::published();
    let checked = rig.verify().unwrap();
    assert_eq!(checked["channels"], serde_json::json!({"oldstable": "0.1.0", "stable": "0.2.0"}));
    assert_eq!((checked["packages"].as_u64(), checked["releases"][1].as_str()), (Some(5), Some("0.2.0")));

    // As a node reads it.
    let trust = Trust::load(&[&rig.path("tree/keys")]).unwrap();
    let read = |path: &str| std::fs::read(rig.path("tree").join(path)).unwrap();
    let channel = Channel::verify(&read("channels/stable.toml"), &read("channels/stable.toml.minisig"), &trust).unwrap();
    assert_eq!((channel.sequence, channel.version.as_str()), (2, "0.2.0"));
    let manifest = Manifest::verify(&read(&channel.manifest), &read(&format!("{}.minisig", channel.manifest)), &trust).unwrap();
    assert_eq!((manifest.schema.own, manifest.debs.len()), (3, 3));

    // As apt reads it: an apt of its own, with the keyring from the tree.
    let apt = rig.path("apt");
    for folder in ["lists/partial", "cache/archives/partial", "etc/sources.list.d", "etc/preferences.d", "etc/trusted.gpg.d"] {
        std::fs::create_dir_all(apt.join(folder)).unwrap();
    }
    std::fs::write(apt.join("status"), "").unwrap();
    let tree = rig.path("tree");
    let source = format!(
        "Types: deb\nURIs: file:{0}\nSuites: stable\nComponents: main\nSigned-By: {0}/keys/smolotchi-archive-keyring.pgp\n",
        tree.display()
    );
    std::fs::write(apt.join("etc/sources.list.d/smolotchi.sources"), source).unwrap();
    let apt_run = |program: &str, args: &[&str]| {
        let dir = |name: &str, path: &str| format!("-oDir::{name}={}", apt.join(path).display());
        let output = Command::new(program)
            .args([dir("State::lists", "lists"), dir("Cache", "cache"), dir("Etc", "etc"), dir("State::status", "status")])
            .args(["-oAPT::Architecture=arm64", "-oAPT::Architectures=arm64", "-oAPT::Sandbox::User=root", "-oDebug::NoLocking=1"])
            .args(args)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && !text.contains("W:"), "{text}");
        text
    };
    apt_run("apt-get", &["update"]);
    let policy = apt_run("apt-cache", &["policy", "smolotchi"]);
    assert!(policy.contains("Candidate: 0.2.0") && policy.contains(" 0.1.0 "), "{policy}");
}

#[test]
fn a_changed_or_missing_file_anywhere_in_the_tree_is_noticed() {
    let rig = Rig::published();
    for path in walk(&rig.path("tree")) {
        let relative = path.strip_prefix(rig.path("tree")).unwrap().to_owned();
        // The keys in the tree are for the first download; nothing is verified with them here.
        if relative.starts_with("keys") {
            continue;
        }
        // Lists of the publication before, kept by their hash for those who just fetched the old Release.
        let bytes = std::fs::read(&path).unwrap();
        let name = relative.file_name().unwrap().to_string_lossy().into_owned();
        let listed = std::fs::read_to_string(rig.path("tree").join(relative.ancestors().nth(5).unwrap_or(Path::new("")).join("Release")));
        if relative.to_string_lossy().contains("by-hash") && !listed.unwrap().contains(&name) {
            continue;
        }
        let mut changed = bytes.clone();
        // In the middle: the ends of signature files are comments and frames, which nobody signs.
        let at = changed.len() / 2;
        changed[at] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        assert!(rig.verify().is_err(), "{} changed", relative.display());
        std::fs::remove_file(&path).unwrap();
        assert!(rig.verify().is_err(), "{} missing", relative.display());
        std::fs::write(&path, &bytes).unwrap();
    }
    rig.verify().unwrap();
    std::fs::write(rig.path("tree/pool/stray_1_all.deb"), "x").unwrap();
    assert_eq!(refused(rig.verify()), (20, "release.file-mismatch".into()));
}

#[test]
fn what_would_break_a_promise_is_refused_and_changes_nothing() {
    let rig = Rig::published();
    let before: Vec<_> = walk(&rig.path("tree")).into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect();

    assert_eq!(refused(rig.run(&["keys", "--out", "keys"])), (20, "maker.input".into()));
    assert_eq!(refused(rig.publish("stable", "0.2.0", &["--sequence", "2"])), (20, "maker.input".into()), "a sequence that doesn't rise");
    assert_eq!(refused(rig.publish("Stable", "0.2.0", &[])), (20, "maker.input".into()), "a channel's name");
    assert_eq!(refused(rig.publish("stable", "0.2.0", &["--debs", "debs/0.1.0"])), (20, "maker.input".into()), "two versions of a package");
    // The same version, other content.
    std::fs::remove_dir_all(rig.path("debs/0.2.0")).unwrap();
    rig.build("0.2.0", "0.2.0", &["amd64"]);
    assert_eq!(refused(rig.publish("stable", "0.2.0", &[])), (20, "maker.input".into()), "another set of packages");
    rig.build("0.3.0", "0.2.0", &["amd64"]);
    assert_eq!(refused(rig.publish("stable", "0.3.0", &[])), (20, "maker.input".into()), "release.toml says another version");
    rig.build("0.4.0", "0.4.0", &[]);
    assert_eq!(refused(rig.publish("stable", "0.4.0", &[])), (20, "maker.input".into()), "no package smolotchi");
    std::fs::write(rig.path("debs/0.4.0/x.deb"), "x").unwrap();
    assert_eq!(refused(rig.publish("stable", "0.4.0", &[])), (20, "release.file-truncated".into()), "not a package");

    let after: Vec<_> = walk(&rig.path("tree")).into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect();
    assert!(before == after, "a refused publication changed the tree");
    // Another's keys don't vouch for this tree.
    rig.run(&["keys", "--out", "other"]).unwrap();
    assert_eq!(refused(rig.run(&["verify", "--tree", "tree", "--trust", "other"])), (20, "release.signature-unknown-key".into()));
    std::fs::copy(rig.path("keys/smolotchi.pub"), rig.path("other/first.pub")).unwrap();
    assert_eq!(refused(rig.run(&["verify", "--tree", "tree", "--trust", "other"])), (20, "release.signature-invalid".into()), "InRelease");
}

#[test]
fn a_bundle_is_one_architecture_and_always_the_same() {
    let rig = Rig::published();
    let make = |out: &str| rig.run(&["bundle", "--tree", "tree", "--channel", "stable", "--arch", "arm64", "--out", out]).unwrap();
    make("a.bundle");
    make("b.bundle");
    assert!(std::fs::read(rig.path("a.bundle")).unwrap() == std::fs::read(rig.path("b.bundle")).unwrap());
    std::fs::create_dir(rig.path("unpacked")).unwrap();
    let contents = bundle::unpack(&rig.path("a.bundle"), &rig.path("unpacked")).unwrap();
    assert_eq!((contents.channel.as_str(), contents.version.as_str(), contents.paths.len()), ("stable", "0.2.0", 6));
    assert_eq!(Deb::open(&rig.path("unpacked/pool/smolotchi_0.2.0_arm64.deb")).unwrap().architecture(), "arm64");
    let other = rig.run(&["bundle", "--tree", "tree", "--channel", "stable", "--arch", "riscv64", "--out", "c.bundle"]);
    assert_eq!(refused(other), (20, "maker.input".into()));
    let other = rig.run(&["bundle", "--tree", "tree", "--channel", "edge", "--arch", "arm64", "--out", "c.bundle"]);
    assert_eq!(refused(other), (20, "release.channel-unknown".into()));
    assert!(!rig.path("c.bundle").exists() && !rig.path(".c.bundle.staging").exists());
}

#[test]
fn no_agent_of_gpg_stays() {
    let rig = Rig::new();
    rig.run(&["keys", "--out", "keys"]).unwrap();
    rig.build("0.1.0", "0.1.0", &["amd64"]);
    rig.publish("stable", "0.1.0", &[]).unwrap();
    let folder = rig.folder.path().to_string_lossy().into_owned();
    // The agent answers before it ends: going is not staying.
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Some(line) = process_that_names(&folder) {
        assert!(Instant::now() < deadline, "{line}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The command line of a process in which `text` stands.
fn process_that_names(text: &str) -> Option<String> {
    std::fs::read_dir("/proc").unwrap().find_map(|process| {
        let line = std::fs::read(process.unwrap().path().join("cmdline")).unwrap_or_default();
        Some(String::from_utf8_lossy(&line).into_owned()).filter(|line| line.contains(text))
    })
}
