//! The apt repository's suite of a channel: Packages by apt-ftparchive, by-hash, Release signed.
//!
//! by-hash holds SHA256, the strongest hash listed; the lists of the publication before stay in it, so that an `apt update` which runs
//! meanwhile still finds what its Release names.

use super::fault::{input, make_folder, read};
use super::keys::Keys;
use super::program::Program;
use super::publish::put;
use super::staging::Staging;
use super::{debs, time};
use flate2::{Compression, GzBuilder};
use jiff::Timestamp;
use smolotchi_operator::{Fault, Result};
use smolotchi_release::{Manifest, hash, version};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Lists of one architecture, relative to the suite's folder.
fn lists(architecture: &str) -> String {
    format!("main/binary-{architecture}")
}

/// One suite.
pub(crate) struct Suite<'a> {
    /// The tree's root.
    pub(crate) root: &'a Path,
    /// The channel's name.
    pub(crate) name: &'a str,
    /// For its Release.
    pub(crate) date: Timestamp,
}

impl Suite<'_> {
    /// Adds a release's packages to those that the suite has. Gives the versions of Smolotchi that it then has, oldest first.
    pub(crate) fn publish(&self, manifest: &Manifest, keys: &Keys, staging: &Staging) -> Result<Vec<String>> {
        let dists = format!("dists/{}", self.name);
        let mut files: BTreeSet<String> = manifest.debs.iter().map(|deb| deb.path.clone()).collect();
        let before = self.lists_now(&self.root.join(&dists))?;
        for (_, bytes) in before.iter().filter(|(name, _)| name.ends_with("/Packages")) {
            files.extend(
                paragraphs(&String::from_utf8_lossy(bytes)).filter_map(|paragraph| field(paragraph, "Filename").map(str::to_owned)),
            );
        }
        let pool = staging.folder("suite/pool")?;
        let all: Vec<&str> = files.iter().filter_map(|path| path.strip_prefix("pool/")).collect();
        for name in &all {
            let from = self.root.join("pool").join(name);
            // Not every file system has links (a stick's doesn't).
            std::fs::hard_link(&from, pool.join(name))
                .or_else(|_| std::fs::copy(&from, pool.join(name)).map(drop))
                .map_err(|error| Fault::io("could not take a package into the suite", &from, &error))?;
        }
        let architectures: BTreeSet<&str> = all
            .iter()
            .filter_map(|name| name.strip_suffix(".deb")?.rsplit_once('_').map(|(_, arch)| arch))
            .filter(|arch| *arch != "all")
            .collect();
        if architectures.is_empty() {
            return Err(input("the release has packages for no architecture"));
        }

        let stage = staging.folder("suite")?;
        let folder = staging.folder("suite/dists")?;
        let mut versions = BTreeMap::new();
        let mut new = BTreeMap::new();
        for architecture in &architectures {
            let text = packages(&stage, architecture)?;
            for paragraph in paragraphs(&text).filter(|paragraph| field(paragraph, "Package") == Some(debs::MAIN)) {
                let version = field(paragraph, "Version").unwrap_or_default().to_owned();
                versions.insert(version.clone(), version);
            }
            let lists = lists(architecture);
            new.insert(format!("{lists}/Packages.gz"), gzip(text.as_bytes())?);
            new.insert(format!("{lists}/Packages"), text.into_bytes());
        }
        for (name, bytes) in &new {
            put(&folder, name, bytes)?;
        }
        self.release(&folder, &architectures, keys)?;

        for (name, bytes) in before.iter().chain(&new) {
            put(self.root, &format!("{dists}/{}", by_hash(name, bytes)), bytes)?;
        }
        for (name, bytes) in &new {
            put(self.root, &format!("{dists}/{name}"), bytes)?;
        }
        for name in ["Release", "Release.gpg", "InRelease"] {
            put(self.root, &format!("{dists}/{name}"), &read(&folder.join(name))?)?;
        }
        let keep: BTreeSet<PathBuf> =
            before.iter().chain(&new).map(|(name, bytes)| self.root.join(&dists).join(by_hash(name, bytes))).collect();
        for architecture in &architectures {
            sweep(&self.root.join(&dists).join(lists(architecture)).join("by-hash/SHA256"), &keep)?;
        }
        let mut versions: Vec<String> = versions.into_values().collect();
        versions.sort_by(|a, b| version::compare(a, b));
        Ok(versions)
    }

    /// The lists that the suite has now, by name.
    fn lists_now(&self, suite: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut found = BTreeMap::new();
        let Ok(entries) = std::fs::read_dir(suite.join("main")) else {
            return Ok(found);
        };
        for entry in entries {
            let folder = entry.map_err(|error| Fault::io("could not read a suite", suite, &error))?;
            for file in ["Packages", "Packages.gz"] {
                let name = format!("main/{}/{file}", folder.file_name().to_string_lossy());
                found.insert(name.clone(), read(&suite.join(&name))?);
            }
        }
        Ok(found)
    }

    fn release(&self, folder: &Path, architectures: &BTreeSet<&str>, keys: &Keys) -> Result<()> {
        let architectures: Vec<&str> = architectures.iter().copied().collect();
        let settings = [
            ("Release::Origin", "Smolotchi".to_owned()),
            ("Release::Label", "Smolotchi".to_owned()),
            ("Release::Suite", self.name.to_owned()),
            ("Release::Codename", self.name.to_owned()),
            ("Release::Description", format!("Smolotchi, channel {}", self.name)),
            ("Release::Architectures", architectures.join(" ")),
            ("Release::Components", "main".to_owned()),
            ("Release::Acquire-By-Hash", "yes".to_owned()),
            ("Release::Date", time::rfc2822(self.date)),
        ];
        let options = settings.iter().flat_map(|(name, value)| ["-o".to_owned(), format!("APT::FTPArchive::{name}={value}")]);
        let text = ftparchive().args(options).args(["release", "."]).folder(folder).run()?;
        let path = folder.join("Release");
        std::fs::write(&path, text).map_err(|error| Fault::io("could not write a file", &path, &error))?;
        keys.openpgp(&path)
    }
}

