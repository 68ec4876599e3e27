//! The Ansible collection `smolotchi.node`: what its plugins decide on the controller, and a fleet of real nodes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "ansible/controller.rs"]
mod controller;
#[path = "ansible/fleet.rs"]
mod fleet;
#[path = "ansible/playbook.rs"]
mod playbook;
