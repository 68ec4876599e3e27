//! The supervisor: process 1 of a lab's own pid, mount and net namespace. It builds the network and the disks, starts
//! the nodes, starts them again when they reboot, and answers the lab's handle.
//!
//! Started only by [`crate::Lab::start`], through `unshare` and the hidden subcommand `supervise`. When it ends, however
//! it ends, the kernel takes everything in its namespaces; so it keeps nothing that would need tidying, and it must never
//! touch the host's own mounts or network.

mod machine;
mod network;

use crate::folder::Folder;
use crate::protocol::{Answer, BRIDGE, Plan, Request, address};
use crate::{NodeState, NodeStatus, cgroup, fault, image, program, serve};
use machine::Machine;
pub(crate) use machine::next_disk;
use smolotchi_operator::{Code, Fault, Result, log};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// What the threads tell the loop.
enum Event {
    /// A node's systemd-nspawn said something over its notify socket.
    Notify(u32, String),
    /// The lab's handle asks.
    Request(Request, UnixStream),
}

/// An answer that waits for a node.
struct Waiter {
    node: u32,
    boots: u32,
    until: Instant,
    stream: UnixStream,
}

struct Supervisor {
    plan: Plan,
    machines: Vec<Machine>,
    waiters: Vec<Waiter>,
}

/// Runs the lab of this name until it is killed, or until its standard input ends. Returns only with a fault.
pub fn run(name: &str) -> Result<()> {
    if rustix::process::getpid().as_raw_nonzero().get() != 1 {
        return Err(Fault::new(Code::Usage, "the supervisor runs only as process 1 of its own namespaces")
            .hint("start a lab with: smolotchi-lab up"));
    }
    let folder = Folder::of(name)?;
    let text = std::fs::read(folder.plan()).map_err(|error| Fault::io("could not read the lab's plan", folder.plan(), &error))?;
    let plan: Plan = serde_json::from_slice(&text).map_err(|error| fault("could not read the lab's plan").cause(&error))?;
    if !plan.detached {
        std::thread::spawn(|| {
            // Ends when the last writer is gone, however it went.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(0);
        });
    }
    let _base = image::hold(&plan.base)?;
    // Private to this mount namespace: names of network namespaces, nspawn's own state, mount's notes.
    program::host(&["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"])?;
    for path in ["/run/netns", "/run/systemd", "/run/lab"] {
        image::make_folder(path.as_ref())?;
    }
    network::bridge()?;
    let (events, inbox) = channel();
    let group = cgroup::Group::of_lab(&plan.name)?;
    group.create()?;
    let mut machines = Vec::new();
    for index in 1..=plan.nodes {
        network::node(index)?;
        let mut machine = Machine::prepare(index, &plan, &folder, group.node(index))?;
        listen_to(&machine, events.clone())?;
        machine.boot(&plan)?;
        machines.push(machine);
    }
    let listener = UnixListener::bind(folder.socket()).map_err(|error| fault("could not listen for the lab's handle").cause(&error))?;
    std::thread::spawn(move || accept(&listener, &events));
    Supervisor { plan, machines, waiters: Vec::new() }.turn(&inbox)
}

/// Passes on what a node's nspawn says: its init's process id, and that start-up is finished.
fn listen_to(machine: &Machine, events: Sender<Event>) -> Result<()> {
    let socket = machine.notify_socket()?;
    let index = machine.index;
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count) = socket.recv(&mut buffer) {
            if events.send(Event::Notify(index, String::from_utf8_lossy(&buffer[..count]).into_owned())).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn accept(listener: &UnixListener, events: &Sender<Event>) {
    for stream in listener.incoming().flatten() {
        let events = events.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            let Ok(reader) = stream.try_clone() else { return };
            if BufReader::new(reader).read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            match serde_json::from_str(&line) {
                Ok(request) => drop(events.send(Event::Request(request, stream))),
                Err(error) => send(&stream, &fault("the supervisor can't read the request").cause(&error).into()),
            }
        });
    }
}

