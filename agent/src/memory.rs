//! Memory that only a start needs. Services run for months on 512 MB, so they hand it back once they are ready.
//!
//! Called by main and by the services. Never changes what is computed.

use rustix::mm::{Advice, madvise};
use std::time::Duration;

/// A service without work for so long gives back what the work needed.
pub(crate) const QUIET: Duration = Duration::from_secs(10);

/// One heap for all threads, as long as there is only one. What a thread's own heap lacks, the C library asks the kernel for page by page,
/// and what it frees, it keeps beside what the others keep. Nothing here allocates on two threads at once for long.
pub(crate) fn one_heap() {
    #[cfg(target_env = "gnu")]
    {
        /// From malloc.h.
        const M_ARENA_MAX: std::ffi::c_int = -8;
        #[allow(unsafe_code, reason = "the C library has no safe name for it, and no crate wraps it alone")]
        // SAFETY: mallopt(3) takes two numbers and sets one of the allocator's.
        unsafe extern "C" {
            safe fn mallopt(what: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
        }
        mallopt(M_ARENA_MAX, 1);
    }
}

/// Runs `work` on a stack of its own, which is gone afterwards: a stack that grew once stays in memory as long as its thread. Panics
/// as `work` does.
pub(crate) fn apart<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Gives back what the allocator keeps of freed memory, and the pages of the program and its libraries that were mapped so far: what the
/// service goes on to use is mapped again at its next use, from the page cache. Costs some hundred microseconds. Failing changes nothing.
pub(crate) fn give_back() {
    if let (Ok(maps), Ok(program)) = (std::fs::read_to_string("/proc/self/smaps"), std::env::current_exe()) {
        for (start, end) in unwritten(&maps, &program.to_string_lossy()) {
            #[allow(unsafe_code, reason = "madvise(2) is unsafe, as it can drop what was written")]
            // SAFETY: the mapping is the program's own file or a library's, which stays as long as the process; it is private, can't be
            // written and holds no page that ever was (see `unwritten`), so that a dropped page is read again as it was.
            let _ = unsafe { madvise(std::ptr::with_exposed_provenance_mut(start), end - start, Advice::LinuxDontNeed) };
        }
    }
    // Last: that text was large itself.
    #[cfg(target_env = "gnu")]
    {
        #[allow(unsafe_code, reason = "the C library has no safe name for it, and no crate wraps it alone")]
        // SAFETY: malloc_trim(3) takes a number of bytes to keep and only touches memory that is free.
        unsafe extern "C" {
            safe fn malloc_trim(keep: usize) -> std::ffi::c_int;
        }
        malloc_trim(0);
    }
}

/// The mappings of `program` and its libraries that can't be written and that hold no page of their own, from the text of
/// proc_pid_smaps(5). Of no other file: another thread may be about to put something else in its place.
fn unwritten(maps: &str, program: &str) -> Vec<(usize, usize)> {
    let (mut found, mut current) = (Vec::new(), None);
    let loaded = |path: &str| path == program || (path.starts_with('/') && path.contains(".so"));
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if !first.ends_with(':') {
            // start-end perms offset device inode path
            let range = first.split_once('-').map(|(start, end)| (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16)));
            current = match range {
                Some((Ok(start), Ok(end))) if ["r-xp", "r--p"].contains(&second) && words.nth(3).is_some_and(loaded) => Some((start, end)),
                _ => None,
            };
        } else if first == "Anonymous:" && second == "0" {
            found.extend(current.take());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_written_is_given_back() {
        let map = |range: &str, rights: &str, path: &str, own: u32| {
            format!(
                "{range} {rights} 00000000 fe:00 11051106                   {path}\nSize:                124 kB\nAnonymous:          {own:>8} kB\nVmFlags: rd mr mw me\n"
            )
        };
        let maps = [
            map("5000-6000", "r--p", "/usr/bin/smolotchi", 0),
            map("6000-9000", "r-xp", "/usr/bin/smolotchi", 0),
            map("9000-a000", "r--p", "/usr/bin/smolotchi", 4),
            map("a000-b000", "rw-p", "/usr/bin/smolotchi", 0),
            map("b000-c000", "r-xp", "/usr/lib/x86_64-linux-gnu/libc.so.6", 0),
            map("c000-d000", "r--p", "/usr/lib/x86_64-linux-gnu/libc.so.6", 16),
            map("d000-e000", "r--s", "/var/lib/smolotchi/smolotchi.db-shm", 0),
            map("e000-f000", "r--p", "", 0),
            map("f000-10000", "r-xp", "[vdso]", 0),
            map("10000-11000", "r--p", "/usr/lib/locale/C.utf8/LC_CTYPE", 0),
        ];
        assert_eq!(unwritten(&maps.concat(), "/usr/bin/smolotchi"), [(0x5000, 0x6000), (0x6000, 0x9000), (0xb000, 0xc000)]);
    }

    #[test]
    fn the_program_goes_on_with_less_in_memory() {
        let rss = || {
            let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let program = std::env::current_exe().unwrap();
            assert!(!unwritten(&text, &program.to_string_lossy()).is_empty(), "{text}");
            std::fs::read_to_string("/proc/self/smaps_rollup")
                .unwrap()
                .lines()
                .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
                .unwrap()
        };
        // Freed, and larger than what the allocator hands back by itself.
        let heap: Vec<Vec<u8>> = (0..32 * 1024).map(|_| vec![1; 1024]).collect();
        let last = vec![1u8; 1024];
        drop(heap);
        let before = rss();
        give_back();
        let after = rss();
        assert!(after + 16 * 1024 < before, "{before} -> {after} kB");
        assert_eq!(apart(|| last.len()), 1024);
    }
}
