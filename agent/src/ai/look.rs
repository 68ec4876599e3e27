//! What an action may look with: core's API and the files below the root. Its one way to write is an artifact of its run.

use crate::client::Client;
use crate::clock;
use crate::paths::Paths;
use crate::wire::{Artifact, Artifacts};
use serde_json::Value;
use smolotchi_operator::{Code, Result};

/// The surroundings of one step.
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    /// Core.
    pub(crate) client: &'a Client,
    /// Where things are.
    pub(crate) paths: &'a Paths,
    /// The run that looks.
    pub(crate) run_id: i64,
    /// Its job.
    pub(crate) job_id: i64,
    /// Of the job's lease.
    pub(crate) token: &'a str,
    /// The approved request of the step, if it needed one.
    pub(crate) stage: Option<i64>,
}

impl Look<'_> {
    /// What core's senses see now. A core that has no such sense is an absent one.
    pub(crate) async fn observation(&self, kind: &str) -> Result<Value> {
        let path = format!("/v1/observations/{kind}");
        match patiently(async || self.client.get(&path).await).await {
            Err(fault) if fault.code == Code::CoreRequest => Ok(super::actions::absent("core has no such sense")),
            Err(fault) if fault.code == Code::CoreBusy => Ok(super::actions::absent("others kept core busy")),
            other => other,
        }
    }

    /// Has core look, or do, something for this job. A core that has no such call, and one that others keep busy, is an absent one.
    pub(crate) async fn ask(&self, path: &str, question: &Value) -> Result<Value> {
        match patiently(async || self.client.post(path, question).await).await {
            Err(fault) if fault.code == Code::CoreRequest => Ok(super::actions::absent("core has no such call")),
            Err(fault) if fault.code == Code::CoreBusy => Ok(super::actions::absent("others kept core busy")),
            other => other,
        }
    }

    /// RFC 3339, so many days ago by the machine's clock.
    pub(crate) fn since_days(&self, days: i64) -> String {
        clock::rfc3339(clock::now_ms().saturating_sub(days * 86_400_000))
    }

    /// Puts an artifact of this run; one of this kind that the run has already stays, and is the answer.
    pub(crate) async fn put_once(&self, kind: &str, name: &str, content: &Value) -> Result<i64> {
        if let Some(there) = self.newest(kind).await? {
            return Ok(there.id);
        }
        self.put(kind, name, serde_json::to_vec(content).unwrap_or_default()).await
    }

    /// Puts an artifact of this run; its id.
    pub(crate) async fn put(&self, kind: &str, name: &str, content: Vec<u8>) -> Result<i64> {
        let (run, job, token) = (self.run_id, self.job_id, self.token);
        let path = format!("/v1/artifacts?kind={kind}&name=run-{run}-{name}&media=application/json&job={job}&run={run}&token={token}");
        let artifact: Artifact = self.client.put(&path, content).await?;
        Ok(artifact.id)
    }

    /// The newest artifact of this kind that the run has.
    pub(crate) async fn newest(&self, kind: &str) -> Result<Option<Artifact>> {
        let found: Artifacts = self.client.get(&format!("/v1/artifacts?run={}&kind={kind}&limit=1", self.run_id)).await?;
        Ok(found.artifacts.into_iter().next())
    }
}

/// Asks again while others have core look for them: each time core has waited for a turn.
pub(super) async fn patiently<T>(ask: impl AsyncFn() -> Result<T>) -> Result<T> {
    for _ in 0..TRIES {
        match ask().await {
            Err(fault) if fault.code == Code::CoreBusy => {}
            other => return other,
        }
    }
    ask().await
}

/// How often core may be too busy before that is an answer.
const TRIES: u32 = 5;
