//! What an operator meets at the command line: exit code, standard output and standard error together.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod node;

use node::{Node, need_root};
use serde_json::json;

/// Verbs on a node where nothing runs: (arguments, exit code, standard output, standard error).
const ALONE: &[(&[&str], i32, &str, &str)] = &[
    (
        &["health"],
        30,
        "",
        "error: [core.unreachable] core can't be reached; cause: No such file or directory (os error 2); socket: ROOT/run/smolotchi/core.sock\n\
         hint: start it: systemctl reset-failed 'smolotchi-*'; systemctl start smolotchi-core.service; then see: journalctl -u smolotchi-core\n",
    ),
    (
        &["status", "--format", "json"],
        30,
        "",
        "{\"error\":{\"code\":\"core.unreachable\",\"details\":{\"cause\":\"No such file or directory (os error 2)\",\"socket\":\"ROOT/run/smolotchi/core.sock\"},\"hint\":\"start it: systemctl reset-failed 'smolotchi-*'; systemctl start smolotchi-core.service; then see: journalctl -u smolotchi-core\",\"message\":\"core can't be reached\"}}\n",
    ),
    (
        &["web"],
        30,
        "",
        "error: [web.no-socket] systemd handed in no socket\nhint: start it through its socket: systemctl start smolotchi-web.socket\n",
    ),
    (
        &["web", "--listen", "0.0.0.0:0"],
        2,
        "",
        "error: [cli.usage] only loopback addresses may be listened at by hand; address: 0.0.0.0:0\nhint: who may reach the page is set in smolotchi-web.socket\n",
    ),
    (
        &["config", "check", "--file", "/nonexistent"],
        10,
        "",
        "error: [io.failed] could not read a configuration file; cause: No such file or directory (os error 2); path: /nonexistent\n\
         hint: check the disk (df -h, df -i, dmesg) and the permissions of the path\n",
    ),
    (
        &["maint", "postinst", "frobnicate"],
        2,
        "",
        "error: [cli.usage] postinst was called in a way that Debian Policy doesn't know; given: frobnicate\nhint: smolotchi maint postinst configure [OLD-VERSION]\n",
    ),
    (&["maint", "postinst", "triggered", "x"], 0, "", ""),
    (
        &["events", "list", "--limit", "0"],
        2,
        "",
        "error: invalid value '0' for '--limit <N>': 0 is not in 1..=1000\n\nFor more information, try '--help'.\n",
    ),
];

#[test]
fn verbs_on_a_node_where_nothing_runs() {
    let node = Node::new();
    for (args, code, stdout, stderr) in ALONE {
        let ran = node.run(args);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (*code, *stdout, *stderr), "{args:?}");
    }
    for args in [&["events", "list"][..], &["prune"], &["events", "append", "a.b", "c"]] {
        let ran = node.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (30, ""), "{args:?}: {ran:?}");
    }
}

#[test]
fn every_verb_teaches() {
    let node = Node::new();
    let verbs = [
        "status",
        "health",
        "events list",
        "events append",
        "db info",
        "db check",
        "db migrate",
        "config show",
        "config check",
        "prune",
        "core",
        "web",
    ];
    for verb in verbs {
        let args: Vec<_> = verb.split(' ').chain(["--help"]).collect();
        let ran = node.run(&args).ok();
        assert!(ran.stdout.contains("Usage: smolotchi") && !ran.stdout.contains("--root"), "{verb}: {}", ran.stdout);
    }
    let ran = node.run(&["--version"]).ok();
    assert_eq!(ran.stdout, format!("smolotchi {}\n", option_env!("SMOLOTCHI_VERSION").unwrap_or(env!("CARGO_PKG_VERSION"))));
    assert_eq!(node.run(&["frobnicate"]).code, 2);
    let ran = node.run(&["--format", "json", "frobnicate"]);
    assert_eq!(
        (ran.code, ran.fault()["code"].as_str(), ran.fault()["message"].as_str()),
        (2, Some("cli.usage"), Some("unrecognized subcommand 'frobnicate'"))
    );
}

