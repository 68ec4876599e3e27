//! The service arp: hears for a bounded time who speaks ARP on one interface. Sends nothing, and can't.
//!
//! Its packet socket is opened before anybody is listened to. Then the program starts itself anew without its one capability, and is handed the
//! socket; only then the caller's first byte is read. The socket is bound to no interface: the kernel then takes nothing from `write`, and the unit's filter of system calls
//! has neither `bind` nor `sendto`. The socket never leaves this process, because whoever holds it could send.

use super::{Caller, Outcome, Power, readable, serve_one};
use crate::ai::policy::Policy;
use crate::paths::Paths;
use crate::wire::{Heard, Listen};
use listenfd::ListenFd;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, netdevice, recv, socket_with};
use rustix::thread::clear_ambient_capability_set;
use smolotchi_operator::{Code, Exit, Fault, Result, log};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::num::NonZero;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The action that it is for.
pub(crate) const ARP_LISTEN: &str = "arp-listen";
/// The shortest time that it listens, in seconds: its unit may not be started more often.
pub(crate) const LEAST_SECONDS: u64 = 5;
/// The longest time that it listens, in seconds.
pub(crate) const MOST_SECONDS: u64 = 60;
/// The most neighbours that are told of.
pub(crate) const MOST: usize = 256;
/// ARP for IPv4 over Ethernet, without the Ethernet header.
const PACKET: usize = 28;
/// The kernel's number of ARP.
const ETH_P_ARP: u16 = 0x0806;

/// Serves one call. Errors: the socket could not be opened, which needs CAP_NET_RAW.
pub(crate) fn run(paths: &Paths, path: Option<&Path>) -> Result<Exit> {
    log::role("arp");
    let mut handed = ListenFd::from_env();
    let (family, kind) = (i32::from(AddressFamily::PACKET.as_raw()), SocketType::DGRAM.as_raw() as i32);
    match (0..handed.len()).find_map(|index| handed.take_custom::<OwnedFd>(index, family, kind, "packet socket").ok().flatten()) {
        Some(fd) => {
            let ear = Ear(fd);
            is_given_up()?;
            serve_one(paths, handed, path, |asked: Listen, policy, caller| listen(ear, &asked, policy, caller))
        }
        None => Err(start_anew_without(&Ear::open()?, handed.len())),
    }
}

/// Starts this program again, in the same process, with the socket behind what systemd handed in (sd_listen_fds(3)). An ordinary user's program that is
/// started has the ambient capabilities and no others, and those are cleared before: so it has none, for good. `capset` would do the same, and would
/// be one more system call that the sandbox allows.
fn start_anew_without(ear: &Ear, handed: usize) -> Fault {
    let failed = |error: &dyn std::error::Error| Fault::new(Code::Io, "could not give the capability up").cause(error);
    // The first number that is free is the next one in the row.
    if usize::try_from(ear.0.as_raw_fd()).ok() != Some(3 + handed) {
        return Fault::new(Code::Io, "could not hand the packet socket on").fact("descriptor", ear.0.as_raw_fd());
    }
    if let Err(error) = clear_ambient_capability_set() {
        return failed(&error);
    }
    let program = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/smolotchi".into());
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1));
    command.env("LISTEN_FDS", (handed + 1).to_string()).env("LISTEN_PID", std::process::id().to_string());
    failed(&command.exec())
}

/// Refuses to go on with a capability: what it would give must not be to be had.
fn is_given_up() -> Result<()> {
    match packet_socket() {
        // Only this says that it is not allowed; anything else says nothing about it.
        Err(rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(Fault::new(Code::Io, "could not find out whether the capability is gone").cause(&error)),
        Ok(_) => Err(Fault::new(Code::Io, "the capability is still there")
            .hint("never start it as root: systemctl enable --now smolotchi-arp.socket")),
    }
}

/// A packet socket for ARP, which needs CAP_NET_RAW.
fn packet_socket() -> rustix::io::Result<OwnedFd> {
    let protocol = NonZero::new(u32::from(ETH_P_ARP.to_be())).map(Protocol::from_raw);
    // Not closed by what is started: it is handed on.
    socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::NONBLOCK, protocol)
}

