//! `make bench`: what an upgrade and the way back cost on a real machine, by each way in, beside the same packages by plain
//! apt and dpkg in the same run. Prints; never fails because something took long.
//!
//! Starts a lab with two nodes on their own disks: one with the guard, one where the guard's program was taken away. Each
//! measurement is `smolotchi-bench measure` inside a node.

mod agent;
mod compression;
mod floor;
mod measure;
mod process;
mod table;

use clap::{Parser, Subcommand};
use measure::Measured;
use smolotchi_lab::{Bind, Disk, Lab, Node, Options, Release};
use smolotchi_operator::{Code, Exit, Fault, Format, Result, output};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use table::{Payload, Results, Run};

/// Measures upgrade and rollback by every way in, and what compression costs.
#[derive(Debug, Parser)]
#[command(name = "smolotchi-bench")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Upgrade and rollback beside plain apt and dpkg.
    Upgrade(Upgrade),
    /// Inside a node: one command, and what it costs.
    #[command(hide = true)]
    Measure(measure::Args),
    /// What the agent costs while it runs, beside raw `sqlite3`, `sha256sum` and a least daemon.
    Agent(agent::Args),
    /// The least daemon.
    #[command(hide = true)]
    Floor(floor::Args),
    /// Memory and time that dpkg needs to unpack our packages, by compression.
    Compression(compression::Args),
}

#[derive(Debug, clap::Args)]
struct Upgrade {
    /// Which Debian the machines run; not older than the host, whose C library this program needs.
    #[arg(long, value_enum, default_value_t)]
    release: Release,
    /// What `make dist-demo` made.
    #[arg(long, default_value = "dist/demo")]
    dist: PathBuf,
    /// How often each is measured; the median counts.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// How often web is asked at least, each time.
    #[arg(long, default_value_t = 10_000)]
    polls: u64,
    /// Only ways whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Programs of this folder go over the first node's /usr/bin before anything is measured.
    #[arg(long)]
    over: Option<PathBuf>,
    /// Write all that was measured here.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the page of the documentation here.
    #[arg(long)]
    page: Option<PathBuf>,
}

/// The versions that are changed between: a migration lies between them.
const OLD: &str = "0.1.0";
const NEW: &str = "0.2.0";
/// Rows in the database.
const ROWS: u32 = 1_000;
/// Where the nodes see the packages and this program.
const DEMO: &str = "/srv/demo";
const BENCH: &str = "/srv/bench";
/// One measurement, with the watch.
const DEADLINE: Duration = Duration::from_secs(600);

/// One way to change the version.
struct Way {
    name: &'static str,
    node: u32,
    up: &'static str,
    back: &'static str,
}

const WAYS: [Way; 5] = [
    Way {
        name: "smolotchi-install",
        node: 1,
        up: "exec smolotchi-install upgrade --from /srv/demo/repo --channel stable --format json",
        back: "exec smolotchi-install rollback --format json",
    },
    Way {
        name: "apt-get",
        node: 1,
        up: "exec apt-get -q install -y smolotchi=0.2.0",
        back: "exec apt-get -q install -y --allow-downgrades smolotchi=0.1.0",
    },
    Way {
        name: "dpkg -i",
        node: 1,
        up: "exec dpkg -i /srv/demo/repo/pool/smolotchi_0.2.0_*.deb",
        back: "exec dpkg -i /srv/demo/repo/pool/smolotchi_0.1.0_*.deb",
    },
    Way {
        name: "apt-get, unguarded",
        node: 2,
        up: "exec apt-get -q install -y smolotchi=0.2.0",
        back: "exec apt-get -q install -y --allow-downgrades smolotchi=0.1.0",
    },
    Way {
        name: "dpkg -i, unguarded",
        node: 2,
        up: "exec dpkg -i /srv/demo/repo/pool/smolotchi_0.2.0_*.deb",
        back: "exec dpkg -i /srv/demo/repo/pool/smolotchi_0.1.0_*.deb",
    },
];

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Upgrade(args) => upgrade(&args),
        Verb::Measure(args) => measure::run(&args).map(|seen| print(&output::json_line(&seen))),
        Verb::Agent(args) => agent::measure(&args).map(|text| print(&text)),
        Verb::Floor(args) => floor::run(&args),
        Verb::Compression(args) => compression::run(&args).map(|text| print(&text)),
    };
    output::finish(Format::Table, result)
}

#[allow(clippy::print_stdout, reason = "a benchmark prints")]
fn print(text: &str) -> Exit {
    print!("{text}");
    Exit::Success
}

