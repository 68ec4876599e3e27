//! The service web: one read-only page about this machine, for a phone in the field and a screen at the desk.
//!
//! Has no database and no rights: it asks core over its socket, as anybody may. It must never offer to change anything.

mod guard;
mod page;
mod routes;
mod view;

use crate::client::block_on;
use crate::config;
use crate::notify::Notify;
use crate::paths::Paths;
use crate::release::VERSION;
use crate::serve::{Listener, serve};
use listenfd::ListenFd;
use smolotchi_operator::log::{self, Kind};
use smolotchi_operator::{Code, Exit, Fault, Result};
use std::net::SocketAddr;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Runs until SIGTERM or SIGINT. Errors: `web.no-socket` (30) without a socket from systemd and without `listen`;
/// `cli.usage` for a `listen` that others could reach.
pub(crate) fn run(paths: &Paths, listen: Option<SocketAddr>) -> Result<Exit> {
    log::role("web");
    let settings = config::load(paths)?.web;
    block_on(async {
        let on = |kind| signal(kind).map_err(|error| Fault::new(Code::Io, "could not wait for signals").cause(&error));
        let (mut terminate, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
        let listener = listener(listen)?;
        let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(serve(Listener::Tcp(listener), routes::router(paths, settings), stopped));
        let notify = Notify::from_env();
        notify.ready(&format!("version {VERSION} at {address}"));
        log::note(Kind::Ready, format!("web {VERSION} is ready at {address}"));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        notify.stopping();
        let _ = stop.send(true);
        let _ = served.await;
        Ok(Exit::Success)
    })
}

fn listener(listen: Option<SocketAddr>) -> Result<tokio::net::TcpListener> {
    let failed = |error: &std::io::Error| Fault::new(Code::WebNoSocket, "could not take the socket").cause(error);
    let handed = ListenFd::from_env().take_tcp_listener(0).map_err(|error| failed(&error))?;
    let listener = match (handed, listen) {
        (Some(listener), _) => listener,
        (None, Some(address)) if address.ip().is_loopback() => {
            std::net::TcpListener::bind(address).map_err(|error| failed(&error).fact("address", address.to_string()))?
        }
        (None, Some(address)) => {
            return Err(Fault::new(Code::Usage, "only loopback addresses may be listened at by hand")
                .hint("who may reach the page is set in smolotchi-web.socket")
                .fact("address", address.to_string()));
        }
        (None, None) => return Err(Fault::new(Code::WebNoSocket, "systemd handed in no socket")),
    };
    listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener)).map_err(|error| failed(&error))
}
