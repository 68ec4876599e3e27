//! Netlink (netlink(7)): asks the kernel for its tables over sockets that were opened by somebody else.
//!
//! Core has no network and may open no such socket: smolotchi-senses.socket opens them in the machine's network and hands
//! them in. Only dumps and look-ups go over them, which need no privilege and change nothing. The one who changes something is the service
//! net (`powers/net.rs`), with a socket of its own.

use super::words;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, netlink, recv, send, sockopt};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

/// As much as the kernel puts into one answer.
const BUFFER: usize = 32 * 1024;
/// The most answers to one question: 32 MiB, more than any table that could be of use here.
const ANSWERS: usize = 1024;
/// How often a table that changes while it is told is asked for.
const TRIES: usize = 3;

const HEADER: usize = 16;
const REQUEST: u16 = 0x1;
const DUMP: u16 = 0x300;
const ACKNOWLEDGE: u16 = 0x4;
const INTERRUPTED: u16 = 0x10;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// The sockets that were handed in; each may be missing.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    route: Option<Mutex<Socket>>,
    diag: Option<Mutex<Socket>>,
    generic: Option<Mutex<Socket>>,
    /// Family and protocol of sockets that this kernel can't tell of.
    lacking: Mutex<Vec<[u8; 2]>>,
}

/// A table of the kernel's: the kind of the question, and of the entries that answer it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    pub(crate) family: Family,
    pub(crate) ask: u16,
    pub(crate) told: u16,
}

/// Which socket is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Interfaces, addresses, routes, neighbours.
    Route,
    /// Sockets.
    Diag,
    /// Wi-Fi.
    Generic,
}

