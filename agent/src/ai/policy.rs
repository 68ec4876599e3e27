//! Policy: what a run may do without asking, and within which bounds. Pure.

use super::actions::{self, Risk};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// `[policy]` of the configuration, valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Policy {
    /// The actions that may be done at all.
    pub(crate) actions: Vec<String>,
    /// The highest risk that needs nobody's word.
    pub(crate) max_risk: Risk,
    /// The interfaces that may be looked at; empty: all.
    pub(crate) interfaces: Vec<String>,
    /// The networks that may be looked at; empty: all.
    pub(crate) networks: Vec<String>,
    /// The interfaces that may be listened on for ARP; empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) arp_interfaces: Vec<String>,
    /// The interfaces whose link and neighbour table may be changed; empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) net_interfaces: Vec<String>,
    /// The most runs that may begin within an hour; 0: no limit.
    pub(crate) runs_per_hour: u64,
    /// How long a step waits for somebody's word.
    pub(crate) decision_hours: u64,
}

/// The name of an action of this release.
pub(crate) fn is_action(text: &str) -> bool {
    actions::find(text).is_some()
}

/// The name of a risk class that may be allowed without asking. What changes the network or sends something always needs somebody's word.
pub(crate) fn is_risk(text: &str) -> bool {
    risk(text).is_some_and(|risk| risk < Risk::Change)
}

/// The risk class of this name.
pub(crate) fn risk(text: &str) -> Option<Risk> {
    Risk::ALL.into_iter().find(|risk| risk.as_str() == text)
}

/// A network as a setting may name it.
pub(crate) fn is_network(text: &str) -> bool {
    Network::parse(text).is_some()
}

/// A network: an address and how many of its leading bits hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// `192.0.2.0/24`, `2001:db8::/32`, or one address.
    pub(crate) fn parse(text: &str) -> Option<Network> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok().filter(|bits| *bits <= most)?,
            Some(_) => return None,
            None => most,
        };
        Some(Network { address, bits })
    }

    /// Whether all of the other one lies in this one.
    pub(crate) fn holds(&self, other: &Network) -> bool {
        let same = |ours: u128, theirs: u128, width: u32| {
            let shift = width - u32::from(self.bits);
            shift == width || ours >> shift == theirs >> shift
        };
        other.bits >= self.bits
            && match (self.address, other.address) {
                (IpAddr::V4(ours), IpAddr::V4(theirs)) => same(ours.to_bits().into(), theirs.to_bits().into(), 32),
                (IpAddr::V6(ours), IpAddr::V6(theirs)) => same(ours.to_bits(), theirs.to_bits(), 128),
                _ => false,
            }
    }
}

/// A network interface's name, as the kernel takes it.
pub(crate) fn is_interface(text: &str) -> bool {
    (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_lies_in_them() {
        let cases = [
            ("192.0.2.0/24", "192.0.2.7", true),
            ("192.0.2.0/24", "192.0.3.7", false),
            ("192.0.2.0/24", "192.0.0.0/16", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:ffff::/48", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("192.0.2.7", "192.0.2.7", true),
        ];
        for (outer, inner, holds) in cases {
            let (outer, inner) = (Network::parse(outer).unwrap(), Network::parse(inner).unwrap());
            assert_eq!(outer.holds(&inner), holds, "{outer:?} {inner:?}");
        }
        for text in ["", "192.0.2", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/+8", "::/129", "a/8"] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
