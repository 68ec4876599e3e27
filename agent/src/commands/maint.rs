//! `smolotchi maint`: calls of the maintainer scripts and the installer. Nothing here asks questions.

use super::db::{Moved, core_is_down, migrated};
use super::postinst;
use crate::account;
use crate::cli::MaintVerb;
use crate::paths::Paths;
use crate::release::release_toml;
use crate::store_fault::store_fault;
use serde::Serialize;
use smolotchi_operator::output::emit;
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table};
use smolotchi_store::migrate::Direction;
use smolotchi_store::{Rehearsal, Undo};
use std::io::Write;
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

#[derive(Debug, Serialize)]
struct Restored {
    schema: u32,
    replaced: Option<PathBuf>,
}

impl Table for Restored {
    fn table(&self) -> String {
        let replaced = self.replaced.as_ref().map(|path| format!("; what stood there is now {}", path.display())).unwrap_or_default();
        format!("restored, schema {}{replaced}\n", self.schema)
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
            let mut out = std::io::stdout().lock();
            let written = out.write_all(release_toml().as_bytes()).and_then(|()| out.flush());
            written.map_err(|error| Fault::io("could not print", "standard output", &error))?;
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
        MaintVerb::Restore { from } => {
            account::refuse_root()?;
            emit(format, &restored(paths, &from)?);
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

fn restored(paths: &Paths, from: &Path) -> Result<Restored> {
    core_is_down(paths)?;
    let restored = smolotchi_store::restore(from, &paths.database()).map_err(store_fault)?;
    Ok(Restored { schema: restored.schema, replaced: restored.replaced })
}
