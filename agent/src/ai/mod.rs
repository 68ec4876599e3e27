//! The ai worker: profiles, the plan, the actions and what they find.
//!
//! Deciding is pure (profile, policy, plan, judge); only the worker, its looks and its verbs touch files and core. It opens no
//! database and no network.

pub(crate) mod actions;
#[cfg(test)]
pub(crate) mod dice;
pub(crate) mod files;
pub(crate) mod judge;
mod look;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod profile;
pub(crate) mod run;
mod worker;

pub(crate) use worker::run as serve;

/// A value for a query of core's API.
pub(crate) fn escaped(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut query, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            query.push(char::from(byte));
        } else {
            let _ = write!(query, "%{byte:02X}");
        }
        query
    })
}
