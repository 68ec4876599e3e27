//! Rebuilds the .deb of an installed package from its files and dpkg's records, for when the original isn't at hand
//! (the first installation, plain `dpkg -i`). Like dpkg-repack, but without its dependencies, and compressed quickly: that is
//! half the card writes of not at all, and our own reader knows it again as a package of ours.

use super::run;
use crate::change::{make_folder, remove_tree};
use crate::paths::Paths;
use smolotchi_operator::{Code, Fault, Result, durable};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The control files that belong into a package; the rest of dpkg's info folder is its own.
const CONTROL_FILES: [&str; 9] = ["preinst", "postinst", "prerm", "postrm", "config", "conffiles", "triggers", "templates", "shlibs"];

/// Rebuilds `package` into `folder`; the file's path. `folder` also holds the scratch tree for the moment.
pub fn repack(paths: &Paths, package: &str, folder: &Path) -> Result<PathBuf> {
    let fields = run::succeed(&mut run::command("dpkg-query", &["--status", package]))?;
    let control = control(&fields);
    let field = |name: &str| control.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    let (Some(version), Some(architecture)) = (field("Version:"), field("Architecture:")) else {
        return Err(Fault::new(Code::ProgramFailed, "dpkg's record of an installed package has no version").fact("package", package));
    };
    let tree = folder.join(".repack");
    remove_tree(&tree)?;
    make_folder(&tree.join("DEBIAN"))?;
    mode(&tree, 0o755)?;
    mode(&tree.join("DEBIAN"), 0o755)?;
    write(&tree.join("DEBIAN/control"), control.as_bytes(), 0o644)?;
    for name in CONTROL_FILES {
        let source = paths.dpkg().join("info").join(format!("{package}.{name}"));
        if let Ok(bytes) = std::fs::read(&source) {
            let is_script = matches!(name, "preinst" | "postinst" | "prerm" | "postrm" | "config");
            write(&tree.join("DEBIAN").join(name), &bytes, if is_script { 0o755 } else { 0o644 })?;
        }
    }
    let list = run::succeed(&mut run::command("dpkg-query", &["--listfiles", package]))?;
    for name in list.lines().filter(|line| line.starts_with('/') && *line != "/.") {
        copy(paths, &tree, name)?;
    }
    let deb = folder.join(format!("{package}_{version}_{architecture}.deb"));
    let args = ["--root-owner-group", "-Zgzip", "-z1", "--build"].map(std::ffi::OsString::from);
    let mut command = run::command("dpkg-deb", &args);
    command.arg(&tree).arg(&deb);
    let built = run::succeed(&mut command);
    remove_tree(&tree)?;
    built?;
    std::fs::File::open(&deb)
        .and_then(|file| file.sync_all())
        .map_err(|error| Fault::io("could not sync a rebuilt package", &deb, &error))?;
    durable::sync_folder(folder)?;
    Ok(deb)
}

/// True if a package can be rebuilt faithfully: its files are those that dpkg recorded when it was unpacked. Configuration
/// is the operator's, and a machine may be told not to keep documentation.
pub fn is_faithful(package: &str) -> bool {
    let Ok(output) = run::output(&mut run::command("dpkg", &["--verify", package])) else { return false };
    let tolerable = |line: &str| {
        let mut words = line.split_whitespace();
        let (checks, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        second == "c" || (checks == "missing" && second.starts_with("/usr/share/"))
    };
    String::from_utf8_lossy(&output.stdout).lines().all(tolerable) && output.stderr.is_empty()
}

/// dpkg's status stanza without the fields that only the installed package has.
fn control(status: &str) -> String {
    let mut text = String::new();
    let mut dropping = false;
    for line in status.lines() {
        if !line.starts_with(' ') {
            dropping = ["Status:", "Conffiles:", "Config-Version:"].iter().any(|field| line.starts_with(field));
        }
        if !dropping && !line.is_empty() {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn copy(paths: &Paths, tree: &Path, name: &str) -> Result<()> {
    let relative = name.trim_start_matches('/');
    let source = paths.root().join(relative);
    let target = tree.join(relative);
    let failed = |error: std::io::Error| Fault::io("could not copy an installed file", &source, &error);
    let meta = match std::fs::symlink_metadata(&source) {
        Ok(meta) => meta,
        // Documentation that the machine is told not to keep (dpkg's path-exclude) is not missed.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if let Some(parent) = target.parent() {
        make_folder(parent)?;
    }
    if meta.is_dir() {
        make_folder(&target)?;
        mode(&target, meta.permissions().mode() & 0o7777)
    } else if meta.is_symlink() {
        std::fs::read_link(&source).and_then(|to| std::os::unix::fs::symlink(to, &target)).map_err(failed)
    } else {
        // A hard link costs nothing; across file systems it has to be a copy.
        std::fs::hard_link(&source, &target).or_else(|_| std::fs::copy(&source, &target).map(drop)).map_err(failed)
    }
}

fn write(path: &Path, bytes: &[u8], bits: u32) -> Result<()> {
    std::fs::write(path, bytes).map_err(|error| Fault::io("could not write a file", path, &error))?;
    mode(path, bits)
}

fn mode(path: &Path, bits: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits))
        .map_err(|error| Fault::io("could not set a file's mode", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_stanza_becomes_a_control_file() {
        let status = "Package: a\nStatus: install ok installed\nVersion: 1\nConffiles:\n /etc/a 0123\nDescription: x\n y\n .\n z\n\n";
        assert_eq!(control(status), "Package: a\nVersion: 1\nDescription: x\n y\n .\n z\n");
    }
}
