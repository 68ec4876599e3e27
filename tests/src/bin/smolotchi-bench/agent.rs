//! `make bench`: what the agent costs while it runs, beside the same work done by `sqlite3` and `sha256sum`, and beside the least
//! that a Rust daemon can be. Prints; a line that is over its bound says so.
//!
//! CPU time, bytes and memory, hardly wall time: others use the machine too. The agent's files are on an ext4 file system of
//! their own, so that every byte that reaches the disk is counted.

use crate::process::{Card, Costs, Node, Service, cpu_of, ended, exchange, failed, own_cpu, run, until};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use smolotchi_operator::{Fault, Result};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent's release build.
    #[arg(long, default_value = "target/packages/release/smolotchi")]
    program: PathBuf,
    /// An agent of the first schema, to migrate from; without it that is not measured.
    #[arg(long)]
    old: Option<PathBuf>,
    /// How long the idle services are watched, in seconds.
    #[arg(long, default_value_t = 600)]
    idle_s: u64,
    /// Events of the large database.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Only parts whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Write all that was measured here.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One line: what was measured, in which unit, the peer's figure, and what it may be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    name: String,
    unit: String,
    ours: f64,
    peer: Option<(String, f64)>,
    bound: Option<Bound>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Bound {
    Most(f64),
    Least(f64),
}

impl Line {
    fn holds(&self) -> Option<bool> {
        self.bound.map(|bound| match bound {
            Bound::Most(most) => self.ours <= most,
            Bound::Least(least) => self.ours >= least,
        })
    }
}

/// The lines of a run, told as they come.
#[derive(Default)]
struct Lines(Vec<Line>);

impl Lines {
    fn add(&mut self, name: &str, unit: &str, ours: f64, peer: Option<(&str, f64)>, bound: Option<Bound>) {
        let peer = peer.map(|(name, value)| (name.to_owned(), value));
        let line = Line { name: name.to_owned(), unit: unit.to_owned(), ours, peer, bound };
        eprintln!("{}", row(&line));
        self.0.push(line);
    }
}

/// Measures everything that `--only` lets through; the table in Markdown.
pub(crate) fn measure(args: &Args) -> Result<String> {
    let program =
        args.program.canonicalize().map_err(|error| Fault::io("could not find the agent: make dist-demo", &args.program, &error))?;
    let work = PathBuf::from(format!("/var/tmp/smolotchi-bench.{}", std::process::id()));
    std::fs::create_dir_all(&work).map_err(|error| Fault::io("could not make a folder", &work, &error))?;
    let result = all(args, &program, &work);
    let _ = std::fs::remove_dir_all(&work);
    let lines = result?;
    if let Some(path) = &args.json {
        smolotchi_operator::durable::replace(path, smolotchi_operator::output::json_line(&lines).as_bytes(), 0o644)?;
    }
    Ok(table(&lines))
}

fn all(args: &Args, program: &Path, work: &Path) -> Result<Vec<Line>> {
    type Part = fn(&Args, &Bench<'_>, &mut Lines) -> Result<()>;
    let parts: [(&str, Part); 8] = [
        ("fresh", fresh),
        ("idle", idle),
        ("events", events),
        ("prune", prune),
        ("artifacts", artifacts),
        ("large", large),
        ("migration", migration),
        ("crowd", crowd),
    ];
    let mut lines = Lines::default();
    for (name, part) in parts {
        if args.only.as_ref().is_none_or(|only| name.contains(only.as_str())) {
            // Each part has a card and a node of its own.
            let card = Card::new(work, 3072)?;
            let (root, volatile) = (card.path().join("root"), work.join(format!("run-{name}")));
            let node = Node::new(&root, &volatile, program)?;
            part(args, &Bench { card: &card, node: &node, work }, &mut lines)?;
        }
    }
    Ok(lines.0)
}

/// What each part works with.
struct Bench<'a> {
    card: &'a Card,
    node: &'a Node,
    work: &'a Path,
}

/// core, web and ai.
struct Agent(Vec<Service>);

