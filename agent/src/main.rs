//! `/usr/bin/smolotchi`: the services core, web and prune, and the operator's verbs. This file only starts the command.

mod cli;
mod commands;
mod paths;
mod release;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let format = cli.format;
    cli.color.apply();
    smolotchi_operator::output::finish(format, commands::run(cli))
}
