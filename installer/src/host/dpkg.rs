//! dpkg: what it knows, and handing it packages.

use super::run;
use crate::inventory::Package;
use crate::paths::Paths;
use smolotchi_operator::{Code, Fault, Result};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The packages that are ours.
pub const OURS: [&str; 3] = ["smolotchi", "smolotchi-install", "smolotchi-archive-keyring"];

/// This machine's architecture, in dpkg's words.
pub fn architecture() -> Result<String> {
    Ok(run::succeed(&mut run::command("dpkg", &["--print-architecture"]))?.trim().to_owned())
}

/// Our packages as dpkg knows them; those that it never heard of are left out.
pub fn packages() -> Result<Vec<Package>> {
    let format = "-f=${Package}\t${Version}\t${db:Status-Abbrev}\n";
    let mut args = vec!["-W", format];
    args.extend(OURS);
    // Exit 1 says that one of them is unknown, which is fine.
    let output = run::output(&mut run::command("dpkg-query", &args))?;
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

fn parse(text: &str) -> Vec<Package> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let (name, version, state) = (fields.next()?, fields.next()?, fields.next()?);
            Some(Package { name: name.to_owned(), version: version.to_owned(), state: state.to_owned() })
        })
        .collect()
}

/// What dpkg's database looks like from outside; it is another after every change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Number and time (ns) of `status`, which dpkg replaces whole.
    status: (u64, i64, i64),
    /// What it has written since, in `updates`.
    updates: Vec<std::ffi::OsString>,
}

/// Looks at dpkg's database without asking dpkg; none if it can't be looked at.
pub fn stamp(paths: &Paths) -> Option<Stamp> {
    let status = std::fs::metadata(paths.dpkg().join("status")).ok()?;
    let mut updates: Vec<_> =
        std::fs::read_dir(paths.dpkg().join("updates")).ok()?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    updates.sort();
    Some(Stamp { status: (status.ino(), status.mtime(), status.mtime_nsec()), updates })
}

/// The agent's package, if it is on the machine.
pub fn agent() -> Result<Option<Package>> {
    Ok(packages()?.into_iter().find(|package| package.name == "smolotchi" && package.is_present()))
}

/// What `dpkg --audit` complains about; empty when all is well.
pub fn audit() -> Result<String> {
    let output = run::output(&mut run::command("dpkg", &["--audit"]))?;
    Ok(run::said(&output).trim().to_owned())
}

/// A package file that dpkg may be given: one in a folder of ours that was just hashed against the record of a change or
/// slot. What gets into such a record was a `Deb<Verified>`, came through apt, or was installed here before.
#[derive(Debug)]
pub struct Installable {
    path: std::path::PathBuf,
}

impl Installable {
    /// From a folder of ours (a change's or a slot's) whose files were hashed against their record just now.
    pub fn hashed(path: &Path, size: u64, sha256: &str) -> Result<Self> {
        let damaged = |found: String| {
            Fault::new(Code::FileMismatch, "a kept package is not what it was")
                .fact("path", path.display().to_string())
                .fact("expected", sha256)
                .fact("found", found)
        };
        match smolotchi_release::sha256_file(path) {
            Ok((hash, length)) if hash == sha256 && length == size => Ok(Installable { path: path.to_owned() }),
            Ok((hash, _)) => Err(damaged(hash)),
            Err(error) => Err(damaged(error.to_string())),
        }
    }
}

/// Unpacks and configures packages in one run. The caller holds the front-end lock. Run again after a crash, it heals:
/// dpkg unpacks the same file over whatever state there is.
pub fn install(debs: &[Installable], change: &str) -> Result<()> {
    let mut args: Vec<std::ffi::OsString> =
        ["--install", "--force-confdef", "--force-confold", "--no-force-unsafe-io"].map(Into::into).to_vec();
    args.extend(debs.iter().map(|deb| deb.path.clone().into_os_string()));
    call(&args, change)
}

/// Removes the agent, keeping its database and configuration.
pub fn remove(change: &str) -> Result<()> {
    call(&["--remove", "--force-remove-reinstreq", "smolotchi"], change)
}

/// Tells the guard, which the maintainer scripts call, that dpkg was started for this change.
pub const CHANGE_VARIABLE: &str = "SMOLOTCHI_CHANGE";

fn call<S: AsRef<std::ffi::OsStr>>(args: &[S], change: &str) -> Result<()> {
    let mut command = run::command("dpkg", args);
    command.env("DPKG_FRONTEND_LOCKED", "1").env(CHANGE_VARIABLE, change);
    // To a file and not to us: should we be killed, dpkg must not die of a pipe that nobody reads.
    let path = std::path::Path::new("/run/smolotchi-install.dpkg.log");
    let log = std::fs::File::create(path).map_err(|error| Fault::io("could not write dpkg's log", path, &error))?;
    let again = log.try_clone().map_err(|error| Fault::io("could not write dpkg's log", path, &error))?;
    command.stdout(log).stderr(again);
    let output = run::output(&mut command)?;
    let said = std::fs::read_to_string(path).unwrap_or_default();
    for line in said.lines() {
        smolotchi_operator::log::info(format!("dpkg: {line}"));
    }
    if output.status.success() {
        return Ok(());
    }
    Err(Fault::new(Code::TaskFailed, "dpkg could not finish").fact("status", output.status.to_string()).fact("said", run::tail(&said, 10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read() {
        let packages =
            parse("smolotchi\t0.1.0\tii \nsmolotchi-install\t0.2.0\tiHR\nsmolotchi-archive-keyring\t\tun \nx\t1\thi \ny\t1\trc \n");
        let facts: Vec<_> = packages.iter().map(|package| (package.is_present(), package.is_whole())).collect();
        assert_eq!(facts, [(true, true), (true, false), (false, false), (true, true), (false, false)]);
    }
}
