//! What is run on a node, from which state, and what may come of it; and the rig that runs it.
//!
//! A rig is one overlay node that is put into any disk state and booted from it. Its drop-ins put the tracer before the
//! installer's units, so that the executor and the healer are traced as well as the command itself.

use super::conductor::{Conductor, Heard, Score};
use super::state::Store;
use crate::{Lab, Node, fault, image};
use smolotchi_operator::{Fault, Result};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Where the nodes see the rig's own folder: the tracer, and the sockets.
pub const LAB: &str = "/lab";
/// Where they see `dist/demo`.
pub const DEMO: &str = "/srv/demo";
/// Rows that are committed before each scenario.
pub const KEPT: u64 = 200;
/// Holds the numbers of the rows that were acknowledged while the scenario ran.
pub const ACKNOWLEDGED: &str = "/var/tmp/lab-acknowledged";

/// How long a traced command may take: each of its calls waits for a disk state to be taken.
const RUN_DEADLINE: Duration = Duration::from_secs(900);

/// Units that carry on or heal, and the name under which their calls are told.
const TRACED_UNITS: [(&str, &str, &str); 2] =
    [("smolotchi-install-change.service", "change", "carry-on"), ("smolotchi-install-heal.service", "heal", "heal --at-boot")];

/// Appends a row a second and notes the number of each one that was acknowledged.
const WRITER: &str = "n=0; while sleep 1; do n=$((n+1))
    echo \"{\\\"topic\\\":\\\"lab.row\\\",\\\"body\\\":\\\"live $n\\\"}\" | timeout 10 smolotchi events append && echo $n >>/var/tmp/lab-acknowledged; done";

/// A way to change the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// Its name in results.
    pub name: &'static str,
    /// The disk state that it begins with.
    pub from: Start,
    /// What is run.
    pub script: &'static str,
    /// The version before; nothing when there is none.
    pub old: Option<&'static str>,
    /// The version after.
    pub new: Option<&'static str>,
}

/// The states that scenarios begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Only the installer and the keys.
    Installer,
    /// 0.1.0, with rows.
    Old,
    /// The same with apt following the channel that has 0.2.0.
    OldWithApt,
    /// 0.2.0, upgraded from 0.1.0, with rows.
    New,
}

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "install",
        from: Start::Installer,
        script: "smolotchi-install install --from /srv/demo/repo --channel stable",
        old: None,
        new: Some("0.2.0"),
    },
    Scenario {
        name: "upgrade",
        from: Start::Old,
        script: "smolotchi-install upgrade --from /srv/demo/repo --channel stable",
        old: Some("0.1.0"),
        new: Some("0.2.0"),
    },
    Scenario {
        name: "bundle",
        from: Start::Old,
        script: "smolotchi-install upgrade --from /srv/demo/bundles/smolotchi-0.2.0-$(dpkg --print-architecture).bundle",
        old: Some("0.1.0"),
        new: Some("0.2.0"),
    },
    Scenario {
        name: "rollback",
        from: Start::New,
        script: "smolotchi-install rollback --to 0.1.0",
        old: Some("0.2.0"),
        new: Some("0.1.0"),
    },
    Scenario { name: "apt", from: Start::OldWithApt, script: "apt-get upgrade -y", old: Some("0.1.0"), new: Some("0.2.0") },
    Scenario {
        name: "dpkg",
        from: Start::Old,
        script: "dpkg -i /srv/demo/releases/0.2.0/debs/smolotchi_0.2.0_*.deb",
        old: Some("0.1.0"),
        new: Some("0.2.0"),
    },
    Scenario { name: "purge", from: Start::Old, script: "apt-get purge -y smolotchi", old: Some("0.1.0"), new: None },
];

/// One node that is put into states.
#[derive(Debug)]
pub struct Rig<'a> {
    lab: &'a Lab,
    node: Node,
    control: PathBuf,
    folder: PathBuf,
    /// Only one rig makes a starting state; the others find it.
    making: &'a Mutex<()>,
}

impl<'a> Rig<'a> {
    /// `control` is the folder that the nodes see at [`LAB`]; states are kept in `folder`.
    pub fn new(lab: &'a Lab, node: u32, control: &Path, folder: &Path, making: &'a Mutex<()>) -> Self {
        Rig { lab, node: lab.node(node).clone(), control: control.to_owned(), folder: folder.to_owned(), making }
    }

