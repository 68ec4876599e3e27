//! One file per verb. Each turns options into calls of the rest of the program and prints one result.

mod docs;
mod maint;

use crate::cli::{Cli, Verb};
use crate::paths::Paths;
use smolotchi_operator::{Exit, Result};

/// Runs the verb that the command line names.
pub(crate) fn run(cli: Cli) -> Result<Exit> {
    let _paths = Paths::new(cli.root.as_deref());
    match cli.verb {
        Verb::Maint(verb) => maint::run(verb),
        Verb::Docs { dir } => docs::run(&dir),
        _ => Ok(Exit::Success),
    }
}
