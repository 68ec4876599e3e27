//! The crash matrix: at every call that changes the disk, of every way to change the version, the machine dies or the disk
//! fails, and at every flush of the disk the power goes; after the next boot it runs the old version or the new one, whole
//! and healthy, with every acknowledged row. Needs root and `make dist-demo`.
//!
//! By default a sample, chosen by SEED. `CRASH=full` tries every point: it takes days, keeps what it did in
//! /var/cache/smolotchi-lab/crash and goes on there when started again, also with what ended badly. SHARD=2/4 takes every
//! fourth point from the second on (one shard at a time on one machine); SCENARIOS=apt,purge and FAULTS=kill,eio take some;
//! POINTS=20 takes so many of a sample. Faults: kill, enospc (one call), full (from a call on), eio, pair (a kill, and one
//! more while that heals); and of what was not synced: dropped, reordered, torn.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use smolotchi_lab::crash::conductor::{Heard, Score};
use smolotchi_lab::crash::disk::{Loss, Recorder};
use smolotchi_lab::crash::judge::{self, Outcome};
use smolotchi_lab::crash::power;
use smolotchi_lab::crash::record::{Known, Record, Tried};
use smolotchi_lab::crash::scenario::{DEMO, LAB, Rig, SCENARIOS, Scenario};
use smolotchi_lab::crash::tracer::Event;
use smolotchi_lab::{Bind, Disk, Lab, Options};
use smolotchi_operator::Result;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

/// Nodes that work side by side: as many as this project's machines have processors.
const NODES: u32 = 2;

/// What is tried.
#[derive(Debug, Clone)]
struct Choice {
    full: bool,
    seed: u64,
    shard: (usize, usize),
    scenarios: Vec<String>,
    faults: Vec<String>,
    points: Option<usize>,
}

impl Choice {
    fn read() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let list = |name: &str| text(name).map(|text| text.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap_or_default();
        let full = text("CRASH").is_some_and(|text| text == "full");
        let shard = text("SHARD").map_or((0, 1), |text| {
            let (which, of) = text.split_once("/").unwrap();
            (which.parse::<usize>().unwrap() - 1, of.parse().unwrap())
        });
        Choice {
            full,
            seed: text("SEED").map_or(1, |text| text.parse().unwrap()),
            shard,
            scenarios: list("SCENARIOS"),
            faults: list("FAULTS"),
            points: text("POINTS").map(|text| text.parse().unwrap()),
        }
    }

    fn wants(&self, fault: &str) -> bool {
        self.faults.is_empty() || self.faults.iter().any(|name| name == fault)
    }

    fn takes(&self, scenario: &Scenario) -> bool {
        self.scenarios.is_empty() || self.scenarios.iter().any(|name| name == scenario.name)
    }

    /// Before how many of the calls the disk's state is taken: each time costs a tenth of a second.
    fn capture(&self, scenario: &str) -> Score {
        let one_in = match (self.full, self.points) {
            (true, _) => 1,
            (false, points) => 400 / points.unwrap_or(2).clamp(1, 400) as u64,
        };
        Score::Capture { one_in, seed: self.seed_of(scenario) }
    }

    fn seed_of(&self, what: &str) -> u64 {
        self.seed ^ what.bytes().fold(7, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)))
    }

    /// Which of these are tried: those of this shard, or a sample.
    fn of<T>(&self, what: &str, mut all: Vec<T>, sample: usize) -> Vec<T> {
        let limit = self.points.or((!self.full).then_some(sample));
        if let Some(limit) = limit {
            shuffle(&mut all, self.seed_of(what));
            all.truncate(limit);
        }
        all.into_iter().skip(self.shard.0).step_by(self.shard.1).collect()
    }
}

/// How many of each fault a sample takes: of the kills for each scenario, of the others altogether.
const SAMPLE: [(&str, usize); 5] = [("kill", 2), ("enospc", 1), ("full", 1), ("eio", 1), ("pair", 1)];

/// Fisher and Yates, with a small generator: the same seed, the same order, everywhere.
fn shuffle<T>(list: &mut [T], seed: u64) {
    let mut random = seed;
    for index in (1..list.len()).rev() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        list.swap(index, ((random >> 33) % (index as u64 + 1)) as usize);
    }
}

