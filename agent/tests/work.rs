//! Jobs, stage requests and artifacts as workers, operators and the card see them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod node;

use node::Node;
use serde_json::{Value, json};
use std::process::{Child, Command};

/// A process that can hold leases.
fn worker() -> (Child, Value) {
    let child = Command::new("sleep").arg("600").spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let ticks: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let owner = json!({"role": "ai", "pid": child.id(), "start_ticks": ticks, "boot_id": boot.trim()});
    (child, owner)
}

fn post(node: &Node, path: &str, body: &Value) -> (u16, Value) {
    node.call("POST", path, &body.to_string())
}

fn lease(node: &Node, owner: &Value, wait_s: u64, lease_s: u64) -> Value {
    let (status, leased) = post(node, "/v1/jobs/lease", &json!({"owner": owner, "kinds": ["run"], "wait_s": wait_s, "lease_s": lease_s}));
    assert_eq!(status, 200, "{leased}");
    leased
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
    assert_eq!(topics(&node), ["job.added", "job.leased", "job.done"]);
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
    let request = json!({"run_id": 1, "job_id": 1, "step": 2, "action": "look", "risk": "active", "reason": "it asks", "valid_s": 3600});
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
