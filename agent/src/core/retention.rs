//! Applies a retention policy: what goes is planned first, then removed some parts at a time, so that the database's thread is free
//! for others in between. A dry run is the same plan.
//!
//! Each kind of thing that has a retention is one entry of [`KINDS`]. None may plan what something pending needs. Nothing goes by
//! age while the machine's clock can't be believed; the answer and the journal say so.

use super::owner::Owner;
use crate::clock;
use crate::store_fault::store_fault;
use crate::wire::{Going, Retained};
use smolotchi_operator::Result;
use smolotchi_operator::log::{self, Kind as Entry};
use smolotchi_store::{ReadingSpan, Reason, RetentionPolicy, Store, StoreError};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What the plans are made from.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// What may stay.
    pub(super) policy: RetentionPolicy,
    /// The oldest goes while the database's pages take more than so many bytes.
    pub(super) max_bytes: Option<u64>,
    /// The oldest goes while the file system has less than so many bytes free.
    pub(super) min_free_bytes: Option<u64>,
    /// The time.
    pub(super) now_ms: i64,
    /// Bytes free where the state is, if they could be asked for.
    pub(super) free: Option<u64>,
    /// How many rows are removed at a time, but for a part that has more.
    pub(super) at_once: u64,
    /// The sensors that are read now.
    pub(super) read: Vec<String>,
}

/// Some ten milliseconds of a small machine's time for dropped segments.
const AT_ONCE: u64 = 100_000;

/// A kind of thing that is kept for a while.
trait Kind: Sync {
    /// What goes, oldest first. Writes nothing.
    fn plan(&self, store: &mut Store, asked: &Asked) -> Result<Vec<Going>, StoreError>;
    /// Removes what the plan named, durably; nothing of a part that changed since. Returns how many rows of each part went.
    fn remove(&self, store: &mut Store, going: &[Going]) -> Result<Vec<u64>, StoreError>;
}

static KINDS: [(&str, &dyn Kind); 3] = [("events", &Events), ("readings", &Readings), ("sensors", &Sensors)];

/// The event log: whole segments, never the newest.
struct Events;

impl Kind for Events {
    fn plan(&self, store: &mut Store, asked: &Asked) -> Result<Vec<Going>, StoreError> {
        let going = store.plan_retention(&asked.policy, asked.now_ms)?;
        Ok(going.into_iter().map(of_events).collect())
    }

    fn remove(&self, store: &mut Store, going: &[Going]) -> Result<Vec<u64>, StoreError> {
        let parts: Vec<_> = going.iter().map(|going| (going.first_id, going.last_id)).collect();
        store.remove_parts(&parts, clock::now_ms())
    }
}

/// The readings: those that are older than the policy's days, in parts. A part's ids are its first and last moment.
struct Readings;

/// How many readings one part removes, about.
const READINGS: u32 = 5_000;

impl Kind for Readings {
    fn plan(&self, store: &mut Store, asked: &Asked) -> Result<Vec<Going>, StoreError> {
        let Some(days) = asked.policy.max_age_days else { return Ok(Vec::new()) };
        let parts = spans(store, asked.now_ms.saturating_sub(i64::from(days).saturating_mul(DAY_MS)))?;
        Ok(parts.iter().map(of_readings).collect())
    }

    fn remove(&self, store: &mut Store, going: &[Going]) -> Result<Vec<u64>, StoreError> {
        let span = |going: &Going| ReadingSpan { from_ms: going.first_id, to_ms: going.last_id, count: going.count };
        going.iter().map(|going| store.remove_readings(&span(going))).collect()
    }
}

/// The sensors whose last readings go and that are not read any more; planned once it is known which readings go.
struct Sensors;

impl Kind for Sensors {
    fn plan(&self, _: &mut Store, _: &Asked) -> Result<Vec<Going>, StoreError> {
        Ok(Vec::new())
    }

    fn remove(&self, store: &mut Store, going: &[Going]) -> Result<Vec<u64>, StoreError> {
        going.iter().map(|going| store.remove_sensors(&going.ids)).collect()
    }
}

/// The sensors that go with these readings.
fn of_sensors(store: &Store, asked: &Asked, going: &[Going]) -> Result<Option<Going>, StoreError> {
    let Some(last) = going.iter().filter(|part| part.kind == "readings").max_by_key(|part| part.last_id) else { return Ok(None) };
    let ids = store.plan_sensors(last.last_id, &asked.read)?;
    let (Some(first_id), Some(last_id)) = (ids.first().copied(), ids.last().copied()) else { return Ok(None) };
    let (kind, reason) = ("sensors".to_owned(), last.reason.clone());
    // A name, where it comes from and a few numbers.
    let (count, bytes) = (ids.len() as u64, ids.len() as u64 * 64);
    Ok(Some(Going { name: kind.clone(), kind, first_id, last_id, count, bytes, reason, ids }))
}

