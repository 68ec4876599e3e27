//! Which user may touch the database: the owner of the state folder, never root.
//!
//! A database that root opened once has root-owned files beside it, and the service's user is locked out.

use crate::paths::Paths;
use smolotchi_operator::{Code, Fault, Result};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The user of core, and of the database.
pub(crate) const CORE: &str = "smolotchi";
/// The user of the ai worker.
pub(crate) const AI: &str = "smolotchi-ai";
/// The user of web.
pub(crate) const WEB: &str = "smolotchi-web";
/// The user of display.
pub(crate) const DISPLAY: &str = "smolotchi-display";

/// A user and its first group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    /// The user's number.
    pub(crate) uid: u32,
    /// The group's number.
    pub(crate) gid: u32,
}

impl Account {
    /// The account `name` in the text of passwd(5). Our users are static, made by sysusers.d, so this file has them.
    pub(crate) fn in_passwd(text: &str, name: &str) -> Option<Account> {
        text.lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.first() == Some(&name))
            .and_then(|fields| Some(Account { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? }))
    }

    /// The owner of a file or folder.
    pub(crate) fn owner_of(path: &Path) -> std::io::Result<Account> {
        std::fs::metadata(path).map(|meta| Account { uid: meta.uid(), gid: meta.gid() })
    }

    /// This program, to be run as this account with no supplementary groups.
    pub(crate) fn program(self) -> Command {
        // Without /proc (a chroot) the name can't be asked for.
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/smolotchi"));
        let mut command = Command::new(program);
        command.uid(self.uid).gid(self.gid);
        command
    }
}

/// A user's name, as passwd(5) has it, or its number.
pub(crate) fn name_of(uid: u32) -> String {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut users = text.lines().map(|line| line.split(':'));
    let name = users.find_map(|mut fields| fields.next().filter(|_| fields.nth(1) == Some(uid.to_string().as_str())));
    name.map_or_else(|| format!("uid {uid}"), str::to_owned)
}

/// True when this process runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Refuses to go on as root; nothing has been opened yet.
pub(crate) fn refuse_root() -> Result<()> {
    if is_root() { Err(Fault::new(Code::StoreWrongUser, "root must not open the database")) } else { Ok(()) }
}

/// As root, becomes the owner of the state folder by running the same command line again; returns only if that is not
/// needed or not possible.
pub(crate) fn become_owner(paths: &Paths) -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let folder = paths.state();
    let owner = Account::owner_of(&folder).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Fault::new(Code::StoreMissing, "there is no state folder").fact("path", folder.display().to_string())
        }
        _ => Fault::io("could not look at the state folder", &folder, &error),
    })?;
    if owner.uid == 0 {
        return Err(Fault::new(Code::StoreWrongUser, "the state folder belongs to root, so there is no user to open the database as")
            .hint("the package makes it for the user smolotchi: dpkg-reconfigure smolotchi")
            .fact("path", folder.display().to_string()));
    }
    let error = owner.program().args(std::env::args_os().skip(1)).exec();
    Err(Fault::new(Code::ProgramFailed, "could not run as the database's user").fact("uid", owner.uid).cause(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwd_is_read_by_whole_fields() {
        let text = "root:x:0:0:root:/root:/bin/bash\nsmolotchi-web:x:998:997::/:/usr/sbin/nologin\nsmolotchi:x:999:996::/:/x\nbad:x:y:z\n";
        let cases = [
            ("root", Some(Account { uid: 0, gid: 0 })),
            ("smolotchi", Some(Account { uid: 999, gid: 996 })),
            ("smolo", None),
            ("bad", None),
        ];
        for (name, expected) in cases {
            assert_eq!(Account::in_passwd(text, name), expected, "{name}");
        }
    }
}
