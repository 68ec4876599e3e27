//! What a process costs, from the kernel's own books: CPU time, memory, wake-ups; and what reaches a disk of our own.

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use smolotchi_operator::{Code, Fault, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The uid of services, which must not be root.
const SERVICE: u32 = 65_534;
/// How long a service may take to be ready, and a call to be answered.
const DEADLINE: Duration = Duration::from_secs(600);

pub(crate) fn failed(what: &str, cause: &dyn std::fmt::Display) -> Fault {
    Fault::new(Code::LabFailed, what).fact("cause", cause.to_string())
}

/// A folder on an ext4 file system of its own, so that what reaches the disk can be counted. Gone when dropped.
pub(crate) struct Card {
    folder: PathBuf,
    image: PathBuf,
    disk: PathBuf,
    stat: PathBuf,
}

impl Card {
    /// Makes an image of so many MiB below `at` and mounts it.
    pub(crate) fn new(at: &Path, mib: u64) -> Result<Card> {
        let (image, folder) = (at.join("card.ext4"), at.join("card"));
        let file = File::create(&image).and_then(|file| file.set_len(mib << 20));
        file.map_err(|error| Fault::io("could not make the card's image", &image, &error))?;
        std::fs::create_dir_all(&folder).map_err(|error| Fault::io("could not make a folder", &folder, &error))?;
        let (image_text, folder_text) = (image.display().to_string(), folder.display().to_string());
        // Without lazy initialisation, which would write in the background.
        run(&["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", &image_text])?;
        run(&["mount", "-o", "loop,noatime", &image_text, &folder_text])?;
        let device = std::fs::metadata(&folder).map_err(|error| Fault::io("could not look at the card", &folder, &error))?.dev();
        let about = PathBuf::from(format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device)));
        let name =
            std::fs::read_to_string(about.join("uevent")).map_err(|error| Fault::io("could not read about the disk", &about, &error))?;
        let name = name.lines().find_map(|line| line.strip_prefix("DEVNAME=")).ok_or_else(|| failed("the disk has no name", &name))?;
        Ok(Card { folder, image, disk: Path::new("/dev").join(name), stat: about.join("stat") })
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Bytes that the disk was given so far, everything synced: also what ext4's journal holds already, and which the kernel would
    /// write in its place half a minute later.
    pub(crate) fn written(&self) -> Result<u64> {
        let folder = File::open(&self.folder).map_err(|error| Fault::io("could not open the card", &self.folder, &error))?;
        rustix::fs::syncfs(&folder).map_err(|error| failed("could not sync the card", &error))?;
        let disk = File::open(&self.disk).and_then(|disk| disk.sync_all());
        disk.map_err(|error| Fault::io("could not sync the disk", &self.disk, &error))?;
        let text =
            std::fs::read_to_string(&self.stat).map_err(|error| Fault::io("could not read the disk's counters", &self.stat, &error))?;
        // Field 7 of Documentation/block/stat: sectors of 512 bytes.
        text.split_whitespace()
            .nth(6)
            .and_then(|sectors| sectors.parse::<u64>().ok())
            .map(|sectors| sectors * 512)
            .ok_or_else(|| failed("the disk has no counters", &text))
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.folder).status();
        let _ = std::fs::remove_file(&self.image);
    }
}

/// Runs a command that must work.
pub(crate) fn run(words: &[&str]) -> Result<String> {
    let output =
        Command::new(words[0]).args(&words[1..]).output().map_err(|error| failed(&format!("could not run {}", words[0]), &error))?;
    if !output.status.success() {
        return Err(failed(&format!("{} failed", words.join(" ")), &String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// CPU time that a command and its children took, user and system.
pub(crate) fn cpu_of(command: &mut Command) -> Result<Duration> {
    let before = ended()?;
    let status = command.stdout(Stdio::null()).status().map_err(|error| failed("could not run a command", &error))?;
    let after = ended()?;
    if !status.success() {
        return Err(failed("a measured command failed", &format!("{command:?}: {status}")));
    }
    Ok(after.saturating_sub(before))
}

/// CPU time of all children that were waited for, user and system.
pub(crate) fn ended() -> Result<Duration> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).map_err(|error| failed("no usage", &error))?;
    let time = |time: nix::sys::time::TimeVal| Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64);
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

/// This thread's CPU time so far.
pub(crate) fn own_cpu() -> std::io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// A running service; killed when dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) name: String,
    /// CPU until it said that it is ready.
    pub(crate) ready: Duration,
}

/// A service's costs so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Costs {
    pub(crate) cpu: Duration,
    pub(crate) wakeups: u64,
}

