//! Runs a program that only looks, and ends it when it takes too long.

use crate::paths::Paths;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than this is cut off.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// As [`ask`], but only about the system that runs: below another root these programs would speak of this one.
pub(super) fn ask_here(paths: &Paths, program: &str, args: &[&str]) -> Result<String, String> {
    if paths.root() == Path::new("/") { ask(program, args) } else { Err(format!("{program} only knows the system that runs")) }
}

/// What a program says on standard output, with success or without; an error is in words.
pub(crate) fn ask(program: &str, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C.UTF-8").env("SYSTEMD_COLORS", "0").env("SYSTEMD_PAGER", "");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no {program} here"),
        _ => format!("{program}: {error}"),
    })?;
    // Both are read on the side, so that a program that says much isn't stuck with a full pipe.
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let said = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(out) = &mut out {
            let _ = out.take(MAX_BYTES).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let complained = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(err) = &mut err {
            let _ = err.take(64 * 1024).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).trim().to_owned()
    });
    let began = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| format!("{program}: {error}"))? {
            Some(status) => break status,
            None if began.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{program} did not end in {} s", PATIENCE.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let (said, complained) = (said.join().unwrap_or_default(), complained.join().unwrap_or_default());
    // Programs that look answer with other codes than 0 for what they found; only those that say nothing have failed.
    if said.is_empty() && !status.success() {
        let first = complained.lines().next().unwrap_or("it said nothing").to_owned();
        return Err(format!("{program}: {first}"));
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_failures_are_told_apart() {
        assert_eq!(ask("sh", &["-c", "echo so; exit 3"]).unwrap(), "so\n");
        assert_eq!(ask("sh", &["-c", "echo why >&2; exit 3"]).unwrap_err(), "sh: why");
        assert_eq!(ask("sh", &["-c", "exit 0"]).unwrap(), "");
        assert_eq!(ask("no-such-program", &[]).unwrap_err(), "there is no no-such-program here");
        let long = ask("sh", &["-c", "head -c 9000000 /dev/zero | tr '\\0' x"]).unwrap();
        assert_eq!(long.len() as u64, MAX_BYTES, "and a pipe that nobody empties doesn't hold it up");
    }
}
