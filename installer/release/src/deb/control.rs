//! The control file of a .deb.

/// The fields that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The package's name.
    pub package: String,
    /// The package's version.
    pub version: String,
    /// A Debian architecture, or `all`.
    pub architecture: String,
    /// The raw `Depends` field.
    pub depends: Option<String>,
    /// The `Installed-Size` field, in KiB.
    pub installed_kib: Option<u64>,
}
