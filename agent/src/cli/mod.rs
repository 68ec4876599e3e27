//! The command line: what can be asked, and how `--help` teaches it. No behaviour lives here.

mod ai;
pub(crate) mod care;
mod display;
mod events;
mod powers;
mod readings;
mod secrets;
mod work;

pub(crate) use ai::{Ai, AiVerb, BaselineVerb, FindingState, FindingsVerb, ProfilesVerb};
pub(crate) use display::Display;
pub(crate) use events::{AuditVerb, Which};
pub(crate) use readings::ReadingsVerb;
pub(crate) use secrets::{Secret, SecretsVerb};
pub(crate) use work::{ArtifactsVerb, JobsVerb, LocksVerb, StagesVerb};

use clap::{Args, Parser, Subcommand, ValueEnum};
use smolotchi_operator::Format;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Offline-first agent for small Debian machines.
///
/// The services run as systemd units; the verbs ask core over its socket, and work on the
/// database directly only where core can't answer.
#[derive(Debug, Parser)]
#[command(name = "smolotchi", version = crate::release::VERSION, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Examples:
  smolotchi status                     what runs, since when, what happened last
  smolotchi health && echo well        exit code 0 healthy, 10 unhealthy, 30 core can't be asked
  smolotchi events list --limit 5
  smolotchi config show                every setting and the file it comes from

Exit codes: 0 done, 2 wrong command line, 10 failed, 20 refused, 30 something is missing, 50 needs an operator.")]
pub(crate) struct Cli {
    /// How results and errors are printed.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
    /// When to colour; NO_COLOR is respected.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// Take every path below this folder (for development).
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// When to colour the output.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Makes the choice hold for all output of this process.
    pub(crate) fn apply(self) {
        match self {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::AlwaysAnsi,
            Color::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show what runs, since when, and what happened last.
    #[command(after_help = "Example:\n  smolotchi status --format json | jq .events.total")]
    Status,
    /// Check that core, its heartbeat and its database are well.
    #[command(after_help = "\
Examples:
  smolotchi health
  smolotchi health --format json | jq -r '.checks[] | select(.ok | not) | .name'

Exit codes: 0 healthy, 10 unhealthy (health.unhealthy), 30 core can't be asked (core.unreachable).")]
    Health,
    /// Go through the operator's checklist: agent, units, processes, journal, disk, clock, packages, security.
    #[command(after_help = care::DOCTOR)]
    Doctor(care::Doctor),
    /// Gather what somebody else needs to help, without secrets, into one file.
    #[command(after_help = care::BUNDLE)]
    SupportBundle(care::SupportBundle),
    /// Read and write the event log.
    #[command(subcommand)]
    Events(EventsVerb),
    /// Look at the queue, add to it, take back.
    #[command(subcommand)]
    Jobs(JobsVerb),
    /// Decide what a run may do that is above the allowed risk.
    #[command(subcommand)]
    Stages(StagesVerb),
    /// Look at, check, export and store what the work made.
    #[command(subcommand)]
    Artifacts(ArtifactsVerb),
    /// Look at leases: who holds what, and is it stale?
    #[command(subcommand)]
    Locks(LocksVerb),
    /// Show what the machine's sensors read.
    #[command(subcommand, after_help = readings::HELP)]
    Readings(ReadingsVerb),
    /// Run profiles and look at runs; without a verb, take jobs from core (service).
    Ai(Ai),
    /// Show and add what the ai worker looks at.
    #[command(subcommand)]
    Profiles(ProfilesVerb),
    /// Show what was found.
    #[command(subcommand)]
    Findings(FindingsVerb),
    /// Say why a finding is what it is: profile, policy, action, evidence, baseline.
    #[command(after_help = "Example:\n  smolotchi findings list\n  smolotchi explain 12")]
    Explain {
        /// The finding's number.
        id: i64,
    },
    /// Say what a profile is expected to find.
    #[command(subcommand)]
    Baseline(BaselineVerb),
    /// Check that the event log is what was written.
    #[command(subcommand)]
    Audit(AuditVerb),
    /// Look at, check and migrate the database.
    #[command(subcommand)]
    Db(DbVerb),
    /// Show and check the configuration.
    #[command(
        subcommand,
        after_help = "\
Fragments (*.toml) are read from /usr/lib/smolotchi/config.d, /run/smolotchi/config.d and /etc/smolotchi/config.d
in the order of their file names, whatever their folder; later ones override earlier ones key by key.
A file in /etc replaces one of the same name in /run and /usr/lib; one in /run replaces one in /usr/lib."
    )]
    Config(ConfigVerb),
    /// Set, change and remove the secrets of services.
    #[command(subcommand, after_help = secrets::HELP)]
    Secrets(SecretsVerb),
    /// Ask core to remove what the retention policies don't keep (service).
    #[command(after_help = "\
Examples:
  smolotchi prune --dry-run            what the configured policy would remove
  smolotchi prune                      remove it; smolotchi-prune.timer does this every day

Events and readings go by [retention], ended jobs by [jobs], artifacts by [artifacts]: smolotchi config show.")]
    Prune(Prune),
    /// Own the database and answer the API (service).
    #[command(after_help = "\
Runs as smolotchi-core.service, with the socket of smolotchi-core.socket. By hand, for development:
  runuser -u smolotchi -- smolotchi core --socket /run/smolotchi/core.sock")]
    Core(Core),
    /// Serve the read-only status page (service).
    #[command(after_help = "\
Runs as smolotchi-web.service, with the socket of smolotchi-web.socket. By hand, for development:
  smolotchi web --listen 127.0.0.1:8080")]
    Web(Web),
    /// Hear who speaks ARP on an interface, for core (service, off as shipped).
    #[command(after_help = powers::ARP)]
    Arp(Power),
    /// Restart a link or empty a neighbour table, for core (service, off as shipped).
    #[command(after_help = powers::NET)]
    Net(Net),
    /// Show the machine's status on e-paper (service), in a picture or on the terminal.
    #[command(after_help = display::HELP)]
    Display(Display),
    /// Calls of the maintainer scripts and the installer.
    #[command(subcommand, hide = true)]
    Maint(MaintVerb),
    /// Write the manual pages and shell completions below a folder.
    #[command(hide = true)]
    Docs {
        /// Where to: DIR/man/*.1, DIR/completions/SHELL/…
        dir: PathBuf,
    },
}

