//! arp-listen: who speaks on the network without ever speaking to this machine? Only listens: nothing is sent.

use super::{Action, Found, Kind, Parameter, Risk, items, text};
use crate::ai::look::Look;
use crate::powers::Power;
use crate::powers::arp::{ARP_LISTEN, LEAST_SECONDS, MOST, MOST_SECONDS};
use serde_json::{Map, Value, json};
use smolotchi_operator::Result;
use smolotchi_store::Severity;

pub(super) const ACTION: Action = Action {
    name: ARP_LISTEN,
    keys: "heard",
    risk: Risk::Passive,
    about: "listens for ARP and names the neighbours that the kernel doesn't know of; needs smolotchi-arp.socket",
    parameters: &[
        Parameter { name: "interface", kind: Kind::Interface(Power::Arp) },
        Parameter { name: "seconds", kind: Kind::Integer { min: LEAST_SECONDS as i64, max: MOST_SECONDS as i64, usual: 30 } },
    ],
    judge,
};

fn judge(_: &Map<String, Value>, observation: &Value) -> Vec<Found> {
    let one = |item: &Value| {
        let [interface, address, link, kernel] = ["interface", "address", "link", "kernel"].map(|name| text(&item[name]));
        let (title, severity) = if kernel.is_empty() {
            (format!("{address} was heard on {interface}, as {link}"), Severity::Info)
        } else if kernel == link {
            return None;
        } else {
            (format!("{address} was heard on {interface} as {link}, and the kernel knew it as {kernel}"), Severity::Warning)
        };
        let detail = json!({ "interface": interface, "address": address, "link": link, "kernel": item["kernel"] });
        Some(Found { key: format!("heard/{interface}/{address}/{link}"), title, severity, detail })
    };
    let mut found: Vec<_> = items(observation).iter().filter(|item| !text(&item["address"]).is_empty()).filter_map(one).collect();
    if items(observation).len() >= MOST {
        let (key, title) = ("heard/too-many".to_owned(), format!("{MOST} spoke ARP, and more are not told of"));
        found.push(Found { key, title, severity: Severity::Warning, detail: Value::Null });
    }
    found
}

/// Listens, and puts beside each neighbour what the kernel's table had for its address before: the kernel believes what it hears meanwhile.
pub(super) async fn look(look: &Look<'_>, parameters: &Map<String, Value>) -> Result<Value> {
    let question =
        json!({ "token": look.token, "job_id": look.job_id, "interface": parameters["interface"], "seconds": parameters["seconds"] });
    let known = look.observation("neighbours").await?;
    if known["available"] != true {
        // With nothing to compare with, everybody would be new.
        return Ok(known);
    }
    Ok(beside(look.ask("/v1/observations/arp", &question).await?, &known))
}

/// What was heard, beside what was known; pure.
fn beside(mut heard: Value, known: &Value) -> Value {
    if heard["available"] != true {
        return heard;
    }
    for item in heard["items"].as_array_mut().into_iter().flatten() {
        let same = |known: &&Value| known["interface"] == item["interface"] && known["address"] == item["address"];
        item["kernel"] = items(known).iter().find(same).map_or(Value::Null, |known| known["link"].clone());
    }
    // Where nobody was heard, or not everybody, nobody can be said to have gone.
    if matches!(items(&heard).len(), 0 | MOST..) {
        heard["unseen"] = json!(["/"]);
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_knows_is_nothing_new_and_another_link_is_worth_a_warning() {
        let item = |kernel: Value| json!({ "interface": "eth0", "address": "192.0.2.7", "link": "02:00:5e:10:00:01", "kernel": kernel });
        let found = |kernel: Value| judge(&Map::new(), &json!({ "available": true, "items": [item(kernel), { "x": 1 }, 7] }));
        assert_eq!(found(json!("02:00:5e:10:00:01")), []);
        let (unknown, other) = (found(Value::Null), found(json!("02:00:5e:10:00:02")));
        assert_eq!((unknown.len(), unknown[0].severity), (1, Severity::Info));
        assert_eq!((other.len(), other[0].severity), (1, Severity::Warning));
        assert!(other[0].title.contains("02:00:5e:10:00:02"), "{other:?}");
        assert_eq!(unknown[0].key, "heard/eth0/192.0.2.7/02:00:5e:10:00:01");
    }

    #[test]
    fn nobody_has_gone_where_nobody_or_not_everybody_was_heard() {
        let heard = |count: usize| {
            let item = |number| json!({ "interface": "eth0", "address": format!("192.0.2.{number}"), "link": "02:00:5e:10:00:01" });
            json!({ "available": true, "items": (0..count).map(item).collect::<Vec<_>>() })
        };
        let known = json!({ "available": true, "items": [{ "interface": "eth0", "address": "192.0.2.0", "link": "02:00:5e:10:00:09" }] });
        for (count, unseen) in [(0, true), (1, false), (MOST - 1, false), (MOST, true)] {
            let seen = beside(heard(count), &known);
            assert_eq!(crate::ai::actions::unseen(&ACTION, &seen) == ["heard/"], unseen, "{count}");
            let too_many = judge(&Map::new(), &seen).iter().any(|found| found.key == "heard/too-many");
            assert_eq!(too_many, count == MOST, "{count}");
        }
        assert_eq!(beside(heard(1), &known)["items"][0]["kernel"], "02:00:5e:10:00:09");
        let absent = json!({ "available": false, "reason": "off" });
        assert_eq!(beside(absent.clone(), &known), absent);
    }
}