impl Agent {
    fn start(bench: &Bench<'_>) -> Result<Agent> {
        let core = bench.node.core()?;
        let web = bench.node.service(&["web", "--listen", WEB])?;
        let ai = bench.node.service(&["ai"])?;
        Ok(Agent(vec![core, web, ai]))
    }

    fn pss(&self) -> Result<f64> {
        self.0.iter().map(Service::pss).sum::<Result<u64>>().map(|bytes| bytes as f64 / 1e6)
    }

    fn costs(&self) -> Result<Costs> {
        let mut sum = Costs { cpu: Duration::ZERO, wakeups: 0 };
        for service in &self.0 {
            let costs = service.costs()?;
            sum.cpu += costs.cpu;
            sum.wakeups += costs.wakeups;
        }
        Ok(sum)
    }

    fn stop(self) -> Result<()> {
        self.0.into_iter().rev().try_for_each(Service::stop)
    }
}

/// How long after their start the services are what they are for months.
const SETTLED: Duration = Duration::from_secs(45);

/// How often a start is measured.
const STARTS: usize = 5;

const WEB: &str = "127.0.0.1:18080";

fn floor(bench: &Bench<'_>, name: &str) -> Result<Service> {
    let program = std::env::current_exe().map_err(|error| failed("could not find this program", &error))?;
    let own = bench.card.path().join("floor");
    let socket = bench.node.root.join("run/smolotchi").join(name).display().to_string();
    // One that ended leaves its socket.
    let _ = std::fs::remove_file(&socket);
    std::fs::copy(program, &own).map_err(|error| Fault::io("could not copy this program", &own, &error))?;
    Service::start(&own, &["floor", &socket], "is ready")
}

/// Memory and CPU of services that have just started, and of a verb.
fn fresh(_: &Args, bench: &Bench<'_>, lines: &mut Lines) -> Result<()> {
    // Once unmeasured: it makes the database.
    bench.node.core()?.stop()?;
    let agent = Agent::start(bench)?;
    let peer_service = floor(bench, "floor.sock")?;
    let peer_mb = peer_service.pss()? as f64 / 1e6;
    lines.add("memory of core, web and ai, just started", "MB PSS", agent.pss()?, Some(("three least daemons", 3.0 * peer_mb)), None);
    // They give back what only the start needed.
    std::thread::sleep(SETTLED);
    lines.add(
        "memory of core, web and ai, fresh",
        "MB PSS",
        agent.pss()?,
        Some(("three least daemons", 3.0 * peer_service.pss()? as f64 / 1e6)),
        Some(Bound::Most(6.0)),
    );
    let verb = average(20, || cpu_of(&mut bench.node.verb(&["status", "--format", "json"])))?;
    let database = bench.node.database().display().to_string();
    let peer = average(20, || cpu_of(Command::new("sqlite3").args(["-readonly", &database, "SELECT count(*) FROM events"])))?;
    lines.add("a verb (status)", "ms CPU", verb, Some(("sqlite3, one count", peer)), Some(Bound::Most(4.0)));
    agent.stop()?;
    peer_service.stop()?;
    let peer = least(&|| floor(bench, "floor.sock"))?;
    let core = bench.node.core()?;
    let web = least(&|| bench.node.service(&["web", "--listen", WEB]))?;
    let ai = least(&|| bench.node.service(&["ai"]))?;
    core.stop()?;
    for (name, ready) in [("core is ready", least(&|| bench.node.core())?), ("web is ready", web), ("ai is ready", ai)] {
        lines.add(name, "ms CPU", ready, Some(("least daemon", peer)), Some(Bound::Most(5.0)));
    }
    Ok(())
}

/// The CPU of a start, in milliseconds: the least of some, as what the load of others adds is not the service's.
fn least(start: &dyn Fn() -> Result<Service>) -> Result<f64> {
    let mut least = Duration::MAX;
    for _ in 0..STARTS {
        let service = start()?;
        least = least.min(service.ready);
        service.stop()?;
    }
    Ok(least.as_secs_f64() * 1e3)
}

