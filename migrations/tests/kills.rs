//! Processes that are killed in the middle of a migration or of a restore, and logs that end anywhere: the database is then at
//! the old schema or the new one, whole, and doing it again finishes it. KILLS and SEED choose how many and which.

#![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]

mod common;

use common::{Dice, database, dump, fill, fill_work, number};
use rusqlite::Connection;
use smolotchi_store::migrate::{Direction, inspect, run_as};
use smolotchi_store::{Store, check, restore, schema_own, snapshot};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the child does, by the first word of JOB; the others are its paths.
#[test]
#[ignore = "the child of the tests below, not a test of its own"]
fn child() {
    let job = std::env::var("JOB").unwrap();
    let words: Vec<&str> = job.split(' ').collect();
    println!("begun");
    match words[..] {
        ["migrate", to, path] => {
            run_as(to.parse().unwrap(), Path::new(path), Direction::ToOwn, false).unwrap();
        }
        ["restore", from, path, export] => {
            restore(Path::new(from), Path::new(path), Path::new(export)).unwrap();
        }
        _ => unreachable!("{job}"),
    }
}

/// This test program again, as a process that does `job`. Returns when it is about to begin.
fn begin(job: &str) -> (Child, impl Sized) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env("JOB", job)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().is_ok_and(|line| line.ends_with("begun"))).unwrap().unwrap();
    // Its output stays open: a process that can't print fails.
    (child, lines)
}

/// How long `job` takes when nobody kills it.
fn whole(job: &str) -> Duration {
    let (mut child, _output) = begin(job);
    let begun = Instant::now();
    assert!(child.wait().unwrap().success(), "{job}");
    begun.elapsed()
}

