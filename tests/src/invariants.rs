//! What must be true of a node after every scenario, whatever was done to it. Each check asks the node's own tools.

use crate::Node;
use serde::Serialize;
use smolotchi_operator::Result;

/// One invariant that doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// What was seen.
    pub fact: String,
}

/// Error lines that systemd itself writes about our units: they have no code, but a line of ours with one stands beside
/// them. (Part of the message, why it is allowed.)
const ALLOWED: &[(&str, &str)] = &[
    ("Failed with result '", "systemd's verdict on a unit; the unit's own line before it carries the code"),
    ("Main process exited", "systemd's note of the exit code, same event"),
    ("Control process exited", "systemd's note of the exit code, same event"),
    ("Failed to start ", "systemd's note to the console, same event"),
    ("Start request repeated too quickly", "systemd's verdict on a crash loop"),
    ("Watchdog timeout", "systemd's verdict on a service that hangs: such a service can't write a line"),
    ("Dependency failed for ", "systemd's note about a unit that needs the failed one"),
    ("dumped core.", "systemd-coredump's note: a crashed process can't write a line"),
];

impl Node {
    /// Checks all invariants. Empty: all hold. Changes nothing on the node.
    pub fn invariants(&self) -> Result<Vec<Violation>> {
        let mut violations = Vec::new();
        let mut see = |invariant, text: &str| {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            violations.extend(lines.map(|line| Violation { invariant, fact: line.to_owned() }));
        };
        see("no unit has failed", &self.sh_ok("systemctl list-units --state=failed --no-legend --no-pager --plain")?);

        let audit = self.run(&["dpkg", "--audit"])?;
        see("dpkg has no half-done package", &format!("{}{}", audit.stdout, audit.stderr));
        let check = self.run(&["apt-get", "-qq", "check"])?;
        if !check.ok() {
            see("apt works", &format!("{}{}", check.stdout, check.stderr));
        }
        see("no package file is half unpacked", &self.sh_ok(HALF_UNPACKED)?);
        see("nothing stays staged or open", &self.sh_ok(STAGED)?);
        let database = self.sh(DATABASE)?;
        if !database.ok() || !matches!(database.stdout.trim(), "" | "ok") {
            see("the database is whole", &format!("{}{}", database.stdout, database.stderr));
        }
        // All of the journal, filtered here: journalctl fails when a unit pattern matches nothing.
        let journal = self.sh_ok("journalctl --no-pager --quiet --priority=err --output=json")?;
        violations
            .extend(judge_journal(&journal).into_iter().map(|fact| Violation { invariant: "every error in the journal has a code", fact }));
        Ok(violations)
    }
}

const HALF_UNPACKED: &str = "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp \\) -prune -o \
    \\( -name '*.dpkg-new' -o -name '*.dpkg-tmp' \\) -print";

/// A change that is being carried out may be open, and may be writing.
const STAGED: &str = "state=$(systemctl show -P ActiveState smolotchi-install-change.service)
    case $state in active|activating|deactivating|reloading) exit 0;; esac
    for folder in /var/lib/smolotchi /var/lib/smolotchi-install /etc/smolotchi /etc/smolotchi-install /etc/apt /usr/lib/smolotchi; do
        [ -d $folder ] && find $folder \\( -name '*.staging' -o -name '.new-*' \\) -print
    done
    [ ! -L /var/lib/smolotchi-install/open ] || echo \"/var/lib/smolotchi-install/open -> $(readlink /var/lib/smolotchi-install/open), and nothing carries it on\"";

/// Read-only and as its owner: looking must neither make a file nor leave one that belongs to root.
const DATABASE: &str = "db=/var/lib/smolotchi/smolotchi.db; [ -e $db ] || exit 0
    runuser -u smolotchi -- sqlite3 -batch -cmd '.timeout 10000' \"file:$db?mode=ro\" 'PRAGMA integrity_check'";

/// The error lines of our units that carry no `[area.what]`. Takes journalctl's JSON, one entry a line.
pub fn judge_journal(journal: &str) -> Vec<String> {
    journal.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).filter_map(|entry| judge(&entry)).collect()
}

fn judge(entry: &serde_json::Value) -> Option<String> {
    let field = |name: &str| entry.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    let unit = ["_SYSTEMD_UNIT", "UNIT", "COREDUMP_UNIT", "SYSLOG_IDENTIFIER"]
        .into_iter()
        .map(field)
        .find(|name| name.starts_with("smolotchi"))?;
    // A message that isn't UTF-8 comes as a list of bytes.
    let message = match entry.get("MESSAGE") {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let from_systemd = matches!(field("SYSLOG_IDENTIFIER"), "systemd" | "systemd-coredump");
    let allowed = from_systemd && ALLOWED.iter().any(|(part, _)| message.contains(part));
    (!allowed && !has_code(&message)).then(|| format!("{unit}: {message}"))
}

/// True when `[area.what]` stands somewhere in it.
fn has_code(message: &str) -> bool {
    message.split('[').skip(1).filter_map(|rest| rest.split_once(']')).any(|(inside, _)| {
        let word = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        inside.split_once('.').is_some_and(|(area, what)| word(area) && word(what))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_error_needs_a_code_unless_systemd_says_it() {
        let ours = |text: &str| json!({ "_SYSTEMD_UNIT": "smolotchi-core.service", "SYSLOG_IDENTIFIER": "smolotchi", "MESSAGE": text });
        let systemd = |text: &str| json!({ "_SYSTEMD_UNIT": "init.scope", "UNIT": "smolotchi-web.service", "SYSLOG_IDENTIFIER": "systemd", "MESSAGE": text });
        let other = json!({ "_SYSTEMD_UNIT": "ssh.service", "SYSLOG_IDENTIFIER": "sshd", "MESSAGE": "error: no code" });
        for (entry, violates) in [
            (ours("[store.busy] could not open; hint: …"), false),
            (ours("could not open"), true),
            (ours("could not open [Errno 5]"), true),
            (ours("array[0] is bad [a.b2]"), true),
            (ours("Failed with result 'exit-code'."), true),
            (systemd("smolotchi-web.service: Failed with result 'exit-code'."), false),
            (systemd("smolotchi-web.service: Failed to set up mount namespacing"), true),
            (json!({ "_SYSTEMD_UNIT": "smolotchi-core.service", "MESSAGE": [255, 254] }), true),
            (other, false),
        ] {
            assert_eq!(!judge_journal(&entry.to_string()).is_empty(), violates, "{entry}");
        }
    }
}
