//! Log entries. Under systemd they go to its journal with fields of their own (`SMOLOTCHI_CODE`, `SMOLOTCHI_ROLE`, …) and a
//! MESSAGE_ID, so that `journalctl -x` explains them; else to standard error. An error always starts with its code.
//!
//! Every kind of entry that has a MESSAGE_ID is a [`Code`] or a [`Kind`]; `systemd/catalog/smolotchi.catalog` is made from both.

use crate::{Code, Fault};
use anstyle::{AnsiColor, Style};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

/// Where the journal takes entries with fields.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Syslog priorities that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Priority {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
}

/// Something other than an error that an operator may look for, or be sent to by an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A service answers from now on.
    Ready,
    /// A service has stopped as it was told.
    Stopped,
    /// The configuration was read again.
    Reloaded,
    /// The first start made the database.
    DatabaseMade,
    /// What a power cut left half-done was finished.
    Mended,
    /// An upgrade or rollback has ended.
    ChangeEnded,
    /// The last seal of the event log.
    Sealed,
    /// Nothing goes by age, as the clock can't be believed.
    HeldBack,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Kind] =
        &[Kind::Ready, Kind::Stopped, Kind::Reloaded, Kind::DatabaseMade, Kind::Mended, Kind::ChangeEnded, Kind::Sealed, Kind::HeldBack];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Ready => "service.ready",
            Kind::Stopped => "service.stopped",
            Kind::Reloaded => "config.reloaded",
            Kind::DatabaseMade => "store.made",
            Kind::Mended => "heal.mended",
            Kind::ChangeEnded => "change.ended",
            Kind::Sealed => "events.sealed",
            Kind::HeldBack => "retention.held-back",
        }
    }

    /// What it means and what there is to do, for the journal's catalogue.
    pub const fn explained(self) -> &'static str {
        match self {
            Kind::Ready => "The service answers from now on. Nothing is to be done.\nWhat it does: smolotchi status",
            Kind::Stopped => "The service stopped as it was told, with its files closed. Nothing is to be done.",
            Kind::Reloaded => {
                "The configuration was read again. The message names the settings that changed, and those that only hold\nonce their service is restarted.\nWhat holds, and where it was written: smolotchi config show"
            }
            Kind::DatabaseMade => {
                "There was no database and nothing else in the state folder, so this first start made one.\nOn a machine that had data before, this must not happen: see /var/lib/smolotchi and the mounts below it."
            }
            Kind::Mended => {
                "A power cut or a killed package operation left something half-done, and it was finished. Nothing is to be\ndone. What was open: smolotchi-install history"
            }
            Kind::ChangeEnded => {
                "An upgrade or a rollback has ended; the message says how.\nMore: smolotchi-install status, smolotchi-install history"
            }
            Kind::Sealed => {
                "The last seal of the event log, told outside of the database. Nothing is to be done. A log that was rewritten\nwhole doesn't have this seal any more: smolotchi audit verify --format json | jq .head"
            }
            Kind::HeldBack => {
                "The clock says a time that the database has not lived up to, so nothing was removed by its age. It ends by\nitself after a week at the right time. Is the clock right? timedatectl"
            }
        }
    }

    /// The MESSAGE_ID of its journal entries, 32 hex digits.
    pub fn message_id(self) -> String {
        crate::code::message_id(self.as_str())
    }
}

/// What an entry is about.
#[derive(Debug, Clone, Copy)]
enum About<'a> {
    Fault(&'a Fault),
    Code(Code),
    Kind(Kind),
    Nothing,
}

static ROLE: OnceLock<&'static str> = OnceLock::new();

/// Says which service this process is, for `SMOLOTCHI_ROLE`. Only the first call counts.
pub fn role(name: &'static str) {
    let _ = ROLE.set(name);
}

/// True when systemd reads our standard error: it is the very stream that JOURNAL_STREAM names, and not only inherited.
pub fn to_journal() -> bool {
    static TO_JOURNAL: OnceLock<bool> = OnceLock::new();
    *TO_JOURNAL.get_or_init(|| {
        let stderr = rustix::fs::fstat(std::io::stderr()).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
        matches!((std::env::var("JOURNAL_STREAM"), stderr), (Ok(named), Ok(ours)) if named == ours)
    })
}