/// Starts `job` and kills it somewhere in its time. Returns whether that came before its end.
fn killed(job: &str, time: Duration, dice: &mut Dice) -> bool {
    let (mut child, _output) = begin(job);
    std::thread::sleep(time.mul_f64(dice.below(1000) as f64 / 1000.0));
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

fn copy(from: &Path, to: &Path) {
    for suffix in ["-wal", "-shm", "-journal"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", to.display()));
    }
    std::fs::copy(from, to).unwrap();
}

/// The content at each schema, by the number of the schema, going from `from` to `to` without a kill.
fn stages(path: &Path, from: u32, to: u32) -> Vec<Option<Vec<String>>> {
    let scratch = path.with_file_name("stages.db");
    copy(path, &scratch);
    let mut stages = vec![None; schema_own() as usize + 1];
    stages[from as usize] = Some(dump(&scratch));
    let mut at = from;
    while at != to {
        at = if at < to { at + 1 } else { at - 1 };
        run_as(at, &scratch, Direction::ToOwn, false).unwrap();
        stages[at as usize] = Some(dump(&scratch));
    }
    stages
}

fn at_one_of(stages: &[Option<Vec<String>>], path: &Path, story: &str) -> u32 {
    let at = inspect(path).unwrap().current;
    let report = check(path, true).unwrap();
    assert!(report.ok, "{story}: {report:?}");
    assert!(stages[at as usize].as_ref().is_some_and(|stage| *stage == dump(path)), "{story}: at schema {at}, but not what it was");
    at
}

fn filled(own: u32, seed: u64, rows: u64) -> (tempfile::TempDir, PathBuf) {
    let (folder, path) = database(own);
    fill(&mut Store::open_as(own, &path).unwrap(), &mut Dice(seed), rows);
    fill_work(&path);
    (folder, path)
}

#[test]
#[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
fn a_killed_migration_leaves_the_old_schema_or_the_new() {
    let (kills, seed) = (number("KILLS", 24), number("SEED", 17));
    println!("{kills} kills each way, SEED={seed}");
    let mut dice = Dice(seed);
    for (from, to) in [(1, schema_own()), (schema_own(), 1)] {
        let (_folder, path) = filled(from, seed, 3000);
        let stages = stages(&path, from, to);
        let work = path.with_file_name("work.db");
        let job = format!("migrate {to} {}", work.display());
        copy(&path, &work);
        let time = whole(&job);
        let mut seen = vec![0; schema_own() as usize + 1];
        for kill in 0..kills {
            copy(&path, &work);
            killed(&job, time, &mut dice);
            let story = format!("SEED={seed}, {from} to {to}, kill {kill}");
            let at = at_one_of(&stages, &work, &story);
            assert!(at == from || at == to, "{story}: half way, at schema {at}");
            seen[at as usize] += 1;
            run_as(to, &work, Direction::ToOwn, false).unwrap();
            at_one_of(&stages, &work, &story);
        }
        println!("{from} to {to}: found at schema 1, 2, …: {:?}", &seen[1..]);
        assert!(seen[to as usize] < kills, "no kill came before the end");
    }
}

/// Until it is folded back, a migration is in the log alone; here the log ends at every frame, and within frames.
#[test]
#[cfg_attr(schema_1, ignore = "this build has schema 1 only")]
fn a_log_that_ends_anywhere_is_the_old_schema_or_the_new() {
    let seed = number("SEED", 18);
    println!("SEED={seed}");
    let mut dice = Dice(seed);
    for (from, to) in [(1, schema_own()), (schema_own(), 1)] {
        let (folder, path) = filled(from, seed, 2500);
        let stages = stages(&path, from, to);
        // A reader's open transaction keeps the log from being folded back.
        let reader = Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
        run_as(to, &path, Direction::ToOwn, false).unwrap();
        let log = std::fs::read(path.with_extension("db-wal")).unwrap();
        let database = std::fs::read(&path).unwrap();
        let (mut at, mut seen) = (from, vec![0; schema_own() as usize + 1]);
        let frames = (log.len() as u64 - 32) / (4096 + 24);
        for frame in 0..=frames {
            let end = 32 + frame * (4096 + 24);
            for end in [end, (end + 1 + dice.below(4119)).min(log.len() as u64)] {
                let cut = folder.path().join("cut.db");
                std::fs::write(&cut, &database).unwrap();
                std::fs::write(cut.with_extension("db-wal"), &log[..end as usize]).unwrap();
                let _ = std::fs::remove_file(cut.with_extension("db-shm"));
                let now = at_one_of(&stages, &cut, &format!("SEED={seed}, {from} to {to}, log of {end} bytes"));
                assert!(now.abs_diff(to) <= at.abs_diff(to), "it went back from {at} to {now}");
                at = now;
                seen[at as usize] += 1;
            }
        }
        println!("{from} to {to}: {frames} frames, found at schema 1, 2, …: {:?}", &seen[1..]);
        let between = (1..).zip(&seen[1..]).all(|(at, count)| (*count > 0) == (at == from || at == to));
        assert!(between, "a way of several steps is not all or nothing: {seen:?}");
    }
}

#[test]
fn a_killed_restore_is_finished_by_the_next() {
    let (kills, seed) = (number("KILLS", 24), number("SEED", 19));
    println!("{kills} kills, SEED={seed}");
    let mut dice = Dice(seed);
    let (folder, path) = filled(schema_own(), seed, 1500);
    let from = folder.path().join("a.snapshot");
    snapshot(&path, &from).unwrap();
    let rows = |path: &Path| -> Vec<String> {
        dump(path).into_iter().filter(|line| !line.starts_with("sqlite_sequence") && !line.starts_with("chain:")).collect()
    };
    let kept = rows(&from);
    fill(&mut Store::open(&path).unwrap(), &mut dice, 1500);
    let (live, newer) = (std::fs::read(&path).unwrap(), rows(&path));
    let (mut early, mut empty) = (0, 0);
    let mut time = Duration::ZERO;
    for kill in 0..=kills {
        let place = folder.path().join(format!("{kill}"));
        std::fs::create_dir(&place).unwrap();
        let (path, export) = (place.join("smolotchi.db"), place.join("export.jsonl"));
        std::fs::write(&path, &live).unwrap();
        let job = format!("restore {} {} {}", from.display(), path.display(), export.display());
        if kill == 0 {
            time = whole(&job);
        } else if killed(&job, time, &mut dice) {
            early += 1;
            empty += u32::from(!path.exists());
        }
        let story = format!("SEED={seed}, kill {kill}");
        let done = restore(&from, &path, &export).unwrap();
        assert!(rows(&path) == kept, "{story}: it is not the snapshot");
        assert_eq!(done.lacking["events"], 1500, "{story}");
        let lines = std::fs::read_to_string(&export).unwrap();
        let mut ids: Vec<i64> = lines
            .lines()
            .filter_map(|line| {
                let row: serde_json::Value = serde_json::from_str(line).unwrap();
                (row["table"] == "events").then(|| row["row"]["id"].as_i64().unwrap())
            })
            .collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(1501..=3000), "{story}: the export is not each row once");
        assert!(rows(done.replaced.as_deref().unwrap()) == newer, "{story}: what was put aside is not whole");
        // The moment that a kill hardly ever meets: put aside, and nothing in the place yet.
        std::fs::remove_file(&path).unwrap();
        assert_eq!(restore(&from, &path, &export).unwrap(), done, "{story}");
        std::fs::remove_dir_all(&place).unwrap();
    }
    println!("{early} came before the end, {empty} left the place empty");
    assert!(early > 0);
}
