//! Part `units`: what systemd says about each unit of ours.

use super::{Check, ask};
use crate::doctor::State;
use crate::paths::Paths;

const PART: &str = "units";

/// What `systemctl show` says about one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) id: String,
    pub(super) load: String,
    pub(super) active: String,
    pub(super) sub: String,
    pub(super) file: String,
    pub(super) result: String,
    pub(super) restarts: u64,
    pub(super) pid: u32,
    pub(super) user: String,
    pub(super) bounding: String,
    /// Capabilities that it is started with, whoever runs it.
    pub(super) ambient: String,
    pub(super) no_new_privileges: bool,
    pub(super) filtered: bool,
    /// Namespaces of its own, by the kernel's names.
    pub(super) apart: Vec<&'static str>,
    /// Its control group, which has its processes.
    pub(super) group: String,
    /// Where its mounts may be writable.
    pub(super) writable: Vec<String>,
    /// Families of sockets that it may open (`AF_UNIX`).
    pub(super) families: Vec<String>,
    /// Sockets that are handed to it.
    pub(super) sockets: Vec<String>,
    /// Files that shape it and that no package brought.
    pub(super) operators: Vec<String>,
}

/// Handed to core at its start, and to nobody later.
const SENSES: &str = "smolotchi-senses.socket";

const PROPERTIES: &str = "--property=Id,LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts,MainPID,User,CapabilityBoundingSet,\
                          AmbientCapabilities,NoNewPrivileges,SystemCallFilter,PrivateNetwork,PrivateUsers,PrivateMounts,PrivateIPC,PrivateTmp,ControlGroup,\
                          ReadWritePaths,BindPaths,StateDirectory,RuntimeDirectory,CacheDirectory,LogsDirectory,RestrictAddressFamilies,\
                          TriggeredBy,DropInPaths";

/// Properties that give a service a namespace of its own.
const APART: [(&str, &str); 4] = [("PrivateNetwork", "net"), ("PrivateUsers", "user"), ("PrivateMounts", "mnt"), ("PrivateIPC", "ipc")];

/// Reads what `systemctl show` prints.
pub(super) fn parse(text: &str) -> Vec<Unit> {
    let unit = |block: &str| {
        let get = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default().to_owned();
        Unit {
            id: get("Id"),
            load: get("LoadState"),
            active: get("ActiveState"),
            sub: get("SubState"),
            file: get("UnitFileState"),
            result: get("Result"),
            restarts: get("NRestarts").parse().unwrap_or(0),
            pid: get("MainPID").parse().unwrap_or(0),
            user: get("User"),
            bounding: get("CapabilityBoundingSet"),
            ambient: get("AmbientCapabilities"),
            no_new_privileges: get("NoNewPrivileges") == "yes",
            filtered: !get("SystemCallFilter").is_empty(),
            apart: APART.iter().filter(|(property, _)| get(property) == "yes").map(|(_, name)| *name).collect(),
            group: get("ControlGroup"),
            writable: writable(get),
            families: words(&get("RestrictAddressFamilies")),
            sockets: words(&get("TriggeredBy")).into_iter().filter(|unit| unit.ends_with(".socket")).collect(),
            operators: words(&get("DropInPaths")).into_iter().filter(|path| !path.starts_with("/usr/lib/systemd/")).collect(),
        }
    };
    text.split("\n\n").filter(|block| !block.trim().is_empty()).map(unit).collect()
}

fn words(value: &str) -> Vec<String> {
    value.split_whitespace().map(str::to_owned).collect()
}

/// The folders and files that a unit names as writable.
fn writable(get: impl Fn(&str) -> String) -> Vec<String> {
    let mut paths = Vec::new();
    for (property, below) in
        [("StateDirectory", "/var/lib/"), ("RuntimeDirectory", "/run/"), ("CacheDirectory", "/var/cache/"), ("LogsDirectory", "/var/log/")]
    {
        paths.extend(words(&get(property)).iter().map(|name| format!("{below}{name}")));
    }
    paths.extend(words(&get("ReadWritePaths")).iter().map(|path| path.trim_start_matches(['-', '+']).to_owned()));
    // SOURCE:DESTINATION:OPTIONS
    paths.extend(words(&get("BindPaths")).iter().filter_map(|bind| bind.split(':').nth(1).map(str::to_owned)));
    if get("PrivateTmp") != "no" {
        paths.extend(["/tmp", "/var/tmp"].map(str::to_owned));
    }
    paths
}

/// What the sockets of these names listen on, in the words of systemd.socket(5): `127.0.0.1:8080`, `/run/x`, `route 0`.
pub(super) fn listened(sockets: &[String]) -> Result<Vec<String>, String> {
    if sockets.is_empty() {
        return Ok(Vec::new());
    }
    let mut args = vec!["show", "--property=Listen", "--"];
    args.extend(sockets.iter().map(String::as_str));
    let line = |line: &str| Some(line.strip_prefix("Listen=")?.rsplit_once(" (")?.0.to_owned());
    ask("systemctl", &args).map(|text| text.lines().filter_map(line).collect())
}

