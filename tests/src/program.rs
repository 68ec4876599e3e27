//! Running a program to its end, with its output captured and a deadline. Everything in the lab that starts a process
//! and waits for it goes through here; nothing here knows what a node is.

use crate::fault;
use smolotchi_operator::{Code, Fault, Result};
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How a program ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code; 128 + N when signal N ended it, as a shell counts.
    pub status: i32,
    /// Standard output, with anything that isn't UTF-8 replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl Output {
    /// True when it ended with 0.
    pub fn ok(&self) -> bool {
        self.status == 0
    }
}

/// The same with the bytes as they came.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl From<Raw> for Output {
    fn from(raw: Raw) -> Self {
        Output {
            status: raw.status,
            stdout: String::from_utf8_lossy(&raw.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&raw.stderr).into_owned(),
        }
    }
}

/// What a program reads.
pub(crate) enum Input {
    /// Nothing: end of file at once.
    Nothing,
    /// These bytes.
    Bytes(Vec<u8>),
    /// This open file or pipe.
    From(Stdio),
}

/// Runs `command` to its end. A program that is still running at the deadline is killed with its process group and
/// becomes a fault. Output that a left-over background process would write later is not waited for.
pub(crate) fn capture(mut command: Command, input: Input, deadline: Duration) -> Result<Raw> {
    let words = words(&command);
    let (stdin, bytes) = match input {
        Input::Nothing => (Stdio::null(), None),
        Input::Bytes(bytes) => (Stdio::piped(), Some(bytes)),
        Input::From(stdio) => (stdio, None),
    };
    // Its own group, so that a late one is killed with all its children.
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| missing(&words, &error))?;
    let writer = child.stdin.take().zip(bytes).map(|(mut pipe, bytes)| {
        // A program that stops reading early says so by its exit code.
        std::thread::spawn(move || drop(pipe.write_all(&bytes)))
    });
    let stdout = Collector::start(child.stdout.take());
    let stderr = Collector::start(child.stderr.take());
    let ended = wait(&mut child, deadline)?;
    if let Some(writer) = writer.filter(|_| ended.is_some()) {
        let _ = writer.join();
    }
    let (stdout, stderr) = (stdout.finish(), stderr.finish());
    match ended {
        Some(status) => Ok(Raw { status: code(status), stdout, stderr }),
        None => Err(fault("a command did not end in time")
            .fact("command", words)
            .fact("deadline_s", deadline.as_secs())
            .fact("stdout", tail(&stdout))
            .fact("stderr", tail(&stderr))),
    }
}

/// Runs a program of the host and demands exit code 0. Returns its standard output.
pub(crate) fn host(words: &[&str]) -> Result<String> {
    let Some((program, arguments)) = words.split_first() else { return Err(fault("an empty command")) };
    let mut command = Command::new(program);
    command.args(arguments);
    demand(command, Duration::from_secs(60))
}

/// Runs a command of the host within a deadline and demands exit code 0. Returns its standard output.
pub(crate) fn demand(command: Command, deadline: Duration) -> Result<String> {
    let words = words(&command);
    let output = Output::from(capture(command, Input::Nothing, deadline)?);
    if output.ok() { Ok(output.stdout) } else { Err(failed(&words, &output)) }
}

/// The fault for a command that ended with something else than 0.
pub(crate) fn failed(words: &str, output: &Output) -> Fault {
    fault("a command failed")
        .fact("command", words)
        .fact("status", output.status)
        .fact("stdout", tail(output.stdout.as_bytes()))
        .fact("stderr", tail(output.stderr.as_bytes()))
}

/// A command as one line for messages.
pub(crate) fn words(command: &Command) -> String {
    std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The exit code of a process, as a shell counts.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// The end of a long output, for the facts of a fault.
pub(crate) fn tail(bytes: &[u8]) -> String {
    const KEPT: usize = 4000;
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(KEPT)..]);
    text.trim().to_owned()
}

fn missing(words: &str, error: &std::io::Error) -> Fault {
    let program = words.split(' ').next().unwrap_or(words);
    if error.kind() == std::io::ErrorKind::NotFound {
        Fault::new(Code::ProgramMissing, format!("the program {program} is missing"))
    } else {
        fault(format!("could not start {program}")).fact("command", words).cause(error)
    }
}

fn wait(child: &mut Child, deadline: Duration) -> Result<Option<ExitStatus>> {
    let until = Instant::now() + deadline;
    let mut pause = Duration::from_millis(1);
    loop {
        let ended = child.try_wait().map_err(|error| fault("could not wait for a process").cause(&error))?;
        if ended.is_some() {
            return Ok(ended);
        }
        if Instant::now() >= until {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = child.kill();
            let _ = child.wait();
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Collects one stream in a thread.
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    fn start(stream: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let thread = stream.map(|mut stream| {
            let bytes = Arc::clone(&bytes);
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
                }
            })
        });
        Collector { bytes, thread }
    }

    /// What came. A daemon that inherited the stream keeps it open for ever, so its end is awaited for a moment only.
    fn finish(self) -> Vec<u8> {
        if let Some(thread) = self.thread {
            let until = Instant::now() + Duration::from_secs(1);
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