/// What web answers when many ask at once, by wrk, and what it needs for that.
fn crowd(_: &Args, bench: &Bench<'_>, lines: &mut Lines) -> Result<()> {
    let agent = Agent::start(bench)?;
    for (path, callers) in [("/api/health", 16), ("/", 16), ("/", 1000)] {
        let page = format!("http://{WEB}{path}");
        let output = Command::new("wrk").args(["-t", "2", "-c", &callers.to_string(), "-d", "10s", "--latency", &page]).output();
        let output = output.map_err(|error| failed("could not run wrk", &error))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let word = |before: &str| said.split(before).nth(1).and_then(|rest| rest.split_ascii_whitespace().next());
        let rate = word("Requests/sec:").and_then(|rate| rate.parse().ok()).ok_or_else(|| failed("wrk named no rate", &said))?;
        lines.add(&format!("answers of {path} to {callers} callers"), "a second", rate, None, None);
        let late = word("99%").unwrap_or_default();
        let (number, unit) = late.split_at(late.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(late.len()));
        let scale = [("us", 1e-3), ("ms", 1.0), ("s", 1e3)].into_iter().find(|(name, _)| *name == unit).map(|(_, scale)| scale);
        let late = number.parse::<f64>().ok().zip(scale).ok_or_else(|| failed("wrk named no latency", &said))?;
        lines.add(&format!("99 of 100 of these answers within ({path}, {callers})"), "ms", late.0 * late.1, None, None);
    }
    lines.add("memory at the end of a crowd", "MB PSS", agent.pss()?, None, Some(Bound::Most(16.0)));
    agent.stop()
}

fn average(times: u32, mut one: impl FnMut() -> Result<Duration>) -> Result<f64> {
    let mut sum = Duration::ZERO;
    for _ in 0..times {
        sum += one()?;
    }
    Ok(sum.as_secs_f64() * 1e3 / f64::from(times))
}

/// Writes what a part sets; each has a node of its own.
fn configure(bench: &Bench<'_>, settings: &str) -> Result<()> {
    let path = bench.node.root.join("etc/smolotchi/config.d/50-bench.toml");
    std::fs::write(&path, settings).map_err(|error| Fault::io("could not write the settings", &path, &error))
}

/// What idle services cost, once they have settled.
fn idle(args: &Args, bench: &Bench<'_>, lines: &mut Lines) -> Result<()> {
    // The daily run, which comes a quarter of an hour after a start, is work.
    configure(bench, "[ai]\nevery_hours = 0\n")?;
    let agent = Agent::start(bench)?;
    // The fast pulse after a start is not idleness.
    std::thread::sleep(Duration::from_secs(args.idle_s.min(330)));
    let (before, written, began) = (agent.costs()?, bench.card.written()?, Instant::now());
    std::thread::sleep(Duration::from_secs(args.idle_s));
    let (after, wrote, seconds) = (agent.costs()?, bench.card.written()? - written, began.elapsed().as_secs_f64());
    let cpu = (after.cpu.saturating_sub(before.cpu)).as_secs_f64() / seconds * 100.0;
    lines.add("idle: CPU", "%", cpu, None, Some(Bound::Most(0.01)));
    lines.add("idle: wake-ups", "/s", (after.wakeups - before.wakeups) as f64 / seconds, None, Some(Bound::Most(0.2)));
    lines.add(&format!("idle: written in {} s without events", args.idle_s), "KB", wrote as f64 / 1024.0, None, Some(Bound::Most(0.0)));
    agent.stop()
}

/// A batch of events as core's API takes it.
fn batch(from: u64, count: u64) -> Vec<u8> {
    let events: Vec<Value> = (from..from + count)
        .map(|i| json!({"topic": format!("sensor.{}", i % 20), "severity": if i % 50 == 0 { "warning" } else { "info" }, "body": {"value": i, "text": "some words here"}}))
        .collect();
    json!({ "events": events }).to_string().into_bytes()
}

fn append(bench: &Bench<'_>, events: u64) -> Result<()> {
    for from in (0..events).step_by(1000) {
        bench.node.call("POST", "/v1/events", &batch(from, 1000.min(events - from)))?;
    }
    Ok(())
}

fn written_by(bench: &Bench<'_>, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let before = bench.card.written()?;
    work()?;
    Ok((bench.card.written()? - before) as f64 / 1e6)
}

