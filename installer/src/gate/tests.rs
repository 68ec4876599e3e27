//! The gate, fed with made-up samples, one a second.

use super::*;

fn judge() -> Judge {
    let expected = Expected {
        version: "0.2.0".into(),
        schema: Some(3),
        health: Health { units: vec!["smolotchi-core.service".into()], heartbeat: "/run/h".into(), prove: "/run/p".into() },
    };
    Judge::new(expected, GateSettings { window_s: 5, deadline_s: 20 })
}

fn good(second: u64) -> Sample {
    Sample {
        now_ms: second * 1000,
        packages: Vec::new(),
        units: vec![UnitSample {
            name: "smolotchi-core.service".into(),
            active: "active".into(),
            restarts: 0,
            enabled: "enabled".into(),
            watchdog: Some((900, 10_000)),
        }],
        heartbeat: Some(Heartbeat { seq: second, boottime_ms: second * 1000, version: "0.2.0".into(), schema: 3, every_ms: 1_000 }),
        proof: Ok(3),
    }
}

/// Feeds until the judge decides; the second of the decision and the decision.
fn run(sample: impl Fn(u64) -> Sample) -> (u64, Judgement) {
    let mut judge = judge();
    for second in 100..200 {
        match judge.feed(&sample(second)) {
            Judgement::Waiting(_) => {}
            decided => return (second - 100, decided),
        }
    }
    panic!("the judge never decided");
}

#[test]
fn unbroken_health_for_the_window_is_healthy() {
    assert_eq!(run(good), (5, Judgement::Healthy));
}

#[test]
fn one_hiccup_is_forgiven_two_in_a_row_start_over() {
    let bad_at = |bad: &'static [u64]| {
        move |second| Sample { proof: if bad.contains(&second) { Err("busy".into()) } else { Ok(3) }, ..good(second) }
    };
    assert_eq!(run(bad_at(&[103])), (5, Judgement::Healthy));
    assert_eq!(run(bad_at(&[103, 104])), (10, Judgement::Healthy));
}

#[test]
fn a_restart_breaks_the_window_even_if_no_sample_saw_it_down() {
    let (second, judgement) = run(|second| {
        let mut sample = good(second);
        sample.units[0].restarts = u64::from(second >= 103);
        sample
    });
    assert_eq!((second, judgement), (8, Judgement::Healthy));
    // One restart every four seconds: never healthy for five.
    let (_, judgement) = run(|second| {
        let mut sample = good(second);
        sample.units[0].restarts = (second - 100) / 4;
        sample
    });
    assert!(matches!(judgement, Judgement::Unhealthy(reason) if reason.contains("crashes again and again")));
}

#[test]
fn each_thing_that_must_hold_is_looked_at() {
    type Spoil = fn(&mut Sample);
    let cases: &[(&str, Spoil)] = &[
        ("is inactive", |sample| sample.units[0].active = "inactive".into()),
        ("watchdog", |sample| sample.units[0].watchdog = Some((11_000, 10_000))),
        ("no heartbeat", |sample| sample.heartbeat = None),
        ("ms old", |sample| sample.heartbeat.as_mut().unwrap().boottime_ms -= 6_000),
        ("stands still", |sample| {
            let beat = sample.heartbeat.as_mut().unwrap();
            beat.seq = 7;
            beat.boottime_ms -= 3_000;
        }),
        ("version 0.1.0 is running", |sample| sample.heartbeat.as_mut().unwrap().version = "0.1.0".into()),
        ("schema 2", |sample| sample.heartbeat.as_mut().unwrap().schema = 2),
        ("could not commit", |sample| sample.proof = Err("disk full".into())),
        ("half-configured", |sample| sample.packages = vec!["smolotchi is half-configured".into()]),
    ];
    for (words, spoil) in cases {
        let (second, judgement) = run(|second| {
            let mut sample = good(second);
            spoil(&mut sample);
            sample
        });
        let Judgement::Unhealthy(reason) = judgement else { panic!("{words}: {judgement:?}") };
        assert_eq!(second, 20, "{words}");
        assert!(reason.contains(words), "{words}: {reason}");
    }
}

#[test]
fn a_heartbeat_is_judged_by_its_own_promise() {
    // every_ms, how often it really comes, whether the version is healthy.
    let cases = [
        (1_000, 1, true),
        (1_000, 20, false),
        (20_000, 20, true),
        (20_000, 25, true),
        (20_000, 60, false),
        (u64::MAX, 200, false),
        (0, 1, true),
    ];
    for (every_ms, period, healthy) in cases {
        let mut judge = Judge::new(judge().expected, GateSettings { window_s: 90, deadline_s: 180 });
        let decided = (1_000..2_000).find_map(|second| {
            let beat = second - second % period;
            let mut sample = good(second);
            sample.heartbeat = Some(Heartbeat { every_ms, ..good(beat).heartbeat.unwrap() });
            Some(judge.feed(&sample)).filter(|judgement| !matches!(judgement, Judgement::Waiting(_)))
        });
        assert_eq!(decided == Some(Judgement::Healthy), healthy, "{every_ms} {period}: {decided:?}");
    }
    let old = r#"{"seq":12,"boottime_ms":81234,"pid":321,"version":"0.1.0","schema":1}"#;
    assert_eq!(serde_json::from_str::<Heartbeat>(old).unwrap().stale_ms(), 5_000, "a version that promised nothing");
}

#[test]
fn a_crash_loop_and_a_failed_unit_end_it_early() {
    let (second, judgement) = run(|second| {
        let mut sample = good(second);
        sample.units[0].restarts = second - 100;
        sample
    });
    assert_eq!(second, 3);
    assert!(matches!(judgement, Judgement::Unhealthy(reason) if reason.contains("crashes again and again")));
    let (second, judgement) = run(|second| {
        let mut sample = good(second);
        sample.units[0].active = "failed".into();
        sample
    });
    assert_eq!(second, 2);
    assert!(matches!(judgement, Judgement::Unhealthy(reason) if reason.contains("smolotchi-core.service is failed")));
}

#[test]
fn a_unit_that_the_operator_masked_or_disabled_is_not_the_versions_fault() {
    let (_, judgement) = run(|second| {
        let mut sample = good(second);
        sample.units[0].active = "inactive".into();
        sample.units[0].enabled = "masked".into();
        sample.heartbeat = None;
        sample.proof = Err("no socket".into());
        sample
    });
    assert_eq!(judgement, Judgement::Healthy);
}

#[test]
fn a_page_that_the_operator_disabled_excuses_nothing_of_core() {
    let (_, judgement) = run(|second| {
        let mut sample = good(second);
        let web = UnitSample {
            name: "smolotchi-web.socket".into(),
            active: "inactive".into(),
            restarts: 0,
            enabled: "disabled".into(),
            watchdog: None,
        };
        sample.units.push(web);
        sample.proof = Err("disk full".into());
        sample
    });
    assert!(matches!(judgement, Judgement::Unhealthy(reason) if reason.contains("could not commit")));
}
