//! The manifest: one release, each of its packages with size and SHA-256, the schema, what must be healthy. Signed.

use crate::{ErrorKind, ReleaseError, Result, Trust, document, hash, signature, tree, version};
use serde::{Deserialize, Serialize};

/// The manifest's kind and format.
pub const KIND: &str = "smolotchi/manifest/1";

/// A release's manifest. Outside of the release maker it can only be had from [`Manifest::verify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Manifest {
    /// The release's version.
    pub version: String,
    /// Of its database.
    pub schema: Schema,
    /// What must be healthy once it runs.
    pub health: Health,
    /// Its packages, one per name and architecture.
    pub debs: Vec<DebEntry>,
}

/// The database's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// What this release migrates to.
    pub own: u32,
}

/// What must be healthy before a change is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Units that must be active.
    pub units: Vec<String>,
    /// The heartbeat file, which must move. Absolute, under /run.
    pub heartbeat: String,
    /// The socket whose `POST /v1/prove` must commit. Absolute, under /run.
    pub prove: String,
}

/// One package of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DebEntry {
    /// The package's name.
    pub package: String,
    /// The package's version; packages of one release may have different ones.
    pub version: String,
    /// A Debian architecture, or `all`.
    pub architecture: String,
    /// Relative to the tree's root; always `pool/PACKAGE_VERSION_ARCHITECTURE.deb`.
    pub path: String,
    /// In bytes, never 0.
    pub size: u64,
    /// 64 lower-case hex digits.
    pub sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    kind: String,
    product: String,
    version: String,
    schema: Schema,
    health: Health,
    deb: Vec<DebEntry>,
}

impl Manifest {
    /// The manifest in `bytes`, if `sig` is a trusted key's signature over exactly them.
    ///
    /// Nothing of `bytes` is parsed before the signature holds.
    pub fn verify(bytes: &[u8], sig: &[u8], trust: &Trust) -> Result<Manifest> {
        signature::verify(trust, bytes, sig)?;
        Self::read(bytes)
    }

    /// The manifest in `bytes`, unsigned: for those who are about to sign it.
    #[cfg(any(test, feature = "sign"))]
    pub fn parse(bytes: &[u8]) -> Result<Manifest> {
        Self::read(bytes)
    }

    /// A manifest from its parts, checked like one that is read.
    #[cfg(any(test, feature = "sign"))]
    pub fn new(version: String, schema: Schema, health: Health, debs: Vec<DebEntry>) -> Result<Manifest> {
        let manifest = Manifest { version, schema, health, debs };
        manifest.check()?;
        Ok(manifest)
    }

    fn read(bytes: &[u8]) -> Result<Manifest> {
        let wire: Wire = document::parse(bytes, ErrorKind::ManifestInvalid, "the manifest")?;
        document::check_kind(KIND, &wire.kind, &wire.product, ErrorKind::ManifestInvalid)?;
        let manifest = Manifest { version: wire.version, schema: wire.schema, health: wire.health, debs: wire.deb };
        manifest.check()?;
        Ok(manifest)
    }

    /// Its form on disk.
    pub fn to_toml(&self) -> Result<String> {
        let wire = Wire {
            kind: KIND.to_owned(),
            product: crate::PRODUCT.to_owned(),
            version: self.version.clone(),
            schema: self.schema,
            health: self.health.clone(),
            deb: self.debs.clone(),
        };
        document::write(&wire, ErrorKind::ManifestInvalid, "the manifest")
    }

    /// The entry of a package for an architecture; an entry for `all` serves every one.
    pub fn deb(&self, package: &str, architecture: &str) -> Option<&DebEntry> {
        self.debs.iter().find(|deb| deb.package == package && (deb.architecture == architecture || deb.architecture == "all"))
    }

    fn check(&self) -> Result<()> {
        let refuse = |what: &str, found: &str| Err(ReleaseError::new(ErrorKind::ManifestInvalid, what).fact("found", found));
        if !version::is_release_version(&self.version) {
            return refuse("the manifest's version is not one that a release can have", &self.version);
        }
        self.health.check(ErrorKind::ManifestInvalid)?;
        if self.debs.is_empty() {
            return refuse("the manifest names no packages", "0");
        }
        for (index, deb) in self.debs.iter().enumerate() {
            deb.check(ErrorKind::ManifestInvalid)?;
            let clash = |other: &&DebEntry| {
                other.package == deb.package
                    && (other.architecture == deb.architecture || other.architecture == "all" || deb.architecture == "all")
            };
            if self.debs[..index].iter().any(|other| clash(&other)) {
                return refuse("the manifest names a package twice for one architecture", &format!("{} {}", deb.package, deb.architecture));
            }
        }
        Ok(())
    }
}

