//! Configuration in three steps: fragments are read, merged by precedence, and validated into settings.
//!
//! Called by the services at start and at reload, and by `smolotchi config`. It must never write anything.

mod fragment;
mod keys;
mod merge;
mod settings;

pub(crate) use merge::{Merged, Origin};
pub(crate) use settings::{DisplaySettings, RetentionSettings, SensesSettings, Settings, WebSettings, WorkSettings};

use crate::paths::Paths;
use fragment::Fragment;
use serde_json::Value;
use smolotchi_operator::{Code, Fault, Result, log};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The defaults that the package ships; built in as well, so that a service starts even without the file.
const DEFAULTS: &str = include_str!("../../defaults.toml");

/// What to do about a key that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Refuse: `smolotchi config check`.
    Refuse,
    /// Warn and go on: services. After a rollback a fragment may hold a key of the newer version, and the old one must
    /// start all the same.
    Warn,
}

/// The settings for a service.
pub(crate) fn load(paths: &Paths) -> Result<Settings> {
    merged(paths, Unknown::Warn)?.settings()
}

/// All fragments of this machine, merged.
pub(crate) fn merged(paths: &Paths, unknown: Unknown) -> Result<Merged> {
    let mut fragments = vec![Fragment::parse("built in", DEFAULTS)?];
    for path in files(&paths.config_folders())? {
        // Not the disk's fault, and nothing that trying again mends: a link to nowhere, or a file that is not for everybody.
        let text = read(&path, &[ErrorKind::NotFound, ErrorKind::PermissionDenied])?;
        fragments.push(Fragment::parse(&path.display().to_string(), &text)?);
    }
    merge(fragments, unknown)
}

/// One file alone, over the built-in defaults.
pub(crate) fn merged_file(path: &Path) -> Result<Merged> {
    let text = read(path, &[])?;
    merge(vec![Fragment::parse("built in", DEFAULTS)?, Fragment::parse(&path.display().to_string(), &text)?], Unknown::Refuse)
}

/// The text of a file. Errors: `config.syntax` for what is no file, has other letters than UTF-8 (with the line), or can't be read for one
/// of these reasons; else `io.failed`.
fn read(path: &Path, refused: &[ErrorKind]) -> Result<String> {
    let wrong = |what: &str| Fault::new(Code::ConfigSyntax, what).fact("file", path.display().to_string());
    let failed = |error: std::io::Error| {
        let what = "could not read a configuration file";
        if refused.contains(&error.kind()) { wrong(what).cause(&error) } else { Fault::io(what, path, &error) }
    };
    // A pipe is not waited for.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file = std::fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(wrong("what stands in a configuration file's place is no file"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        wrong("a configuration file is not UTF-8").fact("line", before.iter().filter(|byte| **byte == b'\n').count() + 1)
    })
}

fn merge(fragments: Vec<Fragment>, unknown: Unknown) -> Result<Merged> {
    let (merged, refused) = Merged::new(fragments);
    match unknown {
        Unknown::Refuse => {
            let mut refused = refused.into_iter();
            let Some(first) = refused.next() else { return Ok(merged) };
            let further: Vec<_> = refused.map(|fault| Value::Object(fault.details)).collect();
            Err(if further.is_empty() { first } else { first.fact("further", further) })
        }
        Unknown::Warn => {
            for fault in refused {
                let fact = |name| fault.details.get(name).map(|fact| fact.to_string().replace('"', "")).unwrap_or_default();
                log::warning(fault.code, format!("{}, line {}: {} is ignored: {}", fact("file"), fact("line"), fact("key"), fault.message));
            }
            Ok(merged)
        }
    }
}