fn upgrade(args: &Upgrade) -> Result<Exit> {
    let dist = args.dist.canonicalize().map_err(|error| Fault::io("could not find the packages: make dist-demo", &args.dist, &error))?;
    let program = std::env::current_exe().map_err(|error| Fault::io("could not find this program", "smolotchi-bench", &error))?;
    let folder = program.parent().unwrap_or(Path::new("/")).to_owned();
    let binds = vec![Bind { from: dist.clone(), to: DEMO.into() }, Bind { from: folder, to: BENCH.into() }];
    let lab = Lab::start(Options { release: args.release, nodes: 2, disk: Disk::Image, binds, ..Options::default() })?;
    let url = lab.serve(&dist.join("repo"), 0)?;
    for node in lab.nodes() {
        prepare(node, &dist, &url)?;
    }
    for path in args.over.iter().flat_map(std::fs::read_dir).flatten().flatten().map(|entry| entry.path()) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        lab.find(1)?.push(&path, &format!("/usr/bin/{name}"))?;
    }
    lab.find(2)?.sh_ok("rm /usr/bin/smolotchi-install && systemctl mask --now smolotchi-install-change.service")?;

    // There and back once uncounted: the first upgrade has to rebuild the package that it leaves, and all are read from the disk.
    for first in [&WAYS[0], &WAYS[3]] {
        for (script, version) in [(first.up, NEW), (first.back, OLD)] {
            measured(lab.find(first.node)?, script, version, 0)?;
        }
    }

    let mut results = Results { payload: payload(&dist)?, window_s: 5, rows: ROWS, runs: Vec::new() };
    for round in 1..=args.repeat {
        let ways = WAYS.iter().filter(|way| args.only.as_ref().is_none_or(|only| way.name.contains(only.as_str())));
        for way in ways {
            let node = lab.find(way.node)?;
            for (direction, script, version) in [("upgrade", way.up, NEW), ("back", way.back, OLD)] {
                let seen = measured(node, script, version, args.polls)?;
                eprintln!(
                    "{round}/{} {} {direction}: exit {}, core down {:.0} ms, {} of {} requests failed, {:.1} MB",
                    args.repeat,
                    way.name,
                    seen.exit,
                    seen.downtime_ms,
                    seen.web_failed,
                    seen.web_polls,
                    seen.card_bytes as f64 / 1e6
                );
                let found = node.installed()?;
                if found != version {
                    return Err(Fault::new(Code::LabFailed, "a measured command did not do its work")
                        .fact("way", way.name)
                        .fact("direction", direction)
                        .fact("installed", found)
                        .fact("said", seen.said.join("\n")));
                }
                results.runs.push(Run { way: way.name.to_owned(), direction: direction.to_owned(), seen });
            }
            let (rows, different) = node.count_events("bench")?;
            if (rows, different) != (u64::from(ROWS), u64::from(ROWS)) {
                return Err(Fault::new(Code::LabFailed, "rows were lost").fact("rows", rows));
            }
        }
    }
    if let Some(path) = &args.json {
        smolotchi_operator::durable::replace(path, output::json_line(&results).as_bytes(), 0o644)?;
    }
    if let Some(path) = &args.page {
        smolotchi_operator::durable::replace(path, results.page().as_bytes(), 0o644)?;
    }
    Ok(print(&results.tables()))
}

/// Installs the old version with some rows, as a machine in the field has it: Debian's own package lists included, because
/// apt's caches are made of them.
fn prepare(node: &Node, dist: &Path, url: &str) -> Result<()> {
    node.add_apt_source(&dist.join("keys/smolotchi-archive-keyring.pgp"), url, "stable")?;
    let lists = Path::new("/var/lib/apt/lists");
    if std::fs::read_dir(lists).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| is_list(&entry.path())))) {
        node.push(lists, "/var/lib/apt/lists")?;
        node.push(Path::new("/etc/apt/sources.list.d"), "/etc/apt/sources.list.d")?;
    } else {
        eprintln!("this host has no package lists of Debian (apt-get update): apt's caches will be small");
    }
    node.run_ok(&["apt-get", "install", "-y", "smolotchi=0.1.0"])?;
    node.shorten_gate()?;
    node.wait_until("smolotchi health to say 0", Duration::from_secs(60), "smolotchi health")?;
    node.append_events("bench", ROWS)
}

fn is_list(path: &Path) -> bool {
    path.to_string_lossy().contains("_Packages")
}

fn measured(node: &Node, script: &str, version: &str, polls: u64) -> Result<Measured> {
    // A version that the operator left is blocked; what apt fetched before is not fetched again.
    node.sh_ok(
        "rm -f /var/cache/apt/archives/*.deb; if command -v smolotchi-install >/dev/null; then smolotchi-install unblock 0.2.0 || true; fi",
    )?;
    node.wait_until("smolotchi health to say 0", Duration::from_secs(60), "smolotchi health")?;
    let polls = polls.to_string();
    let words = ["/srv/bench/smolotchi-bench", "measure", "--version", version, "--polls", &polls, "--", "sh", "-c", script];
    let output = node.run_within(&words, DEADLINE)?;
    serde_json::from_str(output.stdout.trim()).map_err(|error| {
        Fault::new(Code::LabFailed, "a measurement failed")
            .fact("command", script)
            .fact("said", output.stdout)
            .fact("stderr", output.stderr)
            .cause(&error)
    })
}

/// What an upgrade has to bring: the package as it travels, and the files in it.
fn payload(dist: &Path) -> Result<Payload> {
    let pool = dist.join("repo/pool");
    let entries = std::fs::read_dir(&pool).map_err(|error| Fault::io("could not list the packages", &pool, &error))?;
    let wanted = format!("smolotchi_{NEW}_");
    let path = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&wanted)))
        .ok_or_else(|| {
            Fault::new(Code::FileMissing, "the new version's package is not there").fact("folder", pool.display().to_string())
        })?;
    let deb = smolotchi_release::Deb::<smolotchi_release::Untrusted>::open(&path)
        .map_err(|error| Fault::new(Code::LabFailed, "the new version's package can't be read").cause(&error))?;
    Ok(Payload { deb_bytes: deb.size(), installed_bytes: deb.installed_bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["smolotchi-bench", "measure", "--version", "0.2.0", "--", "dpkg", "-i", "x.deb"]);
        assert!(matches!(cli.map(|cli| cli.verb), Ok(Verb::Measure(args)) if args.command == ["dpkg", "-i", "x.deb"]));
        assert!(Cli::try_parse_from(["smolotchi-bench", "measure"]).is_err());
    }
}
