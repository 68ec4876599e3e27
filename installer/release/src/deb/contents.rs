//! What is inside a .deb: reads it once, streaming, and refuses what we would never ship.
//!
//! `dpkg-deb` lists many hostile packages without complaint; dpkg then unpacks them as root. So this is stricter than dpkg by intent.

use super::ar::Ar;
use super::{Control, invalid};
use crate::hash::HashingReader;
use crate::ustar::{self, Entry, Kind};
use crate::{ReleaseError, Result};
use flate2::bufread::GzDecoder;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Of the control archive, unpacked.
const MAX_CONTROL: u64 = 4 << 20;
/// Of the data archive, unpacked: stops a compression bomb.
const MAX_DATA: u64 = 512 << 20;
/// Of names kept to find doubles.
const MAX_ENTRIES: usize = 20_000;
/// Of a file that is read into memory.
const MAX_FILE: u64 = 1 << 20;

/// What reading found.
pub(super) struct Contents {
    pub(super) size: u64,
    pub(super) sha256: String,
    pub(super) control: Control,
    pub(super) installed_bytes: u64,
}

/// Reads and checks all of it.
pub(super) fn read(path: &Path) -> Result<Contents> {
    let mut installed_bytes = 0;
    let (control, sha256, size) = walk(path, &mut |entry, _| {
        installed_bytes += entry.size;
        Ok(())
    })?;
    Ok(Contents { size, sha256, control, installed_bytes })
}

