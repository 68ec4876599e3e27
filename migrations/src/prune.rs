//! Retention: which parts of the event log go, and removing them. What goes is decided once and then done just so.
//!
//! From schema 7 on, whole segments go, the oldest first, never the newest one; the pages' space goes back to the file system.
//!
//! Age is judged by a wall clock that may be wrong: [`Store::lived`] says whether it may be believed. Who plans by age asks that.

use crate::connect::{beside, failed};
use crate::ring::{self, Segment};
use crate::{Result, Store, readings, rules};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use rustix::fs::FallocateFlags;
use std::fs::File;
use std::os::unix::fs::FileExt;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// A clock that was lived by for so long is believed.
const LIVED_MS: i64 = 7 * DAY_MS;
/// How many rows go at a time in a schema without segments.
const ROWS: i64 = 5_000;
/// About what a row takes beside its topic and body.
const ROW_BYTES: u64 = 16;

/// What may stay. `None` means no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionPolicy {
    /// At least the newest so many events stay, and not much more: what is more goes by whole segments.
    pub max_events: Option<u64>,
    /// A segment goes when its newest event is older than so many days.
    pub max_age_days: Option<u32>,
}

/// Why something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There are enough without it.
    Count,
    /// It is too old.
    Age,
    /// The database takes too much.
    Bytes,
    /// The file system has too little left.
    Disk,
}

impl Reason {
    /// The word used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Count => "count",
            Reason::Age => "age",
            Reason::Bytes => "bytes",
            Reason::Disk => "disk",
        }
    }
}

/// A part of the event log that goes as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Going {
    /// The table that it is in.
    pub name: String,
    /// Its oldest event.
    pub first_id: i64,
    /// Its newest event.
    pub last_id: i64,
    /// How many they are.
    pub events: u64,
    /// The time of its newest event, milliseconds since 1970.
    pub newest_ms: i64,
    /// About how much they take.
    pub bytes: u64,
    /// Why it goes.
    pub reason: Reason,
}

