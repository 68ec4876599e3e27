//! A strict reader of tar: the part of the format on which all readers agree, and nothing else.
//!
//! Regular files, folders and symbolic links, in v7 (cargo-deb's), ustar or GNU headers; no long-name or pax records, whose reading differs from one
//! program to the next. Streaming; memory doesn't grow with the archive.

use std::io::{self, Read};

const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Symlink { target: String },
}

/// One entry's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As written, for example `./usr/bin/`.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// In bytes; 0 unless it is a file.
    pub(crate) size: u64,
    pub(crate) mode: u32,
    /// Numbers 0 and names empty or `root`.
    pub(crate) owned_by_root: bool,
}

/// Hands each entry to `visit`, with its content (which `visit` needn't use up), then demands the exact end: two blocks of zeros,
/// further zeros up to a record of 20 blocks, nothing else. `limit` bounds the archive's length in bytes.
pub(crate) fn walk<R: Read, E: From<io::Error>>(
    reader: R,
    limit: u64,
    mut visit: impl FnMut(&Entry, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut reader = reader.take(limit);
    let mut block = [0; BLOCK];
    loop {
        reader.read_exact(&mut block).map_err(|error| early(error, "the archive ends too early"))?;
        if block == [0; BLOCK] {
            return Ok(check_end(&mut reader)?);
        }
        let entry = parse(&block)?;
        let mut content = (&mut reader).take(entry.size);
        visit(&entry, &mut content)?;
        io::copy(&mut content, &mut io::sink())?;
        if content.limit() != 0 {
            return Err(malformed("the archive ends inside a file").into());
        }
        let mut padding = [0; BLOCK];
        let padding = &mut padding[..(BLOCK - (entry.size % BLOCK as u64) as usize) % BLOCK];
        reader.read_exact(padding).map_err(|error| early(error, "the archive ends too early"))?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(malformed("the padding after a file is not zero").into());
        }
    }
}

fn check_end(reader: &mut impl Read) -> io::Result<()> {
    let mut rest = Vec::new();
    // One more block of zeros must come; GNU tar then fills its record of 20 blocks.
    reader.take(21 * BLOCK as u64).read_to_end(&mut rest)?;
    if rest.len() < BLOCK || rest.len() % BLOCK != 0 || rest.len() > 20 * BLOCK || rest.iter().any(|byte| *byte != 0) {
        return Err(malformed("the archive does not end in zeros"));
    }
    Ok(())
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn early(error: io::Error, what: &str) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof { malformed(what) } else { error }
}

fn parse(block: &[u8; BLOCK]) -> io::Result<Entry> {
    let sum: u64 = block.iter().enumerate().map(|(i, byte)| if (148..156).contains(&i) { 32 } else { u64::from(*byte) }).sum();
    if octal(&block[148..156])? != sum {
        return Err(malformed("a header's checksum is wrong"));
    }
    let (gnu, posix) = (&block[257..265] == b"ustar  \0", &block[257..265] == b"ustar\x0000");
    let v7 = block[257..].iter().all(|byte| *byte == 0);
    if !gnu && !posix && !v7 {
        return Err(malformed("a header is neither v7, ustar nor GNU"));
    }
    // Where ustar has a prefix of the name, GNU has times and sparse maps.
    let prefix = if posix { text(&block[345..500])? } else { String::new() };
    if gnu && block[345..500].iter().any(|byte| *byte != 0) {
        return Err(malformed("a GNU header with extensions"));
    }
    let mut name = text(&block[..100])?;
    if !prefix.is_empty() {
        name = format!("{prefix}/{name}");
    }
    let size = octal(&block[124..136])?;
    let target = text(&block[157..257])?;
    let kind = match block[156] {
        b'0' => Kind::File,
        0 if v7 => Kind::File,
        b'5' => Kind::Folder,
        b'2' => Kind::Symlink { target: target.clone() },
        other => return Err(malformed(&format!("an entry of type {:?}, which is not shipped", char::from(other)))),
    };
    match kind {
        Kind::Symlink { .. } if target.is_empty() => return Err(malformed("a link to nowhere")),
        Kind::File | Kind::Folder if !target.is_empty() => return Err(malformed("a file with a link's target")),
        Kind::Folder | Kind::Symlink { .. } if size != 0 => return Err(malformed("a folder or link with content")),
        _ => {}
    }
    let owner = |field: &[u8]| text(field).map(|name| name.is_empty() || name == "root");
    // cargo-deb leaves the numbers out, which all readers take for 0.
    let root = |field: &[u8]| Ok::<_, io::Error>(field.iter().all(|byte| *byte == 0) || octal(field)? == 0);
    let owned_by_root = root(&block[108..116])? && root(&block[116..124])? && owner(&block[265..297])? && owner(&block[297..329])?;
    // Twelve bits at most; what dpkg would do with more is not worth knowing.
    let mode =
        u32::try_from(octal(&block[100..108])?).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| malformed("an impossible mode"))?;
    Ok(Entry { name, kind, size, mode, owned_by_root })
}

/// Octal digits, then only NULs and blanks.
fn octal(field: &[u8]) -> io::Result<u64> {
    let end = field.iter().position(|byte| !(b'0'..=b'7').contains(byte)).unwrap_or(field.len());
    let (digits, rest) = field.split_at(end);
    if digits.is_empty() || rest.iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return Err(malformed("a number in a header is malformed"));
    }
    Ok(digits.iter().fold(0, |value, digit| value * 8 + u64::from(digit - b'0')))
}

/// Visible ASCII, then only NULs.
fn text(field: &[u8]) -> io::Result<String> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let (name, rest) = field.split_at(end);
    if rest.iter().any(|byte| *byte != 0) || !name.iter().all(u8::is_ascii_graphic) {
        return Err(malformed("a name in a header is malformed"));
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}
