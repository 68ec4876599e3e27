//! Which package files the dpkg that runs us is working on: a maintainer script isn't told, but its caller's command line
//! stands in /proc. Called by the guard under plain dpkg.

use super::run;
use crate::change::list;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// How many processes up dpkg may be: the guard's shell, dpkg's own fork.
const GENERATIONS: usize = 6;
/// Of files on one command line.
const MOST_FILES: usize = 1_000;

/// A package file and what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Where it is.
    pub path: PathBuf,
    /// The package in it.
    pub package: String,
    /// Its version.
    pub version: String,
}

/// The files of these packages that the dpkg above us was given; none if it can't be told.
pub fn debs(packages: &[&str]) -> Vec<Named> {
    let mut process = std::process::id();
    for _ in 0..GENERATIONS {
        let Some(parent) = parent(process) else { return Vec::new() };
        let folder = PathBuf::from(format!("/proc/{parent}"));
        let name = std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
        let line = std::fs::read(folder.join("cmdline")).unwrap_or_default();
        // Both, because its fork for the script has the same name, and the same words.
        if name.trim() == "dpkg" {
            let found = of(&line, &std::fs::read_link(folder.join("cwd")).unwrap_or_default(), packages);
            if !found.is_empty() {
                return found;
            }
        }
        process = parent;
    }
    Vec::new()
}

fn parent(process: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    (parent > 1).then_some(parent)
}

/// The files among the words of a command line, and those in its folders (`--recursive`), that hold one of the packages.
fn of(line: &[u8], folder: &Path, packages: &[&str]) -> Vec<Named> {
    let words = line.split(|byte| *byte == 0).skip(1).filter(|word| !word.is_empty() && word[0] != b'-');
    let mut files = Vec::new();
    for word in words {
        let path = folder.join(OsString::from_vec(word.to_vec()));
        if path.is_dir() {
            files.extend(list(&path).unwrap_or_default().into_iter().filter(|file| file.extension().is_some_and(|end| end == "deb")));
        } else if path.is_file() {
            files.push(path);
        }
    }
    let named = files.into_iter().take(MOST_FILES).filter_map(|path| {
        let words = [std::ffi::OsStr::new("--field"), path.as_os_str(), std::ffi::OsStr::new("Package"), std::ffi::OsStr::new("Version")];
        let text = run::succeed(&mut run::command("dpkg-deb", &words)).ok()?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
        Some(Named { package: field("Package:")?, version: field("Version:")?, path })
    });
    named.filter(|named| packages.contains(&named.package.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_on_a_command_line() {
        let root = tempfile::tempdir().unwrap();
        let build = |package: &str, version: &str, to: &str| {
            let tree = root.path().join("tree");
            std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
            let control = format!("Package: {package}\nVersion: {version}\nArchitecture: all\nMaintainer: x\nDescription: x\n");
            std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
            let to = root.path().join(to);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            let built = run::output(run::command("dpkg-deb", &["--root-owner-group", "--build"]).arg(&tree).arg(&to)).unwrap();
            assert!(built.status.success());
        };
        build("smolotchi", "0.2.0", "a b.deb");
        build("other", "1", "other.deb");
        build("smolotchi-install", "0.3.0", "folder/i.deb");
        std::fs::write(root.path().join("5"), "no package").unwrap();
        let ours = ["smolotchi", "smolotchi-install"];
        for (words, expected) in [
            (&["dpkg", "-i", "a b.deb", "other.deb"][..], &[("smolotchi", "0.2.0")][..]),
            (&["dpkg", "--status-fd", "5", "--unpack", "--recursive", "folder"], &[("smolotchi-install", "0.3.0")]),
            (&["dpkg", "-i", "folder/i.deb", "a b.deb"], &[("smolotchi-install", "0.3.0"), ("smolotchi", "0.2.0")]),
            (&["dpkg", "--configure", "smolotchi"], &[]),
        ] {
            let found = of(words.join("\0").as_bytes(), root.path(), &ours);
            let found: Vec<_> = found.iter().map(|named| (named.package.as_str(), named.version.as_str())).collect();
            assert_eq!(found, expected, "{words:?}");
        }
    }
}
