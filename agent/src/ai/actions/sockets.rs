//! listening-sockets: what can this machine be reached at?

use super::{Action, Found, Risk, items, text};
use serde_json::{Map, Value, json};
use smolotchi_store::Severity;
use std::net::IpAddr;

pub(super) const ACTION: Action = Action {
    name: "listening-sockets",
    keys: "socket",
    risk: Risk::Passive,
    about: "names the sockets that this machine can be reached at",
    parameters: &[],
    judge,
};

fn judge(_: &Map<String, Value>, observation: &Value) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for item in items(observation) {
        let (protocol, address) = (text(&item["proto"]), text(&item["address"]));
        let (Some(port), false) = (item["port"].as_u64().filter(|port| *port <= 65_535), protocol.is_empty()) else { continue };
        let place = if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
        let key = format!("socket/{protocol}/{place}");
        // Several sockets may share an address (SO_REUSEPORT): one finding.
        if found.iter().any(|other| other.key == key) {
            continue;
        }
        let local = address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let title = if local {
            format!("{protocol} {place} listens for this machine only")
        } else {
            format!("{protocol} {place} listens for others")
        };
        let severity = if local { Severity::Info } else { Severity::Notice };
        found.push(Found {
            key,
            title,
            severity,
            detail: json!({ "protocol": protocol, "address": address, "port": port, "uid": item["uid"].as_u64() }),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_be_reached_by_others_stands_out() {
        let items = json!([
            { "proto": "tcp", "address": "127.0.0.1", "port": 8080, "uid": 0 },
            { "proto": "tcp", "address": "0.0.0.0", "port": 22, "uid": 0 },
            { "proto": "tcp", "address": "0.0.0.0", "port": 22, "uid": 0 },
            { "proto": "udp", "address": "::", "port": 5353, "uid": 105 },
            { "proto": "tcp", "address": "x", "port": 70000 }, null]);
        let found = judge(&Map::new(), &json!({ "available": true, "items": items }));
        let keys: Vec<_> = found.iter().map(|found| (found.key.as_str(), found.severity)).collect();
        let expected = [
            ("socket/tcp/127.0.0.1:8080", Severity::Info),
            ("socket/tcp/0.0.0.0:22", Severity::Notice),
            ("socket/udp/[::]:5353", Severity::Notice),
        ];
        assert_eq!(keys, expected);
    }
}