/// One point to try; the number is that of the call before which it is.
#[derive(Debug, Clone)]
enum Point {
    /// Boot from this state.
    Kill { number: usize, state: String },
    /// Run with this call failing.
    Fail { number: usize, how: &'static Failing },
    /// Boot from this state, and cut again while it heals.
    Pair { number: usize, state: String },
}

impl Point {
    fn number(&self) -> usize {
        let (Point::Kill { number, .. } | Point::Fail { number, .. } | Point::Pair { number, .. }) = self;
        *number
    }
}

/// A way in which the disk fails.
#[derive(Debug)]
struct Failing {
    name: &'static str,
    errno: i32,
    calls: &'static [&'static str],
    /// Not once, but from the point on until the command has ended.
    on: bool,
}

const TAKES_ROOM: &[&str] =
    &["write", "pwrite", "writev", "open", "mkdir", "link", "symlink", "rename", "fallocate", "ftruncate", "sendfile", "copy_file_range"];
const FAILING: [Failing; 3] = [
    Failing { name: "enospc", errno: 28, calls: TAKES_ROOM, on: false },
    Failing { name: "full", errno: 28, calls: TAKES_ROOM, on: true },
    Failing { name: "eio", errno: 5, calls: &["write", "pwrite", "writev", "fsync", "fdatasync", "syncfs", "rename", "unlink"], on: false },
];

/// All points of one fault in a scenario's trace, and how many calls they stand for.
fn points(fault: &str, heard: &Heard, seed: u64) -> (usize, Vec<Point>) {
    let states = || heard.states.iter().cloned();
    let failing = match fault {
        "kill" => return (heard.events.len(), states().map(|(number, state)| Point::Kill { number, state }).collect()),
        "pair" => return (heard.events.len(), states().map(|(number, state)| Point::Pair { number, state }).collect()),
        _ => FAILING.iter().find(|failing| failing.name == fault).unwrap(),
    };
    let all: Vec<(usize, &Event)> =
        heard.events.iter().enumerate().filter(|(_, event)| failing.calls.contains(&event.call.as_str())).collect();
    // One file is written by hundreds of calls: of those the first, the last and one between.
    let runs = all.chunk_by(|(_, one), (_, next)| one == next);
    let chosen = runs.flat_map(|run| {
        let mut of_run = vec![0, seed as usize % run.len(), run.len() - 1];
        of_run.sort_unstable();
        of_run.dedup();
        of_run.into_iter().map(|index| Point::Fail { number: run[index].0, how: failing })
    });
    (all.len(), chosen.collect())
}

#[derive(Debug)]
struct Job {
    scenario: &'static Scenario,
    fault: &'static str,
    point: Point,
    event: String,
}

impl Job {
    fn name(&self) -> String {
        match &self.point {
            Point::Kill { state, .. } | Point::Pair { state, .. } => state.clone(),
            Point::Fail { number, .. } => number.to_string(),
        }
    }
}

fn dist() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("dist/demo");
    assert!(folder.join("repo").is_dir(), "{} is missing: run `make dist-demo` first", folder.display());
    folder
}

/// Where states and results are: kept for these very packages when all is tried, else thrown away.
fn workplace(choice: &Choice) -> (PathBuf, Option<tempfile::TempDir>) {
    let root = Path::new("/var/cache/smolotchi-lab/crash");
    std::fs::create_dir_all(root).unwrap();
    if choice.full {
        let stamp = std::fs::read_to_string(dist().join(".stamp")).unwrap();
        return (root.join(&stamp[..16]), None);
    }
    let folder = tempfile::tempdir_in(root).unwrap();
    (folder.path().to_owned(), Some(folder))
}

