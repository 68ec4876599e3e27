//! The configuration that core holds, and reading it again: all of it or nothing.

use super::Core;
use crate::config::{self, Merged, Settings};
use crate::paths::Paths;
use crate::wire;
use smolotchi_operator::log::{self, Kind};
use smolotchi_operator::{Code, Fault, Result};
use std::sync::Mutex;

/// Where the configuration stands, and how it stood when it was last read.
pub(super) struct Configured {
    paths: Paths,
    merged: Mutex<Merged>,
}

impl Configured {
    /// Reads the configuration. Errors: `config.syntax`, `config.invalid`.
    pub(super) fn load(paths: &Paths) -> Result<(Settings, Configured)> {
        let merged = config::merged(paths, config::Unknown::Warn)?;
        Ok((merged.settings()?, Configured { paths: paths.clone(), merged: Mutex::new(merged) }))
    }
}

/// Reads the configuration again (SIGHUP, `POST /v1/reload`) and says what changed and when it holds. A broken one changes
/// nothing. Errors: `config.syntax`, `config.invalid`, `config.unknown-key` is only warned of, as at the start.
pub(super) fn reload(core: &Core) -> Result<wire::Reloaded> {
    let newer = config::merged(&core.configured.paths, config::Unknown::Warn)?;
    let settings = newer.settings()?;
    let mut merged = core.configured.merged.lock().map_err(|_| Fault::new(Code::CoreFailed, "the configuration is in use for ever"))?;
    let changed = merged.changes(&newer);
    *merged = newer;
    core.set(settings);
    let words: Vec<_> = changed
        .iter()
        .map(|change| match &change.restart {
            None => format!("{} is {}", change.key, change.to),
            Some(unit) => format!("{} is {} once {unit} is restarted", change.key, change.to),
        })
        .collect();
    let words = if words.is_empty() { "nothing changed".to_owned() } else { words.join(", ") };
    log::note(Kind::Reloaded, format!("the configuration was read again: {words}"));
    Ok(wire::Reloaded { changed })
}
