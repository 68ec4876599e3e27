//! `smolotchi docs DIR`: manual pages, completions and the reference of all verbs, from the same description that `--help` uses; for
//! the packaging and the documentation.

use crate::cli::Cli;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use smolotchi_operator::{Exit, Fault, Result};
use std::path::Path;

/// Writes `DIR/man/*.1` (one page for each visible verb), `DIR/completions/{bash/smolotchi,zsh/_smolotchi,fish/smolotchi.fish}` and
/// `DIR/commands.md`.
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
    write(&dir.join("commands.md"), reference(&visible(root)).as_bytes())?;
    Ok(Exit::Success)
}

/// Every verb with its help, as one page.
fn reference(root: &Command) -> String {
    fn entry(command: &Command, name: &str, text: &mut String) {
        // What every verb has is told once.
        let shared = |arg: &clap::Arg| arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str());
        let brief = command.clone().mut_args(|arg| if name.contains(' ') && shared(&arg) { arg.hide(true) } else { arg });
        let help = brief.name(fixed(name)).bin_name(name).term_width(100).render_long_help().to_string();
        let help: String = help.trim_end().lines().map(|line| format!("{}\n", line.trim_end())).collect();
        text.push_str(&format!("\n## {name}\n```text\n{help}```\n"));
        for sub in command.get_subcommands() {
            entry(sub, &format!("{name} {}", sub.get_name()), text);
        }
    }
    let mut text =
        "# Commands\n\nWhat `--help` says of every verb. Written by `UPDATE=1 cargo test -p smolotchi --test snapshots`.\n".to_owned();
    entry(root, "smolotchi", &mut text);
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Visible verbs that do something, with their full names.
    fn verbs(command: &Command, name: &str, found: &mut Vec<(String, Command)>) {
        if command.get_subcommands().next().is_none() {
            found.push((name.to_owned(), command.clone()));
        }
        for sub in command.get_subcommands() {
            verbs(sub, format!("{name} {}", sub.get_name()).trim(), found);
        }
    }

    fn all() -> Vec<(String, Command)> {
        let mut root = Cli::command();
        root.build();
        let mut found = Vec::new();
        verbs(&visible(root), "", &mut found);
        found
    }

    #[test]
    fn every_verb_says_what_it_is_for_and_shows_an_example() {
        let mut lacking = Vec::new();
        for (name, verb) in all() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            if !help.contains(&format!(" smolotchi {name}")) {
                lacking.push(format!("{name} has no example"));
            }
            if verb.get_about().is_none() {
                lacking.push(format!("{name} does not say what it is for"));
            }
            if verb.clone().render_long_help().to_string().contains("\\\"") {
                lacking.push(format!("{name} shows a backslash before a quote"));
            }
            let silent = verb.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_help().is_none());
            lacking.extend(silent.map(|arg| format!("{name}: {} has no help", arg.get_id())));
        }
        assert!(lacking.is_empty(), "{lacking:#?}");
    }

    /// Verbs that take something away for good.
    const DESTROYING: &[&str] = &["prune", "artifacts remove", "locks clean", "baseline clear", "jobs cancel", "db migrate"];

    #[test]
    fn what_destroys_can_be_tried_first() {
        let all = all();
        for name in DESTROYING {
            let (_, verb) = all.iter().find(|(verb, _)| verb == name).unwrap_or_else(|| panic!("{name} is no verb"));
            assert!(verb.get_arguments().any(|arg| arg.get_id() == "dry_run"), "{name} has no --dry-run");
        }
    }
}
