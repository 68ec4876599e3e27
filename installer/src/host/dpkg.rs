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

/// What a healer wants to know first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Our packages, as dpkg last wrote them down.
    pub ours: Vec<Package>,
    /// Another package is unpacked, half-installed, half-configured, or has to be installed again.
    pub others_unfinished: bool,
    /// One of them has only a trigger to process that our files set off.
    pub triggered: bool,
    /// dpkg was interrupted before it could bring its database up to date: what stands above may be old.
    pub interrupted: bool,
}

/// Looks at dpkg's database without starting a program: at every boot, it has to cost next to nothing.
pub fn survey(paths: &Paths) -> Result<Survey> {
    let path = paths.dpkg().join("status");
    let bytes = std::fs::read(&path).map_err(|error| Fault::io("could not read dpkg's database", &path, &error))?;
    // As apt looks for it: what dpkg has written down since, one numbered file for each step.
    let interrupted = crate::change::list(&paths.dpkg().join("updates"))?
        .iter()
        .any(|file| file.file_name().is_some_and(|name| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())));
    Ok(Survey { interrupted, ..surveyed(&bytes) })
}

/// systemd's trigger for the journal's catalogue, of which our packages bring a part.
const CATALOG: &str = "/usr/lib/systemd/catalog";

fn surveyed(status: &[u8]) -> Survey {
    let mut survey = Survey::default();
    let (mut name, mut state, mut version) = (&b""[..], String::new(), "");
    for line in status.split(|byte| *byte == b'\n').chain([&b""[..]]) {
        if let Some(value) = line.strip_prefix(b"Package: ") {
            name = value;
        } else if let Some(value) = line.strip_prefix(b"Status: ") {
            state = abbreviated(&String::from_utf8_lossy(value));
        } else if let Some(value) = line.strip_prefix(b"Version: ") {
            version = std::str::from_utf8(value).unwrap_or_default();
        } else if let Some(value) = line.strip_prefix(b"Triggers-Pending: ") {
            survey.triggered |= String::from_utf8_lossy(value).split(' ').any(|trigger| trigger == CATALOG);
        } else if line.is_empty() {
            if OURS.iter().any(|ours| ours.as_bytes() == name) {
                let name = String::from_utf8_lossy(name).into_owned();
                survey.ours.push(Package { name, version: version.to_owned(), state });
            } else {
                survey.others_unfinished |= is_unfinished(&state);
            }
            (name, state, version) = (b"", String::new(), "");
        }
    }
    survey
}

/// `install ok half-configured` → `iF `, as dpkg-query abbreviates it.
fn abbreviated(status: &str) -> String {
    let mut words = status.split(' ');
    let want = match words.next().unwrap_or_default() {
        "deinstall" => 'r',
        other => other.chars().next().unwrap_or('u'),
    };
    let required = if words.next() == Some("reinstreq") { 'R' } else { ' ' };
    let state = match words.next().unwrap_or_default() {
        "config-files" => 'c',
        "half-installed" => 'H',
        "unpacked" => 'U',
        "half-configured" => 'F',
        "triggers-awaited" => 'W',
        "triggers-pending" => 't',
        "installed" => 'i',
        _ => 'n',
    };
    format!("{want}{state}{required}")
}

fn is_unfinished(state: &str) -> bool {
    matches!(state.get(1..2), Some("H" | "U" | "F" | "W" | "t")) || state.get(2..3) == Some("R")
}

/// Every package that dpkg has not finished, ours and others', with the names that dpkg tells them by.
pub fn unfinished() -> Result<Vec<Package>> {
    let text = run::succeed(&mut run::command("dpkg-query", &["-W", "-f=${binary:Package}\t${Version}\t${db:Status-Abbrev}\n"]))?;
    Ok(parse(&text).into_iter().filter(|package| is_unfinished(&package.state)).collect())
}

/// True if this version, or any other, was configured here before: what is there now is no first installation.
pub fn was_configured(package: &str) -> bool {
    run::succeed(&mut run::command("dpkg-query", &["-W", "-f=${Config-Version}", package])).is_ok_and(|text| !text.trim().is_empty())
}

