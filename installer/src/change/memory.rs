//! What the installer remembers between changes: blocked versions and the highest channel sequence seen
//! (`state.toml`), and the apt pin that follows from the former.
//!
//! A damaged file is set aside under another name and said so: losing a block or a sequence is better than a machine
//! that can't be upgraded or rolled back.

use crate::paths::Paths;
use serde::{Deserialize, Serialize};
use smolotchi_operator::{Code, Fault, Result, durable, log};
use std::collections::BTreeMap;

/// The content of `state.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Highest sequence seen, by channel.
    pub sequences: BTreeMap<String, u64>,
    /// Why a version may not come back, by version.
    pub blocked: BTreeMap<String, Block>,
}

/// Why a version is blocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// In one sentence.
    pub reason: String,
    /// Since when, by the wall clock.
    pub at: String,
}

impl Memory {
    /// Reads it; empty if there is none.
    pub fn load(paths: &Paths) -> Result<Memory> {
        let path = paths.memory();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Memory::default()),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => String::from("\0"),
            Err(error) => return Err(Fault::io("could not read the installer's state", &path, &error)),
        };
        match toml::from_str(&text) {
            Ok(memory) if !text.trim().is_empty() => Ok(memory),
            _ => {
                let aside = path.with_extension("toml.damaged");
                durable::rename(&path, &aside)?;
                log::warning(Code::JournalDamaged, format!("{} was damaged and is set aside as {}", path.display(), aside.display()));
                Ok(Memory::default())
            }
        }
    }

    /// Writes it durably, and the pin that follows from it.
    pub fn save(&self, paths: &Paths) -> Result<()> {
        let text = toml::to_string(self)
            .map_err(|error| Fault::io("could not write the installer's state", paths.memory(), &std::io::Error::other(error)))?;
        super::make_folder(&paths.state())?;
        durable::replace(&paths.memory(), text.as_bytes(), 0o644)?;
        let pin = paths.apt_pin();
        if self.blocked.is_empty() {
            return durable::remove(&pin);
        }
        // In an image build there may be no apt.
        if pin.parent().is_some_and(|folder| folder.is_dir()) {
            durable::replace(&pin, self.pin().as_bytes(), 0o644)?;
        }
        Ok(())
    }

    /// apt_preferences(5): exactly the bad version is kept out; the next release flows.
    fn pin(&self) -> String {
        let mut text = String::from("# Written by smolotchi-install; lift with: smolotchi-install unblock VERSION\n");
        for (version, block) in &self.blocked {
            let reason: String = block.reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            text.push_str(&format!("\nExplanation: {reason}\nPackage: smolotchi\nPin: version {version}\nPin-Priority: -1\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocked() -> Memory {
        let block = Block { reason: "core\ncrashed".into(), at: "2026-01-01T00:00:00Z".into() };
        Memory { sequences: [("stable".to_owned(), 7)].into(), blocked: [("0.3.0".to_owned(), block)].into() }
    }

    fn paths() -> (tempfile::TempDir, Paths) {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        std::fs::create_dir_all(paths.apt_pin().parent().unwrap()).unwrap();
        std::fs::create_dir_all(paths.state()).unwrap();
        (root, paths)
    }

    #[test]
    fn the_pin_follows_the_blocks() {
        let (_root, paths) = paths();
        let mut memory = blocked();
        memory.save(&paths).unwrap();
        assert_eq!(Memory::load(&paths).unwrap(), memory);
        let pin = std::fs::read_to_string(paths.apt_pin()).unwrap();
        assert!(pin.contains("Explanation: core crashed\nPackage: smolotchi\nPin: version 0.3.0\nPin-Priority: -1\n"), "{pin}");
        memory.blocked.clear();
        memory.save(&paths).unwrap();
        assert!(!paths.apt_pin().exists());
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        for damage in [&b""[..], b"\0\0\0\0", b"[blocked", b"\xff\xfe"] {
            let (_root, paths) = paths();
            std::fs::write(paths.memory(), damage).unwrap();
            assert_eq!(Memory::load(&paths).unwrap(), Memory::default(), "{damage:?}");
            assert!(paths.memory().with_extension("toml.damaged").exists());
        }
    }
}