fn of_events(part: smolotchi_store::Going) -> Going {
    Going {
        kind: "events".to_owned(),
        name: part.name,
        first_id: part.first_id,
        last_id: part.last_id,
        count: part.events,
        bytes: part.bytes,
        reason: part.reason.as_str().to_owned(),
        ids: Vec::new(),
    }
}

fn of_readings(part: &ReadingSpan) -> Going {
    Going {
        kind: "readings".to_owned(),
        name: "readings".to_owned(),
        first_id: part.from_ms,
        last_id: part.to_ms,
        count: part.count,
        // Two numbers and a value.
        bytes: part.count * 24,
        reason: Reason::Age.as_str().to_owned(),
        ids: Vec::new(),
    }
}

/// The readings before a moment, in parts; none in a schema without them.
fn spans(store: &Store, before_ms: i64) -> Result<Vec<ReadingSpan>, StoreError> {
    match store.plan_readings(before_ms, READINGS) {
        Err(StoreError::NotInSchema { .. }) => Ok(Vec::new()),
        other => other,
    }
}

/// Why nothing goes by age.
pub(super) const CLOCK: &str = "the clock says a time that the machine has not lived up to: nothing goes by age until it has for a week";

/// The newest readings stay, however little room there is.
const NEWEST_MS: i64 = DAY_MS;
/// A clock is believed that was lived by for a week.
const BELIEVED_DAYS: u32 = 28;

/// What goes by number and age, and then the oldest of all kinds until there is room.
fn all(store: &mut Store, asked: &Asked) -> Result<Vec<Going>, StoreError> {
    let mut going = Vec::new();
    for (_, kind) in KINDS {
        going.extend(kind.plan(store, asked)?);
    }
    let freed: u64 = going.iter().map(|part| part.bytes).sum();
    let over = asked.max_bytes.map_or(Ok(0), |most| Ok(store.used_bytes()?.saturating_sub(freed).saturating_sub(most)))?;
    let short = asked.min_free_bytes.zip(asked.free).map_or(0, |(least, free)| least.saturating_sub(free.saturating_add(freed)));
    if over.max(short) > 0 {
        let first = |kind: &str| going.iter().filter(|part| part.kind == kind).map(|part| part.last_id).max();
        let (events, readings) = (first("events"), first("readings"));
        let mut rest: Vec<(i64, Going)> = Vec::new();
        for part in store.spare(asked.now_ms)? {
            if events.is_none_or(|last| part.first_id > last) {
                rest.push((part.newest_ms, of_events(part)));
            }
        }
        // By a clock that went ahead all of them would be old: then the newest one's day stays.
        let newest_ms = match store.newest_reading_ms()? {
            Some(at_ms) if at_ms < asked.now_ms && !store.lived(asked.now_ms, BELIEVED_DAYS)? => at_ms,
            _ => asked.now_ms,
        };
        for part in spans(store, newest_ms.saturating_sub(NEWEST_MS))? {
            if readings.is_none_or(|last| part.from_ms > last) {
                rest.push((part.to_ms, of_readings(&part)));
            }
        }
        rest.sort_by_key(|(at_ms, _)| *at_ms);
        let mut gained = 0;
        for (_, mut part) in rest {
            if gained >= over.max(short) {
                break;
            }
            let reason = if gained < over { Reason::Bytes } else { Reason::Disk };
            gained += part.bytes;
            part.reason = reason.as_str().to_owned();
            going.push(part);
        }
    }
    let sensors = of_sensors(store, asked, &going)?;
    going.extend(sensors);
    Ok(going)
}

/// What goes, and why nothing goes by age if something would.
fn plan(store: &mut Store, mut asked: Asked) -> Result<(Vec<Going>, Option<&'static str>), StoreError> {
    let going = all(store, &asked)?;
    let by_age = asked.policy.max_age_days.filter(|_| going.iter().any(|part| part.reason == "age"));
    let Some(days) = by_age else { return Ok((going, None)) };
    if store.lived(asked.now_ms, days)? {
        return Ok((going, None));
    }
    asked.policy.max_age_days = None;
    Ok((all(store, &asked)?, Some(CLOCK)))
}

