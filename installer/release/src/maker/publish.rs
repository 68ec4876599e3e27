//! `publish`: a release into a tree, and current on a channel.
//!
//! Order of effects, so that whoever reads the tree meanwhile sees the old state or the new one: packages and manifest (new names only),
//! the suite (by-hash files, lists, then InRelease), the channel. Its signature is renamed just before the document; a reader in
//! between sees an invalid signature and asks again.

use super::fault::{OrFault, input, make_folder, read};
use super::keys::{Keys, MINISIGN_PUBLIC, OPENPGP_PUBLIC};
use super::staging::Staging;
use super::{apt, cli, debs, time};
use serde::Serialize;
use smolotchi_operator::{Code, Fault, Result, Table, durable};
use smolotchi_release::{Channel, Deb, Manifest, Untrusted, sha256_file, tree};
use std::path::Path;

/// What was published.
#[derive(Debug, Serialize)]
pub(crate) struct Published {
    channel: Channel,
    packages: Vec<String>,
    suite_versions: Vec<String>,
}

impl Table for Published {
    fn table(&self) -> String {
        let channel = &self.channel;
        format!(
            "published {} on {} (sequence {}, holds until {})\npackages  {}\nsuite     {}\n",
            channel.version,
            channel.channel,
            channel.sequence,
            channel.expires_at,
            self.packages.join(", "),
            self.suite_versions.join(", ")
        )
    }
}

/// Publishes.
pub(crate) fn run(request: &cli::Publish) -> Result<Published> {
    if !tree::is_channel_name(&request.channel) {
        return Err(input("the channel's name is not a lower-case word").fact("found", request.channel.as_str()));
    }
    let keys = Keys::open(&request.keys)?;
    let now = time::now()?;
    let debs = debs::collect(&request.debs)?;
    let release = debs::describe(&debs, &request.version)?;
    let entries = debs.iter().map(debs::entry).collect();
    let manifest = Manifest::new(release.version, release.schema, release.health, entries).or_fault()?;
    let document = manifest.to_toml().or_fault()?;

    let root = &request.tree;
    let staging = Staging::begin(root)?;
    let scratch = staging.folder("signing")?;
    let sequence = next_sequence(root, request, &keys)?;
    let expires = time::days_after(now, request.expires_days)?;
    let channel = Channel::new(request.channel.clone(), sequence, now, expires, request.version.clone(), document.as_bytes()).or_fault()?;

    for deb in &debs {
        add_to_pool(root, deb)?;
    }
    publish_new(root, &channel.manifest, document.as_bytes(), &keys, &scratch)?;
    for (name, bytes) in [MINISIGN_PUBLIC, OPENPGP_PUBLIC].map(|file| (format!("keys/{file}"), keys.public(file))) {
        put(root, &name, &bytes?)?;
    }
    let suite = apt::Suite { root, name: &request.channel, date: now };
    let suite_versions = suite.publish(&manifest, &keys, &staging)?;
    let (path, text) = (tree::channel_path(&request.channel), channel.to_toml().or_fault()?);
    let signature = keys.minisign(text.as_bytes(), &path, &scratch)?;
    put(root, &tree::signature_path(&path), &signature)?;
    put(root, &path, text.as_bytes())?;
    let packages = manifest.debs.iter().map(|deb| format!("{} {} {}", deb.package, deb.version, deb.architecture)).collect();
    Ok(Published { channel, packages, suite_versions })
}

/// One more than the channel's last, or the one asked for, if that is more.
fn next_sequence(root: &Path, request: &cli::Publish, keys: &Keys) -> Result<u64> {
    let path = tree::channel_path(&request.channel);
    if !root.join(&path).exists() {
        return Ok(request.sequence.unwrap_or(1));
    }
    let last = Channel::verify(&read(&root.join(&path))?, &read(&root.join(tree::signature_path(&path)))?, keys.trust()).or_fault()?;
    let next = request.sequence.unwrap_or(last.sequence + 1);
    if next <= last.sequence {
        return Err(input("the channel's sequence number must rise").fact("last", last.sequence).fact("found", next));
    }
    Ok(next)
}

/// A published file never changes, because its name and hash are signed elsewhere.
fn changed(path: &Path) -> Fault {
    input("this file is published already, with other content")
        .fact("path", path.display().to_string())
        .hint("give the release a new version")
}

fn add_to_pool(root: &Path, deb: &Deb<Untrusted>) -> Result<()> {
    let path = root.join(debs::entry(deb).path);
    if path.exists() {
        let (sha256, _) = sha256_file(&path).or_fault()?;
        return if sha256 == deb.sha256() { Ok(()) } else { Err(changed(&path)) };
    }
    make_folder(&root.join("pool"))?;
    durable::copy(deb.path(), &path, 0o644)?;
    let (sha256, _) = sha256_file(&path).or_fault()?;
    if sha256 != deb.sha256() {
        durable::remove(&path)?;
        return Err(
            Fault::new(Code::FileMismatch, "a package changed while it was published").fact("path", deb.path().display().to_string())
        );
    }
    Ok(())
}

/// Signs and writes a document under a name that must be new, or hold the very same already.
fn publish_new(root: &Path, name: &str, document: &[u8], keys: &Keys, scratch: &Path) -> Result<()> {
    let path = root.join(name);
    if path.exists() && read(&path)? != document {
        return Err(changed(&path));
    }
    put(root, &tree::signature_path(name), &keys.minisign(document, name, scratch)?)?;
    put(root, name, document)
}

/// Puts a file of the tree into place, durably, readable by everyone.
pub(crate) fn put(root: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = root.join(name);
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    durable::replace(&path, bytes, 0o644)
}
