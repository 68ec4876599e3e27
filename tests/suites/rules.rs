//! The rules of the repository, as tests: which way dependencies point, what is pure, which licences ship, that each
//! promise names a test. Fast, and needs no machine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--all-features", "--filter-platform=x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Files that git tracks (or would), with their content if it is text.
fn files() -> Vec<(String, String)> {
    let output = Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|name| Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?)))
        .collect()
}

/// Which of our crates a crate may use, by the kind of dependency that ships.
const ALLOWED: [(&str, &[&str]); 6] = [
    ("smolotchi-operator", &[]),
    // Only its binary, behind the feature `sign`, may use operator.
    ("smolotchi-release", &["smolotchi-operator?"]),
    ("smolotchi-store", &[]),
    ("smolotchi-install", &["smolotchi-operator", "smolotchi-release"]),
    ("smolotchi", &["smolotchi-operator", "smolotchi-store"]),
    ("smolotchi-lab", &["smolotchi-operator", "smolotchi-release", "smolotchi-store"]),
];

#[test]
fn dependencies_point_one_way() {
    let metadata = metadata();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap().iter().filter(|package| package["source"].is_null()) {
        let name = text(&package["name"]);
        let allowed = allowed.get(name).unwrap_or_else(|| panic!("{name} is a new crate: give it its place in ALLOWED"));
        seen.insert(name.to_owned());
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = text(&dependency["name"]);
            if !used.starts_with("smolotchi") || dependency["kind"] == "dev" {
                continue;
            }
            let used = if dependency["optional"] == true { format!("{used}?") } else { used.to_owned() };
            assert!(allowed.contains(&used.as_str()), "{name} must not use {used}");
        }
    }
    assert_eq!(seen.len(), ALLOWED.len(), "a crate is missing: {seen:?}");
}

#[test]
fn the_release_library_does_not_use_operator() {
    for (name, content) in files() {
        if name.starts_with("installer/release/src/") && !name.contains("/maker/") && !name.contains("/bin/") {
            let library = content.split("mod tests").next().unwrap();
            assert!(!library.contains("smolotchi_operator"), "{name} is part of the library and must use nothing of ours");
        }
    }
}

#[test]
fn the_installer_never_links_sqlite() {
    let reached = reachable("smolotchi-install");
    assert!(reached.contains("reqwest"), "the graph was not walked");
    for forbidden in ["rusqlite", "libsqlite3-sys", "smolotchi-store", "smolotchi"] {
        assert!(
            !reached.contains(forbidden),
            "smolotchi-install reaches {forbidden}: what rolls back must not be part of what is rolled back"
        );
    }
}

#[test]
fn only_the_store_uses_sqlite() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap().iter().filter(|package| package["source"].is_null()) {
        let uses = package["dependencies"].as_array().unwrap().iter().any(|dependency| dependency["name"] == "rusqlite");
        assert_eq!(uses, package["name"] == "smolotchi-store", "{}", package["name"]);
    }
}

/// Names of all packages that `start` links, directly or not, without dev-dependencies.
fn reachable(start: &str) -> BTreeSet<String> {
    let metadata = metadata();
    let names: BTreeMap<&str, &str> =
        metadata["packages"].as_array().unwrap().iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
    let nodes: BTreeMap<&str, &Value> =
        metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|node| (text(&node["id"]), node)).collect();
    let first = names.iter().find(|(_, name)| **name == start).unwrap().0;
    let mut todo = vec![*first];
    let mut seen = BTreeSet::new();
    while let Some(id) = todo.pop() {
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let ships = dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null());
            let id = text(&dependency["pkg"]);
            if ships && seen.insert(names[id].to_owned()) {
                todo.push(id);
            }
        }
    }
    seen
}

#[test]
fn licences_are_on_the_list() {
    let deny: toml::Table = toml::from_str(&std::fs::read_to_string(root().join("deny.toml")).unwrap()).unwrap();
    let allowed: Vec<&str> = deny["licenses"]["allow"].as_array().unwrap().iter().map(|licence| licence.as_str().unwrap()).collect();
    let allowed: Vec<spdx::Licensee> = allowed.iter().map(|licence| spdx::Licensee::parse(licence).unwrap()).collect();
    let mut bad = Vec::new();
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let name = text(&package["name"]);
        let Some(licence) = package["license"].as_str() else {
            bad.push(format!("{name}: none"));
            continue;
        };
        let expression = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX).unwrap();
        if !expression.evaluate(|requirement| allowed.iter().any(|licensee| licensee.satisfies(requirement))) {
            bad.push(format!("{name}: {licence}"));
        }
    }
    assert!(bad.is_empty(), "not on the list of deny.toml: {bad:?}");
}

