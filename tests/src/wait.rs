//! Waiting for a state with a deadline; the only waiting there is.

use crate::fault;
use smolotchi_operator::Result;
use std::time::{Duration, Instant};

/// Waits for a state: asks again and again until `reached` says true, it fails, or the deadline has passed.
pub fn wait_until(what: &str, deadline: Duration, mut reached: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + deadline;
    let mut pause = Duration::from_millis(2);
    while !reached()? {
        if Instant::now() >= until {
            return Err(fault(format!("waited in vain until {what}")).fact("deadline_s", deadline.as_secs()));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    Ok(())
}
