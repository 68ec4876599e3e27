//! The bundle: one channel, release and architecture in one uncompressed tar, for a stick.
//!
//! The tar has one spelling: regular files only, sorted, every header a function of name and size alone, two zero blocks at the exact
//! end. So the reader compares each header with the one that it would write, and no other tar passes. Keys are not in it: what vouches
//! must not travel with what it vouches for.

use crate::{ErrorKind, ReleaseError, Result, document, signature, tree, version};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read};
use std::path::Path;

const BLOCK: usize = 512;
/// No bundle is longer.
pub const MAX_BYTES: u64 = 1 << 30;
/// Nor holds more files.
const MAX_FILES: usize = 256;

/// What a bundle holds, told by its paths alone: nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The channel's name.
    pub channel: String,
    /// The release's version.
    pub version: String,
    /// Every path, relative to the tree's root, in order.
    pub paths: Vec<String>,
}

impl Contents {
    /// Checks that the paths are one channel's and one release's, each with its signature, and packages; sorted, none twice.
    fn of(paths: Vec<String>) -> Result<Contents> {
        if !paths.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(invalid("its files are not in order, or one stands in it twice"));
        }
        let one = |wanted: fn(&Part) -> Option<&str>, what: &str| {
            let parts: Vec<Part> = paths.iter().filter_map(|path| Part::of(path)).collect();
            let found: Vec<&str> = parts.iter().filter_map(wanted).collect();
            match found[..] {
                [one] => Ok(one.to_owned()),
                _ => Err(invalid("it does not hold each document and its signature exactly once").fact("document", what)),
            }
        };
        let channel = one(|part| if let Part::Channel(name) = part { Some(name) } else { None }, "channel")?;
        let version = one(|part| if let Part::Manifest(version) = part { Some(version) } else { None }, "manifest")?;
        let signed = [tree::channel_path(&channel), tree::manifest_path(&version)].map(|path| tree::signature_path(&path));
        if paths.iter().filter(|path| path.ends_with(tree::SIGNATURE_SUFFIX)).ne(signed.iter()) {
            return Err(invalid("it does not hold each document and its signature exactly once").fact("document", "signatures"));
        }
        if !paths.iter().any(|path| matches!(Part::of(path), Some(Part::Deb))) {
            return Err(invalid("it holds no packages"));
        }
        Ok(Contents { channel, version, paths })
    }
}

/// What a path of a bundle can be.
enum Part {
    Channel(String),
    Manifest(String),
    Signature,
    Deb,
}

impl Part {
    fn of(path: &str) -> Option<Part> {
        if let Some(document) = path.strip_suffix(tree::SIGNATURE_SUFFIX) {
            return matches!(Part::of(document)?, Part::Channel(_) | Part::Manifest(_)).then_some(Part::Signature);
        }
        let (folder, name) = path.split_once('/')?;
        match folder {
            "channels" => name.strip_suffix(".toml").filter(|name| tree::is_channel_name(name)).map(|name| Part::Channel(name.to_owned())),
            "releases" => name
                .strip_suffix("/manifest.toml")
                .filter(|version| version::is_release_version(version))
                .map(|version| Part::Manifest(version.to_owned())),
            "pool" => (tree::is_file_name(name) && name.ends_with(".deb")).then_some(Part::Deb),
            _ => None,
        }
    }

    fn max_bytes(&self) -> u64 {
        match self {
            Part::Channel(_) | Part::Manifest(_) => document::MAX_BYTES as u64,
            Part::Signature => signature::MAX_BYTES as u64,
            Part::Deb => MAX_BYTES,
        }
    }
}

/// Unpacks a bundle into an existing empty folder, which then is a tree (without `dists/`) whose documents and packages are to be
/// verified as from any other source. Needs as much space as the bundle is long. On an error the folder's content is of no use.
pub fn unpack(bundle: &Path, folder: &Path) -> Result<Contents> {
    let mut entries =
        std::fs::read_dir(folder).map_err(|error| ReleaseError::io("could not read the folder to unpack into", folder, error))?;
    if entries.next().is_some() {
        return Err(ReleaseError::new(ErrorKind::Io, "the folder to unpack a bundle into is not empty").path(folder));
    }
    let open = |error| ReleaseError::io("could not open a bundle", bundle, error);
    let file = File::open(bundle).map_err(open)?;
    let length = file.metadata().map_err(open)?.len();
    if length > MAX_BYTES {
        return Err(invalid("it is too long").path(bundle).differs(format!("at most {MAX_BYTES} bytes"), length));
    }
    read(&mut BufReader::with_capacity(64 * 1024, file), &mut |path, content| write_file(&folder.join(path), content))
        .map_err(|error| error.path(bundle))
}

