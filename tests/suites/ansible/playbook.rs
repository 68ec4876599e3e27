//! Running the collection's playbooks as an operator does: built, installed into a folder of its own, and called by name.

use serde_json::Value;
use smolotchi_lab::Output;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the source tree.
pub fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The collection, installed where nothing else is, with Ansible's own files beside it.
pub struct Collection {
    folder: tempfile::TempDir,
}

impl Collection {
    /// Builds the archive and installs it, without a network.
    pub fn install() -> Self {
        let collection = Collection { folder: tempfile::tempdir().unwrap() };
        let path = collection.path();
        std::fs::write(path.join("ansible.cfg"), "").unwrap();
        for words in [
            ["build", "--output-path", &path.join("built").display().to_string(), &source().join("ansible").display().to_string()]
                .as_slice(),
            ["install", "--offline", "-p", &path.display().to_string(), &archive(path)].as_slice(),
        ] {
            let output = Command::new("ansible-galaxy").arg("collection").args(words).envs(collection.environment()).output().unwrap();
            assert!(output.status.success(), "{words:?}: {output:?}");
        }
        collection
    }

    /// The folder that goes with it.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What makes Ansible use this collection and nothing of the host's.
    pub fn environment(&self) -> Vec<(String, String)> {
        let path = self.path().display().to_string();
        [
            ("ANSIBLE_COLLECTIONS_PATH", path.clone()),
            ("ANSIBLE_COLLECTIONS_PATHS", path.clone()),
            ("ANSIBLE_HOME", format!("{path}/home")),
            ("ANSIBLE_LOCAL_TEMP", format!("{path}/home/tmp")),
            ("ANSIBLE_CONFIG", format!("{path}/ansible.cfg")),
            // Not the operator's own folder: other labs have nodes with the same addresses.
            ("ANSIBLE_SSH_CONTROL_PATH_DIR", format!("{path}/cp")),
            ("ANSIBLE_NOCOLOR", "1".to_owned()),
            ("ANSIBLE_RETRY_FILES_ENABLED", "0".to_owned()),
            // Long enough to be used again, short enough not to outlive the lab.
            ("ANSIBLE_SSH_ARGS", "-C -o ControlMaster=auto -o ControlPersist=5s".to_owned()),
            ("LC_ALL", "C.UTF-8".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// A playbook of the collection as words for `env`.
    pub fn words(&self, inventory: &Path, playbook: &str, more: &[String]) -> Vec<String> {
        let mut words = vec!["env".to_owned()];
        words.extend(self.environment().into_iter().map(|(name, value)| format!("{name}={value}")));
        words.extend(["ansible-playbook".to_owned(), "-i".to_owned(), inventory.display().to_string()]);
        words.push(format!("smolotchi.node.{playbook}"));
        words.extend_from_slice(more);
        words
    }
}

fn archive(path: &Path) -> String {
    let mut name = PathBuf::from(path);
    name.push(format!("built/smolotchi-node-{}.tar.gz", env!("CARGO_PKG_VERSION")));
    name.display().to_string()
}

/// What a run of a playbook said.
#[derive(Debug)]
pub struct Run {
    /// Everything, for messages.
    pub output: Output,
    /// Host → `changed`, `failed`, … of the recap.
    pub recap: BTreeMap<String, BTreeMap<String, u32>>,
    /// Host → result of its failed task.
    pub failures: BTreeMap<String, Value>,
}

impl Run {
    /// Reads recap and failures.
    pub fn of(output: Output) -> Self {
        let (mut recap, mut failures) = (BTreeMap::new(), BTreeMap::new());
        for line in output.stdout.lines() {
            if let Some((host, result)) = line.strip_prefix("fatal: [").and_then(|rest| rest.split_once("]: FAILED! => ")) {
                failures.insert(host.to_owned(), serde_json::from_str(result).unwrap_or_else(|error| panic!("{error}: {line}")));
            }
            if let Some((host, counts)) = line.split_once(" : ok=") {
                let counts = format!("ok={counts}");
                let counts = counts.split_whitespace().filter_map(|word| word.split_once('='));
                recap.insert(host.trim().to_owned(), counts.map(|(name, count)| (name.to_owned(), count.parse().unwrap())).collect());
            }
        }
        Run { output, recap, failures }
    }

    /// One number of the recap; none for a host that the run didn't come to.
    pub fn count(&self, host: &str, name: &str) -> Option<u32> {
        self.recap.get(host).map(|counts| counts[name])
    }

    /// Demands that the run went well and that exactly these hosts were changed.
    pub fn assert_changed(&self, hosts: &[&str]) {
        assert_eq!(self.output.status, 0, "{}", self.text());
        let changed: Vec<&str> = self.recap.iter().filter(|(_, counts)| counts["changed"] > 0).map(|(host, _)| host.as_str()).collect();
        assert_eq!(changed, hosts, "{}", self.text());
    }

    /// What was said, for people.
    pub fn text(&self) -> String {
        format!("{}\n{}", self.output.stdout, self.output.stderr)
    }
}