/// One socket, and the number of the last question.
#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Kernel {
    /// Sorts the sockets by what the kernel says of them; the order in which systemd hands them in is not fixed. What is no
    /// netlink socket of ours is closed.
    pub(crate) fn new(handed: Vec<OwnedFd>) -> Self {
        let mut kernel = Kernel::default();
        for fd in handed {
            if sockopt::socket_domain(&fd).ok() != Some(AddressFamily::NETLINK) {
                continue;
            }
            let place = match sockopt::socket_protocol(&fd) {
                Ok(None) => &mut kernel.route,
                Ok(Some(netlink::SOCK_DIAG)) => &mut kernel.diag,
                Ok(Some(netlink::GENERIC)) => &mut kernel.generic,
                _ => continue,
            };
            *place = Some(Mutex::new(Socket { fd, sequence: 0 }));
        }
        kernel
    }

    /// Asks for a whole table, and takes what `parse` understands of it.
    pub(crate) fn dump<T>(&self, table: Table, body: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>, String> {
        self.ask(table, DUMP, body, parse)
    }

    /// Has the kernel change something, which needs CAP_NET_ADMIN; `flags` beside those of any request. Core's senses never do.
    pub(crate) fn change(&self, kind: u16, flags: u16, body: &[u8]) -> Result<(), String> {
        self.ask(Table { family: Family::Route, ask: kind, told: kind }, ACKNOWLEDGE | flags, body, |_| Some(())).map(drop)
    }

    /// Asks for one entry.
    pub(super) fn look_up<T>(&self, table: Table, body: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>, String> {
        self.ask(table, 0, body, parse)
    }

    fn ask<T>(&self, table: Table, flags: u16, body: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>, String> {
        let socket = match table.family {
            Family::Route => &self.route,
            Family::Diag => &self.diag,
            Family::Generic => &self.generic,
        };
        let socket = socket.as_ref().ok_or("systemd handed in no socket for it: smolotchi-senses.socket")?;
        let mut socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked for what it has no module for, the kernel runs modprobe each time: once is enough.
        let sockets = body.first_chunk::<2>().filter(|_| table.family == Family::Diag);
        let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        if sockets.is_some_and(|sockets| lacking.contains(sockets)) {
            return Err(failed(Errno::NOENT));
        }
        for _ in 0..TRIES {
            let mut found = Vec::new();
            let take = |kind, body: &[u8]| found.extend(if kind == table.told { parse(body) } else { None });
            let asked = socket.ask(table.ask, flags, body, take);
            if asked.as_ref().is_err_and(|reason| *reason == failed(Errno::NOENT)) {
                lacking.extend(sockets.copied());
            }
            if asked? {
                return Ok(found);
            }
        }
        Err("the kernel's table changes faster than it can be read".to_owned())
    }
}

impl Socket {
    /// One question and its answers. False if the table changed meanwhile: what was told may lack something.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8], mut each: impl FnMut(u16, &[u8])) -> Result<bool, String> {
        let mut buffer = vec![0; BUFFER];
        self.drain(&mut buffer)?;
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let question = question(kind, REQUEST | flags, self.sequence, body);
        send(&self.fd, &question, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map_err(failed)?;
        let mut whole = true;
        for _ in 0..ANSWERS {
            // The kernel answers while it is asked: what isn't there now will never come.
            let told = match self.receive(&mut buffer)? {
                Some(told) => told,
                None => return Err("the kernel did not answer to the end".to_owned()),
            };
            for message in messages(&buffer[..told]).filter(|message| message.sequence == self.sequence) {
                whole &= message.flags & INTERRUPTED == 0;
                match message.kind {
                    ERROR | DONE => {
                        let code = message.body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                        return if code == 0 { Ok(whole) } else { Err(failed(Errno::from_raw_os_error(code.saturating_neg()))) };
                    }
                    kind => each(kind, message.body),
                }
                if flags & DUMP == 0 {
                    return Ok(whole);
                }
            }
        }
        Err("the kernel's table is too large".to_owned())
    }

    /// Takes away what a process before this one asked for and didn't read.
    fn drain(&self, buffer: &mut [u8]) -> Result<(), String> {
        for _ in 0..ANSWERS {
            if self.receive(buffer)?.is_none() {
                return Ok(());
            }
        }
        Err("somebody else talks on this socket".to_owned())
    }

    /// One answer; `None` if there is none.
    fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>, String> {
        match recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok((_, length)) if length > buffer.len() => Err("the kernel's answer is too long".to_owned()),
            Ok((_, length)) => Ok(Some(length)),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

fn failed(error: Errno) -> String {
    format!("the kernel refused: {}", words(&error.into()))
}

/// A question in the kernel's form.
fn question(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or_default();
    let port = 0_u32;
    [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &sequence.to_ne_bytes(), &port.to_ne_bytes(), body].concat()
}

/// One message of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    flags: u16,
    sequence: u32,
    pub(super) body: &'a [u8],
}

/// The messages of an answer, up to the first that isn't whole.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let (kind, flags, sequence) = (u16_at(bytes, 4)?, u16_at(bytes, 6)?, u32_at(bytes, 8)?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some(Message { kind, flags, sequence, body })
    })
}

/// The attributes behind a fixed part of so many bytes, up to the first that isn't whole: kind and value.
pub(crate) fn attributes(body: &[u8], fixed: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut bytes = body.get(aligned(fixed)..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)?;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        // The two highest bits say how it is written, not what it is.
        Some((kind & 0x3fff, value))
    })
}

/// An attribute in the kernel's form.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or_default();
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(aligned(bytes.len()), 0);
    bytes
}

fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// A number in the machine's order.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

/// A number in the machine's order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A number in the machine's order.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

/// A text that ends with a zero byte or with the value; what is no printable character becomes a question mark.
pub(crate) fn text_of(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).chars().map(|c| if c.is_control() || c == '\u{fffd}' { '?' } else { c }).collect()
}

/// A socket as systemd opens it. Core may not.
pub(crate) fn opened(protocol: Option<rustix::net::Protocol>) -> rustix::io::Result<OwnedFd> {
    use rustix::net::{SocketFlags, SocketType, socket_with};
    socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, protocol)
}

