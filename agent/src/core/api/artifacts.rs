//! The artifacts' calls: look, take in, give out. Content is hashed on its way in and compared before it is given out.

use super::{Answer, Id, jobs::not_held};
use crate::artifacts::{CHUNK, Content, Folder, Incoming, Looked, too_large};
use crate::clock;
use crate::core::Core;
use crate::core::refuse::{Refusal, parse, query};
use crate::core::work::{Work, in_turn};
use crate::serve::Caller;
use crate::store_fault::store_fault;
use crate::wire::{self, MAX_ARTIFACT};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde::Deserialize;
use smolotchi_operator::{Code, Fault, log};
use smolotchi_store::{Artifact, ArtifactFilter, ArtifactState, NewArtifact, Page, Removal, Store};
use std::fs::File;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, spawn_blocking};

/// How long one call reads content before it answers.
const VERIFY_TIME: Duration = Duration::from_secs(5);
/// How much is read between two looks at the clock, more or less.
const VERIFY_BYTES: u64 = 8 * 1024 * 1024;
/// The most artifacts that are removed by one call.
const MAX_REMOVED: usize = 1000;

/// For everyone to read.
pub(super) fn routes() -> Router<Arc<Core>> {
    Router::new()
        .route("/v1/artifacts", get(artifacts))
        .route("/v1/artifacts/{id}", get(artifact))
        .route("/v1/artifacts/{id}/content", get(content))
        .route("/v1/artifacts/remove", post(remove))
}

/// For the worker as well.
pub(super) fn worker_routes() -> Router<Arc<Core>> {
    Router::new().route("/v1/artifacts", post(put)).route("/v1/artifacts/verify", post(verify))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    kind: Option<String>,
    job: Option<i64>,
    run: Option<i64>,
    sha256: Option<String>,
    state: Option<ArtifactState>,
    search: Option<String>,
    before: Option<i64>,
    limit: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    kind: String,
    name: String,
    #[serde(default)]
    media: Option<String>,
    job: Option<i64>,
    run: Option<i64>,
    token: Option<String>,
}

pub(super) fn shown(artifact: Artifact) -> wire::Artifact {
    wire::Artifact {
        id: artifact.id,
        kind: artifact.kind,
        name: artifact.name,
        media: artifact.media,
        sha256: artifact.sha256,
        bytes: artifact.bytes,
        created_at: clock::rfc3339(artifact.created_ms),
        job_id: artifact.job_id,
        run_id: artifact.run_id,
        state: artifact.state,
        fault: artifact.fault,
        checked_at: artifact.checked_ms.map(clock::rfc3339),
    }
}

async fn artifacts(State(core): State<Arc<Core>>, uri: Uri) -> Answer<wire::Artifacts> {
    let Which { kind, job, run, sha256, state, search, before, limit } = query(&uri)?;
    let page = Page { before, limit: super::limit(limit)? };
    let filter = ArtifactFilter { kind, job, run, sha256, state };
    let look = move |store: &mut Store| store.search_artifacts(search.as_deref(), &filter, page);
    let (artifacts, next) = core.store(look).await?;
    Ok(Json(wire::Artifacts { artifacts: artifacts.into_iter().map(shown).collect(), next }))
}

async fn find(core: &Core, id: i64) -> Result<Artifact, Refusal> {
    let found = core.store(move |store| store.artifact(id)).await?;
    found.ok_or_else(|| Fault::new(Code::ArtifactUnknown, "there is no such artifact").fact("artifact", id).into())
}

async fn artifact(State(core): State<Arc<Core>>, Id(id): Id) -> Answer<wire::Artifact> {
    Ok(Json(shown(find(&core, id).await?)))
}

/// Work on files, beside the loop.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    spawn_blocking(work).await.unwrap_or_else(|_| Err(Fault::new(Code::CoreFailed, "the work on files broke")))
}

