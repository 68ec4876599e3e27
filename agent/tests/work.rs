//! Jobs, stage requests and artifacts as workers, operators and the card see them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod node;

use node::{Node, STRANGER, need_root};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

/// A process that can hold leases; ends with the value, also when a test fails.
struct Worker(Child);

impl Worker {
    fn kill(&mut self) -> std::io::Result<()> {
        self.0.kill()
    }

    fn wait(&mut self) -> std::io::Result<std::process::ExitStatus> {
        self.0.wait()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn worker() -> (Worker, Value) {
    let child = Command::new("sleep").arg("600").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let ticks: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let owner = json!({"role": "ai", "pid": child.id(), "start_ticks": ticks, "boot_id": boot.trim()});
    (Worker(child), owner)
}

fn post(node: &Node, path: &str, body: &Value) -> (u16, Value) {
    node.call("POST", path, &body.to_string())
}

fn lease(node: &Node, owner: &Value, wait_s: u64, lease_s: u64) -> Value {
    let (status, leased) = post(node, "/v1/jobs/lease", &json!({"owner": owner, "kinds": ["run"], "wait_s": wait_s, "lease_s": lease_s}));
    assert_eq!(status, 200, "{leased}");
    leased
}

/// Makes a profile known.
fn profile(node: &Node, name: &str) {
    let text = format!("name = \"{name}\"\nversion = 1\ndescription = \"d\"\n[[step]]\naction = \"failed-units\"\n");
    assert_eq!(post(node, "/v1/profiles", &json!({"text": text})).0, 200);
}

fn topics(node: &Node) -> Vec<String> {
    let events = node.call("GET", "/v1/events?limit=100", "").1;
    let mut topics: Vec<String> =
        events["events"].as_array().unwrap().iter().map(|event| event["topic"].as_str().unwrap().to_owned()).collect();
    topics.reverse();
    topics.retain(|topic| !topic.starts_with("core."));
    topics
}

#[test]
fn a_job_lives_from_queue_to_result() {
    let node = Node::new();
    let _core = node.core();
    let (mut child, owner) = worker();
    assert_eq!(lease(&node, &owner, 0, 60)["job"], Value::Null);
    profile(&node, "night");
    let (status, job) = post(&node, "/v1/jobs", &json!({"kind": "run", "profile": "night", "input": {"a": 1}, "by": "ann"}));
    assert_eq!((status, &job["state"], &job["input"]), (200, &json!("queued"), &json!({"a": 1})), "{job}");
    assert!(job["created_by"].as_str().unwrap().ends_with(" for ann"), "{job}");
    let leased = lease(&node, &owner, 0, 60);
    assert_eq!((&leased["job"]["id"], &leased["job"]["attempts"]), (&job["id"], &json!(1)));
    let token = leased["token"].as_str().unwrap();
    assert_eq!(lease(&node, &owner, 0, 60)["job"], Value::Null, "nobody else gets it");
    assert_eq!(post(&node, "/v1/jobs/1/renew", &json!({"token": token, "lease_s": 60})).0, 200);
    let (status, refused) = post(&node, "/v1/jobs/1/renew", &json!({"token": "wrong", "lease_s": 60}));
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("job.not-held")));
    let (status, done) = post(&node, "/v1/jobs/1/finish", &json!({"token": token, "outcome": "done", "result": {"found": 3}}));
    assert_eq!((status, &done["state"], &done["result"]), (200, &json!("done"), &json!({"found": 3})), "{done}");
    assert_eq!(post(&node, "/v1/jobs/1/finish", &json!({"token": token, "outcome": "done"})).0, 409);
    assert_eq!(topics(&node), ["profile.added", "job.added", "job.leased", "job.done"]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_killed_workers_job_comes_back_once() {
    let node = Node::new();
    let _core = node.core();
    let (mut child, owner) = worker();
    post(&node, "/v1/jobs", &json!({"kind": "run"}));
    let token = lease(&node, &owner, 0, 3600)["token"].clone();
    child.kill().unwrap();
    child.wait().unwrap();
    let job = node::until("the job's return", || Some(node.call("GET", "/v1/jobs/1", "").1).filter(|job| job["state"] == "queued"));
    assert_eq!(job["attempts"], 1);
    assert!(job["error"].as_str().unwrap().contains("is gone"), "{job}");
    assert_eq!(post(&node, "/v1/jobs/1/finish", &json!({"token": token, "outcome": "done"})).0, 409, "its token is worth nothing");
    assert_eq!(topics(&node), ["job.added", "job.leased", "job.lost"]);
}

#[test]
fn a_decided_stage_lets_its_job_go_on() {
    let node = Node::new();
    let _core = node.core();
    let (mut child, owner) = worker();
    post(&node, "/v1/jobs", &json!({"kind": "run"}));
    let token = lease(&node, &owner, 0, 60)["token"].clone();
    let mut request =
        json!({"run_id": 1, "job_id": 1, "step": 2, "action": "look", "risk": "active", "reason": "it asks", "valid_s": 3600});
    request["token"] = token.clone();
    let (status, stage) = post(&node, "/v1/stages", &request);
    assert_eq!((status, &stage["state"]), (200, &json!("pending")), "{stage}");
    assert_eq!(post(&node, "/v1/stages", &request).1["id"], stage["id"], "the same step is the same request");
    assert_eq!(post(&node, "/v1/jobs/1/finish", &json!({"token": token, "outcome": "waiting"})).1["state"], "waiting");
    assert_eq!(post(&node, "/v1/stages/1/approve", &json!({"why": " "})).0, 400, "no reason, no decision");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| lease(&node, &owner, 30, 60));
        let (status, decided) = post(&node, "/v1/stages/1/approve", &json!({"why": "I know it", "by": "ann"}));
        assert_eq!((status, &decided["state"], &decided["why"]), (200, &json!("approved"), &json!("I know it")));
        assert!(decided["decided_by"].as_str().unwrap().ends_with(" for ann"), "{decided}");
        assert_eq!(waiting.join().unwrap()["job"]["id"], 1, "whoever waits gets it at once");
    });
    let (status, again) = post(&node, "/v1/stages/1/deny", &json!({"why": "no"}));
    assert_eq!((status, &again["error"]["code"]), (409, &json!("stage.decided")));
    assert_eq!(topics(&node), ["job.added", "job.leased", "stage.requested", "job.waiting", "stage.approved", "job.resumed", "job.leased"]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn artifacts_come_back_as_they_were_put() {
    let node = Node::new();
    let _core = node.core();
    let large = "0123456789abcdef".repeat(20_000);
    for (id, content) in [(1, ""), (2, "small"), (3, large.as_str()), (4, "small")] {
        let (status, put) = node.call("POST", "/v1/artifacts?kind=note&name=a%20b.txt&media=text/plain&job=7", content);
        assert_eq!((status, &put["id"], &put["bytes"], &put["name"]), (200, &json!(id), &json!(content.len()), &json!("a b.txt")), "{put}");
        assert_eq!(node.content(id), (200, content.as_bytes().to_vec()));
    }
    let listed = node.call("GET", "/v1/artifacts?job=7&limit=2", "").1;
    assert_eq!(listed["artifacts"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect::<Vec<_>>(), [4, 3]);
}

/// Where an artifact's content lies.
fn place(node: &Node, artifact: &Value) -> std::path::PathBuf {
    let sha256 = artifact["sha256"].as_str().unwrap();
    node.path("var/lib/smolotchi/artifacts").join(&sha256[..2]).join(sha256)
}

fn put(node: &Node, content: &[u8]) -> Value {
    let (status, body) = node.call_raw("POST", "/v1/artifacts?kind=note&name=a", content);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn a_flipped_bit_is_found_and_never_given_out() {
    let node = Node::new();
    let _core = node.core();
    let content: Vec<u8> = (0..200_000_u32).map(|number| (number * 7 % 251) as u8).collect();
    for at in [0, 100_000, 199_999] {
        let artifact = put(&node, &content);
        let (id, file) = (artifact["id"].as_i64().unwrap(), place(&node, &artifact));
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let (status, answer) = node.content(id);
        let error: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((status, &error["error"]["code"]), (500, &json!("artifact.damaged")), "bit of byte {at}");
        assert!(!file.exists() && node.path("var/lib/smolotchi/artifacts/damaged").join(file.file_name().unwrap()).exists());
        let known = node.call("GET", &format!("/v1/artifacts/{id}"), "").1;
        assert_eq!(known["state"], "damaged");
        assert!(known["fault"].as_str().unwrap().contains("sha256"), "{known}");
        assert_eq!(node.content(id).0, 500, "also the next time");
        assert_eq!(topics(&node).last().unwrap(), "artifact.damaged");
        // The same content again makes it whole again.
        put(&node, &content);
        assert_eq!(node.content(id), (200, content.clone()));
    }
}

#[test]
fn verify_names_what_is_damaged_missing_and_unknown() {
    let node = Node::new();
    let _core = node.core();
    let artifacts: Vec<Value> = (0..5_u8).map(|number| put(&node, &[number; 1000])).collect();
    let ran = node.run(&["--format", "json", "artifacts", "verify"]).ok().json();
    assert_eq!((&ran["checked"], &ran["damaged"], &ran["strays"]), (&json!(5), &json!([]), &json!([])));
    std::fs::remove_file(place(&node, &artifacts[1])).unwrap();
    std::fs::write(place(&node, &artifacts[3]), [3; 999]).unwrap();
    let stray = "ab".repeat(32);
    std::fs::create_dir_all(node.path("var/lib/smolotchi/artifacts/ab")).unwrap();
    node.give(&node.path("var/lib/smolotchi/artifacts/ab"));
    std::fs::write(node.path("var/lib/smolotchi/artifacts/ab").join(&stray), "nobody knows me").unwrap();
    let ran = node.run(&["--format", "json", "artifacts", "verify"]);
    assert_eq!((ran.code, ran.fault()["code"].as_str()), (50, Some("artifact.damaged")));
    let found = ran.json();
    let ids: Vec<_> = found["damaged"].as_array().unwrap().iter().map(|one| one["id"].as_i64().unwrap()).collect();
    assert_eq!((ids, &found["strays"]), (vec![4, 2], &json!([stray])));
    assert!(node.path("var/lib/smolotchi/artifacts/ab").join(&stray).exists(), "nothing removes it by itself");
    assert_eq!(node.run(&["artifacts", "verify", "1", "3"]).code, 0);
    assert_eq!(node.run(&["artifacts", "verify", "2"]).code, 50);
}

#[test]
fn what_a_power_cut_left_half_written_is_removed_and_nothing_else() {
    let node = Node::new();
    let core = node.core();
    let artifact = put(&node, b"whole");
    core.stop();
    let incoming = node.path("var/lib/smolotchi/artifacts/.incoming");
    std::fs::write(incoming.join("0"), "torn").unwrap();
    std::fs::write(incoming.join("7"), "").unwrap();
    let _core = node.core();
    // Answered once it is tidied up.
    assert_eq!(node.content(artifact["id"].as_i64().unwrap()), (200, b"whole".to_vec()));
    assert_eq!(std::fs::read_dir(&incoming).unwrap().count(), 0);
    put(&node, b"more");
    assert_eq!(node.run(&["artifacts", "verify"]).code, 0);
}

#[test]
fn garbage_is_refused_and_nothing_is_stored() {
    let node = Node::new();
    let _core = node.core();
    let (mut child, owner) = worker();
    post(&node, "/v1/jobs", &json!({"kind": "run"}));
    let long = "x".repeat(300);
    let want = |change: (&str, Value)| {
        let mut want = json!({"owner": owner, "kinds": ["run"], "wait_s": 0, "lease_s": 60});
        want[change.0] = change.1;
        want.to_string()
    };
    let cases = [
        ("POST", "/v1/jobs", "{}".to_owned(), 400),
        ("POST", "/v1/jobs", json!({"kind": ""}).to_string(), 400),
        ("POST", "/v1/jobs", json!({"kind": "A b"}).to_string(), 400),
        ("POST", "/v1/jobs", json!({"kind": "run", "more": 1}).to_string(), 400),
        ("POST", "/v1/jobs", "[]".to_owned(), 400),
        ("POST", "/v1/jobs", "\u{0}\u{1}".to_owned(), 400),
        ("POST", "/v1/jobs/lease", want(("lease_s", json!(0))), 400),
        ("POST", "/v1/jobs/lease", want(("lease_s", json!(3601))), 400),
        ("POST", "/v1/jobs/lease", want(("owner", json!({"pid": -1}))), 400),
        ("POST", "/v1/jobs/lease", want(("kinds", json!("run"))), 400),
        ("POST", "/v1/jobs/99/cancel", "{}".to_owned(), 404),
        ("POST", "/v1/jobs/x/cancel", "{}".to_owned(), 404),
        ("GET", "/v1/jobs/99", String::new(), 404),
        ("GET", "/v1/jobs?state=lost", String::new(), 400),
        ("GET", "/v1/jobs?limit=0", String::new(), 400),
        ("GET", "/v1/jobs?limit=1001", String::new(), 400),
        ("GET", "/v1/jobs?colour=red", String::new(), 400),
        ("GET", "/v1/stages?before=x", String::new(), 400),
        ("POST", "/v1/stages/9/approve", json!({"why": "x"}).to_string(), 404),
        ("POST", "/v1/artifacts", "content".to_owned(), 400),
        ("POST", "/v1/artifacts?kind=note", "content".to_owned(), 400),
        ("POST", "/v1/artifacts?kind=note&name=../../etc/passwd", "content".to_owned(), 400),
        ("POST", "/v1/artifacts?kind=note&name=.hidden", "content".to_owned(), 400),
        ("POST", "/v1/artifacts?kind=note&name=a%0Ab", "content".to_owned(), 400),
        ("POST", &format!("/v1/artifacts?kind=note&name={long}"), "content".to_owned(), 400),
        ("GET", "/v1/artifacts/99/content", String::new(), 404),
        ("POST", "/v1/artifacts/remove", json!({"ids": [99]}).to_string(), 404),
        ("POST", "/v1/locks/take", json!({"name": "job/1", "owner": owner, "lease_s": 9}).to_string(), 400),
    ];
    for (method, path, body, status) in &cases {
        let (answered, answer) = node.call(method, path, body);
        assert_eq!((answered, answer["error"]["code"].is_string()), (*status, true), "{method} {path} {body}: {answer}");
    }
    assert_eq!(topics(&node), ["job.added"]);
    assert_eq!(node.call("GET", "/v1/jobs/1", "").1["attempts"], 0);
    assert_eq!(node.call("GET", "/v1/artifacts", "").1["artifacts"], json!([]));
    let files = std::fs::read_dir(node.path("var/lib/smolotchi/artifacts")).map_or(0, Iterator::count);
    assert_eq!(files, 0, "nothing is half-stored");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn strangers_look_and_change_nothing() {
    need_root();
    let node = Node::new();
    let _core = node.core();
    post(&node, "/v1/jobs", &json!({"kind": "run"}));
    put(&node, b"x");
    let stranger = |args: &[&str]| node.ran(node.as_uid(&[&["--format", "json"], args].concat(), STRANGER).output().unwrap());
    for args in [&["jobs", "list"][..], &["stages", "list"], &["artifacts", "list"], &["artifacts", "export", "1"], &["locks", "list"]] {
        stranger(args).ok();
    }
    let file = node.put("note.txt", "text");
    let changes = [
        &["jobs", "add", "run"][..],
        &["jobs", "cancel", "1"],
        &["stages", "approve", "1", "--why", "x"],
        &["artifacts", "put", file.to_str().unwrap()],
        &["artifacts", "remove", "1"],
        &["artifacts", "verify"],
        &["locks", "clean"],
    ];
    for args in changes {
        let ran = stranger(args);
        assert_eq!((ran.code, ran.fault()["code"].as_str()), (20, Some("core.refused")), "{args:?}");
    }
    assert_eq!(node.call("GET", "/v1/jobs/1", "").1["state"], "queued");
}

#[test]
fn the_verbs_show_the_work() {
    let node = Node::new();
    let _core = node.core();
    assert_eq!(node.run(&["jobs", "list"]).ok().stdout, "no jobs\n");
    assert_eq!(node.run(&["stages", "list"]).ok().stdout, "no stage requests\n");
    assert_eq!(node.run(&["artifacts", "list"]).ok().stdout, "no artifacts\n");
    assert_eq!(node.run(&["locks", "list"]).ok().stdout, "no leases\n");
    // What could only fail later is refused now.
    for (args, code) in [
        (["run", "--profile", "night"], "profile.unknown"),
        (["run", "--delay", "31622401"], "core.request"),
        (["run", "--delay", "99999999999999"], "core.request"),
    ] {
        let refused = node.run(&[&["--format", "json", "jobs", "add"][..], &args].concat());
        assert_eq!((refused.code, refused.fault()["code"].as_str()), (20, Some(code)), "{args:?}: {refused:?}");
    }
    assert_eq!(node.run(&["jobs", "list"]).ok().stdout, "no jobs\n");
    profile(&node, "night");
    let job = node
        .run(&["--format", "json", "jobs", "add", "run", "--profile", "night", "--input", "{\"a\":[1]}", "--priority", "-3"])
        .ok()
        .json();
    assert_eq!((&job["id"], &job["input"], &job["priority"]), (&json!(1), &json!({"a": [1]}), &json!(-3)));
    let shown = node.run(&["jobs", "show", "1"]).ok().stdout;
    assert!(shown.contains("\nprofile    night\n") && shown.contains("{\"a\":[1]}"), "{shown}");
    let would = node.run(&["jobs", "cancel", "1", "--dry-run"]).ok().stdout;
    assert_eq!(would, "would cancel job 1 (run, queued)\n");
    assert_eq!(node.call("GET", "/v1/jobs/1", "").1["state"], "queued", "a dry run ends nothing");
    let cancelled = node.run(&["--format", "json", "jobs", "cancel", "1"]).ok().json();
    assert_eq!(cancelled["state"], "cancelled");
    let again = node.run(&["--format", "json", "jobs", "cancel", "1"]);
    assert_eq!((again.code, again.fault()["code"].as_str()), (20, Some("job.ended")));
    let dry = node.run(&["--format", "json", "jobs", "cancel", "1", "--dry-run"]);
    assert_eq!((dry.code, dry.fault()), (20, again.fault()), "a dry run refuses what the real one does");
    assert_eq!(node.run(&["stages", "approve", "1"]).code, 2, "--why is required");
    assert_eq!(node.run(&["--format", "json", "stages", "deny", "1", "--why", "x"]).fault()["code"], "stage.unknown");

    let content: Vec<u8> = (0..300_000_u32).map(|number| (number % 256) as u8).collect();
    let file = node.path("a &=ä?.bin");
    std::fs::write(&file, &content).unwrap();
    let artifact = node.run(&["--format", "json", "artifacts", "put", file.to_str().unwrap(), "--kind", "note"]).ok().json();
    assert_eq!((&artifact["name"], &artifact["bytes"]), (&json!("a &=ä?.bin"), &json!(300_000)));
    let to = node.path("out.bin");
    node.run(&["artifacts", "export", "1", "--to", to.to_str().unwrap()]).ok();
    assert_eq!(std::fs::read(&to).unwrap(), content);
    let again = node.run(&["--format", "json", "artifacts", "export", "1", "--to", to.to_str().unwrap()]);
    assert_eq!((again.code, again.fault()["code"].as_str()), (20, Some("store.exists")), "nothing is overwritten");
    let large = node.path("large");
    std::fs::File::create(&large).unwrap().set_len(64 * 1024 * 1024 + 1).unwrap();
    let refused = node.run(&["--format", "json", "artifacts", "put", large.to_str().unwrap()]);
    assert_eq!((refused.code, refused.fault()["code"].as_str()), (20, Some("artifact.too-large")));

    let dry = node.run(&["--format", "json", "artifacts", "remove", "1", "--dry-run"]).ok().json();
    assert_eq!(dry["bytes"], 300_000);
    assert_eq!(node.content(1).0, 200, "a dry run removes nothing");
    let done = node.run(&["--format", "json", "artifacts", "remove", "1"]).ok().json();
    assert_eq!(done, dry, "the real run does what the dry one said");
    assert!(!place(&node, &artifact).exists());
    assert_eq!(node.content(1).0, 404);
}

#[test]
fn locks_say_who_is_there_and_clean_only_who_is_not() {
    let node = Node::new();
    let _core = node.core();
    let (mut there, owner) = worker();
    let (mut gone, other) = worker();
    for (name, owner) in [("a", &owner), ("b", &other)] {
        assert_eq!(post(&node, "/v1/locks/take", &json!({"name": name, "owner": owner, "lease_s": 600})).0, 200);
    }
    let (status, refused) = post(&node, "/v1/locks/take", &json!({"name": "a", "owner": other, "lease_s": 600}));
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("lease.held")));
    let mut elsewhere = owner.clone();
    elsewhere["boot_id"] = json!("00000000-0000-0000-0000-000000000000");
    post(&node, "/v1/locks/take", &json!({"name": "c", "owner": elsewhere, "lease_s": 600}));
    gone.kill().unwrap();
    gone.wait().unwrap();
    let stale = |what: &str| -> Vec<(String, bool)> {
        let args: Vec<_> = ["--format", "json", "locks"].into_iter().chain(what.split(' ')).collect();
        let locks = node.run(&args).ok().json();
        let lock = |lock: &Value| (lock["name"].as_str().unwrap().to_owned(), lock["stale"].as_bool().unwrap());
        locks["locks"].as_array().unwrap().iter().map(lock).collect()
    };
    let named = |names: &[(&str, bool)]| names.iter().map(|(name, stale)| ((*name).to_owned(), *stale)).collect::<Vec<_>>();
    assert_eq!(stale("list"), named(&[("a", false), ("b", true), ("c", true)]));
    assert_eq!(stale("clean --dry-run"), named(&[("b", true), ("c", true)]));
    assert_eq!(stale("clean"), named(&[("b", true), ("c", true)]));
    assert_eq!(stale("list"), named(&[("a", false)]));
    let words = node.run(&["locks", "list"]).ok().stdout;
    assert!(words.contains("is there; it ends in"), "{words}");
    // Whoever is gone keeps nobody out, and needs nobody to clean up.
    there.kill().unwrap();
    there.wait().unwrap();
    let (mut third, owner) = worker();
    assert_eq!(post(&node, "/v1/locks/take", &json!({"name": "a", "owner": owner, "lease_s": 600})).0, 200);
    third.kill().unwrap();
    third.wait().unwrap();
    assert_eq!(topics(&node), ["lease.broken"; 3]);
}

#[test]
fn a_lease_that_is_not_renewed_ends_by_itself() {
    let node = Node::new();
    let _core = node.core();
    let (mut child, owner) = worker();
    post(&node, "/v1/jobs", &json!({"kind": "run"}));
    lease(&node, &owner, 0, 1);
    let job = node::until("the job's return", || Some(node.call("GET", "/v1/jobs/1", "").1).filter(|job| job["state"] == "queued"));
    assert!(job["error"].as_str().unwrap().contains("did not renew it"), "{job}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A worker that was killed, and whose parent doesn't ask after it, holds nothing and costs nothing.
#[test]
fn a_zombie_holds_no_lease() {
    let node = Node::new();
    let core = node.core();
    let (mut child, owner) = worker();
    post(&node, "/v1/jobs", &json!({"kind": "run"}));
    lease(&node, &owner, 0, 3600);
    let before = cpu_ms(core.pid());
    child.kill().unwrap();
    let job = node::until("the job's return", || Some(node.call("GET", "/v1/jobs/1", "").1).filter(|job| job["state"] == "queued"));
    assert!(job["error"].as_str().unwrap().contains("is gone"), "{job}");
    let spent = cpu_ms(core.pid()) - before;
    assert!(spent < 500, "core spent {spent} ms of CPU on a dead worker");
    child.wait().unwrap();
}

#[test]
fn a_core_that_was_down_finds_out_who_died() {
    let node = Node::new();
    let mut core = node.core();
    let (mut child, owner) = worker();
    let (mut lives, other) = worker();
    for _ in 0..2 {
        post(&node, "/v1/jobs", &json!({"kind": "run", "max_attempts": 1}));
    }
    lease(&node, &owner, 0, 3600);
    let token = lease(&node, &other, 0, 3600)["token"].clone();
    core.signal(rustix::process::Signal::KILL);
    core.wait();
    child.kill().unwrap();
    child.wait().unwrap();
    let _core = node.core();
    let job = node::until("the end of the first", || Some(node.call("GET", "/v1/jobs/1", "").1).filter(|job| job["state"] == "failed"));
    assert!(job["error"].as_str().unwrap().contains("is gone"), "its only attempt is used up: {job}");
    assert_eq!(post(&node, "/v1/jobs/2/finish", &json!({"token": token, "outcome": "done"})).0, 200, "the other one goes on");
    lives.kill().unwrap();
    lives.wait().unwrap();
}

#[test]
fn a_waiting_worker_does_not_hold_up_a_stop() {
    let node = Node::new();
    let core = node.core();
    let (mut child, owner) = worker();
    let body = json!({"owner": owner, "kinds": ["run"], "wait_s": 100, "lease_s": 60}).to_string();
    let mut waiting = std::os::unix::net::UnixStream::connect(node.socket()).unwrap();
    write!(waiting, "POST /v1/jobs/lease HTTP/1.1\r\nhost: core\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    // Core takes callers in the order in which they came, so it has this one before it answers the next.
    assert_eq!(node.call("GET", "/v1/locks", "").0, 200);
    let begun = std::time::Instant::now();
    core.stop();
    assert!(begun.elapsed() < std::time::Duration::from_secs(4), "the stop took {:?}", begun.elapsed());
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"job":null,"token":null}"#), "{answer}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Seconds of CPU that a process has used.
fn cpu_ms(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10
}

/// PUTS says how many; the full suite takes 10,000.
#[test]
fn what_many_put_at_once_is_all_there() {
    let puts: usize = std::env::var("PUTS").map_or(800, |text| text.parse().unwrap());
    let node = Node::new();
    let core = node.core();
    let before = cpu_ms(core.pid());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let node = &node;
            scope.spawn(move || {
                for number in (thread..puts).step_by(8) {
                    // Every tenth content is one that others put at the same moment.
                    let content = if number % 10 == 0 { format!("shared {}", number / 100) } else { format!("own {number}") };
                    let (status, body) = node.call_raw("POST", &format!("/v1/artifacts?kind=note&name=n{number}"), content.as_bytes());
                    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
                }
            });
        }
    });
    eprintln!("{puts} puts: {} ms of core's CPU", cpu_ms(core.pid()) - before);
    let mut names = std::collections::BTreeSet::new();
    let mut before = i64::MAX;
    loop {
        let page = node.call("GET", &format!("/v1/artifacts?limit=1000&before={before}"), "").1;
        let page = page["artifacts"].as_array().unwrap();
        let Some(last) = page.last() else { break };
        before = last["id"].as_i64().unwrap();
        names.extend(page.iter().map(|one| one["name"].as_str().unwrap().to_owned()));
    }
    assert_eq!(names, (0..puts).map(|number| format!("n{number}")).collect());
    let verified = node.run(&["--format", "json", "artifacts", "verify"]).ok().json();
    assert_eq!((&verified["damaged"], &verified["strays"]), (&json!([]), &json!([])));
    let contents = puts - puts.div_ceil(10) + puts.div_ceil(100);
    assert_eq!(verified["checked"], contents, "the same content lies there once");
}

#[test]
fn who_lost_its_lease_adds_nothing() {
    let node = Node::new();
    let _core = node.core();
    let (_child, owner) = worker();
    for _ in 0..2 {
        post(&node, "/v1/jobs", &json!({"kind": "run"}));
    }
    let lost = lease(&node, &owner, 0, 1)["token"].as_str().unwrap().to_owned();
    node::until("the job's return", || (node.call("GET", "/v1/jobs/1", "").1["state"] == "queued").then_some(()));
    let leased = lease(&node, &owner, 0, 60);
    let (job, held) = (leased["job"]["id"].as_i64().unwrap(), leased["token"].as_str().unwrap());
    let stage = json!({"run_id": 1, "job_id": job, "step": 1, "action": "look", "risk": "active", "reason": "r", "valid_s": 60});
    for token in [json!(lost), json!(null), json!("")] {
        let mut stage = stage.clone();
        if !token.is_null() {
            stage["token"] = token;
        }
        let (status, answer) = post(&node, "/v1/stages", &stage);
        assert_eq!((status, &answer["error"]["code"]), (409, &json!("job.not-held")), "{answer}");
    }
    for content in [vec![b'x'; 100], vec![b'y'; 200_000]] {
        for query in [format!("job={job}&token={lost}"), format!("token={held}"), format!("job={}&token={held}", job % 2 + 1)] {
            let (status, answer) = node.call_raw("POST", &format!("/v1/artifacts?kind=note&name=a&{query}"), &content);
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!((status, &answer["error"]["code"]), (409, &json!("job.not-held")), "{query}: {answer}");
        }
    }
    let (status, answer) = node.call("POST", &format!("/v1/artifacts?kind=note&name=a&job={job}&token={held}"), "mine");
    assert_eq!(status, 200, "{answer}");
    let verified = node.run(&["--format", "json", "artifacts", "verify"]).ok().json();
    assert_eq!((&verified["checked"], &verified["strays"]), (&json!(1), &json!([])), "what was refused left nothing on the disk");
    assert_eq!(node.call("GET", "/v1/stages", "").1["stages"], json!([]));
}

#[test]
fn a_number_that_is_none_is_refused_in_words_everywhere() {
    let node = Node::new();
    let _core = node.core();
    let gets = ["jobs/x", "runs/x", "findings/x", "findings/99999999999999999999", "stages/%ff", "artifacts/x", "artifacts/1.5/content"];
    let posts = ["jobs/x/cancel", "jobs/x/renew", "jobs/x/finish", "runs/x", "runs/x/report", "stages/x/approve", "stages/x/deny"];
    let calls = gets.iter().map(|path| ("GET", path)).chain(posts.iter().map(|path| ("POST", path)));
    for (method, path) in calls {
        let (status, answer) = node.call(method, &format!("/v1/{path}"), "{}");
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("core.request")), "{method} {path}: {answer}");
    }
}