impl Store {
    /// Whether the wall clock may be believed enough to remove what is older than so many days.
    ///
    /// There may be no clock battery, and a time server may be wrong: a clock that jumped ahead makes everything look old. So the
    /// database itself must have lived up to it: an event, a reading or a job that is one to two weeks old (with a policy of less than 28
    /// days: a quarter to a half of it). After a jump ahead there is none, until that time was really spent at the new clock. A jump
    /// that is too small to be told so takes no more than half of what the policy keeps.
    pub fn lived(&self, now_ms: i64, days: u32) -> Result<bool> {
        let age_ms = i64::from(days).saturating_mul(DAY_MS);
        let span_ms = LIVED_MS.min(age_ms / 4);
        let window = (now_ms.saturating_sub(2 * span_ms), now_ms.saturating_sub(span_ms));
        if self.schema >= readings::NEEDS && self.has_reading(window.0, window.1)? {
            return Ok(true);
        }
        if self.has_job(window.0, window.1)? {
            return Ok(true);
        }
        for segment in self.segments()?.iter().filter(|segment| segment.newest_ms >= window.0) {
            let found = self.event_in(segment, window, now_ms).map_err(failed(&self.path, "could not read the events' times"))?;
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a segment has an event of this time: by halves, as the times mostly rise with the ids. Where they don't, one may
    /// be missed, but none is made up.
    fn event_in(&self, segment: &Segment, (from_ms, to_ms): (i64, i64), now_ms: i64) -> rusqlite::Result<bool> {
        let mut query = self.db.prepare_cached(&rules::from_id(&segment.table()))?;
        let mut from_id = |id: i64| query.query_row((id,), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).optional();
        let (mut low, mut high) = (segment.first_id, segment.last_id);
        while low < high {
            let middle = low + (high - low) / 2;
            match from_id(middle)? {
                // A time that is long to come is from a clock that has since been set right.
                Some((id, at_ms)) if at_ms < from_ms || at_ms > now_ms.saturating_add(DAY_MS) => low = id + 1,
                _ => high = middle,
            }
        }
        Ok(from_id(low)?.is_some_and(|(_, at_ms)| (from_ms..=to_ms).contains(&at_ms)))
    }

    /// Says what the policy does not keep, oldest first. Writes nothing.
    pub fn plan_retention(&self, policy: &RetentionPolicy, now_ms: i64) -> Result<Vec<Going>> {
        if self.schema < ring::SCHEMA {
            return self.plan_rows(policy, now_ms);
        }
        let mut kept = self.total()?;
        let since = policy.max_age_days.map(|days| now_ms.saturating_sub(i64::from(days).saturating_mul(DAY_MS)));
        let mut going = Vec::new();
        for part in self.spare(now_ms)? {
            let reason = if policy.max_events.is_some_and(|most| kept - part.events >= most) {
                Reason::Count
            } else if since.is_some_and(|since| part.newest_ms < since) {
                Reason::Age
            } else {
                break;
            };
            kept -= part.events;
            going.push(Going { reason, ..part });
        }
        Ok(going)
    }

    /// All that may go where room is short, oldest first, as if for [`Reason::Bytes`]. Nothing in a schema without segments.
    pub fn spare(&self, now_ms: i64) -> Result<Vec<Going>> {
        if self.schema < ring::SCHEMA {
            return Ok(Vec::new());
        }
        // One with a time that has not come yet was written to by a clock that went ahead: it is as old as the one after it.
        let mut after_ms = now_ms;
        let going = self.segments()?.into_iter().map(|segment| {
            after_ms = if segment.newest_ms > now_ms { after_ms } else { segment.newest_ms };
            Going {
                name: segment.table(),
                first_id: segment.first_id,
                last_id: segment.last_id,
                events: segment.events,
                newest_ms: after_ms,
                bytes: segment.bytes + ROW_BYTES * segment.events,
                reason: Reason::Bytes,
            }
        });
        let mut going: Vec<Going> = going.collect();
        going.reverse();
        // The newest one stays, whatever is asked for: it is the one that is written to, and it has the last seal.
        going.pop();
        Ok(going)
    }

    /// Removes parts that [`Store::plan_retention`] named, by their first and last ids, in one transaction, durably: most of what one
    /// writes is the same for all. Returns how many events of each went: none if it is not what it was then. The log keeps a record of
    /// it, in its newest segment.
    pub fn remove_parts(&mut self, parts: &[(i64, i64)], at_ms: i64) -> Result<Vec<u64>> {
        let ring = self.schema >= ring::SCHEMA;
        let remove = |db: &Connection, part: (i64, i64)| -> rusqlite::Result<u64> {
            if !ring {
                return db.prepare_cached(rules::DELETE_BETWEEN)?.execute(part).map(|gone| gone as u64);
            }
            let segments = ring::segments(db, ring::SLOTS)?;
            let same = |segment: &&Segment| (segment.first_id, segment.last_id) == part;
            let found = segments.iter().skip(1).find(same);
            let Some((slot, events)) = found.and_then(|segment| segment.slot.map(|slot| (slot, segment.events))) else { return Ok(0) };
            ring::drop_segment(db, slot).map(|()| events)
        };
        let drop = |db: &mut Connection| -> rusqlite::Result<Vec<u64>> {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let gone = parts.iter().map(|part| remove(&tx, *part)).collect::<rusqlite::Result<Vec<_>>>()?;
            let dropped = || parts.iter().zip(&gone).filter(|(_, events)| **events > 0).map(|(part, _)| *part);
            if let (true, Some(first), Some(last)) = (ring, dropped().map(|part| part.0).min(), dropped().map(|part| part.1).max()) {
                ring::append(&tx, &[ring::record(ring::PRUNED, first, last)], at_ms, u64::MAX)?;
            }
            tx.commit().map(|()| gone)
        };
        drop(&mut self.db).map_err(failed(&self.path, "could not delete old events"))
    }

    /// Gives the space of pages that hold nothing back to the file system, as far as it can; returns how many bytes that are.
    ///
    /// The log is taken into the file first. While somebody else reads, or where the file system knows no holes, nothing is done:
    /// the pages are used again by the next events.
    pub fn give_back(&mut self) -> Result<u64> {
        let fail = "could not give free pages back";
        let done = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, i64>(0));
        if done.map_err(failed(&self.path, fail))? != 0 {
            return Ok(0);
        }
        if self.file.is_none() {
            // Closing a file gives up every lock that this process has on it, so it stays open as long as SQLite has it.
            self.file = File::options().read(true).write(true).open(&self.path).ok();
        }
        let Some(file) = &self.file else { return Ok(0) };
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(&self.path, fail))?;
        // Nobody writes now; what was written since is in the log, and then the file isn't all of the truth.
        let log = std::fs::metadata(beside(&self.path, "-wal")).map_or(0, |facts| facts.len());
        let given = if log == 0 { holes(file).unwrap_or(0) } else { 0 };
        tx.rollback().map_err(failed(&self.path, fail))?;
        Ok(given)
    }

