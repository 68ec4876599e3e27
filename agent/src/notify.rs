//! The service's side of sd_notify(3): tells systemd that we are ready, what we do, and that the loop still turns.
//!
//! Without NOTIFY_SOCKET every call does nothing. A lost message is never an error: systemd's timeouts decide.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where messages go.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// From the environment that systemd sets: NOTIFY_SOCKET, and WATCHDOG_USEC unless WATCHDOG_PID is another process.
    pub(crate) fn from_env() -> Self {
        let ours = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let micros = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok()).filter(|micros| ours && *micros > 0);
        let address = std::env::var_os("NOTIFY_SOCKET").and_then(|name| match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest).ok(),
            _ => SocketAddr::from_pathname(name).ok(),
        });
        Notify::new(address, micros.map(Duration::from_micros))
    }

    /// To this address, with this watchdog timeout.
    pub(crate) fn new(address: Option<SocketAddr>, watchdog: Option<Duration>) -> Self {
        Notify { to: address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address))), watchdog }
    }

    /// How long systemd waits between two pings before it kills us.
    pub(crate) fn watchdog_timeout(&self) -> Option<Duration> {
        self.watchdog
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }

    /// The service is ready to answer.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// What `systemctl status` shows.
    pub(crate) fn status(&self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    /// The service is on its way out.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// The loop turned. Only the loop that also does the work may say so.
    pub(crate) fn watchdog(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }
}
