//! The two services with a capability, on real machines: off as shipped, said loudly when on, and then only for core, only on the named interfaces
//! and, for what changes something, only after an operator's word. Needs root and `make dist-demo`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use smolotchi_lab::{Lab, Node, Release, dist, wait_until};
use std::time::Duration;

/// Two pairs of interfaces. Of each, what is sent into `far` comes in at `near`; only some of `near` are in a scope.
const LINKS: &str = r"set -e
for pair in 0 1; do
    ip link add near$pair type veth peer name far$pair
    ip link set near$pair up; ip link set far$pair up
    ip addr add 192.0.2.$((pair * 64 + 1))/26 dev near$pair
done
ip -6 addr add 2001:db8::1/64 dev near1 nodad
ip -6 addr add fe80::1:1/64 dev near1 nodad
ip -6 addr add 2001:db8:9::1/64 dev near1 nodad noprefixroute
ip -6 route add 2001:db8:9::/64 dev near1 proto kernel metric 600
ip -6 route add 2001:db8:1::/48 via 2001:db8::2 dev near1
ip -6 route add 2001:db8:2::/48 via 2001:db8::2 dev near1 src 2001:db8::1
ip route add 198.51.100.0/24 via 192.0.2.66 dev near1
ip addr add 203.0.113.1/24 dev near1 noprefixroute
ip route add 203.0.113.0/24 dev near1 proto kernel metric 600 src 203.0.113.1
ip neigh add proxy 192.0.2.90 dev near1
ip neigh add 192.0.2.70 lladdr 02:00:5e:10:00:70 nud stale dev near1
ip neigh add 192.0.2.71 lladdr 02:00:5e:10:00:71 nud permanent dev near1
ip neigh add 192.0.2.10 lladdr 02:00:5e:10:00:10 nud stale dev near0
ip neigh add 192.0.2.11 lladdr 02:00:5e:10:00:99 nud stale dev near0";

const SETTINGS: &str = r#"[policy]
actions = ["arp-listen", "link-restart", "neighbours-flush"]
arp_interfaces = ["near0"]
net_interfaces = ["near1"]
runs_per_hour = 0
"#;

const HEAR: &str = "name = \"hear\"\nversion = 1\ndescription = \"hears\"\n[[step]]\naction = \"arp-listen\"\nseconds = 20\n";
const MEND: &str = "name = \"mend\"\nversion = 1\ndescription = \"mends\"\n[[step]]\naction = \"neighbours-flush\"\n[[step]]\naction = \"link-restart\"\ninterface = \"near1\"\n";
const OUTSIDE: &str =
    "name = \"outside\"\nversion = 1\ndescription = \"outside\"\n[[step]]\naction = \"link-restart\"\ninterface = \"near0\"\n";

/// Sends ARP requests into both far ends, and something that is no ARP: `speak.py SECONDS`.
const SPEAK: &str = r"import socket, sys, time
def frame(kind, last, link):
    mac, ip = bytes([2, 0, 0x5e, 0x10, 0, link]), bytes([192, 0, 2, last])
    return b'\xff' * 6 + mac + kind + b'\0\1\x08\0\x06\x04\0\1' + mac + ip + bytes(6) + bytes([192, 0, 2, 60])
out = []
for name in ('far0', 'far1'):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((name, 0)); out.append(s)
arp, other = b'\x08\x06', b'\x88\xb5'
end = time.time() + float(sys.argv[1])
while time.time() < end:
    out[0].send(frame(arp, 9, 9)); out[0].send(frame(arp, 10, 0x10)); out[0].send(frame(arp, 11, 0x11)); out[0].send(frame(other, 12, 12))
    out[1].send(frame(arp, 99, 99))
    time.sleep(0.2)
";

/// Asks a service as whoever runs it: `ask.py SOCKET JSON`. Whom it refuses, it doesn't read: the answer is followed by a reset.
const ASK: &str = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect('/run/smolotchi/' + sys.argv[1])\n\
                   s.sendall(sys.argv[2].encode() + b'\\n')\ntry:\n    while said := s.recv(4096):\n        print(said.decode())\n\
                   except ConnectionResetError:\n    pass\n";

