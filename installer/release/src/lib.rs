//! Smolotchi's release formats: manifest, channel, signature, .deb, tree, bundle, slot.
//!
//! Used by the installer, the agent (for release.toml), the lab and the release maker. Uses none of ours, runs no
//! program, touches no network. What arrives from outside is [`Deb<Untrusted>`], bytes or a bundle; what may be acted on
//! is [`Manifest`], [`Channel`] and [`Deb<Verified>`], and each is only made by checking.

pub mod bundle;
pub mod channel;
pub mod deb;
mod document;
pub mod error;
pub mod hash;
pub mod manifest;
pub mod release_toml;
pub mod signature;
pub mod slot;
pub mod tree;
pub mod trust;
mod ustar;
pub mod version;

pub use channel::Channel;
pub use deb::{Deb, Untrusted, Verified};
pub use error::{ErrorKind, ReleaseError, Result};
pub use hash::sha256_file;
pub use manifest::{DebEntry, Health, Manifest, Schema};
pub use release_toml::ReleaseToml;
pub use slot::{Origin, SlotDeb, SlotManifest, Snapshot};
pub use trust::{KeyId, Trust};

/// The product that every signed document must name.
pub const PRODUCT: &str = "smolotchi";
