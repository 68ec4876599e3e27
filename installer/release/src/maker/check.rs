//! `verify`: a whole tree, as strictly as a node would read it, and further: nothing unsigned lies in it, and what apt is told agrees.

use super::apt::{by_hash, field, paragraphs};
use super::fault::{OrFault, input, read};
use super::program::Program;
use serde::Serialize;
use smolotchi_operator::{Code, Fault, Result, Table};
use smolotchi_release::{Channel, Deb, DebEntry, Manifest, Trust, Verified, hash, sha256_file, tree, version};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What was found good.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    channels: BTreeMap<String, String>,
    releases: Vec<String>,
    packages: usize,
    suites: usize,
}

impl Table for Checked {
    fn table(&self) -> String {
        let channels: Vec<String> = self.channels.iter().map(|(name, version)| format!("{name} → {version}")).collect();
        format!(
            "channels  {}\nreleases  {}\npackages  {}\nsuites    {}\nall signatures and hashes are good\n",
            channels.join(", "),
            self.releases.join(", "),
            self.packages,
            self.suites
        )
    }
}

/// Checks everything.
pub(crate) fn run(root: &Path, trust: &Path) -> Result<Checked> {
    let keys = Trust::load(&[trust]).or_fault()?;
    let mut releases = names(&root.join("releases"))?;
    releases.sort_by(|a, b| version::compare(a, b));
    let mut pool: BTreeMap<String, DebEntry> = BTreeMap::new();
    for name in &releases {
        let manifest = manifest(root, name, &keys)?;
        for entry in manifest.debs {
            match pool.get(&entry.path) {
                Some(known) if *known == entry => {}
                Some(_) => return Err(bad("two manifests name one file differently", &root.join(&entry.path))),
                None => {
                    deb(root, &entry)?;
                    pool.insert(entry.path.clone(), entry);
                }
            }
        }
    }
    if let Some(stray) = names(&root.join("pool"))?.iter().find(|name| !pool.contains_key(&format!("pool/{name}"))) {
        return Err(bad("a file in the pool is named by no manifest", &root.join("pool").join(stray)));
    }
    let mut channels = BTreeMap::new();
    for file in names(&root.join("channels"))? {
        if let Some(name) = file.strip_suffix(".toml") {
            let (found, _) = channel(root, name, &keys)?;
            suite(root, &found, trust, &pool)?;
            channels.insert(found.channel, found.version);
        }
    }
    let suites = names(&root.join("dists"))?;
    if let Some(stray) = suites.iter().find(|name| !channels.contains_key(*name)) {
        return Err(bad("a suite has no channel", &root.join("dists").join(stray)));
    }
    if channels.is_empty() {
        return Err(input("the tree has no channels").fact("path", root.display().to_string()));
    }
    Ok(Checked { channels, releases, packages: pool.len(), suites: suites.len() })
}

/// A channel and the manifest that it names, both verified.
pub(crate) fn channel(root: &Path, name: &str, keys: &Trust) -> Result<(Channel, Manifest)> {
    let path = tree::channel_path(name);
    if !tree::is_channel_name(name) || !root.join(&path).exists() {
        return Err(Fault::new(Code::ChannelUnknown, "the tree has no such channel").fact("path", root.join(&path).display().to_string()));
    }
    let (document, signature) = signed(root, &path)?;
    let channel = Channel::verify(&document, &signature, keys).map_err(|error| error.path(&root.join(&path))).or_fault()?;
    if channel.channel != name {
        return Err(bad("a channel's file has another channel's name", &root.join(&path)));
    }
    channel.check_manifest(&read(&root.join(&channel.manifest))?).or_fault()?;
    let manifest = manifest(root, &channel.version, keys)?;
    Ok((channel, manifest))
}

fn manifest(root: &Path, version: &str, keys: &Trust) -> Result<Manifest> {
    let path = tree::manifest_path(version);
    let (document, signature) = signed(root, &path)?;
    let manifest = Manifest::verify(&document, &signature, keys).map_err(|error| error.path(&root.join(&path))).or_fault()?;
    if manifest.version != version {
        return Err(bad("a manifest stands in another release's folder", &root.join(&path)));
    }
    Ok(manifest)
}

fn signed(root: &Path, path: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let signature = root.join(tree::signature_path(path));
    if !signature.exists() {
        return Err(
            Fault::new(Code::SignatureMissing, "a document has no signature beside it").fact("path", signature.display().to_string())
        );
    }
    Ok((read(&root.join(path))?, read(&signature)?))
}

