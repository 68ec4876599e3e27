//! The channel: which release is current, how old that statement is, and until when it holds. Signed.

use crate::{ErrorKind, ReleaseError, Result, Trust, document, hash, signature, tree, version};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The channel's kind and format.
pub const KIND: &str = "smolotchi/channel/1";

/// A channel. Outside of the release maker it can only be had from [`Channel::verify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Channel {
    /// The channel's name.
    pub channel: String,
    /// Rises by at least one with every publication.
    pub sequence: u64,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// When it stops to hold.
    pub expires_at: Timestamp,
    /// The release that is current.
    pub version: String,
    /// Its manifest, relative to the tree's root; always `releases/VERSION/manifest.toml`.
    pub manifest: String,
    /// The manifest's SHA-256.
    pub manifest_sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    kind: String,
    product: String,
    channel: String,
    sequence: u64,
    signed_at: Timestamp,
    expires_at: Timestamp,
    version: String,
    manifest: String,
    manifest_sha256: String,
}

impl Channel {
    /// The channel in `bytes`, if `sig` is a trusted key's signature over exactly them.
    pub fn verify(bytes: &[u8], sig: &[u8], trust: &Trust) -> Result<Channel> {
        signature::verify(trust, bytes, sig)?;
        Self::read(bytes)
    }

    /// The channel in `bytes`, unsigned: for those who are about to sign it.
    #[cfg(any(test, feature = "sign"))]
    pub fn parse(bytes: &[u8]) -> Result<Channel> {
        Self::read(bytes)
    }

    /// A channel from its parts, checked like one that is read. `manifest` holds the bytes of that version's manifest.
    #[cfg(any(test, feature = "sign"))]
    pub fn new(
        channel: String,
        sequence: u64,
        signed_at: Timestamp,
        expires_at: Timestamp,
        version: String,
        manifest: &[u8],
    ) -> Result<Channel> {
        let path = tree::manifest_path(&version);
        let manifest_sha256 = hash::sha256_bytes(manifest);
        let channel = Channel { channel, sequence, signed_at, expires_at, version, manifest: path, manifest_sha256 };
        channel.check()?;
        Ok(channel)
    }

    fn read(bytes: &[u8]) -> Result<Channel> {
        let wire: Wire = document::parse(bytes, ErrorKind::ChannelInvalid, "the channel")?;
        document::check_kind(KIND, &wire.kind, &wire.product, ErrorKind::ChannelInvalid)?;
        let channel = Channel {
            channel: wire.channel,
            sequence: wire.sequence,
            signed_at: wire.signed_at,
            expires_at: wire.expires_at,
            version: wire.version,
            manifest: wire.manifest,
            manifest_sha256: wire.manifest_sha256,
        };
        channel.check()?;
        Ok(channel)
    }

    /// Its form on disk.
    pub fn to_toml(&self) -> Result<String> {
        let wire = Wire {
            kind: KIND.to_owned(),
            product: crate::PRODUCT.to_owned(),
            channel: self.channel.clone(),
            sequence: self.sequence,
            signed_at: self.signed_at,
            expires_at: self.expires_at,
            version: self.version.clone(),
            manifest: self.manifest.clone(),
            manifest_sha256: self.manifest_sha256.clone(),
        };
        document::write(&wire, ErrorKind::ChannelInvalid, "the channel")
    }

    /// Whether the statement may be acted on: not older than one already seen, and not expired.
    ///
    /// `now` is `None` on a machine whose clock was never set. A clock before `signed_at` is no error: machines without a
    /// clock battery start in the past, and the sequence number protects them from old copies all the same.
    pub fn freshness(&self, now: Option<Timestamp>, seen_sequence: Option<u64>) -> Result<()> {
        if let Some(seen) = seen_sequence.filter(|seen| self.sequence < *seen) {
            return Err(ReleaseError::new(ErrorKind::ChannelReplayed, "the channel is older than one already seen")
                .fact("channel", &self.channel)
                .differs(format!("sequence {seen} or later"), self.sequence));
        }
        if now.is_some_and(|now| now > self.expires_at) {
            return Err(ReleaseError::new(ErrorKind::ChannelExpired, "the channel has expired")
                .fact("channel", &self.channel)
                .fact("expired", self.expires_at));
        }
        Ok(())
    }

    /// Whether `manifest` holds the bytes of the manifest that the channel names.
    pub fn check_manifest(&self, manifest: &[u8]) -> Result<()> {
        let found = hash::sha256_bytes(manifest);
        if found == self.manifest_sha256 {
            return Ok(());
        }
        Err(ReleaseError::new(ErrorKind::FileMismatch, "the manifest is not the one that the channel names")
            .fact("path", &self.manifest)
            .differs(&self.manifest_sha256, found))
    }

    fn check(&self) -> Result<()> {
        let rules = [
            (tree::is_channel_name(&self.channel), "name", self.channel.clone()),
            (version::is_release_version(&self.version), "version", self.version.clone()),
            (self.manifest == tree::manifest_path(&self.version), "manifest path", self.manifest.clone()),
            (hash::is_sha256(&self.manifest_sha256), "manifest_sha256", self.manifest_sha256.clone()),
            (self.sequence > 0, "sequence", self.sequence.to_string()),
            (self.signed_at < self.expires_at, "expiry before its signing", self.expires_at.to_string()),
        ];
        for (holds, field, value) in rules {
            if !holds {
                return Err(
                    ReleaseError::new(ErrorKind::ChannelInvalid, format!("the channel has an impossible {field}")).fact("found", value)
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../../../tests/golden/tree/channels/stable.toml");

    #[test]
    fn a_channel_that_breaks_a_rule_is_refused() {
        Channel::parse(GOLDEN.as_bytes()).unwrap();
        let table = [
            ("another kind", GOLDEN.replace("channel/1", "channel/2")),
            ("another product", GOLDEN.replace("product = \"smolotchi\"", "product = \"other\"")),
            ("an unknown key", format!("{GOLDEN}later = 1\n")),
            ("a name with a path", GOLDEN.replace("\"stable\"", "\"../stable\"")),
            ("sequence 0", GOLDEN.replace("sequence = 7", "sequence = 0")),
            ("a negative sequence", GOLDEN.replace("sequence = 7", "sequence = -7")),
            ("the manifest of another version", GOLDEN.replace("releases/0.2.0", "releases/0.1.0")),
            ("an absolute manifest", GOLDEN.replace("releases/", "/releases/")),
            ("another hash", GOLDEN.replace("manifest_sha256 = \"", "manifest_sha256 = \"0")),
            ("a time without a zone", GOLDEN.replace("00:00:00Z", "00:00:00")),
            ("expired when signed", GOLDEN.replace("2036", "2026")),
            ("no expiry", GOLDEN.replace("expires_at", "#expires_at")),
        ];
        for (what, text) in table {
            assert_ne!(text, GOLDEN, "{what}: nothing was changed");
            let error = Channel::parse(text.as_bytes()).expect_err(what);
            assert_eq!(error.kind(), ErrorKind::ChannelInvalid, "{what}");
        }
    }
}
