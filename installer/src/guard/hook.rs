//! What apt says to `DPkg::Pre-Install-Pkgs` hooks, protocol version 3 (apt.conf(5)): a line `VERSION 3`, apt's
//! configuration, an empty line, then a line for each package:
//! `name old-version old-architecture old-multiarch < new-version new-architecture new-multiarch file`.

use smolotchi_operator::{Code, Fault, Result};
use std::path::PathBuf;

/// apt will unpack a package.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Action {
    /// Its name.
    pub(super) package: String,
    /// The installed version, if any.
    pub(super) from: Option<String>,
    /// The version to come.
    pub(super) to: String,
    /// The package file.
    pub(super) deb: PathBuf,
}

/// What apt is about to unpack of these packages.
pub(super) fn actions(text: &str, packages: &[&str]) -> Result<Vec<Action>> {
    let mut lines = text.lines();
    if lines.next() != Some("VERSION 3") {
        return Err(Fault::new(Code::ProgramFailed, "apt speaks another protocol than version 3 to its hooks")
            .hint("is /etc/apt/apt.conf.d/50smolotchi-install as the package ships it?"));
    }
    let mut actions = Vec::new();
    for line in lines.skip_while(|line| !line.is_empty()) {
        // The file comes last and may hold blanks.
        let fields: Vec<&str> = line.splitn(9, ' ').collect();
        let [name, old, _, _, _, new, _, _, file] = fields[..] else { continue };
        // Otherwise **CONFIGURE** or **REMOVE**.
        if !packages.contains(&name) || !file.starts_with('/') {
            continue;
        }
        let from = (old != "-").then(|| old.to_owned());
        actions.push(Action { package: name.to_owned(), from, to: new.to_owned(), deb: file.into() });
    }
    Ok(actions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &str) -> String {
        format!("VERSION 3\nAPT::Architecture=arm64\nDir::Cache=var/cache/apt\n\n{lines}\n")
    }

    #[test]
    fn lines_of_apt() {
        let ours = ["smolotchi", "smolotchi-install"];
        let unpack = |package: &str, from: Option<&str>| {
            vec![Action { package: package.into(), from: from.map(str::to_owned), to: "0.2.0".into(), deb: "/a b/s.deb".into() }]
        };
        for (line, expected) in [
            ("smolotchi 0.1.0 arm64 none < 0.2.0 arm64 none /a b/s.deb", unpack("smolotchi", Some("0.1.0"))),
            ("smolotchi 0.3.0 arm64 none > 0.2.0 arm64 none /a b/s.deb", unpack("smolotchi", Some("0.3.0"))),
            ("smolotchi - - none < 0.2.0 arm64 none /a b/s.deb", unpack("smolotchi", None)),
            ("smolotchi 0.2.0 arm64 none < 0.2.0 arm64 none **CONFIGURE**", vec![]),
            ("smolotchi 0.2.0 arm64 none > - - none **REMOVE**", vec![]),
            ("smolotchi-install 0.1.0 arm64 none < 0.2.0 arm64 none /a b/s.deb", unpack("smolotchi-install", Some("0.1.0"))),
            ("smolotchi-extra 0.1.0 arm64 none < 0.2.0 arm64 none /a b/s.deb", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(actions(&said(line), &ours).unwrap(), expected, "{line}");
        }
        let both = "smolotchi-install 0.1.0 arm64 none < 0.2.0 arm64 none /i.deb\nbash 1 arm64 none < 2 arm64 none /b.deb\n\
                    smolotchi 0.1.0 arm64 none < 0.2.0 arm64 none /s.deb";
        let names: Vec<_> = actions(&said(both), &ours).unwrap().into_iter().map(|action| action.package).collect();
        assert_eq!(names, ["smolotchi-install", "smolotchi"], "what belongs together moves together");
    }

    #[test]
    fn another_protocol_is_refused() {
        assert_eq!(actions("/var/cache/x.deb\n", &["smolotchi"]).unwrap_err().code, Code::ProgramFailed);
        assert_eq!(actions("", &["smolotchi"]).unwrap_err().code, Code::ProgramFailed);
    }
}
