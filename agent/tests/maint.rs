//! What the maintainer scripts, the packaging and the installer call.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod node;

use node::{Node, SERVICE, need_root};
use serde_json::json;
use smolotchi_store::migrate::{self, Direction};
use std::os::unix::fs::MetadataExt;

/// A node as the package finds it: no state folder, but the user.
fn bare() -> Node {
    let node = Node::new();
    std::fs::remove_dir(node.path("var/lib/smolotchi")).unwrap();
    node.put("etc/passwd", &format!("root:x:0:0::/root:/bin/sh\nsmolotchi:x:{SERVICE}:{SERVICE}::/nonexistent:/usr/sbin/nologin\n"));
    node
}

fn owners(node: &Node) -> Vec<(String, u32)> {
    let entries = std::fs::read_dir(node.path("var/lib/smolotchi")).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().uid())).collect()
}

#[test]
fn postinst_prepares_a_machine() {
    need_root();
    let node = bare();
    // In a chroot: the folder, but the database is left to the first start.
    for _ in 0..2 {
        assert_eq!(node.run(&["maint", "postinst", "configure", ""]).ok().stdout, "");
        let folder = node.path("var/lib/smolotchi").metadata().unwrap();
        assert_eq!((folder.uid(), folder.gid(), folder.mode() & 0o7777), (SERVICE, SERVICE, 0o750));
        assert_eq!(owners(&node), []);
    }
    // On a machine where systemd runs: the database too, and once.
    std::fs::create_dir_all(node.path("run/systemd/system")).unwrap();
    node.run(&["maint", "postinst", "configure"]).ok();
    let before = std::fs::read(node.database()).unwrap();
    for call in [&["configure", "0.1.0"][..], &["abort-upgrade", "0.3.0"], &["abort-remove", "in-favour", "x", "1"], &["triggered", "x"]] {
        let ran = node.run(&[&["maint", "postinst"], call].concat()).ok();
        assert_eq!(ran.stdout, "", "{call:?}");
    }
    assert_eq!(owners(&node), [("smolotchi.db".to_owned(), SERVICE)]);
    assert_eq!(std::fs::read(node.database()).unwrap(), before);
}

#[test]
fn postinst_takes_the_database_to_this_builds_schema() {
    need_root();
    let own = smolotchi_store::schema_own();
    let node = bare();
    node.run(&["maint", "postinst", "configure"]).ok();
    migrate::run_as(own - 1, &node.database(), Direction::UpOnly, true).unwrap();
    node.give(&node.database());
    let ran = node.run(&["maint", "postinst", "configure", "0.1.0"]).ok();
    assert!(ran.stderr.contains(&format!("from schema {} to {own}", own - 1)), "{ran:?}");
    assert_eq!(migrate::inspect(&node.database()).unwrap().current, own);
    assert_eq!(owners(&node), [("smolotchi.db".to_owned(), SERVICE)]);
}

#[test]
fn postinst_fails_with_the_stores_own_words() {
    need_root();
    let node = bare();
    node.run(&["maint", "postinst", "configure"]).ok();
    node.put("var/lib/smolotchi/smolotchi.db", "this is no database, but long enough to look like a file of some kind");
    node.give(&node.database());
    let ran = node.run(&["--format", "json", "maint", "postinst", "configure", "0.1.0"]);
    assert_eq!((ran.code, ran.fault()["code"].as_str()), (50, Some("store.damaged")), "{ran:?}");
}

#[test]
fn postinst_without_its_user_leaves_the_rest_to_the_boot() {
    need_root();
    let node = bare();
    node.put("etc/passwd", "root:x:0:0::/root:/bin/sh\n");
    let ran = node.run(&["maint", "postinst", "configure"]).ok();
    assert!(ran.stderr.contains("no user smolotchi"), "{ran:?}");
    assert!(!node.path("var/lib/smolotchi").exists());
}

