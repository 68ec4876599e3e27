//! The handle of a lab: starts the supervisor, hands out nodes, and takes everything down again.

use crate::folder::Folder;
use crate::link::{ask, connect, talk};
use crate::protocol::{Answer, MOST_NODES, Plan, Request};
use crate::sweep::{remains, sweep};
use crate::{Base, Disk, Node, NodeStatus, Output, Release, access, fault, host, image, program, wait_until};
use rustix::process::{Pid, Signal};
use smolotchi_operator::{Code, Fault, Result};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a node may take to boot. Generous: the suites share their processors.
const BOOT: Duration = Duration::from_secs(120);

/// A folder of the host that the nodes see read-only.
#[derive(Debug, Clone)]
pub struct Bind {
    /// On the host.
    pub from: PathBuf,
    /// On the nodes, absolute.
    pub to: PathBuf,
}

/// What lab to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Names the lab among those that run; lower-case letters, digits and hyphens.
    pub name: String,
    /// How many nodes, node1 and up.
    pub nodes: u32,
    /// Which Debian they run.
    pub release: Release,
    /// What their root file systems are.
    pub disk: Disk,
    /// Folders of the host that they see.
    pub binds: Vec<Bind>,
}

impl Default for Options {
    /// One bookworm node on an overlay, under a name that no other lab of any process has.
    fn default() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Options { name, nodes: 1, release: Release::default(), disk: Disk::default(), binds: Vec::new() }
    }
}

/// A running lab. Dropping one that [`Lab::start`] made takes it down; so does the end of the process, however it ends.
#[derive(Debug)]
pub struct Lab {
    folder: Folder,
    supervisor: Pid,
    nodes: Vec<Node>,
    release: Release,
    owned: Option<(Child, Option<ChildStdin>)>,
}

impl Lab {
    /// Starts a lab and waits until every node is up. Makes the base first if this host has none.
    pub fn start(options: Options) -> Result<Self> {
        Self::launch(options, false)
    }

    /// Starts a lab that outlives this process, until [`Lab::down`].
    pub fn start_detached(options: Options) -> Result<Self> {
        Self::launch(options, true)
    }

    /// A lab that runs already.
    pub fn open(name: &str) -> Result<Self> {
        let folder = Folder::of(name)?;
        let none = |error: &std::io::Error| {
            let running: Vec<String> = Folder::all().into_iter().filter(|other| UnixStream::connect(socket_of(other)).is_ok()).collect();
            let none = fault(format!("no lab named {name} is running"));
            match running.first() {
                Some(other) => none.fact("running", running.join(", ")).hint(format!("name one that runs: --name {other}")),
                None => none.cause(error).hint("start one: smolotchi-lab up 1"),
            }
        };
        let stream = UnixStream::connect(folder.socket()).map_err(|error| none(&error))?;
        Self::attach(folder, &stream)
    }

    /// Takes down the lab of this name and what a killed one left: control groups and its folder. True if one ran.
    pub fn down(name: &str) -> Result<bool> {
        let folder = Folder::of(name)?;
        let mut lock = folder.lock()?;
        let ran = lock.is_none();
        if ran {
            if let Ok(lab) = Self::open(name) {
                let _ = rustix::process::kill_process(lab.supervisor, Signal::KILL);
            }
            wait_until("the lab's supervisor is gone", Duration::from_secs(60), || {
                lock = folder.lock()?;
                Ok(lock.is_some())
            })?;
        }
        sweep(&folder)?;
        Ok(ran)
    }

