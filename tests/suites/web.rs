//! Many callers of web at once, and slow ones, by the tools that are made for it (slowhttptest, wrk): whatever 10,000 of them do, who asks how
//! the machine is gets an answer in time, and web stays within what it may have and gives back what it took.
//!
//! `make test` does this on Debian 12 for some seconds each, `make test-full` on both Debians for longer (WHOLE=1). Needs root and `make dist-demo`. What a single
//! request can be: agent/tests/hostile.rs. How fast web is: `make bench`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use smolotchi_lab::{Disk, Lab, Node, Release, dist, wait_until};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(90);
/// How long a caller waits for its answer meanwhile, at most; in a crowd that does not fit into the kernel's queue it has to knock more than once.
const PATIENCE: Duration = Duration::from_secs(30);
/// What web may have at most: memory of its own in KiB (its unit lets it have 40), and open files (1024).
const MAX_KIB: u64 = 16 * 1024;
const MAX_FILES: u64 = 512;
/// What it may keep of it afterwards, in KiB.
const KEPT_KIB: u64 = 1024;

/// The page of the host's tools, in the node's network.
const PAGE: &str = "http://127.0.0.1:8080";

fn seconds() -> String {
    if std::env::var("WHOLE").is_ok() { "60" } else { "15" }.to_owned()
}

/// A command of the host in the node's network: it reaches what listens at the node's loopback.
fn inside(lab: &Lab, words: &[&str]) -> Command {
    let init = lab.node(1).status().unwrap().init.unwrap().to_string();
    let mut command = Command::new("nsenter");
    // Twice, because the node's init has a number that only the supervisor's own /proc knows.
    command.args(["-t", &lab.supervisor().to_string(), "-m", "-p", "--", "nsenter", "-t", &init, "-n", "--"]).args(words);
    command
}

/// Asks how the machine is; the answer's first line and how long it took.
fn ask(node: &Node) -> (String, Duration) {
    const SCRIPT: &str =
        r#"exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n' >&3; head -n 1 <&3"#;
    let began = Instant::now();
    let said = node.run(&["timeout", &PATIENCE.as_secs().to_string(), "bash", "-c", SCRIPT]).unwrap();
    (said.stdout.trim().to_owned(), began.elapsed())
}

fn web(node: &Node) -> String {
    node.run_ok(&["systemctl", "show", "-P", "MainPID", "smolotchi-web.service"]).unwrap().trim().to_owned()
}

/// Memory of its own in KiB, and open files, of one process.
fn has(node: &Node, pid: &str) -> (u64, u64) {
    let text = node.sh_ok(&format!("grep RssAnon /proc/{pid}/status; ls /proc/{pid}/fd | wc -l")).unwrap();
    let mut numbers = text.split_ascii_whitespace().filter_map(|word| word.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Lets a tool loose on web, and holds web to its promise meanwhile and afterwards. What the tool said.
fn endures(lab: &Lab, name: &str, words: &[&str]) -> String {
    let node = lab.node(1);
    // What every web has seen, so that only the tool makes a difference.
    assert_eq!(ask(node).0, "HTTP/1.1 200 OK");
    let pid = web(node);
    let before = has(node, &pid).0;
    let mut tool = inside(lab, words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut most, mut slowest, mut asked) = ((0, 0), Duration::ZERO, 0);
    let ended = loop {
        let (line, took) = ask(node);
        assert_eq!(line, "HTTP/1.1 200 OK", "{name}: after {asked} answers, {took:?}");
        let (kib, files) = has(node, &pid);
        most = (most.0.max(kib), most.1.max(files));
        (slowest, asked) = (slowest.max(took), asked + 1);
        if let Some(ended) = tool.try_wait().unwrap() {
            break ended;
        }
    };
    let output = tool.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(ended.success(), "{name}: {said}");
    assert!(most.0 <= MAX_KIB && most.1 <= MAX_FILES, "{name}: {most:?} KiB and files");
    assert_eq!(web(node), pid, "{name}: it was restarted");
    let mut after = (0, 0);
    wait_until(&format!("{name}: what it took is given back"), DEADLINE, || {
        after = has(node, &pid);
        Ok(after.0 <= before + KEPT_KIB && after.1 <= 64)
    })
    .unwrap_or_else(|fault| panic!("{fault}: {before} KiB before, {after:?} KiB and files now"));
    eprintln!(
        "{name}: {asked} answers, the slowest after {slowest:?}; {before} KiB before, {} at most, {} after; {} files at most",
        most.0, after.0, most.1
    );
    said
}

/// What slowhttptest's own probe saw last: whether the page could be had.
fn could_be_had(said: &str) -> bool {
    said.lines().filter_map(|line| line.split("service available:").nth(1)).next_back().is_some_and(|word| word.contains("YES"))
}

fn slow(lab: &Lab, name: &str, mode: &[&str]) {
    let seconds = seconds();
    let mut words = vec!["slowhttptest", "-c", "10000", "-r", "3000", "-l", &seconds, "-p", "5", "-v", "1"];
    words.extend(mode);
    let said = endures(lab, name, &words);
    assert!(could_be_had(&said), "{name}: {said}");
}

fn besieged(release: Release) {
    let lab = dist::lab(release, Disk::Overlay, Vec::new()).unwrap();
    let node = lab.node(1);
    node.sh_ok(&format!("dpkg -i {}", dist::debs("0.2.0"))).unwrap();
    node.wait_healthy().unwrap();
    // For something to read slowly.
    node.append_events("kept", 200).unwrap();
    let (page, list) = (format!("{PAGE}/"), format!("{PAGE}/api/timeline"));
    slow(&lab, "10,000 that never finish their head", &["-H", "-i", "3", "-u", &page]);
    slow(&lab, "10,000 that never finish their body", &["-B", "-i", "3", "-s", "8192", "-u", &page]);
    slow(&lab, "10,000 that never take their answer", &["-X", "-w", "1", "-y", "1", "-n", "5", "-z", "1", "-u", &list]);
    let said = endures(&lab, "10,000 in a hurry", &["wrk", "-t", "2", "-c", "10000", "-d", &format!("{}s", seconds()), &page]);
    assert!(!said.contains("Non-2xx"), "{said}");
    // None of it is worth more than the journal's attention.
    let told = node.sh_ok("journalctl -u smolotchi-web.service -o cat | wc -l").unwrap();
    assert!(told.trim().parse::<u32>().unwrap() < 50, "web said {told} lines");
}

#[test]
fn whatever_ten_thousand_callers_do_the_next_one_is_answered() {
    besieged(Release::Bookworm);
    if std::env::var("WHOLE").is_ok() {
        besieged(Release::Trixie);
    }
}