fn listen(ear: Ear, asked: &Listen, policy: &Policy, caller: &Caller) -> Outcome<Heard> {
    let Listen { interface, seconds } = asked;
    if let Some((rule, reason)) = Power::Arp.refuses(policy, ARP_LISTEN, interface) {
        return Err(format!("{rule}: {reason}"));
    }
    if !(LEAST_SECONDS..=MOST_SECONDS).contains(seconds) {
        return Err(format!("it listens for {LEAST_SECONDS} to {MOST_SECONDS} seconds"));
    }
    let heard = ear.only(interface)?.hear(Duration::from_secs(*seconds), caller)?;
    let text = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    Ok(heard.into_iter().map(|(ip, mac)| Heard { interface: interface.clone(), address: ip.to_string(), link: text(mac) }).collect())
}

/// One instruction of the kernel's classic packet filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u16,
    yes: u8,
    no: u8,
    k: u32,
}

/// A filter, as setsockopt(2) takes it.
#[repr(C)]
struct Program {
    length: u16,
    filter: *const Instruction,
}

const SO_ATTACH_FILTER: i32 = 26;
const SO_LOCK_FILTER: i32 = 44;

const fn step(code: u16, yes: u8, no: u8, k: u32) -> Instruction {
    Instruction { code, yes, no, k }
}

/// Takes nothing.
const DEAF: [Instruction; 1] = [step(0x06, 0, 0, 0)];

/// Takes ARP for IPv4 over Ethernet that came in on this interface.
fn filter(interface: u32) -> [Instruction; 10] {
    // Loads beyond this are facts about the packet: 0 its protocol, 8 its interface.
    let fact = |number: u32| 0xffff_f000 + number;
    [
        step(0x20, 0, 0, fact(8)),
        step(0x15, 0, 6, interface),
        step(0x20, 0, 0, fact(0)),
        step(0x15, 0, 4, u32::from(ETH_P_ARP)),
        // Ethernet and IPv4; addresses of 6 and 4 bytes.
        step(0x20, 0, 0, 0),
        step(0x15, 0, 2, 0x0001_0800),
        step(0x28, 0, 0, 4),
        step(0x15, 1, 0, 0x0604),
        step(0x06, 0, 0, 0),
        step(0x06, 0, 0, PACKET as u32),
    ]
}

/// A packet socket.
struct Ear(OwnedFd);

impl Ear {
    /// Opens it, deaf.
    fn open() -> Result<Ear> {
        let failed = |error: rustix::io::Errno| {
            Fault::new(Code::Io, "could not open a packet socket").hint("only its unit has CAP_NET_RAW: smolotchi-arp.socket").cause(&error)
        };
        let ear = Ear(packet_socket().map_err(failed)?);
        ear.attach(&DEAF).map_err(failed)?;
        // What came before it was deaf, from wherever.
        while recv(&ear.0, &mut [0; PACKET][..], RecvFlags::DONTWAIT).is_ok() {}
        Ok(ear)
    }

    /// From now on hears this interface, and nothing else for good.
    fn only(self, interface: &str) -> std::result::Result<Ear, String> {
        let refused = |error: rustix::io::Errno| format!("{interface} can't be listened on: {}", std::io::Error::from(error));
        let index = netdevice::name_to_index(&self.0, interface).map_err(refused)?;
        self.attach(&filter(index)).map_err(refused)?;
        set(&self.0, SO_LOCK_FILTER, &1_i32).map_err(refused)?;
        Ok(self)
    }

    fn attach(&self, filter: &[Instruction]) -> rustix::io::Result<()> {
        let length = u16::try_from(filter.len()).map_err(|_| rustix::io::Errno::INVAL)?;
        set(&self.0, SO_ATTACH_FILTER, &Program { length, filter: filter.as_ptr() })
    }

