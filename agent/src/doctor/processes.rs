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
        let process = paths.proc().join(unit.pid.to_string());
        checks.push(match std::fs::read_to_string(process.join("status")) {
            Ok(status) => judge(unit, &status, &Inside::look(paths, &process)),
            Err(error) => Check::unknown(PART, &unit.id, format!("process {}: {error}", unit.pid)),
        });
    }
    checks.push(limits(&std::fs::read_to_string(paths.sys().join("fs/cgroup/cgroup.controllers")).unwrap_or_default()));
    checks
}

/// What only root may look at.
#[derive(Debug, Default)]
struct Inside {
    /// Its mounts, mountinfo of proc(5).
    mounts: String,
    /// Its namespaces that are the machine's, by the kernel's names.
    shared: Vec<&'static str>,
}

impl Inside {
    fn look(paths: &Paths, process: &std::path::Path) -> Inside {
        let machine = paths.proc().join("1");
        let same = |name: &&str| {
            let namespace = |of: &std::path::Path| std::fs::read_link(of.join("ns").join(name)).ok();
            namespace(process).is_some_and(|its| Some(its) == namespace(&machine))
        };
        let mounts = std::fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
        Inside { mounts, shared: ["net", "user", "mnt", "ipc"].into_iter().filter(same).collect() }
    }

    /// Where something can be written and then executed.
    fn both(&self) -> Vec<&str> {
        let open = |options: &str| options.split(',').any(|one| one == "rw") && !options.split(',').any(|one| one == "noexec");
        let fields = self.mounts.lines().filter_map(|line| line.split(' ').nth(4).zip(line.split(' ').nth(5)));
        fields.filter(|(_, options)| open(options)).map(|(at, _)| at).collect()
    }
}

/// Compares a process's status (proc(5)) and what it sees with what its unit says.
fn judge(unit: &Unit, status: &str, inside: &Inside) -> Check {
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
    let others = ["CapPrm", "CapInh", "CapAmb"].into_iter().filter_map(|name| mask(name).ok()).fold(0, |all, one| all | one);
    if effective | others != 0 && !root {
        wrong.push(format!("it has capabilities ({:x})", effective | others));
    }
    if !root && !inside.both().is_empty() {
        wrong.push(format!("it can write and execute at {}", inside.both().join(" ")));
    }
    let shared: Vec<_> = unit.apart.iter().filter(|name| inside.shared.contains(name)).copied().collect();
    if !shared.is_empty() {
        wrong.push(format!("it shares the machine's namespaces {}", shared.join(" ")));
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
        assert_eq!(judge(&unit(), GOOD, &Inside::default()).state, State::Ok);
        let cases = [
            ("CapEff:\t0000000000000000", "CapEff:\t0000000000000400", "has capabilities"),
            ("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff", "its unit says 0"),
            ("CapBnd", "CapAmb:\t0000000000000400\nCapBnd", "has capabilities"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "gain privileges"),
            ("Seccomp:\t2", "Seccomp:\t0", "not filtered"),
            ("Uid:\t990\t990\t990", "Uid:\t0\t0\t0", "runs as root"),
        ];
        for (from, to, words) in cases {
            let check = judge(&unit(), &GOOD.replace(from, to), &Inside::default());
            assert_eq!((check.state, check.detail.contains(words)), (State::Failed, true), "{check:?}");
        }
        assert_eq!(judge(&unit(), "", &Inside::default()).state, State::Unknown);
    }

    #[test]
    fn a_place_to_write_and_execute_and_a_shared_namespace_are_found() {
        let mounts = |options: &str| format!("36 35 98:0 /x / ro,nosuid - ext4 /dev/x rw\n37 36 0:5 /y /tmp {options} - tmpfs none rw\n");
        let inside = |options: &str, shared| Inside { mounts: mounts(options), shared };
        let apart = Unit { apart: vec!["net", "user"], ..unit() };
        assert_eq!(judge(&apart, GOOD, &inside("rw,nosuid,noexec", vec!["ipc"])).state, State::Ok);
        for (inside, words) in [(inside("rw,nosuid", vec![]), "execute at /tmp"), (inside("ro", vec!["net", "ipc"]), "namespaces net")] {
            let check = judge(&apart, GOOD, &inside);
            assert!(check.state == State::Failed && check.detail.ends_with(words), "{check:?}");
        }
    }

    #[test]
    fn bounds_that_do_not_hold_are_told() {
        assert_eq!(limits("cpuset cpu io memory pids").state, State::Ok);
        assert!(limits("cpu io pids").detail.contains("memory here"));
        assert_eq!(limits("").state, State::Warning);
    }
}
