//! The packages of a release, as found in folders: read strictly, each once.

use super::fault::{OrFault, input};
use smolotchi_operator::{Fault, Result};
use smolotchi_release::{Deb, DebEntry, ReleaseToml, Untrusted, release_toml, tree};
use std::path::PathBuf;

/// The package that carries the release's description.
pub(crate) const MAIN: &str = smolotchi_release::PRODUCT;

/// All *.deb of the folders, by name and architecture.
pub(crate) fn collect(folders: &[PathBuf]) -> Result<Vec<Deb<Untrusted>>> {
    let mut debs: Vec<Deb<Untrusted>> = Vec::new();
    for folder in folders {
        let failed = |error| Fault::io("could not read a folder of packages", folder, &error);
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|extension| extension != "deb") {
                continue;
            }
            let deb = Deb::open(&path).or_fault()?;
            match debs.iter().find(|other| other.package() == deb.package() && other.architecture() == deb.architecture()) {
                None => debs.push(deb),
                Some(other) if other.sha256() == deb.sha256() => {}
                Some(other) => {
                    return Err(input("two different packages of one name and architecture")
                        .fact("first", other.path().display().to_string())
                        .fact("second", path.display().to_string())
                        .hint("a release has each package once; give only folders of this release"));
                }
            }
        }
    }
    debs.sort_by(|a, b| (a.package(), a.architecture()).cmp(&(b.package(), b.architecture())));
    Ok(debs)
}

/// The manifest's entry for a package.
pub(crate) fn entry(deb: &Deb<Untrusted>) -> DebEntry {
    DebEntry {
        package: deb.package().to_owned(),
        version: deb.version().to_owned(),
        architecture: deb.architecture().to_owned(),
        path: tree::deb_path(deb.package(), deb.version(), deb.architecture()),
        size: deb.size(),
        sha256: deb.sha256().to_owned(),
    }
}

/// What the release says of itself, in the main package of every architecture alike.
pub(crate) fn describe(debs: &[Deb<Untrusted>], version: &str) -> Result<ReleaseToml> {
    let mut found: Option<ReleaseToml> = None;
    for deb in debs.iter().filter(|deb| deb.package() == MAIN) {
        let refuse = |message: &str, expected: &str, seen: &str| {
            Err(input(message).fact("path", deb.path().display().to_string()).fact("expected", expected).fact("found", seen))
        };
        if deb.version() != version {
            return refuse("the package smolotchi has another version than the release", version, deb.version());
        }
        let Some(bytes) = deb.read_file(release_toml::PATH).or_fault()? else {
            return refuse("the package smolotchi does not describe its release", release_toml::PATH, "nothing");
        };
        let release = ReleaseToml::parse(&bytes).or_fault()?;
        if release.version != version {
            return refuse("release.toml in the package names another version", version, &release.version);
        }
        if found.as_ref().is_some_and(|other| *other != release) {
            return refuse(
                "the packages for two architectures describe the release differently",
                "the same release.toml",
                deb.architecture(),
            );
        }
        found = Some(release);
    }
    found.ok_or_else(|| input("no package smolotchi among the packages").hint("give the folder that holds it with --debs"))
}
