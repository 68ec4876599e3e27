//! The little of D-Bus that it takes to ask systemd for its units: one connection, a few calls, and away.
//!
//! Little-endian, as is every machine that this runs on. What is read is checked against its own length; what isn't
//! understood is a reason, never a panic.

use super::words;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long systemd may take for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// The largest message that is read.
const MOST: usize = 1024 * 1024;
/// So many messages that are no answer may come before it.
const STRAY: usize = 64;

/// A conversation with systemd.
pub(super) struct Bus {
    stream: BufReader<UnixStream>,
    serial: u32,
}

impl Bus {
    /// Connects as the user that this process is.
    pub(super) fn connect(socket: &Path) -> Result<Self, String> {
        let stream = UnixStream::connect(socket).map_err(|error| format!("there is no D-Bus to ask systemd by: {}", words(&error)))?;
        let timed = stream.set_read_timeout(Some(ANSWER_TIME)).and_then(|()| stream.set_write_timeout(Some(ANSWER_TIME)));
        timed.map_err(|error| broken(&error))?;
        let mut bus = Bus { stream: BufReader::with_capacity(4096, stream), serial: 0 };
        let uid = rustix::process::geteuid().as_raw().to_string();
        let name: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        bus.write(format!("\0AUTH EXTERNAL {name}\r\n").as_bytes())?;
        let mut line = Vec::new();
        (&mut bus.stream).take(256).read_until(b'\n', &mut line).map_err(|error| broken(&error))?;
        if !line.starts_with(b"OK ") {
            return Err("D-Bus does not let this user in".to_owned());
        }
        bus.write(b"BEGIN\r\n")?;
        let bus_itself =
            Call { to: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus", member: "Hello" };
        bus.call(&bus_itself, "", &[])?;
        Ok(bus)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.get_mut().write_all(bytes).map_err(|error| broken(&error))
    }

    /// Calls, and waits for the answer: its body.
    pub(super) fn call(&mut self, call: &Call<'_>, signature: &str, body: &[u8]) -> Result<Vec<u8>, String> {
        self.serial += 1;
        let message = call.message(self.serial, signature, body);
        self.write(&message)?;
        for _ in 0..STRAY {
            let answer = self.receive()?;
            if answer.to == Some(self.serial) {
                return match answer.error {
                    None => Ok(answer.body),
                    Some(name) => Err(format!("systemd refused: {name}")),
                };
            }
        }
        Err("D-Bus talks of something else".to_owned())
    }

    fn receive(&mut self) -> Result<Answer, String> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head).map_err(|error| broken(&error))?;
        let rest = rest_of(&head).ok_or_else(confused)?;
        let mut bytes = vec![0; rest];
        self.stream.read_exact(&mut bytes).map_err(|error| broken(&error))?;
        answer(&head, &bytes).ok_or_else(confused)
    }
}

fn broken(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => "systemd did not answer in time".to_owned(),
        _ => format!("D-Bus hung up: {}", words(error)),
    }
}

fn confused() -> String {
    "D-Bus said something that is not understood".to_owned()
}

/// Who is called, and what for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) to: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

impl Call<'_> {
    fn message(&self, serial: u32, signature: &str, body: &[u8]) -> Vec<u8> {
        let mut fields = Writer::default();
        for (code, kind, text) in [(1, "o", self.path), (2, "s", self.interface), (3, "s", self.member), (6, "s", self.to)] {
            fields.align(8);
            fields.0.push(code);
            fields.signature(kind);
            fields.text(text);
        }
        if !signature.is_empty() {
            fields.align(8);
            fields.0.push(8);
            fields.signature("g");
            fields.signature(signature);
        }
        let mut message = Writer::default();
        // Little-endian, a call, nobody is to be started for it, version 1.
        message.0.extend([b'l', 1, 2, 1]);
        message.number(u32::try_from(body.len()).unwrap_or_default());
        message.number(serial);
        message.number(u32::try_from(fields.0.len()).unwrap_or_default());
        message.0.extend(fields.0);
        message.align(8);
        message.0.extend(body);
        message.0
    }
}

/// Puts values into D-Bus's form.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or_default());
        self.0.extend(text.bytes());
        self.0.push(0);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or_default());
        self.0.extend(text.bytes());
        self.0.push(0);
    }

    pub(super) fn texts(&mut self, texts: &[&str]) {
        let mut inner = Writer::default();
        for text in texts {
            inner.text(text);
        }
        self.number(u32::try_from(inner.0.len()).unwrap_or_default());
        self.0.extend(inner.0);
    }
}

