//! `make demo`: the whole story on real Debian machines, told step by step, each with what is done and what it proves.
//!
//! Uses what `make dist-demo` left in dist/demo/, and nothing else of the source tree but the Ansible collection. The
//! machine stays up at the end, for a look around.

use clap::Parser;
use serde_json::Value;
use smolotchi_lab::{Bind, Lab, Node, Options, Output, Release};
use smolotchi_operator::{Code, Exit, Fault, Format, Result, output};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Tells the whole story on real Debian machines: install, upgrade, a bad release, the way back, and the same by Ansible.
#[derive(Debug, Parser)]
struct Cli {
    /// Which Debian the machines run.
    #[arg(long, value_enum, default_value_t)]
    release: Release,
    /// What `make dist-demo` made.
    #[arg(long, default_value = "dist/demo")]
    dist: PathBuf,
    /// The Ansible collection.
    #[arg(long, default_value = "ansible")]
    ansible: PathBuf,
}

/// The lab's name, and the number of its nodes: one Pi for the story, three for Ansible.
const LAB: &str = "demo";
const FLEET: u32 = 3;
/// A playbook on three small machines.
const PLAYBOOK_DEADLINE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::finish(Format::Table, tell(&cli))
}

/// One line of the summary.
struct Told {
    title: &'static str,
    result: String,
    seconds: f64,
}

/// Tells the steps and keeps the summary.
struct Story {
    told: Vec<Told>,
}

impl Story {
    /// Tells one step: says what is done and what it proves, does it, and shows what came out.
    fn step<T>(&mut self, title: &'static str, words: &str, act: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
        let bold = anstyle();
        say(&format!("\n{bold}{}. {title}{bold:#}\n{words}\n", self.told.len() + 1));
        let began = Instant::now();
        let done = act();
        let seconds = began.elapsed().as_secs_f64();
        match done {
            Ok((value, result)) => {
                say(&format!("   -> {result}\n"));
                self.told.push(Told { title, result, seconds });
                Ok(value)
            }
            Err(fault) => {
                self.told.push(Told { title, result: format!("FAILED: {}", fault.message), seconds });
                Err(fault)
            }
        }
    }

    fn summary(&self) -> String {
        let mut rows = vec![["", "STEP", "RESULT", "SECONDS"].map(str::to_owned)];
        for (number, told) in self.told.iter().enumerate() {
            rows.push([(number + 1).to_string(), told.title.to_owned(), told.result.clone(), format!("{:.1}", told.seconds)]);
        }
        output::columns(&rows)
    }
}

fn anstyle() -> clap::builder::styling::Style {
    clap::builder::styling::Style::new().bold()
}

/// Prints; `clap`'s stream takes the colours out when they aren't wanted.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let colour = std::io::IsTerminal::is_terminal(&out) && std::env::var_os("NO_COLOR").is_none();
    let plain = if colour { text.to_owned() } else { strip(text) };
    let _ = out.write_all(plain.as_bytes()).and_then(|()| out.flush());
}

/// The text without escape sequences.
fn strip(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    plain + rest
}

fn tell(cli: &Cli) -> Result<Exit> {
    let mut story = Story { told: Vec::new() };
    let told = chapters(cli, &mut story);
    say(&format!("\n{}\n", story.summary()));
    match told {
        Ok(()) => {
            say("The machines are still up. Look around:\n\
                 \x20 cargo run -q -p smolotchi-lab -- --name demo ssh 1                     a shell on the Pi\n\
                 \x20 cargo run -q -p smolotchi-lab -- --name demo run 1 -- smolotchi status\n\
                 \x20 cargo run -q -p smolotchi-lab -- --name demo run 1 -- smolotchi-install history\n\
                 \x20 cargo run -q -p smolotchi-lab -- --name demo run 1 -- curl -s http://127.0.0.1:8080/\n\
                 \x20 cargo run -q -p smolotchi-lab -- --name demo down                      take them down\n");
            Ok(Exit::Success)
        }
        Err(fault) => Err(fault.hint("look around with: cargo run -q -p smolotchi-lab -- --name demo ssh 1")),
    }
}

