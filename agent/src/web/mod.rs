//! The service web: read-only pages about this machine, for a phone in the field and a screen at the desk.
//!
//! Has no database and no rights: it asks core over its socket, as anybody may. It must never offer to change anything, and
//! never listen where strangers could reach it without a token and TLS.

mod access;
mod asked;
mod door;
mod guard;
mod head;
mod metrics;
mod pages;
mod part;
mod rounds;
mod routes;
mod snapshots;

use crate::client::block_on;
use crate::config;
use crate::memory;
use crate::notify::Notify;
use crate::paths::Paths;
use crate::release::VERSION;
pub(crate) use access::check_secret;
use access::{Access, Reach};
use door::{Door, Listener};
use listenfd::ListenFd;
use rounds::Rounds;
use smolotchi_operator::log::{self, Kind};
use smolotchi_operator::{Code, Exit, Fault, Result};
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Runs until SIGTERM or SIGINT. Errors: `web.no-socket` (30) without a socket from systemd and without `listen`;
/// `cli.usage` for a `listen` that others could reach; `web.not-protected` and `web.tls` (20).
pub(crate) fn run(paths: &Paths, listen: Option<SocketAddr>) -> Result<Exit> {
    log::role("web");
    let settings = config::load(paths)?.web;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let access = Access::load(&settings, credentials.as_deref())?;
    let sockets = sockets(listen)?;
    for socket in &sockets {
        access.judge(socket.reach(), &socket.address())?;
    }
    block_on(async {
        let on = |kind| signal(kind).map_err(|error| Fault::new(Code::Io, "could not wait for signals").cause(&error));
        let (mut terminate, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
        let addresses = sockets.iter().map(Socket::address).collect::<Vec<_>>().join(", ");
        let (stop, stopped) = watch::channel(false);
        let router = routes::router(paths, settings, access.token);
        let (mut served, door) = (JoinSet::new(), Door::new(router, Rounds::new(Notify::from_env())));
        for socket in sockets {
            served.spawn(door.clone().serve(socket.in_loop(&access)?, memory::give_back, stopped.clone()));
        }
        drop(stopped);
        let notify = door.rounds().notify();
        notify.ready(&format!("version {VERSION} at {addresses}"));
        log::note(Kind::Ready, format!("web {VERSION} is ready at {addresses}"));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        notify.stopping();
        let _ = stop.send(true);
        while served.join_next().await.is_some() {}
        Ok(Exit::Success)
    })
}

/// A listening socket of either kind.
enum Socket {
    Unix(std::os::unix::net::UnixListener),
    Tcp(std::net::TcpListener),
}

impl Socket {
    fn reach(&self) -> Reach {
        match self {
            Socket::Unix(_) => Reach::Socket,
            // What can't be asked for its address is not trusted.
            Socket::Tcp(listener) if listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback()) => {
                Reach::Loopback
            }
            Socket::Tcp(_) => Reach::Wide,
        }
    }

    fn address(&self) -> String {
        match self {
            Socket::Unix(listener) => {
                let path = listener.local_addr().ok().and_then(|address| Some(address.as_pathname()?.display().to_string()));
                path.unwrap_or_else(|| "a unix socket".to_owned())
            }
            Socket::Tcp(listener) => listener.local_addr().map(|address| address.to_string()).unwrap_or_default(),
        }
    }

    fn in_loop(self, access: &Access) -> Result<Listener> {
        let listener = match self {
            Socket::Unix(listener) => {
                listener.set_nonblocking(true).and_then(|()| tokio::net::UnixListener::from_std(listener)).map(Listener::Unix)
            }
            Socket::Tcp(listener) => {
                listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener)).map(|listener| {
                    match &access.tls {
                        Some(tls) => Listener::Tls(listener, tls.clone()),
                        None => Listener::Tcp(listener),
                    }
                })
            }
        };
        listener.map_err(|error| failed(&error))
    }
}

fn failed(error: &std::io::Error) -> Fault {
    Fault::new(Code::WebNoSocket, "could not take the socket").cause(error)
}

/// Every socket that systemd hands in, or the one that `listen` names.
fn sockets(listen: Option<SocketAddr>) -> Result<Vec<Socket>> {
    let mut handed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed.len() {
        // The wrong kind is refused and stays where it is.
        if let Ok(Some(listener)) = handed.take_unix_listener(index) {
            sockets.push(Socket::Unix(listener));
        } else if let Some(listener) = handed.take_tcp_listener(index).map_err(|error| failed(&error))? {
            sockets.push(Socket::Tcp(listener));
        }
    }
    match listen {
        _ if !sockets.is_empty() => {}
        Some(address) if address.ip().is_loopback() => {
            let listener = std::net::TcpListener::bind(address).map_err(|error| failed(&error).fact("address", address.to_string()))?;
            sockets.push(Socket::Tcp(listener));
        }
        Some(address) => {
            return Err(Fault::new(Code::Usage, "only loopback addresses may be listened at by hand")
                .hint("who may reach the page is set in smolotchi-web.socket")
                .fact("address", address.to_string()));
        }
        None => return Err(Fault::new(Code::WebNoSocket, "systemd handed in no socket")),
    }
    Ok(sockets)
}
