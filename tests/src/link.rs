//! The handle's end of the supervisor's socket: one connection per request, one JSON line each way.

use crate::folder::Folder;
use crate::protocol::{Answer, Request};
use crate::{fault, program, wait_until};
use smolotchi_operator::Result;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::Duration;

/// Waits until the supervisor listens; it does when all nodes are being started.
pub(crate) fn connect(folder: &Folder, child: &mut Child) -> Result<UnixStream> {
    let mut connected = None;
    wait_until("the lab's supervisor answers", Duration::from_secs(300), || {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(fault("the lab's supervisor ended")
                .fact("status", program::code(status))
                .fact("said", program::tail(&std::fs::read(folder.log()).unwrap_or_default())));
        }
        connected = UnixStream::connect(folder.socket()).ok();
        Ok(connected.is_some())
    })?;
    connected.ok_or_else(|| fault("the lab's supervisor does not answer"))
}

/// Asks the supervisor of the lab in this folder.
pub(crate) fn ask(folder: &Folder, request: &Request, deadline: Duration) -> Result<Answer> {
    let stream = UnixStream::connect(folder.socket()).map_err(|error| fault(format!("the lab {} is gone", folder.name())).cause(&error))?;
    talk(&stream, request, deadline)
}

/// Asks over an open connection, which serves for one request.
pub(crate) fn talk(mut stream: &UnixStream, request: &Request, deadline: Duration) -> Result<Answer> {
    let failed = |error: &dyn std::error::Error| fault("the supervisor did not answer").cause(error);
    stream.set_read_timeout(Some(deadline)).map_err(|error| failed(&error))?;
    stream.write_all(smolotchi_operator::output::json_line(request).as_bytes()).map_err(|error| failed(&error))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(|error| failed(&error))?;
    match serde_json::from_str(&line).map_err(|error| failed(&error))? {
        Answer::Failed { message, details } => {
            let mut fault = fault(message);
            fault.details = details;
            Err(fault)
        }
        answer => Ok(answer),
    }
}
