//! The service and verb display: the machine's status on e-paper, in a file, or on the terminal.
//!
//! Has no database and no rights: it asks core over its socket, as anybody may. It must never change anything but the panel, and must not
//! wake the machine up more often than it looks.

mod bitmap;
mod drawing;
mod facts;
mod page;
mod panel;
mod refresh;
#[cfg(test)]
mod samples;
mod terminal;
mod wires;

pub(crate) use panel::{Model, Rotation};

use crate::client::{Client, block_on};
use crate::clock;
use crate::config::{self, DisplaySettings};
use crate::memory;
use crate::notify::Notify;
use crate::paths::Paths;
use crate::release::VERSION;
use bitmap::Bitmap;
use facts::Facts;
use page::Page;
use panel::{Panel, Refresh, Wires};
use refresh::Shown;
use serde::Serialize;
use smolotchi_operator::log::{self, Kind};
use smolotchi_operator::output::emit;
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table, durable};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

/// How long a look waits for a core that is on its way from one version to the next.
const PATIENCE: Duration = Duration::from_secs(3);

/// A written picture.
#[derive(Debug, Serialize)]
struct Written {
    file: String,
    width: u32,
    height: u32,
    bytes: usize,
}

impl Table for Written {
    fn table(&self) -> String {
        String::new()
    }
}

/// Writes what the panel would show to a PNG, whole or not at all; says nothing but in JSON. A file that is there is replaced, anything
/// else (a device, a pipe, a link) is refused. What can't be asked stands in the picture and is no error. Errors: `cli.usage`, `io.failed`,
/// `io.disk-full`, configuration.
pub(crate) fn png(paths: &Paths, format: Format, file: &Path, model: Option<Model>) -> Result<Exit> {
    if std::fs::symlink_metadata(file).is_ok_and(|there| !there.is_file()) {
        return Err(Fault::new(Code::Usage, "this is no file, and only a file is replaced by a picture")
            .hint("name a new file, or one that may be written over")
            .fact("path", file.display().to_string()));
    }
    let settings = config::load(paths)?.display;
    let facts = look(paths)?;
    let (width, height) = model.unwrap_or(settings.panel).surface(settings.rotation);
    let bytes = picture(&Page::of(&facts), width, height).png()?;
    durable::replace(file, &bytes, 0o644)?;
    emit(format, &Written { file: file.display().to_string(), width, height, bytes: bytes.len() });
    Ok(Exit::Success)
}

/// Prints the page to the terminal: as text, or pixel by pixel. In JSON: the facts.
pub(crate) fn terminal(paths: &Paths, format: Format, pixels: bool, model: Option<Model>) -> Result<Exit> {
    let settings = config::load(paths)?.display;
    let facts = look(paths)?;
    let page = Page::of(&facts);
    let (width, height) = model.unwrap_or(settings.panel).surface(settings.rotation);
    let text = match (pixels, terminal::columns()) {
        (true, Some(columns)) if columns < width as usize => {
            return Err(Fault::new(Code::Usage, "the terminal is narrower than the panel")
                .hint("make it wider, or leave --pixels out")
                .fact("columns", columns)
                .fact("needed", width));
        }
        (true, _) => picture(&page, width, height).half_blocks(),
        (false, columns) => terminal::text(&page, columns),
    };
    emit(format, &terminal::Screen { facts: &facts, text });
    Ok(Exit::Success)
}

fn look(paths: &Paths) -> Result<Facts> {
    block_on(async { Ok(Facts::ask(paths, &Client::new(paths.socket())).await) })
}

fn picture(page: &Page, width: u32, height: u32) -> Bitmap {
    Bitmap::of(&drawing::draw(page, width, height), width, height)
}

/// The service: draws the panel whenever what it shows has changed, until SIGTERM or SIGINT; then the panel says that it was stopped.
/// Errors: `display.no-panel` (30).
pub(crate) fn run(paths: &Paths) -> Result<Exit> {
    let settings = config::load(paths)?.display;
    let panel = Panel::new(wires::Header::open()?, settings.panel);
    block_on(async { turn(paths, settings, panel, stopped()?).await })
}