/// The same for tests, which have no systemd.
#[cfg(test)]
pub(super) fn open(protocol: Option<rustix::net::Protocol>) -> OwnedFd {
    opened(protocol).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = question(kind, 0, sequence, body);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    #[test]
    fn messages_and_attributes_come_apart_as_they_were_put_together() {
        let body = [vec![9; 6], vec![0; 2], attribute(1, b"eth0\0"), attribute(0x8002, &7_u32.to_ne_bytes())].concat();
        let bytes = [message(16, 5, &body), message(DONE, 5, &[0; 4])].concat();
        let found: Vec<_> = messages(&bytes).collect();
        assert_eq!(found.iter().map(|message| (message.kind, message.sequence)).collect::<Vec<_>>(), [(16, 5), (DONE, 5)]);
        let attributes: Vec<_> = attributes(found[0].body, 6).collect();
        assert_eq!(attributes, [(1, &b"eth0\0"[..]), (2, &7_u32.to_ne_bytes()[..])]);
        assert_eq!((text_of(b"eth0\0x"), text_of(b"a\nb\xff"), text_of(b"")), ("eth0".into(), "a?b?".into(), String::new()));
    }

    #[test]
    fn lengths_that_lie_end_it() {
        for length in [0_u32, 1, 15, 17, 1000, u32::MAX] {
            let mut bytes = message(16, 1, &[]);
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(messages(&bytes).count(), 0, "{length}");
        }
        for length in [0_u16, 3, 9, u16::MAX] {
            let mut bytes = attribute(1, &[1, 2, 3, 4]);
            bytes[..2].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(attributes(&bytes, 0).count(), 0, "{length}");
        }
        assert_eq!(attributes(&[1, 2], 16).count(), 0);
    }

    const LINKS: Table = Table { family: Family::Route, ask: 18, told: 16 };

    #[test]
    fn a_missing_socket_is_a_reason() {
        let reason = Kernel::default().dump(LINKS, &[0; 16], |_| Some(())).unwrap_err();
        assert!(reason.contains("smolotchi-senses.socket"), "{reason}");
    }

    #[test]
    fn sockets_are_known_by_what_they_are() {
        let other = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let kernel = Kernel::new(vec![open(Some(netlink::GENERIC)), other.into(), open(None), open(Some(netlink::SOCK_DIAG))]);
        assert!(kernel.route.is_some() && kernel.diag.is_some() && kernel.generic.is_some());
        assert!(!kernel.dump(LINKS, &[0; 16], |_| Some(())).unwrap().is_empty());
    }

    #[test]
    fn what_another_process_left_unread_is_not_taken_for_the_answer() {
        let kernel = Kernel::new(vec![open(None)]);
        {
            let socket = kernel.route.as_ref().unwrap().lock().unwrap();
            // A dump of links begun with the number that ours will have, and left.
            send(&socket.fd, &question(18, REQUEST | DUMP, 1, &[0; 16]), SendFlags::empty()).unwrap();
        }
        // Of its own question, which is for something else, links are no answer.
        let links = Table { family: Family::Route, ask: 22, told: 16 };
        assert_eq!(kernel.dump(links, &[0; 8], |_| Some(())).unwrap(), []);
        assert!(!kernel.dump(LINKS, &[0; 16], |_| Some(())).unwrap().is_empty());
    }

    #[test]
    fn what_the_kernel_refuses_is_a_reason() {
        let kernel = Kernel::new(vec![open(Some(netlink::GENERIC))]);
        let body = [&[3, 1, 0, 0][..], &attribute(2, b"no-such-family\0")].concat();
        let reason = kernel.look_up(Table { family: Family::Generic, ask: 16, told: 16 }, &body, |_| Some(())).unwrap_err();
        assert!(reason.contains("No such file"), "{reason}");
    }

    #[test]
    fn what_the_kernel_has_no_module_for_is_asked_once() {
        let kernel = Kernel::new(vec![open(Some(netlink::SOCK_DIAG))]);
        let table = Table { family: Family::Diag, ask: 20, told: 20 };
        let mut body = [0; 56];
        // No protocol has this number.
        (body[0], body[1]) = (2, 254);
        let asked = || kernel.diag.as_ref().unwrap().lock().unwrap().sequence;
        for _ in 0..3 {
            let reason = kernel.dump(table, &body, |_| Some(())).unwrap_err();
            assert!(reason.contains("No such file"), "{reason}");
            assert_eq!(asked(), 1);
        }
        body[1] = 253;
        kernel.dump(table, &body, |_| Some(())).unwrap_err();
        assert_eq!(asked(), 2, "another one may be there");
    }
}