/// The units that the packages bring; a template is none.
pub(crate) fn names(paths: &Paths) -> Vec<String> {
    let entries = std::fs::read_dir(paths.root().join("usr/lib/systemd/system")).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| {
        name.starts_with("smolotchi-") && !name.contains("@.") && [".service", ".socket", ".timer"].iter().any(|kind| name.ends_with(kind))
    });
    names.sort();
    names
}

/// Asks systemd about all of them.
pub(super) fn ask_all(paths: &Paths) -> Result<Vec<Unit>, String> {
    if !paths.systemd_runs().exists() {
        return Err("systemd doesn't run here".to_owned());
    }
    let names = names(paths);
    if names.is_empty() {
        return Err("the package's units are not installed".to_owned());
    }
    let mut args = vec!["show", PROPERTIES];
    args.extend(names.iter().map(String::as_str));
    ask("systemctl", &args).map(|text| parse(&text))
}

pub(super) fn look(paths: &Paths) -> Vec<Check> {
    match ask_all(paths) {
        Ok(units) => {
            let core = units.iter().any(|unit| unit.id == "smolotchi-core.service" && unit.active == "active");
            units.iter().map(|unit| judge(unit, core)).collect()
        }
        Err(why) => vec![Check::unknown(PART, "units", why)],
    }
}

/// With whether core runs: a socket that is its own for as long as it lives can't be started meanwhile.
fn judge(unit: &Unit, core: bool) -> Check {
    let check = |state, detail: String| Check::new(PART, &unit.id, state, detail);
    let id = &unit.id;
    let start = match (id.as_str(), core) {
        (SENSES, true) => format!("journalctl -xeu {id}; then systemctl restart smolotchi-core.service"),
        _ => format!("journalctl -xeu {id}; then systemctl reset-failed {id}; systemctl start {id}"),
    };
    match (unit.file.as_str(), unit.active.as_str()) {
        ("masked" | "masked-runtime", _) => {
            check(State::Warning, "masked by the operator".to_owned()).hint(format!("if that is no longer wanted: systemctl unmask {id}"))
        }
        (_, "failed") => check(State::Failed, format!("failed ({})", unit.result)).hint(start),
        ("enabled" | "enabled-runtime", "inactive") if expected(id) => {
            check(State::Failed, "enabled, but not running".to_owned()).hint(start)
        }
        (_, "inactive") if id == SENSES && core => check(State::Failed, "not open, though core runs".to_owned()).hint(start),
        // Part of the wait is at the end of the crash.
        _ if unit.sub == "auto-restart" || (unit.sub == "stop-post" && unit.result != "success") => {
            check(State::Failed, format!("waits to be started again ({})", unit.result)).hint(start)
        }
        _ if unit.restarts > 0 => {
            check(State::Warning, format!("{}, started again {} times after it had failed", unit.active, unit.restarts))
                .hint(format!("journalctl -xeu {id}"))
        }
        ("disabled", _) => check(State::Ok, format!("{}, disabled", unit.active)),
        _ => check(State::Ok, format!("{} ({})", unit.active, unit.sub)),
    }
}

/// Whether an enabled unit is there all the time.
fn expected(id: &str) -> bool {
    !id.starts_with("smolotchi-install") && !id.starts_with("smolotchi-prune.service")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_a_unit_is_judged() {
        let cases = [
            ("smolotchi-core.service", "enabled", "active", "running", 0, State::Ok),
            ("smolotchi-core.service", "enabled", "active", "running", 2, State::Warning),
            ("smolotchi-core.service", "enabled", "inactive", "dead", 0, State::Failed),
            ("smolotchi-core.service", "enabled", "failed", "failed", 3, State::Failed),
            ("smolotchi-core.service", "enabled", "activating", "auto-restart", 1, State::Failed),
            ("smolotchi-core.service", "enabled", "deactivating", "stop-post", 1, State::Failed),
            ("smolotchi-core.service", "masked", "inactive", "dead", 0, State::Warning),
            ("smolotchi-core.service", "disabled", "inactive", "dead", 0, State::Ok),
            ("smolotchi-web.service", "static", "inactive", "dead", 0, State::Ok),
            ("smolotchi-prune.service", "static", "failed", "failed", 0, State::Failed),
            ("smolotchi-install-change.service", "enabled", "inactive", "dead", 0, State::Ok),
        ];
        for (id, file, active, sub, restarts, state) in cases {
            let text =
                format!("Id={id}\nUnitFileState={file}\nActiveState={active}\nSubState={sub}\nNRestarts={restarts}\nResult=signal\n");
            let check = judge(&parse(&text)[0], true);
            assert_eq!(check.state, state, "{check:?}");
            assert_eq!(check.hint.is_some(), state != State::Ok, "{check:?}");
        }
        for (active, core, state, hint) in [
            ("inactive", true, State::Failed, "restart smolotchi-core.service"),
            ("failed", true, State::Failed, "restart smolotchi-core.service"),
            ("failed", false, State::Failed, "start smolotchi-senses.socket"),
            ("inactive", false, State::Ok, ""),
        ] {
            let text = format!("Id={SENSES}\nUnitFileState=static\nActiveState={active}\n");
            let check = judge(&parse(&text)[0], core);
            assert_eq!(check.state, state, "{check:?}");
            assert!(check.hint.unwrap_or_default().ends_with(hint), "{active} {core}");
        }
    }
}
