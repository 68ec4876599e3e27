//! Gathers the inventory of this machine.

use super::{clock, dpkg, run, systemd};
use crate::change::{self, memory::Memory};
use crate::inventory::Inventory;
use crate::paths::Paths;
use crate::settings::Settings;
use smolotchi_operator::{Fault, Result, durable};
use smolotchi_release::ReleaseToml;
use std::path::{Path, PathBuf};

/// Looks at everything that a plan depends on, but for the rehearsal and the state of the database, which take their time.
/// Changes nothing; as root it writes and removes a small file, to see whether that can be done.
pub fn gather(paths: &Paths, settings: &Settings) -> Result<Inventory> {
    let began = clock::boottime_ms();
    let memory = Memory::load(paths)?;
    let reasons = |blocks: std::collections::BTreeMap<String, crate::change::memory::Block>| {
        blocks.into_iter().map(|(version, block)| (version, block.reason)).collect()
    };
    let release = release(paths);
    let (disk_free, inodes_free) = room(paths)?;
    let now = clock::wall_time();
    let inventory = Inventory {
        architecture: dpkg::architecture()?,
        cpu: cpu(paths),
        pace_ms: 0,
        packages: dpkg::packages()?,
        libc: libc(),
        down: release.as_ref().map(|release| down(&release.health.units)).unwrap_or_default(),
        schema: release.map(|release| release.schema.own),
        disk_free,
        inodes_free,
        memory_free: memory_free(paths),
        unwritable: unwritable(paths),
        database_bytes: database_bytes(paths),
        database_damage: None,
        rehearsal: None,
        unrehearsed: "nobody asked for it".to_owned(),
        core_start_ms: core_start_ms(),
        dpkg_audit: dpkg::audit()?,
        dpkg_interrupted: interrupted(&paths.dpkg()),
        unsafe_io: unsafe_io(paths.root()),
        blocked: reasons(memory.blocked),
        skipped: reasons(memory.skipped),
        paused: memory.paused.map(|pause| pause.sentence()),
        closed: settings.window.closed(now, clock::local(now)),
        open_change: change::open(paths)?.map(|change| change.id),
    };
    Ok(Inventory { pace_ms: clock::boottime_ms() - began, ..inventory })
}

fn down(units: &[String]) -> Vec<String> {
    let samples = if systemd::is_running() { systemd::samples(units).unwrap_or_default() } else { Vec::new() };
    samples.into_iter().filter(|sample| sample.active != "active").map(|sample| sample.name).collect()
}

/// What the installed release says of itself.
pub fn release(paths: &Paths) -> Option<ReleaseToml> {
    ReleaseToml::parse(&std::fs::read(paths.release_toml()).ok()?).ok()
}

/// What is wrong with the database, asked of the installed agent; none: nothing, or there is none, or it can't tell.
pub fn database_damage(paths: &Paths) -> Option<String> {
    paths.database().exists().then_some(())?;
    let output = run::output(&mut run::command(&paths.agent().to_string_lossy(), &["db", "check", "--format", "json"])).ok()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let problems = report.get("problems").and_then(|problems| problems.as_array()).and_then(|problems| problems.first()?.as_str());
    // store.damaged. Anything else is no word on the database, and the rehearsal will meet it.
    (output.status.code() == Some(50)).then(|| problems.map_or_else(|| run::tail(&run::said(&output), 3), str::to_owned))
}

/// Bytes and inodes that may still be used where slots, database and binaries live, whichever has least.
pub(super) fn room(paths: &Paths) -> Result<(u64, Option<u64>)> {
    let (state, database) = (paths.state(), paths.database());
    let own = [state.as_path(), database.parent().unwrap_or(&database)].into_iter().filter(|folder| folder.is_dir());
    let (mut bytes, mut inodes) = (u64::MAX, None);
    for folder in own.map(Path::to_owned).chain([paths.root().join("var/lib"), paths.root().join("usr")]) {
        let stat = rustix::fs::statvfs(&folder).map_err(|error| Fault::io("could not ask for free disk space", &folder, &error.into()))?;
        bytes = bytes.min(stat.f_bavail * stat.f_frsize);
        // Some file systems don't count inodes and say 0 of 0.
        if stat.f_files > 0 {
            inodes = Some(inodes.map_or(stat.f_favail, |least: u64| least.min(stat.f_favail)));
        }
    }
    Ok((bytes, inodes))
}

