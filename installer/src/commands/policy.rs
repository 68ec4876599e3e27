//! pause, resume, skip, unblock: what the operator says about versions and times. Each writes the installer's state and the
//! apt pins that follow from it, and nothing else.

use crate::change::memory::{self, Block, Memory, Pause};
use crate::change::report;
use crate::cli::PauseArgs;
use crate::host::clock;
use crate::paths::Paths;
use jiff::{Span, Timestamp};
use serde::Serialize;
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table, output};

/// What was said, and whether it was news.
#[derive(Serialize)]
struct Said {
    changed: bool,
    said: String,
}

impl Table for Said {
    fn table(&self) -> String {
        format!("{}\n", self.said)
    }
}

fn tell<T>(paths: &Paths, format: Format, said: impl Into<String>, change: impl FnOnce(&mut Memory) -> T) -> Result<Exit> {
    super::need_root()?;
    let changed = memory::update(paths, |memory| {
        let before = memory.clone();
        change(memory);
        *memory != before
    })?;
    report::publish(paths, crate::host::dpkg::agent()?.map(|package| package.version));
    output::emit(format, &Said { changed, said: said.into() });
    Ok(Exit::Success)
}

/// No version may come by itself, or by `upgrade`, until then.
pub(super) fn pause(paths: &Paths, format: Format, args: &PauseArgs) -> Result<Exit> {
    let now = clock::wall_time();
    let until = end(args, now)?.map(|end| end.to_string());
    let pause = Pause { reason: args.reason.clone(), at: now.to_string(), until, rest: toml::Table::new() };
    tell(paths, format, format!("smolotchi stays as it is: {}", pause.sentence()), |memory| memory.paused = Some(pause))
}

/// When a pause ends; none: when somebody says so.
fn end(args: &PauseArgs, now: Timestamp) -> Result<Option<Timestamp>> {
    let wrong = |what: &str, given: &str, error: &dyn std::error::Error| Fault::new(Code::Usage, what).fact("given", given).cause(error);
    let end = match (&args.until, &args.length) {
        (Some(text), _) => text
            .parse::<Timestamp>()
            .map_err(|error| wrong("--until is not a moment", text, &error).hint("for example: --until 2026-12-31T06:00:00Z"))?,
        (None, Some(text)) => {
            if !clock::is_set(now) {
                return Err(Fault::new(Code::Usage, "the clock is not set, so a length of time ends nowhere")
                    .hint("name a moment with --until, or neither"));
            }
            let zone = jiff::tz::TimeZone::system();
            let span = text
                .parse::<Span>()
                .map_err(|error| wrong("--for is not a length of time", text, &error).hint("for example: --for 7d, --for 12h"))?;
            now.to_zoned(zone).checked_add(span).map_err(|error| wrong("--for leads out of time", text, &error))?.timestamp()
        }
        (None, None) => return Ok(None),
    };
    if end <= now {
        return Err(Fault::new(Code::Usage, "the pause would be over already").fact("now", now.to_string()).fact("until", end.to_string()));
    }
    Ok(Some(end))
}

/// Versions may come again.
pub(super) fn resume(paths: &Paths, format: Format) -> Result<Exit> {
    tell(paths, format, "versions may come again", |memory| memory.paused = None)
}

/// This version isn't wanted here.
pub(super) fn skip(paths: &Paths, format: Format, version: &str, reason: &str) -> Result<Exit> {
    if !smolotchi_release::version::is_release_version(version) {
        return Err(Fault::new(Code::Usage, "this is not a release's version").fact("version", version));
    }
    tell(paths, format, format!("{version} will not be installed"), |memory| {
        memory.skipped.entry(version.to_owned()).or_insert_with(|| Block::now(reason));
    })
}

/// A blocked or skipped version may come again.
pub(super) fn unblock(paths: &Paths, format: Format, version: &str) -> Result<Exit> {
    tell(paths, format, format!("{version} may be installed"), |memory| (memory.blocked.remove(version), memory.skipped.remove(version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_a_pause() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        for (until, length, expected) in [
            (None, None, Ok(None)),
            (Some("2026-03-02T00:00:00Z"), None, Ok(Some("2026-03-02T00:00:00Z"))),
            (Some("2026-03-02T01:00:00+01:00"), None, Ok(Some("2026-03-02T00:00:00Z"))),
            (None, Some("7d"), Ok(Some("2026-03-08T12:00:00Z"))),
            (None, Some("90m"), Ok(Some("2026-03-01T13:30:00Z"))),
            (Some("2026-02-28T00:00:00Z"), None, Err(Code::Usage)),
            (Some("tomorrow"), None, Err(Code::Usage)),
            (None, Some("long"), Err(Code::Usage)),
            (None, Some("-7d"), Err(Code::Usage)),
        ] {
            let args = PauseArgs { until: until.map(str::to_owned), length: length.map(str::to_owned), reason: String::new() };
            let got = end(&args, now).map(|end| end.map(|end| end.to_string())).map_err(|fault| fault.code);
            assert_eq!(got, expected.map(|end| end.map(str::to_owned)), "{until:?} {length:?}");
        }
        let args = PauseArgs { until: None, length: Some("7d".into()), reason: String::new() };
        assert_eq!(end(&args, Timestamp::UNIX_EPOCH).unwrap_err().code, Code::Usage, "the clock is not set");
    }
}
