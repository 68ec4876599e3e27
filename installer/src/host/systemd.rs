//! systemd: what units are doing, and the few verbs that we use. Talks through systemctl, which is there wherever
//! systemd is.

use super::{clock, run};
use crate::gate::UnitSample;
use smolotchi_operator::Result;

/// The unit that carries a change on.
pub const EXECUTOR: &str = "smolotchi-install-change.service";

/// True where systemd is the running init.
pub fn is_running() -> bool {
    std::path::Path::new("/run/systemd/system").is_dir()
}

/// What is seen of each unit.
pub fn samples(units: &[String]) -> Result<Vec<UnitSample>> {
    let properties = "Id,ActiveState,NRestarts,UnitFileState,WatchdogUSec,WatchdogTimestampMonotonic";
    let mut args = vec!["show", "--timestamp=us", "--property", properties];
    args.extend(units.iter().map(String::as_str));
    let text = run::succeed(&mut run::command("systemctl", &args))?;
    Ok(parse(&text, clock::monotonic_us()))
}

fn parse(text: &str, now_us: u64) -> Vec<UnitSample> {
    text.split("\n\n")
        .filter(|block| !block.trim().is_empty())
        .map(|block| {
            let get = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default().to_owned();
            let pinged: u64 = get("WatchdogTimestampMonotonic").parse().unwrap_or(0);
            let limit = span_ms(&get("WatchdogUSec"));
            let active = get("ActiveState");
            let watchdog = (active == "active" && pinged > 0).then_some(()).and(limit);
            UnitSample {
                name: get("Id"),
                restarts: get("NRestarts").parse().unwrap_or(0),
                enabled: get("UnitFileState"),
                watchdog: watchdog.map(|limit| (now_us.saturating_sub(pinged) / 1000, limit)),
                active,
            }
        })
        .collect()
}

/// A time span as systemctl prints it (`10s`, `1min 30s`, `500ms`), in milliseconds; none for `0` and `infinity`.
fn span_ms(text: &str) -> Option<u64> {
    let mut total = 0;
    for part in text.split_whitespace() {
        let digits = part.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(part.len());
        let number: f64 = part[..digits].parse().ok()?;
        let unit = match &part[digits..] {
            "us" => 0.001,
            "ms" => 1.0,
            "s" => 1_000.0,
            "min" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return None,
        };
        total += (number * unit) as u64;
    }
    (total > 0).then_some(total)
}

/// Starts the executor without waiting for it.
pub fn start_executor() -> Result<()> {
    // Also forgets how often it was started lately: each change is a start of its own, and no crash loop.
    let _ = run::output(&mut run::command("systemctl", &["reset-failed", EXECUTOR]));
    run::succeed(&mut run::command("systemctl", &["start", "--no-block", EXECUTOR])).map(drop)
}

/// True while the executor's unit is queued, starting or running.
pub fn executor_is_busy() -> Result<bool> {
    let text = run::succeed(&mut run::command("systemctl", &["show", "--property=ActiveState,Job", EXECUTOR]))?;
    let busy = text.lines().any(|line| matches!(line, "ActiveState=activating" | "ActiveState=active" | "ActiveState=reloading"));
    Ok(busy || text.lines().any(|line| line.strip_prefix("Job=").is_some_and(|job| !job.is_empty() && job != "0")))
}

/// True if systemd has the executor's unit, which it hasn't when the binary runs from somewhere else than its package.
pub fn has_executor() -> bool {
    is_running()
        && run::succeed(&mut run::command("systemctl", &["show", "--property=LoadState", EXECUTOR]))
            .is_ok_and(|text| text.trim() == "LoadState=loaded")
}

/// After a crash loop the good version would fail with "start request repeated too quickly".
pub fn reset_failed(units: &[String]) {
    // Fails for units that aren't loaded, which is fine.
    let mut args = vec!["reset-failed"];
    args.extend(units.iter().map(String::as_str));
    let _ = run::output(&mut run::command("systemctl", &args));
}

/// Starts what isn't running. A masked or disabled unit stays as the operator wants it.
pub fn start_enabled(units: &[String]) {
    for sample in samples(units).unwrap_or_default() {
        if !matches!(sample.enabled.as_str(), "masked" | "masked-runtime" | "disabled") && sample.active != "active" {
            // The gate judges the outcome.
            let _ = run::output(&mut run::command("systemctl", &["start", sample.name.as_str()]));
        }
    }
}

