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
    /// How long a version that failed stays kept out.
    pub blocks: BlockSettings,
    /// When versions may change by themselves.
    pub window: WindowSettings,
    /// What may happen to the database.
    pub migrations: MigrationSettings,
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
    /// How many slots stay, newest first. The one of the running change and the newest good one always stay.
    pub keep: usize,
    /// How many bytes they may take together; those that always stay may take more.
    pub max_bytes: u64,
}

impl Default for SlotSettings {
    fn default() -> Self {
        SlotSettings { keep: 2, max_bytes: 1 << 30 }
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

/// `[blocks]`
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockSettings {
    /// Days until a version that failed here may be tried again.
    pub days: u32,
}

impl Default for BlockSettings {
    fn default() -> Self {
        BlockSettings { days: 30 }
    }
}

/// `[migrations]`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MigrationSettings {
    /// Releases whose migrations may be of the kind that can't be undone.
    pub accept_irreversible: Vec<String>,
}

/// `[window]`: when the installer and apt may bring another version. Unset: always.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WindowSettings {
    /// On which days it begins; none named: on every day.
    pub days: Vec<Day>,
    /// `HH:MM` by the machine's own time zone; none: midnight.
    pub from: Option<String>,
    /// `HH:MM`; not later than `from`: on the next day. None: midnight.
    pub to: Option<String>,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl From<jiff::civil::Weekday> for Day {
    fn from(day: jiff::civil::Weekday) -> Day {
        use jiff::civil::Weekday;
        match day {
            Weekday::Monday => Day::Mon,
            Weekday::Tuesday => Day::Tue,
            Weekday::Wednesday => Day::Wed,
            Weekday::Thursday => Day::Thu,
            Weekday::Friday => Day::Fri,
            Weekday::Saturday => Day::Sat,
            Weekday::Sunday => Day::Sun,
        }
    }
}

impl WindowSettings {
    /// Whether there is a window at all.
    pub fn is_set(&self) -> bool {
        !self.days.is_empty() || self.from.is_some() || self.to.is_some()
    }

    /// Why no version may change at this moment, in one sentence; none: it may. A clock that was never set is outside of
    /// every window: an upgrade at a moment that nobody chose is worse than a later one.
    pub fn closed(&self, now: jiff::Timestamp, local: jiff::civil::DateTime) -> Option<String> {
        if !self.is_set() {
            return None;
        }
        if !crate::host::clock::is_set(now) {
            return Some(format!("the clock is not set, so the maintenance window ({self}) counts as closed"));
        }
        (!self.holds(local)).then(|| format!("the maintenance window ({self}) is closed"))
    }

    fn holds(&self, now: jiff::civil::DateTime) -> bool {
        let midnight = jiff::civil::Time::midnight();
        // `load` has refused what isn't a time.
        let at = |text: &Option<String>| text.as_deref().map_or(Ok(midnight), time).unwrap_or(midnight);
        let (from, to) = (at(&self.from), at(&self.to));
        let begins = |day: jiff::civil::Weekday| self.days.is_empty() || self.days.contains(&Day::from(day));
        let (today, now) = (now.weekday(), now.time());
        if from < to {
            return begins(today) && from <= now && now < to;
        }
        // Over midnight: begun today, or yesterday and not over yet.
        (begins(today) && from <= now) || (begins(today.previous()) && now < to)
    }
}

impl std::fmt::Display for WindowSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let days = self.days.iter().map(|day| format!("{day:?}")).collect::<Vec<_>>().join(" ");
        let (from, to) = (self.from.as_deref().unwrap_or("00:00"), self.to.as_deref().unwrap_or("24:00"));
        write!(f, "{}{}{from} to {to}", days, if days.is_empty() { "" } else { ", " })
    }
}

/// `HH:MM`.
fn time(text: &str) -> Result<jiff::civil::Time, jiff::Error> {
    jiff::civil::Time::strptime("%H:%M", text)
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
    for (key, text) in [("window.from", &settings.window.from), ("window.to", &settings.window.to)] {
        if let Some(error) = text.as_deref().and_then(|text| time(text).err()) {
            return Err(Fault::new(Code::ConfigInvalid, format!("{key} must be a time of day, HH:MM"))
                .cause(&error)
                .hint(format!("mend it in {}", folder.display())));
        }
    }
    if settings.blocks.days == 0 {
        return Err(Fault::new(Code::ConfigInvalid, "blocks.days must be at least 1").hint(format!("mend it in {}", folder.display())));
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
            ("[window]\nfrom = \"25:00\"", Code::ConfigInvalid),
            ("[window]\ndays = [\"someday\"]", Code::ConfigInvalid),
            ("[blocks]\ndays = 0", Code::ConfigInvalid),
            ("nonsense", Code::ConfigInvalid),
        ] {
            assert_eq!(with(&[("10.toml", text)]).unwrap_err().code, code, "{text}");
        }
    }

    #[test]
    fn the_window_opens_and_closes() {
        let window = |text: &str| with(&[("10.toml", text)]).unwrap().window;
        let never = window("");
        let nights = window("[window]\nfrom = \"02:00\"\nto = \"05:00\"");
        let weekend = window("[window]\ndays = [\"sat\", \"sun\"]");
        let late = window("[window]\ndays = [\"fri\"]\nfrom = \"22:30\"\nto = \"01:00\"");
        // 2026-03-06 is a Friday.
        for (at, unset, night, end, friday) in [
            ("2026-03-06T01:59", true, false, false, false),
            ("2026-03-06T02:00", true, true, false, false),
            ("2026-03-06T05:00", true, false, false, false),
            ("2026-03-06T22:30", true, false, false, true),
            ("2026-03-07T00:59", true, false, true, true),
            ("2026-03-07T01:00", true, false, true, false),
            ("2026-03-07T23:00", true, false, true, false),
            ("2026-03-08T03:00", true, true, true, false),
            ("2026-03-09T00:00", true, false, false, false),
        ] {
            let local: jiff::civil::DateTime = at.parse().unwrap();
            let now = local.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
            let open = [&never, &nights, &weekend, &late].map(|window| window.closed(now, local).is_none());
            assert_eq!(open, [unset, night, end, friday], "{at}");
        }
        let start = jiff::Timestamp::UNIX_EPOCH;
        let local = "1970-01-01T02:30".parse().unwrap();
        assert!(never.closed(start, local).is_none());
        assert!(nights.closed(start, local).unwrap().contains("the clock is not set"), "an unset clock is outside of every window");
        assert_eq!(late.to_string(), "Fri, 22:30 to 01:00");
    }
}
