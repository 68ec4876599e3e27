//! The service ai: takes one job at a time from core and carries its run out.
//!
//! It waits at core's socket, not by a clock, so that it sleeps when there is nothing to do. Its watchdog is pinged by what came
//! back from core, never by a timer alone.

use super::run::{Left, carry_out};
use crate::account;
use crate::client::{Client, block_on};
use crate::config;
use crate::leases::this_process;
use crate::memory;
use crate::notify::Notify;
use crate::paths::Paths;
use crate::release::VERSION;
use crate::wire::{AdvanceRun, FinishJob, Job, LeasedJob, Outcome, RenewJob, Renewed, Run, RunState, Runs, WantJob};
use serde_json::Value;
use smolotchi_operator::log::{self, Kind};
use smolotchi_operator::{Code, Exit, Fault, Result};
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// What this worker can do.
const KIND: &str = "run";
/// How long one wait for a job takes; core's most. Each costs some wake-ups.
const WAIT_S: u64 = 300;
/// How long core may then still take to say that there is none.
const LATE: Duration = Duration::from_secs(10);
/// By then core has the question, and nothing more happens until it answers: what asking needed is given back.
const ASKED: Duration = Duration::from_secs(1);
/// How long a job is held without a sign of life.
const LEASE_S: u64 = 120;
/// How long a stop waits for the run under way. One that takes longer goes on after the next start.
const DRAIN: Duration = Duration::from_secs(60);
/// Between two tries while core is away, and at most.
const AGAIN: [u64; 6] = [1, 2, 5, 10, 20, 60];

/// Runs until SIGTERM or SIGINT. Errors before READY: the configuration's; later `core.refused` (20) for the wrong user.
pub(crate) fn run(paths: &Paths) -> Result<Exit> {
    log::role("ai");
    // Read again for each run; a broken one is better said now.
    config::load(paths)?;
    block_on(async {
        let on = |kind| signal(kind).map_err(|error| Fault::new(Code::Io, "could not wait for signals").cause(&error));
        let (mut terminate, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
        let worker = Worker { client: Client::new(paths.socket()).at(paths.caller(account::AI)), paths, notify: Notify::from_env() };
        let owner = this_process("ai")?;
        worker.notify.ready(&format!("version {VERSION}"));
        log::note(Kind::Ready, format!("ai {VERSION} is ready"));
        let mut stop = pin!(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        let mut away = 0;
        loop {
            worker.notify.watchdog();
            let want = WantJob { owner: owner.clone(), kinds: vec![KIND.to_owned()], wait_s: worker.wait_s(), lease_s: LEASE_S };
            let asked = Instant::now();
            let mut lease = pin!(async {
                let mut lease = pin!(worker.lease(&want));
                tokio::select! {
                    leased = &mut lease => return leased,
                    () = tokio::time::sleep(ASKED) => memory::give_back(),
                }
                lease.await
            });
            let leased = tokio::select! {
                leased = &mut lease => leased,
                () = &mut stop => break,
            };
            match leased {
                Ok(LeasedJob { job: Some(job), token: Some(token) }) => {
                    away = 0;
                    let mut work = pin!(worker.work(&job, &token));
                    let stopped = tokio::select! {
                        () = &mut work => false,
                        () = &mut stop => true,
                    };
                    if stopped {
                        worker.notify.stopping();
                        let _ = tokio::time::timeout(DRAIN, work).await;
                        break;
                    }
                }
                Ok(_) => {
                    away = 0;
                    // An answer before its time is that of a core that stops: its socket listens on, and would start it again.
                    if asked.elapsed() < Duration::from_secs(want.wait_s) {
                        tokio::select! {
                            () = tokio::time::sleep(Duration::from_secs(2)) => {}
                            () = &mut stop => break,
                        }
                    }
                }
                Err(fault) if fault.code == Code::CoreRefused => return Err(fault),
                Err(fault) => {
                    // Said once: core may be away for long, and the journal is on the card.
                    if away == 0 {
                        log::fault(&fault);
                    }
                    let pause = Duration::from_secs(AGAIN[away.min(AGAIN.len() - 1)]);
                    away += 1;
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = &mut stop => break,
                    }
                }
            }
        }
        worker.notify.stopping();
        log::note(Kind::Stopped, "ai has stopped");
        Ok(Exit::Success)
    })
}

struct Worker<'a> {
    client: Client,
    paths: &'a Paths,
    notify: Notify,
}

