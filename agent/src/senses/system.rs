//! Processor, memory, temperature, disk and card, from /proc and /sys, and what core itself costs.

use super::{Moment, Rate, ReadingProvider, Sample, text, words};
use crate::paths::Paths;
use rustix::fs::StatVfs;
use rustix::time::{ClockId, clock_gettime};
use std::path::{Path, PathBuf};

/// A block of `/sys/block/*/stat`, whatever the device's own.
const SECTOR: u64 = 512;

/// The provider `system`.
pub(crate) struct System {
    proc: PathBuf,
    sys: PathBuf,
    root: PathBuf,
    state: PathBuf,
    cpu: (u64, u64),
    read: Rate,
    written: Rate,
    own: Rate,
}

impl System {
    /// Nothing is read yet.
    pub(crate) fn new(paths: &Paths) -> Self {
        System {
            proc: paths.proc(),
            sys: paths.sys(),
            // Not the root itself: that of core's sandbox is another file system.
            root: Some(paths.settings()).filter(|path| path.exists()).unwrap_or_else(|| paths.root().to_owned()),
            state: paths.state(),
            cpu: (0, 0),
            read: Rate::default(),
            written: Rate::default(),
            // Of a process that is just beginning, the first second counts as a second.
            own: Rate { last: (0, crate::clock::boottime_ms().saturating_sub(1000)) },
        }
    }

    fn processor(&mut self, samples: &mut Vec<Sample>) {
        let share = text(&self.proc.join("stat")).and_then(|text| {
            let (busy, total) = processor(&text).ok_or("the kernel tells no processor times")?;
            let before = std::mem::replace(&mut self.cpu, (busy, total));
            let total = total.saturating_sub(before.1).max(1);
            Ok(busy.saturating_sub(before.0).min(total) as f64 * 100.0 / total as f64)
        });
        samples.push(Sample::number("system.cpu", "%", 15.0, share));
        let load = text(&self.proc.join("loadavg")).and_then(|text| load(&text).ok_or_else(|| "the kernel tells no load".to_owned()));
        samples.push(Sample::number("system.load", "count", 0.5, load));
    }

    fn memory(&self, samples: &mut Vec<Sample>) {
        let info = text(&self.proc.join("meminfo"));
        let bytes = |field: &str| {
            let info = info.as_deref().map_err(Clone::clone)?;
            kib(info, field).map(|kib| kib as f64 * 1024.0).ok_or_else(|| format!("the kernel tells no {field}"))
        };
        let total = bytes("MemTotal");
        let twentieth = |total: &Result<f64, String>| total.as_ref().map_or(1.0, |total| total / 20.0);
        samples.push(Sample::number("system.memory.available", "B", twentieth(&total), bytes("MemAvailable")));
        samples.push(Sample::number("system.memory.total", "B", 1024.0, total));
        let swap = bytes("SwapTotal").and_then(|total| if total > 0.0 { Ok(total) } else { Err("there is no swap".to_owned()) });
        let used = swap.clone().and_then(|total| Ok(total - bytes("SwapFree")?));
        samples.push(Sample::number("system.swap.used", "B", twentieth(&swap), used));
        samples.push(Sample::number("system.swap.total", "B", 1024.0, swap));
    }

    fn heat(&self, samples: &mut Vec<Sample>) {
        let zones =
            entries(&self.sys.join("class/thermal")).into_iter().filter(|path| named(path, "thermal_zone")).map(|path| path.join("temp"));
        let chips = entries(&self.sys.join("class/hwmon"))
            .into_iter()
            .flat_map(|path| entries(&path))
            .filter(|path| named(path, "temp") && path.to_string_lossy().ends_with("_input"));
        // The hottest: which of them is the processor's has as many names as there are boards.
        let hottest = zones.chain(chips).filter_map(|path| celsius(&text(&path).ok()?)).reduce(f64::max);
        let hottest = hottest.ok_or_else(|| "this machine has no thermal sensor".to_owned());
        samples.push(Sample::number("system.temperature", "C", 3.0, hottest));
        let file = self.sys.join("devices/platform/soc/soc:firmware/get_throttled");
        let flags = match text(&file) {
            Ok(text) => throttled(&text).ok_or_else(|| "the firmware's flags are not understood".to_owned()),
            Err(_) => Err("this machine's firmware tells nothing of it: no Raspberry Pi".to_owned()),
        };
        samples.push(Sample::text("system.throttled", flags));
    }

