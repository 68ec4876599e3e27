//! A node with something of everything: events, jobs in each state, runs, artifacts, stage requests, findings, a baseline,
//! sensors, an upgrade that was taken back. By core's own calls only.

use crate::node::{Node, until};
use serde_json::{Value, json};
use std::process::{Child, Command};

/// The sockets profile that the findings are of.
pub const PROFILE: &str =
    "name = \"sockets\"\nversion = 1\ndescription = \"Who listens on this machine\"\n\n[[step]]\naction = \"listening-sockets\"\n";

/// A process that holds leases; ended when dropped.
pub struct Worker {
    child: Child,
    owner: Value,
}

impl Worker {
    fn new() -> Worker {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let ticks: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let owner = json!({"role": "ai", "pid": child.id(), "start_ticks": ticks, "boot_id": boot.trim()});
        Worker { child, owner }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn post(node: &Node, path: &str, body: Value) -> Value {
    let (status, answer) = node.call("POST", path, &body.to_string());
    assert_eq!(status, 200, "{path} {body}: {answer}");
    answer
}

fn put(node: &Node, query: &str, content: &str) -> i64 {
    let (status, artifact) = node.call("POST", &format!("/v1/artifacts?{query}"), content);
    assert_eq!(status, 200, "{artifact}");
    artifact["id"].as_i64().unwrap()
}

/// A machine made of files, for core's senses; before core is started.
pub fn machine(node: &Node) {
    node.put("proc/stat", "cpu  100 0 100 9800 0 0 0 0 0 0\n");
    node.put("proc/loadavg", "0.25 0.2 0.1 1/100 4242\n");
    node.put("proc/meminfo", "MemTotal: 476000 kB\nMemAvailable: 318000 kB\nSwapTotal: 102396 kB\nSwapFree: 102396 kB\n");
    node.put("sys/class/thermal/thermal_zone0/temp", "48000\n");
}

/// Fills a node whose core runs. `mean` goes into every text that core takes.
pub fn fill(node: &Node, mean: &str) -> Worker {
    let worker = Worker::new();
    let lease = || {
        let leased = post(node, "/v1/jobs/lease", json!({"owner": worker.owner, "kinds": ["run"], "lease_s": 600}));
        (leased["job"]["id"].as_i64().unwrap(), leased["token"].as_str().unwrap().to_owned())
    };
    let add = || {
        post(
            node,
            "/v1/jobs",
            json!({"kind": "run", "profile": "sockets", "input": {"reason": format!("nightly{mean}")}, "by": format!("ann{mean}")}),
        )
    };
    let events: Vec<Value> = [
        ("boot.done", "info", json!({"seconds": 21.4, "kernel": format!("6.12{mean}")})),
        ("time.set", "notice", json!({"by_s": 41, "source": "ntp"})),
        ("disk.low", "warning", json!({"path": "/var", "free_mib": 61, "disk": format!("mmcblk0p2{mean}")})),
        ("unit.failed", "error", json!({"unit": "mosquitto.service", "result": "exit-code"})),
        ("door.opened", "info", json!(format!("front door{mean}"))),
    ]
    .into_iter()
    .map(|(topic, severity, body)| json!({"topic": topic, "severity": severity, "body": body}))
    .collect();
    post(node, "/v1/events", json!({"events": events}));
    post(node, "/v1/profiles", json!({"text": PROFILE}));

    // Run 1: it finds what becomes the baseline. Run 2: it finds more, and one thing is gone.
    for (number, keys) in [(1, &["0.0.0.0:22", "127.0.0.1:631"][..]), (2, &["0.0.0.0:22", "0.0.0.0:1883", "0.0.0.0:8883", "[::]:5353"])] {
        add();
        let (job, token) = lease();
        let run = post(node, "/v1/runs", json!({"job_id": job, "token": token, "profile": "sockets", "profile_version": 1}))["id"]
            .as_i64()
            .unwrap();
        let plan = put(
            node,
            &format!("kind=plan&name=plan.json&media=application/json&job={job}&run={run}"),
            &json!({"steps": [{"action": "listening-sockets", "why": format!("the profile asks for it{mean}")}]}).to_string(),
        );
        let inputs = put(
            node,
            &format!("kind=inputs&name=inputs.json&media=application/json&job={job}&run={run}"),
            &json!({"sockets": keys, "seen_by": format!("core{mean}"), "run": number}).to_string(),
        );
        post(node, &format!("/v1/runs/{run}"), json!({"token": token, "plan_artifact": plan, "inputs_artifact": inputs}));
        let findings: Vec<Value> = keys
            .iter()
            .map(|key| {
                json!({"key": format!("socket/tcp/{key}{mean}"), "title": format!("A program listens at {key}{mean}"),
                    "severity": if key.starts_with("0.0.0.0:1883") { "error" } else if key.ends_with(":22") { "notice" } else { "warning" },
                    "expected": number == 2 && *key == "0.0.0.0:22",
                    "action": "listening-sockets", "step": 1,
                    "policy": {"rule": "passive", "verdict": "allowed", "reason": format!("looking changes nothing{mean}"), "risk": "none"},
                    "detail": {"address": key, "program": format!("mosquitto{mean}"), "user": {"name": "mosquitto", "uid": 110}, "since_boot": true}})
            })
            .collect();
        post(
            node,
            &format!("/v1/runs/{run}/report"),
            json!({"token": token, "evidence": inputs, "result_artifact": plan, "findings": findings}),
        );
        post(
            node,
            &format!("/v1/jobs/{job}/finish"),
            json!({"token": token, "outcome": "done", "result": {"open": keys.len(), "profile": format!("sockets{mean}")}}),
        );
        if number == 1 {
            post(node, "/v1/baselines", json!({"profile": "sockets", "note": format!("as installed{mean}")}));
        }
    }
    // A job that failed, one that waits for a decision, one that is held, one that is queued.
    add();
    let (job, token) = lease();
    post(
        node,
        &format!("/v1/jobs/{job}/finish"),
        json!({"token": token, "outcome": "refused", "error": format!("the profile is not there{mean}")}),
    );
    for decided in [true, false] {
        add();
        let (job, token) = lease();
        let run = post(node, "/v1/runs", json!({"job_id": job, "token": token, "profile": "sockets", "profile_version": 1}))["id"]
            .as_i64()
            .unwrap();
        let stage = post(
            node,
            "/v1/stages",
            json!({"run_id": run, "job_id": job, "step": 1, "action": "neighbours", "risk": "low",
            "reason": format!("it asks each neighbour once{mean}"), "valid_s": 3600, "token": token}),
        );
        post(node, &format!("/v1/jobs/{job}/finish"), json!({"token": token, "outcome": "waiting"}));
        if decided {
            post(
                node,
                &format!("/v1/stages/{}/deny", stage["id"]),
                json!({"why": format!("not in this network{mean}"), "by": format!("ann{mean}")}),
            );
            let (job, token) = lease();
            post(node, &format!("/v1/jobs/{job}/finish"), json!({"token": token, "outcome": "done", "result": {"steps": 0}}));
        }
    }
    add();
    lease();
    add();
    put(node, "kind=note&name=note.txt&media=text/plain", &format!("A note.\n{mean}\n"));
    put(node, "kind=picture&name=panel.png&media=image/png", "not shown");
    node.put(
        "var/lib/smolotchi-install/status.json",
        &json!({"installed": "0.1.0", "state": "idle",
            "last_change": {"kind": "upgrade", "from": "0.1.0", "to": "0.2.0", "verdict": "rolled-back", "reason": format!("core crashed{mean}"), "at": "2026-11-21T18:00:00Z"},
            "blocked": [{"version": "0.2.0", "reason": format!("core crashed{mean}")}], "slots": [{"version": "0.1.0"}, {"version": "0.0.9"}]})
        .to_string(),
    );
    until("the first look of the senses", || {
        let (status, answer) = node.call("GET", "/v1/sensors", "");
        (status == 200 && answer["sensors"].as_array().is_some_and(|sensors| !sensors.is_empty())).then_some(())
    });
    worker
}