/// Removes what the policy does not keep, or with `dry_run` says what that would be.
pub(super) async fn apply(owner: &Owner<Store>, asked: Asked, dry_run: bool) -> Result<Retained> {
    let at_once = asked.at_once;
    let look = move |store: &mut Store| Ok((plan(store, asked)?, store.summary()?.events_total));
    let ((planned, held_back), total) = owner.call(look).await?.map_err(store_fault)?;
    let held_back = held_back.map(str::to_owned);
    let events = |going: &[Going]| going.iter().filter(|part| part.kind == "events").map(|part| part.count).sum::<u64>();
    if dry_run || planned.is_empty() {
        let deleted = events(&planned);
        return Ok(Retained { deleted, kept: total - deleted, going: planned, given_back: 0, held_back });
    }
    let mut gone = Vec::new();
    for mut parts in batches(planned, at_once) {
        let remove = move |store: &mut Store| {
            if let Some((_, kind)) = KINDS.iter().find(|(name, _)| parts.first().is_some_and(|part| *name == part.kind)) {
                let counts = kind.remove(store, &parts)?;
                parts.iter_mut().zip(counts).for_each(|(part, count)| part.count = count);
            }
            Ok(parts)
        };
        gone.extend(owner.call(remove).await?.map_err(store_fault)?);
    }
    gone.retain(|part| part.count > 0);
    let given_back = owner.call(Store::give_back).await?.map_err(store_fault)?;
    witness(owner).await;
    let deleted = events(&gone);
    Ok(Retained { deleted, kept: total - deleted, going: gone, given_back, held_back })
}

/// Parts of one kind together, in their order, as far as they have no more rows than this.
fn batches(planned: Vec<Going>, at_once: u64) -> Vec<Vec<Going>> {
    let mut batches: Vec<Vec<Going>> = Vec::new();
    for part in planned {
        let fits = |batch: &&mut Vec<Going>| {
            batch.iter().all(|other| other.kind == part.kind)
                && part.name != part.kind
                && batch.iter().map(|other| other.count).sum::<u64>() + part.count <= at_once
        };
        match batches.last_mut().filter(fits) {
            Some(batch) => batch.push(part),
            None => batches.push(vec![part]),
        }
    }
    batches
}

/// Tells the last seal to the systemd journal, outside of what it vouches for: a log that was rewritten whole has another one.
pub(super) async fn witness(owner: &Owner<Store>) {
    if let Ok(Ok(Some((id, seal)))) = owner.call(|store| store.head()).await {
        log::note(Entry::Sealed, format!("the event log ends with event {id}, seal {seal}"));
    }
}