/// The fragments of all folders, lowest precedence first: in the order of their names; a name in a later folder replaces
/// the same name in an earlier one.
fn files(folders: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = BTreeMap::new();
    for folder in folders {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Fault::io("could not list a configuration folder", folder, &error)),
        };
        for entry in entries {
            let path = entry.map_err(|error| Fault::io("could not list a configuration folder", folder, &error))?.path();
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if path.extension().is_some_and(|extension| extension == "toml") && !hidden {
                files.insert(path.file_name().map(ToOwned::to_owned), path);
            }
        }
    }
    Ok(files.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(files: &[(&str, &str)]) -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let paths = Paths::new(Some(dir.path()));
        (dir, paths)
    }

    #[test]
    fn the_built_in_defaults_are_whole_and_valid() {
        let (_dir, paths) = node(&[]);
        let merged = merged(&paths, Unknown::Refuse).unwrap();
        assert_eq!(merged.entries().count(), keys::KEYS.len());
        merged.settings().unwrap();
    }

    #[test]
    fn later_names_win_and_same_names_mask() {
        let (_dir, paths) = node(&[
            ("usr/lib/smolotchi/config.d/10-a.toml", "[retention]\nmax_events = 1\nmax_age_days = 1"),
            ("etc/smolotchi/config.d/05-early.toml", "[retention]\nmax_events = 2"),
            ("usr/lib/smolotchi/config.d/20-b.toml", "[core]\nmin_free_mib = 1"),
            ("etc/smolotchi/config.d/20-b.toml", "# masked"),
            ("run/smolotchi/config.d/30-c.toml", "[retention]\nmax_age_days = 7"),
            ("etc/smolotchi/config.d/README", "not read"),
            ("etc/smolotchi/config.d/.hidden.toml", "not read"),
        ]);
        let settings = load(&paths).unwrap();
        assert_eq!((settings.retention.max_events, settings.retention.max_age_days), (Some(1), Some(7)));
        assert_eq!(settings.core.min_free_mib, 16);
    }

    /// Refused at once, so that a service isn't started again and again over it.
    #[test]
    fn what_is_no_text_is_refused_with_its_line() {
        let name = "etc/smolotchi/config.d/50-x.toml";
        let refused = |make: &dyn Fn(&Path)| {
            let (dir, paths) = node(&[("etc/smolotchi/config.d/40-a.toml", "")]);
            make(&dir.path().join(name));
            let fault = merged(&paths, Unknown::Warn).unwrap_err();
            assert_eq!((fault.code, fault.details["file"].as_str().unwrap().ends_with(name)), (Code::ConfigSyntax, true), "{fault}");
            assert!(merged_file(&dir.path().join(name)).is_err());
            fault
        };
        let fault = refused(&|path| std::fs::write(path, b"[core]\n# caf\xe9\nmin_free_mib = 3\n").unwrap());
        assert_eq!(fault.details["line"], 2, "{fault}");
        refused(&|path| std::os::unix::fs::symlink("nowhere", path).unwrap());
        refused(&|path| std::fs::create_dir(path).unwrap());
        let mode = rustix::fs::Mode::RUSR;
        refused(&|path| rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap());
    }

    #[test]
    fn services_start_over_a_key_of_a_newer_version() {
        let (_dir, paths) = node(&[("etc/smolotchi/config.d/50-x.toml", "[core]\nfrom_the_future = 1\nmin_free_mib = 3")]);
        assert_eq!(load(&paths).unwrap().core.min_free_mib, 3);
        assert_eq!(merged(&paths, Unknown::Refuse).unwrap_err().code, Code::ConfigUnknownKey);
    }

    #[test]
    fn every_key_that_nobody_knows_is_named() {
        let (_dir, paths) = node(&[
            ("etc/smolotchi/config.d/50-x.toml", "[core]\nmin_fre_mib = 1\n\nmin_free_gib = 2\n"),
            ("run/smolotchi/config.d/60-y.toml", "[nope]\nx = 1\n"),
        ]);
        let fault = merged(&paths, Unknown::Refuse).unwrap_err();
        let mut named = vec![fault.details.clone()];
        named.extend(fault.details["further"].as_array().unwrap().iter().map(|further| further.as_object().unwrap().clone()));
        let found: Vec<_> = named
            .iter()
            .map(|facts| {
                assert!(facts["expected"].as_str().unwrap().contains("core.min_free_mib"), "{facts:?}");
                let file = facts["file"].as_str().unwrap().rsplit('/').next().unwrap();
                (file, facts["line"].as_u64().unwrap(), facts["key"].as_str().unwrap())
            })
            .collect();
        assert_eq!(found, [("50-x.toml", 2, "core.min_fre_mib"), ("50-x.toml", 4, "core.min_free_gib"), ("60-y.toml", 2, "nope.x")]);
        let line = fault.to_string();
        assert!(line.contains("key: core.min_fre_mib; line: 2") && line.contains("key: nope.x; line: 2)"), "{line}");
        assert!(!line.contains('{'), "{line}");
    }
}