#[test]
fn every_cut_and_every_failing_write_ends_in_the_old_version_or_the_new_one() {
    smolotchi_lab::preflight().unwrap();
    let choice = Choice::read();
    println!("SEED={} {choice:?}", choice.seed);
    let (folder, _thrown_away) = workplace(&choice);
    let control = tempfile::tempdir_in("/var/cache/smolotchi-lab/crash").unwrap();
    Rig::prepare_control(control.path(), Path::new(env!("CARGO_BIN_EXE_smolotchi-lab"))).unwrap();
    let lab = Lab::start(Options {
        nodes: NODES,
        binds: vec![Bind { from: dist(), to: DEMO.into() }, Bind { from: control.path().to_owned(), to: LAB.into() }],
        ..Options::default()
    })
    .unwrap();
    let making = Mutex::new(());
    let record = Record::open(&folder).unwrap();
    let rigs: Vec<Rig> = (1..=NODES).map(|node| Rig::new(&lab, node, control.path(), &folder, &making)).collect();

    // First every way is run once, whole, with the disk's state taken before each call.
    let scenarios: Vec<&'static Scenario> = SCENARIOS.iter().filter(|scenario| choice.takes(scenario)).collect();
    let traces = Mutex::new(BTreeMap::new());
    in_parallel(&rigs, scenarios.clone(), |rig, scenario| {
        let heard = trace(rig, scenario, &choice, &folder)?;
        traces.lock().unwrap().insert(scenario.name, heard);
        Ok(())
    });
    let traces = traces.into_inner().unwrap();

    let mut known: BTreeMap<(String, String), Known> = BTreeMap::new();
    let mut jobs = Vec::new();
    for (fault, sample) in SAMPLE.into_iter().filter(|(fault, _)| choice.wants(fault)) {
        let mut of_fault = Vec::new();
        for &scenario in &scenarios {
            let heard = &traces[scenario.name];
            let (calls, all) = points(fault, heard, choice.seed);
            known.insert((scenario.name.to_owned(), fault.to_owned()), Known { points: calls, states: all.len() });
            let event = |number: usize| heard.events.get(number).map_or_else(|| "the end".to_owned(), |event| format!("{number} {event}"));
            let all = all.into_iter().map(|point| Job { scenario, fault, event: event(point.number()), point }).collect();
            of_fault.extend(if fault == "kill" { choice.of(scenario.name, all, sample) } else { all });
        }
        jobs.extend(if fault == "kill" { of_fault } else { choice.of(fault, of_fault, sample) });
    }
    jobs.retain(|job| !record.has(job.scenario.name, job.fault, &job.name()));
    println!("{} points to try", jobs.len());
    in_parallel(&rigs, jobs, |rig, job| tried(rig, &job, &choice, &record));

    conclude(&record, &known);
}

/// Prints the table and fails if any end was bad.
fn conclude(record: &Record, known: &BTreeMap<(String, String), Known>) {
    println!("{}", record.table(known));
    let bad: Vec<Tried> = record.all().into_iter().filter(|one| !one.outcome.problems.is_empty()).collect();
    for Tried { scenario, fault, point, event, outcome } in &bad {
        println!("\nBAD {scenario} {fault} at {event} ({point}): {:#?}\n{}", outcome.problems, outcome.evidence);
    }
    assert!(bad.is_empty(), "{} bad end states of {}", bad.len(), record.all().len());
}

/// Power cuts at which the disk loses what was not synced: before any of its flushes, dropped, reordered or torn.
#[test]
fn what_was_not_synced_may_be_lost_and_it_still_ends_in_the_old_version_or_the_new_one() {
    smolotchi_lab::preflight().unwrap();
    let choice = Choice::read();
    println!("SEED={} {choice:?}", choice.seed);
    let (folder, _thrown_away) = workplace(&choice);
    // Before the lab, so that its supervisor sees the mount; and it goes after the lab.
    let recorder = Recorder::mount(&folder).unwrap();
    let lab =
        Lab::start(Options { nodes: NODES, disk: Disk::Image, binds: vec![Bind { from: dist(), to: DEMO.into() }], ..Options::default() })
            .unwrap();
    let record = Record::open(&folder).unwrap();
    let mut known = BTreeMap::new();
    let scenarios: Vec<&Scenario> = SCENARIOS.iter().filter(|scenario| choice.takes(scenario)).collect();
    let scenarios = if choice.full || !choice.scenarios.is_empty() { scenarios } else { choice.of("power", scenarios, 1) };
    for scenario in scenarios {
        let began = Instant::now();
        let recorded = power::recorded(lab.node(1), &recorder, scenario, &folder).unwrap();
        let points = recorded.log.points(recorded.marks.from, recorded.marks.to);
        println!("{}: {} flushes with something to lose, {} s", scenario.name, points.len(), began.elapsed().as_secs());
        power::check(lab.node(1), &recorded).unwrap();
        let mut jobs = Vec::new();
        for loss in Loss::ALL.into_iter().filter(|loss| choice.wants(loss.as_str())) {
            known.insert((scenario.name.to_owned(), loss.as_str().to_owned()), Known { points: points.len(), states: points.len() });
            // A sample is taken where several writes are at stake; mostly it is one.
            let worth: Vec<usize> = points.iter().copied().filter(|&at| choice.full || recorded.log.at_stake(at) > 3).collect();
            let chosen = choice.of(&format!("{}{}", scenario.name, loss.as_str()), worth, 1);
            jobs.extend(chosen.into_iter().map(|at| (at, loss)));
        }
        in_parallel(lab.nodes(), jobs, |node, (at, loss)| {
            let outcome = power::cut(node, scenario, &recorded, at, loss, choice.seed)?;
            let event =
                format!("flush {at} of {} to {}, {} writes unsynced", recorded.marks.from, recorded.marks.to, recorded.log.at_stake(at));
            record.add(Tried { scenario: scenario.name.to_owned(), fault: loss.as_str().to_owned(), point: at.to_string(), event, outcome })
        });
    }
    conclude(&record, &known);
}

