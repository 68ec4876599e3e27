//! What was read, in memory: the newest value of each sensor, and the changes that are not on the disk yet.
//!
//! Pure: told of samples and the time, it decides what is worth keeping. The caller writes the batches.

use super::{Moment, Sample};
use crate::wire::readings::Value;
use smolotchi_store::{NewReading, SENSOR_BYTES, SensorRow};
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A value that doesn't change is kept again after this time: whoever looks at a day sees that it was read.
const AGAIN_MS: u64 = 6 * 3600 * 1000;
/// How long a change may wait for its batch.
const WAIT_MS: u64 = 30 * 60 * 1000;
/// So many changes wait half as long. Never less: one commit costs the card some 60 KB, and more with so many.
const BATCH: usize = 1024;
/// The most changes in memory; beyond, the oldest are lost.
const MOST: usize = 2 * BATCH;
/// The most sensors. A machine that makes up new ones all the time must not fill the memory.
const SENSORS: usize = 256;
/// A sensor that nobody told of for so long gives its place to a new one, if there is no other.
const FORGOTTEN_MS: u64 = 3600 * 1000;

/// One sensor.
#[derive(Debug)]
struct Sensor {
    provider: &'static str,
    unit: &'static str,
    newest: Option<(i64, Value)>,
    absent: Option<String>,
    changed_ms: i64,
    /// The last value kept, and when by the clock that never jumps.
    kept: Option<(u64, Value)>,
    /// Whether the disk knows provider, unit and absence as they are.
    told: bool,
    /// Since when its provider doesn't tell of it any more, by the clock that never jumps.
    gone_ms: Option<u64>,
}

/// A sensor as it is now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Newest<'a> {
    pub(crate) name: &'a str,
    pub(crate) provider: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) newest: Option<&'a (i64, Value)>,
    pub(crate) absent: Option<&'a str>,
}

/// A change that waits for its batch.
#[derive(Debug)]
struct Change {
    sensor: Arc<str>,
    at_ms: i64,
    value: Value,
}

/// What is to be committed at once, and given back to [`Memory::written`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch {
    pub(crate) sensors: Vec<SensorRow>,
    pub(crate) readings: Vec<NewReading>,
}

/// All sensors.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    sensors: BTreeMap<Arc<str>, Sensor>,
    waiting: VecDeque<Change>,
    /// Since when something waits.
    since_ms: Option<u64>,
}

impl Memory {
    /// Takes what a provider saw. True if something changed by more than its step, came or went.
    pub(crate) fn take(&mut self, provider: &'static str, samples: Vec<Sample>, now: Moment) -> bool {
        let mut changed = false;
        let mut seen = Vec::with_capacity(samples.len());
        for sample in samples {
            let name = self.name_of(&sample.sensor, now.boottime_ms);
            if let Some(name) = name {
                seen.push(name.clone());
                changed |= self.take_one(provider, name.clone(), sample, now);
                if let Some(sensor) = self.sensors.get_mut(&name) {
                    sensor.gone_ms = None;
                }
            }
        }
        changed | self.gone(provider, &seen, "it is not there any more", now)
    }

    /// A provider was switched off.
    pub(crate) fn off(&mut self, provider: &'static str, now: Moment) {
        self.gone(provider, &[], "switched off in the configuration", now);
    }

