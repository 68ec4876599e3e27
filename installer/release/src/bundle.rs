//! The bundle: one channel, release and architecture in one uncompressed tar, for a stick.
//!
//! The tar has one spelling: regular files only, sorted, every header a function of name and size alone, two zero blocks at the exact
//! end. So the reader compares each header with the one that it would write, and no other tar passes. Keys are not in it: what vouches
//! must not travel with what it vouches for.

use crate::Result;
use std::path::Path;

/// What a bundle holds, told by its paths alone: nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The channel's name.
    pub channel: String,
    /// The release's version.
    pub version: String,
    /// Every path, relative to the tree's root, in order.
    pub paths: Vec<String>,
}

/// Unpacks a bundle into an existing empty folder, which then is a tree (without `dists/`) whose documents and packages are to be
/// verified as from any other source. On an error the folder's content is of no use.
pub fn unpack(_bundle: &Path, _folder: &Path) -> Result<Contents> {
    Err(crate::ReleaseError::new(crate::ErrorKind::BundleInvalid, "not yet"))
}