/// What a scenario's whole run was; from an earlier run of these packages if there is one.
fn trace(rig: &Rig, scenario: &Scenario, choice: &Choice, folder: &Path) -> Result<Heard> {
    let path = folder.join(format!("trace-{}.json", scenario.name));
    if let Some(known) = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        return Ok(known);
    }
    let began = Instant::now();
    let (heard, _) = rig.run(scenario, choice.capture(scenario.name))?;
    let outcome = judge::judge(rig.node(), scenario, None)?;
    println!(
        "{}: {} calls, {} distinct states, {} s; end {} {:?}",
        scenario.name,
        heard.events.len(),
        heard.states.len(),
        began.elapsed().as_secs(),
        outcome.end,
        outcome.problems
    );
    assert!(
        outcome.end == "new" && outcome.problems.is_empty(),
        "{}: not even the undisturbed run ended well: {outcome:#?}",
        scenario.name
    );
    std::fs::write(path.with_extension("partial"), serde_json::to_vec(&heard).unwrap()).unwrap();
    std::fs::rename(path.with_extension("partial"), &path).unwrap();
    Ok(heard)
}

fn tried(rig: &Rig, job: &Job, choice: &Choice, record: &Record) -> Result<()> {
    let add = |fault: &str, point: String, event: String, outcome: Outcome| {
        record.add(Tried { scenario: job.scenario.name.to_owned(), fault: fault.to_owned(), point, event, outcome })
    };
    match &job.point {
        Point::Kill { state, .. } => {
            rig.boot_into(state, false)?;
            add(job.fault, job.name(), job.event.clone(), judge::judge(rig.node(), job.scenario, None)?)
        }
        Point::Fail { number, how } => {
            let score = Score::Fail { at: *number, errno: how.errno, calls: how.calls, on: how.on };
            let (heard, exit) = rig.run(job.scenario, score)?;
            // Told is what failed in this run.
            let event = match heard.failed {
                Some(number) => format!("{number} {}", heard.events[number]),
                None => "nothing: it was over before".to_owned(),
            };
            rig.node().reboot()?;
            let outcome = judge::judge(rig.node(), job.scenario, None)?;
            add(job.fault, job.name(), format!("{event} (exit {exit})"), outcome)
        }
        Point::Pair { state, .. } => {
            let one_in = if choice.full { 10 } else { 25 };
            let healing = rig.heal(state, Score::Capture { one_in, seed: choice.seed })?;
            // The first is the state itself.
            let all: Vec<(usize, String)> = healing.states.iter().filter(|(_, second)| second != state).cloned().collect();
            // Every pair would be a million: of each first cut, two second ones.
            let seconds = Choice { full: false, points: None, shard: (0, 1), ..choice.clone() };
            let chosen = seconds.of(state, all, if choice.full { 2 } else { 1 });
            let none = chosen.is_empty();
            for (number, second) in chosen {
                let event = healing.events.get(number).map_or_else(|| "the end".to_owned(), |event| format!("{number} {event}"));
                rig.boot_into(&second, false)?;
                let outcome = judge::judge(rig.node(), job.scenario, None)?;
                add(job.fault, format!("{state}+{second}"), format!("{}; then of {} {event}", job.event, healing.events.len()), outcome)?;
            }
            let unhealed = Outcome { end: "-".into(), problems: vec![], evidence: String::new() };
            if none { add(job.fault, state.clone(), format!("{}; nothing was healed", job.event), unhealed) } else { Ok(()) }
        }
    }
}

/// Works jobs off, one thread per rig. A fault of the rig ends the test.
fn in_parallel<R: Sync, J: Send>(rigs: &[R], jobs: Vec<J>, work: impl Fn(&R, J) -> Result<()> + Sync) {
    let jobs = Mutex::new(jobs.into_iter());
    std::thread::scope(|scope| {
        let threads: Vec<_> = rigs
            .iter()
            .map(|rig| {
                let (jobs, work) = (&jobs, &work);
                scope.spawn(move || {
                    loop {
                        let Some(job) = jobs.lock().unwrap().next() else { return };
                        if let Err(fault) = work(rig, job) {
                            panic!("{fault}");
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}
