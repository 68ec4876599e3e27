//! Part `processes`: whether what the units promise holds for the processes that run, by the kernel's word.

use super::units::{Unit, ask_all};
use super::{Check, State};
use crate::paths::Paths;

const PART: &str = "processes";

pub(super) fn look(paths: &Paths) -> Vec<Check> {
    let units = match ask_all(paths) {
        Ok(units) => units,
        Err(why) => return vec![Check::unknown(PART, "privileges", why)],
    };
    let mut checks = Vec::new();
    for unit in units.iter().filter(|unit| unit.pid > 0) {
        let status = std::fs::read_to_string(paths.proc().join(unit.pid.to_string()).join("status"));
        checks.push(match status {
            Ok(status) => judge(unit, &status),
            Err(error) => Check::unknown(PART, &unit.id, format!("process {}: {error}", unit.pid)),
        });
    }
    checks.push(limits(&std::fs::read_to_string(paths.sys().join("fs/cgroup/cgroup.controllers")).unwrap_or_default()));
    checks
}

/// Compares a process's status (proc(5)) with what its unit says.
fn judge(unit: &Unit, status: &str) -> Check {
    let get = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim();
    let mask = |name: &str| u64::from_str_radix(get(name), 16);
    let (Ok(effective), Ok(bounding)) = (mask("CapEff"), mask("CapBnd")) else {
        return Check::unknown(PART, &unit.id, "the kernel doesn't tell its capabilities");
    };
    let promised = unit.bounding.split_whitespace().count() as u32;
    let mut wrong = Vec::new();
    if bounding.count_ones() > promised {
        wrong.push(format!("it may get {} capabilities, its unit says {promised}", bounding.count_ones()));
    }
    let root = ["", "root"].contains(&unit.user.as_str());
    if effective != 0 && !root {
        wrong.push(format!("it has capabilities ({effective:x})"));
    }
    if !root && get("Uid").split_whitespace().any(|uid| uid == "0") {
        wrong.push("it runs as root".to_owned());
    }
    if unit.no_new_privileges && get("NoNewPrivs") != "1" {
        wrong.push("it may gain privileges".to_owned());
    }
    if unit.filtered && get("Seccomp") != "2" {
        wrong.push("its system calls are not filtered".to_owned());
    }
    if wrong.is_empty() {
        Check::ok(PART, &unit.id, format!("process {}: {} capabilities, as its unit says", unit.pid, bounding.count_ones()))
    } else {
        let hint = format!("see what changes the unit: systemctl cat {0}; then systemctl restart {0}", unit.id);
        Check::new(PART, &unit.id, State::Failed, wrong.join(", ")).hint(hint)
    }
}

/// Whether the kernel enforces the units' bounds.
fn limits(controllers: &str) -> Check {
    let missing: Vec<_> = ["memory", "pids"].into_iter().filter(|name| !controllers.split_whitespace().any(|have| have == *name)).collect();
    if missing.is_empty() {
        return Check::ok(PART, "bounds", "memory and number of processes are bounded by the kernel");
    }
    Check::new(PART, "bounds", State::Warning, format!("the kernel doesn't bound {} here; only LimitDATA holds", missing.join(" and ")))
        .hint("on Raspberry Pi OS add cgroup_enable=memory to /boot/firmware/cmdline.txt and reboot")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "Name:\tsmolotchi\nUid:\t990\t990\t990\t990\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";

    fn unit() -> Unit {
        Unit {
            id: "smolotchi-core.service".into(),
            pid: 7,
            user: "smolotchi".into(),
            no_new_privileges: true,
            filtered: true,
            ..Unit::default()
        }
    }

    #[test]
    fn what_the_kernel_says_is_held_against_the_unit() {
        assert_eq!(judge(&unit(), GOOD).state, State::Ok);
        let cases = [
            ("CapEff:\t0000000000000000", "CapEff:\t0000000000000400", "has capabilities"),
            ("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff", "its unit says 0"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "gain privileges"),
            ("Seccomp:\t2", "Seccomp:\t0", "not filtered"),
            ("Uid:\t990\t990\t990", "Uid:\t0\t0\t0", "runs as root"),
        ];
        for (from, to, words) in cases {
            let check = judge(&unit(), &GOOD.replace(from, to));
            assert_eq!((check.state, check.detail.contains(words)), (State::Failed, true), "{check:?}");
        }
        assert_eq!(judge(&unit(), "").state, State::Unknown);
    }

    #[test]
    fn bounds_that_do_not_hold_are_told() {
        assert_eq!(limits("cpuset cpu io memory pids").state, State::Ok);
        assert!(limits("cpu io pids").detail.contains("memory here"));
        assert_eq!(limits("").state, State::Warning);
    }
}
