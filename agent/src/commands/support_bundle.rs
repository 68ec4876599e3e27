//! `smolotchi support-bundle`: what somebody else needs to understand this machine, without its secrets.
//!
//! Gathers by looking only. Every piece goes through [`redact_document`] before it is written; the file is new, and its owner's alone.

use super::doctor::Report;
use crate::cli::care::SupportBundle;
use crate::client::{Client, block_on};
use crate::config::{self, Unknown};
use crate::doctor::{ask, unit_names};
use crate::paths::Paths;
use crate::redact::redact_document;
use crate::{clock, release};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use smolotchi_operator::output::{columns, emit, json_line};
use smolotchi_operator::{Exit, Fault, Format, Result, Table};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// One file of the bundle: its name, where it comes from in words, and how to get it.
struct Piece {
    name: &'static str,
    from: &'static str,
    gather: fn(&Paths) -> String,
}

/// The bundle, in order.
const PIECES: &[Piece] = &[
    Piece { name: "versions.txt", from: "this program, uname, os-release, systemctl --version", gather: versions },
    Piece { name: "packages.txt", from: "dpkg-query: smolotchi*, systemd, libc6, apt", gather: packages },
    Piece { name: "doctor.txt", from: "smolotchi doctor --security", gather: |paths| Report::new(paths, true).table() },
    Piece { name: "now.json", from: "core: status, health, newest events, figures", gather: |paths| core(paths, "/v1/now") },
    Piece { name: "events.json", from: "core: the newest 1000 events", gather: |paths| core(paths, "/v1/events?limit=1000") },
    Piece { name: "jobs.json", from: "core: the newest jobs", gather: |paths| core(paths, "/v1/jobs") },
    Piece { name: "findings.json", from: "core: findings", gather: |paths| core(paths, "/v1/findings") },
    Piece { name: "readings.json", from: "core: the senses now", gather: |paths| core(paths, "/v1/sensors") },
    Piece { name: "config.txt", from: "smolotchi config show --origin, and every fragment", gather: configuration },
    Piece { name: "units.txt", from: "systemctl show and cat of the smolotchi units", gather: units },
    Piece { name: "journal.txt", from: "the last 3000 entries of the smolotchi units", gather: journal },
    Piece { name: "boots.txt", from: "journalctl --list-boots", gather: |_| said("journalctl", &["--list-boots", "--no-pager"]) },
    Piece { name: "upgrades.txt", from: "smolotchi-install status and history", gather: upgrades },
    Piece { name: "disk.txt", from: "df, df -i, findmnt; sizes below /var/lib/smolotchi", gather: disk },
    Piece { name: "memory.txt", from: "free; /proc/PID/status and limits of the services", gather: memory },
];

/// What was put in, or would be.
#[derive(Debug, Serialize)]
struct Listed {
    /// The new file; none with `--dry-run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    files: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    name: &'static str,
    from: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacted: Option<usize>,
}

impl Table for Listed {
    fn table(&self) -> String {
        let figures = |entry: &Entry| entry.bytes.zip(entry.redacted).map(|(bytes, count)| format!("{bytes} bytes, {count} redacted"));
        let rows: Vec<_> =
            self.files.iter().map(|entry| [entry.name.to_owned(), figures(entry).unwrap_or_default(), entry.from.to_owned()]).collect();
        match &self.output {
            Some(output) => format!("{}written to {output}; look into it before you hand it on\n", columns(&rows)),
            None => format!("{}nothing was written\n", columns(&rows)),
        }
    }
}

/// Writes the bundle and says what is in it. Errors: `io.failed` when the file is there already or can't be written; nothing
/// stays of a bundle that could not be finished.
pub(crate) fn run(paths: &Paths, format: Format, options: &SupportBundle) -> Result<Exit> {
    let Some(output) = options.output.as_deref().filter(|_| !options.dry_run) else {
        let files = PIECES.iter().map(|piece| Entry { name: piece.name, from: piece.from, bytes: None, redacted: None }).collect();
        emit(format, &Listed { output: None, files });
        return Ok(Exit::Success);
    };
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(output);
    let file = new.map_err(|error| {
        let fault = Fault::io("could not make the bundle's file", output, &error);
        if error.kind() == std::io::ErrorKind::AlreadyExists { fault.hint("nothing is ever overwritten: name another file") } else { fault }
    })?;
    let files = write(paths, file).map_err(|error| {
        let _ = std::fs::remove_file(output);
        Fault::io("could not write the bundle", output, &error)
    })?;
    emit(format, &Listed { output: Some(output.display().to_string()), files });
    Ok(Exit::Success)
}

