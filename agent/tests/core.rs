//! The service core as systemd and callers see it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod node;

use node::{DEADLINE, Node, STRANGER, Service, need_root, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use smolotchi_store::migrate::{self, Direction};
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

fn heartbeat(node: &Node) -> Value {
    let read = || serde_json::from_slice(&std::fs::read(node.path("run/smolotchi/core/heartbeat.json")).ok()?).ok();
    until("a heartbeat", read)
}

#[test]
fn systemd_hears_ready_pings_and_stopping() {
    let node = Node::new();
    let socket = node.path("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    node.give(&socket);
    systemd.set_read_timeout(Some(DEADLINE)).unwrap();
    let hear = || {
        let mut buffer = [0; 256];
        let size = systemd.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..size].to_vec()).unwrap()
    };
    let path = node.socket();
    let mut command = node.service(&["core", "--socket", path.to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "400000");
    let mut core = Service::start(command);
    // The first turn is made before READY: what is not alive is not ready.
    assert_eq!(hear(), "WATCHDOG=1");
    let ready = hear();
    assert!(ready.starts_with("READY=1\nSTATUS=version "), "{ready}");
    assert_eq!([hear(), hear()], ["WATCHDOG=1", "WATCHDOG=1"]);
    core.signal(Signal::TERM);
    let last = std::iter::repeat_with(hear).find(|message| message != "WATCHDOG=1").unwrap();
    assert_eq!(last, "STOPPING=1\nSTATUS=stopping");
    assert_eq!(core.wait(), 0);
}

#[test]
fn a_second_core_is_refused_the_database() {
    let node = Node::new();
    let first = node.core();
    let other = node.path("run/smolotchi/other.sock");
    let mut second = Service::start(node.service(&["core", "--socket", other.to_str().unwrap()]));
    second.wait_for_line("store.busy");
    assert_ne!(second.wait(), 0);
    // What died doesn't hold it.
    first.signal(Signal::KILL);
    drop(first);
    node.core().stop();
}

#[test]
fn the_heartbeat_moves_and_the_card_is_left_alone() {
    let node = Node::new();
    let core = node.core();
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(node.path("var/lib/smolotchi"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().len(), entry.metadata().unwrap().modified().unwrap()))
            // The shared memory of the log is never synced.
            .filter(|(name, ..)| !name.to_string_lossy().ends_with("-shm"))
            .collect();
        files.sort();
        files
    };
    // Answered once all that a start writes is written.
    assert_eq!(node.call("GET", "/v1/status", "").0, 200);
    let (first, before) = (heartbeat(&node), files());
    let later = until("two more heartbeats", || {
        Some(heartbeat(&node)).filter(|beat| beat["seq"].as_u64() >= first["seq"].as_u64().map(|seq| seq + 2))
    });
    assert!(later["boottime_ms"].as_u64() >= first["boottime_ms"].as_u64().map(|at| at + 900), "{first} {later}");
    assert_eq!((later["pid"].as_u64(), later["schema"].as_u64()), (first["pid"].as_u64(), Some(u64::from(smolotchi_store::schema_own()))));
    assert_eq!(files(), before, "nothing happened, nothing is written");
    assert_eq!(later["every_ms"], 1_000, "lively at first");
    // Who proves sees a heartbeat that moves, however calm the loop is.
    let before = heartbeat(&node)["seq"].as_u64();
    for _ in 0..5 {
        assert_eq!(node.call("POST", "/v1/prove", "").0, 200);
    }
    assert!(heartbeat(&node)["seq"].as_u64() >= before.map(|seq| seq + 5), "{before:?} {}", heartbeat(&node));
    core.stop();
}

#[test]
fn a_stop_is_clean_and_is_told() {
    let node = Node::new();
    node.core().stop();
    let names: Vec<_> = std::fs::read_dir(node.path("var/lib/smolotchi")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["smolotchi.db"], "no log is left to replay");
    let _core = node.core();
    let topics: Vec<_> =
        node.call("GET", "/v1/events?limit=10", "").1["events"].as_array().unwrap().iter().map(|event| event["topic"].clone()).collect();
    assert_eq!(topics, ["core.started", "core.stopped", "core.started"]);
}