    /// Everybody who speaks until the time is over, whoever goes on speaking, or the caller is gone.
    fn hear(&self, within: Duration, caller: &Caller) -> std::result::Result<BTreeSet<(Ipv4Addr, [u8; 6])>, String> {
        let (began, mut heard) = (Instant::now(), BTreeSet::new());
        let failed = |error: rustix::io::Errno| format!("nothing more can be heard: {}", std::io::Error::from(error));
        while heard.len() < MOST {
            let left = within.saturating_sub(began.elapsed());
            if left.is_zero() || !readable(&self.0, left, &[&caller.stream]).map_err(failed)? {
                break;
            }
            let mut packet = [0; PACKET];
            match recv(&self.0, &mut packet[..], RecvFlags::DONTWAIT) {
                Ok((_, length)) => heard.extend(speaker(&packet[..length.min(PACKET)])),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(heard)
    }
}

/// Who says so: the sender's address and link address of an ARP packet. None of somebody who has no address yet, or whose
/// addresses are nobody's.
fn speaker(packet: &[u8]) -> Option<(Ipv4Addr, [u8; 6])> {
    if packet.len() < PACKET || packet[..6] != [0, 1, 8, 0, 6, 4] || ![1, 2].contains(&u16::from_be_bytes([packet[6], packet[7]])) {
        return None;
    }
    let mac: [u8; 6] = packet[8..14].try_into().ok()?;
    let ip = Ipv4Addr::from(<[u8; 4]>::try_from(&packet[14..18]).ok()?);
    let nobody = ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || ip.is_loopback() || mac == [0; 6] || mac[0] & 1 == 1;
    (!nobody).then_some((ip, mac))
}

/// setsockopt(2) at the level of sockets.
#[allow(unsafe_code, reason = "no crate sets or locks a filter of a socket that it didn't open itself")]
fn set<T>(fd: &OwnedFd, option: i32, value: &T) -> rustix::io::Result<()> {
    unsafe extern "C" {
        fn setsockopt(fd: i32, level: i32, name: i32, value: *const std::ffi::c_void, length: u32) -> i32;
    }
    const SOL_SOCKET: i32 = 1;
    let length = u32::try_from(size_of::<T>()).map_err(|_| rustix::io::Errno::INVAL)?;
    // The kernel copies what it reads, at most `length` bytes of `value` and, of a filter, as many instructions as it says.
    if unsafe { setsockopt(fd.as_fd().as_raw_fd(), SOL_SOCKET, option, std::ptr::from_ref(value).cast(), length) } == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(operation: u8, mac: [u8; 6], ip: [u8; 4]) -> Vec<u8> {
        [&[0, 1, 8, 0, 6, 4, 0, operation][..], &mac, &ip, &[0; 6], &[192, 0, 2, 1]].concat()
    }

    /// Both ends of a connection, as a caller.
    fn caller() -> (Caller, std::os::unix::net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        (Caller { stream: std::fs::File::from(OwnedFd::from(ours)) }, theirs)
    }

    #[test]
    fn whoever_goes_on_speaking_its_time_is_over() {
        // What packets come by doesn't matter to it.
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let (caller, _kept) = caller();
        for _ in 0..3 {
            theirs.send(&packet(1, [2, 0, 0x5e, 0x10, 0, 1], [192, 0, 2, 7])).unwrap();
        }
        let ear = Ear(ours.into());
        assert_eq!(ear.hear(Duration::ZERO, &caller), Ok(BTreeSet::new()), "one waits, and it goes on");
        assert_eq!(ear.hear(Duration::from_millis(50), &caller).unwrap().len(), 1);
    }

    #[test]
    fn nobody_is_listened_for_when_the_caller_is_gone() {
        let (ours, _theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let (caller, other) = caller();
        drop(other);
        let began = Instant::now();
        assert_eq!(Ear(ours.into()).hear(Duration::from_secs(60), &caller), Ok(BTreeSet::new()));
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn who_speaks_is_the_sender() {
        let mac = [2, 0, 0x5e, 0x10, 0, 1];
        assert_eq!(speaker(&packet(1, mac, [192, 0, 2, 7])), Some((Ipv4Addr::new(192, 0, 2, 7), mac)));
        assert_eq!(speaker(&packet(2, mac, [192, 0, 2, 7])), Some((Ipv4Addr::new(192, 0, 2, 7), mac)));
        let nobody = [
            packet(3, mac, [192, 0, 2, 7]),
            packet(1, mac, [0; 4]),
            packet(1, mac, [224, 0, 0, 1]),
            packet(1, mac, [255; 4]),
            packet(1, mac, [127, 0, 0, 1]),
            packet(1, [0; 6], [192, 0, 2, 7]),
            packet(1, [0xff; 6], [192, 0, 2, 7]),
            packet(1, mac, [192, 0, 2, 7])[..27].to_vec(),
            Vec::new(),
        ];
        for packet in nobody {
            assert_eq!(speaker(&packet), None, "{packet:?}");
        }
        let mut other = packet(1, mac, [192, 0, 2, 7]);
        other[1] = 6;
        assert_eq!(speaker(&other), None);
    }
}