    /// What the database's pages take, without those that hold nothing.
    pub fn used_bytes(&self) -> Result<u64> {
        let pragma = |name| self.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let read = || Ok((pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?);
        read().map(i64::unsigned_abs).map_err(failed(&self.path, "could not read the database's size"))
    }

    /// As [`Store::plan_retention`] where all events are in one table: rows go, from the oldest id up to the first that stays.
    fn plan_rows(&self, policy: &RetentionPolicy, now_ms: i64) -> Result<Vec<Going>> {
        let fail = || failed(&self.path, "could not find the old events");
        let Some(all) = self.segments()?.pop() else { return Ok(Vec::new()) };
        let mut parts = Vec::new();
        let mut first_kept = all.first_id;
        let mut reason = Reason::Count;
        if let Some(most) = policy.max_events {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            // The span of ids is never less than the count: most days this alone says that nothing is to be done.
            if all.last_id - all.first_id >= most {
                let beyond = self.db.query_row(rules::BEYOND, (most,), |row| row.get::<_, i64>(0)).optional().map_err(fail())?;
                first_kept = beyond.map_or(first_kept, |id| id + 1);
            }
        }
        if let Some(days) = policy.max_age_days {
            let since = now_ms.saturating_sub(i64::from(days).saturating_mul(DAY_MS));
            let young = self.db.query_row(rules::FIRST_SINCE, (since, now_ms), |row| row.get::<_, i64>(0)).optional().map_err(fail())?;
            let young = young.unwrap_or(all.last_id + 1);
            if young > first_kept {
                (first_kept, reason) = (young, Reason::Age);
            }
        }
        let mut first_id = all.first_id;
        while first_id < first_kept {
            let last_id = (first_id + ROWS).min(first_kept) - 1;
            let count = self.db.query_row(rules::COUNT_BETWEEN, (first_id, last_id), |row| row.get::<_, i64>(0)).map_err(fail())?;
            let events = count.unsigned_abs();
            parts.push(Going { name: all.table(), first_id, last_id, events, newest_ms: all.newest_ms, bytes: 0, reason });
            first_id = last_id + 1;
        }
        Ok(parts)
    }
}

/// Makes holes where SQLite's list of free pages has leaves: pages that it neither reads nor cares for. Returns their bytes.
/// The pages that hold the list itself stay. A list that is not what the header says of it, or has a page twice, is left alone.
fn holes(file: &File) -> std::io::Result<u64> {
    let mut head = [0; 100];
    file.read_exact_at(&mut head, 0)?;
    let number = |bytes: &[u8], at: usize| bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes);
    let page_size = match u64::from(u16::from_be_bytes([head[16], head[17]])) {
        1 => 65_536,
        size => size.max(512),
    };
    let pages = file.metadata()?.len() / page_size;
    let is_page = |page: u32| page > 1 && u64::from(page) <= pages;
    let mut free = Vec::new();
    let (mut trunk, count) = (number(&head, 32), number(&head, 36) as usize);
    let mut trunks = 0;
    let mut page = vec![0; page_size as usize];
    while is_page(trunk) && free.len() + trunks < count {
        file.read_exact_at(&mut page, (u64::from(trunk) - 1) * page_size)?;
        trunks += 1;
        let leaves = (number(&page, 4) as usize).min(page.len() / 4 - 2);
        free.extend((0..leaves).map(|leaf| number(&page, 8 + 4 * leaf)));
        trunk = number(&page, 0);
    }
    free.sort_unstable();
    let twice = free.windows(2).any(|two| two[0] == two[1]);
    if trunk != 0 || free.len() + trunks != count || twice || !free.iter().all(|page| is_page(*page)) {
        return Ok(0);
    }
    let mut given = 0;
    for run in free.chunk_by(|one, next| *next == one + 1) {
        let (at, size) = ((u64::from(run[0]) - 1) * page_size, run.len() as u64 * page_size);
        rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, size)?;
        given += size;
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 512;

    /// A file of eight pages whose header says: the list begins at this page, and has so many. Each trunk: its page, the next one,
    /// its leaves.
    fn file(first: u32, count: u32, trunks: &[(u32, u32, &[u32])]) -> File {
        let mut bytes = vec![7_u8; 8 * PAGE];
        let mut put = |at: usize, number: u32| bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
        put(16, (PAGE as u32) << 16);
        put(32, first);
        put(36, count);
        for (page, next, leaves) in trunks {
            let at = (*page as usize - 1) * PAGE;
            put(at, *next);
            put(at + 4, leaves.len() as u32);
            leaves.iter().enumerate().for_each(|(index, leaf)| put(at + 8 + 4 * index, *leaf));
        }
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        file
    }

    /// Which pages hold nothing but zeros.
    fn empty(file: &File) -> Vec<usize> {
        let mut page = [0; PAGE];
        let is_empty = |number: &usize| {
            file.read_exact_at(&mut page, ((number - 1) * PAGE) as u64).unwrap();
            page == [0; PAGE]
        };
        (1..=8).filter(is_empty).collect()
    }

    #[test]
    fn only_the_leaves_of_a_list_that_is_right_become_holes() {
        let good = file(3, 6, &[(3, 6, &[4, 5]), (6, 0, &[8, 2])]);
        assert_eq!((holes(&good).unwrap(), empty(&good)), (4 * PAGE as u64, vec![2, 4, 5, 8]));
        let wrong: [(&str, File); 7] = [
            ("a trunk that is its own next", file(3, 6, &[(3, 3, &[])])),
            ("two trunks in a ring", file(3, 90, &[(3, 6, &[4]), (6, 3, &[8])])),
            ("fewer than the header says", file(3, 7, &[(3, 6, &[4, 5]), (6, 0, &[8, 2])])),
            ("more than the header says", file(3, 5, &[(3, 6, &[4, 5]), (6, 0, &[8, 2])])),
            ("one twice", file(3, 6, &[(3, 6, &[4, 5]), (6, 0, &[8, 4])])),
            ("the first page", file(3, 3, &[(3, 0, &[4, 1])])),
            ("one behind the end", file(3, 3, &[(3, 0, &[4, 9])])),
        ];
        for (what, file) in wrong {
            assert_eq!((holes(&file).unwrap(), empty(&file)), (0, vec![]), "{what}");
        }
    }
}
