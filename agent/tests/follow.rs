//! `events list --follow` on a real core: what comes after it began, once each, at once, until it is told to stop.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod node;

use node::{DEADLINE, Node, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// A follower and the lines that it printed so far.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(node: &Node, args: &[&str]) -> Self {
        let args: Vec<_> = ["events", "list", "--follow"].iter().chain(args).copied().collect();
        let mut child = node.command(&args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Follower { child, lines }
    }

    /// The next line, while the follower goes on.
    fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("no line came")
    }

    fn event(&self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Tells it to stop: the exit code, the lines that nobody has read, and what it complained of.
    fn stop(mut self, signal: Signal) -> (i32, Vec<String>, String) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
        let ended = until("the follower's end", || self.child.try_wait().unwrap());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (ended.code().unwrap_or(-1), self.lines.iter().collect(), said)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn append(node: &Node, topic: &str, body: &str) {
    node.run(&["events", "append", topic, body]).ok();
}

#[test]
fn what_comes_is_shown_as_it_comes_one_event_a_line() {
    let node = Node::new();
    let core = node.core();
    append(&node, "door.opened", "front door, old");
    let json = Follower::start(&node, &["--topic", "door", "--search", "FRONT", "--format", "json", "--limit", "1"]);
    let text = Follower::start(&node, &["--limit", "1"]);
    // What it begins with says that it has begun.
    assert_eq!(json.event()["body"], "front door, old");
    assert!(text.line().contains("front door, old"));
    append(&node, "window.opened", "front window");
    append(&node, "door.opened", "back door");
    append(&node, "door.opened", "the\nfront door");
    let event = json.event();
    assert_eq!((&event["topic"], &event["body"]), (&json!("door.opened"), &json!("the\nfront door")));
    for expected in ["front window", "back door", "the front door"] {
        let line = text.line();
        assert!(line.contains(expected), "{line}");
    }
    // Core goes and comes back, as at an upgrade; its own events are no doors.
    core.stop();
    let _core = node.core();
    append(&node, "door", "another front");
    assert_eq!(json.event()["body"], "another front");
    assert_eq!(json.lines.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout), "each once");
    assert_eq!(json.stop(Signal::INT), (0, vec![], String::new()));
    while !text.line().contains("another front") {}
    assert_eq!(text.stop(Signal::TERM), (0, vec![], String::new()));
}

#[test]
fn a_reader_who_has_seen_enough_ends_it() {
    let node = Node::new();
    let _core = node.core();
    let mut child = node.command(&["events", "list", "--follow"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    append(&node, "door.opened", "front");
    let ended = until("the follower's end", || child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
}

/// An event that comes between the follower's first two questions is the first match of a search that had none.
#[test]
fn the_first_match_is_not_lost_while_the_follower_begins() {
    let node = Node::new();
    let mut asked = 0;
    let _core = node.core_behind(move |first, core| {
        if first.starts_with("GET /v1/events") {
            asked += 1;
            if asked == 2 {
                let body = json!({"events": [{"topic": "door.opened", "body": "front"}]}).to_string();
                let request = format!("POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let mut there = UnixStream::connect(core).unwrap();
                there.write_all(request.as_bytes()).unwrap();
                let mut answer = String::new();
                there.read_to_string(&mut answer).unwrap();
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            }
        }
        None
    });
    let follower = Follower::start(&node, &["--search", "front", "--format", "json"]);
    assert_eq!(follower.event()["body"], "front");
    append(&node, "door.opened", "front again");
    assert_eq!(follower.event()["body"], "front again");
    assert_eq!(follower.stop(Signal::INT), (0, vec![], String::new()));
}

/// Core answers a search that takes long, or much, in parts; whoever looks sees the whole.
#[test]
fn what_core_answers_in_parts_is_shown_whole() {
    let node = Node::new();
    let _core = node.core_behind(|first, _| {
        let part: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 25\r\n\r\n{\"events\":[],\"next\":1000}";
        (first.contains("search=front") && !first.contains("before=") && !first.contains("after=")).then(|| part.to_vec())
    });
    append(&node, "door.opened", "front");
    let listed = node.run(&["events", "list", "--search", "front", "--format", "json"]).ok().json();
    assert_eq!(listed["events"][0]["body"], "front", "{listed}");
    let follower = Follower::start(&node, &["--search", "front", "--format", "json"]);
    assert_eq!(follower.event()["body"], "front");
    append(&node, "door.opened", "front again");
    assert_eq!(follower.event()["body"], "front again");
    assert_eq!(follower.stop(Signal::INT), (0, vec![], String::new()));
}
