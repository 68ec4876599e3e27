//! How ssh and Ansible reach the nodes: one key per lab, and the files that name the nodes for both.

use crate::folder::Folder;
use crate::image::write;
use crate::program::host;
use crate::protocol::{Plan, address};
use smolotchi_operator::{Fault, Result};
use std::fmt::Write as _;

/// Makes the lab's key and writes `ssh_config`, `known_hosts` and `inventory.yml` to its folder.
pub(crate) fn prepare(folder: &Folder, plan: &Plan) -> Result<()> {
    let key = folder.key().display().to_string();
    host(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "smolotchi-lab", "-f", &key])?;
    let host_key_file = plan.base.join("etc/ssh/ssh_host_ed25519_key.pub");
    let host_key =
        std::fs::read_to_string(&host_key_file).map_err(|error| Fault::io("could not read the nodes' host key", &host_key_file, &error))?;
    let host_key = host_key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let known_hosts = folder.path().join("known_hosts");

    let mut config = format!(
        "Host node*\n  User root\n  IdentityFile {key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  \
         StrictHostKeyChecking yes\n  LogLevel ERROR\n",
        known_hosts.display()
    );
    let mut known = String::new();
    let mut inventory = format!(
        "# Nodes of the lab {}; use it inside the lab's network: smolotchi-lab exec -- ansible-playbook -i THIS …\nall:\n  vars:\n    \
         ansible_user: root\n    ansible_python_interpreter: /usr/bin/python3\n    ansible_ssh_common_args: -F {}\n    \
         # Every lab has a node1: a kept connection must not be one of another lab's.\n    ansible_control_path_dir: {}\n  children:\n    lab:\n      hosts:\n",
        plan.name,
        folder.ssh_config().display(),
        folder.path().join("ssh").display()
    );
    for index in 1..=plan.nodes {
        let address = address(index);
        let _ = write!(config, "Host node{index}\n  HostName {address}\n");
        let _ = writeln!(known, "node{index},{address} {host_key}");
        let _ = writeln!(inventory, "        node{index}: {{}}");
    }
    write(&folder.ssh_config(), config.as_bytes(), 0o644)?;
    write(&known_hosts, known.as_bytes(), 0o644)?;
    write(&folder.inventory(), inventory.as_bytes(), 0o644)
}
