//! The head of a request, judged before anything else reads it: what a proxy in front could read otherwise than this program does
//! is refused, and so is what no reader of pages sends.
//!
//! Pure. Stricter than the parser that reads the head again: what is let through here is read by it in one way.

use axum::http::{StatusCode, Uri};
use httparse::{EMPTY_HEADER, Error, Request};

/// The largest head.
pub(super) const HEAD_BYTES: usize = 16 * 1024;
/// The longest first line.
const LINE_BYTES: usize = 4 * 1024;
/// The most headers.
const HEADERS: usize = 64;

/// Why there is no answer but this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// For people: one sentence.
    pub(super) why: &'static str,
}

const fn refusal(status: StatusCode, why: &'static str) -> Refusal {
    Refusal { status, why }
}

/// Where the head ends in `bytes`, of which the first `seen` were looked at before; `None` when more has to come. Garbage is refused at its
/// first byte.
pub(super) fn end(bytes: &[u8], seen: usize) -> Result<Option<usize>, Refusal> {
    for at in seen..bytes.len() {
        let before = at.checked_sub(1).map(|at| bytes[at]);
        let fits = match bytes[at] {
            b'\n' => before == Some(b'\r'),
            _ if before == Some(b'\r') => false,
            b'\r' | b'\t' => true,
            byte => !byte.is_ascii_control(),
        };
        if !fits {
            return Err(refusal(StatusCode::BAD_REQUEST, "This is no request: a line ends in CR LF, and there are no control characters."));
        }
        if bytes[..=at].ends_with(b"\r\n\r\n") {
            return Ok(Some(at + 1));
        }
        if at == LINE_BYTES && !bytes[..at].contains(&b'\n') {
            return Err(refusal(StatusCode::URI_TOO_LONG, "This address is too long."));
        }
        if at + 1 >= HEAD_BYTES {
            return Err(refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "These headers are too large."));
        }
    }
    Ok(None)
}

/// Whether a whole head is one request to read something, without a body, for one host.
pub(super) fn judge(head: &[u8]) -> Result<(), Refusal> {
    let bad = |why| Err(refusal(StatusCode::BAD_REQUEST, why));
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut request = Request::new(&mut headers);
    match request.parse(head) {
        Ok(status) if status.is_complete() => {}
        Err(Error::TooManyHeaders) => {
            return Err(refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "These are too many headers."));
        }
        Err(Error::Version) => {
            return Err(refusal(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "This is not HTTP/1.1 or HTTP/1.0."));
        }
        _ => return bad("This is no request."),
    }
    if !matches!(request.method, Some("GET" | "HEAD")) {
        return Err(refusal(StatusCode::METHOD_NOT_ALLOWED, "This page can only be read."));
    }
    let target = request.path.unwrap_or_default();
    match target.parse::<Uri>() {
        // An absolute one names a host of its own, which the guard looks at.
        Ok(uri) if target.starts_with('/') || matches!(uri.scheme_str(), Some("http" | "https")) => {}
        _ => return bad("This is no address of a page."),
    }
    let given = |name| request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value);
    if given("host").count() != 1 {
        return bad("A request names one host.");
    }
    if given("transfer-encoding").count() > 0 || given("content-length").count() > 1 {
        return bad("A request to read a page has no body.");
    }
    match given("content-length").next() {
        None | Some(b"0") => Ok(()),
        Some(length) if length.iter().all(u8::is_ascii_digit) && !length.is_empty() => {
            Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, "A request to read a page has no body."))
        }
        Some(_) => bad("A request to read a page has no body."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status of the refusal, 200 for what is let through, 0 for what is not whole. Looked at byte by byte and at once.
    fn status(text: &[u8]) -> u16 {
        let at_once = end(text, 0);
        let by_bytes = (1..=text.len()).map(|to| end(&text[..to], to - 1)).find(|it| *it != Ok(None)).unwrap_or(Ok(None));
        assert_eq!(at_once, by_bytes, "{:?}", String::from_utf8_lossy(text));
        match at_once.and_then(|end| end.map(|end| judge(&text[..end])).transpose()) {
            Ok(None) => 0,
            Ok(Some(())) => 200,
            Err(refusal) => refusal.status.as_u16(),
        }
    }

    #[test]
    fn one_request_that_reads_is_let_through_and_nothing_else() {
        let cases: &[(&str, u16)] = &[
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200),
            ("HEAD /a?b=c HTTP/1.0\r\nhost: x\r\n\r\n", 200),
            ("GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\nHost: x\r\nCookie: \u{e9}\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\nHost: x\r\n", 0),
            ("", 0),
            // Ends of lines, and what is hidden in them.
            ("GET / HTTP/1.1\nHost: x\n\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 400),
            ("GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            // Bodies, and two opinions on where one ends.
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd", 413),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 4\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\tidentity\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\ntRANSFER-eNCODING: xchunked\r\n\r\n", 400),
            // Hosts.
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nhOST: y\r\n\r\n", 400),
            // Targets.
            ("GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET file:///etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET ../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 505),
            ("CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
            ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 405),
            ("TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
            ("get / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd", 405),
            // What isn't HTTP/1.
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            ("GET / HTTP/3\r\nHost: x\r\n\r\n", 505),
            ("GET /\r\n\r\n", 400),
            ("\u{16}\u{3}\u{1}", 400),
            ("G\u{1}", 400),
        ];
        for (text, expected) in cases {
            assert_eq!(status(text.as_bytes()), *expected, "{text:?}");
        }
        let headers = |count: usize| format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(count));
        assert_eq!((status(headers(HEADERS - 1).as_bytes()), status(headers(HEADERS).as_bytes())), (200, 431));
        let long = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(length));
        assert_eq!((status(long(LINE_BYTES - 20).as_bytes()), status(long(LINE_BYTES).as_bytes())), (200, 414));
        let large = |length: usize| format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(length));
        assert_eq!((status(large(HEAD_BYTES - 40).as_bytes()), status(large(HEAD_BYTES).as_bytes())), (200, 431));
    }
}