#[test]
fn configuration_is_shown_with_its_origin_and_refused_with_its_line() {
    let node = Node::new();
    node.put("usr/lib/smolotchi/config.d/00-defaults.toml", include_str!("../defaults.toml"));
    node.put("etc/smolotchi/config.d/50-local.toml", "[retention]\nmax_events = 7\n");
    let shown = node.run(&["config", "show"]).ok();
    // All of it stands in the snapshots.
    let lines: Vec<Vec<&str>> = shown.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    for line in [
        ["core.min_free_mib", "16", "ROOT/usr/lib/smolotchi/config.d/00-defaults.toml:6"],
        ["retention.max_events", "7", "ROOT/etc/smolotchi/config.d/50-local.toml:2"],
    ] {
        assert!(lines.iter().any(|shown| shown[..] == line), "{line:?}: {}", shown.stdout);
    }
    node.run(&["config", "check"]).ok();
    let bad = node.put("bad.toml", "[retention]\n\nmax_age_days = \"a year\"\n");
    let ran = node.run(&["config", "check", "--file", bad.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (20, ""));
    assert_eq!(
        ran.stderr,
        "error: [config.invalid] a setting has a value that it can't have; expected: a whole number from 0 to 36500; file: ROOT/bad.toml; \
         given: \"a year\"; key: retention.max_age_days; line: 3\nhint: mend the file, then check with: smolotchi config check\n"
    );
    node.put("etc/smolotchi/config.d/60-typo.toml", "[retention]\nmax_evnets = 7\n");
    let ran = node.run(&["--format", "json", "config", "check"]);
    assert_eq!((ran.code, ran.fault()["code"].as_str(), &ran.fault()["details"]["line"]), (20, Some("config.unknown-key"), &json!(2)));
}

#[test]
fn events_go_in_and_come_out() {
    let node = Node::new();
    let _core = node.core();
    assert_eq!(node.run(&["events", "append", "door.opened", "front door"]).ok().stdout, "appended 1, last id 2\n");
    let ran = node
        .run_with_input(
            &["events", "append"],
            "{\"topic\":\"a.b\",\"body\":{\"x\":[1]},\"severity\":\"warning\"}\n\n{\"topic\":\"c\",\"body\":null}",
        )
        .ok();
    assert_eq!(ran.stdout, "appended 2, last id 4\n");
    let events = node.run(&["events", "list", "--limit", "3", "--format", "json"]).ok().json();
    let seen: Vec<_> = events["events"].as_array().unwrap().iter().map(|event| (&event["topic"], &event["body"])).collect();
    assert_eq!(seen, [(&json!("c"), &json!(null)), (&json!("a.b"), &json!({"x": [1]})), (&json!("door.opened"), &json!("front door"))]);
    assert_eq!(events["events"][1]["severity"], "warning");
    let status = node.run(&["status", "--format", "json"]).ok().json();
    assert_eq!((&status["events"]["total"], &status["health"]["verdict"]), (&json!(4), &json!("healthy")));
    assert_eq!(node.run(&["health"]).ok().stderr, "");
}

/// A result that nobody got is no success, for whoever reads exit codes; who closes a pipe has what he wanted.
#[test]
fn a_result_that_is_lost_is_an_error_and_a_closed_pipe_is_none() {
    let node = Node::new();
    let _core = node.core();
    let to = |args: &[&str], out: std::process::Stdio| {
        let child = node.command(args).stdout(out).stderr(std::process::Stdio::piped()).spawn().unwrap();
        node.ran(child.wait_with_output().unwrap())
    };
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let verbs: [&[&str]; 8] = [
        &["health"],
        &["audit", "verify"],
        &["events", "list"],
        &["events", "list", "--follow"],
        &["findings", "list"],
        &["config", "show"],
        &["maint", "release-toml"],
        &["events", "--help"],
    ];
    for args in verbs {
        let ran = to(args, full().into());
        assert_eq!((ran.code, ran.stderr.contains("[io.disk-full]")), (10, true), "{args:?}: {ran:?}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ran = to(args, writer.into());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
    }
    let ran = to(&["--format", "json", "events", "append", "a.b", "x"], full().into());
    assert_eq!((ran.code, ran.fault()["code"].as_str()), (10, Some("io.disk-full")), "{ran:?}");
    assert_eq!(node.run(&["events", "list", "--topic", "a.b"]).ok().stdout.lines().count(), 1, "what was asked for was done all the same");
    // What else went wrong comes first.
    let ran = to(&["jobs", "show", "999"], full().into());
    assert_eq!((ran.code, ran.stderr.contains("[job.unknown]")), (20, true), "{ran:?}");
}

/// A name that is no file stands for something: what it stands for is not replaced by a picture.
#[test]
fn a_picture_replaces_a_file_and_nothing_else() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let node = Node::new();
    let kept = node.put("kept", "kept");
    let name = |name: &str| node.path(name);
    symlink(&kept, name("link.png")).unwrap();
    symlink(name("nowhere"), name("dangling.png")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, name("fifo.png"), fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    std::fs::create_dir(name("folder.png")).unwrap();
    for wrong in ["link.png", "dangling.png", "fifo.png", "folder.png"] {
        let ran = node.run(&["display", "--png", name(wrong).to_str().unwrap()]);
        assert_eq!((ran.code, ran.stderr.contains("[cli.usage]")), (2, true), "{wrong}: {ran:?}");
    }
    assert_eq!(std::fs::read(&kept).unwrap(), b"kept");
    assert_eq!(std::fs::read_link(name("dangling.png")).unwrap(), name("nowhere"));
    assert!(std::fs::symlink_metadata(name("fifo.png")).unwrap().file_type().is_fifo());
    for _ in 0..2 {
        node.run(&["display", "--png", name("new.png").to_str().unwrap()]).ok();
        assert_eq!(&std::fs::read(name("new.png")).unwrap()[1..4], b"PNG");
    }
}

#[test]
fn many_lines_become_few_commits_and_a_bad_one_says_how_far_it_went() {
    let node = Node::new();
    let _core = node.core();
    let mut lines = "{\"topic\":\"t\",\"body\":1}\n".repeat(2500);
    let ran = node.run_with_input(&["--format", "json", "events", "append"], &lines).ok();
    assert_eq!(ran.json(), json!({"appended": 2500, "last_id": 2501}));
    lines.push_str("not json\n");
    let ran = node.run_with_input(&["--format", "json", "events", "append"], &lines);
    let fault = ran.fault();
    assert_eq!(
        (ran.code, &fault["code"], &fault["details"]["line"], &fault["details"]["appended"]),
        (20, &json!("store.invalid-event"), &json!(2501), &json!(2000))
    );
    let status = node.run(&["status", "--format", "json"]).ok().json();
    assert_eq!(status["events"]["total"], 1 + 2500 + 2000);
}

#[test]
fn prune_applies_the_configured_policy() {
    let node = Node::new();
    node.put("etc/smolotchi/config.d/50-local.toml", "[retention]\nmax_events = 1000\nmax_age_days = 0\n");
    let _core = node.core();
    node.run_with_input(&["events", "append"], &"{\"topic\":\"t\",\"body\":1}\n".repeat(3000)).ok();
    let part = "events events_01: 1 to 1001, 1001 rows, 17 KiB (count)\nevents events_02: 1002 to 2001, 1000 rows, 17 KiB (count)\n";
    let policy = "(policy: 1000 events, any number of days)\n";
    let said = node.run(&["prune", "--dry-run"]).ok().stdout;
    assert_eq!(said, format!("{part}would remove 2001 events, 1000 stay {policy}"));
    let done = node.run(&["prune"]).ok().stdout;
    assert!(done.starts_with(&format!("{part}removed 2001 events, 1000 stay, ")) && done.contains(" KiB are free again "), "{done}");
    assert_eq!(node.run(&["prune"]).ok().stdout, format!("removed 0 events, 1001 stay {policy}"), "and a record of it");
    let audited = node.run(&["audit", "verify"]).ok().stdout;
    assert!(audited.starts_with("whole: 1001 events, 1001 of them sealed"), "{audited}");
}

/// Exactly which, where others in between stay.
#[test]
fn prune_names_the_artifacts_that_go() {
    let node = Node::new();
    node.put("etc/smolotchi/config.d/50-local.toml", "[artifacts]\nmax_mib = 1\n");
    let _core = node.core();
    let put = |number: usize, bytes: usize| {
        let file = node.path(&format!("{number}.bin"));
        std::fs::write(&file, vec![number as u8; bytes]).unwrap();
        node.run(&["artifacts", "put", file.to_str().unwrap()]).ok();
    };
    for number in 1..=6 {
        put(number, 400_000);
    }
    node.run(&["artifacts", "remove", "2"]).ok();
    let said = node.run(&["--format", "json", "prune", "--dry-run"]).ok().json();
    assert_eq!((&said["going"][0]["kind"], &said["going"][0]["ids"]), (&json!("artifacts"), &json!([1, 3, 4])), "{said}");
    let text = node.run(&["prune", "--dry-run"]).ok().stdout;
    assert!(text.starts_with("artifacts: 1, 3 to 4, 3 rows, "), "{text}");
    let done = node.run(&["--format", "json", "prune"]).ok().json();
    assert_eq!(done["going"], said["going"], "the run does what the dry run says");
    let left = node.run(&["--format", "json", "artifacts", "list"]).ok().json();
    let left: Vec<_> = left["artifacts"].as_array().unwrap().iter().map(|artifact| artifact["id"].as_i64().unwrap()).collect();
    assert_eq!(left, [6, 5]);
}

#[test]
fn an_unhealthy_core_is_exit_10_with_the_failed_check() {
    let node = Node::new();
    node.put("etc/smolotchi/config.d/50-local.toml", "[core]\nmin_free_mib = 1048576\n");
    let core = node.core();
    let ran = node.run(&["--format", "json", "health"]);
    assert_eq!((ran.code, ran.json()["verdict"].as_str()), (10, Some("unhealthy")));
    assert_eq!((&ran.fault()["code"], &ran.fault()["details"]["failed"]), (&json!("health.unhealthy"), &json!("disk")));
    node.put("etc/smolotchi/config.d/50-local.toml", "");
    core.signal(rustix::process::Signal::HUP);
    core.wait_for_line("was read again");
    node.run(&["health"]).ok();
}

#[test]
fn the_database_is_looked_at_while_core_runs_but_not_migrated() {
    let node = Node::new();
    let core = node.core();
    let info = node.run_as_service(&["--format", "json", "db", "info"]).ok().json();
    assert_eq!(info["current"], info["own"]);
    node.run_as_service(&["db", "check", "--full"]).ok();
    let ran = node.run_as_service(&["--format", "json", "db", "migrate"]);
    assert_eq!((ran.code, ran.fault()["code"].as_str()), (10, Some("store.busy")));
    core.stop();
    node.run_as_service(&["db", "migrate"]).ok();
}

#[test]
fn root_never_opens_the_database() {
    need_root();
    let node = Node::new();
    for args in [
        &["core"][..],
        &["maint", "migrate", "--create"],
        &["maint", "snapshot", "--to", "/x"],
        &["maint", "restore", "--snapshot", "/x", "--export", "/y"],
        &["maint", "rehearse", "--database", "/x"],
    ] {
        let ran = node.run(&[&["--format", "json"], args].concat());
        assert_eq!((ran.code, ran.fault()["code"].as_str()), (2, Some("store.wrong-user")), "{args:?}");
    }
    node.run_as_service(&["maint", "migrate", "--create"]).ok();
    // As root, these go on as the owner of the state folder, who may open it.
    node.run(&["db", "info"]).ok();
    node.run(&["db", "check"]).ok();
    node.run(&["db", "migrate"]).ok();
    use std::os::unix::fs::MetadataExt;
    for entry in std::fs::read_dir(node.path("var/lib/smolotchi")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().uid(), node::SERVICE, "{entry:?}");
    }
    std::os::unix::fs::chown(node.path("var/lib/smolotchi"), Some(0), Some(0)).unwrap();
    let ran = node.run(&["--format", "json", "db", "info"]);
    assert_eq!((ran.code, ran.fault()["code"].as_str()), (2, Some("store.wrong-user")));
}

#[test]
fn a_support_bundle_holds_no_secret_and_overwrites_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::new();
    let _core = node.core();
    // Planted where they are met: a fragment (broken, so that it is told as well), the event log, a unit, the installer's words.
    node.put(
        "etc/smolotchi/config.d/50-local.toml",
        "[web]\nhosts = [\"a\"]\nadmin_password = \"S3CRET-config\"\n# token: S3CRET comment\n",
    );
    node.put(
        "etc/smolotchi/config.d/60.toml.bak",
        "wifi_key = \"S3CRET-backup\"\n-----BEGIN PRIVATE KEY-----\nS3CRETpem\n-----END PRIVATE KEY-----\n",
    );
    let events = r#"{"topic":"said","body":"fetched https://user:S3CRET-url@host.example/x with Authorization: Bearer S3CRET-bearer"}
{"topic":"said","body":{"token":"S3CRET-token","psk":"S3CRET-psk","inner":"{\"api_key\":\"S3CRET-inner\"}"}}
"#;
    assert_eq!(node.run_with_input(&["events", "append"], events).code, if node::is_root() { 0 } else { 20 });

    let listed = node.run(&["--format", "json", "support-bundle", "--dry-run"]).ok().json();
    let file = node.path("bundle.tar.gz");
    assert!(!file.exists(), "a dry run writes nothing");
    let ran = node.run(&["--format", "json", "support-bundle", "--output", file.to_str().unwrap()]).ok().json();
    let names = |value: &serde_json::Value| value["files"].as_array().unwrap().iter().map(|file| file["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&listed), names(&ran), "what was announced is what is in it");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let unpacked = node.path("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    assert!(std::process::Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(&unpacked).status().unwrap().success());
    let read = |name: &str| std::fs::read_to_string(unpacked.join("smolotchi-support").join(name)).unwrap();
    for name in names(&ran) {
        let text = read(name.as_str().unwrap());
        assert!(!text.contains("S3CRET"), "{name}: {text}");
        assert!(!text.is_empty(), "{name} is empty");
    }
    // What is of use is there.
    assert!(
        read("config.txt").contains("admin_password = \"[redacted]\"") && read("config.txt").contains("60.toml.bak"),
        "{}",
        read("config.txt")
    );
    assert!(read("events.json").contains("https://[redacted]@host.example/x"), "{}", read("events.json"));
    assert!(read("now.json").contains("\"healthy\""), "{}", read("now.json"));
    assert!(read("doctor.txt").contains("config.unknown-key"), "{}", read("doctor.txt"));

    let before = std::fs::read(&file).unwrap();
    let again = node.run(&["--format", "json", "support-bundle", "--output", file.to_str().unwrap()]);
    assert_eq!((again.code, again.fault()["code"].as_str()), (10, Some("io.failed")), "{again:?}");
    assert_eq!(std::fs::read(&file).unwrap(), before, "an existing file is left alone");
}

#[test]
fn the_doctor_names_what_is_wrong_and_what_it_could_not_see() {
    let node = Node::new();
    let core = node.core();
    let states = |ran: &node::Ran| -> std::collections::BTreeMap<String, String> {
        let checks = ran.json()["checks"].as_array().unwrap().clone();
        checks.iter().map(|check| (check["name"].as_str().unwrap().to_owned(), check["state"].as_str().unwrap().to_owned())).collect()
    };
    let ran = node.run(&["--format", "json", "doctor"]);
    let well = states(&ran);
    for (name, state) in
        [("configuration", "ok"), ("loop", "ok"), ("heartbeat", "ok"), ("database file", "ok"), ("artifacts", "ok"), ("units", "unknown")]
    {
        assert_eq!(well.get(name).map(String::as_str), Some(state), "{name}: {ran:?}");
    }
    core.stop();
    node.put("etc/smolotchi/config.d/50-local.toml", "[core]\nmin_free_mib = \"x\"\n");
    let mut database = std::fs::read(node.database()).unwrap();
    database[..16].fill(b'x');
    std::fs::write(node.database(), database).unwrap();
    let ran = node.run(&["--format", "json", "doctor"]);
    assert_eq!((ran.code, ran.fault()["code"].as_str()), (10, Some("doctor.failed")), "{ran:?}");
    let sick = states(&ran);
    for name in ["configuration", "core", "database file"] {
        assert_eq!(sick.get(name).map(String::as_str), Some("failed"), "{name}: {ran:?}");
    }
    assert_eq!(ran.json()["verdict"], "failed");
}
