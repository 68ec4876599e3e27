//! The lab proves itself: nodes boot, obey, lose power, run full and reboot; the invariants go red and green; and nothing
//! of it stays on the host. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail as tests do")]

use smolotchi_lab::{Bind, Disk, Folder, Lab, Node, Options, Release, wait_until};
use smolotchi_operator::{Code, Result};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

fn start(options: Options) -> Lab {
    let begun = Instant::now();
    eprintln!("starting lab {}: {} × {} on {:?}", options.name, options.nodes, options.release, options.disk);
    let lab = Lab::start(options).unwrap_or_else(|fault| panic!("{fault}\nhint: {}", fault.hint));
    eprintln!("lab {} is up after {:.1} s", lab.folder().name(), begun.elapsed().as_secs_f64());
    lab
}

fn violated(node: &Node) -> Vec<String> {
    let found: BTreeSet<&str> = node.invariants().unwrap().iter().map(|violation| violation.invariant).collect();
    found.into_iter().map(str::to_owned).collect()
}

#[test]
fn bookworm_nodes_obey() -> Result<()> {
    let host = tempfile::tempdir().unwrap();
    std::fs::create_dir(host.path().join("repo")).unwrap();
    std::fs::write(host.path().join("repo/a+b~1.txt"), "served").unwrap();
    std::fs::set_permissions(host.path().join("repo/a+b~1.txt"), std::fs::Permissions::from_mode(0o751)).unwrap();
    let bind = Bind { from: host.path().join("repo"), to: "/srv/repo".into() };
    let lab = start(Options { nodes: 2, binds: vec![bind], ..Options::default() });
    let node = lab.node(1);

    eprintln!("a node is a booted Debian of its own");
    assert_eq!(node.run_ok(&["systemctl", "is-system-running", "--wait"])?.trim(), "running");
    assert!(node.sh_ok(". /etc/os-release; echo $VERSION_CODENAME")?.contains("bookworm"));
    for node in lab.nodes() {
        assert_eq!(node.run_ok(&["hostname"])?.trim(), node.name());
        assert_eq!(node.sh_ok("hostname -I")?.trim(), node.address());
    }
    // Fixed for good: apt's phasing depends on it.
    assert_eq!(node.run_ok(&["cat", "/etc/machine-id"])?.trim(), "fd51719c1e974be173bab7120c83d8f1");
    assert_ne!(node.run_ok(&["cat", "/etc/machine-id"])?, lab.node(2).run_ok(&["cat", "/etc/machine-id"])?);
    assert_eq!(violated(node), Vec::<String>::new());

    eprintln!("commands: exit codes, streams, a clean environment, deadlines");
    let output = node.sh("echo out; echo err >&2; exit 7")?;
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (7, "out\n", "err\n"));
    assert_eq!(node.sh("kill -9 $$")?.status, 137);
    assert_eq!(node.run_ok(&["false"]).unwrap_err().code, Code::LabFailed);
    assert!(!node.run_ok(&["env"])?.contains("CARGO"), "the host's environment leaks in");
    assert!(node.run_ok(&["cat", "/proc/self/cgroup"])?.contains("0::/init.scope\n"));
    assert_eq!(node.run(&["systemctl", "status", "--no-pager"])?.stderr, "");
    let late = node.run_within(&["sh", "-c", "echo begun; sleep 4321"], Duration::from_secs(1)).unwrap_err();
    assert_eq!(late.details["stdout"], "begun");
    assert!(!node.run(&["pgrep", "-f", "sleep 4321"])?.ok(), "a late command lives on");
    // A daemon that keeps the streams open doesn't hold the command up.
    assert_eq!(node.sh("sleep 100 & echo done")?.stdout, "done\n");

    eprintln!("files: write, read, push, pull, bind, serve");
    node.write("/root/deep/er/file", b"\x00\xffbytes")?;
    assert_eq!(node.read("/root/deep/er/file")?, b"\x00\xffbytes");
    assert_eq!(node.read("/root/no").unwrap_err().code, Code::LabFailed);
    node.push(&host.path().join("repo/a+b~1.txt"), "/root/renamed")?;
    assert_eq!(node.sh_ok("stat -c '%a %U' /root/renamed; cat /root/renamed")?, "751 root\nserved");
    node.push(&host.path().join("repo"), "/root/copy of it")?;
    node.pull("/root/copy of it", &host.path().join("back"))?;
    assert_eq!(std::fs::read(host.path().join("back/a+b~1.txt")).unwrap(), b"served");
    node.pull("/root/renamed", &host.path().join("one"))?;
    assert_eq!(std::fs::read(host.path().join("one")).unwrap(), b"served");
    assert_eq!(node.push(Path::new("/no/such"), "/root/x").unwrap_err().code, Code::Io);
    assert_eq!(node.read("/srv/repo/a+b~1.txt")?, b"served");
    assert!(!node.run(&["touch", "/srv/repo/x"])?.ok(), "the bind is writable");
    let url = lab.serve(&host.path().join("repo"), 0)?;
    assert_eq!(node.run_ok(&["curl", "-sSf", &format!("{url}/a%2bb~1.txt")])?, "served");
    assert_eq!(node.run(&["curl", "-sf", "--path-as-is", &format!("{url}/../one")])?.status, 22);

    eprintln!("ssh and the limits that systemd sets by BPF");
    let config = lab.folder().ssh_config().display().to_string();
    assert_eq!(lab.exec_in_network(&["ssh", "-F", &config, "node2", "hostname"], SOON)?.stdout, "node2\n");
    let reach = |property: &str| {
        node.run(&["systemd-run", "-q", "--wait", "-p", property, "curl", "-sf", "-m", "5", &format!("{url}/a%2bb~1.txt")])
    };
    assert!(reach("IPAddressDeny=")?.ok());
    assert!(!reach("IPAddressDeny=any")?.ok(), "IPAddressDeny= does nothing here");

    eprintln!("a snapshot sees what came, went and changed, and an overlay says what it can't");
    let before = node.snapshot_fs()?;
    assert_eq!(before.difference(&node.snapshot_fs()?), Vec::<String>::new(), "a snapshot changes by itself");
    node.sh_ok("touch /etc/new; rm /etc/issue.net; echo x >>/etc/issue; useradd -r someone")?;
    let changes = before.difference(&node.snapshot_fs()?);
    for wanted in ["+ file /etc/new: ", "- file /etc/issue.net: ", "~ file /etc/issue: ", "+ user someone: ", "+ group someone: "] {
        assert!(changes.iter().any(|line| line.starts_with(wanted)), "{wanted} is not in {changes:#?}");
    }
    assert_eq!(changes.len(), 5, "{changes:#?}");
    for refused in [node.power_cut().unwrap_err(), node.fill_disk(0).unwrap_err()] {
        assert!(refused.hint.contains("--disk image") || refused.message.contains("overlay"), "{refused}");
    }

    eprintln!("a reboot comes back, a power-off stays off until it is started");
    node.reboot()?;
    assert_eq!(node.status()?.boots, 2);
    assert_eq!(node.sh_ok("hostname -I; cat /root/renamed")?, format!("{} \nserved", node.address()));
    assert_eq!(node.sh_ok("journalctl --list-boots --no-pager | grep -c '^ *-*[0-9]'")?.trim(), "2");
    node.run(&["systemctl", "poweroff"])?;
    node.wait_off(SOON)?;
    assert!(node.run(&["true"]).unwrap_err().message.contains("off"));
    node.boot()?;
    assert_eq!(violated(node), Vec::<String>::new());
    assert!(node.boot().unwrap_err().message.contains("already"));
    assert_eq!(lab.find(3).unwrap_err().code, Code::Usage);
    Ok(())
}

