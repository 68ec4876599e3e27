//! Part `security`: how exposed each service is, by systemd's own measure.

use super::{Check, State, ask, units};
use crate::paths::Paths;

const PART: &str = "security";
/// What ours are packaged with; more is an operator's drop-in.
const MOST: f64 = 0.1;

pub(super) fn look(paths: &Paths, detailed: bool) -> Vec<Check> {
    if !paths.systemd_runs().exists() {
        return vec![Check::unknown(PART, "exposure", "systemd doesn't run here")];
    }
    // The installer changes packages: it must be able to do what these lines forbid.
    let ours = |name: &String| name.ends_with(".service") && !name.starts_with("smolotchi-install");
    units::names(paths).into_iter().filter(ours).map(|name| exposure(&name, detailed)).collect()
}

fn exposure(unit: &str, detailed: bool) -> Check {
    match ask("systemd-analyze", &["security", "--no-pager", unit]) {
        Ok(text) => judge(unit, &text, detailed),
        Err(why) => Check::unknown(PART, unit, why),
    }
}

/// Reads `→ Overall exposure level for UNIT: 1.1 OK :-)` and, in detail, the lines that count against it.
fn judge(unit: &str, text: &str, detailed: bool) -> Check {
    let level =
        text.lines().find_map(|line| line.split("exposure level for ").nth(1)?.split_once(": ")?.1.split(' ').next()?.parse::<f64>().ok());
    let Some(level) = level else { return Check::unknown(PART, unit, "systemd-analyze says no level") };
    let open: Vec<_> =
        text.lines().filter_map(|line| line.trim_start().strip_prefix('✗')).filter_map(|line| line.split_whitespace().next()).collect();
    let mut detail = format!("exposure {level:.1} of 10");
    if detailed && !open.is_empty() {
        detail.push_str(&format!("; open: {}", open.join(" ")));
    }
    if level <= MOST {
        Check::ok(PART, unit, detail)
    } else {
        Check::new(PART, unit, State::Warning, detail)
            .hint(format!("see which drop-in opens it: systemctl cat {unit}; smolotchi doctor --security"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_read_and_judged() {
        let text = |level: &str| {
            format!(
                "  NAME            DESCRIPTION   EXPOSURE\n✓ PrivateTmp=     Private /tmp\n✗ RootDirectory=  Service runs in the host's root 0.1\n\n\
                 → Overall exposure level for a.service: {level} OK :-)\n"
            )
        };
        assert_eq!(judge("a.service", &text("0.1"), false), Check::ok(PART, "a.service", "exposure 0.1 of 10"));
        assert_eq!(judge("a.service", &text("0.1"), true).detail, "exposure 0.1 of 10; open: RootDirectory=");
        assert_eq!(judge("a.service", &text("0.2"), false).state, State::Warning);
        assert_eq!(judge("a.service", "", false).state, State::Unknown);
    }
}