/// Ends the service in the middle of a restart, with the link down, while it has thousands of routes to put back: `cut.py`.
const CUT: &str = r#"import os, signal, socket, struct, subprocess, threading
name, index = b'near1', socket.if_nametoindex('near1')
events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
events.bind((0, 1))
asks = ['runuser', '-u', 'smolotchi', '--', 'python3', '/srv/ask.py', 'net.sock', '{"operation":"link-restart","interface":"near1"}']
threading.Thread(target=subprocess.run, args=(asks,)).start()
def service():
    while True:
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                if open(f'/proc/{pid}/cmdline', 'rb').read() == b'/usr/bin/smolotchi\0net\0':
                    return int(pid)
            except OSError:
                pass
pid = service()
def is_down(data):
    while len(data) >= 32:
        size, kind = struct.unpack_from('=IH', data)
        if kind == 16 and struct.unpack_from('=i', data, 20)[0] == index and struct.unpack_from('=I', data, 24)[0] & 1 == 0:
            return True
        data = data[(size + 3) & ~3:]
    return False
while not is_down(events.recv(65536)):
    pass
os.kill(pid, signal.SIGSTOP)
subprocess.run(['ip', 'link', 'set', 'near1', 'down'], check=True)
print('left', len(subprocess.run(['ip', 'route', 'show', 'table', '777'], capture_output=True).stdout.splitlines()))
os.kill(pid, signal.SIGKILL)
"#;

fn machine(release: Release) -> Lab {
    let lab = dist::healthy(release).unwrap();
    let node = lab.node(1);
    node.sh_ok(LINKS).unwrap();
    for (path, text) in [
        ("/etc/smolotchi/config.d/50-powers.toml", SETTINGS),
        ("/srv/hear.toml", HEAR),
        ("/srv/mend.toml", MEND),
        ("/srv/outside.toml", OUTSIDE),
        ("/srv/speak.py", SPEAK),
        ("/srv/ask.py", ASK),
        ("/srv/cut.py", CUT),
    ] {
        node.write(path, text.as_bytes()).unwrap();
    }
    node.sh_ok("chmod 755 /srv; chmod 644 /srv/*.py; smolotchi config reload; for f in hear mend outside; do smolotchi profiles add /srv/$f.toml; done").unwrap();
    lab
}

fn status(node: &Node) -> Value {
    node.json(&["smolotchi", "status", "--format", "json"]).unwrap()
}

/// The steps of a profile's newest run, as its result has them.
fn steps(node: &Node, profile: &str) -> Vec<Value> {
    let run = node.json(&["smolotchi", "ai", "runs", "--format", "json"]).unwrap();
    let run = run["runs"].as_array().unwrap().iter().find(|run| run["profile"] == profile).unwrap().clone();
    let content = node
        .sh_ok(&format!("curl -s --unix-socket /run/smolotchi/core.sock http://core/v1/artifacts/{}/content", run["result_artifact"]))
        .unwrap();
    serde_json::from_str::<Value>(&content).unwrap()["steps"].as_array().unwrap().clone()
}

fn ask(node: &Node, user: &str, socket: &str, question: &str) -> String {
    let out = node.run(&["runuser", "-u", user, "--", "python3", "/srv/ask.py", socket, question]).unwrap();
    format!("{}{}", out.stdout, out.stderr)
}

/// The lines of /proc/PID/status that have CAP_NET_ADMIN or CAP_NET_RAW.
fn capable(status: &str) -> Vec<&str> {
    let mask = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
    status.lines().filter(|line| line.starts_with("Cap") && mask(line) & (3 << 12) != 0).collect()
}

