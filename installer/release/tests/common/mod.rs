//! The golden files and shorthand shared by the tests of the formats.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "each test binary uses a part")]

use smolotchi_release::{Channel, Manifest, Result, Trust};
use std::path::{Path, PathBuf};

pub(crate) fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

pub(crate) fn read(path: &str) -> Vec<u8> {
    std::fs::read(golden().join(path)).unwrap()
}

pub(crate) fn trust() -> Trust {
    Trust::from_files(&[golden().join("keys/smolotchi.pub")]).unwrap()
}

pub(crate) const MANIFEST: &str = "tree/releases/0.2.0/manifest.toml";
pub(crate) const CHANNEL: &str = "tree/channels/stable.toml";

pub(crate) fn manifest() -> Manifest {
    Manifest::verify(&read(MANIFEST), &read(&format!("{MANIFEST}.minisig")), &trust()).unwrap()
}

pub(crate) fn channel() -> Channel {
    Channel::verify(&read(CHANNEL), &read(&format!("{CHANNEL}.minisig")), &trust()).unwrap()
}

pub(crate) fn code<T>(result: Result<T>) -> &'static str {
    result.err().map_or("ok", |error| error.code())
}
