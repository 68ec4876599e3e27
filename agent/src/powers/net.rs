//! The service net: does one of a small table of operations on one interface, over rtnetlink. The only process of ours with CAP_NET_ADMIN, for
//! as long as one call takes.
//!
//! It must never do what is not in the table, and a restart must never leave less than there was: what the kernel forgets while a
//! link is down is put back, whether or not another program looks after the network; where that can't be done, nothing is touched. Before the link is taken
//! down, all that is written down: whoever ends this process in the middle, its unit has the rest done (`--finish`, ExecStopPost=).

use super::{Outcome, Power, serve_one};
use crate::paths::Paths;
use crate::senses::netlink::{Family, Kernel, Table, attribute, attributes, opened, text_of, u16_at, u32_at};
use crate::senses::network::{Link, links};
use crate::wire::{Operate, Operated};
use listenfd::ListenFd;
use serde::{Deserialize, Serialize};
use smolotchi_operator::{Code, Exit, Fault, Result, log};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufWriter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

/// Takes a link down and up again.
pub(crate) const LINK_RESTART: &str = "link-restart";
/// Empties an interface's neighbour table.
pub(crate) const NEIGHBOURS_FLUSH: &str = "neighbours-flush";

/// How long a link is tried to be brought up while somebody waits.
const UP_TIME: Duration = Duration::from_secs(10);
/// And once nobody does: an adapter that loads its firmware anew takes its time. Below the unit's TimeoutStopSec=.
const FINISH_TIME: Duration = Duration::from_secs(150);
/// How long what was forgotten is tried to be put back. The kernel takes a route from an address only once it knows that nobody else has it, and asks
/// only once the link has its carrier.
const BACK_TIME: Duration = Duration::from_secs(20);
/// The longest that an operation takes.
pub(crate) const MOST_TIME: Duration = UP_TIME.saturating_add(BACK_TIME);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// The most of what is lost that is told of.
const TOLD: usize = 20;
/// The most that is put back: what of the kernel's tables fits into this service's memory.
const MOST: usize = 5000;

const LINK_SET: u16 = 16;
const ADDRESS_NEW: u16 = 20;
const ROUTE_NEW: u16 = 24;
const NEIGHBOUR_NEW: u16 = 28;
const NEIGHBOUR_DELETE: u16 = 29;
const LINKS: Table = Table { family: Family::Route, ask: 18, told: LINK_SET };
const ADDRESSES: Table = Table { family: Family::Route, ask: 22, told: ADDRESS_NEW };
const ROUTES: Table = Table { family: Family::Route, ask: 26, told: ROUTE_NEW };
const NEIGHBOURS: Table = Table { family: Family::Route, ask: 30, told: NEIGHBOUR_NEW };
const NEXT_HOPS: Table = Table { family: Family::Route, ask: 106, told: 104 };
/// Of an entry of the neighbour table: somebody wrote it.
const PERMANENT: u16 = 0x80;
/// Of an entry of the neighbour table: this machine answers for that address.
const PROXY: u8 = 0x08;
/// Makes one; what is there already stays as it is.
const ONLY_NEW: u16 = 0x600;

/// Serves one call.
pub(crate) fn run(paths: &Paths, path: Option<&Path>) -> Result<Exit> {
    log::role("net");
    serve_one(paths, ListenFd::from_env(), path, |asked: Operate, policy, _| {
        if let Some((rule, reason)) = Power::Net.refuses(policy, &asked.operation, &asked.interface) {
            return Err(format!("{rule}: {reason}"));
        }
        let done = operate(&asked, &paths.net_note());
        match &done {
            Ok(all) => {
                all.iter().for_each(|done| tell_lost(&done.lost));
                if !all.iter().any(|done| done.down) {
                    log::notice(format!("{} on {}: done", asked.operation, asked.interface));
                }
            }
            Err(reason) => log::fault(
                &Fault::new(Code::Io, reason.as_str())
                    .fact("operation", asked.operation.as_str())
                    .fact("interface", asked.interface.as_str()),
            ),
        }
        done
    })
}