/// Ends with SIGTERM or SIGINT.
fn stopped() -> Result<impl Future<Output = ()>> {
    let on = |kind| signal(kind).map_err(|error| Fault::new(Code::Io, "could not wait for signals").cause(&error));
    let (mut terminate, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn turn<W: Wires>(paths: &Paths, settings: DisplaySettings, mut panel: Panel<W>, stop: impl Future<Output = ()>) -> Result<Exit> {
    let mut stop = pin!(stop);
    let client = Client::patient(paths.socket(), PATIENCE).at(paths.caller(crate::account::DISPLAY));
    let notify = Notify::from_env();
    let (width, height) = settings.panel.surface(settings.rotation);
    let mut looks = tokio::time::interval_at(Instant::now(), settings.interval);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown: Option<Shown> = None;
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = &mut stop => break,
        }
        // A core that doesn't answer must not hold up the stop.
        let facts = tokio::select! {
            facts = Facts::ask(paths, &client) => facts,
            () = &mut stop => break,
        };
        let now = clock::boottime_ms();
        let drawn = |facts: &Facts| picture(&Page::of(facts), width, height);
        if let Some(refresh) = Shown::next(shown.as_ref(), &facts, now, drawn) {
            panel.show(&drawn(&facts), settings.rotation, refresh)?;
            let first = shown.is_none();
            shown = Some(Shown::after(shown.as_ref(), facts, refresh, now));
            if first {
                notify.ready(&format!("version {VERSION}, {width} x {height}"));
                memory::give_back();
                log::note(Kind::Ready, format!("display {VERSION} is ready, {width} x {height}"));
            }
        }
        notify.watchdog();
    }
    notify.stopping();
    let facts = Facts::here();
    panel.show(&picture(&Page::stopped(&facts), width, height), settings.rotation, Refresh::Full)?;
    log::note(Kind::Stopped, "display has stopped");
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Counts what is drawn; busy at each second look, as a panel that is done at once.
    #[derive(Debug, Default, Clone)]
    struct Recorder {
        pictures: Arc<Mutex<Vec<Vec<u8>>>>,
        looked: bool,
    }

    impl Wires for Recorder {
        fn reset(&mut self) -> Result<()> {
            self.looked = true;
            Ok(())
        }

        fn send(&mut self, command: u8, data: &[u8]) -> Result<()> {
            if command == 0x24 {
                self.pictures.lock().unwrap().push(data.to_vec());
            }
            self.looked = true;
            Ok(())
        }

        fn is_busy(&mut self) -> Result<bool> {
            self.looked = !self.looked;
            Ok(!self.looked)
        }

        fn pause(&mut self, _: Duration) {}
    }

    #[test]
    fn the_service_draws_once_while_nothing_changes_and_says_so_when_it_stops() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(dir.path()));
        std::fs::create_dir_all(paths.socket().parent().unwrap()).unwrap();
        let recorder = Recorder::default();
        let settings = DisplaySettings { panel: Model::Waveshare213V4, rotation: Rotation::R0, interval: Duration::from_millis(5) };
        let done = block_on(async {
            // Something that isn't core, and hangs up on everybody after a word.
            let listener = tokio::net::UnixListener::bind(paths.socket()).unwrap();
            let looks = tokio::spawn(async move {
                for look in 0.. {
                    if look == 6 {
                        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
                    }
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let _ = stream.write_all(b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\n{}").await;
                    let _ = stream.read(&mut [0; 1024]).await;
                }
            });
            let done = turn(&paths, settings, Panel::new(recorder.clone(), settings.panel), stopped()?).await;
            looks.abort();
            done
        });
        assert_eq!(done.unwrap(), Exit::Success);
        let pictures = recorder.pictures.lock().unwrap();
        assert_eq!(pictures.len(), 2, "one at the first look, one at the stop");
        assert_ne!(pictures[0], pictures[1]);
    }

    #[test]
    fn a_stop_does_not_wait_for_a_core_that_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(Some(dir.path()));
        std::fs::create_dir_all(paths.socket().parent().unwrap()).unwrap();
        let recorder = Recorder::default();
        let settings = DisplaySettings { panel: Model::Waveshare213V4, rotation: Rotation::R0, interval: Duration::from_millis(5) };
        let took = block_on(async {
            let listener = tokio::net::UnixListener::bind(paths.socket()).unwrap();
            let asked = std::cell::Cell::new(None);
            let stop = async {
                let (stream, _) = listener.accept().await.unwrap();
                asked.set(Some((Instant::now(), stream)));
            };
            turn(&paths, settings, Panel::new(recorder.clone(), settings.panel), stop).await?;
            Ok(asked.take().unwrap().0.elapsed())
        })
        .unwrap();
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(recorder.pictures.lock().unwrap().len(), 1, "that it was stopped");
    }

    /// The pictures of the documentation are what is drawn. UPDATE=1 writes them anew: then look at each.
    #[test]
    fn the_pictures_in_the_documentation_are_what_is_drawn() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures/display");
        let mut pages: Vec<_> = samples::all().map(|(name, facts)| (name, Page::of(&facts), (250, 122))).into();
        pages.push(("stopped", Page::stopped(&samples::well()), (250, 122)));
        pages.push(("portrait", Page::of(&samples::ill()), (122, 250)));
        pages.push(("2.9", Page::of(&samples::well()), (296, 128)));
        pages.push(("1.54", Page::of(&samples::ill()), (200, 200)));
        for (name, page, (width, height)) in pages {
            let file = folder.join(format!("{name}.png"));
            let bytes = picture(&page, width, height).png().unwrap();
            if std::env::var_os("UPDATE").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&file, &bytes).unwrap();
            }
            assert!(std::fs::read(&file).is_ok_and(|kept| kept == bytes), "{name}.png is out of date: UPDATE=1 cargo test");
        }
    }
}
