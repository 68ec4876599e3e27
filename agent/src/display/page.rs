//! What stands on the display: facts become a title, reasons and rows, with no size yet. Pure.
//!
//! All three renderers draw the same page. Whatever core says is printed as printable Latin-1: no control character ever reaches a
//! terminal, and no glyph is missing from the font.

use super::facts::Facts;

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// The machine's name.
    pub(super) title: String,
    /// One word.
    pub(super) verdict: &'static str,
    /// Whether the verdict must be seen from afar.
    pub(super) alarm: bool,
    /// Why.
    pub(super) reasons: Vec<String>,
    /// The most important one first: what doesn't fit is left out from the end.
    pub(super) rows: Vec<Row>,
    /// When this was so.
    pub(super) foot: String,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// What it is about.
    pub(super) label: &'static str,
    /// The value.
    pub(super) value: String,
    /// Drawn as a bar beside the value.
    pub(super) percent: Option<u8>,
    /// Whether it can share a line with its neighbour.
    pub(super) short: bool,
}

impl Row {
    fn new(label: &'static str, value: impl AsRef<str>) -> Self {
        Row { label, value: printable(value.as_ref()), percent: None, short: false }
    }

    fn short(label: &'static str, value: impl AsRef<str>) -> Self {
        Row { short: true, ..Row::new(label, value) }
    }

    fn gauge(label: &'static str, percent: u8) -> Self {
        Row { percent: Some(percent), ..Row::short(label, format!("{percent} %")) }
    }
}

impl Page {
    /// The page of a look.
    pub(super) fn of(facts: &Facts) -> Self {
        let count = |number: u64| if number == 0 { "none".to_owned() } else { number.to_string() };
        let mut rows = Vec::new();
        rows.extend(facts.findings.map(|open| Row::short("findings", count(open))));
        rows.extend(facts.stages.map(|pending| Row::short("pending", count(pending))));
        rows.extend(facts.disk.map(|percent| Row::gauge("disk", percent)));
        rows.extend(facts.memory.map(|percent| Row::gauge("memory", percent)));
        rows.extend((!facts.addresses.is_empty()).then(|| Row::new("address", facts.addresses.join(" "))));
        rows.extend(facts.temperature.map(|degrees| Row::short("temp", format!("{degrees} \u{b0}C"))));
        rows.extend(facts.version.as_ref().map(|version| Row::new("version", version)));
        rows.extend(facts.since.as_ref().map(|since| Row::new("since", since)));
        rows.extend(facts.upgrade.as_ref().map(|upgrade| Row::new("upgrade", upgrade)));
        Page {
            title: printable(&facts.host),
            verdict: if facts.well() { "healthy" } else { "UNHEALTHY" },
            alarm: !facts.well(),
            reasons: facts.ill.iter().map(|reason| printable(reason)).collect(),
            rows,
            foot: printable(&facts.as_of),
        }
    }

    /// What stays on the panel when the display was stopped: nothing there that could be taken for news.
    pub(super) fn stopped(facts: &Facts) -> Self {
        Page {
            title: printable(&facts.host),
            verdict: "stopped",
            alarm: false,
            reasons: vec!["The display was stopped.".to_owned()],
            rows: Vec::new(),
            foot: printable(&facts.as_of),
        }
    }
}

/// Printable Latin-1; anything else is a question mark, and white space a blank.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            ' '..='~' | '\u{a1}'..='\u{ff}' if letter != '\u{ad}' => letter,
            letter if letter.is_whitespace() => ' ',
            '\u{2018}' | '\u{2019}' => '\'',
            '\u{201c}' | '\u{201d}' => '"',
            '\u{2192}' => '>',
            '\u{2013}' | '\u{2014}' => '-',
            _ => '?',
        })
        .collect()
}

/// As much of a text as `columns` hold; two dots at the end say that there was more.
pub(super) fn fit(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(2)).collect();
    let dots = columns.min(2);
    format!("{}{}", kept.trim_end(), &".."[..dots])
}

/// A text in at most `lines` lines of `columns`, broken between words where that can be; the last one is cut.
pub(super) fn wrap(text: &str, columns: usize, lines: usize) -> Vec<String> {
    let mut wrapped = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() && columns > 0 && wrapped.len() < lines {
        if wrapped.len() + 1 == lines || rest.chars().count() <= columns {
            wrapped.push(fit(rest, columns));
            break;
        }
        let end = rest.char_indices().nth(columns).map_or(rest.len(), |(at, _)| at);
        // The blank may be the letter after the line.
        let after = rest[end..].chars().next().map_or(end, |letter| end + letter.len_utf8());
        let at = rest[..after].rfind(' ').filter(|at| *at > 0).unwrap_or(end);
        wrapped.push(rest[..at].trim_end().to_owned());
        rest = rest[at..].trim_start();
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_wrapped_between_words() {
        for (text, columns, expected) in
            [("abc", 3, "abc"), ("abcd", 3, "a.."), ("ab cd", 5, "ab cd"), ("ab cde", 5, "ab.."), ("abc", 1, ".")]
        {
            assert_eq!(fit(text, columns), expected);
        }
        let cases: [(&str, usize, usize, &[&str]); 7] = [
            ("one two three", 7, 3, &["one two", "three"]),
            ("one two three", 8, 3, &["one two", "three"]),
            ("one two three", 7, 1, &["one t.."]),
            ("0123456789", 4, 3, &["0123", "4567", "89"]),
            ("a 0123456789", 4, 2, &["a", "01.."]),
            ("", 4, 2, &[]),
            ("  x  ", 4, 2, &["x"]),
        ];
        for (text, columns, lines, expected) in cases {
            assert_eq!(wrap(text, columns, lines), expected, "{text:?} {columns} {lines}");
        }
        for columns in 1..30 {
            for line in wrap("Der Gerätename läuft über: größer als jede Zeile \u{e4}\u{e4}\u{e4}\u{e4}\u{e4}", columns, 9) {
                assert!(line.chars().count() <= columns, "{line:?} {columns}");
            }
        }
    }

    #[test]
    fn nothing_that_a_terminal_could_obey_is_on_a_page() {
        let facts =
            Facts { host: "node\u{1b}[2J\u{7}\u{9b}x\u{202e}".into(), ill: vec!["a\nb\tc \u{200b}\u{fffd}".into()], ..Facts::default() };
        let page = Page::of(&facts);
        assert_eq!((page.title.as_str(), page.reasons[0].as_str()), ("node?[2J??x?", "a b c ??"));
    }

    #[test]
    fn an_absent_fact_has_no_row() {
        assert_eq!(Page::of(&Facts::default()).rows, []);
        let facts = Facts { findings: Some(0), temperature: Some(-3), ..Facts::default() };
        let rows: Vec<_> = Page::of(&facts).rows.into_iter().map(|row| row.value).collect();
        assert_eq!(rows, ["none", "-3 \u{b0}C"]);
    }
}