/// Capabilities of the network that a process of ours has or may get, and units that say so.
fn with_a_network_capability(node: &Node) -> Vec<String> {
    let status = |pid: &str| node.sh(&format!("cat /proc/{pid}/status")).unwrap().stdout;
    assert!(!capable(&status("1")).is_empty(), "what is looked for would not be found");
    let pids = node.sh_ok("pgrep -f '^/usr/bin/smolotchi'").unwrap();
    assert!(pids.lines().count() >= 2, "{pids}");
    let mut found: Vec<_> =
        pids.lines().flat_map(|pid| capable(&status(pid)).iter().map(|line| format!("process {pid} {line}")).collect::<Vec<_>>()).collect();
    let units = node.sh_ok("cd /usr/lib/systemd/system; ls smolotchi-*.service").unwrap();
    for unit in units.lines() {
        let may = node.sh_ok(&format!("systemctl show -P CapabilityBoundingSet {unit}")).unwrap();
        if may.contains("cap_net_raw") || may.contains("cap_net_admin") {
            found.push(format!("unit {unit}"));
        }
    }
    found
}

fn off_as_shipped(node: &Node) {
    for unit in ["smolotchi-arp", "smolotchi-net"] {
        for word in ["is-enabled", "is-active"] {
            let said = node.sh(&format!("systemctl {word} {unit}.socket")).unwrap().stdout;
            assert!(["disabled", "inactive"].contains(&said.trim()), "{unit}: {said}");
        }
    }
    assert_eq!(status(node)["powers"], Value::Array(Vec::new()));
    assert_eq!(with_a_network_capability(node), ["unit smolotchi-arp.service", "unit smolotchi-net.service"]);
    // Allowed by the policy, but off: the action says so, and the run is done.
    node.run_ok(&["smolotchi", "ai", "run", "hear", "--wait"]).unwrap();
    let seen = steps(node, "hear");
    assert_eq!(seen[0]["outcome"], "absent");
    assert!(seen[0]["why"].as_str().unwrap().contains("enable --now smolotchi-arp.socket"), "{seen:?}");
}

fn said_loudly(node: &Node) {
    let powers = status(node)["powers"].clone();
    assert_eq!(powers[0]["capability"], "CAP_NET_RAW");
    assert_eq!((&powers[1]["capability"], &powers[1]["interfaces"][0]), (&Value::from("CAP_NET_ADMIN"), &Value::from("near1")));
    for command in ["smolotchi status", "smolotchi health", "smolotchi doctor || true", "curl -s http://127.0.0.1:8080/"] {
        let said = node.sh_ok(command).unwrap();
        assert!(said.contains("ON: core may use CAP_NET_ADMIN on near1") && said.contains("CAP_NET_RAW on near0"), "{command}: {said}");
    }
    let metrics = node.sh_ok("curl -s http://127.0.0.1:8080/metrics").unwrap();
    assert!(metrics.contains("smolotchi_power_on{unit=\"smolotchi-net.socket\",capability=\"CAP_NET_ADMIN\"} 1"), "{metrics}");
}

fn hears(node: &Node) {
    node.sh_ok("systemd-run -q --unit=hear smolotchi ai run hear --wait").unwrap();
    // While it listens, it has nothing any more.
    let rights = r"p=$(systemctl show -P MainPID smolotchi-arp.service); test $p -gt 0 && test $(stat -c %U /proc/$p) = smolotchi-arp &&
        grep -q '^CapPrm:' /proc/$p/status && ! grep -qE '^Cap(Prm|Eff|Amb):[[:space:]]*0*[1-9a-f]' /proc/$p/status";
    node.wait_until("it listens without the capability", Duration::from_secs(30), rights).unwrap();
    // Only now: the kernel believes the sender, and then has nothing else to compare with.
    node.sh_ok("systemd-run -q --unit=speak python3 /srv/speak.py 30").unwrap();
    node.wait_until("the run ends", Duration::from_secs(60), "! systemctl is-active -q hear.service").unwrap();
    let seen = steps(node, "hear");
    assert_eq!(seen[0]["outcome"], "judged", "{seen:?}");
    let findings = node.json(&["smolotchi", "findings", "list", "--format", "json"]).unwrap().to_string();
    // Unknown, and known as somebody else. Not: known, no ARP, another interface.
    for heard in [
        "192.0.2.9 was heard on near0, as 02:00:5e:10:00:09",
        "192.0.2.11 was heard on near0 as 02:00:5e:10:00:11, and the kernel knew it as 02:00:5e:10:00:99",
    ] {
        assert!(findings.contains(heard), "{heard}: {findings}");
    }
    for other in ["192.0.2.10 ", "192.0.2.12 ", "192.0.2.99 "] {
        assert!(!findings.contains(other), "{other}: {findings}");
    }
    assert!(node.sh("systemctl is-active smolotchi-arp.service").unwrap().stdout.trim() == "inactive");
    node.sh_ok("systemctl stop speak.service 2>/dev/null || true").unwrap();
    let events = node.sh_ok("smolotchi events list --topic network.heard --format json").unwrap();
    assert!(events.contains("near0") && events.contains("\"heard\":3"), "{events}");
}

