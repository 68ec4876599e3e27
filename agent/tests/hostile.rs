//! What web answers to those who mean it harm, byte by byte: requests that two programs could read in two ways, paths that lead out,
//! names that aren't ours, and whatever a seeded generator makes of them. Many callers at once and slow ones: tests/suites/web.rs.
//!
//! Debian has no well-kept tool that makes broken HTTP requests from a seed (zzuf only flips bits, ffuf only sends whole ones).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

#[path = "../src/ai/dice.rs"]
mod dice;
mod node;

use dice::Dice;
use node::{DEADLINE, Node, STRANGER, Service};
use std::io::{Read, Write};
use std::net::TcpStream;

/// The strict headers, in lower case.
const STRICT: [&str; 8] = [
    "\r\ncontent-security-policy: default-src 'none'; ",
    "\r\nx-content-type-options: nosniff\r\n",
    "\r\nx-frame-options: deny\r\n",
    "\r\nreferrer-policy: no-referrer\r\n",
    "\r\ncache-control: no-store\r\n",
    "\r\ncross-origin-opener-policy: same-origin\r\n",
    "\r\ncross-origin-resource-policy: same-origin\r\n",
    "\r\nconnection: close\r\n",
];

struct Web {
    service: Service,
    address: String,
}

impl Web {
    fn start(node: &Node) -> Web {
        let service = Service::start(node.as_uid(&["web", "--listen", "127.0.0.1:0"], STRANGER));
        let address = service.wait_for_line("is ready at").rsplit(' ').next().unwrap().to_owned();
        Web { service, address }
    }

    /// All that comes back. A write may fail, as who was refused is not read on.
    fn say(&self, bytes: &[u8], goes_on: bool) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let _ = stream.write_all(bytes);
        if !goes_on {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{:?}", String::from_utf8_lossy(bytes));
        }
        answer
    }
}

/// The status of exactly one whole answer with all strict headers, or a description of what is wrong with it.
fn judge(answer: &[u8]) -> Result<u16, String> {
    let text = std::str::from_utf8(answer).map_err(|_| "not text")?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no head")?;
    let head = format!("{}\r\n", head.to_lowercase());
    for header in STRICT {
        // HTTP/1.0 has no other connections.
        if head.matches(header).count() != 1 && !(header.contains("connection") && head.starts_with("http/1.0")) {
            return Err(format!("not once: {header:?}"));
        }
    }
    for never in ["set-cookie", "server:", "access-control-", "location:", "transfer-encoding"] {
        if head.contains(never) {
            return Err(format!("{never} in the head"));
        }
    }
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()).and_then(|text| text.parse().ok());
    let status = text.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).ok_or("no status")?;
    // Of HEAD, the length is of what GET would get.
    if !body.is_empty() && length != Some(body.len()) {
        return Err(format!("{length:?} announced, {} sent", body.len()));
    }
    if body.contains("root:") {
        return Err("a file of the machine".into());
    }
    Ok(status)
}

fn get(path: &str, rest: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{rest}\r\n")
}

