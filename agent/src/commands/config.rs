//! `smolotchi config`: which settings hold, where they come from, and whether they are right.

use crate::cli::ConfigVerb;
use crate::client::{Client, block_on};
use crate::config::{self, Merged, Origin, Unknown};
use crate::paths::Paths;
use crate::wire::{Changed, Reloaded};
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
    /// Earlier places that set it too, the nearest first; only with `--origin`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overridden: Vec<Place>,
}

#[derive(Debug, Serialize)]
struct Place {
    value: String,
    file: String,
    line: usize,
}

/// The most letters of a value for which the others are aligned.
const WIDE: usize = 40;

impl Table for Shown {
    fn table(&self) -> String {
        let mut rows = Vec::new();
        for setting in &self.settings {
            rows.push((setting.key, &setting.value, &setting.file, setting.line));
            rows.extend(setting.overridden.iter().map(|Place { value, file, line }| ("  not", value, file, *line)));
        }
        let widest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or_default();
        let keys = widest(&mut rows.iter().map(|(key, ..)| key.len()));
        // One long list must not push every line's origin off the screen.
        let values = widest(&mut rows.iter().map(|(_, value, ..)| value.chars().count()).filter(|length| *length <= WIDE));
        rows.iter().map(|(key, value, file, line)| format!("{key:<keys$}  {value:<values$}  {file}:{line}\n")).collect()
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

impl Table for Reloaded {
    fn table(&self) -> String {
        if self.changed.is_empty() {
            return "read again; nothing changed\n".to_owned();
        }
        let holds = |change: &Changed| change.restart.as_ref().map_or("now".to_owned(), |unit| format!("after: systemctl restart {unit}"));
        let rows: Vec<_> =
            self.changed.iter().map(|change| [change.key.clone(), format!("{} -> {}", change.from, change.to), holds(change)]).collect();
        columns(&rows)
    }
}

/// Runs the verb. Errors: `config.syntax`, `config.unknown-key`, `config.invalid` (all 20).
pub(crate) fn run(paths: &Paths, format: Format, verb: ConfigVerb) -> Result<Exit> {
    match verb {
        ConfigVerb::Show { origin } => emit(format, &shown(&valid(config::merged(paths, Unknown::Refuse)?)?, origin)),
        ConfigVerb::Reload => {
            // Refused here already for a key that nobody knows, which core only warns of.
            valid(config::merged(paths, Unknown::Refuse)?)?;
            let reloaded: Reloaded = block_on(Client::new(paths.socket()).post("/v1/reload", &serde_json::json!({})))?;
            emit(format, &reloaded);
        }
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

fn shown(merged: &Merged, origin: bool) -> Shown {
    let place = |(value, Origin { file, line }): &(_, Origin)| Place { value: ToString::to_string(value), file: file.clone(), line: *line };
    let setting = |(key, value, origin_of): (&'static str, &dyn std::fmt::Display, &Origin)| Setting {
        key,
        value: value.to_string(),
        file: origin_of.file.clone(),
        line: origin_of.line,
        overridden: if origin { merged.overridden(key).map(place).collect() } else { Vec::new() },
    };
    Shown { settings: merged.entries().map(|(key, value, origin)| setting((key, value, origin))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_long_value_does_not_make_the_others_wide() {
        let setting = |key, value: &str| Setting { key, value: value.to_owned(), file: "/f".into(), line: 7, overridden: Vec::new() };
        let shown = Shown { settings: vec![setting("a", "1"), setting("bb", &"x".repeat(WIDE + 1)), setting("c", "22")] };
        assert_eq!(shown.table(), format!("a   1   /f:7\nbb  {}  /f:7\nc   22  /f:7\n", "x".repeat(WIDE + 1)));
    }
}