/// How often the link lost or got its carrier; a restart is one of each. A container's /sys may show another network.
fn changes(node: &Node, link: &str) -> u64 {
    let told = node.json(&["ip", "-s", "-s", "-j", "link", "show", "dev", link]).unwrap();
    told[0]["stats64"]["tx"]["carrier_changes"].as_u64().unwrap_or_else(|| panic!("{told}"))
}

/// All that near1 has, which holds what it had from the beginning.
fn everything(node: &Node) -> String {
    let all = "ip -br link show near1; ip neigh show dev near1; ip neigh show proxy dev near1; ip route show dev near1; ip -6 route show dev near1; ip -6 addr show dev near1";
    let has = node.sh_ok(all).unwrap();
    for kept in [
        "UP",
        "192.0.2.71 lladdr 02:00:5e:10:00:71 PERMANENT",
        "192.0.2.90 proxy",
        "198.51.100.0/24 via 192.0.2.66",
        "203.0.113.0/24 proto kernel scope link src 203.0.113.1 metric 600",
        "2001:db8::1/64",
        "fe80::1:1/64",
        "2001:db8:9::/64 proto kernel metric 600",
        "2001:db8:1::/48 via 2001:db8::2",
        "2001:db8:2::/48 via 2001:db8::2 src 2001:db8::1",
    ] {
        assert!(has.contains(kept), "{kept}: {has}");
    }
    has
}

fn restart(link: &str) -> String {
    format!("{{\"operation\":\"link-restart\",\"interface\":\"{link}\"}}")
}

/// Nothing is touched that could not be put back as it was.
fn leaves_alone(node: &Node) {
    let before = changes(node, "near1");
    for (make, words, unmake) in [
        ("ip link add link near1 name above1 type macvlan", "has above1 on it", "ip link del above1"),
        (
            "ip link add over1 type bridge; ip link set near1 master over1",
            "is a part of a bridge",
            "ip link set near1 nomaster; ip link del over1",
        ),
        ("ip nexthop add id 7 via 192.0.2.66 dev near1", "next hops that stand for themselves", "ip nexthop del id 7"),
        (
            "ip route add 198.51.101.0/24 nexthop via 192.0.2.66 dev near1 nexthop via 192.0.2.2 dev near0",
            "one of several ways",
            "ip route del 198.51.101.0/24",
        ),
    ] {
        node.sh_ok(make).unwrap();
        let said = ask(node, "smolotchi", "net.sock", &restart("near1"));
        assert!(said.contains(words) && said.contains("\"available\":false"), "{make}: {said}");
        node.sh_ok(unmake).unwrap();
    }
    assert_eq!(changes(node, "near1"), before);
    everything(node);
}

