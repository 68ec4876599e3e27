//! Runs a program and waits for it: no shell, the C locale, its words in the error.

use smolotchi_operator::{Code, Fault, Result};
use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// A program about to be run.
pub(crate) struct Program {
    name: &'static str,
    package: &'static str,
    command: Command,
}

impl Program {
    /// `package` is the Debian package that provides it.
    pub(crate) fn new(name: &'static str, package: &'static str) -> Self {
        let mut command = Command::new(name);
        command.env("LC_ALL", "C").stdin(Stdio::null());
        Program { name, package, command }
    }

    /// Adds arguments.
    #[must_use]
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets the folder to run in.
    #[must_use]
    pub(crate) fn folder(mut self, folder: &std::path::Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs it; its standard output, if it ends well.
    pub(crate) fn run(mut self) -> Result<Vec<u8>> {
        let output = self.command.output().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Fault::new(Code::ProgramMissing, format!("the program {} is missing", self.name))
                .hint(format!("install it: apt install {}", self.package)),
            _ => Fault::new(Code::ProgramFailed, format!("could not run {}", self.name)).cause(&error),
        })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(Fault::new(Code::ProgramFailed, format!("{} failed", self.name))
            .fact("status", output.status.to_string())
            .fact("output", String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
