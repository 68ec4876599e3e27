//! Applies a retention policy: what goes is planned first, then removed part by part, so that the database's thread is free for
//! others in between. A dry run is the same plan.
//!
//! Each kind of thing that has a retention is one entry of [`KINDS`]. None may plan what something pending needs.

use super::owner::Owner;
use crate::clock;
use crate::store_fault::store_fault;
use crate::wire::{Going, Retained};
use smolotchi_operator::{Result, log};
use smolotchi_store::{RetentionPolicy, Store, StoreError};

/// What the plans are made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// What may stay.
    pub(super) policy: RetentionPolicy,
    /// The time.
    pub(super) now_ms: i64,
    /// Bytes free where the state is, if they could be asked for.
    pub(super) free: Option<u64>,
}

/// A kind of thing that is kept for a while.
trait Kind: Sync {
    /// What goes, oldest first. Writes nothing.
    fn plan(&self, store: &mut Store, asked: &Asked) -> Result<Vec<Going>, StoreError>;
    /// Removes what the plan named, durably; nothing if it changed since. Returns how many rows went.
    fn remove(&self, store: &mut Store, going: &Going) -> Result<u64, StoreError>;
}

static KINDS: [(&str, &dyn Kind); 1] = [("events", &Events)];

/// The event log: whole segments, never the newest.
struct Events;

impl Kind for Events {
    fn plan(&self, store: &mut Store, asked: &Asked) -> Result<Vec<Going>, StoreError> {
        let going = store.plan_retention(&asked.policy, asked.now_ms, asked.free)?;
        let part = |part: smolotchi_store::Going| Going {
            kind: "events".to_owned(),
            name: part.name,
            first_id: part.first_id,
            last_id: part.last_id,
            count: part.events,
            bytes: part.bytes,
            reason: part.reason.as_str().to_owned(),
        };
        Ok(going.into_iter().map(part).collect())
    }

    fn remove(&self, store: &mut Store, going: &Going) -> Result<u64, StoreError> {
        store.remove(going.first_id, going.last_id)
    }
}

/// Removes what the policy does not keep, or with `dry_run` says what that would be.
pub(super) async fn apply(owner: &Owner<Store>, asked: Asked, dry_run: bool) -> Result<Retained> {
    let plan = move |store: &mut Store| {
        let mut going = Vec::new();
        for (_, kind) in KINDS {
            going.extend(kind.plan(store, &asked)?);
        }
        Ok((going, store.summary()?.events_total))
    };
    let (planned, total) = owner.call(plan).await?.map_err(store_fault)?;
    let events = |going: &[Going]| going.iter().filter(|part| part.kind == "events").map(|part| part.count).sum::<u64>();
    if dry_run || planned.is_empty() {
        let deleted = events(&planned);
        return Ok(Retained { deleted, kept: total - deleted, going: planned, given_back: 0 });
    }
    let mut gone = Vec::new();
    for mut part in planned {
        let remove = move |store: &mut Store| {
            if let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == part.kind) {
                part.count = kind.remove(store, &part)?;
            }
            Ok(part)
        };
        gone.push(owner.call(remove).await?.map_err(store_fault)?);
    }
    gone.retain(|part| part.count > 0);
    let end = move |store: &mut Store| Ok((store.give_back()?, store.summary()?.events_total));
    let (given_back, kept) = owner.call(end).await?.map_err(store_fault)?;
    witness(owner).await;
    Ok(Retained { deleted: events(&gone), kept, going: gone, given_back })
}

/// Tells the last seal to the systemd journal, outside of what it vouches for: a log that was rewritten whole has another one.
pub(super) async fn witness(owner: &Owner<Store>) {
    if let Ok(Ok(Some((id, seal)))) = owner.call(|store| store.head()).await {
        log::notice(format!("the event log ends with event {id}, seal {seal}"));
    }
}

/// What a request says, now.
pub(super) fn asked(policy: RetentionPolicy, state: &std::path::Path) -> Asked {
    let free = rustix::fs::statvfs(state).ok().map(|disk| disk.f_bavail * disk.f_frsize);
    Asked { policy, now_ms: clock::now_ms(), free }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::block_on;
    use smolotchi_store::NewEvent;
    use smolotchi_store::migrate::{self, Direction};

    const DAY_MS: i64 = 24 * 3600 * 1000;

    /// A database with as many old and young events, ten to a segment.
    fn owner(dir: &std::path::Path, old: usize, young: usize) -> Owner<Store> {
        let path = dir.join("smolotchi.db");
        migrate::run(&path, Direction::UpOnly, true).unwrap();
        let mut store = Store::open(&path).unwrap();
        store.full_at(10);
        let events = [NewEvent { topic: "t".into(), severity: None, body: "1".into() }];
        for index in 0..old + young {
            store.append(&events, clock::now_ms() - if index < old { 10 * DAY_MS } else { 0 }).unwrap();
        }
        Owner::start(move || Ok(store)).unwrap().0
    }

    fn asked(max_events: Option<u64>, max_age_days: Option<u32>) -> Asked {
        let policy = RetentionPolicy { max_events, max_age_days, ..RetentionPolicy::default() };
        Asked { policy, now_ms: clock::now_ms(), free: None }
    }

    #[test]
    fn the_run_does_what_the_dry_run_says() {
        if smolotchi_store::schema_own() < 7 {
            return;
        }
        let cases = [
            (asked(None, None), 0),
            (asked(Some(30), None), 0),
            (asked(Some(21), None), 0),
            (asked(Some(20), None), 10),
            (asked(Some(7), None), 20),
            (asked(Some(0), None), 20),
            (asked(None, Some(5)), 20),
            (asked(Some(25), Some(5)), 20),
        ];
        for (asked, deleted) in cases {
            let dir = tempfile::tempdir().unwrap();
            let owner = owner(dir.path(), 20, 10);
            let said = block_on(apply(&owner, asked, true)).unwrap();
            let done = block_on(apply(&owner, asked, false)).unwrap();
            assert_eq!((said.deleted, said.kept), (deleted, 30 - deleted), "{asked:?}");
            assert_eq!((done.deleted, done.kept, &done.going), (said.deleted, said.kept, &said.going), "{asked:?}");
            let again = block_on(apply(&owner, asked, false)).unwrap();
            assert_eq!((again.deleted, again.kept), (0, 30 - deleted), "{asked:?}");
        }
    }

    #[test]
    fn others_get_their_turn_between_the_parts() {
        if smolotchi_store::schema_own() < 7 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let owner = owner(dir.path(), 100, 0);
        let seen = block_on(async {
            let count = async { owner.call(|store| store.summary()).await?.map(|summary| summary.events_total).map_err(store_fault) };
            let (retained, seen) = tokio::join!(apply(&owner, asked(Some(0), None), false), async {
                // The plan and the first part are asked for before this.
                tokio::task::yield_now().await;
                count.await
            });
            assert_eq!(retained?.deleted, 90);
            seen
        });
        assert!(seen.unwrap() > 10, "the count was answered before the end");
    }
}
