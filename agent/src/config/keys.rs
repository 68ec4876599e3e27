//! Every setting that exists, with what its value must be. The only list of keys.

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole number within these limits; with `or_zero`, 0 as well.
    Integer {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
        /// Whether 0 is allowed below `min`.
        or_zero: bool,
    },
    /// A list of host names or addresses, without port.
    Hosts,
}

impl Kind {
    /// What was expected, in words.
    pub(crate) fn expected(self) -> String {
        match self {
            Kind::Integer { min, max, or_zero: false } => format!("a whole number from {min} to {max}"),
            Kind::Integer { min, max, or_zero: true } => format!("0 or a whole number from {min} to {max}"),
            Kind::Hosts => "a list of host names or addresses without port, such as [\"node7.example\"]".to_owned(),
        }
    }
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// `section.name`.
    pub(crate) name: &'static str,
    /// What its value must be.
    pub(crate) kind: Kind,
}

/// Every setting, in the order in which they are shown.
pub(crate) const KEYS: &[Key] = &[
    Key { name: "core.min_free_mib", kind: Kind::Integer { min: 0, max: 1_048_576, or_zero: false } },
    Key { name: "retention.max_events", kind: Kind::Integer { min: 0, max: 1_000_000_000, or_zero: false } },
    Key { name: "retention.max_age_days", kind: Kind::Integer { min: 0, max: 36_500, or_zero: false } },
    Key { name: "web.hosts", kind: Kind::Hosts },
    Key { name: "web.refresh_seconds", kind: Kind::Integer { min: 5, max: 3600, or_zero: true } },
];

/// The setting of this name.
pub(crate) fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// What stands in a section, or the sections, for the error about an unknown key.
pub(crate) fn neighbours(name: &str) -> String {
    let section = name.split('.').next().unwrap_or_default();
    let siblings: Vec<_> = KEYS.iter().filter(|key| key.name.split('.').next() == Some(section)).map(|key| key.name).collect();
    if siblings.is_empty() { KEYS.iter().map(|key| key.name).collect::<Vec<_>>().join(", ") } else { siblings.join(", ") }
}
