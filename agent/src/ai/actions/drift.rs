//! configuration-drift: are our packages' files what dpkg unpacked, and which files has the operator put into /etc/smolotchi?
//!
//! A local file is a finding of its own, by its hash: what is wanted goes into the baseline, and from then on a change is drift.

use super::{Action, Found, Risk, items, text};
use crate::ai::files;
use crate::ai::look::Look;
use serde_json::{Map, Value, json};
use smolotchi_operator::Result;
use smolotchi_store::Severity;
use std::collections::BTreeSet;
use std::path::Path;

pub(super) const ACTION: Action = Action {
    name: "configuration-drift",
    keys: "file",
    risk: Risk::Passive,
    about: "compares the files of our packages with what dpkg unpacked, and names the files in /etc/smolotchi",
    parameters: &[],
    judge,
};

fn judge(_: &Map<String, Value>, observation: &Value) -> Vec<Found> {
    let one = |item: &Value| {
        let (path, state, package) = (text(&item["path"]), text(&item["state"]), text(&item["package"]));
        let (title, severity) = match state.as_str() {
            "changed" => (format!("{path} is not what {package} brought"), Severity::Error),
            "missing" => (format!("{path} of {package} is missing"), Severity::Error),
            "unreadable" => (format!("{path} can't be read, or not all of it"), Severity::Notice),
            "local" => (format!("{path} is a local setting"), Severity::Info),
            // "same" is what nothing is to be said about.
            _ => return None,
        };
        let detail = json!({ "path": path, "state": state, "package": package, "hash": text(&item["hash"]) });
        Some(Found { key: format!("file{path}"), title, severity, detail })
    };
    items(observation).iter().filter(|item| item["path"].as_str().is_some_and(|path| path.starts_with('/'))).filter_map(one).collect()
}

/// Our packages.
const PACKAGES: [&str; 3] = ["smolotchi", "smolotchi-archive-keyring", "smolotchi-install"];

/// Reads the files of our packages that differ, and hashes what is in /etc/smolotchi.
pub(super) fn look(look: &Look<'_>) -> Result<Value> {
    let root = look.paths.root();
    let (mut seen, mut unseen, mut packages, mut ours) = (Vec::new(), Vec::new(), Map::new(), BTreeSet::new());
    let unreadable = |path: &str, package: &str| json!({ "path": path, "state": "unreadable", "package": package, "hash": "" });
    for package in PACKAGES {
        let info = |end: &str| format!("var/lib/dpkg/info/{package}.{end}");
        let list = match std::fs::read_to_string(root.join(info("md5sums"))) {
            Ok(list) => list,
            Err(_) if !is_installed(&root.join(info("list"))) => {
                packages.insert(package.to_owned(), Value::from("not installed"));
                continue;
            }
            Err(_) => {
                packages.insert(package.to_owned(), Value::from("its sums can't be read"));
                seen.push(unreadable(&format!("/{}", info("md5sums")), package));
                // Its files may be anywhere.
                unseen.push("/".to_owned());
                continue;
            }
        };
        let sums = sums(&list);
        packages.insert(package.to_owned(), Value::from(sums.len()));
        for (sum, path) in sums {
            ours.insert(format!("/{path}"));
            if let Some((state, hash)) = compare(&root.join(path), sum) {
                seen.push(json!({ "path": format!("/{path}"), "state": state, "package": package, "hash": hash }));
            }
        }
    }
    let local = files::below(&root.join("etc/smolotchi"));
    for folder in &local.unseen {
        let name = files::shown(root, folder);
        seen.push(unreadable(&name, ""));
        unseen.push(name);
    }
    for path in local.files {
        let name = files::shown(root, &path);
        if ours.contains(&name) {
            continue;
        }
        let hash = files::sha256_of(&path);
        let state = if hash.is_ok() { "local" } else { "unreadable" };
        seen.push(json!({ "path": name, "state": state, "package": "", "hash": hash.unwrap_or_default() }));
    }
    Ok(json!({ "available": true, "packages": packages, "items": seen, "unseen": unseen }))
}

/// Whether dpkg's list of a package's files names any but settings, which a removal leaves. What can't be read may be installed.
fn is_installed(list: &Path) -> bool {
    match std::fs::read_to_string(list) {
        Ok(list) => list.lines().any(|path| path.starts_with("/usr/")),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// Lines of `SUM  PATH`, the path without the leading slash.
fn sums(list: &str) -> Vec<(&str, &str)> {
    let fit = |(sum, path): &(&str, &str)| sum.len() == 32 && !path.is_empty() && !path.split('/').any(|part| part == "..");
    list.lines().filter_map(|line| line.split_once("  ")).filter(fit).collect()
}

/// What is wrong with a packaged file, and its sum now; `None` if nothing is.
fn compare(path: &Path, sum: &str) -> Option<(&'static str, String)> {
    match files::md5_of(path) {
        Ok(now) if now == sum => None,
        Ok(now) => Some(("changed", now)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(("missing", String::new())),
        Err(_) => Some(("unreadable", String::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_says_what_it_is() {
        let items = json!([
            { "path": "/usr/bin/smolotchi", "state": "changed", "package": "smolotchi", "hash": "x" },
            { "path": "/usr/share/a", "state": "missing", "package": "smolotchi", "hash": "" },
            { "path": "/etc/smolotchi/b", "state": "local", "package": "", "hash": "y" },
            { "path": "relative", "state": "local" }, { "path": "/c", "state": "same" }, {}]);
        let found = judge(&Map::new(), &json!({ "available": true, "items": items }));
        let keys: Vec<_> = found.iter().map(|found| (found.key.as_str(), found.severity)).collect();
        let expected =
            [("file/usr/bin/smolotchi", Severity::Error), ("file/usr/share/a", Severity::Error), ("file/etc/smolotchi/b", Severity::Info)];
        assert_eq!(keys, expected);
    }

    #[test]
    fn packaged_files_are_compared_with_their_sums() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "hello").unwrap();
        assert_eq!(compare(&path, "5d41402abc4b2a76b9719d911017c592"), None);
        assert_eq!(compare(&path, "00000000000000000000000000000000").unwrap().0, "changed");
        assert_eq!(compare(&dir.path().join("b"), "0").unwrap().0, "missing");
        assert_eq!(sums("5d41402abc4b2a76b9719d911017c592  usr/bin/a b\nshort  x\n5d41402abc4b2a76b9719d911017c592  ../x\n").len(), 1);
    }

    #[test]
    fn a_package_without_sums_is_installed_if_its_list_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list");
        assert!(!is_installed(&list), "no list");
        std::fs::write(&list, "/.\n/etc\n/etc/smolotchi/x\n").unwrap();
        assert!(!is_installed(&list), "removed, its settings kept");
        std::fs::write(&list, "/.\n/usr/bin/smolotchi\n").unwrap();
        assert!(is_installed(&list));
        std::fs::remove_file(&list).unwrap();
        std::fs::create_dir(&list).unwrap();
        assert!(is_installed(&list), "nobody can say");
    }
}
