//! The two services with a capability, each off until the operator turns it on (docs/adr/0010): what they are, whether they are on, and how one
//! call of them goes. `arp` hears, `net` changes; core asks.
//!
//! Each is a process for one call: systemd starts it when core connects, it answers with one line of JSON and ends. No runtime, no
//! state; it must never do anything for anybody but core, or on an interface that the configuration doesn't name.

pub(crate) mod arp;
pub(crate) mod net;

use crate::account::{self, Account};
use crate::ai::actions;
use crate::ai::policy::Policy;
use crate::paths::Paths;
use crate::wire::readings::Observation;
use crate::{clock, config, wire};
use listenfd::ListenFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smolotchi_operator::{Code, Exit, Fault, Result, log};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a service that was started waits for its caller, and then for what it wants.
const CALLER_TIME: Duration = Duration::from_secs(10);
/// The longest question, in bytes.
const QUESTION: usize = 4096;

/// A service with a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    /// Hears ARP.
    Arp,
    /// Restarts links and empties neighbour tables.
    Net,
}

impl Power {
    /// Both of them.
    pub(crate) const ALL: [Power; 2] = [Power::Arp, Power::Net];

    /// Its word in the names of its units, user and sockets.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Power::Arp => "arp",
            Power::Net => "net",
        }
    }

    /// The unit that turns it on.
    pub(crate) const fn unit(self) -> &'static str {
        match self {
            Power::Arp => "smolotchi-arp.socket",
            Power::Net => "smolotchi-net.socket",
        }
    }

    /// What it may that nothing else of ours may.
    pub(crate) const fn capability(self) -> &'static str {
        match self {
            Power::Arp => "CAP_NET_RAW",
            Power::Net => "CAP_NET_ADMIN",
        }
    }

    /// The setting that names its interfaces.
    pub(crate) const fn setting(self) -> &'static str {
        match self {
            Power::Arp => "policy.arp_interfaces",
            Power::Net => "policy.net_interfaces",
        }
    }

    /// The interfaces that it is for; empty: none.
    pub(crate) fn interfaces(self, policy: &Policy) -> &[String] {
        match self {
            Power::Arp => &policy.arp_interfaces,
            Power::Net => &policy.net_interfaces,
        }
    }

    /// Where it listens while it is on.
    pub(crate) fn socket(self, paths: &Paths) -> std::path::PathBuf {
        paths.power_socket(self.name())
    }

    /// The rule that keeps this action from this interface, and why; `None` if nothing does. The planner, core and the service itself each ask, with
    /// the policy that they have read themselves.
    pub(crate) fn refuses(self, policy: &Policy, action: &str, interface: &str) -> Option<(&'static str, String)> {
        let is_its = |action: &actions::Action| {
            action.parameters.iter().any(|parameter| matches!(parameter.kind, actions::Kind::Interface(power) if power == self))
        };
        if !actions::find(action).is_some_and(is_its) {
            return Some(("registry", format!("{action} is not an action of {}", self.unit())));
        }
        if !policy.actions.iter().any(|allowed| allowed == action) {
            return Some(("policy.actions", format!("{action} is not among the allowed actions")));
        }
        let named = self.interfaces(policy).iter().any(|name| name == interface);
        (!named).then(|| (self.setting(), format!("{interface} is not among the allowed interfaces")))
    }
}

/// What is on: systemd removes a socket that it doesn't listen at.
pub(crate) fn on(paths: &Paths, policy: &Policy) -> Vec<wire::Power> {
    let told = |power: Power| wire::Power {
        unit: power.unit().to_owned(),
        capability: power.capability().to_owned(),
        interfaces: power.interfaces(policy).to_vec(),
    };
    Power::ALL.into_iter().filter(|power| power.socket(paths).exists()).map(told).collect()
}

/// What is on, in words that can't be missed.
pub(crate) fn loudly(power: &wire::Power) -> String {
    let interfaces = if power.interfaces.is_empty() { "no interface".to_owned() } else { power.interfaces.join(", ") };
    format!("ON: core may use {} on {interfaces}; off again: systemctl disable --now {}", power.capability, power.unit)
}

