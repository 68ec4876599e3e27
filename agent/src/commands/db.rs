//! `smolotchi db`: looks at the database, checks it, and takes it to another schema. Works on the file itself, always
//! as the user that owns it: as root the command runs itself again as that user.

use crate::account;
use crate::cli::DbVerb;
use crate::paths::Paths;
use crate::store_fault::store_fault;
use serde::Serialize;
use smolotchi_operator::output::{columns, emit};
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table};
use smolotchi_store::CheckReport;
use smolotchi_store::migrate::{self, Ahead, Direction, Migrated, SchemaInfo, Way};
use std::os::unix::net::UnixStream;

/// [`SchemaInfo`], shown.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Info(SchemaInfo);

impl Table for Info {
    fn table(&self) -> String {
        let info = &self.0;
        let way = |reversible: bool| if reversible { "can be undone" } else { "can't be undone" }.to_owned();
        let mut rows = vec![vec!["schema".to_owned(), format!("{} (this version's is {})", info.current, info.own)]];
        rows.extend(info.applied.iter().map(|step| {
            vec![
                format!("{:04}", step.number),
                step.name.clone(),
                format!("applied {}", step.applied_at),
                step.release.clone(),
                way(step.reversible),
            ]
        }));
        rows.extend(info.pending.iter().map(|step| {
            vec![format!("{:04}", step.number), step.name.clone(), "pending".to_owned(), "-".to_owned(), way(step.reversible)]
        }));
        columns(&rows)
    }
}

/// [`CheckReport`], shown.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Checked(CheckReport);

impl Table for Checked {
    fn table(&self) -> String {
        let CheckReport { ok, schema, full, problems } = &self.0;
        let depth = if *full { "full check" } else { "quick check" };
        let verdict = if *ok { "whole" } else { "DAMAGED" };
        format!("{verdict} ({depth}, schema {schema})\n{}", problems.iter().map(|problem| format!("  {problem}\n")).collect::<String>())
    }
}

/// [`Migrated`], shown.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Moved(pub(super) Migrated);

impl Table for Moved {
    fn table(&self) -> String {
        let Migrated { from, to, steps } = &self.0;
        if steps.is_empty() {
            return format!("schema {to}, nothing to do\n");
        }
        let steps: String =
            steps.iter().map(|step| format!("  {} {:04} {}: {} rows\n", step.direction, step.number, step.name, step.rows)).collect();
        format!("schema {from} -> {to}\n{steps}")
    }
}

/// [`Way`], shown.
#[derive(Debug, Serialize)]
struct WouldMove {
    dry_run: bool,
    #[serde(flatten)]
    way: Way,
}

impl Table for WouldMove {
    fn table(&self) -> String {
        let Way { from, to, steps } = &self.way;
        if steps.is_empty() {
            return format!("schema {to}, nothing to do\n");
        }
        let undo = |reversible: bool| if reversible { "" } else { " (can't be undone)" };
        let step = |step: &Ahead| format!("  {} {:04} {}{}\n", step.direction, step.number, step.name, undo(step.reversible));
        format!("would take schema {from} -> {to}\n{}", steps.iter().map(step).collect::<String>())
    }
}

/// Runs the verb. Errors: the store's; `store.busy` for a migration while core answers; `store.wrong-user`.
pub(crate) fn run(paths: &Paths, format: Format, verb: DbVerb) -> Result<Exit> {
    account::become_owner(paths)?;
    let database = paths.database();
    match verb {
        DbVerb::Info => emit(format, &Info(migrate::inspect(&database).map_err(store_fault)?)),
        DbVerb::Check { full } => {
            let report = Checked(smolotchi_store::check(&database, full).map_err(store_fault)?);
            emit(format, &report);
            if !report.0.ok {
                return Err(Fault::new(Code::StoreDamaged, "the database is damaged").fact("problems", report.0.problems.len()));
            }
        }
        DbVerb::Migrate { allow_down, dry_run } => {
            let direction = if allow_down { Direction::ToOwn } else { Direction::UpOnly };
            if dry_run {
                emit(format, &WouldMove { dry_run, way: migrate::plan(&database, direction).map_err(store_fault)? });
            } else {
                emit(format, &Moved(migrated(paths, direction, false)?));
            }
        }
    }
    Ok(Exit::Success)
}

/// Takes the database to this version's schema while nobody uses it.
pub(super) fn migrated(paths: &Paths, direction: Direction, create: bool) -> Result<Migrated> {
    core_is_down(paths)?;
    migrate::run(&paths.database(), direction, create).map_err(store_fault)
}

/// Refuses with `store.busy` while somebody listens at core's socket: connecting could even start core.
pub(super) fn core_is_down(paths: &Paths) -> Result<()> {
    let socket = paths.socket();
    if UnixStream::connect(&socket).is_ok() {
        return Err(Fault::new(Code::StoreBusy, "core answers, so the database is in use")
            .hint("stop it first: systemctl stop smolotchi-core.socket smolotchi-core.service")
            .fact("socket", socket.display().to_string()));
    }
    Ok(())
}