/// A plain database with the same rows, made by `sqlite3`.
fn plain(bench: &Bench<'_>, events: u64) -> Result<PathBuf> {
    let path = bench.card.path().join("plain.db");
    let schema = "PRAGMA journal_mode=WAL; CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, topic TEXT NOT NULL, body TEXT NOT NULL, severity INTEGER NOT NULL);";
    let rows = format!(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {events}) INSERT INTO events (at_ms, topic, body, severity) SELECT 1700000000000 + i, 'sensor.' || (i % 20), '{{\"text\":\"some words here\",\"value\":' || i || '}}', 1 FROM n;"
    );
    run(&["sqlite3", &path.display().to_string(), schema])?;
    run(&["sqlite3", &path.display().to_string(), &rows])?;
    Ok(path)
}

/// Appending in batches.
fn events(_: &Args, bench: &Bench<'_>, lines: &mut Lines) -> Result<()> {
    const EVENTS: u64 = 200_000;
    let core = bench.node.core()?;
    append(bench, 20_000)?;
    let batches: Vec<Vec<u8>> = (0..EVENTS / 1000).map(|i| batch(i * 1000, 1000)).collect();
    let (before, began) = (core.costs()?, Instant::now());
    let wrote = written_by(bench, || batches.iter().try_for_each(|batch| bench.node.call("POST", "/v1/events", batch).map(drop)))?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), (core.costs()?.cpu - before.cpu).as_secs_f64());
    // The peer inserts the same rows in the same batches, from SQL text.
    let script = bench.work.join("insert.sql");
    let mut sql = String::from("PRAGMA synchronous=FULL;\n");
    for from in (0..EVENTS).step_by(1000) {
        sql.push_str("BEGIN;\n");
        for i in from..from + 1000 {
            let _ = writeln!(
                sql,
                "INSERT INTO events (at_ms, topic, body, severity) VALUES (1700000000000, 'sensor.{}', '{{\"text\":\"some words here\",\"value\":{i}}}', 1);",
                i % 20
            );
        }
        sql.push_str("COMMIT;\n");
    }
    std::fs::write(&script, sql).map_err(|error| Fault::io("could not write the peer's script", &script, &error))?;
    let path = plain(bench, 1)?;
    let input = std::fs::File::open(&script).map_err(|error| Fault::io("could not open the peer's script", &script, &error))?;
    let peer = cpu_of(Command::new("sqlite3").arg(&path).stdin(Stdio::from(input)))?.as_secs_f64();
    let rate = |seconds: f64| EVENTS as f64 / seconds;
    lines.add(
        "events appended in batches of 1000, by CPU of core",
        "/s",
        rate(cpu),
        Some(("sqlite3, the same inserts", rate(peer))),
        Some(Bound::Least(100_000.0)),
    );
    lines.add("events appended in batches of 1000, by the clock", "/s", rate(seconds), None, None);
    lines.add("written for each event", "bytes", wrote * 1e6 / EVENTS as f64, None, None);
    core.stop()
}

/// Pruning the oldest 100,000 of 200,000 events.
fn prune(_: &Args, bench: &Bench<'_>, lines: &mut Lines) -> Result<()> {
    const EVENTS: u64 = 200_000;
    // So that whole segments make up what goes.
    configure(bench, "[retention]\nmax_events = 100000\nmax_age_days = 0\n")?;
    let core = bench.node.core()?;
    append(bench, EVENTS)?;
    let database = bench.node.database();
    // What a checkpoint of the appends would write is not the prune's.
    core.stop()?;
    let core = bench.node.core()?;
    let blocks = |path: &Path| {
        std::fs::metadata(path).map(|meta| meta.blocks() * 512).map_err(|error| Fault::io("could not look at the database", path, &error))
    };
    let (size, before) = (blocks(&database)?, core.costs()?);
    let mut removed = String::new();
    let wrote = written_by(bench, || {
        let output = bench.node.verb(&["prune", "--format", "json"]).output().map_err(|error| failed("could not prune", &error))?;
        removed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(()) } else { Err(failed("prune failed", &String::from_utf8_lossy(&output.stderr))) }
    })?;
    let cpu = (core.costs()?.cpu - before.cpu).as_secs_f64() * 1e3;
    let left = blocks(&database)?;
    eprintln!("prune said: {}", removed.trim());
    let path = plain(bench, EVENTS)?.display().to_string();
    let peer = cpu_of(Command::new("sqlite3").args([&path, "DELETE FROM events WHERE id <= 100000"]))?.as_secs_f64() * 1e3;
    lines.add("prune of 100,000 of 200,000 events", "ms CPU", cpu, Some(("sqlite3, one DELETE", peer)), Some(Bound::Most(20.0)));
    lines.add("prune: written", "MB", wrote, None, Some(Bound::Most(0.5)));
    lines.add(
        "prune: the database's blocks afterwards",
        "% of before",
        left as f64 / size as f64 * 100.0,
        Some(("sqlite3, one DELETE", 100.0)),
        Some(Bound::Most(75.0)),
    );
    core.stop()
}

