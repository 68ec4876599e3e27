//! What is on a node, as sorted lines that two moments can be compared by: files, users, groups and units. The suites use
//! it to prove that a purge leaves nothing.

use crate::Node;
use crate::node::BALLAST;
use serde::Serialize;
use smolotchi_operator::Result;
use std::collections::BTreeMap;

/// Folders and files that change by themselves or by any package operation, with the reason.
const LEFT_OUT: &[(&str, &str)] = &[
    ("/dev", "not on the disk"),
    ("/proc", "not on the disk"),
    ("/run", "not on the disk"),
    ("/sys", "not on the disk"),
    ("/tmp", "temporary by definition"),
    ("/var/tmp", "temporary by definition"),
    ("/var/log", "logs outlive what they tell about"),
    ("/var/cache/apt", "apt's own cache"),
    ("/var/lib/apt", "lists and apt's memory of automatic packages"),
    ("/var/cache/debconf", "debconf's own backups"),
    ("/var/cache/ldconfig", "ldconfig's own cache"),
    ("/etc/ld.so.cache", "ldconfig's own cache"),
    ("/var/lib/dpkg/status", "compared as the list of packages"),
    ("/var/lib/dpkg/status-old", "dpkg's own backup"),
    ("/var/lib/dpkg/available", "dpkg's memory of what it was given"),
    ("/var/lib/dpkg/available-old", "dpkg's own backup"),
    ("/var/lib/dpkg/diversions-old", "dpkg's own backup"),
    ("/var/lib/dpkg/statoverride-old", "dpkg's own backup"),
    ("/var/lib/dpkg/lock", "dpkg's own lock"),
    ("/var/lib/dpkg/lock-frontend", "dpkg's own lock"),
    ("/var/lib/dpkg/triggers", "dpkg's own queue"),
    ("/var/lib/systemd/random-seed", "new at each boot"),
    ("/var/lib/systemd/catalog", "rebuilt by systemd"),
    ("/etc/.pwd.lock", "left by any change of users"),
    ("/etc/passwd-", "passwd's own backup"),
    ("/etc/group-", "passwd's own backup"),
    ("/etc/shadow-", "passwd's own backup"),
    ("/etc/gshadow-", "passwd's own backup"),
    ("/etc/subuid-", "passwd's own backup"),
    ("/etc/subgid-", "passwd's own backup"),
    ("/etc/passwd", "compared as users"),
    ("/etc/group", "compared as groups"),
    ("/etc/shadow", "compared as users"),
    ("/etc/gshadow", "compared as groups"),
    ("/root", "the tester's own"),
    (BALLAST, "the lab's own"),
];

/// What a node had at one moment: a name per thing, and what it looked like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// `file /path`, `user name`, `group name`, `package name`, `unit name` → type, mode, owner, size, hash; uid; state.
    pub things: BTreeMap<String, String>,
}

impl Snapshot {
    /// What `later` has, lacks or has otherwise: `+ file /x: …`, `- user y: …`, `~ file /z: … -> …`.
    pub fn difference(&self, later: &Snapshot) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, before) in &self.things {
            match later.things.get(name) {
                None => lines.push(format!("- {name}: {before}")),
                Some(after) if after != before => lines.push(format!("~ {name}: {before} -> {after}")),
                Some(_) => {}
            }
        }
        lines.extend(
            later.things.iter().filter(|(name, _)| !self.things.contains_key(*name)).map(|(name, after)| format!("+ {name}: {after}")),
        );
        lines
    }
}

impl Node {
    /// Lists all files (type, mode, owner; target, or size and sha256) but those that change by themselves, and users,
    /// groups, packages and unit files. Takes a second or two of the node's processor.
    pub fn snapshot_fs(&self) -> Result<Snapshot> {
        let prune = LEFT_OUT.iter().map(|(path, _)| format!("-path '{path}'")).collect::<Vec<_>>().join(" -o ");
        let find = format!("find / -xdev \\( {prune} \\) -prune -o -name __pycache__ -prune -o");
        let listed = self.sh_ok(&format!("{find} -printf '%p\\t%y %m %U:%G\\t%l\\t%s\\n'"))?;
        let hashed = self.sh_ok(&format!("{find} -type f -print0 | xargs -0 -r sha256sum --"))?;
        let hashes: BTreeMap<&str, &str> =
            hashed.lines().filter_map(|line| line.split_once("  ")).map(|(hash, path)| (path, hash)).collect();
        let mut things = BTreeMap::new();
        for line in listed.lines() {
            let mut fields = line.split('\t');
            let (Some(path), Some(what), Some(target), Some(size)) = (fields.next(), fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let text = match hashes.get(path) {
                Some(hash) => format!("{what} {size} {hash}"),
                None if target.is_empty() => what.to_owned(),
                None => format!("{what} -> {target}"),
            };
            things.insert(format!("file {path}"), text);
        }
        for (kind, script) in [
            ("user", "getent passwd | sed 's/:/\\t/'"),
            ("group", "getent group | sed 's/:/\\t/'"),
            ("package", "dpkg-query -W -f '${binary:Package}\\t${db:Status-Abbrev} ${Version}\\n'"),
            ("unit", "systemctl list-unit-files --no-legend --no-pager --plain | awk '{print $1 \"\\t\" $2}'"),
        ] {
            for line in self.sh_ok(script)?.lines() {
                let (name, text) = line.split_once('\t').unwrap_or((line, ""));
                things.insert(format!("{kind} {name}"), text.trim().to_owned());
            }
        }
        Ok(Snapshot { things })
    }
}
