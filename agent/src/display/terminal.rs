//! A page as text for a terminal: as wide as it is, coloured where colours are wanted.

use super::facts::Facts;
use super::page::{Page, Row, fit, wrap};
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use smolotchi_operator::Table;
use std::io::IsTerminal;

/// The columns of a label, with the blank behind it.
const LABEL: usize = 9;
/// The letters of a bar.
const BAR: usize = 20;

/// What is printed: the facts for programs, the text for people.
#[derive(Debug, Serialize)]
pub(super) struct Screen<'a> {
    #[serde(flatten)]
    pub(super) facts: &'a Facts,
    #[serde(skip)]
    pub(super) text: String,
}

impl Table for Screen<'_> {
    fn table(&self) -> String {
        self.text.clone()
    }
}

/// The terminal's width; nothing where standard output is none: then no line is cut.
pub(super) fn columns() -> Option<usize> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(&out).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// The page as lines of at most so many columns. The colours are taken out again by the output where there are none.
pub(super) fn text(page: &Page, columns: Option<usize>) -> String {
    let width = columns.unwrap_or(usize::MAX);
    let style = if page.alarm { AnsiColor::White.on(AnsiColor::Red).bold() } else { AnsiColor::Green.on_default().bold() };
    let verdict = fit(page.verdict, width);
    let title = fit(&page.title, width.saturating_sub(page.verdict.len() + 2));
    let mut text = format!("{style}{verdict}{style:#}  {title}").trim_end().to_owned();
    text.push('\n');
    let bold = Style::new().bold();
    for reason in &page.reasons {
        for line in wrap(reason, width, 4) {
            text.push_str(&format!("{bold}{line}{bold:#}\n"));
        }
    }
    for row in &page.rows {
        text.push_str(&line(row, width));
    }
    let dim = Style::new().dimmed();
    text.push_str(&format!("{dim}{}{dim:#}\n", fit(&page.foot, width)));
    text
}

fn line(row: &Row, width: usize) -> String {
    let mut value = row.value.clone();
    if let Some(percent) = row.percent.filter(|_| width >= LABEL + BAR + 8) {
        let filled = usize::from(percent.min(100)) * BAR / 100;
        value = format!("{}{}  {value}", "\u{2588}".repeat(filled), "\u{2591}".repeat(BAR - filled));
    }
    let mut text = String::new();
    for (at, part) in wrap(&value, width.saturating_sub(LABEL).max(1), 4).into_iter().enumerate() {
        let label = if at == 0 { row.label } else { "" };
        text.push_str(&fit(format!("{label:<LABEL$}{part}").trim_end(), width));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn plain(page: &Page, columns: Option<usize>) -> String {
        anstream::adapter::strip_str(&text(page, columns)).to_string()
    }

    #[test]
    fn a_page_is_text_with_bars() {
        assert_eq!(
            plain(&Page::of(&samples::ill()), None),
            "\
UNHEALTHY  node7
disk: 3 MiB are free in /var/lib/smolotchi; 16 MiB are wanted
loop: stood still for 42 s
findings 3
pending  1
disk     \u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2591}  99 %
memory   \u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2588}\u{2591}\u{2591}\u{2591}  87 %
address  192.0.2.7
temp     41 \u{b0}C
version  0.2.0, schema 6
since    2026-11-20 07:12 UTC
upgrade  0.2.0 > 0.3.0, rolled-back: core did not get healthy within 5 min
as of 2026-11-21 18:43 UTC
"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for (name, facts) in samples::all() {
            for columns in 1..120 {
                for line in plain(&Page::of(&facts), Some(columns)).lines() {
                    assert!(line.chars().count() <= columns, "{name} {columns}: {line:?}");
                }
            }
        }
    }
}
