//! `smolotchi docs DIR`: manual pages and completions from the same description that `--help` uses, for the packaging.

use crate::cli::Cli;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use smolotchi_operator::{Exit, Fault, Result};
use std::path::Path;

/// Writes `DIR/man/*.1` (one page for each visible verb) and `DIR/completions/{bash/smolotchi,zsh/_smolotchi,fish/smolotchi.fish}`.
pub(crate) fn run(dir: &Path) -> Result<Exit> {
    let man = dir.join("man");
    make(&man)?;
    let mut root = Cli::command();
    root.build();
    page(&visible(root.clone()), "smolotchi", &man)?;
    for (shell, folder, file) in
        [(Shell::Bash, "bash", "smolotchi"), (Shell::Zsh, "zsh", "_smolotchi"), (Shell::Fish, "fish", "smolotchi.fish")]
    {
        let folder = dir.join("completions").join(folder);
        make(&folder)?;
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut visible(root.clone()), "smolotchi", &mut script);
        write(&folder.join(file), &script)?;
    }
    Ok(Exit::Success)
}

/// The command without what `--help` hides: generators show hidden parts.
fn visible(command: Command) -> Command {
    let mut shown = Command::new(fixed(command.get_name())).subcommand_required(command.is_subcommand_required_set());
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        shown = shown.long_about(about.clone());
    }
    if let Some(help) = command.get_after_help() {
        shown = shown.after_help(help.clone());
    }
    let arguments = command.get_arguments().filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str()));
    shown = shown.args(arguments.cloned().collect::<Vec<_>>());
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        shown = shown.subcommand(visible(sub.clone()));
    }
    shown.disable_help_subcommand(true).version(crate::release::VERSION)
}

/// One page for a command and each below it: smolotchi.1, smolotchi-db.1, smolotchi-db-info.1.
fn page(command: &Command, name: &str, dir: &Path) -> Result<()> {
    let mut text = Vec::new();
    // The page's name must stand in it as one word (lexgrog(1)).
    clap_mangen::Man::new(command.clone().name(fixed(name)).bin_name(name.replace('-', " ")))
        .title(name.to_uppercase())
        .manual("Smolotchi")
        .render(&mut text)
        .map_err(|error| Fault::io("could not write a manual page", dir, &error))?;
    write(&dir.join(format!("{name}.1")), &text)?;
    for sub in command.get_subcommands() {
        page(sub, &format!("{name}-{}", sub.get_name()), dir)?;
    }
    Ok(())
}

/// clap takes only static names; this runs once, for some twenty words.
fn fixed(name: &str) -> &'static str {
    Box::leak(name.to_owned().into_boxed_str())
}

fn make(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|error| Fault::io("could not make a folder", dir, &error))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|error| Fault::io("could not write a file", path, &error))
}
