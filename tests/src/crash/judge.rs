//! What must be true of a node that was cut or whose disk failed, after it had its chance to heal.

use super::scenario::{ACKNOWLEDGED, DEMO, KEPT, Scenario};
use crate::{Node, Violation, wait_until};
use serde::{Deserialize, Serialize};
use smolotchi_operator::Result;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long healing may take on a loaded host, watch and way back included.
const HEALING: Duration = Duration::from_secs(300);
const HEALTH: Duration = Duration::from_secs(120);

/// How a node ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// `old`, `new`, `none`, `half-purged`, or the version that dpkg has.
    pub end: String,
    /// What is wrong; empty when all is well.
    pub problems: Vec<String>,
    /// What helps to understand it; empty when all is well.
    pub evidence: String,
}

/// Waits until nobody works on the node any more: no open change, or nobody who would carry it on. False: still busy.
pub fn settle(node: &Node) -> Result<bool> {
    const BUSY: &str = "systemctl is-system-running --wait >/dev/null 2>&1
        for unit in smolotchi-install-change.service smolotchi-install-heal.service; do
            case $(systemctl show -P ActiveState $unit)-$(systemctl show -P SubState $unit) in
                active-exited) ;; active*|activating*|deactivating*|reloading*) exit 1;;
            esac
            case $(systemctl show -P Job $unit) in ''|0) ;; *) exit 1;; esac
        done";
    Ok(wait_until("nobody works on the node", HEALING, || Ok(node.sh(BUSY)?.ok())).is_ok())
}

/// Judges a node that has just been booted. `acknowledged` are the numbers of the rows that must be there; for want of it
/// those that the node itself noted, on a disk that lost nothing.
pub fn judge(node: &Node, scenario: &Scenario, acknowledged: Option<Vec<u64>>) -> Result<Outcome> {
    let mut problems = Vec::new();
    if !settle(node)? {
        problems.push("the change does not end".to_owned());
    }
    let status = node.run(&["dpkg-query", "-W", "-f=${db:Status-Abbrev}|${Version}", "smolotchi"])?;
    let (state, version) = status.stdout.trim().split_once('|').unwrap_or(("un", ""));
    let version = match state.trim() {
        // Removed; or never there. `in` and `ic`: dpkg was told to install and refused, or could not write a purge down and
        // said so. All of them are states that apt goes on from.
        "un" | "rc" | "pn" | "in" | "ic" => None,
        // A removal that was asked for and has not begun: dpkg remembers the wish, and the package is whole.
        "ii" | "hi" | "ri" | "pi" => Some(version),
        // Its files are gone, its configuration and its postrm are not: neither the old state nor the new one.
        "pc" => {
            problems.push("the purge was begun and is not finished".to_owned());
            None
        }
        other => {
            problems.push(format!("dpkg has smolotchi {version} as {other}"));
            Some(version)
        }
    };
    let end = match version {
        None if state.trim() == "pc" => "half-purged",
        found if found == scenario.old => "old",
        found if found == scenario.new => "new",
        Some(found) => found,
        None => "none",
    };
    if !matches!(end, "old" | "new" | "half-purged") {
        problems.push(format!("the version is {end}, neither the old nor the new one"));
    }
    if let Some(version) = version {
        whole(node, version, &mut problems)?;
        if node.wait_until("smolotchi health to say 0", HEALTH, "smolotchi health").is_err() {
            let said = node.run(&["smolotchi", "health"])?;
            problems.push(format!("not healthy: {}{}", said.stdout.trim(), said.stderr.trim()));
        }
        let schema = crate::dist::schema(version)?;
        match node.schema() {
            Ok(found) if found == schema => {}
            Ok(found) => problems.push(format!("the schema is {found}, and {version} wants {schema}")),
            Err(fault) => problems.push(format!("core does not tell its schema: {}", fault.message)),
        }
        if scenario.old.is_some() {
            rows(node, acknowledged, &mut problems)?;
        }
    }
    for Violation { invariant, fact } in node.invariants()? {
        problems.push(format!("{invariant}: {fact}"));
    }
    let evidence = if problems.is_empty() { String::new() } else { node.sh(EVIDENCE)?.stdout };
    Ok(Outcome { end: end.to_owned(), problems, evidence })
}

/// Every file of the package is what is in the package.
fn whole(node: &Node, version: &str, problems: &mut Vec<String>) -> Result<()> {
    let script = format!(
        "dpkg-deb --fsys-tarfile {DEMO}/repo/pool/smolotchi_{version}_*.deb | tar --compare -C / -f - 2>&1 | grep -v 'Mod time differs'"
    );
    let output = node.sh(&script)?;
    problems.extend(output.stdout.lines().take(5).map(|line| format!("a file of {version}: {line}")));
    Ok(())
}

/// Every row that was acknowledged is there, once.
fn rows(node: &Node, acknowledged: Option<Vec<u64>>, problems: &mut Vec<String>) -> Result<()> {
    let (kept, different) = match node.count_events("kept") {
        Ok(counts) => counts,
        Err(fault) => {
            problems.push(format!("the rows can't be counted: {fault}"));
            return Ok(());
        }
    };
    if (kept, different) != (KEPT, KEPT) {
        problems.push(format!("{kept} rows ({different} different) of {KEPT} that were committed before"));
    }
    // Read first: a writer may be at work.
    let acknowledged: Vec<u64> = match acknowledged {
        Some(numbers) => numbers,
        None => node.sh(&format!("cat {ACKNOWLEDGED} 2>/dev/null"))?.stdout.lines().filter_map(|line| line.parse().ok()).collect(),
    };
    let found = node.sh(LIVE)?.stdout;
    let there: BTreeSet<u64> = found.lines().filter_map(|line| line.parse().ok()).collect();
    let lost: Vec<u64> = acknowledged.into_iter().filter(|number| !there.contains(number)).collect();
    if !lost.is_empty() || there.len() != found.lines().count() {
        problems.push(format!("rows that were acknowledged meanwhile: {lost:?} lost; there: {}", found.replace('\n', " ")));
    }
    Ok(())
}

/// The numbers of the rows that were written while the scenario ran.
const LIVE: &str = "runuser -u smolotchi -- sqlite3 -batch -cmd '.timeout 10000' 'file:/var/lib/smolotchi/smolotchi.db?mode=ro' \
    \"SELECT trim(replace(replace(body, 'live', ''), '\\\"', '')) FROM events WHERE body LIKE 'live %' OR body LIKE '\\\"live %'\"";

const EVIDENCE: &str = "dpkg -l 'smolotchi*' | tail -n +6; smolotchi-install status; smolotchi-install history 2>&1 | tail -n 3
    ls -la /var/lib/smolotchi-install /var/lib/smolotchi-install/changes /var/lib/smolotchi 2>&1
    systemctl --no-pager --plain list-units 'smolotchi*' --all --no-legend
    journalctl --no-pager --quiet -o short-iso -u 'smolotchi*' | tail -n 40";
