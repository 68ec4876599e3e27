//! The exposure of each service in exact points, by the systemd of each Debian, over unit files alone: nothing is booted.
//!
//! `systemd-analyze security` prints one figure with one decimal, and its JSON has no total. With SYSTEMD_ANALYZE_DEBUG=1 it shows the weight
//! and the badness of each test, and the sum is exact. It runs in the base of the release, with `--offline=true --root=` on a folder that holds
//! our units and nothing else: by path it would mix in the units of whoever builds. No policy file is read, so none can weaken it.

use crate::program::{self, Input};
use crate::sandbox::SERVICES;
use crate::{Base, Output, Release, fault};
use serde::Serialize;
use smolotchi_operator::{Code, Fault, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// One test that counts against a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Open {
    /// `PrivateNetwork=`.
    pub name: String,
    /// What it costs.
    pub points: u64,
    /// systemd's words.
    pub about: String,
}

/// What one service has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exposure {
    /// The sum.
    pub points: u64,
    /// Of so many.
    pub of: u64,
    /// In tenths, as systemd prints it: 1 is 0.1.
    pub tenths: u64,
    /// What is open, the dearest first.
    pub open: Vec<Open>,
}

/// Chroots into an overlay of the base, in mount and process namespaces of its own; nothing is left.
const SCRIPT: &str = r#"set -e
t=$1; mount -t tmpfs none "$t"; mkdir "$t/upper" "$t/work" "$t/root"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$t/upper,workdir=$t/work" "$t/root"
mkdir -p "$t/root/units"; cp -a "$3/." "$t/root/units/"
mount -t proc proc "$t/root/proc"; mount --rbind /sys "$t/root/sys"; mount --rbind /dev "$t/root/dev"
shift 3
for unit in "$@"; do
    echo "unit $unit"
    chroot "$t/root" env SYSTEMD_ANALYZE_DEBUG=1 COLUMNS=400 SYSTEMD_COLORS=0 LC_ALL=C.UTF-8 \
        systemd-analyze security --no-pager --offline=true --root=/units "$unit" 2>/dev/null
    chroot "$t/root" env LC_ALL=C.UTF-8 SYSTEMD_COLORS=0 systemd-analyze security --no-pager --offline=true --root=/units "$unit" 2>/dev/null | tail -1
done"#;

/// The exposure of these units, by the systemd of a release. `root` holds `usr/lib/systemd/system` with the units.
pub fn measure(release: Release, root: &Path, units: &[String]) -> Result<BTreeMap<String, Exposure>> {
    let base = Base::ensure(release)?;
    let scratch = Path::new("/run").join(format!("smolotchi-gate-{}-{release}", std::process::id()));
    std::fs::create_dir_all(&scratch).map_err(|error| Fault::io("could not make a scratch folder", &scratch, &error))?;
    let mut command = Command::new("unshare");
    command.args(["-m", "-p", "-f", "--kill-child=SIGKILL", "--", "sh", "-c", SCRIPT, "sh"]);
    command.arg(&scratch).arg(&base.folder).arg(root).args(units);
    let output = program::capture(command, Input::Nothing, Duration::from_secs(120)).map(Output::from);
    let _ = std::fs::remove_dir(&scratch);
    let output = output?;
    if !output.ok() {
        return Err(program::failed("systemd-analyze", &output));
    }
    let mut found = BTreeMap::new();
    for part in output.stdout.split("unit smolotchi-").skip(1) {
        let (name, text) = part.split_once('\n').unwrap_or_default();
        let unit = format!("smolotchi-{name}");
        let exposure =
            parse(text).ok_or_else(|| fault("systemd-analyze is not understood").fact("unit", unit.as_str()).fact("said", text))?;
        found.insert(unit, exposure);
    }
    match units.iter().find(|unit| !found.contains_key(*unit)) {
        Some(unit) => Err(fault("systemd-analyze said nothing of a unit").fact("unit", unit.as_str())),
        None => Ok(found),
    }
}

