//! The exposure of a service in exact points, from what `systemd-analyze security` prints, and what each service may have.
//!
//! Pure. The gate of the build and `smolotchi doctor --security` read the same table with this, so both speak of the same points. With
//! SYSTEMD_ANALYZE_DEBUG=1 the table has the weight and the badness of each test, and the sum is exact; without, one decimal is all there is.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One test that counts against a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Open {
    /// `PrivateNetwork=`.
    pub name: String,
    /// What it costs.
    pub points: u64,
    /// systemd's words.
    pub about: String,
}

/// What one service has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exposure {
    /// The sum.
    pub points: u64,
    /// Of so many.
    pub of: u64,
    /// In tenths, as systemd prints it: 1 is 0.1.
    pub tenths: u64,
    /// What is open, the dearest first.
    pub open: Vec<Open>,
}

/// What each service may have, and what it had: `exposure.toml`, packaged as `/usr/lib/smolotchi/exposure.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// The release before this one.
    pub last_release: String,
    /// Points that a unit may have at most.
    pub thresholds: BTreeMap<String, u64>,
    /// Points that it had in the release before; one that is not in there is new.
    pub last: BTreeMap<String, u64>,
}

/// One service beside what it may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Its name.
    pub unit: String,
    /// What was measured.
    #[serde(flatten)]
    pub exposure: Exposure,
    /// What it may have at most; nothing if nobody said so.
    pub threshold: Option<u64>,
    /// The release before.
    pub last_release: String,
    /// Points more (or less) than in the release before; nothing if it is new.
    pub delta: Option<i64>,
}

impl Pins {
    /// What was measured, beside what is said of the unit.
    pub fn hold(&self, unit: &str, exposure: Exposure) -> Held {
        let delta = self.last.get(unit).map(|last| exposure.points as i64 - *last as i64);
        let threshold = self.thresholds.get(unit).copied();
        Held { unit: unit.to_owned(), exposure, threshold, last_release: self.last_release.clone(), delta }
    }
}

impl Held {
    /// Whether it has more than it may have, or more than it had.
    pub fn risen(&self) -> bool {
        self.threshold.is_none_or(|threshold| self.exposure.points > threshold) || self.delta.is_some_and(|delta| delta > 0)
    }

    /// `-2210 since 0.1.0`.
    pub fn since(&self) -> String {
        let last = &self.last_release;
        self.delta.map_or_else(|| format!("new since {last}"), |delta| format!("{delta:+} since {last}"))
    }
}

impl Exposure {
    /// As systemd prints it: `0.1`.
    pub fn level(&self) -> String {
        format!("{}.{}", self.tenths / 10, self.tenths % 10)
    }
}

/// Reads the table with its weights (`SYSTEMD_ANALYZE_DEBUG=1 systemd-analyze security UNIT`, wide enough that nothing is cut). The sum must
/// give the level that systemd prints itself, or it is not understood.
pub fn parse(text: &str) -> Option<Exposure> {
    let (mut points, mut of, mut open) = (0, 0, Vec::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        // ✓ NAME= DESCRIPTION … WEIGHT BADNESS RANGE [EXPOSURE]
        let Some(start) = words.iter().position(|word| word.contains('=')).filter(|start| *start <= 1) else { continue };
        let end =
            if words.last().is_some_and(|word| word.contains('.') && word.parse::<f64>().is_ok()) { words.len() - 1 } else { words.len() };
        let numbers: Vec<u64> = words.get(end.checked_sub(3)?..end)?.iter().filter_map(|word| word.parse().ok()).collect();
        let [weight, badness, range] = numbers[..] else { continue };
        // What does not apply to this service counts neither way.
        if badness > range || range == 0 {
            continue;
        }
        of += weight;
        let cost = (badness * weight).div_ceil(range);
        points += cost;
        if cost > 0 {
            open.push(Open { name: words[start].to_owned(), points: cost, about: words[start + 1..end - 3].join(" ") });
        }
    }
    open.sort_by(|a, b| b.points.cmp(&a.points).then(a.name.cmp(&b.name)));
    let tenths = (points * 100).checked_div(of).map(|_| (points * 100).div_ceil(of))?;
    let level = text.lines().find_map(|line| line.split("exposure level for ").nth(1)?.split_once(": ")?.1.split(' ').next())?;
    let (whole, tenth) = level.split_once('.')?;
    (whole.parse::<u64>().ok()? * 10 + tenth.parse::<u64>().ok()? == tenths).then_some(Exposure { points, of, tenths, open })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  NAME                      DESCRIPTION                              WEIGHT BADNESS RANGE EXPOSURE
✓ PrivateNetwork=           Service has no access to the network       2500       0     1
✗ DeviceAllow=              Service has a device ACL                   1000       5    10      0.1
✗ RestrictAddressFamilies=~AF_UNIX  Service may allocate sockets         25       1     1      0.1
  RemoveIPC=                Service runs as root, option does not apply 100 18446744073709551615 1

→ Overall exposure level for smolotchi-x.service: 1.5 OK :-)
";

    #[test]
    fn the_sum_is_exact_and_must_agree_with_systemds_own() {
        let exposure = parse(TABLE).unwrap();
        assert_eq!((exposure.points, exposure.of, exposure.tenths), (525, 3525, 15));
        assert_eq!(
            exposure.open.iter().map(|open| (open.name.as_str(), open.points)).collect::<Vec<_>>(),
            [("DeviceAllow=", 500), ("RestrictAddressFamilies=~AF_UNIX", 25)]
        );
        assert_eq!(parse(&TABLE.replace(": 1.5", ": 1.4")), None, "another sum than systemd's");
        assert_eq!(parse(""), None);
    }

    #[test]
    fn more_than_it_may_have_or_had_is_a_rise() {
        let pins = |threshold: &[(&str, u64)], last: &[(&str, u64)]| Pins {
            last_release: "0.1.0".into(),
            thresholds: threshold.iter().map(|(unit, points)| ((*unit).to_owned(), *points)).collect(),
            last: last.iter().map(|(unit, points)| ((*unit).to_owned(), *points)).collect(),
        };
        let held = |pins: Pins| pins.hold("x", parse(TABLE).unwrap());
        let cases = [
            (pins(&[("x", 525)], &[("x", 600)]), false, "-75 since 0.1.0"),
            (pins(&[("x", 525)], &[]), false, "new since 0.1.0"),
            (pins(&[("x", 524)], &[("x", 600)]), true, "-75 since 0.1.0"),
            // A threshold that was raised with it hides nothing.
            (pins(&[("x", 525)], &[("x", 524)]), true, "+1 since 0.1.0"),
            (pins(&[("y", 525)], &[]), true, "new since 0.1.0"),
        ];
        for (pins, risen, since) in cases {
            let held = held(pins);
            assert_eq!((held.risen(), held.since().as_str()), (risen, since));
        }
    }
}
