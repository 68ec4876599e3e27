//! The network as the kernel knows it: interfaces, addresses, routes, neighbours, listening sockets, the Wi-Fi link. Nothing
//! is sent to anybody: these are the kernel's own tables.

use super::netlink::{Family, Kernel, Table, attribute, attributes, text_of, u16_at, u32_at, u64_at};
use super::{Moment, Rate, ReadingProvider, Sample};
use crate::wire::readings::{Neighbour, Socket};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The most interfaces that get sensors of their own.
const INTERFACES: usize = 8;

const LINKS: Table = Table { family: Family::Route, ask: 18, told: 16 };
const ADDRESSES: Table = Table { family: Family::Route, ask: 22, told: 20 };
const ROUTES: Table = Table { family: Family::Route, ask: 26, told: 24 };
const NEIGHBOURS: Table = Table { family: Family::Route, ask: 30, told: 28 };
const SOCKETS: Table = Table { family: Family::Diag, ask: 20, told: 20 };
/// The families of generic netlink, by name.
const FAMILIES: Table = Table { family: Family::Generic, ask: 16, told: 16 };

/// The provider `network`.
pub(crate) struct Network {
    kernel: Arc<Kernel>,
    rates: BTreeMap<String, (Rate, Rate)>,
}

impl Network {
    /// Nothing is asked yet.
    pub(crate) fn new(kernel: Arc<Kernel>) -> Self {
        Network { kernel, rates: BTreeMap::new() }
    }

    fn interfaces(&mut self, now: Moment, links: &[Link], samples: &mut Vec<Sample>) {
        let addresses = self.kernel.dump(ADDRESSES, &[0; 8], address);
        for link in links.iter().filter(|link| !link.loopback && !link.name.starts_with("veth")).take(INTERFACES) {
            let name = &link.name;
            let state = if link.up {
                "up"
            } else if link.enabled {
                "no carrier"
            } else {
                "off"
            };
            samples.push(Sample::text(format!("network.{name}.state"), Ok(state.to_owned())));
            let own = addresses.as_ref().map_err(Clone::clone).and_then(|all| {
                let mut own: Vec<_> =
                    all.iter().filter(|address| address.interface == link.index).map(|address| address.text.as_str()).collect();
                own.sort_unstable();
                if own.is_empty() { Err("the interface has no address".to_owned()) } else { Ok(own.join(" ")) }
            });
            samples.push(Sample::text(format!("network.{name}.addresses"), own));
            let (received, sent) = self.rates.entry(name.clone()).or_default();
            let counted = |rate: &mut Rate, bytes: Option<u64>| {
                let bytes = bytes.ok_or_else(|| "the kernel does not count it".to_owned())?;
                Ok(rate.per_second(bytes, now.boottime_ms).round())
            };
            samples.push(Sample::number(format!("network.{name}.received"), "B/s", 16_384.0, counted(received, link.received)));
            samples.push(Sample::number(format!("network.{name}.sent"), "B/s", 16_384.0, counted(sent, link.sent)));
        }
        self.rates.retain(|name, _| links.iter().any(|link| link.name == *name));
    }

    fn routes(&self, links: &Result<Vec<Link>, String>, samples: &mut Vec<Sample>) {
        let routes = self.kernel.dump(ROUTES, &[0; 12], route);
        samples.push(Sample::number(
            "network.routes",
            "count",
            1.0,
            routes.as_ref().map(|routes| routes.len() as f64).map_err(Clone::clone),
        ));
        let way_out = routes.and_then(|routes| {
            // IPv4 first, then the one that the kernel prefers.
            let default = routes
                .iter()
                .filter(|route| route.default)
                .min_by_key(|route| (route.gateway.is_some_and(|ip| ip.is_ipv6()), route.priority));
            let default = default.ok_or("there is no default route")?;
            let name = links.iter().flatten().find(|link| link.index == default.interface).map_or("?", |link| &link.name);
            Ok(default.gateway.map_or_else(|| name.to_owned(), |ip| format!("{ip} {name}")))
        });
        samples.push(Sample::text("network.gateway", way_out));
    }