    fn launch(options: Options, detached: bool) -> Result<Self> {
        host::preflight()?;
        let folder = Folder::of(&options.name)?;
        if options.nodes == 0 || options.nodes > MOST_NODES {
            return Err(Fault::new(Code::Usage, format!("a lab has 1 to {MOST_NODES} nodes, not {}", options.nodes)));
        }
        let mut binds = Vec::new();
        for Bind { from, to } in options.binds {
            let from = from.canonicalize().map_err(|error| Fault::io("could not find a folder to show to the nodes", &from, &error))?;
            if !to.is_absolute() || [&from, &to].iter().any(|path| path.to_string_lossy().contains(':')) {
                return Err(Fault::new(Code::Usage, "a bind is HOST:NODE, the second absolute, neither with a colon in it")
                    .fact("bind", format!("{}:{}", from.display(), to.display())));
            }
            binds.push((from, to));
        }
        host::make_room_for(options.nodes)?;
        let base = Base::ensure(options.release)?;
        let Some(lock) = free_lock(&folder)? else {
            return Err(fault(format!("a lab named {} is running already", options.name))
                .hint("take it down with smolotchi-lab down, or choose another --name"));
        };
        remains();
        sweep(&folder)?;
        image::make_folder(folder.path())?;
        let plan = Plan {
            name: options.name,
            release: options.release,
            nodes: options.nodes,
            disk: options.disk,
            binds,
            base: base.folder.clone(),
            image: base.disk.clone(),
            detached,
        };
        access::prepare(&folder, &plan)?;
        image::write(&folder.plan(), smolotchi_operator::output::json_line(&plan).as_bytes(), 0o644)?;

        let log = std::fs::File::create(folder.log()).map_err(|error| Fault::io("could not make a log", folder.log(), &error))?;
        let mut command = Command::new("unshare");
        command.args(["-m", "-n", "-p", "-f", "--kill-child=SIGKILL", "--mount-proc", "--"]);
        command.arg(program_path()?).args(["supervise", &plan.name]);
        command.env_clear().env("PATH", host::PATH).current_dir("/");
        // The lock travels as standard output: it is free again when the supervisor and its parent are gone.
        command.stdin(if detached { Stdio::null() } else { Stdio::piped() }).stdout(Stdio::from(lock)).stderr(Stdio::from(log));
        // A terminal's Ctrl-C is for the caller; the supervisor goes when its input ends.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|error| fault("could not start the supervisor").cause(&error))?;
        // Closes its copy of the lock.
        drop(command);
        let lifeline = child.stdin.take();
        let started = connect(&folder, &mut child).and_then(|stream| Self::attach(folder.clone(), &stream));
        let mut lab = match started {
            Ok(lab) => lab,
            Err(fault) => {
                let _ = child.kill();
                let _ = child.wait();
                let _ = sweep(&folder);
                return Err(fault);
            }
        };
        // From here on an error takes the lab down: a detached one is given up only when all is well.
        lab.owned = Some((child, lifeline));
        for node in &lab.nodes {
            node.wait_up(1, BOOT)?;
        }
        if detached {
            lab.owned = None;
        }
        Ok(lab)
    }

    fn attach(folder: Folder, stream: &UnixStream) -> Result<Self> {
        // The kernel translates the id of the process that listens into ours.
        let supervisor =
            rustix::net::sockopt::socket_peercred(stream).map_err(|error| fault("could not learn who supervises").cause(&error))?.pid;
        let Answer::Status { release, nodes } = talk(stream, &Request::Status, Duration::from_secs(30))? else {
            return Err(fault("the supervisor answered something unexpected"));
        };
        let nodes = nodes.iter().map(|status| Node::new(folder.clone(), supervisor, status)).collect();
        Ok(Lab { folder, supervisor, nodes, release, owned: None })
    }

    /// Node 1 and up.
    ///
    /// # Panics
    /// When the lab has no such node: a mistake in the suite. [`Lab::find`] is for what people type.
    #[allow(clippy::panic, reason = "as indexing does")]
    pub fn node(&self, index: u32) -> &Node {
        match self.find(index) {
            Ok(node) => node,
            Err(fault) => panic!("{fault}"),
        }
    }