#[test]
fn trixie_loses_power_and_runs_full() -> Result<()> {
    let lab = start(Options { release: Release::Trixie, disk: Disk::Image, ..Options::default() });
    let node = lab.node(1);
    assert!(node.sh_ok(". /etc/os-release; echo $VERSION_CODENAME")?.contains("trixie"));
    assert_eq!(node.run_ok(&["systemctl", "is-system-running", "--wait"])?.trim(), "running");

    eprintln!("a power cut keeps what was synced and nothing else, and ends commands in mid-run");
    node.sh_ok("echo old >/root/replaced; echo kept >/root/synced; sync")?;
    node.sh_ok("echo lost >/root/unsynced; echo new >/root/replaced.new; mv /root/replaced.new /root/replaced")?;
    let running = {
        let node = node.clone();
        std::thread::spawn(move || node.sh("echo begun >/run/begun; sleep 600"))
    };
    node.wait_until("the command has begun", SOON, "test -e /run/begun")?;
    node.power_cut()?;
    assert_eq!(running.join().unwrap()?.status, 137);
    assert!(node.run(&["true"]).is_err());
    node.boot()?;
    assert_eq!(node.sh_ok("cat /root/synced /root/replaced")?, "kept\nold\n");
    assert!(!node.exists("/root/unsynced")?);
    assert_eq!(violated(node), Vec::<String>::new());

    eprintln!("a full disk is full, also for root, and free again");
    node.fill_disk(0)?;
    assert!(!node.sh("dd if=/dev/zero of=/root/big bs=4096 count=1 conv=fsync")?.ok());
    node.free_disk()?;
    node.fill_disk(8 << 20)?;
    assert!(node.sh("dd if=/dev/zero of=/root/big bs=1M count=4 conv=fsync")?.ok());
    assert!(!node.sh("dd if=/dev/zero of=/root/big bs=1M count=12 conv=fsync")?.ok());
    node.free_disk()?;
    node.sh_ok("rm /root/big")?;

    eprintln!("every invariant goes red when it is broken, and green when it is mended");
    for (invariant, break_it, mend_it) in BREAKAGES {
        node.sh_ok(break_it)?;
        assert_eq!(violated(node), [invariant.to_owned()], "after: {break_it}");
        node.sh_ok(mend_it)?;
        assert_eq!(violated(node), Vec::<String>::new(), "after: {mend_it}");
    }
    // A line with a code is fine; one without is not, and can't be taken back.
    node.sh_ok("echo '<3>[store.busy] could not open' | systemd-cat -t smolotchi-core; journalctl --sync")?;
    assert_eq!(violated(node), Vec::<String>::new());
    node.sh_ok("echo '<3>could not open' | systemd-cat -t smolotchi-core; journalctl --sync")?;
    assert_eq!(violated(node), ["every error in the journal has a code"]);
    Ok(())
}

