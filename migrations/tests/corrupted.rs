//! Databases that a dying card leaves: opened right, or refused with a code. Never a panic, never silently emptied, and a refusal
//! changes no byte. CORRUPTIONS and SEED choose how many and which.

#![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]

mod common;

use common::{Dice, database, dump, fill, fill_work, number};
use smolotchi_store::migrate::{Direction, inspect, run, run_as};
use smolotchi_store::{Audit, EventQuery, RetentionPolicy, Store, StoreError, check, restore, schema_own, snapshot};
use std::path::{Path, PathBuf};

/// Whole databases of the schemas that a release had, with their schema.
fn wholes() -> Vec<(u32, tempfile::TempDir, PathBuf)> {
    let make = |own: u32| {
        let (folder, path) = database(own);
        let mut store = Store::open_as(own, &path).unwrap();
        store.full_at(300);
        fill(&mut store, &mut Dice(u64::from(own)), 900);
        drop(store);
        fill_work(&path);
        (own, folder, path)
    };
    let mut schemas: Vec<u32> = [1, 3, schema_own()].into_iter().filter(|schema| *schema <= schema_own()).collect();
    schemas.dedup();
    schemas.into_iter().map(make).collect()
}

/// Breaks the bytes of a database in one of the ways that cards and hands do.
fn corrupt(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) -> &'static str {
    let pages = (bytes.len() / 4096) as u64;
    let page = |dice: &mut Dice| dice.below(pages) as usize * 4096;
    match dice.below(9) {
        0 => {
            let at = dice.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << dice.below(8);
            "a bit flipped"
        }
        1 => {
            for _ in 0..50 {
                let at = dice.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << dice.below(8);
            }
            "fifty bits flipped"
        }
        2 => {
            bytes.truncate(dice.below(bytes.len() as u64) as usize);
            "cut off anywhere"
        }
        3 => {
            bytes.truncate(dice.below(pages) as usize * 4096);
            "cut off at a page"
        }
        4 => {
            let (one, two) = (page(dice), page(dice));
            for at in 0..4096 {
                bytes.swap(one + at, two + at);
            }
            "two pages swapped"
        }
        5 => {
            let at = page(dice);
            bytes[at..at + 4096].fill(if dice.below(2) == 0 { 0 } else { 0xff });
            "a page erased"
        }
        6 => {
            let end = dice.below(100) as usize + 1;
            bytes[..end].fill(0);
            "the header zeroed"
        }
        7 => {
            let at = page(dice);
            if at + 4096 <= other.len() {
                bytes[at..at + 4096].copy_from_slice(&other[at..at + 4096]);
            }
            "a page of another database"
        }
        _ => {
            let at = dice.below(100) as usize;
            bytes[at] = dice.next() as u8;
            "a byte of the header changed"
        }
    }
}

/// Everything that core and the verbs do with an opened database; each step may fail with a code of its own, none may panic.
fn live(store: &mut Store, schema: u32) -> Result<(), StoreError> {
    store.summary()?;
    store.recent(2000)?;
    store.recent_severe(2000)?;
    store.find(&EventQuery { limit: 50, search: Some("x".into()), ..EventQuery::default() })?;
    store.plan_retention(&RetentionPolicy { max_events: Some(300), ..RetentionPolicy::default() }, 0)?;
    if schema >= 7 {
        let mut audit = Audit::default();
        while !store.audit(&mut audit, 500)? {}
    }
    let before = store.newest_id()?;
    let appended = store.append(&[common::event(&mut Dice(1))], 5)?;
    assert!(Some(appended.last_id) > before);
    Ok(())
}

