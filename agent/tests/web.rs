//! The page as a browser meets it, with core up and down.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod node;

use node::{DEADLINE, Node, Service};
use std::io::{Read, Write};
use std::net::TcpStream;

struct Web {
    _service: Service,
    address: String,
}

impl Web {
    fn start(node: &Node) -> Web {
        let service = Service::start(node.as_uid(&["web", "--listen", "127.0.0.1:0"], node::STRANGER));
        let address = service.wait_for_line("is ready at").rsplit(' ').next().unwrap().to_owned();
        Web { _service: service, address }
    }

    /// Status line's code, head and body.
    fn ask(&self, method: &str, path: &str, host: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
    }

    fn get(&self, path: &str) -> (u16, String, String) {
        self.ask("GET", path, "localhost")
    }
}

#[test]
fn the_page_follows_core() {
    let node = Node::new();
    let web = Web::start(&node);
    let (code, _, page) = web.get("/");
    assert_eq!(code, 503);
    assert!(page.contains("The agent doesn't answer") && page.contains("core.unreachable"), "{page}");
    assert_eq!(web.get("/api/health").0, 503);

    let core = node.core();
    node.run(&["events", "append", "door.opened", "<b>front</b>"]).ok();
    let (code, _, page) = web.get("/");
    assert_eq!(code, 200);
    assert!(page.contains("This machine is well") && page.contains("door.opened") && page.contains("&lt;b&gt;front"), "{page}");
    let (code, head, body) = web.get("/api/health");
    assert_eq!((code, serde_json::from_str::<serde_json::Value>(&body).unwrap()["verdict"].as_str()), (200, Some("healthy")));
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(web.get("/api/status").2.contains("\"install\":null"));

    node.put("var/lib/smolotchi-install/status.json", r#"{"installed":"0.1.0","state":"idle","last_change":{"kind":"upgrade","from":"0.1.0","to":"0.9.9","verdict":"rolled-back","reason":"core crashed"}}"#);
    assert!(web.get("/").2.contains("The upgrade from 0.1.0 to 0.9.9 was taken back: core crashed"));
    node.put("var/lib/smolotchi-install/status.json", "{");
    assert_eq!(web.get("/").0, 200, "garbage of another program is no reason to fail");

    core.stop();
    assert_eq!(web.get("/").0, 503);
}

#[test]
fn a_page_asked_for_while_core_is_away_waits_for_it() {
    let node = Node::new();
    let web = Web::start(&node);
    let before = node.core();
    before.stop();
    std::thread::scope(|scope| {
        let core = scope.spawn(|| {
            // Refused at once, the answer below would be here before core is.
            std::thread::sleep(std::time::Duration::from_millis(300));
            node.core()
        });
        assert_eq!(web.get("/api/status").0, 200);
        core.join().unwrap().stop();
    });
}

#[test]
fn only_reading_requests_for_our_names_are_answered() {
    let node = Node::new();
    node.put("etc/smolotchi/config.d/50-local.toml", "[web]\nhosts = [\"node7.example\"]\n");
    let web = Web::start(&node);
    let cases = [
        ("GET", "/style.css", "localhost", 200),
        ("HEAD", "/style.css", "[::1]:8080", 200),
        ("GET", "/icon.svg", "Node7.example:80", 200),
        ("GET", "/style.css", "evil.example", 421),
        ("POST", "/", "localhost", 405),
        ("POST", "/style.css", "evil.example", 405),
        ("OPTIONS", "/", "localhost", 405),
        ("GET", "/etc/passwd", "localhost", 404),
        ("GET", "/../../etc/passwd", "localhost", 404),
    ];
    for (method, path, host, expected) in cases {
        let (code, head, body) = web.ask(method, path, host);
        assert_eq!(code, expected, "{method} {path} {host}");
        for header in ["content-security-policy: default-src 'none'", "x-content-type-options: nosniff", "cache-control: no-store"] {
            assert!(head.contains(header), "{method} {path} {host}: {head}");
        }
        assert!(method != "HEAD" || body.is_empty());
    }
}
