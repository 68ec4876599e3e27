//! Core's side of the two services with a capability (docs/adr/0010): asks them, for what the policy and an operator allow, and says which are on.
//!
//! Core checks again what the worker has planned: the worker is another process, and its word alone must not move the network. The services check
//! once more whose call it is and on which interface.

use super::Core;
use crate::ai::plan::subject;
use crate::ai::policy::is_interface;
use crate::clock;
use crate::paths::Paths;
use crate::powers::{self, Power, arp, net};
use crate::wire::readings::Observation;
use crate::wire::{self, Heard, Listen, Operate, Operated};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use smolotchi_operator::{Code, Fault, Result, log};
use smolotchi_store::{EventQuery, NewEvent, Severity, Stage, StageState, Store, StoreError};
use std::io::ErrorKind;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, MutexGuard};

/// How long a service may take beside what it was asked for: its start on a slow machine.
const SERVICE_TIME: Duration = Duration::from_secs(30);
/// How long one waits for another's call.
const TURN_TIME: Duration = Duration::from_secs(5);
/// The longest answer, in bytes.
const ANSWER: u64 = 128 * 1024;
/// How long an approval holds: who gave it had the machine of that hour in mind.
const APPROVAL_MS: i64 = 3_600_000;
/// How far the clock may have gone back since an approval.
const CLOCK_MS: i64 = 60_000;
/// The event that spends an approval.
const BEGUN: &str = "network.begun";

/// What core keeps of them.
pub(super) struct Powers {
    paths: Paths,
    /// One call of each at a time.
    turns: [Mutex<()>; Power::ALL.len()],
}

impl Powers {
    /// Nothing is asked yet.
    pub(super) fn new(paths: &Paths) -> Self {
        Powers { paths: paths.clone(), turns: Power::ALL.map(|_| Mutex::default()) }
    }

    /// Waits for the calls before. Errors: `core.busy`.
    async fn turn(&self, power: Power) -> Result<MutexGuard<'_, ()>> {
        tokio::time::timeout(TURN_TIME, self.turns[power as usize].lock())
            .await
            .map_err(|_| Fault::new(Code::CoreBusy, "others asked for the same").fact("waited_s", TURN_TIME.as_secs()))
    }
}

/// What came of a question to a service.
enum Came<A> {
    /// It answered, if only that it did nothing.
    Answer(Observation<A>),
    /// It was never asked.
    NotAsked(String),
    /// It was asked, and what it did nobody knows.
    Unknown(String),
}

impl<A> Came<A> {
    fn into_observation(self) -> Observation<A> {
        match self {
            Came::Answer(observation) => observation,
            Came::NotAsked(reason) | Came::Unknown(reason) => absent(reason),
        }
    }
}

/// An observation that there is none.
fn absent<T>(reason: String) -> Observation<T> {
    Observation { at: clock::rfc3339(clock::now_ms()), available: false, reason: Some(reason), items: Vec::new() }
}

/// Why a request doesn't allow this now, if it doesn't; pure.
fn forbids(stage: &Stage, interface: &str, now_ms: i64) -> Option<&'static str> {
    let Some(decided_ms) = stage.decided_ms.filter(|_| stage.state == StageState::Approved) else { return Some("nobody has approved it") };
    // The words that the operator read are what was approved.
    if !stage.reason.starts_with(&subject(interface)) {
        return Some("something else was approved");
    }
    match now_ms.saturating_sub(decided_ms) {
        ..0 if decided_ms.saturating_sub(now_ms) > CLOCK_MS => Some("by this machine's clock its approval is of the future"),
        APPROVAL_MS.. => Some("its approval is older than an hour"),
        _ => None,
    }
}