/// Which invariant, what breaks it, what mends it.
const BREAKAGES: &[(&str, &str, &str)] = &[
    ("no unit has failed", "systemd-run -q --unit=red --wait false || true", "systemctl reset-failed red"),
    (
        "dpkg has no half-done package",
        "mkdir -p /root/deb/DEBIAN; cd /root/deb
         printf 'Package: red\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@x.invalid>\\nDescription: red\\n' >DEBIAN/control
         printf '#!/bin/sh\\nexit 1\\n' >DEBIAN/postinst; chmod 755 DEBIAN/postinst; dpkg-deb -b . /root/red.deb
         ! dpkg -i /root/red.deb",
        "dpkg --purge red",
    ),
    (
        "apt works",
        "cd /root/deb; sed -i '/^Depends/d; $a Depends: no-such-package' DEBIAN/control; rm DEBIAN/postinst; dpkg-deb -b . /root/red.deb
         dpkg -i --force-depends /root/red.deb",
        "dpkg --purge red",
    ),
    ("no package file is half unpacked", "touch /usr/bin/x.dpkg-new", "rm /usr/bin/x.dpkg-new"),
    ("nothing stays staged or open", "mkdir -p /var/lib/smolotchi-install/slots/.new-1", "rm -r /var/lib/smolotchi-install/slots/.new-1"),
    ("nothing stays staged or open", "ln -s changes/1 /var/lib/smolotchi-install/open", "rm -r /var/lib/smolotchi-install"),
    (
        "the database is whole",
        "useradd -r smolotchi; install -d -o smolotchi /var/lib/smolotchi; cd /var/lib/smolotchi
         runuser -u smolotchi -- sqlite3 smolotchi.db 'create table t(x); create index i on t(x); insert into t values (1),(2),(3)'
         dd if=/dev/urandom of=smolotchi.db bs=1 seek=8000 count=190 conv=notrunc",
        "rm -r /var/lib/smolotchi; userdel smolotchi",
    ),
];

