//! A .deb as a type: `Deb<Untrusted>` was read and found to be of the only shape that we ship, `Deb<Verified>` is also the very file
//! that a signed manifest names. Only the latter gives out a path to install.
//!
//! The file must stand where nobody else can change it (the installer copies it into its own folder first): it is read here, and read
//! again by dpkg.

mod ar;
mod contents;
mod control;

pub use control::Control;

use crate::{DebEntry, ErrorKind, ReleaseError, Result, sha256_file};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// Read, but vouched for by nobody.
#[derive(Debug, Clone, Copy)]
pub enum Untrusted {}
/// The file that a signed manifest names.
#[derive(Debug, Clone, Copy)]
pub enum Verified {}

/// A package file.
#[derive(Debug, Clone)]
pub struct Deb<S> {
    path: PathBuf,
    size: u64,
    sha256: String,
    control: Control,
    installed_bytes: u64,
    state: PhantomData<S>,
}

impl<S> Deb<S> {
    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The package's name.
    pub fn package(&self) -> &str {
        &self.control.package
    }

    /// The package's version.
    pub fn version(&self) -> &str {
        &self.control.version
    }

    /// A Debian architecture, or `all`.
    pub fn architecture(&self) -> &str {
        &self.control.architecture
    }

    /// The raw `Depends` field.
    pub fn depends(&self) -> Option<&str> {
        self.control.depends.as_deref()
    }

    /// 64 lower-case hex digits, over the whole file.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The sum of the sizes of the files in it, in bytes.
    pub fn installed_bytes(&self) -> u64 {
        self.installed_bytes
    }

    /// Every regular file in it, by its absolute path on a node, with the SHA-256 of its content.
    pub fn files(&self) -> Result<Vec<(String, String)>> {
        contents::files(&self.path).map_err(|error| error.path(&self.path))
    }

    /// The content of a regular file in it (at most 1 MiB), by its absolute path on a node; `None` when it holds no such file.
    pub fn read_file(&self, path: &str) -> Result<Option<Vec<u8>>> {
        contents::read_file(&self.path, path)
    }
}

impl Deb<Untrusted> {
    /// Reads the whole file once, in bounded memory, and refuses all that we would never ship: other compressions, absolute or `..`
    /// paths, devices, set-user-id bits, duplicate names, anything after the end.
    pub fn open(path: &Path) -> Result<Deb<Untrusted>> {
        let read = contents::read(path).map_err(|error| error.path(path))?;
        Ok(Deb {
            path: path.to_owned(),
            size: read.size,
            sha256: read.sha256,
            control: read.control,
            installed_bytes: read.installed_bytes,
            state: PhantomData,
        })
    }

    /// The same file, now vouched for by a signed manifest's entry: size, hash, name, version and architecture are all equal.
    pub fn verify(self, entry: &DebEntry) -> Result<Deb<Verified>> {
        check_file(&self.path, self.size, &self.sha256, entry)?;
        let fields = [
            (ErrorKind::DebInvalid, "name", &entry.package, &self.control.package),
            (ErrorKind::DebInvalid, "version", &entry.version, &self.control.version),
            (ErrorKind::DebWrongArchitecture, "architecture", &entry.architecture, &self.control.architecture),
        ];
        for (kind, what, expected, found) in fields {
            if expected != found {
                return Err(ReleaseError::new(kind, format!("the package has another {what} than its entry in the manifest"))
                    .path(&self.path)
                    .differs(expected, found));
            }
        }
        Ok(Deb {
            path: self.path,
            size: self.size,
            sha256: self.sha256,
            control: self.control,
            installed_bytes: self.installed_bytes,
            state: PhantomData,
        })
    }
}

impl Deb<Verified> {
    /// Checks size and hash against the entry first, and only then looks inside: what was damaged on the way is called truncated or
    /// mismatched instead of malformed.
    pub fn open_verified(path: &Path, entry: &DebEntry) -> Result<Deb<Verified>> {
        let (sha256, size) = sha256_file(path)?;
        check_file(path, size, &sha256, entry)?;
        Deb::<Untrusted>::open(path)?.verify(entry)
    }

    /// The path to hand to dpkg.
    pub fn installable(&self) -> &Path {
        &self.path
    }
}

pub(crate) fn invalid(why: &str) -> ReleaseError {
    ReleaseError::new(ErrorKind::DebInvalid, "the file is not a package that is installed here").fact("why", why)
}

fn check_file(path: &Path, size: u64, sha256: &str, entry: &DebEntry) -> Result<()> {
    if size < entry.size {
        return Err(ReleaseError::new(ErrorKind::FileTruncated, "a package is shorter than was signed")
            .path(path)
            .differs(entry.size, size));
    }
    if size > entry.size {
        return Err(ReleaseError::new(ErrorKind::FileMismatch, "a package is longer than was signed").path(path).differs(entry.size, size));
    }
    if sha256 != entry.sha256 {
        return Err(ReleaseError::new(ErrorKind::FileMismatch, "a package has other content than was signed")
            .path(path)
            .differs(&entry.sha256, sha256));
    }
    Ok(())
}
