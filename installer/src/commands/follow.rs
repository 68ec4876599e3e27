//! Follows a change that the executor carries out, by reading its journal. Stopping to follow stops nothing.

use crate::change::journal::{self, Event};
use crate::change::report::{self, Report};
use crate::change::{Change, progress};
use crate::host::{clock, systemd};
use smolotchi_operator::progress::Progress;
use smolotchi_operator::{Code, Fault, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two looks at the journal.
const LOOK: Duration = Duration::from_millis(200);
/// Between two questions to systemd while the change goes on: each is a program to run on a small machine.
const ASK_MS: u64 = 2_000;
/// An executor that isn't there after this long isn't coming.
const PATIENCE_MS: u64 = 10_000;

/// Follows until the change is closed; its report.
pub(super) fn follow(change: &Change, shown: &Progress, interrupted: &AtomicBool, began_ms: u64) -> Result<Report> {
    let mut seen = 0;
    let mut last_busy = began_ms;
    let mut asked = began_ms;
    let mut tried_again = false;
    loop {
        let records = journal::read(&change.journal())?;
        for record in records.iter().skip(seen) {
            let (step, text) = words(&record.event);
            shown.step(step, &text);
        }
        seen = records.len();
        // The report is written before the journal is closed, and the link removed after.
        if progress(&records).closed.is_some() && !systemd::executor_is_busy()? {
            return report::read(&change.folder)
                .ok_or_else(|| Fault::new(Code::JournalDamaged, "the change has no readable report").fact("change", change.id.as_str()));
        }
        if interrupted.load(Ordering::Relaxed) {
            shown.done();
            return Err(Fault::new(Code::Interrupted, "no longer following; the change goes on by itself")
                .fact("change", change.id.as_str())
                .hint("see: smolotchi-install status"));
        }
        let now = clock::boottime_ms();
        if now.saturating_sub(asked) > ASK_MS {
            asked = now;
            if systemd::executor_is_busy()? {
                last_busy = now;
            } else if now.saturating_sub(last_busy) > PATIENCE_MS / 2 && !tried_again {
                // It may have been on its way out with the change before when ours was opened.
                systemd::start_executor()?;
                tried_again = true;
            } else if now.saturating_sub(last_busy) > PATIENCE_MS {
                return Err(Fault::new(Code::RollbackFailed, "the executor stopped before the change was closed")
                    .fact("change", change.id.as_str())
                    .hint(format!("see: journalctl -u {0}; carry on with: systemctl start {0}", systemd::EXECUTOR)));
            }
        }
        std::thread::sleep(LOOK);
    }
}

fn words(event: &Event) -> (&'static str, String) {
    match event {
        Event::Opened => ("opened", "the change is open: from here on it ends in the new version or the old one".to_owned()),
        Event::Started { task } => ("started", task.sentence().to_owned()),
        Event::Done { task } => ("done", format!("done: {}", task.sentence())),
        Event::Observed { text } => ("observed", text.clone()),
        Event::Undoing { reason, .. } => ("undoing", format!("going back: {reason}")),
        Event::Reverted => ("reverted", "the version before is back, and is watched".to_owned()),
        Event::Closed { verdict, reason } => ("closed", format!("{}: {reason}", verdict.as_str())),
    }
}
