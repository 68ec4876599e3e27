//! Exit code, standard output and standard error of every verb, together, in both formats; and every error that the agent can raise.
//!
//! Each file of `snapshots/` is a story on a node of its own. Its lines are read as commands:
//!   `$ ARGUMENTS`         run as a table and then as JSON
//!   `$1 ARGUMENTS`        run once, as it stands there (for what can't be done twice)
//!   `$! ARGUMENTS`        run once before the others, and not looked at
//!   `#! core`             start core; `#! stop` stops it
//!   `#! answers STATUS BODY`  something that isn't core listens at its socket, and says this to everybody
//!   `#! call METHOD PATH BODY`  one call of core's API, as root; TOKEN is the token that an earlier call was
//!                         given, SELF this process as an owner of leases
//!   `#! as USER`          who runs what follows: `root`, `service` (core's own user), `stranger`
//!   `#! put PATH TEXT`    write a file, with `\n` for a new line; of the service's user below var/lib and run
//!   `#! sh COMMAND`       run a shell command in the node's folder, as root
//!   `#! input TEXT`       standard input of the next command
//!   `#! sql STATEMENT`    change the database, while core is down
//! Other lines that begin with `#` are remarks; the rest is what came out. `UPDATE=1` writes it anew: then read the difference.
//!
//! What can't be the same twice is replaced by the few rules in [`RULES`], and nowhere else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod node;

use node::{Node, Ran, SERVICE, STRANGER, Service, need_root};
use regex_lite::Regex;
use smolotchi_operator::Code;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is never the same twice: a pattern, and what stands there instead.
const RULES: &[(&str, &str)] = &[
    // Moments, in RFC 3339 and as the display has them.
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "MINUTE"),
    // This build.
    (concat!(r"\b", env!("CARGO_PKG_VERSION"), r"\b"), "VERSION"),
    // Where a default stands in its file.
    (r#"built in(:|","line":)\d+"#, "built in${1}LINE"),
    // Checksums, of migrations for one.
    (r"\b[0-9a-f]{64}\b", "SHA256"),
    // Identities of boots.
    (r"\b[0-9a-f]{32}\b", "BOOT"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
    // Processes in words.
    (r"\bai \(\d+\)", "ai (PID)"),
    (r"\bprocess \d+\b", "process PID"),
    // How long something ran or took, how often the loop turned, how much room there is.
    (
        r#""(uptime_s|heartbeat_seq|seq|micros|bytes|pid|start_ticks|boottime_ms|duration_ms|undo_ms|bytes_before|bytes_after|expires_in_s)":\d+"#,
        r#""$1":N"#,
    ),
    (r"\b\d+ (ms|KiB|MiB|bytes|s)\b( \d+ s\b)?", "N $1"),
    (r"\b\d+ %", "N %"),
    (r"\b\d+ -> \d+ bytes\b", "N -> N bytes"),
    (r"\b(number|turn) \d+\b", "$1 N"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots")
}

fn update() -> bool {
    std::env::var_os("UPDATE").is_some()
}

/// The files, by name.
fn stories() -> BTreeMap<String, String> {
    let mut stories = BTreeMap::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.extension().and_then(|extension| extension.to_str()), Some("txt"), "{path:?}");
        stories.insert(path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap());
    }
    stories
}