/// Serves one call: takes the connection that systemd started this process for, and answers what `work` says. Without a caller, it
/// ends. Whoever isn't core gets a refusal. `path` is bound where systemd hands no socket in, for development.
fn serve_one<Q, A>(
    paths: &Paths,
    mut handed: ListenFd,
    path: Option<&Path>,
    work: impl FnOnce(Q, &Policy, &Caller) -> Outcome<A>,
) -> Result<Exit>
where
    Q: DeserializeOwned,
    A: Serialize,
{
    serve(paths, &listener(&mut handed, path)?, work)
}

/// The call itself.
fn serve<Q, A>(paths: &Paths, listener: &UnixListener, work: impl FnOnce(Q, &Policy, &Caller) -> Outcome<A>) -> Result<Exit>
where
    Q: DeserializeOwned,
    A: Serialize,
{
    let failed = |error: &std::io::Error| Fault::new(Code::Io, "could not take the connection").cause(error);
    if !readable(listener, CALLER_TIME, &[]).map_err(|error| failed(&error.into()))? {
        return Ok(Exit::Success);
    }
    let (stream, _) = listener.accept().map_err(|error| failed(&error))?;
    let asks = asks(paths, &stream);
    let caller = Caller { stream: File::from(OwnedFd::from(stream)) };
    let answer = match asks {
        Ok(()) => caller.question().and_then(|asked| {
            // Read by this process itself: what core believes of the configuration doesn't count here.
            let settings = config::load(paths).map_err(|fault| fault.to_string())?;
            // Core gives up after a time, and then says that it does not know what came of it: nothing is begun that late.
            if caller.is_gone() {
                log::warning(Code::Io, "nothing was done: who asked has hung up");
                return Err("who asked has hung up".to_owned());
            }
            work(asked, &settings.policy, &caller)
        }),
        Err(fault) => {
            log::fault(&fault);
            Err(fault.message)
        }
    };
    caller.tell(answer);
    Ok(Exit::Success)
}

/// What came of a call: what there is to tell, or why nothing was done.
type Outcome<A> = std::result::Result<Vec<A>, String>;

/// Whether it is core who asks: by the kernel's word, whoever could open the socket.
fn asks(paths: &Paths, stream: &UnixStream) -> Result<()> {
    let uid = rustix::net::sockopt::socket_peercred(stream).map(|peer| peer.uid.as_raw());
    let uid = uid.map_err(|error| Fault::new(Code::Io, "the kernel does not say who calls").cause(&error))?;
    let passwd = std::fs::read_to_string(paths.passwd()).unwrap_or_default();
    match Account::in_passwd(&passwd, account::CORE) {
        Some(core) if core.uid == uid => Ok(()),
        _ => Err(Fault::new(Code::CoreRefused, "only core may ask for this").fact("uid", uid)),
    }
}

fn listener(handed: &mut ListenFd, path: Option<&Path>) -> Result<UnixListener> {
    let failed = |error: &std::io::Error| Fault::new(Code::Io, "could not take the socket that systemd hands in").cause(error);
    match (handed.take_unix_listener(0), path) {
        (Ok(Some(listener)), _) => Ok(listener),
        (Err(error), _) => Err(failed(&error)),
        (Ok(None), Some(path)) => UnixListener::bind(path).map_err(|error| failed(&error)),
        (Ok(None), None) => Err(Fault::new(Code::Usage, "systemd handed in no socket").hint("systemctl enable --now the unit's socket")),
    }
}

