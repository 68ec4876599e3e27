//! Only with the features `demo-crash` and `demo-irreversible`: the releases that the upgrade demonstration installs, to show
//! that the machine takes itself back. Never part of a release that is meant to run.

use smolotchi_operator::{Code, log};
use std::time::Duration;

/// Two seconds after READY the process aborts, as a bug would make it.
pub(super) async fn crash() {
    tokio::time::sleep(Duration::from_secs(2)).await;
    log::warning(Code::CoreFailed, "this build is a demonstration of a sick release: aborting on purpose");
    std::process::abort();
}

/// The same, if the machine's own rows ask for it: there is an event `demo.sick` among the newest.
#[cfg(feature = "demo-irreversible")]
pub(super) async fn crash_if_sick(core: std::sync::Arc<super::Core>) {
    let newest = core.store(|store| store.recent(1000)).await.unwrap_or_default();
    if newest.iter().any(|event| event.topic == "demo.sick") {
        crash().await;
    }
}
