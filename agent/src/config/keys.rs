//! Every setting that exists, with what its value must be. The only list of keys.

use super::fragment::Given;
use crate::ai::policy;
use crate::ai::profile::is_name;
use crate::display::Model;
use crate::senses::PROVIDER_NAMES;
use std::time::Duration;

/// What a value must be.
#[derive(Debug, Clone, Copy)]
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
    /// One of these numbers.
    Choice(&'static [u64]),
    /// A string that passes a check.
    Text {
        /// The check.
        valid: fn(&str) -> bool,
        /// What was expected, in words.
        expected: &'static str,
    },
    /// A list of strings, each of which passes a check.
    List {
        /// The check.
        each: fn(&str) -> bool,
        /// What was expected, in words.
        expected: &'static str,
    },
    /// A span of time within these limits, in seconds: "90 s", "15 min", "12 h", "30 d".
    Span {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
}

impl Kind {
    /// What was expected, in words.
    pub(crate) fn expected(self) -> String {
        match self {
            Kind::Integer { min, max, or_zero: false } => format!("a whole number from {min} to {max}"),
            Kind::Integer { min, max, or_zero: true } => format!("0 or a whole number from {min} to {max}"),
            Kind::Choice(numbers) => format!("one of {}", numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
            Kind::Text { expected, .. } | Kind::List { expected, .. } => expected.to_owned(),
            Kind::Span { min, max } => {
                format!("a span of time such as \"15 min\" (units s, min, h, d) from {min} s to {max} s")
            }
        }
    }

    /// The number, if it is one that this kind takes.
    pub(crate) fn integer(self, given: &Given) -> Option<u64> {
        let (Kind::Integer { min, max, or_zero }, Given::Integer(number)) = (self, given) else { return None };
        u64::try_from(*number).ok().filter(|number| (min..=max).contains(number) || (or_zero && *number == 0))
    }

    /// The number, if it is one of those.
    pub(crate) fn choice(self, given: &Given) -> Option<u64> {
        let (Kind::Choice(numbers), Given::Integer(number)) = (self, given) else { return None };
        u64::try_from(*number).ok().filter(|number| numbers.contains(number))
    }

    /// The string.
    pub(crate) fn text(self, given: &Given) -> Option<String> {
        let (Kind::Text { valid, .. }, Given::Text(text)) = (self, given) else { return None };
        valid(text).then(|| text.clone())
    }

    /// The list.
    pub(crate) fn list(self, given: &Given) -> Option<Vec<String>> {
        let (Kind::List { each, .. }, Given::List(items)) = (self, given) else { return None };
        items.iter().all(|item| each(item)).then(|| items.clone())
    }

    /// The span of time.
    pub(crate) fn span(self, given: &Given) -> Option<Duration> {
        let (Kind::Span { min, max }, Given::Text(text)) = (self, given) else { return None };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = [("s", 1), ("min", 60), ("h", 3600), ("d", 86_400)].into_iter().find(|(name, _)| *name == unit.trim_start())?.1;
        let seconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
        (min..=max).contains(&seconds).then(|| Duration::from_secs(seconds))
    }
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// `section.name`.
    pub(crate) name: &'static str,
    /// What its value must be.
    pub(crate) kind: Kind,
    /// Whether a reload takes it; else the service that reads it has to be restarted.
    pub(crate) live: bool,
}

impl Key {
    /// The section; where a reload doesn't take the setting, it is read by the service of this name.
    pub(crate) fn section(&self) -> &'static str {
        self.name.split('.').next().unwrap_or_default()
    }
}

const HOSTS: Kind = Kind::List { each: is_host, expected: "a list of host names or addresses without port, such as [\"node7.example\"]" };
const PANEL: Kind = Kind::Text {
    valid: |name| Model::named(name).is_some(),
    expected: "the name of a panel: \"waveshare-2.13-v4\", \"waveshare-2.9-v2\" or \"waveshare-1.54-v2\"",
};
const PROVIDERS: Kind = Kind::List {
    each: |name| PROVIDER_NAMES.contains(&name),
    expected: "a list of providers, of \"system\", \"network\", \"units\" and \"time\"",
};
const ROTATION: Kind = Kind::Choice(&[0, 90, 180, 270]);

const SECRET: Kind =
    Kind::Text { valid: is_secret, expected: "\"\", an absolute path, or the name of a systemd credential such as \"web.key\"" };
const PROFILE: Kind = Kind::Text { valid: is_name, expected: "the name of a profile: 1 to 64 lower-case letters, digits and hyphens" };
const ACTIONS: Kind = Kind::List { each: policy::is_action, expected: "a list of actions; see: smolotchi ai actions" };
const RISK: Kind = Kind::Text { valid: policy::is_risk, expected: "\"passive\" or \"record\"" };
const INTERFACES: Kind = Kind::List { each: policy::is_interface, expected: "a list of interfaces such as [\"eth0\"]" };
const NETWORKS: Kind = Kind::List { each: policy::is_network, expected: "a list of networks such as [\"198.51.100.0/24\"]" };

/// Every setting, in the order in which they are shown.
pub(crate) const KEYS: &[Key] = &[
    Key { name: "core.min_free_mib", kind: Kind::Integer { min: 0, max: 1_048_576, or_zero: false }, live: true },
    Key { name: "retention.max_events", kind: Kind::Integer { min: 0, max: 1_000_000_000, or_zero: false }, live: true },
    Key { name: "retention.max_age_days", kind: Kind::Integer { min: 0, max: 36_500, or_zero: false }, live: true },
    Key { name: "retention.max_bytes", kind: Kind::Integer { min: 1_048_576, max: 1_099_511_627_776, or_zero: true }, live: true },
    Key { name: "retention.min_free_mib", kind: Kind::Integer { min: 0, max: 1_048_576, or_zero: false }, live: true },
    Key { name: "jobs.max_age_days", kind: Kind::Integer { min: 0, max: 36_500, or_zero: false }, live: true },
    Key { name: "artifacts.max_age_days", kind: Kind::Integer { min: 0, max: 36_500, or_zero: false }, live: true },
    Key { name: "artifacts.max_mib", kind: Kind::Integer { min: 0, max: 1_048_576, or_zero: false }, live: true },
    Key { name: "senses.providers", kind: PROVIDERS, live: true },
    Key { name: "senses.min_interval", kind: Kind::Span { min: 5, max: 3600 }, live: true },
    Key { name: "senses.max_interval", kind: Kind::Span { min: 60, max: 86_400 }, live: true },
    Key { name: "ai.profile", kind: PROFILE, live: true },
    Key { name: "ai.every_hours", kind: Kind::Integer { min: 1, max: 8760, or_zero: true }, live: true },
    Key { name: "policy.actions", kind: ACTIONS, live: true },
    Key { name: "policy.max_risk", kind: RISK, live: true },
    Key { name: "policy.interfaces", kind: INTERFACES, live: true },
    Key { name: "policy.networks", kind: NETWORKS, live: true },
    Key { name: "policy.arp_interfaces", kind: INTERFACES, live: true },
    Key { name: "policy.net_interfaces", kind: INTERFACES, live: true },
    Key { name: "policy.runs_per_hour", kind: Kind::Integer { min: 1, max: 3600, or_zero: true }, live: true },
    Key { name: "policy.decision_hours", kind: Kind::Integer { min: 1, max: 8760, or_zero: false }, live: true },
    Key { name: "web.hosts", kind: HOSTS, live: false },
    Key { name: "web.refresh_seconds", kind: Kind::Integer { min: 5, max: 3600, or_zero: true }, live: false },
    Key { name: "web.tls_certificate", kind: SECRET, live: false },
    Key { name: "web.tls_key", kind: SECRET, live: false },
    Key { name: "display.panel", kind: PANEL, live: false },
    Key { name: "display.rotation", kind: ROTATION, live: false },
    Key { name: "display.interval", kind: Kind::Span { min: 60, max: 3600 }, live: false },
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

/// A name or an address without port; IPv6 without brackets.
fn is_host(text: &str) -> bool {
    let name = !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|part| {
            !part.is_empty() && part.len() <= 63 && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        });
    name || text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// Nothing, a path, or a credential's name.
fn is_secret(text: &str) -> bool {
    !text.contains('\0') && (text.is_empty() || text.starts_with('/') || (!text.contains('/') && !text.starts_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_takes_its_values_only() {
        let text = |text: &str| Given::Text(text.into());
        let span = Kind::Span { min: 60, max: 2 * 86_400 };
        for (given, seconds) in [("60s", Some(60)), ("1 min", Some(60)), ("2 h", Some(7200)), ("2d", Some(172_800))] {
            assert_eq!(span.span(&text(given)).map(|span| span.as_secs()), seconds, "{given}");
        }
        for given in ["59 s", "3 d", "1", "min", "", "1 m", "1.5 h", "-1 h", "1 h ", "99999999999999999999 s", "999999999999999999 d"] {
            assert_eq!(span.span(&text(given)), None, "{given}");
        }
        assert_eq!(span.span(&Given::Integer(60)), None);
        let word = Kind::Text { valid: |text| !text.is_empty(), expected: "a word" };
        assert_eq!((word.text(&text("a")), word.text(&text("")), word.text(&Given::Integer(1))), (Some("a".into()), None, None));
        let list = Kind::List { each: |text| !text.is_empty(), expected: "words" };
        let items = |items: &[&str]| Given::List(items.iter().map(|item| (*item).to_owned()).collect());
        assert_eq!((list.list(&items(&["a"])), list.list(&items(&["a", ""])), list.list(&text("a"))), (Some(vec!["a".into()]), None, None));
    }
}
