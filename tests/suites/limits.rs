//! What a node can't show, in a virtual machine with 512 MB and Debian's own kernel: that each service's bounds of memory, tasks and files are where
//! its unit says, who dies first when the machine has no memory left, that devices and addresses are refused by the kernel, that the weights count, and
//! what is left of all that without a memory controller, as on Raspberry Pi OS. Beside each refusal stands that the same works outside.
//!
//! The two services that are off and live for one call (arp, net) are not looked at. `make test-full` does this on Debian 12 and 13 (WHOLE=1), and so does `make test` where
//! KVM can. Where the processor has to be emulated, `make test` leaves out Debian 13, all leaking at once, and the machine without the memory controller,
//! because each takes minutes. Needs root and `make dist-demo`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use smolotchi_lab::vm::{Image, Vm};
use smolotchi_lab::{Bind, Release, dist};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SERVICES: [&str; 5] = ["core", "web", "ai", "prune", "display"];
/// A machine of 512 MB; some of it is the kernel's own.
const MEMORY: u32 = 512;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A disk with the packages of 0.2.0, and the programs that the cases below need.
fn image(release: Release) -> Image {
    let files = [
        Bind { from: dist::folder().unwrap().join("releases/0.2.0/debs"), to: "/srv/debs".into() },
        Bind { from: env!("CARGO_BIN_EXE_smolotchi-glutton").into(), to: "/root/glutton".into() },
    ];
    Image::make(release, &files, "dpkg -i /srv/debs/*.deb && rm -r /srv/debs").unwrap()
}

/// A machine that is up, with all of ours that runs by default, and web.
fn machine<'a>(image: &'a Image, kernel: &str) -> Vm<'a> {
    let began = Instant::now();
    let vm = Vm::start(image, MEMORY, kernel).unwrap();
    vm.wait_until("the agent is healthy", Duration::from_secs(60), "systemctl start smolotchi-ai smolotchi-web && smolotchi health")
        .unwrap();
    println!("a machine with {} is up and healthy after {} s", vm.sh_ok("uname -rv").unwrap().trim(), began.elapsed().as_secs());
    vm.sh_ok(PREPARE).unwrap();
    vm
}

/// What a directive says in a service's unit or in the drop-ins of its sandbox, or nothing.
fn said(service: &str, name: &str) -> Option<String> {
    let units = root().join("systemd/system");
    let files = [
        "smolotchi-.service.d/10-baseline.conf".to_owned(),
        format!("smolotchi-{service}.service"),
        format!("smolotchi-{service}.service.d/30-{service}.conf"),
    ];
    let text: String = files.iter().map(|file| std::fs::read_to_string(units.join(file)).unwrap()).collect();
    text.lines().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

/// The same as a number, in bytes where it is a size.
fn promised(service: &str, name: &str) -> u64 {
    let value = said(service, name).unwrap_or_else(|| panic!("{service} has no {name}"));
    value.strip_suffix('M').map_or_else(|| value.parse().unwrap(), |mib| mib.parse::<u64>().unwrap() << 20)
}

fn mib(service: &str, name: &str) -> u64 {
    promised(service, name) >> 20
}

/// However slow the machine is, no start is given up. What the glutton says goes to a file, because the journal may be late (what systemd runs after it opens it, too), and it pings no watchdog. `once` ends in the first failure.
const PREPARE: &str = r"set -e
ln /usr/bin/smolotchi /root/smolotchi
for s in core web ai prune display; do
    mkdir -p /run/systemd/system/smolotchi-$s.service.d
    printf '[Service]\nWatchdogSec=0\nTimeoutStartSec=10min\nStandardOutput=append:/var/lib/glutton-%s\n' $s >/run/systemd/system/smolotchi-$s.service.d/98-lab.conf
    printf '[Service]\nRestart=no\n' >/run/systemd/system/smolotchi-$s.service.d/99-once.conf
done
systemctl daemon-reload
# Swap is no way out for what is over its bound.
fallocate -l 64M /swap; chmod 600 /swap; mkswap -q /swap; swapon /swap";

/// One service becomes a glutton, of one thing after the other; the others go on with the same processes. $s, $wishes
const GORGE: &str = r#"set -e
u=smolotchi-$s.service
neighbours() { for n in core web ai; do test $n = $s || systemctl show -P MainPID -P NRestarts smolotchi-$n | tr '\n' ' '; done; }
before=$(neighbours)
systemctl stop $u
ln -f /root/glutton /usr/bin/smolotchi
dmesg -C
for wish in $wishes; do
    systemctl reset-failed $u 2>/dev/null || true
    echo $wish >/etc/smolotchi/glutton
    rm -f /var/lib/glutton-$s
    systemctl start --no-block $u
    until grep -qs -v ' at ' /var/lib/glutton-$s || systemctl is-failed -q $u; do sleep 0.1; done
    # While it holds all that it could get, the others answer.
    if test $wish = data; then
        test $s = core || /root/smolotchi events list --limit 1 >/dev/null
        test $s = web || curl -sS -m 60 -o /dev/null http://127.0.0.1:8080/
    fi
    tail -n 1 /var/lib/glutton-$s
    systemctl show -P Result $u
    systemctl stop $u
done
systemctl reset-failed $u 2>/dev/null || true
ln -f /root/smolotchi /usr/bin/smolotchi
case $s in core | web | ai) systemctl start $u ;; esac
test "$(neighbours)" = "$before" || { echo "others did not go on: $before, then $(neighbours)" >&2; exit 1; }
"#;

