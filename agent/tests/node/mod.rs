//! A node of its own for each test: a root folder, the real binary, a real core on a real socket.
//!
//! As root the services run as `nobody`, as on a machine they run as a user of their own.
#![allow(dead_code, reason = "each test binary uses its part")]

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// The uid of services when the tests run as root.
pub const SERVICE: u32 = 65_534;
/// A uid that owns nothing.
pub const STRANGER: u32 = 54_321;

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Tests about users need root; saying nothing would look like a pass.
pub fn need_root() {
    assert!(is_root(), "this test changes users: run it as root");
}

pub struct Node {
    dir: tempfile::TempDir,
    program: PathBuf,
}

/// What a command did, with the node's folder written as ROOT.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The error on standard error, of `--format json`.
    pub fn fault(&self) -> Value {
        let line = self.stderr.lines().find(|line| line.starts_with("{\"error\"")).unwrap_or_else(|| panic!("no error: {self:?}"));
        serde_json::from_str::<Value>(line).unwrap()["error"].clone()
    }

    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

impl Node {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        // The build folder may be closed to the services' user.
        let program = dir.path().join("smolotchi");
        let built = env!("CARGO_BIN_EXE_smolotchi");
        if std::fs::hard_link(built, &program).is_err() {
            // Not by this process: a child that another test forks meanwhile would hold the file open for writing, and it
            // could not be run.
            assert!(Command::new("cp").arg(built).arg(&program).status().unwrap().success());
        }
        let node = Node { dir, program };
        for folder in [node.path("var/lib/smolotchi"), node.path("run/smolotchi/core")] {
            std::fs::create_dir_all(&folder).unwrap();
            node.give(&folder);
        }
        node.give(&node.path("run/smolotchi"));
        node
    }

    /// Makes a file or folder the services'.
    pub fn give(&self, path: &Path) {
        if is_root() {
            chown(path, Some(SERVICE), Some(SERVICE)).unwrap();
        }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub fn put(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn database(&self) -> PathBuf {
        self.path("var/lib/smolotchi/smolotchi.db")
    }

    pub fn socket(&self) -> PathBuf {
        self.path("run/smolotchi/core.sock")
    }

    /// The program on this node, with nothing of the outer environment that could change it.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.dir.path()).args(args).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        command
    }

    /// The program as the services' user.
    pub fn service(&self, args: &[&str]) -> Command {
        self.as_uid(args, SERVICE)
    }

    pub fn as_uid(&self, args: &[&str], uid: u32) -> Command {
        let mut command = self.command(args);
        if is_root() {
            command.uid(uid).gid(uid);
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        self.ran(self.command(args).output().unwrap())
    }

    pub fn run_as_service(&self, args: &[&str]) -> Ran {
        self.ran(self.service(args).output().unwrap())
    }

    pub fn run_with_input(&self, args: &[&str], input: &str) -> Ran {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let writer = std::thread::spawn(move || {
            // A program that refuses its input stops reading it.
            let _ = stdin.write_all(input.as_bytes());
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        self.ran(output)
    }

    pub fn ran(&self, output: Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(&self.dir.path().display().to_string(), "ROOT");
        Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Starts core and waits until it is ready.
    pub fn core(&self) -> Service {
        let socket = self.socket();
        let core = Service::start(self.service(&["core", "--socket", socket.to_str().unwrap()]));
        core.wait_for_line("is ready");
        core
    }

    /// Starts core behind another that stands at its socket: told of each request's first line and where core is, `between` answers
    /// in core's place, or leaves that to core. Core then sees this process as the caller.
    pub fn core_behind(&self, mut between: impl FnMut(&str, &Path) -> Option<Vec<u8>> + Send + 'static) -> Service {
        let behind = self.path("run/smolotchi/core/behind.sock");
        let core = Service::start(self.service(&["core", "--socket", behind.to_str().unwrap()]));
        core.wait_for_line("is ready");
        let listener = UnixListener::bind(self.socket()).unwrap();
        std::fs::set_permissions(self.socket(), PermissionsExt::from_mode(0o666)).unwrap();
        std::thread::spawn(move || {
            for caller in listener.incoming().map_while(Result::ok) {
                let mut asked = BufReader::new(caller.try_clone().unwrap());
                let mut first = String::new();
                if asked.read_line(&mut first).unwrap_or(0) == 0 {
                    continue;
                }
                let own = between(&first, &behind);
                let there = UnixStream::connect(&behind);
                std::thread::spawn(move || {
                    let mut caller = caller;
                    if let Some(answer) = own {
                        let mut line = String::new();
                        while asked.read_line(&mut line).is_ok_and(|read| read > 2) {
                            line.clear();
                        }
                        // A caller may hang up before it has all.
                        let _ = caller.write_all(&answer);
                        return;
                    }
                    // Core may be on its way out.
                    let Ok(mut there) = there else { return };
                    let mut to = there.try_clone().unwrap();
                    std::thread::spawn(move || {
                        let _ = to.write_all(first.as_bytes());
                        let _ = std::io::copy(&mut asked, &mut to);
                    });
                    let _ = std::io::copy(&mut there, &mut caller);
                    let _ = caller.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        core
    }

    /// One call of core's API by this process; status and body.
    pub fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, body) = self.call_raw(method, path, body.as_bytes());
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// The content of an artifact.
    pub fn content(&self, id: i64) -> (u16, Vec<u8>) {
        self.call_raw("GET", &format!("/v1/artifacts/{id}/content"), b"")
    }

    pub fn call_raw(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: core\r\ncontent-length: {length}\r\n\r\n").unwrap();
        // Who refuses a body need not read it.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer to {method} {path}"));
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), answer[end + 4..].to_vec())
    }
}

/// A running service; killed when dropped.
pub struct Service {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Service {
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Service::start_with_input(command)
    }

    /// As `start`, with the standard input that the command has.
    pub fn start_with_input(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("service: {line}");
                let _ = sender.send(line);
            }
        });
        Service { child, lines }
    }

    /// The next line of standard error that holds `text`.
    pub fn wait_for_line(&self, text: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|error| panic!("no line with {text:?}: {error}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end; the exit code, or the signal as a negative number.
    pub fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        until("the service's end", || self.child.try_wait().unwrap())
            .code()
            .unwrap_or_else(|| -self.child.wait().unwrap().signal().unwrap())
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGTERM, and a clean end.
    pub fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        assert_eq!(self.wait(), 0, "a clean stop");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a state with a deadline.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
