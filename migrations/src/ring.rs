//! The ring of tables that the event log is in from schema 7 on: which segment has which ids, and appending to the newest.
//!
//! A segment is a table `events_NN` and its row in `segments`. Slot 0 is what was there before the ring: never appended to. A
//! commit stands in one segment, and its last row has the seal over the seal before it and all rows since.

use crate::{NewEvent, Severity, rules};
use rusqlite::{Connection, OptionalExtension, Row};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The first schema with a ring.
pub(crate) const SCHEMA: u32 = 7;
/// How many tables there are.
pub(crate) const SLOTS: u8 = 16;

/// A part of the event log that is dropped as a whole. In a schema without a ring, all of it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its slot; `None` in a schema without a ring.
    pub(crate) slot: Option<u8>,
    pub(crate) first_id: i64,
    pub(crate) last_id: i64,
    pub(crate) events: u64,
    /// What topics and bodies take.
    pub(crate) bytes: u64,
    /// The greatest time of a row.
    pub(crate) newest_ms: i64,
    /// The seal before its first row; `None` where there was none yet.
    pub(crate) anchor: Option<Vec<u8>>,
}

impl Segment {
    /// The table that it is in.
    pub(crate) fn table(&self) -> String {
        self.slot.map_or_else(|| "events".to_owned(), table)
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Segment> {
        Ok(Segment {
            slot: Some(row.get(0)?),
            first_id: row.get(1)?,
            last_id: row.get(2)?,
            events: row.get::<_, i64>(3)?.unsigned_abs(),
            bytes: row.get::<_, i64>(4)?.unsigned_abs(),
            newest_ms: row.get(5)?,
            anchor: row.get(6)?,
        })
    }
}

/// The table of a slot.
pub(crate) fn table(slot: u8) -> String {
    format!("events_{slot:02}")
}

/// Every segment, newest first.
pub(crate) const SEGMENTS: &str =
    "SELECT slot, first_id, last_id, events, bytes, newest_ms, anchor FROM segments ORDER BY last_id DESC LIMIT ?1";

/// The newest segments, newest first.
pub(crate) fn segments(db: &Connection, most: u8) -> rusqlite::Result<Vec<Segment>> {
    db.prepare_cached(SEGMENTS)?.query_map((most,), Segment::from_row)?.collect()
}

/// The tables of the segments that nothing is written to any more.
pub(crate) fn full(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let full = |(index, segment): &(usize, Segment)| *index > 0 || segment.slot == Some(0);
    Ok(segments(db, SLOTS)?.into_iter().enumerate().filter(full).map(|(_, segment)| segment.table()).collect())
}

/// The seal of a row; slot 0 has its seals beside it.
fn seal_of(db: &Connection, slot: u8, id: i64) -> rusqlite::Result<Option<Vec<u8>>> {
    let sql = match slot {
        0 => "SELECT seal FROM seals_00 WHERE event_id = ?1".to_owned(),
        slot => format!("SELECT seal FROM {} WHERE id = ?1", table(slot)),
    };
    db.prepare_cached(&sql)?.query_row((id,), |row| row.get(0)).optional().map(Option::flatten)
}

/// Reads with those parts of the view `events` only that have rows. SQLite plans a view of one table as that table, and one of
/// many row by row, which is much dearer. What the view is made of is asked of the database: it may be of a later schema.
pub(crate) fn narrowed<R>(db: &Connection, read: impl FnOnce() -> rusqlite::Result<R>) -> rusqlite::Result<R> {
    let view = "SELECT sql FROM sqlite_schema WHERE type = 'view' AND name = 'events'";
    let Some(sql) = db.query_row(view, (), |row| row.get::<_, String>(0)).optional()? else { return read() };
    let mut parts = Vec::new();
    for part in sql.split_once(" AS").map_or("", |(_, parts)| parts).split("UNION ALL") {
        let table = part.trim().rsplit(' ').next().unwrap_or_default();
        if !table.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return read();
        }
        let has_rows = db.query_row(&format!("SELECT EXISTS (SELECT 1 FROM {table})"), (), |row| row.get::<_, bool>(0))?;
        // The first one names the columns; with all of them empty, it stands for all.
        parts.push((part, has_rows));
    }
    let some = parts.iter().any(|(_, has_rows)| *has_rows);
    let kept: Vec<&str> =
        parts.iter().enumerate().filter(|(at, (_, has_rows))| *has_rows || (*at == 0 && !some)).map(|(_, (part, _))| *part).collect();
    // A view of the connection's own comes before the database's.
    db.execute_batch(&format!("CREATE TEMP VIEW events AS {}", kept.join("UNION ALL")))?;
    let done = read();
    let dropped = db.execute_batch("DROP VIEW temp.events");
    // What broke first says why; it may have taken the view with it.
    let done = done?;
    dropped.map(|()| done)
}

