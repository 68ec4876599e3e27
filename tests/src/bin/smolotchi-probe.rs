//! Tries to get out of the sandbox that it runs in, and says of each attempt whether it was refused.
//!
//! `tests/suites/hardening.rs` puts it in the place of `/usr/bin/smolotchi` on a node, so that each service's own unit starts it. One line an
//! attempt on standard output: `probe NAME open|refused DETAIL`, at the end `probe-end COUNT`. Harmless where it succeeds: nothing is set to
//! another value, and what takes arguments gets ones that the kernel refuses once it has looked at who asks.
//!
//! `smolotchi-probe leak` takes memory instead, until it is refused or killed: `leak MIB` every fourth MiB. `tests/suites/runtime.rs` uses it.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Error, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::Path;

/// What came of an attempt.
enum Came {
    /// It did what it wanted, or was refused for another reason than who asked.
    Open(String),
    /// It was kept from it.
    Refused(String),
}

type Attempt = (&'static str, fn() -> Came);

fn main() {
    ready();
    if std::env::args().nth(1).is_some_and(|what| what == "leak") {
        leak();
    }
    let mut count = 0;
    for (name, attempt) in ATTEMPTS {
        count += 1;
        match attempt() {
            Came::Open(detail) => println!("probe {name} open {detail}"),
            Came::Refused(detail) => println!("probe {name} refused {detail}"),
        }
    }
    println!("probe-end {count}");
    let _ = std::io::stdout().flush();
}

/// Ends as any program of ours that gets no memory: by an abort. Where nothing refuses it, it stays with what it has.
fn leak() -> ! {
    /// More than any service may have.
    const MOST: usize = 400;
    let mut held = Vec::new();
    loop {
        if held.len() < MOST {
            // Written to, or it would cost nothing.
            held.push(vec![1_u8; 1 << 20]);
            if held.len() % 4 == 0 {
                println!("leak {}", held.len());
            }
        } else {
            std::thread::park();
        }
    }
}

/// Services of the type notify are killed unless they say that they are ready.
fn ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.send_to(b"READY=1", Path::new(&path));
    }
}

/// The kernel's numbers of refusing somebody, or of not having what it is asked for.
fn refuses(errno: i32) -> bool {
    [libc::EPERM, libc::EACCES, libc::EROFS, libc::ENOSYS, libc::EAFNOSUPPORT, libc::EOPNOTSUPP].contains(&errno)
}

fn errno() -> i32 {
    Error::last_os_error().raw_os_error().unwrap_or_default()
}

/// Of a call that returns -1 and errno.
fn call(returned: i64) -> Came {
    if returned >= 0 {
        return Came::Open("done".to_owned());
    }
    told(errno())
}

fn told(number: i32) -> Came {
    let text = Error::from_raw_os_error(number).to_string();
    if refuses(number) { Came::Refused(text) } else { Came::Open(format!("reached: {text}")) }
}

/// Of something with a path: what can't be seen is refused as well.
fn path(result: std::io::Result<String>) -> Came {
    match result {
        Ok(text) => Came::Open(text),
        Err(error) => {
            let number = error.raw_os_error().unwrap_or_default();
            if refuses(number) || [libc::ENOENT, libc::ENXIO, libc::ENODEV, libc::ENOTDIR, libc::ECONNREFUSED].contains(&number) {
                Came::Refused(error.to_string())
            } else {
                Came::Open(format!("reached: {error}"))
            }
        }
    }
}

fn create(name: &str) -> Came {
    let file = format!("{name}/.probe-{}", std::process::id());
    let made = File::create(&file).map(|_| {
        let _ = std::fs::remove_file(&file);
        "made a file".to_owned()
    });
    path(made)
}

/// Opens and writes nothing.
fn open_to_write(name: &str) -> Came {
    path(OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(name).map(|_| "opened".to_owned()))
}

fn open_to_read(name: &str) -> Came {
    path(OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(name).map(|_| "opened".to_owned()))
}

