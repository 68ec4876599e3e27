//! Part `security`: how exposed each service is, in exact points by systemd's own measure, beside what it may have and had.

use super::units::{Unit, ask_all};
use super::{Check, State, ask};
use crate::paths::Paths;
use smolotchi_operator::exposure::{self, Held, Pins};

const PART: &str = "security";

/// What each service may have; packaged.
const PINS: &str = "usr/lib/smolotchi/exposure.toml";

/// Shows the weights, in a table that is wide enough to cut nothing.
const EXACT: [&str; 3] = ["SYSTEMD_ANALYZE_DEBUG=1", "COLUMNS=400", "systemd-analyze"];

pub(super) fn look(paths: &Paths, detailed: bool) -> Vec<Check> {
    let path = paths.root().join(PINS);
    let pins = std::fs::read_to_string(&path).map_err(|error| error.to_string());
    let pins = match pins.and_then(|text| toml::from_str::<Pins>(&text).map_err(|error| error.message().to_owned())) {
        Ok(pins) => pins,
        Err(why) => return vec![Check::unknown(PART, "exposure", format!("{}: {why}", path.display()))],
    };
    match ask_all(paths) {
        Ok(units) => units.iter().filter(|unit| unit.id.ends_with(".service")).map(|unit| measure(unit, &pins, detailed)).collect(),
        Err(why) => vec![Check::unknown(PART, "exposure", why)],
    }
}

fn measure(unit: &Unit, pins: &Pins, detailed: bool) -> Check {
    if unit.load == "masked" {
        return Check::ok(PART, &unit.id, "masked: it can't run");
    }
    let mut args = EXACT.to_vec();
    args.extend(["security", "--no-pager", &unit.id]);
    match ask("env", &args).map(|text| exposure::parse(&text)) {
        Ok(Some(exposure)) => judge(unit, pins.hold(&unit.id, exposure), detailed),
        Ok(None) => Check::unknown(PART, &unit.id, "what systemd-analyze says is not understood"),
        Err(why) => Check::unknown(PART, &unit.id, why),
    }
}

/// Says what was measured, and in detail what is open.
fn judge(unit: &Unit, held: Held, detailed: bool) -> Check {
    let most = held.threshold.map_or_else(|| "nobody said how many it may have".to_owned(), |most| format!("{most} at most"));
    let mut detail = format!("exposure {} of 10: {} points, {most}, {}", held.exposure.level(), held.exposure.points, held.since());
    if detailed && !held.exposure.open.is_empty() {
        let open: Vec<_> = held.exposure.open.iter().map(|open| format!("{} {}", open.name, open.points)).collect();
        detail.push_str(&format!("; open: {}", open.join(" ")));
    }
    if !unit.operators.is_empty() {
        detail.push_str(&format!("; shaped also by {}", unit.operators.join(" ")));
    }
    let check = if held.risen() {
        Check::new(PART, &unit.id, State::Warning, detail)
            .hint(format!("see which drop-in opens it: systemctl cat {}; smolotchi doctor --security", unit.id))
    } else {
        Check::ok(PART, &unit.id, detail)
    };
    Check { exposure: Some(held), ..check }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
✗ RootDirectory=  Service runs in the host's root  200 1 1
✓ PrivateTmp=     Private /tmp                    1000 0 1

→ Overall exposure level for a.service: 1.7 OK :-)
";

    #[test]
    fn the_points_are_held_against_what_it_may_have() {
        let unit = |operators: &[&str]| Unit {
            id: "a.service".into(),
            operators: operators.iter().map(|path| (*path).to_owned()).collect(),
            ..Unit::default()
        };
        let pins = |most| Pins {
            last_release: "0.1.0".into(),
            thresholds: [("a.service".to_owned(), most)].into(),
            last: [("a.service".to_owned(), 250)].into(),
        };
        let judged = |most, detailed| judge(&unit(&[]), pins(most).hold("a.service", exposure::parse(TABLE).unwrap()), detailed);
        let well = judged(200, false);
        assert_eq!((well.state, well.detail.as_str()), (State::Ok, "exposure 1.7 of 10: 200 points, 200 at most, -50 since 0.1.0"));
        assert!(judged(200, true).detail.ends_with("; open: RootDirectory= 200"));
        assert_eq!(serde_json::to_value(&well).unwrap()["exposure"]["threshold"], 200);
        let risen = judged(199, false);
        assert!(risen.state == State::Warning && risen.hint.is_some(), "{risen:?}");
        let nobody = judge(&unit(&["/etc/systemd/system/a.service.d/x.conf"]), pins(200).hold("b", exposure::parse(TABLE).unwrap()), false);
        assert!(
            nobody.state == State::Warning && nobody.detail.ends_with("shaped also by /etc/systemd/system/a.service.d/x.conf"),
            "{nobody:?}"
        );
    }
}
