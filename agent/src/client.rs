//! Asks core over its socket. Used by the verbs, by prune and by web; never opens the database.

use crate::store_fault::code_named;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use smolotchi_operator::{Code, Fault, Result};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

/// How long core may take to answer, unless the caller has less time.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// How long core may take for work on many rows.
const LONG_ANSWER_TIME: Duration = Duration::from_secs(110);
/// Between two tries to find core.
const AGAIN: Duration = Duration::from_millis(20);
/// The largest answer that is read.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// How much of a file is sent at a time.
const PIECE: usize = 64 * 1024;

/// Core's API, as seen from another process.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
    /// Where core knows this caller by name, if it listens there.
    own: Option<PathBuf>,
    /// How long a core that isn't there is waited for.
    patience: Duration,
    /// How long one that is there may take to answer a usual call.
    within: Duration,
}

impl Client {
    /// Asks at this socket; nothing is connected yet.
    pub(crate) fn new(socket: impl Into<PathBuf>) -> Self {
        Client::patient(socket, Duration::ZERO)
    }

    /// As [`Client::new`], but a core that isn't there is waited for: it may be on its way from one version to the next.
    pub(crate) fn patient(socket: impl Into<PathBuf>, patience: Duration) -> Self {
        Client { socket: socket.into(), own: None, patience, within: ANSWER_TIME }
    }

    /// Waits no longer than this for an answer to a usual call: a core that hangs is then told from one that works.
    pub(crate) fn answered_within(self, within: Duration) -> Self {
        Client { within, ..self }
    }

    /// Asks at the caller's own socket first, where core listens for nobody else.
    pub(crate) fn at(self, own: impl Into<PathBuf>) -> Self {
        Client { own: Some(own.into()), ..self }
    }

    async fn connect(&self) -> Result<UnixStream> {
        // It is there as long as core runs; without it core is started by its other one.
        if let Some(own) = &self.own {
            if let Ok(stream) = UnixStream::connect(own).await {
                return Ok(stream);
            }
        }
        UnixStream::connect(&self.socket).await.map_err(|error| unreachable(&self.socket, "core can't be reached").cause(&error))
    }

