//! Progress of long work: a live line on a terminal, plain step lines for people who pipe, JSON lines for programs,
//! nothing when told to be quiet.

use crate::Format;
use crate::output::{json_line, print};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::IsTerminal;
use std::time::Duration;

/// Where progress goes. Cheap to make; one per command.
#[derive(Debug)]
pub struct Progress {
    format: Format,
    bar: Option<ProgressBar>,
}

/// One step, as programs see it: `{"event":"step","step":"…","detail":"…"}`.
#[derive(Debug, Serialize)]
struct Step<'a> {
    event: &'static str,
    step: &'a str,
    detail: &'a str,
}

impl Progress {
    /// Live on a terminal, JSON lines on standard output with [`Format::Json`], quiet otherwise.
    pub fn new(format: Format) -> Self {
        let live = format == Format::Table && std::io::stderr().is_terminal();
        let bar = live.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Progress { format, bar }
    }

    /// Says what is being done now. `step` is a stable word for programs, `detail` a sentence for people.
    pub fn step(&self, step: &str, detail: &str) {
        match (&self.bar, self.format) {
            (Some(bar), _) => bar.set_message(detail.to_owned()),
            (None, Format::Json) => {
                print(&json_line(&Step { event: "step", step, detail }));
            }
            (None, Format::Table) => {}
        }
    }

    /// A line for people on standard error, above the live one.
    pub fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// Removes the live line, so that the result stands alone.
    pub fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done();
    }
}
