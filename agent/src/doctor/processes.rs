//! Part `processes`: whether what the units promise holds for the processes that run, by the kernel's word.

use super::units::{Unit, ask_all, listened};
use super::{Check, State};
use crate::paths::Paths;
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::net::SocketAddr;
use std::path::Path;

const PART: &str = "processes";

pub(super) fn look(paths: &Paths) -> Vec<Check> {
    let units = match ask_all(paths) {
        Ok(units) => units,
        Err(why) => return vec![Check::unknown(PART, "privileges", why)],
    };
    let mut checks: Vec<Check> = units.iter().filter(|unit| unit.pid > 0).map(|unit| service(paths, unit)).collect();
    checks.push(limits(&std::fs::read_to_string(paths.sys().join("fs/cgroup/cgroup.controllers")).unwrap_or_default()));
    checks
}

/// All processes of a service, as one line: of several the worst.
fn service(paths: &Paths, unit: &Unit) -> Check {
    let listened = match listened(&unit.sockets) {
        Ok(listened) => listened,
        Err(why) => return Check::unknown(PART, &unit.id, why),
    };
    let group = paths.sys().join("fs/cgroup").join(unit.group.trim_start_matches('/')).join("cgroup.procs");
    let mut pids: Vec<u32> = std::fs::read_to_string(group).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect();
    if !pids.contains(&unit.pid) {
        pids.push(unit.pid);
    }
    let mut worst: Option<Check> = None;
    for pid in pids {
        let process = paths.proc().join(pid.to_string());
        let check = match std::fs::read_to_string(process.join("status")) {
            Ok(status) => judge(unit, pid, &status, &Inside::look(paths, &process, pid), &listened),
            // What it started has ended meanwhile.
            Err(_) if pid != unit.pid => continue,
            Err(error) => Check::unknown(PART, &unit.id, format!("process {pid}: {error}")),
        };
        if worst.as_ref().is_none_or(|worst| worst.state < check.state) {
            worst = Some(check);
        }
    }
    worst.unwrap_or_else(|| Check::unknown(PART, &unit.id, "it has no process"))
}

/// What only root may look at.
#[derive(Debug)]
struct Inside {
    /// Its mounts, mountinfo of proc(5).
    mounts: String,
    /// Its namespaces that are the machine's, by the kernel's names.
    shared: Vec<&'static str>,
    /// Its sockets; why they can't be seen.
    sockets: Result<Vec<Socket>, String>,
}

/// A socket that a process has.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Socket {
    /// Of the family unix; where it listens.
    Unix(Option<String>),
    /// Of the families of the Internet: kind and own address.
    Net(&'static str, SocketAddr),
    /// Asks the kernel, by this protocol.
    Netlink(u32),
    /// Of another family, by its number.
    Other(u16),
}

impl std::fmt::Display for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Socket::Unix(at) => write!(f, "unix {}", at.as_deref().unwrap_or("connection")),
            Socket::Net(kind, at) => write!(f, "{kind} {at}"),
            Socket::Netlink(protocol) => write!(f, "netlink {protocol}"),
            Socket::Other(family) => write!(f, "of the family {family}"),
        }
    }
}

impl Socket {
    /// What a descriptor is, if it is a socket. Nothing is read from it and nothing set.
    fn of(descriptor: &OwnedFd) -> Option<Socket> {
        let family = sockopt::socket_domain(descriptor).ok()?;
        let listens = sockopt::socket_acceptconn(descriptor).unwrap_or(false);
        let own = rustix::net::getsockname(descriptor).ok();
        Some(match family {
            AddressFamily::UNIX => {
                let address = own.and_then(|own| SocketAddrUnix::try_from(own).ok());
                let path = address.as_ref().and_then(|address| address.path().map(|path| path.to_string_lossy().into_owned()));
                Socket::Unix(listens.then(|| path.unwrap_or_else(|| "without a path".to_owned())))
            }
            AddressFamily::INET | AddressFamily::INET6 => {
                let kind = match sockopt::socket_type(descriptor) {
                    Ok(SocketType::STREAM) => "tcp",
                    Ok(SocketType::DGRAM) => "udp",
                    _ => "raw",
                };
                Socket::Net(kind, own.and_then(|own| SocketAddr::try_from(own).ok())?)
            }
            AddressFamily::NETLINK => {
                Socket::Netlink(sockopt::socket_protocol(descriptor).ok().flatten().map_or(0, |protocol| protocol.as_raw().get()))
            }
            other => Socket::Other(other.as_raw()),
        })
    }

