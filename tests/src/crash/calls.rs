//! The system calls that change files, and how to tell which file: the table that the tracer's filter is made of.
//!
//! Reads nothing but the traced process's own memory and descriptors under /proc. What isn't on the node's disk (pipes,
//! sockets, terminals, and every mount but the root: /proc, /sys, /dev, /run, /tmp) can't survive a power cut and isn't an
//! event. Writes through a shared memory mapping are no system calls and are not seen; the kernel writes them when it
//! wants, which is what the power suite covers.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

/// Where the file of a call is named: argument numbers.
#[derive(Debug, Clone, Copy)]
enum Named {
    /// An open descriptor.
    Fd(usize),
    /// A path, relative to the working directory.
    Path(usize),
    /// A path, relative to an open folder.
    At(usize, usize),
    /// Two paths.
    Paths(usize, usize),
    /// Two paths, each with its folder.
    PathsAt(usize, usize, usize, usize),
    /// The second path only: the first is a text.
    PathAfter(usize),
    /// The whole file system.
    All,
}

/// When a call changes something.
#[derive(Debug, Clone, Copy)]
enum When {
    Always,
    /// The flags in this argument hold O_CREAT, O_TRUNC or a part of O_TMPFILE.
    Making(usize),
}

struct Call {
    number: libc::c_long,
    name: &'static str,
    named: Named,
    when: When,
}

const fn call(number: libc::c_long, name: &'static str, named: Named) -> Call {
    Call { number, name, named, when: When::Always }
}

const CALLS: &[Call] = &[
    call(libc::SYS_write, "write", Named::Fd(0)),
    call(libc::SYS_pwrite64, "pwrite", Named::Fd(0)),
    call(libc::SYS_writev, "writev", Named::Fd(0)),
    call(libc::SYS_pwritev, "pwritev", Named::Fd(0)),
    call(libc::SYS_pwritev2, "pwritev2", Named::Fd(0)),
    call(libc::SYS_sendfile, "sendfile", Named::Fd(0)),
    call(libc::SYS_splice, "splice", Named::Fd(2)),
    call(libc::SYS_copy_file_range, "copy_file_range", Named::Fd(2)),
    call(libc::SYS_ftruncate, "ftruncate", Named::Fd(0)),
    call(libc::SYS_fallocate, "fallocate", Named::Fd(0)),
    call(libc::SYS_fchmod, "fchmod", Named::Fd(0)),
    call(libc::SYS_fchown, "fchown", Named::Fd(0)),
    call(libc::SYS_fsetxattr, "fsetxattr", Named::Fd(0)),
    call(libc::SYS_fremovexattr, "fremovexattr", Named::Fd(0)),
    call(libc::SYS_fsync, "fsync", Named::Fd(0)),
    call(libc::SYS_fdatasync, "fdatasync", Named::Fd(0)),
    call(libc::SYS_sync_file_range, "sync_file_range", Named::Fd(0)),
    call(libc::SYS_syncfs, "syncfs", Named::Fd(0)),
    call(libc::SYS_sync, "sync", Named::All),
    call(libc::SYS_truncate, "truncate", Named::Path(0)),
    call(libc::SYS_setxattr, "setxattr", Named::Path(0)),
    call(libc::SYS_lsetxattr, "lsetxattr", Named::Path(0)),
    call(libc::SYS_removexattr, "removexattr", Named::Path(0)),
    call(libc::SYS_lremovexattr, "lremovexattr", Named::Path(0)),
    call(libc::SYS_mkdirat, "mkdir", Named::At(0, 1)),
    call(libc::SYS_mknodat, "mknod", Named::At(0, 1)),
    call(libc::SYS_unlinkat, "unlink", Named::At(0, 1)),
    call(libc::SYS_symlinkat, "symlink", Named::At(1, 2)),
    call(libc::SYS_linkat, "link", Named::PathsAt(0, 1, 2, 3)),
    call(libc::SYS_renameat2, "rename", Named::PathsAt(0, 1, 2, 3)),
    call(libc::SYS_fchmodat, "chmod", Named::At(0, 1)),
    call(libc::SYS_fchmodat2, "chmod", Named::At(0, 1)),
    call(libc::SYS_fchownat, "chown", Named::At(0, 1)),
    call(libc::SYS_utimensat, "utimens", Named::At(0, 1)),
    Call { number: libc::SYS_openat, name: "open", named: Named::At(0, 1), when: When::Making(2) },
    // Its flags are behind a pointer, which a filter can't follow: every one counts.
    call(libc::SYS_openat2, "open", Named::At(0, 1)),
];

/// The older names of the same calls, which not every architecture has.
#[cfg(target_arch = "x86_64")]
const OLDER: &[Call] = &[
    call(libc::SYS_renameat, "rename", Named::PathsAt(0, 1, 2, 3)),
    call(libc::SYS_rename, "rename", Named::Paths(0, 1)),
    call(libc::SYS_link, "link", Named::Paths(0, 1)),
    call(libc::SYS_symlink, "symlink", Named::PathAfter(1)),
    call(libc::SYS_unlink, "unlink", Named::Path(0)),
    call(libc::SYS_mkdir, "mkdir", Named::Path(0)),
    call(libc::SYS_rmdir, "rmdir", Named::Path(0)),
    call(libc::SYS_mknod, "mknod", Named::Path(0)),
    call(libc::SYS_creat, "open", Named::Path(0)),
    call(libc::SYS_chmod, "chmod", Named::Path(0)),
    call(libc::SYS_chown, "chown", Named::Path(0)),
    call(libc::SYS_lchown, "chown", Named::Path(0)),
    call(libc::SYS_utime, "utimens", Named::Path(0)),
    call(libc::SYS_utimes, "utimens", Named::Path(0)),
    call(libc::SYS_futimesat, "utimens", Named::At(0, 1)),
    Call { number: libc::SYS_open, name: "open", named: Named::Path(0), when: When::Making(1) },
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[Call] = &[];

fn all() -> impl Iterator<Item = &'static Call> {
    CALLS.iter().chain(OLDER)
}

