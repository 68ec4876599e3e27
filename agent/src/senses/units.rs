//! systemd's units: which failed, and how often it had to restart one of ours. Asked by D-Bus, which systemd and its bus
//! have to work for: seldom.

use super::bus::{Bus, Call, Reader, Writer};
use super::{Moment, ReadingProvider, Sample};
use crate::paths::Paths;
use crate::wire::readings::Unit;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SYSTEMD: &str = "org.freedesktop.systemd1";
/// The most units of ours that are asked for their restarts.
const OURS: usize = 16;
/// As long as a list of names may get.
const NAMES: usize = 200;

/// The provider `units`.
pub(crate) struct Units {
    bus: PathBuf,
}

impl Units {
    /// Nothing is asked yet.
    pub(crate) fn new(paths: &Paths) -> Self {
        Units { bus: paths.bus() }
    }
}

impl ReadingProvider for Units {
    fn name(&self) -> &'static str {
        "units"
    }

    fn least(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn read(&mut self, _: Moment) -> Vec<Sample> {
        let units = units(&self.bus);
        let mut samples = Vec::with_capacity(12);
        let failed =
            units.as_ref().map_err(Clone::clone).map(|units| units.iter().filter(|unit| unit.active == "failed").collect::<Vec<_>>());
        samples.push(Sample::number("units.failed", "count", 1.0, failed.clone().map(|failed| failed.len() as f64)));
        samples.push(Sample::text("units.failed.names", failed.map(|failed| names(&failed))));
        let restarts = |units: &Vec<Unit>| f64::from(units.iter().filter_map(|unit| unit.restarts).fold(0, u32::saturating_add));
        samples.push(Sample::number("units.restarts", "count", 1.0, units.as_ref().map(restarts).map_err(Clone::clone)));
        for unit in units.iter().flatten().filter(|unit| unit.name.starts_with("smolotchi-")).take(OURS) {
            samples.push(Sample::text(format!("units.{}.state", unit.name), Ok(format!("{} ({})", unit.active, unit.sub))));
        }
        samples
    }
}

fn names(units: &[&Unit]) -> String {
    if units.is_empty() {
        return "none".to_owned();
    }
    let mut names = String::new();
    for (index, unit) in units.iter().enumerate() {
        if names.len() + unit.name.len() > NAMES {
            return format!("{names} and {} more", units.len() - index);
        }
        names.push_str(if index == 0 { "" } else { " " });
        names.push_str(&unit.name);
    }
    names
}

/// The units that failed and those of Smolotchi, by name. Errors: why systemd can't be asked.
pub(crate) fn units(bus: &Path) -> Result<Vec<Unit>, String> {
    let mut bus = Bus::connect(bus)?;
    let mut found = list(&mut bus, &["failed"], &[])?;
    found.extend(list(&mut bus, &[], &["smolotchi-*"])?);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.dedup_by(|a, b| a.0.name == b.0.name);
    let mut asked = 0;
    for (unit, path) in &mut found {
        if unit.name.starts_with("smolotchi-") && unit.name.ends_with(".service") && asked < OURS {
            asked += 1;
            unit.restarts = restarts(&mut bus, path);
        }
    }
    Ok(found.into_iter().map(|(unit, _)| unit).collect())
}

/// The units in one of these states whose name fits one of these patterns; nothing given is everything. With their paths.
fn list(bus: &mut Bus, states: &[&str], patterns: &[&str]) -> Result<Vec<(Unit, String)>, String> {
    let call = Call {
        to: SYSTEMD,
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member: "ListUnitsByPatterns",
    };
    let mut body = Writer::default();
    body.texts(states);
    body.texts(patterns);
    let answer = bus.call(&call, "asas", &body.0)?;
    listed(&answer).ok_or_else(|| "systemd's list of units is not understood".to_owned())
}

/// `a(ssssssouso)`.
fn listed(body: &[u8]) -> Option<Vec<(Unit, String)>> {
    let mut reader = Reader::new(body);
    let end = reader.array()?;
    let mut units = Vec::new();
    while reader.is_before(end) {
        reader.align(8)?;
        let [name, description, load, active, sub, _following, path] = [(); 7].map(|()| reader.text());
        reader.number()?;
        let [_kind, _job] = [(); 2].map(|()| reader.text());
        let unit = Unit {
            name: name?.to_owned(),
            description: description?.to_owned(),
            load: load?.to_owned(),
            active: active?.to_owned(),
            sub: sub?.to_owned(),
            restarts: None,
        };
        units.push((unit, path?.to_owned()));
    }
    Some(units)
}

fn restarts(bus: &mut Bus, path: &str) -> Option<u32> {
    let call = Call { to: SYSTEMD, path, interface: "org.freedesktop.DBus.Properties", member: "Get" };
    let mut body = Writer::default();
    body.text("org.freedesktop.systemd1.Service");
    body.text("NRestarts");
    number(&bus.call(&call, "ss", &body.0).ok()?)
}

