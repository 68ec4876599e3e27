//! The peer of the agent's services: the least that a Rust daemon can be. Binds a unix socket, says that it is ready, and
//! answers one word to whoever connects.

use smolotchi_operator::{Exit, Fault, Result};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The socket.
    socket: PathBuf,
}

/// Runs until it is killed.
pub(crate) fn run(args: &Args) -> Result<Exit> {
    let listener = UnixListener::bind(&args.socket).map_err(|error| Fault::io("could not listen", &args.socket, &error))?;
    let _ = writeln!(std::io::stderr(), "is ready");
    for stream in listener.incoming() {
        let mut stream = stream.map_err(|error| Fault::io("could not accept", &args.socket, &error))?;
        let mut request = [0; 1024];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    }
    Ok(Exit::Success)
}