#[test]
fn every_answer_to_a_hostile_request_is_one_refusal_with_the_strict_headers() {
    let node = Node::new();
    let web = Web::start(&node);
    let css = "/style.css";
    let smuggled = "GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut cases: Vec<(String, u16)> = vec![
        (get(css, ""), 200),
        // Two opinions on where a request ends.
        (get(css, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n" + smuggled, 400),
        (get(css, &format!("Content-Length: {}\r\n", smuggled.len())) + smuggled, 413),
        (get(css, &format!("Content-Length: 0\r\nContent-Length: {}\r\n", smuggled.len())) + smuggled, 400),
        (get(css, "Transfer-Encoding: xchunked\r\n") + smuggled, 400),
        (get(css, "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n") + "0\r\n\r\n", 400),
        (get(css, "Transfer-Encoding:\u{b}chunked\r\n"), 400),
        (get(css, "X: y\r\n Transfer-Encoding: chunked\r\n"), 400),
        (get(css, "Transfer-Encoding : chunked\r\n"), 400),
        (get(css, "X: y\nTransfer-Encoding: chunked\r\n"), 400),
        (get(css, "Transfer-Encoding: chunked\r\n") + "1;x=\"\n\r\n\"\r\nx\r\n0\r\n\r\n", 400),
        // One answer to each connection, whatever comes behind the request.
        (get(css, "") + smuggled + smuggled, 200),
        (get(css, "Connection: keep-alive\r\n") + smuggled, 200),
        (get(css, "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), 200),
        (get(css, "Expect: 100-continue\r\n"), 200),
        (get(css, "Content-Length: 9\r\nExpect: 100-continue\r\n"), 413),
        // Targets and names.
        (format!("GET http://localhost{css} HTTP/1.1\r\nHost: localhost\r\n\r\n"), 200),
        (format!("GET http://evil.example{css} HTTP/1.1\r\nHost: localhost\r\n\r\n"), 421),
        (format!("GET {css} HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 421),
        (format!("GET {css} HTTP/1.1\r\n\r\n"), 400),
        (format!("GET {css} HTTP/1.0\r\n\r\n"), 400),
        (format!("GET {css} HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"), 400),
        (format!("GET {css} HTTP/1.1\r\nHost: localhost, evil.example\r\n\r\n"), 421),
        (format!("GET {css} HTTP/1.1\r\nHost:\r\n\r\n"), 421),
        (get(css, "X-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n"), 200),
        ("CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 405),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 405),
        ("TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 405),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0".into(), 505),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}".into(), 400),
        ("\0".into(), 400),
        // Too much of it.
        (get(&format!("/{}", "x".repeat(3000)), ""), 414),
        (format!("GET /{}", "x".repeat(9000)), 414),
        (get(css, &"X: y\r\n".repeat(65)), 431),
        (get(css, &format!("X: {}\r\n", "y".repeat(17_000))), 431),
    ];
    for path in [
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/%252e%252e%252fetc%252fpasswd",
        "/..\\..\\etc\\passwd",
        "/..%5c..%5cetc%5cpasswd",
        "/%00",
        "/style.css%00.html",
        "/findings/..%2f..%2fetc%2fpasswd",
        "/artifacts/%2e%2e%2f1",
        "/..;/etc/passwd",
        "//etc/passwd",
        "/.git/config",
        "/%c0%ae%c0%ae/etc/passwd",
        "/\u{202e}",
    ] {
        cases.push((get(path, ""), 404));
    }
    for (request, expected) in &cases {
        let answer = web.say(request.as_bytes(), true);
        assert_eq!(judge(&answer), Ok(*expected), "{request:?}: {}", String::from_utf8_lossy(&answer));
        let allows = String::from_utf8_lossy(&answer).to_lowercase().contains("\r\nallow: get, head\r\n");
        assert_eq!(allows, *expected == 405, "{request:?}");
    }
    assert_eq!(web.say(b"", false), b"", "who says nothing is told nothing");
}

impl Dice {
    fn index(&mut self, limit: usize) -> usize {
        self.below(limit as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.index(all.len())]
    }

    /// A request that is right, wrong in one place, or in many.
    fn request(&mut self) -> Vec<u8> {
        let method = self.of(&["GET", "GET", "GET", "HEAD", "POST", "get", "G\tT", "", "CONNECT", "PRI"]);
        let target = self.of(&[
            "/style.css",
            "/",
            "/api/now",
            "*",
            "http://localhost/",
            "//localhost/",
            "localhost:80",
            "/%",
            "/?%00=%ff",
            "/findings/1;x",
        ]);
        let version = self.of(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "", "http/1.1"]);
        let mut text = format!("{method} {target} {version}\r\nHost: localhost\r\n").into_bytes();
        for _ in 0..self.index(5) {
            let name = self.of(&[
                "Host",
                "Content-Length",
                "Transfer-Encoding",
                "Connection",
                "Cookie",
                "X",
                "",
                "Authorization",
                "Expect",
                "Range",
            ]);
            let colon = self.of(&[":", ": ", ":\t", " : ", "", ":: "]);
            let value = self.of(&[
                "localhost",
                "0",
                "5",
                "-1",
                "chunked",
                "close",
                "a, b",
                "\"",
                "",
                "100-continue",
                "bytes=0-1",
                "99999999999999999999",
            ]);
            let end = self.of(&["\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n ", "\r\r\n", "\0\r\n"]);
            text.extend_from_slice([name, colon, value, end].concat().as_bytes());
        }
        text.extend_from_slice(self.of(&["\r\n", "\r\n", "\r\n", "\n\n", "\r\n\r\n5\r\nhello\r\n0\r\n\r\n", ""]).as_bytes());
        for _ in 0..[0, 0, 1, 3][self.index(4)] {
            let at = self.index(text.len());
            match self.index(3) {
                0 => text[at] = self.index(256) as u8,
                1 => drop(text.remove(at)),
                _ => text.insert(at, self.index(256) as u8),
            }
        }
        text
    }
}

/// REQUESTS of them (500), always the same ones (SEED=1).
#[test]
fn no_request_gets_anything_but_one_answer_with_the_strict_headers() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (seed, requests) = (number("SEED", 1), number("REQUESTS", 500));
    let node = Node::new();
    let _core = node.core();
    let web = Web::start(&node);
    let mut dice = Dice::new(seed);
    let mut seen = std::collections::BTreeMap::<u16, u32>::new();
    for nth in 0..requests {
        let request = dice.request();
        let answer = web.say(&request, false);
        let about =
            || format!("SEED={seed}, request {nth}: {:?}: {:?}", String::from_utf8_lossy(&request), String::from_utf8_lossy(&answer));
        // Who hangs up in the middle of a request is told nothing.
        let status = if answer.is_empty() { 0 } else { judge(&answer).unwrap_or_else(|wrong| panic!("{wrong}: {}", about())) };
        assert!([0, 200, 400, 404, 405, 413, 414, 421, 431, 503, 505].contains(&status), "{}", about());
        *seen.entry(status).or_default() += 1;
    }
    eprintln!("{seen:?}");
    assert!([200, 400, 405, 505].iter().all(|status| seen.contains_key(status)), "every kind of answer was seen: {seen:?}");
    assert_eq!(judge(&web.say(get("/style.css", "").as_bytes(), true)), Ok(200), "and it still answers");
    web.service.stop();
}