/// What became of a wish: how far it came, why not further, and systemd's result.
#[derive(Debug)]
struct Came {
    count: u64,
    why: String,
    result: String,
}

fn gorge(vm: &Vm<'_>, service: &str, wishes: &str) -> BTreeMap<String, Came> {
    let said = vm.run(&format!("s={service} wishes='{wishes}'\n{GORGE}"), Duration::from_secs(900)).unwrap();
    assert!(said.ok(), "{service}: {said:?}");
    let lines: Vec<&str> = said.stdout.lines().collect();
    let came = lines.chunks(2).map(|pair| {
        // glutton WISH COUNT WHY; "at COUNT" if it was killed.
        let words: Vec<&str> = pair[0].split(' ').filter(|word| *word != "at").collect();
        (words[1].to_owned(), Came { count: words[2].parse().unwrap(), why: words[3..].join(" "), result: pair[1].to_owned() })
    });
    let came: BTreeMap<_, _> = came.collect();
    println!("{service}: {came:?}");
    came
}

/// Which control groups' processes the kernel killed since `dmesg -C`, and by which bound: its own group's path, or nothing when it was the machine's memory.
fn killed(vm: &Vm<'_>) -> Vec<(String, String)> {
    let text = vm.sh_ok("dmesg").unwrap();
    let field = |line: &str, name: &str| line.split(',').find_map(|part| part.strip_prefix(name)).unwrap_or_default().to_owned();
    text.lines().filter(|line| line.contains("oom-kill:")).map(|line| (field(line, "task_memcg="), field(line, "oom_memcg="))).collect()
}

fn group(service: &str) -> String {
    format!("/system.slice/smolotchi-{service}.service")
}

/// Takes as much as a wish says, in no sandbox of ours.
fn outside(vm: &Vm<'_>, wish: &str) {
    let script = format!(
        "echo {wish} >/etc/smolotchi/glutton; systemd-run -q --wait --pipe -p LimitNOFILE=100000 -p TasksMax=2000 /root/glutton outside | tail -n 1"
    );
    let said = vm.sh_ok(&script).unwrap();
    println!("outside: {}", said.trim());
    assert!(said.contains("not refused"), "{wish}, outside: {said}");
}

