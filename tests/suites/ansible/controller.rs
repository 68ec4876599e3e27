//! What the plugins make of every way in which smolotchi-install can end, and what the controller refuses to bring to a
//! node. A program of a few lines stands in for smolotchi-install; nothing here changes the machine: every run is in check
//! mode.

use crate::playbook::{Collection, Run, source};
use serde_json::json;
use smolotchi_lab::Output;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Plays the case that `--from` names.
const STAND_IN: &str = "#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in install | upgrade) verb=$1 ;; --from) from=$2; shift ;; --dry-run) dry=yes ;; esac
    shift
done
[ \"$dry\" = yes ] || exit 99
echo \"$verb\" >>\"$from/calls\"
cat \"$from/stdout\" 2>/dev/null
cat \"$from/stderr\" >&2 2>/dev/null
exit \"$(cat \"$from/rc\")\"
";

/// Spoils a tree.
type Mutation<'a> = &'a dyn Fn(&Path);

struct Bench {
    collection: Collection,
    hosts: BTreeMap<String, serde_json::Value>,
}

impl Bench {
    fn new() -> Self {
        let bench = Bench { collection: Collection::install(), hosts: BTreeMap::new() };
        let program = bench.path().join("bin/smolotchi-install");
        std::fs::create_dir(bench.path().join("bin")).unwrap();
        std::fs::write(&program, STAND_IN).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        bench
    }

    fn path(&self) -> &Path {
        self.collection.path()
    }

    /// A host on which smolotchi-install answers this.
    fn answers(&mut self, host: &str, rc: i32, stdout: &str, stderr: &str) {
        let folder = self.path().join(host);
        std::fs::create_dir(&folder).unwrap();
        for (name, text) in [("stdout", stdout), ("stderr", stderr), ("rc", &rc.to_string())] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let vars = json!({"smolotchi_source": folder, "ansible_connection": "local", "ansible_python_interpreter": "/nonexistent"});
        self.hosts.insert(host.to_owned(), vars);
    }

    /// A host without smolotchi-install, and what it could be brought from.
    fn lacks(&mut self, host: &str, vars: &[(&str, serde_json::Value)]) {
        self.answers(host, 127, "", "");
        for (name, value) in vars {
            self.hosts.get_mut(host).unwrap()[*name] = value.clone();
        }
    }

    /// A copy of the golden tree.
    fn tree(&self, host: &str) -> PathBuf {
        let folder = self.path().join(format!("{host}.tree"));
        let copied = Command::new("cp").arg("-r").arg(golden("tree")).arg(&folder).status().unwrap();
        assert!(copied.success());
        folder
    }

    fn run(&self, playbook: &str, search: &str) -> Run {
        self.run_in_batches(playbook, search, "100%")
    }

    fn run_in_batches(&self, playbook: &str, search: &str, serial: &str) -> Run {
        let serial = format!("smolotchi_serial={serial}");
        let inventory = self.path().join("inventory.json");
        std::fs::write(&inventory, json!({"all": {"hosts": self.hosts}}).to_string()).unwrap();
        let more = ["--check", "-e", "smolotchi_hosts=all", "-e", &serial, "--forks", "4"].map(str::to_owned);
        let words = self.collection.words(&inventory, playbook, &more);
        let path = format!("{}:{search}", self.path().join("bin").display());
        let output = Command::new("env").args(&words[1..]).env("PATH", path).output().unwrap();
        Run::of(Output {
            status: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        })
    }
}

fn golden(name: &str) -> PathBuf {
    source().join("tests/golden").join(name)
}

fn search() -> String {
    std::env::var("PATH").unwrap()
}

fn report(rc: i32, verdict: &str, installed: Option<&str>) -> String {
    let report = json!({"kind": "upgrade", "from": "0.1.0", "to": "0.2.0", "verdict": verdict, "reason": "core crashed", "exit": rc});
    let step = json!({"event": "step", "step": "verify", "detail": "verifying"});
    format!("{step}\n{}\n", json!({"event": "result", "changed": false, "installed": installed, "report": report}))
}

fn fault(code: &str) -> String {
    let details = json!({"installed": "0.1.0", "wanted": "0.2.0"});
    format!("a log line\n{}\n", json!({"error": {"code": code, "message": "what", "hint": "do this", "details": details}}))
}

#[test]
fn every_end_of_the_installer() {
    let mut bench = Bench::new();
    bench.answers("rolled-back", 40, &report(40, "rolled-back", Some("0.1.0")), "");
    bench.answers("operator", 50, &report(50, "operator-needed", None), "");
    bench.answers("abandoned", 10, &report(10, "abandoned", Some("0.1.0")), "");
    bench.answers("refused", 20, "", &fault("change.preflight"));
    bench.answers("missing", 30, "", &fault("source.unreachable"));
    bench.answers("installed", 20, "", &fault("change.already-installed"));
    // Through a terminal both streams are one, with its line ends.
    bench.answers("terminal", 20, &fault("change.open").replace('\n', "\r\n"), "");
    bench.answers("silent", 0, "", "");
    bench.answers("mute", 0, "{\"event\":\"result\"}\n", "");
    bench.answers("nonsense", 139, "{\"event\":\"result\"", "Segmentation fault");
    bench.answers("nothing", 0, "{\"event\":\"result\",\"changed\":false,\"installed\":\"0.1.0\"}\n", "");
    bench.answers("something", 0, "{\"event\":\"result\",\"changed\":true,\"installed\":null,\"plan\":{\"kind\":\"install\"}}\n", "");
    let run = bench.run("install", &search());

    let mut failures = String::new();
    for (host, result) in &run.failures {
        let text = |name: &str| result[name].as_str().unwrap_or_else(|| panic!("{host} has no {name}: {result}"));
        assert!(!text("hint").is_empty() && text("msg").contains(text("reason")), "{host}: {result}");
        writeln!(failures, "{host} {} {}", text("code"), result["rc"]).unwrap();
    }
    let expected = "abandoned change.task-failed 10\nmissing source.unreachable 30\nmute node.no-answer 0\nnonsense node.no-answer 139\n\
                    operator change.rollback-failed 50\nrefused change.preflight 20\nrolled-back change.rolled-back 40\n\
                    silent node.no-answer 0\nterminal change.open 20\n";
    assert_eq!(failures, expected, "{}", run.text());
    assert!(run.failures["rolled-back"]["msg"].as_str().unwrap().contains("safely back on 0.1.0"), "{}", run.failures["rolled-back"]);
    for (host, changed) in [("installed", 0), ("nothing", 0), ("something", 1)] {
        assert_eq!((run.count(host, "failed"), run.count(host, "changed")), (Some(0), Some(changed)), "{host}: {}", run.text());
    }
    // An installed node is left as it is, unless the playbook is for upgrades.
    let calls = || std::fs::read_to_string(bench.path().join("installed/calls")).unwrap();
    assert_eq!(calls(), "install\n");
    bench.run("upgrade", &search());
    assert_eq!(calls(), "install\ninstall\nupgrade\n");
}

#[test]
fn nothing_follows_a_batch_with_a_failure() {
    let mut bench = Bench::new();
    let good = "{\"event\":\"result\",\"changed\":false,\"installed\":\"0.2.0\"}\n";
    bench.answers("a-good", 0, good, "");
    bench.answers("b-sick", 40, &report(40, "rolled-back", Some("0.1.0")), "");
    bench.answers("c-later", 0, good, "");
    for playbook in ["install", "upgrade"] {
        let run = bench.run_in_batches(playbook, &search(), "2");
        assert_eq!(run.count("a-good", "failed"), Some(0), "{}", run.text());
        assert_eq!(run.failures.keys().collect::<Vec<_>>(), ["b-sick"], "{}", run.text());
        assert_eq!(run.count("c-later", "ok"), None, "{playbook} went on: {}", run.text());
        assert_eq!(run.output.status, 2, "{}", run.text());
    }
}

#[test]
fn nothing_unverified_is_brought_to_a_node() {
    let mut bench = Bench::new();
    let key = json!([golden("keys/smolotchi.pub")]);
    bench.lacks("no-source", &[("smolotchi_trust", key.clone())]);
    bench.lacks("no-key", &[("smolotchi_bootstrap", json!(golden("tree")))]);
    bench.lacks("other-key", &[("smolotchi_bootstrap", json!(golden("tree"))), ("smolotchi_trust", json!([golden("keys/other.pub")]))]);
    bench.lacks("no-tree", &[("smolotchi_bootstrap", json!("/nonexistent")), ("smolotchi_trust", key.clone())]);
    bench.lacks("no-bundle", &[("smolotchi_bootstrap", json!(golden("README.md"))), ("smolotchi_trust", key.clone())]);
    // Everything holds, but the golden release has no installer in it: so the signatures were believed.
    bench.lacks("good-tree", &[("smolotchi_bootstrap", json!(golden("tree"))), ("smolotchi_trust", key.clone())]);
    let bundle = golden("smolotchi-0.2.0-amd64.bundle");
    bench.lacks("good-bundle", &[("smolotchi_bootstrap", json!(bundle)), ("smolotchi_trust", key.clone())]);

    let manifest = "releases/0.2.0/manifest.toml";
    let mutations: [(&str, Mutation<'_>); 6] = [
        ("manifest-changed", &|tree| change(&tree.join(manifest))),
        ("channel-changed", &|tree| change(&tree.join("channels/stable.toml"))),
        ("unsigned", &|tree| std::fs::remove_file(tree.join("channels/stable.toml.minisig")).unwrap()),
        ("legacy", &|tree| {
            std::fs::copy(golden("refused/manifest.toml.legacy.minisig"), tree.join(format!("{manifest}.minisig"))).unwrap();
        }),
        ("package-changed", &|tree| change(&tree.join("pool/smolotchi-archive-keyring_2026.1_all.deb"))),
        ("package-missing", &|tree| std::fs::remove_file(tree.join("pool/smolotchi-archive-keyring_2026.1_all.deb")).unwrap()),
    ];
    for (host, mutate) in mutations {
        let tree = bench.tree(host);
        mutate(&tree);
        bench.lacks(host, &[("smolotchi_bootstrap", json!(tree)), ("smolotchi_trust", key.clone())]);
    }
    let run = bench.run("install", &search());
    let mut codes = String::new();
    for (host, result) in &run.failures {
        writeln!(codes, "{host} {}", result["code"].as_str().unwrap_or_else(|| panic!("{host}: {result}"))).unwrap();
    }
    let expected = "channel-changed release.signature-invalid\ngood-bundle release.wrong-architecture\n\
                    good-tree release.wrong-architecture\nlegacy release.signature-invalid\n\
                    manifest-changed release.signature-invalid\nno-bundle source.unreachable\nno-key release.no-trusted-keys\n\
                    no-source dependency.program-missing\nno-tree source.unreachable\nother-key release.signature-invalid\n\
                    package-changed release.file-mismatch\npackage-missing release.file-missing\n\
                    unsigned release.signature-missing\n";
    assert_eq!(codes, expected, "{}", run.text());
}

#[test]
fn what_is_signed_is_read_with_care() {
    let mut bench = Bench::new();
    let (public, secret) = (bench.path().join("test.pub"), bench.path().join("test.key"));
    minisign(&["-G", "-W", "-p", &public.display().to_string(), "-s", &secret.display().to_string()]);
    let (channel, manifest) = ("channels/stable.toml", "releases/0.2.0/manifest.toml");
    let pool = "pool/smolotchi-archive-keyring_2026.1_all.deb";
    // Host, document, what is replaced in it by what, the version asked for, the code that is expected.
    let cases = [
        ("another-channel", channel, "\"stable\"", "\"edge\"", None, "release.manifest-invalid"),
        ("another-kind", channel, "channel/1", "channel/2", None, "release.manifest-invalid"),
        ("another-manifest", manifest, "2026.1\"", "2026.2\"", None, "release.file-mismatch"),
        ("another-product", manifest, "product = \"smolotchi\"", "product = \"other\"", Some("0.2.0"), "release.manifest-invalid"),
        ("another-version", manifest, "version = \"0.2.0\"", "version = \"0.2.1\"", Some("0.2.0"), "release.manifest-invalid"),
        ("elsewhere", manifest, pool, "pool/../../../etc/hostname.deb", Some("0.2.0"), "release.manifest-invalid"),
        ("expired", channel, "expires_at = \"20", "expires_at = \"19", None, "release.channel-expired"),
        ("no-toml", channel, "kind = ", "kind is ", None, "release.manifest-invalid"),
        ("no-version", channel, "", "", Some("../0.2.0"), "release.version-unknown"),
    ];
    for (host, document, from, to, version, _) in cases {
        let tree = bench.tree(host);
        let text = std::fs::read_to_string(tree.join(document)).unwrap();
        assert!(text.contains(from), "{document} has no {from}");
        std::fs::write(tree.join(document), text.replace(from, to)).unwrap();
        for document in [channel, manifest] {
            minisign(&["-S", "-W", "-s", &secret.display().to_string(), "-m", &tree.join(document).display().to_string()]);
        }
        let mut vars = vec![("smolotchi_bootstrap", json!(tree)), ("smolotchi_trust", json!([public]))];
        vars.extend(version.map(|version| ("smolotchi_version", json!(version))));
        bench.lacks(host, &vars);
    }
    let run = bench.run("install", &search());
    for (host, _, _, _, _, code) in cases {
        assert_eq!(run.failures.get(host).map(|result| &result["code"]), Some(&json!(code)), "{host}: {}", run.text());
    }
}

fn minisign(words: &[&str]) {
    let output = Command::new("minisign").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
}

#[test]
fn without_minisign_nothing_is_brought() {
    let mut bench = Bench::new();
    bench.lacks("node", &[("smolotchi_bootstrap", json!(golden("tree"))), ("smolotchi_trust", json!([golden("keys/smolotchi.pub")]))]);
    // Every program of this machine but one.
    let programs = bench.path().join("programs");
    std::fs::create_dir(&programs).unwrap();
    for folder in search().split(':') {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.file_name() != "minisign") {
            // The first folder that has it wins, as in any search.
            let _ = std::os::unix::fs::symlink(entry.path(), programs.join(entry.file_name()));
        }
    }
    let run = bench.run("install", &programs.display().to_string());
    assert_eq!(run.failures["node"]["code"], "dependency.program-missing", "{}", run.text());
    assert!(run.failures["node"]["msg"].as_str().unwrap().contains("apt-get install minisign"), "{}", run.text());
}

/// Changes one character.
fn change(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}