/// A package of the tree, verified.
pub(crate) fn deb(root: &Path, entry: &DebEntry) -> Result<Deb<Verified>> {
    Deb::open_verified(&root.join(&entry.path), entry).or_fault()
}

/// The suite of a channel: signature, lists, by-hash, and that every package listed is one of a manifest.
fn suite(root: &Path, channel: &Channel, trust: &Path, pool: &BTreeMap<String, DebEntry>) -> Result<()> {
    let folder = root.join("dists").join(&channel.channel);
    let keyrings: Vec<PathBuf> = names(trust)?.into_iter().filter(|name| name.ends_with(".pgp")).map(|name| trust.join(name)).collect();
    if keyrings.is_empty() {
        return Err(Fault::new(Code::NoTrust, "there is no OpenPGP keyring to check the apt repository with")
            .fact("path", trust.display().to_string())
            .hint("put the public keyring, *.pgp, beside the *.pub"));
    }
    let release = read(&folder.join("Release"))?;
    let inside = gpgv(&keyrings, &["--output".as_ref(), "-".as_ref(), folder.join("InRelease").as_os_str()], &folder)?;
    if inside != release {
        return Err(bad("InRelease and Release differ", &folder.join("InRelease")));
    }
    gpgv(&keyrings, &[folder.join("Release.gpg").as_os_str(), folder.join("Release").as_os_str()], &folder)?;
    let release = String::from_utf8_lossy(&release).into_owned();
    if field(&release, "Suite") != Some(channel.channel.as_str()) {
        return Err(bad("Release is of another suite", &folder.join("Release")));
    }
    let mut current = false;
    for line in release.lines().filter(|line| line.starts_with(' ')) {
        let [sha256, size, name] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(bad("a line of Release is malformed", &folder.join("Release")));
        };
        let path = folder.join(name);
        let bytes = read(&path)?;
        if hash::sha256_bytes(&bytes) != sha256 || bytes.len().to_string() != size {
            return Err(bad("a list differs from what Release says", &path));
        }
        let hashed = folder.join(by_hash(name, &bytes));
        if sha256_file(&hashed).or_fault()?.0 != sha256 {
            return Err(bad("a list by its hash holds something else", &hashed));
        }
        if !name.ends_with("/Packages") {
            continue;
        }
        for paragraph in paragraphs(&String::from_utf8_lossy(&bytes)) {
            let get = |name| field(paragraph, name).unwrap_or_default();
            let listed = pool.get(get("Filename")).filter(|entry| {
                entry.package == get("Package")
                    && entry.version == get("Version")
                    && entry.architecture == get("Architecture")
                    && entry.sha256 == get("SHA256")
                    && entry.size.to_string() == get("Size")
            });
            let entry = listed.ok_or_else(|| bad("a list names a package that no manifest has", &path).fact("file", get("Filename")))?;
            current |= entry.package == smolotchi_release::PRODUCT && entry.version == channel.version;
        }
    }
    if !current {
        return Err(bad("the suite lacks the channel's current version", &folder));
    }
    Ok(())
}

fn gpgv(keyrings: &[PathBuf], args: &[&std::ffi::OsStr], suite: &Path) -> Result<Vec<u8>> {
    let keyrings = keyrings.iter().flat_map(|path| ["--keyring".into(), path.canonicalize().unwrap_or_else(|_| path.clone())]);
    Program::new("gpgv", "gpgv").args(keyrings).args(args).run().map_err(|fault| match fault.code {
        Code::ProgramFailed => Fault { code: Code::SignatureInvalid, hint: Code::SignatureInvalid.hint().to_owned(), ..fault }
            .fact("path", suite.display().to_string()),
        _ => fault,
    })
}

fn bad(message: &str, path: &Path) -> Fault {
    Fault::new(Code::FileMismatch, message).fact("path", path.display().to_string())
}

/// The names in a folder, sorted; none if it isn't there. Hidden ones (staging) don't count.
fn names(folder: &Path) -> Result<Vec<String>> {
    let failed = |error| Fault::io("could not read a folder", folder, &error);
    let mut found = Vec::new();
    match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(failed(error)),
        Ok(entries) => {
            for entry in entries {
                found.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
            }
        }
    }
    found.retain(|name| !name.starts_with('.'));
    found.sort();
    Ok(found)
}
