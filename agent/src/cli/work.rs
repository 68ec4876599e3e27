//! Options of `smolotchi jobs`, `stages`, `artifacts` and `locks`.

use clap::Subcommand;
use smolotchi_store::{ArtifactState, JobState, StageState};
use std::path::PathBuf;

/// How many rows a list shows.
type Limit = u32;

fn job_state(text: &str) -> Result<JobState, String> {
    text.parse().map_err(|()| one_of(JobState::ALL.iter().map(|state| state.as_str())))
}

fn stage_state(text: &str) -> Result<StageState, String> {
    text.parse().map_err(|()| one_of(StageState::ALL.iter().map(|state| state.as_str())))
}

fn artifact_state(text: &str) -> Result<ArtifactState, String> {
    text.parse().map_err(|()| one_of(ArtifactState::ALL.iter().map(|state| state.as_str())))
}

fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    format!("it is one of {}", words.collect::<Vec<_>>().join(", "))
}

fn json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

/// Verbs of the queue.
#[derive(Debug, Subcommand)]
pub(crate) enum JobsVerb {
    /// Show jobs, newest first.
    #[command(after_help = "\
Examples:
  smolotchi jobs list --state failed
  smolotchi jobs list --format json | jq -r '.jobs[] | select(.attempts > 1) | .id'")]
    List {
        /// Only these: queued, leased, waiting, done, failed, cancelled.
        #[arg(long, value_parser = job_state, value_name = "STATE")]
        state: Option<JobState>,
        /// Only those before this one.
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
        /// How many, at most.
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: Limit,
    },
    /// Show one job with all that is known of it.
    #[command(after_help = "Example:\n  smolotchi jobs show 12")]
    Show {
        /// Its number.
        id: i64,
    },
    /// Queue a job; it is on the disk when this returns.
    #[command(after_help = "\
Examples:
  smolotchi jobs add run --profile watch
  smolotchi jobs add run --profile watch --delay 3600 --priority 5

A worker that knows the kind takes it. Who asked is written down.")]
    Add {
        /// What is to be done, such as run.
        kind: String,
        /// The profile, for kinds that have one.
        #[arg(long, value_name = "NAME")]
        profile: Option<String>,
        /// What the worker gets, a JSON value.
        #[arg(long, value_parser = json, value_name = "JSON")]
        input: Option<serde_json::Value>,
        /// Higher ones come first.
        #[arg(long, default_value_t = 0, allow_hyphen_values = true, value_name = "N")]
        priority: i64,
        /// Not before so many seconds, a year at most.
        #[arg(long, default_value_t = 0, value_name = "SECONDS")]
        delay: u64,
    },
    /// Take a job back that has not ended.
    #[command(after_help = "\
Example:
  smolotchi jobs cancel 12 --dry-run
  smolotchi jobs cancel 12

A worker that is at it learns it when it next renews its lease. Its open stage requests end with it.")]
    Cancel {
        /// Its number.
        id: i64,
        /// Only say what would end.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Verbs of the stage requests.
#[derive(Debug, Subcommand)]
pub(crate) enum StagesVerb {
    /// Show stage requests, newest first; without --state those that wait for a decision.
    #[command(after_help = "\
Examples:
  smolotchi stages list                      what waits for you
  smolotchi stages list --all                also what was decided, by whom and why")]
    List {
        /// Only these: pending, approved, denied, expired.
        #[arg(long, value_parser = stage_state, value_name = "STATE", conflicts_with = "all")]
        state: Option<StageState>,
        /// All of them.
        #[arg(long)]
        all: bool,
        /// How many, at most.
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: Limit,
    },
    /// Show one stage request with all that is known of it.
    #[command(after_help = "Example:\n  smolotchi stages show 3")]
    Show {
        /// Its number.
        id: i64,
    },
    /// Allow the step; its run goes on with it.
    #[command(after_help = "\
Example:
  smolotchi stages approve 3 --why 'the switch is ours'

Who decided, when and why stays with the request for good (smolotchi stages list --all); its sealed event goes with the oldest events.
Only root and the user smolotchi may decide.")]
    Approve {
        /// Its number.
        id: i64,
        /// Why.
        #[arg(long, value_name = "REASON")]
        why: String,
    },
    /// Refuse the step; its run goes on without it.
    #[command(after_help = "Example:\n  smolotchi stages deny 3 --why 'not during the day'")]
    Deny {
        /// Its number.
        id: i64,
        /// Why.
        #[arg(long, value_name = "REASON")]
        why: String,
    },
}

/// Verbs of the artifacts.
#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactsVerb {
    /// Show artifacts, newest first.
    #[command(after_help = "\
Examples:
  smolotchi artifacts list --run 7
  smolotchi artifacts list --state damaged")]
    List {
        /// Only of this kind, such as plan, inputs, result, note.
        #[arg(long, value_name = "KIND")]
        kind: Option<String>,
        /// Only of this job.
        #[arg(long, value_name = "ID")]
        job: Option<i64>,
        /// Only of this run.
        #[arg(long, value_name = "ID")]
        run: Option<i64>,
        /// Only these: whole, damaged.
        #[arg(long, value_parser = artifact_state, value_name = "STATE")]
        state: Option<ArtifactState>,
        /// Only those before this one.
        #[arg(long, value_name = "ID")]
        before: Option<i64>,
        /// How many, at most.
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: Limit,
    },
    /// Show one artifact with all that is known of it.
    #[command(after_help = "Example:\n  smolotchi artifacts show 12")]
    Show {
        /// Its number.
        id: i64,
    },
    /// Read the content of all artifacts, or of some, and compare it with what was stored.
    #[command(after_help = "\
Examples:
  smolotchi artifacts verify
  smolotchi artifacts verify 12 13

What is damaged is set aside, named, and never given out again. Exit codes: 0 all whole, 50 damaged (artifact.damaged).
Files that no artifact knows are named too; nothing removes them by itself.")]
    Verify {
        /// Their numbers; without any, all of them.
        ids: Vec<i64>,
    },
    /// Write the content of an artifact to a file, or to standard output.
    #[command(after_help = "\
Examples:
  smolotchi artifacts export 12 --to plan.json
  smolotchi artifacts export 12 | jq .

It is compared before it is given out. A file that is there already is never overwritten.")]
    Export {
        /// Its number.
        id: i64,
        /// The new file.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Store a file; it is on the disk when this returns.
    #[command(after_help = "Example:\n  smolotchi artifacts put notes.txt --kind note --media text/plain")]
    Put {
        /// The file.
        file: PathBuf,
        /// What it is.
        #[arg(long, default_value = "note", value_name = "KIND")]
        kind: String,
        /// Its name, if not the file's own.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Its media type.
        #[arg(long, value_name = "TYPE")]
        media: Option<String>,
    },
    /// Remove artifacts; what a baseline, an open finding or a waiting run needs stays.
    #[command(after_help = "\
Examples:
  smolotchi artifacts remove 12 13 --dry-run
  smolotchi artifacts remove 12 13")]
    Remove {
        /// Their numbers.
        #[arg(required = true)]
        ids: Vec<i64>,
        /// Only say what would be removed.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Verbs of the leases.
#[derive(Debug, Subcommand)]
pub(crate) enum LocksVerb {
    /// Show what is held, by which process, and whether that can still be there.
    #[command(after_help = "Example:\n  smolotchi locks list")]
    List,
    /// Give up leases whose holder can't be there any more; all others stay.
    #[command(after_help = "\
Example:
  smolotchi locks clean --dry-run

Stale is only what provably is: of another boot, or of a process that is gone. A job that was held is queued again.")]
    Clean {
        /// Only say what would be given up.
        #[arg(long)]
        dry_run: bool,
    },
}
