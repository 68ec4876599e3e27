//! What core begins by itself: the profiles on the disk become known, and the configured one is run every so many hours.
//!
//! One sleep at a time, of an hour at most. Within a boot only the boot's clock counts, so that no jump of the machine's clock
//! brings a run twice; from one boot to the next only the machine's clock is left.

use super::Core;
use crate::ai::profile::Profile;
use crate::clock;
use crate::paths::Paths;
use smolotchi_operator::{Code, Fault, log};
use smolotchi_store::{Job, NewJob, Store, StoreError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A machine that has just started has other work, and its clock may not be set yet.
const SETTLE_MS: u64 = 15 * 60_000;
/// As long as it takes before a clock that went back is believed.
const BEHIND_MS: u64 = 3_600_000;
/// The longest sleep.
const LOOK_AGAIN_MS: u64 = 3_600_000;
/// Who asks for these jobs.
const BY: &str = "schedule";
/// What they are.
const KIND: &str = "run";

/// Makes the profiles on the disk known. A bad one is told, and is not worth a core that does not start.
pub(super) async fn take_profiles(core: &Core, paths: &Paths) {
    for file in paths.profile_folders().iter().flat_map(|folder| files(folder)) {
        if let Err(fault) = take(core, &file).await {
            log::fault(&fault.fact("file", file.display().to_string()));
        }
    }
}

/// Keeps the schedule until core ends.
pub(super) fn begin(core: &Arc<Core>) {
    let core = core.clone();
    tokio::spawn(async move {
        let boot_id = clock::boot_id().unwrap_or_default();
        loop {
            let ai = core.settings.read().ok().map(|settings| settings.ai.clone());
            let every = ai.as_ref().and_then(|ai| ai.every_hours).map(|hours| hours * 3_600_000);
            let (Some(every_ms), Some(ai)) = (every, ai) else {
                tokio::time::sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
                continue;
            };
            let now = Now {
                wall_ms: clock::now_ms(),
                boottime_ms: clock::boottime_ms(),
                up_ms: clock::boottime_ms().saturating_sub(core.started_boottime_ms),
                boot_id: boot_id.clone(),
            };
            let waits = core.store(move |store| queue_if_due(store, &ai.profile, every_ms, &now)).await;
            let wait_ms = match waits {
                Ok((wait_ms, queued)) => {
                    if queued {
                        core.job_may_be_due();
                    }
                    wait_ms
                }
                Err(fault) if fault.code == Code::StoreNotInSchema => return,
                Err(fault) => {
                    log::fault(&fault);
                    LOOK_AGAIN_MS
                }
            };
            tokio::time::sleep(Duration::from_millis(wait_ms.clamp(1000, LOOK_AGAIN_MS))).await;
        }
    });
}

/// Both clocks and the boot, at one moment.
struct Now {
    wall_ms: i64,
    boottime_ms: u64,
    /// Since core started.
    up_ms: u64,
    boot_id: String,
}

/// Queues a run if it is due. Returns how long to wait before asking again, and whether it was queued.
fn queue_if_due(store: &mut Store, profile: &str, every_ms: u64, now: &Now) -> Result<(u64, bool), StoreError> {
    if store.has_open_job(KIND, profile)? {
        return Ok((LOOK_AGAIN_MS, false));
    }
    let last = store.last_job(KIND, profile, BY)?.map(|job| Last::of(&job, &now.boot_id));
    let wait_ms = wait(last, every_ms, now);
    if wait_ms > 0 {
        return Ok((wait_ms, false));
    }
    let input = serde_json::json!({ "boot_id": now.boot_id, "boottime_ms": now.boottime_ms });
    let new = NewJob {
        kind: KIND.to_owned(),
        profile: Some(profile.to_owned()),
        input: input.to_string(),
        priority: 0,
        created_by: BY.to_owned(),
        due_ms: now.wall_ms,
        max_attempts: 3,
    };
    store.add_job(&new, now.wall_ms)?;
    Ok((every_ms, true))
}

/// When the last scheduled job was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// In this boot, by its clock.
    ThisBoot(u64),
    /// In another one, by the machine's clock.
    Wall(i64),
}

impl Last {
    fn of(job: &Job, boot_id: &str) -> Last {
        let input: serde_json::Value = serde_json::from_str(&job.input).unwrap_or_default();
        match input["boottime_ms"].as_u64() {
            Some(at) if !boot_id.is_empty() && input["boot_id"] == boot_id => Last::ThisBoot(at),
            _ => Last::Wall(job.created_ms),
        }
    }
}

/// Milliseconds until the next one is due; 0: now.
fn wait(last: Option<Last>, every_ms: u64, now: &Now) -> u64 {
    let settled = SETTLE_MS.saturating_sub(now.up_ms);
    match last {
        None => settled,
        Some(Last::ThisBoot(at)) => every_ms.saturating_sub(now.boottime_ms.saturating_sub(at)).max(settled),
        Some(Last::Wall(at)) => match u64::try_from(now.wall_ms.saturating_sub(at)) {
            Ok(age) => every_ms.saturating_sub(age).max(settled),
            // The last one lies ahead: one of the two clocks was wrong.
            Err(_) => BEHIND_MS.saturating_sub(now.up_ms).max(settled),
        },
    }
}