/// Stops units, and waits for it. That one isn't loaded is fine.
pub fn stop(units: &[&str]) {
    let _ = run::output(&mut run::command("systemctl", &[&["stop"], units].concat()));
}

/// Takes back that units are to be started, without waiting for it. That one isn't loaded is fine.
pub fn call_off(units: &[&str]) {
    for unit in units {
        let _ = run::output(&mut run::command("systemctl", &["stop", "--no-block", unit]));
    }
}

/// Makes systemd read the unit files anew.
pub fn reload() -> Result<()> {
    run::succeed(&mut run::command("systemctl", &["daemon-reload"])).map(drop)
}

/// Asks for what isn't running, without waiting for it. A masked or disabled unit stays as the operator wants it.
pub fn queue_enabled(units: &[&str]) {
    let names: Vec<String> = units.iter().map(|unit| (*unit).to_owned()).collect();
    for sample in samples(&names).unwrap_or_default() {
        if matches!(sample.enabled.as_str(), "enabled" | "enabled-runtime" | "static") && sample.active != "active" {
            let _ = run::output(&mut run::command("systemctl", &["start", "--no-block", sample.name.as_str()]));
        }
    }
}

/// How each unit's process ended last, one line a unit: part of a failed version's evidence.
pub fn ends(units: &[String]) -> Vec<String> {
    let mut args = vec!["show", "--property", "Id,ActiveState,SubState,Result,ExecMainCode,ExecMainStatus,NRestarts"];
    args.extend(units.iter().map(String::as_str));
    let Ok(text) = run::succeed(&mut run::command("systemctl", &args)) else { return Vec::new() };
    text.split("\n\n").map(|block| block.lines().collect::<Vec<_>>().join(" ")).filter(|line| !line.is_empty()).collect()
}

/// For how long a unit was not active when it was last restarted, if that was after `since_us` of the monotonic clock.
pub fn last_gap_ms(unit: &str, since_us: u64) -> Option<u64> {
    let args = ["show", "--property", "ActiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic", unit];
    let text = run::succeed(&mut run::command("systemctl", &args)).ok()?;
    let get = |name: &str| -> Option<u64> { text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?.parse().ok() };
    let (exit, enter) = (get("ActiveExitTimestampMonotonic")?, get("ActiveEnterTimestampMonotonic")?);
    (exit >= since_us && enter > exit).then(|| (enter - exit) / 1000)
}

/// The last log lines of the agent's units in this boot.
pub fn last_lines(lines: u32) -> Vec<String> {
    let count = lines.to_string();
    // By its field: --boot alone would look for this boot in /proc/sys, which the executor's sandbox hides.
    let boot = format!("_BOOT_ID={}", clock::boot_id().replace('-', ""));
    let args = ["--unit=smolotchi-core*", "--unit=smolotchi-web*", "--no-pager", "--output=short-iso", "--lines", &count, &boot];
    match run::succeed(&mut run::command("journalctl", &args)) {
        Ok(text) => text.lines().map(str::to_owned).collect(),
        Err(fault) => vec![format!("the systemd journal could not be read: {}", fault.message)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read() {
        let text = "WatchdogUSec=10s\nWatchdogTimestampMonotonic=5000000\nNRestarts=2\nId=smolotchi-core.service\nActiveState=active\nUnitFileState=enabled\n\n\
                    Id=smolotchi-web.socket\nActiveState=failed\nUnitFileState=masked\n";
        let samples = parse(text, 6_500_000);
        assert_eq!(samples.len(), 2);
        assert_eq!(samples[0].watchdog, Some((1_500, 10_000)));
        assert_eq!(samples[0].restarts, 2);
        assert_eq!(
            (samples[1].name.as_str(), samples[1].active.as_str(), samples[1].enabled.as_str()),
            ("smolotchi-web.socket", "failed", "masked")
        );
        assert_eq!(samples[1].watchdog, None);
    }

    #[test]
    fn spans_are_read() {
        for (text, expected) in [
            ("10s", Some(10_000)),
            ("1min 30s", Some(90_000)),
            ("500ms", Some(500)),
            ("1.5s", Some(1_500)),
            ("0", None),
            ("infinity", None),
            ("", None),
        ] {
            assert_eq!(span_ms(text), expected, "{text}");
        }
    }
}