/// Reads a list to its end, page by page; the most bytes of a page.
fn pages(node: &Node, path: &str, list: &str) -> (Vec<i64>, usize) {
    let (mut ids, mut most, mut before) = (Vec::new(), 0, String::new());
    loop {
        let (status, answer) = node.call_raw("GET", &format!("{path}?limit=500{before}"), b"");
        assert_eq!(status, 200);
        most = most.max(answer.len());
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        ids.extend(answer[list].as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()));
        match answer["next"].as_i64() {
            Some(next) => before = format!("&before={next}"),
            None => return (ids, most),
        }
    }
}

#[test]
fn a_page_ends_before_it_is_too_large() {
    let node = Node::new();
    let _core = node.core();
    let large = "x".repeat(60_000);
    for _ in 0..40 {
        assert_eq!(post(&node, "/v1/jobs", &json!({"kind": "run", "input": large})).0, 200);
        assert_eq!(post(&node, "/v1/events", &json!({"events": [{"topic": "t", "body": large}]})).0, 200);
    }
    let (jobs, most) = pages(&node, "/v1/jobs", "jobs");
    assert_eq!(jobs, (1..=40).rev().collect::<Vec<_>>(), "each one once");
    assert!(most < 1_200_000, "{most} bytes");
    let (events, most) = pages(&node, "/v1/events", "events");
    assert!(events.windows(2).all(|two| two[1] == two[0] - 1) && events.last() == Some(&1), "{events:?}");
    assert!(most < 1_200_000, "{most} bytes");
    // Oldest first as well.
    let (mut after, mut seen) = (0, 0);
    loop {
        let page = node.call("GET", &format!("/v1/events?limit=500&after={after}"), "").1;
        assert!(page.to_string().len() < 1_200_000);
        match page["events"].as_array().unwrap().len() {
            0 => break,
            count => seen += count,
        }
        after = page["next"].as_i64().unwrap();
    }
    assert_eq!(seen, events.len());
    // And nothing that is larger than that comes in.
    let large = "x".repeat(65_536);
    let cases = [("/v1/jobs", json!({"kind": "run", "input": large})), ("/v1/events", json!({"events": [{"topic": "t", "body": large}]}))];
    for (path, body) in cases {
        let (status, answer) = post(&node, path, &body);
        assert_eq!((status, &answer["error"]["code"]), (413, &json!("core.too-large")), "{path}");
    }
}