#[test]
fn planning_and_judging_are_pure() {
    let forbidden =
        ["std::fs", "std::process", "std::net", "std::time", "std::env", "std::thread", "crate::host", "crate::source", "crate::tasks"];
    let mut looked_at = 0;
    for (name, content) in files() {
        let pure = ["installer/src/plan/", "installer/src/gate/", "installer/src/inventory/"].iter().any(|folder| name.starts_with(folder));
        if !pure {
            continue;
        }
        looked_at += 1;
        for word in forbidden {
            assert!(!content.contains(word), "{name} uses {word}: it takes values and returns values");
        }
    }
    assert!(looked_at >= 4, "the pure parts moved: mend this test");
}

#[test]
fn only_the_rim_runs_programs() {
    for (name, content) in files() {
        if name.starts_with("installer/src/") && !name.starts_with("installer/src/host/") {
            assert!(!content.contains("std::process::Command"), "{name} runs a program: that is host's");
        }
    }
}

#[test]
fn every_source_file_says_what_it_owns() {
    let mut bare = Vec::new();
    for (name, content) in files() {
        if name.ends_with(".rs") && !content.starts_with("//!") {
            bare.push(name);
        }
    }
    assert!(bare.is_empty(), "without a leading //! comment: {bare:?}");
}

#[test]
fn every_promise_names_its_proof() {
    let specification = std::fs::read_to_string(root().join("SPECIFICATION.md")).unwrap();
    let files = files();
    let mut promises = 0;
    let lines = specification.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit());
    for (expected, line) in (1..).zip(lines) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        assert_eq!(cells[1].parse::<u32>().unwrap(), expected, "promises are numbered without gaps: {line}");
        promises += 1;
        let proof = cells[3];
        if proof.starts_with("unproven:") {
            continue;
        }
        let mut names = 0;
        for name in proof.split('`').skip(1).step_by(2) {
            names += 1;
            let (file, function) = name.split_once("::").unwrap_or_else(|| panic!("{name}: name a proof as `file::function`"));
            // A figure is held by a line of the benchmark's table, which `make bench` prints and the page shows.
            if file == "make bench" {
                let has = |path: &str, wanted: String| files.iter().any(|(name, content)| name == path && content.contains(&wanted));
                let shown = |measures, text, page| has(measures, text) && has(page, format!("\n| {function} |"));
                let upgrades =
                    shown("tests/src/bin/smolotchi-bench/table.rs", format!("name: \"{function}\""), "docs/reference/benchmarks.md");
                let agent =
                    shown("tests/src/bin/smolotchi-bench/agent.rs", format!("\"{function}\""), "docs/reference/benchmarks-agent.md");
                assert!(upgrades || agent, "no benchmark and its page have the line {function}, which promise {expected} names");
                continue;
            }
            let (_, content) =
                files.iter().find(|(path, _)| path == file).unwrap_or_else(|| panic!("{file} of promise {} is not there", expected));
            assert!(content.contains(&format!("fn {function}(")), "{file} has no fn {function}");
        }
        assert!(names > 0, "a promise without a proof: {line}");
    }
    assert!(promises > 0, "no promises were found");
}

#[test]
fn the_error_reference_is_the_catalogue() {
    use smolotchi_operator::Code;
    let mut page = String::from(
        "# Error codes\n\nGenerated from `agent/operator/src/code.rs`; `UPDATE=1 cargo test -p smolotchi-lab --test rules` writes it anew.\n\n\
         | code | exit | what to do |\n|---|---|---|\n",
    );
    for code in Code::ALL {
        page.push_str(&format!("| `{code}` | {} | {} |\n", code.exit() as u8, code.hint().replace('|', "\\|")));
    }
    let path = root().join("docs/reference/errors.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), page, "docs/reference/errors.md is out of date: see its first line");
}

/// `journalctl -x` explains each entry of ours with the words of the error catalogue.
#[test]
fn the_journals_catalogue_is_the_error_catalogue() {
    let path = root().join("systemd/catalog/smolotchi.catalog");
    let text = smolotchi_operator::log::catalog();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap() == text, "the catalogue is out of date: see its first lines");
}

/// Each crash in a row waits longer than the one before; a clean stop counts nothing.
const WAIT: &str = "ExecStopPost=-+/bin/sh -c '[ \"$SERVICE_RESULT\" != success ] || exec systemctl reset-failed %n; \
    case $EXIT_STATUS in 2|20|30|50) exit ;; esac; case $(systemctl show -P NRestarts %n) in 1) sleep 2 ;; 2) sleep 6 ;; esac'";

/// No service of the agent may take what the others need, nor be started for ever.
#[test]
fn every_service_of_the_agent_has_its_bounds() {
    let folder = root().join("systemd/system");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with("smolotchi-") || name.starts_with("smolotchi-install") || !name.ends_with(".service") {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(folder.join(&name)).unwrap();
        let has = |line: &str| text.lines().any(|found| found.starts_with(line));
        for line in
            ["User=smolotchi", "MemoryMax=", "MemorySwapMax=0", "LimitDATA=", "TasksMax=", "OOMScoreAdjust=", "CPUWeight=", "IOWeight="]
        {
            assert!(has(line), "{name} has no {line}");
        }
        if has("Restart=") {
            for line in ["StartLimitBurst=4", "RestartSec=1", "RestartPreventExitStatus=2 20 30 50", WAIT] {
                assert!(has(line), "{name} is started again, but has no {line}");
            }
            let seconds = |name: &str| {
                let value = text.lines().find_map(|line| line.strip_prefix(name))?;
                value.strip_suffix("min").map_or_else(|| value.parse().ok(), |minutes| Some(minutes.parse::<u64>().ok()? * 60))
            };
            let (window, watchdog) = (seconds("StartLimitIntervalSec=").unwrap(), seconds("WatchdogSec=").unwrap_or(0));
            // (One that hangs for more than an hour before it is ended is no loop.)
            assert!(watchdog > 3600 || window >= 5 * watchdog + 60, "{name}: one that hangs at each start is started for ever");
        }
    }
    assert!(seen >= 4, "{seen}");
}

