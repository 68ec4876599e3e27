//! The one error type of this crate. Its codes are strings of the error catalogue (smolotchi-operator's `Code`); a test
//! of feature `sign` holds the two together.

use std::path::Path;

/// The result of everything here.
pub type Result<T, E = ReleaseError> = std::result::Result<T, E>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $code:literal,)*) => {
        /// What kind of refusal or failure it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ErrorKind { $($(#[$doc])* $variant,)* }

        impl ErrorKind {
            /// Every kind.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$variant,)*];

            /// The catalogue's string.
            pub const fn code(self) -> &'static str {
                match self { $(ErrorKind::$variant => $code,)* }
            }
        }
    };
}

kinds! {
    /// No signature beside a document that needs one.
    SignatureMissing = "release.signature-missing",
    /// The signature file isn't one, or not in the strict form.
    SignatureMalformed = "release.signature-malformed",
    /// Well-formed, but by a key that isn't trusted here.
    SignatureUnknownKey = "release.signature-unknown-key",
    /// By a trusted key's name, but not over this document.
    SignatureInvalid = "release.signature-invalid",
    /// A public key file isn't one.
    KeyMalformed = "release.key-malformed",
    /// There is no key to check anything with.
    NoTrust = "release.no-trusted-keys",
    /// The manifest breaks the format's rules.
    ManifestInvalid = "release.manifest-invalid",
    /// The channel breaks the format's rules.
    ChannelInvalid = "release.channel-invalid",
    /// The channel's `expires_at` has passed.
    ChannelExpired = "release.channel-expired",
    /// A channel with a lower sequence than one already seen.
    ChannelReplayed = "release.channel-replayed",
    /// release.toml breaks the format's rules.
    ReleaseTomlInvalid = "release.toml-invalid",
    /// A named file isn't there.
    FileMissing = "release.file-missing",
    /// Shorter than it says, or than was signed.
    FileTruncated = "release.file-truncated",
    /// Other bytes than were signed.
    FileMismatch = "release.file-mismatch",
    /// Not a .deb that we would ever ship, or another one than signed.
    DebInvalid = "release.deb-invalid",
    /// For another architecture than the entry's.
    DebWrongArchitecture = "release.wrong-architecture",
    /// Not a bundle in the strict form.
    BundleInvalid = "release.bundle-invalid",
    /// A kept release isn't what its slot.toml says.
    SlotDamaged = "change.slot-damaged",
    /// A file operation failed.
    Io = "io.failed",
    /// No space left.
    DiskFull = "io.disk-full",
}

/// What could not be done, and the facts. `Display` never repeats the source.
#[derive(Debug)]
pub struct ReleaseError {
    kind: ErrorKind,
    message: String,
    facts: Vec<(&'static str, String)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ReleaseError {
    /// An error without facts.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        ReleaseError { kind, message: message.into(), facts: Vec::new(), source: None }
    }

    /// A failed file operation. A missing file and a full disk have their own kinds.
    pub fn io(message: impl Into<String>, path: &Path, error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::FileMissing,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::DiskFull,
            _ => ErrorKind::Io,
        };
        ReleaseError::new(kind, message).path(path).caused(error)
    }

    /// Adds a fact: `path`, `expected`, `found`, or another short word.
    #[must_use]
    pub fn fact(mut self, name: &'static str, value: impl ToString) -> Self {
        self.facts.push((name, value.to_string()));
        self
    }

    /// Adds the path that it is about, unless one stands there already.
    #[must_use]
    pub fn path(self, path: &Path) -> Self {
        if self.facts.iter().any(|(name, _)| *name == "path") { self } else { self.fact("path", path.display()) }
    }

    /// Adds what was expected and what was found.
    #[must_use]
    pub fn differs(self, expected: impl ToString, found: impl ToString) -> Self {
        self.fact("expected", expected).fact("found", found)
    }

    /// Sets the cause.
    #[must_use]
    pub fn caused(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Which kind it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The string in the error catalogue.
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// What could not be done, in one sentence without a full stop.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The facts, in the order in which they were found.
    pub fn facts(&self) -> &[(&'static str, String)] {
        &self.facts
    }
}

impl std::fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        for (name, value) in &self.facts {
            write!(f, "; {name}: {value}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ReleaseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(all(test, feature = "sign"))]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_in_the_catalogue() {
        for kind in ErrorKind::ALL {
            assert!(smolotchi_operator::Code::ALL.iter().any(|code| code.as_str() == kind.code()), "{}", kind.code());
        }
    }
}
