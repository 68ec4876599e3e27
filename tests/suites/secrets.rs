//! Plants secrets on a node, lets it live (starts, pages, wrong guesses, an upgrade that fails and is taken back, a support bundle, a
//! rotation), and looks for them everywhere: they are in systemd's store, encrypted, and in the memory of who was handed them, and nowhere else.
//!
//! On Debian 12 and 13. Needs root and `make dist-demo`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use smolotchi_lab::story::CHANGE_DEADLINE;
use smolotchi_lab::{Disk, Lab, Node, Output, Release, dist, wait_until};
use std::process::{Command, Stdio};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);
const CERTIFICATE: &str = include_str!("../../agent/tests/data/web.crt");
const KEY: &str = include_str!("../../agent/tests/data/web.key");
/// Something like a password, where there is no place for one.
const STRAY: &str = "planted-7d1f-password";

fn set(node: &Node, name: &str, secret: &str) -> Output {
    node.run_with_input(&["smolotchi", "secrets", "set", name, "--format", "json"], secret.as_bytes()).unwrap()
}

/// A page over TLS from the node's own network, by a caller that has this token; the status.
fn ask(lab: &Lab, path: &str, token: &str) -> String {
    const CALLER: &str = "
import base64, http.client, ssl, sys
context = ssl._create_unverified_context()
connection = http.client.HTTPSConnection('127.0.0.1', 8080, context=context, timeout=20)
connection.request('GET', sys.argv[1], headers={'Host': 'localhost', 'Authorization': 'Bearer ' + sys.stdin.read()})
answer = connection.getresponse()
print(answer.status, answer.getheaders(), answer.read().decode())";
    let init = lab.node(1).status().unwrap().init.unwrap().to_string();
    let mut command = Command::new("nsenter");
    // Twice, because the node's init has a number that only the supervisor's own /proc knows.
    command.args([
        "-t",
        &lab.supervisor().to_string(),
        "-m",
        "-p",
        "--",
        "nsenter",
        "-t",
        &init,
        "-n",
        "--",
        "python3",
        "-c",
        CALLER,
        path,
    ]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), token.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Where a needle is: files of the machine, environments, command lines, the journal, what systemd and the agent tell, a support bundle.
fn places(node: &Node, needle: &str) -> Vec<String> {
    // The needle comes by a pipe, or the search would find itself.
    const SEARCH: &str = r#"umask 077; pattern=$(mktemp -p /root); cat >"$pattern"; IFS=' '
        grep -rlaFs -f "$pattern" --exclude="${pattern##*/}" /etc /run /var /usr/lib/smolotchi /usr/lib/systemd /tmp /home /root /srv/none 2>/dev/null
        for file in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do grep -qaFs -f "$pattern" "$file" && echo "$file"; done
        journalctl --no-pager --all -o export | grep -qaF -f "$pattern" && echo journal
        systemctl show --all --no-pager 'smolotchi-*' | grep -qaF -f "$pattern" && echo 'systemctl show'
        systemctl cat --no-pager 'smolotchi-*' | grep -qaF -f "$pattern" && echo 'systemctl cat'
        for verb in status health doctor 'config show' 'events list' 'jobs list' 'readings' 'artifacts list' 'findings list' 'secrets list'; do
            smolotchi $verb --format json 2>&1 | grep -qaF -f "$pattern" && echo "smolotchi $verb"; done
        smolotchi-install status --format json 2>&1 | grep -qaF -f "$pattern" && echo 'smolotchi-install status'
        bundle=/root/bundle.tar.gz; rm -f $bundle; smolotchi support-bundle --output $bundle >/root/bundle.txt 2>&1 || echo "no bundle: $(cat /root/bundle.txt)"
        tar -xzOf $bundle | grep -qaF -f "$pattern" && echo bundle
        rm -f "$pattern" $bundle /root/bundle.txt; true"#;
    let output = node.run_with_input(&["sh", "-c", SEARCH], needle.as_bytes()).unwrap();
    assert!(output.ok(), "{output:?}");
    let mut found: Vec<_> = output.stdout.lines().map(str::to_owned).collect();
    // Each credential where systemd hands it in, and its service's view of that.
    found.retain(|place| !place.starts_with("/run/credentials/smolotchi-web.service/"));
    found
}

/// What other users find of it.
fn others(node: &Node, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for user in ["nobody", "smolotchi", "smolotchi-ai", "smolotchi-display"] {
        let script = "grep -rlaFs -f - /etc /run /var /tmp 2>/dev/null; true";
        let output = node.run_with_input(&["runuser", "-u", user, "--", "sh", "-c", script], needle.as_bytes()).unwrap();
        assert!(output.ok(), "{output:?}");
        found.extend(output.stdout.lines().map(|place| format!("{user}: {place}")));
    }
    found
}

fn assert_nowhere(node: &Node, needles: &[(&str, &str)], when: &str) {
    for (what, needle) in needles {
        assert_eq!(places(node, needle), Vec::<String>::new(), "{when}: {what}");
        assert_eq!(others(node, needle), Vec::<String>::new(), "{when}: {what}, as another user");
    }
}

fn kept(release: Release) {
    let lab = dist::lab(release, Disk::Overlay, Vec::new()).unwrap();
    let node = lab.node(1);
    node.sh_ok(&format!("dpkg -i {}", dist::debs("0.2.0"))).unwrap();
    node.shorten_gate().unwrap();
    node.wait_healthy().unwrap();

    // What can't be used is refused, and nothing is there.
    for (name, bad, code) in
        [("web.token", "short", "web.not-protected"), ("web.key", "no key", "web.tls"), ("web.certificate", "", "web.tls")]
    {
        let refused = set(node, name, bad);
        assert!(refused.status == 20 && refused.stderr.contains(code), "{refused:?}");
    }
    assert_eq!(node.sh("ls /etc/credstore*/smolotchi* /etc/systemd/system/smolotchi-web.service.d").unwrap().stdout, "");
    let stranger =
        node.run_with_input(&["runuser", "-u", "nobody", "--", "smolotchi", "secrets", "set", "web.token"], &[b'x'; 64]).unwrap();
    assert!(!stranger.ok() && stranger.stderr.contains("root"), "{stranger:?}");

    let made = node.json(&["smolotchi", "secrets", "set", "web.token", "--generate", "--format", "json"]).unwrap();
    let first = made["made"].as_str().unwrap().to_owned();
    assert_eq!((first.len(), made["kept"].as_str()), (64, Some("encrypted")), "{made}");
    for (name, secret) in [("web.certificate", CERTIFICATE), ("web.key", KEY)] {
        let said = set(node, name, secret);
        assert!(said.ok() && said.stdout.contains("encrypted"), "{said:?}");
    }
    let settings = "[web]\ntls_certificate = \"web.certificate\"\ntls_key = \"web.key\"\n";
    node.write("/etc/smolotchi/config.d/50-web.toml", settings.as_bytes()).unwrap();
    // There is no place for a password in the settings; core must read it, and others need not.
    node.write("/etc/smolotchi/config.d/60-stray.toml", format!("[web]\npassword = \"{STRAY}\"\n").as_bytes()).unwrap();
    node.sh_ok("cd /etc/smolotchi/config.d && chown root:smolotchi 60-stray.toml && chmod 0644 50-web.toml && chmod 0640 60-stray.toml")
        .unwrap();
    node.sh_ok("setfacl -m u:smolotchi-web:r /etc/smolotchi/config.d/60-stray.toml 2>/dev/null || chmod 0644 /etc/smolotchi/config.d/60-stray.toml").unwrap();
    node.sh_ok("systemctl stop smolotchi-web.service; systemctl restart smolotchi-core.service").unwrap();
    node.wait_healthy().unwrap();
    let needle = KEY.lines().nth(1).unwrap();
    assert!(needle.len() > 40);

    // It lives: pages, guesses, and a token where it doesn't belong.
    wait_until("the page, with its token", DEADLINE, || Ok(ask(&lab, "/api/health", &first).starts_with("200"))).unwrap();
    for path in ["/", "/api/now", "/api/status", "/upgrades", "/metrics", "/nothing"] {
        let page = ask(&lab, path, &first);
        assert!(!page.contains(&first) && !page.contains(needle) && !page.contains(STRAY), "{path}: {page}");
    }
    assert!(ask(&lab, "/", "wrong").starts_with("401"));
    node.sh("smolotchi config check; smolotchi config reload; smolotchi doctor --security").unwrap();
    let secrets = [("token", first.as_str()), ("key", needle), ("what looks like a password", STRAY)];
    let but_stray = |found: Vec<String>| found.into_iter().filter(|place| !place.ends_with("/60-stray.toml")).collect::<Vec<_>>();
    for (what, secret) in secrets {
        assert_eq!(but_stray(places(node, secret)), Vec::<String>::new(), "{what}");
    }
    assert_nowhere(node, &secrets[..2], "after some life");

    // The search itself: it finds what is there.
    let planted = format!("X={first}\n");
    node.write("/run/planted", planted.as_bytes()).unwrap();
    node.write("/etc/systemd/system/smolotchi-web.service.d/99-planted.conf", format!("[Service]\nEnvironment={planted}").as_bytes())
        .unwrap();
    node.run_with_input(&["sh", "-c", "systemctl daemon-reload; systemd-cat -t smolotchi cat; journalctl --sync"], planted.as_bytes())
        .unwrap();
    let found = places(node, &first);
    for place in
        ["/run/planted", "journal", "systemctl show", "systemctl cat", "/etc/systemd/system/smolotchi-web.service.d/99-planted.conf"]
    {
        assert!(found.iter().any(|other| other == place), "{place} was not found: {found:?}");
    }
    assert!(others(node, &first).iter().any(|place| place == "nobody: /run/planted"));
    node.sh_ok("rm /run/planted /etc/systemd/system/smolotchi-web.service.d/99-planted.conf; systemctl daemon-reload").unwrap();

    // Another token: from then on the first one is worth nothing. A release whose core crashes comes and is taken back.
    let second = "a-token-that-came-by-a-pipe-91b2";
    assert!(set(node, "web.token", &format!("{second}\n")).ok());
    wait_until("the second token opens", DEADLINE, || Ok(ask(&lab, "/api/health", second).starts_with("200"))).unwrap();
    assert!(ask(&lab, "/", &first).starts_with("401"));
    let upgrade = ["smolotchi-install", "upgrade", "--from", dist::TREE, "--channel", dist::channel("0.3.0"), "--format", "json"];
    let taken_back = node.run_within(&upgrade, CHANGE_DEADLINE).unwrap();
    assert!(!taken_back.ok(), "{taken_back:?}");
    node.wait_idle().unwrap();
    node.wait_healthy().unwrap();
    wait_until("the second token still opens", DEADLINE, || Ok(ask(&lab, "/api/health", second).starts_with("200"))).unwrap();
    assert_nowhere(node, &[("second token", second), ("key", needle)], "after a release that was taken back");

    // A source whose address has a password is refused before anything tells of it.
    node.write(
        "/etc/smolotchi-install/config.d/20-source.toml",
        format!("[source]\nfrom = \"http://me:{STRAY}@127.0.0.1:1/\"\n").as_bytes(),
    )
    .unwrap();
    node.sh_ok("chmod 0600 /etc/smolotchi-install/config.d/20-source.toml").unwrap();
    let refused = node.run(&["smolotchi-install", "upgrade", "--format", "json"]).unwrap();
    assert!(!refused.ok() && !format!("{refused:?}").contains(STRAY), "{refused:?}");
    let found = but_stray(places(node, STRAY));
    assert_eq!(found, ["/etc/smolotchi-install/config.d/20-source.toml"]);

    // Back to plain HTTP: what was encrypted with the machine's key goes with it.
    node.sh_ok("rm /etc/smolotchi/config.d/50-web.toml; smolotchi secrets remove web.key; smolotchi secrets remove web.certificate")
        .unwrap();
    assert!(!node.exists("/etc/credstore.encrypted/smolotchi.web.key").unwrap());
    node.sh_ok("systemctl stop smolotchi-web.service").unwrap();

    // Where this machine can have no key of its own, it is a file that only root can read.
    node.sh_ok("rm -f /var/lib/systemd/credential.secret && mkdir /var/lib/systemd/credential.secret").unwrap();
    let third = "a-token-without-any-host-key-55c1";
    let said = set(node, "web.token", third);
    assert!(said.ok() && said.stdout.contains("\"plain\"") && said.stdout.contains("because"), "{said:?}");
    assert_eq!(places(node, third), ["/etc/credstore/smolotchi.web.token"]);
    assert_eq!(others(node, third), Vec::<String>::new());
    assert_eq!(node.sh_ok("stat -c '%a %U' /etc/credstore /etc/credstore/smolotchi.web.token").unwrap(), "700 root\n600 root\n");
    assert!(!node.exists("/etc/credstore.encrypted/smolotchi.web.token").unwrap(), "the one before is gone");

    // Taken away, it is gone; and a purge leaves none.
    node.run_ok(&["smolotchi", "secrets", "remove", "web.token"]).unwrap();
    assert_eq!(places(node, third), Vec::<String>::new());
    node.run_ok(&["dpkg", "--purge", "smolotchi"]).unwrap();
    assert_eq!(node.sh("ls /etc/credstore*/smolotchi* /etc/systemd/system/smolotchi-web.service.d").unwrap().stdout, "");
}

#[test]
fn a_secret_on_debian_12_is_nowhere_but_with_who_was_handed_it() {
    kept(Release::Bookworm);
}

#[test]
fn a_secret_on_debian_13_is_nowhere_but_with_who_was_handed_it() {
    kept(Release::Trixie);
}
