//! What `make dist-demo` left in `dist/demo/`, and nodes that see it: 0.1.0 and 0.2.0 are good, the core of 0.3.0 crashes,
//! 0.4.0 has a migration that can't be undone.
//! Used by the scenario suites.

use crate::story::CHANGE_DEADLINE;
use crate::{Bind, Disk, Lab, Node, Options, Release, fault};
use serde_json::Value;
use smolotchi_operator::{Fault, Result};
use std::path::{Path, PathBuf};

/// Where a node of [`lab`] has it.
pub const ON_NODE: &str = "/srv/demo";
/// Where a node of [`lab`] has the release tree.
pub const TREE: &str = "/srv/demo/repo";

/// Its folder on the host.
pub fn folder() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    let folder = root.join("dist/demo");
    if folder.join("repo").is_dir() {
        Ok(folder)
    } else {
        Err(fault("the releases to test with are missing").fact("folder", folder.display().to_string()).hint("make dist-demo"))
    }
}

/// The key of its apt repository, on the host.
pub fn keyring() -> Result<PathBuf> {
    Ok(folder()?.join("keys/smolotchi-archive-keyring.pgp"))
}

/// The suite or channel whose newest release is `version`.
pub fn channel(version: &str) -> &'static str {
    match version {
        "0.1.0" => "oldstable",
        "0.2.0" => "stable",
        "0.4.0" => "beta",
        _ => "edge",
    }
}

/// The three packages of a release, as a node's shell names them.
pub fn debs(version: &str) -> String {
    format!("{ON_NODE}/releases/{version}/debs/*.deb")
}

/// The agent's package of a release, as a node's shell names it.
pub fn agent_deb(version: &str) -> String {
    format!("{ON_NODE}/releases/{version}/debs/smolotchi_{version}_*.deb")
}

/// The schema that a release migrates to, as its manifest says.
pub fn schema(version: &str) -> Result<u64> {
    let path = folder()?.join(format!("repo/releases/{version}/manifest.toml"));
    let text = std::fs::read_to_string(&path).map_err(|error| Fault::io("could not read a manifest", &path, &error))?;
    let own = text.lines().find_map(|line| line.strip_prefix("own = ")?.trim().parse().ok());
    own.ok_or_else(|| fault("a manifest names no schema").fact("path", path.display().to_string()))
}

/// A lab of one node that sees it read-only, as a stick would be, and whatever else is named.
pub fn lab(release: Release, disk: Disk, more: Vec<Bind>) -> Result<Lab> {
    crate::preflight()?;
    let mut binds = vec![Bind { from: folder()?, to: ON_NODE.into() }];
    binds.extend(more);
    Lab::start(Options { release, disk, binds, ..Options::default() })
}

/// A lab of one node with the packages of 0.2.0: its boot is over, and its agent healthy.
pub fn healthy(release: Release) -> Result<Lab> {
    let lab = lab(release, Disk::Overlay, Vec::new())?;
    let node = lab.node(1);
    node.sh_ok(&format!("dpkg -i {}", debs("0.2.0")))?;
    node.wait_idle()?;
    node.wait_healthy()?;
    Ok(lab)
}

impl Node {
    /// Waits until the agent says of itself that it is healthy.
    pub fn wait_healthy(&self) -> Result<()> {
        self.wait_until("smolotchi health says 0", CHANGE_DEADLINE, "smolotchi health")
    }

    /// Makes the health gate ask for this many seconds of unbroken health. The core of 0.3.0 lives for two.
    pub fn set_gate(&self, window_s: u32) -> Result<()> {
        let text = format!("[gate]\nwindow_s = {window_s}\ndeadline_s = 60\n");
        self.write("/etc/smolotchi-install/config.d/10-lab.toml", text.as_bytes())
    }

    /// The newest version that apt would install.
    pub fn candidate(&self) -> Result<String> {
        let policy = self.run_ok(&["apt-cache", "policy", "smolotchi"])?;
        let line = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
        line.map(str::to_owned).ok_or_else(|| fault("apt names no candidate").fact("said", policy))
    }

    /// The newest closed change with its journal.
    pub fn last_change(&self) -> Result<Value> {
        let status = self.change_status()?;
        let id = status["last_change"]["id"].as_str().ok_or_else(|| fault("no change was closed").fact("status", status.to_string()))?;
        self.json(&["smolotchi-install", "history", id, "--format", "json"])
    }
}
