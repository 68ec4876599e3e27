//! The journal of a change: one line for each step, durable before its effect.
//!
//! A file of zeros, allocated when the change is opened; each record overwrites zeros at the end of the written part and
//! is flushed once (`fdatasync`): no new blocks, no new size, so one flush is enough and a full disk can't stop a change
//! half-way. Each line is `JSON TAB CHECK`, where CHECK chains SHA-256 over all lines so far; reading stops at the first
//! line that doesn't fit, so a torn last record is as if it had never been begun. A whole record of a kind that isn't known
//! comes from a newer installer: such a journal is not carried on, because what it says can't be obeyed.

use crate::plan::Task;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smolotchi_operator::{Code, Fault, Result};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes set aside for a journal: some hundreds of records, where a change writes about twenty.
const ALLOCATED: usize = 64 << 10;
/// Hex digits of the chained checksum that stand behind a record.
const CHECK_DIGITS: usize = 16;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// The change is opened.
    Opened,
    /// A task begins.
    Started {
        /// Which.
        task: Task,
    },
    /// A task is done.
    Done {
        /// Which.
        task: Task,
    },
    /// The gate saw something that a person following wants to know.
    Observed {
        /// In one sentence.
        text: String,
    },
    /// The change goes back from here on.
    Undoing {
        /// Why, in one sentence.
        reason: String,
        /// Whether that is the new version's fault, so that it is kept out from now on.
        blame: bool,
    },
    /// The packages of the version before are back; it is being watched.
    Reverted,
    /// The end.
    Closed {
        /// How it ended.
        verdict: Verdict,
        /// Why, in one sentence.
        reason: String,
    },
}

/// How a change ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The new version is healthy and stays.
    Committed,
    /// Nothing was changed after all.
    Abandoned,
    /// The new version was not good; the version before is healthy again.
    RolledBack,
    /// The machine can't decide alone.
    OperatorNeeded,
}

impl Verdict {
    /// The words for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Committed => "committed",
            Verdict::Abandoned => "abandoned",
            Verdict::RolledBack => "rolled back",
            Verdict::OperatorNeeded => "operator needed",
        }
    }
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Wall clock, which may be wrong on a machine without a clock battery.
    pub at: String,
    /// The boot that it was written in.
    pub boot: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// An open journal, ready to be appended to.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: std::path::PathBuf,
    end: u64,
    chain: [u8; 32],
}

impl Journal {
    /// Makes a new journal of zeros, durable but for its folder entry.
    pub fn create(path: &Path) -> Result<()> {
        use std::io::Write;
        let make = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
            file.write_all(&vec![0; ALLOCATED])?;
            file.sync_all()
        };
        make().map_err(|error| Fault::io("could not create the change's journal", path, &error))
    }

    /// Opens a journal and returns its whole records. `change.journal-damaged` when a newer installer wrote it.
    pub fn open(path: &Path) -> Result<(Journal, Vec<Record>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| Fault::io("could not open the change's journal", path, &error))?;
        let bytes = std::fs::read(path).map_err(|error| Fault::io("could not read the change's journal", path, &error))?;
        let Parsed { records, end, chain, foreign } = parse(&bytes);
        if foreign {
            return Err(Fault::new(Code::JournalDamaged, "the journal of a change was written by a newer smolotchi-install")
                .fact("path", path.display().to_string()));
        }
        Ok((Journal { file, path: path.to_owned(), end, chain }, records))
    }

    /// Appends a record; on return it survives a power cut.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let json = serde_json::to_string(record)
            .map_err(|error| Fault::io("could not write the change's journal", &self.path, &std::io::Error::other(error)))?;
        let (check, chain) = next(&self.chain, json.as_bytes());
        let line = format!("{json}\t{check}\n");
        self.file
            .write_all_at(line.as_bytes(), self.end)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| Fault::io("could not write the change's journal", &self.path, &error))?;
        self.end += line.len() as u64;
        self.chain = chain;
        Ok(())
    }
}

/// The whole records of a journal that someone else may be writing.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let bytes = std::fs::read(path).map_err(|error| Fault::io("could not read the change's journal", path, &error))?;
    Ok(parse(&bytes).records)
}

