//! `smolotchi health`: is it well? Core's own checks, the services among them, and what can be seen from outside.

use crate::client::{Client, block_on};
use crate::clock;
use crate::core::heartbeat::{Heartbeat, stale_ms};
use crate::paths::Paths;
use crate::release::VERSION;
use crate::wire::{Check, Health, Status, Verdict};
use smolotchi_operator::output::{columns, emit};
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table};

impl Table for Health {
    fn table(&self) -> String {
        let rows: Vec<_> =
            self.checks.iter().map(|check| vec![check.word().to_owned(), check.name.clone(), check.detail.clone()]).collect();
        let verdict = match self.verdict {
            Verdict::Healthy => "healthy",
            Verdict::Unhealthy => "unhealthy",
        };
        format!("{verdict}\n{}", columns(&rows))
    }
}

/// Prints every check. Exit 0 healthy; `health.unhealthy` (10); `core.unreachable` (30).
pub(crate) fn run(paths: &Paths, format: Format) -> Result<Exit> {
    let (status, health) = block_on(ask(paths))?;
    let health = look(paths, &status, health);
    emit(format, &health);
    match health.verdict {
        Verdict::Healthy => Ok(Exit::Success),
        Verdict::Unhealthy => {
            let failed: Vec<_> = health.checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect();
            Err(Fault::new(Code::Unhealthy, "this machine's agent is not well").fact("failed", failed.join(", ")))
        }
    }
}

/// Core's own view.
pub(super) async fn ask(paths: &Paths) -> Result<(Status, Health)> {
    let client = Client::new(paths.socket());
    let status = client.get("/v1/status").await?;
    Ok((status, client.get("/v1/health").await?))
}

/// Core's view and the view from outside together.
pub(crate) fn look(paths: &Paths, status: &Status, health: Health) -> Health {
    let mut checks = health.checks;
    checks.push(heartbeat(&Heartbeat::read(&paths.heartbeat()), clock::boottime_ms()));
    checks.push(version(status));
    checks.into()
}

fn heartbeat(read: &Result<Heartbeat, String>, boottime_ms: u64) -> Check {
    match read.as_ref().map(|beat| (beat, beat.age_ms(boottime_ms))) {
        Ok((Heartbeat { seq, every_ms, .. }, Some(age))) => {
            let detail = format!("number {seq}, {age} ms old, one every {every_ms} ms");
            Check::new("heartbeat", age <= stale_ms(*every_ms), detail)
        }
        Ok((_, None)) => Check::new("heartbeat", false, "is from another boot"),
        Err(what) => Check::new("heartbeat", false, what.as_str()),
    }
}

fn version(status: &Status) -> Check {
    let own = smolotchi_store::schema_own();
    let ok = status.version == VERSION && status.schema == own;
    let detail = format!("core runs {} with schema {}", status.version, status.schema);
    Check::new("version", ok, if ok { detail } else { format!("{detail}; installed is {VERSION} with schema {own}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_must_be_young_and_of_this_boot() {
        let beat = |at, every_ms| Ok(Heartbeat { seq: 1, boottime_ms: at, pid: 1, version: "x".into(), schema: 3, every_ms });
        let cases = [
            (beat(100_000, 1_000), true),
            (beat(95_000, 1_000), true),
            (beat(94_999, 1_000), false),
            (beat(100_001, 1_000), false),
            (beat(47_500, 20_000), true),
            (beat(47_499, 20_000), false),
            (Err("gone".to_owned()), false),
        ];
        for (read, ok) in cases {
            assert_eq!(heartbeat(&read, 100_000).ok, ok, "{read:?}");
        }
    }
}
