//! Lets a release's own binary migrate a copy of this machine's database, there and back and there again, before the
//! release is let near the database itself.
//!
//! Called by the commands and the guard before they plan. The copy and the binary lie in a folder that is gone afterwards and
//! is never synced by us. The binary runs as the database's user in a transient unit that can write to that copy and to
//! nothing else, and reach neither the network nor the live database.

use super::{agent, lock, run, systemd};
use crate::change::{make_folder, remove_tree};
use crate::inventory::{Inventory, Rehearsal};
use crate::paths::Paths;
use smolotchi_operator::{Code, Fault, Result};
use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The agent's binary in a package.
const BINARY: &str = "./usr/bin/smolotchi";
/// How long a rehearsal may take. The migration of a million rows takes minutes on the smallest machine.
const LONGEST_S: u32 = 1_800;
/// The sandbox, in the words of systemd.exec(5); every line is known to systemd 252. What the unit may write is added.
const SANDBOX: &[&str] = &[
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "UMask=0077",
    "PrivateNetwork=yes",
    "IPAddressDeny=any",
    "RestrictAddressFamilies=AF_UNIX",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "DevicePolicy=closed",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources @network-io",
    "MemoryMax=128M",
    "LimitDATA=128M",
    "TasksMax=16",
    "LimitCORE=0",
    "Nice=10",
];

/// How a rehearsal ended, if it didn't fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It went well.
    Measured(Rehearsal),
    /// There was none, and why.
    LeftOut(String),
}

/// Rehearses the migrations of the release whose package this is, and notes the outcome in the inventory. Errors:
/// `change.rehearsal-failed` when the release can't take this machine's data to its schema or back.
pub fn rehearse(paths: &Paths, deb: &Path, inventory: &mut Inventory) -> Result<()> {
    match run_it(paths, deb)? {
        Outcome::Measured(rehearsal) => {
            inventory.rehearsal = Some(rehearsal);
            inventory.unrehearsed.clear();
        }
        Outcome::LeftOut(why) => inventory.unrehearsed = why,
    }
    Ok(())
}

fn run_it(paths: &Paths, deb: &Path) -> Result<Outcome> {
    let left_out = |why: &str| Ok(Outcome::LeftOut(why.to_owned()));
    if !paths.database().exists() {
        return left_out("there is no database yet");
    }
    let owner = agent::owner(paths)?;
    if !systemd::is_running() {
        return left_out("no service manager is running");
    }
    let _lock = lock::waited(&paths.rehearsal_lock())?;
    // Also what a killed one left.
    remove_tree(&paths.rehearsal())?;
    let scratch = Scratch(paths.rehearsal());
    let data = scratch.0.join("data");
    make_folder(&data)?;
    mode(&scratch.0, 0o711)?;
    chown(&data, Some(owner.uid()), Some(owner.gid())).map_err(|error| Fault::io("could not hand over a folder", &data, &error))?;
    mode(&data, 0o700)?;
    let binary = scratch.0.join("smolotchi");
    if !extract(deb, &binary)? {
        return left_out("the package holds no agent");
    }
    let copy = data.join("smolotchi.db");
    let mut snapshot = agent::as_owner(paths, &owner, &["maint", "snapshot", "--to", &copy.to_string_lossy()]);
    if let Err(fault) = run::succeed(&mut snapshot) {
        // A database or an agent that is broken says nothing about the release, which may be the repair.
        let said = fault.details.get("said").and_then(|said| said.as_str()).unwrap_or(&fault.message).to_owned();
        return Ok(Outcome::LeftOut(format!("the installed version could not copy the database: {}", run::tail(&said, 1))));
    }
    let output = run::output(&mut run::command("systemd-run", &words(paths, &binary, &data, &copy)))?;
    judge(output.status.code(), &String::from_utf8_lossy(&output.stdout), &String::from_utf8_lossy(&output.stderr))
}

/// Goes when it is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // The next rehearsal removes what stays.
        let _ = remove_tree(&self.0);
    }
}

