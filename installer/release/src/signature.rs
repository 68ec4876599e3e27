//! Detached minisign signatures, in the one strict form that minisign writes: four lines, LF only, prehashed.
//!
//! The verifying crate accepts more (CRLF, a BOM, further lines, legacy signatures, endless comments); here each is refused
//! before it sees them. The trusted comment is checked but never shown.

use crate::trust::KeyId;
use crate::{ErrorKind, ReleaseError, Result, Trust};
use base64::{Engine, engine::general_purpose::STANDARD};
use minisign_verify::Signature;

/// No signature file is longer.
pub const MAX_BYTES: usize = 1024;

/// Which trusted key signed exactly `document`.
pub fn verify(trust: &Trust, document: &[u8], signature: &[u8]) -> Result<KeyId> {
    if trust.is_empty() {
        return Err(ReleaseError::new(ErrorKind::NoTrust, "there is no trusted key to check the signature with"));
    }
    let (id, signature) = parse(signature)?;
    let mut keys = trust.of(id).peekable();
    if keys.peek().is_none() {
        return Err(ReleaseError::new(ErrorKind::SignatureUnknownKey, "the signature is by a key that is not trusted here").fact("key", id));
    }
    // Two keys may share a name, by accident or by malice; any of them that really signed is good.
    if keys.any(|key| key.verify(document, &signature, false).is_ok()) {
        return Ok(id);
    }
    Err(ReleaseError::new(ErrorKind::SignatureInvalid, "the signature does not belong to this document").fact("key", id))
}

fn malformed(why: &str) -> ReleaseError {
    ReleaseError::new(ErrorKind::SignatureMalformed, "the signature file is malformed").fact("why", why)
}

fn parse(bytes: &[u8]) -> Result<(KeyId, Signature)> {
    if bytes.len() > MAX_BYTES {
        return Err(malformed("longer than 1 KiB"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("not text"))?;
    // Control characters would let one line look like two, on a terminal or to another parser.
    if text.bytes().any(|b| (b < b' ' && b != b'\n' && b != b'\t') || b == 0x7f) {
        return Err(malformed("control characters"));
    }
    let body = text.strip_suffix('\n').ok_or_else(|| malformed("its last line does not end"))?;
    let lines: Vec<&str> = body.split('\n').collect();
    let [untrusted, signature, trusted, global] = lines[..] else {
        return Err(malformed("not exactly four lines"));
    };
    if !untrusted.starts_with("untrusted comment: ") {
        return Err(malformed("its first line is not an untrusted comment"));
    }
    if !trusted.starts_with("trusted comment: ") {
        return Err(malformed("its third line is not a trusted comment"));
    }
    // This base64 refuses blanks, missing padding and stray bits, so each signature has one spelling.
    let raw = STANDARD.decode(signature).map_err(|_| malformed("its second line is not base64"))?;
    let whole = STANDARD.decode(global).map_err(|_| malformed("its fourth line is not base64"))?;
    if raw.len() != 74 || whole.len() != 64 {
        return Err(malformed("a signature of another length"));
    }
    match &raw[..2] {
        b"ED" => {}
        b"Ed" => return Err(malformed("not prehashed; sign with minisign 0.10 or later")),
        _ => return Err(malformed("another algorithm")),
    }
    let mut id = [0; 8];
    id.copy_from_slice(&raw[2..10]);
    let signature = Signature::decode(text).map_err(|_| malformed("not a minisign signature"))?;
    Ok((KeyId(id), signature))
}