    fn disks(&self, samples: &mut Vec<Sample>) {
        let root = statvfs(&self.root);
        let state = match (statvfs(&self.state), device(&self.state) == device(&self.root)) {
            (Ok(_), true) => Err("on the same file system as /".to_owned()),
            (other, _) => other,
        };
        let of = |disk: &Result<StatVfs, String>, figure: fn(&StatVfs) -> u64| {
            disk.as_ref().map(|disk| figure(disk) as f64).map_err(Clone::clone)
        };
        let hundredth = |total: &Result<f64, String>| total.as_ref().map_or(1.0, |total| (total / 100.0).max(1.0));
        let names = [
            ("system.disk.root.total", "system.disk.root.free", "system.disk.root.inodes_free"),
            ("system.disk.state.total", "system.disk.state.free", "system.disk.state.inodes_free"),
        ];
        for (disk, (total_name, free_name, inodes_name)) in [root, state].iter().zip(names) {
            let total = of(disk, |disk| disk.f_blocks * disk.f_frsize);
            samples.push(Sample::number(free_name, "B", hundredth(&total), of(disk, |disk| disk.f_bavail * disk.f_frsize)));
            samples.push(Sample::number(total_name, "B", hundredth(&total), total));
            let inodes = match disk {
                Ok(disk) if disk.f_files == 0 => Err("the file system has no fixed number of inodes".to_owned()),
                disk => of(disk, |disk| disk.f_favail),
            };
            let step = hundredth(&of(disk, |disk| disk.f_files));
            samples.push(Sample::number(inodes_name, "count", step, inodes));
        }
    }

    fn card(&mut self, now: Moment, samples: &mut Vec<Sample>) {
        let disks = entries(&self.sys.join("block"));
        let cards: Vec<_> = disks.iter().filter(|disk| named(disk, "mmcblk")).map(|disk| disk.join("device")).collect();
        let none = || match cards.is_empty() {
            true => "this machine has no card".to_owned(),
            false => "the card tells nothing of it".to_owned(),
        };
        let wear = cards.iter().filter_map(|card| wear(&text(&card.join("life_time")).ok()?)).reduce(f64::max);
        samples.push(Sample::number("system.card.wear", "%", 1.0, wear.ok_or_else(none)));
        let health = cards.iter().find_map(|card| health(&text(&card.join("pre_eol_info")).ok()?));
        samples.push(Sample::text("system.card.health", health.map(str::to_owned).ok_or_else(none)));

        // What only passes on to another device would be counted twice.
        let virtual_ones = ["loop", "ram", "zram", "dm-", "md", "nbd", "sr", "fd"];
        let real = disks.iter().filter(|disk| !virtual_ones.iter().any(|name| named(disk, name)));
        let counted = real.filter_map(|disk| io(&text(&disk.join("stat")).ok()?)).reduce(|a, b| (a.0 + b.0, a.1 + b.1));
        let counted = counted.ok_or_else(|| "this machine has no disk of its own".to_owned());
        let read = counted.clone().map(|(sectors, _)| self.read.per_second(sectors * SECTOR, now.boottime_ms).round());
        let written = counted.map(|(_, sectors)| self.written.per_second(sectors * SECTOR, now.boottime_ms).round());
        samples.push(Sample::number("system.io.read", "B/s", 262_144.0, read));
        samples.push(Sample::number("system.io.written", "B/s", 65_536.0, written));
    }

    fn own(&mut self, now: Moment, samples: &mut Vec<Sample>) {
        let rollup = text(&self.proc.join("self/smaps_rollup"));
        let pss =
            rollup.and_then(|text| kib(&text, "Pss").map(|kib| kib as f64 * 1024.0).ok_or_else(|| "the kernel tells no Pss".to_owned()));
        samples.push(Sample::number("agent.core.memory", "B", 524_288.0, pss));
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let micros = time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1000;
        samples.push(Sample::number("agent.core.cpu", "%", 2.0, Ok(self.own.per_second(micros, now.boottime_ms) / 10_000.0)));
        let queued = now.queued.map(|queued| queued as f64).ok_or_else(|| "this release has no jobs".to_owned());
        samples.push(Sample::number("agent.jobs.queued", "count", 1.0, queued));
    }
}

