//! The release keys: a minisign pair for manifests and channels, an OpenPGP pair for the apt repository.
//!
//! Secret keys have no password, because releases are signed by machines: the folder's permissions protect them, and who needs more
//! keeps the folder on an encrypted stick. gpg runs with a home of its own inside the folder and leaves no agent behind.

use super::fault::{OrFault, input, make_folder, read};
use super::program::Program;
use serde::Serialize;
use smolotchi_operator::{Code, Fault, Result, Table, durable};
use smolotchi_release::{Trust, signature};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The public minisign key's file.
pub(crate) const MINISIGN_PUBLIC: &str = "smolotchi.pub";
/// The public OpenPGP keyring's file.
pub(crate) const OPENPGP_PUBLIC: &str = "smolotchi-archive-keyring.pgp";
const MINISIGN_SECRET: &str = "smolotchi.key";
const GNUPG: &str = "gnupg";
const USER_ID: &str = "Smolotchi archive signing key <maintainers@smolotchi.invalid>";

/// What was made.
#[derive(Debug, Serialize)]
pub(crate) struct Made {
    folder: PathBuf,
    minisign_key: String,
    openpgp_fingerprint: String,
}

impl Table for Made {
    fn table(&self) -> String {
        format!(
            "made    {}\nsecret  {MINISIGN_SECRET}, {GNUPG}/ (keep them, and a copy elsewhere: they can't be made again)\n\
             public  {MINISIGN_PUBLIC} ({}), {OPENPGP_PUBLIC} ({})\n",
            self.folder.display(),
            self.minisign_key,
            self.openpgp_fingerprint
        )
    }
}

/// Makes both pairs in a new folder; whole or not at all.
pub(crate) fn make(out: &Path) -> Result<Made> {
    if out.symlink_metadata().is_ok() {
        return Err(input("the folder for the keys is there already; keys are never overwritten").fact("path", out.display().to_string()));
    }
    let name = out.file_name().ok_or_else(|| input("the folder for the keys needs a name").fact("path", out.display().to_string()))?;
    let staged = out.with_file_name(format!(".{}.making", name.to_string_lossy()));
    let result = make_in(&staged).and_then(|()| durable::rename(&staged, out));
    if let Err(fault) = result {
        let _ = std::fs::remove_dir_all(&staged);
        return Err(fault);
    }
    let keys = Keys::open(out)?;
    let minisign_key = keys.trust.keys().map(|(id, _)| id.to_string()).collect();
    Ok(Made { folder: out.to_owned(), minisign_key, openpgp_fingerprint: keys.fingerprint })
}

fn make_in(folder: &Path) -> Result<()> {
    make_folder(folder)?;
    let home = folder.join(GNUPG);
    make_folder(&home)?;
    for private in [folder, &home] {
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(private, mode).map_err(|error| Fault::io("could not protect a folder", private, &error))?;
    }
    let (public, secret) = (folder.join(MINISIGN_PUBLIC), folder.join(MINISIGN_SECRET));
    Program::new("minisign", "minisign").args(["-G", "-W", "-p"]).args([&public]).args(["-s"]).args([&secret]).run()?;
    let gpg = Gpg { home };
    gpg.run(["--quick-generate-key", USER_ID, "ed25519", "sign", "never"])?;
    let keyring = gpg.run(["--export"])?;
    durable::replace(&folder.join(OPENPGP_PUBLIC), &keyring, 0o644)
}

/// The opened keys.
pub(crate) struct Keys {
    folder: PathBuf,
    trust: Trust,
    gpg: Gpg,
    fingerprint: String,
}

impl Keys {
    /// Opens a folder that [`make`] made.
    pub(crate) fn open(folder: &Path) -> Result<Keys> {
        // gpg's home must be an absolute path.
        let folder = folder.canonicalize().map_err(|error| Fault::io("could not open the folder of the keys", folder, &error))?;
        for file in [MINISIGN_PUBLIC, MINISIGN_SECRET, OPENPGP_PUBLIC, GNUPG] {
            if !folder.join(file).exists() {
                return Err(input("the folder of the keys lacks a file")
                    .fact("path", folder.join(file).display().to_string())
                    .hint("make keys with: smolotchi-release keys --out DIR"));
            }
        }
        let trust = Trust::from_files(&[folder.join(MINISIGN_PUBLIC)]).or_fault()?;
        let gpg = Gpg { home: folder.join(GNUPG) };
        let listing = gpg.run(["--list-secret-keys", "--with-colons"])?;
        let listing = String::from_utf8_lossy(&listing);
        let fingerprint = listing.lines().find_map(|line| line.strip_prefix("fpr:")).map(|line| line.trim_matches(':').to_owned());
        let fingerprint = fingerprint.ok_or_else(|| input("the folder of the keys holds no secret OpenPGP key"))?;
        Ok(Keys { folder, trust, gpg, fingerprint })
    }

    /// What these keys vouch for.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// A public key's file.
    pub(crate) fn public(&self, file: &str) -> Result<Vec<u8>> {
        read(&self.folder.join(file))
    }

    /// A document's detached minisign signature, already verified. `place` goes into the trusted comment.
    pub(crate) fn minisign(&self, document: &[u8], place: &str, scratch: &Path) -> Result<Vec<u8>> {
        let (file, out) = (scratch.join("document"), scratch.join("document.minisig"));
        std::fs::write(&file, document).map_err(|error| Fault::io("could not write a file", &file, &error))?;
        let comment = format!("{}/{place}", smolotchi_release::PRODUCT);
        Program::new("minisign", "minisign")
            .args(["-S", "-c", "signature of a Smolotchi release", "-t", &comment, "-s"])
            .args([&self.folder.join(MINISIGN_SECRET)])
            .args(["-m"])
            .args([&file])
            .args(["-x"])
            .args([&out])
            .run()?;
        let signature = read(&out)?;
        signature::verify(&self.trust, document, &signature).or_fault()?;
        Ok(signature)
    }

    /// `InRelease` and `Release.gpg` beside a Release file.
    pub(crate) fn openpgp(&self, release: &Path) -> Result<()> {
        let sign = |how: &[&str], out: &str| {
            let out = release.with_file_name(out);
            let mut args: Vec<&std::ffi::OsStr> = ["--local-user", &self.fingerprint, "--digest-algo", "SHA512"].map(AsRef::as_ref).into();
            args.extend(how.iter().map(std::ffi::OsStr::new));
            args.extend(["--output".as_ref(), out.as_os_str(), release.as_os_str()]);
            self.gpg.run(args).map(drop)
        };
        sign(&["--clearsign"], "InRelease")?;
        sign(&["--armor", "--detach-sign"], "Release.gpg")
    }
}

/// gpg with a home of its own.
struct Gpg {
    home: PathBuf,
}

impl Gpg {
    fn run<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<Vec<u8>> {
        Program::new("gpg", "gnupg")
            .args(["--homedir".as_ref(), self.home.as_os_str()])
            .args(["--batch", "--yes", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""])
            .args(args)
            .run()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let stopped = Program::new("gpgconf", "gpgconf").args(["--homedir".as_ref(), self.home.as_os_str()]).args(["--kill", "all"]).run();
        if let Err(fault) = stopped {
            smolotchi_operator::log::warning(Code::ProgramFailed, format!("an agent of gpg may still run: {}", fault.message));
        }
    }
}