/// What may differ from run to run is taken out. A table whose cells changed has no columns any more.
struct Rules(Vec<(Regex, &'static str)>);

impl Rules {
    fn new() -> Self {
        Rules(RULES.iter().map(|(pattern, instead)| (Regex::new(pattern).unwrap(), *instead)).collect())
    }

    fn apply(&self, text: &str) -> String {
        let mut plain = text.to_owned();
        for (pattern, instead) in &self.0 {
            plain = pattern.replace_all(&plain, *instead).into_owned();
        }
        if plain == text { plain } else { Regex::new("  +").unwrap().replace_all(&plain, "  ").into_owned() }
    }
}

/// This process, as leases name their owner.
fn owner() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().replace('-', "");
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let start = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap();
    format!(r#"{{"role":"ai","pid":{},"start_ticks":{start},"boot_id":"{boot}"}}"#, std::process::id())
}

/// A line's words; blanks within '…' belong to the word.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

struct Player {
    node: Node,
    core: Option<Service>,
    user: String,
    input: Option<String>,
    token: String,
    rules: Rules,
}

impl Player {
    fn new() -> Self {
        Player { node: Node::new(), core: None, user: "root".into(), input: None, token: String::new(), rules: Rules::new() }
    }

    /// The story told again.
    fn tell(mut self, story: &str) -> String {
        let mut told = String::new();
        for line in story.lines() {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("#!", direction) => {
                    writeln!(told, "{line}").unwrap();
                    self.follow(direction);
                }
                ("$", arguments) => {
                    writeln!(told, "{line}").unwrap();
                    let input = self.input.take();
                    for format in ["table", "json"] {
                        self.input.clone_from(&input);
                        let ran = self.run(&[&["--format".to_owned(), format.to_owned()], &words(arguments)[..]].concat());
                        self.write(&mut told, &format!("[{format}] "), &ran);
                    }
                }
                ("$1", arguments) => {
                    writeln!(told, "{line}").unwrap();
                    let ran = self.run(&words(arguments));
                    self.write(&mut told, "", &ran);
                }
                ("$!", arguments) => {
                    writeln!(told, "{line}").unwrap();
                    self.run(&words(arguments)).ok();
                }
                _ if line.starts_with('#') => writeln!(told, "{line}").unwrap(),
                _ => {}
            }
        }
        told
    }

    fn follow(&mut self, direction: &str) {
        let (what, rest) = direction.split_once(' ').unwrap_or((direction, ""));
        match what {
            "core" => self.core = Some(self.node.core()),
            "stop" => self.core.take().unwrap().stop(),
            "answers" => {
                let (status, body) = rest.split_once(' ').unwrap();
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                let listener = UnixListener::bind(self.node.socket()).unwrap();
                std::thread::spawn(move || {
                    for stream in listener.incoming() {
                        let mut stream = stream.unwrap();
                        // The first piece is all of it: these requests are small.
                        let _ = stream.read(&mut [0; 4096]);
                        let _ = stream.write_all(answer.as_bytes());
                    }
                });
            }
            "call" => {
                let mut parts = rest.splitn(3, ' ');
                let (method, path) = (parts.next().unwrap(), parts.next().unwrap().replace("TOKEN", &self.token));
                let (status, answer) = self.node.call(
                    method,
                    &path,
                    &parts.next().unwrap_or_default().replace("TOKEN", &self.token).replace("SELF", &owner()),
                );
                assert!((200..300).contains(&status), "{rest}: {status} {answer}");
                if let Some(token) = answer["token"].as_str() {
                    token.clone_into(&mut self.token);
                }
            }
            "as" => rest.clone_into(&mut self.user),
            "input" => self.input = Some(rest.replace("\\n", "\n")),
            "put" => {
                let (path, text) = rest.split_once(' ').unwrap_or((rest, ""));
                let path_there = self.node.put(path, &text.replace("\\n", "\n"));
                if path.starts_with("var/lib/smolotchi/") || path.starts_with("run/") {
                    self.node.give(&path_there);
                }
            }
            "sh" => {
                let done = Command::new("sh").args(["-ec", rest]).current_dir(self.node.path("")).status().unwrap();
                assert!(done.success(), "{rest}");
            }
            "sql" => {
                let done = Command::new("sqlite3").arg(self.node.database()).arg(rest).uid(SERVICE).gid(SERVICE).status().unwrap();
                assert!(done.success(), "{rest}");
            }
            other => panic!("no direction: {other}"),
        }
    }

    fn run(&mut self, arguments: &[String]) -> Ran {
        let root = self.node.path("").display().to_string();
        let arguments: Vec<String> = arguments.iter().map(|word| word.replace("ROOT/", &root)).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = match self.user.as_str() {
            "root" => self.node.command(&arguments),
            "service" => self.node.service(&arguments),
            "stranger" => self.node.as_uid(&arguments, STRANGER),
            other => panic!("no user: {other}"),
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that refuses its input stops reading it; what is given here goes into a pipe whole.
        let _ = stdin.write_all(self.input.take().unwrap_or_default().as_bytes());
        drop(stdin);
        self.node.ran(child.wait_with_output().unwrap())
    }

    fn write(&self, told: &mut String, format: &str, ran: &Ran) {
        writeln!(told, "{format}exit {}", ran.code).unwrap();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        for (mark, text) in [("  ", &ran.stdout), ("  ! ", &ran.stderr)] {
            let text = self
                .rules
                .apply(text)
                .replace(&format!("  {host}\n"), "  HOST\n")
                .replace(&format!("\"host\":\"{host}\""), "\"host\":\"HOST\"");
            for line in text.lines() {
                writeln!(told, "{}", format!("{mark}{line}").trim_end()).unwrap();
            }
            if !text.is_empty() && !text.ends_with('\n') {
                writeln!(told, "{mark}(no end of line)").unwrap();
            }
        }
        told.push('\n');
    }
}

/// The first lines that differ.
fn difference(kept: &str, told: &str) -> String {
    let at = kept.lines().zip(told.lines()).take_while(|(kept, told)| kept == told).count();
    let from = |text: &str| text.lines().skip(at.saturating_sub(3)).take(9).map(|line| format!("    {line}\n")).collect::<String>();
    format!("line {}: the file has\n{}now it is\n{}", at + 1, from(kept), from(told))
}

#[test]
fn every_story_is_told_as_before() {
    need_root();
    let mut wrong = Vec::new();
    let stories: Vec<_> = stories().into_iter().collect();
    // Mostly waiting for a core: two at a time.
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|part| {
                let stories = &stories;
                scope.spawn(move || {
                    let mine = stories.iter().skip(part).step_by(2);
                    mine.map(|(name, kept)| (name, kept, Player::new().tell(kept))).collect::<Vec<_>>()
                })
            })
            .collect();
        for (name, kept, told) in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
            if *kept != told && update() {
                std::fs::write(folder().join(format!("{name}.txt")), told).unwrap();
            } else if *kept != told {
                wrong.push(format!("{name}.txt, {}", difference(kept, &told)));
            }
        }
    });
    assert!(wrong.is_empty(), "UPDATE=1 takes this as right:\n{}", wrong.join("\n"));
}

