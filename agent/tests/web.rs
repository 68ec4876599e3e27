//! The pages as a browser meets them, with core up and down; who may look, and what monitoring reads.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod full;
mod node;

use node::{DEADLINE, Node, Service, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring};

const TOKEN: &str = "correct-horse-battery-staple";
/// Every page, each with the name that the navigation gives it.
const PAGES: [(&str, &str); 7] = [
    ("/", "Now"),
    ("/timeline", "Timeline"),
    ("/findings", "Findings"),
    ("/jobs", "Jobs"),
    ("/artifacts", "Artifacts"),
    ("/readings", "Readings"),
    ("/upgrades", "Upgrades"),
];

struct Web {
    _service: Service,
    address: String,
}

/// Status, head in lower case, body.
type Answer = (u16, String, String);

impl Web {
    fn start(node: &Node) -> Web {
        Web::from(node.as_uid(&["web", "--listen", "127.0.0.1:0"], node::STRANGER))
    }

    fn from(command: Command) -> Web {
        let service = Service::start(command);
        let address = service.wait_for_line("is ready at").rsplit(' ').next().unwrap().to_owned();
        Web { _service: service, address }
    }

    fn ask(&self, method: &str, path: &str, host: &str) -> Answer {
        self.say(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    fn say(&self, request: &str) -> Answer {
        exchange(TcpStream::connect(&self.address).unwrap(), request)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "localhost")
    }

    fn json(&self, path: &str) -> Value {
        let (code, _, body) = self.get(path);
        assert_eq!(code, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// A page, once what was kept of it is forgotten.
    fn until(&self, path: &str, is: impl Fn(&Answer) -> bool) -> Answer {
        until(path, || Some(self.get(path)).filter(|answer| is(answer)))
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // TLS without a goodbye is an error of its own; what came is what counts.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {request:?}: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}

/// Web with this listener handed in, as systemd does it.
fn handed(node: &Node, listener: impl Into<OwnedFd>) -> Command {
    let inner = node.as_uid(&["web"], node::STRANGER);
    let mut command = Command::new("/bin/sh");
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
    command.args(["-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args()).env_clear().env("PATH", "/usr/bin:/bin");
    command.stdin(listener.into());
    command
}

/// A folder of systemd credentials that everybody in this test may read.
fn credentials(node: &Node, token: Option<&str>) -> std::path::PathBuf {
    let folder = node.path("credentials");
    std::fs::create_dir_all(&folder).unwrap();
    if let Some(token) = token {
        node.put("credentials/web.token", token);
    }
    node.put("credentials/web.certificate", include_str!("data/web.crt"));
    node.put("credentials/web.key", include_str!("data/web.key"));
    folder
}

const TLS: &str = "[web]\ntls_certificate = \"web.certificate\"\ntls_key = \"web.key\"\n";

/// A TLS connection that trusts the test's certificate only.
fn over_tls(address: &str) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(include_bytes!("data/web.crt")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap(), stream)
}

/// What a screen reader and a keyboard need of any page.
fn assert_structure(path: &str, page: &str) {
    let count = |what: &str| page.matches(what).count();
    for (what, times) in [
        ("<!DOCTYPE html>", 1),
        ("<html lang=\"en\">", 1),
        ("<h1>", 1),
        ("<main id=\"main\"", 1),
        ("<header>", 1),
        ("<footer>", 1),
        ("<a class=\"skip\" href=\"#main\">", 1),
        ("<nav aria-label=\"Pages\">", 1),
        ("<title>", 1 + count("<svg")),
        ("style=", 0),
        ("<script", 0),
        ("<iframe", 0),
        (" on", count(" on")),
        ("http://", 0),
        ("https://", 0),
    ] {
        assert_eq!(count(what), times, "{path}: {what}\n{page}");
    }
    let mut headings: Vec<(usize, u32)> =
        (1..=6).flat_map(|level| page.match_indices(&format!("<h{level}")).map(move |(at, _)| (at, level)).collect::<Vec<_>>()).collect();
    headings.sort_unstable();
    assert!(headings.windows(2).all(|pair| pair[1].1 <= pair[0].1 + 1), "{path}: a level of headings is left out");
    let attributes =
        |tag: &str| -> Vec<String> { page.split(tag).skip(1).map(|rest| rest.split('>').next().unwrap().to_owned()).collect() };
    for field in attributes("<input ").into_iter().chain(attributes("<select ")) {
        let id = field.split("id=\"").nth(1).map(|rest| rest.split('"').next().unwrap());
        assert!(
            field.contains("type=\"hidden\"") || id.is_some_and(|id| page.contains(&format!("<label for=\"{id}\">"))),
            "{path}: {field}"
        );
    }
    for picture in attributes("<svg ") {
        assert!(picture.contains("role=\"img\"") && picture.contains("aria-label="), "{path}: {picture}");
    }
    for table in page.split("<table").skip(1) {
        assert!(table.contains("<caption>") && table.contains("scope=\"col\""), "{path}");
        assert_eq!(
            table.split("</table").next().unwrap().matches("<tr").count() - 1,
            table.split("</table").next().unwrap().matches("scope=\"row\"").count()
        );
    }
    for section in page.split("<section").skip(1) {
        assert!(section.split("</section").next().unwrap().contains("<h"), "{path}: a section without a heading");
    }
    assert_eq!(count("<a href=\"\""), 0);
}

#[test]
fn the_page_follows_core() {
    let node = Node::new();
    let web = Web::start(&node);
    let (code, _, page) = web.get("/");
    assert_eq!(code, 503);
    assert!(page.contains("The agent doesn't answer") && page.contains("core.unreachable"), "{page}");
    assert_structure("/ without core", &page);
    std::thread::scope(|scope| {
        // Each waits for core as long as a page may; together that is as long as one.
        for path in ["/api/health", "/api/ready", "/api/now", "/api/status", "/timeline"] {
            let stream = TcpStream::connect(&web.address).unwrap();
            scope.spawn(move || assert_eq!(exchange(stream, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).0, 503, "{path}"));
        }
        let (code, _, text) = web.get("/metrics");
        assert_eq!(code, 200);
        assert!(text.contains("\nsmolotchi_core_up 0\n"), "{text}");
    });

    let core = node.core();
    node.run(&["events", "append", "door.opened", "<b>front</b>"]).ok();
    let (code, _, page) = web.get("/");
    assert_eq!(code, 200);
    assert!(page.contains("This machine is well") && page.contains("door.opened") && page.contains("&lt;b&gt;front"), "{page}");
    let (code, head, body) = web.get("/api/health");
    assert_eq!((code, serde_json::from_str::<Value>(&body).unwrap()["verdict"].as_str()), (200, Some("healthy")));
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(web.json("/api/ready"), json!({"ready": true}));
    assert_eq!(web.json("/api/status")["install"], Value::Null);

    node.put("var/lib/smolotchi-install/status.json", r#"{"installed":"0.1.0","state":"idle","last_change":{"kind":"upgrade","from":"0.1.0","to":"0.9.9","verdict":"rolled-back","reason":"core crashed"}}"#);
    web.until("/", |(_, _, page)| page.contains("The upgrade from 0.1.0 to 0.9.9 was taken back: core crashed"));
    node.put("var/lib/smolotchi-install/status.json", "{");
    let (code, ..) = web.until("/", |(_, _, page)| !page.contains("was taken back"));
    assert_eq!(code, 200, "garbage of another program is no reason to fail");

    core.stop();
    web.until("/", |(code, ..)| *code == 503);
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
fn systemd_hears_pings_only_while_callers_are_taken_in() {
    let node = Node::new();
    let socket = node.put("notify", "");
    std::fs::remove_file(&socket).unwrap();
    let systemd = UnixDatagram::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let hear = |within| {
        systemd.set_read_timeout(Some(within)).unwrap();
        let mut heard = [0; 256];
        systemd.recv(&mut heard).ok().map(|size| String::from_utf8(heard[..size].to_vec()).unwrap())
    };
    let mut command = node.as_uid(&["web", "--listen", "127.0.0.1:0"], node::STRANGER);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "400000");
    let mut service = Service::start(command);
    let ready = hear(DEADLINE).unwrap();
    assert!(ready.starts_with("READY=1\nSTATUS=version "), "{ready}");
    for _ in 0..3 {
        assert_eq!(hear(DEADLINE).unwrap(), "WATCHDOG=1");
    }
    service.signal(Signal::STOP);
    while hear(Duration::from_millis(100)).is_some() {}
    assert_eq!(hear(Duration::from_millis(900)), None, "what stands still says nothing");
    service.signal(Signal::CONT);
    assert_eq!(hear(DEADLINE).unwrap(), "WATCHDOG=1");
    service.signal(Signal::TERM);
    let last = std::iter::repeat_with(|| hear(DEADLINE).unwrap()).find(|message| message != "WATCHDOG=1").unwrap();
    assert_eq!(last, "STOPPING=1\nSTATUS=stopping");
    assert_eq!(service.wait(), 0);
}

#[test]
fn a_core_that_hangs_is_told_before_a_scraper_gives_up() {
    let node = Node::new();
    let web = Web::start(&node);
    let core = node.core();
    assert_eq!(web.get("/api/ready").0, 200);
    core.signal(Signal::STOP);
    std::thread::scope(|scope| {
        // No more than are answered at a time.
        let more = ["/api/now", "/api/jobs", "/api/readings", "/api/health", "/api/ready", "/api/status", "/metrics", "/jobs/1"];
        for path in PAGES.iter().map(|(path, _)| *path).chain(more) {
            let address = &web.address;
            scope.spawn(move || {
                // What was kept of it a moment ago is no answer to this.
                let (began, answer) = until(path, || {
                    let began = Instant::now();
                    let answer = exchange(TcpStream::connect(address).unwrap(), &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
                    let told = answer.0 == 503 || path.ends_with("/upgrades") || answer.2.contains("\nsmolotchi_core_up 0\n");
                    told.then_some((began, answer))
                });
                let took = began.elapsed();
                assert!(took < Duration::from_secs(7), "{path}: after {took:?}");
                assert!(answer.0 != 503 || answer.2.contains("core did not answer in time"), "{path}: {answer:?}");
            });
        }
    });
    core.signal(Signal::CONT);
    web.until("/api/ready", |(code, ..)| *code == 200);
    core.stop();
}

#[test]
fn who_says_nothing_keeps_nobody_waiting() {
    let node = Node::new();
    let web = Web::start(&node);
    let core = node.core();
    let _idle: Vec<_> = (0..20).map(|_| TcpStream::connect(&web.address).unwrap()).collect();
    let began = Instant::now();
    assert_eq!(web.get("/api/ready").0, 200);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    core.stop();
}

#[test]
fn every_page_has_its_structure_its_json_and_says_what_is_not_there() {
    let node = Node::new();
    let web = Web::start(&node);
    let core = node.core();
    for (path, name) in PAGES {
        let (code, head, page) = web.get(path);
        assert_eq!(code, 200, "{path}: {page}");
        assert!(head.contains("content-type: text/html; charset=utf-8"), "{path}: {head}");
        assert_structure(path, &page);
        assert!(page.contains(&format!("aria-current=\"page\">{name}</a>")), "{path}: {page}");
        assert!(page.contains("As of <time"), "{path}");
        let api = if path == "/" { "/api/now".to_owned() } else { format!("/api{path}") };
        assert!(page.contains(&format!("href=\"{api}\"")), "{path}");
        assert!(web.json(&api).is_object(), "{api}");
        assert_eq!(web.ask("HEAD", path, "localhost").2, "", "{path}");
    }
    for (path, what) in [
        ("/findings/7", "There is no finding 7"),
        ("/jobs/7", "There is no job 7"),
        ("/artifacts/7", "There is no artifact 7"),
        ("/findings/x", "There is no such finding"),
        ("/nothing/&lt;", "There is no page /nothing/&amp;lt;"),
    ] {
        let (code, _, page) = web.get(path);
        assert_eq!(code, 404, "{path}");
        assert!(page.contains(what), "{path}: {page}");
        assert_structure(path, &page);
    }
    for (path, status, error) in [
        ("/api/findings/7", 404, "finding.unknown"),
        ("/api/jobs/x", 404, "job.unknown"),
        ("/api/artifacts/7", 404, "artifact.unknown"),
        ("/api/nope", 404, "core.not-found"),
        ("/api/", 404, "core.not-found"),
        ("/api/jobs?search=%00", 400, "core.request"),
    ] {
        let (code, head, body) = web.get(path);
        assert_eq!(code, status, "{path}: {body}");
        assert!(head.contains("content-type: application/json"), "{path}: {head}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["error"]["code"], error, "{path}: {body}");
        assert!(["message", "hint"].iter().all(|word| body["error"][word].is_string()), "{path}: {body}");
    }
    assert_eq!(web.get("/findings?before=x").0, 400, "a filter that core refuses");
    for path in ["/?x=%00", "/timeline?search=%00", "/timeline?topic=a%1bb", "/jobs?search=a%0ab", "/readings?sensor=%7f", "/jobs/1?%00=1"]
    {
        let (code, _, page) = web.get(path);
        assert_eq!(code, 400, "{path}");
        assert!(
            page.contains("A filter has control characters.") && !page.contains(|c: char| c.is_control() && c != '\n'),
            "{path}: {page}"
        );
        assert_structure(path, &page);
    }
    let put = node.put("note.txt", "a\0b\u{1b}[0mc\u{7f}\td");
    node.run(&["artifacts", "put", put.to_str().unwrap(), "--kind", "note", "--media", "text/plain"]).ok();
    let page = web.get("/artifacts/1").2;
    assert!(page.contains("a\u{fffd}b\u{fffd}[0mc\u{fffd}\td"), "{page}");
    assert_eq!(web.get(&format!("/findings?search={}", "x".repeat(3000))).0, 414);
    assert_eq!(web.say(&format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(20_000))).0, 431);
    core.stop();
}

/// Every page of a full node; `/findings/1` and the like as well.
const FULL: [&str; 16] = [
    "/",
    "/timeline",
    "/timeline?refresh=off",
    "/findings",
    "/findings?state=open&severity=warning&search=1883",
    "/findings/1",
    "/findings/3",
    "/jobs",
    "/jobs?state=failed",
    "/jobs/2",
    "/jobs/3",
    "/artifacts",
    "/artifacts?kind=note",
    "/artifacts/1",
    "/readings",
    "/upgrades",
];

#[test]
fn no_text_of_the_database_is_ever_markup() {
    let node = Node::new();
    full::machine(&node);
    let core = node.core();
    let mean = "<script>alert('x')</script><img src=x onerror=\"y\">&\"'\u{202e}";
    let _worker = full::fill(&node, mean);
    let web = Web::start(&node);
    let mut told = 0;
    for path in FULL.into_iter().chain([
        "/artifacts/5",
        "/readings?sensor=system.temperature",
        "/readings?sensor=%3Cscript%3E",
        "/timeline?search=%22%3E%3Cscript%3E",
    ]) {
        let (code, _, page) = web.get(path);
        assert!(code == 200 || (code == 400 && path.contains("script")), "{path}: {code} {page}");
        assert!(!page.contains("<script") && !page.contains("<img"), "{path}: {page}");
        // Escaped, none of these is an attribute.
        assert!(!page.contains("onerror=\"y\""), "{path}: {page}");
        assert_structure(path, &page.replace("onerror", "").replace("&quot;", ""));
        told += page.matches("&lt;script&gt;alert").count();
        if code == 200 {
            web.json(&format!("/api{}", if path == "/" { "/now" } else { path }));
        }
    }
    assert!(told > 40, "the texts are there, {told} times");
    let metrics = web.get("/metrics").2;
    assert!(check_metrics(&metrics).unwrap() > 30, "{metrics}");
    for line in [
        "smolotchi_findings{state=\"open\"} 3",
        "smolotchi_findings_open{severity=\"error\"} 1",
        "smolotchi_jobs{state=\"failed\"} 1",
        "smolotchi_stages_pending 1",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line}: {metrics}");
    }
    core.stop();
}

#[test]
fn a_full_node_is_told_page_by_page() {
    let node = Node::new();
    full::machine(&node);
    let core = node.core();
    let _worker = full::fill(&node, "");
    let web = Web::start(&node);
    let has = |path: &str, whats: &[&str]| {
        let page = web.get(path).2;
        for what in whats {
            assert!(page.contains(what), "{path}: no {what:?} in {page}");
        }
        page
    };
    has(
        "/",
        &[
            "1 decision waits",
            "neighbours",
            "smolotchi stages approve 2",
            "A program listens at 0.0.0.0:1883",
            "The last change was taken back",
            "Job 3",
            "disk.low",
            "new findings",
        ],
    );
    has("/findings", &["3 open in all", "A program listens at [::]:5353"]);
    let open = has("/findings?state=open&severity=error", &["0.0.0.0:1883"]);
    assert!(!open.contains("5353") && !open.contains("631"), "{open}");
    let found = has("/findings?search=631", &["127.0.0.1:631", "gone"]);
    assert!(!found.contains("1883") && found.contains("value=\"631\""), "{found}");
    has("/findings?search=nothing-like-this", &["No finding is like this"]);
    // The whole chain, each link leading on.
    let ids: Vec<i64> = web.json("/api/findings?search=1883")["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["id"].as_i64().unwrap())
        .collect();
    let dossier = has(
        &format!("/findings/{}", ids[0]),
        &[
            "Profile",
            "version 1",
            "Who listens on this machine",
            "passive",
            "allowed",
            "looking changes nothing",
            "listening-sockets",
            "inputs.json",
            "href=\"/artifacts/",
            "href=\"/jobs/2\"",
            "mosquitto",
            "First seen",
            "doesn't know it",
        ],
    );
    assert!(dossier.find("<h3>Finding").unwrap() < dossier.find("<h3>Evidence").unwrap());
    has("/findings/1", &["and the profile's baseline expects it", "expects it"]);
    let jobs =
        has("/jobs", &["it asks each neighbour once", "smolotchi stages approve 2", "not in this network", "the profile is not there"]);
    assert_eq!(jobs.matches("scope=\"row\"").count(), 7 + 2);
    let failed = has("/jobs?state=failed", &["aria-current=\"true\">failed</a>"]);
    assert_eq!(failed.matches("href=\"/jobs/").count(), 1 + 2, "one job, and the jobs of two requests");
    has("/jobs/2", &["inputs.json", "plan.json", "open"]);
    let found = has("/jobs?search=NOT+there", &["value=\"NOT there\"", "the profile is not there", "cancelled</a>"]);
    assert_eq!(found.matches("href=\"/jobs/").count(), 1 + 2, "one job, and the jobs of two requests: {found}");
    has("/jobs?search=nothing-like-this", &["No job is like this."]);
    assert_eq!(web.json("/api/jobs?search=profile+is+not&state=failed")["jobs"]["jobs"].as_array().unwrap().len(), 1);
    let found = has("/artifacts?search=Note.", &["value=\"Note.\"", "note.txt"]);
    assert!(!found.contains("inputs.json"), "{found}");
    has("/artifacts?search=nothing-like-this", &["No artifact is like this."]);
    let found = has("/readings?search=TEMPER", &["value=\"TEMPER\"", "system.temperature", "<svg"]);
    assert!(!found.contains("system.load"), "{found}");
    has("/readings?search=nothing-like-this", &["No sensor is like this."]);
    let day = web.json("/api/readings?search=temper");
    assert!(day["sensors"].as_array().unwrap().len() == 1 && day["day"]["lines"].as_array().unwrap().len() == 1, "{day}");
    has("/artifacts/1", &["application/json", "listening-sockets", "<pre"]);
    has("/artifacts/5", &["A note."]);
    let picture = has("/artifacts/6", &["It is not shown here", "smolotchi artifacts export 6"]);
    assert!(!picture.contains("not shown\n"), "{picture}");
    has("/artifacts?kind=note", &["note.txt"]);
    has("/readings", &["system.temperature", "48.0 °C", "<svg", "<h2>Absent</h2>"]);
    has("/readings?sensor=system.temperature", &["48.0 °C", "Changes, newest first", "<svg"]);
    has("/upgrades", &["0.0.9", "smolotchi-install rollback", "core crashed"]);
    // One after the other through more rows than a page shows.
    let add = || node.call("POST", "/v1/jobs", r#"{"kind": "bulk"}"#).1["id"].as_i64().unwrap();
    let last = (0..60).map(|_| add()).max().unwrap();
    let link = |back: i64| format!(">{}: bulk</a>", last - back);
    let first = web.until("/jobs?state=queued", |(_, _, page)| page.contains(&link(0))).2;
    assert!(first.contains(&link(49)) && !first.contains(&link(50)) && !first.contains(">Newest</a>"), "{first}");
    let older = first.split("rel=\"next\" href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    let (code, _, second) = web.get(&older);
    assert!(code == 200 && second.contains(&link(50)) && !second.contains(&link(49)) && second.contains(">Newest</a>"), "{second}");
    core.stop();
}

#[test]
fn a_page_reloads_itself_until_it_is_told_not_to() {
    let node = Node::new();
    node.put("etc/smolotchi/config.d/50-local.toml", "[web]\nrefresh_seconds = 7\n");
    let web = Web::start(&node);
    let core = node.core();
    let path = "/readings?sensor=system.uptime";
    let moving = web.get(path).2;
    assert!(
        moving.contains("<meta http-equiv=\"refresh\" content=\"7\">") && moving.contains(&format!("href=\"{path}&amp;refresh=off\"")),
        "{moving}"
    );
    let still = web.get(&format!("{path}&refresh=off")).2;
    assert!(!still.contains("http-equiv=\"refresh\"") && still.contains(&format!("href=\"{path}\"")), "{still}");
    assert!(still.contains("href=\"/jobs?refresh=off\""), "and so is the next page: {still}");
    for (path, _) in PAGES {
        let page = web.get(path).2;
        assert_ne!(page.contains("role=\"search\""), page.contains("http-equiv=\"refresh\""), "{path}: nobody loses what they are typing");
    }
    core.stop();
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

#[test]
fn with_a_token_nothing_is_shown_without_it() {
    let node = Node::new();
    let mut command = node.as_uid(&["web", "--listen", "127.0.0.1:0"], node::STRANGER);
    command.env("CREDENTIALS_DIRECTORY", credentials(&node, Some(TOKEN)));
    let web = Web::from(command);
    let basic = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("me:{TOKEN}"));
    let cases = [
        (String::new(), 401),
        ("Authorization: Bearer wrong\r\n".to_owned(), 401),
        (format!("Authorization: Bearer {TOKEN}\r\n"), 200),
        (format!("Authorization: Basic {basic}\r\n"), 200),
        (format!("Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer x\r\n"), 401),
    ];
    for (header, expected) in cases {
        for path in ["/style.css", "/metrics", "/upgrades", "/api/upgrades"] {
            let (code, head, body) = web.say(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n"));
            assert_eq!(code, expected, "{path} {header}");
            assert_eq!(head.contains("www-authenticate: basic realm"), code == 401);
            assert!(!body.contains(TOKEN));
        }
    }
}

#[test]
fn what_others_could_reach_is_not_served_without_token_and_tls() {
    let node = Node::new();
    let wide = || std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let cases: [(Option<&str>, bool, &str); 4] =
        [(None, false, "a token and TLS"), (Some(TOKEN), false, "TLS"), (None, true, "a token"), (Some("short"), true, "")];
    for (token, tls, lacks) in cases {
        let node = Node::new();
        if tls {
            node.put("etc/smolotchi/config.d/50-local.toml", TLS);
        }
        let listener = wide();
        let address = listener.local_addr().unwrap();
        let mut command = handed(&node, listener);
        command.env("CREDENTIALS_DIRECTORY", credentials(&node, token));
        let ran = node.ran(command.output().unwrap());
        // It holds the listener, too.
        drop(command);
        assert_eq!(ran.code, 20, "{token:?} {tls}: {ran:?}");
        assert!(ran.stderr.contains("web.not-protected") && ran.stderr.contains(lacks), "{ran:?}");
        assert!(TcpStream::connect(address).is_err(), "and nobody listens any more");
    }
    let ran = node.run(&["web", "--listen", "0.0.0.0:0"]);
    assert_eq!(ran.code, 2, "{ran:?}");

    node.put("etc/smolotchi/config.d/50-local.toml", TLS);
    let listener = wide();
    let port = listener.local_addr().unwrap().port();
    let mut command = handed(&node, listener);
    command.env("CREDENTIALS_DIRECTORY", credentials(&node, Some(TOKEN)));
    let service = Service::start_with_input(command);
    service.wait_for_line("is ready at");
    let address = format!("127.0.0.1:{port}");
    let ask = |header: &str| exchange(over_tls(&address), &format!("GET /style.css HTTP/1.1\r\nHost: localhost\r\n{header}\r\n")).0;
    assert_eq!(ask(""), 401);
    assert_eq!(ask(&format!("Authorization: Bearer {TOKEN}\r\n")), 200);
    // Who speaks no TLS learns nothing, and who says nothing keeps nobody out.
    let mut plain = TcpStream::connect(&address).unwrap();
    plain.write_all(b"GET /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let _silent = TcpStream::connect(&address).unwrap();
    assert_eq!(ask(&format!("Authorization: Bearer {TOKEN}\r\n")), 200);
    service.stop();
}

#[test]
fn a_unix_socket_needs_neither() {
    let node = Node::new();
    let path = node.path("run/web.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let service = Service::start_with_input(handed(&node, listener));
    service.wait_for_line("is ready at");
    let core = node.core();
    let (code, _, page) = exchange(UnixStream::connect(&path).unwrap(), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(code, 200, "{page}");
    // A proxy's callers wait, however many there are: none is hung up on.
    let idle: Vec<_> = (0..16).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let mut late = UnixStream::connect(&path).unwrap();
    late.write_all(b"GET /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    drop(idle);
    assert_eq!(exchange(late, "").0, 200);
    core.stop();
    service.stop();
}

/// The rules of Prometheus' text format and of promtool's lint, as far as they can be seen in one scrape.
fn check_metrics(text: &str) -> Result<usize, String> {
    let name_ok = |name: &str| {
        !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if !text.ends_with('\n') {
        return Err("the last line has no end".into());
    }
    let (mut family, mut seen, mut samples) =
        (None::<(String, String)>, std::collections::HashSet::new(), std::collections::HashSet::new());
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, words) = rest.split_once(' ').ok_or(format!("no help: {line}"))?;
            if words.trim().is_empty() || !seen.insert(name.to_owned()) {
                return Err(format!("empty or repeated: {line}"));
            }
            help = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or(format!("no type: {line}"))?;
            if help.as_deref() != Some(name) || !["gauge", "counter"].contains(&kind) {
                return Err(format!("type without help, or of no kind: {line}"));
            }
            if (kind == "counter") != name.ends_with("_total") {
                return Err(format!("only counters end in _total: {line}"));
            }
            family = Some((name.to_owned(), kind.to_owned()));
        } else {
            let (name, rest) = line.split_at(line.find(['{', ' ']).ok_or(format!("no value: {line}"))?);
            if !name_ok(name) || family.as_ref().map(|(of, _)| of.as_str()) != Some(name) {
                return Err(format!("not in its family: {line}"));
            }
            let mut rest = rest;
            if let Some(mut labels) = rest.strip_prefix('{') {
                loop {
                    let (label, after) = labels.split_once("=\"").ok_or(format!("no label: {line}"))?;
                    if !name_ok(label) {
                        return Err(format!("no name of a label: {line}"));
                    }
                    let mut escaped = false;
                    let end = after.char_indices().find(|(_, c)| {
                        let ends = *c == '"' && !escaped;
                        escaped = *c == '\\' && !escaped;
                        ends
                    });
                    let (end, _) = end.ok_or(format!("no end of a label: {line}"))?;
                    match after[end + 1..].strip_prefix(',') {
                        Some(more) => labels = more,
                        None => {
                            rest = after[end + 1..].strip_prefix('}').ok_or(format!("no end of the labels: {line}"))?;
                            break;
                        }
                    }
                }
            }
            rest.strip_prefix(' ').and_then(|value| value.parse::<f64>().ok()).ok_or(format!("no number: {line}"))?;
            if !samples.insert(line[..line.len() - rest.len()].to_owned()) {
                return Err(format!("twice: {line}"));
            }
        }
    }
    Ok(samples.len())
}

#[test]
fn the_figures_are_in_the_format_that_scrapers_read() {
    let node = Node::new();
    let web = Web::start(&node);
    let core = node.core();
    node.run(&["events", "append", "door.opened", "front"]).ok();
    let (code, head, text) = web.get("/metrics");
    assert_eq!(code, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(check_metrics(&text).unwrap() > 10, "{text}");
    for line in ["smolotchi_core_up 1", "smolotchi_healthy 1", "smolotchi_health_check{check=\"database\"} 1"] {
        assert!(text.lines().any(|other| other == line), "{line}: {text}");
    }
    let events: f64 = text.lines().find_map(|line| line.strip_prefix("smolotchi_events_stored ")).unwrap().parse().unwrap();
    assert!(events >= 2.0, "{text}");
    core.stop();

    // The checker itself: each of these is wrong.
    let good = "# HELP a_b It is.\n# TYPE a_b gauge\na_b{x=\"1\\\"\"} 1\n";
    check_metrics(good).unwrap();
    for (from, to) in [
        ("gauge", "counter"),
        (" 1\n", " one\n"),
        ("a_b{", "c{"),
        ("\\\"\"}", "\"\"}"),
        ("} 1\n", "} 1"),
        ("# HELP a_b It is.\n", ""),
        ("x=", "0x="),
    ] {
        assert!(check_metrics(&good.replace(from, to)).is_err(), "{from} → {to}");
    }
    check_metrics(&format!("{good}a_b{{x=\"1\\\"\"}} 2\n")).unwrap_err();
}

/// Takes the pictures of the guide; see tests/pictures.sh. `SMOLOTCHI_PICTURES` is the folder.
#[test]
#[ignore = "takes pictures with a browser"]
fn pictures() {
    let folder = std::path::PathBuf::from(std::env::var_os("SMOLOTCHI_PICTURES").expect("SMOLOTCHI_PICTURES"));
    std::fs::create_dir_all(&folder).unwrap();
    for full in [false, true] {
        let node = Node::new();
        full::machine(&node);
        let core = node.core();
        let mut paths = vec!["/", "/timeline", "/findings", "/jobs", "/artifacts", "/readings", "/upgrades"];
        let _worker = full.then(|| full::fill(&node, ""));
        let core = if full {
            // A day of readings, as core itself writes them.
            core.stop();
            let script = "INSERT INTO readings (sensor_id, at_ms, value) SELECT id, (CAST(strftime('%s') AS INTEGER) - n * 900) * 1000, 40.0 + abs((n * 37 + id * 11) % 23) + n / 9.0
                FROM sensors, (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 90) SELECT n FROM c) WHERE absent IS NULL AND unit != ''";
            assert!(Command::new("sqlite3").arg(node.database()).arg(script).status().unwrap().success());
            for name in ["smolotchi.db", "smolotchi.db-wal", "smolotchi.db-shm"] {
                let path = node.path("var/lib/smolotchi").join(name);
                if path.exists() {
                    node.give(&path);
                }
            }
            paths.extend(["/findings/3", "/jobs/2", "/artifacts/1", "/readings?sensor=system.temperature", "/nothing"]);
            node.core()
        } else {
            core
        };
        let web = Web::start(&node);
        for path in paths {
            for (size, width, height) in [("phone", 390, 844), ("desktop", 1280, 900)] {
                for scheme in ["dark", "light"] {
                    let name = match path.trim_matches('/') {
                        "" => "now".to_owned(),
                        path => path.split('?').next().unwrap().replace('/', "-") + if path.contains('?') { "-one" } else { "" },
                    };
                    let file = folder.join(format!("{name}-{}-{size}-{scheme}.png", if full { "full" } else { "empty" }));
                    photograph(&format!("http://{}{path}", web.address), &file, width, height, scheme);
                }
            }
        }
        core.stop();
    }
}

/// A picture of a page at this width, as a browser of that colour scheme shows it.
fn photograph(address: &str, file: &std::path::Path, width: u32, height: u32, scheme: &str) {
    let profile = tempfile::tempdir().unwrap();
    let dark = if scheme == "dark" { "--blink-settings=preferredColorScheme=0" } else { "--blink-settings=preferredColorScheme=1" };
    let shot = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1", dark])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--window-size={width},{height}"))
        .arg(format!("--screenshot={}", file.display()))
        .arg(address)
        .output()
        .unwrap();
    assert!(file.exists(), "{shot:?}");
}