fn chapters(cli: &Cli, story: &mut Story) -> Result<()> {
    let dist = cli.dist.canonicalize().map_err(|error| Fault::io("could not find what `make dist-demo` makes", &cli.dist, &error))?;
    smolotchi_lab::preflight()?;
    Lab::down(LAB)?;

    let lab = story.step(
        "Boot a Debian machine",
        "A real Debian with a real systemd, apt and dpkg boots in a container: our Pi. Three more stand by for Ansible.\n\
         It is offline, but for one web server that carries the release tree, as a stick or any web server could.",
        || {
            let binds = vec![Bind { from: dist.clone(), to: "/srv/demo".into() }];
            let options = Options { name: LAB.into(), nodes: 1 + FLEET, release: cli.release, binds, ..Options::default() };
            let lab = Lab::start_detached(options)?;
            let version =
                lab.node(1).sh_ok(". /etc/os-release; echo \"$PRETTY_NAME, $(systemctl --version | head -n 1 | cut -d' ' -f1,2)\"")?;
            Ok((lab, version.trim().to_owned()))
        },
    )?;
    let pi = lab.node(1);
    let url = lab.serve(&dist.join("repo"), 8000)?;
    for node in lab.nodes() {
        node.shorten_gate()?;
    }

    story.step(
        "Install with apt",
        "As an operator would type it: add the key and the source, apt-get update, apt-get install -y smolotchi.\n\
         It proves that the repository's signature holds and that the packages work on a bare Debian.",
        || {
            pi.add_apt_source(&dist.join("keys/smolotchi-archive-keyring.pgp"), &url, "oldstable")?;
            pi.run_ok(&["apt-get", "install", "-y", "smolotchi"])?;
            expect(&pi.installed()?, "0.1.0", "installed version")?;
            pi.wait_until("smolotchi health to say 0", Duration::from_secs(60), "smolotchi health")?;
            Ok(((), "0.1.0 runs, `smolotchi health` says 0".to_owned()))
        },
    )?;

    story.step(
        "Upgrade, with a migration",
        "smolotchi-install fetches the channel `stable`, verifies every signature and hash, keeps the running version and a\n\
         snapshot, lets dpkg install 0.2.0, which migrates the database, and watches until the new version has proved healthy.",
        || {
            pi.append_events("before", 1_000)?;
            let before = pi.schema()?;
            pi.run_ok(&["smolotchi-install", "upgrade", "--from", &url, "--channel", "stable"])?;
            expect(&pi.installed()?, "0.2.0", "installed version")?;
            Ok(((), format!("0.2.0 is healthy, schema {before} -> {}", pi.schema()?)))
        },
    )?;

    story.step(
        "Go back, and lose nothing",
        "10,000 rows are written on the new version; then the operator goes back, offline. The undo of each migration is in the\n\
         database itself, so the old version takes the schema back, and every row stays.",
        || {
            pi.append_events("after", 10_000)?;
            pi.run_ok(&["smolotchi-install", "rollback"])?;
            expect(&pi.installed()?, "0.1.0", "installed version")?;
            let (rows, different) = pi.count_events("after")?;
            expect(&format!("{rows} {different}"), "10000 10000", "rows written after the upgrade")?;
            Ok(((), format!("0.1.0 runs at schema {}, all {rows} rows are there", pi.schema()?)))
        },
    )?;

    story.step(
        "Upgrade again, with apt",
        "The version that the operator left is kept out until he allows it again. This time plain apt does the upgrade:\n\
         the guard keeps the slot before dpkg starts, and the watch runs after apt is long gone.",
        || {
            pi.follow_suite(&url, "stable")?;
            pi.run_ok(&["smolotchi-install", "unblock", "0.2.0"])?;
            pi.run_ok(&["apt-get", "upgrade", "-y"])?;
            let status = pi.wait_idle()?;
            expect(text(&status["last_change"]["verdict"]), "committed", "verdict")?;
            expect(&pi.installed()?, "0.2.0", "installed version")?;
            Ok(((), format!("0.2.0 again, by apt: {}", text(&status["last_change"]["reason"]))))
        },
    )?;

    story.step(
        "A bad release",
        "The channel `edge` has 0.3.0, whose core crashes two seconds after it said it was ready. apt installs it, says that all is\n\
         well, and ends. Nobody touches the machine from here on.",
        || {
            pi.follow_suite(&url, "edge")?;
            let output = pi.run(&["apt-get", "install", "-y", "smolotchi"])?;
            let status = pi.wait_idle()?;
            expect(text(&status["last_change"]["verdict"]), "rolled-back", "verdict")?;
            expect(&pi.installed()?, "0.2.0", "installed version")?;
            pi.wait_until("smolotchi health to say 0", Duration::from_secs(60), "smolotchi health")?;
            let reason = text(&status["last_change"]["reason"]).to_owned();
            Ok(((), format!("apt said {}; back on 0.2.0: {reason}", output.status)))
        },
    )?;

    story.step(
        "apt still works, and the bad version stays out",
        "An upgrade run must not bring 0.3.0 back tomorrow: exactly that version is pinned out, with the reason. Then every\n\
         invariant of the machine is checked: no failed unit, dpkg and apt clean, the database whole, nothing left staged.",
        || {
            pi.run_ok(&["apt-get", "upgrade", "-y"])?;
            expect(&pi.installed()?, "0.2.0", "installed version")?;
            let violations = pi.invariants()?;
            if let Some(first) = violations.first() {
                return Err(Fault::new(Code::LabFailed, "an invariant doesn't hold")
                    .fact("invariant", first.invariant)
                    .fact("fact", first.fact.as_str()));
            }
            let (rows, _) = pi.count_events("after")?;
            Ok(((), format!("still 0.2.0, all invariants hold, all {rows} rows are there")))
        },
    )?;

    story.step(
        "What an operator sees",
        "One command tells what runs, what happened, what is blocked and what can be gone back to; the web page says the same,\n\
         read-only and only on the loopback.",
        || {
            let status = pi.run_ok(&["smolotchi-install", "status"])?;
            say(&indent(&status));
            let page = pi.sh_ok(
                "curl -s -o /dev/null -w '%{http_code} ' http://127.0.0.1:8080/ && curl -s http://127.0.0.1:8080/api/health | cut -d, -f1 | tr -d '{\"'",
            )?;
            Ok(((), format!("the page answers {}", page.trim())))
        },
    )?;

    story.step(
        "The agent looks, and asks before it keeps",
        "Somebody changed the configuration. A run of the profile `keep` may look by itself, but its first step writes a copy: it\n\
         stops there and asks. An operator says yes, the run goes on, and what it found is explained down to the evidence.",
        || agent(pi),
    )?;

    fleet(cli, story, &lab, &dist, &url)
}

