//! What dpkg needs to unpack our packages, by compression: memory, time, and bytes to carry. On the host, because memory and time of
//! unpacking don't depend on the rest of the machine.

use crate::measure::pss;
use smolotchi_operator::{Code, Fault, Result};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The packages.
    #[arg(default_value = "dist/demo/repo/pool")]
    pool: PathBuf,
    /// How often each is measured; the median counts.
    #[arg(long, default_value_t = 5)]
    repeat: usize,
}

/// Compressor and level, as dpkg-deb knows them, and whether dpkg-deb may use several threads to compress.
const CHOICES: [(&str, &str, bool); 8] = [
    ("none", "0", false),
    ("gzip", "9", false),
    ("gzip", "6", false),
    ("xz", "6", true),
    ("xz", "6", false),
    ("xz", "1", false),
    ("xz", "0", false),
    ("zstd", "19", false),
];

/// Packs each package anew and unpacks it; a table in Markdown.
pub(crate) fn run(args: &Args) -> Result<String> {
    let scratch = std::env::temp_dir().join(format!("smolotchi-bench-{}", std::process::id()));
    let result = tables(args, &scratch);
    let _ = std::fs::remove_dir_all(&scratch);
    result
}

fn tables(args: &Args, scratch: &Path) -> Result<String> {
    let entries = std::fs::read_dir(&args.pool).map_err(|error| Fault::io("could not list the packages", &args.pool, &error))?;
    let mut debs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    debs.retain(|path| path.to_string_lossy().contains("_0.2.0_"));
    debs.sort();
    let mut text = String::new();
    for deb in debs {
        let name = deb.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let _ = writeln!(text, "| {name} | bytes | to unpack, ms | peak memory of dpkg-deb, MB |\n|---|---:|---:|---:|");
        let tree = scratch.join("tree");
        let _ = std::fs::remove_dir_all(scratch);
        make(&tree)?;
        succeed(Command::new("dpkg-deb").arg("-R").arg(&deb).arg(&tree))?;
        for (kind, level, threads) in CHOICES {
            let packed = scratch.join("packed.deb");
            let mut pack = Command::new("dpkg-deb");
            pack.args(["--root-owner-group", &format!("-Z{kind}"), &format!("-z{level}")]);
            if !threads {
                pack.arg("--threads-max=1");
            }
            succeed(pack.arg("--build").arg(&tree).arg(&packed))?;
            let bytes = std::fs::metadata(&packed).map_err(|error| Fault::io("could not look at a package", &packed, &error))?.len();
            let mut runs = Vec::new();
            for _ in 0..args.repeat.max(1) {
                let out = scratch.join("out");
                let _ = std::fs::remove_dir_all(&out);
                make(&out)?;
                runs.push(unpack(&packed, &out)?);
            }
            let mut times: Vec<Duration> = runs.iter().map(|(time, _)| *time).collect();
            times.sort();
            let peak = runs.iter().map(|(_, peak)| *peak).max().unwrap_or_default();
            let how = if threads { ", threads" } else { "" };
            let _ =
                writeln!(text, "| {kind} -{level}{how} | {bytes} | {} | {:.1} |", times[times.len() / 2].as_millis(), peak as f64 / 1e6);
        }
        text.push('\n');
    }
    Ok(text)
}

/// Unpacks as dpkg does (dpkg-deb in two processes and tar); time, and the most memory of all three, looked at all the time.
fn unpack(deb: &Path, out: &Path) -> Result<(Duration, u64)> {
    let began = Instant::now();
    let mut child = Command::new("dpkg-deb")
        .arg("-x")
        .arg(deb)
        .arg(out)
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| Fault::new(Code::ProgramMissing, "could not start dpkg-deb").cause(&error))?;
    let mut peak = 0;
    loop {
        let mut family = vec![child.id()];
        let mut next = 0;
        while let Some(parent) = family.get(next).copied() {
            let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
            family.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
            next += 1;
        }
        let read = |pid: &u32| pss(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default());
        peak = peak.max(family.iter().filter_map(read).sum());
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) if status.success() => return Ok((began.elapsed(), peak)),
            other => return Err(Fault::new(Code::ProgramFailed, "dpkg-deb could not unpack").fact("status", format!("{other:?}"))),
        }
    }
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| Fault::io("could not make a folder", folder, &error))
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|error| Fault::new(Code::ProgramMissing, "could not run dpkg-deb").cause(&error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Fault::new(Code::ProgramFailed, "dpkg-deb failed").fact("said", String::from_utf8_lossy(&output.stderr).into_owned()))
}