/// A range of ids that the chain of seals covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first_id: i64,
    /// The seal before it.
    pub(crate) anchor: Vec<u8>,
    /// `None` while it goes on.
    pub(crate) last_id: Option<i64>,
    /// The last seal of a range that has ended.
    pub(crate) head: Option<Vec<u8>>,
}

/// Every range, in order.
pub(crate) fn chain(db: &Connection) -> rusqlite::Result<Vec<Range>> {
    db.prepare_cached("SELECT first_id, anchor, last_id, head FROM chain ORDER BY first_id")?
        .query_map((), |row| Ok(Range { first_id: row.get(0)?, anchor: row.get(1)?, last_id: row.get(2)?, head: row.get(3)? }))?
        .collect()
}

/// What stands before the first seal of all.
pub(crate) fn genesis() -> Vec<u8> {
    Sha256::digest(b"smolotchi/events/1").to_vec()
}

/// The last seal, and the id of the event that has it; `None` before the chain began.
pub(crate) fn head(db: &Connection) -> rusqlite::Result<Option<(i64, Vec<u8>)>> {
    let Some(range) = chain(db)?.pop() else { return Ok(None) };
    match (segments(db, 1)?.pop(), range.last_id, range.head) {
        (_, Some(last_id), Some(head)) => Ok(Some((last_id, head))),
        (Some(newest), _, _) if newest.last_id >= range.first_id => {
            let seal = seal_of(db, newest.slot.unwrap_or(0), newest.last_id)?;
            Ok(seal.map(|seal| (newest.last_id, seal)))
        }
        _ => Ok(Some((range.first_id - 1, range.anchor))),
    }
}

/// The topic of the record of what a prune dropped, and that of ids that are not here.
pub(crate) const PRUNED: &str = "events.pruned";
/// The first event behind ids that are not here, because a restore skipped them.
pub(crate) const SKIPPED: &str = "events.skipped";

/// A record in the log itself of ids that are not in it: an audit takes no other word for it that a piece is not cut out.
pub(crate) fn record(topic: &str, from: i64, to: i64) -> NewEvent {
    let body = format!("{{\"first_id\":{from},\"last_id\":{to}}}");
    NewEvent { topic: topic.to_owned(), severity: Some(Severity::Notice), body }
}

/// The ids of a record.
pub(crate) fn recorded(body: &str) -> Option<(i64, i64)> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    Some((body.get("first_id")?.as_i64()?, body.get("last_id")?.as_i64()?))
}

/// After a restore: the ids between the newest event and the counter were given to rows that are not here. The chain goes on
/// behind them, so that an audit doesn't take them for cut off; the next commit says so. Nothing to do in a schema without a ring.
pub(crate) fn skip(db: &Connection) -> rusqlite::Result<()> {
    let ring: bool =
        db.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'chain')", (), |row| row.get(0))?;
    if !ring {
        return Ok(());
    }
    let counter: i64 = db.query_row("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'", (), |row| row.get(0))?;
    let newest = segments(db, 1)?.pop().map_or(0, |newest| newest.last_id);
    let (last_id, seal) = head(db)?.unwrap_or_else(|| (0, genesis()));
    let open = chain(db)?.pop().is_some_and(|range| range.last_id.is_none());
    if counter <= newest.max(last_id) {
        return Ok(());
    }
    if open {
        db.execute("UPDATE chain SET last_id = ?1, head = ?2 WHERE last_id IS NULL", (last_id, &seal))?;
    }
    db.execute("INSERT INTO chain (first_id, anchor) VALUES (?1, ?2)", (counter + 1, &seal)).map(drop)
}

