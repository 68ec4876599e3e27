//! `make gate-security`: the exposure of each packaged service in exact points beside the pinned ones, by the systemd of each Debian.
//!
//! Without packages it takes the unit files of this tree. Ends with 10 if any service has more points than are pinned, or is not pinned.

use clap::Parser;
use serde::Serialize;
use smolotchi_lab::exposure::{self, Row};
use smolotchi_operator::output::{columns, emit, finish};
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Measures the exposure of our services, and fails on any rise.
#[derive(Debug, Parser)]
#[command(name = "smolotchi-gate")]
struct Cli {
    /// Packages to take the units from; this tree's unit files if there is none.
    debs: Vec<PathBuf>,
    /// Where the pinned points are.
    #[arg(long, default_value = "tests/exposure.toml")]
    pins: PathBuf,
    /// Pins what is measured. Look at the difference before you commit it.
    #[arg(long)]
    pin: bool,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct Verdict {
    event: &'static str,
    risen: bool,
    services: Vec<Row>,
}

impl Table for Verdict {
    fn table(&self) -> String {
        let mut lines = vec![["RELEASE", "SERVICE", "EXPOSURE", "POINTS", "PINNED", "DELTA", "OPEN"].map(str::to_owned)];
        for Row { release, unit, exposure, pinned } in &self.services {
            let delta = pinned.map(|pinned| i128::from(exposure.points) - i128::from(pinned));
            let mut open: Vec<String> = exposure.open.iter().take(3).map(|open| format!("{} {}", open.name, open.points)).collect();
            if exposure.open.len() > open.len() {
                open.push(format!("{} more", exposure.open.len() - open.len()));
            }
            lines.push([
                release.clone(),
                unit.clone(),
                format!("{}.{}", exposure.tenths / 10, exposure.tenths % 10),
                format!("{} of {}", exposure.points, exposure.of),
                pinned.map_or_else(|| "-".to_owned(), |pinned| pinned.to_string()),
                delta.map_or_else(|| "not pinned".to_owned(), |delta| format!("{delta:+}")),
                open.join(", "),
            ]);
        }
        let last = if self.risen { "\na service has more points than it may have: see docs/concepts/hardening.md\n" } else { "" };
        format!("{}{last}", columns(&lines))
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.format;
    finish(format, run(&cli))
}

fn run(cli: &Cli) -> Result<Exit> {
    let text = std::fs::read_to_string(&cli.pins).map_err(|error| Fault::io("could not read the pinned points", &cli.pins, &error))?;
    let pins = exposure::pinned(&text)?;
    let root = std::env::temp_dir().join(format!("smolotchi-gate-units-{}", std::process::id()));
    let rows = unpack(&cli.debs, &root).and_then(|()| exposure::survey(&root, &pins));
    let _ = std::fs::remove_dir_all(&root);
    let services = rows?;
    if cli.pin {
        let head: String = text.lines().take_while(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        let mut all: BTreeMap<&str, String> = BTreeMap::new();
        for row in &services {
            all.entry(&row.release).or_default().push_str(&format!("\"{}\" = {}\n", row.unit, row.exposure.points));
        }
        let body: String = all.iter().map(|(release, lines)| format!("\n[{release}]\n{lines}")).collect();
        std::fs::write(&cli.pins, format!("{head}{body}")).map_err(|error| Fault::io("could not pin", &cli.pins, &error))?;
    }
    let risen = !cli.pin && services.iter().any(Row::risen);
    emit(cli.format, &Verdict { event: "result", risen, services });
    Ok(if risen { Exit::Runtime } else { Exit::Success })
}

/// Puts the units below `root`, as they are packaged or, without packages, as they lie here.
fn unpack(debs: &[PathBuf], root: &Path) -> Result<()> {
    let run = |command: &mut Command| match command.status() {
        Ok(status) if status.success() => Ok(()),
        other => Err(Fault::new(Code::ProgramFailed, "could not unpack the units").fact("came", format!("{other:?}"))),
    };
    let units = root.join("usr/lib/systemd");
    std::fs::create_dir_all(&units).map_err(|error| Fault::io("could not make a folder", &units, &error))?;
    if debs.is_empty() {
        return run(Command::new("cp").args(["-a", "systemd/system"]).arg(&units));
    }
    debs.iter().try_for_each(|deb| run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(root)))
}
