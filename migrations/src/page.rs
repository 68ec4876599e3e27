//! How long a list may be: it ends at its limit, or at about so many bytes, whichever comes first. What a reader asks for never
//! takes more of core's memory than that.

/// A list ends with the row that brings it here. JSON of it takes a little more.
pub const PAGE_BYTES: usize = 1024 * 1024;

/// About what a row takes beside its texts.
const ROW_BYTES: usize = 128;

/// A row of a list.
pub trait Listed {
    /// Lists go on before, or after, this one.
    fn id(&self) -> i64;
    /// About what its texts take.
    fn text_bytes(&self) -> usize;
}

/// What these rows take, about.
pub(crate) fn bytes<T: Listed>(rows: &[T]) -> usize {
    rows.iter().map(|row| ROW_BYTES + row.text_bytes()).sum()
}

/// Takes rows as long as they fit; at least one, so that whoever goes on gets somewhere.
pub(crate) fn within<T: Listed>(rows: impl Iterator<Item = rusqlite::Result<T>>, most: usize) -> rusqlite::Result<Vec<T>> {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    for row in rows {
        let row = row?;
        bytes += ROW_BYTES + row.text_bytes();
        taken.push(row);
        if bytes >= most {
            break;
        }
    }
    Ok(taken)
}

/// Where a list goes on that ended before its rows did; `None` if it has them all.
pub fn next<T: Listed>(rows: &[T], limit: u32) -> Option<i64> {
    let ended = rows.len() >= limit as usize || bytes(rows) >= PAGE_BYTES;
    rows.last().filter(|_| ended).map(Listed::id)
}