#[test]
fn a_killed_core_keeps_what_it_answered_for() {
    let node = Node::new();
    let mut core = node.core();
    let (status, answer) = node.call("POST", "/v1/events", r#"{"events":[{"topic":"kept","body":1}]}"#);
    assert_eq!((status, &answer["appended"]), (200, &json!(1)));
    core.signal(Signal::KILL);
    assert_eq!(core.wait(), -9);
    let _core = node.core();
    assert_eq!(node.call("GET", "/v1/events?limit=2", "").1["events"][1]["topic"], "kept");
}

/// After a clean stop what is stored is read after READY, but before anything is written or answered.
#[test]
fn a_damaged_database_answers_nobody() {
    let node = Node::new();
    let core = node.core();
    assert_eq!(node.call("POST", "/v1/events", r#"{"events":[{"topic":"t","body":"a needle"}]}"#).0, 200);
    core.stop();
    let mut bytes = std::fs::read(node.database()).unwrap();
    let at = bytes.windows(8).rposition(|eight| eight == b"a needle").unwrap() / 4096 * 4096;
    bytes[at..at + 64].fill(0xff);
    std::fs::write(node.database(), &bytes).unwrap();
    let socket = node.socket();
    let mut core = Service::start(node.service(&["core", "--socket", socket.to_str().unwrap()]));
    // It may be gone before anybody gets through.
    let caller = until("core's socket, or its end", || match UnixStream::connect(&socket) {
        Ok(caller) => Some(Some(caller)),
        Err(_) => core.has_ended().then_some(None),
    });
    let mut answer = Vec::new();
    if let Some(mut caller) = caller {
        let _ = caller.write_all(b"GET /v1/events HTTP/1.1\r\nhost: core\r\n\r\n");
        let _ = caller.read_to_end(&mut answer);
    }
    assert_eq!(String::from_utf8_lossy(&answer), "");
    core.wait_for_line("store.damaged");
    assert_eq!(core.wait(), 50);
    assert!(std::fs::read(node.database()).unwrap() == bytes, "and it is left as it was");
    assert!(!node.path("var/lib/smolotchi/smolotchi.db-wal").exists(), "nothing was written beside it");
}

#[test]
fn the_api_does_what_the_contract_says() {
    let node = Node::new();
    let _core = node.core();
    let schema = smolotchi_store::schema_own();
    let (code, status) = node.call("GET", "/v1/status", "");
    assert_eq!((code, &status["schema"], &status["events"]["total"]), (200, &json!(schema), &json!(1)));
    for field in ["version", "uptime_s", "heartbeat_seq", "started_at"] {
        assert!(!status[field].is_null(), "{field}: {status}");
    }
    assert!(status["database"]["bytes"].as_u64() > Some(0) && status["events"]["newest_at"].is_string(), "{status}");
    let (code, proved) = node.call("POST", "/v1/prove", "");
    assert_eq!((code, &proved["committed"], &proved["schema"]), (200, &json!(true), &json!(schema)));
    assert_eq!(node.call("GET", "/v1/status", "").1["events"]["total"], 1, "a proof is no event");
    let (code, retained) = node.call("POST", "/v1/retention", r#"{"max_events":0,"dry_run":true}"#);
    assert_eq!((code, retained), (200, json!({"deleted": 0, "kept": 1, "going": [], "given_back": 0})), "the newest segment stays");
    let (code, health) = node.call("GET", "/v1/health", "");
    assert_eq!((code, &health["verdict"]), (200, &json!("healthy")));
}

#[test]
fn wrong_requests_are_refused_with_a_code() {
    let node = Node::new();
    let _core = node.core();
    let many = format!(r#"{{"events":[{}]}}"#, vec![r#"{"topic":"t","body":1}"#; 1001].join(","));
    let large = format!(r#"{{"events":[{{"topic":"t","body":"{}"}}]}}"#, "x".repeat(1024 * 1024));
    let long = format!(r#"{{"events":[{{"topic":"{}","body":1}}]}}"#, "t".repeat(4096));
    let cases = [
        ("GET", "/v1/nothing", "", 404, "core.request"),
        ("DELETE", "/v1/events", "", 404, "core.request"),
        ("GET", "/v1/events?limit=0", "", 400, "core.request"),
        ("POST", "/v1/events", "", 400, "core.request"),
        ("POST", "/v1/events", "[[]]", 400, "core.request"),
        ("POST", "/v1/events", r#"{"events":[],"more":1}"#, 400, "core.request"),
        ("POST", "/v1/events", &many, 400, "core.request"),
        ("POST", "/v1/events", &large, 413, "core.request"),
        ("POST", "/v1/events", &long, 400, "store.invalid-event"),
        ("POST", "/v1/events", r#"{"events":[{"topic":"t","body":1},{"topic":"","body":1}]}"#, 400, "store.invalid-event"),
        ("POST", "/v1/events", r#"{"events":[{"topic":"a b","body":1}]}"#, 400, "store.invalid-event"),
        ("POST", "/v1/events", r#"{"events":[{"topic":"stage.approved","body":1}]}"#, 400, "store.invalid-event"),
    ];
    for (method, path, body, status, code) in cases {
        let (answered, answer) = node.call(method, path, body);
        assert_eq!((answered, answer["error"]["code"].as_str()), (status, Some(code)), "{method} {path} {:.40}: {answer}", body);
        assert!(!answer["error"]["hint"].as_str().unwrap().is_empty());
    }
    assert_eq!(node.call("GET", "/v1/status", "").1["events"]["total"], 1, "nothing was stored by halves");
}

#[test]
fn only_root_and_the_services_own_user_may_write() {
    need_root();
    let node = Node::new();
    let _core = node.core();
    let run = |uid: u32, args: &[&str]| node.ran(node.as_uid(&[&["--format", "json"], args].concat(), uid).output().unwrap());
    for writes in [&["events", "append", "a.b", "c"][..], &["prune"]] {
        let ran = run(STRANGER, writes);
        assert_eq!((ran.code, ran.fault()["code"].as_str()), (20, Some("core.refused")), "{writes:?}");
        assert_eq!(ran.fault()["details"]["uid"], STRANGER);
        run(node::SERVICE, writes).ok();
        run(0, writes).ok();
    }
    for reads in [&["events", "list"][..], &["status"], &["health"]] {
        run(STRANGER, reads).ok();
    }
}

#[test]
fn one_users_idle_connections_keep_nobody_else_out() {
    need_root();
    let node = Node::new();
    let _core = node.core();
    let idle: Vec<_> = (0..16).map(|_| UnixStream::connect(node.socket()).unwrap()).collect();
    let ran = node.run(&["--format", "json", "status"]);
    assert_eq!((ran.code, ran.fault()["code"].as_str()), (30, Some("core.unreachable")), "root has used up its places");
    for uid in [node::SERVICE, STRANGER] {
        node.ran(node.as_uid(&["status"], uid).output().unwrap()).ok();
    }
    drop(idle);
    until("root's places", || (node.run(&["status"]).code == 0).then_some(()));
}

#[test]
fn a_schema_that_is_not_its_own_is_refused_and_left_alone() {
    let own = smolotchi_store::schema_own();
    assert!(own > 1, "this needs an older schema to exist");
    let node = Node::new();
    migrate::run_as(own - 1, &node.database(), Direction::UpOnly, true).unwrap();
    node.give(&node.database());
    let path = node.socket();
    let before = std::fs::read(node.database()).unwrap();
    let ran = node.run_as_service(&["--format", "json", "core", "--socket", path.to_str().unwrap()]);
    assert_eq!((ran.code, ran.fault()["code"].as_str()), (20, Some("store.older-schema")));
    assert_eq!(std::fs::read(node.database()).unwrap(), before);
    let ran = node.run_as_service(&["maint", "migrate"]).ok();
    assert!(ran.stdout.starts_with(&format!("schema {} -> {own}\n", own - 1)), "{ran:?}");
    node.core().stop();
}

#[test]
fn only_an_empty_folder_gets_a_new_database() {
    let node = Node::new();
    let path = node.socket();
    // What a first start leaves that lost its power is no obstacle; anything else is.
    node.put("var/lib/smolotchi/.smolotchi.db.staging", "torn");
    node.give(&node.path("var/lib/smolotchi/.smolotchi.db.staging"));
    node.core().stop();
    std::fs::remove_file(node.database()).unwrap();
    node.put("var/lib/smolotchi/smolotchi.db.old", "a trace of a database");
    let ran = node.run_as_service(&["--format", "json", "core", "--socket", path.to_str().unwrap()]);
    assert_eq!((ran.code, ran.fault()["code"].as_str()), (30, Some("store.missing")));
    assert!(!node.database().exists());
}

#[test]
fn the_socket_that_systemd_hands_in_is_used() {
    let node = Node::new();
    let path = node.socket();
    let core = node.service(&["core"]);
    let mut command = Command::new("systemd-socket-activate");
    command.arg("--listen").arg(&path).arg(core.get_program()).args(core.get_args()).env_clear().env("PATH", "/usr/bin:/bin");
    if node::is_root() {
        use std::os::unix::process::CommandExt;
        command.uid(node::SERVICE).gid(node::SERVICE);
    }
    let _activated = Service::start(command);
    // Bound is not yet listened at.
    until("the socket", || std::os::unix::net::UnixStream::connect(&path).ok());
    assert_eq!(node.call("GET", "/v1/health", "").1["verdict"], "healthy");
}

#[test]
fn a_reload_takes_all_or_nothing_and_says_what_needs_a_restart() {
    let node = Node::new();
    // What the package ships is not what is tested here.
    node.put("etc/smolotchi/config.d/10-base.toml", "[core]\nmin_free_mib = 16\n[web]\nrefresh_seconds = 0\n");
    let core = node.core();
    let file = "etc/smolotchi/config.d/50-local.toml";
    let min_free = |node: &Node| {
        let health = node.call("GET", "/v1/health", "").1;
        let disk = health["checks"].as_array().unwrap().iter().find(|check| check["name"] == "disk").cloned();
        disk.unwrap()["detail"].as_str().unwrap().split("at least ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
    };
    assert_eq!(node.call("POST", "/v1/reload", "").1, json!({"changed": []}));
    node.put(file, "[core]\nmin_free_mib = 3\n[web]\nrefresh_seconds = 30\n");
    let ran = node.run_as_service(&["--format", "json", "config", "reload"]).ok();
    let expected = json!({"changed": [
        {"key": "core.min_free_mib", "from": "16", "to": "3"},
        {"key": "web.refresh_seconds", "from": "0", "to": "30", "restart": "smolotchi-web.service"},
    ]});
    assert_eq!((ran.json(), min_free(&node).as_str()), (expected, "3"));

    // Broken: refused with its place, and the other value of the same file isn't taken either.
    node.put(file, "[core]\nmin_free_mib = 4\n[web]\nrefresh_seconds = 1\n");
    let (status, answer) = node.call("POST", "/v1/reload", "");
    assert_eq!(
        (status, &answer["error"]["code"], &answer["error"]["details"]["line"]),
        (422, &json!("config.invalid"), &json!(4)),
        "{answer}"
    );
    core.signal(Signal::HUP);
    assert!(core.wait_for_line("config.invalid").contains("web.refresh_seconds"));
    assert_eq!(min_free(&node), "3", "a broken one changes nothing");

    // By signal, as systemctl reload does.
    node.put(file, "[core]\nmin_free_mib = 5\n");
    core.signal(Signal::HUP);
    core.wait_for_line("core.min_free_mib is 5, web.refresh_seconds is 0 once smolotchi-web.service is restarted");
    assert_eq!(min_free(&node), "5");
    need_root();
    assert_eq!(node.as_uid(&["config", "reload"], STRANGER).status().unwrap().code(), Some(20), "a stranger may not");
    core.stop();
}
