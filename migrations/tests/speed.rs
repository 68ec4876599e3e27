//! What the event log costs, printed: `cargo test -p smolotchi-store --release --test speed -- --ignored --nocapture`. EVENTS chooses how many.

#![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]
#![cfg(not(schema_1))]

mod common;

use common::{audit, database, number};
use rustix::time::{ClockId, clock_gettime};
use smolotchi_store::migrate::{Direction, run_as};
use smolotchi_store::{NewEvent, RetentionPolicy, Store, schema_own, snapshot};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// This process's CPU time so far, in milliseconds.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn batch(from: u64) -> Vec<NewEvent> {
    (from..from + 1000)
        .map(|index| NewEvent {
            topic: ["sensor.reading", "job.done", "disk.low", "core.started"][index as usize % 4].into(),
            severity: None,
            body: format!("{{\"index\":{index},\"text\":\"some sixty letters of what happened, or about that many of them\"}}"),
        })
        .collect()
}

fn append(store: &mut Store, count: u64) -> f64 {
    let began = cpu();
    for from in (0..count).step_by(1000) {
        store.append(&batch(from), 1_700_000_000_000).unwrap();
    }
    cpu() - began
}

/// The most memory that was resident since the last call, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn blocks(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
#[ignore = "measures; run it in release"]
fn figures() {
    let events = number("EVENTS", 1_000_000);
    let (_folder, path) = database(schema_own());
    let mut store = Store::open(&path).unwrap();
    store.expect_events(Some(100_000));
    let made = {
        let began = cpu();
        (0..200).for_each(|from| drop(batch(from)));
        cpu() - began
    };
    let took = append(&mut store, 200_000) - made;
    println!("append: {:.0} events a second of CPU", 200_000.0 / took * 1e3);
    drop(store);
    let mut store = Store::open(&path).unwrap();
    let (before, began) = (blocks(&path), cpu());
    let policy = RetentionPolicy { max_events: Some(100_000), ..RetentionPolicy::default() };
    let planned = store.plan_retention(&policy, 0).unwrap();
    let parts: Vec<_> = planned.iter().map(|going| (going.first_id, going.last_id)).collect();
    let gone: u64 = store.remove_parts(&parts, 0).unwrap().iter().sum();
    let log = std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
    let given = store.give_back().unwrap();
    println!(
        "prune of {gone}: {:.1} ms CPU, {log} bytes of log, {given} given back, {before} -> {} on the disk",
        cpu() - began,
        blocks(&path)
    );
    let began = cpu();
    assert!(audit(&store).whole);
    println!("audit of 100,000: {:.0} ms CPU", cpu() - began);

    // For the memory, one at a time: what was used once is not all given back.
    for from in [1, 3, 6].into_iter().filter(|from| [0, u64::from(*from)].contains(&number("FROM", 0))) {
        let (folder, path) = database(from);
        append(&mut Store::open_as(from, &path).unwrap(), events);
        let copy = folder.path().join("a.snapshot");
        println!("filled: {} KiB", peak());
        let began = cpu();
        snapshot(&path, &copy).unwrap();
        let copied = cpu();
        run_as(schema_own(), &path, Direction::UpOnly, false).unwrap();
        let (snapshot, migration) = (copied - began, cpu() - copied);
        println!("{from} to {}: snapshot {snapshot:.0} ms CPU, migration {migration:.0} ms CPU, {} KiB", schema_own(), peak());
        let began = cpu();
        drop(Store::open(&path).unwrap());
        println!("open: {:.1} ms CPU", cpu() - began);
        let began = cpu();
        run_as(from, &path, Direction::ToOwn, false).unwrap();
        println!("back: {:.0} ms CPU, {} KiB", cpu() - began, peak());
    }
}