    /// `GET path`. Asked again, as long as the patience lasts, when core is away or goes away before it answers.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(path).await?.map_err(|(_, fault)| fault)
    }

    /// As [`Client::get`], but core's own refusal is an answer, with its HTTP status.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<Result<T, (StatusCode, Fault)>> {
        Ok(match self.ask_bytes(path).await? {
            Ok(bytes) => Ok(document(path, &bytes)?),
            Err(refused) => Err(refused),
        })
    }

    /// As [`Client::ask`], for an answer that is no JSON document.
    pub(crate) async fn ask_bytes(&self, path: &str) -> Result<Result<Bytes, (StatusCode, Fault)>> {
        self.asked_again(path, self.within).await
    }

    async fn asked_again(&self, path: &str, within: Duration) -> Result<Result<Bytes, (StatusCode, Fault)>> {
        let began = Instant::now();
        loop {
            match self.call(Method::GET, path, Bytes::new(), within).await {
                Ok((status, bytes)) if status.is_success() => return Ok(Ok(bytes)),
                Ok((status, bytes)) => return Ok(Err((status, refusal(path, status, &bytes)))),
                Err(fault) if fault.code == Code::CoreUnreachable && began.elapsed() < self.patience => tokio::time::sleep(AGAIN).await,
                Err(fault) => return Err(fault),
            }
        }
    }

    /// As [`Client::get`], for an answer that takes long, or that core holds back until there is something to say.
    pub(crate) async fn get_long<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let bytes = self.asked_again(path, LONG_ANSWER_TIME).await?.map_err(|(_, fault)| fault)?;
        document(path, &bytes)
    }

    /// `POST path` with a JSON body. For calls that may take long.
    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T> {
        self.post_within(path, body, LONG_ANSWER_TIME).await
    }

    /// As [`Client::post`], for an answer that core holds back for nearly so long.
    pub(crate) async fn post_within<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B, within: Duration) -> Result<T> {
        let body =
            serde_json::to_vec(body).map_err(|error| Fault::new(Code::CoreAnswer, "could not put the request into words").cause(&error))?;
        let (status, bytes) = self.call(Method::POST, path, body.into(), within).await?;
        if status.is_success() { document(path, &bytes) } else { Err(refusal(path, status, &bytes)) }
    }

    /// `POST path` with the next `bytes` bytes of a file as the body, read as they are sent.
    pub(crate) async fn send<T: DeserializeOwned>(&self, path: &str, file: File, bytes: u64) -> Result<T> {
        let (status, bytes) = self.asked(Method::POST, path, FileBody { file, left: bytes }, LONG_ANSWER_TIME).await?;
        if status.is_success() { document(path, &bytes) } else { Err(refusal(path, status, &bytes)) }
    }

    /// `GET path`; what comes is written to `out` as it comes. How many bytes that were.
    pub(crate) async fn fetch(&self, path: &str, out: &mut impl Write) -> Result<u64> {
        let read = async |response: Response<Incoming>| {
            let status = response.status();
            if !status.is_success() {
                return Err(refusal(path, status, &self.whole(path, response).await?));
            }
            let mut body = response.into_body();
            let mut count = 0;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.broken(&error))?;
                if let Some(data) = frame.data_ref() {
                    out.write_all(data).map_err(|error| Fault::io("could not write what core sent", "output", &error))?;
                    count += data.len() as u64;
                }
            }
            Ok(count)
        };
        self.within(LONG_ANSWER_TIME, self.exchange(Method::GET, path, Full::new(Bytes::new()), read)).await
    }

    /// `POST path` with any content as its body.
    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str, content: Vec<u8>) -> Result<T> {
        let (status, bytes) = self.call(Method::POST, path, content.into(), LONG_ANSWER_TIME).await?;
        if status.is_success() { document(path, &bytes) } else { Err(refusal(path, status, &bytes)) }
    }

    /// `GET path`: the content as it is.
    pub(crate) async fn content(&self, path: &str) -> Result<Bytes> {
        self.ask_bytes(path).await?.map_err(|(_, fault)| fault)
    }

    async fn call(&self, method: Method, path: &str, body: Bytes, within: Duration) -> Result<(StatusCode, Bytes)> {
        self.asked(method, path, Full::new(body), within).await
    }

    async fn asked<B>(&self, method: Method, path: &str, body: B, within: Duration) -> Result<(StatusCode, Bytes)>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
    {
        let read = async |response: Response<Incoming>| {
            let status = response.status();
            self.whole(path, response).await.map(|bytes| (status, bytes))
        };
        self.within(within, self.exchange(method, path, body, read)).await
    }

    async fn within<T>(&self, time: Duration, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let answer = tokio::time::timeout(time, answer).await;
        answer.unwrap_or_else(|_| Err(unreachable(&self.socket, "core did not answer in time").fact("seconds", time.as_secs())))
    }

    fn broken(&self, error: &dyn std::error::Error) -> Fault {
        unreachable(&self.socket, "core hung up").cause(error)
    }

    /// A body that fits into memory. One that doesn't is no core that went away: asked again, it would be as large.
    async fn whole(&self, path: &str, response: Response<Incoming>) -> Result<Bytes> {
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| {
            if error.is::<LengthLimitError>() {
                return Fault::new(Code::CoreAnswer, "core's answer is too large").fact("call", path).fact("at_most_bytes", MAX_ANSWER);
            }
            self.broken(error.as_ref())
        })
    }

    async fn exchange<B, R>(
        &self,
        method: Method,
        path: &str,
        body: B,
        read: impl AsyncFnOnce(Response<Incoming>) -> Result<R>,
    ) -> Result<R>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
    {
        let stream = self.connect().await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(&error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "core")
            .header("content-type", "application/json")
            .body(body)
            .map_err(|error| Fault::new(Code::CoreAnswer, "could not put the request into words").cause(&error))?;
        // The connection is driven here, not in a task of its own: it ends with the answer.
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
            read(response).await
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The connection may be done first; what it has read is then still handed over.
            _ = connection => answer.await,
        }
    }
}

