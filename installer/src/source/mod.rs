//! Where releases come from: a URL, a folder (or stick), or a bundle; and which of them is wanted.
//!
//! The only place that touches a network, and only when the operator named a URL. Nothing is believed before its
//! signature holds; packages are copied into a folder of ours first and verified there, where nobody else can change them.

#![allow(clippy::disallowed_methods, reason = "this is where connections are opened")]

mod tree;

use crate::change::memory::Memory;
use crate::fault::OrFault;
use crate::host::clock;
use crate::paths::Paths;
use smolotchi_operator::{Code, Fault, Result, log};
use smolotchi_release::{Channel, Deb, Manifest, Trust, Verified};
use std::path::{Path, PathBuf};

pub use tree::Tree;

/// Signed documents are small.
const DOCUMENT_LIMIT: u64 = 1 << 20;
/// So are their signatures.
const SIGNATURE_LIMIT: u64 = 4 << 10;

/// Which release of a source is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// A version, or what the channel says.
    pub version: Option<String>,
    /// The channel.
    pub channel: String,
    /// Take a channel although it has expired.
    pub accept_expired: bool,
}

/// A release, verified, whose packages can be fetched.
#[derive(Debug)]
pub struct Release {
    tree: Tree,
    /// Its manifest.
    pub manifest: Manifest,
    /// The channel and its sequence, if that is how it was found.
    pub channel: Option<(String, u64)>,
}

/// The source to take: the one of the command line, else that of the settings. Errors: `source.missing`; `cli.usage` for an address with a
/// password in it, which is not repeated.
pub fn named(given: Option<&String>, set: Option<&String>) -> Result<String> {
    let from = given.or(set).ok_or_else(|| Fault::new(Code::SourceMissing, "no source is named"))?;
    // scheme://authority/…
    if from.contains("://") && from.split('/').nth(2).is_some_and(|authority| authority.contains('@')) {
        return Err(Fault::new(Code::Usage, "an address with a password can't be a source: reports and the journal would show it")
            .hint("use one that needs none, or a folder or a bundle"));
    }
    Ok(from.clone())
}

/// The keys that this machine trusts, and those named on the command line.
pub fn trust(paths: &Paths, named: &[PathBuf]) -> Result<Trust> {
    let trust = if named.is_empty() {
        let folders = paths.trust();
        Trust::load(&folders.iter().map(PathBuf::as_path).collect::<Vec<_>>())
    } else {
        Trust::from_files(named)
    }
    .or_fault()?;
    if trust.is_empty() {
        let folders = paths.trust().map(|folder| folder.display().to_string()).join(", ");
        return Err(Fault::new(Code::NoTrust, "there is no key that releases could be verified with").fact("looked_in", folders));
    }
    Ok(trust)
}

/// Finds and verifies the wanted release.
pub fn find(from: &str, wanted: &Wanted, trust: &Trust, memory: &Memory) -> Result<Release> {
    let tree = Tree::open(from)?;
    if let Some(version) = &wanted.version {
        if !smolotchi_release::version::is_release_version(version) {
            return Err(Fault::new(Code::VersionUnknown, "this is not a release's version").fact("version", version.as_str()));
        }
        let manifest = manifest(&tree, &smolotchi_release::tree::manifest_path(version), trust, None).map_err(|fault| {
            if fault.code == Code::FileMissing {
                Fault::new(Code::VersionUnknown, "the source has no such release").fact("version", version.as_str()).fact("from", from)
            } else {
                fault
            }
        })?;
        if manifest.version != *version {
            return Err(Fault::new(Code::ManifestInvalid, "a manifest stands under another version's name")
                .fact("expected", version.as_str())
                .fact("found", manifest.version.as_str()));
        }
        return Ok(Release { tree, manifest, channel: None });
    }
    // A bundle is for one channel and says which.
    let name = tree.only_channel().unwrap_or(&wanted.channel).to_owned();
    if !smolotchi_release::tree::is_channel_name(&name) {
        return Err(Fault::new(Code::ChannelUnknown, "this is not a channel's name").fact("channel", name));
    }
    let path = smolotchi_release::tree::channel_path(&name);
    let channel = channel(&tree, &path, trust).map_err(|fault| {
        if fault.code == Code::FileMissing && fault.details.get("path").is_some_and(|missing| missing.as_str() == Some(&path)) {
            Fault::new(Code::ChannelUnknown, "the source has no such channel").fact("channel", name.as_str()).fact("from", from)
        } else {
            fault
        }
    })?;
    if channel.channel != name {
        return Err(Fault::new(Code::ChannelInvalid, "a channel stands under another one's name")
            .fact("expected", name)
            .fact("found", channel.channel.as_str()));
    }
    let seen = memory.sequences.get(&channel.channel).copied();
    let fresh = channel.freshness(Some(clock::wall_time()), seen).or_fault();
    match fresh {
        Err(fault) if fault.code == Code::ChannelExpired && wanted.accept_expired => {
            log::warning(Code::ChannelExpired, "the channel has expired and is accepted because you said so");
        }
        other => other?,
    }
    let manifest = manifest(&tree, &channel.manifest, trust, Some(&channel))?;
    Ok(Release { tree, manifest, channel: Some((channel.channel, channel.sequence)) })
}

