//! The migrations that this build was made with. Only data: `build.rs` writes it, the runner climbs it.

/// One migration, as compiled in.
#[derive(Debug)]
pub(crate) struct Migration {
    /// From 1, without gaps.
    pub(crate) number: u32,
    /// The folder's name without its number.
    pub(crate) name: &'static str,
    /// SHA-256 over up, down and check.
    pub(crate) checksum: &'static str,
    /// The way to this schema.
    pub(crate) up: &'static str,
    /// The way back; `None` if there is none.
    pub(crate) down: Option<&'static str>,
    /// Queries whose every row is a violation; they hold from this schema on.
    pub(crate) check: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/ladder.rs"));