/// One piece after the other, so that only one is in memory.
fn write(paths: &Paths, file: File) -> std::io::Result<Vec<Entry>> {
    let mut tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let mut entries = Vec::new();
    for piece in PIECES {
        let (text, redacted) = redact_document(&(piece.gather)(paths));
        put(&mut tar, piece.name, &text)?;
        entries.push(Entry { name: piece.name, from: piece.from, bytes: Some(text.len()), redacted: Some(redacted) });
    }
    let index = Listed { output: None, files: Vec::new() };
    let index = Listed { files: entries, ..index };
    put(&mut tar, "index.json", &json_line(&index))?;
    let mut file = tar.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()?;
    Ok(index.files)
}

fn put(tar: &mut tar::Builder<GzEncoder<File>>, name: &str, text: &str) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(clock::now_ms() / 1000).unwrap_or_default());
    tar.append_data(&mut header, Path::new("smolotchi-support").join(name), text.as_bytes())
}

/// What a program says, with its command line above it; why not, if it can't be run.
fn said(program: &str, args: &[&str]) -> String {
    let text = ask(program, args).unwrap_or_else(|why| format!("({why})\n"));
    format!("$ {program} {}\n{text}\n", args.join(" "))
}

fn file(path: &Path) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_else(|error| format!("({error})\n"));
    format!("# {}\n{text}\n", path.display())
}

fn core(paths: &Paths, call: &str) -> String {
    let answer: Result<serde_json::Value> = block_on(async { Client::new(paths.socket()).get(call).await });
    match answer {
        Ok(value) => value.to_string(),
        Err(fault) => format!("({fault})\n"),
    }
}

fn versions(paths: &Paths) -> String {
    [
        format!(
            "smolotchi {}, schema {}\nmade at {}\n\n",
            release::VERSION,
            smolotchi_store::schema_own(),
            clock::rfc3339(clock::now_ms())
        ),
        said("uname", &["-a"]),
        file(&paths.root().join("etc/os-release")),
        said("systemctl", &["--version"]),
        said("uptime", &[]),
    ]
    .concat()
}

fn packages(_: &Paths) -> String {
    let format = "-f=${db:Status-Abbrev} ${Package} ${Version} ${Architecture}\\n";
    [said("dpkg-query", &["-W", format, "smolotchi*", "systemd", "libc6", "apt", "dpkg"]), said("dpkg", &["--audit"])].concat()
}

fn configuration(paths: &Paths) -> String {
    let mut text = match config::merged(paths, Unknown::Refuse).and_then(|merged| merged.settings().map(|_| merged)) {
        Ok(merged) => {
            let rows: Vec<_> = merged
                .entries()
                .map(|(key, value, origin)| [key.to_owned(), value.to_string(), format!("{}:{}", origin.file, origin.line)])
                .collect();
            columns(&rows)
        }
        Err(fault) => format!("({fault})\n"),
    };
    for folder in paths.config_folders() {
        let mut files: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.sort();
        // What the agent reads; anything else is only named.
        files
            .iter()
            .filter(|path| path.extension().is_none_or(|extension| extension != "toml"))
            .for_each(|path| text.push_str(&format!("\n# {} (not read by the agent)\n", path.display())));
        files
            .iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .for_each(|path| text.push_str(&format!("\n{}", file(path))));
    }
    text
}

fn with_units(paths: &Paths, program: &str, args: &[&str]) -> String {
    let names = unit_names(paths);
    let args: Vec<&str> = args.iter().copied().chain(names.iter().map(String::as_str)).collect();
    said(program, &args)
}

fn units(paths: &Paths) -> String {
    let show = ["show", "--no-pager"];
    let cat = ["cat", "--no-pager"];
    [
        said("systemctl", &["list-units", "--all", "--no-pager", "smolotchi*"]),
        with_units(paths, "systemctl", &show),
        with_units(paths, "systemctl", &cat),
    ]
    .concat()
}

fn journal(_: &Paths) -> String {
    said("journalctl", &["--no-pager", "-o", "short-iso-precise", "-u", "smolotchi*", "-n", "3000"])
}

fn upgrades(_: &Paths) -> String {
    [said("smolotchi-install", &["status", "--format", "json"]), said("smolotchi-install", &["history", "--format", "json"])].concat()
}

fn disk(paths: &Paths) -> String {
    let state = paths.state().display().to_string();
    [said("df", &["-k"]), said("df", &["-i"]), said("findmnt", &["--real"]), said("du", &["-ak", "--max-depth=1", &state])].concat()
}

fn memory(paths: &Paths) -> String {
    let mut text = said("free", &["-k"]);
    for unit in unit_names(paths).iter().filter(|unit| unit.ends_with(".service")) {
        let pid = ask("systemctl", &["show", "-P", "MainPID", unit]).unwrap_or_default();
        let process = paths.proc().join(pid.trim());
        if !["", "0"].contains(&pid.trim()) {
            text.push_str(&format!(
                "{unit}\n{}{}{}",
                file(&process.join("status")),
                file(&process.join("limits")),
                file(&process.join("smaps_rollup"))
            ));
        }
    }
    text
}
