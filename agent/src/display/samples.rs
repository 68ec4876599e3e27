//! Machines for the tests: empty, well, ill and full.

use super::facts::Facts;

/// Everything known, and in order.
pub(super) fn well() -> Facts {
    Facts {
        host: "node7".into(),
        as_of: "as of 2026-11-21 18:43 UTC".into(),
        ill: vec![],
        version: Some("0.2.0, schema 6".into()),
        since: Some("2026-11-20 07:12 UTC".into()),
        findings: Some(0),
        stages: Some(0),
        upgrade: Some("0.1.0 > 0.2.0, committed".into()),
        disk: Some(61),
        memory: Some(43),
        temperature: Some(41),
        addresses: vec!["192.0.2.7".into()],
    }
}

/// Two things wrong.
pub(super) fn ill() -> Facts {
    Facts {
        ill: vec!["disk: 3 MiB are free in /var/lib/smolotchi; 16 MiB are wanted".into(), "loop: stood still for 42 s".into()],
        findings: Some(3),
        stages: Some(1),
        disk: Some(99),
        memory: Some(87),
        upgrade: Some("0.2.0 > 0.3.0, rolled-back: core did not get healthy within 5 min".into()),
        ..well()
    }
}

/// A machine that core is away from.
pub(super) fn empty() -> Facts {
    Facts { host: "node7".into(), as_of: "the clock is not set".into(), ill: vec!["core can't be asked".into()], ..Facts::default() }
}

/// As much as can be.
pub(super) fn full() -> Facts {
    Facts {
        host: "a-host-name-as-long-as-the-rules-for-them-allow.example".into(),
        ill: (1..=9).map(|n| format!("check-{n}: something that takes many words to be told, and then some more of them")).collect(),
        findings: Some(18_446_744_073_709_551_615),
        stages: Some(100),
        disk: Some(100),
        memory: Some(100),
        temperature: Some(-99),
        addresses: vec!["192.0.2.254".into(), "2001:db8:1234:5678:9abc:def0:1234:5678".into(), "198.51.100.254".into()],
        ..ill()
    }
}

/// Each with its name.
pub(super) fn all() -> [(&'static str, Facts); 4] {
    [("well", well()), ("ill", ill()), ("empty", empty()), ("full", full())]
}