/// A seal in the making.
#[derive(Debug, Clone)]
pub(crate) struct Sealing(Sha256);

impl Sealing {
    /// Begins after this seal.
    pub(crate) fn after(seal: &[u8]) -> Sealing {
        Sealing(Sha256::new_with_prefix(seal))
    }

    /// Takes a row in. Every field has a fixed size or its length before it, so that no two rows feed the same bytes.
    pub(crate) fn add(&mut self, id: i64, at_ms: i64, severity: i64, topic: &str, body: &str) {
        let mut head = [0; 32];
        head[..8].copy_from_slice(&id.to_be_bytes());
        head[8..16].copy_from_slice(&at_ms.to_be_bytes());
        head[16..20].copy_from_slice(&(severity as i32).to_be_bytes());
        head[20..24].copy_from_slice(&(topic.len() as u32).to_be_bytes());
        head[24..].copy_from_slice(&(body.len() as u64).to_be_bytes());
        self.0.update(head);
        self.0.update(topic);
        self.0.update(body);
    }

    /// The seal.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}

/// Appends a batch in the transaction that `db` is in; returns the last id. A segment with `most` events is full.
pub(crate) fn append(db: &Connection, events: &[NewEvent], at_ms: i64, most: u64) -> rusqlite::Result<i64> {
    if let Some((from, to)) = skipped(db)? {
        write(db, &[record(SKIPPED, from, to)], at_ms, most)?;
    }
    write(db, events, at_ms, most)
}

/// The ids between the newest event and a range of the chain that has no events yet: a restore skipped them.
fn skipped(db: &Connection) -> rusqlite::Result<Option<(i64, i64)>> {
    let last = segments(db, 1)?.pop().map_or(0, |newest| newest.last_id);
    let open = chain(db)?.pop().filter(|range| range.last_id.is_none());
    Ok(open.filter(|range| range.first_id > last + 1).map(|range| (last + 1, range.first_id - 1)))
}

fn write(db: &Connection, events: &[NewEvent], at_ms: i64, most: u64) -> rusqlite::Result<i64> {
    let used = segments(db, SLOTS)?;
    let newest = used.first();
    let counter: i64 = db
        .prepare_cached("SELECT max(seq) FROM sqlite_sequence WHERE name = 'events'")?
        .query_row((), |row| row.get::<_, Option<i64>>(0))?
        .unwrap_or(0);
    let first_id = counter.max(newest.map_or(0, |segment| segment.last_id)) + 1;
    let seal = match chain(db)?.pop() {
        Some(Range { last_id: None, .. }) => head(db)?.map_or_else(genesis, |(_, seal)| seal),
        ended => {
            let anchor = ended.and_then(|range| range.head).unwrap_or_else(genesis);
            db.execute("INSERT INTO chain (first_id, anchor) VALUES (?1, ?2)", (first_id, &anchor))?;
            anchor
        }
    };
    let slot = slot_for(&used, most);
    let (last_id, bytes) = insert(db, slot, events, first_id, at_ms, &seal)?;
    db.prepare_cached(
        "INSERT INTO segments (slot, first_id, last_id, events, bytes, oldest_ms, newest_ms, anchor) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7)
         ON CONFLICT (slot) DO UPDATE SET last_id = excluded.last_id, events = events + excluded.events, bytes = bytes + excluded.bytes,
         oldest_ms = min(oldest_ms, excluded.oldest_ms), newest_ms = max(newest_ms, excluded.newest_ms)",
    )?
    .execute((slot, first_id, last_id, events.len() as i64, bytes as i64, at_ms, &seal))?;
    count(db, slot, events, first_id)?;
    db.prepare_cached("UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'events'")?.execute((last_id,))?;
    Ok(last_id)
}

/// Where the next commit goes: to the newest segment; if that is full, to the next free slot; if none is free, it grows.
fn slot_for(used: &[Segment], most: u64) -> u8 {
    let ring = SLOTS - 1;
    let newest = used.first().and_then(|segment| segment.slot.map(|slot| (slot, segment.events)));
    let (slot, full) = newest.map_or((0, true), |(slot, events)| (slot, slot == 0 || events >= most));
    if !full {
        return slot;
    }
    let next = (0..ring).map(|step| (slot + step) % ring + 1);
    let free = next.into_iter().find(|slot| !used.iter().any(|segment| segment.slot == Some(*slot)));
    free.unwrap_or(slot)
}

/// Inserts the rows, the last one with the seal. Returns its id, and what topics and bodies take.
fn insert(db: &Connection, slot: u8, events: &[NewEvent], first_id: i64, at_ms: i64, seal: &[u8]) -> rusqlite::Result<(i64, usize)> {
    let sql = format!("INSERT INTO {} (id, at_ms, topic, body, severity, seal) VALUES (?1, ?2, ?3, ?4, ?5, ?6)", table(slot));
    let mut insert = db.prepare_cached(&sql)?;
    let mut rule = db.prepare_cached(rules::SEVERITY)?;
    let (mut sealing, mut id, mut bytes) = (Some(Sealing::after(seal)), first_id, 0);
    for (index, event) in events.iter().enumerate() {
        id = first_id + index as i64;
        let severity = match event.severity {
            Some(severity) => severity as i64,
            None => rule.query_row((&event.topic, &event.body), |row| row.get(0))?,
        };
        if let Some(sealing) = &mut sealing {
            sealing.add(id, at_ms, severity, &event.topic, &event.body);
        }
        let seal = if index + 1 == events.len() { sealing.take().map(Sealing::finish) } else { None };
        insert.execute((id, at_ms, &event.topic, &event.body, severity, seal))?;
        bytes += event.topic.len() + event.body.len();
    }
    Ok((id, bytes))
}

/// Adds a commit to the counts of its topics, each once.
fn count(db: &Connection, slot: u8, events: &[NewEvent], first_id: i64) -> rusqlite::Result<()> {
    let mut topics: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for (id, event) in (first_id..).zip(events) {
        topics.entry(&event.topic).or_insert((id, 0)).1 += 1;
    }
    let mut counted = db.prepare_cached(
        "INSERT INTO segment_topics (topic, slot, events) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET events = events + excluded.events",
    )?;
    let mut named = db.prepare_cached("INSERT OR IGNORE INTO topic_names (name, first_id) VALUES (?1, ?2)")?;
    for (topic, (id, events)) in topics {
        counted.execute((topic, slot, events))?;
        named.execute((topic, id))?;
    }
    Ok(())
}

/// Drops a segment and makes its table anew, empty; moves the chain's beginning to what is left. In one transaction of the caller's.
pub(crate) fn drop_segment(db: &Connection, slot: u8) -> rusqlite::Result<()> {
    let name = table(slot);
    let made: Vec<String> = db
        .prepare("SELECT sql FROM sqlite_schema WHERE tbl_name = ?1 AND sql IS NOT NULL ORDER BY type = 'index'")?
        .query_map((&name,), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    db.execute_batch(&format!("DROP TABLE {name}"))?;
    for sql in made {
        db.execute_batch(&sql)?;
    }
    if slot == 0 {
        db.execute("DELETE FROM seals_00", ())?;
    }
    db.execute("DELETE FROM segments WHERE slot = ?1", (slot,))?;
    db.execute("DELETE FROM segment_topics WHERE slot = ?1", (slot,))?;
    if let Some(oldest) = segments(db, SLOTS)?.pop() {
        let begins = oldest.first_id;
        if let Some(anchor) = oldest.anchor {
            let moved = "UPDATE chain SET first_id = ?1, anchor = ?2 WHERE first_id < ?1 AND (last_id IS NULL OR last_id >= ?1)";
            db.execute(moved, (begins, anchor))?;
        }
        db.execute("DELETE FROM chain WHERE last_id < ?1", (begins,))?;
    }
    Ok(())
}
