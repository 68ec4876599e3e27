//! `smolotchi secrets`: how a secret comes onto this machine, and goes: as a systemd credential of the one service that needs it.
//!
//! Writes two files for each: the credential in systemd's own folder, root's alone, and a drop-in that names it. A secret is never shown again,
//! and passes through pipes only.

use crate::account::is_root;
use crate::cli::{Secret, SecretsVerb};
use crate::paths::Paths;
use crate::web;
use clap::ValueEnum;
use serde::Serialize;
use smolotchi_operator::output::{columns, emit};
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table, durable};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The service that is handed them.
const UNIT: &str = "smolotchi-web.service";
/// Longer than any certificate chain.
const MAX_BYTES: u64 = 64 * 1024;

/// How a secret is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kept {
    /// With this machine's key.
    Encrypted,
    /// As it is, in a file that only root can read.
    Plain,
    /// Not at all.
    Absent,
}

#[derive(Debug, Serialize)]
struct State {
    name: &'static str,
    kept: Kept,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    /// Why it is not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
    /// Shown once, when it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<String>,
    /// What has to be restarted for it to hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    restart: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct All {
    secrets: Vec<State>,
}

impl State {
    fn row(&self) -> [String; 3] {
        let kept = match self.kept {
            Kept::Encrypted => "encrypted",
            Kept::Plain => "plain",
            Kept::Absent => "absent",
        };
        let path = self.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        [self.name.to_owned(), kept.to_owned(), path]
    }
}

impl Table for State {
    fn table(&self) -> String {
        let mut text = columns(&[self.row()]);
        if let Some(because) = &self.because {
            text += &format!("not encrypted: {because}\n");
        }
        if let Some(made) = &self.made {
            text += &format!("{made}\n");
        }
        if let Some(restart) = self.restart {
            text += &format!("it holds after: systemctl restart {restart}\n");
        }
        text
    }
}

impl Table for All {
    fn table(&self) -> String {
        columns(&self.secrets.iter().map(State::row).collect::<Vec<_>>())
    }
}

/// Errors: `cli.not-root`; `web.not-protected` and `web.tls` for what can't be used; then nothing was changed.
pub(crate) fn run(paths: &Paths, format: Format, verb: SecretsVerb) -> Result<Exit> {
    if let SecretsVerb::List = verb {
        emit(format, &All { secrets: Secret::value_variants().iter().map(|secret| state(paths, *secret)).collect() });
        return Ok(Exit::Success);
    }
    if !is_root() {
        return Err(Fault::new(Code::NotRoot, "only root can set secrets"));
    }
    let state = match verb {
        SecretsVerb::Set { name, generate } => set(paths, name, generate)?,
        SecretsVerb::Remove { name } => {
            durable::remove(&drop_in(paths, name))?;
            hand_in(paths, name)?;
            for kept in [Kept::Encrypted, Kept::Plain] {
                durable::remove(&place(paths, name, kept))?;
            }
            State { restart: waits(name), ..state(paths, name) }
        }
        SecretsVerb::List => return Ok(Exit::Success),
    };
    emit(format, &state);
    Ok(Exit::Success)
}

fn set(paths: &Paths, secret: Secret, generate: bool) -> Result<State> {
    if generate && secret != Secret::Token {
        return Err(
            Fault::new(Code::Usage, "only a token can be made here").hint("for a certificate see /usr/share/doc/smolotchi/guides/web.md")
        );
    }
    let bytes = if generate { random()?.into_bytes() } else { given()? };
    web::check_secret(secret.name(), &bytes)?;
    let (kept, content, because) = match encrypted(paths, secret, &bytes) {
        Ok(content) => (Kept::Encrypted, content, None),
        Err(why) => (Kept::Plain, bytes.clone(), Some(why)),
    };
    let path = place(paths, secret, kept);
    for folder in [path.parent(), drop_in(paths, secret).parent()].into_iter().flatten() {
        // systemd's own folders have these modes, too.
        let mode = if path.starts_with(folder) { 0o700 } else { 0o755 };
        let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(folder);
        made.map_err(|error| Fault::io("could not make a folder", folder, &error))?;
    }
    durable::replace(&path, &content, 0o600)?;
    let directive = if kept == Kept::Encrypted { "LoadCredentialEncrypted" } else { "LoadCredential" };
    // As the machine sees it, whatever --root is.
    let seen = Path::new("/").join(path.strip_prefix(paths.root()).unwrap_or(&path));
    let name = secret.name();
    let text = format!("# Made by: smolotchi secrets set {name}\n[Service]\n{directive}={name}:{}\n", seen.display());
    durable::replace(&drop_in(paths, secret), text.as_bytes(), 0o644)?;
    hand_in(paths, secret)?;
    let other = if kept == Kept::Encrypted { Kept::Plain } else { Kept::Encrypted };
    durable::remove(&place(paths, secret, other))?;
    let made = generate.then(|| String::from_utf8_lossy(&bytes).into_owned());
    Ok(State { because, made, restart: waits(secret), ..state(paths, secret) })
}

