//! Step two: fragments become one value for each key, with the file and line it comes from.

use super::fragment::{Fragment, Given};
use super::keys::{KEYS, key, neighbours};
use smolotchi_operator::{Code, Fault};
use std::collections::BTreeMap;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The file's path, or `built in`.
    pub(crate) file: String,
    /// The line, from 1.
    pub(crate) line: usize,
}

/// The value that holds for every key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Merged {
    entries: BTreeMap<&'static str, (Given, Origin)>,
    files: Vec<String>,
}

impl Merged {
    /// Merges fragments, lowest precedence first. Also returns a `config.unknown-key` for each key that nobody knows.
    pub(crate) fn new(fragments: Vec<Fragment>) -> (Merged, Vec<Fault>) {
        let mut merged = Merged::default();
        let mut refused = Vec::new();
        for fragment in fragments {
            for assignment in fragment.assignments {
                match key(&assignment.key) {
                    Some(key) => {
                        let origin = Origin { file: fragment.file.clone(), line: assignment.line };
                        merged.entries.insert(key.name, (assignment.value, origin));
                    }
                    None => refused.push(
                        Fault::new(Code::ConfigUnknownKey, "there is no such setting")
                            .fact("file", fragment.file.as_str())
                            .fact("line", assignment.line)
                            .fact("key", assignment.key.as_str())
                            .fact("expected", neighbours(&assignment.key)),
                    ),
                }
            }
            merged.files.push(fragment.file);
        }
        (merged, refused)
    }

    /// The value and origin of a key.
    pub(crate) fn get(&self, name: &str) -> Option<&(Given, Origin)> {
        self.entries.get(name)
    }

    /// Every key with its value, in the order of the list of keys.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'static str, &Given, &Origin)> {
        KEYS.iter().filter_map(|key| self.entries.get(key.name).map(|(value, origin)| (key.name, value, origin)))
    }

    /// What was read, lowest precedence first.
    pub(crate) fn files(&self) -> &[String] {
        &self.files
    }
}
