//! Part `packages`: dpkg, the installer, and the keys that vouch for the next release.

use super::{Check, State, ask_here};
use crate::installs::{Course, Install};
use crate::paths::Paths;

const PART: &str = "packages";

pub(super) fn look(paths: &Paths) -> Vec<Check> {
    vec![
        dpkg(ask_here(paths, "dpkg", &["--audit"])),
        install(Install::read(&paths.install_status()).as_ref()),
        keys(paths, "usr/share/smolotchi-archive-keyring", "pub", "etc/smolotchi-install/trust.d", "release keys"),
        keys(paths, "usr/share/keyrings", "pgp", "etc/apt/keyrings", "apt's key"),
    ]
}

fn dpkg(audit: Result<String, String>) -> Check {
    match audit {
        Ok(text) if text.trim().is_empty() => Check::ok(PART, "dpkg", "every package is whole"),
        Ok(text) => Check::new(
            PART,
            "dpkg",
            State::Failed,
            format!("packages are half-way: {}", text.split_whitespace().collect::<Vec<_>>().join(" ")),
        )
        .hint("smolotchi-install heal; or dpkg --configure -a, then apt-get -f install"),
        Err(why) => Check::unknown(PART, "dpkg", why),
    }
}

fn install(install: Option<&Install>) -> Check {
    let Some(install) = install else { return Check::unknown(PART, "upgrades", "smolotchi-install has not told anything yet") };
    let detail = install.sentence().unwrap_or_else(|| "nothing was ever changed".to_owned());
    match install.course() {
        Course::Quiet => Check::ok(PART, "upgrades", detail),
        Course::UnderWay => Check::new(PART, "upgrades", State::Warning, detail).hint("smolotchi-install status"),
        Course::RolledBack => Check::new(PART, "upgrades", State::Warning, detail).hint("smolotchi-install history"),
        Course::Stuck => {
            Check::new(PART, "upgrades", State::Failed, detail).hint("smolotchi-install status; the runbook of the code that it names")
        }
    }
}

fn keys(paths: &Paths, folder: &str, kind: &str, own: &str, name: &str) -> Check {
    let count = |folder: &str| {
        let entries = std::fs::read_dir(paths.root().join(folder)).into_iter().flatten().flatten();
        entries
            .filter(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                name.ends_with(&format!(".{kind}")) && (kind == "pub" || name.contains("smolotchi"))
            })
            .count()
    };
    match (count(folder), count(own)) {
        (0, 0) => Check::new(PART, name, State::Warning, "there is none: no release can be verified")
            .hint("install the package smolotchi-archive-keyring from the medium that you trust"),
        (shipped, 0) => Check::ok(PART, name, format!("{shipped} from the package")),
        (shipped, own) => Check::ok(PART, name, format!("{shipped} from the package, {own} of the operator's")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_upgrades_and_keys_are_judged() {
        assert_eq!(dpkg(Ok(String::new())).state, State::Ok);
        assert_eq!(dpkg(Ok(" smolotchi  half\n".into())).state, State::Failed);
        assert_eq!(dpkg(Err("there is no dpkg here".into())).state, State::Unknown);
        let read = |text| serde_json::from_str::<Install>(text).unwrap();
        let cases = [
            (r#"{"state":"idle"}"#, State::Ok),
            (r#"{"state":"idle","last_change":{"verdict":"rolled-back"}}"#, State::Warning),
            (r#"{"state":"watching"}"#, State::Warning),
            (r#"{"state":"idle","last_change":{"verdict":"operator-needed"}}"#, State::Failed),
        ];
        for (text, state) in cases {
            assert_eq!(install(Some(&read(text))).state, state, "{text}");
        }
        assert_eq!(install(None).state, State::Unknown);
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(dir.path()));
        let look = || keys(&paths, "usr/keys", "pub", "etc/keys", "release keys");
        assert_eq!(look().state, State::Warning);
        std::fs::create_dir_all(dir.path().join("etc/keys")).unwrap();
        std::fs::write(dir.path().join("etc/keys/mine.pub"), "x").unwrap();
        assert_eq!(look().detail, "0 from the package, 1 of the operator's");
    }
}