fn read(name: &str) -> Came {
    let mut buffer = [0; 64];
    match File::open(name).and_then(|mut file| file.read(&mut buffer)) {
        // What stands where another service's sandbox has a file.
        Ok(0) => Came::Refused("nothing is in it".to_owned()),
        other => path(other.map(|count| format!("read {count} bytes"))),
    }
}

fn list(name: &str) -> Came {
    path(std::fs::read_dir(name).map(|entries| format!("{} entries", entries.count())))
}

fn connect(name: &str) -> Came {
    path(UnixStream::connect(name).map(|_| "connected".to_owned()))
}

#[allow(unsafe_code, reason = "these are the calls that are tried")]
mod raw {
    use super::*;
    use std::sync::atomic::{AtomicI32, Ordering};

    pub(super) fn syscall(number: i64, a: usize, b: usize, c: usize, d: usize, e: usize) -> i64 {
        unsafe { libc::syscall(number, a, b, c, d, e, 0_usize) }
    }

    pub(super) fn socket(family: i32, kind: i32, protocol: i32) -> Came {
        let fd = unsafe { libc::socket(family, kind, protocol) };
        if fd >= 0 {
            unsafe { libc::close(fd) };
        }
        // A family that this kernel doesn't have says the same as one that is refused.
        call(i64::from(fd))
    }

    /// Sends a frame that is nobody's over loopback: by its address, and then tied to the interface.
    pub(super) fn send_frame() -> Came {
        let protocol = 0x0806_u16.to_be();
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(protocol)) };
        if fd < 0 {
            return told(errno());
        }
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        (to.sll_family, to.sll_protocol, to.sll_ifindex) = (libc::AF_PACKET as u16, protocol, 1);
        let (frame, size) = ([0_u8; 64], size_of::<libc::sockaddr_ll>() as u32);
        let (at, address) = (frame.as_ptr().cast::<libc::c_void>(), std::ptr::from_ref(&to).cast::<libc::sockaddr>());
        let sent = unsafe {
            libc::sendto(fd, at, frame.len(), 0, address, size) >= 0
                || libc::write(fd, at, frame.len()) >= 0
                || libc::bind(fd, address, size) == 0 && libc::write(fd, at, frame.len()) >= 0
        };
        let last = errno();
        unsafe { libc::close(fd) };
        if sent {
            Came::Open("sent".to_owned())
        } else {
            Came::Refused(format!("the socket can't send: {}", Error::from_raw_os_error(last)))
        }
    }

    /// In a child, because it changes the one who asks.
    pub(super) fn apart(attempt: fn() -> Came) -> Came {
        let mut ends = [0; 2];
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Came::Refused("no pipe".to_owned());
        }
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if child == 0 {
            let (mark, text) = match attempt() {
                Came::Open(text) => (b'o', text),
                Came::Refused(text) => (b'r', text),
            };
            let mut line = vec![mark];
            line.extend_from_slice(text.as_bytes());
            unsafe {
                libc::write(ends[1], line.as_ptr().cast(), line.len());
                libc::_exit(0);
            }
        }
        unsafe { libc::close(ends[1]) };
        let mut buffer = [0_u8; 200];
        let count = unsafe { libc::read(ends[0], buffer.as_mut_ptr().cast(), buffer.len()) };
        unsafe { libc::close(ends[0]) };
        if child < 0 {
            return call(child);
        }
        let count = usize::try_from(count).unwrap_or_default();
        match buffer.first() {
            Some(b'o') if count > 0 => Came::Open(String::from_utf8_lossy(&buffer[1..count]).into_owned()),
            Some(b'r') if count > 0 => Came::Refused(String::from_utf8_lossy(&buffer[1..count]).into_owned()),
            _ => Came::Refused("the attempt was killed".to_owned()),
        }
    }

    pub(super) fn unshare(flag: i32) -> Came {
        // In a process of its own: a namespace that was got stays.
        FLAG.store(flag, Ordering::SeqCst);
        apart(|| call(i64::from(unsafe { libc::unshare(FLAG.load(Ordering::SeqCst)) })))
    }

    static FLAG: AtomicI32 = AtomicI32::new(0);

    pub(super) fn map(protection: i32) -> Came {
        let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
        if at == libc::MAP_FAILED { told(errno()) } else { Came::Open("mapped".to_owned()) }
    }

    pub(super) fn make_executable() -> Came {
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        if at == libc::MAP_FAILED {
            return told(errno());
        }
        call(i64::from(unsafe { libc::mprotect(at, 4096, libc::PROT_READ | libc::PROT_EXEC) }))
    }

    pub(super) fn map_file(file: &File) -> Came {
        use std::os::fd::AsRawFd;
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED { told(errno()) } else { Came::Open("mapped".to_owned()) }
    }

    /// What exec says in a child. The parent may not be allowed to wait for it: a pipe that exec closes tells instead.
    pub(super) fn execute(program: &str) -> Came {
        let Ok(name) = CString::new(program) else { return Came::Refused("no name".to_owned()) };
        let words = [name.as_ptr(), c"--version".as_ptr(), std::ptr::null()];
        let mut ends = [0; 2];
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return told(errno());
        }
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if child == 0 {
            unsafe {
                // What it prints is nobody's business.
                libc::close(1);
                libc::execv(name.as_ptr(), words.as_ptr());
                let number = errno().to_ne_bytes();
                libc::write(ends[1], number.as_ptr().cast(), number.len());
                libc::_exit(0);
            }
        }
        unsafe { libc::close(ends[1]) };
        let mut number = [0_u8; 4];
        let count = unsafe { libc::read(ends[0], number.as_mut_ptr().cast(), number.len()) };
        unsafe { libc::close(ends[0]) };
        match (child, count) {
            (..0, _) => call(child),
            (_, 4) => path(Err(Error::from_raw_os_error(i32::from_ne_bytes(number)))),
            _ => Came::Open("it runs".to_owned()),
        }
    }
}

