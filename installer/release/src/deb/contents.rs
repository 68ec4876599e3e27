//! What is inside a .deb.

use super::Control;
use crate::Result;
use std::path::Path;

pub(super) struct Read {
    pub(super) size: u64,
    pub(super) sha256: String,
    pub(super) control: Control,
    pub(super) installed_bytes: u64,
}

pub(super) fn read(_path: &Path) -> Result<Read> {
    Err(crate::ReleaseError::new(crate::ErrorKind::DebInvalid, "not yet"))
}

pub(super) fn read_file(_deb: &Path, _path: &str) -> Result<Option<Vec<u8>>> {
    Ok(None)
}
