//! A real virtual machine with Debian's own kernel, for what a node can't show: limits of memory and tasks, devices, filters of the kernel, and a
//! machine that runs out of memory. Quick where /dev/kvm is a processor's own ([`is_quick`]); else it is emulated
//! and takes many times as long.
//!
//! It has no network. Commands come over a port (`agent.py`). What it writes is forgotten when it ends, and it ends with the thread that started it.

mod disk;

pub use disk::Image;

use crate::program::{self, Output};
use crate::{fault, image, wait_until};
use serde::Deserialize;
use serde_json::json;
use smolotchi_operator::{Code, Fault, Result};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const QEMU: &str = "qemu-system-x86_64";
/// A running virtual machine. Dropping it ends it.
#[derive(Debug)]
pub struct Vm<'a> {
    child: Child,
    folder: PathBuf,
    line: Mutex<Line>,
    _image: &'a Image,
}

#[derive(Debug)]
struct Line {
    stream: UnixStream,
    rest: Vec<u8>,
    asked: u64,
}

#[derive(Deserialize)]
struct Answer {
    id: u64,
    status: i32,
    stdout: String,
    stderr: String,
}

/// Whether /dev/kvm is there and stands for a processor that can run another system's kernel. Some clouds have one that only takes kernels made for it
/// (kvm_pvm): Debian's would hang in its first lines.
pub fn is_quick() -> bool {
    let processor = ["kvm_intel", "kvm_amd"].iter().any(|name| Path::new("/sys/module").join(name).exists());
    processor && std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

/// How many times as long things may take: 1 where it is quick; emulated else.
pub fn patience() -> u32 {
    if is_quick() { 1 } else { 10 }
}

impl<'a> Vm<'a> {
    /// Starts a machine with that many MiB of memory and further words for its kernel, and waits until it is up.
    pub fn start(image: &'a Image, memory: u32, kernel: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let folder = image.folder().join(format!("machine-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        image::make_folder(&folder)?;
        let mut child = spawn(image, &folder, memory, kernel)?;
        let socket = folder.join("port");
        let mut stream = None;
        let connected = wait_until("the virtual machine's port is there", Duration::from_secs(20), || {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(fault("the virtual machine did not start")
                    .fact("status", program::code(status))
                    .fact("said", program::tail(&std::fs::read(folder.join("qemu.log")).unwrap_or_default())));
            }
            stream = UnixStream::connect(&socket).ok();
            Ok(stream.is_some())
        });
        let (Ok(()), Some(stream)) = (&connected, stream) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(connected.err().unwrap_or_else(|| fault("the virtual machine has no port")));
        };
        let mut vm = Vm { child, folder, line: Mutex::new(Line { stream, rest: Vec::new(), asked: 0 }), _image: image };
        vm.wait_up()?;
        Ok(vm)
    }

    fn wait_up(&mut self) -> Result<()> {
        let deadline = Duration::from_secs(90) * patience();
        wait_until("the virtual machine is up", deadline, || {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(fault("the virtual machine ended while it booted").fact("status", program::code(status)));
            }
            // What is sent before somebody reads is lost: ask again and again.
            Ok(self.ask("true", Duration::from_secs(1)).is_ok_and(|output| output.ok()))
        })
        .map_err(|fault| fault.fact("console", program::tail(self.console().as_bytes())))?;
        let state = self.run("systemctl is-system-running --wait", deadline)?;
        if state.stdout.trim() == "running" {
            return Ok(());
        }
        let failed = self.sh("systemctl --no-legend --plain --failed; journalctl -b -p err --no-pager | tail -20")?;
        Err(fault("the virtual machine did not come up whole").fact("state", state.stdout).fact("said", failed.stdout))
    }

    /// Runs a shell script as root to its end. A non-zero exit code is an answer, not a fault; 124: it was killed at the deadline.
    pub fn run(&self, script: &str, deadline: Duration) -> Result<Output> {
        self.ask(script, deadline)
    }

    /// The same with a usual deadline.
    pub fn sh(&self, script: &str) -> Result<Output> {
        self.run(script, Duration::from_secs(60) * patience())
    }

    /// Runs a shell script and demands exit code 0. Returns its standard output.
    pub fn sh_ok(&self, script: &str) -> Result<String> {
        let output = self.sh(script)?;
        if output.ok() { Ok(output.stdout) } else { Err(program::failed(script, &output)) }
    }

    /// Waits until a shell script ends with 0. `what` completes "waited in vain until …".
    pub fn wait_until(&self, what: &str, deadline: Duration, script: &str) -> Result<()> {
        let mut last = None;
        wait_until(what, deadline * patience(), || {
            let output = self.sh(script)?;
            let ok = output.ok();
            last = Some(output);
            Ok(ok)
        })
        .map_err(|fault| match last {
            Some(output) => fault.fact("stdout", output.stdout).fact("stderr", output.stderr),
            None => fault,
        })
    }

    /// What the kernel and systemd said on the console.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("console.log")).unwrap_or_default()).into_owned()
    }

    fn ask(&self, script: &str, deadline: Duration) -> Result<Output> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.asked += 1;
        let id = line.asked;
        let broken = |error: &std::io::Error| fault("the virtual machine's port broke").cause(error);
        let text = format!("{}\n", json!({"id": id, "script": script, "seconds": deadline.as_secs_f64()}));
        line.stream.set_write_timeout(Some(deadline)).map_err(|error| broken(&error))?;
        line.stream.write_all(text.as_bytes()).map_err(|error| broken(&error))?;
        // The machine keeps the deadline itself; one that is not even able to do that is told from one that is slow.
        let until = Instant::now()
            + deadline
            + if deadline > Duration::from_secs(1) { Duration::from_secs(20) * patience() } else { Duration::ZERO };
        let mut buffer = vec![0; 64 * 1024];
        loop {
            while let Some(end) = line.rest.iter().position(|byte| *byte == b'\n') {
                let whole: Vec<u8> = line.rest.drain(..=end).collect();
                match serde_json::from_slice::<Answer>(&whole) {
                    Ok(answer) if answer.id == id => {
                        return Ok(Output { status: answer.status, stdout: answer.stdout, stderr: answer.stderr });
                    }
                    // To a question that nobody waits for any more.
                    _ => {}
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(fault("the virtual machine did not answer")
                    .fact("asked", script)
                    .fact("console", program::tail(self.console().as_bytes())));
            }
            line.stream.set_read_timeout(Some(left)).map_err(|error| broken(&error))?;
            match line.stream.read(&mut buffer) {
                Ok(0) => return Err(fault("the virtual machine is gone").fact("console", program::tail(self.console().as_bytes()))),
                Ok(count) => line.rest.extend_from_slice(&buffer[..count]),
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted].contains(&error.kind()) => {}
                Err(error) => return Err(broken(&error)),
            }
        }
    }
}