/// The architecture of a package that dpkg knows.
pub fn architecture_of(package: &str) -> Result<String> {
    Ok(run::succeed(&mut run::command("dpkg-query", &["-W", "-f=${Architecture}", package]))?.trim().to_owned())
}

/// True of the installer or the keyring when a newer one than a plan's is on the machine: they only ever move up.
pub fn is_overtaken(known: &[Package], package: &str, version: &str) -> bool {
    let newer = |known: &Package| smolotchi_release::version::compare(&known.version, version) == std::cmp::Ordering::Greater;
    package != "smolotchi" && known.iter().any(|known| known.name == package && known.is_whole() && newer(known))
}

/// Name and version of a package file that is whole; none if it isn't one, or is torn.
pub fn identify(file: &Path) -> Option<(String, String)> {
    if let Ok(deb) = smolotchi_release::Deb::<smolotchi_release::Untrusted>::open(file) {
        return Some((deb.package().to_owned(), deb.version().to_owned()));
    }
    // One that was rebuilt here, or somebody else's.
    run::succeed(&mut run::command("dpkg-deb", &["--contents".as_ref(), file.as_os_str()])).ok()?;
    let text = run::succeed(&mut run::command("dpkg-deb", &["--show".as_ref(), file.as_os_str()])).ok()?;
    let (name, version) = text.trim().split_once('\t')?;
    Some((name.to_owned(), version.to_owned()))
}