/// A file as a request's body. Read on this thread, which has nothing else to do.
struct FileBody {
    file: File,
    left: u64,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let wanted = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        if wanted == 0 {
            return Poll::Ready(None);
        }
        let mut piece = vec![0; wanted];
        Poll::Ready(Some(self.file.read_exact(&mut piece).map(|()| {
            self.left -= wanted as u64;
            Frame::data(piece.into())
        })))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Runs one conversation with core on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Fault::new(Code::Io, "could not start the event loop").cause(&error))?.block_on(work)
}

fn unreachable(socket: &Path, what: &str) -> Fault {
    Fault::new(Code::CoreUnreachable, what).fact("socket", socket.display().to_string())
}

fn document<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T> {
    let unexpected =
        |error| Fault::new(Code::CoreAnswer, "core's answer is not what this version expects").fact("call", path).cause(&error);
    serde_json::from_slice(bytes).map_err(unexpected)
}

/// Core's own error, as if it had happened here.
fn refusal(call: &str, status: StatusCode, bytes: &[u8]) -> Fault {
    let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let error = &document["error"];
    match (error["code"].as_str().and_then(code_named), error["message"].as_str()) {
        (Some(code), Some(message)) => {
            let mut fault = Fault::new(code, message);
            if let Some(hint) = error["hint"].as_str() {
                fault = fault.hint(hint);
            }
            if let Some(details) = error["details"].as_object() {
                fault.details = details.clone();
            }
            fault
        }
        _ => Fault::new(Code::CoreAnswer, "core refused without a reason").fact("call", call).fact("status", status.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn an_answer_that_is_too_large_is_not_a_core_that_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("core.sock");
        let (ended, asked) = block_on(async {
            let listener = tokio::net::UnixListener::bind(&socket).unwrap();
            let core = tokio::spawn(async move {
                let mut asked = 0;
                while let Ok((mut stream, _)) = listener.accept().await {
                    asked += 1;
                    let _ = stream.read(&mut [0; 1024]).await;
                    let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", MAX_ANSWER + 1).as_bytes()).await;
                    let _ = stream.write_all(&vec![b' '; MAX_ANSWER + 1]).await;
                    if asked == 2 {
                        break;
                    }
                }
                asked
            });
            let patient = Client::patient(&socket, Duration::from_secs(20)).get::<Value>("/v1/x").await;
            let posted = Client::new(&socket).post::<_, Value>("/v1/x", &1).await;
            Ok(([patient, posted], core.await.unwrap()))
        })
        .unwrap();
        for ended in ended {
            let fault = ended.unwrap_err();
            assert_eq!((fault.code, &fault.details["call"]), (Code::CoreAnswer, &Value::from("/v1/x")), "{fault}");
        }
        assert_eq!(asked, 2, "once each: what is too large is not asked for again");
    }

    #[test]
    fn a_refusal_keeps_cores_own_words() {
        let cases: [(&[u8], Code, &str); 3] = [
            (br#"{"error":{"code":"core.refused","message":"m","hint":"h","details":{"uid":7}}}"#, Code::CoreRefused, "m"),
            (br#"{"error":{"code":"from.the-future","message":"m"}}"#, Code::CoreAnswer, "core refused without a reason"),
            (b"<html>", Code::CoreAnswer, "core refused without a reason"),
        ];
        for (bytes, code, message) in cases {
            let fault = refusal("/v1/x", StatusCode::FORBIDDEN, bytes);
            assert_eq!((fault.code, fault.message.as_str()), (code, message));
        }
    }
}
