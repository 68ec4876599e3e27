//! The command line of the ai worker: its service, runs, profiles, findings and baselines.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Options of `ai`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Without a verb this is the service, smolotchi-ai.service: it takes jobs from core, one at a time.

Examples:
  smolotchi ai run watch --wait        look now, and say what came out
  smolotchi ai plan watch              what a run would do, and what the policy says of each step
  smolotchi ai runs                    the newest runs
  smolotchi ai replay 12 && echo same  judge what run 12 saw again, and compare byte by byte"
)]
pub(crate) struct Ai {
    #[command(subcommand)]
    pub(crate) verb: Option<AiVerb>,
}

/// Verbs of runs.
#[derive(Debug, Subcommand)]
pub(crate) enum AiVerb {
    /// Queue a run of a profile.
    #[command(after_help = "\
Examples:
  smolotchi ai run watch
  smolotchi ai run keep --wait         asks for an operator's word; in another terminal: smolotchi stages list
  smolotchi ai run watch --wait --timeout 300

Exit codes: 0 queued, or with --wait done; 10 with --wait: it failed, or did not end in time (run.not-in-time).")]
    Run {
        /// The profile.
        profile: String,
        /// Follow it to its end, or until it waits for an operator's word.
        #[arg(long)]
        wait: bool,
        /// With --wait: follow it for so many seconds at most; the run goes on without.
        #[arg(long, requires = "wait", value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// Show the newest runs, newest first.
    #[command(after_help = "Example:\n  smolotchi ai runs --limit 5")]
    Runs {
        /// How many, at most.
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
    },
    /// Show what a run of a profile would do; does nothing.
    #[command(after_help = "Example:\n  smolotchi ai plan watch --format json | jq -r '.steps[].action'")]
    Plan {
        /// The profile.
        profile: String,
    },
    /// Judge what a run saw again, and compare the result byte by byte; changes nothing.
    #[command(
        after_help = "Example:\n  smolotchi ai replay 12\n\nExit codes: 0 the same, 50 not the same (ai.replay-differs), 20 the run is not done (run.not-done)."
    )]
    Replay {
        /// The run.
        run: i64,
    },
    /// Show what differs between the results of two runs.
    #[command(
        after_help = "Example:\n  smolotchi ai diff 11 12\n\nLines begin with + (only in the second), - (only in the first) or ~ (in both, but not the same)."
    )]
    Diff {
        /// The first run.
        a: i64,
        /// The second run.
        b: i64,
    },
    /// Show every action that a profile may name.
    #[command(after_help = "Example:\n  smolotchi ai actions")]
    Actions,
}

/// Verbs of profiles.
#[derive(Debug, Subcommand)]
pub(crate) enum ProfilesVerb {
    /// Show the newest version of each profile.
    #[command(after_help = "Example:\n  smolotchi profiles list")]
    List,
    /// Show the text of a profile.
    #[command(after_help = "Example:\n  smolotchi profiles show watch --at 1")]
    Show {
        /// Its name.
        name: String,
        /// Not the newest version, but this one.
        #[arg(long = "at", value_name = "VERSION")]
        at: Option<u32>,
    },
    /// Check a file without adding it; exit 20 with line, key and what was expected.
    #[command(after_help = "Example:\n  smolotchi profiles check mine.toml")]
    Check {
        /// TOML.
        file: PathBuf,
    },
    /// Add a version of a profile. A version never changes: raise it with each change.
    #[command(after_help = "\
Example:
  smolotchi profiles show watch >mine.toml      then change name, version and steps
  smolotchi profiles check mine.toml && smolotchi profiles add mine.toml

Files in /etc/smolotchi/profiles are added by core at its start as well.")]
    Add {
        /// TOML.
        file: PathBuf,
    },
}

/// Verbs of findings.
#[derive(Debug, Subcommand)]
pub(crate) enum FindingsVerb {
    /// Show findings, newest first.
    #[command(after_help = "\
Examples:
  smolotchi findings list                       what is open
  smolotchi findings list --state gone
  smolotchi findings list --all --search ssh --format json | jq -r '.findings[].key'")]
    List {
        /// Only those in this state.
        #[arg(long, value_enum, default_value = "open", value_name = "STATE")]
        state: FindingState,
        /// In whatever state.
        #[arg(long, conflicts_with = "state")]
        all: bool,
        /// Only of this profile.
        #[arg(long, value_name = "NAME")]
        profile: Option<String>,
        /// Only those at least so serious.
        #[arg(long, value_enum, value_name = "SEVERITY")]
        severity: Option<super::Severity>,
        /// Only those with this text in key or title.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// How many, at most.
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
    },
    /// Show one finding with all its facts; the same as `smolotchi explain`.
    #[command(after_help = "Example:\n  smolotchi findings show 3")]
    Show {
        /// Its number.
        id: i64,
    },
}

/// Where a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) enum FindingState {
    Open,
    Expected,
    Gone,
}

/// Verbs of baselines.
#[derive(Debug, Subcommand)]
pub(crate) enum BaselineVerb {
    /// Expect what a profile finds now; from the next run on, what differs is a finding.
    #[command(after_help = "Example:\n  smolotchi baseline set watch --note 'as installed'")]
    Set {
        /// The profile.
        profile: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Show what a profile is expected to find.
    #[command(after_help = "Example:\n  smolotchi baseline show watch")]
    Show {
        /// The profile.
        profile: String,
    },
    /// Show every baseline, newest first.
    #[command(after_help = "Example:\n  smolotchi baseline list")]
    List,
    /// Forget the baselines of a profile: nothing is expected any more.
    #[command(after_help = "Example:\n  smolotchi baseline clear watch --dry-run")]
    Clear {
        /// The profile.
        profile: String,
        /// Only say what would be forgotten.
        #[arg(long)]
        dry_run: bool,
    },
}