impl Service {
    /// Starts `program ARGS…` as a user without rights, and waits until it says a line with `ready`.
    pub(crate) fn start(program: &Path, args: &[&str], ready: &str) -> Result<Service> {
        let name =
            args.iter().find(|arg| !arg.starts_with('-') && !arg.starts_with('/')).map_or_else(String::new, |name| (*name).to_owned());
        let mut child = Command::new(program)
            .args(args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .uid(SERVICE)
            .gid(SERVICE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Fault::io("could not start a service", program, &error))?;
        let stderr = child.stderr.take().ok_or_else(|| failed("a service has no standard error", &name))?;
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(std::result::Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut service = Service { child, name, ready: Duration::ZERO };
        let mut said = Vec::new();
        loop {
            match lines.recv_timeout(DEADLINE) {
                Ok(line) if line.contains(ready) => break,
                Ok(line) => said.push(line),
                Err(error) => return Err(failed(&format!("{} is not ready", service.name), &format!("{error}: {}", said.join("\n")))),
            }
        }
        service.ready = service.costs()?.cpu;
        Ok(service)
    }

    fn tasks(&self) -> Result<Vec<PathBuf>> {
        let folder = format!("/proc/{}/task", self.child.id());
        let entries = std::fs::read_dir(&folder).map_err(|error| Fault::io("a service is gone", &folder, &error))?;
        Ok(entries.flatten().map(|entry| entry.path()).collect())
    }

    /// What it cost so far. The wake-ups of threads that have ended are not in it; their CPU time is.
    pub(crate) fn costs(&self) -> Result<Costs> {
        let gone = |error| failed("a service is gone", &error);
        let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(self.child.id() as i32)).map_err(gone)?;
        let cpu = clock_gettime(clock).map_err(gone)?.into();
        let mut wakeups = 0;
        for task in self.tasks()? {
            let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
            let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok());
            wakeups += switches.unwrap_or(0);
        }
        Ok(Costs { cpu, wakeups })
    }

    /// Its share of memory, in bytes (PSS).
    pub(crate) fn pss(&self) -> Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(&path).map_err(|error| Fault::io("a service is gone", &path, &error))?;
        let kib = text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| failed("a process has no PSS", &path))
    }

    /// Ends it as systemd would.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(|error| failed("could not stop a service", &error))?;
        self.child.wait().map(drop).map_err(|error| failed("could not wait for a service", &error))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A root folder for the agent: the folders that a package makes, with the state on `card`.
pub(crate) struct Node {
    pub(crate) root: PathBuf,
    pub(crate) program: PathBuf,
}

impl Node {
    /// Makes the folders below `root`, which is on the card. What is below /run is in `volatile`, which isn't: it is memory on a machine.
    pub(crate) fn new(root: &Path, volatile: &Path, program: &Path) -> Result<Node> {
        let own = root.join("smolotchi");
        let make = || {
            std::fs::create_dir_all(root)?;
            std::fs::create_dir_all(volatile)?;
            std::os::unix::fs::symlink(volatile, root.join("run"))?;
            for folder in ["var/lib/smolotchi", "run/smolotchi/core", "etc/smolotchi/config.d"] {
                std::fs::create_dir_all(root.join(folder))?;
            }
            for folder in ["var/lib/smolotchi", "run/smolotchi", "run/smolotchi/core"] {
                chown(root.join(folder), Some(SERVICE), Some(SERVICE))?;
            }
            std::fs::copy(program, &own)?;
            std::fs::set_permissions(&own, PermissionsExt::from_mode(0o755))?;
            std::fs::set_permissions(root, PermissionsExt::from_mode(0o755))
        };
        make().map_err(|error| Fault::io("could not make the agent's folders", root, &error))?;
        Ok(Node { root: root.to_owned(), program: own })
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("var/lib/smolotchi/smolotchi.db")
    }

    fn socket(&self) -> PathBuf {
        self.root.join("run/smolotchi/core.sock")
    }

    /// A service of the agent.
    pub(crate) fn service(&self, args: &[&str]) -> Result<Service> {
        let root = self.root.display().to_string();
        let mut words = vec!["--root", root.as_str()];
        words.extend(args);
        Service::start(&self.program, &words, "is ready")
    }

    pub(crate) fn core(&self) -> Result<Service> {
        let socket = self.socket().display().to_string();
        self.service(&["core", "--socket", &socket])
    }

    /// A verb, as the services' user unless `root`.
    pub(crate) fn verb(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).args(args).uid(SERVICE).gid(SERVICE);
        command
    }

    /// One call of core's API; the body of an answer that says yes.
    pub(crate) fn call(&self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        let socket = self.socket();
        let stream = UnixStream::connect(&socket).map_err(|error| Fault::io("core can't be reached", &socket, &error))?;
        exchange(stream, method, path, "", body)
    }
}

/// One HTTP call on its own connection.
pub(crate) fn exchange<S: Read + Write>(mut stream: S, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<Vec<u8>> {
    let mut talk = || {
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer: Vec<u8> = talk().map_err(|error: std::io::Error| failed("a call failed", &error))?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(|| failed("a call was not answered", &path))?;
    let status = answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok()).unwrap_or_default();
    if !status.starts_with('2') {
        return Err(failed(&format!("{method} {path} was refused with {status}"), &String::from_utf8_lossy(&answer)));
    }
    Ok(answer[end + 4..].to_vec())
}

/// Waits for a state, with a deadline.
pub(crate) fn until(what: &str, mut look: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    while !look() {
        if Instant::now() > end {
            return Err(failed("waited too long", &what));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