fn signed(tree: &Tree, path: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let bytes = tree.read(path, DOCUMENT_LIMIT)?;
    let signature = tree.read(&smolotchi_release::tree::signature_path(path), SIGNATURE_LIMIT).map_err(|fault| {
        if fault.code == Code::FileMissing {
            Fault::new(Code::SignatureMissing, "a document has no signature beside it").fact("path", path)
        } else {
            fault
        }
    })?;
    Ok((bytes, signature))
}

fn channel(tree: &Tree, path: &str, trust: &Trust) -> Result<Channel> {
    let (bytes, signature) = signed(tree, path)?;
    Channel::verify(&bytes, &signature, trust).or_fault().map_err(|fault| fault.fact("document", path))
}

fn manifest(tree: &Tree, path: &str, trust: &Trust, channel: Option<&Channel>) -> Result<Manifest> {
    let (bytes, signature) = signed(tree, path)?;
    if let Some(channel) = channel {
        channel.check_manifest(&bytes).or_fault()?;
    }
    Manifest::verify(&bytes, &signature, trust).or_fault().map_err(|fault| fault.fact("document", path))
}

impl Release {
    /// Copies a package of the manifest into `folder` (ours) and verifies it there.
    pub fn fetch(&self, package: &str, architecture: &str, folder: &Path) -> Result<Deb<Verified>> {
        let Some(entry) = self.manifest.deb(package, architecture) else {
            return Err(Fault::new(Code::DebWrongArchitecture, "the release has no package for this machine").fact("package", package));
        };
        let name = entry.path.rsplit('/').next().unwrap_or(&entry.path);
        let target = folder.join(name);
        self.tree.copy(&entry.path, &target, entry.size)?;
        let verified = Deb::<Verified>::open_verified(&target, entry).or_fault();
        if verified.is_err() {
            let _ = std::fs::remove_file(&target);
        }
        verified
    }

    /// Verifies every package of a bundle for this machine, also those that the machine doesn't need: a stick that was
    /// damaged or tampered with is refused as a whole. A tree's other packages stay where they are, unread.
    pub fn check_bundle(&self, architecture: &str) -> Result<()> {
        let Some(folder) = self.tree.bundle() else { return Ok(()) };
        for entry in self.manifest.debs.iter().filter(|deb| deb.architecture == architecture || deb.architecture == "all") {
            let path = folder.join(&entry.path);
            if !path.exists() {
                return Err(Fault::new(Code::FileMissing, "a file of the release is missing").fact("path", entry.path.as_str()));
            }
            Deb::<Verified>::open_verified(&path, entry).or_fault()?;
        }
        Ok(())
    }

    /// Whether its files come over the network.
    pub fn is_remote(&self) -> bool {
        self.tree.is_remote()
    }

    /// The name of the source, as the operator gave it.
    pub fn from(&self) -> &str {
        self.tree.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        let name = |given: Option<&str>, set: Option<&str>| named(given.map(str::to_owned).as_ref(), set.map(str::to_owned).as_ref());
        assert_eq!(name(Some("/a"), Some("/b")).unwrap(), "/a");
        assert_eq!(name(None, Some("http://host:1/@/a@b")).unwrap(), "http://host:1/@/a@b");
        assert_eq!(name(Some("/media/me@home/stick"), None).unwrap(), "/media/me@home/stick");
        assert_eq!(name(None, None).unwrap_err().code, Code::SourceMissing);
        for from in ["http://me:secret@host/", "https://secret@host:443", "HTTP://me:secret@host/"] {
            let fault = name(Some(from), None).unwrap_err();
            assert_eq!(fault.code, Code::Usage, "{from}");
            assert!(!format!("{fault:?}").contains("secret"), "{fault:?}");
        }
    }
}
