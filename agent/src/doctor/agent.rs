//! Part `agent`: core's own view, its database, the configuration, the artifacts.

use super::{Check, State};
use crate::account::{self, Account};
use crate::client::{Client, block_on};
use crate::clock;
use crate::commands::audit::broken;
use crate::commands::health::look as outside;
use crate::config::{self, Unknown};
use crate::paths::Paths;
use crate::wire::{Audited, Health, Now, Power};
use smolotchi_operator::{Code, Fault, Result};

const PART: &str = "agent";

pub(super) fn look(paths: &Paths) -> Vec<Check> {
    let mut checks = vec![configuration(config::merged(paths, Unknown::Refuse).and_then(|merged| merged.settings().map(drop)))];
    let now: Result<Now> = block_on(async { Client::new(paths.socket()).get("/v1/now").await });
    match now {
        Ok(now) => {
            checks.extend(health(outside(paths, &now.status, now.health), &now.status.powers));
            checks.push(artifacts(now.figures.map(|figures| figures.artifacts_damaged)));
            checks.push(event_log(block_on(Client::new(paths.socket()).get_long("/v1/audit"))));
        }
        Err(fault) => checks.push(failed("core", &fault)),
    }
    checks.push(database(paths));
    checks
}

fn failed(name: &str, fault: &Fault) -> Check {
    Check::new(PART, name, State::Failed, fault.to_string()).hint(fault.hint.as_str())
}

fn configuration(valid: Result<()>) -> Check {
    match valid {
        Ok(()) => Check::ok(PART, "configuration", "valid"),
        Err(fault) => failed("configuration", &fault),
    }
}

fn health(health: Health, powers: &[Power]) -> Vec<Check> {
    let of = |check: crate::wire::Check| match check.ok {
        _ if check.unknown => Check::unknown(PART, check.name, check.detail),
        // As the operator wants it, but not as shipped: an intruder in core would have it too.
        _ if powers.iter().any(|power| power.unit == check.name) => Check::new(PART, check.name.as_str(), State::Warning, check.detail)
            .hint(format!("if that is no longer wanted: systemctl disable --now {}", check.name)),
        true => Check::ok(PART, check.name, check.detail),
        false => {
            let hint = look_at(&check.name);
            Check::new(PART, check.name, State::Failed, check.detail).hint(hint)
        }
    };
    health.checks.into_iter().map(of).collect()
}

/// Where the reason of a failed check stands.
fn look_at(name: &str) -> String {
    match name {
        "disk" => "df -h /var/lib/smolotchi; then make room: apt-get clean; journalctl --vacuum-size=20M; smolotchi prune".to_owned(),
        unit if unit.ends_with(".service") => format!("journalctl -xeu {unit}"),
        _ => "journalctl -xeu smolotchi-core.service".to_owned(),
    }
}

fn event_log(audited: Result<Audited>) -> Check {
    match audited.map(|audited| (broken(&audited), audited)) {
        Ok((None, audited)) => Check::ok(PART, "event log", format!("{} events, {} of them sealed", audited.events, audited.sealed)),
        Ok((Some(fault), _)) => failed("event log", &fault),
        Err(fault) if fault.code == Code::StoreNotInSchema => Check::ok(PART, "event log", "this release seals none"),
        Err(fault) => Check::unknown(PART, "event log", fault.to_string()),
    }
}

fn artifacts(damaged: Option<u64>) -> Check {
    match damaged {
        None => Check::ok(PART, "artifacts", "this release keeps none"),
        Some(0) => Check::ok(PART, "artifacts", "none is damaged, as far as they were looked at"),
        Some(count) => Check::new(PART, "artifacts", State::Failed, format!("{count} damaged, set aside"))
            .hint("smolotchi artifacts list --state damaged; put each again, or let it go: smolotchi artifacts remove NUMBER"),
    }
}

/// SQLite's quick check, as the database's user: a database that root opened once would lock that user out.
fn database(paths: &Paths) -> Check {
    let owner = match Account::owner_of(&paths.state()) {
        Ok(owner) => owner,
        Err(error) => return Check::unknown(PART, "database file", error.to_string()),
    };
    if !account::is_root() && owner.uid != rustix::process::geteuid().as_raw() {
        return Check::unknown(PART, "database file", "only root and the user smolotchi may look into it");
    }
    let began = clock::boottime_ms();
    let mut command = owner.program();
    command.current_dir("/").arg("--root").arg(paths.root()).args(["--format", "json", "db", "check"]);
    match command.output() {
        Ok(output) if output.status.success() => {
            Check::ok(PART, "database file", format!("whole; looked at in {} ms", clock::boottime_ms() - began))
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let error = said.lines().rev().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).unwrap_or_default();
            let text = |name: &str| error["error"][name].as_str().map(str::to_owned);
            let detail = text("message").unwrap_or_else(|| said.trim().to_owned());
            Check::new(PART, "database file", State::Failed, detail).hint(text("hint").unwrap_or_else(|| "smolotchi db check".to_owned()))
        }
        Err(error) => Check::unknown(PART, "database file", error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_leads_to_where_its_reason_stands() {
        assert_eq!(look_at("smolotchi-web.service"), "journalctl -xeu smolotchi-web.service");
        assert_eq!(look_at("heartbeat"), "journalctl -xeu smolotchi-core.service");
        assert!(look_at("disk").starts_with("df -h "));
    }

    #[test]
    fn faults_become_lines_with_hints() {
        let check = configuration(Err(Fault::new(Code::ConfigInvalid, "no").fact("line", 3)));
        assert_eq!((check.state, check.hint.as_deref()), (State::Failed, Some(Code::ConfigInvalid.hint())));
        assert!(check.detail.contains("line: 3"), "{check:?}");
        assert_eq!([artifacts(None).state, artifacts(Some(0)).state, artifacts(Some(2)).state], [State::Ok, State::Ok, State::Failed]);
    }
}