/// A run that waits for a word, its finding, and the same judged again.
fn agent(pi: &Node) -> Result<((), String)> {
    const CHANGED: &str = "/etc/smolotchi/config.d/50-demo.toml";
    pi.sh_ok(&format!("printf '[retention]\\nmax_age_days = 365\\n' >{CHANGED}"))?;
    let json = |words: &[&str]| -> Result<Value> {
        let said = pi.run_ok(&[&["smolotchi", "--format", "json"], words].concat())?;
        serde_json::from_str(&said).map_err(|error| Fault::new(Code::LabFailed, "the agent's answer is no JSON").cause(&error))
    };
    say(&indent(&pi.run_ok(&["smolotchi", "ai", "run", "keep", "--wait"])?));
    let stage = json(&["stages", "list"])?["stages"][0].clone();
    expect(text(&stage["action"]), "configuration-snapshot", "step that waits")?;
    say(&indent(&pi.run_ok(&["smolotchi", "stages", "approve", &stage["id"].to_string(), "--why", "a copy before we go on"])?));
    let run = stage["run_id"].to_string();
    let done = format!("smolotchi --format json ai runs | grep -q '\"id\":{run},.*\"state\":\"done\"'");
    pi.wait_until("the run to be done", Duration::from_secs(30), &done)?;
    let findings = json(&["findings", "list", "--search", CHANGED])?;
    let finding = findings["findings"][0]["id"].to_string();
    say(&indent(&pi.run_ok(&["smolotchi", "explain", &finding])?));
    let again = json(&["ai", "replay", &run])?;
    expect(&again["same"].to_string(), "true", "result of the same evidence, judged again")?;
    Ok(((), format!("stage {} approved, run {run} done, finding {finding} explained, replayed byte by byte", stage["id"])))
}

/// The same by Ansible, on three machines that have nothing yet.
fn fleet(cli: &Cli, story: &mut Story, lab: &Lab, dist: &Path, url: &str) -> Result<()> {
    let ansible = cli.ansible.canonicalize().map_err(|error| Fault::io("could not find the Ansible collection", &cli.ansible, &error))?;
    let collection = collection(lab, &ansible)?;
    let play = |name: &str, more: &Value| playbook(lab, &collection, dist, url, name, more);
    story.step(
        "The same by Ansible, on three machines",
        "The collection installs 0.1.0 on three bare machines over ssh, the bootstrap packages verified before they are copied.\n\
         The second run must find nothing to do.",
        || {
            play("install", &serde_json::json!({"smolotchi_channel": "oldstable"}))?;
            let again = play("install", &serde_json::json!({"smolotchi_channel": "oldstable"}))?;
            expect(&again.changed.to_string(), "0", "changed by the second run")?;
            Ok(((), format!("{} on three machines, second run changed=0", versions(lab)?)))
        },
    )?;
    story.step(
        "Upgrade and roll back the fleet",
        "The upgrade goes node by node and waits for each one's own verdict; the rollback brings all back.",
        || {
            play("upgrade", &serde_json::json!({"smolotchi_channel": "stable"}))?;
            let upgraded = versions(lab)?;
            play("rollback", &serde_json::json!({"smolotchi_version": "0.1.0"}))?;
            let again = play("rollback", &serde_json::json!({"smolotchi_version": "0.1.0"}))?;
            expect(&again.changed.to_string(), "0", "changed by the second run")?;
            Ok(((), format!("{upgraded}, then {}, second run changed=0", versions(lab)?)))
        },
    )
}

