//! The operator's settings of the installer: `/etc/smolotchi-install/config.d/*.toml`, later files override earlier.
//! Everything has a safe default; with no file at all nothing touches a network.

use crate::paths::Paths;
use serde::{Deserialize, Serialize};
use smolotchi_operator::{Code, Fault, Result};

/// All settings, with defaults for what no file says.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where releases come from.
    pub source: SourceSettings,
    /// When a new version counts as healthy.
    pub gate: GateSettings,
    /// How many releases to keep to go back to.
    pub slots: SlotSettings,
    /// How packages are installed.
    pub packages: PackageSettings,
}

/// `[source]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceSettings {
    /// A URL, a folder or a bundle; none: it must be named on the command line.
    pub from: Option<String>,
    /// The channel to follow.
    pub channel: String,
}

impl Default for SourceSettings {
    fn default() -> Self {
        SourceSettings { from: None, channel: "stable".to_owned() }
    }
}

/// `[gate]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateSettings {
    /// Seconds of unbroken health before a change is committed.
    pub window_s: u64,
    /// Seconds after which a version that never was healthy for that long is given up.
    pub deadline_s: u64,
}

impl Default for GateSettings {
    fn default() -> Self {
        GateSettings { window_s: 20, deadline_s: 120 }
    }
}

/// `[slots]`
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlotSettings {
    /// How many slots stay, newest first. The one of the running change always stays.
    pub keep: usize,
}

impl Default for SlotSettings {
    fn default() -> Self {
        SlotSettings { keep: 2 }
    }
}

/// `[packages]`
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PackageSettings {
    /// Seconds to wait for another package operation (apt, unattended-upgrades) to end.
    pub lock_timeout_s: u64,
}

impl Default for PackageSettings {
    fn default() -> Self {
        PackageSettings { lock_timeout_s: 900 }
    }
}

/// Reads and merges all fragments.
pub fn load(paths: &Paths) -> Result<Settings> {
    let folder = paths.settings();
    let mut names: Vec<_> = match std::fs::read_dir(&folder) {
        Ok(entries) => entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Fault::io("could not read the settings", &folder, &error)),
    };
    names.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    names.sort();
    let mut merged = toml::Table::new();
    for path in names {
        let text = std::fs::read_to_string(&path).map_err(|error| Fault::io("could not read the settings", &path, &error))?;
        // Each fragment is checked alone first, so that an error names its file and line.
        toml::from_str::<Settings>(&text).map_err(|error| invalid(&path, &error))?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| invalid(&path, &error))?;
        merge(&mut merged, table);
    }
    let settings: Settings = merged.try_into().map_err(|error| invalid(&folder, &error))?;
    if settings.gate.window_s == 0 || settings.gate.deadline_s <= settings.gate.window_s {
        return Err(Fault::new(Code::ConfigInvalid, "gate.window_s must be at least 1 and less than gate.deadline_s")
            .fact("window_s", settings.gate.window_s)
            .fact("deadline_s", settings.gate.deadline_s)
            .hint(format!("mend it in {}", folder.display())));
    }
    Ok(settings)
}

fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn invalid(path: &std::path::Path, error: &toml::de::Error) -> Fault {
    let code = if error.message().starts_with("unknown field") { Code::ConfigUnknownKey } else { Code::ConfigInvalid };
    Fault::new(code, "the installer's settings are not valid")
        .fact("file", path.display().to_string())
        .cause(error)
        .hint("the keys are described in smolotchi-install(1)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[(&str, &str)]) -> Result<Settings> {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        std::fs::create_dir_all(paths.settings()).unwrap();
        for (name, text) in files {
            std::fs::write(paths.settings().join(name), text).unwrap();
        }
        load(&paths)
    }

    #[test]
    fn fragments_merge_in_order() {
        let settings =
            with(&[("10.toml", "[gate]\nwindow_s = 5\n[source]\nfrom = \"/a\""), ("20.toml", "[source]\nfrom = \"/b\""), ("x.bak", "!")]);
        let settings = settings.unwrap();
        assert_eq!(settings.gate, GateSettings { window_s: 5, deadline_s: 120 });
        assert_eq!(settings.source.from.as_deref(), Some("/b"));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, code) in [
            ("[gate]\nwindow = 5", Code::ConfigUnknownKey),
            ("[gate]\nwindow_s = \"long\"", Code::ConfigInvalid),
            ("[gate]\nwindow_s = 0", Code::ConfigInvalid),
            ("[gate]\nwindow_s = 200", Code::ConfigInvalid),
            ("nonsense", Code::ConfigInvalid),
        ] {
            assert_eq!(with(&[("10.toml", text)]).unwrap_err().code, code, "{text}");
        }
    }
}
