//! `smolotchi-release`: makes keys, publishes releases into a tree, makes bundles, checks a tree. Runs where releases are made and never
//! on a node. This file only starts the command.

#[path = "../maker/mod.rs"]
mod maker;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = maker::Cli::parse();
    let format = cli.format;
    smolotchi_operator::output::finish(format, maker::run(cli))
}
