//! Step two: fragments become one value for each key, with the file and line it comes from.

use super::fragment::{Fragment, Given};
use super::keys::{KEYS, Key, key, neighbours};
use crate::wire::Changed;
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
    /// Each place that sets it, lowest precedence first: the last one holds.
    entries: BTreeMap<&'static str, Vec<(Given, Origin)>>,
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
                        merged.entries.entry(key.name).or_default().push((assignment.value, origin));
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
        self.entries.get(name)?.last()
    }

    /// Every key with its value, in the order of the list of keys.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'static str, &Given, &Origin)> {
        KEYS.iter().filter_map(|key| self.get(key.name).map(|(value, origin)| (key.name, value, origin)))
    }

    /// What a key would be without the place that holds: the nearest first.
    pub(crate) fn overridden(&self, name: &str) -> impl Iterator<Item = &(Given, Origin)> {
        self.entries.get(name).into_iter().flat_map(|places| places.iter().rev().skip(1))
    }

    /// What differs from this in a newer reading, in the order of the list of keys.
    pub(crate) fn changes(&self, newer: &Merged) -> Vec<Changed> {
        let changed = |key: &&Key| self.get(key.name).map(|(value, _)| value) != newer.get(key.name).map(|(value, _)| value);
        let shown = |of: &Merged, key: &Key| of.get(key.name).map(|(value, _)| value.to_string()).unwrap_or_default();
        let change = |key: &Key| Changed {
            key: key.name.to_owned(),
            from: shown(self, key),
            to: shown(newer, key),
            restart: (!key.live).then(|| format!("smolotchi-{}.service", key.section())),
        };
        KEYS.iter().filter(changed).map(change).collect()
    }

    /// What was read, lowest precedence first.
    pub(crate) fn files(&self) -> &[String] {
        &self.files
    }
}
