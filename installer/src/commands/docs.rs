//! Manual pages and completions, from the command line's own definition; run when the package is built.

use crate::cli::Cli;
use clap::CommandFactory;
use clap_complete::Shell;
use smolotchi_operator::{Exit, Fault, Result};
use std::path::Path;

/// Writes `man/*.1` and `completions/{bash,zsh,fish}/…` below `folder`.
pub(super) fn write(folder: &Path) -> Result<Exit> {
    let failed = |error: std::io::Error| Fault::io("could not write the documentation", folder, &error);
    let man = folder.join("man");
    std::fs::create_dir_all(&man).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &man).map_err(failed)?;
    let shells = [
        (Shell::Bash, "bash", "smolotchi-install"),
        (Shell::Zsh, "zsh", "_smolotchi-install"),
        (Shell::Fish, "fish", "smolotchi-install.fish"),
    ];
    for (shell, name, file) in shells {
        let folder = folder.join("completions").join(name);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "smolotchi-install", &mut text);
        std::fs::write(folder.join(file), text).map_err(failed)?;
    }
    Ok(Exit::Success)
}
