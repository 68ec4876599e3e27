//! `smolotchi maint`: calls of the maintainer scripts and the installer. Nothing here asks questions.

use super::db::{Moved, core_is_down, migrated};
use super::postinst;
use crate::account;
use crate::cli::MaintVerb;
use crate::paths::Paths;
use crate::release::release_toml;
use crate::store_fault::store_fault;
use serde::Serialize;
use smolotchi_operator::output::{emit, print};
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table};
use smolotchi_store::migrate::Direction;
use smolotchi_store::{Rehearsal, Restored, Undo};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

#[derive(Debug, Serialize)]
struct Copied {
    file: PathBuf,
    bytes: u64,
    schema: u32,
}

impl Table for Copied {
    fn table(&self) -> String {
        format!("{}: {} bytes, schema {}\n", self.file.display(), self.bytes, self.schema)
    }
}

/// [`Restored`], shown.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct PutBack(Restored);

impl Table for PutBack {
    fn table(&self) -> String {
        let Restored { schema, replaced, lacking, changed, unread, export } = &self.0;
        let mut text = format!("restored, schema {schema}\n");
        if let Some(path) = replaced {
            text += &format!("  what stood there is now {}\n", path.display());
        }
        let named = |rows: &BTreeMap<String, u64>| rows.iter().map(|(table, rows)| format!(" {table} {rows}")).collect::<String>();
        if let Some(path) = export {
            text += &format!("  rows that the snapshot lacks:{}; they are in {}\n", named(lacking), path.display());
        }
        if !changed.is_empty() {
            text += &format!("  rows that the snapshot has with other values:{}\n", named(changed));
        }
        text + &unread.iter().map(|what| format!("  COULD NOT BE READ: {what}\n")).collect::<String>()
    }
}

/// [`Rehearsal`], shown.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Tried(Rehearsal);

impl Table for Tried {
    fn table(&self) -> String {
        let Rehearsal { from, to, migrations, undo, duration_ms, undo_ms, bytes_before, bytes_after } = &self.0;
        let undo = match undo {
            Undo::Proven => format!("the way back holds ({undo_ms} ms)"),
            Undo::Impossible => "there is no way back".to_owned(),
            Undo::NotNeeded => "nothing to undo".to_owned(),
        };
        let steps = migrations.iter().map(|step| format!("  {} {:04} {}: {} rows\n", step.direction, step.number, step.name, step.rows));
        format!("schema {from} -> {to} in {duration_ms} ms, {bytes_before} -> {bytes_after} bytes; {undo}\n{}", steps.collect::<String>())
    }
}

/// Runs the verb. All that touch the database refuse root with `store.wrong-user`.
pub(crate) fn run(paths: &Paths, format: Format, verb: MaintVerb) -> Result<Exit> {
    match verb {
        MaintVerb::Postinst { policy } => return postinst::run(paths, &policy),
        MaintVerb::ReleaseToml => {
            print(&release_toml());
        }
        MaintVerb::Migrate { create } => {
            account::refuse_root()?;
            emit(format, &Moved(migrated(paths, Direction::ToOwn, create)?));
        }
        MaintVerb::Snapshot { to } => {
            account::refuse_root()?;
            let made = smolotchi_store::snapshot(&paths.database(), &to).map_err(store_fault)?;
            emit(format, &Copied { file: to, bytes: made.bytes, schema: made.schema });
        }
        MaintVerb::Restore { snapshot, export } => {
            account::refuse_root()?;
            core_is_down(paths)?;
            emit(format, &PutBack(smolotchi_store::restore(&snapshot, &paths.database(), &export).map_err(store_fault)?));
        }
        MaintVerb::Rehearse { database } => {
            account::refuse_root()?;
            emit(format, &Tried(rehearsed(paths, &database)?));
        }
    }
    Ok(Exit::Success)
}

fn rehearsed(paths: &Paths, copy: &Path) -> Result<Rehearsal> {
    let file = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    if file(copy).is_some_and(|copy| Some(copy) == file(&paths.database())) {
        return Err(Fault::new(Code::Usage, "this is the live database, not a copy of it")
            .hint("make a copy first: smolotchi maint snapshot --to FILE")
            .fact("path", copy.display().to_string()));
    }
    smolotchi_store::rehearse(copy).map_err(store_fault)
}