/// Spends an approval: commits that what it allows is begun. False if that was so before, also before core was started again or the power went.
fn begin(store: &mut Store, stage_id: i64, body: &Value, now_ms: i64) -> std::result::Result<bool, StoreError> {
    let mut query = EventQuery { limit: 100, topic: Some(BEGUN.to_owned()), ..EventQuery::default() };
    loop {
        let page = store.find(&query)?;
        let is_it = |body: &str| serde_json::from_str::<Value>(body).is_ok_and(|body| body["stage"] == stage_id);
        if page.events.iter().any(|event| is_it(&event.body)) {
            return Ok(false);
        }
        match page.next {
            Some(before) => query.before = Some(before),
            None => break,
        }
    }
    store.append(&[event(BEGUN, Severity::Notice, body)], now_ms)?;
    Ok(true)
}

fn event(topic: &str, severity: Severity, body: &Value) -> NewEvent {
    NewEvent { topic: topic.to_owned(), severity: Some(severity), body: body.to_string() }
}

impl Core {
    /// Which services with a capability are on.
    pub(super) fn powers(&self) -> Vec<wire::Power> {
        // Whoever broke while it held the settings: what is on is told.
        powers::on(&self.powers.paths, &self.settings.read().unwrap_or_else(PoisonError::into_inner).policy)
    }

    /// Why the policy doesn't allow this action here, if it doesn't.
    fn policy_refuses(&self, power: Power, action: &str, interface: &str) -> Option<String> {
        let Ok(settings) = self.settings.read() else { return Some("core's settings are broken".to_owned()) };
        power.refuses(&settings.policy, action, interface).map(|(rule, reason)| format!("{rule}: {reason}"))
    }

    /// What was asked for and not done is an event, because somebody wanted it.
    async fn refused<A>(&self, reason: String, mut about: Value) -> Result<Observation<A>> {
        about["reason"] = reason.as_str().into();
        self.told("network.refused", Severity::Warning, &about).await?;
        Ok(absent(reason))
    }

    async fn told(&self, topic: &str, severity: Severity, body: &Value) -> Result<()> {
        let event = event(topic, severity, body);
        self.store(move |store| store.append(&[event], clock::now_ms())).await.map(drop)
    }

    /// Refuses a worker that doesn't hold the job, and what is no interface's name: that goes into events.
    async fn may_ask(&self, job_id: i64, token: String, interface: &str) -> Result<()> {
        if !is_interface(interface) {
            return Err(Fault::new(Code::CoreRequest, "this is no name of an interface"));
        }
        if !self.store(move |store| store.holds_job(job_id, &token)).await? {
            return Err(Fault::new(Code::JobNotHeld, "the job is not held with this token").fact("job", job_id));
        }
        Ok(())
    }

    /// Hears who speaks ARP, for the job that is held with this token.
    pub(super) async fn listen(&self, asked: wire::ListenFor) -> Result<Observation<Heard>> {
        let wire::ListenFor { token, job_id, interface, seconds } = asked;
        self.may_ask(job_id, token, &interface).await?;
        let mut about = json!({ "action": arp::ARP_LISTEN, "interface": interface, "seconds": seconds, "job": job_id });
        if let Some(reason) = self.policy_refuses(Power::Arp, arp::ARP_LISTEN, &interface) {
            return self.refused(reason, about).await;
        }
        let seconds = seconds.clamp(arp::LEAST_SECONDS, arp::MOST_SECONDS);
        let turn = self.powers.turn(Power::Arp).await?;
        let came = self.ask(Power::Arp, &Listen { interface, seconds }, Duration::from_secs(seconds) + SERVICE_TIME).await;
        drop(turn);
        let heard = came.into_observation();
        if heard.available {
            about["heard"] = heard.items.len().into();
            self.told("network.heard", Severity::Info, &about).await?;
        }
        Ok(heard)
    }

