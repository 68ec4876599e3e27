//! What the installer says about upgrades, read-only: the last change, kept releases, blocked versions.
//!
//! The file is another program's: it may be missing, of another version, or garbage, and none of that is an error here.

use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;

/// More than this is not the installer's.
const MAX_BYTES: u64 = 64 * 1024;

/// The installer's status. Every field may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Install {
    /// The installed version.
    pub(crate) installed: Option<String>,
    /// `idle`, or the state of the open change.
    pub(crate) state: Option<String>,
    /// The change that is being carried out.
    pub(crate) open_change: Option<String>,
    /// The last change that has ended.
    pub(crate) last_change: Option<Change>,
    /// Versions that failed on this machine.
    pub(crate) blocked: Vec<Blocked>,
    /// Releases that can be gone back to.
    pub(crate) slots: Vec<Slot>,
}

/// One change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Change {
    /// Its name.
    pub(crate) id: Option<String>,
    /// `upgrade`, `rollback`, …
    pub(crate) kind: Option<String>,
    /// The version before.
    pub(crate) from: Option<String>,
    /// The version that was wanted.
    pub(crate) to: Option<String>,
    /// How it ended.
    pub(crate) verdict: Option<String>,
    /// Why.
    pub(crate) reason: Option<String>,
    /// When, RFC 3339.
    pub(crate) at: Option<String>,
}

/// A version that is kept out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Blocked {
    /// Which.
    pub(crate) version: Option<String>,
    /// Why.
    pub(crate) reason: Option<String>,
}

/// A kept release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Slot {
    /// Which.
    pub(crate) version: Option<String>,
}

/// How upgrades stand, in a word that the page and `status` turn into a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// Nothing goes on, and the last change did what was wanted.
    Quiet,
    /// A change is being carried out.
    UnderWay,
    /// The last change was taken back.
    RolledBack,
    /// An operator is needed.
    Stuck,
}

impl Install {
    /// What the file says; `None` if there is no usable file.
    pub(crate) fn read(path: &Path) -> Option<Install> {
        let mut text = String::new();
        std::fs::File::open(path).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
        // By way of a map: serde also takes an array for a struct.
        let map: serde_json::Map<_, _> = serde_json::from_str(&text).ok()?;
        serde_json::from_value(map.into()).ok()
    }

    /// How upgrades stand.
    pub(crate) fn course(&self) -> Course {
        let verdict = self.last_change.as_ref().and_then(|change| change.verdict.as_deref()).unwrap_or_default();
        match (self.state.as_deref().unwrap_or("idle"), verdict) {
            ("idle", "rolled-back") => Course::RolledBack,
            ("idle", "operator-needed") | ("stuck", _) => Course::Stuck,
            ("idle", _) => Course::Quiet,
            _ => Course::UnderWay,
        }
    }

    /// One sentence about it; `None` when nothing was ever changed.
    pub(crate) fn sentence(&self) -> Option<String> {
        let or = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.to_owned());
        if self.course() == Course::UnderWay {
            return Some(format!(
                "Change {} is being carried out ({})",
                or(&self.open_change, "without a name"),
                or(&self.state, "unknown state")
            ));
        }
        let change = self.last_change.as_ref()?;
        let kind = or(&change.kind, "change");
        let (from, to) = (or(&change.from, "nothing"), or(&change.to, "nothing"));
        let why = change.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        Some(match self.course() {
            Course::RolledBack => format!("The {kind} from {from} to {to} was taken back{why}"),
            Course::Stuck => format!("The {kind} from {from} to {to} needs an operator{why}"),
            Course::UnderWay | Course::Quiet => format!("Last change: {kind} from {from} to {to}, {}", or(&change.verdict, "no verdict")),
        })
    }

    /// When the change ended that the sentence is about.
    pub(crate) fn ended_at(&self) -> Option<&str> {
        let change = self.last_change.as_ref().filter(|_| self.course() != Course::UnderWay)?;
        change.at.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<Install> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        std::fs::write(&path, bytes).unwrap();
        Install::read(&path)
    }

    #[test]
    fn garbage_is_nothing() {
        let long = vec![b' '; 100_000];
        for bytes in [&b""[..], b"{", b"[]", b"null", b"\xff\xfe", b"{\"slots\": 7}", &long] {
            assert_eq!(read(bytes), None, "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(20)]));
        }
        assert_eq!(Install::read(Path::new("/nonexistent")), None);
    }

    #[test]
    fn the_course_is_told_from_state_and_verdict() {
        let cases = [
            (r#"{}"#, Course::Quiet),
            (r#"{"state":"idle","last_change":{"verdict":"committed"},"more":1}"#, Course::Quiet),
            (r#"{"state":"watching","open_change":"c","last_change":{"verdict":"rolled-back"}}"#, Course::UnderWay),
            (r#"{"state":"some-new-word","open_change":"c"}"#, Course::UnderWay),
            (r#"{"state":"idle","last_change":{"verdict":"operator-needed"}}"#, Course::Stuck),
            (r#"{"state":"idle","last_change":{"verdict":"rolled-back"}}"#, Course::RolledBack),
            (r#"{"state":"stuck"}"#, Course::Stuck),
        ];
        for (text, course) in cases {
            assert_eq!(read(text.as_bytes()).unwrap().course(), course, "{text}");
        }
    }
}