/// Takes values out of D-Bus's form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    pub(super) fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.checked_next_multiple_of(to)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        self.align(4)?;
        let number = self.bytes.get(self.at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))?;
        self.at += 4;
        Some(number)
    }

    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let slice = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(slice)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        let text = std::str::from_utf8(self.slice(length)?).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    pub(super) fn signature(&mut self) -> Option<&'a str> {
        let length = usize::from(self.byte()?);
        let text = std::str::from_utf8(self.slice(length)?).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    /// Where an array of structures ends.
    pub(super) fn array(&mut self) -> Option<usize> {
        let length = usize::try_from(self.number()?).ok()?;
        self.align(8)?;
        let end = self.at.checked_add(length)?;
        (end <= self.bytes.len()).then_some(end)
    }

    pub(super) fn is_before(&self, end: usize) -> bool {
        self.at < end
    }
}

/// A message that came.
#[derive(Debug, PartialEq)]
struct Answer {
    /// The number of the call that it answers.
    to: Option<u32>,
    error: Option<String>,
    body: Vec<u8>,
}

/// How many bytes follow the first 16.
fn rest_of(head: &[u8; 16]) -> Option<usize> {
    let number = |at: usize| head.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
    let (body, fields) = (number(4)?, number(12)?);
    let rest = fields.checked_next_multiple_of(8)?.checked_add(body)?;
    (head[0] == b'l' && head[3] == 1 && rest <= MOST).then_some(rest)
}

/// A message from its first 16 bytes and the rest.
fn answer(head: &[u8; 16], rest: &[u8]) -> Option<Answer> {
    let fields = usize::try_from(u32::from_le_bytes(*head.last_chunk()?)).ok()?;
    let mut reader = Reader::new(rest.get(..fields)?);
    let (mut to, mut error) = (None, None);
    while reader.is_before(fields) {
        reader.align(8)?;
        let code = reader.byte()?;
        match reader.signature()? {
            "u" => {
                let number = reader.number()?;
                to = if code == 5 { Some(number) } else { to };
            }
            "s" | "o" => {
                let text = reader.text()?;
                error = if code == 4 { Some(text.to_owned()) } else { error };
            }
            "g" => drop(reader.signature()?),
            _ => return None,
        }
    }
    if head[1] == 3 {
        error.get_or_insert_with(|| "without a reason".to_owned());
    }
    Some(Answer { to, error, body: rest.get(fields.next_multiple_of(8)..)?.to_vec() })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An answer as a bus sends it: 2 returns, 3 is an error.
    pub(crate) fn sent(kind: u8, to: u32, error: Option<&str>, body: &[u8]) -> Vec<u8> {
        let mut fields = Writer::default();
        fields.0.push(5);
        fields.signature("u");
        fields.number(to);
        if let Some(name) = error {
            fields.align(8);
            fields.0.push(4);
            fields.signature("s");
            fields.text(name);
        }
        let mut message = Writer(vec![b'l', kind, 1, 1]);
        message.number(body.len() as u32);
        message.number(77);
        message.number(fields.0.len() as u32);
        message.0.extend(fields.0);
        message.align(8);
        message.0.extend(body);
        message.0
    }

    fn split(message: &[u8]) -> Option<Answer> {
        let head = message.first_chunk()?;
        answer(head, message.get(16..16 + rest_of(head)?)?)
    }

    #[test]
    fn answers_and_errors_are_told_apart() {
        assert_eq!(split(&sent(2, 5, None, b"body")), Some(Answer { to: Some(5), error: None, body: b"body".to_vec() }));
        assert_eq!(split(&sent(3, 5, Some("org.x.No"), b"")), Some(Answer { to: Some(5), error: Some("org.x.No".into()), body: vec![] }));
        assert_eq!(split(&sent(3, 5, None, b"")).unwrap().error.as_deref(), Some("without a reason"));
    }

    #[test]
    fn cut_and_broken_messages_never_panic() {
        let mut body = Writer::default();
        body.texts(&["a", "bcd"]);
        let good = sent(3, 5, Some("org.x.No"), &body.0);
        for end in 0..good.len() {
            assert_eq!(split(&good[..end]), None, "{end}");
        }
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut broken = good.clone();
                broken[at] = value;
                split(&broken);
            }
        }
        let mut huge = good;
        huge[4..8].fill(0xff);
        assert_eq!(rest_of(huge.first_chunk().unwrap()), None);
    }
}