/// What a request says, now.
pub(super) fn asked(
    policy: RetentionPolicy,
    max_bytes: Option<u64>,
    min_free_bytes: Option<u64>,
    state: &std::path::Path,
    read: Vec<String>,
) -> Asked {
    let free = rustix::fs::statvfs(state).ok().map(|disk| disk.f_bavail * disk.f_frsize);
    Asked { policy, max_bytes, min_free_bytes, now_ms: clock::now_ms(), free, at_once: AT_ONCE, read }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::block_on;
    use smolotchi_store::migrate::{self, Direction};
    use smolotchi_store::{NewEvent, NewReading, ReadingValue, SensorRow};

    /// A database with as many old and young events, ten to a segment. The first young one shows that the clock was lived by.
    fn owner(dir: &std::path::Path, old: usize, young: usize) -> Owner<Store> {
        let path = dir.join("smolotchi.db");
        migrate::run(&path, Direction::UpOnly, true).unwrap();
        let mut store = Store::open(&path).unwrap();
        store.full_at(10);
        let events = [NewEvent { topic: "t".into(), severity: None, body: "1".into() }];
        for index in 0..old + young {
            let days = if index < old { 10 } else { 2 * i64::from(index == old) };
            store.append(&events, clock::now_ms() - days * DAY_MS).unwrap();
        }
        Owner::start(move || Ok(store)).unwrap().0
    }

    fn asked(max_events: Option<u64>, max_age_days: Option<u32>) -> Asked {
        let policy = RetentionPolicy { max_events, max_age_days };
        Asked { policy, max_bytes: None, min_free_bytes: None, now_ms: clock::now_ms(), free: None, at_once: 20, read: Vec::new() }
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
            let said = block_on(apply(&owner, asked.clone(), true)).unwrap();
            let done = block_on(apply(&owner, asked.clone(), false)).unwrap();
            assert_eq!((said.deleted, said.kept), (deleted, 30 - deleted), "{asked:?}");
            assert_eq!((done.deleted, done.kept, &done.going), (said.deleted, said.kept, &said.going), "{asked:?}");
            let again = block_on(apply(&owner, asked.clone(), false)).unwrap();
            let record = u64::from(deleted > 0);
            assert_eq!((again.deleted, again.kept), (0, 30 - deleted + record), "{asked:?}");
        }
    }

    #[test]
    fn a_clock_far_ahead_removes_nothing_by_age_and_it_is_told() {
        if smolotchi_store::schema_own() < 7 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let owner = owner(dir.path(), 20, 10);
        let ahead = Asked { now_ms: clock::now_ms() + 400 * DAY_MS, ..asked(None, Some(90)) };
        for dry_run in [true, false] {
            let done = block_on(apply(&owner, ahead.clone(), dry_run)).unwrap();
            assert_eq!((done.deleted, done.kept, done.held_back.as_deref()), (0, 30, Some(CLOCK)));
        }
        // What was written since, at the wrong time, doesn't vouch for it; what goes by number still goes.
        let event = NewEvent { topic: "t".into(), severity: None, body: "1".into() };
        block_on(owner.call(move |store| store.append(&[event], ahead.now_ms))).unwrap().unwrap();
        let both = Asked { policy: RetentionPolicy { max_events: Some(21), ..ahead.policy }, ..ahead.clone() };
        let done = block_on(apply(&owner, both.clone(), false)).unwrap();
        assert_eq!((done.deleted, done.kept, done.held_back.as_deref()), (10, 21, Some(CLOCK)));
        // A week at that time, and it is. The record of the removal before is in the newest segment.
        let later = Asked { now_ms: ahead.now_ms + 8 * DAY_MS, ..ahead.clone() };
        let done = block_on(apply(&owner, later.clone(), false)).unwrap();
        assert_eq!((done.deleted, done.kept, done.held_back), (20, 2, None));
    }

    #[test]
    fn old_readings_go_by_age_as_the_dry_run_says() {
        if smolotchi_store::schema_own() < 7 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let owner = owner(dir.path(), 0, 1);
        let now = clock::now_ms();
        let keep = move |store: &mut Store| {
            let sensor = SensorRow { name: "s".into(), provider: "system".into(), unit: "%".into(), absent: None, changed_ms: now };
            let reading = |days: i64| NewReading { sensor: "s".into(), at_ms: now - days * DAY_MS, value: ReadingValue::Number(1.0) };
            store.keep_readings(&[sensor], &[9, 8, 7, 3, 1].map(reading))
        };
        block_on(owner.call(keep)).unwrap().unwrap();
        let said = block_on(apply(&owner, asked(None, Some(5)), true)).unwrap();
        let done = block_on(apply(&owner, asked(None, Some(5)), false)).unwrap();
        assert_eq!(said.going, done.going);
        assert_eq!(done.going.iter().map(|part| (part.kind.as_str(), part.count)).collect::<Vec<_>>(), [("readings", 3)]);
        let left = block_on(owner.call(|store| store.readings("s", 0, 100))).unwrap().unwrap().unwrap();
        assert_eq!(left.readings.len(), 2);
    }

    #[test]
    fn sensors_go_with_their_last_readings_unless_they_are_read() {
        if smolotchi_store::schema_own() < 7 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let owner = owner(dir.path(), 0, 1);
        let now = clock::now_ms();
        let sensor = move |name: &str, days: i64| SensorRow {
            name: name.to_owned(),
            provider: "network".into(),
            unit: "%".into(),
            absent: None,
            changed_ms: now - days * DAY_MS,
        };
        let reading = move |sensor: &str, days: i64| NewReading {
            sensor: sensor.to_owned(),
            at_ms: now - days * DAY_MS,
            value: ReadingValue::Number(1.0),
        };
        let keep = move |store: &mut Store| {
            let sensors = [("gone", 9), ("never", 9), ("read", 9), ("late", 9), ("new", 1)].map(|(name, days)| sensor(name, days));
            let readings = [("gone", 9), ("gone", 7), ("read", 7), ("late", 7), ("late", 3)].map(|(name, days)| reading(name, days));
            store.keep_readings(&sensors, &readings)
        };
        block_on(owner.call(keep)).unwrap().unwrap();
        let asked = |days| Asked { read: vec!["read".to_owned()], ..asked(None, Some(days)) };
        let names = |owner: &Owner<Store>| {
            let sensors = block_on(owner.call(|store| store.sensors())).unwrap().unwrap();
            sensors.into_iter().map(|sensor| sensor.name).collect::<Vec<_>>()
        };
        // Not before the last of its readings.
        let done = block_on(apply(&owner, asked(8), false)).unwrap();
        assert_eq!(done.going.iter().map(|part| part.kind.as_str()).collect::<Vec<_>>(), ["readings", "sensors"]);
        assert_eq!(names(&owner), ["gone", "late", "new", "read"]);
        let said = block_on(apply(&owner, asked(5), true)).unwrap();
        assert_eq!(names(&owner), ["gone", "late", "new", "read"], "a dry run");
        let done = block_on(apply(&owner, asked(5), false)).unwrap();
        assert_eq!(said.going, done.going);
        assert_eq!((done.going[1].kind.as_str(), done.going[1].count, &*done.going[1].ids), ("sensors", 1, &[1_i64][..]));
        assert_eq!(names(&owner), ["late", "new", "read"]);
        assert_eq!(block_on(apply(&owner, asked(5), false)).unwrap().going, []);
        // One that was read again meanwhile stays.
        let again = move |store: &mut Store| {
            store.keep_readings(&[], &[reading("late", 0)])?;
            store.remove_sensors(&[4])
        };
        assert_eq!(block_on(owner.call(again)).unwrap().unwrap(), 0);
        assert_eq!(names(&owner), ["late", "new", "read"]);
    }

    #[test]
    fn where_room_is_short_the_oldest_goes_whatever_it_is() {
        if smolotchi_store::schema_own() < 7 {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let owner = owner(dir.path(), 20, 10);
        let now = clock::now_ms();
        let used = |owner: &Owner<Store>| block_on(owner.call(|store| store.used_bytes())).unwrap().unwrap();
        // Twenty thousand readings, older than the newest events; half a MiB, more or less.
        let keep = move |store: &mut Store| {
            let sensor = SensorRow { name: "s".into(), provider: "system".into(), unit: "%".into(), absent: None, changed_ms: now };
            let reading =
                |i: i64| NewReading { sensor: "s".into(), at_ms: now - 9 * DAY_MS + i, value: ReadingValue::Number(i as f64 + 0.1) };
            store.keep_readings(&[sensor], &(0..20_000).map(reading).collect::<Vec<_>>())
        };
        block_on(owner.call(keep)).unwrap().unwrap();
        let before = used(&owner);
        let short = |max_bytes: Option<u64>, min_free_bytes: Option<u64>, free: Option<u64>| Asked {
            max_bytes,
            min_free_bytes,
            now_ms: now,
            free,
            ..asked(None, None)
        };
        let kinds = |done: &Retained| {
            let part = |part: &Going| (part.kind.clone(), part.count, part.reason.clone());
            done.going.iter().map(part).collect::<Vec<_>>()
        };
        let events = |reason: &str| ("events".to_owned(), 10, reason.to_owned());
        let readings = |reason: &str| ("readings".to_owned(), 5_000, reason.to_owned());
        for (asked, expected) in [
            (short(Some(before), None, None), vec![]),
            (short(None, Some(1 << 20), Some(2 << 20)), vec![]),
            // The old events are older still; the young ones stay.
            (short(None, Some(2 << 20), Some((2 << 20) - 1)), vec![events("disk")]),
            (short(Some(before - 100_000), None, None), vec![events("bytes"), events("bytes"), readings("bytes")]),
        ] {
            let said = block_on(apply(&owner, asked.clone(), true)).unwrap();
            assert_eq!(kinds(&said), expected, "{asked:?}");
        }
        // By a clock that went ahead every reading is old; the newest one's day stays.
        let ahead = Asked { now_ms: now + 40 * DAY_MS, ..short(None, Some(1 << 30), Some(0)) };
        let said = block_on(apply(&owner, ahead.clone(), true)).unwrap();
        assert!(!said.going.is_empty() && said.going.iter().all(|part| part.kind == "events"), "{said:?}");
        let all = short(Some(before - 400_000), None, None);
        let said = block_on(apply(&owner, all.clone(), true)).unwrap();
        let done = block_on(apply(&owner, all.clone(), false)).unwrap();
        assert_eq!(said.going, done.going);
        assert_eq!((done.kept, done.going.len()), (10, 6));
        assert!(used(&owner) <= before - 350_000, "{before} bytes before, {} now", used(&owner));
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
