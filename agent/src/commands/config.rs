//! `smolotchi config`: which settings hold, where they come from, and whether they are right.

use crate::cli::ConfigVerb;
use crate::config::{self, Merged, Origin, Unknown};
use crate::paths::Paths;
use serde::Serialize;
use smolotchi_operator::output::{columns, emit};
use smolotchi_operator::{Exit, Format, Result, Table};

#[derive(Debug, Serialize)]
struct Shown {
    settings: Vec<Setting>,
}

#[derive(Debug, Serialize)]
struct Setting {
    key: &'static str,
    value: String,
    file: String,
    line: usize,
}

impl Table for Shown {
    fn table(&self) -> String {
        let rows: Vec<_> = self
            .settings
            .iter()
            .map(|setting| [setting.key.to_owned(), setting.value.clone(), format!("{}:{}", setting.file, setting.line)])
            .collect();
        columns(&rows)
    }
}

#[derive(Debug, Serialize)]
struct Checked {
    valid: bool,
    files: Vec<String>,
}

impl Table for Checked {
    fn table(&self) -> String {
        format!(
            "the configuration is valid; read, later ones override earlier ones:\n{}",
            self.files.iter().map(|file| format!("  {file}\n")).collect::<String>()
        )
    }
}

/// Runs the verb. Errors: `config.syntax`, `config.unknown-key`, `config.invalid` (all 20).
pub(crate) fn run(paths: &Paths, format: Format, verb: ConfigVerb) -> Result<Exit> {
    match verb {
        ConfigVerb::Show => emit(format, &shown(&valid(config::merged(paths, Unknown::Refuse)?)?)),
        ConfigVerb::Check { file } => {
            let merged = match file {
                Some(file) => config::merged_file(&file)?,
                None => config::merged(paths, Unknown::Refuse)?,
            };
            emit(format, &Checked { valid: true, files: valid(merged)?.files().to_vec() });
        }
    }
    Ok(Exit::Success)
}

fn valid(merged: Merged) -> Result<Merged> {
    merged.settings().map(|_| merged)
}

fn shown(merged: &Merged) -> Shown {
    let setting = |(key, value, Origin { file, line }): (_, &dyn std::fmt::Display, &Origin)| Setting {
        key,
        value: value.to_string(),
        file: file.clone(),
        line: *line,
    };
    Shown { settings: merged.entries().map(|(key, value, origin)| setting((key, value, origin))).collect() }
}
