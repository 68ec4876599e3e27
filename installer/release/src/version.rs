//! Debian's version ordering, deb-version(7), as pure functions; and which versions our own releases may have.

use std::cmp::Ordering;

/// Orders two versions as dpkg does: epoch, then upstream version, then revision. A missing epoch is 0, a missing revision is
/// empty (which orders like "0").
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Parts::of(a), Parts::of(b));
    a.epoch.cmp(&b.epoch).then_with(|| order(a.upstream, b.upstream)).then_with(|| order(a.revision, b.revision))
}

/// True for a version that a release of ours can have: starts with a digit, then letters, digits and `. + ~ -`; no epoch, at most
/// 64 characters. Stricter than Debian, because it is used as a file name.
pub fn is_release_version(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".+~-".contains(&b))
        && !text.contains("..")
}

struct Parts<'a> {
    epoch: u64,
    upstream: &'a str,
    revision: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let (epoch, rest) = text.split_once(':').map_or((0, text), |(epoch, rest)| (epoch.parse().unwrap_or(0), rest));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        Parts { epoch, upstream, revision }
    }
}

/// Compares by turns a run of non-digits (`~` before the end, before letters, before the rest) and a run of digits (as numbers).
fn order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        loop {
            let (x, y) = (a.first().filter(|c| !c.is_ascii_digit()), b.first().filter(|c| !c.is_ascii_digit()));
            if x.is_none() && y.is_none() {
                break;
            }
            match weight(x).cmp(&weight(y)) {
                Ordering::Equal => (a, b) = (&a[1..], &b[1..]),
                unequal => return unequal,
            }
        }
        let (x, y) = (digits(&mut a), digits(&mut b));
        match x.len().cmp(&y.len()).then_with(|| x.cmp(y)) {
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
    Ordering::Equal
}

fn weight(c: Option<&u8>) -> i32 {
    match c {
        None => 0,
        Some(b'~') => -1,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    }
}

/// Takes the leading digits off, without leading zeros, so that longer is greater.
fn digits<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    *text = rest;
    &number[number.iter().position(|c| *c != b'0').unwrap_or(number.len())..]
}