/// What is refused in a service, and at which count, while the others go on.
fn bounds_of(vm: &Vm<'_>, service: &str) {
    let mut came = gorge(vm, service, "data shared tasks files");
    // Memory of its own: refused a little below the bound, because the program itself has some.
    let (bound, data) = (mib(service, "LimitDATA"), came.remove("data").unwrap());
    assert!((bound - 4..bound).contains(&data.count) && data.why.starts_with("Cannot allocate"), "{service}: {data:?}; LimitDATA {bound}");
    // Memory that LimitDATA doesn't count: killed. It tells every fourth.
    let (bound, shared) = (mib(service, "MemoryMax"), came.remove("shared").unwrap());
    assert!((bound - 8..bound).contains(&shared.count) && shared.result == "oom-kill", "{service}: {shared:?}; MemoryMax {bound}");
    assert_eq!(killed(vm), [(group(service), group(service))], "the kernel killed somebody else, or for another reason");
    let (bound, tasks) = (promised(service, "TasksMax"), came.remove("tasks").unwrap());
    assert!(tasks.count == bound && tasks.why.starts_with("Resource temporarily unavailable"), "{service}: {tasks:?}; TasksMax {bound}");
    // What it was handed counts too.
    let (bound, files) = (promised(service, "LimitNOFILE"), came.remove("files").unwrap());
    assert!(
        (bound - 14..=bound).contains(&files.count) && files.why.starts_with("Too many open files"),
        "{service}: {files:?}; LimitNOFILE {bound}"
    );
}

/// All leak at once, and are started again as their units say: each is ended by its own bound, as often as its unit lets it be started, and then it is
/// failed. The machine has enough for all of them.
fn all_leak(vm: &Vm<'_>) {
    let script = "set -e
        rm /run/systemd/system/smolotchi-*.service.d/99-once.conf
        systemctl daemon-reload
        echo shared >/etc/smolotchi/glutton
        dmesg -C
        systemctl start --no-block smolotchi-core smolotchi-web smolotchi-ai smolotchi-prune smolotchi-display
        for s in core web ai prune display; do until test $(systemctl show -P SubState smolotchi-$s) = failed; do sleep 0.2; done; done";
    let began = Instant::now();
    let output = vm.run(script, Duration::from_secs(600)).unwrap();
    assert!(output.ok(), "{output:?}");
    let killed = killed(vm);
    assert!(killed.iter().all(|(who, by)| who == by && who.contains("/smolotchi-")), "{killed:?}");
    for service in SERVICES {
        // Nothing starts prune again but its timer.
        let starts = if service == "prune" { 1 } else { promised(service, "StartLimitBurst") as usize };
        let own = killed.iter().filter(|(who, _)| *who == group(service)).count();
        assert_eq!(
            own,
            starts,
            "{service}: {}",
            vm.sh(&format!("journalctl -b -o short-monotonic -u smolotchi-{service} | tail -n 40")).unwrap().stdout
        );
        if starts > 1 {
            let again = vm.sh(&format!("systemctl start smolotchi-{service}; systemctl show -P ActiveState smolotchi-{service}")).unwrap();
            assert_eq!(again.stdout.trim(), "failed", "{service}");
        }
    }
    assert_eq!(self::killed(vm).len(), killed.len(), "somebody was started again");
    println!("all leaked at once and were failed after {} s: {} were killed", began.elapsed().as_secs(), killed.len());
    let script = "set -e
        for s in core web ai prune display; do printf '[Service]\nRestart=no\n' >/run/systemd/system/smolotchi-$s.service.d/99-once.conf; done
        systemctl daemon-reload; systemctl reset-failed 'smolotchi-*'";
    vm.sh_ok(script).unwrap();
}

/// Has the kernel choose somebody to kill, as it does when no memory is left, as often as its first argument says. Nobody but our services is there to be
/// chosen. "even" takes their scores away first.
const CHOOSE: &str = r#"import os, sys, time
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        ours = "/smolotchi-" in open(f"/proc/{pid}/cgroup").read()
        if not ours:
            open(f"/proc/{pid}/oom_score_adj", "w").write("-1000")
        elif "even" in sys.argv:
            open(f"/proc/{pid}/oom_score_adj", "w").write("0")
    except OSError:
        pass
