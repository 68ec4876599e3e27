//! What an operator meets, the same in every Smolotchi program: exit codes, the error catalogue, output formats,
//! progress, log lines, and file writes that survive a power cut.
//!
//! Used by every other crate; uses none of ours. It must never know what a release, a database or a service is.

pub mod code;
pub mod durable;
pub mod exit;
pub mod exposure;
pub mod fault;
pub mod log;
pub mod output;
pub mod progress;

pub use code::Code;
pub use exit::Exit;
pub use fault::{Fault, Result};
pub use output::{Format, Table};
