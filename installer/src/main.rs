//! `smolotchi-install`: installs, upgrades and rolls back Smolotchi, and always keeps the way back.
//!
//! commands → change → tasks → host. What it may never do: link SQLite, or depend on the version that it replaces.

mod change;
mod cli;
mod commands;
mod fault;
mod gate;
mod guard;
mod heal;
mod host;
mod inventory;
mod paths;
mod plan;
mod settings;
mod source;
mod tasks;

use clap::Parser;

fn main() -> std::process::ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return smolotchi_operator::output::refuse(&error),
    };
    let format = cli.format;
    smolotchi_operator::output::finish(format, commands::run(cli))
}
