//! The command line.

use crate::plan::Kind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use smolotchi_operator::Format;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  smolotchi-install plan --from /media/usb           what an upgrade would do, without doing it
  smolotchi-install upgrade --from /media/usb        upgrade, watch, and go back if the new version isn't healthy
  smolotchi-install upgrade --from https://example.org/smolotchi --channel stable
  smolotchi-install rollback                         back to the version before, offline, keeping all rows
  smolotchi-install pause --for 7d --reason fair  no new version for a week, by apt or from here
  smolotchi-install status                           what runs, what happened last, what it can go back to

Exit codes:
  0 done or nothing to do   2 usage   10 failed   20 refused before anything was touched   30 something is missing
  40 failed and safely rolled back   50 an operator is needed

Files:
  /etc/smolotchi-install/config.d/*.toml   [source] from, channel  [gate] window_s, deadline_s  [slots] keep, max_bytes
                                           [packages] lock_timeout_s  [blocks] days
                                           [window] days, from, to  [migrations] accept_irreversible
  /etc/smolotchi-install/trust.d/*.pub     further minisign keys to trust";

/// Installs, upgrades and rolls back Smolotchi on this machine, and always keeps the way back.
#[derive(Debug, Parser)]
#[command(name = "smolotchi-install", version, about, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// For people, or one JSON document a line for programs.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install Smolotchi on a machine that doesn't have it.
    Install(ReleaseArgs),
    /// Upgrade to the release that the channel names (or --to), watch it, and go back if it isn't healthy.
    Upgrade(ReleaseArgs),
    /// Go back to the version before (or --to), offline, keeping all rows.
    Rollback(RollbackArgs),
    /// Show what a change would do, without doing it; the same as --dry-run.
    Plan {
        /// Which change.
        #[arg(value_enum, default_value_t = PlanKind::Upgrade)]
        kind: PlanKind,
        /// The release to plan for.
        #[command(flatten)]
        release: ReleaseArgs,
    },
    /// What runs, what happened last, what is blocked, what it can go back to.
    Status,
    /// The changes of this machine, or one with its evidence.
    History {
        /// A change, as `history` lists it.
        id: Option<String>,
    },
    /// Verify a source: channel, manifest, and every package of the release.
    Verify(SourceArgs),
    /// Keep smolotchi as it is for a while; other packages go on. Going back stays possible.
    Pause(PauseArgs),
    /// End a pause.
    Resume,
    /// Never install this version here.
    Skip {
        /// The version.
        version: String,
        /// Why, for whoever asks later.
        #[arg(long, default_value = "the operator doesn't want it")]
        reason: String,
    },
    /// Allow a blocked or skipped version again.
    Unblock {
        /// The version.
        version: String,
    },
    /// Mend what a power cut left of packages, state and database; done by itself at every boot.
    Heal {
        /// The machine is booting: start and stop nothing.
        #[arg(long, hide = true)]
        at_boot: bool,
    },
    /// Carry the open change on (the service's verb).
    #[command(hide = true)]
    CarryOn,
    /// Called by apt's hook and the maintainer scripts.
    #[command(hide = true)]
    Guard {
        /// Who calls.
        #[command(subcommand)]
        caller: GuardCaller,
    },
    /// Write manual pages and completions.
    #[command(hide = true)]
    Docs {
        /// The folder for man/ and completions/.
        folder: PathBuf,
    },
}

/// Where the release is.
#[derive(Debug, Args, Clone)]
pub struct SourceArgs {
    /// A URL, a folder or a bundle [default: source.from of the settings].
    #[arg(long, value_name = "URL|FOLDER|BUNDLE")]
    pub from: Option<String>,
    /// The channel to follow [default: source.channel of the settings, else stable].
    #[arg(long)]
    pub channel: Option<String>,
    /// This version instead of the channel's.
    #[arg(long, value_name = "VERSION")]
    pub to: Option<String>,
    /// Trust this minisign public key instead of the machine's (may be repeated).
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
    /// Take a channel although it has expired.
    #[arg(long)]
    pub accept_expired: bool,
}

/// The release and how to go there.
#[derive(Debug, Args, Clone)]
pub struct ReleaseArgs {
    /// Where it is.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Take a version that is blocked or skipped on this machine.
    #[arg(long)]
    pub unblock: bool,
    /// Also outside of the maintenance window.
    #[arg(long)]
    pub now: bool,
    /// Also if it changes the database in a way that can't be undone.
    #[arg(long)]
    pub accept_irreversible: bool,
    /// Only show what would be done.
    #[arg(long)]
    pub dry_run: bool,
}

/// For how long, and why.
#[derive(Debug, Args, Clone)]
pub struct PauseArgs {
    /// Until this moment, as RFC 3339 has it [default: until `resume`].
    #[arg(long, value_name = "MOMENT", conflicts_with = "length")]
    pub until: Option<String>,
    /// For so long, for example 7d or 12h.
    #[arg(long = "for", value_name = "LENGTH")]
    pub length: Option<String>,
    /// Why, for whoever asks later.
    #[arg(long, default_value = "the operator paused it")]
    pub reason: String,
}

/// How to go back.
#[derive(Debug, Args, Clone)]
pub struct RollbackArgs {
    /// This version instead of the one before.
    #[arg(long, value_name = "VERSION")]
    pub to: Option<String>,
    /// Only show what would be done.
    #[arg(long)]
    pub dry_run: bool,
}

/// What can be planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanKind {
    /// As `install --dry-run`.
    Install,
    /// As `upgrade --dry-run`.
    Upgrade,
    /// As `rollback --dry-run`.
    Rollback,
}

impl From<PlanKind> for Kind {
    fn from(kind: PlanKind) -> Kind {
        match kind {
            PlanKind::Install => Kind::Install,
            PlanKind::Upgrade => Kind::Upgrade,
            PlanKind::Rollback => Kind::Rollback,
        }
    }
}

/// Who calls the guard.
#[derive(Debug, Subcommand)]
pub enum GuardCaller {
    /// apt, with `DPkg::Pre-Install-Pkgs` version 3 on standard input.
    Apt,
    /// `apt update` is about to run: lets go what has run out, and makes apt's pins say what the state says.
    Refresh,
    /// smolotchi's preinst, with dpkg's arguments.
    Preinst {
        /// As Debian Policy chapter 6 has them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// smolotchi's postinst.
    Postinst {
        /// As Debian Policy chapter 6 has them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// smolotchi's prerm.
    Prerm {
        /// As Debian Policy chapter 6 has them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// smolotchi's postrm.
    Postrm {
        /// As Debian Policy chapter 6 has them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        super::Cli::command().debug_assert();
    }
}
