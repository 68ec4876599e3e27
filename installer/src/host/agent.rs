//! The agent, seen from outside: its heartbeat, its proof that it can commit, a snapshot of its database.
//!
//! Knows the agent only by its contract (heartbeat file, socket, `smolotchi maint snapshot`), which every version keeps.

use super::run;
use crate::gate::Heartbeat;
use crate::paths::Paths;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use smolotchi_operator::{Code, Fault, Result};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, fchown, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The user that owns the database.
pub const USER: &str = "smolotchi";
/// How long core may take to commit one row.
const PROOF_TIMEOUT: Duration = Duration::from_secs(5);

/// No answer of the agent is longer.
const ANSWER_LIMIT: u64 = 64 << 10;

/// Reads the heartbeat.
pub fn heartbeat(path: &str) -> Option<Heartbeat> {
    let mut bytes = Vec::new();
    plain_file(Path::new(path)).ok()?.take(ANSWER_LIMIT).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Opens a regular file with one name, through no link and without waiting: what lies where another user may write can be
/// anything.
fn plain_file(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let meta = file.metadata()?;
    if meta.is_file() && meta.nlink() == 1 { Ok(file) } else { Err(std::io::Error::other("it is no plain file")) }
}

#[derive(Deserialize)]
struct Proof {
    committed: bool,
    schema: u32,
}

/// Asks core to commit a row; the schema of its database, or why not.
pub fn prove(socket: &str) -> std::result::Result<u32, String> {
    // Without the file, the client would wait for its time-out's worth of retries.
    if !Path::new(socket).exists() {
        return Err("its socket is not there".to_owned());
    }
    let client = reqwest::blocking::Client::builder()
        .unix_socket(socket)
        .timeout(PROOF_TIMEOUT)
        .no_proxy()
        .build()
        .map_err(|error| chain(&error))?;
    let mut response = client.post("http://core/v1/prove").send().map_err(|error| chain(&error))?;
    let status = response.status();
    let mut text = String::new();
    response.by_ref().take(ANSWER_LIMIT).read_to_string(&mut text).map_err(|error| chain(&error))?;
    match serde_json::from_str::<Proof>(&text) {
        Ok(Proof { committed: true, schema }) if status.is_success() => Ok(schema),
        _ => Err(format!("it answered {status}: {}", text.chars().take(200).collect::<String>())),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = source.to_string();
        next = source.source();
    }
    text
}

#[derive(Deserialize)]
struct Copied {
    schema: u32,
}

/// Makes a consistent copy of the database, while core runs, as the database's own user: a file that root opened once
/// would lock that user out. `folder` is ours and becomes its for the moment. Returns the copy's schema; none: there was no
/// database.
pub fn snapshot(paths: &Paths, folder: &Path, file: &str) -> Result<Option<u32>> {
    if !paths.database().exists() {
        return Ok(None);
    }
    let owner = owner(paths)?;
    chown(folder, Some(owner.uid()), Some(owner.gid())).map_err(|error| Fault::io("could not hand over a folder", folder, &error))?;
    let target = folder.join(file);
    let target_text = target.to_string_lossy();
    let mut snapshot = as_owner(paths, &owner, &["maint", "snapshot", "--to", &target_text, "--format", "json"]);
    let failed = |said| Fault::new(Code::StoreFailed, "could not make a snapshot of the database").fact("said", said);
    let said = run::succeed(&mut snapshot)
        .map_err(|fault| failed(fault.details.get("said").cloned().unwrap_or_else(|| fault.to_string().into())))?;
    let Copied { schema } = serde_json::from_str(&said).map_err(|error| failed(said.as_str().into()).cause(&error))?;
    // First the folder, so that nothing in it can change its meaning any more; then the file itself, not its name.
    lchown(folder, Some(0), Some(0)).map_err(|error| Fault::io("could not take back a folder", folder, &error))?;
    let take = || {
        let file = plain_file(&target)?;
        fchown(&file, Some(0), Some(0))?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.sync_all()
    };
    take().map_err(|error| Fault::io("could not take over the snapshot", &target, &error))?;
    Ok(Some(schema))
}

/// The version that the installed binary says it is; none if it doesn't run.
pub fn version(paths: &Paths) -> Option<String> {
    let text = run::succeed(&mut run::command(&paths.agent().to_string_lossy(), &["--version"])).ok()?;
    text.trim().strip_prefix("smolotchi ").map(str::to_owned)
}

/// The database's schema and the one that the installed binary wants; none if it can't say, or there is no database.
pub fn schemas(paths: &Paths) -> Option<(u64, u64)> {
    if !paths.database().exists() {
        return None;
    }
    let info = run::succeed(&mut as_owner(paths, &owner(paths).ok()?, &["db", "info", "--format", "json"])).ok()?;
    let value: serde_json::Value = serde_json::from_str(&info).ok()?;
    Some((value.get("current")?.as_u64()?, value.get("own")?.as_u64()?))
}

/// What the package's postinst does with users, folders and the database, once more. With `booting`, it starts and stops
/// nothing.
pub fn configure(paths: &Paths, booting: bool) -> Result<()> {
    let mut command = run::command(&paths.agent().to_string_lossy(), &["maint", "postinst", "configure"]);
    if booting {
        command.env("SYSTEMD_OFFLINE", "1");
    }
    run::succeed(&mut command).map(drop)
}

/// What the database lost when a snapshot took its place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Of the database now; none: it was begun, and a power cut kept the answer from us.
    pub schema: Option<u64>,
    /// Where the database stands that was there before, if there was one.
    pub replaced: Option<String>,
    /// Rows that the snapshot lacks, by table.
    #[serde(default)]
    pub lacking: BTreeMap<String, u64>,
    /// Rows that the snapshot has with other values, by table; what they were stands in `replaced` only.
    #[serde(default)]
    pub changed: BTreeMap<String, u64>,
    /// What could not be read of the database before, in words.
    #[serde(default)]
    pub unread: Vec<String>,
    /// The file that holds those rows, as JSON lines.
    pub export: Option<String>,
}

