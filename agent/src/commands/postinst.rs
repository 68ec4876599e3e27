//! `smolotchi maint postinst`: users, folders, the database's schema, and core running this version if it ran before. The
//! script around it does the rest, and starts what is enabled and doesn't run.
//!
//! Idempotent, and answers every call of Debian Policy 6.5. Works in a chroot without systemd or /proc, where what can't be
//! done is left to the first boot. Never opens the database as root, and prints nothing on standard output.

use super::db::core_is_down;
use crate::account::{Account, is_root};
use crate::paths::Paths;
use crate::store_fault::code_named;
use serde_json::Value;
use smolotchi_operator::{Code, Exit, Fault, Result, log};
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

/// The user that core and prune run as, and that the database belongs to.
const USER: &str = "smolotchi";
/// Whoever may have the database open; the socket too, or the next caller starts core in the middle.
const CORE: &str = "smolotchi-core.service";
const SOCKET: &str = "smolotchi-core.socket";

/// What the database needs, decided from what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing: it has this build's schema, or the first start makes it.
    Nothing,
    /// There never was one, and systemd will start core soon.
    Create,
    /// It has another schema.
    Migrate,
}

/// Runs for postinst's own arguments.
pub(crate) fn run(paths: &Paths, policy: &[String]) -> Result<Exit> {
    match policy.first().map(String::as_str) {
        Some("configure" | "abort-upgrade" | "abort-remove" | "abort-deconfigure") => configure(paths).map(|()| Exit::Success),
        Some("triggered") => Ok(Exit::Success),
        other => Err(Fault::new(Code::Usage, "postinst was called in a way that Debian Policy doesn't know")
            .hint("smolotchi maint postinst configure [OLD-VERSION]")
            .fact("given", other.unwrap_or_default())),
    }
}

fn configure(paths: &Paths) -> Result<()> {
    log::role("postinst");
    if !is_root() {
        return Err(Fault::new(Code::NotRoot, "only root can set the package up"));
    }
    declare(paths, "systemd-sysusers", &[]);
    declare(paths, "systemd-tmpfiles", &["--create"]);
    let passwd = std::fs::read_to_string(paths.passwd()).unwrap_or_default();
    let Some(account) = Account::in_passwd(&passwd, USER) else {
        log::warning(Code::ProgramMissing, format!("there is no user {USER} yet; systemd makes it at the next boot"));
        return Ok(());
    };
    state_folder(&paths.state(), account)?;
    let booted = paths.systemd_runs().exists();
    let need = need(paths, account, booted)?;
    let ran = booted && core_runs();
    match need {
        Need::Nothing => {}
        Need::Create => told(child(paths, account, &["maint", "migrate", "--create"])?),
        Need::Migrate => {
            // Core is away from here on, so nothing stands between this and its next start that could stand elsewhere.
            if booted {
                succeed("systemctl", &["stop", SOCKET, CORE]);
            }
            core_is_down(paths)?;
            let migrated = child(paths, account, &["maint", "migrate"])?;
            // No policy is asked: this only gives back what was taken a moment ago.
            if ran {
                succeed("systemctl", &["start", SOCKET, CORE]);
            }
            told(migrated);
        }
    }
    // As the operator wants it: a policy-rc.d may say no.
    if ran && need != Need::Migrate {
        succeed("deb-systemd-invoke", &["restart", CORE]);
    }
    Ok(())
}

/// Whether core runs, or is on its way to or from that. By what systemctl says, not its exit code: told to leave systemd alone
/// (a chroot, `SYSTEMD_OFFLINE`), it says nothing, with success.
fn core_runs() -> bool {
    let state = Command::new("systemctl").args(["is-active", CORE]).output();
    state.is_ok_and(|output| !matches!(text(&output.stdout).as_str(), "" | "inactive" | "failed" | "unknown"))
}

/// Lets systemd's tools make our users or folders now. At boot they do it again, so a failure here is no error: a chroot
/// may have no tool, no /proc or no units of its own.
fn declare(paths: &Paths, program: &str, options: &[&str]) {
    let mut command = Command::new(program);
    command.args(options);
    if paths.root() != Path::new("/") {
        command.arg(format!("--root={}", paths.root().display()));
    }
    match command.arg("smolotchi.conf").output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => log::info(format!("{program} is left to the next boot: {}", text(&output.stderr))),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => log::info(format!("{program} is left to the next boot: {error}")),
    }
}

/// Makes the state folder, and makes it the service's: an earlier owner would lock core out.
fn state_folder(path: &Path, account: Account) -> Result<()> {
    let make = || -> std::io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path.parent().unwrap_or(path))?;
        match std::fs::DirBuilder::new().mode(0o750).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Never follow a link that somebody put here.
        if !std::fs::symlink_metadata(path)?.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        chown(path, Some(account.uid), Some(account.gid))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o750))
    };
    make().map_err(|error| Fault::io("could not make the state folder", path, &error))
}

fn need(paths: &Paths, account: Account, booted: bool) -> Result<Need> {
    if !paths.database().exists() {
        // Core's own rule: a folder that isn't empty has lost its database, and a new one would hide that.
        return Ok(if booted && crate::core::is_empty(&paths.state()) { Need::Create } else { Need::Nothing });
    }
    let info = child(paths, account, &["db", "info"])?;
    match (info["current"].as_u64(), info["own"].as_u64()) {
        (Some(current), Some(own)) if current == own => Ok(Need::Nothing),
        (Some(_), Some(_)) => Ok(Need::Migrate),
        _ => Err(Fault::new(Code::ProgramFailed, "could not learn the database's schema").fact("answer", info)),
    }
}

/// Asks systemd for something. That it failed is told and no more: the migration looks for itself whether core is down, and
/// the health gate whether it is up.
fn succeed(program: &str, args: &[&str]) {
    match Command::new(program).args(args).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => log::warning(Code::ProgramFailed, format!("{program} {}: {}", args.join(" "), text(&output.stderr))),
        Err(error) => log::warning(Code::ProgramMissing, format!("{program}: {error}")),
    }
}

/// Runs a verb of this program as the database's user; its JSON answer, or its own fault.
fn child(paths: &Paths, account: Account, verb: &[&str]) -> Result<Value> {
    let mut command = account.program();
    command.current_dir("/").args([OsStr::new("--format=json"), OsStr::new("--root"), paths.root().as_os_str()]).args(verb);
    let output = command.output().map_err(|error| {
        Fault::new(Code::ProgramFailed, "could not run as the database's user").fact("user", USER).fact("uid", account.uid).cause(&error)
    })?;
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap_or_default());
    }
    let said = text(&output.stderr);
    let told = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|line| line.get("error").cloned());
    let code = told.as_ref().and_then(|error| error["code"].as_str()).and_then(code_named);
    let mut fault = Fault::new(code.unwrap_or(Code::ProgramFailed), format!("smolotchi {} failed", verb.join(" "))).fact("said", said);
    if let Some(error) = told {
        if let (Some(message), Some(hint), Some(details)) =
            (error["message"].as_str(), error["hint"].as_str(), error["details"].as_object())
        {
            fault = Fault { code: fault.code, message: message.to_owned(), hint: hint.to_owned(), details: details.clone() };
        }
    }
    Err(fault)
}

fn told(migrated: Value) {
    log::info(format!("the database went from schema {} to {}", migrated["from"], migrated["to"]));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