/// An answer whose asker is gone is of no use to anyone.
fn send(mut stream: &UnixStream, answer: &Answer) {
    let _ = stream.write_all(smolotchi_operator::output::json_line(answer).as_bytes());
}

impl Supervisor {
    fn turn(mut self, inbox: &Receiver<Event>) -> Result<()> {
        loop {
            match inbox.recv_timeout(Duration::from_millis(50)) {
                Ok(Event::Notify(index, text)) => {
                    if let Some(machine) = self.machines.iter_mut().find(|machine| machine.index == index) {
                        machine.notified(&text);
                    }
                }
                Ok(Event::Request(request, stream)) => self.serve(request, stream),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(fault("the supervisor's threads are gone")),
            }
            self.reap();
            self.answer_waiters();
        }
    }

    /// Takes note of processes that ended. As process 1 it also inherits orphans; only this thread starts or awaits any.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            if let Some(machine) = self.machines.iter_mut().find(|machine| machine.is(pid)) {
                machine.ended(status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0)));
                if machine.wants_reboot() {
                    if let Err(fault) = machine.boot(&self.plan) {
                        log::fault(&fault);
                    }
                }
            }
        }
    }

    fn serve(&mut self, request: Request, stream: UnixStream) {
        let answer = match request {
            Request::Wait { node, boots, seconds } => {
                self.waiters.push(Waiter { node, boots, until: Instant::now() + Duration::from_secs(seconds), stream });
                return;
            }
            Request::Status => Ok(Answer::Status { release: self.plan.release, nodes: self.machines.iter().map(status).collect() }),
            Request::Boot { node } => self.with(node, |machine, plan| {
                if machine.state != NodeState::Off {
                    return Err(fault(format!("{} is {} already", machine.name(), machine.state.as_str())));
                }
                machine.boot(plan).map(|()| Answer::Done)
            }),
            Request::Cut { node } => self.with(node, |machine, _| machine.cut().map(|()| Answer::Done)),
            Request::Swap { node } => self.with(node, |machine, plan| machine.swap(&plan.base).map(|()| Answer::Done)),
            Request::Serve { folder, port } => TcpListener::bind((BRIDGE, port))
                .map_err(|error| fault("could not listen on the lab's bridge").fact("port", port).cause(&error))
                .and_then(|listener| serve::start(listener, folder))
                .map(|address| Answer::Url { url: format!("http://{address}") }),
        };
        send(&stream, &answer.unwrap_or_else(Answer::from));
    }

    fn with(&mut self, node: u32, act: impl FnOnce(&mut Machine, &Plan) -> Result<Answer>) -> Result<Answer> {
        match self.machines.iter_mut().find(|machine| machine.index == node) {
            Some(machine) => act(machine, &self.plan),
            None => Err(fault(format!("there is no node {node}")).fact("nodes", self.plan.nodes)),
        }
    }

    fn answer_waiters(&mut self) {
        let machines = &self.machines;
        self.waiters.retain(|waiter| {
            let Some(machine) = machines.iter().find(|machine| machine.index == waiter.node) else {
                send(&waiter.stream, &fault(format!("there is no node {}", waiter.node)).into());
                return false;
            };
            let late = Instant::now() >= waiter.until;
            let reached = machine.state == NodeState::Running && machine.boots >= waiter.boots;
            // A node that was asked to reboot is off for a moment; one that ended by itself stays off.
            let dead = machine.state == NodeState::Off && machine.boots >= waiter.boots;
            if reached {
                send(&waiter.stream, &Answer::Done);
            } else if late || dead {
                send(&waiter.stream, &machine.not_up(waiter.boots).into());
            }
            !(reached || late || dead)
        });
    }
}

fn status(machine: &Machine) -> NodeStatus {
    NodeStatus {
        node: machine.index,
        name: machine.name(),
        address: address(machine.index),
        state: machine.state,
        boots: machine.boots,
        disk: machine.disk,
        init: machine.init,
    }
}
