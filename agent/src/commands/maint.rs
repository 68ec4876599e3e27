//! `smolotchi maint`: calls of the maintainer scripts and the installer.

use crate::cli::MaintVerb;
use smolotchi_operator::{Exit, Result};
use std::io::Write;

pub(crate) fn run(verb: MaintVerb) -> Result<Exit> {
    if let MaintVerb::ReleaseToml = verb {
        let _ = std::io::stdout().write_all(crate::release::release_toml().as_bytes());
    }
    Ok(Exit::Success)
}