kmsg = os.open("/dev/kmsg", os.O_RDONLY)
os.lseek(kmsg, 0, os.SEEK_END)
for _ in range(int(sys.argv[1])):
    open("/proc/sysrq-trigger", "w").write("f")
    said = ""
    while "oom-kill:" not in said:
        said = os.read(kmsg, 8192).decode(errors="replace").split("\n")[0]
    fields = dict(part.split("=", 1) for part in said.split(";", 1)[1].split(",") if "=" in part)
    print(fields["task_memcg"].rsplit("/smolotchi-")[-1].removesuffix(".service"), flush=True)
    # What systemd runs at a service's end has its score, too, and is not what is asked for.
    while os.path.exists("/sys/fs/cgroup" + fields["task_memcg"]):
        time.sleep(0.05)
"#;

/// Starts services with that many MiB each.
fn fill(vm: &Vm<'_>, sizes: &[(&str, u64)]) {
    for (service, size) in sizes {
        let script = format!(
            "set -e; u=smolotchi-{service}; systemctl stop $u; systemctl reset-failed $u 2>/dev/null || true; rm -f /var/lib/glutton-{service}
            echo data {size} >/etc/smolotchi/glutton; systemctl start --no-block $u; until grep -qs 'not refused' /var/lib/glutton-{service}; do sleep 0.1; done"
        );
        vm.sh_ok(&script).unwrap();
    }
}

/// When the machine has no memory left, the kernel takes display and ai first, then prune, then web, and core last, even if those that go late have all
/// that they may have and those that go early have almost nothing.
fn order_of_death(vm: &Vm<'_>) {
    let full = |service: &'static str| (service, mib(service, "LimitDATA") - 4);
    vm.sh_ok(&format!("cat >/root/choose.py <<'END'\n{CHOOSE}END")).unwrap();
    fill(vm, &[full("core"), full("web"), full("prune"), ("ai", 1), ("display", 1)]);
    let dead = vm.sh_ok("python3 /root/choose.py 5").unwrap();
    println!("the kernel chose {:?}", dead.split_whitespace().collect::<Vec<_>>());
    let mut dead: Vec<&str> = dead.split_whitespace().collect();
    dead[..2].sort_unstable();
    assert_eq!(dead, ["ai", "display", "prune", "web", "core"]);
    // It is the units' scores that decide: without them the largest goes first.
    fill(vm, &[full("core"), ("display", 1)]);
    let dead = vm.sh_ok("python3 /root/choose.py 1 even").unwrap();
    assert_eq!(dead.trim(), "core", "without the scores");
    vm.sh_ok("systemctl stop smolotchi-display; systemctl reset-failed 'smolotchi-*'").unwrap();
}

/// Tries devices and addresses as root with all rights, in a service's control group or (`-`) in none of ours: who refuses is the kernel's filter of
/// the group alone.
const TRY: &str = r#"import errno, json, os, socket, sys
if sys.argv[1] != "-":
    open(f"/sys/fs/cgroup/system.slice/smolotchi-{sys.argv[1]}.service/cgroup.procs", "w").write("0")
def came(attempt):
    try:
        attempt()
        return "open"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
def device(path, mode):
    os.close(os.open(path, mode | os.O_NONBLOCK))
def make():
    os.mknod("/root/made", 0o20600, os.makedev(1, 11))
    os.unlink("/root/made")
def send(to):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (to, 9))
def connect(to, port):
    s = socket.socket()
    s.settimeout(3)
    s.connect((to, port))
found = {"make": came(make), "send to itself": came(lambda: send("127.0.0.1")), "send": came(lambda: send("10.9.9.1"))}
found["connect"] = came(lambda: connect("127.0.0.1", 22))
for path in sys.argv[2:]:
    found["read " + path] = came(lambda: device(path, os.O_RDONLY))
    found["write " + path] = came(lambda: device(path, os.O_WRONLY))
print(json.dumps(found))
"#;

const REFUSED: [&str; 8] = ["/dev/kmsg", "/dev/vda", "/dev/mem", "/dev/console", "/dev/ttyS0", "/dev/fuse", "/dev/net/tun", "/dev/hwrng"];
const PANEL: [&str; 2] = ["/dev/spidev0.0", "/dev/gpiochip0"];

