//! The crash matrix: every call that changes the disk, of every way to change the version, is a point at which the
//! machine may die or the disk may fail; after each one the machine must come back by itself.
//!
//! On the node, under each traced command: [`tracer`]. On the host: [`conductor`] numbers the calls and takes the disk's
//! states, [`state`] keeps them and puts them back, [`judge`] says what is wrong with a node after it has booted,
//! [`disk`] and [`power`] do the same with the semantics of a disk that loses what isn't synced.
//! [`scenario`] knows what is run, [`record`] keeps results over runs and prints the table. Run by `tests/suites/crash.rs`.

mod calls;
pub mod conductor;
pub mod disk;
pub mod judge;
pub mod power;
pub mod record;
pub mod scenario;
pub mod state;
pub mod tracer;