/// The one version that all nodes of the fleet run.
fn versions(lab: &Lab) -> Result<String> {
    let mut versions = fleet_nodes(lab).map(Node::installed).collect::<Result<Vec<_>>>()?;
    versions.dedup();
    if versions.len() == 1 {
        Ok(versions.remove(0))
    } else {
        Err(Fault::new(Code::LabFailed, "the nodes run different versions").fact("versions", versions.join(", ")))
    }
}

fn fleet_nodes(lab: &Lab) -> impl Iterator<Item = &Node> {
    lab.nodes().iter().filter(|node| node.index() > 1)
}

/// What a playbook's recap says.
struct Recap {
    changed: u32,
}

/// The collection, built and installed into a folder of the lab, as an operator would install it.
fn collection(lab: &Lab, ansible: &Path) -> Result<PathBuf> {
    let folder = lab.folder().path().join("ansible");
    let place = folder.display().to_string();
    let galaxy = |words: &[&str]| {
        let output = lab.exec_in_network(
            &[&["env", &format!("ANSIBLE_HOME={place}"), "ansible-galaxy", "collection"], words].concat(),
            PLAYBOOK_DEADLINE,
        )?;
        if output.ok() {
            Ok(())
        } else {
            Err(Fault::new(Code::LabFailed, "the collection could not be installed").fact("said", last(&output)))
        }
    };
    galaxy(&["build", "--force", "--output-path", &place, &ansible.display().to_string()])?;
    let archive = folder.join(format!("smolotchi-node-{}.tar.gz", env!("CARGO_PKG_VERSION"))).display().to_string();
    galaxy(&["install", "--force", "--offline", "-p", &place, &archive])?;
    Ok(folder)
}

fn playbook(lab: &Lab, collection: &Path, dist: &Path, url: &str, name: &str, more: &Value) -> Result<Recap> {
    let place = collection.display();
    let limit = fleet_nodes(lab).map(Node::name).collect::<Vec<_>>().join(",");
    let mut variables = serde_json::json!({
        "smolotchi_hosts": "lab",
        "smolotchi_source": url,
        "smolotchi_bootstrap": dist.join("repo"),
        "smolotchi_trust": [dist.join("keys/smolotchi.pub")],
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut variables, more) {
        all.extend(more.clone());
    }
    if name == "rollback" {
        variables = serde_json::json!({"smolotchi_hosts": "lab", "smolotchi_version": variables["smolotchi_version"]});
    }
    let words = [
        "env",
        &format!("ANSIBLE_HOME={place}"),
        &format!("ANSIBLE_COLLECTIONS_PATH={place}"),
        &format!("ANSIBLE_COLLECTIONS_PATHS={place}"),
        // Not the operator's own folder: other labs have nodes with the same addresses.
        &format!("ANSIBLE_SSH_CONTROL_PATH_DIR={place}/cp"),
        "ANSIBLE_NOCOLOR=1",
        "ANSIBLE_SSH_ARGS=-C -o ControlMaster=auto -o ControlPersist=5s",
        "LC_ALL=C.UTF-8",
        "ansible-playbook",
        "-i",
        &lab.folder().inventory().display().to_string(),
        "--limit",
        &limit,
        &format!("smolotchi.node.{name}"),
        "-e",
        &variables.to_string(),
    ];
    let output = lab.exec_in_network(&words, PLAYBOOK_DEADLINE)?;
    say(&indent(recap_of(&output.stdout)));
    if !output.ok() {
        return Err(Fault::new(Code::LabFailed, "a playbook failed").fact("playbook", name).fact("said", last(&output)));
    }
    let words = recap_of(&output.stdout).split_whitespace();
    Ok(Recap { changed: words.filter_map(|word| word.strip_prefix("changed=")?.parse::<u32>().ok()).sum() })
}

fn recap_of(text: &str) -> &str {
    text.split_once("PLAY RECAP").and_then(|(_, rest)| rest.split_once('\n')).map_or("", |(_, rest)| rest.trim())
}

fn last(output: &Output) -> String {
    let all = format!("{}{}", output.stdout, output.stderr);
    let lines: Vec<&str> = all.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

fn indent(text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "   | {line}");
        all
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn expect(found: &str, expected: &str, what: &str) -> Result<()> {
    if found == expected {
        Ok(())
    } else {
        Err(Fault::new(Code::LabFailed, format!("the {what} is not as the story tells it")).fact("expected", expected).fact("found", found))
    }
}