/// What of a lab can be seen on this host. Control groups are told apart: empty ones outlive a killed supervisor.
fn seen(folder: &Folder, namespaces: &BTreeSet<PathBuf>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let path = folder.path().display().to_string();
    let group = format!("/smolotchi-lab-{}", folder.name());
    for process in std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).filter(|path| path.join("cgroup").exists()) {
        let text = |name: &str| String::from_utf8_lossy(&std::fs::read(process.join(name)).unwrap_or_default()).replace('\0', " ");
        let inside = ["net", "mnt", "pid"].iter().filter_map(|kind| std::fs::read_link(process.join("ns").join(kind)).ok());
        let named = text("cmdline").split(' ').any(|word| word == folder.name() || word.contains(&path));
        if text("cgroup").contains(&group) || named || inside.into_iter().any(|ns| namespaces.contains(&ns)) {
            seen.insert(format!("process {}", process.display()));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    seen.extend(mounts.lines().filter(|line| line.contains(&path)).map(|line| format!("mount {line}")));
    for device in std::fs::read_dir("/sys/block").unwrap().flatten() {
        let file = std::fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if file.starts_with(&path) {
            seen.insert(format!("loop {file}"));
        }
    }
    seen
}

/// The namespaces that the lab's supervisor and its nodes are in, and this process isn't.
fn namespaces(lab: &Lab) -> BTreeSet<PathBuf> {
    let of = |pid: &str| -> BTreeSet<PathBuf> {
        ["net", "mnt", "pid"].iter().filter_map(|kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()).collect()
    };
    &of(&lab.supervisor().to_string()) - &of("self")
}

fn interfaces() -> BTreeSet<String> {
    std::fs::read_dir("/sys/class/net").unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn mount_count() -> usize {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count()
}

fn gone(folder: &Folder, namespaces: &BTreeSet<PathBuf>) -> Result<()> {
    let mut last = BTreeSet::new();
    wait_until("nothing of the lab is left", SOON, || {
        last = seen(folder, namespaces);
        Ok(last.is_empty())
    })
    .map_err(|fault| fault.fact("left", format!("{last:#?}")))
}

#[test]
fn nothing_stays() -> Result<()> {
    let (links, mounts) = (interfaces(), mount_count());

    eprintln!("the supervisor of a running lab is killed");
    let lab = start(Options { nodes: 2, disk: Disk::Image, ..Options::default() });
    let (folder, spaces) = (lab.folder().clone(), namespaces(&lab));
    assert_eq!(spaces.len(), 3);
    let before = seen(&folder, &spaces);
    // Otherwise the look-out is blind.
    assert!(before.iter().filter(|line| line.starts_with("process")).count() > 10, "{before:#?}");
    assert_eq!(before.iter().filter(|line| line.starts_with("loop")).count(), 2, "{before:#?}");
    assert!(!before.iter().any(|line| line.starts_with("mount")), "the lab mounts on the host: {before:#?}");
    assert_eq!((interfaces(), mount_count()), (links.clone(), mounts), "the lab changes the host");
    // A second lab of this name is refused, and does the first no harm.
    let refused = Lab::start(Options { name: folder.name().to_owned(), ..Options::default() }).unwrap_err();
    assert!(refused.message.contains("running already"), "{refused}");
    assert!(lab.node(2).run(&["true"])?.ok());
    assert!(Command::new("kill").args(["-KILL", &lab.supervisor().to_string()]).status().unwrap().success());
    gone(&folder, &spaces)?;
    assert!(lab.node(1).run(&["true"]).is_err());
    drop(lab);
    assert!(!folder.path().exists());

    eprintln!("the owner is killed in mid-boot");
    let name = format!("{}-owner", folder.name());
    let folder = Folder::of(&name)?;
    let mut owner = Command::new(env!("CARGO_BIN_EXE_smolotchi-lab"))
        .args(["--name", &name, "up", "3", "--foreground"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = wait_until("the first node is being started", SOON, || Ok(folder.console(1).exists()));
    owner.kill().unwrap();
    owner.wait().unwrap();
    begun?;
    gone(&folder, &BTreeSet::new())?;

    eprintln!("the command's labs: up, status, run, down");
    let command = |words: &[&str]| Command::new(env!("CARGO_BIN_EXE_smolotchi-lab")).args(["--name", &name]).args(words).output().unwrap();
    let up = command(&["up", "1"]);
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let spaces = namespaces(&Lab::open(&name)?);
    let status = String::from_utf8(command(&["status", "--format", "json"]).stdout).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&status).unwrap()["nodes"][0]["state"], "running");
    assert_eq!(command(&["run", "1", "--", "sh", "-c", "exit 9"]).status.code(), Some(9));
    assert_eq!(command(&["ssh", "1", "exit 8"]).status.code(), Some(8));
    assert_eq!(command(&["check", "1"]).status.code(), Some(0));
    assert_eq!(command(&["cut", "1"]).status.code(), Some(10));
    assert!(command(&["down"]).status.success());
    assert!(seen(&folder, &spaces).is_empty());
    let left = Command::new("find").args(["/sys/fs/cgroup", "-name", &format!("smolotchi-lab-{name}")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
    assert!(!folder.path().exists());
    assert_eq!(command(&["status"]).status.code(), Some(10));
    assert_eq!((interfaces(), mount_count()), (links, mounts));
    Ok(())
}