/// The filter that stops a process at each of them and at nothing else.
pub(super) fn filter() -> Result<seccompiler::BpfProgram, seccompiler::BackendError> {
    use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};
    let mut rules = BTreeMap::new();
    for call in all() {
        let list = match call.when {
            When::Always => Vec::new(),
            When::Making(argument) => {
                let own_tmpfile = libc::O_TMPFILE & !libc::O_DIRECTORY;
                let mut list = Vec::new();
                for flag in [libc::O_CREAT, libc::O_TRUNC, own_tmpfile] {
                    let flag = u64::from(flag.unsigned_abs());
                    let argument = u8::try_from(argument).unwrap_or_default();
                    list.push(SeccompRule::new(vec![SeccompCondition::new(
                        argument,
                        SeccompCmpArgLen::Dword,
                        SeccompCmpOp::MaskedEq(flag),
                        flag,
                    )?])?);
                }
                list
            }
        };
        rules.insert(call.number, list);
    }
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Trace(0), architecture)?.try_into()
}

/// The mounts that aren't the disk, as the tracer sees them.
#[derive(Debug)]
pub(super) struct Disk {
    elsewhere: Vec<String>,
}

/// What one stopped call is about to do.
#[derive(Debug)]
pub(super) struct What {
    pub(super) call: &'static str,
    pub(super) path: String,
    pub(super) to: Option<String>,
}

impl Disk {
    /// Reads which mounts there are.
    pub(super) fn look() -> std::io::Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let points = mounts.lines().filter_map(|line| line.split_whitespace().nth(1)).filter(|point| *point != "/");
        Ok(Disk { elsewhere: points.map(|point| format!("{point}/")).collect() })
    }

    fn holds(&self, path: &str) -> bool {
        path.starts_with('/') && !self.elsewhere.iter().any(|point| path.starts_with(point) || *point == format!("{path}/"))
    }

    /// What process `pid` is about to do with this call; nothing when it isn't about the disk.
    pub(super) fn what(&self, pid: i32, number: libc::c_long, arguments: [u64; 6]) -> Option<What> {
        let call = all().find(|call| call.number == number)?;
        let text = |at: usize| text_at(pid, arguments[at]);
        let from = |folder: Option<usize>, path: String| match folder.map(|at| arguments[at] as i32) {
            _ if path.starts_with('/') => path,
            Some(fd) if fd != libc::AT_FDCWD => join(&link(pid, &format!("fd/{fd}")), &path),
            _ => join(&link(pid, "cwd"), &path),
        };
        let (path, to) = match call.named {
            Named::Fd(at) => (link(pid, &format!("fd/{}", arguments[at] as i32)), None),
            Named::Path(at) | Named::PathAfter(at) => (from(None, text(at)), None),
            Named::At(folder, at) => (from(Some(folder), text(at)), None),
            Named::Paths(a, b) => (from(None, text(a)), Some(from(None, text(b)))),
            Named::PathsAt(fa, a, fb, b) => (from(Some(fa), text(a)), Some(from(Some(fb), text(b)))),
            Named::All => ("/".to_owned(), None),
        };
        let about = self.holds(&path) || to.as_ref().is_some_and(|to| self.holds(to));
        about.then_some(What { call: call.name, path, to })
    }
}

/// An empty path means the folder itself (AT_EMPTY_PATH, and utimensat on a descriptor).
fn join(folder: &str, path: &str) -> String {
    match path {
        "" => folder.to_owned(),
        _ => format!("{}/{path}", folder.trim_end_matches('/')),
    }
}

fn link(pid: i32, name: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/{name}")).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

fn text_at(pid: i32, address: u64) -> String {
    let Ok(memory) = std::fs::File::open(format!("/proc/{pid}/mem")) else { return String::new() };
    let mut text = Vec::new();
    let mut address = address;
    // A page at a time: the next one may not be mapped.
    while text.len() < 4096 && address != 0 {
        let mut page = vec![0; 4096 - (address % 4096) as usize];
        let Ok(count @ 1..) = memory.read_at(&mut page, address) else { break };
        let end = page[..count].iter().position(|byte| *byte == 0);
        text.extend_from_slice(&page[..end.unwrap_or(count)]);
        if end.is_some() {
            break;
        }
        address += count as u64;
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_disk_counts() {
        let disk = Disk { elsewhere: vec!["/proc/".into(), "/run/".into()] };
        for (path, held) in [
            ("/var/lib/dpkg/status", true),
            ("/runner", true),
            ("/run", false),
            ("/run/lock/x", false),
            ("pipe:[123]", false),
            ("socket:[9]", false),
            ("", false),
        ] {
            assert_eq!(disk.holds(path), held, "{path}");
        }
    }

    #[test]
    fn every_number_stands_once_and_the_filter_compiles() {
        let mut numbers: Vec<_> = all().map(|call| call.number).collect();
        numbers.sort_unstable();
        let count = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
        assert!(filter().unwrap().len() > count);
    }
}