/// Does what a process before this one began and was ended at, if there is anything. Errors: the link is down still.
pub(crate) fn finish(paths: &Paths) -> Result<Exit> {
    log::role("net");
    let note = paths.net_note();
    let Some(before) = Before::noted(&note) else { return Ok(Exit::Success) };
    log::warning(Code::Io, format!("a restart of {} was cut off, and is finished", before.name));
    let failed = |reason: String| Fault::new(Code::Io, reason).fact("interface", before.name.as_str());
    let (_, lost) = before.put_back(&kernel().map_err(failed)?, FINISH_TIME).map_err(failed)?;
    tell_lost(&lost);
    // A link that is up and lacks something is what it is: trying again would not bring it.
    forget(&note);
    Ok(Exit::Success)
}

fn tell_lost(lost: &[String]) {
    for what in lost {
        log::warning(Code::Io, format!("not put back: {what}"));
    }
}

fn kernel() -> std::result::Result<Kernel, String> {
    let fd = opened(None).map_err(|error| format!("no netlink socket could be opened: {}", std::io::Error::from(error)))?;
    Ok(Kernel::new(vec![fd]))
}

fn operate(asked: &Operate, note: &Path) -> Outcome<Operated> {
    let kernel = kernel()?;
    let link = links(&kernel)?.into_iter().find(|link| link.name == asked.interface);
    let link = link.filter(|link| !link.loopback).ok_or_else(|| format!("there is no interface {}", asked.interface))?;
    let mut done = Operated {
        operation: asked.operation.clone(),
        interface: link.name.clone(),
        put_back: 0,
        lost: Vec::new(),
        down: false,
        removed: 0,
    };
    match asked.operation.as_str() {
        LINK_RESTART => restart(&kernel, &link, note, &mut done)?,
        NEIGHBOURS_FLUSH => done.removed = flush(&kernel, &link)?,
        other => return Err(format!("there is no operation {other}")),
    }
    Ok(vec![done])
}

/// Errors: nothing was done.
fn restart(kernel: &Kernel, link: &Link, note: &Path, done: &mut Operated) -> std::result::Result<(), String> {
    if !link.enabled {
        return Err(format!("{} was switched off by somebody, and stays off", link.name));
    }
    let hangs = kernel.dump(LINKS, &[0; 16], Hangs::parse)?;
    if let Some(reason) = entangled(link.index, &hangs) {
        return Err(format!("{} {reason}; nothing was done", link.name));
    }
    if !kernel.dump(NEXT_HOPS, &[0; 8], |body| next_hop(link.index, body))?.is_empty() {
        return Err(format!("{} has next hops that stand for themselves (ip nexthop), which would be lost; nothing was done", link.name));
    }
    if !kernel.dump(ROUTES, &[0; 12], |body| multipath(link.index, body))?.is_empty() {
        return Err(format!("{} is one of several ways of a route, which would be lost; nothing was done", link.name));
    }
    let before = Before::of(kernel, link.index, &link.name)?;
    if before.entries.len() > MOST {
        return Err(format!(
            "{} has {} addresses, routes and written neighbours, and {MOST} are put back at most; nothing was done",
            link.name,
            before.entries.len()
        ));
    }
    before.note(note).map_err(|error| format!("nothing was done: {} can't be written: {error}", note.display()))?;
    let taken_down = kernel.change(LINK_SET, 0, &switch(link.index, false));
    // Whatever came of that, it comes up.
    match before.put_back(kernel, UP_TIME) {
        Ok((put_back, lost)) => {
            forget(note);
            taken_down.map_err(|reason| format!("{} could not be taken down, and is as it was: {reason}", link.name))?;
            (done.put_back, done.lost) = (put_back, lost);
        }
        // The note stays: once this process has ended, its unit has it tried for longer.
        Err(reason) => {
            log::warning(Code::Io, format!("{reason}; it is tried for {} s more", FINISH_TIME.as_secs()));
            done.down = true;
        }
    }
    Ok(())
}