/// There is no panel: its devices' names stand for the kernel's log and for FUSE, which no other service may have.
const PLANT: &str = "set -e
rm -f /dev/spidev0.0 /dev/gpiochip0; mknod /dev/spidev0.0 c 1 11; mknod /dev/gpiochip0 c 10 229
ip link add probe0 type dummy; ip address add 10.9.9.1/24 dev probe0; ip link set probe0 up
systemctl is-active -q ssh";

fn tried(vm: &Vm<'_>, who: &str) -> BTreeMap<String, String> {
    let said = vm.sh_ok(&format!("python3 /root/try.py {who} /dev/null /dev/rtc0 {} {}", REFUSED.join(" "), PANEL.join(" "))).unwrap();
    serde_json::from_str(&said).unwrap()
}

/// All that the services below are refused is there to be had, and every service has a group that somebody can be put into.
fn plant(vm: &Vm<'_>) {
    vm.sh_ok(&format!("cat >/root/try.py <<'END'\n{TRY}END\n{PLANT}")).unwrap();
    let bare = tried(vm, "-");
    // Nobody can write to the source of random numbers.
    let shut: Vec<_> = bare.iter().filter(|(what, came)| *came != "open" && *what != "write /dev/hwrng").collect();
    assert!(shut.is_empty(), "what is tried must be there to be had: {shut:?}");
    println!("{} attempts at devices and addresses are open outside", bare.len());
    fill(vm, &SERVICES.map(|service| (service, 1)));
}

fn devices_and_addresses_of(vm: &Vm<'_>, service: &str) {
    for (what, came) in tried(vm, service) {
        let path = what.split(' ').nth(1).unwrap_or_default();
        let expected = match what.as_str() {
            "read /dev/null" | "write /dev/null" | "read /dev/rtc0" => "open",
            // By their numbers the kernel's log and FUSE are the panel's.
            _ if service == "display" && (PANEL.contains(&path) || ["/dev/kmsg", "/dev/fuse"].contains(&path)) => "open",
            "connect" => "no answer",
            _ => "EPERM",
        };
        assert_eq!(came, expected, "{service}: {what}");
    }
}

