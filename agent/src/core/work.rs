//! What keeps the work going: who waits for a job, which worker died, which stage request is over.
//!
//! Nothing here polls: a wait ends by a notice, by the end of a process, or by one timer that only exists while something is
//! held or pending.

use super::Core;
use crate::artifacts::Folder;
use crate::clock;
use crate::config::WorkSettings;
use crate::leases::{Judged, judge, look};
use crate::serve::Caller;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use smolotchi_operator::log::{self, Kind};
use smolotchi_operator::{Code, Fault, Result};
use smolotchi_store::{Job, Lease, Leased, OldRows, Reason, Store, StoreError, WantJob, WorkPolicy};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::{Notify, RwLock, Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The longest sleep until a moment of the wall clock, which may jump meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// How long somebody waits for its turn.
const TURN_TIME: Duration = Duration::from_secs(5);

/// Between two tries of what the disk refused.
const RETRY: Duration = Duration::from_secs(30);

/// What the work needs beside the database.
pub(crate) struct Work {
    /// A job may be due now.
    queued: Notify,
    stopping: AtomicBool,
    /// One task for each lease of a job.
    keepers: Mutex<HashMap<String, AbortHandle>>,
    /// Waits for the end of the next stage request.
    timer: Mutex<Option<AbortHandle>>,
    boot_id: Option<String>,
    /// The content of artifacts.
    pub(super) content: Arc<Folder>,
    /// Putting reads, removing writes: content is never removed between its rename and its row.
    pub(super) gate: RwLock<()>,
    /// One content at a time is read and compared for those who only look.
    pub(super) looks: Arc<Semaphore>,
}

/// A leased job on its way to who asked for it; given back if that has hung up, whenever it did.
struct Handed {
    core: Arc<Core>,
    leased: Option<(Job, String)>,
}

impl Handed {
    fn take(mut self) -> Option<(Job, String)> {
        self.leased.take()
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let (Some((job, token)), Ok(runtime)) = (self.leased.take(), Handle::try_current()) {
            let core = self.core.clone();
            runtime.spawn(async move { core.give_back(job.id, token).await });
        }
    }
}

impl Work {
    pub(super) fn new(artifacts: PathBuf) -> Self {
        Work {
            queued: Notify::new(),
            stopping: AtomicBool::new(false),
            keepers: Mutex::default(),
            timer: Mutex::default(),
            boot_id: clock::boot_id(),
            content: Arc::new(Folder::new(artifacts)),
            gate: RwLock::new(()),
            looks: Arc::new(Semaphore::new(1)),
        }
    }

    /// Ends every wait.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.queued.notify_waiters();
    }

    /// Who calls: the user's name from the kernel's word, and whom it says it acts for.
    pub(super) fn who(caller: Caller, by: Option<&str>) -> String {
        let user = caller.0.map_or_else(|| "somebody".to_owned(), crate::account::name_of);
        match by.filter(|by| *by != user) {
            Some(by) => format!("{user} for {by}"),
            None => user,
        }
    }

    pub(super) fn judge(&self, lease: &Lease) -> Judged {
        judge(lease, self.boot_id.as_deref(), clock::boottime_ms(), look(lease.owner.pid))
    }

    fn hold<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Core {
    /// Takes up what the last run of core left: half-written content, held jobs, pending requests.
    pub(super) async fn begin_work(self: &Arc<Self>) -> Result<()> {
        let content = self.work.content.clone();
        match tokio::task::spawn_blocking(move || content.sweep()).await {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(count)) => log::note(Kind::Mended, format!("removed {count} half-written artifacts")),
            Ok(Err(fault)) => log::fault(&fault),
        }
        let leases = match self.store(|store| store.leases()).await {
            Err(fault) if fault.code == Code::StoreNotInSchema => return Ok(()),
            other => other?,
        };
        for lease in leases.into_iter().filter(|lease| lease.job().is_some()) {
            self.watch_lease(lease);
        }
        self.watch_stages();
        Ok(())
    }

    /// Somebody may wait for a job that is due now.
    pub(super) fn job_may_be_due(&self) {
        self.work.queued.notify_waiters();
    }

    /// Waits for a job for this worker, at most until `end`.
    pub(super) async fn next_job(self: &Arc<Self>, want: WantJob, lease_s: u64, end: Instant) -> Result<Option<(Job, String)>> {
        loop {
            // Told of whatever is queued from here on.
            let queued = self.work.queued.notified();
            tokio::pin!(queued);
            queued.as_mut().enable();
            let mut ask = want.clone();
            ask.lease.token = token()?;
            ask.lease.expires_boottime_ms = clock::boottime_ms() + lease_s * 1000;
            // In a task of its own: a worker that hangs up in the middle must not leave a lease that nobody watches, nor one that
            // it never hears of and that others wait for in vain.
            let core = self.clone();
            let (tell, told) = oneshot::channel();
            tokio::spawn(async move {
                let _ = tell.send(core.lease_one(ask).await);
            });
            let next_due_ms = match told.await.unwrap_or_else(|_| Err(Fault::new(Code::CoreFailed, "the lease broke")))? {
                Ok(handed) => return Ok(handed.take()),
                Err(next_due_ms) => next_due_ms,
            };
            if self.work.stopping.load(Ordering::Relaxed) || Instant::now() >= end {
                return Ok(None);
            }
            let due = next_due_ms.map_or(end, |due| Instant::now() + wall(due));
            tokio::select! {
                () = queued => {}
                () = tokio::time::sleep_until(due.min(end)) => {}
            }
        }
    }

    /// Leases a job and watches the lease, or says when the next job is due.
    async fn lease_one(self: Arc<Self>, ask: WantJob) -> Result<std::result::Result<Handed, Option<i64>>> {
        let lease = ask.lease.clone();
        match self.store(move |store| store.lease_job(&ask, clock::now_ms())).await? {
            Leased::Job(job) => {
                let held = Lease {
                    name: format!("job/{}", job.id),
                    owner: lease.owner,
                    token: lease.token.clone(),
                    taken_ms: job.changed_ms,
                    expires_boottime_ms: lease.expires_boottime_ms,
                };
                self.watch_lease(held);
                Ok(Ok(Handed { core: self, leased: Some((*job, lease.token)) }))
            }
            Leased::Nothing { next_due_ms } => Ok(Err(next_due_ms)),
        }
    }

    /// A job whose worker hung up before it heard of it is as it was before.
    async fn give_back(&self, id: i64, token: String) {
        match self.store(move |store| store.give_back_job(id, &token, clock::now_ms())).await {
            Ok(true) => {
                self.unwatch_lease(id);
                self.job_may_be_due();
            }
            // Somebody else has it by now.
            Ok(false) => {}
            // Then it comes back when the lease ends.
            Err(fault) => log::fault(&fault),
        }
    }

    /// Frees a job when its worker dies or lets the lease end. The task lives as long as the lease.
    fn watch_lease(self: &Arc<Self>, lease: Lease) {
        let weak = Arc::downgrade(self);
        let name = lease.name.clone();
        let task = tokio::spawn(async move {
            let mut lease = lease;
            loop {
                let Some(core) = weak.upgrade() else { return };
                let judged = core.work.judge(&lease);
                if judged.over {
                    match core.free(&lease, judged.why).await {
                        Ok(_) => return,
                        // A full disk, perhaps: it is tried again.
                        Err(fault) => log::fault(&fault),
                    }
                    drop(core);
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                drop(core);
                let left = lease.expires_boottime_ms.saturating_sub(clock::boottime_ms());
                ended(lease.owner.pid, Duration::from_millis(left + 1)).await;
                let Some(core) = weak.upgrade() else { return };
                // It may have been renewed meanwhile, or given up.
                let (name, token) = (lease.name.clone(), lease.token.clone());
                match core.store(|store| store.leases()).await {
                    Ok(leases) => match leases.into_iter().find(|lease| lease.name == name && lease.token == token) {
                        Some(found) => lease = found,
                        None => return,
                    },
                    Err(fault) => {
                        log::fault(&fault);
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        });
        if let Some(before) = Work::hold(&self.work.keepers).insert(name, task.abort_handle()) {
            before.abort();
        }
    }

    /// The lease of a job was given up: nobody needs to watch it.
    pub(super) fn unwatch_lease(&self, job: i64) {
        if let Some(task) = Work::hold(&self.work.keepers).remove(&format!("job/{job}")) {
            task.abort();
        }
    }

    /// Gives up a lease whose holder is gone, and queues its job again. False if it was given up meanwhile.
    pub(super) async fn free(&self, lease: &Lease, why: String) -> Result<bool> {
        let held = lease.clone();
        let Some(id) = lease.job() else { return self.store(move |store| store.break_lease(&held, &why, clock::now_ms())).await };
        let lost = self.store(move |store| store.lose_job(id, &held.token, &why, clock::now_ms())).await?;
        if lost {
            log::warning(Code::JobLost, format!("job {id} was lost by its worker"));
            self.job_may_be_due();
        }
        Ok(lost)
    }

    /// Ends stage requests when their time is over. The task lives as long as one is pending.
    pub(super) fn watch_stages(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            loop {
                let Some(core) = weak.upgrade() else { return };
                let look = core.store(|store| {
                    let ended = store.expire_stages(clock::now_ms())?;
                    store.next_stage_end().map(|next| (ended, next))
                });
                let next = match look.await {
                    Ok((ended, next)) => {
                        if ended > 0 {
                            core.job_may_be_due();
                        }
                        next
                    }
                    Err(fault) => {
                        log::fault(&fault);
                        Some(i64::MAX)
                    }
                };
                drop(core);
                let Some(next) = next else { return };
                tokio::time::sleep(wall(next).min(LOOK_AGAIN)).await;
            }
        });
        if let Some(before) = Work::hold(&self.work.timer).replace(task.abort_handle()) {
            before.abort();
        }
    }
}

/// What a policy would remove at this time, and whether something stays that is old by the clock.
fn plan(store: &Store, policy: &WorkPolicy, now_ms: i64) -> std::result::Result<(Vec<OldRows>, bool), StoreError> {
    let old = store.plan_work(policy, now_ms)?;
    if !old.iter().any(|part| part.reason == Reason::Age) {
        return Ok((old, false));
    }
    // By a clock that can't be believed nothing is old.
    let believed = |days: Option<u32>| days.map_or(Ok(None), |days| store.lived(now_ms, days).map(|lived| lived.then_some(days)));
    let sure = WorkPolicy { job_days: believed(policy.job_days)?, artifact_days: believed(policy.artifact_days)?, ..*policy };
    if sure == *policy {
        return Ok((old, false));
    }
    let surely = store.plan_work(&sure, now_ms)?;
    let held_back = surely != old;
    Ok((surely, held_back))
}

/// How many rows one step removes: the state's thread is free for others in between.
const STEP: usize = 500;

impl Core {
    /// What `[jobs]` and `[artifacts]` would remove now, and whether something stays that is old by the clock. A release without
    /// them would remove nothing.
    pub(super) async fn old_work(&self) -> Result<(Vec<OldRows>, bool)> {
        let WorkSettings { job_days, artifact_days, artifact_bytes } =
            self.settings.read().map(|settings| settings.work).unwrap_or_else(|poisoned| poisoned.into_inner().work);
        let plan = self.store(move |store| plan(store, &WorkPolicy { job_days, artifact_days, artifact_bytes }, clock::now_ms()));
        match plan.await {
            Err(fault) if fault.code == Code::StoreNotInSchema => Ok((Vec::new(), false)),
            other => other,
        }
    }

    /// Removes exactly these, but what is needed by now stays. How many rows, and the bytes on the disk.
    pub(super) async fn remove_work(&self, old: &OldRows) -> Result<(u64, u64)> {
        let (mut count, mut bytes, kind) = (0, 0, old.kind);
        for ids in old.ids.chunks(STEP) {
            let ids = ids.to_vec();
            if kind == "artifacts" {
                let removal = self.remove_artifacts(ids, None).await?;
                count += removal.removed.len() as u64;
                bytes += removal.bytes;
            } else {
                count += self.store(move |store| store.remove_rows(kind, &ids, clock::now_ms())).await?;
            }
        }
        Ok((count, bytes))
    }
}

/// Work beside the loop that anybody may ask for: one at a time, for as long as it takes, also when its caller has hung up. Whoever
/// waits too long for its turn is refused with `core.busy`.
pub(super) async fn in_turn<T: Send + 'static>(turn: &Arc<Semaphore>, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let busy = |_| Fault::new(Code::CoreBusy, "others asked for the same").fact("waited_s", TURN_TIME.as_secs());
    let permit = tokio::time::timeout(TURN_TIME, turn.clone().acquire_owned()).await.map_err(busy)?;
    let work = move || {
        let done = work();
        drop(permit);
        done
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Fault::new(Code::CoreFailed, "the work beside the loop broke"))
}

/// How long it is until a moment of the wall clock, by what it says now.
fn wall(at_ms: i64) -> Duration {
    Duration::from_millis(at_ms.saturating_sub(clock::now_ms()).max(0).unsigned_abs().saturating_add(1)).min(Duration::from_secs(86_400))
}

/// Waits for a process to end, at most so long.
#[allow(deprecated, reason = "its successor is unsafe for the sake of types that may give away their descriptor; OwnedFd doesn't")]
async fn ended(pid: u32, within: Duration) {
    let watched = i32::try_from(pid).ok().and_then(Pid::from_raw).and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
    // Without a descriptor the lease's end has to do.
    match watched.and_then(|fd| AsyncFd::with_interest(fd, Interest::READABLE).ok()) {
        Some(process) => {
            let _ = tokio::time::timeout(within, process.readable()).await;
        }
        None => tokio::time::sleep(within).await,
    }
}

/// 128 random bits in hexadecimal.
pub(super) fn token() -> Result<String> {
    use std::fmt::Write;
    let mut bytes = [0_u8; 16];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if got != Ok(bytes.len()) {
        return Err(smolotchi_operator::Fault::new(Code::CoreFailed, "the kernel gave no random numbers"));
    }
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
pub(in crate::core) mod tests {
    use super::*;
    use smolotchi_store::migrate::{self, Direction};
    use smolotchi_store::{NewArtifact, NewEvent, NewJob};

    const DAY_MS: i64 = 24 * 60 * 60 * 1000;

    #[test]
    fn a_clock_far_ahead_makes_no_work_old() {
        if smolotchi_store::schema_own() < 7 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("smolotchi.db");
        migrate::run(&path, Direction::UpOnly, true).unwrap();
        let mut store = Store::open(&path).unwrap();
        let new =
            NewJob { kind: "k".into(), profile: None, input: "{}".into(), priority: 0, created_by: "t".into(), due_ms: 0, max_attempts: 1 };
        let artifact = NewArtifact {
            kind: "k".into(),
            name: "n".into(),
            media: "m/m".into(),
            sha256: "a".repeat(64),
            bytes: 9,
            job_id: None,
            run_id: None,
        };
        let job = store.add_job(&new, DAY_MS).unwrap();
        store.cancel_job(job.id, "t", DAY_MS).unwrap();
        store.put_artifact(&artifact, DAY_MS).unwrap();
        let policy = WorkPolicy { job_days: Some(90), artifact_days: Some(90), artifact_bytes: None };
        let found = |store: &Store, policy: &WorkPolicy, day: i64| {
            let (old, held_back) = plan(store, policy, day * DAY_MS).unwrap();
            let count = |kind: &str| old.iter().filter(|part| part.kind == kind).map(|part| part.ids.len()).sum::<usize>();
            (count("jobs"), count("artifacts"), held_back)
        };
        assert_eq!(found(&store, &policy, 60), (0, 0, false), "young");
        assert_eq!(found(&store, &policy, 400), (0, 0, true), "a time that nothing vouches for");
        assert_eq!(found(&store, &WorkPolicy { artifact_bytes: Some(0), ..policy }, 400), (0, 1, true), "bytes need no clock");
        store.append(&[NewEvent { topic: "t".into(), severity: None, body: "1".into() }], 390 * DAY_MS).unwrap();
        assert_eq!(found(&store, &policy, 400), (1, 1, false));
    }

    /// A core with a database of its own, and nothing that drives it.
    pub(in crate::core) fn core(dir: &std::path::Path) -> Arc<Core> {
        let paths = crate::paths::Paths::new(Some(dir));
        std::fs::create_dir_all(paths.state()).unwrap();
        migrate::run(&paths.database(), Direction::UpOnly, true).unwrap();
        let store = Store::open(&paths.database()).unwrap();
        let owner = crate::core::Owner::start(move || Ok(store)).unwrap().0;
        let (settings, configured) = crate::core::configured::Configured::load(&paths).unwrap();
        let notify = Arc::new(crate::notify::Notify::from_env());
        Arc::new(Core {
            turns: crate::core::pulse::Pulse::new(owner.clone(), paths.heartbeat(), 7, notify).turns(),
            owner,
            settings: std::sync::RwLock::new(settings),
            configured,
            state: paths.state(),
            senses: crate::core::senses::Senses::new(&paths, Vec::new()),
            services: crate::core::health::Services::default(),
            newest: tokio::sync::watch::Sender::new(Some(0)),
            asked: AtomicBool::new(false),
            auditing: tokio::sync::Mutex::default(),
            uid: 0,
            worker: None,
            work: Work::new(paths.artifacts()),
            powers: crate::core::powers::Powers::new(&paths),
            schema: 7,
            started_at_ms: 0,
            started_boottime_ms: 0,
        })
    }

    #[tokio::test]
    async fn who_hangs_up_in_the_moment_of_its_job_leaves_it_to_others() {
        if smolotchi_store::schema_own() < 7 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let core = core(dir.path());
        let new =
            NewJob { kind: "k".into(), profile: None, input: "{}".into(), priority: 0, created_by: "t".into(), due_ms: 0, max_attempts: 1 };
        let job = core.store(move |store| store.add_job(&new, 1)).await.unwrap().id;
        let owner = crate::leases::this_process("ai").unwrap();
        let lease = smolotchi_store::NewLease { name: String::new(), owner, token: String::new(), expires_boottime_ms: 0 };
        let want = WantJob { lease, kinds: vec!["k".into()] };
        let mut asks = Box::pin(core.next_job(want, 3600, Instant::now() + LOOK_AGAIN));
        assert!(std::future::poll_fn(|context| std::task::Poll::Ready(asks.as_mut().poll(context))).await.is_pending());
        // The lease is watched in the same step that hands the job over; who asked was not told yet.
        let handed = async {
            while Work::hold(&core.work.keepers).is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TURN_TIME, handed).await.unwrap();
        drop(asks);
        let back = async {
            loop {
                let job = core.store(move |store| store.job(job)).await.unwrap().unwrap();
                if (job.state, job.attempts) == (smolotchi_store::JobState::Queued, 0) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TURN_TIME, back).await.expect("the job waits for the end of its lease");
    }

    #[tokio::test]
    async fn who_hangs_up_keeps_its_turn_until_the_work_is_done() {
        let turn = Arc::new(Semaphore::new(1));
        let (done, over) = std::sync::mpsc::channel();
        let (begins, begun) = oneshot::channel();
        let own = turn.clone();
        let first = tokio::spawn(async move {
            let work = move || {
                let _ = begins.send(());
                over.recv().unwrap();
            };
            in_turn(&own, work).await
        });
        begun.await.unwrap();
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        assert_eq!(turn.available_permits(), 0, "its work goes on");
        done.send(()).unwrap();
        assert_eq!(in_turn(&turn, || 7).await.unwrap(), 7);
    }
}