/// The content of the regular file that would be installed at `wanted`.
pub(super) fn read_file(path: &Path, wanted: &str) -> Result<Option<Vec<u8>>> {
    let mut found = None;
    walk(path, &mut |entry, content| {
        if entry.kind == Kind::File && entry.name.strip_prefix('.') == Some(wanted) {
            if entry.size > MAX_FILE {
                return Err(invalid("a file in it is too long to be read").fact("file", wanted).into());
            }
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            found = Some(bytes);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Every regular file in it: where it would be installed, and the SHA-256 of its content.
pub(super) fn files(path: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    walk(path, &mut |entry, content| {
        if entry.kind == Kind::File {
            let mut reader = HashingReader::new(content);
            std::io::copy(&mut reader, &mut std::io::sink())?;
            files.push((entry.name.strip_prefix('.').unwrap_or(&entry.name).to_owned(), reader.finish().0));
        }
        Ok(())
    })?;
    Ok(files)
}

type Visit<'a> = &'a mut dyn FnMut(&Entry, &mut dyn Read) -> Result<(), Refusal>;

fn walk(path: &Path, visit: Visit) -> Result<(Control, String, u64)> {
    let open = |error| ReleaseError::io("could not open a package", path, error);
    let file = File::open(path).map_err(open)?;
    let metadata = file.metadata().map_err(open)?;
    if !metadata.is_file() {
        return Err(invalid("it is not a file"));
    }
    let mut ar = Ar::new(HashingReader::new(BufReader::with_capacity(64 * 1024, file)), metadata.len())?;
    ar.member("debian-binary", |content| {
        let mut version = Vec::new();
        content.take(16).read_to_end(&mut version).map_err(|error| invalid("could not read it").caused(error))?;
        if version == b"2.0\n" { Ok(()) } else { Err(invalid("it is of another format than 2.0")) }
    })?;
    let control = ar.member("control.tar.gz", |content| read_control(content))?;
    ar.member("data.tar.gz", |content| read_data(content, visit))?;
    let (sha256, size) = ar.end()?.finish();
    Ok((control, sha256, size))
}

/// Inside the walk an error is ours or the reader's.
pub(super) struct Refusal(ReleaseError);

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Refusal(invalid("its archive is malformed").caused(error))
    }
}

impl From<ReleaseError> for Refusal {
    fn from(error: ReleaseError) -> Self {
        Refusal(error)
    }
}

/// Walks one gzip member that holds one tar, up to the exact end of both.
fn untar(content: impl Read, limit: u64, visit: Visit) -> Result<()> {
    let mut gzip = GzDecoder::new(BufReader::new(content));
    ustar::walk(&mut gzip, limit, visit).map_err(|Refusal(error)| error)?;
    // The end of the tar has been seen; this reads gzip's own end, with its checksum.
    let mut more = [0];
    let read = gzip.read(&mut more).map_err(|error| invalid("its compression is damaged").caused(error))?;
    let mut rest = gzip.into_inner();
    let trailing = rest.read(&mut more).map_err(|error| invalid("could not read it").caused(error))?;
    if read + trailing > 0 {
        return Err(invalid("something follows after the end of an archive"));
    }
    Ok(())
}

fn read_control(content: impl Read) -> Result<Control> {
    let mut names = Names::default();
    let mut control = None;
    untar(content, MAX_CONTROL, &mut |entry, content| {
        let name = names.add(entry)?;
        if entry.kind != Kind::File {
            return if name.is_empty() {
                Ok(())
            } else {
                Err(invalid("its control archive holds more than files").fact("file", name).into())
            };
        }
        if name == "/control" {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            control = Some(Control::parse(&bytes)?);
        } else if name.matches('/').count() > 1 {
            return Err(invalid("its control archive holds folders").fact("file", name).into());
        }
        Ok(())
    })?;
    control.ok_or_else(|| invalid("it has no control file"))
}

fn read_data(content: impl Read, visit: Visit) -> Result<()> {
    let mut names = Names::default();
    untar(content, MAX_DATA, &mut |entry, content| {
        names.add(entry)?;
        visit(entry, content)
    })
}

/// Every name seen in an archive, as an absolute path without a trailing slash, and whether it is a folder.
#[derive(Default)]
struct Names(HashMap<String, Seen>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Folder,
    /// Only seen as the folder of something else.
    Implied,
    Other,
}

impl Names {
    /// Checks one entry against the rules and those before it; gives its absolute path.
    fn add(&mut self, entry: &Entry) -> Result<String, Refusal> {
        let refuse = |why: &str| Err(Refusal(invalid(why).fact("file", &entry.name)));
        let folder = entry.kind == Kind::Folder;
        let Some(path) = absolute(&entry.name, folder) else {
            return refuse("a name in it is not a plain path from ./");
        };
        if !entry.owned_by_root {
            return refuse("a file in it does not belong to root");
        }
        match &entry.kind {
            Kind::Symlink { target } if !stays_inside(&path, target) => return refuse("a link in it leads out of the system's root"),
            Kind::Symlink { .. } => {}
            _ if entry.mode & 0o7000 != 0 => return refuse("a file in it is set-user-id, set-group-id or sticky"),
            _ if entry.mode & 0o002 != 0 => return refuse("a file in it is writable by everyone"),
            _ => {}
        }
        let mut above = path.as_str();
        while let Some((parent, _)) = above.rsplit_once('/') {
            if *self.0.entry(parent.to_owned()).or_insert(Seen::Implied) == Seen::Other {
                return refuse("a name in it goes through a link or a file");
            }
            above = parent;
        }
        let seen = if folder { Seen::Folder } else { Seen::Other };
        match self.0.insert(path.clone(), seen) {
            None => {}
            Some(Seen::Implied) if folder => {}
            Some(_) => return refuse("a name stands in it twice"),
        }
        if self.0.len() > MAX_ENTRIES {
            return refuse("it holds too many files");
        }
        Ok(path)
    }
}

/// `./usr/bin/` → `/usr/bin`; `./` → the empty path. `None` for anything that isn't a plain path.
fn absolute(name: &str, folder: bool) -> Option<String> {
    let rest = name.strip_prefix("./").or((name == ".").then_some(""))?;
    if rest.is_empty() {
        return folder.then(String::new);
    }
    let rest = if folder { rest.strip_suffix('/').unwrap_or(rest) } else { rest };
    let plain = rest.split('/').all(|part| !matches!(part, "" | "." | ".."));
    plain.then(|| format!("/{rest}"))
}

/// Whether a link's target stays below the root: an absolute one without `..`, or a relative one that doesn't climb past it.
fn stays_inside(path: &str, target: &str) -> bool {
    if target.starts_with('/') {
        return target.split('/').all(|part| part != "..");
    }
    let mut depth = path.matches('/').count() as i64 - 1;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return false;
        }
    }
    true
}
