//! The machine: the only place, beside `source`, that runs programs. Each file knows one of them; none decides anything.

#![allow(clippy::disallowed_methods, reason = "this is where programs are run and clocks are read")]

pub mod agent;
pub mod caller;
pub mod clock;
pub mod dpkg;
pub mod inventory;
pub mod lock;
pub mod measure;
pub mod rehearse;
pub mod repack;
pub mod run;
pub mod systemd;