fn put(bench: &Bench<'_>, number: u64) -> Result<()> {
    let body = format!("artifact {number}\n").repeat(64);
    bench.node.call("POST", &format!("/v1/artifacts?kind=note&name=n{number}.txt&media=text/plain"), body.as_bytes()).map(drop)
}

/// Artifacts: put at 5,000, look up at 100,000, and 10,000 at once.
fn artifacts(_: &Args, bench: &Bench<'_>, lines: &mut Lines) -> Result<()> {
    let core = bench.node.core()?;
    let began = Instant::now();
    puts(bench, 0, 10_000)?;
    let seconds = began.elapsed().as_secs_f64();
    let count = run(&["sqlite3", &bench.node.database().display().to_string(), "SELECT count(*) FROM artifacts"])?;
    lines.add(
        "10,000 puts by 8 callers at once: there afterwards",
        "artifacts",
        count.trim().parse().unwrap_or(0.0),
        None,
        Some(Bound::Least(10_000.0)),
    );
    lines.add("10,000 puts by 8 callers at once, by the clock", "/s", 10_000.0 / seconds, None, None);
    let before = core.costs()?;
    (20_000..20_500).try_for_each(|number| put(bench, number))?;
    let cpu = (core.costs()?.cpu - before.cpu).as_secs_f64() * 1e3 / 500.0;
    let file = bench.work.join("artifact");
    std::fs::write(&file, "artifact 20000\n".repeat(64)).map_err(|error| Fault::io("could not write a file", &file, &error))?;
    let peer = average(50, || cpu_of(Command::new("sha256sum").arg(&file)))?;
    lines.add("an artifact put, over 10,000 there", "ms CPU", cpu, Some(("sha256sum of the same file", peer)), Some(Bound::Most(0.3)));
    let folder = bench.card.path().join("plain");
    let plain = plain_puts(&folder).map_err(|error| Fault::io("could not write files by plain calls", &folder, &error))?;
    lines.add("the same file and five pages of a log, by the kernel's calls alone", "ms CPU", plain, None, None);
    core.stop()?;
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90000)
        INSERT INTO artifacts (kind, name, media, sha256, bytes, created_ms) SELECT 'note', 'm' || i, 'text/plain', printf('%064x', i), 1, i FROM n";
    let database = bench.node.database().display().to_string();
    run(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sqlite3", &database, fill])?;
    let core = bench.node.core()?;
    let before = core.costs()?;
    for i in 0..500 {
        bench.node.call("GET", &format!("/v1/artifacts/{}", 1 + i * 199), b"")?;
    }
    let cpu = (core.costs()?.cpu - before.cpu).as_secs_f64() * 1e3 / 500.0;
    let peer = average(50, || cpu_of(Command::new("sqlite3").args(["-readonly", &database, "SELECT * FROM artifacts WHERE id = 5000"])))?;
    lines.add("an artifact looked up among 100,000", "ms CPU", cpu, Some(("sqlite3, by its id", peer)), Some(Bound::Most(1.0)));
    core.stop()
}