    fn gone(&mut self, provider: &'static str, seen: &[Arc<str>], why: &str, now: Moment) -> bool {
        let mut changed = false;
        let gone: Vec<_> = self
            .sensors
            .iter()
            .filter(|(name, sensor)| sensor.provider == provider && !seen.contains(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            let sample = Sample { sensor: Cow::Borrowed(""), unit: "", step: 0.0, outcome: Err(why.to_owned()) };
            changed |= self.take_one(provider, name.clone(), sample, now);
            if let Some(sensor) = self.sensors.get_mut(&name) {
                sensor.gone_ms.get_or_insert(now.boottime_ms);
            }
        }
        changed
    }

    /// The name as this map has it; `None` for one that has no place here.
    fn name_of(&mut self, name: &str, boottime_ms: u64) -> Option<Arc<str>> {
        if let Some((name, _)) = self.sensors.get_key_value(name) {
            return Some(name.clone());
        }
        let fits = !name.is_empty() && name.len() <= SENSOR_BYTES;
        (fits && (self.sensors.len() < SENSORS || self.forget_one(boottime_ms))).then(|| name.into())
    }

    /// Forgets the sensor that is gone for the longest time, if that is long enough, and the disk knows of its end.
    fn forget_one(&mut self, boottime_ms: u64) -> bool {
        let gone = self.sensors.iter().filter(|(_, sensor)| sensor.told).filter_map(|(name, sensor)| Some((sensor.gone_ms?, name)));
        let Some((_, name)) = gone.min().filter(|(gone_ms, _)| boottime_ms.saturating_sub(*gone_ms) >= FORGOTTEN_MS) else {
            return false;
        };
        let name = name.clone();
        self.sensors.remove(&name);
        true
    }

    fn take_one(&mut self, provider: &'static str, name: Arc<str>, sample: Sample, now: Moment) -> bool {
        let new = Sensor {
            provider,
            unit: sample.unit,
            newest: None,
            absent: None,
            changed_ms: now.wall_ms,
            kept: None,
            told: false,
            gone_ms: None,
        };
        let first = !self.sensors.contains_key(&name);
        let sensor = self.sensors.entry(name.clone()).or_insert(new);
        let (value, absent) = match sample.outcome {
            Ok(value) => (Some(value), None),
            Err(reason) => (None, Some(reason)),
        };
        let came_or_went = !first && sensor.absent.is_some() != absent.is_some();
        if came_or_went || sensor.absent != absent {
            (sensor.absent, sensor.changed_ms, sensor.told) = (absent, now.wall_ms, false);
        }
        let mut kept = false;
        let mut moved = false;
        if let Some(value) = &value {
            moved = match (&sensor.kept, value) {
                (Some((_, Value::Number(last))), Value::Number(number)) => (number - last).abs() >= sample.step.max(f64::MIN_POSITIVE),
                (Some((_, last)), value) => last != value,
                (None, _) => true,
            };
            // Back after an absence: kept, or the line would go on over the gap.
            kept = moved || came_or_went || sensor.kept.as_ref().is_some_and(|(at, _)| now.boottime_ms.saturating_sub(*at) >= AGAIN_MS);
            if kept {
                sensor.kept = Some((now.boottime_ms, value.clone()));
            }
        }
        let waits = kept || !sensor.told;
        sensor.newest = value.clone().map(|value| (now.wall_ms, value));
        if let (true, Some(value)) = (kept, value) {
            if self.waiting.len() >= MOST {
                self.waiting.pop_front();
            }
            self.waiting.push_back(Change { sensor: name, at_ms: now.wall_ms, value });
        }
        if waits {
            self.since_ms.get_or_insert(now.boottime_ms);
        }
        moved || came_or_went
    }

    /// What is to be written now: everything, if the oldest change has waited long enough, or if `all` is asked for.
    pub(crate) fn batch(&self, boottime_ms: u64, all: bool) -> Option<Batch> {
        let since = self.since_ms?;
        let long = if self.waiting.len() < BATCH { WAIT_MS } else { WAIT_MS / 2 };
        if !all && boottime_ms.saturating_sub(since) < long {
            return None;
        }
        let rows = self.sensors.iter().filter(|(_, sensor)| !sensor.told).map(|(name, sensor)| SensorRow {
            name: name.to_string(),
            provider: sensor.provider.to_owned(),
            unit: sensor.unit.to_owned(),
            absent: sensor.absent.clone(),
            changed_ms: sensor.changed_ms,
        });
        let changes = self.waiting.iter().map(|change| NewReading {
            sensor: change.sensor.to_string(),
            at_ms: change.at_ms,
            value: change.value.clone(),
        });
        Some(Batch { sensors: rows.collect(), readings: changes.collect() })
    }

    /// A batch is on the disk. Nothing may have been taken in between.
    pub(crate) fn written(&mut self) {
        self.waiting.clear();
        self.since_ms = None;
        for sensor in self.sensors.values_mut() {
            sensor.told = true;
        }
    }

    /// A batch could not be written: it is tried again after the usual time.
    pub(crate) fn not_written(&mut self, boottime_ms: u64) {
        self.since_ms = Some(boottime_ms);
    }

    /// The sensors that are there, by name.
    pub(crate) fn read(&self) -> impl Iterator<Item = &str> {
        self.sensors.iter().filter(|(_, sensor)| sensor.gone_ms.is_none()).map(|(name, _)| &**name)
    }

    /// Every sensor, by name.
    pub(crate) fn newest(&self) -> impl Iterator<Item = Newest<'_>> {
        self.sensors.iter().map(|(name, sensor)| Newest {
            name,
            provider: sensor.provider,
            unit: sensor.unit,
            newest: sensor.newest.as_ref(),
            absent: sensor.absent.as_deref(),
        })
    }