impl ReadingProvider for System {
    fn name(&self) -> &'static str {
        "system"
    }

    fn read(&mut self, now: Moment) -> Vec<Sample> {
        let mut samples = Vec::with_capacity(24);
        self.processor(&mut samples);
        self.memory(&mut samples);
        self.heat(&mut samples);
        self.disks(&mut samples);
        self.card(now, &mut samples);
        self.own(now, &mut samples);
        samples
    }
}

fn statvfs(path: &Path) -> Result<StatVfs, String> {
    rustix::fs::statvfs(path).map_err(|error| format!("the file system can't be asked: {}", words(&error.into())))
}

fn device(path: &Path) -> Option<u64> {
    rustix::fs::stat(path).ok().map(|facts| facts.st_dev)
}

/// What is in a folder, by name; nothing if there is no such folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().take(256).filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn named(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
}

/// Ticks of all processors, busy and in all, of /proc/stat. Waiting for the disk is not busy; a guest's time is in `user`.
fn processor(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let mut ticks = [0_u64; 8];
    for (index, tick) in ticks.iter_mut().enumerate() {
        match fields.next() {
            Some(field) => *tick = field.parse().ok()?,
            // An old kernel has fewer, but never fewer than four.
            None if index >= 4 => break,
            None => return None,
        }
    }
    let total = ticks.iter().try_fold(0_u64, |sum, tick| sum.checked_add(*tick))?;
    Some((total - ticks[3] - ticks[4], total))
}

/// The load of the last minute, of /proc/loadavg.
fn load(loadavg: &str) -> Option<f64> {
    number(loadavg.split_ascii_whitespace().next()?)
}

/// A field in KiB, of /proc/meminfo and smaps_rollup.
fn kib(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok().filter(|kib| *kib < u64::MAX / 1024)
}

/// Thousandths of a degree as degrees. A sensor that isn't connected says something that nothing here survives.
fn celsius(text: &str) -> Option<f64> {
    let celsius = f64::from(text.trim().parse::<i32>().ok()?) / 1000.0;
    (-60.0..=200.0).contains(&celsius).then_some(celsius)
}

/// The firmware's flags, in words: what is so now, and what was so since boot.
fn throttled(text: &str) -> Option<String> {
    let text = text.trim();
    let flags = u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()?;
    let names = ["under-voltage", "frequency capped", "throttled", "soft temperature limit"];
    let of = |shift: usize, when: &str| -> Vec<String> {
        names.iter().enumerate().filter(|(bit, _)| flags >> (bit + shift) & 1 == 1).map(|(_, name)| format!("{name} {when}")).collect()
    };
    let said = [of(0, "now"), of(16, "since boot")].concat();
    Some(if said.is_empty() { "none".to_owned() } else { said.join(", ") })
}

/// How much of its life a card has used, of `life_time`: two kinds of memory, each in steps of a tenth, 0 for unknown and 11
/// for beyond. The worse of both.
fn wear(text: &str) -> Option<f64> {
    let worst = text.split_ascii_whitespace().map(hexadecimal).collect::<Option<Vec<_>>>()?.into_iter().max()?;
    (1..=11).contains(&worst).then(|| f64::from(worst) * 10.0)
}

/// How much of a card's reserve is left, of `pre_eol_info`.
fn health(text: &str) -> Option<&'static str> {
    match hexadecimal(text.trim())? {
        1 => Some("normal"),
        2 => Some("warning: 80 % of the reserve is used"),
        3 => Some("urgent: 90 % of the reserve is used"),
        _ => None,
    }
}

/// Sectors read and written, of /sys/block/*/stat.
fn io(stat: &str) -> Option<(u64, u64)> {
    let fields: Vec<_> = stat.split_ascii_whitespace().take(7).collect();
    let sectors = |index: usize| fields.get(index)?.parse::<u64>().ok().filter(|sectors| *sectors < u64::MAX / SECTOR / 256);
    Some((sectors(2)?, sectors(6)?))
}