/// What the kernel alone takes for a put: a file made, written, synced, renamed, its new folder synced; and as many pages as a commit
/// has, written into a log that has its size already, synced.
fn plain_puts(folder: &Path) -> std::io::Result<f64> {
    const PUTS: u64 = 500;
    const FRAME: u64 = 24 + 4096;
    let (content, page) = ("artifact 20000\n".repeat(64), [b'x'; 4096]);
    std::fs::create_dir_all(folder.join(".incoming"))?;
    for part in 0..=u8::MAX {
        std::fs::create_dir_all(folder.join(format!("{part:02x}")))?;
    }
    let log = std::fs::File::create(folder.join("log"))?;
    for _ in 0..1000 {
        (&log).write_all(&[0; FRAME as usize])?;
    }
    log.sync_all()?;
    let before = own_cpu()?;
    for number in 0..PUTS {
        let (from, to) = (folder.join(format!(".incoming/{number}")), folder.join(format!("{:02x}", (number * 97) & 0xff)));
        let mut file = std::fs::File::create_new(&from)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&from, to.join(number.to_string()))?;
        std::fs::File::open(&to)?.sync_all()?;
        for frame in number * 5..number * 5 + 5 {
            let at = frame % 1000 * FRAME;
            log.write_all_at(&page[..24], at)?;
            log.write_all_at(&page, at + 24)?;
        }
        log.sync_data()?;
    }
    Ok((own_cpu()? - before).as_secs_f64() * 1e3 / PUTS as f64)
}

fn puts(bench: &Bench<'_>, from: u64, count: u64) -> Result<()> {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return Ok(());
                        }
                        put(bench, from + number)?;
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(failed("a caller broke", &"panic"))))
    })
}

/// Memory, and a page's cost, with a large database.
fn large(args: &Args, bench: &Bench<'_>, lines: &mut Lines) -> Result<()> {
    configure(bench, "[retention]\nmax_events = 2000000\nmax_age_days = 0\n")?;
    let core = bench.node.core()?;
    append(bench, args.events)?;
    puts(bench, 0, 5_000)?;
    core.stop()?;
    let ready = least(&|| bench.node.core())?;
    let agent = Agent::start(bench)?;
    std::thread::sleep(SETTLED);
    lines.add("memory with the large database and 5,000 artifacts", "MB PSS", agent.pss()?, None, Some(Bound::Most(8.0)));
    lines.add("core is ready with that", "ms CPU", ready, None, Some(Bound::Most(5.0)));

    let page = || -> Result<()> {
        let stream = TcpStream::connect(WEB).map_err(|error| failed("web can't be reached", &error))?;
        exchange(stream, "GET", "/", "", b"").map(drop)
    };
    until("the page", || page().is_ok())?;
    const REQUESTS: u64 = 20_000;
    let (before, began) = (agent.costs()?, Instant::now());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    while next.fetch_add(1, Ordering::Relaxed) < REQUESTS {
                        page()?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(failed("a caller broke", &"panic"))))
    })?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), (agent.costs()?.cpu - before.cpu).as_secs_f64());
    lines.add("the page now: CPU of web, core and ai", "µs", cpu * 1e6 / REQUESTS as f64, None, Some(Bound::Most(80.0)));
    lines.add("the page now: by CPU of web, core and ai", "requests/s", REQUESTS as f64 / cpu, None, Some(Bound::Least(10_000.0)));
    lines.add("the page now: by the clock, the callers on the same two cores", "requests/s", REQUESTS as f64 / seconds, None, None);
    for path in ["/timeline", "/findings", "/jobs", "/artifacts", "/readings", "/upgrades"] {
        let before = agent.costs()?;
        for _ in 0..200 {
            let stream = TcpStream::connect(WEB).map_err(|error| failed("web can't be reached", &error))?;
            exchange(stream, "GET", path, "", b"")?;
        }
        let cpu = (agent.costs()?.cpu - before.cpu).as_secs_f64() * 1e6 / 200.0;
        lines.add(&format!("the page {path}: CPU of web, core and ai"), "µs", cpu, None, None);
    }
    append(bench, 100_000)?;
    puts(bench, 5_000, 500)?;
    lines.add("memory at the end of a load", "MB PSS", agent.pss()?, None, None);
    std::thread::sleep(SETTLED);
    lines.add("memory after a load", "MB PSS", agent.pss()?, None, Some(Bound::Most(10.0)));
    agent.stop()
}

