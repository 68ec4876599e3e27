//! Options of `smolotchi secrets`.

use clap::{Subcommand, ValueEnum};

/// What `secrets --help` teaches.
pub(super) const HELP: &str = "\
Secrets are systemd credentials: encrypted with this machine's own key (/var/lib/systemd/credential.secret) where it can have one, else
files that only root can read. A service is handed those that it was meant to have, in memory that is never swapped; no other user sees
them, and neither do the environment, the command line, the journal, the database or a support bundle.";

const SET: &str = "\
Examples:
  smolotchi secrets set web.token --generate         make a token, and show it this once
  smolotchi secrets set web.key < node7.key          from a file
  ssh node7 sudo smolotchi secrets set web.token < token.txt

It is read from standard input, never from the command line, which others can see. The same call changes (rotates) a secret. A token holds at
once: web, if it runs, is restarted, and nobody is refused meanwhile. A certificate and its key hold when web is started again. What can't be
used is refused, and nothing is changed.";

/// Verbs of the secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretsVerb {
    /// Say which secrets there are and how each is kept; never what they are.
    #[command(after_help = "Example:\n  smolotchi secrets list")]
    List,
    /// Set or change a secret; only root may.
    #[command(after_help = SET)]
    Set {
        /// Which one.
        #[arg(value_enum)]
        name: Secret,
        /// Make a token of 256 random bits instead of reading one, and show it.
        #[arg(long)]
        generate: bool,
    },
    /// Take a secret away; only root may. Without its token or certificate, web refuses to serve anybody but this machine.
    #[command(after_help = "Example:\n  smolotchi secrets remove web.token")]
    Remove {
        /// Which one.
        #[arg(value_enum)]
        name: Secret,
    },
}

/// The secrets that there can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Secret {
    /// What callers of web must know.
    #[value(name = "web.token")]
    Token,
    /// Web's TLS certificate, with those that vouch for it; PEM.
    #[value(name = "web.certificate")]
    Certificate,
    /// The certificate's key; PEM.
    #[value(name = "web.key")]
    Key,
}

impl Secret {
    /// The credential's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Secret::Token => "web.token",
            Secret::Certificate => "web.certificate",
            Secret::Key => "web.key",
        }
    }
}
