//! package-updates: which packages wait, by the lists that apt has? Nothing is fetched: apt simulates an upgrade.

use super::{Action, Found, Risk, absent, items, text};
use crate::ai::look::Look;
use serde_json::{Map, Value, json};
use smolotchi_operator::Result;
use smolotchi_store::Severity;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

pub(super) const ACTION: Action = Action {
    name: "package-updates",
    keys: "package",
    risk: Risk::Passive,
    about: "names the packages that wait to be upgraded, by the lists that apt has; fetches nothing",
    parameters: &[],
    judge,
};

/// How many names of a collective finding are shown.
const SHOWN: usize = 40;

fn judge(_: &Map<String, Value>, observation: &Value) -> Vec<Found> {
    let mut found = Vec::new();
    let mut others = Vec::new();
    for item in items(observation) {
        let (name, from, to) = (text(&item["name"]), text(&item["from"]), text(&item["to"]));
        if name.is_empty() {
            continue;
        }
        if item["security"] == true {
            found.push(Found {
                key: format!("package/{name}"),
                title: format!("{name} waits for a security upgrade from {from} to {to}"),
                severity: Severity::Warning,
                detail: json!({ "name": name, "from": from, "to": to }),
            });
        } else {
            others.push(name);
        }
    }
    if !others.is_empty() {
        others.sort_unstable();
        let count = others.len();
        others.truncate(SHOWN);
        found.push(Found {
            key: "package/others".to_owned(),
            title: format!("{count} packages can be upgraded"),
            severity: Severity::Info,
            detail: json!({ "count": count, "names": others }),
        });
    }
    found
}

/// How long apt may take on a slow machine.
const APT_TIME: Duration = Duration::from_secs(240);

/// Asks apt, by the lists that it has, without the caches that only root may write.
pub(super) async fn look(look: &Look<'_>) -> Result<Value> {
    // A changed root is a test's or an image's: this machine's apt knows nothing of it.
    let (lists, apt) = (look.paths.root().join("var/lib/apt/lists"), look.paths.root().join("usr/bin/apt-get"));
    let Some(lists_at) = newest(&lists) else { return Ok(absent("apt has no package lists")) };
    if !apt.exists() {
        return Ok(absent("there is no apt-get"));
    }
    let mut command = Command::new(&apt);
    command.args(["--simulate", "--quiet=2", "-oDebug::NoLocking=1", "-oDir::Cache::pkgcache=", "-oDir::Cache::srcpkgcache="]);
    // A new kernel is a new package: without this it would never be told.
    command.args(["--with-new-pkgs", "upgrade"]);
    command.env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let output = match tokio::time::timeout(APT_TIME, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Ok(absent(&format!("apt-get could not be run: {error}"))),
        Err(_) => return Ok(absent("apt-get took too long")),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Ok(absent(&format!("apt-get failed: {}", said.lines().next().unwrap_or_default())));
    }
    Ok(json!({ "available": true, "lists_at": lists_at, "items": simulated(&String::from_utf8_lossy(&output.stdout)) }))
}

/// When the newest package list was fetched; none if there is no list.
fn newest(lists: &Path) -> Option<String> {
    let files = std::fs::read_dir(lists).ok()?.filter_map(std::result::Result::ok);
    let lists = files.filter(|file| file.file_name().to_string_lossy().contains("_Packages"));
    let newest = lists.filter_map(|file| file.metadata().ok()?.modified().ok()).max()?;
    jiff::Timestamp::try_from(newest).ok().map(|at| crate::clock::rfc3339(at.as_millisecond()))
}

/// What `apt-get --simulate --with-new-pkgs upgrade` says: one line for each package that would be upgraded,
/// `Inst NAME [OLD] (NEW ORIGIN, … [ARCH])`.
fn simulated(said: &str) -> Vec<Value> {
    let one = |line: &str| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
        let (from, rest) = rest.strip_prefix('[')?.split_once("] ")?;
        let (to, origins) = rest.strip_prefix('(')?.split_once(' ')?;
        let security = origins.contains("-security") || origins.contains("Debian-Security");
        Some(json!({ "name": name, "from": from, "to": to, "security": security }))
    };
    said.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "NOTE: This is only a simulation!\n\
        Inst libssl3 [3.0.1-1] (3.0.2-1 Debian-Security:12/stable-security [amd64])\n\
        Inst base-files [12.4+deb12u1] (12.4+deb12u2 Debian:12.2/stable [amd64]) []\n\
        Inst new-dependency (1.0 Debian:12.2/stable [amd64])\n\
        Conf base-files (12.4+deb12u2 Debian:12.2/stable [amd64])\n";

    /// What needs a new package, as a kernel does, is only told when apt is asked so.
    #[tokio::test]
    async fn updates_that_bring_new_packages_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        };
        put("var/lib/apt/lists/x_Packages", "");
        let kernel = "Inst linux-image-amd64 [6.1.1] (6.1.2 Debian-Security:12/stable-security [amd64])";
        put("usr/bin/apt-get", &format!("#!/bin/sh\ncase \" $* \" in *' --with-new-pkgs upgrade '*) echo '{kernel}';; esac\n"));
        let paths = crate::paths::Paths::new(Some(dir.path()));
        let client = crate::client::Client::new(paths.socket());
        let seen = look(&Look { client: &client, paths: &paths, run_id: 1, job_id: 1, token: "", stage: None }).await.unwrap();
        assert_eq!(seen["items"][0]["name"], "linux-image-amd64", "{seen}");
    }

    #[test]
    fn what_apt_says_is_read() {
        let seen = simulated(SAID);
        assert_eq!(seen.len(), 2, "a package that is not there yet doesn't wait: {seen:?}");
        assert_eq!(seen[0], json!({ "name": "libssl3", "from": "3.0.1-1", "to": "3.0.2-1", "security": true }));
        assert_eq!(seen[1]["security"], false);
    }

    #[test]
    fn security_is_one_finding_each_the_rest_one_in_all() {
        let found = judge(&Map::new(), &json!({ "available": true, "items": simulated(SAID) }));
        let keys: Vec<_> = found.iter().map(|found| (found.key.as_str(), found.severity)).collect();
        assert_eq!(keys, [("package/libssl3", Severity::Warning), ("package/others", Severity::Info)]);
    }
}
