//! The senses of a real core, on a machine made of files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod node;

use node::{Node, until};
use serde_json::Value;

/// A machine with 1000 MiB of memory, so much of it available, and a thermal sensor.
fn machine(node: &Node, available_mib: u64) {
    node.put("proc/stat", "cpu  100 0 100 9800 0 0 0 0 0 0\n");
    node.put("proc/loadavg", "0.25 0.2 0.1 1/100 4242\n");
    let available = available_mib * 1024;
    node.put("proc/meminfo", &format!("MemTotal: 1024000 kB\nMemAvailable: {available} kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"));
    node.put("sys/class/thermal/thermal_zone0/temp", "41200\n");
}

fn sensor(node: &Node, name: &str) -> Option<Value> {
    let (status, answer) = node.call("GET", "/v1/sensors", "");
    assert_eq!(status, 200);
    answer["sensors"].as_array().unwrap().iter().find(|sensor| sensor["name"] == name).cloned()
}

#[test]
fn a_core_reads_its_machine_and_keeps_it_over_a_restart() {
    let node = Node::new();
    machine(&node, 500);
    let core = node.core();
    let memory = until("the first look", || sensor(&node, "system.memory.available"));
    assert_eq!((&memory["value"], &memory["unit"], &memory["provider"]), (&(500.0 * 1048576.0).into(), &"B".into(), &"system".into()));
    assert_eq!(sensor(&node, "system.temperature").unwrap()["value"], 41.2);
    // What isn't there is absent with the reason, and no error.
    let swap = sensor(&node, "system.swap.total").unwrap();
    assert_eq!((&swap["absent"], &swap["value"], &swap["at"]), (&"there is no swap".into(), &Value::Null, &Value::Null));

    // Not on the disk yet, and told all the same.
    let (status, answer) = node.call("GET", "/v1/readings?sensor=system.memory.available", "");
    assert_eq!((status, answer["readings"].as_array().unwrap().len()), (200, 1), "{answer}");
    core.stop();

    machine(&node, 100);
    let core = node.core();
    until("the next look", || (sensor(&node, "system.memory.available")?["value"] == 100.0 * 1048576.0).then_some(()));
    let (_, answer) = node.call("GET", "/v1/readings?sensor=system.memory.available", "");
    let values: Vec<_> =
        answer["readings"].as_array().unwrap().iter().map(|reading| reading["value"].as_f64().unwrap() / 1048576.0).collect();
    assert_eq!(values, [500.0, 100.0], "{answer}");
    let (_, answer) = node.call("GET", "/v1/readings?sensor=system.memory.available&limit=1", "");
    assert_eq!(answer["readings"][0]["value"], 100.0 * 1048576.0);
    let (_, answer) = node.call("GET", "/v1/readings?sensor=system.memory.available&since=2200-01-01T00:00:00Z", "");
    assert_eq!(answer["readings"], Value::Array(Vec::new()));
    core.stop();
}

#[test]
fn questions_that_are_not_understood_are_refused() {
    let node = Node::new();
    let _core = node.core();
    let cases = [
        ("/v1/readings", 400, "core.request"),
        ("/v1/readings?sensor=x", 404, "core.not-found"),
        ("/v1/readings?sensor=x&limit=0", 400, "core.request"),
        ("/v1/readings?sensor=x&limit=10001", 400, "core.request"),
        ("/v1/readings?sensor=x&limit=many", 400, "core.request"),
        ("/v1/readings?sensor=x&since=yesterday", 400, "core.request"),
        ("/v1/readings?sensor=x&until=1", 400, "core.request"),
    ];
    for (path, status, code) in cases {
        let (told, answer) = node.call("GET", path, "");
        assert_eq!((told, &answer["error"]["code"]), (status, &code.into()), "{path}: {answer}");
    }
}

#[test]
fn the_verbs_show_what_was_read() {
    let node = Node::new();
    machine(&node, 500);
    let core = node.core();
    until("the first look", || sensor(&node, "system.memory.available"));
    let list = node.run(&["readings", "list"]).ok().stdout;
    let line = |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {list}"));
    assert!(line("system.memory.available ").contains(" 500 MiB "), "{list}");
    assert!(line("system.temperature ").contains(" 41.2 °C "), "{list}");
    assert!(line("system.swap.total ").ends_with("there is no swap"), "{list}");
    // Without sockets handed in, the network is absent, and nothing else.
    assert!(line("network.gateway ").contains("smolotchi-senses.socket"), "{list}");
    let shown = node.run(&["readings", "show", "system.temperature"]).ok().stdout;
    assert!(shown.trim_end().ends_with("41.2 °C") && shown.lines().count() == 1, "{shown}");
    let shown = node.run(&["--format", "json", "readings", "show", "system.temperature", "--since", "1 h"]).ok().json();
    assert_eq!((&shown["unit"], &shown["readings"][0]["value"]), (&"C".into(), &41.2.into()));
    let wrong = node.run(&["--format", "json", "readings", "show", "system.nothing"]);
    assert_eq!((wrong.code, &wrong.fault()["code"]), (30, &"core.not-found".into()));
    let wrong = node.run(&["--format", "json", "readings", "show", "system.load", "--since", "yesterday"]);
    assert_eq!((wrong.code, &wrong.fault()["code"]), (2, &"cli.usage".into()));
    core.stop();
}

#[test]
fn a_provider_that_is_switched_off_does_not_look() {
    let node = Node::new();
    machine(&node, 500);
    node.put("etc/smolotchi/config.d/50-senses.toml", "[senses]\nproviders = [\"time\"]\n");
    let core = node.core();
    until("the first look", || sensor(&node, "time.jumps"));
    assert_eq!(sensor(&node, "system.load"), None);
    core.stop();
    node.put("etc/smolotchi/config.d/50-senses.toml", "[senses]\nproviders = [\"taste\"]\n");
    let refused = node.run(&["--format", "json", "config", "check"]);
    assert_eq!((refused.code, &refused.fault()["details"]["key"]), (20, &"senses.providers".into()));
}

#[test]
fn what_is_seen_now_is_there_or_has_a_reason() {
    let node = Node::new();
    let _core = node.core();
    for (name, reason) in [("neighbours", "smolotchi-senses.socket"), ("sockets", "smolotchi-senses.socket"), ("units", "D-Bus")] {
        let (status, answer) = node.call("GET", &format!("/v1/observations/{name}"), "");
        assert_eq!((status, &answer["available"], &answer["items"]), (200, &false.into(), &Value::Array(Vec::new())), "{answer}");
        assert!(answer["reason"].as_str().unwrap().contains(reason), "{answer}");
    }
}