#[test]
fn a_snapshot_goes_out_under_a_running_core_and_comes_back() {
    let node = Node::new();
    let core = node.core();
    node.run(&["events", "append", "before", "x"]).ok();
    let copy = node.path("run/smolotchi/copy.db");
    let made = node.run_as_service(&["--format", "json", "maint", "snapshot", "--to", copy.to_str().unwrap()]).ok().json();
    assert_eq!(made["schema"], smolotchi_store::schema_own());
    node.run(&["events", "append", "after", "x"]).ok();
    let export = node.path("run/smolotchi/export.jsonl");
    let restore = ["--format", "json", "maint", "restore", "--snapshot", copy.to_str().unwrap(), "--export", export.to_str().unwrap()];
    let ran = node.run_as_service(&restore);
    assert_eq!((ran.code, ran.fault()["code"].as_str()), (10, Some("store.busy")));
    core.stop();
    let restored = node.run_as_service(&restore).ok().json();
    assert!(restored["replaced"].is_string(), "{restored}");
    // "after" and what core said when it stopped; a topic each.
    assert_eq!(restored["lacking"], json!({"events": 2, "topic_names": 2}), "{restored}");
    assert_eq!((restored["unread"].clone(), restored["export"].as_str()), (json!([]), Some("ROOT/run/smolotchi/export.jsonl")));
    let lines = std::fs::read_to_string(&export).unwrap();
    assert!(lines.lines().any(|line| line.contains("\"topic\":\"after\"")), "{lines}");
    let _core = node.core();
    let topics: Vec<_> =
        node.call("GET", "/v1/events", "").1["events"].as_array().unwrap().iter().map(|event| event["topic"].clone()).collect();
    assert_eq!(topics, ["core.started", "events.skipped", "before", "core.started"], "the log says that ids were given to others");
}

#[test]
fn a_rehearsal_works_on_a_copy_and_never_on_the_live_database() {
    let node = Node::new();
    let own = smolotchi_store::schema_own();
    let core = node.core();
    let copy = node.path("run/smolotchi/copy.db");
    node.run_as_service(&["maint", "snapshot", "--to", copy.to_str().unwrap()]).ok();
    let rehearse = ["--format", "json", "maint", "rehearse", "--database", copy.to_str().unwrap()];
    let found = node.run_as_service(&rehearse).ok().json();
    let bytes = &found["bytes_before"];
    let times = json!({"duration_ms": 0, "undo_ms": 0, "bytes_before": bytes, "bytes_after": bytes});
    let mut same = json!({"from": own, "to": own, "migrations": [], "undo": "not-needed"});
    same.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
    assert_eq!(found, same);
    core.stop();
    let before = std::fs::read(node.database()).unwrap();
    let link = node.path("run/smolotchi/link.db");
    std::os::unix::fs::symlink(node.database(), &link).unwrap();
    let ran = node.run_as_service(&["--format", "json", "maint", "rehearse", "--database", link.to_str().unwrap()]);
    assert_eq!((ran.code, ran.fault()["code"].as_str()), (2, Some("cli.usage")), "{ran:?}");
    assert_eq!(std::fs::read(node.database()).unwrap(), before);

    std::fs::remove_file(&copy).unwrap();
    migrate::run_as(own - 1, &copy, Direction::UpOnly, true).unwrap();
    node.give(&copy);
    let found = node.run_as_service(&rehearse).ok().json();
    let rows = &found["migrations"][0]["rows"];
    let last = json!([{"number": own, "name": "segments", "direction": "up", "reversible": true, "rows": rows}]);
    assert_eq!(
        [&found["from"], &found["to"], &found["undo"], &found["migrations"]],
        [&json!(own - 1), &json!(own), &json!("proven"), &last]
    );
}

#[test]
fn the_packaging_gets_its_files() {
    let node = Node::new();
    let release = node.run(&["maint", "release-toml"]).ok().stdout;
    let release: toml::Table = release.parse().unwrap();
    assert_eq!(release["schema"]["own"].as_integer(), Some(i64::from(smolotchi_store::schema_own())));
    let docs = node.path("docs");
    node.run(&["docs", docs.to_str().unwrap()]).ok();
    for page in [
        "man/smolotchi.1",
        "man/smolotchi-events-append.1",
        "completions/bash/smolotchi",
        "completions/zsh/_smolotchi",
        "completions/fish/smolotchi.fish",
    ] {
        let text = std::fs::read_to_string(docs.join(page)).unwrap();
        assert!(!text.contains("postinst") && !text.contains("--root"), "{page} shows what is hidden");
    }
}