/// What the program itself says that it can do: the names of its verbs, from the reference that it writes.
fn reference() -> (Vec<String>, String, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    Node::new().run(&["docs", dir.path().to_str().unwrap()]).ok();
    let page = std::fs::read_to_string(dir.path().join("commands.md")).unwrap();
    let names: Vec<String> = page.lines().filter_map(|line| line.strip_prefix("## smolotchi ")).map(str::to_owned).collect();
    (names, page, dir)
}

/// Verbs that `--help` doesn't show: of the maintainer scripts, the installer and the packaging.
const HIDDEN: &[&str] =
    &["maint postinst", "maint migrate", "maint snapshot", "maint restore", "maint rehearse", "maint release-toml", "docs"];

#[test]
fn every_verb_has_a_snapshot_in_both_formats() {
    let (names, ..) = reference();
    assert!(names.len() > 12, "{names:?}");
    let stories: String = stories().into_values().collect();
    let runs: Vec<(Vec<String>, bool)> = stories
        .lines()
        .filter_map(|line| {
            line.strip_prefix("$ ").map(|rest| (words(rest), true)).or_else(|| line.strip_prefix("$1 ").map(|rest| (words(rest), false)))
        })
        .collect();
    let of = |name: &str, both: bool, json: bool| {
        let verb: Vec<&str> = name.split(' ').collect();
        runs.iter().any(|(words, twice)| {
            let in_json = words.windows(2).any(|pair| pair == ["--format", "json"]);
            let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !["--format", "json"].contains(word)).collect();
            words.starts_with(&verb) && (*twice && both || !*twice && in_json == json)
        })
    };
    let group = |name: &String| names.iter().any(|other| other.starts_with(&format!("{name} ")));
    let hidden = HIDDEN.iter().map(|name| (*name).to_owned());
    let lacking: Vec<_> = names
        .iter()
        .filter(|name| !group(name))
        .cloned()
        .chain(hidden)
        .flat_map(|name| [(name.clone(), false), (name, true)])
        .filter(|(name, json)| !of(name, true, *json))
        .collect();
    assert!(lacking.is_empty(), "no snapshot (verb, in JSON): {lacking:#?}");
}

