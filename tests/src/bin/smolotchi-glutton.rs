//! Takes more of something than it may have, in the place of a service's program, and says how far it came.
//!
//! `tests/suites/limits.rs` puts it in the place of `/usr/bin/smolotchi` on a machine, so that each service's own unit starts it. What it wants stands
//! in `/etc/smolotchi/glutton`, which every sandbox shows: `WISH [MOST]`. On standard output: `glutton WISH COUNT WHY` when it was refused or has the most
//! that it wants, `glutton WISH at COUNT` on the way. Called as `smolotchi-glutton outside` it then ends; else it keeps what it has.

use std::fs::File;
use std::io::Error;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

const WISH: &str = "/etc/smolotchi/glutton";
const MIB: usize = 1 << 20;

fn main() {
    let text = std::fs::read_to_string(WISH).unwrap_or_default();
    let mut words = text.split_whitespace();
    let wish = words.next().unwrap_or_default();
    let most = words.next().and_then(|word| word.parse().ok()).unwrap_or(usize::MAX);
    println!("glutton {wish} at 0");
    ready();
    let (count, why) = match wish {
        "data" => memory(wish, most, libc::MAP_PRIVATE),
        // Counted by the control group as any other, but not by LimitDATA.
        "shared" => memory(wish, most, libc::MAP_SHARED),
        "tasks" => tasks(most),
        "files" => files(most),
        "spin" => spin(),
        _ => (0, "nothing wished".to_owned()),
    };
    println!("glutton {wish} {count} {why}");
    if std::env::args().nth(1).is_some_and(|word| word == "outside") {
        return;
    }
    // What it has can be looked at until it is stopped.
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

/// Services of the type notify are killed unless they say that they are ready.
fn ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.send_to(b"READY=1", Path::new(&path));
    }
}

/// One MiB after the other, and writes to each page.
#[allow(unsafe_code, reason = "memory is asked for from the kernel itself")]
fn memory(wish: &str, most: usize, flag: i32) -> (usize, String) {
    for count in 0..most {
        let at = unsafe { libc::mmap(std::ptr::null_mut(), MIB, libc::PROT_READ | libc::PROT_WRITE, flag | libc::MAP_ANONYMOUS, -1, 0) };
        if at == libc::MAP_FAILED {
            return (count, Error::last_os_error().to_string());
        }
        for page in (0..MIB).step_by(4096) {
            unsafe { at.cast::<u8>().add(page).write_volatile(1) };
        }
        if count % 4 == 3 {
            println!("glutton {wish} at {}", count + 1);
        }
    }
    (most, "not refused".to_owned())
}

fn tasks(most: usize) -> (usize, String) {
    for count in 0..most {
        // Small stacks: it is not memory that should end first.
        let started = std::thread::Builder::new().stack_size(64 * 1024).spawn(|| {
            loop {
                std::thread::park();
            }
        });
        if let Err(error) = started {
            return (count + 1, error.to_string());
        }
    }
    (most, "not refused".to_owned())
}

fn files(most: usize) -> (usize, String) {
    let mut held = Vec::new();
    loop {
        match File::open(WISH) {
            Ok(file) if held.len() < most => held.push(file),
            Ok(_) => return (held.len(), "not refused".to_owned()),
            Err(error) => return (held.len() + 3, error.to_string()),
        }
    }
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}
