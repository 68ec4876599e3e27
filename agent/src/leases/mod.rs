//! Who a process is, and whether the holder of a lease can still be there.
//!
//! Decided from facts (pure); the facts come from /proc and pidfd_open(2). What can't be known is never taken for stale.

use crate::clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use smolotchi_operator::{Code, Fault, Result};
use smolotchi_store::{Lease, Process};

/// This process, as the holder of leases.
pub(crate) fn this_process(role: &str) -> Result<Process> {
    let unknown = |what: &str| Fault::new(Code::Io, "this process can't say who it is").fact("missing", what);
    let pid = std::process::id();
    Ok(Process {
        role: role.to_owned(),
        pid,
        start_ticks: start_ticks(pid).ok_or_else(|| unknown("its start time"))?,
        boot_id: clock::boot_id().ok_or_else(|| unknown("the boot's id"))?,
    })
}

/// What the kernel says about a process number now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// There is no such process, or it has ended and waits for its parent to ask (a zombie).
    Gone,
    /// There is one, started at this time.
    Started(u64),
    /// There is one; when it was started is hidden (ProtectProc=).
    There,
}

/// Looks for a process.
pub(crate) fn look(pid: u32) -> Seen {
    match (has_ended(pid), start_ticks(pid)) {
        (true, _) => Seen::Gone,
        (false, Some(ticks)) => Seen::Started(ticks),
        (false, None) => Seen::There,
    }
}

/// What pidfd_open(2) says: a descriptor that can be read is one of a process that has ended, a zombie too. kill(2) and /proc know a
/// zombie as they know one that runs. What can't be asked for a descriptor is there.
fn has_ended(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return true };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(1),
        Err(error) => error == rustix::io::Errno::SRCH,
    }
}

/// Field 22 of proc_pid_stat(5).
fn start_ticks(pid: u32) -> Option<u64> {
    ticks_in(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn ticks_in(stat: &str) -> Option<u64> {
    // The second field is a name in brackets that may hold anything.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// Whether a lease's holder is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    /// It can't be there any more.
    pub(crate) gone: bool,
    /// Its time is over; whoever wants it may have it.
    pub(crate) over: bool,
    /// Why, in words.
    pub(crate) why: String,
}

/// Judges a lease by the boot, the boot's clock and what was seen of its process.
pub(crate) fn judge(lease: &Lease, boot_id: Option<&str>, boottime_ms: u64, seen: Seen) -> Judged {
    let Process { pid, start_ticks, boot_id: theirs, .. } = &lease.owner;
    let gone = |why: String| Judged { gone: true, over: true, why };
    if boot_id.is_some_and(|ours| ours != theirs) {
        return gone("the machine was started again since".to_owned());
    }
    match seen {
        Seen::Gone => return gone(format!("process {pid} is gone")),
        Seen::Started(ticks) if ticks != *start_ticks => return gone(format!("process {pid} is another one now")),
        _ => {}
    }
    let over = boottime_ms >= lease.expires_boottime_ms;
    let seconds = boottime_ms.abs_diff(lease.expires_boottime_ms) / 1000;
    let why = if over {
        format!("process {pid} is there, but did not renew it; it ended {} ago", clock::span(seconds))
    } else {
        format!("process {pid} is there; it ends in {} unless renewed", clock::span(seconds))
    };
    Judged { gone: false, over, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        let owner = Process { role: "ai".into(), pid: 7, start_ticks: 100, boot_id: "b".into() };
        Lease { name: "job/1".into(), owner, token: "t".into(), taken_ms: 0, expires_boottime_ms: 5000 }
    }

    #[test]
    fn only_what_can_not_be_there_is_gone() {
        let cases = [
            (Some("b"), 4999, Seen::Started(100), false, false, "ends in 0 s"),
            (Some("b"), 4999, Seen::There, false, false, "ends in 0 s"),
            (Some("b"), 65_000, Seen::Started(100), false, true, "ended 1 min ago"),
            (Some("b"), 5000, Seen::There, false, true, "did not renew"),
            (Some("b"), 0, Seen::Gone, true, true, "process 7 is gone"),
            (Some("b"), 0, Seen::Started(101), true, true, "another one"),
            (Some("c"), 0, Seen::Started(100), true, true, "started again"),
            // Who doesn't know the boot can't say that it is another one.
            (None, 0, Seen::There, false, false, "ends in 5 s"),
            (None, 0, Seen::Gone, true, true, "gone"),
        ];
        for (boot, now, seen, gone, over, why) in cases {
            let judged = judge(&lease(), boot, now, seen);
            assert_eq!((judged.gone, judged.over), (gone, over), "{boot:?} {now} {seen:?}");
            assert!(judged.why.contains(why), "{judged:?}");
        }
    }

    #[test]
    fn a_name_can_not_pretend() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
        assert_eq!(ticks_in(&format!("7 (a) S 1 (b) {tail}")), Some(4242));
        assert_eq!(ticks_in("7 (a) S 1"), None);
        assert_eq!(ticks_in(""), None);
    }

    #[test]
    fn a_real_process_is_seen_and_then_gone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        assert!(matches!(look(pid), Seen::Started(ticks) if ticks > 0));
        child.kill().unwrap();
        // It ends, and stays a zombie: its parent only looks.
        let ended = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(Pid::from_child(&child)), ended).unwrap();
        assert!(start_ticks(pid).is_some(), "the kernel still shows it");
        assert_eq!(look(pid), Seen::Gone);
        child.wait().unwrap();
        assert_eq!(look(pid), Seen::Gone);
        assert_eq!(look(0), Seen::Gone);
        let this = this_process("test").unwrap();
        assert_eq!(look(this.pid), Seen::Started(this.start_ticks));
    }
}
