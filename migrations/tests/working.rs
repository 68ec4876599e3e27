//! Jobs, leases, stage requests and artifacts: what a worker, an operator and a power cut can do to them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't be set up fails")]
#![cfg_attr(schema_1, allow(dead_code, unused_imports, reason = "this build has schema 1 only"))]
#![cfg(not(schema_1))]

mod common;

use common::{Dice, database, number};
use rusqlite::Connection;
use smolotchi_store::{
    ArtifactFilter, ArtifactState, Decided, Finished, Job, JobState, Leased, NewArtifact, NewJob, NewLease, NewStage, Outcome, Page,
    Process, StageState, Store, WantJob, WorkPolicy, schema_own,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const DAY: i64 = 24 * 60 * 60 * 1000;
const ALL: Page = Page { before: None, limit: 1000 };

fn store() -> (tempfile::TempDir, Store) {
    let (folder, path) = database(schema_own());
    let store = Store::open(&path).unwrap();
    (folder, store)
}

fn new_job(kind: &str, priority: i64, due_ms: i64) -> NewJob {
    NewJob { kind: kind.into(), profile: None, input: "{}".into(), priority, created_by: "t".into(), due_ms, max_attempts: 3 }
}

fn want(kinds: &[&str], token: &str) -> WantJob {
    let owner = Process { role: "ai".into(), pid: 7, start_ticks: 9, boot_id: "b".into() };
    let lease = NewLease { name: String::new(), owner, token: token.into(), expires_boottime_ms: 1000 };
    WantJob { lease, kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect() }
}

fn lease(store: &mut Store, token: &str, now_ms: i64) -> Option<Job> {
    match store.lease_job(&want(&["run"], token), now_ms).unwrap() {
        Leased::Job(job) => Some(*job),
        Leased::Nothing { .. } => None,
    }
}

fn finish(store: &mut Store, id: i64, token: &str, outcome: Outcome, now_ms: i64) -> Option<Job> {
    match store.finish_job(id, token, outcome, None, Some("it broke".into()), now_ms).unwrap() {
        Finished::Job(job) => Some(*job),
        Finished::NotHeld => None,
    }
}

fn stage(run_id: i64, job_id: i64, expires_ms: i64) -> NewStage {
    NewStage { run_id, job_id, step: 1, action: "look".into(), risk: "active".into(), reason: "r".into(), expires_ms }
}

fn topics(store: &Store) -> Vec<String> {
    store.recent(1000).unwrap().into_iter().rev().map(|event| event.topic).collect()
}

/// What the checks of the migrations say must hold, and nothing but it.
fn whole(path: &Path) {
    let report = smolotchi_store::check(path, true).unwrap();
    assert!(report.ok, "{report:?}");
}

#[test]
fn priority_then_age_and_only_what_is_due_and_known() {
    let (_folder, mut store) = store();
    for job in [new_job("run", 0, 0), new_job("run", 5, 0), new_job("run", 5, 0), new_job("run", 9, 5000), new_job("other", 9, 0)] {
        store.add_job(&job, 100).unwrap();
    }
    let order: Vec<_> = (0..4).map(|_| lease(&mut store, "t", 100).map(|job| job.id)).collect();
    assert_eq!(order, [Some(2), Some(3), Some(1), None]);
    assert_eq!(store.lease_job(&want(&["run"], "t"), 100).unwrap(), Leased::Nothing { next_due_ms: Some(5000) });
    assert_eq!(
        store.lease_job(&want(&["run", "other"], "t"), 100).unwrap(),
        Leased::Job(Box::new(Job { attempts: 1, ..store.job(5).unwrap().unwrap() }))
    );
    assert_eq!(lease(&mut store, "t", 5000).map(|job| job.id), Some(4));
    assert_eq!(store.lease_job(&want(&[], "t"), 9999).unwrap(), Leased::Nothing { next_due_ms: None });
}

#[test]
fn a_clock_that_went_back_puts_nothing_off() {
    let (_folder, mut store) = store();
    store.add_job(&new_job("run", 0, 50 * DAY), 50 * DAY).unwrap();
    assert_eq!(lease(&mut store, "t", DAY).map(|job| job.id), Some(1), "made in a future that was none");
    finish(&mut store, 1, "t", Outcome::Failed, 60 * DAY).unwrap();
    assert_eq!(lease(&mut store, "t", DAY).map(|job| job.attempts), Some(2));
}

#[test]
fn attempts_are_counted_paused_and_end() {
    let (_folder, mut store) = store();
    store.add_job(&new_job("run", 0, 0), 0).unwrap();
    let mut now = 0;
    for attempt in 1..=3 {
        assert_eq!(lease(&mut store, "t", now).unwrap().attempts, attempt);
        let job = if attempt == 2 {
            assert!(!store.lose_job(1, "other", "x", now).unwrap(), "not with another's token");
            assert!(store.lose_job(1, "t", "process 7 is gone", now).unwrap());
            assert!(!store.lose_job(1, "t", "process 7 is gone", now).unwrap(), "only once");
            store.job(1).unwrap().unwrap()
        } else {
            finish(&mut store, 1, "t", Outcome::Failed, now).unwrap()
        };
        if attempt < 3 {
            assert_eq!((job.state, job.due_ms), (JobState::Queued, now + 30_000 * i64::from(attempt)));
            assert_eq!(lease(&mut store, "t", job.due_ms - 1), None, "not before the pause is over");
            now = job.due_ms;
        } else {
            assert_eq!((job.state, job.error.as_deref()), (JobState::Failed, Some("it broke")));
        }
    }
    assert_eq!(lease(&mut store, "t", now + DAY), None);
    let expected = ["job.added", "job.leased", "job.retried", "job.leased", "job.lost", "job.leased", "job.failed"];
    assert_eq!(topics(&store), expected);
    assert_eq!(store.leases().unwrap(), []);
}

#[test]
fn a_refusal_is_not_tried_again_and_a_result_stays() {
    let (_folder, mut store) = store();
    store.add_job(&new_job("run", 0, 0), 0).unwrap();
    store.add_job(&new_job("run", 0, 0), 0).unwrap();
    lease(&mut store, "a", 1).unwrap();
    lease(&mut store, "b", 1).unwrap();
    assert_eq!(finish(&mut store, 1, "a", Outcome::Refused, 2).unwrap().state, JobState::Failed);
    let done = store.finish_job(2, "b", Outcome::Done, Some("{\"n\":1}".into()), None, 2).unwrap();
    let Finished::Job(done) = done else { panic!("{done:?}") };
    assert_eq!((done.state, done.result.as_deref(), done.error), (JobState::Done, Some("{\"n\":1}"), None));
    assert_eq!(store.jobs(Some(JobState::Failed), ALL).unwrap().len(), 1);
    assert_eq!(store.jobs(None, Page { before: Some(2), limit: 10 }).unwrap()[0].id, 1);
}

#[test]
fn a_cancelled_job_is_nobodys() {
    let (folder, mut store) = store();
    store.add_job(&new_job("run", 0, 0), 0).unwrap();
    lease(&mut store, "t", 1).unwrap();
    store.add_stage(&stage(1, 1, DAY), 1).unwrap();
    assert_eq!(store.cancel_job(1, "ann", 2).unwrap().unwrap().state, JobState::Cancelled);
    assert_eq!(store.cancel_job(1, "ann", 2).unwrap(), None, "only once");
    assert!(!store.renew_lease("job/1", "t", 9999, 3).unwrap(), "the worker learns it");
    assert_eq!(finish(&mut store, 1, "t", Outcome::Done, 3), None);
    assert_eq!(store.stage(1).unwrap().unwrap().state, StageState::Expired, "nobody needs to decide");
    assert_eq!(topics(&store)[3..], ["job.cancelled", "stage.expired"]);
    drop(store);
    whole(&folder.path().join("smolotchi.db"));
}

#[test]
fn a_stop_at_a_request_counts_no_attempt_and_goes_on_when_decided() {
    for (word, after) in [(Some(true), StageState::Approved), (Some(false), StageState::Denied), (None, StageState::Expired)] {
        let (folder, mut store) = store();
        store.add_job(&new_job("run", 0, 0), 0).unwrap();
        lease(&mut store, "t", 1).unwrap();
        store.add_stage(&stage(1, 1, 1000), 1).unwrap();
        assert_eq!(store.add_stage(&stage(1, 1, 9999), 2).unwrap().expires_ms, 1000, "the same request");
        let job = finish(&mut store, 1, "t", Outcome::Waiting, 3).unwrap();
        assert_eq!((job.state, job.attempts), (JobState::Waiting, 0));
        assert_eq!(lease(&mut store, "t", 999), None);
        assert_eq!(store.next_stage_end().unwrap(), Some(1000));
        match word {
            Some(yes) => {
                let decided = store.decide_stage(1, yes, "ann", "because", 500).unwrap();
                let Decided::Now(stage) = decided else { panic!("{decided:?}") };
                assert_eq!(
                    (stage.decided_by.as_deref(), stage.why.as_deref(), stage.decided_ms),
                    (Some("ann"), Some("because"), Some(500))
                );
            }
            None => {
                // Noticed by whoever asks next: here by the operator who is too late.
                assert!(matches!(store.decide_stage(1, true, "ann", "because", 1000).unwrap(), Decided::Before(_)));
            }
        }
        assert_eq!(store.stage(1).unwrap().unwrap().state, after);
        assert!(matches!(store.decide_stage(1, true, "eve", "no, I", 1001).unwrap(), Decided::Before(stage) if stage.state == after));
        assert_eq!(store.decide_stage(2, true, "eve", "x", 1001).unwrap(), Decided::Missing);
        let job = lease(&mut store, "u", 1001).unwrap();
        assert_eq!((job.id, job.attempts), (1, 1));
        let decided = format!("stage.{}", after.as_str());
        let topics = topics(&store);
        assert_eq!(topics[4..], [decided.as_str(), "job.resumed", "job.leased"], "one decision, one event");
        drop(store);
        whole(&folder.path().join("smolotchi.db"));
    }
}

#[test]
fn a_decision_on_the_way_is_not_missed_and_none_is_no_reason_to_wait() {
    let (_folder, mut store) = store();
    store.add_job(&new_job("run", 0, 0), 0).unwrap();
    lease(&mut store, "t", 10).unwrap();
    store.add_stage(&stage(1, 1, 1000), 11).unwrap();
    store.decide_stage(1, true, "ann", "y", 12).unwrap();
    let job = finish(&mut store, 1, "t", Outcome::Waiting, 13).unwrap();
    assert_eq!((job.state, job.attempts, job.due_ms), (JobState::Queued, 0, 13), "it goes on at once");
    lease(&mut store, "t", 20).unwrap();
    let job = finish(&mut store, 1, "t", Outcome::Waiting, 21).unwrap();
    assert_eq!((job.state, job.attempts), (JobState::Queued, 1), "a worker that waits for nothing ends some day");
}

#[test]
fn a_decision_is_before_or_after_the_attempt_whatever_the_clock_says() {
    // When the job is begun, when it is decided meanwhile, when the worker says that it waits.
    for (begun, decided, said) in [(10, 12, 13), (1000, 12, 13), (1000, 12, 5000), (10, 9000, 20)] {
        let (_folder, mut store) = store();
        store.add_job(&new_job("run", 0, 0), 0).unwrap();
        lease(&mut store, "t", begun).unwrap();
        store.add_stage(&stage(1, 1, DAY), begun).unwrap();
        store.decide_stage(1, true, "ann", "y", decided).unwrap();
        let job = finish(&mut store, 1, "t", Outcome::Waiting, said).unwrap();
        assert_eq!((job.state, job.attempts, job.due_ms), (JobState::Queued, 0, said), "{begun} {decided} {said}: it goes on at once");
        // What was decided before this attempt is nothing that it waits for.
        lease(&mut store, "t", 20).unwrap();
        let job = finish(&mut store, 1, "t", Outcome::Waiting, 21).unwrap();
        assert_eq!((job.state, job.attempts), (JobState::Queued, 1), "{begun} {decided} {said}");
    }
}

#[test]
fn what_is_over_is_ended_by_the_next_lease_too() {
    let (_folder, mut store) = store();
    store.add_job(&new_job("run", 0, 0), 0).unwrap();
    lease(&mut store, "t", 1).unwrap();
    store.add_stage(&stage(1, 1, 1000), 1).unwrap();
    finish(&mut store, 1, "t", Outcome::Waiting, 2).unwrap();
    assert_eq!(lease(&mut store, "t", 1000).map(|job| job.id), Some(1));
    assert_eq!(store.expire_stages(1000).unwrap(), 0);
}

#[test]
fn nothing_is_written_when_there_is_nothing_to_do() {
    let (folder, mut store) = store();
    store.add_job(&new_job("other", 0, 0), 0).unwrap();
    let log = folder.path().join("smolotchi.db-wal");
    let before = std::fs::metadata(&log).unwrap().len();
    for now in 0..50 {
        assert_eq!(lease(&mut store, "t", now), None);
        assert_eq!(store.expire_stages(now).unwrap(), 0);
        assert!(!store.renew_lease("job/1", "t", 5, now).unwrap());
        assert!(store.damage_artifacts("00", "x", now).unwrap().is_empty());
        store.remove_artifacts(&[1], Some("x"), false, now).unwrap();
    }
    assert_eq!(std::fs::metadata(&log).unwrap().len(), before);
}

#[test]
fn names_are_held_by_one() {
    let (_folder, mut store) = store();
    let new = |name: &str, token: &str| NewLease { name: name.into(), token: token.into(), ..want(&[], "").lease };
    assert_eq!(store.take_lease(&new("a", "1"), 0).unwrap(), None);
    assert_eq!(store.take_lease(&new("a", "2"), 0).unwrap().unwrap().token, "1");
    assert!(!store.drop_lease("a", "2", 0).unwrap() && store.renew_lease("a", "1", 5000, 0).unwrap());
    assert_eq!(store.leases().unwrap()[0].expires_boottime_ms, 5000);
    assert!(store.drop_lease("a", "1", 0).unwrap());
    assert_eq!(store.take_lease(&new("a", "2"), 0).unwrap(), None);
    let held = store.leases().unwrap().remove(0);
    assert!(store.break_lease(&held, "x", 0).unwrap() && !store.break_lease(&held, "x", 0).unwrap());
    store.add_job(&new_job("run", 0, 0), 0).unwrap();
    lease(&mut store, "t", 0).unwrap();
    assert!(!store.drop_lease("job/1", "t", 0).unwrap(), "a job is given up by finishing it");
}

/// Workers, operators and deaths at random: no job is ever with two, each ends as often as it was begun, and the database
/// holds what its checks ask.
#[test]
fn whatever_happens_a_job_is_with_one_worker_and_ends_once() {
    let seed = number("SEED", 1);
    for round in 0..number("ROUNDS", 3) {
        let mut dice = Dice(seed * 1000 + round);
        let (folder, mut store) = store();
        let mut held: BTreeMap<i64, String> = BTreeMap::new();
        let mut ended: BTreeSet<i64> = BTreeSet::new();
        let mut now = 0;
        for step in 0..400 {
            now += dice.below(60_000) as i64;
            let token = format!("t{step}");
            match dice.below(12) {
                0 | 1 => drop(
                    store
                        .add_job(&NewJob { max_attempts: 1 + dice.below(3) as u32, ..new_job("run", dice.below(3) as i64, now) }, now)
                        .unwrap(),
                ),
                2..=5 => {
                    if let Some(job) = lease(&mut store, &token, now) {
                        assert!(held.insert(job.id, token).is_none(), "seed {seed} round {round}: job {} was held already", job.id);
                        assert!(!ended.contains(&job.id) && job.attempts <= job.max_attempts, "seed {seed} round {round}: {job:?}");
                    }
                }
                6 | 7 if !held.is_empty() => {
                    let id = *dice.pick(&held.keys().copied().collect::<Vec<_>>());
                    let token = held.remove(&id).unwrap();
                    assert_eq!(finish(&mut store, id, "wrong", Outcome::Done, now), None);
                    let outcome = *dice.pick(&[Outcome::Done, Outcome::Failed, Outcome::Refused, Outcome::Waiting]);
                    let job = finish(&mut store, id, &token, outcome, now).unwrap();
                    if job.state.is_final() {
                        assert!(ended.insert(id));
                    }
                }
                8 if !held.is_empty() => {
                    let id = *dice.pick(&held.keys().copied().collect::<Vec<_>>());
                    let token = held.remove(&id).unwrap();
                    assert!(store.lose_job(id, &token, "gone", now).unwrap());
                    if store.job(id).unwrap().unwrap().state.is_final() {
                        assert!(ended.insert(id));
                    }
                }
                9 if !held.is_empty() => {
                    let id = *dice.pick(&held.keys().copied().collect::<Vec<_>>());
                    store.add_stage(&stage(step, id, now + dice.below(600_000) as i64), now).unwrap();
                }
                10 => {
                    let pending = store.stages(Some(StageState::Pending), ALL).unwrap();
                    if !pending.is_empty() {
                        store.decide_stage(dice.pick(&pending).id, dice.below(2) == 0, "ann", "x", now).unwrap();
                    }
                }
                _ => {
                    let jobs = store.jobs(None, ALL).unwrap();
                    if dice.below(8) == 0 && !jobs.is_empty() {
                        let id = dice.pick(&jobs).id;
                        if store.cancel_job(id, "ann", now).unwrap().is_some() {
                            held.remove(&id);
                            assert!(ended.insert(id), "seed {seed} round {round}: job {id} ended twice");
                        }
                    }
                }
            }
            let leased: BTreeSet<i64> = store.jobs(Some(JobState::Leased), ALL).unwrap().iter().map(|job| job.id).collect();
            assert_eq!(leased, held.keys().copied().collect(), "seed {seed} round {round} step {step}");
            assert_eq!(store.leases().unwrap().iter().filter_map(smolotchi_store::Lease::job).collect::<BTreeSet<_>>(), leased);
        }
        let last = store.jobs(None, ALL).unwrap();
        let final_ones: BTreeSet<i64> = last.iter().filter(|job| job.state.is_final()).map(|job| job.id).collect();
        assert_eq!(final_ones, ended);
        let told = |topic: &str| store.recent(1000).map(|events| events.iter().filter(|event| event.topic == topic).count()).unwrap();
        if last.len() < 100 {
            let ends = told("job.done") + told("job.failed") + told("job.cancelled");
            assert!(ends <= ended.len(), "seed {seed} round {round}: {ends} ends told of {} jobs", ended.len());
        }
        drop(store);
        whole(&folder.path().join("smolotchi.db"));
    }
}

fn artifact(sha256: char, bytes: u64, run: Option<i64>) -> NewArtifact {
    let sha256 = sha256.to_string().repeat(64);
    NewArtifact { kind: "note".into(), name: "n".into(), media: "text/plain".into(), sha256, bytes, job_id: None, run_id: run }
}

#[test]
fn damage_is_told_once_and_healed_by_the_same_content() {
    let (_folder, mut store) = store();
    for _ in 0..2 {
        store.put_artifact(&artifact('a', 5, None), 1).unwrap();
    }
    store.put_artifact(&artifact('b', 5, None), 1).unwrap();
    let sha256 = "a".repeat(64);
    assert_eq!(store.damage_artifacts(&sha256, "rotten", 2).unwrap().len(), 2);
    assert_eq!(store.damage_artifacts(&sha256, "rotten", 3).unwrap().len(), 0);
    assert_eq!(topics(&store), ["artifact.damaged"]);
    let damaged = ArtifactFilter { state: Some(ArtifactState::Damaged), ..ArtifactFilter::default() };
    assert_eq!(store.artifacts(&damaged, ALL).unwrap().iter().map(|one| one.id).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(store.artifacts_to_check(0, 10).unwrap().iter().map(|one| one.id).collect::<Vec<_>>(), [3]);
    store.put_artifact(&artifact('a', 5, None), 4).unwrap();
    assert_eq!(store.artifacts(&damaged, ALL).unwrap(), []);
    assert_eq!(store.artifacts_to_check(0, 10).unwrap().iter().map(|one| one.id).collect::<Vec<_>>(), [1, 3], "each content once");
    assert_eq!(store.unknown_contents(vec![sha256, "c".repeat(64)]).unwrap(), ["c".repeat(64)]);
}

#[test]
fn letters_are_found_in_jobs_and_artifacts_a_stretch_at_a_time() {
    let (folder, mut store) = store();
    let mut add = |kind: &str, profile: Option<&str>, by: &str| {
        store.add_job(&NewJob { profile: profile.map(str::to_owned), created_by: by.into(), ..new_job(kind, 0, 0) }, 1).unwrap().id
    };
    add("run", Some("Night_watch"), "root");
    add("run", Some("sockets"), "anna");
    add("night", None, "100%");
    lease(&mut store, "t", 2).unwrap();
    finish(&mut store, 1, "t", Outcome::Refused, 3).unwrap();
    let jobs = |store: &Store, letters: &str, state, page| {
        let (found, next) = store.search_jobs(Some(letters), state, page).unwrap();
        (found.into_iter().map(|job| job.id).collect::<Vec<_>>(), next)
    };
    for (letters, expected) in
        [("NIGHT", vec![3, 1]), ("anna", vec![2]), ("t_w", vec![1]), ("%", vec![3]), ("it broke", vec![1]), ("\\", vec![]), ("x", vec![])]
    {
        assert_eq!(jobs(&store, letters, None, ALL), (expected, None), "{letters}");
    }
    assert_eq!(jobs(&store, "n", Some(JobState::Failed), ALL).0, [1]);
    assert_eq!(jobs(&store, "n", None, Page { before: None, limit: 2 }), (vec![3, 2], Some(2)));
    assert_eq!(jobs(&store, "n", None, Page { before: Some(2), limit: 2 }), (vec![1], None));
    // Far apart: what was not looked at yet is said, and found by who goes on.
    Connection::open(folder.path().join("smolotchi.db")).unwrap().execute("UPDATE jobs SET id = 20001 WHERE id = 3", ()).unwrap();
    assert_eq!(jobs(&store, "n", None, ALL), (vec![20001], Some(3)));
    assert_eq!(jobs(&store, "watch", None, ALL), (vec![], Some(3)));
    assert_eq!(jobs(&store, "watch", None, Page { before: Some(3), ..ALL }), (vec![1], None));

    for (name, run) in [('a', Some(1)), ('b', Some(2)), ('c', None)] {
        store.put_artifact(&NewArtifact { name: format!("Plan-{name}.json"), ..artifact(name, 5, run) }, 1).unwrap();
    }
    let artifacts = |letters: &str, filter: ArtifactFilter| {
        let (found, next) = store.search_artifacts(Some(letters), &filter, ALL).unwrap();
        assert_eq!(next, None);
        found.into_iter().map(|one| one.id).collect::<Vec<_>>()
    };
    let any = ArtifactFilter::default;
    assert_eq!(artifacts("plan", any()), [3, 2, 1]);
    assert_eq!(artifacts("-B.", any()), [2]);
    assert_eq!(artifacts("plan", ArtifactFilter { run: Some(1), ..any() }), [1]);
    assert_eq!(artifacts("plan", ArtifactFilter { sha256: Some("c".repeat(64)), state: Some(ArtifactState::Whole), ..any() }), [3]);
    assert_eq!(artifacts("plan", ArtifactFilter { kind: Some("none".into()), ..any() }), [0; 0]);
    assert_eq!(artifacts("plan", ArtifactFilter { state: Some(ArtifactState::Damaged), ..any() }), [0; 0]);
}

/// A database where runs 1 to 6 each have one artifact of their number: 1 is nobody's, 2 waits for a decision, 3 goes on, 4 is of
/// an old baseline, 5 of the newest, 6 is the evidence of a finding.
fn needed() -> (tempfile::TempDir, Store) {
    let (folder, mut store) = store();
    for (run, name) in (1..=6).zip('a'..) {
        store.put_artifact(&artifact(name, 100, Some(run)), run * DAY).unwrap();
    }
    for _ in 0..2 {
        store.add_job(&new_job("run", 0, 0), 0).unwrap();
    }
    let db = Connection::open(folder.path().join("smolotchi.db")).unwrap();
    for run in 1..=6 {
        let job = (run == 3).then_some(1);
        db.execute(
            "INSERT INTO runs (id, job_id, profile, profile_version, state, started_ms) VALUES (?1, ?2, 'p', 1, 'done', 0)",
            (run, job),
        )
        .unwrap();
    }
    db.execute_batch(
        "INSERT INTO stages (run_id, job_id, step, action, risk, reason, requested_ms, expires_ms, state) VALUES (2, 2, 1, 'a', 'r', 'x', 0, 9e15, 'pending');
         INSERT INTO baselines (profile, profile_version, run_id, made_ms, made_by, expected) VALUES ('p', 1, 4, 0, 'x', '{}'), ('p', 1, 5, 0, 'x', '{}');
         INSERT INTO findings (profile, key, title, severity, state, first_run, last_run, first_ms, last_ms, times, profile_version, action, step, policy, evidence, detail)
             VALUES ('p', 'k', 't', 1, 'open', 6, 6, 0, 0, 1, 1, 'a', 1, '{}', 6, '{}');",
    )
    .unwrap();
    (folder, store)
}

fn planned(store: &Store, days: Option<u32>, bytes: Option<u64>, now_ms: i64) -> Vec<i64> {
    store.plan_artifacts(days, bytes, now_ms).unwrap().iter().map(|one| one.id).collect()
}

#[test]
fn what_something_needs_is_neither_planned_nor_removed() {
    let (_folder, mut store) = needed();
    let now = 1000 * DAY;
    assert_eq!(planned(&store, Some(1), None, now), [1, 4]);
    assert_eq!(planned(&store, None, Some(0), now), [1, 4]);
    let all = [1, 2, 3, 4, 5, 6];
    let dry = store.remove_artifacts(&all, Some("ann"), true, now).unwrap();
    assert_eq!(store.artifacts(&ArtifactFilter::default(), ALL).unwrap().len(), 6, "a look changes nothing");
    let done = store.remove_artifacts(&all, Some("ann"), false, now).unwrap();
    assert_eq!(done, dry);
    assert_eq!(done.removed.iter().map(|one| one.id).collect::<Vec<_>>(), [1, 4]);
    let why: Vec<_> = done.needed.iter().map(|(one, why)| (one.id, *why)).collect();
    assert_eq!(
        why,
        [
            (2, "its run waits for a decision"),
            (3, "its run goes on"),
            (5, "it belongs to a baseline"),
            (6, "it is the evidence of a finding")
        ]
    );
    assert_eq!(done.contents, ["a".repeat(64), "d".repeat(64)]);
    assert_eq!(topics(&store).last().unwrap(), "artifact.removed");
}

#[test]
fn retention_goes_by_age_then_by_bytes_and_counts_shared_content_once() {
    let (folder, mut store) = store();
    // The second holds the same content as the fourth; the third is dated by a clock that was never set.
    for (name, at_ms) in [('a', 10 * DAY), ('b', 20 * DAY), ('c', 0), ('b', 40 * DAY), ('d', 50 * DAY)] {
        store.put_artifact(&artifact(name, 100, None), at_ms).unwrap();
    }
    let now = 60 * DAY;
    let cases = [
        (None, None, vec![]),
        (Some(100), None, vec![]),
        (Some(45), None, vec![1]),
        (Some(30), None, vec![1, 2, 3]),
        (None, Some(400), vec![]),
        (None, Some(399), vec![1]),
        (None, Some(299), vec![1, 2, 3]),
        (None, Some(199), vec![1, 2, 3, 4]),
        (Some(45), Some(300), vec![1]),
        (None, Some(0), vec![1, 2, 3, 4, 5]),
    ];
    for (days, bytes, expected) in cases {
        assert_eq!(planned(&store, days, bytes, now), expected, "{days:?} {bytes:?}");
    }
    // From a clock that was ahead: it stays, and hides no others.
    let db = Connection::open(folder.path().join("smolotchi.db")).unwrap();
    db.execute("UPDATE artifacts SET created_ms = ?1 WHERE id = 1", (99 * DAY,)).unwrap();
    assert_eq!(planned(&store, Some(30), None, now), [2, 3]);
    assert_eq!(planned(&store, Some(30), Some(0), now), [2, 3, 1, 4, 5]);
    let plan = store.plan_artifacts(Some(30), Some(199), now).unwrap();
    let told: Vec<_> = plan.iter().map(|one| (one.id, one.bytes, one.reason.as_str())).collect();
    assert_eq!(told, [(2, 0, "age"), (3, 100, "age"), (1, 100, "bytes"), (4, 100, "bytes")], "what another one has frees nothing");
    let removal = store.remove_artifacts(&[1, 2], None, false, now).unwrap();
    assert_eq!((removal.contents, removal.bytes), (vec!["a".repeat(64)], 100), "what another one has stays");
    assert_eq!(topics(&store), [] as [&str; 0], "retention tells by itself");
}

#[test]
fn old_jobs_go_and_those_that_have_not_ended_stay() {
    let (folder, mut store) = store();
    for at in [0, 1, 2, 3, 50] {
        store.add_job(&new_job("run", 0, 0), at * DAY).unwrap();
    }
    for id in [1, 2, 4, 5] {
        lease(&mut store, "t", 51 * DAY).unwrap();
        let db = Connection::open(folder.path().join("smolotchi.db")).unwrap();
        let end = if id == 2 { 59 } else { id };
        db.execute("DELETE FROM leases", ()).unwrap();
        db.execute("UPDATE jobs SET state = 'queued' WHERE state = 'leased'", ()).unwrap();
        db.execute("UPDATE jobs SET state = 'done', changed_ms = ?2 WHERE id = ?1", (id, end * DAY)).unwrap();
    }
    let now = 60 * DAY;
    assert_eq!(store.plan_jobs(None, now).unwrap(), [] as [i64; 0]);
    assert_eq!(store.plan_jobs(Some(30), now).unwrap(), [1, 4], "2 ended late, 3 hasn't, 5 is young");
    // Made and ended by a clock that was ahead: it hides no others.
    let db = Connection::open(folder.path().join("smolotchi.db")).unwrap();
    db.execute("UPDATE jobs SET created_ms = ?1, changed_ms = ?1 WHERE id = 1", (99 * DAY,)).unwrap();
    assert_eq!(store.plan_jobs(Some(30), now).unwrap(), [4]);
    db.execute("UPDATE jobs SET changed_ms = 1 WHERE id = 1", ()).unwrap();
    assert_eq!(store.remove_jobs(&[1, 3, 4], now).unwrap(), 2);
    assert_eq!(store.jobs(None, ALL).unwrap().iter().map(|job| job.id).collect::<Vec<_>>(), [5, 3, 2]);
}

/// Ten runs, one a day, of a job each that has ended; every one has a finding, a decided stage request and a baseline.
fn worked() -> (tempfile::TempDir, Store) {
    let (folder, store) = store();
    let db = Connection::open(folder.path().join("smolotchi.db")).unwrap();
    for id in 1..=10 {
        let row = (id, id * DAY);
        db.execute(
            "INSERT INTO jobs (id, kind, input, state, created_ms, created_by, due_ms, max_attempts, changed_ms)
                VALUES (?1, 'run', '{}', 'done', ?2, 'x', 0, 1, ?2)",
            row,
        )
        .unwrap();
        db.execute(
            "INSERT INTO runs (id, job_id, profile, profile_version, state, started_ms, ended_ms) VALUES (?1, ?1, 'p' || (?1 % 2), 1, 'done', ?2, ?2)",
            row,
        )
        .unwrap();
        db.execute(
            "INSERT INTO stages (run_id, job_id, step, action, risk, reason, requested_ms, expires_ms, state, decided_ms)
                VALUES (?1, ?1, 1, 'a', 'r', 'x', ?2, 0, 'expired', ?2)",
            row,
        )
        .unwrap();
        db.execute(
            "INSERT INTO findings (profile, key, title, severity, state, first_run, last_run, first_ms, last_ms, times, profile_version, action, step, policy, detail)
                VALUES ('p', ?1, 't', 1, 'gone', ?1, ?1, ?2, ?2, 1, 1, 'a', 1, '{}', '{}')",
            row,
        )
        .unwrap();
        db.execute(
            "INSERT INTO baselines (profile, profile_version, run_id, made_ms, made_by, expected) VALUES ('p', 1, ?1, ?2, 'x', '{}')",
            row,
        )
        .unwrap();
    }
    (folder, store)
}

fn old_rows(store: &Store, days: u32, now_ms: i64) -> BTreeMap<&'static str, Vec<i64>> {
    let plan = store.plan_work(&WorkPolicy { job_days: Some(days), ..WorkPolicy::default() }, now_ms).unwrap();
    plan.into_iter().map(|part| (part.kind, part.ids)).collect()
}

#[test]
fn old_work_goes_as_planned_but_never_what_something_needs() {
    let now = 12 * DAY;
    let (folder, mut store) = worked();
    let ids = |ids: std::ops::RangeInclusive<i64>| ids.collect::<Vec<i64>>();
    let all = BTreeMap::from([
        ("findings", ids(1..=6)),
        ("stages", ids(1..=6)),
        ("baselines", ids(1..=6)),
        ("runs", ids(1..=6)),
        ("jobs", ids(1..=6)),
    ]);
    assert_eq!(old_rows(&store, 5, now), all);
    assert_eq!(old_rows(&store, 30, now), BTreeMap::new());
    // The newest baseline, the last runs, and the newest of all stay, however old.
    let ages = old_rows(&store, 1, 1000 * DAY);
    assert_eq!((&ages["baselines"], &ages["runs"]), (&ids(1..=9), &ids(1..=8)));
    let db = Connection::open(folder.path().join("smolotchi.db")).unwrap();
    db.execute_batch(
        "UPDATE findings SET state = 'open' WHERE id = 1;
         UPDATE findings SET state = 'expected' WHERE id = 2;
         UPDATE stages SET state = 'pending', decided_ms = NULL WHERE id = 3;
         UPDATE stages SET state = 'approved' WHERE id = 5;
         UPDATE stages SET state = 'denied' WHERE id = 6;
         UPDATE jobs SET state = 'waiting' WHERE id = 4;
         INSERT INTO baselines (profile, profile_version, run_id, made_ms, made_by, expected) VALUES ('other', 1, 5, 0, 'x', '{}');",
    )
    .unwrap();
    let left = old_rows(&store, 5, now);
    assert_eq!((&left["findings"], &left["stages"], &left["runs"]), (&ids(3..=6), &vec![1, 2], &vec![6]));
    // What was planned before is not removed once it is needed.
    for (kind, planned) in all.iter().filter(|(kind, _)| **kind != "jobs") {
        let expected = left[kind].len() as u64;
        assert_eq!(store.remove_rows(kind, planned, now).unwrap(), expected, "{kind}");
        assert_eq!(store.remove_rows(kind, planned, now).unwrap(), 0, "{kind}: once");
    }
    assert_eq!(old_rows(&store, 5, now).keys().copied().collect::<Vec<_>>(), ["jobs"], "nothing was left over");
    drop(store);
    whole(&folder.path().join("smolotchi.db"));
}

#[test]
fn a_row_of_a_clock_that_was_never_set_is_as_old_as_its_neighbours() {
    let (folder, store) = worked();
    let db = Connection::open(folder.path().join("smolotchi.db")).unwrap();
    db.execute_batch(
        "UPDATE runs SET started_ms = 0, ended_ms = 0 WHERE id = 8; UPDATE stages SET requested_ms = 0, decided_ms = 0 WHERE id = 8;
         UPDATE findings SET last_ms = 0 WHERE id = 8; UPDATE baselines SET made_ms = 0 WHERE id = 8;",
    )
    .unwrap();
    let old = old_rows(&store, 5, 12 * DAY);
    assert!(old.values().all(|ids| !ids.contains(&8)) && old.len() == 5, "{old:?}");
}

#[test]
fn an_older_schema_keeps_no_jobs_and_still_works() {
    let (_folder, path) = database(1);
    let mut store = Store::open_as(1, &path).unwrap();
    let codes = [
        store.add_job(&new_job("run", 0, 0), 0).unwrap_err().code(),
        store.jobs(None, ALL).unwrap_err().code(),
        store.lease_job(&want(&["run"], "t"), 0).unwrap_err().code(),
        store.leases().unwrap_err().code(),
        store.stages(None, ALL).unwrap_err().code(),
        store.expire_stages(0).unwrap_err().code(),
        store.put_artifact(&artifact('a', 1, None), 0).unwrap_err().code(),
        store.plan_artifacts(None, None, 0).unwrap_err().code(),
        store.plan_jobs(None, 0).unwrap_err().code(),
    ];
    assert_eq!(codes, ["store.not-in-schema"; 9]);
    assert_eq!(store.append(&[], 0).unwrap().appended, 0);
}

/// The log may be too short to have an event of that time.
#[test]
fn a_job_vouches_for_the_clock_too() {
    let (folder, mut store) = store();
    store.add_job(&new_job("run", 0, 0), 50 * DAY).unwrap();
    for (day, believed) in [(50, false), (95, false), (90, true)] {
        let other = Connection::open(folder.path().join("smolotchi.db")).unwrap();
        other.execute("UPDATE jobs SET created_ms = ?1", (day * DAY,)).unwrap();
        assert_eq!(store.lived(100 * DAY, 90).unwrap(), believed, "{day}");
    }
}