/// Whether there is something to read before the time is over. False at once when one of `others` hangs up.
fn readable(fd: &impl AsFd, within: Duration, others: &[&File]) -> rustix::io::Result<bool> {
    let began = Instant::now();
    loop {
        let left = within.saturating_sub(began.elapsed());
        let time = Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        let mut fds = vec![PollFd::new(fd, PollFlags::IN)];
        fds.extend(others.iter().map(|other| PollFd::new(*other, PollFlags::RDHUP)));
        match poll(&mut fds, Some(&time)) {
            Ok(_) => {
                let gone = fds[1..].iter().any(|other| !other.revents().is_empty());
                return Ok(!gone && !fds[0].revents().is_empty());
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Who asked. Only read and written, as a file: the listener's sandbox has no call that sends.
struct Caller {
    stream: File,
}

impl Caller {
    /// Whether it waits for no answer any more.
    fn is_gone(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.stream, PollFlags::RDHUP)], Some(&now)) != Ok(0)
    }

    /// One line of JSON.
    fn question<Q: DeserializeOwned>(&self) -> std::result::Result<Q, String> {
        let (mut line, mut piece, began) = (Vec::new(), [0; 512], Instant::now());
        while !line.contains(&b'\n') && line.len() < QUESTION {
            let left = CALLER_TIME.saturating_sub(began.elapsed());
            if !readable(&self.stream, left, &[]).unwrap_or(false) {
                break;
            }
            match (&self.stream).read(&mut piece) {
                Ok(count) if count > 0 => line.extend_from_slice(&piece[..count]),
                _ => break,
            }
        }
        let whole = line.split(|byte| *byte == b'\n').next().filter(|whole| whole.len() < line.len());
        whole.and_then(|whole| serde_json::from_slice(whole).ok()).ok_or_else(|| "what was asked is not understood".to_owned())
    }

    /// One line of JSON, an [`Observation`]. A caller who is gone is its own business.
    fn tell<A: Serialize>(&self, answer: Outcome<A>) {
        let at = clock::rfc3339(clock::now_ms());
        let told = match answer {
            Ok(items) => Observation { at, available: true, reason: None, items },
            Err(reason) => Observation { at, available: false, reason: Some(reason), items: Vec::new() },
        };
        if let Ok(mut line) = serde_json::to_vec(&told) {
            line.push(b'\n');
            let _ = (&self.stream).write_all(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ai::plan::tests::policy;

    #[test]
    fn an_action_is_refused_by_the_rule_that_stands_against_it() {
        let allows = Policy {
            actions: vec!["link-restart".into(), "arp-listen".into(), "disk-forecast".into()],
            arp_interfaces: vec!["eth0".into()],
            net_interfaces: vec!["wlan0".into()],
            ..policy()
        };
        let rule = |power: Power, action: &str, interface: &str| power.refuses(&allows, action, interface).map(|(rule, _)| rule);
        assert_eq!(rule(Power::Net, "link-restart", "wlan0"), None);
        assert_eq!(rule(Power::Arp, "arp-listen", "eth0"), None);
        assert_eq!(rule(Power::Net, "link-restart", "eth0"), Some("policy.net_interfaces"));
        assert_eq!(rule(Power::Arp, "arp-listen", "wlan0"), Some("policy.arp_interfaces"));
        assert_eq!(rule(Power::Net, "neighbours-flush", "wlan0"), Some("policy.actions"));
        for action in ["arp-listen", "disk-forecast", "link-delete", ""] {
            assert_eq!(rule(Power::Net, action, "wlan0"), Some("registry"), "{action}");
        }
    }

    /// A service on its own socket below a folder, and whether its work was begun.
    fn served(root: &Path, uid: u32, call: impl FnOnce(&Path)) -> bool {
        let paths = Paths::new(Some(root));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(paths.passwd(), format!("smolotchi:x:{uid}:0::/:/bin/false\n")).unwrap();
        let socket = root.join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        call(&socket);
        let mut begun = false;
        let work = |asked: wire::Operate, _: &Policy, _: &Caller| {
            begun = true;
            Ok(vec![asked])
        };
        serve(&paths, &listener, work).unwrap();
        begun
    }

    const QUESTION: &[u8] = b"{\"operation\":\"x\",\"interface\":\"y\"}\n";

    #[test]
    fn who_hung_up_before_it_begins_is_not_served() {
        let dir = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        let mut kept = Vec::new();
        let mut calls = |hangs_up: bool| {
            let root = dir.path().join(hangs_up.to_string());
            served(&root, uid, |socket| {
                let mut stream = UnixStream::connect(socket).unwrap();
                stream.write_all(QUESTION).unwrap();
                if !hangs_up {
                    kept.push(stream);
                }
            })
        };
        assert!(calls(false), "who waits is served");
        assert!(!calls(true), "it was begun for nobody");
        let mut answer = String::new();
        kept[0].read_to_string(&mut answer).unwrap();
        assert!(answer.contains("\"available\":true") && answer.contains("\"operation\":\"x\""), "{answer}");
    }

    #[test]
    fn who_is_not_core_is_not_served() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = None;
        let begun = served(dir.path(), rustix::process::getuid().as_raw() + 1, |socket| {
            let mut stream = UnixStream::connect(socket).unwrap();
            stream.write_all(QUESTION).unwrap();
            kept = Some(stream);
        });
        assert!(!begun);
        let mut answer = vec![0; 4096];
        let count = kept.unwrap().read(&mut answer).unwrap();
        assert!(String::from_utf8_lossy(&answer[..count]).contains("only core may ask for this"));
    }
}