impl DebEntry {
    fn check(&self, kind: ErrorKind) -> Result<()> {
        let rules = [
            (tree::is_package_name(&self.package), "package", &self.package),
            (version::is_release_version(&self.version), "version", &self.version),
            (tree::is_architecture(&self.architecture), "architecture", &self.architecture),
            (self.path == tree::deb_path(&self.package, &self.version, &self.architecture), "path", &self.path),
            (hash::is_sha256(&self.sha256), "sha256", &self.sha256),
            (self.size > 0, "size", &"0".to_owned()),
        ];
        for (holds, field, value) in rules {
            if !holds {
                return Err(ReleaseError::new(kind, format!("an entry for a package has an impossible {field}"))
                    .fact("package", &self.package)
                    .fact("found", value));
            }
        }
        Ok(())
    }
}

impl Health {
    pub(crate) fn check(&self, kind: ErrorKind) -> Result<()> {
        let unit = |unit: &String| {
            tree::is_file_name(unit) && [".service", ".socket", ".timer", ".path", ".target"].iter().any(|suffix| unit.ends_with(suffix))
        };
        if self.units.is_empty() {
            return Err(ReleaseError::new(kind, "no unit is named that must be healthy"));
        }
        if let Some(bad) = self.units.iter().find(|name| !unit(name)) {
            return Err(ReleaseError::new(kind, "a unit to watch has an impossible name").fact("found", bad));
        }
        for path in [&self.heartbeat, &self.prove] {
            let inside = path.strip_prefix("/run/").is_some_and(|rest| rest.split('/').all(tree::is_file_name));
            if !inside {
                return Err(ReleaseError::new(kind, "a path of the health gate is not a plain path under /run").fact("found", path));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../../../tests/golden/tree/releases/0.2.0/manifest.toml");

    #[test]
    fn a_manifest_that_breaks_a_rule_is_refused() {
        let hash = &Manifest::parse(GOLDEN.as_bytes()).unwrap().debs[0].sha256;
        let second = &GOLDEN[GOLDEN.rfind("[[deb]]").unwrap()..];
        let table = [
            ("another kind", GOLDEN.replace("manifest/1", "manifest/2")),
            ("a channel's kind", GOLDEN.replace("smolotchi/manifest/1", "smolotchi/channel/1")),
            ("another product", GOLDEN.replace("product = \"smolotchi\"", "product = \"other\"")),
            ("an unknown key", format!("later = 1\n{GOLDEN}")),
            ("an unknown key of the schema", GOLDEN.replace("own = 3", "own = 3\nlater = 1")),
            ("an unknown key of a package", format!("{GOLDEN}later = 1\n")),
            ("a key twice", GOLDEN.replace("own = 3", "own = 3\nown = 3")),
            ("no schema", GOLDEN.replace("own = 3", "")),
            ("a negative schema", GOLDEN.replace("own = 3", "own = -3")),
            ("a version with a path", GOLDEN.replacen("\"0.2.0\"", "\"../0\"", 1)),
            ("no units", GOLDEN.replace("[\"smolotchi-core.service\", \"smolotchi-web.socket\"]", "[]")),
            ("a unit that is an option", GOLDEN.replace("\"smolotchi-core.service\"", "\"--all.service\"")),
            ("a unit with a path", GOLDEN.replace("\"smolotchi-core.service\"", "\"a/b.service\"")),
            ("a heartbeat elsewhere", GOLDEN.replace("/run/smolotchi/core/", "/etc/")),
            ("a heartbeat that climbs", GOLDEN.replace("/run/smolotchi/core/", "/run/../etc/")),
            ("an absolute path", GOLDEN.replace("\"pool/smolotchi_", "\"/pool/smolotchi_")),
            ("a path that climbs", GOLDEN.replace("\"pool/smolotchi_", "\"pool/../smolotchi_")),
            ("the path of another file", GOLDEN.replace("pool/smolotchi_0.2.0", "pool/smolotchi_0.2.1")),
            ("size 0", GOLDEN.replace("size = 900", "size = 0")),
            ("a short hash", GOLDEN.replacen("sha256 = \"", "sha256 = \"0\" #", 1)),
            ("a hash in capitals", GOLDEN.replace(hash, &hash.to_uppercase())),
            ("a package twice", format!("{GOLDEN}\n{second}")),
            ("a package for all and for one", format!("{GOLDEN}\n{}", second.replace("all", "amd64"))),
            ("no packages", GOLDEN[..GOLDEN.find("[[deb]]").unwrap()].to_owned()),
            ("an empty list of packages", format!("deb = []\n{}", &GOLDEN[..GOLDEN.find("[[deb]]").unwrap()])),
            ("too long", format!("{GOLDEN}#{}", "x".repeat(document::MAX_BYTES))),
            ("empty", String::new()),
        ];
        for (what, text) in table {
            assert_ne!(text, GOLDEN, "{what}: nothing was changed");
            let error = Manifest::parse(text.as_bytes()).expect_err(what);
            assert_eq!(error.kind(), ErrorKind::ManifestInvalid, "{what}");
        }
        assert_eq!(Manifest::parse(&[0xff]).unwrap_err().kind(), ErrorKind::ManifestInvalid);
    }

    #[test]
    fn an_error_does_not_repeat_its_source() {
        let error = Manifest::parse(b"kind = ").unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(!error.to_string().contains(source.lines().next().unwrap()), "{error}: {source}");
    }
}
