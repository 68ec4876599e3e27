//! The exit codes that scripts, Ansible and monitoring rely on. They are a promise: none is ever renumbered.

use std::process::ExitCode;

/// How a Smolotchi program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done, or nothing to do.
    Success = 0,
    /// The command line was wrong.
    Usage = 2,
    /// Something failed while running; trying again may help.
    Runtime = 10,
    /// Input, configuration, signature or state was refused before anything was touched.
    Validation = 20,
    /// Something that must be there (a program, a service, a file) is missing.
    Dependency = 30,
    /// The change failed and the machine is safely back where it was.
    RolledBack = 40,
    /// The machine can't decide alone: an operator is needed.
    Operator = 50,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
