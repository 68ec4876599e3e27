//! The thread that owns a state: jobs are sent to it, one runs at a time, in the order in which they came.
//!
//! Core keeps the database there. SQLite wants one owner, and a commit on an SD card may take long: the loop that talks
//! to systemd and to callers must not wait for it on its own thread.

use smolotchi_operator::{Code, Fault, Result};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// How many jobs may wait; callers beyond that wait for their place.
const QUEUE: usize = 64;

enum Job<S> {
    Run(Box<dyn FnOnce(&mut S) + Send>),
    Stop,
}

/// A handle to the owning thread; cheap to clone.
pub(crate) struct Owner<S> {
    jobs: mpsc::Sender<Job<S>>,
}

impl<S> Clone for Owner<S> {
    fn clone(&self) -> Self {
        Owner { jobs: self.jobs.clone() }
    }
}

impl<S: 'static> Owner<S> {
    /// Starts the thread, which makes the state by `open`; returns when it is open.
    pub(crate) fn start(open: impl FnOnce() -> Result<S> + Send + 'static) -> Result<(Self, JoinHandle<()>)> {
        let (jobs, mut inbox) = mpsc::channel(QUEUE);
        let (opened, ready) = std::sync::mpsc::channel();
        let work = move || {
            let mut state = match open() {
                Ok(state) => state,
                Err(fault) => {
                    let _ = opened.send(Err(fault));
                    return;
                }
            };
            if opened.send(Ok(())).is_err() {
                return;
            }
            while let Some(Job::Run(job)) = inbox.blocking_recv() {
                job(&mut state);
            }
        };
        let thread = std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(work)
            .map_err(|error| Fault::new(Code::CoreFailed, "could not start the state's thread").cause(&error))?;
        ready.recv().map_err(|_| gone())??;
        Ok((Owner { jobs }, thread))
    }

    /// Runs a job on the owning thread and waits for its result.
    pub(crate) async fn call<R: Send + 'static>(&self, job: impl FnOnce(&mut S) -> R + Send + 'static) -> Result<R> {
        let (done, result) = oneshot::channel();
        let job = Job::Run(Box::new(move |state: &mut S| {
            // The caller may have given up waiting; the work is done all the same.
            let _ = done.send(job(state));
        }));
        self.jobs.send(job).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())
    }

    /// Hands a job to the owning thread and doesn't wait for it.
    pub(crate) async fn post(&self, job: impl FnOnce(&mut S) + Send + 'static) -> Result<()> {
        self.jobs.send(Job::Run(Box::new(job))).await.map_err(|_| gone())
    }

    /// Lets the jobs before this one finish, then ends the thread.
    pub(crate) async fn stop(&self) {
        let _ = self.jobs.send(Job::Stop).await;
    }
}

fn gone() -> Fault {
    Fault::new(Code::CoreFailed, "the state's thread has ended")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::block_on;

    #[test]
    fn jobs_run_in_order_on_one_state() {
        let (owner, thread) = Owner::start(|| Ok(Vec::new())).unwrap();
        let seen = block_on(async {
            for number in 0..10 {
                owner.call(move |seen: &mut Vec<i32>| seen.push(number)).await?;
            }
            let seen = owner.call(|seen| seen.clone()).await;
            owner.stop().await;
            seen
        });
        thread.join().unwrap();
        assert_eq!(seen.unwrap(), (0..10).collect::<Vec<_>>());
        assert_eq!(block_on(owner.call(|_| ())).unwrap_err().code, Code::CoreFailed);
    }

    #[test]
    fn a_state_that_does_not_open_is_the_callers_fault() {
        let result = Owner::<()>::start(|| Err(Fault::new(Code::StoreDamaged, "x")));
        assert_eq!(result.err().unwrap().code, Code::StoreDamaged);
    }
}
