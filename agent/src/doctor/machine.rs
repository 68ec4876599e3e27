//! Parts `disk` and `clock`: room, inodes, whether it can be written, and whether the time is right.

use super::{Check, State, ask_here};
use crate::clock;
use crate::paths::Paths;
use rustix::fs::StatVfsMountFlags;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Below this a clock was never set: no release is older.
const FIRST_RELEASE_MS: i64 = 1_735_689_600_000;

/// What statvfs(3) says, in parts.
#[derive(Debug, Clone, Copy)]
struct Room {
    free: u64,
    total: u64,
    free_inodes: u64,
    inodes: u64,
    read_only: bool,
}

pub(super) fn look(paths: &Paths) -> Vec<Check> {
    let folders = [paths.state(), paths.root().join("var/lib/smolotchi-install"), paths.root().join("usr")];
    let mut checks: Vec<_> = match paths.root() == Path::new("/") {
        true => {
            let mut seen = std::collections::BTreeSet::new();
            let device = |folder: &PathBuf| std::fs::metadata(folder).map(|meta| meta.dev()).ok();
            folders.iter().filter(|folder| device(folder).is_some_and(|device| seen.insert(device))).map(|folder| disk(folder)).collect()
        }
        false => vec![Check::unknown("disk", "room", "below another root it is another machine's")],
    };
    let synchronised = ask_here(paths, "timedatectl", &["show", "--property=NTPSynchronized", "--value"]);
    checks.push(time(clock::now_ms(), synchronised.as_deref().map(str::trim)));
    checks
}

fn disk(folder: &Path) -> Check {
    match rustix::fs::statvfs(folder) {
        Ok(stat) => {
            let read_only = stat.f_flag.contains(StatVfsMountFlags::RDONLY);
            let (free, total) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
            judge(folder, Room { free, total, free_inodes: stat.f_favail, inodes: stat.f_files, read_only })
        }
        Err(error) => Check::unknown("disk", folder.display().to_string(), error.to_string()),
    }
}

fn judge(folder: &Path, room: Room) -> Check {
    let percent = |part: u64, whole: u64| (part.saturating_mul(100)).checked_div(whole);
    let mib = room.free / (1024 * 1024);
    let space = percent(room.free, room.total).unwrap_or(0);
    // Some file systems make inodes as they need them and say 0.
    let inodes = percent(room.free_inodes, room.inodes).unwrap_or(100);
    let detail = format!("{mib} MiB free ({space} %), {inodes} % of the inodes");
    let check = |state, detail| Check::new("disk", folder.display().to_string(), state, detail);
    if room.read_only {
        return check(State::Failed, format!("can't be written; {detail}")).hint("see why: dmesg | tail; findmnt -no OPTIONS -T /var/lib");
    }
    let room = "make room: apt-get clean, journalctl --vacuum-size=20M, smolotchi prune; df -h, df -i";
    // A tenth of a large disk is room enough.
    match (mib, space, inodes) {
        (0..16, ..) | (_, _, 0..2) => check(State::Failed, detail).hint(room),
        (..1024, ..10, _) | (_, _, ..10) => check(State::Warning, detail).hint(room),
        _ => check(State::Ok, detail),
    }
}

fn time(now_ms: i64, synchronised: Result<&str, &String>) -> Check {
    let now = clock::rfc3339(now_ms);
    if now_ms < FIRST_RELEASE_MS {
        return Check::new("clock", "time", State::Failed, format!("{now}: it was never set"))
            .hint("date -s 'YYYY-MM-DD HH:MM:SS', or let systemd-timesyncd ask the network: timedatectl set-ntp true");
    }
    match synchronised {
        Ok("yes") => Check::ok("clock", "time", format!("{now}, synchronised")),
        Ok("no") => Check::new("clock", "time", State::Warning, format!("{now}, not synchronised"))
            .hint("offline that is as it is: compare with a watch; online: timedatectl set-ntp true"),
        Ok(other) => Check::unknown("clock", "time", format!("{now}; timedatectl says {other:?}")),
        Err(why) => Check::unknown("clock", "time", format!("{now}; {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_and_time_are_judged() {
        let room = Room { free: 1 << 30, total: 4 << 30, free_inodes: 50, inodes: 100, read_only: false };
        let cases = [
            (room, State::Ok),
            (Room { free: 15 << 20, ..room }, State::Failed),
            (Room { free: 300 << 20, ..room }, State::Warning),
            (Room { free: 300 << 20, total: 1 << 30, ..room }, State::Ok),
            (Room { free: 18 << 30, total: 256 << 30, ..room }, State::Ok),
            (Room { free_inodes: 5, ..room }, State::Warning),
            (Room { free_inodes: 0, ..room }, State::Failed),
            (Room { free_inodes: 0, inodes: 0, ..room }, State::Ok),
            (Room { read_only: true, ..room }, State::Failed),
        ];
        for (room, state) in cases {
            assert_eq!(judge(Path::new("/x"), room).state, state, "{room:?}");
        }
        let none = "no timedatectl".to_owned();
        let now = FIRST_RELEASE_MS;
        let cases = [
            (now, Ok("yes"), State::Ok),
            (now, Ok("no"), State::Warning),
            (now, Ok(""), State::Unknown),
            (now, Err(&none), State::Unknown),
            (5_000, Ok("yes"), State::Failed),
        ];
        for (now, synchronised, state) in cases {
            assert_eq!(time(now, synchronised).state, state, "{now} {synchronised:?}");
        }
    }
}