/// Weights and bounds stand in the control groups as in the units.
fn group_of(vm: &Vm<'_>, service: &str) {
    let files = ["cpu.weight", "io.weight", "memory.max", "memory.high", "memory.swap.max", "pids.max"];
    let said = vm.sh_ok(&format!("cd /sys/fs/cgroup{}; cat {}", group(service), files.join(" "))).unwrap();
    let of = |name: &str| promised(service, name);
    let expected = [
        of("CPUWeight").to_string(),
        format!("default {}", of("IOWeight")),
        of("MemoryMax").to_string(),
        "max".to_owned(),
        of("MemorySwapMax").to_string(),
        of("TasksMax").to_string(),
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{service}: {files:?}");
}

/// Where several want the same processor, the weights count.
fn weights(vm: &Vm<'_>) {
    // All on one, until core has had four seconds of it.
    let script = "set -e
        systemctl stop smolotchi-core smolotchi-web smolotchi-ai smolotchi-prune smolotchi-display
        echo spin >/etc/smolotchi/glutton
        systemctl start smolotchi-core smolotchi-web smolotchi-ai
        cd /sys/fs/cgroup/system.slice
        for s in core web ai; do for p in $(cat smolotchi-$s.service/cgroup.procs); do taskset -ap 0x1 $p >/dev/null; done; done
        used() { sed -n 's/^usage_usec //p' smolotchi-$1.service/cpu.stat; }
        c=$(used core) w=$(used web) a=$(used ai)
        until test $(($(used core) - c)) -gt 4000000; do sleep 0.2; done
        echo $(($(used core) - c)) $(($(used web) - w)) $(($(used ai) - a))
        systemctl stop smolotchi-core smolotchi-web smolotchi-ai";
    let said = vm.sh_ok(script).unwrap();
    let used: Vec<f64> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
    println!("core, web and ai on one processor: {used:?} microseconds");
    // The scheduler is not exact, least of all in an emulated machine.
    for (index, service) in [(1, "web"), (2, "ai")] {
        let off = (used[0] / used[index]) / (promised("core", "CPUWeight") as f64 / promised(service, "CPUWeight") as f64);
        assert!((0.7..1.4).contains(&off), "core against {service} is off by {off}: {used:?}");
    }
}

/// With the agent in its place again, all is as before.
const PUT_BACK: &str = r"set -e
rm -f /etc/smolotchi/glutton /run/systemd/system/smolotchi-*.service.d/9*.conf
ln -f /root/smolotchi /usr/bin/smolotchi
systemctl daemon-reload
systemctl reset-failed 'smolotchi-*'
systemctl start smolotchi-core smolotchi-ai";

/// As Raspberry Pi OS boots: only LimitDATA is left of the bounds of memory, and doctor says so.
fn without_the_memory_controller(image: &Image) {
    let vm = machine(image, "cgroup_disable=memory");
    let said = vm.sh("smolotchi doctor").unwrap().stdout;
    assert!(said.contains("the kernel doesn't bound memory here; only LimitDATA holds"), "{said}");
    for service in SERVICES {
        let bound = mib(service, "LimitDATA");
        // Beyond MemoryMax, which nothing enforces here.
        let came = gorge(&vm, service, "data tasks");
        let data = &came["data"];
        assert!(
            (bound - 4..bound).contains(&data.count) && data.why.starts_with("Cannot allocate"),
            "{service}: {data:?}; LimitDATA {bound}"
        );
        assert_eq!(came["tasks"].count, promised(service, "TasksMax"), "{service}");
    }
    outside(&vm, "data 200");
    // What LimitDATA doesn't count is refused by nothing: doctor is right.
    vm.sh_ok(
        "ln -f /root/glutton /usr/bin/smolotchi; echo shared 40 >/etc/smolotchi/glutton; systemctl start --no-block smolotchi-display",
    )
    .unwrap();
    vm.wait_until(
        "memory that LimitDATA doesn't count is not refused",
        Duration::from_secs(60),
        "grep 'shared 40 not refused' /var/lib/glutton-display",
    )
    .unwrap();
}

fn with_all_controllers(image: &Image) {
    let vm = machine(image, "");
    let said = vm.sh("smolotchi doctor").unwrap().stdout;
    assert!(said.contains("memory and number of processes are bounded by the kernel"), "{said}");
    for service in SERVICES {
        bounds_of(&vm, service);
    }
    for wish in ["data 200", "shared 200", "tasks 500", "files 20000"] {
        outside(&vm, wish);
    }
    // From here on every service is a glutton.
    vm.sh_ok("systemctl stop smolotchi-core smolotchi-web smolotchi-ai && ln -f /root/glutton /usr/bin/smolotchi").unwrap();
    if is_whole() {
        all_leak(&vm);
    }
    order_of_death(&vm);
    plant(&vm);
    for service in SERVICES {
        devices_and_addresses_of(&vm, service);
        group_of(&vm, service);
    }
    weights(&vm);
    vm.sh_ok(PUT_BACK).unwrap();
    vm.wait_until("the agent is healthy again", Duration::from_secs(60), "smolotchi health").unwrap();
}

/// Whether all of it is done, in an emulated machine, too.
fn is_whole() -> bool {
    std::env::var_os("WHOLE").is_some() || smolotchi_lab::vm::is_quick()
}

fn limits_and_devices(release: Release) {
    let image = image(release);
    if !is_whole() {
        println!(
            "a part, where the processor is emulated; all: WHOLE=1 cargo test -p smolotchi-lab --test limits -- --nocapture --test-threads=1"
        );
    }
    // Two machines at once: one processor is enough for either most of the time.
    std::thread::scope(|scope| {
        if is_whole() {
            scope.spawn(|| without_the_memory_controller(&image));
        }
        with_all_controllers(&image);
    });
}

#[test]
fn limits_and_devices_hold_on_debian_12() {
    limits_and_devices(Release::Bookworm);
}

#[test]
fn limits_and_devices_hold_on_debian_13() {
    if !is_whole() {
        println!("not here, where the processor is emulated: WHOLE=1 cargo test -p smolotchi-lab --test limits debian_13 -- --nocapture");
        return;
    }
    limits_and_devices(Release::Trixie);
}
