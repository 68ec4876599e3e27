//! Only with the feature `demo-crash`: the broken release that the upgrade demonstration installs, to show that the
//! machine takes itself back. Never part of a release that is meant to run.

use smolotchi_operator::{Code, log};
use std::time::Duration;

/// Two seconds after READY the process aborts, as a bug would make it.
pub(super) async fn crash() {
    tokio::time::sleep(Duration::from_secs(2)).await;
    log::warning(Code::CoreFailed, "this build has the feature demo-crash: aborting on purpose");
    std::process::abort();
}
