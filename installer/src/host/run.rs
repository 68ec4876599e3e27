//! Runs a program to its end, with a clean locale, and says what it said when it fails.

use smolotchi_operator::{Code, Fault, Result};
use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// A command with what all our programs have in common: no input, the C locale, no questions.
pub fn command<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Runs it, whatever its exit status.
pub fn output(command: &mut Command) -> Result<Output> {
    command.output().map_err(|error| {
        let code = if error.kind() == std::io::ErrorKind::NotFound { Code::ProgramMissing } else { Code::ProgramFailed };
        Fault::new(code, "could not run a program").fact("program", program(command)).cause(&error)
    })
}

/// Runs it and returns its standard output; a failure carries the last lines that it said.
pub fn succeed(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Fault::new(Code::ProgramFailed, "a program failed")
        .fact("program", program(command))
        .fact("status", output.status.to_string())
        .fact("said", tail(&said(&output), 10)))
}

/// Everything that a program said, standard output first.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The last `lines` lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
