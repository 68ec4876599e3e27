//! The release maker's verbs. Only here may this package use smolotchi-operator; keys and signatures are the real programs' work
//! (minisign, gpg), the apt repository's lists are apt-ftparchive's.

mod apt;
mod bundle;
mod check;
mod cli;
mod debs;
mod fault;
mod keys;
mod program;
mod publish;
mod staging;
mod time;

pub(crate) use cli::Cli;

use cli::Verb;
use smolotchi_operator::{Exit, Result, output};

/// Does what was asked.
pub(crate) fn run(cli: Cli) -> Result<Exit> {
    match cli.verb {
        Verb::Keys { out } => output::emit(cli.format, &keys::make(&out)?),
        Verb::Publish(request) => output::emit(cli.format, &publish::run(&request)?),
        Verb::Bundle(request) => output::emit(cli.format, &bundle::run(&request)?),
        Verb::Verify { tree, trust } => output::emit(cli.format, &check::run(&tree, &trust)?),
    }
    Ok(Exit::Success)
}