    /// Puts the tracer where the nodes see it. Before the lab starts.
    pub fn prepare_control(control: &Path, program: &Path) -> Result<()> {
        image::make_folder(control)?;
        std::fs::copy(program, control.join("smolotchi-lab"))
            .map(drop)
            .map_err(|error| Fault::io("could not copy the tracer", control, &error))
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    fn socket(&self) -> PathBuf {
        self.control.join(format!("{}.sock", self.node.name()))
    }

    /// Puts the node into a state and starts it. `traced`: the installer's units run under the tracer from the boot on.
    pub fn boot_into(&self, fingerprint: &str, traced: bool) -> Result<()> {
        let store = Store::open(&self.folder)?;
        let state = store.load(fingerprint)?;
        self.node.swap_disk(|upper| {
            store.put(&state, upper)?;
            if traced {
                for (unit, text) in self.drop_ins() {
                    image::write(&upper.join(format!("etc/systemd/system/{unit}.d/lab.conf")), text.as_bytes(), 0o644)?;
                }
            }
            Ok(())
        })?;
        self.node.boot()
    }

    fn drop_ins(&self) -> Vec<(&'static str, String)> {
        let line = |source: &str, verb: &str| {
            format!(
                // Who traces needs what the unit's sandbox denies.
                "[Service]\nSystemCallFilter=@debug seccomp\nCapabilityBoundingSet=CAP_SYS_PTRACE\nProtectProc=default\n\
                 ExecStart=\nExecStart={LAB}/smolotchi-lab trace --socket {LAB}/{}.sock --source {source} -- \
                 /usr/bin/smolotchi-install {verb}\n",
                self.node.name()
            )
        };
        TRACED_UNITS.iter().map(|(unit, source, verb)| (*unit, line(source, verb))).collect()
    }

    /// The fingerprint of a starting state; made first if this folder has none.
    pub fn start_state(&self, start: Start) -> Result<String> {
        let _alone = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let note = self.folder.join(format!("start-{start:?}"));
        if let Ok(known) = std::fs::read_to_string(&note) {
            return Ok(known);
        }
        let node = &self.node;
        let blank = self.folder.join("start-blank");
        let mut store = Store::open(&self.folder)?;
        let mut keep = |note: &Path| -> Result<String> {
            node.run_ok(&["sync"])?;
            let state = node.while_frozen(|upper| store.take(upper))?;
            store.save(&state)?;
            std::fs::write(note, &state.fingerprint).map_err(|error| Fault::io("could not note a state", note, &error))?;
            Ok(state.fingerprint)
        };
        match std::fs::read_to_string(&blank) {
            Ok(known) => self.boot_into(&known, false)?,
            Err(_) => drop(keep(&blank)?),
        }
        bring_to(node, start)?;
        keep(&note)
    }

    /// Runs a scenario from its start under the tracer, and waits for its end.
    pub fn run(&self, scenario: &Scenario, score: Score) -> Result<(Heard, u8)> {
        self.boot_into(&self.start_state(scenario.from)?, false)?;
        if scenario.old.is_some() {
            self.node.wait_healthy()?;
        }
        for (unit, text) in self.drop_ins() {
            self.node.write(&format!("/run/systemd/system/{unit}.d/lab.conf"), text.as_bytes())?;
        }
        self.node.run_ok(&["systemctl", "daemon-reload"])?;
        if scenario.old.is_some() {
            self.node.run_ok(&["setsid", "-f", "sh", "-c", &format!("exec >/dev/null 2>&1; {WRITER}")])?;
        }
        let conductor = Conductor::listen(&self.node, &self.socket(), score, &self.folder)?;
        let tracer = format!("{LAB}/smolotchi-lab");
        let socket = format!("{LAB}/{}.sock", self.node.name());
        let words = [tracer.as_str(), "trace", "--socket", &socket, "--source", "command", "--", "sh", "-c", scenario.script];
        let output = self.node.run_within(&words, RUN_DEADLINE)?;
        super::judge::settle(&self.node)?;
        let heard = conductor.end()?;
        if matches!(score, Score::Capture { .. }) && output.status != 0 {
            return Err(fault("the scenario failed though nothing was done to it")
                .fact("scenario", scenario.name)
                .fact("status", output.status)
                .fact("stdout", output.stdout)
                .fact("stderr", output.stderr));
        }
        Ok((heard, u8::try_from(output.status).unwrap_or(255)))
    }

    /// Boots a state with the healer and the executor under the tracer, and takes the states that healing goes through.
    pub fn heal(&self, fingerprint: &str, score: Score) -> Result<Heard> {
        let conductor = Conductor::listen(&self.node, &self.socket(), score, &self.folder)?;
        self.boot_into(fingerprint, true)?;
        super::judge::settle(&self.node)?;
        conductor.end()
    }

    /// The lab that it is part of.
    pub fn lab(&self) -> &Lab {
        self.lab
    }
}

/// Takes a blank node into a starting state.
pub(super) fn bring_to(node: &Node, start: Start) -> Result<()> {
    match start {
        Start::Installer => drop(node.sh_ok(
            "dpkg -i /srv/demo/releases/0.2.0/debs/smolotchi-install_*.deb /srv/demo/releases/0.2.0/debs/smolotchi-archive-keyring_*.deb",
        )?),
        Start::Old | Start::OldWithApt | Start::New => drop(node.sh_ok("dpkg -i /srv/demo/releases/0.1.0/debs/*.deb")?),
    }
    // As quick as a gate can judge: what it judges is other suites' matter.
    node.set_gate(2)?;
    if start != Start::Installer {
        node.wait_healthy()?;
        node.append_events("kept", KEPT as u32)?;
    }
    if start == Start::OldWithApt {
        node.run_ok(&["cp", &format!("{DEMO}/keys/smolotchi-archive-keyring.pgp"), "/usr/share/keyrings/smolotchi.pgp"])?;
        node.follow_suite(&format!("file:{DEMO}/repo"), "stable")?;
    }
    if start == Start::New {
        node.run_ok(&["smolotchi-install", "upgrade", "--from", &format!("{DEMO}/repo"), "--channel", "stable"])?;
        node.wait_idle()?;
        node.wait_healthy()?;
    }
    Ok(())
}

/// Appends the row of this number, as the writer does. True: it was acknowledged.
pub(super) fn append_one(node: &Node, number: u64) -> Result<bool> {
    let script = format!("echo '{{\"topic\":\"lab.row\",\"body\":\"live {number}\"}}' | timeout 10 smolotchi events append");
    Ok(node.sh(&script)?.ok())
}
