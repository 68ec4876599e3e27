//! Our ordering of versions is dpkg's: asked of the real one, for a table and for random pairs.

#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use smolotchi_release::version::{compare, is_release_version};
use std::cmp::Ordering;
use std::process::Command;

fn dpkg(a: &str, b: &str) -> Ordering {
    let holds = |relation: &str| {
        let status = Command::new("dpkg").args(["--compare-versions", a, relation, b]).status().expect("dpkg is needed");
        match status.code() {
            Some(0) => true,
            Some(1) => false,
            _ => panic!("dpkg could not compare {a} and {b}"),
        }
    };
    if holds("lt") {
        Ordering::Less
    } else if holds("eq") {
        Ordering::Equal
    } else {
        Ordering::Greater
    }
}

#[test]
fn the_order_is_dpkgs() {
    use Ordering::{Equal, Greater, Less};
    let table = [
        ("0.1.0", "0.2.0", Less),
        ("0.2.0", "0.10.0", Less),
        ("0.2.0", "0.2.0", Equal),
        ("1.0~beta1", "1.0", Less),
        ("1.0-beta", "1.0", Greater),
        ("1.0~", "1.0~~", Greater),
        ("1.0~~a", "1.0~", Less),
        ("1.0", "1.0-0", Equal),
        ("1.0", "1.0-1", Less),
        ("1.0-1", "1.0-1.1", Less),
        ("1.0-1~bpo12+1", "1.0-1", Less),
        ("1.0+dfsg", "1.0", Greater),
        ("1.0a", "1.0+", Less),
        ("1.0a", "1.0", Greater),
        ("1.00", "1.0", Equal),
        ("1.01", "1.1", Equal),
        ("1:0.1", "9.9", Greater),
        ("0:1.0", "1.0", Equal),
        ("1.2.3", "1.2-3", Greater),
        ("1-2-3", "1-2-4", Less),
        ("99999999999999999999999", "100000000000000000000000", Less),
        ("2026.1", "2026.10", Less),
        ("1.0A", "1.0a", Less),
        ("1..2", "1.2", Greater),
    ];
    for (a, b, expected) in table {
        assert_eq!(compare(a, b), expected, "{a} {b}");
        assert_eq!(compare(b, a), expected.reverse(), "{b} {a}");
        assert_eq!(dpkg(a, b), expected, "dpkg: {a} {b}");
    }
}

#[test]
fn random_pairs_are_ordered_as_dpkg_orders_them() {
    // A linear congruential generator: the same pairs in every run.
    let mut state = 20_260_101_u64;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let alphabet = [".", "~", "+", "-", "0", "00", "1", "2", "10", "a", "b", "Z"];
    let mut version = || (0..next(6)).fold("1".to_owned(), |text, _| text + alphabet[next(alphabet.len())]) + "1";
    for _ in 0..200 {
        let (a, b) = (version(), version());
        assert_eq!(compare(&a, &b), dpkg(&a, &b), "{a} {b}");
    }
}

#[test]
fn release_versions_are_plain() {
    for good in ["0.2.0", "2026.1", "0.3.0~rc1", "1.0+dfsg-1"] {
        assert!(is_release_version(good), "{good}");
    }
    for bad in ["", "v1", "1:0", "1/2", "1..2", "../1", "1 ", "1\n", "ü", &"1".repeat(65)] {
        assert!(!is_release_version(bad), "{bad}");
    }
}
