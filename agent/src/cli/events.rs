//! Which events to show, and the audit of their log: options only.

use super::Severity;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Examples of `events list`.
pub(crate) const LIST_EXAMPLES: &str = "\
Examples:
  smolotchi events list --severity warning --since '2 h'
  smolotchi events list --topic disk --search full      topics disk and disk.…, with these letters in topic or body
  smolotchi events list --follow                        the newest ones, then each new one as it comes; end with Ctrl-C
  smolotchi events list --before 4711 --limit 100       further back
  smolotchi events list --limit 100 --format json | jq -r '.events[].topic'

With --follow the order is oldest first, and --format json prints one event a line.";

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Only this topic and those below it: disk is also disk.full.
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Option<String>,
    /// Only those at least so serious.
    #[arg(long, value_enum, value_name = "SEVERITY")]
    pub(crate) severity: Option<Severity>,
    /// Only those since then: a time (2026-01-31T12:00:00Z) or how long ago (90 s, 15 min, 2 h, 3 d).
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
    /// Only those with these letters in topic or body, whatever their case.
    #[arg(long, value_name = "LETTERS")]
    pub(crate) search: Option<String>,
    /// Only those older than this id.
    #[arg(long, value_name = "ID", conflicts_with = "follow")]
    pub(crate) before: Option<i64>,
    /// Go on with each new event until Ctrl-C.
    #[arg(long)]
    pub(crate) follow: bool,
}

/// Verbs of the audit.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// Work the chain of seals out again, over every event.
    #[command(after_help = "\
Examples:
  smolotchi audit verify
  smolotchi audit verify --format json | jq .head
  smolotchi audit verify --database copy.db     a copy, or core's own while core is stopped
  journalctl -u smolotchi-core -g 'the event log ends with'     the seals that core told the systemd journal, to compare

Each commit is sealed over its events and the seal before it, so a changed, removed or inserted event shows, and so does what was
cut off. What a prune dropped and what a restore skipped is on record in the log itself; any other gap is broken. Events from before the chain began are counted as unsealed. A log that was rewritten whole has another last seal than the
one that core told the systemd journal when it stopped.

Exit codes: 0 whole, 50 broken (audit.broken, with the first event that is not what it was), 30 core can't be asked.")]
    Verify {
        /// Look into this file, without core; as the user that owns it.
        #[arg(long, value_name = "FILE")]
        database: Option<PathBuf>,
    },
}
