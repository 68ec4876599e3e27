//! The verbs of the senses.

use clap::Subcommand;

pub(crate) const HELP: &str = "\
Examples:
  smolotchi readings list                               the newest reading of each sensor
  smolotchi readings show system.temperature
  smolotchi readings show network.eth0.received --since '2 h'

A sensor that this machine doesn't have is absent, with the reason. Values are kept when they change by a step of the
sensor's own, so a quiet machine has few of them. Which providers look, and how often: [senses] in the configuration.";

/// Verbs of the senses.
#[derive(Debug, Subcommand)]
pub(crate) enum ReadingsVerb {
    /// Show every sensor with its newest reading, or why it has none.
    #[command(
        after_help = "Example:\n  smolotchi readings list --format json | jq -r '.sensors[] | select(.absent) | .name + \": \" + .absent'"
    )]
    List,
    /// Show the readings of one sensor, oldest first.
    #[command(after_help = "\
Examples:
  smolotchi readings show system.load --since '7 d'
  smolotchi readings show system.memory.available --since 2026-01-31T06:00:00Z --format json

On a terminal a line of bars shows how a number went. Exit code 30: there is no such sensor (core.not-found).")]
    Show {
        /// Its name, as in `readings list`.
        sensor: String,
        /// From when on: a span of time (`90 min`, `24 h`, `7 d`) or a moment (RFC 3339).
        #[arg(long, default_value = "24 h", value_name = "TIME")]
        since: String,
        /// The newest so many, at most.
        #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
}