type Store<'a> = &'a mut dyn FnMut(&str, &mut dyn Read) -> Result<()>;

fn read(reader: &mut dyn Read, store: Store) -> Result<Contents> {
    let mut paths: Vec<String> = Vec::new();
    loop {
        let block = read_block(reader)?;
        if block == [0; BLOCK] {
            break;
        }
        let (path, size) = read_header(&block)?;
        let part = Part::of(&path).ok_or_else(|| invalid("it holds a file of another place than a release tree's").fact("file", &path))?;
        if size > part.max_bytes() {
            return Err(invalid("a file in it is too long").fact("file", &path).fact("found", size));
        }
        if paths.last().is_some_and(|last| *last >= path) || paths.len() == MAX_FILES {
            return Err(invalid("its files are not in order, one stands in it twice, or they are too many").fact("file", &path));
        }
        let mut content = reader.take(size);
        store(&path, &mut content)?;
        if content.limit() != 0 {
            return Err(truncated());
        }
        for _ in 0..padding(size) {
            let mut byte = [0];
            fill(reader, &mut byte)?;
            if byte != [0] {
                return Err(invalid("the padding after a file is not zero").fact("file", &path));
            }
        }
        paths.push(path);
    }
    if read_block(reader)? != [0; BLOCK] || reader.read(&mut [0]).map_err(|error| invalid("could not read it").caused(error))? != 0 {
        return Err(invalid("something follows after its end"));
    }
    Contents::of(paths)
}

fn read_block(reader: &mut dyn Read) -> Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    fill(reader, &mut block)?;
    Ok(block)
}

fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> Result<()> {
    reader.read_exact(buffer).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => truncated(),
        _ => invalid("could not read it").caused(error),
    })
}