/// Nothing is left to be done. An empty note says so as well as none, and takes no further system call.
fn forget(note: &Path) {
    if let Err(error) = File::create(note) {
        log::fault(&Fault::io("could not empty the note of a restart", note, &error));
    }
}

/// ifinfomsg that switches a link on or off, and nothing else.
fn switch(index: u32, on: bool) -> Vec<u8> {
    const UP: u32 = 1;
    [&[0; 4][..], &index.to_ne_bytes(), &u32::from(on).to_ne_bytes(), &UP.to_ne_bytes()].concat()
}

/// What a link hangs on, and where it belongs.
#[derive(Debug, Default, Clone, PartialEq)]
struct Hangs {
    index: u32,
    name: String,
    /// The link below it, or the other end of a pair.
    on: Option<u32>,
    /// That one is in another network.
    elsewhere: bool,
    /// The bridge or bond that it is a part of.
    part_of: Option<u32>,
}

impl Hangs {
    fn parse(body: &[u8]) -> Option<Hangs> {
        let mut hangs = Hangs { index: u32_at(body, 4)?, ..Hangs::default() };
        for (kind, value) in attributes(body, 16) {
            match kind {
                3 => hangs.name = text_of(value),
                5 => hangs.on = u32_at(value, 0),
                10 => hangs.part_of = u32_at(value, 0),
                37 => hangs.elsewhere = true,
                _ => {}
            }
        }
        Some(hangs)
    }
}

/// Why a link can't be restarted without others losing something, if it can't; pure.
fn entangled(index: u32, all: &[Hangs]) -> Option<String> {
    let own = all.iter().find(|link| link.index == index)?;
    if own.part_of.is_some_and(|master| master != 0) {
        return Some("is a part of a bridge or bond".to_owned());
    }
    // The two ends of a pair name each other, and neither hangs on the other.
    let pair = |link: &Hangs| own.on == Some(link.index);
    let above = |link: &&Hangs| (link.on == Some(index) && !link.elsewhere && !pair(link)) || link.part_of == Some(index);
    all.iter().filter(|link| link.index != index).find(above).map(|link| format!("has {} on it, which would lose its routes", link.name))
}

/// A next hop that stands for itself and leads out of this interface: nhmsg and its attributes.
fn next_hop(interface: u32, body: &[u8]) -> Option<()> {
    let out = attributes(body, 8).find(|(kind, _)| *kind == 5).and_then(|(_, value)| u32_at(value, 0))?;
    (out == interface).then_some(())
}