/// True if a journal can be carried on: there, of its full size (or longer), and of this installer's words.
pub fn is_usable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.len() >= ALLOCATED as u64)
}

fn next(chain: &[u8; 32], json: &[u8]) -> (String, [u8; 32]) {
    let hash: [u8; 32] = Sha256::new().chain_update(chain).chain_update(json).finalize().into();
    let mut check = hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    check.truncate(CHECK_DIGITS);
    (check, hash)
}

struct Parsed {
    records: Vec<Record>,
    end: u64,
    chain: [u8; 32],
    /// After the records comes one that is whole and not understood.
    foreign: bool,
}

fn parse(bytes: &[u8]) -> Parsed {
    let mut records = Vec::new();
    let mut end = 0;
    let mut chain = [0; 32];
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(body) = line.strip_suffix(b"\n") else { break };
        let Some(tab) = body.iter().rposition(|byte| *byte == b'\t') else { break };
        let (json, check) = (&body[..tab], &body[tab + 1..]);
        let (expected, hash) = next(&chain, json);
        if check != expected.as_bytes() {
            break;
        }
        let Ok(record) = serde_json::from_slice(json) else { return Parsed { records, end, chain, foreign: true } };
        records.push(record);
        end += line.len() as u64;
        chain = hash;
    }
    Parsed { records, end, chain, foreign: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(event: Event) -> Record {
        Record { at: "2026-01-01T00:00:00Z".into(), boot: "b".into(), event }
    }

    fn sample(path: &Path) -> Vec<Record> {
        Journal::create(path).unwrap();
        let events = [
            Event::Opened,
            Event::Started { task: Task::SaveSlot },
            Event::Undoing { reason: "tab\there \u{0} line\nend".into(), blame: true },
        ];
        let records: Vec<_> = events.into_iter().map(record).collect();
        for record in &records {
            // Opened anew each time, as after a reboot.
            Journal::open(path).unwrap().0.append(record).unwrap();
        }
        records
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let records = sample(&path);
        assert_eq!(read(&path).unwrap(), records);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), ALLOCATED as u64, "an append must not change the size");
    }

    #[test]
    fn a_torn_or_altered_record_ends_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let records = sample(&path);
        let whole = std::fs::read(&path).unwrap();
        let written = whole.iter().position(|byte| *byte == 0).unwrap();
        for cut in 0..written {
            let mut torn = whole.clone();
            torn[cut..written].fill(0);
            let got = parse(&torn).records;
            assert!(got.len() < records.len() && got == records[..got.len()], "cut at {cut}");
        }
        for at in 0..written {
            let mut altered = whole.clone();
            altered[at] ^= 1;
            let got = parse(&altered).records;
            assert!(got.len() < records.len() && got == records[..got.len()], "altered at {at}");
        }
    }

    #[test]
    fn a_record_of_a_newer_installer_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let records = sample(&path);
        let mut bytes = std::fs::read(&path).unwrap();
        let parsed = parse(&bytes);
        let json = br#"{"at":"2027-01-01T00:00:00Z","boot":"b","event":"transplanted"}"#;
        let (check, _) = next(&parsed.chain, json);
        let line = [&json[..], b"\t", check.as_bytes(), b"\n"].concat();
        let end = parsed.end as usize;
        bytes[end..end + line.len()].copy_from_slice(&line);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Journal::open(&path).unwrap_err().code, Code::JournalDamaged);
        assert_eq!(read(&path).unwrap(), records, "what is known can be shown");
    }

    #[test]
    fn after_a_torn_record_the_journal_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let records = sample(&path);
        let mut bytes = std::fs::read(&path).unwrap();
        let written = bytes.iter().position(|byte| *byte == 0).unwrap();
        bytes[written - 3..written].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        let (mut journal, kept) = Journal::open(&path).unwrap();
        assert_eq!(kept, records[..2]);
        let last = record(Event::Reverted);
        journal.append(&last).unwrap();
        let again = read(&path).unwrap();
        assert_eq!(again.last(), Some(&last));
        assert_eq!(again.len(), 3);
    }
}