/// Options of `core`.
#[derive(Debug, Args)]
pub(crate) struct Core {
    /// Bind this socket when systemd hands none in.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

/// Options of `arp`.
#[derive(Debug, Args)]
pub(crate) struct Power {
    /// Bind this socket when systemd hands none in.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

/// Options of `net`.
#[derive(Debug, Args)]
pub(crate) struct Net {
    /// Bind this socket when systemd hands none in.
    #[arg(long, value_name = "PATH", conflicts_with = "finish")]
    pub(crate) socket: Option<PathBuf>,
    /// Do what a process before began and was ended at (the unit's ExecStopPost=).
    #[arg(long)]
    pub(crate) finish: bool,
}

/// Options of `web`.
#[derive(Debug, Args)]
pub(crate) struct Web {
    /// Listen here when systemd hands no socket in; loopback addresses only.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
}

/// Options of `prune`.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Only say what would be removed.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Verbs of the event log.
#[derive(Debug, Subcommand)]
pub(crate) enum EventsVerb {
    /// Show the newest events, newest first.
    #[command(after_help = events::LIST_EXAMPLES)]
    List {
        /// How many, at most.
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        #[command(flatten)]
        which: events::Which,
    },
    /// Append events; they are on the disk when this returns.
    #[command(after_help = "\
Examples:
  smolotchi events append door.opened 'front door'
  smolotchi events append --severity warning disk.low '120 MB left'
  smolotchi events append < events.jsonl

Without arguments, events are read from standard input, one JSON object a line:
  {\"topic\": \"door.opened\", \"body\": \"front door\", \"severity\": \"info\"}
Up to 1000 events become one commit. Only root and the user smolotchi may append. What core writes itself nobody else may: topics that
begin with artifact, baseline, clock, config, core, events, finding, job, lease, network, profile, run or stage.")]
    Append {
        /// What it is about: words of a-z, 0-9, - and _, joined by dots.
        #[arg(requires = "body")]
        topic: Option<String>,
        /// What happened.
        body: Option<String>,
        /// How serious it is.
        #[arg(long, value_enum, requires = "topic", value_name = "SEVERITY")]
        severity: Option<Severity>,
    },
}

/// Severities that an event may have.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) enum Severity {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
}

/// Verbs of the database.
#[derive(Debug, Subcommand)]
pub(crate) enum DbVerb {
    /// Show the schema version and the migrations that made it.
    #[command(after_help = "Example:\n  smolotchi db info --format json | jq -r '.applied[].name'")]
    Info,
    /// Check that the database is whole.
    #[command(after_help = "\
Example:
  smolotchi db check --full

Exit codes: 0 whole, 50 damaged (store.damaged), 30 there is none (store.missing).")]
    Check {
        /// Check every page and index, not only the structure; slow on a large database.
        #[arg(long)]
        full: bool,
    },
    /// Take the database to this version's schema; core must be stopped.
    #[command(after_help = "\
Example:
  systemctl stop smolotchi-core.socket smolotchi-core.service
  smolotchi db migrate --dry-run
  smolotchi db migrate
  systemctl start smolotchi-core.socket smolotchi-core.service

The package does this by itself at an upgrade. Going back to an older schema needs --allow-down.")]
    Migrate {
        /// Allow going down to an older schema, by the undo that the newer version left in the database.
        #[arg(long)]
        allow_down: bool,
        /// Only say which steps it would take; core may run.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Verbs of the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Show every setting, its value, and the file and line it comes from.
    #[command(after_help = "Example:\n  smolotchi config show --origin")]
    Show {
        /// Show also the values that a later file overrides.
        #[arg(long)]
        origin: bool,
    },
    /// Let core read the configuration again; a broken one changes nothing.
    #[command(after_help = "\
Example:
  smolotchi config reload              what changed, and which service has to be restarted for it

systemctl reload smolotchi-core.service does the same; what came of it stands in the journal then. Only root and the user smolotchi may.")]
    Reload,
    /// Check the configuration; exit 20 at the first mistake, with file, line and key.
    #[command(after_help = "\
Examples:
  smolotchi config check
  smolotchi config check --file new.toml && install -m 644 new.toml /etc/smolotchi/config.d/50-local.toml")]
    Check {
        /// Check this file alone instead of the configuration of this machine.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// Calls of the maintainer scripts and the installer.
#[derive(Debug, Subcommand)]
pub(crate) enum MaintVerb {
    /// Called by postinst with its own arguments (Debian Policy 6.5).
    Postinst {
        /// `configure OLD`, `abort-upgrade NEW`, …
        #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
        policy: Vec<String>,
    },
    /// Take the database to this build's schema, up or down; never as root.
    Migrate {
        /// Create the database if there is none.
        #[arg(long)]
        create: bool,
    },
    /// Write a consistent copy of the database, also while core runs; never as root.
    Snapshot {
        /// The new file.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Put a snapshot in the database's place; core must be stopped; never as root.
    ///
    /// Rows that the snapshot lacks are exported first, and counted. The database that stood there is put aside.
    Restore {
        /// The snapshot.
        #[arg(long, value_name = "FILE")]
        snapshot: PathBuf,
        /// Where the rows go, as JSON lines; rows that an earlier try put there are kept.
        #[arg(long, value_name = "FILE")]
        export: PathBuf,
    },
    /// Try this build's migrations, and their undo, on a copy of the database; never as root.
    ///
    /// Leaves the copy in this build's schema. Prints what each step did and whether the way back holds.
    Rehearse {
        /// The copy; the live database is refused.
        #[arg(long, value_name = "FILE")]
        database: PathBuf,
    },
    /// Print the release.toml of this build.
    ReleaseToml,
}
