//! The command line of the release maker.

use clap::{Args, Parser, Subcommand};
use smolotchi_operator::Format;
use std::path::PathBuf;

/// Makes Smolotchi's releases: signs them, publishes them into a static tree, and checks the tree.
///
/// A tree is one folder, served by any web server or carried on a stick. It holds an apt repository (one suite per channel) and,
/// for smolotchi-install, signed manifests and channels.
#[derive(Debug, Parser)]
#[command(name = "smolotchi-release", version, max_term_width = 100)]
#[command(after_help = "\
A first release:
  smolotchi-release keys --out ~/release-keys
  smolotchi-release publish --tree /srv/smolotchi --keys ~/release-keys --channel stable \\
      --version 0.2.0 --debs dist/debs
  smolotchi-release verify --tree /srv/smolotchi --trust ~/release-keys
  smolotchi-release bundle --tree /srv/smolotchi --channel stable --arch arm64 --out s.bundle

SOURCE_DATE_EPOCH, if set, is taken for the current time; then the same input gives the same
tree, but for the OpenPGP signatures.

Exit codes: 0 done, 2 wrong command line, 10 failed, 20 refused (input, signature, tree),
30 a program is missing (minisign, gpg, gpgv, apt-ftparchive).")]
pub(crate) struct Cli {
    /// How results and errors are printed.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make the two key pairs that sign releases, without passwords.
    ///
    /// Writes into a new folder: smolotchi.key and gnupg/ (secret), smolotchi.pub and
    /// smolotchi-archive-keyring.pgp (public; they belong into the package
    /// smolotchi-archive-keyring). Never overwrites a folder: a lost key can't be made again.
    Keys {
        /// The folder to make.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Add a release to a tree and make it current on a channel.
    ///
    /// The tree is made if it isn't there. Packages go to pool/, the manifest to
    /// releases/VERSION/, the channel (with a higher sequence number) to channels/, and the apt
    /// suite to dists/CHANNEL/, which keeps the versions that it has. Everything is staged beside
    /// and renamed into place; the two files that move a node, InRelease and the channel, come last.
    ///
    /// A published file never changes: the same version with other packages is refused. The
    /// schema and what must be healthy are read from /usr/lib/smolotchi/release.toml in the
    /// smolotchi package. Release has no Valid-Until: nodes have no clock that can be trusted; the
    /// channel's expiry and sequence number protect smolotchi-install instead.
    Publish(Publish),
    /// Write one channel's release for one architecture as a single file.
    ///
    /// smolotchi-install takes it with --from FILE. Keys are not in it: the node's own decide.
    Bundle(Bundle),
    /// Check a whole tree: signatures, hashes, every manifest, channel and suite.
    Verify {
        /// The tree's root.
        #[arg(long, value_name = "DIR")]
        tree: PathBuf,
        /// A folder with the public keys, *.pub (minisign) and *.pgp (OpenPGP).
        #[arg(long, value_name = "DIR")]
        trust: PathBuf,
    },
}

/// What to publish.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The tree's root.
    #[arg(long, value_name = "DIR")]
    pub(crate) tree: PathBuf,
    /// The folder that `keys` made.
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: PathBuf,
    /// The channel, and the apt suite.
    #[arg(long, value_name = "NAME")]
    pub(crate) channel: String,
    /// A folder with the release's packages (*.deb), for every architecture; may be given several times.
    #[arg(long, value_name = "DIR", required = true)]
    pub(crate) debs: Vec<PathBuf>,
    /// The release's version: that of its package smolotchi.
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: String,
    /// For how many days the channel holds.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) expires_days: u32,
    /// The channel's sequence number; one more than the last, unless given.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) sequence: Option<u64>,
}

/// What to bundle.
#[derive(Debug, Args)]
pub(crate) struct Bundle {
    /// The tree's root.
    #[arg(long, value_name = "DIR")]
    pub(crate) tree: PathBuf,
    /// The channel.
    #[arg(long, value_name = "NAME")]
    pub(crate) channel: String,
    /// The Debian architecture, as in `dpkg --print-architecture`.
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: String,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// A folder with the public keys to check the tree with first; the tree's own keys/ unless given.
    #[arg(long, value_name = "DIR")]
    pub(crate) trust: Option<PathBuf>,
}