fn hexadecimal(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::readings::Value;

    const STAT: &str =
        "cpu  4705 150 1120 1664330 2510 0 95 12 30 0\ncpu0 2352 75 560 832165 1255 0 47 6 15 0\nintr 8885917\nctxt 1990473\n";
    const MEMINFO: &str = "MemTotal:         437372 kB\nMemFree:           52040 kB\nMemAvailable:     268640 kB\nBuffers:           17564 kB\nSwapTotal:        102396 kB\nSwapFree:          81396 kB\nHugePages_Total:       0\n";
    const ROLLUP: &str = "55d8c0e5f000-7ffd1b5f2000 ---p 00000000 00:00 0                          [rollup]\nRss:                4312 kB\nPss:                2107 kB\nPss_Dirty:          1204 kB\n";
    const DISK: &str =
        "    6447     2150   506414     4390     3105     4210   120344    21060        0    12870    27320        0        0\n";

    /// Every parser, as one that says whether it understood.
    const PARSERS: [fn(&str) -> bool; 8] = [
        |text| processor(text).is_some(),
        |text| load(text).is_some(),
        |text| kib(text, "MemTotal").is_some(),
        |text| celsius(text).is_some(),
        |text| throttled(text).is_some(),
        |text| wear(text).is_some(),
        |text| health(text).is_some(),
        |text| io(text).is_some(),
    ];

    #[test]
    fn the_kernels_words_are_understood() {
        let busy = 4705 + 150 + 1120 + 95 + 12;
        assert_eq!(processor(STAT), Some((busy, busy + 1_664_330 + 2510)));
        assert_eq!(processor("cpu  1 2 3 4\n"), Some((6, 10)));
        assert_eq!(load("0.52 0.34 0.30 1/123 4567\n"), Some(0.52));
        assert_eq!(
            (kib(MEMINFO, "MemTotal"), kib(MEMINFO, "MemAvailable"), kib(ROLLUP, "Pss")),
            (Some(437_372), Some(268_640), Some(2107))
        );
        assert_eq!((kib(MEMINFO, "Mem"), kib(MEMINFO, "HugePages_Total")), (None, None));
        assert_eq!((celsius("48312\n"), celsius("-5000\n"), celsius("-274000\n")), (Some(48.312), Some(-5.0), None));
        assert_eq!(throttled("0x0\n").unwrap(), "none");
        assert_eq!(throttled("50005\n").unwrap(), "under-voltage now, throttled now, under-voltage since boot, throttled since boot");
        assert_eq!((wear("0x02 0x01\n"), wear("0x00 0x00\n"), wear("0x0b 0x01\n")), (Some(20.0), None, Some(110.0)));
        assert_eq!((health("0x01\n"), health("0x00\n")), (Some("normal"), None));
        assert_eq!(io(DISK), Some((506_414, 120_344)));
    }

    #[test]
    fn cut_and_broken_words_are_refused_and_never_panic() {
        let good = [STAT, "0.52 0.34 0.30 1/123 4567\n", MEMINFO, "48312\n", "0x50005\n", "0x02 0x01\n", "0x01\n", DISK];
        for parse in PARSERS {
            for text in good {
                for end in 0..text.len() {
                    parse(&text[..end]);
                    parse(&text[end..]);
                    let broken: String = text.chars().enumerate().map(|(at, c)| if at == end { '\u{fffd}' } else { c }).collect();
                    parse(&broken);
                }
            }
            for text in [
                "",
                "\n",
                "\0",
                "cpu",
                "cpu ",
                "cpu  99999999999999999999 1 1 1",
                "MemTotal: 99999999999999999999 kB",
                "0x",
                "0xffffffffff",
                "nan",
                "inf",
            ] {
                assert!(!parse(text), "{text:?} was understood");
            }
        }
        let most = format!("cpu  {0} {0} {0} {0}", u64::MAX);
        assert_eq!(processor(&most), None);
        assert_eq!(io(&[u64::MAX.to_string().as_str(); 8].join(" ")), None);
    }

    /// A Raspberry Pi, as far as it is looked at.
    fn pi() -> (tempfile::TempDir, System) {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("proc/stat", STAT),
            ("proc/loadavg", "0.52 0.34 0.30 1/123 4567\n"),
            ("proc/meminfo", MEMINFO),
            ("proc/self/smaps_rollup", ROLLUP),
            ("sys/class/thermal/thermal_zone0/temp", "48312\n"),
            ("sys/class/thermal/cooling_device0/cur_state", "0\n"),
            ("sys/class/hwmon/hwmon0/temp1_input", "51000\n"),
            ("sys/class/hwmon/hwmon0/in0_input", "99000\n"),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "0\n"),
            ("sys/block/mmcblk0/stat", DISK),
            ("sys/block/mmcblk0/device/life_time", "0x02 0x01\n"),
            ("sys/block/mmcblk0/device/pre_eol_info", "0x01\n"),
            ("sys/block/loop0/stat", DISK),
            ("var/lib/smolotchi/x", ""),
        ];
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let system = System::new(&Paths::new(Some(dir.path())));
        (dir, system)
    }

    fn said(samples: &[Sample], name: &str) -> Result<Value, String> {
        samples.iter().find(|sample| sample.sensor == name).unwrap_or_else(|| panic!("no {name}")).outcome.clone()
    }

    #[test]
    fn a_machine_is_read_whole() {
        let (dir, mut system) = pi();
        let samples = system.read(Moment { boottime_ms: 100_000, wall_ms: 0, apart_ms: 0, queued: Some(3) });
        let number = |name: &str| match said(&samples, name) {
            Ok(Value::Number(number)) => number,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(number("system.cpu"), 0.4);
        assert_eq!(number("system.load"), 0.5);
        assert_eq!(number("system.memory.total"), 437_372.0 * 1024.0);
        assert_eq!(number("system.swap.used"), 21_000.0 * 1024.0);
        assert_eq!(number("system.temperature"), 51.0);
        assert_eq!(said(&samples, "system.throttled"), Ok(Value::Text("none".into())));
        assert_eq!(number("system.card.wear"), 20.0);
        assert_eq!(said(&samples, "system.card.health"), Ok(Value::Text("normal".into())));
        // The loop device lies on the card: its bytes are the card's.
        assert_eq!(number("system.io.written"), (120_344 * 512_u64 / 100) as f64);
        assert_eq!(number("agent.core.memory"), 2107.0 * 1024.0);
        assert_eq!(number("agent.jobs.queued"), 3.0);
        assert!(number("system.disk.root.free") > 0.0);
        assert_eq!(said(&samples, "system.disk.state.free"), Err("on the same file system as /".into()));

        // Half of the next ticks were busy; nothing was written.
        std::fs::write(dir.path().join("proc/stat"), "cpu  4755 150 1120 1664380 2510 0 95 12 30 0\n").unwrap();
        let samples = system.read(Moment { boottime_ms: 120_000, wall_ms: 0, apart_ms: 0, queued: None });
        assert_eq!(said(&samples, "system.cpu"), Ok(Value::Number(50.0)));
        assert_eq!(said(&samples, "system.io.written"), Ok(Value::Number(0.0)));
        assert_eq!(said(&samples, "agent.jobs.queued"), Err("this release has no jobs".into()));
    }

    #[test]
    fn a_machine_without_sensors_says_why_and_names_the_same_ones() {
        let (_pi, mut pi) = pi();
        let dir = tempfile::tempdir().unwrap();
        let mut bare = System::new(&Paths::new(Some(dir.path())));
        let moment = Moment { boottime_ms: 1, wall_ms: 0, apart_ms: 0, queued: None };
        let (all, samples) = (pi.read(moment), bare.read(moment));
        let names = |samples: &[Sample]| samples.iter().map(|sample| (sample.sensor.clone(), sample.unit)).collect::<Vec<_>>();
        assert_eq!(names(&all), names(&samples));
        for name in
            ["system.cpu", "system.memory.available", "system.swap.total", "system.temperature", "system.throttled", "system.card.wear"]
        {
            let reason = said(&samples, name).unwrap_err();
            assert!(!reason.is_empty(), "{name}");
        }
    }
}