    fn wifi(&self, samples: &mut Vec<Sample>) {
        let link = wifi(&self.kernel);
        let part = |value: fn(&Station) -> Option<f64>| {
            link.as_ref().map_err(Clone::clone).and_then(|link| value(link).ok_or_else(|| "the driver does not tell".to_owned()))
        };
        samples.push(Sample::number("network.wifi.signal", "dBm", 5.0, part(|link| link.signal)));
        samples.push(Sample::number("network.wifi.bitrate", "Mbit/s", 20.0, part(|link| link.mbits)));
        samples
            .push(Sample::text("network.wifi.ssid", link.and_then(|link| link.ssid.ok_or_else(|| "the driver does not tell".to_owned()))));
    }
}

impl ReadingProvider for Network {
    fn name(&self) -> &'static str {
        "network"
    }

    fn read(&mut self, now: Moment) -> Vec<Sample> {
        let mut samples = Vec::with_capacity(16);
        let links = links(&self.kernel);
        self.interfaces(now, links.as_deref().unwrap_or_default(), &mut samples);
        self.routes(&links, &mut samples);
        let known = neighbours(&self.kernel).map(|all| all.iter().filter(|neighbour| neighbour.link.is_some()).count() as f64);
        samples.push(Sample::number("network.neighbours", "count", 1.0, known));
        samples.push(Sample::number("network.listening", "count", 1.0, sockets(&self.kernel).map(|all| all.len() as f64)));
        self.wifi(&mut samples);
        samples
    }
}

/// The kernel's neighbour table now, in a fixed order. Errors: why it can't be read.
pub(crate) fn neighbours(kernel: &Kernel) -> Result<Vec<Neighbour>, String> {
    let links = links(kernel)?;
    let name = |index| links.iter().find(|link| link.index == index).map(|link| link.name.clone());
    let found = kernel.dump(NEIGHBOURS, &[0; 12], neighbour)?;
    let mut all: Vec<_> = found.into_iter().filter_map(|(index, entry)| Some(Neighbour { interface: name(index)?, ..entry })).collect();
    all.sort();
    Ok(all)
}

