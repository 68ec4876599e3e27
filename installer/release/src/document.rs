//! What every TOML document of ours has in common: a size limit, UTF-8, strict keys, and its kind.

use crate::{ErrorKind, PRODUCT, ReleaseError, Result};
use serde::de::DeserializeOwned;

/// No document of ours is longer.
pub(crate) const MAX_BYTES: usize = 256 * 1024;

/// Parses a document; every refusal has `kind`.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], kind: ErrorKind, what: &str) -> Result<T> {
    if bytes.len() > MAX_BYTES {
        return Err(ReleaseError::new(kind, format!("{what} is too long")).differs(format!("at most {MAX_BYTES} bytes"), bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| ReleaseError::new(kind, format!("{what} is not UTF-8")).caused(error))?;
    toml::from_str(text).map_err(|error| ReleaseError::new(kind, format!("could not read {what}")).caused(error))
}

/// Checks the two fields that stop a signature for one thing from passing for another.
pub(crate) fn check_kind(expected: &str, kind: &str, product: &str, error: ErrorKind) -> Result<()> {
    if kind != expected {
        return Err(ReleaseError::new(error, "the document is of another kind or a later format").differs(expected, kind));
    }
    if product != PRODUCT {
        return Err(ReleaseError::new(error, "the document is for another product").differs(PRODUCT, product));
    }
    Ok(())
}

/// Writes a document.
pub(crate) fn write<T: serde::Serialize>(value: &T, kind: ErrorKind, what: &str) -> Result<String> {
    toml::to_string(value).map_err(|error| ReleaseError::new(kind, format!("could not write {what}")).caused(error))
}
