//! The healer on real machines: what a power cut leaves of dpkg, of the installer's own files and of the database is mended
//! at the next boot before anything of the agent starts, without network; and where nothing is wrong, nothing is written.
//! Needs root and `make dist-demo`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use smolotchi_lab::story::CHANGE_DEADLINE;
use smolotchi_lab::{Disk, Lab, Node, Release, dist};

const HEALER: &str = "smolotchi-install-heal.service";
const EXECUTOR: &str = "smolotchi-install-change.service";
const STATE: &str = "/var/lib/smolotchi-install";
/// What postinst asks of deb-systemd-invoke once the database is migrated.
const MIGRATED: &str = "start smolotchi-core.socket";

fn lab(release: Release, disk: Disk) -> Lab {
    dist::lab(release, disk, Vec::new()).unwrap()
}

/// 0.1.0 with its installer, healthy, with a quick gate.
fn install(node: &Node) {
    node.sh_ok(&format!("dpkg -i {}", dist::debs("0.1.0"))).unwrap();
    node.set_gate(3).unwrap();
    node.wait_healthy().unwrap();
}

fn heal(node: &Node) -> Value {
    let output = node.run(&["smolotchi-install", "heal", "--format", "json"]).unwrap();
    assert_eq!(output.status, 0, "{output:?}");
    serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap()
}

fn assert_invariants(node: &Node) {
    let violations = node.invariants().unwrap();
    assert!(violations.is_empty(), "{violations:#?}");
}