/// Taking a large database of the first schema to this one's.
fn migration(args: &Args, bench: &Bench<'_>, lines: &mut Lines) -> Result<()> {
    let Some(old) = &args.old else {
        eprintln!("no --old: a migration is not measured");
        return Ok(());
    };
    let node = Node::new(&bench.card.path().join("old"), &bench.work.join("run-old"), old)?;
    let core = node.core()?;
    let before = Bench { card: bench.card, node: &node, work: bench.work };
    append(&before, args.events)?;
    core.stop()?;
    let database = bench.node.database();
    std::fs::rename(node.database(), &database).map_err(|error| Fault::io("could not move the database", &database, &error))?;
    let snapshot = bench.node.root.join("var/lib/smolotchi/snapshot.db").display().to_string();
    let began = Instant::now();
    let snapshots = cpu_of(&mut bench.node.verb(&["maint", "snapshot", "--to", &snapshot]))?;
    let (mut resident, before) = (0, ended()?);
    let mut child =
        bench.node.verb(&["maint", "migrate"]).stdout(Stdio::null()).spawn().map_err(|error| failed("could not migrate", &error))?;
    let status = loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let high = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        resident = resident.max(high.unwrap_or(0));
        if let Some(status) = child.try_wait().map_err(|error| failed("could not wait for the migration", &error))? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    if !status.success() {
        return Err(failed("the migration failed", &status));
    }
    let (seconds, migrates) = (began.elapsed().as_secs_f64(), ended()?.saturating_sub(before));
    let copy = bench.card.path().join("copy.db").display().to_string();
    let peer = cpu_of(Command::new("sqlite3").args([&snapshot, &format!("VACUUM INTO '{copy}'")]))?;
    lines.add(
        "migration of the large database with snapshot and check",
        "s CPU",
        (snapshots + migrates).as_secs_f64(),
        Some(("sqlite3, one VACUUM INTO", peer.as_secs_f64())),
        Some(Bound::Most(3.0)),
    );
    lines.add("of it the snapshot", "s CPU", snapshots.as_secs_f64(), None, None);
    lines.add("both, by the clock", "s", seconds, None, None);
    lines.add("migration: memory", "MB resident", resident as f64 * 1024.0 / 1e6, None, Some(Bound::Most(16.0)));
    Ok(())
}

fn row(line: &Line) -> String {
    let number = |value: f64| {
        if value >= 1000.0 {
            format!("{value:.0}")
        } else if value >= 10.0 {
            format!("{value:.1}")
        } else {
            format!("{value:.3}")
        }
    };
    let peer = line
        .peer
        .as_ref()
        .map_or_else(|| " | ".to_owned(), |(name, value)| format!("{} ({name}) | {:.2}", number(*value), line.ours / value));
    let bound = line.bound.map_or_else(String::new, |bound| match bound {
        Bound::Most(most) => format!("≤ {most}"),
        Bound::Least(least) => format!("≥ {least}"),
    });
    let word = line.holds().map_or("", |holds| if holds { "holds" } else { "OVER" });
    format!("| {} | {} {} | {peer} | {bound} | {word} |", line.name, number(line.ours), line.unit)
}

fn table(lines: &[Line]) -> String {
    let mut text = String::from("| measure | ours | peer | ours / peer | bound | |\n|---|---:|---:|---:|---:|---|\n");
    lines.iter().for_each(|line| text.extend([row(line).as_str(), "\n"]));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_whether_it_holds() {
        let line = |ours, bound| Line { name: "x".into(), unit: "ms".into(), ours, peer: Some(("y".into(), 2.0)), bound };
        assert_eq!(line(1.0, None).holds(), None);
        assert_eq!(line(5.0, Some(Bound::Most(5.0))).holds(), Some(true));
        assert_eq!(line(5.1, Some(Bound::Most(5.0))).holds(), Some(false));
        assert_eq!(line(4.9, Some(Bound::Least(5.0))).holds(), Some(false));
        assert_eq!(row(&line(5.1, Some(Bound::Most(5.0)))), "| x | 5.100 ms | 2.000 (y) | 2.55 | ≤ 5 | OVER |");
    }
}
