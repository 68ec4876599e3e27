//! What systemd hands in: the socket of the API (or one that core binds itself for development), and the senses' sockets.

use crate::paths::CALLERS;
use listenfd::ListenFd;
use rustix::net::{AddressFamily, SocketType};
use smolotchi_operator::{Code, Fault, Result};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// What systemd hands in.
#[derive(Debug)]
pub(super) struct Handed {
    /// Where the API listens.
    pub(super) api: UnixListener,
    /// Where one user may connect and nobody else, with that user's name; none in development.
    pub(super) callers: Vec<(String, UnixListener)>,
    /// Netlink sockets, for the senses; none in development.
    pub(super) netlink: Vec<OwnedFd>,
}

/// The listening socket, and what else systemd hands in: several .socket units have no order, so each is known by what it is.
/// Without systemd `path` is bound; a socket that nobody answers at is replaced. Must be called before there is a second
/// thread: what systemd hands in is taken out of the environment.
pub(super) fn handed(path: Option<&Path>) -> Result<Handed> {
    let mut fds = ListenFd::from_env();
    let (mut api, mut callers, mut netlink, mut refused) = (None, Vec::new(), Vec::new(), None);
    for index in 0..fds.len() {
        let family = i32::from(AddressFamily::NETLINK.as_raw());
        if let Ok(Some(fd)) = fds.take_custom(index, family, SocketType::RAW.as_raw() as i32, "netlink socket") {
            netlink.push(fd);
            continue;
        }
        match fds.take_unix_listener(index) {
            Ok(Some(listener)) => match user_of(&listener) {
                Some(user) => callers.push((user, listener)),
                None => api = Some(listener),
            },
            Ok(None) => {}
            Err(error) => refused = Some(error),
        }
    }
    let api = match (api, refused, path) {
        (Some(listener), ..) => listener,
        (None, Some(error), _) => return Err(failed(&error)),
        (None, None, Some(path)) => bind(path)?,
        (None, None, None) => {
            return Err(
                Fault::new(Code::CoreFailed, "systemd handed in no socket").hint("start smolotchi-core.socket, or name one with --socket")
            );
        }
    };
    for listener in callers.iter().map(|(_, listener)| listener).chain([&api]) {
        listener.set_nonblocking(true).map_err(|error| failed(&error))?;
    }
    Ok(Handed { api, callers, netlink })
}

/// Whose socket it is (`smolotchi-caller@USER.socket`), by where it listens: the last part of `…/callers/USER`.
fn user_of(listener: &UnixListener) -> Option<String> {
    let address = listener.local_addr().ok()?;
    let path = address.as_pathname()?;
    (path.parent()?.file_name()? == CALLERS).then(|| path.file_name().map(|name| name.to_string_lossy().into_owned()))?
}

/// A socket in the running event loop.
pub(super) fn in_loop(listener: UnixListener) -> Result<tokio::net::UnixListener> {
    tokio::net::UnixListener::from_std(listener).map_err(|error| failed(&error))
}

fn failed(error: &std::io::Error) -> Fault {
    Fault::new(Code::CoreFailed, "could not take the socket that systemd hands in").cause(error)
}

fn bind(path: &Path) -> Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(Fault::new(Code::StoreBusy, "another core answers at this socket").fact("path", path.display().to_string()));
    }
    let bind = || {
        if path.exists() {
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        // Everybody may connect; who may do what is decided by the caller's uid.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        Ok(listener)
    };
    bind().map_err(|error| Fault::io("could not listen", path, &error))
}