/// The installed files that aren't what the package holds, by their paths. Left out are the operator's configuration and
/// what a machine may be told not to keep (documentation, manuals). A package of another make than our releases' (one that
/// was rebuilt here) can't be compared, and counts as whole.
pub fn torn(paths: &Paths, deb: &Path) -> Vec<String> {
    let Ok(files) = smolotchi_release::Deb::<smolotchi_release::Untrusted>::open(deb).and_then(|deb| deb.files()) else {
        return Vec::new();
    };
    let diverted = std::fs::read_to_string(paths.dpkg().join("diversions")).unwrap_or_default();
    let is_ours = |path: &str| !path.starts_with("/etc/") && !diverted.lines().any(|line| line == path);
    let differs = |path: &str, sha256: &str| match smolotchi_release::sha256_file(&paths.root().join(path.trim_start_matches('/'))) {
        Ok((found, _)) => found != sha256,
        Err(_) => !path.starts_with("/usr/share/"),
    };
    files.into_iter().filter(|(path, sha256)| is_ours(path) && differs(path, sha256)).map(|(path, _)| path).collect()
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
    /// A package file that healing needs and that no record names: apt fetched and verified it, or it was kept for what runs.
    pub fn found(path: &Path) -> Self {
        Installable { path: path.to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

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

/// On whose behalf dpkg runs.
#[derive(Debug, Clone, Copy)]
pub struct For<'a> {
    /// The change, or [`HEALING`]; the guard is told.
    pub change: &'a str,
    /// The machine is booting: maintainer scripts must start nothing, because the boot does in a moment, and waiting for
    /// what waits for us would last for ever.
    pub booting: bool,
}

impl<'a> For<'a> {
    /// A running machine's change.
    pub fn change(change: &'a str) -> Self {
        For { change, booting: false }
    }
}

/// A conffile that was edited stays; files are synced before they are renamed, whatever the machine's settings say.
const OPTIONS: [&str; 3] = ["--force-confdef", "--force-confold", "--no-force-unsafe-io"];

/// Unpacks and configures packages in one run. The caller holds the front-end lock. Run again after a crash, it heals:
/// dpkg unpacks the same file over whatever state there is.
pub fn install(debs: &[Installable], on_behalf: For<'_>) -> Result<()> {
    let mut args: Vec<std::ffi::OsString> = OPTIONS.map(Into::into).to_vec();
    args.push("--install".into());
    args.extend(debs.iter().map(|deb| deb.path.clone().into_os_string()));
    call(&args, on_behalf)
}

/// Finishes what was unpacked, of whatever package.
pub fn configure_all(on_behalf: For<'_>) -> Result<()> {
    call(&[&OPTIONS[..], &["--configure", "-a"]].concat(), on_behalf)
}

/// Removes the agent, keeping its database and configuration.
pub fn remove(on_behalf: For<'_>) -> Result<()> {
    take_off("--remove", &["smolotchi"], on_behalf)
}

/// `--remove` or `--purge` of packages in whatever state they are.
pub fn take_off(verb: &str, packages: &[&str], on_behalf: For<'_>) -> Result<()> {
    call(&[&["--force-remove-reinstreq", verb], packages].concat(), on_behalf)
}

/// Tells the guard, which the maintainer scripts call, that dpkg was started for this change.
pub const CHANGE_VARIABLE: &str = "SMOLOTCHI_CHANGE";
/// In its place while healing without an open change: the guard opens none.
pub const HEALING: &str = "healing";

fn call<S: AsRef<std::ffi::OsStr>>(args: &[S], on_behalf: For<'_>) -> Result<()> {
    let mut command = run::command("dpkg", args);
    command.env("DPKG_FRONTEND_LOCKED", "1").env(CHANGE_VARIABLE, on_behalf.change);
    if on_behalf.booting {
        command.env("SYSTEMD_OFFLINE", "1");
    }
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
    fn only_the_installer_and_the_keyring_are_overtaken() {
        let known = |name: &str, version: &str, state: &str| Package { name: name.into(), version: version.into(), state: state.into() };
        let known = [known("smolotchi", "0.9.0", "ii "), known("smolotchi-install", "0.2.1", "ii "), known("keyring", "2026.2", "iU ")];
        for (package, version, expected) in [
            ("smolotchi-install", "0.2.0", true),
            ("smolotchi-install", "0.2.1", false),
            ("smolotchi-install", "0.3.0", false),
            ("smolotchi", "0.2.0", false),
            ("keyring", "2026.1", false),
        ] {
            assert_eq!(is_overtaken(&known, package, version), expected, "{package} {version}");
        }
    }

    #[test]
    fn a_survey_finds_what_is_unfinished() {
        let stanza = |name: &str, status: &str| format!("Package: {name}\nStatus: {status}\nVersion: 1\nDescription: x\n Status: y\n\n");
        let ours = |status: &str| surveyed(stanza("smolotchi", status).as_bytes()).ours[0].state.clone();
        for (status, expected) in [
            ("install ok installed", "ii "),
            ("install reinstreq half-installed", "iHR"),
            ("hold ok unpacked", "hU "),
            ("deinstall ok half-configured", "rF "),
            ("purge ok config-files", "pc "),
            ("install ok triggers-awaited", "iW "),
        ] {
            assert_eq!(ours(status), expected, "{status}");
        }
        for (status, expected) in [
            ("install ok installed", false),
            ("deinstall ok config-files", false),
            ("install ok half-configured", true),
            ("install reinstreq installed", true),
            ("install ok triggers-pending", true),
        ] {
            let text = format!("{}{}", stanza("libc6", status), stanza("z", "install ok installed"));
            assert_eq!(surveyed(text.as_bytes()), Survey { others_unfinished: expected, ..Survey::default() }, "{status}");
        }
        for (triggers, expected) in
            [("/usr/lib/systemd/catalog", true), ("/a /usr/lib/systemd/catalog", true), ("/usr/lib/systemd/catalog/x", false)]
        {
            let text = stanza("systemd", "install ok triggers-pending")
                .replace("Version: 1\n", &format!("Version: 1\nTriggers-Pending: {triggers}\n"));
            let survey = surveyed(text.as_bytes());
            assert_eq!((survey.others_unfinished, survey.triggered), (true, expected), "{triggers}");
        }
        // The last stanza may lack its empty line.
        assert_eq!(surveyed(stanza("smolotchi", "install ok unpacked").trim_end().as_bytes()).ours.len(), 1);
    }

    #[test]
    fn states_are_read() {
        let packages =
            parse("smolotchi\t0.1.0\tii \nsmolotchi-install\t0.2.0\tiHR\nsmolotchi-archive-keyring\t\tun \nx\t1\thi \ny\t1\trc \n");
        let facts: Vec<_> = packages.iter().map(|package| (package.is_present(), package.is_whole())).collect();
        assert_eq!(facts, [(true, true), (true, false), (false, false), (true, true), (false, false)]);
    }
}