#[test]
fn every_verb_has_a_manual_page_and_completions_and_stands_in_the_reference() {
    let (names, page, dir) = reference();
    for name in &names {
        let file = dir.path().join(format!("man/smolotchi-{}.1", name.replace(' ', "-")));
        let manual = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(manual.contains(".SH NAME") && manual.contains(".SH SYNOPSIS"), "{name}");
    }
    for file in ["bash/smolotchi", "zsh/_smolotchi", "fish/smolotchi.fish"] {
        let script = std::fs::read_to_string(dir.path().join("completions").join(file)).unwrap();
        for word in names.iter().flat_map(|name| name.split(' ')) {
            assert!(script.contains(word), "{file} has no {word}");
        }
    }
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/commands.md");
    if update() {
        std::fs::write(&kept, &page).unwrap();
    }
    let kept = std::fs::read_to_string(&kept).unwrap();
    assert!(kept == page, "docs/reference/commands.md: UPDATE=1 writes it anew: {}", difference(&kept, &page));
}

/// Codes that the agent can raise and that no story shows, each with the reason.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("lease.held", "only workers take leases: agent/tests/work.rs"),
    ("lease.not-held", "only workers hold leases: agent/tests/work.rs"),
    ("io.disk-full", "needs a disk of its own: the suites fill one"),
    ("store.check-failed", "needs a migration that breaks its own promise: migrations/tests/migrating.rs"),
    ("store.not-in-schema", "only a build with an older schema raises it: 0.1.0 in the suites"),
    ("dependency.program-missing", "a warning of postinst, on a machine without sysusers: the suites' scripts"),
    ("dependency.program-failed", "another program's failure while a package is set up: the suites' scripts"),
    ("ai.replay-differs", "needs a worker: agent/tests/ai.rs"),
    ("run.failed", "needs a worker: agent/tests/ai.rs"),
    ("run.not-done", "needs a worker: agent/tests/ai.rs"),
    ("run.record", "needs records of another release"),
    // No verb leads there yet; the tests of core's API hold them.
    ("artifact.too-large", "no verb raises it yet"),
    ("core.busy", "needs two who ask at once for what takes long"),
    ("core.too-large", "a story of 64 KiB: agent/tests/work.rs"),
    ("job.lost", "only a worker sees it: agent/tests/work.rs"),
    ("job.not-held", "only a worker sees it: agent/tests/work.rs"),
    ("profile.changed", "no verb raises it yet"),
    ("run.invalid-finding", "no verb raises it yet"),
    ("run.not-held", "no verb raises it yet"),
];

/// The catalogue's codes that stand in the agent's and the store's sources.
fn raised() -> BTreeSet<&'static str> {
    fn read(dir: &Path, text: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                // What follows is tests.
                let source = std::fs::read_to_string(&path).unwrap();
                text.push_str(source.split("#[cfg(test)]\nmod tests").next().unwrap());
            }
        }
    }
    let mut text = String::new();
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    for dir in ["src", "../migrations/src"] {
        read(&own.join(dir), &mut text);
    }
    let named = Regex::new(r"\bCode::([A-Za-z]+)").unwrap();
    let names: BTreeSet<&str> = named.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()).collect();
    // These two come with every file operation, by way of Fault::io; the store names its codes in words.
    let by_name = |code: &&Code| {
        names.contains(format!("{code:?}").as_str())
            || [Code::Io, Code::DiskFull].contains(code)
            || text.contains(&format!("\"{}\"", code.as_str()))
    };
    Code::ALL.iter().filter(by_name).map(|code| code.as_str()).collect()
}

#[test]
fn every_error_of_the_agent_has_a_snapshot_or_a_reason() {
    let raised = raised();
    assert!(raised.len() > 20, "{raised:?}");
    let stories: String = stories().into_values().collect();
    let shown = |code: &str| stories.contains(&format!("error: [{code}]")) && stories.contains(&format!("\"code\":\"{code}\""));
    let lacking: Vec<_> = raised.iter().filter(|code| !shown(code) && !NOT_SHOWN.iter().any(|(other, _)| other == *code)).collect();
    assert!(lacking.is_empty(), "no snapshot in both formats and no reason: {lacking:#?}");
    // A reason that is none any more would hide the next one.
    let idle: Vec<_> = NOT_SHOWN.iter().filter(|(code, _)| shown(code) || !raised.contains(code)).collect();
    assert!(idle.is_empty(), "a reason for what has a snapshot, or isn't raised: {idle:#?}");
}