/// Without the hashes that nobody should trust any more, and with one strongest: by-hash must hold that one.
fn ftparchive() -> Program {
    let off = ["MD5", "SHA1", "SHA512"].into_iter().flat_map(|hash| ["-o".to_owned(), format!("APT::FTPArchive::{hash}=false")]);
    Program::new("apt-ftparchive", "apt-utils").args(off)
}

/// The Packages file of an architecture, of all that lies in `pool`. apt-ftparchive lists in the folder's order, which is none.
fn packages(stage: &Path, architecture: &str) -> Result<String> {
    let text = ftparchive().args(["--arch", architecture, "packages", "pool"]).folder(stage).run()?;
    let text = String::from_utf8(text).map_err(|error| input("a package's control file is not UTF-8").cause(&error))?;
    let mut all: Vec<&str> = paragraphs(&text).collect();
    all.sort_by_key(|paragraph| field(paragraph, "Filename").unwrap_or_default().to_owned());
    Ok(all.iter().map(|paragraph| format!("{paragraph}\n\n")).collect())
}

/// The paragraphs of a list, without the empty lines between.
pub(crate) fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").map(|paragraph| paragraph.trim_matches('\n')).filter(|paragraph| !paragraph.is_empty())
}

/// A one-line field of a paragraph.
pub(crate) fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Where a list stands by its hash.
pub(crate) fn by_hash(name: &str, bytes: &[u8]) -> String {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/by-hash/SHA256/{}", hash::sha256_bytes(bytes))
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    // No time and no name in the header: the same list gives the same bytes.
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(|error| input("could not compress a list").cause(&error))
}

/// Removes lists that neither this publication nor the one before names.
fn sweep(folder: &Path, keep: &BTreeSet<PathBuf>) -> Result<()> {
    make_folder(folder)?;
    let failed = |error| Fault::io("could not read a folder of lists", folder, &error);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !keep.contains(&path) {
            std::fs::remove_file(&path).map_err(|error| Fault::io("could not remove an old list", &path, &error))?;
        }
    }
    Ok(())
}
