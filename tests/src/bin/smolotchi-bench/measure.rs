//! One measurement, inside a node: runs a command and meanwhile asks core and web as often as it can, watches the memory of
//! everything that the command sets going, and counts what reaches the disk. Prints one JSON document.
//!
//! Runs as `smolotchi-bench measure … -- COMMAND` in the node that is measured; it writes nothing to the node's disk.

use serde::{Deserialize, Serialize};
use smolotchi_operator::{Code, Fault, Result};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Core's API.
const CORE: &str = "/run/smolotchi/core.sock";
/// Web's listener.
const WEB: ([u8; 4], u16) = ([127, 0, 0, 1], 8080);
/// The link to the open change: as long as it is there, the change isn't committed.
const OPEN: &str = "/var/lib/smolotchi-install/open";
/// Between two polls of core, and of web.
const POLL: Duration = Duration::from_millis(1);
/// Between two looks at the memory of all processes.
const LOOK: Duration = Duration::from_millis(15);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a change may take, watch included.
const DEADLINE: Duration = Duration::from_secs(300);
/// Polls before the command starts, so that the first gap is seen.
const WARM_UP: Duration = Duration::from_millis(200);
/// A silence of core that is longer than a busy machine's own hiccups.
const SILENCE_MS: f64 = 50.0;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The version that the command brings; nothing: none.
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// How often web is asked at least.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) polls: u64,
    /// The command.
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

/// What was seen. Times are milliseconds since the command was started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// The command's exit code.
    pub(crate) exit: i32,
    /// The last lines that it said.
    pub(crate) said: Vec<String>,
    /// The command ended.
    pub(crate) ended_ms: f64,
    /// The last dpkg that unpacks or configures was gone.
    pub(crate) dpkg_ms: Option<f64>,
    /// Core answered with the wanted version.
    pub(crate) answered_ms: Option<f64>,
    /// No change was open any more.
    pub(crate) closed_ms: f64,
    /// The longest time between two answers of core.
    pub(crate) downtime_ms: f64,
    /// How often core was silent for longer than a busy machine's hiccup.
    pub(crate) silences: u64,
    /// Answers of core.
    pub(crate) core_polls: u64,
    /// Requests to web.
    pub(crate) web_polls: u64,
    /// Of these: refused, reset, cut off or timed out.
    pub(crate) web_failed: u64,
    /// Of these: answered with "core can't be asked" (503).
    pub(crate) web_unavailable: u64,
    /// How web failed first.
    pub(crate) web_failure: Option<String>,
    /// The slowest answer of web.
    pub(crate) web_slowest_ms: f64,
    /// Bytes that the disk was given, sync included.
    pub(crate) card_bytes: u64,
    /// Writes that the disk was given.
    pub(crate) card_writes: u64,
    /// Flushes of the disk's cache; nothing where the kernel doesn't count them.
    pub(crate) card_flushes: Option<u64>,
    /// The most memory (PSS) of all that wasn't there before and isn't the agent's services.
    pub(crate) memory_bytes: u64,
    /// What ran at that moment: name and bytes.
    pub(crate) memory_of: Vec<(String, u64)>,
}

/// Measures the command and prints what was seen.
pub(crate) fn run(args: &Args) -> Result<Measured> {
    let disk = Disk::of_root()?;
    rustix::fs::sync();
    let before = disk.read()?;
    let stop = AtomicBool::new(false);
    let web_polls = AtomicU64::new(0);
    let epoch = Instant::now();
    let strangers = processes().collect::<HashSet<_>>();

    let mut seen = Measured::default();
    let (core, web, memory, began) = std::thread::scope(|scope| -> Result<_> {
        let core = scope.spawn(|| watch_core(epoch, &stop));
        let web = scope.spawn(|| watch_web(&stop, &web_polls));
        let memory = scope.spawn(|| watch_memory(epoch, &stop, &strangers));
        std::thread::sleep(WARM_UP);
        let began = epoch.elapsed();
        let ran = act(args, began, epoch, &mut seen);
        while ran.is_ok() && web_polls.load(Ordering::Relaxed) < args.polls {
            std::thread::sleep(LOOK);
        }
        stop.store(true, Ordering::Relaxed);
        let broke = || Fault::new(Code::LabFailed, "a poller broke");
        let core = core.join().map_err(|_| broke())?;
        let web = web.join().map_err(|_| broke())?;
        let memory = memory.join().map_err(|_| broke())?;
        ran?;
        Ok((core, web, memory, began))
    })?;
    rustix::fs::sync();
    let after = disk.read()?;

    let since = |at: Duration| at.saturating_sub(began).as_secs_f64() * 1e3;
    seen.card_bytes = (after.sectors - before.sectors) * 512;
    seen.card_writes = after.writes - before.writes;
    seen.card_flushes = after.flushes.zip(before.flushes).map(|(after, before)| after - before);
    seen.answered_ms =
        args.version.as_ref().and_then(|version| core.versions.iter().find(|(_, seen)| seen == version)).map(|(at, _)| since(*at));
    seen.downtime_ms = core.longest.as_secs_f64() * 1e3;
    seen.silences = core.silences;
    seen.core_polls = core.answers;
    seen.web_polls = web.polls;
    seen.web_failed = web.failed;
    seen.web_unavailable = web.unavailable;
    seen.web_failure = web.failure;
    seen.web_slowest_ms = web.slowest.as_secs_f64() * 1e3;
    seen.dpkg_ms = memory.dpkg.map(since);
    seen.memory_bytes = memory.peak;
    seen.memory_of = memory.of;
    Ok(seen)
}