    /// Whether the unit opens such a one itself, or is handed this one.
    fn declared(&self, unit: &Unit, listened: &[String]) -> bool {
        let may = |family: &str| unit.families.iter().any(|one| one == family);
        let handed = |words: &str| listened.iter().any(|one| one == words);
        match self {
            Socket::Unix(None) => may("AF_UNIX"),
            Socket::Unix(Some(path)) => handed(path),
            // A caller's connection has the port of the listener.
            Socket::Net("tcp", at) => listened.iter().any(|one| one.rsplit(':').next() == Some(&at.port().to_string())),
            Socket::Net(..) => false,
            Socket::Netlink(protocol) => {
                may("AF_NETLINK")
                    || NETLINK
                        .iter()
                        .any(|(number, name)| number == protocol && listened.iter().any(|one| one.split(' ').next() == Some(name)))
            }
            Socket::Other(family) => *family == AddressFamily::PACKET.as_raw() && may("AF_PACKET"),
        }
    }
}

/// Protocols of netlink(7) that a .socket unit hands in, by systemd's names.
const NETLINK: [(u32, &str); 3] = [(0, "route"), (4, "inet-diag"), (16, "generic")];

impl Inside {
    fn look(paths: &Paths, process: &Path, pid: u32) -> Inside {
        let machine = paths.proc().join("1");
        let same = |name: &&str| {
            let namespace = |of: &Path| std::fs::read_link(of.join("ns").join(name)).ok();
            namespace(process).is_some_and(|its| Some(its) == namespace(&machine))
        };
        let mounts = std::fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
        Inside { mounts, shared: ["net", "user", "mnt", "ipc"].into_iter().filter(same).collect(), sockets: sockets(process, pid) }
    }

    /// Where it can write: path and options.
    fn writable(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.mounts.lines().filter_map(|line| line.split(' ').nth(4).zip(line.split(' ').nth(5)));
        fields.filter(|(_, options)| options.split(',').any(|one| one == "rw"))
    }

    /// Where something can be written and then executed.
    fn both(&self) -> Vec<&str> {
        self.writable().filter(|(_, options)| !options.split(',').any(|one| one == "noexec")).map(|(at, _)| at).collect()
    }
}

/// The sockets of a process. A copy of each descriptor tells what it is, whichever network it belongs to; the lists in /proc don't.
fn sockets(process: &Path, pid: u32) -> Result<Vec<Socket>, String> {
    let said = |error: &dyn std::fmt::Display| format!("its sockets can't be seen: {error}");
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("it has no number")?;
    let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| said(&error))?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(process.join("fd")).map_err(|error| said(&error))?.flatten() {
        let is_socket = std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()).filter(|_| is_socket) else { continue };
        match pidfd_getfd(&handle, number, PidfdGetfdFlags::empty()) {
            Ok(descriptor) => found.extend(Socket::of(&descriptor)),
            // Closed since.
            Err(rustix::io::Errno::BADF) => {}
            Err(error) => return Err(said(&error)),
        }
    }
    Ok(found)
}

