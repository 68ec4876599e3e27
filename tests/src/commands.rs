//! The verbs of the command line, each a few calls of the library.

use crate::cli::{Cli, Up, Verb};
use serde::Serialize;
use smolotchi_lab::crash::tracer;
use smolotchi_lab::{Base, Bind, Folder, Lab, NodeStatus, Options, Release, Violation, supervisor};
use smolotchi_operator::output::{columns, emit};
use smolotchi_operator::progress::Progress;
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table, log};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

/// How the program ends.
pub(crate) enum Ended {
    /// As the command that it ran.
    As(u8),
    /// With its own verdict.
    With(Exit),
}

pub(crate) fn carry_out(cli: Cli) -> Result<Ended> {
    let (name, format) = (cli.name, cli.format);
    match cli.verb {
        Verb::Up(up) => start(name, up, format)?,
        Verb::Ssh { node, command } => {
            let lab = Lab::open(&name)?;
            let host = lab.find(node)?.name();
            let mut ssh = lab.in_network(&["ssh"]);
            ssh.arg("-F").arg(lab.folder().ssh_config()).arg(host).args(command);
            return follow(ssh);
        }
        Verb::Run { node, command } => return follow(Lab::open(&name)?.find(node)?.command(&command)?),
        Verb::Exec { command } => return follow(Lab::open(&name)?.in_network(&command)),
        Verb::Copy { from, to } => copy(&Lab::open(&name)?, &from, &to)?,
        Verb::Cut { node } => Lab::open(&name)?.find(node)?.power_cut()?,
        Verb::Boot { node } => Lab::open(&name)?.find(node)?.boot()?,
        Verb::Reboot { node } => Lab::open(&name)?.find(node)?.reboot()?,
        Verb::FillDisk { node, free: true, .. } => Lab::open(&name)?.find(node)?.free_disk()?,
        Verb::FillDisk { node, leave, .. } => Lab::open(&name)?.find(node)?.fill_disk(leave * 1024)?,
        Verb::Serve { folder, port } => emit(format, &Url { url: Lab::open(&name)?.serve(&folder, port)? }),
        Verb::Check { node } => {
            let verdict = Verdict { violations: Lab::open(&name)?.find(node)?.invariants()? };
            emit(format, &verdict);
            return Ok(Ended::With(if verdict.violations.is_empty() { Exit::Success } else { Exit::Runtime }));
        }
        Verb::Status => emit(format, &Shown::of(&Lab::open(&name)?)?),
        Verb::Down { all } => {
            for name in if all { Folder::all() } else { vec![name] } {
                if !Lab::down(&name)? {
                    log::notice(format!("no lab named {name} was running"));
                }
            }
        }
        Verb::Image { release, refresh } => {
            for release in release.map_or_else(|| Release::ALL.to_vec(), |one| vec![one]) {
                let base = if refresh { Base::refresh(release)? } else { Base::ensure(release)? };
                emit(format, &Made { release, folder: base.folder.display().to_string(), disk: base.disk.display().to_string() });
            }
        }
        Verb::Trace { socket, source, command } => return tracer::run(&socket, &source, &command).map(Ended::As),
        Verb::Traced { command } => tracer::become_traced(&command)?,
        Verb::Supervise { lab } => supervisor::run(&lab)?,
    }
    Ok(Ended::With(Exit::Success))
}

fn start(name: String, up: Up, format: Format) -> Result<()> {
    let mut binds = Vec::new();
    for bind in up.bind {
        let Some((from, to)) = bind.split_once(':') else {
            return Err(Fault::new(Code::Usage, format!("{bind:?} is no HOST:NODE")));
        };
        binds.push(Bind { from: from.into(), to: to.into() });
    }
    let progress = Progress::new(format);
    progress.step("boot", &format!("starting {} nodes of {}", up.nodes, up.release));
    let options = Options { name, nodes: up.nodes, release: up.release, disk: up.disk, binds };
    let lab = if up.foreground { Lab::start(options) } else { Lab::start_detached(options) };
    progress.done();
    let lab = lab?;
    emit(format, &Shown::of(&lab)?);
    if up.foreground { lab.wait() } else { Ok(()) }
}

fn copy(lab: &Lab, from: &str, to: &str) -> Result<()> {
    match (remote(from), remote(to)) {
        (None, Some((node, path))) => lab.find(node)?.push(Path::new(from), path),
        (Some((node, path)), None) => lab.find(node)?.pull(path, Path::new(to)),
        _ => Err(Fault::new(Code::Usage, "one of the two must be NODE:PATH").fact("from", from).fact("to", to)),
    }
}

/// `1:/path` or `node1:/path`.
fn remote(text: &str) -> Option<(u32, &str)> {
    let (node, path) = text.split_once(':')?;
    Some((node.strip_prefix("node").unwrap_or(node).parse().ok()?, path))
}

/// Runs a command on this terminal and ends as it does, as a shell would.
fn follow(mut command: Command) -> Result<Ended> {
    let status = command.status().map_err(|error| Fault::new(Code::LabFailed, "could not start the command").cause(&error))?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(Ended::As(u8::try_from(code).unwrap_or(u8::MAX)))
}

#[derive(Serialize)]
struct Shown {
    name: String,
    release: Release,
    supervisor: u32,
    ssh_config: String,
    inventory: String,
    log: String,
    nodes: Vec<NodeStatus>,
}

impl Shown {
    fn of(lab: &Lab) -> Result<Self> {
        let folder = lab.folder();
        Ok(Shown {
            name: folder.name().to_owned(),
            release: lab.release(),
            supervisor: lab.supervisor(),
            ssh_config: folder.ssh_config().display().to_string(),
            inventory: folder.inventory().display().to_string(),
            log: folder.log().display().to_string(),
            nodes: lab.status()?,
        })
    }
}

impl Table for Shown {
    fn table(&self) -> String {
        let mut rows = vec![["NODE", "NAME", "ADDRESS", "STATE", "BOOTS", "DISK"].map(String::from).to_vec()];
        for node in &self.nodes {
            let disk = format!("{:?}", node.disk).to_lowercase();
            rows.push(vec![
                node.node.to_string(),
                node.name.clone(),
                node.address.clone(),
                node.state.as_str().into(),
                node.boots.to_string(),
                disk,
            ]);
        }
        let lab = if self.name == "lab" { String::new() } else { format!(" --name {}", self.name) };
        format!(
            "{}\n{} ({}), supervisor {}, log {}\nssh:     smolotchi-lab{lab} ssh 1    (config {})\nAnsible: smolotchi-lab{lab} exec -- ansible-playbook -i {} …\n",
            columns(&rows),
            self.name,
            self.release,
            self.supervisor,
            self.log,
            self.ssh_config,
            self.inventory
        )
    }
}

#[derive(Serialize)]
struct Verdict {
    violations: Vec<Violation>,
}

impl Table for Verdict {
    fn table(&self) -> String {
        if self.violations.is_empty() {
            return "all invariants hold\n".into();
        }
        columns(&self.violations.iter().map(|violation| [violation.invariant.to_owned(), violation.fact.clone()]).collect::<Vec<_>>())
    }
}

#[derive(Serialize)]
struct Url {
    url: String,
}

impl Table for Url {
    fn table(&self) -> String {
        format!("{}\n", self.url)
    }
}

#[derive(Serialize)]
struct Made {
    release: Release,
    folder: String,
    disk: String,
}

impl Table for Made {
    fn table(&self) -> String {
        format!("{}: {}\n", self.release, self.folder)
    }
}