/// Runs the command and waits until no change is open.
fn act(args: &Args, began: Duration, epoch: Instant, seen: &mut Measured) -> Result<()> {
    let (program, words) = args.command.split_first().ok_or_else(|| Fault::new(Code::Usage, "no command is named"))?;
    let failed = |error: &std::io::Error| Fault::new(Code::ProgramFailed, "could not run the command").cause(error);
    let since = || (epoch.elapsed().saturating_sub(began)).as_secs_f64() * 1e3;
    let mut child =
        Command::new(program).args(words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| failed(&error))?;
    for line in child.stdout.take().into_iter().flat_map(|pipe| BufReader::new(pipe).lines()).map_while(std::result::Result::ok) {
        seen.said.push(format!("{:6.0} ms {line}", since()));
    }
    let status = child.wait().map_err(|error| failed(&error))?;
    seen.exit = status.code().unwrap_or(-1);
    seen.ended_ms = since();
    let began_waiting = Instant::now();
    while Path::new(OPEN).is_symlink() {
        if began_waiting.elapsed() > DEADLINE {
            return Err(Fault::new(Code::LabFailed, "the change did not end").fact("deadline_s", DEADLINE.as_secs()));
        }
        std::thread::sleep(POLL);
    }
    seen.closed_ms = since();
    seen.said = seen.said.split_off(seen.said.len().saturating_sub(30));
    Ok(())
}

#[derive(Default)]
struct Core {
    longest: Duration,
    silences: u64,
    answers: u64,
    /// Each version that answered, with the time of its first answer.
    versions: Vec<(Duration, String)>,
}

fn watch_core(epoch: Instant, stop: &AtomicBool) -> Core {
    let mut core = Core::default();
    let mut last = None::<Duration>;
    while !stop.load(Ordering::Relaxed) {
        let answer = UnixStream::connect(CORE).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            ask(stream, "/v1/status")
        });
        if let Some(version) = answer.ok().filter(|answer| status(answer) == Some(200)).as_deref().and_then(version_of) {
            let now = epoch.elapsed();
            let gap = last.map_or(Duration::ZERO, |last| now - last);
            core.longest = core.longest.max(gap);
            core.silences += u64::from(gap.as_secs_f64() * 1e3 > SILENCE_MS);
            core.answers += 1;
            if core.versions.last().is_none_or(|(_, last)| last != version) {
                core.versions.push((now, version.to_owned()));
            }
            last = Some(now);
        }
        std::thread::sleep(POLL);
    }
    core
}

#[derive(Default)]
struct Web {
    polls: u64,
    failed: u64,
    unavailable: u64,
    failure: Option<String>,
    slowest: Duration,
}

fn watch_web(stop: &AtomicBool, polls: &AtomicU64) -> Web {
    let mut web = Web::default();
    let address = SocketAddr::from(WEB);
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let answer = TcpStream::connect_timeout(&address, PATIENCE).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            ask(stream, "/api/status")
        });
        web.slowest = web.slowest.max(asked.elapsed());
        web.polls += 1;
        polls.store(web.polls, Ordering::Relaxed);
        match answer.map(|answer| status(&answer)) {
            Ok(Some(200)) => {}
            Ok(Some(503)) => web.unavailable += 1,
            other => {
                web.failed += 1;
                web.failure.get_or_insert_with(|| format!("{other:?}"));
            }
        }
        std::thread::sleep(POLL);
    }
    web
}

/// One request of its own connection; the whole answer.
fn ask(mut stream: impl Read + Write, path: &str) -> std::io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.is_empty() { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
}

/// The status code of an HTTP answer.
fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// The version in core's status.
fn version_of(answer: &str) -> Option<&str> {
    answer.split_once("\"version\":\"")?.1.split_once('"').map(|(version, _)| version)
}

#[derive(Default)]
struct Memory {
    peak: u64,
    of: Vec<(String, u64)>,
    /// When a dpkg that changes packages was last seen.
    dpkg: Option<Duration>,
}