/// The kernel's capabilities, by number.
const CAPABILITIES: [&str; 41] = [
    "cap_chown",
    "cap_dac_override",
    "cap_dac_read_search",
    "cap_fowner",
    "cap_fsetid",
    "cap_kill",
    "cap_setgid",
    "cap_setuid",
    "cap_setpcap",
    "cap_linux_immutable",
    "cap_net_bind_service",
    "cap_net_broadcast",
    "cap_net_admin",
    "cap_net_raw",
    "cap_ipc_lock",
    "cap_ipc_owner",
    "cap_sys_module",
    "cap_sys_rawio",
    "cap_sys_chroot",
    "cap_sys_ptrace",
    "cap_sys_pacct",
    "cap_sys_admin",
    "cap_sys_boot",
    "cap_sys_nice",
    "cap_sys_resource",
    "cap_sys_time",
    "cap_sys_tty_config",
    "cap_mknod",
    "cap_lease",
    "cap_audit_write",
    "cap_audit_control",
    "cap_setfcap",
    "cap_mac_override",
    "cap_mac_admin",
    "cap_syslog",
    "cap_wake_alarm",
    "cap_block_suspend",
    "cap_audit_read",
    "cap_perfmon",
    "cap_bpf",
    "cap_checkpoint_restore",
];

/// A unit's list as the kernel's bits.
fn bits(names: &str) -> u64 {
    let number = |name: &str| CAPABILITIES.iter().position(|one| one.eq_ignore_ascii_case(name));
    names.split_whitespace().filter_map(number).fold(0, |all, number| all | 1 << number)
}

/// The names of these bits.
fn named(mask: u64) -> String {
    let names = (0..64).filter(|number| mask & (1 << number) != 0);
    names.map(|number| CAPABILITIES.get(number).map_or_else(|| number.to_string(), |name| (*name).to_owned())).collect::<Vec<_>>().join(" ")
}

/// Compares a process's status (proc(5)) and what it has and sees with what its unit says; `listened`: what is handed to it.
fn judge(unit: &Unit, pid: u32, status: &str, inside: &Inside, listened: &[String]) -> Check {
    let get = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim();
    let mask = |name: &str| u64::from_str_radix(get(name), 16);
    let (Ok(effective), Ok(bounding)) = (mask("CapEff"), mask("CapBnd")) else {
        return Check::unknown(PART, &unit.id, "the kernel doesn't tell its capabilities");
    };
    let root = ["", "root"].contains(&unit.user.as_str());
    let mut wrong = Vec::new();
    let promised = bits(&unit.bounding);
    if bounding & !promised != 0 {
        wrong.push(format!("it may get {}", named(bounding & !promised)));
    }
    // What systemd keeps from root by the bounding set, it gives others only where the unit says so.
    let granted = promised & if root { promised } else { bits(&unit.ambient) };
    let has = ["CapPrm", "CapInh", "CapAmb"].into_iter().filter_map(|name| mask(name).ok()).fold(effective, |all, one| all | one);
    if has & !granted != 0 {
        wrong.push(format!("it has {}", named(has & !granted)));
    }
    if !root && !inside.both().is_empty() {
        wrong.push(format!("it can write and execute at {}", inside.both().join(" ")));
    }
    let meant = |at: &str| at == "/proc" || unit.writable.iter().any(|one| Path::new(at).starts_with(one));
    let more: Vec<_> = inside.writable().map(|(at, _)| at).filter(|at| !meant(at)).collect();
    if !root && !more.is_empty() {
        wrong.push(format!("it can write at {}", more.join(" ")));
    }
    let open: Vec<_> = inside.sockets.iter().flatten().filter(|socket| !socket.declared(unit, listened)).map(Socket::to_string).collect();
    if !open.is_empty() {
        wrong.push(format!("it has sockets beyond its unit's: {}", open.join(", ")));
    }
    let shared: Vec<_> = unit.apart.iter().filter(|name| inside.shared.contains(name)).copied().collect();
    if !shared.is_empty() {
        wrong.push(format!("it shares the machine's namespaces {}", shared.join(" ")));
    }
    if !root && get("Uid").split_whitespace().any(|uid| uid == "0") {
        wrong.push("it runs as root".to_owned());
    }
    if unit.no_new_privileges && get("NoNewPrivs") != "1" {
        wrong.push("it may gain privileges".to_owned());
    }
    if unit.filtered && get("Seccomp") != "2" {
        wrong.push("its system calls are not filtered".to_owned());
    }
    if !wrong.is_empty() {
        let hint = format!("see what changes the unit: systemctl cat {0}; then systemctl restart {0}", unit.id);
        return Check::new(PART, &unit.id, State::Failed, format!("process {pid}: {}", wrong.join(", "))).hint(hint);
    }
    match &inside.sockets {
        Err(why) => Check::unknown(PART, &unit.id, format!("process {pid}: {why}")),
        Ok(sockets) => {
            let (capabilities, paths) = (bounding.count_ones(), inside.writable().count());
            let detail =
                format!("process {pid}: {capabilities} capabilities, {} sockets, {paths} writable mounts, as its unit says", sockets.len());
            Check::ok(PART, &unit.id, detail)
        }
    }
}