    /// Does what an approved stage request says, once. What came of it is an event.
    pub(super) async fn change_network(&self, asked: wire::ChangeNetwork) -> Result<Observation<Operated>> {
        let wire::ChangeNetwork { token, stage_id, interface } = asked;
        let stage = self.store(move |store| store.stage(stage_id)).await?;
        let stage = stage.ok_or_else(|| Fault::new(Code::StageUnknown, "there is no such stage request").fact("stage", stage_id))?;
        self.may_ask(stage.job_id, token, &interface).await?;
        let mut about = json!({ "action": stage.action, "interface": interface, "run": stage.run_id, "stage": stage_id,
            "approved_by": stage.decided_by });
        if let Some(reason) = forbids(&stage, &interface, clock::now_ms()) {
            return self.refused(reason.to_owned(), about).await;
        }
        if let Some(reason) = self.policy_refuses(Power::Net, &stage.action, &interface) {
            return self.refused(reason, about).await;
        }
        // Who only waits for its turn has spent nothing.
        let _turn = self.powers.turn(Power::Net).await?;
        let body = about.clone();
        if !self.store(move |store| begin(store, stage_id, &body, clock::now_ms())).await? {
            return self.refused("it was begun before, and an approval counts once".to_owned(), about).await;
        }
        let operate = Operate { operation: stage.action, interface };
        let came: Came<Operated> = self.ask(Power::Net, &operate, net::MOST_TIME + SERVICE_TIME).await;
        let (topic, severity) = match &came {
            Came::Answer(done) if done.available => {
                let lost: Vec<_> = done.items.iter().flat_map(|done| &done.lost).collect();
                about["lost"] = json!(lost);
                match () {
                    () if done.items.iter().any(|done| done.down) => ("network.down", Severity::Error),
                    () if lost.is_empty() => ("network.changed", Severity::Notice),
                    () => ("network.changed", Severity::Warning),
                }
            }
            Came::Answer(_) | Came::NotAsked(_) => ("network.not-changed", Severity::Warning),
            Came::Unknown(_) => ("network.unknown", Severity::Warning),
        };
        let done = came.into_observation();
        about["reason"] = done.reason.clone().into();
        // It is done, whether or not that can be written down; that it was begun is.
        if let Err(fault) = self.told(topic, severity, &about).await {
            log::fault(&fault);
        }
        Ok(done)
    }

    /// One question to a service, in its turn. One that is off, or doesn't answer, is a reason.
    async fn ask<Q: Serialize, A: DeserializeOwned>(&self, power: Power, question: &Q, within: Duration) -> Came<A> {
        let mut line = serde_json::to_vec(question).unwrap_or_default();
        line.push(b'\n');
        let unit = power.unit();
        let end = tokio::time::Instant::now() + within;
        let mut stream = match tokio::time::timeout_at(end, UnixStream::connect(power.socket(&self.powers.paths))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Came::NotAsked(unasked(unit, &error)),
            Err(_) => return Came::NotAsked(format!("{unit} could not be asked in time")),
        };
        let talk = async {
            stream.write_all(&line).await?;
            let mut answer = Vec::new();
            stream.take(ANSWER).read_to_end(&mut answer).await.map(|_| answer)
        };
        let log = format!("journalctl -u smolotchi-{}", power.name());
        match tokio::time::timeout_at(end, talk).await {
            Ok(Ok(answer)) => match serde_json::from_slice(&answer) {
                Ok(observation) => Came::Answer(observation),
                Err(_) => Came::Unknown(format!("{unit} ended without an answer: {log}")),
            },
            Ok(Err(error)) => Came::Unknown(format!("{unit} ended without an answer ({error}): {log}")),
            Err(_) => Came::Unknown(format!("{unit} did not answer in {} s: {log}", within.as_secs())),
        }
    }
}

