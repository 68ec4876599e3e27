//! Where core listens: the socket that systemd hands in, or one that it binds itself for development.

use crate::serve::Listener;
use listenfd::ListenFd;
use smolotchi_operator::{Code, Fault, Result};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// The listening socket. Without systemd `path` is bound; a socket that nobody answers at is replaced. Must be called
/// before there is a second thread: what systemd hands in is taken out of the environment.
pub(super) fn listener(path: Option<&Path>) -> Result<UnixListener> {
    let handed = ListenFd::from_env().take_unix_listener(0).map_err(|error| failed(&error))?;
    let listener = match (handed, path) {
        (Some(listener), _) => listener,
        (None, Some(path)) => bind(path)?,
        (None, None) => {
            return Err(
                Fault::new(Code::CoreFailed, "systemd handed in no socket").hint("start smolotchi-core.socket, or name one with --socket")
            );
        }
    };
    listener.set_nonblocking(true).map_err(|error| failed(&error))?;
    Ok(listener)
}

/// The socket in the running event loop.
pub(super) fn in_loop(listener: UnixListener) -> Result<Listener> {
    tokio::net::UnixListener::from_std(listener).map(Listener::Unix).map_err(|error| failed(&error))
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