/// Ended with the link down, by what can't be caught: the unit brings the link up and has it all put back.
fn is_cut_off(node: &Node) {
    node.sh_ok(
        "for a in $(seq 0 15); do for b in $(seq 0 249); do echo route add 10.$a.$b.0/24 dev near1 table 777; done; done | ip -batch -",
    )
    .unwrap();
    let said = node.sh_ok("python3 /srv/cut.py").unwrap();
    assert!(said.contains("left 0"), "{said}");
    node.wait_until(
        "it is finished",
        Duration::from_secs(60),
        "! systemctl is-active -q smolotchi-net.service && ! systemctl is-active smolotchi-net.service | grep -q ing",
    )
    .unwrap();
    assert_eq!(node.sh_ok("systemctl show -P Result smolotchi-net.service").unwrap().trim(), "signal");
    let log = node.sh_ok("journalctl -b -u smolotchi-net.service").unwrap();
    assert!(log.contains("was cut off, and is finished") && !log.contains("not put back"), "{log}");
    everything(node);
    assert_eq!(node.sh_ok("ip route show table 777 | wc -l").unwrap().trim(), "4000");
    node.sh_ok("ip route flush table 777; systemctl reset-failed smolotchi-net.service").unwrap();
}

/// A link that doesn't come up at once is told, and tried for longer than anybody waits: here one with an address that is the link's below, which the kernel refuses only when it is to come up.
fn comes_up_late(node: &Node) {
    node.write("/etc/smolotchi/config.d/60-late.toml", b"[policy]\nnet_interfaces = [\"late0\"]\n").unwrap();
    node.sh_ok(
        "ip link add link near0 name late0 type macvlan mode bridge; ip link set late0 up; ip -6 addr add 2001:db8:7::1/64 dev late0 nodad
         ip link set near0 address $(ip -br link show late0 | awk '{print $3}')
         ip link show late0 | grep -q '[<,]UP[,>]'",
    )
    .unwrap();
    let said = ask(node, "smolotchi", "net.sock", &restart("late0"));
    assert!(said.contains("\"down\":true"), "{said}");
    assert_eq!(node.sh("systemctl is-active smolotchi-net.service").unwrap().stdout.trim(), "deactivating", "it is tried still");
    assert!(node.sh("ip link show late0 | grep -q '[<,]UP[,>]' || ip -6 addr show late0 | grep -q 2001:db8:7::1").unwrap().status != 0);
    node.sh_ok("ip link set near0 address 02:00:5e:10:00:77").unwrap();
    node.wait_until("the link has what it had", Duration::from_secs(60), "ip -6 addr show late0 | grep -q 2001:db8:7::1/64").unwrap();
    node.wait_until("nobody is left", Duration::from_secs(60), "test $(systemctl is-active smolotchi-net.service) = inactive").unwrap();
    node.sh_ok("ip link del late0; rm /etc/smolotchi/config.d/60-late.toml").unwrap();
}

/// A service that ends before it takes its caller is not started for ever, and an upgrade is a new beginning.
fn is_given_up(node: &Node) {
    node.sh_ok(
        "mkdir -p /run/systemd/system/smolotchi-net.service.d
         printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/no-such-program\\n' >/run/systemd/system/smolotchi-net.service.d/90-broken.conf
         systemctl daemon-reload",
    )
    .unwrap();
    let _ = ask(node, "smolotchi", "net.sock", &restart("near1"));
    node.wait_until("it is given up", Duration::from_secs(120), "systemctl is-failed -q smolotchi-net.socket").unwrap();
    assert_eq!(node.sh_ok("systemctl show -P Result smolotchi-net.socket").unwrap().trim(), "trigger-limit-hit");
    node.wait_until("health says so", Duration::from_secs(30), "smolotchi health | grep 'smolotchi-net.socket *failed'").unwrap();
    node.sh_ok("rm -r /run/systemd/system/smolotchi-net.service.d; systemctl daemon-reload").unwrap();
}

