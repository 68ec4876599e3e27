//! Applies a retention policy in steps, so that the database's thread stays free for others in between: removing a million
//! events at once on an SD card would hold it for longer than the watchdog waits.

use super::owner::Owner;
use crate::clock;
use crate::store_fault::store_fault;
use smolotchi_operator::Result;
use smolotchi_store::{Retained, RetentionPolicy, Store};

/// How many events one step removes, at most.
pub(super) const STEP: u64 = 5_000;

/// Removes what the policy does not keep. The store removes from the oldest id up, so a part of it is never wrong.
pub(super) async fn apply(owner: &Owner<Store>, policy: RetentionPolicy, step: u64) -> Result<Retained> {
    let run = async |policy: RetentionPolicy, dry_run: bool| {
        owner.call(move |store| store.retain(&policy, clock::now_ms(), dry_run)).await?.map_err(store_fault)
    };
    let planned = run(policy, true).await?.deleted;
    let mut deleted = 0;
    while planned.saturating_sub(deleted) > step {
        // Counted in the same job: events that came meanwhile must not be paid for by older ones.
        let part = move |store: &mut Store| {
            let total = store.summary()?.events_total;
            let policy = RetentionPolicy { max_events: Some(total.saturating_sub(step)), max_age_days: None };
            store.retain(&policy, clock::now_ms(), false)
        };
        let gone = owner.call(part).await?.map_err(store_fault)?.deleted;
        deleted += gone;
        if gone == 0 {
            break;
        }
    }
    let last = run(policy, false).await?;
    Ok(Retained { deleted: deleted + last.deleted, kept: last.kept })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::block_on;
    use smolotchi_store::NewEvent;
    use smolotchi_store::migrate::{self, Direction};

    const DAY_MS: i64 = 24 * 3600 * 1000;

    /// A database with as many old and young events.
    fn owner(dir: &std::path::Path, old: usize, young: usize) -> Owner<Store> {
        let path = dir.join("smolotchi.db");
        migrate::run(&path, Direction::UpOnly, true).unwrap();
        let mut store = Store::open(&path).unwrap();
        let events = |count| vec![NewEvent { topic: "t".into(), severity: None, body: "1".into() }; count];
        store.append(&events(old), clock::now_ms() - 10 * DAY_MS).unwrap();
        store.append(&events(young), clock::now_ms()).unwrap();
        Owner::start(move || Ok(store)).unwrap().0
    }

    #[test]
    fn steps_end_where_one_go_ends() {
        let policy = |max_events, max_age_days| RetentionPolicy { max_events, max_age_days };
        let cases = [
            (policy(None, None), 0),
            (policy(Some(30), None), 0),
            (policy(Some(7), None), 23),
            (policy(Some(0), None), 30),
            (policy(None, Some(5)), 20),
            (policy(Some(25), Some(5)), 20),
            (policy(Some(3), Some(5)), 27),
        ];
        for (policy, deleted) in cases {
            for step in [1, 7, 20, 1000] {
                let dir = tempfile::tempdir().unwrap();
                let owner = owner(dir.path(), 20, 10);
                let retained = block_on(apply(&owner, policy, step)).unwrap();
                assert_eq!((retained.deleted, retained.kept), (deleted, 30 - deleted), "{policy:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn others_get_their_turn_between_the_steps() {
        let dir = tempfile::tempdir().unwrap();
        let owner = owner(dir.path(), 100, 0);
        let seen = block_on(async {
            let policy = RetentionPolicy { max_events: Some(0), max_age_days: None };
            let count = async { owner.call(|store| store.summary()).await?.map(|summary| summary.events_total).map_err(store_fault) };
            let (retained, seen) = tokio::join!(apply(&owner, policy, 10), async {
                // The dry run and the first steps are asked for before this.
                tokio::task::yield_now().await;
                count.await
            });
            assert_eq!(retained?.deleted, 100);
            seen
        });
        assert!(seen.unwrap() > 0, "the count was answered before the end");
    }
}