/// Makes a program that dpkg or a maintainer script calls stand still when it is called the next time with `argument`, so
/// that the power can go at a known place; a call of dpkg-deb counts only if it is dpkg's own. A boot takes the trap away.
fn set_trap(node: &Node, program: &str, argument: &str) {
    let name = program.rsplit('/').next().unwrap();
    let script = format!(
        "[ -e {program}.real ] || cp -p {program} {program}.real
        cat >{program}.trap <<'END'
#!/bin/sh
if [ -e /run/trap-{name} ] && {{ [ {name} != dpkg-deb ] || [ \"$(cat /proc/$PPID/comm)\" = dpkg ]; }} && case \"$*\" in *\"$(cat /run/trap-{name})\"*) true;; *) false;; esac; then
    [ \"$1\" != --fsys-tarfile ] || {program}.real \"$@\" | head -c 3000000
    touch /run/standing
    while [ -e /run/trap-{name} ]; do sleep 0.05; done
    [ \"$1\" != --fsys-tarfile ] || exit 1
fi
exec {program}.real \"$@\"
END
        chmod 755 {program}.trap; mv {program}.trap {program}; sync; rm -f /run/standing; echo '{argument}' >/run/trap-{name}"
    );
    node.sh_ok(&script).unwrap();
}

fn wait_trapped(node: &Node) {
    node.wait_until("the operation to stand where the power goes", CHANGE_DEADLINE, "test -e /run/standing").unwrap();
}

/// Takes the power, gives it back, and waits until the change is closed and the agent is healthy.
fn cut_and_boot(node: &Node) {
    wait_trapped(node);
    node.power_cut().unwrap();
    node.boot().unwrap();
}

/// The healer ran, and nothing of the agent before it was done.
fn assert_healed_first(node: &Node) {
    let log = node.sh_ok(&format!("journalctl -b -u {HEALER} --no-pager -o cat")).unwrap();
    assert!(log.contains("mended: dpkg's packages are whole again"), "{log}");
    let since = |unit: &str, property: &str| -> u64 {
        node.sh_ok(&format!("systemctl show -P {property} {unit}")).unwrap().trim().parse().unwrap()
    };
    let healed = since(HEALER, "ExecMainExitTimestampMonotonic");
    for unit in ["smolotchi-core.socket", "smolotchi-core.service", "smolotchi-web.socket"] {
        // Of this boot, the first: a later restart could hide an earlier start.
        let started = node.sh_ok(&format!("systemctl show -P InactiveExitTimestampMonotonic {unit}")).unwrap();
        assert!(
            started.trim().parse::<u64>().unwrap() > healed,
            "{unit} was started before the healer was done: {started} {healed}\n{log}"
        );
    }
}

fn a_cut_inside_dpkg(start: &str, unpacking: &str) {
    let lab = lab(Release::Bookworm, Disk::Image);
    let node = lab.node(1);
    install(node);
    node.append_events("kept", 200).unwrap();
    if start.contains("apt") {
        let url = lab.serve(&dist::folder().unwrap().join("repo"), 8000).unwrap();
        node.add_apt_source(&dist::keyring().unwrap(), &url, "stable").unwrap();
    }
    for (program, argument, expected) in [
        // In the middle of unpacking the agent.
        ("/usr/bin/dpkg-deb", "--fsys-tarfile", unpacking),
        // In its postinst, the migration done: forward, always.
        ("/usr/bin/deb-systemd-invoke", MIGRATED, "0.2.0"),
    ] {
        println!("{start}: the power goes in {program}");
        set_trap(node, program, argument);
        node.sh_ok(&format!("({start}) >/var/log/start.log 2>&1 &")).unwrap();
        cut_and_boot(node);
        assert_healed_first(node);
        let status = node.wait_idle().unwrap();
        assert_eq!(node.installed().unwrap(), expected, "{status}");
        node.wait_healthy().unwrap();
        assert_eq!(node.count_events("kept").unwrap(), (200, 200));
        assert_invariants(node);
        if expected == "0.2.0" {
            assert_eq!(status["last_change"]["verdict"], "committed", "{status}");
            node.run_ok(&["smolotchi-install", "rollback", "--to", "0.1.0"]).unwrap();
            node.run_ok(&["smolotchi-install", "unblock", "0.2.0"]).unwrap();
        }
    }
}

#[test]
fn a_cut_inside_the_installers_dpkg_ends_forward() {
    a_cut_inside_dpkg("smolotchi-install upgrade --from /srv/demo/repo --channel stable", "0.2.0");
}

#[test]
fn a_cut_inside_apts_dpkg_ends_forward() {
    a_cut_inside_dpkg("apt-get install -y smolotchi", "0.2.0");
}

/// The guard finds the file by the command line of the dpkg above it, so this goes forward too.
#[test]
fn a_cut_inside_plain_dpkg_ends_forward() {
    a_cut_inside_dpkg(&format!("dpkg -i {}", dist::agent_deb("0.2.0")), "0.2.0");
}

/// The executor is killed while its dpkg works. That goes on, without the /tmp that went with the unit; the next executor waits for it.
fn a_dpkg_outlives_its_executor(release: Release) {
    let lab = lab(release, Disk::Overlay);
    let node = lab.node(1);
    install(node);
    set_trap(node, "/usr/bin/deb-systemd-helper", "smolotchi-web.socket");
    node.sh_ok(&format!("smolotchi-install upgrade --from {} >/var/log/start.log 2>&1 &", dist::TREE)).unwrap();
    wait_trapped(node);
    let dpkg = node.sh_ok("pgrep -x dpkg").unwrap();
    node.run_ok(&["systemctl", "kill", "--signal=KILL", "--kill-whom=main", EXECUTOR]).unwrap();
    let again = format!("[ $(systemctl show -P NRestarts {EXECUTOR}) = 1 ] && systemctl is-active -q {EXECUTOR}");
    node.wait_until("the next executor is there", CHANGE_DEADLINE, &again).unwrap();
    assert_eq!(node.sh_ok("pgrep -x dpkg").unwrap(), dpkg, "{release}: it was not left alone");
    // What the test is about: nothing can be made in that /tmp any more.
    assert_ne!(node.sh(&format!("touch /proc/{}/root/tmp/x", dpkg.trim())).unwrap().status, 0, "{release}: its /tmp is still there");
    node.sh_ok("rm /run/trap-deb-systemd-helper").unwrap();
    node.wait_idle().unwrap();
    assert_eq!(node.installed().unwrap(), "0.2.0", "{release}");
    assert_eq!(node.last_change().unwrap()["verdict"], "committed", "{release}");
    node.wait_healthy().unwrap();
    assert_invariants(node);
}

#[test]
fn a_dpkg_outlives_its_executor_on_debian_12() {
    a_dpkg_outlives_its_executor(Release::Bookworm);
}

#[test]
fn a_dpkg_outlives_its_executor_on_debian_13() {
    a_dpkg_outlives_its_executor(Release::Trixie);
}

/// Without an open change: the first installation, a removal and a purge.
#[test]
fn what_was_begun_without_a_change_is_finished() {
    let lab = lab(Release::Trixie, Disk::Image);
    let node = lab.node(1);
    let url = lab.serve(&dist::folder().unwrap().join("repo"), 8000).unwrap();
    node.add_apt_source(&dist::keyring().unwrap(), &url, "oldstable").unwrap();

    // The installer is there; the agent is being unpacked for the first time, and apt has its file.
    node.run_ok(&["apt-get", "install", "-y", "smolotchi-install"]).unwrap();
    set_trap(node, "/usr/bin/dpkg-deb", "--fsys-tarfile /var/cache/apt/archives/smolotchi_0.1.0");
    node.sh_ok("apt-get install -y smolotchi >/var/log/start.log 2>&1 &").unwrap();
    cut_and_boot(node);
    assert_healed_first(node);
    assert_eq!(node.installed().unwrap(), "0.1.0");
    node.wait_healthy().unwrap();
    assert_invariants(node);

    // A purge that has got as far as postrm, and its dpkg says so.
    set_trap(node, "/usr/bin/deb-systemd-helper", "purge");
    node.sh_ok("apt-get purge -y smolotchi >/var/log/start.log 2>&1 &").unwrap();
    cut_and_boot(node);
    let known = node.sh("dpkg-query -W -f '${db:Status-Abbrev}' smolotchi 2>/dev/null").unwrap();
    assert!(matches!(known.stdout.trim(), "" | "un" | "pn"), "{known:?}");
    assert!(!node.exists("/var/lib/smolotchi").unwrap() && !node.exists("/usr/bin/smolotchi").unwrap());
    assert_invariants(node);

    // The first installation by plain dpkg: its file is gone with the stick, so what was before comes back, which is nothing.
    node.sh_ok(&format!("cp {} /run/s.deb", dist::agent_deb("0.1.0"))).unwrap();
    node.sh_ok("apt-get clean").unwrap();
    set_trap(node, "/usr/bin/dpkg-deb", "--fsys-tarfile /run/s.deb");
    node.sh_ok("dpkg -i /run/s.deb >/var/log/start.log 2>&1 &").unwrap();
    cut_and_boot(node);
    assert!(!node.exists("/usr/bin/smolotchi").unwrap());
    assert_invariants(node);
    node.sh_ok(&format!("dpkg -i {}", dist::agent_deb("0.1.0"))).unwrap();
    node.wait_healthy().unwrap();
}

/// Plain dpkg, cut before the guard could keep anything, and the stick with the new package is gone: what runs is rebuilt
/// from its own files.
#[test]
fn before_a_change_is_open_the_old_version_is_rebuilt() {
    let lab = lab(Release::Bookworm, Disk::Image);
    let node = lab.node(1);
    install(node);
    node.append_events("kept", 30).unwrap();
    for (argument, left) in [("guard prerm", "iF"), ("guard preinst", "iH")] {
        node.sh_ok(&format!("cp {} /run/s.deb", dist::agent_deb("0.2.0"))).unwrap();
        set_trap(node, "/usr/bin/smolotchi-install", argument);
        node.sh_ok("dpkg -i /run/s.deb >/var/log/start.log 2>&1 &").unwrap();
        wait_trapped(node);
        let state = node.sh_ok("dpkg-query -W -f '${db:Status-Abbrev}' smolotchi").unwrap();
        assert_eq!(state.trim().get(..2), Some(left), "{state}");
        node.power_cut().unwrap();
        node.boot().unwrap();
        assert_healed_first(node);
        assert_eq!(node.installed().unwrap(), "0.1.0");
        node.wait_healthy().unwrap();
        assert_eq!(node.count_events("kept").unwrap(), (30, 30));
        assert_eq!(heal(node)["changed"], false);
        assert_invariants(node);
    }
}

#[test]
fn nothing_wrong_means_nothing_written() {
    for release in [Release::Bookworm, Release::Trixie] {
        let lab = lab(release, Disk::default());
        let node = lab.node(1);
        install(node);
        node.run_ok(&["smolotchi-install", "upgrade", "--from", dist::TREE]).unwrap();
        // Beginning, change and names of everything that it could touch.
        let touched = "find /var/lib/smolotchi-install /var/lib/dpkg /etc/apt /usr/bin /usr/lib/smolotchi /usr/lib/systemd/system -printf '%p %i %T@ %C@\\n' | sort | sha256sum";
        let before = node.sh_ok(touched).unwrap();
        let said = heal(node);
        assert_eq!((&said["changed"], &said["mended"]), (&Value::Bool(false), &Value::Array(Vec::new())), "{said}");
        let runs = 20;
        let began = std::time::Instant::now();
        node.sh_ok(&format!("for n in $(seq {runs}); do smolotchi-install heal --at-boot || exit 1; done")).unwrap();
        println!("{release:?}: {:?} for each run of the healer, with its start by a shell", began.elapsed() / runs);
        assert_eq!(node.sh_ok(touched).unwrap(), before, "the healer wrote although nothing was wrong");
        // It starts no program: with none to be found it has nothing to complain of.
        node.run_ok(&["env", "PATH=/nowhere", "/usr/bin/smolotchi-install", "heal", "--at-boot"]).unwrap();

        node.reboot().unwrap();
        let time = node
            .sh_ok(&format!(
                "systemctl show -P Result {HEALER}; systemctl show -P ExecMainStartTimestampMonotonic {HEALER}; systemctl show -P ExecMainExitTimestampMonotonic {HEALER}"
            ))
            .unwrap();
        let lines: Vec<&str> = time.lines().collect();
        let micros = lines[2].parse::<u64>().unwrap() - lines[1].parse::<u64>().unwrap();
        println!("{release:?}: {micros} µs at boot, from fork to exit");
        assert_eq!(lines[0], "success");
        assert!(node.sh_ok(&format!("journalctl -b -o cat --no-pager _SYSTEMD_UNIT={HEALER}")).unwrap().trim().is_empty());
        node.wait_healthy().unwrap();
        assert_invariants(node);
    }
}

#[test]
fn torn_state_files_and_leftovers_are_mended() {
    let lab = lab(Release::Bookworm, Disk::default());
    let node = lab.node(1);
    install(node);
    node.run_ok(&["smolotchi-install", "upgrade", "--from", dist::TREE]).unwrap();
    // Blocks 0.2.0, so that there is a pin.
    node.run_ok(&["smolotchi-install", "rollback"]).unwrap();
    let pin = "/etc/apt/preferences.d/smolotchi-blocked";
    let whole_pin = node.read(pin).unwrap();
    let report = node.sh_ok(&format!("ls -d {STATE}/changes/0001-*")).unwrap().trim().to_owned() + "/report.json";
    let slot = format!("{STATE}/slots/0.2.0/slot.toml");
    node.sh_ok("sync").unwrap();

    for file in [pin, &report, &slot, &format!("{STATE}/status.json")] {
        for damage in ["truncate -s 0", "size=$(stat -c %s $1); head -c $size /dev/zero >$1; true", "truncate -s $(($(stat -c %s $1) / 2))"]
        {
            let script = if damage.contains("true") { damage.to_owned() } else { format!("{damage} $1") };
            node.run_ok(&["sh", "-c", &script, "sh", file]).unwrap();
            let said = heal(node);
            assert_eq!(said["changed"], true, "{file}, {damage}: {said}");
            assert_eq!(heal(node)["changed"], false, "{file}, {damage}: once is enough");
            node.run_ok(&["apt-get", "check"]).unwrap();
        }
    }
    assert_eq!(node.read(pin).unwrap(), whole_pin, "the pin is written anew from memory");
    let first: Value = node.json(&["smolotchi-install", "history", "0001-upgrade-0.2.0", "--format", "json"]).unwrap();
    assert_eq!(first["verdict"], "committed", "{first}");
    node.run_ok(&["smolotchi-install", "unblock", "0.2.0"]).unwrap();
    // The slot whose record was torn three times can still be gone to.
    node.run_ok(&["smolotchi-install", "rollback", "--to", "0.2.0"]).unwrap();
    assert_eq!(node.installed().unwrap(), "0.2.0");

    // The memory itself: set aside, and apt goes on.
    node.sh_ok(&format!("truncate -s 0 {STATE}/state.toml")).unwrap();
    assert_eq!(heal(node)["changed"], true);
    assert_eq!(heal(node)["changed"], false);
    node.run_ok(&["apt-get", "check"]).unwrap();

    // An open change whose plan is torn is set aside, and said; one whose journal is gone begins anew.
    let open = format!(
        "mkdir {STATE}/changes/0009-upgrade-9 && printf '{{\"kind\":' >{STATE}/changes/0009-upgrade-9/plan.json && ln -s changes/0009-upgrade-9 {STATE}/open"
    );
    node.sh_ok(&open).unwrap();
    assert_eq!(heal(node)["changed"], true);
    let status = node.change_status().unwrap();
    assert_eq!((&status["set_aside"], &status["open_change"]), (&Value::from("0009-upgrade-9"), &Value::Null), "{status}");
    assert!(node.run_ok(&["smolotchi-install", "status"]).unwrap().contains("set aside"));

    // Leftovers: a draft, a half-written file, a slot between its two renames, once with the new one whole and once without.
    let slots = format!("{STATE}/slots");
    for (what, made, kept) in [
        ("a draft", format!("mkdir -p {STATE}/changes/.new-77/debs"), "true".to_owned()),
        ("a rehearsal's copy", format!("mkdir -p {STATE}/rehearsal/data"), format!("test ! -e {STATE}/rehearsal")),
        ("half a file", format!("echo x >{STATE}/.state.toml.staging"), "true".to_owned()),
        ("a pin's half", "echo x >/etc/apt/preferences.d/.smolotchi-blocked.staging".to_owned(), "true".to_owned()),
        (
            "a slot, new whole",
            format!("cp -r {slots}/0.1.0 {slots}/.0.1.0.old; mv {slots}/0.1.0 {slots}/.0.1.0.staging"),
            format!("test -f {slots}/0.1.0/slot.toml"),
        ),
        (
            "a slot, new torn",
            format!("mv {slots}/0.1.0 {slots}/.0.1.0.old; mkdir {slots}/.0.1.0.staging"),
            format!("test -f {slots}/0.1.0/slot.toml"),
        ),
        ("a slot, both", format!("mkdir {slots}/.0.1.0.staging {slots}/.0.1.0.old"), format!("test -f {slots}/0.1.0/slot.toml")),
    ] {
        node.sh_ok(&made).unwrap();
        assert_eq!(heal(node)["changed"], true, "{what}");
        assert_eq!(heal(node)["changed"], false, "{what}");
        node.sh_ok(&kept).unwrap();
    }
    assert_invariants_but_asides(node);
}

/// What is set aside on purpose is said with a code; nothing else may be wrong.
fn assert_invariants_but_asides(node: &Node) {
    assert_invariants(node);
    node.wait_healthy().unwrap();
}

#[test]
fn a_whole_package_over_another_schema_is_mended() {
    let lab = lab(Release::Bookworm, Disk::default());
    let node = lab.node(1);
    install(node);
    node.append_events("kept", 50).unwrap();
    let newer = dist::schema("0.2.0").unwrap();
    node.run_ok(&["smolotchi-install", "upgrade", "--from", dist::TREE]).unwrap();
    assert_eq!(node.schema().unwrap(), newer);
    // The older release's own binary takes the database down, while dpkg has the newer one whole.
    node.sh_ok(&format!(
        "dpkg-deb --fsys-tarfile {} | tar -xOf - ./usr/bin/smolotchi >/usr/local/bin/older && chmod 755 /usr/local/bin/older
        systemctl stop smolotchi-core.socket smolotchi-core.service && runuser -u smolotchi -- older maint migrate",
        dist::agent_deb("0.1.0")
    ))
    .unwrap();
    let said = heal(node);
    assert_eq!(said["mended"][0], format!("the database went from schema 1 to {newer}"), "{said}");
    node.wait_healthy().unwrap();
    assert_eq!(node.schema().unwrap(), newer);
    assert_eq!(node.count_events("kept").unwrap(), (50, 50));
    assert_eq!(heal(node)["changed"], false);
    node.sh_ok("rm /usr/local/bin/older").unwrap();
    assert_invariants(node);
}

/// dpkg with force-unsafe-io leaves such files, some with status `ii`.
#[test]
fn a_torn_installed_file_is_unpacked_again_before_the_commit() {
    let lab = lab(Release::Bookworm, Disk::default());
    let node = lab.node(1);
    install(node);
    set_trap(node, "/usr/bin/deb-systemd-helper", "smolotchi-");
    node.sh_ok("smolotchi-install upgrade --from /srv/demo/repo >/var/log/start.log 2>&1 &").unwrap();
    wait_trapped(node);
    node.sh_ok("f=/usr/lib/smolotchi/release.toml; head -c $(stat -c %s $f) /dev/zero >$f.zero; mv $f.zero $f; rm /run/trap-*").unwrap();
    let status = node.wait_idle().unwrap();
    assert_eq!((node.installed().unwrap().as_str(), &status["last_change"]["verdict"]), ("0.2.0", &Value::from("committed")), "{status}");
    assert!(String::from_utf8(node.read("/usr/lib/smolotchi/release.toml").unwrap()).unwrap().contains("version = \"0.2.0\""));
    let log = node.sh_ok("journalctl -u smolotchi-install-change.service -o cat --no-pager").unwrap();
    assert!(log.contains("installed files are torn and unpacked again: /usr/lib/smolotchi/release.toml"), "{log}");
    assert_invariants(node);
}

/// The undo is spoilt while the bad version is watched: only the snapshot is left, and what it lacks is exported.
#[test]
fn the_last_resort_is_the_snapshot() {
    let lab = lab(Release::Bookworm, Disk::default());
    let node = lab.node(1);
    install(node);
    node.append_events("before", 120).unwrap();
    set_trap(node, "/usr/bin/deb-systemd-invoke", MIGRATED);
    let upgrade = "smolotchi-install upgrade --from /srv/demo/repo --channel edge --format json >/var/log/start.log 2>&1; echo $? >/var/log/start.exit";
    node.sh_ok(&format!("({upgrade}) &")).unwrap();
    wait_trapped(node);
    // Migrated: seven rows more, and an undo that can't work.
    let sql = "UPDATE schema_version SET down_sql = 'SELECT nonsense';
        INSERT INTO events_00 (id, at_ms, topic, body)
            SELECT (SELECT max(id) FROM events_00) + row_number() OVER (ORDER BY id), at_ms + 1, topic, '\"after ' || id || '\"'
            FROM (SELECT * FROM events_00 ORDER BY id LIMIT 7);
        UPDATE sqlite_sequence SET seq = seq + 7 WHERE name = 'events';
        UPDATE segments SET last_id = last_id + 7, events = events + 7 WHERE slot = 0;";
    let spoil = ["runuser", "-u", "smolotchi", "--", "sqlite3", "-batch", "-bail", "/var/lib/smolotchi/smolotchi.db", sql];
    node.run_ok(&spoil).unwrap();
    node.sh_ok("rm /run/trap-*").unwrap();
    let status = node.wait_idle().unwrap();
    node.wait_until("the command to say how it ended", CHANGE_DEADLINE, "test -s /var/log/start.exit").unwrap();
    assert_eq!(String::from_utf8(node.read("/var/log/start.exit").unwrap()).unwrap().trim(), "40", "{status}");
    assert_eq!((node.installed().unwrap().as_str(), &status["last_change"]["verdict"]), ("0.1.0", &Value::from("rolled-back")), "{status}");
    node.wait_healthy().unwrap();
    assert_eq!(node.schema().unwrap(), 1);
    assert_eq!(node.count_events("before").unwrap(), (120, 120));
    assert_eq!(node.count_events("after").unwrap(), (0, 0));
    let restored = &status["last_change"]["restored"];
    // Core's own events of its starts are among them.
    let lacking = restored["lacking"]["events"].as_u64().unwrap();
    assert!(lacking >= 7, "{status}");
    let export = String::from_utf8(node.read(restored["export"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!(export.lines().filter(|line| line.contains("after ")).count(), 7, "{export}");
    assert_eq!(export.lines().filter(|line| line.ends_with("\"table\":\"events\"}")).count() as u64, lacking, "{export}");
    assert!(node.exists(restored["replaced"].as_str().unwrap()).unwrap(), "{status}");
    assert!(node.run_ok(&["smolotchi-install", "status"]).unwrap().contains(&format!("{lacking} rows of events")));
    assert_invariants(node);
}

/// A newer installer's state is read by an older one: what it can't obey is set aside and said.
#[test]
fn the_installer_moves_up_inside_a_change_and_back_down_over_newer_state() {
    let lab = lab(Release::Bookworm, Disk::default());
    let node = lab.node(1);
    install(node);
    // The same installer under a higher version number, in one transaction with the agent.
    node.sh_ok(
        "cd /var/tmp && dpkg-deb -R /srv/demo/releases/0.2.0/debs/smolotchi-install_0.2.0_*.deb n && sed -i 's/^Version: .*/Version: 0.9.0/' n/DEBIAN/control
        dpkg-deb --root-owner-group -Zgzip -b n smolotchi-install_0.9.0.deb && cp /srv/demo/releases/0.2.0/debs/smolotchi_0.2.0_*.deb . && rm -r n",
    )
    .unwrap();
    node.sh_ok("cd /var/tmp && apt-get install -y ./smolotchi-install_0.9.0.deb ./smolotchi_0.2.0_*.deb").unwrap();
    let status = node.wait_idle().unwrap();
    assert_eq!(status["last_change"]["verdict"], "committed", "{status}");
    assert_eq!(node.sh_ok("dpkg-query -W -f '${Version}' smolotchi-install").unwrap(), "0.9.0");

    // Going back takes the agent, and leaves the installer.
    node.run_ok(&["smolotchi-install", "rollback"]).unwrap();
    assert_eq!(
        (node.installed().unwrap().as_str(), node.sh_ok("dpkg-query -W -f '${Version}' smolotchi-install").unwrap().as_str()),
        ("0.1.0", "0.9.0")
    );

    // What a newer one would leave: fields, a task and an event that this one doesn't know.
    node.sh_ok(&format!(
        "set -e; cd {STATE}; printf '\n[telepathy]\nlevel = 3\n' >>state.toml; sed -i '1i mood = \"calm\"' slots/0.2.0/slot.toml
        for f in changes/*/report.json; do sed -i '1s/{{/{{\"aura\": [1, 2],/' $f; done
        mkdir -p changes/0008-upgrade-0.9.9; sed '1s/{{/{{\"aura\": 1,/; s/\"watch\"/\"meditate\"/' changes/0001-*/plan.json >changes/0008-upgrade-0.9.9/plan.json
        cp changes/0001-*/journal changes/0008-upgrade-0.9.9/journal; ln -s changes/0008-upgrade-0.9.9 open"
    ))
    .unwrap();
    node.sh_ok("dpkg -i /srv/demo/releases/0.2.0/debs/smolotchi-install_0.2.0_*.deb").unwrap();
    let status = node.change_status().unwrap();
    assert_eq!((&status["state"], &status["set_aside"]), (&Value::from("idle"), &Value::from("0008-upgrade-0.9.9")), "{status}");
    assert_eq!(status["last_change"]["verdict"], "committed", "{status}");
    assert_eq!(heal(node)["failed"], Value::Array(Vec::new()));
    node.run_ok(&["smolotchi-install", "unblock", "0.2.0"]).unwrap();
    node.run_ok(&["smolotchi-install", "rollback", "--to", "0.2.0"]).unwrap();
    let status = node.change_status().unwrap();
    assert_eq!((node.installed().unwrap().as_str(), &status["set_aside"]), ("0.2.0", &Value::Null), "{status}");
    node.wait_healthy().unwrap();
    assert_invariants(node);
}

/// Two bad versions don't take turns.
#[test]
fn a_blocked_version_is_no_way_back() {
    let lab = lab(Release::Bookworm, Disk::default());
    let node = lab.node(1);
    install(node);
    let block = r#"[blocked."0.1.0"]\nreason = "it failed here"\nat = "'$(date -u +%FT%TZ)'"\n"#;
    node.sh_ok(&format!("printf '{block}' >{STATE}/state.toml")).unwrap();
    let output = node.run(&["smolotchi-install", "upgrade", "--from", dist::TREE, "--channel", "edge", "--format", "json"]).unwrap();
    assert_eq!(output.status, 50, "{output:?}");
    let status = node.change_status().unwrap();
    assert_eq!(status["last_change"]["verdict"], "operator-needed", "{status}");
    assert!(status["last_change"]["reason"].as_str().unwrap().contains("the version before is blocked"), "{status}");
    assert!(!status["last_change"]["evidence"].as_array().unwrap().is_empty());
    assert_eq!(node.installed().unwrap(), "0.3.0");
    // Once: another boot doesn't begin anew.
    node.reboot().unwrap();
    assert_eq!((node.change_status().unwrap()["state"].clone(), node.installed().unwrap().as_str()), (Value::from("idle"), "0.3.0"));
}
