//! The artifacts' calls: look, take in, give out. Content is hashed on its way in and compared before it is given out.

use super::{Answer, Id};
use crate::artifacts::{CHUNK, Content, Folder, Incoming, Looked, too_large};
use crate::clock;
use crate::core::Core;
use crate::core::refuse::{Refusal, query};
use crate::wire;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde::Deserialize;
use smolotchi_operator::{Code, Fault};
use smolotchi_store::{Artifact, ArtifactFilter, ArtifactState, NewArtifact, Page};
use std::fs::File;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::{JoinHandle, spawn_blocking};

/// The most bytes of one artifact.
pub(super) const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// For everyone to read.
pub(super) fn routes() -> Router<Arc<Core>> {
    Router::new()
        .route("/v1/artifacts", get(artifacts))
        .route("/v1/artifacts/{id}", get(artifact))
        .route("/v1/artifacts/{id}/content", get(content))
}

/// For the worker as well.
pub(super) fn worker_routes() -> Router<Arc<Core>> {
    Router::new().route("/v1/artifacts", post(put))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    kind: Option<String>,
    job: Option<i64>,
    run: Option<i64>,
    sha256: Option<String>,
    state: Option<ArtifactState>,
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
    let Which { kind, job, run, sha256, state, before, limit } = query(&uri)?;
    let page = Page { before, limit: super::limit(limit)? };
    let filter = ArtifactFilter { kind, job, run, sha256, state };
    let artifacts = core.store(move |store| store.artifacts(&filter, page)).await?;
    Ok(Json(wire::Artifacts { artifacts: artifacts.into_iter().map(shown).collect() }))
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

async fn put(State(core): State<Arc<Core>>, uri: Uri, body: Body) -> Answer<wire::Artifact> {
    let About { kind, name, media, job, run } = query(&uri)?;
    super::word("kind", &kind)?;
    super::file_name("name", &name)?;
    let media = media.unwrap_or_else(|| "application/octet-stream".to_owned());
    super::text("media", &media, 100)?;
    // Until the row is there, nothing may remove the content.
    let _putting = core.work.gate.read().await;
    let Content { sha256, bytes } = take(core.work.content.clone(), body).await?;
    let new = NewArtifact { kind, name, media, sha256, bytes, job_id: job, run_id: run };
    let artifact = core.store(move |store| store.put_artifact(&new, clock::now_ms())).await?;
    Ok(Json(shown(artifact)))
}

/// Takes a body in, a piece at a time; what is small costs one trip to another thread.
async fn take(folder: Arc<Folder>, mut body: Body) -> Result<Content, Refusal> {
    let mut incoming: Option<Incoming> = None;
    let mut piece: Vec<u8> = Vec::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Fault::new(Code::CoreRequest, "the content did not arrive whole").cause(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len() as u64;
        if seen > MAX_BYTES {
            return Err(too_large(MAX_BYTES).into());
        }
        piece.extend_from_slice(&data);
        if piece.len() >= CHUNK {
            let (folder, full) = (folder.clone(), std::mem::take(&mut piece));
            let before = incoming.take();
            incoming = Some(beside(move || written(&folder, before, &full)).await?);
        }
    }
    Ok(beside(move || folder.keep(written(&folder, incoming, &piece)?)).await?)
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
    match beside(move || folder.look(&sha256, bytes)).await? {
        Looked::Damaged(fault) => {
            core.set_aside(&artifact.sha256, &fault).await?;
            Err(damaged(&artifact, &fault).into())
        }
        Looked::Whole(file) => {
            let length = artifact.bytes.to_string();
            let headers = [(header::CONTENT_TYPE, artifact.media), (header::CONTENT_LENGTH, length)];
            Ok((headers, Body::new(Pieces { file: Some(file), reading: None, left: artifact.bytes })).into_response())
        }
    }
}

fn damaged(artifact: &Artifact, fault: &str) -> Fault {
    Fault::new(Code::ArtifactDamaged, "the artifact is damaged")
        .fact("artifact", artifact.id)
        .fact("name", artifact.name.as_str())
        .fact("sha256", artifact.sha256.as_str())
        .fact("what", fault)
}

impl Core {
    /// Damaged content leaves its place, the database knows it, an event tells it.
    pub(super) async fn set_aside(&self, sha256: &str, fault: &str) -> Result<Vec<Artifact>, Fault> {
        let (folder, name) = (self.work.content.clone(), sha256.to_owned());
        let (sha256, fault) = (sha256.to_owned(), fault.to_owned());
        let marked = self.store(move |store| store.damage_artifacts(&sha256, &fault, clock::now_ms())).await?;
        beside(move || folder.set_aside(&name)).await?;
        Ok(marked)
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