/// Why a service could not be asked.
fn unasked(unit: &str, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            format!("{unit} is off, or has failed; the operator turns it on: systemctl enable --now {unit}")
        }
        _ => format!("{unit} could not be asked: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::work::tests::core;
    use smolotchi_store::{NewJob, NewLease, NewStage, WantJob};
    use std::path::Path;
    use std::sync::Arc;
    use tokio::net::UnixListener;

    const NOW: i64 = 1_800_000_000_000;

    #[test]
    fn only_what_the_operator_read_is_allowed_and_only_for_an_hour() {
        let stage = |state, reason: &str, age: Option<i64>| Stage {
            id: 1,
            run_id: 1,
            job_id: 1,
            step: 1,
            action: "link-restart".into(),
            risk: "change".into(),
            reason: reason.into(),
            requested_ms: 0,
            expires_ms: 0,
            state,
            decided_ms: age.map(|age| NOW - age),
            decided_by: None,
            why: None,
        };
        let words = format!("{}its risk is change", subject("wlan0"));
        for age in [0, 1, APPROVAL_MS - 1, -CLOCK_MS] {
            assert_eq!(forbids(&stage(StageState::Approved, &words, Some(age)), "wlan0", NOW), None, "{age}");
        }
        for (state, reason, interface, age) in [
            (StageState::Pending, words.as_str(), "wlan0", None),
            (StageState::Pending, &words, "wlan0", Some(1)),
            (StageState::Denied, &words, "wlan0", Some(1)),
            (StageState::Expired, &words, "wlan0", Some(1)),
            (StageState::Approved, &words, "wlan", Some(1)),
            (StageState::Approved, &words, "eth0", Some(1)),
            (StageState::Approved, "", "wlan0", Some(1)),
            (StageState::Approved, &words, "wlan0", None),
            (StageState::Approved, &words, "wlan0", Some(APPROVAL_MS)),
            (StageState::Approved, &words, "wlan0", Some(NOW)),
            (StageState::Approved, &words, "wlan0", Some(-CLOCK_MS - 1)),
        ] {
            assert!(forbids(&stage(state, reason, age), interface, NOW).is_some(), "{state:?} {reason} {interface} {age:?}");
        }
    }

    /// A core below a folder whose policy allows everything on wlan0 and eth0.
    fn allowing(dir: &Path) -> Arc<Core> {
        let folder = dir.join("etc/smolotchi/config.d");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(dir.join("run/smolotchi")).unwrap();
        let text = "[policy]\nactions = [\"link-restart\", \"arp-listen\"]\nnet_interfaces = [\"wlan0\"]\narp_interfaces = [\"eth0\"]\n";
        std::fs::write(folder.join("50.toml"), text).unwrap();
        core(dir)
    }

    /// A held job, and requests of its run for wlan0, approved now: its id and token, and the requests'.
    async fn approved(core: &Core, count: u32) -> (i64, String, Vec<i64>) {
        let now = clock::now_ms();
        let new =
            NewJob { kind: "k".into(), profile: None, input: "{}".into(), priority: 0, created_by: "t".into(), due_ms: 0, max_attempts: 3 };
        let owner = crate::leases::this_process("ai").unwrap();
        let lease = NewLease { name: String::new(), owner, token: "t".into(), expires_boottime_ms: u64::MAX >> 2 };
        core.store(move |store| {
            let job = store.add_job(&new, now)?.id;
            store.lease_job(&WantJob { lease, kinds: vec!["k".into()] }, now)?;
            let mut stages = Vec::new();
            for step in 1..=count {
                let reason = format!("{}its risk is change", subject("wlan0"));
                let new = NewStage {
                    run_id: 1,
                    job_id: job,
                    step,
                    action: "link-restart".into(),
                    risk: "change".into(),
                    reason,
                    expires_ms: now + 60_000,
                };
                let id = store.add_stage(&new, now)?.id;
                store.decide_stage(id, true, "root", "it hangs", now)?;
                stages.push(id);
            }
            Ok((job, "t".to_owned(), stages))
        })
        .await
        .unwrap()
    }

    async fn topics(core: &Core) -> Vec<String> {
        let query = EventQuery { limit: 100, topic: Some("network".into()), ..EventQuery::default() };
        let found = core.store(move |store| store.find(&query)).await.unwrap();
        found.events.into_iter().rev().map(|event| event.topic).collect()
    }

    fn change(token: &str, stage_id: i64) -> wire::ChangeNetwork {
        wire::ChangeNetwork { token: token.into(), stage_id, interface: "wlan0".into() }
    }

    /// Answers so many calls with this, after each was read.
    fn service(listener: UnixListener, answer: &'static str) -> tokio::task::JoinHandle<usize> {
        tokio::spawn(async move {
            let mut calls = 0;
            while let Ok(Ok((mut stream, _))) = tokio::time::timeout(Duration::from_secs(2), listener.accept()).await {
                calls += 1;
                let mut byte = [0];
                while stream.read(&mut byte).await.is_ok_and(|count| count == 1 && byte != *b"\n") {}
                let _ = stream.write_all(answer.as_bytes()).await;
            }
            calls
        })
    }

    const DONE: &str =
        r#"{"at":"x","available":true,"items":[{"operation":"link-restart","interface":"wlan0","put_back":1,"lost":[],"removed":0}]}"#;
    const LOST: &str = r#"{"at":"x","available":true,"items":[{"operation":"link-restart","interface":"wlan0","put_back":1,"lost":["route to x"],"removed":0}]}"#;

    #[tokio::test]
    async fn an_approval_counts_once_also_over_a_new_start_of_core() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/smolotchi/net.sock");
        let first = allowing(dir.path());
        let (_, token, stages) = approved(&first, 1).await;
        let served = service(UnixListener::bind(&socket).unwrap(), DONE);
        assert!(first.change_network(change(&token, stages[0])).await.unwrap().available);
        let again = first.change_network(change(&token, stages[0])).await.unwrap();
        assert!(again.reason.as_deref().unwrap().contains("an approval counts once"), "{again:?}");
        assert_eq!(topics(&first).await, [BEGUN, "network.changed", "network.refused"]);
        drop(first);
        let second = core(dir.path());
        let again = second.change_network(change(&token, stages[0])).await.unwrap();
        assert!(again.reason.as_deref().unwrap().contains("an approval counts once"), "{again:?}");
        assert_eq!(served.await.unwrap(), 1, "the service was asked again");
    }

    #[tokio::test]
    async fn a_link_that_stays_down_is_an_error() {
        const DOWN: &str = r#"{"at":"x","available":true,"items":[{"operation":"link-restart","interface":"wlan0","put_back":0,"lost":[],"down":true,"removed":0}]}"#;
        let dir = tempfile::tempdir().unwrap();
        let core = allowing(dir.path());
        let (_, token, stages) = approved(&core, 1).await;
        let served = service(UnixListener::bind(dir.path().join("run/smolotchi/net.sock")).unwrap(), DOWN);
        assert!(core.change_network(change(&token, stages[0])).await.unwrap().available);
        assert_eq!(topics(&core).await, [BEGUN, "network.down"]);
        let query = EventQuery { limit: 1, topic: Some("network.down".into()), ..EventQuery::default() };
        let told = core.store(move |store| store.find(&query)).await.unwrap().events.remove(0);
        assert_eq!(told.severity, Some(Severity::Error));
        assert_eq!(served.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn an_approval_is_spent_before_the_service_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let core = allowing(dir.path());
        let (_, token, stages) = approved(&core, 2).await;
        // Nobody answers: it ends without a word, as one does that is killed.
        let listener = UnixListener::bind(dir.path().join("run/smolotchi/net.sock")).unwrap();
        let seen = tokio::spawn({
            let core = core.clone();
            async move {
                let (stream, _) = listener.accept().await.unwrap();
                stream.readable().await.unwrap();
                topics(&core).await
            }
        });
        let came = core.change_network(change(&token, stages[0])).await.unwrap();
        assert!(came.reason.unwrap().contains("journalctl -u smolotchi-net"));
        assert_eq!(seen.await.unwrap(), [BEGUN]);
        assert_eq!(topics(&core).await, [BEGUN, "network.unknown"]);
        // Nobody listens any more: nothing can have been done.
        let came = core.change_network(change(&token, stages[1])).await.unwrap();
        assert!(came.reason.unwrap().contains("systemctl enable --now smolotchi-net.socket"));
        assert_eq!(topics(&core).await[2..], [BEGUN, "network.not-changed"]);
    }

    #[tokio::test]
    async fn who_waits_for_its_turn_spends_nothing_and_one_power_does_not_wait_for_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let core = allowing(dir.path());
        let (job_id, token, stages) = approved(&core, 1).await;
        let busy = core.powers.turn(Power::Net).await.unwrap();
        let came = core.change_network(change(&token, stages[0])).await;
        assert_eq!(came.unwrap_err().code, Code::CoreBusy);
        assert_eq!(topics(&core).await, Vec::<String>::new());
        let heard = r#"{"at":"x","available":true,"items":[]}"#;
        let listens = service(UnixListener::bind(dir.path().join("run/smolotchi/arp.sock")).unwrap(), heard);
        let asked = wire::ListenFor { token: token.clone(), job_id, interface: "eth0".into(), seconds: 5 };
        assert!(core.listen(asked).await.unwrap().available);
        assert_eq!(listens.await.unwrap(), 1);
        drop(busy);
        let served = service(UnixListener::bind(dir.path().join("run/smolotchi/net.sock")).unwrap(), LOST);
        assert!(core.change_network(change(&token, stages[0])).await.unwrap().available);
        assert_eq!(served.await.unwrap(), 1);
        assert_eq!(topics(&core).await, ["network.heard", BEGUN, "network.changed"]);
        let severe = core.store(|store| store.recent_severe(10)).await.unwrap();
        assert!(severe.iter().any(|event| event.topic == "network.changed" && event.body.contains("route to x")), "{severe:?}");
    }

    #[tokio::test]
    async fn what_the_policy_does_not_allow_is_refused_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let core = allowing(dir.path());
        let (job_id, token, stages) = approved(&core, 1).await;
        core.settings.write().unwrap().policy.actions.clear();
        let asked = wire::ListenFor { token: token.clone(), job_id, interface: "eth0".into(), seconds: 5 };
        assert!(core.listen(asked).await.unwrap().reason.unwrap().starts_with("policy.actions: "));
        assert!(core.change_network(change(&token, stages[0])).await.unwrap().reason.unwrap().starts_with("policy.actions: "));
        assert_eq!(topics(&core).await, ["network.refused", "network.refused"]);
        let other = wire::ListenFor { token: "other".into(), job_id, interface: "eth0".into(), seconds: 5 };
        assert_eq!(core.listen(other).await.unwrap_err().code, Code::JobNotHeld);
        assert_eq!(core.change_network(change("other", stages[0])).await.unwrap_err().code, Code::JobNotHeld);
        let long = wire::ListenFor { token: token.clone(), job_id, interface: "x".repeat(16), seconds: 5 };
        assert_eq!(core.listen(long).await.unwrap_err().code, Code::CoreRequest);
        assert_eq!(topics(&core).await.len(), 2, "a stranger writes no events");
    }

    #[tokio::test]
    async fn what_is_on_is_told_also_with_broken_settings() {
        let dir = tempfile::tempdir().unwrap();
        let core = allowing(dir.path());
        assert_eq!(core.powers(), Vec::new());
        std::fs::write(dir.path().join("run/smolotchi/net.sock"), "").unwrap();
        let held = core.clone();
        let broke = std::thread::spawn(move || {
            let _held = held.settings.write().unwrap();
            panic!("on purpose");
        });
        assert!(broke.join().is_err());
        let on = core.powers();
        assert_eq!((on.len(), on[0].interfaces.as_slice()), (1, &["wlan0".to_owned()][..]));
        assert!(core.policy_refuses(Power::Net, "link-restart", "wlan0").is_some(), "and nothing is done");
    }
}
