//! Data on standard output, everything else on standard error; one place decides how a program ends.

use crate::{Code, Exit, Fault, log};
use clap::ValueEnum;
use serde::Serialize;
use std::io::Write;
use std::process::ExitCode;
use std::sync::OnceLock;

/// The first output that nobody got, and not because nobody wanted it. Kept for the program's end: what was asked for is done by then,
/// and how that ended must not be hidden by it.
static LOST: OnceLock<Fault> = OnceLock::new();

/// How results and errors are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people: aligned text.
    #[default]
    Table,
    /// For programs: one JSON document a line.
    Json,
}

/// Something that can be shown to a person; its JSON form is its serialisation.
pub trait Table: Serialize {
    /// Text for a person, ending in a newline.
    fn table(&self) -> String;
}

/// Prints one result to standard output, as [`print`] does.
pub fn emit<T: Table>(format: Format, value: &T) {
    let text = match format {
        Format::Table => value.table(),
        Format::Json => json_line(value),
    };
    print(&text);
}

/// Writes text to standard output; false when it did not get there. A closed pipe ends the output quietly, as for any Unix filter; of
/// anything else [`finish`] makes an error.
pub fn print(text: &str) -> bool {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| lost(&error)).is_ok()
}

/// Notes that standard output took no more.
pub fn lost(error: &std::io::Error) {
    if error.kind() != std::io::ErrorKind::BrokenPipe {
        let fault = Fault::io("could not write the result", "standard output", error);
        let _ = LOST.set(fault.hint("what was asked for is done, only its result was lost: make room, or write it elsewhere"));
    }
}

/// A value as one line of JSON.
pub fn json_line<T: Serialize>(value: &T) -> String {
    match serde_json::to_string(value) {
        Ok(text) => text + "\n",
        // Only a type with a broken Serialize gets here; saying so beats printing nothing.
        Err(error) => format!("{{\"error\":{:?}}}\n", error.to_string()),
    }
}

/// Ends a program: prints the fault, if any, in the format asked for (JSON: `{"error": {…}}` on standard error). A result that was lost
/// on its way out is no success; what else went wrong comes first.
pub fn finish(format: Format, result: Result<Exit, Fault>) -> ExitCode {
    let fault = match (result, LOST.get()) {
        (Err(fault), _) => fault,
        (Ok(Exit::Success), Some(lost)) => lost.clone(),
        (Ok(exit), _) => return exit.into(),
    };
    match format {
        Format::Json => {
            let _ = std::io::stderr().write_all(json_line(&serde_json::json!({ "error": fault })).as_bytes());
        }
        Format::Table => log::fault(&fault),
    }
    fault.code.exit().into()
}

/// Ends a command line that can't be read: help and version on standard output, mistakes (exit 2) on standard error, in
/// JSON if that was asked for.
pub fn refuse(error: &clap::Error) -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    let json = args.iter().any(|arg| arg == "--format=json") || args.windows(2).any(|pair| pair[0] == "--format" && pair[1] == "json");
    if error.use_stderr() && json {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        return finish(Format::Json, Err(Fault::new(Code::Usage, first)));
    }
    let printed = error.print();
    if error.use_stderr() {
        return Exit::Usage.into();
    }
    if let Err(error) = printed {
        lost(&error);
    }
    finish(Format::Table, Ok(Exit::Success))
}

/// A count for people: `1 event`, `2 events`.
pub fn counted(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// Lays out rows as aligned columns, two spaces apart, without trailing blanks.
pub fn columns<R: AsRef<[String]>>(rows: &[R]) -> String {
    let width = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let widths: Vec<usize> =
        (0..width).map(|i| rows.iter().filter_map(|row| row.as_ref().get(i)).map(|cell| cell.chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.as_ref().iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_without_trailing_blanks() {
        let rows = [vec!["a".into(), "long".into()], vec!["longer".into(), "b".into()]];
        assert_eq!(columns(&rows), "a       long\nlonger  b\n");
    }
}
