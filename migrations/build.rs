//! Embeds the migrations that this build's release has: those whose `-- since:` is not later than its version.
//!
//! `SMOLOTCHI_VERSION` names the version when it is set (so that an older release can be built from the same tree), else
//! the crate's own. The feature `demo-irreversible` adds those of the folder `demo`. Writes `ladder.rs` to OUT_DIR; refuses gaps, missing files and missing headers.

use sha2::{Digest, Sha256};
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=.");
    println!("cargo:rerun-if-env-changed=SMOLOTCHI_VERSION");
    println!("cargo:rustc-check-cfg=cfg(schema_1)");

    let version = std::env::var("SMOLOTCHI_VERSION").ok().filter(|text| !text.is_empty());
    let version = version.map_or_else(|| std::env::var("CARGO_PKG_VERSION"), Ok)?;
    let release = triple(&version).ok_or_else(|| format!("SMOLOTCHI_VERSION: {version:?} is not a version"))?;
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);

    let mut ladder = String::new();
    let mut count = 0;
    let mut rungs = folders(&root)?;
    if std::env::var_os("CARGO_FEATURE_DEMO_IRREVERSIBLE").is_some() {
        rungs.extend(folders(&root.join("demo"))?);
    }
    for (index, folder) in rungs.iter().enumerate() {
        let rung = Rung::read(folder)?;
        if rung.number as usize != index + 1 {
            return Err(format!("{}: expected number {}", folder.display(), index + 1).into());
        }
        if rung.since <= release {
            if rung.number != count + 1 {
                return Err(format!("{}: is of an earlier release than the one before it", folder.display()).into());
            }
            count += 1;
            rung.embed(&mut ladder)?;
        }
    }
    if count == 0 {
        return Err(format!("no migration is of {version} or earlier").into());
    }
    if count == 1 {
        println!("cargo:rustc-cfg=schema_1");
    }

    let text = format!(
        "/// The release that this build is.\npub(crate) const RELEASE: &str = {version:?};\n\
         /// The migrations of this release, in order.\npub(crate) static LADDER: &[Migration] = &[\n{ladder}];\n"
    );
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("ladder.rs"), text)?;
    Ok(())
}

/// One folder `NNNN_name`.
struct Rung {
    number: u32,
    name: String,
    since: [u64; 3],
    folder: PathBuf,
    up: String,
    down: Option<String>,
    check: String,
}

impl Rung {
    fn read(folder: &Path) -> Result<Rung, Box<dyn Error>> {
        let at = |what: &str| format!("{}: {what}", folder.display());
        let full = folder.file_name().and_then(|name| name.to_str()).ok_or_else(|| at("no name"))?;
        let (number, name) = full.split_once('_').ok_or_else(|| at("must be named NNNN_name"))?;
        let up = std::fs::read_to_string(folder.join("up.sql")).map_err(|error| at(&format!("up.sql: {error}")))?;
        let check = std::fs::read_to_string(folder.join("check.sql")).map_err(|error| at(&format!("check.sql: {error}")))?;
        let header = |key: &str| up.lines().find_map(|line| line.strip_prefix("-- ")?.strip_prefix(key)?.strip_prefix(": "));
        let since = header("since").and_then(triple).ok_or_else(|| at("up.sql has no '-- since: X.Y.Z'"))?;
        let reversible = header("reversible").ok_or_else(|| at("up.sql has no '-- reversible: yes|no'"))?;
        let down = folder.join("down.sql");
        let down = match reversible.split(' ').next() {
            Some("yes") => Some(std::fs::read_to_string(&down).map_err(|error| at(&format!("down.sql: {error}")))?),
            Some("no") if !down.exists() => None,
            _ => return Err(at("reversible must be yes with a down.sql, or no without one").into()),
        };
        let number = number.parse().map_err(|error| at(&format!("number: {error}")))?;
        Ok(Rung { number, name: name.to_owned(), since, folder: folder.to_owned(), up, down, check })
    }

    fn embed(&self, out: &mut String) -> std::fmt::Result {
        let include = |name: &str| format!("include_str!({:?})", self.folder.join(name).display().to_string());
        let down = self.down.as_ref().map_or_else(|| "None".to_owned(), |_| format!("Some({})", include("down.sql")));
        writeln!(
            out,
            "    Migration {{ number: {}, name: {:?}, checksum: {:?}, up: {}, down: {down}, check: {} }},",
            self.number,
            self.name,
            self.checksum(),
            include("up.sql"),
            include("check.sql"),
        )
    }

    /// SHA-256 over up, down and check, each with its length before it; an absent down counts as no part at all.
    fn checksum(&self) -> String {
        let mut hash = Sha256::new();
        for part in [Some(&self.up), self.down.as_ref(), Some(&self.check)].into_iter().flatten() {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// The folders whose names start with a digit, in order.
fn folders(root: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let digit = entry.file_name().to_string_lossy().starts_with(|c: char| c.is_ascii_digit());
        if digit && entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The three numbers of a version; what follows them (`~rc1`, `-1`, `+x`) belongs to the release that they name.
fn triple(version: &str) -> Option<[u64; 3]> {
    let core = version.trim().split(['-', '~', '+']).next()?;
    let mut numbers = core.split('.').map(str::parse);
    let parsed = [numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?];
    numbers.next().is_none().then_some(parsed)
}
