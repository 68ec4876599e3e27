//! Step one: the text of one file becomes assignments, each with its line. Knows TOML, not what the keys mean.

use smolotchi_operator::{Code, Fault, Result};
use toml::de::{DeTable, DeValue};

/// A value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Given {
    /// A whole number.
    Integer(i64),
    /// A string.
    Text(String),
    /// true or false.
    Flag(bool),
    /// A list of strings.
    List(Vec<String>),
    /// Something that no setting takes, as words.
    Other(String),
}

impl std::fmt::Display for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Given::Integer(number) => write!(f, "{number}"),
            Given::Text(text) => write!(f, "{text:?}"),
            Given::Flag(flag) => write!(f, "{flag}"),
            Given::List(items) => write!(f, "{items:?}"),
            Given::Other(words) => f.write_str(words),
        }
    }
}

/// One `key = value` of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// `section.name`.
    pub(crate) key: String,
    /// The value.
    pub(crate) value: Given,
    /// The line, from 1.
    pub(crate) line: usize,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// Its path, as shown.
    pub(crate) file: String,
    /// What it sets.
    pub(crate) assignments: Vec<Assignment>,
}

impl Fragment {
    /// Reads one file's text. Errors: `config.syntax` with file, line and the parser's words.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Fragment> {
        let lines = |from: usize, to: usize| text.as_bytes()[from..to.min(text.len())].iter().filter(|byte| **byte == b'\n').count();
        let document = DeTable::parse(text).map_err(|error| {
            Fault::new(Code::ConfigSyntax, "a configuration file is not TOML")
                .fact("file", file)
                .fact("line", error.span().map_or(1, |span| lines(0, span.start) + 1))
                .fact("cause", error.message())
        })?;
        let mut found = Vec::new();
        walk("", document.get_ref(), &mut |key, value, at| found.push((at, key, value)));
        found.sort_by_key(|(at, ..)| *at);
        // Each line is counted once: every service and verb starts with this.
        let (mut line, mut counted) = (1, 0);
        let assignments = found.into_iter().map(|(at, key, value)| {
            line += lines(counted, at);
            counted = at;
            Assignment { key, value, line }
        });
        Ok(Fragment { file: file.to_owned(), assignments: assignments.collect() })
    }
}

fn walk(prefix: &str, table: &DeTable<'_>, found: &mut impl FnMut(String, Given, usize)) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
        match value.get_ref() {
            // A section may be written as [section]; deeper tables are no section of ours and count as a value.
            DeValue::Table(inner) if prefix.is_empty() => walk(&key, inner, found),
            other => found(key, given(other), name.span().start),
        }
    }
}

fn given(value: &DeValue<'_>) -> Given {
    let other = || Given::Other(format!("a {}", value.type_str()));
    match value {
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Given::Other(format!("the number {number}")), Given::Integer),
        DeValue::Array(items) => {
            items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect::<Option<_>>().map_or_else(other, Given::List)
        }
        DeValue::String(text) => Given::Text(text.to_string()),
        DeValue::Boolean(flag) => Given::Flag(*flag),
        _ => other(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_have_their_lines() {
        let fragment =
            Fragment::parse("f", "# c\n[web]\nhosts = [\n \"a\",\n]\nrefresh_seconds = 0x10\n\n[core]\nx = { y = 1 }\n").unwrap();
        let expected = [
            ("web.hosts", Given::List(vec!["a".into()]), 3),
            ("web.refresh_seconds", Given::Integer(16), 6),
            ("core.x", Given::Other("a table".into()), 9),
        ];
        let found: Vec<_> = fragment.assignments.iter().map(|a| (a.key.as_str(), a.value.clone(), a.line)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn syntax_errors_name_file_and_line() {
        let cases = [("a = 1\nb = = 2\n", 2), ("[core\n", 1), ("[a]\nx=1\nx=2\n", 3), ("\n\nfoo", 3), ("a=1\na.b=2", 2)];
        for (text, line) in cases {
            let fault = Fragment::parse("/etc/x.toml", text).unwrap_err();
            assert_eq!(fault.code, Code::ConfigSyntax, "{text}");
            assert_eq!(fault.details["file"], "/etc/x.toml");
            assert_eq!(fault.details["line"], line, "{text}: {fault}");
        }
    }
}