async fn put(State(core): State<Arc<Core>>, Extension(caller): Extension<Caller>, uri: Uri, body: Body) -> Answer<wire::Artifact> {
    let About { kind, name, media, job, run, token } = query(&uri)?;
    super::word("kind", &kind)?;
    super::file_name("name", &name)?;
    let media = media.unwrap_or_else(|| "application/octet-stream".to_owned());
    super::text("media", &media, 100)?;
    let folder = core.work.content.clone();
    let (incoming, rest) = take(&folder, body).await?;
    let small = incoming.is_none();
    // The worker puts nothing but what its job brings, and nothing once that is somebody else's.
    let held = if core.is_admin(caller.0) && token.is_none() { None } else { Some((job.unwrap_or_default(), token.unwrap_or_default())) };
    let known = move |store: &mut Store, Content { sha256, bytes }| {
        if let Some((job, token)) = held {
            if !store.holds_job(job, &token).map_err(store_fault)? {
                return Err(not_held(job));
            }
        }
        let new = NewArtifact { kind, name, media, sha256, bytes, job_id: job, run_id: run };
        store.put_artifact(&new, clock::now_ms()).map_err(store_fault)
    };
    let keep = move || folder.keep(written(&folder, incoming, &rest)?);
    // Until the row is there, nothing may remove the content.
    let putting = core.work.gate.read().await;
    let (sha256, new, stored) = if small {
        // It takes the disk no longer than the commit itself: both in one trip to that thread.
        let both = move |store: &mut Store| keep().map(|(content, new)| (content.sha256.clone(), new, known(store, content)));
        core.owner.call(both).await??
    } else {
        let (content, new) = beside(keep).await?;
        (content.sha256.clone(), new, core.owner.call(move |store| known(store, content)).await?)
    };
    drop(putting);
    match stored {
        Ok(artifact) => Ok(Json(shown(artifact))),
        // What was there before stays: a restored database may lack its row.
        Err(fault) if !new => Err(fault.into()),
        Err(fault) => {
            core.forget_unknown(sha256).await.unwrap_or_else(|fault| log::fault(&fault));
            Err(fault.into())
        }
    }
}

/// Takes a body in, a piece at a time: what is written so far, and the rest. What is small costs one trip to another thread.
async fn take(folder: &Arc<Folder>, mut body: Body) -> Result<(Option<Incoming>, Vec<u8>), Refusal> {
    let mut incoming: Option<Incoming> = None;
    let mut piece: Vec<u8> = Vec::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Fault::new(Code::CoreRequest, "the content did not arrive whole").cause(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len() as u64;
        if seen > MAX_ARTIFACT {
            return Err(too_large(MAX_ARTIFACT).into());
        }
        piece.extend_from_slice(&data);
        if piece.len() >= CHUNK {
            let (folder, full) = (folder.clone(), std::mem::take(&mut piece));
            let before = incoming.take();
            incoming = Some(beside(move || written(&folder, before, &full)).await?);
        }
    }
    Ok((incoming, piece))
}

fn written(folder: &Folder, incoming: Option<Incoming>, bytes: &[u8]) -> Result<Incoming, Fault> {
    let mut incoming = incoming.map_or_else(|| folder.begin(), Ok)?;
    incoming.write(bytes).map(|()| incoming)
}

async fn content(State(core): State<Arc<Core>>, Id(id): Id) -> Result<Response, Refusal> {
    let artifact = find(&core, id).await?;
    if artifact.state == ArtifactState::Damaged {
        return Err(damaged(&artifact, artifact.fault.as_deref().unwrap_or_default()).into());
    }
    let (folder, sha256, bytes) = (core.work.content.clone(), artifact.sha256.clone(), artifact.bytes);
    match in_turn(&core.work.looks, move || folder.look(&sha256, bytes)).await?? {
        // To its end, whoever hangs up.
        Looked::Damaged(_) => match set_aside(&core, artifact.clone()).await? {
            Some(fault) => Err(damaged(&artifact, &fault).into()),
            None => Err(Fault::new(Code::CoreFailed, "the content was put again meanwhile").hint("ask again").into()),
        },
        Looked::Whole(file) => {
            let length = artifact.bytes.to_string();
            let headers = [(header::CONTENT_TYPE, artifact.media), (header::CONTENT_LENGTH, length)];
            Ok((headers, Body::new(Pieces { file: Some(file), reading: None, left: artifact.bytes })).into_response())
        }
    }
}