/// The sockets that anybody may talk to now, in a fixed order. Errors: why they can't be asked for.
pub(crate) fn sockets(kernel: &Kernel) -> Result<Vec<Socket>, String> {
    // Protocol, and the state in which it waits for anybody: listening, or not connected.
    let kinds = [(6_u8, "tcp", 10_u32), (17, "udp", 7)];
    let mut all = Vec::new();
    for (protocol, name, state) in kinds {
        for family in [2_u8, 10] {
            let mut body = [0; 56];
            (body[0], body[1]) = (family, protocol);
            body[4..8].copy_from_slice(&(1_u32 << state).to_ne_bytes());
            all.extend(kernel.dump(SOCKETS, &body, |body| socket(name, body))?);
        }
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// The interfaces, by number. Errors: why they can't be asked for.
pub(crate) fn links(kernel: &Kernel) -> Result<Vec<Link>, String> {
    let mut links = kernel.dump(LINKS, &[0; 16], link)?;
    links.sort_by_key(|link| link.index);
    Ok(links)
}

/// An interface.
#[derive(Debug, PartialEq)]
pub(crate) struct Link {
    /// Its number.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// Whether it leads to this machine itself.
    pub(crate) loopback: bool,
    /// Whether somebody switched it on.
    pub(crate) enabled: bool,
    up: bool,
    received: Option<u64>,
    sent: Option<u64>,
}

/// ifinfomsg and its attributes.
fn link(body: &[u8]) -> Option<Link> {
    let (index, flags) = (u32_at(body, 4)?, u32_at(body, 8)?);
    let mut link = Link {
        index,
        name: String::new(),
        loopback: flags & 0x8 != 0,
        enabled: flags & 0x1 != 0,
        up: flags & 0x40 != 0,
        received: None,
        sent: None,
    };
    for (kind, value) in attributes(body, 16) {
        match kind {
            3 => link.name = text_of(value),
            // The driver's own word; 0 is "unknown", and then the flag counts.
            16 if value.first().is_some_and(|state| *state != 0) => link.up = value.first() == Some(&6),
            23 => (link.received, link.sent) = (u64_at(value, 16), u64_at(value, 24)),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

/// An address of an interface.
#[derive(Debug, PartialEq)]
struct Address {
    interface: u32,
    text: String,
}

/// ifaddrmsg and its attributes. Without the addresses that IPv6 makes up for a day.
fn address(body: &[u8]) -> Option<Address> {
    let (family, length, interface) = (*body.first()?, *body.get(1)?, u32_at(body, 4)?);
    let mut flags = u32::from(*body.get(2)?);
    let (mut address, mut local) = (None, None);
    for (kind, value) in attributes(body, 8) {
        match kind {
            1 => address = ip(family, value),
            2 => local = ip(family, value),
            8 => flags = u32_at(value, 0)?,
            _ => {}
        }
    }
    let temporary = family == 10 && flags & 0x1 != 0;
    // Of a point-to-point link, `address` is the other end's.
    let own = local.or(address).filter(|_| !temporary)?;
    Some(Address { interface, text: format!("{own}/{length}") })
}

/// A route of the main table to one address or net.
#[derive(Debug, PartialEq)]
struct Route {
    default: bool,
    interface: u32,
    gateway: Option<IpAddr>,
    priority: u32,
}

/// rtmsg and its attributes.
fn route(body: &[u8]) -> Option<Route> {
    let (family, length, table, kind) = (*body.first()?, *body.get(1)?, *body.get(4)?, *body.get(7)?);
    let mut route = Route { default: length == 0, interface: 0, gateway: None, priority: 0 };
    let mut table = u32::from(table);
    for (kind, value) in attributes(body, 12) {
        match kind {
            4 => route.interface = u32_at(value, 0)?,
            5 => route.gateway = ip(family, value),
            6 => route.priority = u32_at(value, 0)?,
            15 => table = u32_at(value, 0)?,
            _ => {}
        }
    }
    (table == 254 && kind == 1).then_some(route)
}

/// ndmsg and its attributes: the interface's number, and the rest. Without what is nobody's: multicast, broadcast, our own.
fn neighbour(body: &[u8]) -> Option<(u32, Neighbour)> {
    let (family, interface, state, kind) = (*body.first()?, u32_at(body, 4)?, u16_at(body, 8)?, *body.get(11)?);
    let state = match state {
        0x01 => "incomplete",
        0x02 => "reachable",
        0x04 => "stale",
        0x08 => "delay",
        0x10 => "probe",
        0x20 => "failed",
        0x80 => "permanent",
        _ => return None,
    };
    let (mut address, mut mac) = (None, None);
    for (kind, value) in attributes(body, 12) {
        match kind {
            1 => address = ip(family, value),
            2 if (1..=32).contains(&value.len()) && value.iter().any(|byte| *byte != 0) => {
                mac = Some(value.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"));
            }
            _ => {}
        }
    }
    let somebody = kind == 1 && !address?.is_multicast();
    let entry = Neighbour { interface: String::new(), address: address?.to_string(), link: mac, state: state.to_owned() };
    somebody.then_some((interface, entry))
}

/// inet_diag_msg.
fn socket(proto: &str, body: &[u8]) -> Option<Socket> {
    let family = *body.first()?;
    let port = u16::from_be_bytes(*body.get(4..)?.first_chunk()?);
    let address = ip(family, body.get(8..if family == 2 { 12 } else { 24 })?)?;
    let uid = u32_at(body, 64)?;
    (port != 0).then(|| Socket { proto: proto.to_owned(), address: address.to_string(), port, uid })
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        2 => <[u8; 4]>::try_from(value).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
        10 => <[u8; 16]>::try_from(value).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

/// The link of a Wi-Fi station.
#[derive(Debug, Default, PartialEq)]
struct Station {
    ssid: Option<String>,
    signal: Option<f64>,
    mbits: Option<f64>,
}

/// The first interface that is a station, and its link.
fn wifi(kernel: &Kernel) -> Result<Station, String> {
    // Asked for a family that it doesn't have, the kernel loads the module for it: looking must not change the machine.
    if !["/sys/module/cfg80211", "/sys/class/ieee80211"].iter().any(|path| std::path::Path::new(path).exists()) {
        return Err("this machine has no Wi-Fi".to_owned());
    }
    let name = [&[3, 1, 0, 0][..], &attribute(2, b"nl80211\0")].concat();
    let family = kernel.look_up(FAMILIES, &name, family);
    let family = match family {
        Ok(found) => found.into_iter().next().ok_or("the kernel did not say where its Wi-Fi is")?,
        Err(reason) if reason.contains("No such file") => return Err("this machine has no Wi-Fi".to_owned()),
        Err(reason) => return Err(reason),
    };
    let table = Table { family: Family::Generic, ask: family, told: family };
    let stations = kernel.dump(table, &[5, 0, 0, 0], station)?;
    let (index, ssid) = stations.into_iter().min_by_key(|(index, _)| *index).ok_or("this machine has no Wi-Fi station")?;
    let question = [&[17, 0, 0, 0][..], &attribute(3, &index.to_ne_bytes())].concat();
    let links = kernel.dump(table, &question, signal)?;
    let (signal, mbits) = links.into_iter().next().ok_or("the station is not connected")?;
    Ok(Station { ssid, signal, mbits })
}

/// The number of a family of generic netlink.
fn family(body: &[u8]) -> Option<u16> {
    attributes(body, 4).find(|(kind, _)| *kind == 1).and_then(|(_, value)| u16_at(value, 0))
}

/// An interface of nl80211, if it is a station: its number and the network it is in.
fn station(body: &[u8]) -> Option<(u32, Option<String>)> {
    let (mut index, mut station, mut ssid) = (None, false, None);
    for (kind, value) in attributes(body, 4) {
        match kind {
            3 => index = u32_at(value, 0),
            5 => station = u32_at(value, 0) == Some(2),
            52 if !value.is_empty() => ssid = Some(text_of(value)),
            _ => {}
        }
    }
    index.filter(|_| station).map(|index| (index, ssid))
}

/// The other end of a station's link: signal in dBm, rate of sending in Mbit/s.
fn signal(body: &[u8]) -> Option<(Option<f64>, Option<f64>)> {
    let (_, info) = attributes(body, 4).find(|(kind, _)| *kind == 21)?;
    let (mut signal, mut rate) = (None, None);
    for (kind, value) in attributes(info, 0) {
        match kind {
            7 => signal = value.first().map(|byte| f64::from(i8::from_ne_bytes([*byte]))),
            8 => {
                let tenths = |(kind, value): (u16, &[u8])| match kind {
                    5 => u32_at(value, 0),
                    1 => u16_at(value, 0).map(u32::from),
                    _ => None,
                };
                rate = attributes(value, 0).filter_map(tenths).max().map(|tenths| f64::from(tenths) / 10.0);
            }
            _ => {}
        }
    }
    Some((signal, rate))
}

#[cfg(test)]
mod tests {
    use super::super::netlink::open;
    use super::*;
    use rustix::net::netlink;
    use std::process::Command;

    fn bytes(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    fn stats(received: u64, sent: u64) -> Vec<u8> {
        let counters = [1, 2, received, sent].map(u64::to_ne_bytes).concat();
        bytes(&[&counters, &[0; 160]])
    }

    type Understands = fn(&[u8]) -> bool;

    /// One entry of each table, as the kernel writes it, with the parser that understands it.
    fn golden() -> Vec<(Vec<u8>, Understands)> {
        let info = bytes(&[
            &attribute(7, &[0xc6]),
            &attribute(8, &bytes(&[&attribute(1, &650_u16.to_ne_bytes()), &attribute(5, &650_u32.to_ne_bytes())])),
        ]);
        let mut diag = vec![0; 72];
        (diag[0], diag[1]) = (2, 10);
        diag[4..6].copy_from_slice(&22_u16.to_be_bytes());
        diag[8..12].copy_from_slice(&[192, 0, 2, 7]);
        diag[64..68].copy_from_slice(&1000_u32.to_ne_bytes());
        vec![
            (
                bytes(&[
                    &[0, 0, 1, 0],
                    &2_u32.to_ne_bytes(),
                    &0x1043_u32.to_ne_bytes(),
                    &[0; 4],
                    &attribute(3, b"eth0\0"),
                    &attribute(16, &[6]),
                    &attribute(23, &stats(4096, 512)),
                ]),
                |body| link(body).is_some(),
            ),
            (
                bytes(&[
                    &[2, 24, 0x80, 0],
                    &2_u32.to_ne_bytes(),
                    &attribute(1, &[192, 0, 2, 7]),
                    &attribute(2, &[192, 0, 2, 7]),
                    &attribute(8, &0x80_u32.to_ne_bytes()),
                ]),
                |body| address(body).is_some(),
            ),
            (
                bytes(&[
                    &[2, 0, 0, 0, 254, 3, 0, 1],
                    &[0; 4],
                    &attribute(15, &254_u32.to_ne_bytes()),
                    &attribute(5, &[192, 0, 2, 1]),
                    &attribute(4, &2_u32.to_ne_bytes()),
                ]),
                |body| route(body).is_some(),
            ),
            (
                bytes(&[
                    &[2, 0, 0, 0],
                    &2_u32.to_ne_bytes(),
                    &2_u16.to_ne_bytes(),
                    &[0, 1],
                    &attribute(1, &[192, 0, 2, 9]),
                    &attribute(2, &[2, 0, 0x5e, 0x10, 0, 1]),
                ]),
                |body| neighbour(body).is_some(),
            ),
            (diag, |body| socket("tcp", body).is_some()),
            (bytes(&[&[1, 2, 0, 0], &attribute(2, b"nl80211\0"), &attribute(1, &28_u16.to_ne_bytes())]), |body| family(body).is_some()),
            (
                bytes(&[
                    &[7, 1, 0, 0],
                    &attribute(3, &3_u32.to_ne_bytes()),
                    &attribute(4, b"wlan0\0"),
                    &attribute(5, &2_u32.to_ne_bytes()),
                    &attribute(52, b"attic\x07"),
                ]),
                |body| station(body).is_some(),
            ),
            (bytes(&[&[19, 1, 0, 0], &attribute(3, &3_u32.to_ne_bytes()), &attribute(21 | 0x8000, &info)]), |body| signal(body).is_some()),
        ]
    }

    #[test]
    fn the_kernels_entries_are_understood() {
        let golden = golden();
        let entry = |index: usize| golden[index].0.as_slice();
        let eth0 = Link { index: 2, name: "eth0".into(), loopback: false, enabled: true, up: true, received: Some(4096), sent: Some(512) };
        assert_eq!(link(entry(0)), Some(eth0));
        assert_eq!(address(entry(1)), Some(Address { interface: 2, text: "192.0.2.7/24".into() }));
        assert_eq!(route(entry(2)), Some(Route { default: true, interface: 2, gateway: Some([192, 0, 2, 1].into()), priority: 0 }));
        let known = Neighbour {
            interface: String::new(),
            address: "192.0.2.9".into(),
            link: Some("02:00:5e:10:00:01".into()),
            state: "reachable".into(),
        };
        assert_eq!(neighbour(entry(3)), Some((2, known)));
        assert_eq!(socket("tcp", entry(4)), Some(Socket { proto: "tcp".into(), address: "192.0.2.7".into(), port: 22, uid: 1000 }));
        assert_eq!(family(entry(5)), Some(28));
        assert_eq!(station(entry(6)), Some((3, Some("attic?".into()))));
        assert_eq!(signal(entry(7)), Some((Some(-58.0), Some(65.0))));
    }

    #[test]
    fn what_is_not_meant_is_left_out() {
        // Multicast, a route of another table, an access point, an address for a day, a datagram socket without port.
        let mut group = golden()[3].0.clone();
        group[16..20].copy_from_slice(&[224, 0, 0, 1]);
        assert_eq!(neighbour(&group), None);
        let mut own = golden()[3].0.clone();
        own[8..10].copy_from_slice(&0x40_u16.to_ne_bytes());
        assert_eq!(neighbour(&own), None);
        let mut local = golden()[2].0.clone();
        local[16..20].copy_from_slice(&255_u32.to_ne_bytes());
        assert_eq!(route(&local), None);
        let mut access_point = golden()[6].0.clone();
        access_point[28] = 3;
        assert_eq!(station(&access_point), None);
        assert_eq!(address(&bytes(&[&[10, 64, 0x01, 0], &2_u32.to_ne_bytes(), &attribute(1, &[0x20; 16])])), None);
        let mut unbound = golden()[4].0.clone();
        unbound[4..6].fill(0);
        assert_eq!(socket("udp", &unbound), None);
    }

    #[test]
    fn cut_and_broken_entries_never_panic() {
        for (entry, understood) in golden() {
            assert!(understood(&entry));
            for (_, parse) in golden() {
                for end in 0..=entry.len() {
                    parse(&entry[..end]);
                    parse(&entry[end..]);
                }
            }
            // Every byte, every bit, and every pair of lengths that lie.
            for at in 0..entry.len() {
                for value in [0, 1, 2, 3, 4, 5, 7, 8, 0x7f, 0x80, 0xff] {
                    let mut broken = entry.clone();
                    broken[at] = value;
                    for (_, parse) in golden() {
                        parse(&broken);
                    }
                    if let Some(next) = broken.get_mut(at + 1) {
                        *next = 0xff;
                        understood(&broken);
                    }
                }
            }
        }
        // And noise, the same each time.
        let mut state = 1_u64;
        let mut noise = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        };
        for _ in 0..20_000 {
            let length = usize::from(noise());
            let entry: Vec<_> = (0..length).map(|_| noise()).collect();
            for (_, parse) in golden() {
                parse(&entry);
            }
        }
    }

    fn kernel() -> Kernel {
        Kernel::new(vec![open(None), open(Some(netlink::SOCK_DIAG)), open(Some(netlink::GENERIC))])
    }

    #[test]
    fn a_real_kernel_is_understood() {
        assert!(rustix::process::geteuid().is_root(), "this test makes a network of its own: run it as root");
        let name = "senses::network::tests::inside_a_network_of_its_own";
        let program = std::env::current_exe().unwrap();
        let output =
            Command::new("unshare").arg("--net").arg(program).args(["--exact", name, "--ignored", "--nocapture"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    #[ignore = "run by the test above, in a network namespace with nothing in it"]
    fn inside_a_network_of_its_own() {
        let ip = |words: &str| assert!(Command::new("ip").args(words.split(' ')).status().unwrap().success(), "ip {words}");
        let said =
            |samples: &[Sample], name: &str| samples.iter().find(|sample| sample.sensor == name).map(|sample| sample.outcome.clone());
        let text = |text: &str| Some(Ok(crate::wire::readings::Value::Text(text.to_owned())));
        let mut network = Network::new(Arc::new(kernel()));
        let at = |boottime_ms| Moment { boottime_ms, wall_ms: 0, apart_ms: 0, queued: None };
        let samples = network.read(at(1));
        assert_eq!(said(&samples, "network.gateway"), Some(Err("there is no default route".into())));
        assert_eq!(said(&samples, "network.eth7.state"), None);

        for words in [
            "link add eth7 type veth peer name veth7",
            "link set veth7 up",
            "link set eth7 address 02:00:5e:00:00:07",
            "addr add 192.0.2.7/24 dev eth7",
            "-6 addr add 2001:db8::7/64 dev eth7 nodad",
            "link set eth7 up",
            "link set lo up",
            "route add default via 192.0.2.1 dev eth7 metric 100",
            "-6 route add default via 2001:db8::1 dev eth7",
            "neigh add 192.0.2.9 lladdr 02:00:5e:10:00:01 dev eth7 nud reachable",
            "neigh add 2001:db8::9 lladdr 02:00:5e:10:00:02 dev eth7 nud stale",
        ] {
            ip(words);
        }
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let connected = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        connected.connect("127.0.0.1:9").unwrap();

        let samples = network.read(at(1000));
        assert_eq!(said(&samples, "network.gateway"), text("192.0.2.1 eth7"));
        assert_eq!(said(&samples, "network.eth7.state"), text("up"));
        let Some(Ok(crate::wire::readings::Value::Text(addresses))) = said(&samples, "network.eth7.addresses") else {
            panic!("{samples:?}")
        };
        assert!(addresses.contains("192.0.2.7/24") && addresses.contains("2001:db8::7/64"), "{addresses}");
        assert!(said(&samples, "network.eth7.sent").unwrap().is_ok());
        assert_eq!(said(&samples, "network.veth7.state"), None);
        assert_eq!(said(&samples, "network.lo.state"), None);
        assert_eq!(said(&samples, "network.listening"), Some(Ok(crate::wire::readings::Value::Number(2.0))));
        assert!(said(&samples, "network.wifi.signal").unwrap().is_err());

        let known: Vec<_> = neighbours(&kernel()).unwrap().into_iter().map(|n| (n.interface, n.address, n.link, n.state)).collect();
        let entry = |address: &str, mac: &str, state: &str| ("eth7".to_owned(), address.to_owned(), Some(mac.to_owned()), state.to_owned());
        assert_eq!(known, [entry("192.0.2.9", "02:00:5e:10:00:01", "reachable"), entry("2001:db8::9", "02:00:5e:10:00:02", "stale")]);
        let listening = |proto: &str, address: &str, port| Socket { proto: proto.to_owned(), address: address.to_owned(), port, uid: 0 };
        let expected =
            [listening("tcp", "127.0.0.1", tcp.local_addr().unwrap().port()), listening("udp", "::1", udp.local_addr().unwrap().port())];
        assert_eq!(sockets(&kernel()).unwrap(), expected);
        // More neighbours than one answer holds.
        for number in 10..210 {
            ip(&format!("neigh add 192.0.2.{number} lladdr 02:00:5e:20:00:01 dev eth7 nud permanent"));
        }
        assert_eq!(neighbours(&kernel()).unwrap().len(), 202);
    }
}