/// Name and size of a header, if it is the header that [`header`] writes for them.
fn read_header(block: &[u8; BLOCK]) -> Result<(String, u64)> {
    let name = block[..100].split(|byte| *byte == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    let size = std::str::from_utf8(&block[124..135]).ok().and_then(|digits| u64::from_str_radix(digits, 8).ok());
    match size {
        Some(size) if header(&name, size).as_ref() == Some(block) => Ok((name, size)),
        _ => Err(invalid("a header in it is not one that a bundle has")),
    }
}

/// The one header for a name and a size: ustar, mode 0644, owner 0, time 0. `None` if one of them doesn't fit.
fn header(name: &str, size: u64) -> Option<[u8; BLOCK]> {
    if name.is_empty() || name.len() > 99 || size >= 1 << 33 {
        return None;
    }
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\x000000000\x000000000\x00");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\x00");
    put(148, b"        0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(block)
}

fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

fn write_file(path: &Path, content: &mut dyn Read) -> Result<()> {
    let failed = |error| ReleaseError::io("could not unpack a file", path, error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    std::io::copy(content, &mut file).map_err(failed)?;
    Ok(())
}

/// Writes a bundle of these paths of a tree. The same files give the same bytes.
#[cfg(any(test, feature = "sign"))]
pub fn write(root: &Path, mut paths: Vec<String>, out: &mut dyn std::io::Write) -> Result<Contents> {
    paths.sort();
    let contents = Contents::of(paths)?;
    for path in &contents.paths {
        let from = root.join(path);
        let failed = |error| ReleaseError::io("could not read a file for the bundle", &from, error);
        let mut file = File::open(&from).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let header =
            Part::of(path).and_then(|_| header(path, size)).ok_or_else(|| invalid("a file has no place in a bundle").path(&from))?;
        out.write_all(&header).map_err(failed_write)?;
        let copied = std::io::copy(&mut (&mut file).take(size), out).map_err(failed_write)?;
        if copied != size {
            return Err(ReleaseError::new(ErrorKind::FileTruncated, "a file became shorter while it was read").path(&from));
        }
        out.write_all(&[0; BLOCK][..padding(size)]).map_err(failed_write)?;
    }
    out.write_all(&[0; 2 * BLOCK]).map_err(failed_write)?;
    Ok(contents)
}

#[cfg(any(test, feature = "sign"))]
fn failed_write(error: std::io::Error) -> ReleaseError {
    ReleaseError::io("could not write the bundle", Path::new("the bundle"), error)
}

fn invalid(why: &str) -> ReleaseError {
    ReleaseError::new(ErrorKind::BundleInvalid, "the file is not a bundle").fact("why", why)
}

fn truncated() -> ReleaseError {
    ReleaseError::new(ErrorKind::FileTruncated, "the bundle ends too early")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");

    fn golden_paths() -> Vec<String> {
        [
            "releases/0.2.0/manifest.toml",
            "releases/0.2.0/manifest.toml.minisig",
            "channels/stable.toml",
            "channels/stable.toml.minisig",
            "pool/smolotchi_0.2.0_amd64.deb",
            "pool/smolotchi-archive-keyring_2026.1_all.deb",
        ]
        .map(str::to_owned)
        .into()
    }

    #[test]
    fn writing_the_golden_tree_gives_the_golden_bundle() {
        let golden = Path::new(GOLDEN);
        let mut bytes = Vec::new();
        write(&golden.join("tree"), golden_paths(), &mut bytes).unwrap();
        assert!(bytes == std::fs::read(golden.join("smolotchi-0.2.0-amd64.bundle")).unwrap(), "other bytes than the golden bundle");
    }

    #[test]
    fn a_bundle_must_be_whole() {
        for missing in 0..4 {
            let mut paths = golden_paths();
            let removed = paths.remove(missing);
            assert!(write(&Path::new(GOLDEN).join("tree"), paths, &mut Vec::new()).is_err(), "without {removed}");
        }
        assert!(write(&Path::new(GOLDEN).join("tree"), golden_paths()[..4].to_vec(), &mut Vec::new()).is_err(), "without packages");
    }

    #[test]
    fn a_bundle_with_anything_else_is_refused() {
        type Files = Vec<(String, Vec<u8>)>;
        let good: Files = {
            let mut paths = golden_paths();
            paths.sort();
            paths.into_iter().map(|path| (path.clone(), std::fs::read(Path::new(GOLDEN).join("tree").join(path)).unwrap())).collect()
        };
        let refused = |what: &str, change: &dyn Fn(&mut Files), why: &str| {
            let mut files = good.clone();
            change(&mut files);
            let mut bytes = Vec::new();
            for (path, content) in &files {
                bytes.extend_from_slice(&header(path, content.len() as u64).unwrap());
                bytes.extend_from_slice(content);
                bytes.resize(bytes.len() + padding(content.len() as u64), 0);
            }
            bytes.resize(bytes.len() + 2 * BLOCK, 0);
            match read(&mut bytes.as_slice(), &mut |_, content| {
                std::io::copy(content, &mut std::io::sink()).map(drop).map_err(failed_write)
            }) {
                Ok(_) => assert_eq!(why, "", "{what} was taken"),
                Err(error) => assert!(!why.is_empty() && error.to_string().contains(why), "{what}: {error}"),
            }
        };
        refused("nothing changed", &|_| {}, "");
        refused("a file twice", &|files| files.insert(1, files[0].clone()), "not in order");
        refused("another order", &|files| files.swap(0, 1), "not in order");
        refused("a second release", &|files| files.push(("releases/0.3.0/manifest.toml".into(), vec![1])), "exactly once");
        refused("a second channel", &|files| files.insert(0, ("channels/edge.toml".into(), vec![1])), "exactly once");
        refused("no packages", &|files| files.retain(|(path, _)| !path.starts_with("pool/")), "no packages");
        refused("a long signature", &|files| files[1].1.resize(2000, b'x'), "too long");
        refused("an empty bundle", &Files::clear, "exactly once");
        for path in [
            "dists/stable/Release",
            "keys/smolotchi.pub",
            "/etc/passwd",
            "../x.deb",
            "pool/../x.deb",
            "pool/x/y.deb",
            "pool/.x.deb",
            "pool/x",
            "x",
        ] {
            refused(path, &|files| files.insert(0, (path.into(), vec![1])), "another place");
        }
    }
}