    /// The unit of a sensor and its changes that are not on the disk yet; `None` for one that was never read.
    pub(crate) fn waiting(&self, name: &str) -> Option<(&'static str, Vec<(i64, Value)>)> {
        let sensor = self.sensors.get(name)?;
        let changes = self.waiting.iter().filter(|change| &*change.sensor == name);
        Some((sensor.unit, changes.map(|change| (change.at_ms, change.value.clone())).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn at(minute: u64) -> Moment {
        Moment { boottime_ms: minute * MINUTE, wall_ms: (minute * MINUTE) as i64 + 1_000_000, apart_ms: 0, queued: None }
    }

    fn load(number: f64) -> Vec<Sample> {
        vec![Sample::number("system.load", "count", 0.5, Ok(number))]
    }

    fn kept(memory: &Memory) -> Vec<Value> {
        memory.waiting("system.load").unwrap().1.into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn only_what_moves_by_a_step_is_kept() {
        let mut memory = Memory::default();
        let seen: Vec<_> =
            [1.0, 1.1, 0.6, 1.5, 1.2, 2.1, 1.6, 1.5].into_iter().zip(0..).map(|(n, m)| memory.take("system", load(n), at(m))).collect();
        assert_eq!(seen, [true, false, false, true, false, true, true, false]);
        assert_eq!(kept(&memory), [1.0, 1.5, 2.1, 1.6].map(Value::Number));
        // The newest is always known, kept or not.
        assert_eq!(memory.newest().next().unwrap().newest, Some(&(at(7).wall_ms, Value::Number(1.5))));
    }

    #[test]
    fn a_value_that_never_changes_is_kept_every_six_hours() {
        let mut memory = Memory::default();
        for minute in (0..24 * 60).step_by(10) {
            let changed = memory.take("system", load(1.0), at(minute));
            assert_eq!(changed, minute == 0, "{minute}");
        }
        assert_eq!(kept(&memory).len(), 4);
    }

    #[test]
    fn batches_wait_for_their_time_or_their_size_and_an_idle_machine_has_none() {
        let mut memory = Memory::default();
        assert_eq!(memory.batch(0, true), None);
        memory.take("system", load(1.0), at(5));
        assert_eq!(memory.batch(34 * MINUTE, false), None);
        let batch = memory.batch(35 * MINUTE, false).unwrap();
        assert_eq!((batch.sensors.len(), batch.readings.len()), (1, 1));
        assert_eq!(memory.batch(6 * MINUTE, true).unwrap(), batch);
        memory.written();
        // Ten idle minutes, and half an hour.
        for minute in 36..70 {
            memory.take("system", load(1.2), at(minute));
            assert_eq!(memory.batch(minute * MINUTE, true), None, "{minute}");
        }
        // A full batch waits half as long: however much changes, there are four commits an hour.
        for number in 0..BATCH {
            assert_eq!(memory.batch(84 * MINUTE, false), None);
            memory.take("system", load(number as f64 * 10.0), at(70));
        }
        assert_eq!(memory.batch(84 * MINUTE, false), None);
        let batch = memory.batch(85 * MINUTE, false).unwrap();
        assert_eq!((batch.sensors.len(), batch.readings.len()), (0, BATCH));
    }

    #[test]
    fn what_can_not_be_written_is_bounded() {
        let mut memory = Memory::default();
        for number in 0..10 * MOST as u64 {
            memory.take("system", load(number as f64), at(number));
            if memory.batch(number * MINUTE, false).is_some() {
                memory.not_written(number * MINUTE);
                assert_eq!(memory.batch(number * MINUTE, false), None, "not again at once");
            }
            assert!(memory.waiting.len() <= MOST);
        }
        assert!(!kept(&memory).is_empty());
    }

    #[test]
    fn absence_is_told_with_its_reason() {
        let mut memory = Memory::default();
        let absent = |reason: &str| vec![Sample::number("system.load", "count", 0.5, Err(reason.to_owned()))];
        memory.take("system", absent("no sensor"), at(0));
        assert_eq!(memory.newest().next().unwrap().absent, Some("no sensor"));
        let batch = memory.batch(0, true).unwrap();
        assert_eq!(
            (batch.sensors[0].absent.as_deref(), batch.sensors[0].changed_ms, batch.readings.len()),
            (Some("no sensor"), at(0).wall_ms, 0)
        );
        memory.written();
        assert!(!memory.take("system", absent("no sensor"), at(1)));
        assert_eq!(memory.batch(0, true), None, "nothing new");

        assert!(memory.take("system", load(1.0), at(2)), "it came");
        memory.written();
        assert!(memory.take("system", absent("unplugged"), at(3)), "it went");
        assert_eq!(memory.newest().next().unwrap().newest, None);
        assert_eq!(memory.batch(0, true).unwrap().sensors[0].absent.as_deref(), Some("unplugged"));
        memory.written();
        // The same value as before the gap is kept, or the line would go on over it.
        assert!(memory.take("system", load(1.0), at(4)));
        assert_eq!(kept(&memory), [Value::Number(1.0)]);
        memory.written();
        // Not even told of: gone.
        assert!(memory.take("system", Vec::new(), at(5)));
        assert_eq!(memory.newest().next().unwrap().absent, Some("it is not there any more"));
        // Another provider's sensors are its own.
        assert!(!memory.take("network", Vec::new(), at(6)));
    }

    #[test]
    fn made_up_sensors_do_not_fill_the_memory() {
        let mut memory = Memory::default();
        for number in 0..10 * SENSORS {
            memory.take("network", vec![Sample::text(format!("network.veth{number}"), Ok("up".to_owned()))], at(number as u64));
        }
        memory.take("network", vec![Sample::text("x".repeat(SENSOR_BYTES + 1), Ok(String::new()))], at(1));
        assert_eq!(memory.newest().count(), SENSORS);
    }

    #[test]
    fn a_sensor_that_is_long_gone_gives_its_place_to_a_new_one() {
        let mut memory = Memory::default();
        let veth = |number: usize| Sample::text(format!("network.veth{number}"), Ok("up".to_owned()));
        let has = |memory: &Memory, number: usize| memory.newest().any(|sensor| sensor.name == format!("network.veth{number}"));
        memory.take("network", (0..SENSORS).map(veth).collect(), at(0));
        // All but the last two go, one of them later than the others.
        memory.take("network", (SENSORS - 3..SENSORS).map(veth).collect(), at(10));
        memory.take("network", (SENSORS - 2..SENSORS).map(veth).collect(), at(20));
        let two = [SENSORS - 2, SENSORS - 1];
        let with = |memory: &mut Memory, number: usize, minute: u64, written: bool| {
            if written {
                memory.written();
            }
            memory.take("network", two.into_iter().chain([number]).map(veth).collect(), at(minute));
            (has(memory, number), memory.newest().count())
        };
        assert_eq!(with(&mut memory, 1000, 69, true), (false, SENSORS), "not long enough");
        assert_eq!(with(&mut memory, 1000, 70, false), (true, SENSORS));
        assert_eq!((with(&mut memory, 1001, 71, true), with(&mut memory, 1002, 72, true)), ((true, SENSORS), (true, SENSORS)));
        assert!(two.into_iter().all(|number| has(&memory, number)), "those that are there stay");
        assert!(has(&memory, SENSORS - 3), "the longest gone goes first");
        assert!(!has(&memory, 0));
        // The disk takes nothing: what it doesn't know of yet stays.
        let mut memory = Memory::default();
        memory.take("network", (0..SENSORS).map(veth).collect(), at(0));
        memory.take("network", vec![], at(1));
        memory.take("network", vec![veth(1000)], at(1000));
        assert!(!has(&memory, 1000));
        memory.written();
        memory.take("network", vec![veth(1000)], at(1001));
        assert!(has(&memory, 1000));
    }
}