/// A number in a variant.
fn number(body: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(body);
    (reader.signature()? == "u").then(|| reader.number()).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::bus::tests::sent;
    use super::*;
    use crate::wire::readings::Value;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::net::UnixListener;

    fn unit(name: &str, active: &str) -> Unit {
        let text = |text: &str| text.to_owned();
        Unit {
            name: text(name),
            description: text("of a test"),
            load: text("loaded"),
            active: text(active),
            sub: text(active),
            restarts: None,
        }
    }

    /// As systemd writes it.
    fn written(units: &[Unit]) -> Vec<u8> {
        let mut all = Writer::default();
        for unit in units {
            all.0.resize(all.0.len().next_multiple_of(8), 0);
            for text in [unit.name.as_str(), &unit.description, &unit.load, &unit.active, &unit.sub, "", "/org/freedesktop/systemd1/unit/x"]
            {
                all.text(text);
            }
            all.0.resize(all.0.len().next_multiple_of(4), 0);
            all.0.extend(0_u32.to_le_bytes());
            all.text("");
            all.text("/");
        }
        [(all.0.len() as u32).to_le_bytes().as_slice(), &[0; 4], &all.0].concat()
    }

    #[test]
    fn systemds_list_is_understood() {
        let units = [unit("a.service", "failed"), unit("smolotchi-core.service", "active")];
        let read: Vec<_> = listed(&written(&units)).unwrap().into_iter().map(|(unit, _)| unit).collect();
        assert_eq!(read, units);
        assert_eq!(listed(&written(&[])), Some(vec![]));
        assert_eq!((number(b"\x01u\0\0\x07\0\0\0"), number(b"\x01s\0\0\x07\0\0\0"), number(b"\x01u\0")), (Some(7), None, None));
    }

    #[test]
    fn cut_and_broken_lists_are_refused_and_never_panic() {
        let good = written(&[unit("a.service", "failed"), unit("b.service", "active")]);
        for end in 0..good.len() {
            assert_eq!(listed(&good[..end]), None, "{end}");
        }
        for at in 0..good.len() {
            for value in [0, 1, 7, 0x7f, 0x80, 0xff] {
                let mut broken = good.clone();
                broken[at] = value;
                listed(&broken);
                number(&broken[at..]);
            }
        }
    }

    #[test]
    fn long_lists_of_names_end() {
        let units: Vec<_> = (0..40).map(|number| unit(&format!("unit-{number}.service"), "failed")).collect();
        let text = names(&units.iter().collect::<Vec<_>>());
        assert!(text.len() < NAMES + 20 && text.starts_with("unit-0.service unit-1.service ") && text.ends_with(" more"), "{text}");
        assert_eq!(names(&[]), "none");
    }

    /// A bus with a systemd behind it, for one conversation.
    fn bus(dir: &Path, answers: Vec<Vec<u8>>) -> (PathBuf, std::thread::JoinHandle<Vec<String>>) {
        let path = dir.join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            stream.get_mut().write_all(b"OK 0123456789abcdef\r\n").unwrap();
            let mut calls = vec![line.trim().to_owned()];
            let mut begin = String::new();
            stream.read_line(&mut begin).unwrap();
            let hello = sent(2, 1, None, b"\x05\0\0\0:1.42\0");
            let stray = sent(4, 999, None, b"");
            for answer in std::iter::once([hello, stray].concat()).chain(answers) {
                let mut head = [0; 16];
                if stream.read_exact(&mut head).is_err() {
                    break;
                }
                let [body, fields] = [4, 12].map(|at| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()) as usize);
                let mut rest = vec![0; fields.next_multiple_of(8) + body];
                stream.read_exact(&mut rest).unwrap();
                let said = String::from_utf8_lossy(&rest).into_owned();
                let member = ["Hello", "ListUnitsByPatterns", "Get"].into_iter().find(|member| said.contains(&format!("\0{member}\0")));
                calls.push(member.unwrap_or("?").to_owned());
                stream.get_mut().write_all(&answer).unwrap();
            }
            calls
        });
        (path, thread)
    }

    #[test]
    fn a_systemd_behind_a_bus_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let failed = [unit("a.service", "failed"), unit("smolotchi-web.service", "failed")];
        let ours =
            [unit("smolotchi-web.service", "failed"), unit("smolotchi-core.service", "active"), unit("smolotchi-core.socket", "active")];
        let answers = vec![
            sent(2, 2, None, &written(&failed)),
            sent(2, 3, None, &written(&ours)),
            sent(2, 4, None, b"\x01u\0\0\x03\0\0\0"),
            sent(3, 5, Some("org.freedesktop.DBus.Error.UnknownProperty"), b""),
        ];
        let (path, thread) = bus(dir.path(), answers);
        let moment = Moment { boottime_ms: 0, wall_ms: 0, apart_ms: 0, queued: None };
        let samples = Units { bus: path }.read(moment);
        let calls = thread.join().unwrap();
        let uid = rustix::process::geteuid().as_raw().to_string();
        assert_eq!(calls[0], format!("\0AUTH EXTERNAL {}", uid.bytes().map(|byte| format!("{byte:02x}")).collect::<String>()));
        assert_eq!(calls[1..], ["Hello", "ListUnitsByPatterns", "ListUnitsByPatterns", "Get", "Get"]);
        let said: Vec<_> = samples.iter().map(|sample| (sample.sensor.as_ref(), sample.outcome.clone().unwrap())).collect();
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(
            said,
            [
                ("units.failed", Value::Number(2.0)),
                ("units.failed.names", text("a.service smolotchi-web.service")),
                ("units.restarts", Value::Number(3.0)),
                ("units.smolotchi-core.service.state", text("active (active)")),
                ("units.smolotchi-core.socket.state", text("active (active)")),
                ("units.smolotchi-web.service.state", text("failed (failed)")),
            ]
        );
    }

    #[test]
    fn a_bus_that_is_away_or_talks_nonsense_is_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let reason = units(&dir.path().join("nobody")).unwrap_err();
        assert_eq!(reason, "there is no D-Bus to ask systemd by: No such file or directory");
        let (path, thread) = bus(dir.path(), vec![sent(2, 2, None, b"nonsense")]);
        assert_eq!(units(&path).unwrap_err(), "systemd's list of units is not understood");
        thread.join().unwrap();
    }
}