/// The features of the first processor: `Features` on ARM, `flags` on x86.
fn cpu(paths: &Paths) -> Vec<String> {
    let text = std::fs::read_to_string(paths.root().join("proc/cpuinfo")).unwrap_or_default();
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    let features = fields.filter(|(name, _)| matches!(name.trim(), "Features" | "flags")).map(|(_, words)| words).next();
    features.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn memory_free(paths: &Paths) -> u64 {
    let text = std::fs::read_to_string(paths.root().join("proc/meminfo")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    // Where the kernel doesn't tell, nothing is held against it.
    kib.map_or(u64::MAX, |kib| kib << 10)
}

/// Writes, syncs and removes a small file in the state folder or where it will be, and looks how /usr is mounted.
fn unwritable(paths: &Paths) -> Option<String> {
    let programs = paths.root().join("usr");
    let flags = rustix::fs::statvfs(&programs).map(|stat| stat.f_flag);
    if flags.is_ok_and(|flags| flags.contains(rustix::fs::StatVfsMountFlags::RDONLY)) {
        return Some(format!("{} is mounted read-only", programs.display()));
    }
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    // Looking makes no folder: before the first change there is none, and its parent is of the same file system.
    let state = paths.state();
    let folder = if state.is_dir() { state.as_path() } else { state.parent().unwrap_or(&state) };
    let probe = folder.join(".smolotchi-install.probe");
    let wrote = durable::replace(&probe, b"probe", 0o600).and_then(|()| durable::remove(&probe));
    match wrote {
        Ok(()) => None,
        // That is counted, and told in numbers.
        Err(fault) if fault.code == smolotchi_operator::Code::DiskFull => None,
        Err(fault) => Some(fault.to_string()),
    }
}

fn database_bytes(paths: &Paths) -> Option<u64> {
    let database = match std::fs::metadata(paths.database()) {
        Ok(meta) => meta.len(),
        // There may well be one, which only root and its owner can see.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Some(0),
        Err(_) => return None,
    };
    let log = std::fs::metadata(paths.database().with_extension("db-wal")).map_or(0, |meta| meta.len());
    Some(database + log)
}

fn libc() -> Option<String> {
    let args = ["-W", "-f=${db:Status-Status} ${Version}\n", "libc6"];
    let text = run::succeed(&mut run::command("dpkg-query", &args)).ok()?;
    text.lines().find_map(|line| line.strip_prefix("installed ")).map(str::to_owned)
}

/// dpkg writes what it does into numbered files here and folds them into its database when it ends.
fn interrupted(dpkg: &Path) -> bool {
    let entries = change::list(&dpkg.join("updates")).unwrap_or_default();
    entries.iter().any(|path| path.file_name().is_some_and(|name| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())))
}

/// The files of dpkg's configuration that say `force-unsafe-io`: unpacked files may then be empty after a power cut.
fn unsafe_io(root: &Path) -> Vec<String> {
    let mut files = change::list(&root.join("etc/dpkg/dpkg.cfg.d")).unwrap_or_default();
    files.push(root.join("etc/dpkg/dpkg.cfg"));
    files.sort();
    let says = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().any(|line| line.trim().trim_start_matches("--") == "force-unsafe-io")
    };
    files.iter().filter(|path| says(path)).map(|path| path.display().to_string()).collect()
}

fn core_start_ms() -> Option<u64> {
    if !systemd::is_running() {
        return None;
    }
    let properties = "--property=InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic";
    let text = run::succeed(&mut run::command("systemctl", &["show", properties, "smolotchi-core.service"])).ok()?;
    let get = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok());
    let (began, up) = (get("InactiveExitTimestampMonotonic")?, get("ActiveEnterTimestampMonotonic")?);
    (began > 0 && up >= began).then(|| (up - began) / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dpkgs_files_are_read() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        for folder in ["etc/dpkg/dpkg.cfg.d", "var/lib/dpkg/updates", "proc"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        assert!(!interrupted(&paths.dpkg()) && unsafe_io(root.path()).is_empty());
        assert_eq!(memory_free(&paths), u64::MAX);
        let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
        write("var/lib/dpkg/updates/tmp.i", "");
        assert!(!interrupted(&paths.dpkg()), "dpkg's scratch file is always there");
        write("var/lib/dpkg/updates/0001", "");
        assert!(interrupted(&paths.dpkg()));
        write("etc/dpkg/dpkg.cfg", "# force-unsafe-io\nlog /var/log/dpkg.log\n");
        write("etc/dpkg/dpkg.cfg.d/fast", "force-unsafe-io\n");
        write("etc/dpkg/dpkg.cfg.d/old", " --force-unsafe-io\n");
        let found = unsafe_io(root.path());
        assert!(found.len() == 2 && found.iter().all(|file| file.contains("dpkg.cfg.d")), "{found:?}");
        assert!(cpu(&paths).is_empty());
        write("proc/cpuinfo", "processor\t: 0\nFeatures\t: half thumb vfp \nCPU architecture: 7\n\nprocessor\t: 1\nFeatures\t: x\n");
        assert_eq!(cpu(&paths), ["half", "thumb", "vfp"]);
        write("proc/meminfo", "MemTotal:  500000 kB\nMemAvailable:     1024 kB\n");
        assert_eq!(memory_free(&paths), 1 << 20);
    }
}