/// A route with several ways, one of them out of this interface.
fn multipath(interface: u32, body: &[u8]) -> Option<()> {
    let (_, mut ways) = attributes(body, 12).find(|(kind, _)| *kind == 9)?;
    // Of each way its length, and the interface behind two bytes of flags and weight.
    while let (Some(length), Some(out)) = (u16_at(ways, 0), u32_at(ways, 4)) {
        if out == interface {
            return Some(());
        }
        ways = ways.get(usize::from(length).max(8).next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

/// Something that the kernel forgets when a link is taken down, as it is told to make it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Entry {
    Address(Vec<u8>),
    Route(Vec<u8>),
    Neighbour(Vec<u8>),
}

impl Entry {
    fn request(&self) -> (u16, &[u8]) {
        match self {
            Entry::Address(body) => (ADDRESS_NEW, body),
            Entry::Route(body) => (ROUTE_NEW, body),
            Entry::Neighbour(body) => (NEIGHBOUR_NEW, body),
        }
    }

    /// What tells it from others; the rest may be another afterwards, and it is the same still.
    fn key(&self) -> Vec<u8> {
        let (kind, body) = self.request();
        let (fixed, named, told): (usize, &[usize], &[u16]) = match self {
            // Family, length, interface; the address and its own end.
            Entry::Address(_) => (8, &[0, 1, 4, 5, 6, 7], &[1, 2]),
            // Family, lengths, service, table, kind; from, to, out, by, how dear, table, by another family.
            Entry::Route(_) => (12, &[0, 1, 2, 3, 4, 7], &[1, 2, 4, 5, 6, 15, 18]),
            // Family, interface, whether it is a proxy; whose, and its link address.
            Entry::Neighbour(_) => (12, &[0, 4, 5, 6, 7], &[1, 2]),
        };
        let mut key = kind.to_ne_bytes().to_vec();
        key.extend(named.iter().filter_map(|at| body.get(*at)));
        if let Entry::Neighbour(body) = self {
            key.extend(body.get(10).map(|flags| flags & PROXY));
        }
        for one in told {
            key.extend(attributes(body, fixed).filter(|(kind, _)| kind == one).flat_map(|(kind, value)| attribute(kind, value)));
        }
        key
    }

    /// For people.
    fn words(&self) -> String {
        let (_, body) = self.request();
        let address = |fixed, wanted| attributes(body, fixed).find(|(kind, _)| *kind == wanted).and_then(|(_, value)| ip(value));
        let said = |address: Option<IpAddr>| address.map_or_else(|| "?".to_owned(), |address| address.to_string());
        match self {
            Entry::Address(_) => format!("address {}/{}", said(address(8, 1)), body.get(1).copied().unwrap_or_default()),
            Entry::Route(_) => {
                let to = address(12, 1)
                    .map_or_else(|| "everywhere".to_owned(), |to| format!("{to}/{}", body.get(1).copied().unwrap_or_default()));
                address(12, 5).map_or_else(|| format!("route to {to}"), |by| format!("route to {to} via {by}"))
            }
            Entry::Neighbour(_) => format!("neighbour {}", said(address(12, 1))),
        }
    }
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    let four = || <[u8; 4]>::try_from(value).ok().map(|bytes| Ipv4Addr::from(bytes).into());
    four().or_else(|| <[u8; 16]>::try_from(value).ok().map(|bytes| Ipv6Addr::from(bytes).into()))
}

/// What a link has that the kernel forgets while it is down, in the order in which it is to be made again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Before {
    link: u32,
    name: String,
    entries: Vec<Entry>,
}

impl Before {
    /// As it is now.
    fn of(kernel: &Kernel, link: u32, name: &str) -> std::result::Result<Before, String> {
        let mut proxies = [0; 12];
        proxies[10] = PROXY;
        let mut entries = kernel.dump(ADDRESSES, &[0; 8], |body| address(link, body))?;
        let mut routes = kernel.dump(ROUTES, &[0; 12], |body| route(link, body))?;
        // What leads through a gateway needs the way to the gateway first.
        routes.sort_by_key(|(via, _)| *via);
        entries.extend(routes.into_iter().map(|(_, route)| route));
        entries.extend(kernel.dump(NEIGHBOURS, &[0; 12], |body| written(link, body))?);
        entries.extend(kernel.dump(NEIGHBOURS, &proxies, |body| proxy(link, body))?);
        Ok(Before { link, name: name.to_owned(), entries })
    }

    /// Writes it down for whoever has to go on. Whole, or the link is not touched.
    fn note(&self, note: &Path) -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(note)?);
        serde_json::to_writer(&mut file, self)?;
        file.into_inner().map(drop).map_err(std::io::IntoInnerError::into_error)
    }

    /// What was written down, if that is whole: else the link was never touched, or all is done.
    fn noted(note: &Path) -> Option<Before> {
        let file = File::open(note).ok()?;
        serde_json::from_reader(std::io::BufReader::new(file)).ok()
    }

    /// Brings the link up and makes again what is missing then: how much that was, and what of it could not be made, with the reason. Errors: it
    /// does not come up.
    fn put_back(&self, kernel: &Kernel, up_within: Duration) -> std::result::Result<(u32, Vec<String>), String> {
        let up = || kernel.change(LINK_SET, 0, &switch(self.link, true));
        again_until(up_within, up).map_err(|reason| format!("{} is down and does not come up again: {reason}", self.name))?;
        let mut forgotten = None;
        let mut reasons = BTreeMap::new();
        let left = again_until(BACK_TIME, || {
            let missing = self.missing(&Before::of(kernel, self.link, &self.name).map_err(|reason| vec![reason])?);
            let count = *forgotten.get_or_insert(missing.len());
            for entry in &missing {
                let (kind, body) = entry.request();
                if let Err(reason) = kernel.change(kind, ONLY_NEW, body) {
                    reasons.insert(entry.key(), reason);
                }
            }
            let now = Before::of(kernel, self.link, &self.name).map_err(|reason| vec![reason])?;
            let missing = self.missing(&now);
            let why = |entry: &&Entry| reasons.get(&entry.key()).map_or("it does not stay", String::as_str).to_owned();
            let words: Vec<_> = missing.iter().map(|entry| format!("{}: {}", entry.words(), why(entry))).collect();
            if words.is_empty() { Ok(count) } else { Err(words) }
        });
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(match left {
            Ok(all) => (count(all), Vec::new()),
            Err(lost) => (count(forgotten.unwrap_or_default().saturating_sub(lost.len())), told(lost)),
        })
    }

    /// What isn't there any more.
    fn missing(&self, now: &Before) -> Vec<&Entry> {
        let there: BTreeSet<_> = now.entries.iter().map(Entry::key).collect();
        self.entries.iter().filter(|entry| !there.contains(&entry.key())).collect()
    }
}

