//! HTTP/1.1 over a listener, with limits: how many callers at once, how long each may take, how a stop drains them.
//!
//! Used by core (unix socket) and web (TCP). One request for each connection: a stop then waits for nobody's idle
//! connection, and neither does an upgrade.

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use smolotchi_operator::{Code, log};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The most calls at once of one user; over TCP, of everybody together. More are hung up on: one user's idle connections
/// must not keep another's out.
const MAX_CALLS: usize = 16;
/// How long a caller may take to say what it wants.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// How long one connection may take in all.
const CALL_TIME: Duration = Duration::from_secs(120);
/// How long a stop waits for answers under way.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Where callers come from.
#[derive(Debug)]
pub(crate) enum Listener {
    /// A unix socket.
    Unix(UnixListener),
    /// A TCP socket.
    Tcp(TcpListener),
}

/// Who calls: the uid from the kernel (SO_PEERCRED); `None` over TCP.
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
        match accepted {
            Ok((caller, call)) => {
                if let Some(place) = room.enter(caller) {
                    calls.spawn(async move {
                        // A caller that is too slow or goes away is its own business.
                        let _ = tokio::time::timeout(CALL_TIME, call).await;
                        drop(place);
                    });
                }
            }
            Err(error) => {
                log::warning(Code::Io, format!("could not accept a connection: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
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
            (caller, Box::pin(answer(stream, router.clone().layer(Extension(caller)), stop)))
        }
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            (Caller(None), Box::pin(answer(stream, router.clone(), stop)))
        }
    })
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, router: Router, mut stop: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