/// Keeps the profile of a file, if it is not known yet.
async fn take(core: &Core, file: &Path) -> Result<(), Fault> {
    let text = std::fs::read_to_string(file).map_err(|error| Fault::io("could not read a profile", file, &error))?;
    let Profile { name, version, .. } = Profile::parse(&file.display().to_string(), &text)?;
    match core.store(move |store| store.add_profile(&name, version, &text, clock::now_ms())).await {
        Err(fault) if fault.code != Code::StoreNotInSchema => Err(fault),
        _ => Ok(()),
    }
}

/// The profiles of a folder, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use smolotchi_store::Page;
    use smolotchi_store::migrate::{self, Direction};

    const HOUR: u64 = 3_600_000;
    const DAY: u64 = 24 * HOUR;

    fn now(wall_ms: i64, boottime_ms: u64, up_ms: u64) -> Now {
        Now { wall_ms, boottime_ms, up_ms, boot_id: "b".into() }
    }

    #[test]
    fn what_is_due_is_decided_by_the_clock_that_can_be_trusted() {
        let t = 1_700_000_000_000_i64;
        let cases = [
            (None, now(t, 1000, 0), SETTLE_MS),
            (None, now(t, DAY, DAY), 0),
            (Some(Last::ThisBoot(1000)), now(t, 1000 + DAY - 1, DAY), 1),
            (Some(Last::ThisBoot(1000)), now(t, 1000 + DAY, DAY), 0),
            // However far the machine's clock jumps.
            (Some(Last::ThisBoot(1000)), now(t + 10 * DAY as i64, 1000 + HOUR, DAY), 23 * HOUR),
            (Some(Last::ThisBoot(1000)), now(0, 1000 + HOUR, DAY), 23 * HOUR),
            (Some(Last::Wall(t)), now(t + HOUR as i64, 5000, 5000), 23 * HOUR),
            (Some(Last::Wall(t)), now(t + DAY as i64, 5000, 0), SETTLE_MS),
            (Some(Last::Wall(t)), now(t + DAY as i64, SETTLE_MS, SETTLE_MS), 0),
            (Some(Last::Wall(t)), now(t - 1, 5000, 0), BEHIND_MS),
            (Some(Last::Wall(t)), now(t - 1, HOUR, HOUR), 0),
        ];
        for (last, now, wait_ms) in cases {
            assert_eq!(wait(last, DAY, &now), wait_ms, "{last:?} {} {} {}", now.wall_ms, now.boottime_ms, now.up_ms);
        }
    }

    #[test]
    fn many_jobs_of_others_hide_neither_the_last_run_nor_the_one_under_way() {
        if smolotchi_store::schema_own() < 4 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("smolotchi.db");
        migrate::run(&path, Direction::UpOnly, true).unwrap();
        let mut store = Store::open(&path).unwrap();
        let wall = 1_700_000_000_000;
        assert!(queue_if_due(&mut store, "watch", DAY, &now(wall, DAY, DAY)).unwrap().1);
        let other = NewJob {
            kind: "verify".into(),
            profile: None,
            input: "null".into(),
            priority: 0,
            created_by: "ann".into(),
            due_ms: 0,
            max_attempts: 1,
        };
        for _ in 0..250 {
            store.add_job(&other, wall).unwrap();
        }
        let later = now(wall + HOUR as i64, DAY + HOUR, DAY + HOUR);
        assert_eq!(queue_if_due(&mut store, "watch", DAY, &later).unwrap(), (LOOK_AGAIN_MS, false), "it is not done yet");
        store.cancel_job(1, "test", wall).unwrap();
        assert_eq!(queue_if_due(&mut store, "watch", DAY, &later).unwrap(), (23 * HOUR, false), "it was an hour ago");
    }

    /// Ten days in which the clock jumps as it likes and core starts again as it likes: never two within a day of the boot's
    /// clock, and never none for longer than a day and what was slept.
    #[test]
    fn no_jump_of_the_clock_brings_a_run_twice() {
        // The first release keeps no jobs.
        let seeds = if smolotchi_store::schema_own() < 4 { 0 } else { 5 };
        for seed in 0..seeds {
            let mut dice = crate::ai::dice::Dice::new(seed);
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("smolotchi.db");
            migrate::run(&path, Direction::UpOnly, true).unwrap();
            let mut store = Store::open(&path).unwrap();
            let (mut boottime, mut started, mut jump, mut queued) = (SETTLE_MS, 0, 0_i64, Vec::new());
            while boottime < 10 * DAY {
                match dice.below(20) {
                    0 => jump += dice.below(30 * DAY) as i64 - 15 * DAY as i64,
                    1 => started = boottime,
                    _ => {}
                }
                let now = now(1_700_000_000_000 + jump + boottime as i64, boottime, boottime - started);
                let (wait_ms, done) = queue_if_due(&mut store, "watch", DAY, &now).unwrap();
                if done {
                    queued.push(boottime);
                    let (_, again) = queue_if_due(&mut store, "watch", DAY, &now).unwrap();
                    assert!(!again, "seed {seed}: one that is not done is enough");
                    let job = store.jobs(None, Page { before: None, limit: 1 }).unwrap().remove(0);
                    store.cancel_job(job.id, "test", now.wall_ms).unwrap();
                }
                boottime += wait_ms.clamp(1000, LOOK_AGAIN_MS);
            }
            assert!(queued.windows(2).all(|pair| pair[1] - pair[0] >= DAY), "seed {seed}: {queued:?}");
            assert!(queued.windows(2).all(|pair| pair[1] - pair[0] <= DAY + 2 * HOUR), "seed {seed}: {queued:?}");
            assert!(queued.len() >= 9, "seed {seed}: {queued:?}");
        }
    }
}
