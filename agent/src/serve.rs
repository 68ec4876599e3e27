//! HTTP/1.1 over core's sockets, with limits: how many callers at once, how long each may take, how a stop drains them.
//!
//! Used by core; web, whom anybody may call, has `web/door.rs`. One request for each connection: a stop then waits for nobody's idle connection, and
//! neither does an upgrade.

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use smolotchi_operator::{Code, log};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The most calls at once of one user. Further ones are hung up on: one user's idle connections must not keep another's out.
const MAX_CALLS: usize = 16;
/// How long a caller may take to say what it wants.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// The largest head of a request, and what is read at once.
const HEAD_BYTES: usize = 16 * 1024;
/// How long one connection may take in all: the longest wait for a job, and a little.
const CALL_TIME: Duration = Duration::from_secs(320);
/// How long a stop waits for a caller that has not said anything yet.
const SPEAK_TIME: Duration = Duration::from_millis(250);
/// How long a stop waits for answers under way.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Where callers come from.
pub(crate) enum Listener {
    /// A unix socket.
    Unix(UnixListener),
    /// A unix socket that one user may connect to.
    Of(UnixListener, Caller),
}

/// Who calls: the uid from the kernel (SO_PEERCRED), if it tells, or of the socket's one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Caller(pub(crate) Option<u32>);

/// How many calls each user has under way.
#[derive(Debug, Default)]
struct Room(Mutex<HashMap<Caller, usize>>);

/// A place for one call; given back when dropped.
struct Place(Arc<Room>, Caller);

impl Room {
    fn enter(self: &Arc<Self>, caller: Caller) -> Option<Place> {
        let mut calls = self.0.lock().ok()?;
        let count = calls.entry(caller).or_default();
        (*count < MAX_CALLS).then(|| {
            *count += 1;
            Place(self.clone(), caller)
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Ok(mut calls) = self.0.0.lock() {
            if let Some(count) = calls.get_mut(&self.1) {
                *count -= 1;
                if *count == 0 {
                    calls.remove(&self.1);
                }
            }
        }
    }
}

/// Serves until `stop` is true, then finishes the answers under way.
pub(crate) async fn serve(listener: Listener, router: Router, mut stop: watch::Receiver<bool>) {
    let room = Arc::<Room>::default();
    let mut calls = JoinSet::new();
    loop {
        while calls.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = accept(&listener, &router, stop.clone()) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (caller, call) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                log::warning(Code::Io, format!("could not accept a connection: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // A caller that is too slow or goes away is its own business.
        if let Some(place) = room.enter(caller) {
            calls.spawn(async move {
                let _ = tokio::time::timeout(CALL_TIME, call).await;
                drop(place);
            });
        }
    }
    let _ = tokio::time::timeout(DRAIN_TIME, async { while calls.join_next().await.is_some() {} }).await;
}

type Call = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

async fn accept(listener: &Listener, router: &Router, stop: watch::Receiver<bool>) -> std::io::Result<(Caller, Call)> {
    Ok(match listener {
        Listener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            let caller = Caller(stream.peer_cred().ok().map(|cred| cred.uid()));
            (caller, Box::pin(answer(stream, service(router, caller), stop)))
        }
        Listener::Of(listener, caller) => {
            let (stream, _) = listener.accept().await?;
            (*caller, Box::pin(answer(stream, service(router, *caller), stop)))
        }
    })
}

/// The router, told who calls.
struct Told(TowerToHyperService<Router>, Caller);

fn service(router: &Router, caller: Caller) -> Told {
    Told(TowerToHyperService::new(router.clone()), caller)
}

impl Service<hyper::Request<Incoming>> for Told {
    type Response = axum::response::Response;
    type Error = std::convert::Infallible;
    type Future = <TowerToHyperService<Router> as Service<hyper::Request<Incoming>>>::Future;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.1);
        self.0.call(request)
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, service: Told, mut stop: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    // Whoever was let in a moment ago is about to say what it wants: hung up on now, it would see a failed request.
    if tokio::time::timeout(SPEAK_TIME, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A server, its stop, and a caller that it has let in but that hasn't said anything yet.
    async fn let_in() -> (tokio::task::JoinHandle<()>, watch::Sender<bool>, tokio::net::UnixStream) {
        let router = Router::new().route("/", axum::routing::get(async || "hello"));
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(serve(Listener::Unix(listener), router, stopped));
        let caller = tokio::net::UnixStream::connect(folder.path().join("socket")).await.unwrap();
        // Those who wait for the stop: the server, the next caller's place, and this caller.
        while stop.receiver_count() < 3 {
            tokio::task::yield_now().await;
        }
        (served, stop, caller)
    }

    #[tokio::test]
    async fn who_was_let_in_before_a_stop_is_answered() {
        let (served, stop, mut caller) = let_in().await;
        stop.send(true).unwrap();
        // The server accepts nobody any more.
        while stop.receiver_count() > 2 {
            tokio::task::yield_now().await;
        }
        // A caller on a busy machine takes a moment to speak.
        tokio::time::sleep(SPEAK_TIME / 10).await;
        caller.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer:?}");
        served.await.unwrap();
    }

    #[tokio::test]
    async fn who_says_nothing_does_not_hold_up_a_stop() {
        let (served, stop, _caller) = let_in().await;
        stop.send(true).unwrap();
        tokio::time::timeout(DRAIN_TIME / 2, served).await.expect("the stop waited for an idle caller").unwrap();
    }
}