fn mends(node: &Node) {
    let (before, other) = (changes(node, "near1"), changes(node, "near0"));
    node.run_ok(&["smolotchi", "ai", "run", "mend"]).unwrap();
    let pending = || node.json(&["smolotchi", "stages", "list", "--state", "pending", "--format", "json"]).unwrap()["stages"].clone();
    for action in ["neighbours-flush", "link-restart"] {
        wait_until("the run asks", Duration::from_secs(30), || Ok(pending()[0]["action"] == action)).unwrap();
        let stage = pending()[0].clone();
        assert_eq!(stage["risk"], "change");
        assert!(stage["reason"].as_str().unwrap().starts_with("on near1: "), "{stage}");
        assert_eq!(changes(node, "near1"), before, "it was done before anybody had said yes");
        // The worker's own call needs the job's token, and an approval.
        let call = format!(
            "curl -s -X POST -d '{{\"token\":\"x\",\"stage_id\":{},\"interface\":\"near1\"}}' --unix-socket /run/smolotchi/core.sock http://core/v1/network",
            stage["id"]
        );
        assert!(node.sh_ok(&call).unwrap().contains("job.not-held"));
        node.run_ok(&["smolotchi", "stages", "approve", &stage["id"].to_string(), "--why", "it hangs"]).unwrap();
    }
    wait_until("the run is done", Duration::from_secs(30), || {
        let runs = node.json(&["smolotchi", "ai", "runs", "--format", "json"])?;
        Ok(runs["runs"][0]["profile"] == "mend" && runs["runs"][0]["state"] == "done")
    })
    .unwrap();
    let seen = steps(node, "mend");
    assert!(seen.iter().all(|step| step["outcome"] == "judged"), "{seen:?}");
    assert_eq!(changes(node, "near1"), before + 2);
    assert_eq!(changes(node, "near0"), other);
    let after = everything(node);
    assert!(!after.contains("192.0.2.70"), "{after}");
    for topic in ["network.begun", "network.changed"] {
        let events = node.sh_ok(&format!("smolotchi events list --topic {topic} --format json")).unwrap();
        assert!(events.contains("link-restart") && events.contains("neighbours-flush") && events.contains("approved_by"), "{events}");
        assert!(!events.contains("\"warning\""), "{events}");
    }
}

fn refuses(node: &Node) {
    // Outside of the scope: the plan denies it, and so does the service, whatever core says.
    node.run_ok(&["smolotchi", "ai", "run", "outside", "--wait"]).unwrap();
    let seen = steps(node, "outside");
    assert_eq!(seen[0]["outcome"], "denied");
    assert!(seen[0]["why"].as_str().unwrap().contains("policy.net_interfaces"), "{seen:?}");
    let before = changes(node, "near0");
    let listen = |link: &str| format!("{{\"interface\":\"{link}\",\"seconds\":5}}");
    for (socket, question, words) in [
        ("net.sock", restart("near0"), "policy.net_interfaces: near0 is not among"),
        ("net.sock", restart("lo"), "lo is not among"),
        ("net.sock", "{\"operation\":\"link-delete\",\"interface\":\"near1\"}".to_owned(), "link-delete is not an action of"),
        ("net.sock", "{".to_owned(), "not understood"),
        ("arp.sock", listen("near1"), "near1 is not among"),
        ("arp.sock", "{\"interface\":\"near0\",\"seconds\":61}".to_owned(), "5 to 60 seconds"),
    ] {
        let said = ask(node, "smolotchi", socket, &question);
        assert!(said.contains(words) && said.contains("\"available\":false"), "{socket} {question}: {said}");
    }
    assert_eq!(changes(node, "near0"), before);
    // What core believes of the policy doesn't count: the file does.
    node.sh_ok("printf '[policy]\\nactions = []\\n' >/etc/smolotchi/config.d/60-less.toml").unwrap();
    for (socket, question) in [("net.sock", restart("near1")), ("arp.sock", listen("near0"))] {
        let said = ask(node, "smolotchi", socket, &question);
        assert!(said.contains("policy.actions: ") && said.contains("not among the allowed actions"), "{said}");
    }
    node.sh_ok("rm /etc/smolotchi/config.d/60-less.toml").unwrap();
    // Somebody else can't open the socket; and where an operator lets everybody, it still answers only core's user.
    for (socket, question) in [("net.sock", restart("near1")), ("arp.sock", listen("near0"))] {
        for user in ["nobody", "smolotchi-ai", "smolotchi-web"] {
            let said = ask(node, user, socket, &question);
            assert!(said.contains("Permission denied"), "{user}: {said}");
        }
    }
    node.sh_ok(
        "for s in arp net; do mkdir -p /run/systemd/system/smolotchi-$s.socket.d; printf '[Socket]\\nSocketMode=0666\\n' >/run/systemd/system/smolotchi-$s.socket.d/90-open.conf; done
         systemctl daemon-reload; systemctl restart smolotchi-arp.socket smolotchi-net.socket",
    )
    .unwrap();
    let before = changes(node, "near1");
    for (socket, question) in [("net.sock", restart("near1")), ("arp.sock", listen("near0"))] {
        for user in ["nobody", "smolotchi-ai", "root"] {
            let said = ask(node, user, socket, &question);
            assert!(said.contains("only core may ask for this"), "{user}: {said}");
        }
    }
    assert_eq!(changes(node, "near1"), before);
}