impl Worker<'_> {
    /// Asks for a job, but only a core that runs: whoever calls at the socket of one that is down starts it, and what an operator
    /// stopped, or what refuses its configuration, is not the worker's to start again and again.
    async fn lease(&self, want: &WantJob) -> Result<LeasedJob> {
        if !self.core_runs() {
            return Err(Fault::new(Code::CoreUnreachable, "core doesn't run"));
        }
        self.client.post_within("/v1/jobs/lease", want, Duration::from_secs(want.wait_s) + LATE).await
    }

    /// Core has a heartbeat as long as it runs; systemd removes its folder with it.
    fn core_runs(&self) -> bool {
        self.paths.heartbeat().exists()
    }

    /// Waits for a core that went away in the middle of a job.
    async fn until_core_runs(&self) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.notify.watchdog();
            if self.core_runs() {
                return;
            }
        }
    }

    /// A short watchdog wants a shorter wait.
    fn wait_s(&self) -> u64 {
        self.notify.watchdog_timeout().map_or(WAIT_S, |timeout| WAIT_S.min(timeout.as_secs() / 2))
    }

    /// One job, from its lease to its end, or until it is somebody else's.
    async fn work(&self, job: &Job, token: &str) {
        tokio::select! {
            () = self.carry(job, token) => {}
            () = self.hold(job.id, token) => log::warning(Code::RunNotHeld, format!("job {} is not held any more", job.id)),
        }
    }

    /// Renews the lease as long as it can be; returns when it is lost.
    async fn hold(&self, job: i64, token: &str) {
        let every = self.notify.watchdog_timeout().map_or(Duration::from_secs(LEASE_S / 3), |timeout| timeout / 2);
        let every = every.min(Duration::from_secs(LEASE_S / 3));
        loop {
            tokio::time::sleep(every).await;
            let renew = RenewJob { token: token.to_owned(), lease_s: LEASE_S };
            match self.client.post::<_, Renewed>(&format!("/v1/jobs/{job}/renew"), &renew).await {
                Ok(_) => self.notify.watchdog(),
                Err(fault) if fault.code == Code::JobNotHeld => return,
                // A core that is away may come back before the lease ends.
                Err(fault) => log::fault(&fault),
            }
        }
    }

    async fn carry(&self, job: &Job, token: &str) {
        let left = loop {
            match carry_out(&self.client, self.paths, job, token).await {
                Err(fault) if fault.code == Code::CoreUnreachable => self.until_core_runs().await,
                left => break left,
            }
            self.notify.watchdog();
        };
        let (outcome, result, error) = match left {
            Ok(Left::Done(result)) => (Outcome::Done, Some(result), None),
            Ok(Left::Waiting) => (Outcome::Waiting, None, None),
            Err(fault) if matches!(fault.code, Code::RunNotHeld | Code::JobNotHeld) => {
                log::fault(&fault);
                return;
            }
            Err(fault) => {
                log::fault(&fault);
                // What was refused will be refused again.
                let refused = matches!(fault.code.exit(), Exit::Validation | Exit::Operator);
                if refused || job.attempts >= job.max_attempts {
                    self.give_up(job.id, token).await;
                }
                (if refused { Outcome::Refused } else { Outcome::Failed }, None, Some(fault.to_string()))
            }
        };
        self.finish(job.id, FinishJob { token: token.to_owned(), outcome, result, error }).await;
    }

    /// The job's run will not be carried on.
    async fn give_up(&self, job: i64, token: &str) {
        let Ok(runs) = self.client.get::<Runs>("/v1/runs?limit=200").await else { return };
        let Some(run) = runs.runs.into_iter().find(|run| run.job_id == Some(job)) else { return };
        let failed = AdvanceRun { token: token.to_owned(), state: Some(RunState::Failed), ..AdvanceRun::default() };
        if let Err(fault) = self.client.post::<_, Run>(&format!("/v1/runs/{}", run.id), &failed).await {
            log::fault(&fault);
        }
    }

    async fn finish(&self, job: i64, finish: FinishJob) {
        loop {
            match self.client.post::<_, Value>(&format!("/v1/jobs/{job}/finish"), &finish).await {
                Ok(_) => return,
                // Its answer may have been lost on the way: then it is finished, and held by nobody.
                Err(fault) if fault.code == Code::CoreUnreachable => self.until_core_runs().await,
                Err(fault) => {
                    log::fault(&fault);
                    return;
                }
            }
        }
    }
}
