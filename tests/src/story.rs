//! What an operator does on a node, in the words of the product: add the source, install, append events, wait for a
//! change to end. Used by the demo and the scenario suites; asserts nothing.

use crate::{Node, fault, wait_until};
use serde_json::Value;
use smolotchi_operator::Result;
use std::path::Path;
use std::time::Duration;

/// How long a change may take on a loaded machine, watch included.
pub const CHANGE_DEADLINE: Duration = Duration::from_secs(180);

impl Node {
    /// Makes the node trust the repository at `url` (a release tree) and follow `suite`, as the README tells it.
    pub fn add_apt_source(&self, keyring: &Path, url: &str, suite: &str) -> Result<()> {
        self.push(keyring, "/usr/share/keyrings/smolotchi.pgp")?;
        self.follow_suite(url, suite)
    }

    /// Points the node's apt source to another suite.
    pub fn follow_suite(&self, url: &str, suite: &str) -> Result<()> {
        let source = format!("Types: deb\nURIs: {url}\nSuites: {suite}\nComponents: main\nSigned-By: /usr/share/keyrings/smolotchi.pgp\n");
        self.write("/etc/apt/sources.list.d/smolotchi.sources", source.as_bytes())?;
        self.run_ok(&["apt-get", "-qq", "update"])?;
        Ok(())
    }

    /// Makes the health gate quick enough for a scenario: five seconds of unbroken health.
    pub fn shorten_gate(&self) -> Result<()> {
        self.run_ok(&["mkdir", "-p", "/etc/smolotchi-install/config.d"])?;
        self.write("/etc/smolotchi-install/config.d/10-lab.toml", b"[gate]\nwindow_s = 5\ndeadline_s = 60\n")
    }

    /// The version of smolotchi that dpkg has whole, or its state if it hasn't.
    pub fn installed(&self) -> Result<String> {
        let output = self.run(&["dpkg-query", "-W", "-f=${db:Status-Status} ${Version}", "smolotchi"])?;
        let text = output.stdout.trim().to_owned();
        Ok(text.strip_prefix("installed ").map(str::to_owned).unwrap_or(text))
    }

    /// Runs a command that prints one JSON document and returns it.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        let text = self.run_ok(words)?;
        serde_json::from_str(text.trim())
            .map_err(|error| fault("a command did not print JSON").fact("command", words.join(" ")).fact("said", text).cause(&error))
    }

    /// `smolotchi-install status --format json`.
    pub fn change_status(&self) -> Result<Value> {
        self.json(&["smolotchi-install", "status", "--format", "json"])
    }

    /// Waits until no change is open any more; the status then.
    pub fn wait_idle(&self) -> Result<Value> {
        wait_until("the change to end", CHANGE_DEADLINE, || Ok(self.change_status()?["state"] == "idle"))?;
        self.change_status()
    }

    /// The schema of the database, as core tells it.
    pub fn schema(&self) -> Result<u64> {
        let status = self.json(&["smolotchi", "status", "--format", "json"])?;
        find(&status, "schema")
            .and_then(Value::as_u64)
            .ok_or_else(|| fault("core did not tell its schema").fact("said", status.to_string()))
    }

    /// Appends `count` events whose bodies are `PREFIX N`, through core.
    pub fn append_events(&self, prefix: &str, count: u32) -> Result<()> {
        let lines: String = (0..count).map(|n| format!("{{\"topic\":\"lab.row\",\"body\":\"{prefix} {n}\"}}\n")).collect();
        let output = self.run_with_input(&["smolotchi", "events", "append"], lines.as_bytes())?;
        if output.ok() { Ok(()) } else { Err(fault("could not append events").fact("said", output.stderr)) }
    }

    /// What the database answers to a query; asked beside core, read-only, as the database's user.
    pub fn query(&self, sql: &str) -> Result<String> {
        self.run_ok(&[
            "runuser",
            "-u",
            "smolotchi",
            "--",
            "sqlite3",
            "-batch",
            "-cmd",
            ".timeout 10000",
            "file:/var/lib/smolotchi/smolotchi.db?mode=ro",
            sql,
        ])
    }

    /// How many events with bodies `PREFIX N` the database holds, and how many different ones; counted beside core, read-only.
    pub fn count_events(&self, prefix: &str) -> Result<(u64, u64)> {
        let query =
            format!("SELECT count(*) || ' ' || count(DISTINCT body) FROM events WHERE body LIKE '{prefix} %' OR body LIKE '\"{prefix} %'");
        let text = self.query(&query)?;
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [all, different] => Ok((all, different)),
            _ => Err(fault("could not count events").fact("said", text)),
        }
    }
}

/// The first value under `key`, at any depth.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map.get(key).or_else(|| map.values().find_map(|inner| find(inner, key))),
        Value::Array(list) => list.iter().find_map(|inner| find(inner, key)),
        _ => None,
    }
}
