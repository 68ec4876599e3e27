//! `make gate-security`: the exposure of each packaged service in exact points, beside what it may have and what it had in the release before, by
//! the systemd of each Debian.
//!
//! Without packages it takes the unit files of this tree. Ends with 10 if any service has more points than it may have, or than it had.

use clap::Parser;
use serde::Serialize;
use smolotchi_lab::exposure::{self, Row};
use smolotchi_operator::exposure::Pins;
use smolotchi_operator::output::{columns, emit, finish, json_line};
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Measures the exposure of our services, and fails on any rise.
#[derive(Debug, Parser)]
#[command(name = "smolotchi-gate")]
struct Cli {
    /// Packages to take the units from; this tree's unit files if there is none.
    debs: Vec<PathBuf>,
    /// Where the thresholds are.
    #[arg(long, default_value = "systemd/exposure.toml")]
    pins: PathBuf,
    /// Makes what is measured the threshold. Look at the difference before you commit it.
    #[arg(long)]
    pin: bool,
    /// This version is out: what is measured is from now on what the release before had.
    #[arg(long, value_name = "VERSION")]
    released: Option<String>,
    /// Also writes everything that is open to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
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
        let mut lines = vec![["DEBIAN", "SERVICE", "EXPOSURE", "POINTS", "AT MOST", "DELTA", "OPEN"].map(str::to_owned)];
        for Row { release, held } in &self.services {
            let exposure = &held.exposure;
            let mut open: Vec<String> = exposure.open.iter().take(3).map(|open| format!("{} {}", open.name, open.points)).collect();
            if exposure.open.len() > open.len() {
                open.push(format!("{} more", exposure.open.len() - open.len()));
            }
            lines.push([
                release.clone(),
                format!("{}{}", held.unit, if held.risen() { " RISEN" } else { "" }),
                exposure.level(),
                format!("{} of {}", exposure.points, exposure.of),
                held.threshold.map_or_else(|| "nobody said".to_owned(), |threshold| threshold.to_string()),
                held.since(),
                open.join(", "),
            ]);
        }
        let last = if self.risen { "\na service has more points than it may have, or had: see docs/concepts/hardening.md\n" } else { "" };
        format!("{}{last}", columns(&lines))
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.format;
    finish(format, run(&cli))
}

fn run(cli: &Cli) -> Result<Exit> {
    let text = std::fs::read_to_string(&cli.pins).map_err(|error| Fault::io("could not read the thresholds", &cli.pins, &error))?;
    let pins = exposure::pinned(&text)?;
    let root = std::env::temp_dir().join(format!("smolotchi-gate-units-{}", std::process::id()));
    let rows = unpack(&cli.debs, &root).and_then(|()| exposure::survey(&root, &pins));
    let _ = std::fs::remove_dir_all(&root);
    let services = rows?;
    if cli.pin || cli.released.is_some() {
        let written = written(&text, &pins, cli, &services);
        std::fs::write(&cli.pins, written).map_err(|error| Fault::io("could not write the thresholds", &cli.pins, &error))?;
    }
    let risen = !cli.pin && services.iter().any(|row| row.held.risen());
    let verdict = Verdict { event: "result", risen, services };
    if let Some(path) = &cli.json {
        std::fs::write(path, json_line(&verdict)).map_err(|error| Fault::io("could not write the result", path, &error))?;
    }
    emit(cli.format, &verdict);
    Ok(if risen { Exit::Runtime } else { Exit::Success })
}

/// The file with what was measured in it, by the systemd that counts more; comments stay.
fn written(text: &str, pins: &Pins, cli: &Cli, rows: &[Row]) -> String {
    let mut pins = pins.clone();
    for unit in rows.iter().map(|row| &row.held.unit) {
        let most = rows.iter().filter(|row| row.held.unit == *unit).map(|row| row.held.exposure.points).max().unwrap_or_default();
        if cli.pin {
            pins.thresholds.insert(unit.clone(), most);
        }
        if cli.released.is_some() {
            pins.last.insert(unit.clone(), most);
        }
    }
    let last = cli.released.as_ref().unwrap_or(&pins.last_release);
    let mut made = String::new();
    for line in text.lines().filter(|line| !line.starts_with('"')) {
        match line {
            line if line.starts_with("last_release") => made.push_str(&format!("last_release = \"{last}\"\n")),
            line => made.push_str(&format!("{line}\n")),
        }
        let points = match line {
            "[thresholds]" => &pins.thresholds,
            "[last]" => &pins.last,
            _ => continue,
        };
        points.iter().for_each(|(unit, points)| made.push_str(&format!("\"{unit}\" = {points}\n")));
    }
    made
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