/// Nothing of the agent starts over packages that a power cut left half-done, and what was called off for mending them comes back.
#[test]
fn the_healer_comes_before_every_unit_of_the_agent() {
    let folder = root().join("systemd/system");
    let healer = std::fs::read_to_string(folder.join("smolotchi-install-heal.service")).unwrap();
    let before: Vec<&str> = healer.lines().filter_map(|line| line.strip_prefix("Before=")).flat_map(str::split_whitespace).collect();
    let code = std::fs::read_to_string(root().join("installer/src/heal/mod.rs")).unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_unit = [".service", ".socket", ".timer"].iter().any(|end| name.ends_with(end));
        if !is_unit || !name.starts_with("smolotchi-") || name.starts_with("smolotchi-install") {
            continue;
        }
        seen += 1;
        let stem = name.split_once('@').map_or(name.as_str(), |(stem, _)| stem);
        assert!(before.iter().any(|unit| unit.starts_with(stem)), "the healer doesn't come before {name}");
        if std::fs::read_to_string(folder.join(&name)).unwrap().contains("\n[Install]\n") {
            assert_eq!(code.matches(&format!("\"{name}\"")).count(), 2, "the healer doesn't call {name} off and start it again");
        }
    }
    assert!(seen >= 14, "{seen}");
}

/// Five starts within ten seconds are systemd's own limit, and a socket that met it stays closed.
#[test]
fn every_socket_may_be_opened_as_often_as_an_operator_wants() {
    let folder = root().join("systemd/system");
    let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let sockets: Vec<_> = names.filter(|name| name.starts_with("smolotchi-") && name.ends_with(".socket")).collect();
    assert!(sockets.len() >= 4, "{sockets:?}");
    for name in sockets {
        let text = std::fs::read_to_string(folder.join(&name)).unwrap();
        assert!(text.lines().any(|line| line == "StartLimitIntervalSec=0"), "{name} can be locked out by its own restarts");
    }
}

/// A machine without a network has the guides that the program sends its operator to.
#[test]
fn a_guide_that_is_named_is_in_the_package() {
    let place = "/usr/share/doc/smolotchi/guides/";
    let assets = std::fs::read_to_string(root().join("agent/Cargo.toml")).unwrap();
    assert!(assets.contains(&format!("[\"../docs/guides/*.md\", \"{}\", \"644\"]", &place[1..])));
    let mut named = 0;
    for file in ["agent/operator/src/code.rs", "agent/src/commands/secrets.rs", "agent/src/web/routes.rs"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        assert!(!text.contains("see the guide "), "{file}: where is it?");
        for (at, _) in text.match_indices(place) {
            named += 1;
            let name: String = text[at + place.len()..].chars().take_while(|c| c.is_ascii_lowercase() || ".-".contains(*c)).collect();
            assert!(root().join("docs/guides").join(&name).is_file(), "{file} names {name}");
        }
    }
    assert!(named >= 3, "{named}");
}

/// Whoever meets exit 40 or 50 finds a page, and each page is of a code that there is.
#[test]
fn every_code_that_calls_an_operator_has_a_runbook() {
    use smolotchi_operator::{Code, Exit};
    let folder = root().join("docs/runbooks");
    let list = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let mut expected = vec!["README.md".to_owned()];
    for code in Code::ALL.iter().filter(|code| matches!(code.exit(), Exit::RolledBack | Exit::Operator)) {
        let name = format!("{code}.md");
        let page = std::fs::read_to_string(folder.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.starts_with(&format!("# `{code}` (exit {})\n", code.exit() as u8)), "{name} has another title");
        for part in ["\n## What happened\n", "\n## Look\n", "\n## Do\n"] {
            assert!(page.contains(part), "{name} lacks {part:?}");
        }
        let row = format!("| `{code}` | {} |", code.exit() as u8);
        assert!(list.contains(&row) && list.contains(&format!("]({name})")), "README.md doesn't list {code}");
        expected.push(name);
    }
    let mut found: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    for (name, content) in files().into_iter().filter(|(name, _)| name.ends_with(".md")) {
        let folder = root().join(&name).parent().unwrap().to_owned();
        for target in content.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            assert!(folder.join(path).exists(), "{name} links to {path}, which isn't there");
        }
    }
}