    /// Node 1 and up, or a fault that says which there are.
    pub fn find(&self, index: u32) -> Result<&Node> {
        self.nodes.iter().find(|node| node.index() == index).ok_or_else(|| {
            Fault::new(Code::Usage, format!("there is no node {index}")).hint(format!("the lab has node 1 to {}", self.nodes.len()))
        })
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What the nodes run.
    pub fn release(&self) -> Release {
        self.release
    }

    /// Where its files are: `ssh_config`, `inventory.yml`, logs.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// What each node is doing.
    pub fn status(&self) -> Result<Vec<NodeStatus>> {
        match ask(&self.folder, &Request::Status, Duration::from_secs(60))? {
            Answer::Status { nodes, .. } => Ok(nodes),
            _ => Err(fault("the supervisor answered something unexpected")),
        }
    }

    /// A command of the host that runs in the lab's network: ssh, ansible-playbook, curl. Files and users are the host's.
    pub fn in_network<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.supervisor.as_raw_nonzero().to_string(), "-n", "--"]).args(words);
        command
    }

    /// Runs a command of the host in the lab's network to its end.
    pub fn exec_in_network<S: AsRef<std::ffi::OsStr>>(&self, words: &[S], deadline: Duration) -> Result<Output> {
        program::capture(self.in_network(words), program::Input::Nothing, deadline).map(Output::from)
    }

    /// Serves a folder of the host over HTTP to the nodes, until the lab ends. Port 0 chooses a free one. Returns the URL,
    /// without a slash at the end.
    pub fn serve(&self, folder: &Path, port: u16) -> Result<String> {
        let folder = folder.canonicalize().map_err(|error| Fault::io("could not find the folder to serve", folder, &error))?;
        match ask(&self.folder, &Request::Serve { folder, port }, Duration::from_secs(30))? {
            Answer::Url { url } => Ok(url),
            _ => Err(fault("the supervisor answered something unexpected")),
        }
    }

    /// Blocks until the supervisor ends, for example because it was killed.
    pub fn wait(mut self) -> Result<()> {
        let Some((mut child, _lifeline)) = self.owned.take() else { return Ok(()) };
        child.wait().map_err(|error| fault("could not wait for the supervisor").cause(&error))?;
        sweep(&self.folder)
    }

    /// What a failing suite should show of its nodes: their logs go with the lab.
    fn tell(&self) {
        let show = |path: &Path| eprintln!("--- {}\n{}", path.display(), program::tail(&std::fs::read(path).unwrap_or_default()));
        show(&self.folder.log());
        self.nodes.iter().take(5).for_each(|node| show(&self.folder.console(node.index())));
    }

    /// The supervisor's process id. Killing it takes the lab away.
    pub fn supervisor(&self) -> u32 {
        self.supervisor.as_raw_nonzero().get().unsigned_abs()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Some((mut child, lifeline)) = self.owned.take() else { return };
        if std::thread::panicking() {
            self.tell();
        }
        let _ = rustix::process::kill_process(self.supervisor, Signal::KILL);
        drop(lifeline);
        let _ = child.wait();
        if let Err(fault) = sweep(&self.folder) {
            smolotchi_operator::log::fault(&fault);
        }
    }
}

/// The program that supervises: this one, or the one beside the test that cargo built.
fn program_path() -> Result<PathBuf> {
    const NAME: &str = "smolotchi-lab";
    let this = std::env::current_exe().map_err(|error| fault("could not learn this program's path").cause(&error))?;
    if this.file_name().is_some_and(|name| name == NAME) {
        return Ok(this);
    }
    this.ancestors().skip(1).take(2).map(|folder| folder.join(NAME)).find(|path| path.is_file()).ok_or_else(|| {
        fault("the program smolotchi-lab is not built").fact("looked_near", this.display().to_string()).hint("cargo build -p smolotchi-lab")
    })
}

/// The lab's lock; nothing when a lab of this name runs. One that is just going away is waited for.
fn free_lock(folder: &Folder) -> Result<Option<std::fs::File>> {
    let mut lock = None;
    // In vain: it is being started by another process, which counts as running.
    let _ = wait_until("the lab's lock is free", Duration::from_secs(10), || {
        lock = folder.lock()?;
        Ok(lock.is_some() || UnixStream::connect(folder.socket()).is_ok())
    });
    Ok(lock)
}

fn socket_of(name: &str) -> PathBuf {
    Folder::of(name).map(|folder| folder.socket()).unwrap_or_default()
}