use raw::{apart, syscall};

const BOGUS: usize = 1 << 46;

fn sys(number: i64, a: usize, b: usize, c: usize, d: usize) -> Came {
    call(syscall(number, a, b, c, d, 0))
}

/// Where this service may write, if anywhere.
fn writable() -> Option<String> {
    let own = |name: &str| std::env::var(name).ok();
    let places = [own("STATE_DIRECTORY"), own("RUNTIME_DIRECTORY"), Some("/tmp".to_owned()), Some("/var/tmp".to_owned())];
    places.into_iter().flatten().find(|place| matches!(create(place), Came::Open(_)))
}

fn with_own_file(attempt: fn(&str) -> Came) -> Came {
    let Some(folder) = writable() else { return Came::Refused("there is no place to write".to_owned()) };
    let file = format!("{folder}/.probe-own");
    let made = std::fs::write(&file, b"#!/bin/true\n").and_then(|()| std::fs::set_permissions(&file, PermissionsExt::from_mode(0o700)));
    let came = match made {
        Ok(()) => attempt(&file),
        Err(error) => path(Err(error)),
    };
    let _ = std::fs::remove_file(&file);
    came
}

fn in_each_place(attempt: fn(&str) -> Came) -> Came {
    let own = |name: &str| std::env::var(name).ok();
    let mut last = Came::Refused("there is no place to write".to_owned());
    for place in [own("STATE_DIRECTORY"), own("RUNTIME_DIRECTORY"), Some("/tmp".into()), Some("/var/tmp".into()), Some("/dev/shm".into())] {
        let Some(place) = place else { continue };
        let file = format!("{place}/.probe-own");
        if std::fs::write(&file, PROGRAM).is_err() {
            continue;
        }
        let _ = std::fs::set_permissions(&file, PermissionsExt::from_mode(0o700));
        last = attempt(&file);
        let _ = std::fs::remove_file(&file);
        if matches!(last, Came::Open(_)) {
            return last;
        }
    }
    last
}

