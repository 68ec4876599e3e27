//! `/usr/bin/smolotchi`: the services core, web, ai and display, prune, and the operator's verbs. This file only starts the command.

mod account;
mod ai;
mod alarm;
mod artifacts;
mod cli;
mod client;
mod clock;
mod commands;
mod config;
mod core;
mod display;
mod doctor;
mod installs;
mod leases;
mod memory;
mod notify;
mod paths;
mod powers;
mod redact;
mod release;
mod senses;
mod serve;
mod store_fault;
mod web;
mod wire;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    memory::one_heap();
    let cli = match memory::apart(cli::Cli::try_parse) {
        Ok(cli) => cli,
        Err(error) => return smolotchi_operator::output::refuse(&error),
    };
    let format = cli.format;
    cli.color.apply();
    smolotchi_operator::output::finish(format, commands::run(cli))
}