async fn set_aside(core: &Arc<Core>, artifact: Artifact) -> Result<Option<String>, Fault> {
    let core = core.clone();
    let aside = tokio::spawn(async move { core.set_aside(&artifact).await });
    aside.await.unwrap_or_else(|_| Err(Fault::new(Code::CoreFailed, "the work on files broke")))
}

fn damaged(artifact: &Artifact, fault: &str) -> Fault {
    Fault::new(Code::ArtifactDamaged, "the artifact is damaged")
        .fact("artifact", artifact.id)
        .fact("name", artifact.name.as_str())
        .fact("sha256", artifact.sha256.as_str())
        .fact("what", fault)
}

async fn verify(State(core): State<Arc<Core>>, body: Result<Bytes, BytesRejection>) -> Answer<wire::Verified> {
    let wire::VerifyArtifacts { mut after, only } = parse(body)?;
    let mut verified = wire::Verified::default();
    if let Some(id) = only {
        let artifact = find(&core, id).await?;
        if artifact.state == ArtifactState::Damaged {
            verified.damaged.push(shown(artifact));
        } else {
            core.verify(&[artifact], &mut verified).await?;
        }
        return Ok(Json(verified));
    }
    let begun = Instant::now();
    loop {
        let mut page = core.store(move |store| store.artifacts_to_check(after, 50)).await?;
        // Many small ones at once, large ones one by one: between them the clock is looked at.
        let mut bytes = 0;
        let fits = |one: &&Artifact| {
            let before = bytes;
            bytes += one.bytes;
            before < VERIFY_BYTES
        };
        let most = page.iter().take_while(fits).count();
        page.truncate(most);
        let Some(last) = page.last() else { break };
        after = last.id;
        core.verify(&page, &mut verified).await?;
        if begun.elapsed() > VERIFY_TIME {
            verified.next = Some(after);
            return Ok(Json(verified));
        }
    }
    verified.strays = core.strays().await?;
    Ok(Json(verified))
}