fn mode(path: &Path, bits: u32) -> Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(bits)).map_err(|error| Fault::io("could not set a file's mode", path, &error))
}

/// Takes the agent's binary out of a package; false if there is none in it. By dpkg's own reader, because a slot's package
/// may have been rebuilt here without compression.
fn extract(deb: &Path, to: &Path) -> Result<bool> {
    let file = File::create(to).map_err(|error| Fault::io("could not write a file", to, &error))?;
    let mut unpack = run::command("dpkg-deb", &[std::ffi::OsStr::new("--fsys-tarfile"), deb.as_os_str()]);
    let failed =
        |error: std::io::Error| Fault::new(Code::ProgramFailed, "could not run a program").fact("program", "dpkg-deb").cause(&error);
    let mut unpacking = unpack.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(failed)?;
    let mut pick = run::command("tar", &["--extract", "--to-stdout", "--file=-", BINARY]);
    pick.stdin(unpacking.stdout.take().map_or_else(Stdio::null, Stdio::from)).stdout(file).stderr(Stdio::null());
    let picked = pick.status().map_err(failed);
    // The reader is gone by now, so this ends.
    drop(pick);
    unpacking.wait().map_err(failed)?;
    picked?;
    let length = std::fs::metadata(to).map_or(0, |meta| meta.len());
    mode(to, 0o755)?;
    Ok(length > 0)
}

/// The words for systemd-run(1).
fn words(paths: &Paths, binary: &Path, data: &Path, copy: &Path) -> Vec<String> {
    let mut words: Vec<String> = ["--wait", "--pipe", "--collect", "--service-type=exec"].map(str::to_owned).to_vec();
    words.push(format!("--unit=smolotchi-install-rehearsal-{}", std::process::id()));
    words.push("--description=Rehearses a release on a copy of the database".to_owned());
    words.push(format!("--uid={}", agent::USER));
    words.push(format!("--gid={}", agent::USER));
    let live = paths.database();
    let live = live.parent().unwrap_or(&live).display();
    let own = [
        format!("ReadWritePaths={}", data.display()),
        format!("WorkingDirectory={}", data.display()),
        format!("InaccessiblePaths=-{live} -{} -{}", paths.root().join("run/smolotchi").display(), paths.slots().display()),
        format!("RuntimeMaxSec={LONGEST_S}"),
    ];
    for property in SANDBOX.iter().map(|line| (*line).to_owned()).chain(own) {
        words.push(format!("--property={property}"));
    }
    words.push("--".to_owned());
    words.push(binary.display().to_string());
    words.extend(["--format", "json", "maint", "rehearse", "--database"].map(str::to_owned));
    words.push(copy.display().to_string());
    words
}