/// Puts a snapshot in the database's place with the installed agent's own verb, as the database's user. `inbox` is a folder
/// of ours, made for this and removed again, where that user may read its copy. Core must be down.
pub fn restore(paths: &Paths, snapshot: &Path, inbox: &Path, export: &Path) -> Result<Restored> {
    let failed = |error: std::io::Error| Fault::io("could not hand over the snapshot", inbox, &error);
    let owner = owner(paths)?;
    crate::change::remove_tree(inbox)?;
    crate::change::make_folder(inbox)?;
    let copy = inbox.join("smolotchi.db");
    smolotchi_operator::durable::copy(snapshot, &copy, 0o600)?;
    chown(&copy, Some(owner.uid()), Some(owner.gid())).map_err(failed)?;
    chown(inbox, Some(owner.uid()), Some(owner.gid())).map_err(failed)?;
    let (copy, export) = (copy.to_string_lossy(), export.to_string_lossy());
    let said =
        run::succeed(&mut as_owner(paths, &owner, &["maint", "restore", "--snapshot", &copy, "--export", &export, "--format", "json"]));
    crate::change::remove_tree(inbox)?;
    let said = said?;
    serde_json::from_str(&said)
        .map_err(|error| Fault::new(Code::StoreFailed, "the restore answered in another way").fact("said", said.as_str()).cause(&error))
}

/// The state folder, whose owner the database is opened as. Not the file's: that user could put another's there.
pub fn owner(paths: &Paths) -> Result<Metadata> {
    let database = paths.database();
    let folder = database.parent().unwrap_or(&database);
    std::fs::metadata(folder).map_err(|error| Fault::io("could not look at the state folder", folder, &error))
}

/// A verb of the installed agent, to be run as the owner of `owner` with no other groups. Not by runuser: that opens a session of PAM, which sets
/// limits of its own and for that needs rights that the executor has no other use for.
pub fn as_owner(paths: &Paths, owner: &Metadata, verb: &[&str]) -> Command {
    let mut command = run::command(&paths.agent().to_string_lossy(), verb);
    command.uid(owner.uid()).gid(owner.gid()).current_dir("/");
    command
}
