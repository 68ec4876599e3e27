//! Options of `smolotchi doctor` and `smolotchi support-bundle`.

use clap::Args;
use std::path::PathBuf;

/// What `doctor --help` teaches.
pub(super) const DOCTOR: &str = "\
Examples:
  smolotchi doctor
  smolotchi doctor --format json | jq -r '.checks[] | select(.state == \"failed\") | .name, .hint'
  smolotchi doctor --security          also what each unit leaves open
  smolotchi doctor --security --format json | jq '.checks[] | select(.exposure) | {name, exposure}'

Run it as root: what can't be looked at is told as unknown, with the reason. It changes nothing.
Exit codes: 0 nothing failed (warnings are no failure), 10 something did (doctor.failed).";

/// What `support-bundle --help` teaches.
pub(super) const BUNDLE: &str = "\
Examples:
  smolotchi support-bundle --dry-run   what would be in it, and where it comes from
  smolotchi support-bundle --output /media/stick/node7.tar.gz

Passwords, tokens, keys and the user part of addresses are replaced before anything is written. Look into it all the same before you
hand it on: names of machines and people stay. Readable only by you; an existing file is never overwritten.";

/// Options of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Say also what each unit leaves open, in points of systemd-analyze security.
    #[arg(long)]
    pub(crate) security: bool,
}

/// Options of `support-bundle`.
#[derive(Debug, Args)]
pub(crate) struct SupportBundle {
    /// The new file.
    #[arg(long, value_name = "FILE", required_unless_present = "dry_run")]
    pub(crate) output: Option<PathBuf>,
    /// Only say what would be in it.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