#[test]
fn a_corrupted_database_is_opened_right_or_refused() {
    let (count, seed) = (number("CORRUPTIONS", 150), number("SEED", 61));
    println!("{count} corruptions, SEED={seed}");
    let wholes = wholes();
    let images: Vec<Vec<u8>> = wholes.iter().map(|(_, _, path)| std::fs::read(path).unwrap()).collect();
    let (mut refused, mut opened, mut later) = (0, 0, 0);
    for round in 0..count {
        let mut dice = Dice(seed.wrapping_mul(1_000_003) + round);
        let which = dice.below(wholes.len() as u64) as usize;
        let (schema, _, whole) = &wholes[which];
        let mut bytes = images[which].clone();
        let how = corrupt(&mut bytes, &images[(which + 1) % images.len()], &mut dice);
        let story = format!("SEED={seed}, round {round}: schema {schema}, {how}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("smolotchi.db");
        std::fs::write(&path, &bytes).unwrap();
        let unchanged = |by: &str| assert!(std::fs::read(&path).unwrap() == bytes, "{story}: {by} changed the file");

        // Looking changes nothing, whatever is found.
        let _ = inspect(&path);
        unchanged("inspect");
        let report = check(&path, true);
        unchanged("check");
        match Store::open_as(*schema, &path) {
            Err(error) => {
                assert!(error.code().starts_with("store.") || error.code().starts_with("io."), "{story}: {error:?}");
                unchanged("a refused open");
                refused += 1;
            }
            Ok(mut store) => {
                opened += 1;
                // What a full check calls whole has every row.
                if report.is_ok_and(|report| report.ok) && dump(&path) == dump(whole) {
                    live(&mut store, *schema).unwrap_or_else(|error| panic!("{story}: whole, but {error:?}"));
                } else if live(&mut store, *schema).is_err() {
                    later += 1;
                }
                continue;
            }
        }
        // A refused one is never made anew or emptied by going on: not by a migration, and a snapshot of it is none.
        if let Err(error) = run(&path, Direction::ToOwn, true) {
            assert!(error.code().starts_with("store.") || error.code().starts_with("io."), "{story}: {error:?}");
            unchanged("a refused migration");
        }
        let copy = folder.path().join("a.snapshot");
        if snapshot(&path, &copy).is_ok() && check(&copy, true).is_ok_and(|report| report.ok) {
            let left = Store::open_as(inspect(&copy).unwrap().current, &copy).unwrap().summary().unwrap().events_total;
            assert!(left > 0, "{story}: a snapshot of it is empty");
        }
    }
    println!("{refused} refused, {opened} opened, {later} of these failed later, with a code");
    assert!(refused > 0 && opened > 0);
}

/// What is left of it is put aside by a restore, and the snapshot's rows are all there.
#[test]
fn a_corrupted_database_is_replaced_by_its_snapshot() {
    let (count, seed) = (number("CORRUPTIONS", 150) / 10, number("SEED", 62));
    let wholes = wholes();
    for round in 0..count {
        let mut dice = Dice(seed.wrapping_mul(1_000_003) + round);
        let which = dice.below(wholes.len() as u64) as usize;
        let (_, _, whole) = &wholes[which];
        let image = std::fs::read(whole).unwrap();
        let mut bytes = image.clone();
        let how = corrupt(&mut bytes, &image, &mut dice);
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("smolotchi.db"), folder.path().join("a.snapshot"));
        snapshot(whole, &copy).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        restore(&copy, &path, &folder.path().join("export")).unwrap_or_else(|error| panic!("SEED={seed}, round {round}, {how}: {error:?}"));
        let rows = |path: &Path| {
            dump(path).into_iter().filter(|line| !line.starts_with("sqlite_sequence") && !line.starts_with("chain:")).collect::<Vec<_>>()
        };
        assert!(rows(&path) == rows(&copy), "SEED={seed}, round {round}, {how}");
    }
}

/// A database of each schema that a release had opens right after its migration, with every row.
#[test]
fn every_released_schema_opens_after_its_migration() {
    for (schema, _folder, path) in wholes() {
        run_as(schema_own(), &path, Direction::UpOnly, false).unwrap();
        let mut store = Store::open(&path).unwrap();
        assert_eq!(store.summary().unwrap().events_total, 900, "schema {schema}");
        live(&mut store, schema_own()).unwrap();
        drop(store);
        assert!(check(&path, true).unwrap().ok);
    }
}