/// Whether the kernel enforces the units' bounds.
fn limits(controllers: &str) -> Check {
    let missing: Vec<_> = ["memory", "pids"].into_iter().filter(|name| !controllers.split_whitespace().any(|have| have == *name)).collect();
    if missing.is_empty() {
        return Check::ok(PART, "bounds", "memory and number of processes are bounded by the kernel");
    }
    Check::new(PART, "bounds", State::Warning, format!("the kernel doesn't bound {} here; only LimitDATA holds", missing.join(" and ")))
        .hint("on Raspberry Pi OS add cgroup_enable=memory to /boot/firmware/cmdline.txt and reboot")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "Name:\tsmolotchi\nUid:\t990\t990\t990\t990\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";

    fn unit() -> Unit {
        Unit {
            id: "smolotchi-core.service".into(),
            pid: 7,
            user: "smolotchi".into(),
            no_new_privileges: true,
            filtered: true,
            ..Unit::default()
        }
    }

    #[test]
    fn what_the_kernel_says_is_held_against_the_unit() {
        assert_eq!(judge(&unit(), 7, GOOD, &inside(), &[]).state, State::Ok);
        let cases = [
            ("CapEff:\t0000000000000000", "CapEff:\t0000000000000400", "has cap_net_bind_service"),
            ("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff", "may get cap_chown"),
            ("CapBnd", "CapAmb:\t0000000000000400\nCapBnd", "has cap_net_bind_service"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "gain privileges"),
            ("Seccomp:\t2", "Seccomp:\t0", "not filtered"),
            ("Uid:\t990\t990\t990", "Uid:\t0\t0\t0", "runs as root"),
        ];
        for (from, to, words) in cases {
            let check = judge(&unit(), 7, &GOOD.replace(from, to), &inside(), &[]);
            assert_eq!((check.state, check.detail.contains(words)), (State::Failed, true), "{check:?}");
        }
        assert_eq!(judge(&unit(), 7, "", &inside(), &[]).state, State::Unknown);
    }

    fn inside() -> Inside {
        Inside { mounts: String::new(), shared: Vec::new(), sockets: Ok(Vec::new()) }
    }

    #[test]
    fn one_capability_in_the_place_of_another_is_found_and_root_may_have_its_units() {
        let installer = Unit { user: String::new(), bounding: "cap_chown cap_kill".into(), ..unit() };
        let status = |mask: &str| GOOD.replace("0000000000000000", mask);
        assert_eq!(judge(&installer, 7, &status("0000000000000021"), &inside(), &[]).state, State::Ok);
        let check = judge(&installer, 7, &status("0000000000000022"), &inside(), &[]);
        assert!(check.state == State::Failed && check.detail.contains("cap_dac_override"), "{check:?}");
    }

    #[test]
    fn who_is_not_root_has_what_its_unit_starts_it_with_and_no_more() {
        let started = |ambient: &str| Unit { bounding: "cap_net_admin cap_net_raw".into(), ambient: ambient.into(), ..unit() };
        let status = GOOD.replace("CapEff:\t0000000000000000", "CapEff:\t0000000000001000");
        assert_eq!(judge(&started("cap_net_admin"), 7, &status, &inside(), &[]).state, State::Ok);
        for ambient in ["", "cap_net_raw"] {
            let check = judge(&started(ambient), 7, &status, &inside(), &[]);
            assert!(check.state == State::Failed && check.detail.contains("has cap_net_admin"), "{check:?}");
        }
        let hears = Unit { families: vec!["AF_PACKET".into()], ..unit() };
        for (family, fine) in [(17, true), (38, false)] {
            let check = judge(&hears, 7, GOOD, &Inside { sockets: Ok(vec![Socket::Other(family)]), ..inside() }, &[]);
            assert_eq!(check.state == State::Ok, fine, "{check:?}");
        }
    }

    #[test]
    fn a_place_to_write_or_execute_and_a_shared_namespace_are_found() {
        let mounts = |options: &str| format!("36 35 98:0 /x / ro,nosuid - ext4 /dev/x rw\n37 36 0:5 /y /tmp {options} - tmpfs none rw\n");
        let inside = |options: &str, shared| Inside { mounts: mounts(options), shared, ..inside() };
        let apart = Unit { apart: vec!["net", "user"], writable: vec!["/tmp".into()], ..unit() };
        assert_eq!(judge(&apart, 7, GOOD, &inside("rw,nosuid,noexec", vec!["ipc"]), &[]).state, State::Ok);
        for (inside, words) in [(inside("rw,nosuid", vec![]), "execute at /tmp"), (inside("ro", vec!["net", "ipc"]), "namespaces net")] {
            let check = judge(&apart, 7, GOOD, &inside, &[]);
            assert!(check.state == State::Failed && check.detail.ends_with(words), "{check:?}");
        }
        let check = judge(&unit(), 7, GOOD, &inside("rw,noexec", vec![]), &[]);
        assert!(check.state == State::Failed && check.detail.ends_with("write at /tmp"), "{check:?}");
    }

    #[test]
    fn a_socket_that_the_unit_neither_opens_nor_is_handed_is_found() {
        let unit = Unit { families: vec!["AF_UNIX".into()], ..unit() };
        let listened: Vec<String> = ["127.0.0.1:8080", "/run/x.sock", "route 0"].map(str::to_owned).into();
        let at = |text: &str| text.parse().unwrap();
        let cases = [
            (Socket::Unix(None), true),
            (Socket::Unix(Some("/run/x.sock".into())), true),
            (Socket::Unix(Some("/run/y.sock".into())), false),
            (Socket::Net("tcp", at("127.0.0.1:8080")), true),
            (Socket::Net("tcp", at("192.0.2.1:8080")), true),
            (Socket::Net("tcp", at("127.0.0.1:18080")), false),
            (Socket::Net("udp", at("127.0.0.1:8080")), false),
            (Socket::Netlink(0), true),
            (Socket::Netlink(9), false),
            (Socket::Other(17), false),
        ];
        for (socket, fine) in cases {
            let check = judge(&unit, 7, GOOD, &Inside { sockets: Ok(vec![socket.clone()]), ..inside() }, &listened);
            assert_eq!(check.state == State::Ok, fine, "{check:?}");
            assert!(fine || check.detail.ends_with(&socket.to_string()), "{check:?}");
        }
        let unseen = Inside { sockets: Err("its sockets can't be seen".into()), ..inside() };
        assert_eq!(judge(&unit, 7, GOOD, &unseen, &[]).state, State::Unknown);
    }

    #[test]
    fn the_sockets_of_a_process_are_told_by_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _ask = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
        let seen = sockets(Path::new("/proc/self"), std::process::id()).unwrap();
        for socket in
            [Socket::Unix(Some(path.to_str().unwrap().to_owned())), Socket::Net("tcp", tcp.local_addr().unwrap()), Socket::Netlink(0)]
        {
            assert!(seen.contains(&socket), "{socket}: {seen:?}");
        }
    }

    #[test]
    fn bounds_that_do_not_hold_are_told() {
        assert_eq!(limits("cpuset cpu io memory pids").state, State::Ok);
        assert!(limits("cpu io pids").detail.contains("memory here"));
        assert_eq!(limits("").state, State::Warning);
    }
}