/// Says something, and then that nothing more comes: to core its caller has hung up.
fn hang_up(node: &Node, path: &str, body: &Value) -> Vec<u8> {
    let (mut stream, body) = (std::os::unix::net::UnixStream::connect(node.socket()).unwrap(), body.to_string());
    stream.set_read_timeout(Some(node::DEADLINE)).unwrap();
    write!(stream, "POST {path} HTTP/1.1\r\nhost: core\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn who_hangs_up_takes_no_notice_and_no_job_from_who_waits() {
    let node = Node::new();
    let _core = node.core();
    let (_child, owner) = worker();
    // It takes core a while to store it.
    let input = "x".repeat(60_000);
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| lease(&node, &owner, 60, 60));
            hang_up(&node, "/v1/jobs", &json!({"kind": "run", "input": input}));
            let leased = waits.join().unwrap();
            assert_eq!(
                post(&node, &format!("/v1/jobs/{}/finish", leased["job"]["id"]), &json!({"token": leased["token"], "outcome": "done"})).0,
                200
            );
        });
    }
    assert!(begun.elapsed().as_secs() < 50, "somebody waited to the end");
    let mut heard = 0;
    for _ in 0..20 {
        let job = post(&node, "/v1/jobs", &json!({"kind": "run"})).1["id"].clone();
        let answer = hang_up(&node, "/v1/jobs/lease", &json!({"owner": owner, "kinds": ["run"], "wait_s": 0, "lease_s": 3600}));
        // Sometimes core was faster.
        let leased = match answer.iter().position(|byte| *byte == b'{') {
            Some(at) => serde_json::from_slice(&answer[at..]).unwrap(),
            None => lease(&node, &owner, 10, 60),
        };
        heard += usize::from(!answer.is_empty());
        assert_eq!((&leased["job"]["id"], &leased["job"]["attempts"]), (&job, &json!(1)), "{leased}");
        assert_eq!(post(&node, &format!("/v1/jobs/{job}/finish"), &json!({"token": leased["token"], "outcome": "done"})).0, 200);
    }
    assert!(heard < 20, "nobody hung up in time");
}