/// Reads the table with its weights. The sum must give the level that systemd prints itself, or it is not understood.
fn parse(text: &str) -> Option<Exposure> {
    let (mut points, mut of, mut open) = (0, 0, Vec::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        // ✓ NAME= DESCRIPTION … WEIGHT BADNESS RANGE [EXPOSURE]
        let Some(start) = words.iter().position(|word| word.contains('=')).filter(|start| *start <= 1) else { continue };
        let end =
            if words.last().is_some_and(|word| word.contains('.') && word.parse::<f64>().is_ok()) { words.len() - 1 } else { words.len() };
        let numbers: Vec<u64> = words.get(end.checked_sub(3)?..end)?.iter().filter_map(|word| word.parse().ok()).collect();
        let [weight, badness, range] = numbers[..] else { continue };
        // What does not apply to this service counts neither way.
        if badness > range || range == 0 {
            continue;
        }
        of += weight;
        let cost = (badness * weight).div_ceil(range);
        points += cost;
        if cost > 0 {
            open.push(Open { name: words[start].to_owned(), points: cost, about: words[start + 1..end - 3].join(" ") });
        }
    }
    open.sort_by(|a, b| b.points.cmp(&a.points).then(a.name.cmp(&b.name)));
    let tenths = (points * 100).checked_div(of).map(|_| (points * 100).div_ceil(of))?;
    let level = text.lines().find_map(|line| line.split("exposure level for ").nth(1)?.split_once(": ")?.1.split(' ').next())?;
    let (whole, tenth) = level.split_once('.')?;
    (whole.parse::<u64>().ok()? * 10 + tenth.parse::<u64>().ok()? == tenths).then_some(Exposure { points, of, tenths, open })
}

/// One service of one release, beside what is pinned.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// `bookworm`, …
    pub release: String,
    /// Its name.
    pub unit: String,
    /// What was measured.
    #[serde(flatten)]
    pub exposure: Exposure,
    /// What it may have; nothing if nobody said so.
    pub pinned: Option<u64>,
}

impl Row {
    /// Whether it has more than it may.
    pub fn risen(&self) -> bool {
        self.pinned.is_none_or(|pinned| self.exposure.points > pinned)
    }
}

/// Measures every service of ours in every release. `root` as for [`measure`].
pub fn survey(root: &Path, pins: &BTreeMap<String, BTreeMap<String, u64>>) -> Result<Vec<Row>> {
    let units: Vec<String> = SERVICES.iter().map(|service| format!("smolotchi-{service}.service")).collect();
    let mut rows = Vec::new();
    for release in Release::ALL {
        let mut measured = measure(*release, root, &units)?;
        for unit in &units {
            let release = release.to_string();
            let pinned = pins.get(&release).and_then(|pins| pins.get(unit)).copied();
            if let Some(exposure) = measured.remove(unit) {
                rows.push(Row { release, unit: unit.clone(), exposure, pinned });
            }
        }
    }
    Ok(rows)
}

/// The pinned points: release → unit → points. Lines `[release]` and `"unit" = points`.
pub fn pinned(text: &str) -> Result<BTreeMap<String, BTreeMap<String, u64>>> {
    toml::from_str(text).map_err(|error| Fault::new(Code::LabFailed, "the pinned points can't be read").cause(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  NAME                      DESCRIPTION                              WEIGHT BADNESS RANGE EXPOSURE
✓ PrivateNetwork=           Service has no access to the network       2500       0     1
✗ DeviceAllow=              Service has a device ACL                   1000       5    10      0.1
✗ RestrictAddressFamilies=~AF_UNIX  Service may allocate sockets         25       1     1      0.1
  RemoveIPC=                Service runs as root, option does not apply 100 18446744073709551615 1

→ Overall exposure level for smolotchi-x.service: 1.5 OK :-)
";

    #[test]
    fn the_sum_is_exact_and_must_agree_with_systemds_own() {
        let exposure = parse(TABLE).unwrap();
        assert_eq!((exposure.points, exposure.of, exposure.tenths), (525, 3525, 15));
        assert_eq!(
            exposure.open.iter().map(|open| (open.name.as_str(), open.points)).collect::<Vec<_>>(),
            [("DeviceAllow=", 500), ("RestrictAddressFamilies=~AF_UNIX", 25)]
        );
        assert_eq!(parse(&TABLE.replace(": 1.5", ": 1.4")), None, "another sum than systemd's");
        assert_eq!(parse(""), None);
    }
}
