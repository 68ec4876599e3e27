//! The outer ar archive of a .deb, deb(5): exactly `debian-binary`, `control.tar.gz`, `data.tar.gz`, then the exact end.

use super::invalid;
use crate::{ErrorKind, ReleaseError, Result};
use std::io::{Read, Take};

const MAGIC: &[u8] = b"!<arch>\n";
const HEADER: u64 = 60;

/// Reads members one after the other, knowing how long the file is: so that a short copy is told from a malformed one.
pub(super) struct Ar<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Ar<R> {
    /// Begins to read; `length` is the file's size.
    pub(super) fn new(reader: R, length: u64) -> Result<Self> {
        let mut ar = Ar { reader, left: length };
        let mut magic = [0; MAGIC.len()];
        ar.exact(&mut magic)?;
        if magic != MAGIC {
            return Err(invalid("it is not an ar archive"));
        }
        Ok(ar)
    }

    /// Hands the next member, which must have this name, to `read`, which must use it up.
    pub(super) fn member<T>(&mut self, name: &str, read: impl FnOnce(&mut Take<&mut R>) -> Result<T>) -> Result<T> {
        let mut header = [0; HEADER as usize];
        self.exact(&mut header)?;
        let (field, size) = (&header[..16], &header[48..58]);
        if field != format!("{name:<16}").as_bytes() {
            return Err(invalid("its parts are not the three of a package, in order, with gzip")
                .differs(name, String::from_utf8_lossy(field).trim_end()));
        }
        let size = decimal(size)
            .filter(|_| &header[58..] == b"`\n")
            .ok_or_else(|| invalid("the header of a part is malformed").fact("part", name))?;
        self.take(size)?;
        let mut member = (&mut self.reader).take(size);
        let value = read(&mut member)?;
        if member.limit() != 0 {
            return Err(invalid("something follows inside a part after its end").fact("part", name));
        }
        if size % 2 == 1 {
            let mut padding = [0];
            self.exact(&mut padding)?;
            if padding != *b"\n" {
                return Err(invalid("the padding after a part is not a line feed").fact("part", name));
            }
        }
        Ok(value)
    }

    /// Refuses anything after the last member; gives the reader back.
    pub(super) fn end(self) -> Result<R> {
        if self.left > 0 {
            return Err(invalid("something follows after its end").fact("bytes", self.left));
        }
        Ok(self.reader)
    }

    fn take(&mut self, count: u64) -> Result<()> {
        self.left =
            self.left.checked_sub(count).ok_or_else(|| ReleaseError::new(ErrorKind::FileTruncated, "the package ends too early"))?;
        Ok(())
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.take(buffer.len() as u64)?;
        self.reader.read_exact(buffer).map_err(|error| invalid("could not read it").caused(error))
    }
}

/// A number padded with blanks on the right.
fn decimal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_end_matches(' ');
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}