async fn remove(
    State(core): State<Arc<Core>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<wire::Removed> {
    let wire::RemoveArtifacts { mut ids, dry_run, by } = parse(body)?;
    if ids.len() > MAX_REMOVED {
        let fault = Fault::new(Code::CoreRequest, "there are too many artifacts in one request");
        return Err(fault.fact("given", ids.len()).fact("at_most", MAX_REMOVED).into());
    }
    ids.sort_unstable();
    ids.dedup();
    for id in &ids {
        find(&core, *id).await?;
    }
    let by = Work::who(caller, by.as_deref());
    let look = ids.clone();
    let would = core.store(move |store| store.remove_artifacts(&look, None, true, clock::now_ms())).await?;
    if let Some((artifact, why)) = would.needed.first() {
        let fault = Fault::new(Code::ArtifactNeeded, "an artifact is needed").fact("artifact", artifact.id).fact("why", *why);
        return Err(fault.into());
    }
    let removal = if dry_run { would } else { core.remove_artifacts(ids, Some(by)).await? };
    Ok(Json(wire::Removed { artifacts: removal.removed.into_iter().map(shown).collect(), bytes: removal.bytes }))
}

impl Core {
    /// Damaged content leaves its place, the database knows it, an event tells it. Looks once more: it may have been put
    /// again meanwhile.
    pub(super) async fn set_aside(&self, artifact: &Artifact) -> Result<Option<String>, Fault> {
        let _alone = self.work.gate.write().await;
        let (folder, sha256, bytes) = (self.work.content.clone(), artifact.sha256.clone(), artifact.bytes);
        let Looked::Damaged(fault) = beside(move || folder.look(&sha256, bytes)).await? else { return Ok(None) };
        let (sha256, told) = (artifact.sha256.clone(), fault.clone());
        self.store(move |store| store.damage_artifacts(&sha256, &told, clock::now_ms())).await?;
        let (folder, sha256) = (self.work.content.clone(), artifact.sha256.clone());
        beside(move || folder.set_aside(&sha256)).await?;
        Ok(Some(fault))
    }

    /// Reads and compares these.
    async fn verify(&self, artifacts: &[Artifact], verified: &mut wire::Verified) -> Result<(), Fault> {
        let (folder, looks) = (self.work.content.clone(), artifacts.to_vec());
        // One trip to another thread for all of them.
        let damaged = beside(move || {
            looks
                .iter()
                .map(|one| Ok(matches!(folder.look(&one.sha256, one.bytes)?, Looked::Damaged(_))))
                .collect::<Result<Vec<_>, Fault>>()
        });
        let mut whole = Vec::new();
        for (artifact, damaged) in artifacts.iter().zip(damaged.await?) {
            verified.checked += 1;
            verified.bytes += artifact.bytes;
            if damaged && self.set_aside(artifact).await?.is_some() {
                let filter = ArtifactFilter { sha256: Some(artifact.sha256.clone()), ..ArtifactFilter::default() };
                let same = self.store(move |store| store.artifacts(&filter, Page { before: None, limit: 1000 })).await?;
                verified.damaged.extend(same.into_iter().map(shown));
            } else {
                whole.push(artifact.sha256.clone());
            }
        }
        if whole.is_empty() { Ok(()) } else { self.store(move |store| store.artifacts_checked(&whole, clock::now_ms())).await }
    }

    /// Content that no artifact knows.
    async fn strays(&self) -> Result<Vec<String>, Fault> {
        let mut strays = Vec::new();
        for part in 0..=u8::MAX {
            // What is between its rename and its row is no stray.
            let _alone = self.work.gate.write().await;
            let folder = self.work.content.clone();
            let names = beside(move || folder.names(part)).await?;
            if !names.is_empty() {
                strays.extend(self.store(move |store| store.unknown_contents(names)).await?);
            }
        }
        Ok(strays)
    }

    /// Removes content that no artifact came to know.
    async fn forget_unknown(&self, sha256: String) -> Result<(), Fault> {
        let _alone = self.work.gate.write().await;
        let (folder, unknown) = (self.work.content.clone(), self.store(move |store| store.unknown_contents(vec![sha256])).await?);
        beside(move || unknown.iter().try_for_each(|sha256| folder.forget(sha256))).await
    }

    /// Forgets artifacts that nothing needs, and removes content that nobody has any more. `by` makes it an event.
    pub(in crate::core) async fn remove_artifacts(&self, ids: Vec<i64>, by: Option<String>) -> Result<Removal, Fault> {
        let _alone = self.work.gate.write().await;
        let removal = self.store(move |store| store.remove_artifacts(&ids, by.as_deref(), false, clock::now_ms())).await?;
        let (folder, contents) = (self.work.content.clone(), removal.contents.clone());
        beside(move || contents.iter().try_for_each(|sha256| folder.forget(sha256))).await?;
        Ok(removal)
    }
}

/// A file as a body, piece by piece, read beside the loop.
struct Pieces {
    file: Option<File>,
    reading: Option<JoinHandle<std::io::Result<(File, Bytes)>>>,
    left: u64,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if let Some(mut file) = self.file.take() {
            let wanted = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
            self.reading = Some(spawn_blocking(move || {
                let mut piece = vec![0; wanted];
                file.read_exact(&mut piece).map(|()| (file, piece.into()))
            }));
        }
        let Some(reading) = self.reading.as_mut() else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(context)).unwrap_or_else(|error| Err(std::io::Error::other(error)));
        self.reading = None;
        Poll::Ready(Some(read.map(|(file, piece)| {
            self.left -= piece.len() as u64;
            self.file = Some(file);
            Frame::data(piece)
        })))
    }
}