impl Drop for Vm<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(image: &Image, folder: &Path, memory: u32, kernel: &str) -> Result<Child> {
    let text = |path: &Path| path.display().to_string();
    let said = std::fs::File::create(folder.join("qemu.log")).map_err(|error| Fault::io("could not make a log", folder, &error))?;
    // It dies with the thread that started it.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "pc"]);
    // An emulated machine with more processors than the host has to spare hangs in its own locks.
    let processors = if is_quick() {
        ["-accel", "kvm", "-cpu", "host", "-smp", "4"]
    } else {
        // QEMU 7.2 spoils the flags after CMPXCHG16B; Debian 13's kernel dies of it.
        ["-accel", "tcg,thread=multi", "-cpu", "max,-cx16", "-smp", "2"]
    };
    command.args(processors);
    let [vmlinuz, initrd] = image.kernel().map(|path| text(&path));
    command.args(["-m", &memory.to_string(), "-kernel", &vmlinuz, "-initrd", &initrd]);
    // Emulated beside other work, a timer comes too late for the kernel's look at it.
    let words = format!(
        "root=/dev/vda rw console=ttyS0 no_timer_check panic=-1 net.ifnames=0 mitigations=off no5lvl quiet loglevel=4 systemd.show_status=0 {kernel}"
    );
    command.args(["-append", words.trim(), "-serial", &format!("file:{}", text(&folder.join("console.log")))]);
    // What is written goes to a file that has no name.
    command.args(["-drive", &format!("file={},format=raw,if=virtio,snapshot=on,cache=unsafe", text(&image.disk()))]);
    command.args(["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]);
    command.args(["-chardev", &format!("socket,id=lab,path={},server=on,wait=off", text(&folder.join("port")))]);
    command.args(["-device", "virtserialport,chardev=lab,name=lab"]);
    command.env_clear().env("PATH", crate::host::PATH).env("TMPDIR", folder).current_dir("/");
    let copy = said.try_clone().map_err(|error| fault("could not hand a file on").cause(&error))?;
    command.stdin(Stdio::null()).stdout(Stdio::from(said)).stderr(Stdio::from(copy));
    command.spawn().map_err(|error| {
        Fault::new(Code::ProgramMissing, "could not start a virtual machine")
            .cause(&error)
            .hint("apt-get install qemu-system-x86 util-linux")
    })
}