/// Not a program: what the kernel says after it has looked at the mount is that it doesn't know the format.
const PROGRAM: &[u8] = b"\x7fnot a program\n";

/// What is tried, by name. The suite knows by the names what a service needs and which directive stands against it.
const ATTEMPTS: &[Attempt] = &[
    // Writing elsewhere.
    ("write-etc", || create("/etc")),
    ("write-usr-bin", || create("/usr/bin")),
    ("write-usr-lib", || create("/usr/lib")),
    ("write-var-lib", || create("/var/lib")),
    ("write-var-log", || create("/var/log")),
    ("write-root-home", || create("/root")),
    ("write-home", || create("/home")),
    ("write-boot", || create("/boot")),
    ("write-run", || create("/run")),
    ("write-srv", || create("/srv")),
    ("write-opt", || create("/opt")),
    ("write-units", || create("/etc/systemd/system")),
    ("write-runtime-units", || create("/run/systemd/system")),
    ("write-cron", || create("/etc/cron.d")),
    ("write-settings", || create("/etc/smolotchi/config.d")),
    ("write-shared-memory", || create("/dev/shm")),
    ("write-dev", || create("/dev")),
    ("write-program", || open_to_write("/usr/bin/smolotchi")),
    ("write-sysctl", || open_to_write("/proc/sys/kernel/core_pattern")),
    ("write-sysrq", || open_to_write("/proc/sysrq-trigger")),
    ("write-sysfs", || open_to_write("/sys/kernel/mm/transparent_hugepage/enabled")),
    ("write-cgroup", || open_to_write("/sys/fs/cgroup/cgroup.procs")),
    ("lower-oom-score", || {
        let score = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default().trim().parse::<i32>().unwrap_or_default();
        path(std::fs::write("/proc/self/oom_score_adj", (score - 1).to_string()).map(|()| "lowered".to_owned()))
    }),
    ("shared-tmp", || read("/tmp/probe-planted")),
    ("shared-var-tmp", || read("/var/tmp/probe-planted")),
    ("make-suid-file", || {
        with_own_file(|file| path(std::fs::set_permissions(file, PermissionsExt::from_mode(0o4755)).map(|()| "made".to_owned())))
    }),
    ("give-file-away", || with_own_file(|file| path(std::os::unix::fs::chown(file, Some(1), Some(1)).map(|()| "given".to_owned())))),
    ("make-device", || {
        with_own_file(|file| {
            let Ok(name) = CString::new(format!("{file}-device")) else { return Came::Refused("no name".to_owned()) };
            let came = sys(libc::SYS_mknodat, libc::AT_FDCWD as usize, name.as_ptr() as usize, (libc::S_IFCHR | 0o600) as usize, 0x0103);
            let _ = std::fs::remove_file(format!("{file}-device"));
            came
        })
    }),
    // Reading what is others'.
    ("read-shadow", || read("/etc/shadow")),
    ("read-users", || read("/etc/passwd")),
    ("read-ssh-key", || read("/etc/ssh/probe_planted_key")),
    ("read-database", || read("/var/lib/smolotchi/smolotchi.db")),
    ("read-others-state", || read("/var/lib/probe-planted")),
    ("read-root-home", || read("/root/probe-planted")),
    ("read-home", || read("/home/probe-planted")),
    ("read-journal", || list("/var/log/journal")),
    ("read-machine-id", || read("/etc/machine-id")),
    ("read-etc", || list("/etc/ssh")),
    ("read-packages", || read("/var/lib/dpkg/status")),
    ("read-credentials", || list("/run/credentials")),
    ("see-processes", || path(std::fs::metadata("/proc/1").map(|_| "pid 1 is there".to_owned()))),
    ("read-environment", || read("/proc/1/environ")),
    ("read-kernel-memory", || open_to_read("/proc/kcore")),
    ("read-kernel-symbols", || {
        let text = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
        let told = text.lines().take(2000).any(|line| !line.starts_with("0000000000000000"));
        if told { Came::Open("addresses".to_owned()) } else { Came::Refused("no addresses".to_owned()) }
    }),
    ("read-kernel-log", || open_to_read("/dev/kmsg")),
    ("syslog", || sys(libc::SYS_syslog, 10, 0, 0, 0)),
    ("read-proc", || read("/proc/meminfo")),
    ("read-sysfs", || list("/sys/class")),
    ("list-sysctl", || read("/proc/sys/kernel/osrelease")),
    // Devices.
    ("device-tty", || open_to_read("/dev/ptmx")),
    ("device-console", || open_to_write("/dev/console")),
    ("device-tun", || open_to_read("/dev/net/tun")),
    ("device-fuse", || open_to_read("/dev/fuse")),
    // More privileges.
    ("become-root", || apart(|| sys(libc::SYS_setuid, 0, 0, 0, 0))),
    ("become-another", || apart(|| sys(libc::SYS_setresuid, 1, 1, 1, 0))),
    ("root-group", || apart(|| sys(libc::SYS_setgid, 0, 0, 0, 0))),
    ("more-groups", || apart(|| sys(libc::SYS_setgroups, 0, 0, 0, 0))),
    ("capabilities", || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = |name: &str| {
            let text = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or(":ffff").trim_start_matches(':').trim().to_owned();
            u64::from_str_radix(&text, 16).unwrap_or(u64::MAX)
        };
        let all = ["CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh"].map(mask);
        if all == [0; 5] { Came::Refused("it has none".to_owned()) } else { Came::Open(format!("{all:x?}")) }
    }),
    ("keep-capabilities", || sys(libc::SYS_prctl, libc::PR_CAP_AMBIENT as usize, libc::PR_CAP_AMBIENT_RAISE as usize, 21, 0)),
    ("setuid-programs", || match syscall(libc::SYS_prctl, libc::PR_GET_NO_NEW_PRIVS as usize, 0, 0, 0, 0) {
        1 => Came::Refused("no new privileges".to_owned()),
        other => Came::Open(format!("{other}")),
    }),
    ("namespace-user", || raw::unshare(libc::CLONE_NEWUSER)),
    ("namespace-mount", || raw::unshare(libc::CLONE_NEWNS)),
    ("namespace-network", || raw::unshare(libc::CLONE_NEWNET)),
    ("namespace-process", || raw::unshare(libc::CLONE_NEWPID)),
    ("namespace-ipc", || raw::unshare(libc::CLONE_NEWIPC)),
    ("namespace-host", || raw::unshare(libc::CLONE_NEWUTS)),
    ("namespace-cgroup", || raw::unshare(libc::CLONE_NEWCGROUP)),
    ("clone3", || {
        // Its arguments are behind a pointer that no filter sees through. Size 0 is refused by the kernel itself.
        sys(libc::SYS_clone3, BOGUS, 0, 0, 0)
    }),
    ("join-namespace", || sys(libc::SYS_setns, 9999, 0, 0, 0)),
    ("mount", || sys(libc::SYS_mount, 0, BOGUS, 0, 0)),
    ("unmount", || {
        let Ok(name) = CString::new("/.probe-nothing") else { return Came::Refused("no name".to_owned()) };
        sys(libc::SYS_umount2, name.as_ptr() as usize, 0, 0, 0)
    }),
    ("new-mount-calls", || sys(libc::SYS_fsopen, BOGUS, 0, 0, 0)),
    ("open-tree", || sys(libc::SYS_open_tree, 9999, BOGUS, 0, 0)),
    ("pivot-root", || sys(libc::SYS_pivot_root, BOGUS, BOGUS, 0, 0)),
    ("chroot", || {
        let Ok(name) = CString::new("/.probe-nothing") else { return Came::Refused("no name".to_owned()) };
        sys(libc::SYS_chroot, name.as_ptr() as usize, 0, 0, 0)
    }),
    ("ptrace-self", || apart(|| sys(libc::SYS_ptrace, libc::PTRACE_TRACEME as usize, 0, 0, 0))),
    ("ptrace-init", || apart(|| sys(libc::SYS_ptrace, libc::PTRACE_SEIZE as usize, 1, 0, 0))),
    ("read-others-memory", || sys(libc::SYS_process_vm_readv, 1, BOGUS, 1, BOGUS)),
    ("compare-processes", || sys(libc::SYS_kcmp, 1, std::process::id() as usize, 0, 0)),
    ("signal-init", || sys(libc::SYS_kill, 1, 0, 0, 0)),
    ("take-others-file", || sys(libc::SYS_pidfd_getfd, 9999, 0, 0, 0)),
    ("personality", || sys(libc::SYS_personality, 0x0004_0000, 0, 0, 0)),
    ("keyring", || sys(libc::SYS_keyctl, 0, usize::MAX - 2, 0, 0)),
    ("add-key", || sys(libc::SYS_add_key, BOGUS, BOGUS, 0, 0)),
    ("bpf", || sys(libc::SYS_bpf, 0, BOGUS, 0, 0)),
    ("perf", || sys(libc::SYS_perf_event_open, BOGUS, 0, 0, 0)),
    ("userfaultfd", || sys(libc::SYS_userfaultfd, 0, 0, 0, 0)),
    ("io-uring", || sys(libc::SYS_io_uring_setup, 1, BOGUS, 0, 0)),
    ("load-module", || sys(libc::SYS_init_module, BOGUS, 0, BOGUS, 0)),
    ("load-module-file", || sys(libc::SYS_finit_module, 9999, BOGUS, 0, 0)),
    ("unload-module", || sys(libc::SYS_delete_module, BOGUS, 0, 0, 0)),
    ("kexec", || sys(libc::SYS_kexec_load, 0, 1 << 20, BOGUS, 0xffff)),
    ("reboot", || sys(libc::SYS_reboot, 1, 2, 3, 0)),
    ("swap", || sys(libc::SYS_swapon, BOGUS, 0, 0, 0)),
    ("hostname", || sys(libc::SYS_sethostname, BOGUS, 1, 0, 0)),
    ("domainname", || sys(libc::SYS_setdomainname, BOGUS, 1, 0, 0)),
    ("set-clock", || sys(libc::SYS_clock_settime, 0, BOGUS, 0, 0)),
    ("set-time-of-day", || sys(libc::SYS_settimeofday, BOGUS, 0, 0, 0)),
    ("adjust-clock", || sys(libc::SYS_adjtimex, BOGUS, 0, 0, 0)),
    ("accounting", || sys(libc::SYS_acct, BOGUS, 0, 0, 0)),
    ("quota", || sys(libc::SYS_quotactl, 0, BOGUS, 0, 0)),
    ("hang-up", || apart(|| sys(libc::SYS_vhangup, 0, 0, 0, 0))),
    ("fanotify", || sys(libc::SYS_fanotify_init, 0, 0, 0, 0)),
    ("file-handle", || sys(libc::SYS_open_by_handle_at, 9999, BOGUS, 0, 0)),
    // The machine's share.
    ("be-nicer-to-itself", || sys(libc::SYS_setpriority, 0, 0, (-20_i64) as usize, 0)),
    ("realtime", || {
        apart(|| {
            let priority = 1_i32;
            sys(libc::SYS_sched_setscheduler, 0, libc::SCHED_FIFO as usize, std::ptr::from_ref(&priority) as usize, 0)
        })
    }),
    ("io-priority", || sys(libc::SYS_ioprio_set, 1, 0, 1 << 13, 0)),
    ("affinity", || sys(libc::SYS_sched_setaffinity, 0, 8, BOGUS, 0)),
    ("lock-memory", || sys(libc::SYS_mlockall, 1, 0, 0, 0)),
    ("memory-policy", || sys(libc::SYS_set_mempolicy, 0, 0, 0, 0)),
    ("core-dump", || {
        let mut limit = [0_u64; 2];
        match syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_CORE as usize, 0, limit.as_mut_ptr() as usize, 0) {
            0 if limit[1] == 0 => Came::Refused("none may be written".to_owned()),
            other => Came::Open(format!("{other} {limit:?}")),
        }
    }),
    // Code of its own.
    ("memory-write-execute", || raw::map(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)),
    ("memory-made-executable", raw::make_executable),
    ("memory-file", || {
        let Ok(name) = CString::new("probe") else { return Came::Refused("no name".to_owned()) };
        sys(libc::SYS_memfd_create, name.as_ptr() as usize, 0, 0, 0)
    }),
    ("memory-secret", || sys(libc::SYS_memfd_secret, 0, 0, 0, 0)),
    ("execute-own-file", || in_each_place(raw::execute)),
    ("map-own-file", || in_each_place(|file| File::open(file).map_or_else(|error| path(Err(error)), |file| raw::map_file(&file)))),
    ("execute-shell", || raw::execute("/bin/sh")),
    ("execute-python", || raw::execute("/usr/bin/python3")),
    ("execute-systemctl", || raw::execute("/usr/bin/systemctl")),
    ("execute-setuid", || raw::execute("/usr/bin/su")),
    ("execute-by-loader", || apart(|| File::open("/usr/bin/python3").map_or_else(|error| path(Err(error)), |file| raw::map_file(&file)))),
    // The network.
    ("socket-inet", || raw::socket(libc::AF_INET, libc::SOCK_STREAM, 0)),
    ("socket-inet-datagram", || raw::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)),
    ("socket-inet6", || raw::socket(libc::AF_INET6, libc::SOCK_STREAM, 0)),
    ("socket-raw", || raw::socket(libc::AF_INET, libc::SOCK_RAW, 1)),
    ("socket-packet", || raw::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)),
    ("send-frame", raw::send_frame),
    ("socket-netlink", || raw::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0)),
    ("socket-kernel-crypto", || raw::socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)),
    ("socket-vsock", || raw::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    ("see-interfaces", || {
        let text = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
        let names: Vec<_> =
            text.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).filter(|name| *name != "lo").collect();
        if names.is_empty() { Came::Refused("only lo".to_owned()) } else { Came::Open(names.join(" ")) }
    }),
    ("abstract-socket", || {
        let Ok(address) = SocketAddr::from_abstract_name("probe-planted") else { return Came::Refused("no name".to_owned()) };
        path(UnixStream::connect_addr(&address).map(|_| "connected".to_owned()))
    }),
    ("bind-port", || apart(|| path(std::net::TcpListener::bind("0.0.0.0:18181").map(|_| "bound".to_owned())))),
    ("reach-loopback", || apart(|| path(std::net::TcpStream::connect("127.0.0.1:22").map(|_| "connected".to_owned())))),
    ("message-bus", || connect("/run/dbus/system_bus_socket")),
    ("systemd-control", || connect("/run/systemd/private")),
    ("planted-socket", || connect("/run/probe-planted.sock")),
    ("caller-ai", || connect("/run/smolotchi/callers/smolotchi-ai")),
    ("caller-web", || connect("/run/smolotchi/callers/smolotchi-web")),
    // What is left between processes.
    ("shared-segment", || sys(libc::SYS_shmget, 0x5107, 4096, 0o1666, 0)),
    ("message-queue", || sys(libc::SYS_msgget, 0x5107, 0o1666, 0, 0)),
    ("semaphore", || sys(libc::SYS_semget, 0x5107, 1, 0o1666, 0)),
    ("posix-queue", || {
        let Ok(name) = CString::new("probe-queue") else { return Came::Refused("no name".to_owned()) };
        sys(libc::SYS_mq_open, name.as_ptr() as usize, (libc::O_CREAT | libc::O_RDWR) as usize, 0o600, 0)
    }),
];
