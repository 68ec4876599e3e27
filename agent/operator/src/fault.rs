//! One error type for everything that an operator sees: code, what could not be done, facts, hint.

use crate::Code;
use serde::Serialize;
use serde_json::{Map, Value};

/// A failed operation, told so that an operator can act on it.
///
/// `message` says what could not be done and never repeats a cause; causes are in `details.cause`.
#[derive(Debug, Clone, Serialize)]
pub struct Fault {
    /// Which line of the catalogue this is.
    pub code: Code,
    /// What could not be done, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// The facts: paths, versions, numbers, a program's output.
    pub details: Map<String, Value>,
}

/// The result of everything that can end in a [`Fault`].
pub type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    /// A fault with the catalogue's hint and no details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Fault { code, message: message.into(), hint: code.hint().to_owned(), details: Map::new() }
    }

    /// A failed file operation: the path and the system's words go to the details; a full disk gets its own code.
    pub fn io(what: impl Into<String>, path: impl AsRef<std::path::Path>, error: &std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Code::DiskFull,
            _ => Code::Io,
        };
        Fault::new(code, what).fact("path", path.as_ref().display().to_string()).cause(error)
    }

    /// Replaces the hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// Adds the chain of causes as `details.cause`, outermost first.
    #[must_use]
    pub fn cause(self, error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            let inner = source.to_string();
            if !text.ends_with(&inner) {
                text.push_str(": ");
                text.push_str(&inner);
            }
            next = source.source();
        }
        self.fact("cause", text)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] {}", self.code, self.message)?;
        facts(f, &self.details, "; ")
    }
}

/// Facts on one line, `before` the first. A list of groups of facts stands in brackets.
fn facts(f: &mut std::fmt::Formatter<'_>, facts_of: &Map<String, Value>, before: &str) -> std::fmt::Result {
    let mut before = before;
    for (name, value) in facts_of {
        write!(f, "{before}{name}: ")?;
        before = "; ";
        match value {
            Value::String(text) => f.write_str(text)?,
            Value::Array(groups) if !groups.is_empty() && groups.iter().all(Value::is_object) => {
                for (index, group) in groups.iter().filter_map(Value::as_object).enumerate() {
                    f.write_str(if index == 0 { "(" } else { ", (" })?;
                    facts(f, group, "")?;
                    f.write_str(")")?;
                }
            }
            other => write!(f, "{other}")?,
        }
    }
    Ok(())
}

impl std::error::Error for Fault {}
