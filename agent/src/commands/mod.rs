//! One file per verb. Each turns options into calls of the rest of the program and prints one result.

mod ai;
pub(crate) mod audit;
mod baseline;
mod config;
mod db;
mod docs;
mod doctor;
pub(crate) mod events;
mod explain;
mod findings;
pub(crate) mod health;
mod maint;
mod postinst;
mod profiles;
mod prune;
mod readings;
mod secrets;
mod status;
mod support_bundle;
mod work;

use crate::cli::{AuditVerb, Cli, Verb};
use crate::paths::Paths;
use crate::{core, display, powers, web};
use smolotchi_operator::{Exit, Result};

/// Runs the verb that the command line names.
pub(crate) fn run(cli: Cli) -> Result<Exit> {
    let paths = Paths::new(cli.root.as_deref());
    let format = cli.format;
    match cli.verb {
        Verb::Status => status::run(&paths, format),
        Verb::Health => health::run(&paths, format),
        Verb::Doctor(options) => doctor::run(&paths, format, options.security),
        Verb::SupportBundle(options) => support_bundle::run(&paths, format, &options),
        Verb::Events(verb) => events::run(&paths, format, verb),
        Verb::Jobs(verb) => work::jobs(&paths, format, verb),
        Verb::Stages(verb) => work::stages(&paths, format, verb),
        Verb::Artifacts(verb) => work::artifacts(&paths, format, verb),
        Verb::Locks(verb) => work::locks(&paths, format, verb),
        Verb::Readings(verb) => readings::run(&paths, format, verb),
        Verb::Ai(options) => ai::run(&paths, format, options),
        Verb::Profiles(verb) => profiles::run(&paths, format, verb),
        Verb::Findings(verb) => findings::run(&paths, format, verb),
        Verb::Explain { id } => explain::run(&paths, format, id),
        Verb::Baseline(verb) => baseline::run(&paths, format, verb),
        Verb::Audit(AuditVerb::Verify { database }) => audit::verify(&paths, format, database.as_deref()),
        Verb::Db(verb) => db::run(&paths, format, verb),
        Verb::Config(verb) => config::run(&paths, format, verb),
        Verb::Secrets(verb) => secrets::run(&paths, format, verb),
        Verb::Prune(options) => prune::run(&paths, format, options.dry_run),
        Verb::Core(options) => core::run(&paths, options.socket.as_deref()),
        Verb::Arp(options) => powers::arp::run(&paths, options.socket.as_deref()),
        Verb::Net(options) if options.finish => powers::net::finish(&paths),
        Verb::Net(options) => powers::net::run(&paths, options.socket.as_deref()),
        Verb::Web(options) => web::run(&paths, options.listen),
        Verb::Display(options) => match (options.png, options.terminal) {
            (Some(file), _) => display::png(&paths, format, &file, options.panel),
            (None, true) => display::terminal(&paths, format, options.pixels, options.panel),
            (None, false) => display::run(&paths),
        },
        Verb::Maint(verb) => maint::run(&paths, format, verb),
        Verb::Docs { dir } => docs::run(&dir),
    }
}