/// What the program's end means. Only the release's own word is held against it: a unit that could not be set up is this
/// machine's matter.
fn judge(status: Option<i32>, stdout: &str, stderr: &str) -> Result<Outcome> {
    let last = stdout.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let said = || run::tail(stderr, 3);
    let error =
        stderr.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find_map(|line| line.get("error").cloned());
    let word = |name: &str| error.as_ref().and_then(|error| error.get(name)?.as_str()).unwrap_or_default().to_owned();
    match (status, &error) {
        (Some(0), _) => Ok(match serde_json::from_str(last) {
            Ok(rehearsal) => Outcome::Measured(rehearsal),
            Err(error) => Outcome::LeftOut(format!("the release's answer was not understood: {error}")),
        }),
        (Some(2), None) => Ok(Outcome::LeftOut("the release is too old to rehearse".to_owned())),
        (_, Some(_)) if word("code") == Code::Usage.as_str() => Ok(Outcome::LeftOut("the release is too old to rehearse".to_owned())),
        (_, Some(error)) => {
            let mut fault = Fault::new(Code::RehearsalFailed, "the release can't migrate a copy of this machine's database");
            for (name, value) in error.get("details").and_then(|details| details.as_object()).into_iter().flatten() {
                fault = fault.fact(name, value.clone());
            }
            Err(fault.fact("code", word("code")).fact("reason", word("message")))
        }
        // systemd.exec(5): it could not set the unit up.
        (Some(200..=243), None) => Ok(Outcome::LeftOut(format!("its unit could not be set up: {}", said()))),
        _ if !stderr.contains("Running as unit") => Ok(Outcome::LeftOut(format!("systemd-run could not start it: {}", said()))),
        _ => Err(Fault::new(Code::RehearsalFailed, "the release's rehearsal on a copy of this machine's database broke off")
            .fact("reason", said())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_releases_own_word_is_held_against_it() {
        let answer = "{\"from\":1,\"to\":3,\"migrations\":[{\"number\":2,\"name\":\"severity\",\"direction\":\"up\",\"reversible\":true,\
                      \"rows\":123}],\"undo\":\"proven\",\"duration_ms\":12,\"undo_ms\":9,\"bytes_before\":4096,\"bytes_after\":8192,\"more\":1}\n";
        let running = "Running as unit: smolotchi-install-rehearsal-7.service\n";
        let failed = |code: &str| {
            format!(
                "{running}{{\"error\":{{\"code\":\"{code}\",\"message\":\"rows got lost\",\"hint\":\"x\",\"details\":{{\"migration\":\"0004 poison\"}}}}}}\n"
            )
        };
        let fails = |status: i32, stderr: &str| judge(Some(status), "", stderr).unwrap_err();
        let left = |status: i32, stdout: &str, stderr: &str| match judge(Some(status), stdout, stderr).unwrap() {
            Outcome::LeftOut(why) => why,
            Outcome::Measured(rehearsal) => panic!("{rehearsal:?}"),
        };
        match judge(Some(0), answer, running).unwrap() {
            Outcome::Measured(rehearsal) => assert_eq!((rehearsal.to, rehearsal.migrations[0].rows), (3, 123)),
            other => panic!("{other:?}"),
        }
        let fault = fails(10, &failed("store.check-failed"));
        assert_eq!((fault.code, fault.details["migration"].as_str()), (Code::RehearsalFailed, Some("0004 poison")));
        assert_eq!(fault.details["reason"], "rows got lost");
        // A crash, the time limit, a loader that misses a library.
        assert_eq!(fails(1, &format!("{running}GLIBC_2.99 not found")).code, Code::RehearsalFailed);
        assert_eq!(judge(None, "", running).unwrap_err().code, Code::RehearsalFailed);
        // No word of the release.
        assert!(left(2, "", &format!("{running}error: unrecognized subcommand 'rehearse'")).contains("too old"));
        assert!(left(2, "", &failed("cli.usage")).contains("too old"));
        assert!(left(226, "", running).contains("set up"));
        assert!(left(1, "", "Unknown assignment: X=y").contains("could not start"));
        assert!(left(0, "not json", running).contains("not understood"));
    }

    #[test]
    fn the_agent_is_taken_out_of_a_package() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        for folder in ["DEBIAN", "usr/bin"] {
            std::fs::create_dir_all(tree.join(folder)).unwrap();
        }
        std::fs::write(tree.join("DEBIAN/control"), "Package: smolotchi\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n")
            .unwrap();
        std::fs::write(tree.join("usr/bin/other"), "x").unwrap();
        let build = |compression: &str| {
            let deb = root.path().join(format!("{compression}.deb"));
            let output =
                run::output(run::command("dpkg-deb", &["--root-owner-group", &format!("-Z{compression}"), "--build"]).arg(&tree).arg(&deb));
            assert!(output.unwrap().status.success());
            deb
        };
        let to = root.path().join("binary");
        assert!(!extract(&build("gzip"), &to).unwrap());
        std::fs::write(tree.join("usr/bin/smolotchi"), "the agent").unwrap();
        for compression in ["gzip", "none"] {
            assert!(extract(&build(compression), &to).unwrap());
            assert_eq!(std::fs::read(&to).unwrap(), b"the agent");
            assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o755);
        }
    }
}
