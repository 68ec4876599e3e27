//! The tracer: runs one command on a node under ptrace, stops its whole process tree at every call that changes the disk,
//! and asks the conductor on the host what to do. It decides nothing itself.
//!
//! Two stages, so that no code runs between fork and exec: [`run`] starts this program again as [`become_traced`], which
//! asks to be traced, installs the filter and becomes the command. Where no conductor listens the command runs untraced.

use super::calls::{self, Disk};
use crate::fault;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use smolotchi_operator::Result;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// One call that is about to change the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Which traced command: `command`, `change`, `heal`.
    pub source: String,
    /// The program's name.
    pub program: String,
    /// The call.
    pub call: String,
    /// The file.
    pub path: String,
    /// The new name, for a rename or a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {} {}", self.source, self.program, self.call, self.path)?;
        self.to.as_ref().map_or(Ok(()), |to| write!(f, " -> {to}"))
    }
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub enum Order {
    /// It is made.
    Go,
    /// It isn't made and fails with this errno.
    Fail {
        /// The errno.
        errno: i32,
    },
    /// It isn't made and says that it went well.
    Pretend,
}

/// The second stage: becomes the command. Returns only when it can't.
pub fn become_traced(words: &[OsString]) -> Result<()> {
    let failed = |what: &str, error: &dyn std::error::Error| Err(fault(format!("could not {what}")).cause(error));
    if let Err(error) = ptrace::traceme().and_then(|()| raise(Signal::SIGSTOP)) {
        return failed("be traced", &error);
    }
    match calls::filter() {
        Ok(filter) => {
            if let Err(error) = seccompiler::apply_filter(&filter) {
                return failed("install the filter", &error);
            }
        }
        Err(error) => return failed("make the filter", &error),
    }
    become_command(words)
}

fn become_command(words: &[OsString]) -> Result<()> {
    let Some((program, arguments)) = words.split_first() else { return Err(fault("an empty command")) };
    let error = Command::new(program).args(arguments).exec();
    Err(fault("could not start the command").fact("program", program.to_string_lossy()).cause(&error))
}

/// Runs the command to the end of its whole process tree. Returns its exit code, as a shell counts.
pub fn run(socket: &Path, source: &str, words: &[OsString]) -> Result<u8> {
    let Ok(stream) = UnixStream::connect(socket) else {
        become_command(words)?;
        return Ok(127);
    };
    let disk = Disk::look().map_err(|error| fault("could not learn the mounts").cause(&error))?;
    let program = std::env::current_exe().map_err(|error| fault("could not learn this program's path").cause(&error))?;
    let child = Command::new(program)
        .args(["traced", "--"])
        .args(words)
        .spawn()
        .map_err(|error| fault("could not start the second stage").cause(&error))?;
    let root = Pid::from_raw(child.id() as i32);
    let mut tracer = Tracer { disk, source: source.to_owned(), conductor: Some(stream), known: BTreeSet::new(), again: None };
    tracer.follow(root).map_err(|error| fault("the tracer lost its process").cause(&error))
}

struct Tracer {
    disk: Disk,
    source: String,
    conductor: Option<UnixStream>,
    known: BTreeSet<i32>,
    /// The last call that was asked about, if the kernel may have begun it again: thread, number, arguments.
    again: Option<(i32, u64, [u64; 6])>,
}

/// Calls that the kernel breaks off and begins again when the node was frozen at their start; each would be asked about
/// for ever.
const BEGUN_AGAIN: [libc::c_long; 3] = [libc::SYS_copy_file_range, libc::SYS_sendfile, libc::SYS_splice];

impl Tracer {
    fn follow(&mut self, root: Pid) -> nix::Result<u8> {
        let options = Options::PTRACE_O_TRACESECCOMP
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        let mut exit = 255;
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Exited(pid, code)) => {
                    self.known.remove(&pid.as_raw());
                    if pid == root {
                        exit = code as u8;
                    }
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.known.remove(&pid.as_raw());
                    if pid == root {
                        exit = (128 + signal as i32) as u8;
                    }
                }
                Ok(WaitStatus::PtraceEvent(pid, _, event)) => {
                    if event == libc::PTRACE_EVENT_SECCOMP {
                        // A process that was killed meanwhile tells so itself.
                        let _ = self.stopped_at_call(pid);
                    }
                    let _ = ptrace::cont(pid, None);
                }
                Ok(WaitStatus::Stopped(pid, signal)) => {
                    // A new process begins with a stop of its own, which isn't a signal to it.
                    let first = self.known.insert(pid.as_raw());
                    if first && pid == root {
                        ptrace::setoptions(pid, options)?;
                    }
                    let passed = if first && signal == Signal::SIGSTOP { None } else { Some(signal) };
                    let _ = ptrace::cont(pid, passed);
                }
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(nix::Error::ECHILD) => return Ok(exit),
                Err(error) => return Err(error),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn stopped_at_call(&mut self, pid: Pid) -> nix::Result<()> {
        let mut registers = ptrace::getregs(pid)?;
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        let Some(what) = self.disk.what(pid.as_raw(), registers.orig_rax as i64, arguments) else { return Ok(()) };
        let this = (pid.as_raw(), registers.orig_rax, arguments);
        if self.again.take() == Some(this) {
            return Ok(());
        }
        self.again = BEGUN_AGAIN.iter().any(|number| *number as u64 == registers.orig_rax).then_some(this);
        let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
        let event = Event { source: self.source.clone(), program, call: what.call.to_owned(), path: what.path, to: what.to };
        let answer: i64 = match self.ask(&event) {
            Order::Go => return Ok(()),
            Order::Fail { errno } => -i64::from(errno),
            Order::Pretend => 0,
        };
        // No call has this number: the kernel makes none and returns what stands in the register.
        registers.orig_rax = u64::MAX;
        registers.rax = answer as u64;
        ptrace::setregs(pid, registers)
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn stopped_at_call(&mut self, _pid: Pid) -> nix::Result<()> {
        Err(nix::Error::ENOSYS)
    }

    /// Without a conductor everything goes on.
    fn ask(&mut self, event: &Event) -> Order {
        let answer = self.conductor.as_mut().and_then(|stream| {
            stream.write_all(smolotchi_operator::output::json_line(event).as_bytes()).ok()?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).ok()?;
            serde_json::from_str(&line).ok()
        });
        if answer.is_none() {
            self.conductor = None;
        }
        answer.unwrap_or(Order::Go)
    }
}