fn watch_memory(epoch: Instant, stop: &AtomicBool, strangers: &HashSet<u32>) -> Memory {
    let mut memory = Memory::default();
    while !stop.load(Ordering::Relaxed) {
        let mut of = Vec::new();
        for pid in processes().filter(|pid| !strangers.contains(pid)) {
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            if is_service(&read("cgroup")) {
                continue;
            }
            let line = read("cmdline").replace('\0', " ");
            if is_dpkg_at_work(&line) {
                memory.dpkg = Some(epoch.elapsed());
            }
            if let Some(bytes) = pss(&read("smaps_rollup")).filter(|bytes| *bytes > 0) {
                of.push((line.chars().take(60).collect::<String>().trim().to_owned(), bytes));
            }
        }
        let sum = of.iter().map(|(_, bytes)| bytes).sum();
        if sum > memory.peak {
            memory.peak = sum;
            memory.of = of;
        }
        std::thread::sleep(LOOK);
    }
    memory
}

/// Their numbers.
pub(crate) fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The agent itself is what the change has to fit beside.
fn is_service(cgroup: &str) -> bool {
    ["smolotchi-core", "smolotchi-web", "smolotchi-prune"].iter().any(|unit| cgroup.contains(&format!("/{unit}.service")))
}

fn is_dpkg_at_work(line: &str) -> bool {
    let mut words = line.split(' ');
    let is_dpkg = words.next().is_some_and(|program| program == "dpkg" || program.ends_with("/dpkg"));
    is_dpkg && words.any(|word| matches!(word, "-i" | "--install" | "--unpack" | "--configure"))
}

/// Proportional set size of a process, in bytes.
pub(crate) fn pss(smaps: &str) -> Option<u64> {
    let line = smaps.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// The block device under the root file system.
struct Disk(String);

/// What the kernel counted of it.
#[derive(Debug, PartialEq)]
struct Counters {
    writes: u64,
    sectors: u64,
    flushes: Option<u64>,
}

impl Disk {
    fn of_root() -> Result<Disk> {
        let device = std::fs::metadata("/").map_err(|error| Fault::io("could not look at the root", "/", &error))?.dev();
        let disk = Disk(format!("/sys/dev/block/{}:{}/stat", rustix::fs::major(device), rustix::fs::minor(device)));
        disk.read().map(|_| disk)
    }

    fn read(&self) -> Result<Counters> {
        let text = std::fs::read_to_string(&self.0).map_err(|error| Fault::io("could not read a disk's counters", &self.0, &error))?;
        Counters::parse(&text).ok_or_else(|| Fault::new(Code::LabFailed, "a disk's counters are not readable").fact("said", text))
    }
}

impl Counters {
    /// The kernel's Documentation/block/stat.rst.
    fn parse(text: &str) -> Option<Counters> {
        let fields: Vec<u64> = text.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
        Some(Counters { writes: *fields.get(4)?, sectors: *fields.get(6)?, flushes: fields.get(15).copied() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let text = "  103749    25099  6039946    14527    24644    49815  3168120    20750        0    20700    45522        0        0        0        0    10566    10244\n";
        assert_eq!(Counters::parse(text), Some(Counters { writes: 24_644, sectors: 3_168_120, flushes: Some(10_566) }));
        assert_eq!(Counters::parse("1 2 3 4 5 6 7 8 9 10 11").map(|counters| counters.flushes), Some(None));
        assert_eq!(Counters::parse("1 2"), None);
        assert_eq!(pss("00400000-7fff ---p 00000000 00:00 0 [rollup]\nRss:  900 kB\nPss:  12 kB\nPss_Dirty: 3 kB\n"), Some(12_288));
        assert_eq!(pss(""), None);
    }

    #[test]
    fn answers_are_read() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"version\":\"0.2.0\",\"schema\":3}";
        assert_eq!((status(answer), version_of(answer)), (Some(200), Some("0.2.0")));
        assert_eq!((status("HTTP/1.1 503 x"), status(""), version_of("{}")), (Some(503), None, None));
    }

    #[test]
    fn dpkg_is_told_from_those_that_only_ask() {
        for (line, expected) in [
            ("dpkg --install --force-confdef /x.deb", true),
            ("/usr/bin/dpkg --status-fd 13 --no-triggers --unpack --auto-deconfigure /x.deb", true),
            ("dpkg --print-architecture", false),
            ("dpkg-query -W -i", false),
            ("sh -c dpkg -i", false),
        ] {
            assert_eq!(is_dpkg_at_work(line), expected, "{line}");
        }
    }

    #[test]
    fn the_agents_services_are_not_the_change() {
        assert!(is_service("0::/system.slice/smolotchi-core.service\n"));
        assert!(!is_service("0::/system.slice/smolotchi-install-change.service\n"));
    }
}
