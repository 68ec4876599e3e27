//! The exposure of each service in exact points, by the systemd of each Debian, over unit files alone: nothing is booted.
//!
//! `systemd-analyze security` runs in the base of the release, with `--offline=true --root=` on a folder that holds our units and nothing else:
//! by path it would mix in the units of whoever builds. No policy file is read, so none can weaken it. What it prints is read by
//! `smolotchi_operator::exposure`.

use crate::program::{self, Input};
use crate::sandbox::SERVICES;
use crate::{Base, Output, Release, fault};
use serde::Serialize;
use smolotchi_operator::exposure::{Exposure, Held, Pins, parse};
use smolotchi_operator::{Code, Fault, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

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
done"#;

/// The exposure of these units, by the systemd of a release. `root` holds `usr/lib/systemd/system` with the units.
pub fn measure(release: Release, root: &Path, units: &[String]) -> Result<BTreeMap<String, Exposure>> {
    let base = Base::ensure(release)?;
    // Of this call alone: whoever takes a folder away takes away what another one has mounted on it, too.
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let scratch = Path::new("/run").join(format!("smolotchi-gate-{}-{call}", std::process::id()));
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

/// One service as one release's systemd has it, beside what it may have.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// `bookworm`, …
    pub release: String,
    /// The service.
    #[serde(flatten)]
    pub held: Held,
}

/// Measures every service of ours in every release. `root` as for [`measure`].
pub fn survey(root: &Path, pins: &Pins) -> Result<Vec<Row>> {
    let units: Vec<String> = SERVICES.iter().map(|service| format!("smolotchi-{service}.service")).collect();
    let mut rows = Vec::new();
    for release in Release::ALL {
        let measured = measure(*release, root, &units)?;
        rows.extend(measured.into_iter().map(|(unit, exposure)| Row { release: release.to_string(), held: pins.hold(&unit, exposure) }));
    }
    Ok(rows)
}

/// Reads `systemd/exposure.toml`.
pub fn pinned(text: &str) -> Result<Pins> {
    toml::from_str(text).map_err(|error| Fault::new(Code::LabFailed, "the thresholds can't be read").cause(&error))
}