fn place(paths: &Paths, secret: Secret, kept: Kept) -> PathBuf {
    let folder = if kept == Kept::Encrypted { "etc/credstore.encrypted" } else { "etc/credstore" };
    paths.root().join(folder).join(format!("smolotchi.{}", secret.name()))
}

fn drop_in(paths: &Paths, secret: Secret) -> PathBuf {
    paths.root().join("etc/systemd/system").join(format!("{UNIT}.d")).join(format!("60-{}.conf", secret.name()))
}

fn state(paths: &Paths, secret: Secret) -> State {
    // The folders are root's alone: for others, the drop-in says it.
    let text = std::fs::read_to_string(drop_in(paths, secret)).unwrap_or_default();
    let kept = match () {
        () if text.contains("\nLoadCredentialEncrypted=") => Kept::Encrypted,
        () if text.contains("\nLoadCredential=") => Kept::Plain,
        () => Kept::Absent,
    };
    let path = (kept != Kept::Absent).then(|| place(paths, secret, kept));
    State { name: secret.name(), kept, path, because: None, made: None, restart: None }
}

/// What comes on standard input.
fn given() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| Fault::io("could not read", "standard input", &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Fault::new(Code::Usage, "this is too large for a secret").fact("at_most", MAX_BYTES));
    }
    Ok(bytes)
}

/// 256 random bits, in hexadecimal.
fn random() -> Result<String> {
    let mut bytes = [0_u8; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Fault::new(Code::Io, "the kernel gave no random numbers").cause(&error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Encrypted for this machine and this name, or in words why not.
fn encrypted(paths: &Paths, secret: Secret, bytes: &[u8]) -> std::result::Result<Vec<u8>, String> {
    if paths.root() != Path::new("/") {
        return Err("the key of this machine is not that of another root".to_owned());
    }
    let mut command = Command::new("systemd-creds");
    command.args(["encrypt", "--with-key=host", &format!("--name={}", secret.name()), "-", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("systemd-creds: {error}"))?;
    // Smaller than a pipe's room.
    let told = child.stdin.take().map(|mut stdin| stdin.write_all(bytes));
    let output = child.wait_with_output().map_err(|error| format!("systemd-creds: {error}"))?;
    if output.status.success() && matches!(told, Some(Ok(()))) && !output.stdout.is_empty() {
        return Ok(output.stdout);
    }
    Err(format!("systemd-creds: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// The token holds at once. A certificate and its key are changed together: with one of them changed, web could not start.
fn waits(secret: Secret) -> Option<&'static str> {
    (secret != Secret::Token).then_some(UNIT)
}

/// Has systemd look at the drop-ins, and web take the token that it is handed now.
fn hand_in(paths: &Paths, secret: Secret) -> Result<()> {
    if paths.root() != Path::new("/") {
        return Ok(());
    }
    let calls = [&["daemon-reload"][..], &["try-restart", UNIT]];
    for args in calls.into_iter().take(if waits(secret).is_some() { 1 } else { 2 }) {
        let output = Command::new("systemctl").args(args).output();
        let output = output.map_err(|error| Fault::new(Code::Io, "systemctl could not be run").cause(&error))?;
        if !output.status.success() {
            return Err(Fault::new(Code::Io, "systemd did not take it; it holds from web's next start on")
                .fact("call", format!("systemctl {}", args.join(" ")))
                .fact("said", String::from_utf8_lossy(&output.stderr).trim().to_owned())
                .hint("see: journalctl -u smolotchi-web"));
        }
    }
    Ok(())
}
