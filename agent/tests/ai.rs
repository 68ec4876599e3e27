//! The ai worker with a real core: runs, requests, kills, replays.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod node;

use node::{Node, STRANGER, Service, is_root, need_root, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// The ai worker's user.
const WORKER: u32 = 54_322;

/// A node with the shipped profiles and some files to find.
fn node() -> Node {
    let node = Node::new();
    node.put("etc/passwd", &format!("root:x:0:0::/:/x\nsmolotchi-ai:x:{WORKER}:{WORKER}::/:/x\n"));
    for name in ["watch", "keep"] {
        let text = std::fs::read_to_string(format!("{}/profiles/{name}.toml", env!("CARGO_MANIFEST_DIR"))).unwrap();
        node.put(&format!("usr/lib/smolotchi/profiles/{name}.toml"), &text);
    }
    // What this machine's senses see is not the same everywhere; what lies in files is.
    let files = "name = \"files\"\nversion = 1\ndescription = \"d\"\n[[step]]\naction = \"disk-forecast\"\nmin_free_percent = 0\n[[step]]\naction = \"configuration-drift\"\n";
    node.put("usr/lib/smolotchi/profiles/files.toml", files);
    node.put("etc/smolotchi/config.d/50-local.toml", "[retention]\nmax_events = 90000\n");
    node.put("usr/bin/smolotchi", "changed");
    node.put("var/lib/dpkg/info/smolotchi.md5sums", "5d41402abc4b2a76b9719d911017c592  usr/bin/smolotchi\n");
    node
}

fn worker(node: &Node) -> Service {
    let worker = Service::start(node.as_uid(&["ai"], WORKER));
    worker.wait_for_line("is ready");
    worker
}

/// Core, with the shipped profiles known.
fn core(node: &Node) -> Service {
    let core = node.core();
    until("the shipped profiles", || (get(node, "/v1/profiles")["profiles"].as_array()?.len() == 3).then_some(()));
    core
}

fn get(node: &Node, path: &str) -> Value {
    let (status, body) = node.call("GET", path, "");
    assert_eq!(status, 200, "{path}: {body}");
    body
}

fn post(node: &Node, path: &str, body: &Value) -> Value {
    let (status, answer) = node.call("POST", path, &body.to_string());
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// This process, as a worker that can hold a lease.
fn this_process() -> Value {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    json!({"role": "ai", "pid": std::process::id(), "start_ticks": ticks, "boot_id": boot.trim()})
}

fn job_in(node: &Node, job: &Value, state: &str) -> Value {
    until(&format!("job {job} {state}"), || Some(get(node, &format!("/v1/jobs/{job}"))).filter(|job| job["state"] == state))
}

fn run_profile(node: &Node, profile: &str) -> Value {
    let ran = node.run(&["--format", "json", "ai", "run", profile, "--wait"]).ok();
    serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap()
}

fn findings(node: &Node) -> Vec<(String, String, u64)> {
    let found = get(node, "/v1/findings?limit=500");
    let row = |finding: &Value| {
        let text = |name: &str| finding[name].as_str().unwrap().to_owned();
        (text("key"), text("state"), finding["times"].as_u64().unwrap())
    };
    let mut rows: Vec<_> = found["findings"].as_array().unwrap().iter().map(row).collect();
    rows.sort();
    rows
}

fn row(key: &str, state: &str, times: u64) -> (String, String, u64) {
    (key.to_owned(), state.to_owned(), times)
}

fn topics(node: &Node, prefix: &str) -> Vec<String> {
    let events = get(node, "/v1/events?limit=1000");
    let topics = events["events"].as_array().unwrap().iter().map(|event| event["topic"].as_str().unwrap().to_owned());
    let mut topics: Vec<_> = topics.filter(|topic| topic.starts_with(prefix)).collect();
    topics.reverse();
    topics
}

fn artifacts(node: &Node, run: i64, kind: &str) -> usize {
    get(node, &format!("/v1/artifacts?run={run}&kind={kind}&limit=100"))["artifacts"].as_array().unwrap().len()
}

const LOCAL: &str = "file/etc/smolotchi/config.d/50-local.toml";
const BINARY: &str = "file/usr/bin/smolotchi";

#[test]
fn what_a_run_finds_is_kept_explained_and_replayed() {
    let node = node();
    let _core = core(&node);
    let worker = worker(&node);
    let followed = run_profile(&node, "files");
    assert_eq!(followed["job"]["state"], "done", "{followed}");
    assert_eq!(followed["job"]["result"]["reported"]["opened"], 2, "{followed}");
    assert_eq!(findings(&node), [row(LOCAL, "open", 1), row(BINARY, "open", 1)]);
    assert_eq!(topics(&node, "finding."), ["finding.opened", "finding.opened"]);

    // Every link of the chain is there.
    let id = get(&node, "/v1/findings?search=bin/smolotchi")["findings"][0]["id"].clone();
    let explained = node.run(&["explain", &id.to_string(), "--format", "json"]).ok().json();
    assert_eq!(explained["finding"]["severity"], "error");
    assert_eq!((&explained["profile"]["name"], &explained["profile"]["version"]), (&json!("files"), &json!(1)));
    assert_eq!((&explained["finding"]["action"], &explained["finding"]["step"]), (&json!("configuration-drift"), &json!(2)));
    assert_eq!(
        (&explained["finding"]["policy"]["verdict"], &explained["finding"]["policy"]["rule"]),
        (&json!("allow"), &json!("policy.max_risk"))
    );
    assert_eq!((&explained["evidence"]["kind"], &explained["evidence"]["id"]), (&json!("inputs"), &explained["finding"]["evidence"]));
    assert_eq!(explained["observation"]["items"].as_array().unwrap().len(), 2, "{explained}");
    assert_eq!(explained["run"]["job_id"], followed["job"]["id"]);
    let told = node.run(&["explain", &id.to_string()]).ok().stdout;
    for words in ["files version 1", "configuration-drift, step 2", "allow by policy.max_risk", "sha256", "none: nothing is expected"] {
        assert!(told.contains(words), "{words}: {told}");
    }

    // The same again is the same; what was mended is gone; a replay gives the same bytes.
    assert_eq!(run_profile(&node, "files")["job"]["result"]["reported"], json!({"opened": 0, "open": 2, "expected": 0, "gone": 0}));
    assert_eq!(findings(&node), [row(LOCAL, "open", 2), row(BINARY, "open", 2)]);
    node.put("usr/bin/smolotchi", "hello");
    assert_eq!(run_profile(&node, "files")["job"]["result"]["reported"], json!({"opened": 0, "open": 1, "expected": 0, "gone": 1}));
    assert_eq!(findings(&node), [row(LOCAL, "open", 3), row(BINARY, "gone", 2)]);
    for run in ["1", "2", "3"] {
        assert_eq!(node.run(&["ai", "replay", run, "--format", "json"]).ok().json()["same"], true);
    }
    assert_eq!(node.run(&["ai", "diff", "2", "3"]).ok().stdout, format!("- {BINARY}\n"));
    assert_eq!(node.run(&["ai", "diff", "1", "2"]).ok().stdout, "nothing differs\n");
    worker.stop();
}

/// Sums that are gone and a folder that can't be listed are found; what was found there before is not gone.
#[test]
fn what_could_not_be_seen_is_not_gone() {
    const KEPT: &str = "file/etc/smolotchi/kept/a";
    need_root();
    let node = node();
    node.put("etc/smolotchi/kept/a", "x");
    node.put("var/lib/dpkg/info/smolotchi.list", "/.\n/usr/bin/smolotchi\n");
    let _core = core(&node);
    let _worker = worker(&node);
    run_profile(&node, "files");
    assert_eq!(findings(&node), [row(LOCAL, "open", 1), row(KEPT, "open", 1), row(BINARY, "open", 1)]);
    let sums = node.path("var/lib/dpkg/info/smolotchi.md5sums");
    let kept = std::fs::read(&sums).unwrap();
    std::fs::remove_file(&sums).unwrap();
    let mode = |mode| std::fs::set_permissions(node.path("etc/smolotchi/kept"), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o700);
    run_profile(&node, "files");
    let (folder, no_sums) = ("file/etc/smolotchi/kept", "file/var/lib/dpkg/info/smolotchi.md5sums");
    let unseen = [row(LOCAL, "open", 2), row(folder, "open", 1), row(KEPT, "open", 1), row(BINARY, "open", 1), row(no_sums, "open", 1)];
    assert_eq!(findings(&node), unseen);
    std::fs::write(&sums, kept).unwrap();
    mode(0o755);
    node.put("usr/bin/smolotchi", "hello");
    std::fs::remove_file(node.path("etc/smolotchi/kept/a")).unwrap();
    run_profile(&node, "files");
    let seen = [row(LOCAL, "open", 3), row(folder, "gone", 1), row(KEPT, "gone", 1), row(BINARY, "gone", 1), row(no_sums, "gone", 1)];
    assert_eq!(findings(&node), seen);
}

/// Who follows a run that nobody takes learns it, and can say how long that is enough.
#[test]
fn a_run_that_nobody_takes_is_not_waited_for_in_silence() {
    let node = node();
    let _core = core(&node);
    let args = ["ai", "run", "watch", "--wait", "--timeout", "6"];
    let ran = node.run(&args);
    assert_eq!((ran.code, ran.stdout.as_str()), (10, ""), "{ran:?}");
    assert!(ran.stderr.starts_with("job 1 is queued, and no worker has taken it yet"), "{ran:?}");
    assert!(ran.stderr.contains("[run.not-in-time] the run has not ended in time; job: 1; state: queued"), "{ran:?}");
    assert_eq!(get(&node, "/v1/jobs/1")["state"], "queued", "it goes on without");
}

#[test]
fn a_baseline_makes_drift_a_finding() {
    let node = node();
    let _core = core(&node);
    let _worker = worker(&node);
    assert_eq!(node.run(&["baseline", "set", "files", "--format", "json"]).fault()["code"], "baseline.no-run");
    run_profile(&node, "files");
    let made = node.run(&["baseline", "set", "files", "--note", "as built", "--format", "json"]).ok().json();
    assert_eq!(made["expected"].as_object().unwrap().len(), 2, "{made}");
    assert_eq!(findings(&node), [row(LOCAL, "expected", 1), row(BINARY, "expected", 1)]);
    assert_eq!(run_profile(&node, "files")["job"]["result"]["reported"], json!({"opened": 0, "open": 0, "expected": 2, "gone": 0}));
    // Changed, gone and new at once.
    node.put("etc/smolotchi/config.d/50-local.toml", "[retention]\nmax_events = 80000\n");
    node.put("etc/smolotchi/config.d/60-more.toml", "");
    node.put("usr/bin/smolotchi", "hello");
    run_profile(&node, "files");
    let more = "file/etc/smolotchi/config.d/60-more.toml";
    let expected = [
        row(&format!("baseline/changed/{LOCAL}"), "open", 1),
        row(&format!("baseline/gone/{BINARY}"), "open", 1),
        row(&format!("baseline/new/{more}"), "open", 1),
        row(LOCAL, "open", 3),
        row(more, "open", 1),
        row(BINARY, "gone", 2),
    ];
    assert_eq!(findings(&node), expected);
    assert_eq!(node.run(&["ai", "replay", "3", "--format", "json"]).ok().json()["same"], true, "the baseline is part of the inputs");
    // What is there now is what is wanted.
    node.run(&["baseline", "set", "files"]).ok();
    let open = |node: &Node| findings(node).into_iter().filter(|(_, state, _)| state == "open").count();
    assert_eq!(open(&node), 0);
    assert_eq!(run_profile(&node, "files")["job"]["result"]["reported"], json!({"opened": 0, "open": 0, "expected": 2, "gone": 0}));
    assert_eq!(node.run(&["baseline", "clear", "files", "--dry-run"]).ok().stdout, "would forget 2 baselines\n");
    assert_eq!(node.run(&["baseline", "clear", "files"]).ok().stdout, "forgot 2 baselines\n");
    assert_eq!(open(&node), 2);
}

/// Queues a run of `keep` and waits until it asks.
fn asks(node: &Node) -> (Value, Value) {
    let job = post(node, "/v1/jobs", &json!({"kind": "run", "profile": "keep"}))["id"].clone();
    job_in(node, &job, "waiting");
    let stage = get(node, "/v1/stages?state=pending")["stages"][0].clone();
    assert_eq!((&stage["action"], &stage["step"], &stage["risk"]), (&json!("configuration-snapshot"), &json!(1), &json!("record")));
    (job, stage["id"].clone())
}

#[test]
fn a_step_above_the_risk_waits_for_a_word() {
    let node = node();
    let _core = core(&node);
    let first = worker(&node);
    // Approved, while nobody is there to hear it: the run goes on exactly there.
    let (job, stage) = asks(&node);
    assert_eq!(artifacts(&node, 1, "configuration"), 0, "nothing is done before it is allowed");
    first.stop();
    post(&node, &format!("/v1/stages/{stage}/approve"), &json!({"why": "wanted", "by": "ann"}));
    let second = worker(&node);
    let job = job_in(&node, &job, "done");
    assert_eq!((artifacts(&node, 1, "configuration"), artifacts(&node, 1, "plan"), artifacts(&node, 1, "result")), (1, 1, 1));
    assert_eq!(job["result"]["run"], 1);
    let kept = get(&node, "/v1/artifacts?run=1&kind=configuration")["artifacts"][0]["id"].clone();
    let copy = get(&node, &format!("/v1/artifacts/{kept}/content"));
    assert_eq!(copy["/etc/smolotchi/config.d/50-local.toml"], "[retention]\nmax_events = 90000\n");
    let result = |run: i64| {
        let id = get(&node, &format!("/v1/runs/{run}"))["result_artifact"].clone();
        get(&node, &format!("/v1/artifacts/{id}/content"))
    };
    assert_eq!(result(1)["steps"][0]["outcome"], "judged");
    assert!(result(1)["steps"][0]["why"].as_str().unwrap().contains("ann: wanted"), "{}", result(1));

    // Denied: it goes on without the step, and the rest is judged.
    let (job, stage) = asks(&node);
    post(&node, &format!("/v1/stages/{stage}/deny"), &json!({"why": "not today"}));
    job_in(&node, &job, "done");
    assert_eq!(artifacts(&node, 2, "configuration"), 0);
    assert_eq!((&result(2)["steps"][0]["outcome"], &result(2)["steps"][1]["outcome"]), (&json!("refused"), &json!("judged")));
    assert_eq!(result(2)["unjudged"], json!(["configuration-snapshot"]));

    // Nobody decides in time: as denied. The request is made here, with a shorter time, and is the one that the run then has.
    second.stop();
    let job = post(&node, "/v1/jobs", &json!({"kind": "run", "profile": "keep"}))["id"].clone();
    let token = post(&node, "/v1/jobs/lease", &json!({"owner": this_process(), "kinds": ["run"], "lease_s": 60}))["token"].clone();
    let mut short =
        json!({"run_id": 3, "job_id": 3, "step": 1, "action": "configuration-snapshot", "risk": "record", "reason": "r", "valid_s": 2});
    short["token"] = token.clone();
    post(&node, "/v1/stages", &short);
    post(&node, &format!("/v1/jobs/{job}/finish"), &json!({"token": token, "outcome": "waiting"}));
    let _third = worker(&node);
    job_in(&node, &job, "done");
    assert_eq!((artifacts(&node, 3, "configuration"), &result(3)["steps"][0]["outcome"]), (0, &json!("refused")));
    assert!(result(3)["steps"][0]["why"].as_str().unwrap().contains("left to expire"), "{}", result(3));
    assert_eq!(
        topics(&node, "stage."),
        ["stage.requested", "stage.approved", "stage.requested", "stage.denied", "stage.requested", "stage.expired"]
    );
    assert_eq!(node.run(&["ai", "replay", "1", "--format", "json"]).ok().json()["same"], true);
}

/// Workers that are killed at seeded moments, before and after the operator's word, do all of the work once.
#[test]
fn a_killed_worker_loses_nothing_and_doubles_nothing() {
    const JOBS: i64 = 24;
    let node = node();
    node.put("etc/smolotchi/config.d/60-rate.toml", "[policy]\nruns_per_hour = 0\n");
    let _core = core(&node);
    let mut moment = std::env::var("SMOLOTCHI_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1_u64);
    eprintln!("SMOLOTCHI_SEED={moment}");
    // A first run that nobody disturbs shows how long one takes.
    let clean = worker(&node);
    let began = Instant::now();
    let (first, stage) = asks(&node);
    post(&node, &format!("/v1/stages/{stage}/approve"), &json!({"why": "test"}));
    job_in(&node, &first, "done");
    let window = u64::try_from(began.elapsed().as_micros()).unwrap();
    clean.stop();
    for _ in 1..JOBS {
        post(&node, "/v1/jobs", &json!({"kind": "run", "profile": "keep", "max_attempts": 9}));
    }
    let mut kill_some = |times: i64| {
        for _ in 0..times {
            moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut worker = worker(&node);
            // Not to wait for a state: the moment of the kill is the point.
            std::thread::sleep(Duration::from_micros((moment >> 33) % window));
            worker.signal(Signal::KILL);
            worker.wait();
        }
    };
    let approve = || {
        for stage in get(&node, "/v1/stages?state=pending&limit=100")["stages"].as_array().unwrap() {
            post(&node, &format!("/v1/stages/{}/approve", stage["id"]), &json!({"why": "test"}));
        }
    };
    kill_some(JOBS);
    approve();
    kill_some(JOBS / 2);
    let lost = topics(&node, "job.lost").len();
    assert!(lost >= 6, "only {lost} of the kills hit a worker with a job");
    let _worker = worker(&node);
    // A job that was lost is tried again after half a minute, or after a whole one.
    let end = Instant::now() + Duration::from_secs(180);
    loop {
        approve();
        let jobs = get(&node, "/v1/jobs?limit=100")["jobs"].as_array().unwrap().clone();
        if jobs.iter().all(|job| job["state"] == "done") {
            assert_eq!(jobs.len() as i64, JOBS);
            break;
        }
        assert!(Instant::now() < end, "{jobs:?}");
        std::thread::sleep(Duration::from_millis(250));
    }
    let runs = get(&node, "/v1/runs?limit=100")["runs"].as_array().unwrap().clone();
    let mut jobs: Vec<_> = runs.iter().map(|run| run["job_id"].as_i64().unwrap()).collect();
    jobs.sort_unstable();
    assert_eq!(jobs, (1..=JOBS).collect::<Vec<_>>(), "one run for each job");
    for run in &runs {
        let id = run["id"].as_i64().unwrap();
        assert_eq!(run["state"], "done", "{run}");
        for kind in ["plan", "result", "configuration"] {
            assert_eq!(artifacts(&node, id, kind), 1, "run {id}: {kind}");
        }
        assert_eq!(node.run(&["ai", "replay", &id.to_string(), "--format", "json"]).ok().json()["same"], true);
    }
    assert_eq!(get(&node, "/v1/stages?limit=100")["stages"].as_array().unwrap().len() as i64, JOBS, "one request for each run");
    // Found once by each run, told once in all.
    let more = "file/etc/smolotchi/config.d/60-rate.toml";
    let times = JOBS.unsigned_abs();
    assert_eq!(findings(&node), [row(LOCAL, "open", times), row(more, "open", times), row(BINARY, "open", times)]);
    assert_eq!(topics(&node, "run."), vec!["run.done"; JOBS as usize]);
    assert_eq!(topics(&node, "finding."), ["finding.opened"; 3]);
}

#[test]
fn a_worker_waits_for_a_core_that_is_away_and_goes_on() {
    let node = node();
    let mut first = core(&node);
    let worker = worker(&node);
    first.signal(Signal::KILL);
    first.wait();
    worker.wait_for_line("core.unreachable");
    let _second = core(&node);
    assert_eq!(run_profile(&node, "watch")["job"]["state"], "done");
    worker.stop();
}

/// An answer that no worker can take is no core that is away: the job ends, and the worker goes on to the next.
#[test]
fn an_answer_that_is_too_large_ends_the_job() {
    let node = node();
    let mut large = true;
    let _core = node.core_behind(move |first, _| {
        let asked = first.starts_with("GET /v1/profiles?name=") && std::mem::take(&mut large);
        asked.then(|| {
            let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n".to_vec();
            answer.resize(answer.len() + 9_000_000, b' ');
            answer
        })
    });
    until("the shipped profiles", || (get(&node, "/v1/profiles")["profiles"].as_array()?.len() == 3).then_some(()));
    let worker = worker(&node);
    let jobs: Vec<_> =
        (0..2).map(|_| post(&node, "/v1/jobs", &json!({"kind": "run", "profile": "files", "max_attempts": 1}))["id"].clone()).collect();
    let failed = job_in(&node, &jobs[0], "failed");
    assert!(failed["error"].as_str().unwrap().contains("[core.answer] core's answer is too large"), "{failed}");
    job_in(&node, &jobs[1], "done");
    worker.stop();
}

#[test]
fn a_replay_that_differs_says_what() {
    let node = node();
    let _core = core(&node);
    let worker = worker(&node);
    run_profile(&node, "watch");
    worker.stop();
    // The same plan and inputs under another run, whose result claims something else.
    let (_child, owner) = holder();
    let job = post(&node, "/v1/jobs", &json!({"kind": "run", "profile": "watch"}))["id"].clone();
    let leased = post(&node, "/v1/jobs/lease", &json!({"owner": owner, "kinds": ["run"], "lease_s": 600}));
    let token = &leased["token"];
    let run = post(&node, "/v1/runs", &json!({"job_id": job, "token": token, "profile": "watch", "profile_version": 1}))["id"].clone();
    assert_eq!(node.run(&["ai", "replay", &run.to_string(), "--format", "json"]).fault()["code"], "run.not-done");
    let first = get(&node, "/v1/runs/1");
    let mut result = get(&node, &format!("/v1/artifacts/{}/content", first["result_artifact"]));
    let kept = result["findings"].as_array_mut().unwrap().pop().unwrap();
    let put = post(&node, &format!("/v1/artifacts?kind=result&name=r&run={run}"), &result)["id"].clone();
    post(&node, &format!("/v1/runs/{run}"), &json!({"token": token, "plan_artifact": first["plan_artifact"]}));
    let report = json!({"token": token, "evidence": first["inputs_artifact"], "result_artifact": put, "findings": []});
    post(&node, &format!("/v1/runs/{run}/report"), &report);
    let ran = node.run(&["ai", "replay", &run.to_string(), "--format", "json"]);
    assert_eq!((ran.code, &ran.fault()["code"]), (50, &json!("ai.replay-differs")));
    assert_eq!(ran.fault()["details"]["differs"]["only_b"], json!([kept["key"]]));
}

/// A process that can hold a job.
fn holder() -> (KilledChild, Value) {
    let child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let ticks: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let owner = json!({"role": "ai", "pid": child.id(), "start_ticks": ticks, "boot_id": boot.trim()});
    (KilledChild(child), owner)
}

struct KilledChild(std::process::Child);

impl Drop for KilledChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn garbage_is_refused_with_file_line_and_key() {
    let node = node();
    let _core = core(&node);
    let bad = node.put("bad.toml", "name = \"x\"\nversion = 1\ndescription = \"d\"\n[[step]]\naction = \"portscan\"\n");
    for verb in ["check", "add"] {
        let ran = node.run(&["profiles", verb, bad.to_str().unwrap(), "--format", "json"]);
        let fault = ran.fault();
        assert_eq!((ran.code, &fault["code"]), (20, &json!("profile.invalid")), "{ran:?}");
        assert_eq!(
            (&fault["details"]["file"], &fault["details"]["line"], &fault["details"]["key"]),
            (&json!("ROOT/bad.toml"), &json!(5), &json!("step.action"))
        );
    }
    assert_eq!(get(&node, "/v1/profiles")["profiles"].as_array().unwrap().len(), 3, "nothing was added");
    let good = node.put("good.toml", "name = \"x\"\nversion = 1\ndescription = \"d\"\n[[step]]\naction = \"neighbours\"\n");
    node.run(&["profiles", "add", good.to_str().unwrap()]).ok();
    node.run(&["profiles", "add", good.to_str().unwrap()]).ok();
    node.put("good.toml", "name = \"x\"\nversion = 1\ndescription = \"other\"\n[[step]]\naction = \"neighbours\"\n");
    assert_eq!(node.run(&["profiles", "add", good.to_str().unwrap(), "--format", "json"]).fault()["code"], "profile.changed");
    assert_eq!(node.run(&["ai", "run", "nope", "--format", "json"]).fault()["code"], "profile.unknown");

    node.put("etc/smolotchi/config.d/90-policy.toml", "[policy]\n\nmax_risk = \"all\"\n");
    let mut refused = Service::start(node.as_uid(&["--format", "json", "ai"], WORKER));
    let line = refused.wait_for_line("config.invalid");
    let error: Value = serde_json::from_str(&line).unwrap();
    let details = &error["error"]["details"];
    assert!(details["file"].as_str().unwrap().ends_with("/etc/smolotchi/config.d/90-policy.toml"), "{details}");
    assert_eq!((&details["line"], &details["key"]), (&json!(3), &json!("policy.max_risk")));
    assert_eq!(refused.wait(), 20);
}

#[test]
fn the_worker_may_write_its_runs_and_nothing_else() {
    need_root();
    let node = node();
    let _core = core(&node);
    let _worker = worker(&node);
    assert_eq!(run_profile(&node, "files")["job"]["state"], "done", "as the user of the worker");
    for uid in [WORKER, STRANGER] {
        for args in [&["baseline", "set", "watch"][..], &["baseline", "clear", "watch"], &["ai", "run", "watch"]] {
            let ran = node.ran(node.as_uid(args, uid).arg("--format=json").output().unwrap());
            assert_eq!((ran.code, &ran.fault()["code"]), (20, &json!("core.refused")), "{uid} {args:?}");
        }
        let ran = node.ran(node.as_uid(&["findings", "list", "--format", "json"], uid).output().unwrap());
        assert_eq!(ran.ok().json()["open"], 2);
    }
    let mut stranger = Service::start(node.as_uid(&["ai"], STRANGER));
    stranger.wait_for_line("core.refused");
    assert_eq!(stranger.wait(), 20);
}

#[test]
fn what_not_everybody_may_read_is_not_copied() {
    let node = node();
    let secret = node.put("etc/smolotchi/token", "secret");
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o640)).unwrap();
    let _core = core(&node);
    let _worker = worker(&node);
    let (job, stage) = asks(&node);
    post(&node, &format!("/v1/stages/{stage}/approve"), &json!({"why": "test"}));
    job_in(&node, &job, "done");
    let kept = get(&node, "/v1/artifacts?run=1&kind=configuration")["artifacts"][0]["id"].clone();
    let copy = get(&node, &format!("/v1/artifacts/{kept}/content"));
    assert_eq!(copy.as_object().unwrap().keys().collect::<Vec<_>>(), ["/etc/smolotchi/config.d/50-local.toml"]);
    assert!(findings(&node).contains(&row("kept/etc/smolotchi/token", "open", 1)), "{:?}", findings(&node));
    assert!(!is_root() || findings(&node).iter().any(|(key, ..)| key == "file/etc/smolotchi/token"));
}