/// A small file system; gone with the value.
struct Small(std::path::PathBuf);

impl Small {
    fn at(path: std::path::PathBuf, size: &str) -> Self {
        let options = format!("size={size},mode=750,uid={0},gid={0}", node::SERVICE);
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).status().unwrap();
        assert!(mounted.success());
        Small(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_and_leaves_nothing_half() {
    need_root();
    let node = Node::new();
    let _small = Small::at(node.path("var/lib/smolotchi"), "3m");
    let _core = node.core();
    let (mut child, owner) = worker();
    post(&node, "/v1/jobs", &json!({"kind": "run"}));
    let kept = put(&node, b"kept");
    let ballast = node.path("var/lib/smolotchi/ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let (status, answer) = node.call("POST", "/v1/artifacts?kind=note&name=a", &"x".repeat(100_000));
    assert_eq!((status, &answer["error"]["code"]), (507, &json!("io.disk-full")), "{answer}");
    assert_eq!(std::fs::read_dir(node.path("var/lib/smolotchi/artifacts/.incoming")).unwrap().count(), 0);
    // The log has room for some commits before it has to grow.
    let mut added = 1;
    let refused = loop {
        let (status, answer) = post(&node, "/v1/jobs", &json!({"kind": "run", "input": "x".repeat(50_000)}));
        if status != 200 {
            break (status, answer["error"]["code"].clone());
        }
        added += 1;
    };
    assert_eq!(refused, (507, json!("io.disk-full")));
    let leased = node.call("POST", "/v1/jobs/lease", &json!({"owner": owner, "kinds": ["run"], "lease_s": 60}).to_string());
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    let jobs = node.call("GET", "/v1/jobs?limit=1000", "").1;
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), added, "what was answered for is there, and nothing else");
    let held = node.call("GET", "/v1/locks", "").1["locks"].as_array().unwrap().len();
    assert_eq!(held, usize::from(leased.0 == 200), "no job is half-leased: {leased:?}");
    assert_eq!(post(&node, "/v1/jobs", &json!({"kind": "run"})).0, 200, "it goes on");
    put(&node, "x".repeat(100_000).as_bytes());
    assert_eq!(node.content(kept["id"].as_i64().unwrap()), (200, b"kept".to_vec()));
    assert_eq!(node.run(&["artifacts", "verify"]).code, 0);
    child.kill().unwrap();
    child.wait().unwrap();
}
