//! The ai worker: profiles, the plan, the actions and what they find.
//!
//! Deciding is pure (profile, policy, plan, judge); only the worker, its looks and its verbs touch files and core. It opens no
//! database and no network.

#![allow(dead_code, reason = "the worker comes next")]

pub(crate) mod actions;
mod policy;
pub(crate) mod profile;
