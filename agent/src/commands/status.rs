//! `smolotchi status`: what runs, since when, what happened last, and how the last upgrade went.

use super::events::row;
use super::health;
use crate::client::{Client, block_on};
use crate::clock;
use crate::installs::Install;
use crate::paths::Paths;
use crate::powers::loudly;
use crate::wire::{Event, Events, Health, Status, Verdict};
use serde::Serialize;
use smolotchi_operator::output::{columns, emit};
use smolotchi_operator::{Exit, Format, Result, Table};

/// Core's status with what is around it.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    status: Status,
    health: Health,
    install: Option<Install>,
    recent: Vec<Event>,
}

impl Table for Report {
    fn table(&self) -> String {
        let verdict = match self.health.verdict {
            Verdict::Healthy => "healthy".to_owned(),
            Verdict::Unhealthy => format!(
                "UNHEALTHY: {}",
                self.health
                    .checks
                    .iter()
                    .filter(|check| !check.ok)
                    .map(|check| format!("{} ({})", check.name, check.detail))
                    .collect::<Vec<_>>()
                    .join("; ")
            ),
        };
        let status = &self.status;
        let mut rows = vec![
            ["health".to_owned(), verdict],
            ["version".to_owned(), format!("{}, schema {}", status.version, status.schema)],
            ["running".to_owned(), format!("{}, since {}", clock::span(status.uptime_s), status.started_at)],
            ["events".to_owned(), format!("{} in {} KiB", status.events.total, status.database.bytes / 1024)],
        ];
        rows.extend(status.powers.iter().map(|power| [power.unit.clone(), loudly(power)]));
        if let Some(sentence) = self.install.as_ref().and_then(Install::sentence) {
            rows.push(["upgrades".to_owned(), sentence]);
        }
        let events: Vec<_> = self.recent.iter().map(row).collect();
        format!("{}\n{}", columns(&rows), columns(&events))
    }
}

/// Prints the status. `core.unreachable` (30) when core can't be asked; an unhealthy core is still exit 0: see `health`.
pub(crate) fn run(paths: &Paths, format: Format) -> Result<Exit> {
    let (status, health, Events { events: recent, .. }) = block_on(async {
        let (status, health) = health::ask(paths).await?;
        Ok((status, health, Client::new(paths.socket()).get("/v1/events?limit=5").await?))
    })?;
    let health = health::look(paths, &status, health);
    emit(format, &Report { status, health, install: Install::read(&paths.install_status()), recent });
    Ok(Exit::Success)
}