/// As many as are told of, and how many there are more.
fn told(mut lost: Vec<String>) -> Vec<String> {
    if let Some(more) = lost.len().checked_sub(TOLD).filter(|more| *more > 0) {
        lost.truncate(TOLD);
        lost.push(format!("and {more} more"));
    }
    lost
}

/// Tries until it works or the time is over; then its last error.
fn again_until<T, E>(within: Duration, mut work: impl FnMut() -> std::result::Result<T, E>) -> std::result::Result<T, E> {
    let began = Instant::now();
    loop {
        match work() {
            Err(_) if began.elapsed() < within => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
}

/// An address that the kernel forgets when the link goes down: of IPv6, for good. One that it makes again by itself is there again by then.
fn address(interface: u32, body: &[u8]) -> Option<Entry> {
    const PERMANENT: u32 = 0x80;
    let flags = attributes(body, 8).find(|(kind, _)| *kind == 8).and_then(|(_, value)| u32_at(value, 0));
    let permanent = flags.unwrap_or_else(|| body.get(2).copied().unwrap_or_default().into()) & PERMANENT != 0;
    (*body.first()? == 10 && permanent && u32_at(body, 4)? == interface).then(|| Entry::Address(body.to_vec()))
}

/// A route out of this interface, and whether it leads through a gateway. One that the kernel makes again by itself is there again by then; those
/// of redirects and routers' advertisements come again, and what has an end (a network that a router told of) belongs to who renews it. What the kernel
/// noted beside a route (the way to one host is narrower, rtnetlink(7) RTM_F_CLONED) is of the moment.
fn route(interface: u32, body: &[u8]) -> Option<(bool, Entry)> {
    const COMES_AGAIN: [u8; 2] = [1, 9];
    const OF_THE_KERNEL: u8 = 2;
    const UNICAST: u8 = 1;
    /// Of its flags, all but "lies on the link" tell how it is now.
    const ONLINK: u32 = 4;
    const CLONED: u32 = 0x200;
    /// How old it is, how often it is used, and behind two words when it ends.
    const CACHE: u16 = 12;
    let (protocol, kind) = (*body.get(5)?, *body.get(7)?);
    let out = attributes(body, 12).find(|(kind, _)| *kind == 4).and_then(|(_, value)| u32_at(value, 0))?;
    if out != interface || COMES_AGAIN.contains(&protocol) || (protocol == OF_THE_KERNEL && kind != UNICAST) {
        return None;
    }
    let ends = |value: &[u8]| u32_at(value, 8).is_some_and(|end| end != 0);
    if u32_at(body, 8)? & CLONED != 0 || attributes(body, 12).any(|(kind, value)| kind == CACHE && ends(value)) {
        return None;
    }
    let via = attributes(body, 12).any(|(kind, _)| kind == 5 || kind == 18);
    let flags = u32_at(body, 8)? & ONLINK;
    let mut made = [&body[..8], &flags.to_ne_bytes()].concat();
    made.extend(attributes(body, 12).filter(|(kind, _)| *kind != CACHE).flat_map(|(kind, value)| attribute(kind, value)));
    Some((via, Entry::Route(made)))
}

fn flush(kernel: &Kernel, link: &Link) -> std::result::Result<u32, String> {
    let learned = kernel.dump(NEIGHBOURS, &[0; 12], |body| neighbour(link.index, body))?;
    // One that went by itself meanwhile is gone as well.
    Ok(learned.iter().map(|body| u32::from(kernel.change(NEIGHBOUR_DELETE, 0, body).is_ok())).sum())
}

/// An entry of the neighbour table that somebody wrote there: the kernel forgets it with all the others when the link is switched off.
fn written(interface: u32, body: &[u8]) -> Option<Entry> {
    /// Of its flags, only "is a router" is somebody's word.
    const ROUTER: u8 = 0x80;
    (u16_at(body, 8)? & PERMANENT != 0).then_some(())?;
    entry(interface, body, PERMANENT, ROUTER)
}

/// An address of others that somebody had this machine answer for.
fn proxy(interface: u32, body: &[u8]) -> Option<Entry> {
    (*body.get(10)? & PROXY != 0).then_some(())?;
    entry(interface, body, 0, PROXY)
}

fn entry(interface: u32, body: &[u8], state: u16, flags: u8) -> Option<Entry> {
    /// Its address, its link address and who wrote it; the rest tells how it is now.
    const SAID: [u16; 3] = [1, 2, 12];
    if u32_at(body, 4)? != interface {
        return None;
    }
    let mut entry = [body.get(..8)?, &state.to_ne_bytes(), &[body.get(10)? & flags, *body.get(11)?]].concat();
    entry.extend(attributes(body, 12).filter(|(kind, _)| SAID.contains(kind)).flat_map(|(kind, value)| attribute(kind, value)));
    Some(Entry::Neighbour(entry))
}

/// What names an entry of the neighbour table that was learned; what somebody wrote there stays.
fn neighbour(interface: u32, body: &[u8]) -> Option<Vec<u8>> {
    const NO_ARP: u16 = 0x40;
    if u32_at(body, 4)? != interface || u16_at(body, 8)? & (NO_ARP | PERMANENT) != 0 {
        return None;
    }
    let (_, address) = attributes(body, 12).find(|(kind, _)| *kind == 1)?;
    Some([body.get(..12)?, &attribute(1, address)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route_of(interface: u32, protocol: u8, kind: u8, gateway: bool) -> Vec<u8> {
        let flags = 0x11_u32.to_ne_bytes();
        let mut body = [&[2, 24, 0, 0, 254, protocol, 0, kind][..], &flags, &attribute(1, &[198, 51, 100, 0])].concat();
        body.extend(attribute(4, &interface.to_ne_bytes()));
        if gateway {
            body.extend(attribute(5, &[192, 0, 2, 1]));
        }
        body
    }

    #[test]
    fn routes_are_put_back_without_their_state() {
        let age = |end: u8| attribute(12, &[[7; 8], [end, 0, 0, 0, 7, 7, 7, 7]].concat());
        let aged = [route_of(3, 3, 1, true), age(0)].concat();
        let (via, Entry::Route(made)) = route(3, &aged).unwrap() else { panic!() };
        assert!(via && made[8..12] == [0; 4] && made[12..] == route_of(3, 3, 1, true)[12..], "{made:?}");
        assert_eq!(Entry::Route(made).words(), "route to 198.51.100.0/24 via 192.0.2.1");
        // By whoever: NetworkManager's, with its own address's route, says that it is the kernel's.
        for kept in [route_of(3, 4, 1, false), route_of(3, 2, 1, false), route_of(3, 3, 2, false)] {
            assert!(!route(3, &kept).unwrap().0, "{kept:?}");
        }
        let ends = [route_of(3, 2, 1, false), age(9)].concat();
        let mut cloned = route_of(3, 0, 1, true);
        cloned[9] = 2;
        for other in
            [route_of(4, 3, 1, false), route_of(3, 2, 2, false), route_of(3, 1, 1, true), route_of(3, 9, 1, true), vec![2; 7], ends, cloned]
        {
            assert_eq!(route(3, &other), None, "{other:?}");
        }
    }

    fn address_of(family: u8, flags: u8, scope: u8) -> Vec<u8> {
        [&[family, 64, flags, scope][..], &3_u32.to_ne_bytes(), &attribute(1, &[0xfe; 16])].concat()
    }

    #[test]
    fn only_what_the_kernel_forgets_is_put_back() {
        for kept in [address_of(10, 0x80, 0), address_of(10, 0x80, 253)] {
            assert_eq!(address(3, &kept), Some(Entry::Address(kept.clone())), "{kept:?}");
        }
        for other in [address_of(2, 0x80, 0), address_of(10, 0, 0)] {
            assert_eq!(address(3, &other), None, "{other:?}");
        }
        assert_eq!(address(4, &address_of(10, 0x80, 0)), None);
    }

    fn neighbour_of(state: u16, flags: u8) -> Vec<u8> {
        [&[2, 0, 0, 0][..], &3_u32.to_ne_bytes(), &state.to_ne_bytes(), &[flags, 1], &attribute(2, &[2; 6]), &attribute(1, &[192, 0, 2, 7])]
            .concat()
    }

    #[test]
    fn what_was_learned_goes_and_what_was_written_stays() {
        let entry = |state: u16| neighbour_of(state, 0);
        assert_eq!(neighbour(3, &entry(4)).unwrap(), [&entry(4)[..12], &attribute(1, &[192, 0, 2, 7])].concat());
        let kept = written(3, &neighbour_of(0x80, 0x10)).unwrap();
        assert_eq!((kept.words().as_str(), kept), ("neighbour 192.0.2.7", Entry::Neighbour(entry(0x80))));
        assert!(written(3, &entry(4)).is_none() && written(4, &entry(0x80)).is_none());
        assert!(neighbour(3, &entry(0x80)).is_none() && neighbour(3, &entry(0x40)).is_none() && neighbour(4, &entry(4)).is_none());
        let answers_for = neighbour_of(0, PROXY);
        assert_eq!(proxy(3, &neighbour_of(0x40, PROXY | 0x10)), Some(Entry::Neighbour(answers_for.clone())));
        assert!(proxy(3, &entry(0x80)).is_none() && proxy(4, &answers_for).is_none());
        assert_ne!(Entry::Neighbour(answers_for).key(), Entry::Neighbour(entry(0)).key());
    }

    #[test]
    fn a_link_that_others_hang_on_is_left_alone() {
        let link = |index, name: &str| Hangs { index, name: name.into(), ..Hangs::default() };
        let own = link(3, "eth0");
        assert_eq!(entangled(3, &[own.clone(), link(4, "wlan0")]), None);
        let vlan = Hangs { on: Some(3), ..link(5, "eth0.7") };
        assert!(entangled(3, &[own.clone(), vlan.clone()]).unwrap().contains("eth0.7"));
        assert_eq!(entangled(5, &[own.clone(), vlan.clone()]), None, "what hangs can be restarted");
        assert_eq!(entangled(3, &[own.clone(), Hangs { elsewhere: true, ..vlan }]), None, "another network's 3");
        let (here, there) = (Hangs { on: Some(7), ..link(6, "near") }, Hangs { on: Some(6), ..link(7, "far") });
        assert_eq!(entangled(6, &[here.clone(), there.clone()]), None, "a pair");
        assert!(entangled(6, &[here, there, Hangs { on: Some(6), ..link(8, "near.7") }]).unwrap().contains("near.7"));
        let port = Hangs { part_of: Some(9), ..own };
        assert!(entangled(3, &[port.clone(), link(9, "br0")]).unwrap().contains("part of a bridge"));
        assert!(entangled(9, &[port, link(9, "br0")]).unwrap().contains("eth0"));
        let told =
            [&[0; 4][..], &3_u32.to_ne_bytes(), &[0; 8], &attribute(3, b"a\0"), &attribute(5, &[9, 0, 0, 0]), &attribute(37, &[0; 4])]
                .concat();
        assert_eq!(Hangs::parse(&told), Some(Hangs { on: Some(9), elsewhere: true, ..link(3, "a") }));
    }

    #[test]
    fn what_could_not_be_made_again_is_found_before() {
        let way = |interface: u32, more: &[u8]| {
            [&u16::try_from(8 + more.len()).unwrap().to_ne_bytes()[..], &[0, 0], &interface.to_ne_bytes(), more].concat()
        };
        let several = |ways: &[Vec<u8>]| [&[2, 24, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0][..], &attribute(9, &ways.concat())].concat();
        let body = several(&[way(4, &attribute(5, &[192, 0, 2, 1])), way(3, &[])]);
        assert!(multipath(3, &body).is_some() && multipath(4, &body).is_some() && multipath(5, &body).is_none());
        assert!(multipath(3, &route_of(3, 3, 1, true)).is_none());
        assert!(multipath(3, &several(&[vec![0, 0, 0, 0, 9, 0, 0, 0]])).is_none(), "a length that lies ends it");
        let hop = [&[2, 0, 3, 0, 0, 0, 0, 0][..], &attribute(1, &[1, 0, 0, 0]), &attribute(5, &3_u32.to_ne_bytes())].concat();
        assert!(next_hop(3, &hop).is_some() && next_hop(4, &hop).is_none() && next_hop(3, &hop[..16]).is_none());
    }

    #[test]
    fn what_is_missing_is_told_by_what_it_is_and_not_by_how_it_is() {
        let entries = |metric: u8| {
            let dear = [route_of(3, 3, 1, true), attribute(6, &[metric, 0, 0, 0])].concat();
            vec![address(3, &address_of(10, 0x80, 0)).unwrap(), route(3, &dear).unwrap().1, written(3, &neighbour_of(0x80, 0)).unwrap()]
        };
        let before = Before { link: 3, name: "wlan0".into(), entries: entries(1) };
        let mut now = before.clone();
        assert_eq!(before.missing(&now), Vec::<&Entry>::new());
        // Another who makes the address again may write more of it.
        now.entries[0] = Entry::Address([address_of(10, 0x80, 0), attribute(11, &[1])].concat());
        assert_eq!(before.missing(&now), Vec::<&Entry>::new());
        now.entries = entries(2);
        assert_eq!(before.missing(&now), [&before.entries[1]]);
        now.entries.clear();
        assert_eq!(before.missing(&now).len(), 3);
    }

    #[test]
    fn a_note_is_whole_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("restart.json");
        assert_eq!(Before::noted(&note), None);
        let before = Before { link: 3, name: "wlan0".into(), entries: vec![Entry::Address(address_of(10, 0x80, 0))] };
        before.note(&note).unwrap();
        assert_eq!(Before::noted(&note), Some(before));
        let whole = std::fs::read(&note).unwrap();
        for length in [0, 1, whole.len() - 1] {
            std::fs::write(&note, &whole[..length]).unwrap();
            assert_eq!(Before::noted(&note), None, "{length}");
        }
        std::fs::write(&note, whole).unwrap();
        forget(&note);
        assert_eq!(Before::noted(&note), None);
    }

    #[test]
    fn what_is_lost_is_told_within_bounds() {
        let lost = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!((told(lost(0)), told(lost(TOLD))), (lost(0), lost(TOLD)));
        let much = told(lost(TOLD + 7));
        assert_eq!((much.len(), much[TOLD].as_str()), (TOLD + 1, "and 7 more"));
    }

    #[test]
    fn what_fails_is_tried_again_until_its_time_is_over() {
        let mut tries = 0;
        let third = || {
            tries += 1;
            if tries < 3 { Err("no") } else { Ok(tries) }
        };
        assert_eq!(again_until(Duration::from_secs(60), third), Ok(3));
        let mut tries = 0;
        let never = || {
            tries += 1;
            Err::<(), _>("no")
        };
        assert_eq!(again_until(Duration::ZERO, never), Err("no"));
        assert_eq!(tries, 1);
    }
}
