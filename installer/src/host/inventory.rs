//! Gathers the inventory of this machine.

use super::{dpkg, systemd};
use crate::change::{self, memory::Memory};
use crate::inventory::Inventory;
use crate::paths::Paths;
use smolotchi_operator::{Fault, Result};
use smolotchi_release::ReleaseToml;

/// Looks at everything that a plan depends on. Changes nothing.
pub fn gather(paths: &Paths) -> Result<Inventory> {
    let blocked = Memory::load(paths)?.blocked.into_iter().map(|(version, block)| (version, block.reason)).collect();
    let release = release(paths);
    Ok(Inventory {
        architecture: dpkg::architecture()?,
        packages: dpkg::packages()?,
        down: release.as_ref().map(|release| down(&release.health.units)).unwrap_or_default(),
        schema: release.map(|release| release.schema.own),
        disk_free: disk_free(paths)?,
        database_bytes: database_bytes(paths),
        dpkg_audit: dpkg::audit()?,
        blocked,
        open_change: change::open(paths)?.map(|change| change.id),
    })
}

fn down(units: &[String]) -> Vec<String> {
    let samples = if systemd::is_running() { systemd::samples(units).unwrap_or_default() } else { Vec::new() };
    samples.into_iter().filter(|sample| sample.active != "active").map(|sample| sample.name).collect()
}

/// What the installed release says of itself.
pub fn release(paths: &Paths) -> Option<ReleaseToml> {
    ReleaseToml::parse(&std::fs::read(paths.release_toml()).ok()?).ok()
}

/// Bytes that root may still write where both the slots and the binaries live, whichever has less.
fn disk_free(paths: &Paths) -> Result<u64> {
    let free = |path: &std::path::Path| {
        rustix::fs::statvfs(path)
            .map(|stat| stat.f_bavail * stat.f_frsize)
            .map_err(|error| Fault::io("could not ask for free disk space", path, &error.into()))
    };
    Ok(free(&paths.root().join("var/lib"))?.min(free(&paths.root().join("usr"))?))
}

fn database_bytes(paths: &Paths) -> Option<u64> {
    let size = |path: std::path::PathBuf| std::fs::metadata(path).ok().map(|meta| meta.len());
    let database = size(paths.database())?;
    Some(database + size(paths.database().with_extension("db-wal")).unwrap_or(0))
}