/// An upgrade leaves each as the operator has it, on or off, enabled or not; and nothing stays behind.
fn comes_and_goes(node: &Node) {
    let stands = || {
        node.sh(
            "systemctl is-active smolotchi-arp.socket smolotchi-net.socket; systemctl is-enabled smolotchi-arp.socket smolotchi-net.socket",
        )
        .unwrap()
        .stdout
    };
    let upgrade = || node.sh_ok(&format!("dpkg -i {}", dist::agent_deb("0.2.0"))).unwrap();
    node.sh_ok("rm -r /run/systemd/system/smolotchi-*.socket.d; systemctl daemon-reload; systemctl restart smolotchi-arp.socket smolotchi-net.socket").unwrap();
    is_given_up(node);
    assert_eq!(stands(), "active\nfailed\nenabled\nenabled\n");
    upgrade();
    assert_eq!(stands(), "active\nactive\nenabled\nenabled\n");
    node.sh_ok("systemctl disable smolotchi-arp.socket; systemctl stop smolotchi-net.socket").unwrap();
    assert_eq!(stands(), "active\ninactive\ndisabled\nenabled\n");
    upgrade();
    assert_eq!(stands(), "active\ninactive\ndisabled\nenabled\n");
    node.sh_ok("systemctl disable --now smolotchi-arp.socket smolotchi-net.socket").unwrap();
    assert_eq!(status(node)["powers"], Value::Array(Vec::new()));
    assert!(!node.exists("/run/smolotchi/net.sock").unwrap() && !node.exists("/run/smolotchi/arp.sock").unwrap());
    upgrade();
    assert_eq!(stands(), "inactive\ninactive\ndisabled\ndisabled\n");
    node.sh_ok("systemctl enable --now smolotchi-net.socket; dpkg -r smolotchi").unwrap();
    let left = node.sh("systemctl is-active smolotchi-net.socket; ls /run/smolotchi/net.sock; systemctl list-units --plain --no-legend 'smolotchi-net*' 'smolotchi-arp*'").unwrap();
    assert!(left.stdout.trim() == "inactive", "{left:?}");
    node.sh_ok("dpkg -P smolotchi").unwrap();
    let left = node
        .sh("getent passwd smolotchi-arp smolotchi-net; find /etc/systemd/system -name 'smolotchi-arp*' -o -name 'smolotchi-net*'")
        .unwrap();
    assert!(left.stdout.is_empty(), "{left:?}");
}

fn powers(release: Release) {
    let lab = machine(release);
    let node = lab.node(1);
    off_as_shipped(node);
    node.sh_ok("systemctl enable --now smolotchi-arp.socket smolotchi-net.socket").unwrap();
    said_loudly(node);
    hears(node);
    mends(node);
    comes_up_late(node);
    leaves_alone(node);
    is_cut_off(node);
    refuses(node);
    // Nothing that lives has a capability, also while they are on.
    assert_eq!(with_a_network_capability(node), ["unit smolotchi-arp.service", "unit smolotchi-net.service"]);
    comes_and_goes(node);
}

#[test]
fn a_capability_is_the_operators_word_on_debian_12() {
    powers(Release::Bookworm);
}

#[test]
fn a_capability_is_the_operators_word_on_debian_13() {
    powers(Release::Trixie);
}
