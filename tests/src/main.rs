//! The command `smolotchi-lab`: labs for people. Parses, calls the library, and ends with its verdict.

mod cli;
mod commands;

use clap::Parser;
use smolotchi_operator::output;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let format = cli.format;
    match commands::carry_out(cli) {
        // ssh, run and exec end as what they ran.
        Ok(commands::Ended::As(code)) => ExitCode::from(code),
        Ok(commands::Ended::With(exit)) => output::finish(format, Ok(exit)),
        Err(fault) => output::finish(format, Err(fault)),
    }
}