/// The program's name, as the journal shows it.
fn program() -> String {
    let path = std::env::args_os().next().map(std::path::PathBuf::from);
    path.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())).unwrap_or_else(|| "smolotchi".to_owned())
}

/// An entry in the journal's own form: `NAME=value`, or with its length where the value has several lines.
fn entry(priority: Priority, message: &str, about: About<'_>, program: &str, role: Option<&str>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    let mut field = |name: &str, value: &str| {
        bytes.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            bytes.push(b'\n');
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    };
    field("MESSAGE", message);
    field("PRIORITY", &(priority as u8).to_string());
    field("SYSLOG_IDENTIFIER", program);
    field("SMOLOTCHI_ROLE", role.unwrap_or("command"));
    let mut code = |code: Code, hint: &str| {
        field("SMOLOTCHI_CODE", code.as_str());
        field("MESSAGE_ID", &code.message_id());
        field("SMOLOTCHI_HINT", hint);
    };
    match about {
        About::Fault(fault) => {
            code(fault.code, &fault.hint);
            for (name, value) in &fault.details {
                let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
                field(&format!("SMOLOTCHI_FACT_{name}"), &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
        }
        About::Code(about) => code(about, about.hint()),
        About::Kind(kind) => {
            field("SMOLOTCHI_KIND", kind.as_str());
            field("MESSAGE_ID", &kind.message_id());
        }
        About::Nothing => {}
    }
    bytes
}

fn line(priority: Priority, text: &str, about: About<'_>) {
    let mut err = anstream::stderr().lock();
    let result = if to_journal() {
        let entry = entry(priority, text, about, &program(), ROLE.get().copied());
        match UnixDatagram::unbound().and_then(|socket| socket.send_to(&entry, JOURNAL)) {
            Ok(_) => return,
            // Too long for the socket, or a sandbox without it: then without fields, and in one line, or the journal would
            // tear it apart.
            Err(_) => writeln!(err, "<{}>{}", priority as u8, text.replace('\n', " | ")),
        }
    } else {
        let (word, style) = match priority {
            Priority::Error => ("error: ", AnsiColor::Red.on_default().bold()),
            Priority::Warning => ("warning: ", AnsiColor::Yellow.on_default().bold()),
            Priority::Notice | Priority::Info => ("", Style::new()),
        };
        writeln!(err, "{style}{word}{style:#}{text}")
    };
    // Nobody is left to tell.
    let _ = result;
}

/// An error: the fault's code, message and facts, and its hint.
pub fn fault(fault: &Fault) {
    if to_journal() {
        line(Priority::Error, &format!("{fault}; hint: {}", fault.hint), About::Fault(fault));
    } else {
        line(Priority::Error, &fault.to_string(), About::Fault(fault));
        let style = AnsiColor::Cyan.on_default();
        let _ = writeln!(anstream::stderr(), "{style}hint:{style:#} {}", fault.hint);
    }
}

/// Something that may need attention.
pub fn warning(code: Code, text: impl AsRef<str>) {
    line(Priority::Warning, &format!("[{code}] {}", text.as_ref()), About::Code(code));
}

/// Something that an operator wants to find later, of a kind that the catalogue explains.
pub fn note(kind: Kind, text: impl AsRef<str>) {
    line(Priority::Notice, text.as_ref(), About::Kind(kind));
}

/// Something that an operator wants to find later.
pub fn notice(text: impl AsRef<str>) {
    line(Priority::Notice, text.as_ref(), About::Nothing);
}

/// Something that helps to follow what happens.
pub fn info(text: impl AsRef<str>) {
    line(Priority::Info, text.as_ref(), About::Nothing);
}

/// The journal's catalogue: what `journalctl -x` says about each entry of ours (`systemd/catalog/smolotchi.catalog`).
pub fn catalog() -> String {
    let mut text =
        "# What journalctl -x says about Smolotchi's entries. Made from the error catalogue: change agent/operator/src/code.rs or\n\
                    # log.rs, then run: UPDATE=1 cargo test -p smolotchi-lab --test rules\n"
            .to_owned();
    let mut add = |id: String, subject: String, body: String| {
        text.push_str(&format!(
            "\n-- {id}\nSubject: {subject}\nDefined-By: Smolotchi\nSupport: https://smolotchi.invalid\nDocumentation: man:smolotchi(1)\n\n{body}\n"
        ));
    };
    // No service makes a release or runs the lab.
    let of_services = |code: &&Code| !["maker.", "lab."].iter().any(|area| code.as_str().starts_with(area));
    for code in Code::ALL.iter().filter(of_services) {
        let exit = match code.exit() {
            crate::Exit::Success => "nothing",
            crate::Exit::Usage => "the call was wrong (exit code 2); the same call will fail again",
            crate::Exit::Runtime => "something failed while running (exit code 10); trying again may help",
            crate::Exit::Validation => "it was refused before anything was touched (exit code 20)",
            crate::Exit::Dependency => "something that must be there is missing (exit code 30)",
            crate::Exit::RolledBack => "the change failed, and the machine is safely back where it was (exit code 40)",
            crate::Exit::Operator => "the machine can't decide this alone (exit code 50): it needs you",
        };
        let runbook = match code.exit() {
            crate::Exit::RolledBack | crate::Exit::Operator => format!("\nStep by step: the runbook {code}."),
            _ => String::new(),
        };
        let body = format!("What it means: {exit}.\nHere: @SMOLOTCHI_HINT@\n\nWhat to do: {}.{runbook}", code.hint());
        add(code.message_id(), format!("Smolotchi reports {code}"), body);
    }
    for kind in Kind::ALL {
        add(kind.message_id(), format!("Smolotchi reports {}", kind.as_str()), kind.explained().to_owned());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Reads an entry as the journal does.
    fn fields(mut bytes: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n' || *byte == b'=') {
            let name = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let (value, rest) = if bytes[end] == b'=' {
                let length = bytes[end + 1..].iter().position(|byte| *byte == b'\n').unwrap();
                bytes[end + 1..].split_at(length)
            } else {
                let length = u64::from_le_bytes(bytes[end + 1..end + 9].try_into().unwrap()) as usize;
                bytes[end + 9..].split_at(length)
            };
            assert!(
                name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_') && name.len() <= 64,
                "{name}"
            );
            fields.insert(name, String::from_utf8(value.to_vec()).unwrap());
            bytes = &rest[1..];
        }
        assert!(bytes.is_empty(), "{bytes:?}");
        fields
    }

    #[test]
    fn an_entry_has_the_faults_fields_whole() {
        let fault = Fault::new(Code::Io, "could not write").fact("path", "/a b=c").fact("said", "one\ntwo\n").fact("line-no", 7);
        let found = fields(&entry(Priority::Error, "text\nPRIORITY=0", About::Fault(&fault), "smolotchi", Some("core")));
        let expected = [
            ("MESSAGE", "text\nPRIORITY=0"),
            ("MESSAGE_ID", &Code::Io.message_id()),
            ("PRIORITY", "3"),
            ("SMOLOTCHI_CODE", "io.failed"),
            ("SMOLOTCHI_FACT_LINE_NO", "7"),
            ("SMOLOTCHI_FACT_PATH", "/a b=c"),
            ("SMOLOTCHI_FACT_SAID", "one\ntwo\n"),
            ("SMOLOTCHI_HINT", Code::Io.hint()),
            ("SMOLOTCHI_ROLE", "core"),
            ("SYSLOG_IDENTIFIER", "smolotchi"),
        ];
        let expected: BTreeMap<_, _> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(found, expected);
        let found = fields(&entry(Priority::Notice, "up", About::Kind(Kind::Ready), "smolotchi", None));
        assert_eq!((found["MESSAGE_ID"].clone(), found["SMOLOTCHI_KIND"].as_str()), (Kind::Ready.message_id(), "service.ready"));
    }

    #[test]
    fn no_two_kinds_of_entries_share_an_identity() {
        let ids: Vec<_> = Code::ALL.iter().map(|code| code.message_id()).chain(Kind::ALL.iter().map(|kind| kind.message_id())).collect();
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len());
    }
}
