//! The panels that are known, and what is said to their controller (Solomon SSD1680, SSD1681) to show a picture.
//!
//! From the controllers' datasheets and Waveshare's public facts about its modules. Speaks through [`Wires`], so that tests hold every
//! byte; **no real panel has been seen yet**.

use super::bitmap::Bitmap;
use clap::ValueEnum;
use smolotchi_operator::{Code, Fault, Result};
use std::time::Duration;

/// A panel that is known. All have their narrow side up in their own memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Model {
    /// 2.13 inch, 250 × 122.
    #[value(name = "waveshare-2.13-v4")]
    Waveshare213V4,
    /// 2.9 inch, 296 × 128.
    #[value(name = "waveshare-2.9-v2")]
    Waveshare29V2,
    /// 1.54 inch, 200 × 200.
    #[value(name = "waveshare-1.54-v2")]
    Waveshare154V2,
}

impl Model {
    /// The model of a setting.
    pub(crate) fn named(name: &str) -> Option<Model> {
        Model::from_str(name, false).ok()
    }

    /// Its own width and height.
    fn size(self) -> (u32, u32) {
        match self {
            Model::Waveshare213V4 => (122, 250),
            Model::Waveshare29V2 => (128, 296),
            Model::Waveshare154V2 => (200, 200),
        }
    }

    /// The picture's width and height for the reader.
    pub(super) fn surface(self, rotation: Rotation) -> (u32, u32) {
        let (width, height) = self.size();
        if rotation.is_landscape() { (height, width) } else { (width, height) }
    }

    /// Whether the waveforms in the panel's own memory can change single pixels. Of the others it isn't known.
    pub(super) fn refreshes_partially(self) -> bool {
        self == Model::Waveshare213V4
    }

    /// What is given to "display update control 1": which of the controller's source lines are wired to pixels.
    fn sources(self) -> Option<[u8; 2]> {
        match self {
            Model::Waveshare213V4 | Model::Waveshare29V2 => Some([0x00, 0x80]),
            Model::Waveshare154V2 => None,
        }
    }
}

/// How the panel hangs, in degrees clockwise; at 0 and 180 the picture is wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) enum Rotation {
    R0,
    R90,
    R180,
    R270,
}

impl Rotation {
    /// The rotation of a setting.
    pub(crate) fn degrees(degrees: u64) -> Option<Rotation> {
        match degrees {
            0 => Some(Rotation::R0),
            90 => Some(Rotation::R90),
            180 => Some(Rotation::R180),
            270 => Some(Rotation::R270),
            _ => None,
        }
    }

    /// Whether the panel's long side is the picture's width.
    pub(super) fn is_landscape(self) -> bool {
        matches!(self, Rotation::R0 | Rotation::R180)
    }
}

/// How a picture is brought to the paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refresh {
    /// Every pixel is driven both ways: flickers, leaves no ghosts.
    Full,
    /// Only pixels that change are driven.
    Partial,
}

/// The lines to a panel: SPI, data/command, reset and busy.
pub(super) trait Wires {
    /// Pulses the reset line; wakes the controller from its deep sleep.
    fn reset(&mut self) -> Result<()>;
    /// Sends one command with its data.
    fn send(&mut self, command: u8, data: &[u8]) -> Result<()>;
    /// Whether the controller says that it is at work.
    fn is_busy(&mut self) -> Result<bool>;
    /// Lets time pass.
    fn pause(&mut self, time: Duration);
}

/// Commands of the SSD1680 and SSD1681.
mod command {
    pub(super) const DRIVER_OUTPUT: u8 = 0x01;
    pub(super) const DEEP_SLEEP: u8 = 0x10;
    pub(super) const DATA_ENTRY: u8 = 0x11;
    pub(super) const SOFT_RESET: u8 = 0x12;
    pub(super) const TEMPERATURE_SENSOR: u8 = 0x18;
    pub(super) const ACTIVATE: u8 = 0x20;
    pub(super) const UPDATE_1: u8 = 0x21;
    pub(super) const UPDATE_2: u8 = 0x22;
    pub(super) const WRITE_NEW: u8 = 0x24;
    pub(super) const WRITE_OLD: u8 = 0x26;
    pub(super) const BORDER: u8 = 0x3c;
    pub(super) const WINDOW_X: u8 = 0x44;
    pub(super) const WINDOW_Y: u8 = 0x45;
    pub(super) const CURSOR_X: u8 = 0x4e;
    pub(super) const CURSOR_Y: u8 = 0x4f;
}

/// Between two looks at the busy line, while the panel draws.
const LOOK: Duration = Duration::from_millis(20);
/// A full refresh takes two to four seconds, in the cold longer.
const DRAWN_WITHIN: Duration = Duration::from_secs(20);

/// A panel on its wires.
#[derive(Debug)]
pub(super) struct Panel<W> {
    wires: W,
    model: Model,
    /// The picture that the panel shows, if it is ours.
    shown: Option<Bitmap>,
}

impl<W: Wires> Panel<W> {
    pub(super) fn new(wires: W, model: Model) -> Self {
        Panel { wires, model, shown: None }
    }

    /// Shows a picture, given as the reader sees it, and puts the controller to sleep. Takes seconds. A partial refresh without a
    /// picture of ours before it, or on a panel that can't, is a full one. Errors: `display.no-panel`.
    pub(super) fn show(&mut self, picture: &Bitmap, rotation: Rotation, refresh: Refresh) -> Result<()> {
        let picture = picture.turned(rotation);
        let before = self.shown.take().filter(|_| refresh == Refresh::Partial && self.model.refreshes_partially());
        self.wires.reset()?;
        self.idle()?;
        if before.is_none() {
            self.wires.send(command::SOFT_RESET, &[])?;
            self.idle()?;
        }
        self.set_up(before.is_none())?;
        // The controller compares both: after a full refresh they are the same.
        self.write(command::WRITE_OLD, before.as_ref().unwrap_or(&picture))?;
        self.write(command::WRITE_NEW, &picture)?;
        // Clock and voltages on, temperature and waveform from the panel's memory (mode 1 full, 2 partial), draw, all off.
        self.wires.send(command::UPDATE_2, &[if before.is_some() { 0xff } else { 0xf7 }])?;
        self.wires.send(command::ACTIVATE, &[])?;
        self.drawn()?;
        // Mode 1 keeps the controller's memory. A panel must not be left under voltage.
        self.wires.send(command::DEEP_SLEEP, &[0x01])?;
        self.shown = Some(picture);
        Ok(())
    }

    fn set_up(&mut self, full: bool) -> Result<()> {
        let (width, height) = self.model.size();
        let [low, high, ..] = (height - 1).to_le_bytes();
        let columns = u8::try_from(width.div_ceil(8) - 1).unwrap_or(u8::MAX);
        self.wires.send(command::DRIVER_OUTPUT, &[low, high, 0x00])?;
        // Both addresses count up, along a row first.
        self.wires.send(command::DATA_ENTRY, &[0x03])?;
        self.wires.send(command::WINDOW_X, &[0, columns])?;
        self.wires.send(command::WINDOW_Y, &[0, 0, low, high])?;
        // The border follows the waveform's white, or is left as it is.
        self.wires.send(command::BORDER, &[if full { 0x05 } else { 0x80 }])?;
        if let Some(sources) = self.model.sources() {
            self.wires.send(command::UPDATE_1, &sources)?;
        }
        // The built-in sensor; without a temperature there is no waveform.
        self.wires.send(command::TEMPERATURE_SENSOR, &[0x80])
    }

    fn write(&mut self, command: u8, picture: &Bitmap) -> Result<()> {
        self.wires.send(command::CURSOR_X, &[0])?;
        self.wires.send(command::CURSOR_Y, &[0, 0])?;
        self.wires.send(command, &picture.white_bits())
    }

    /// Waits until the controller is not at work.
    fn idle(&mut self) -> Result<()> {
        for _ in 0..DRAWN_WITHIN.as_millis() / LOOK.as_millis() {
            if !self.wires.is_busy()? {
                return Ok(());
            }
            self.wires.pause(LOOK);
        }
        Err(no_panel("the panel is busy without an end").fact("seconds", DRAWN_WITHIN.as_secs()))
    }

    /// Waits until a refresh is done. It can't be done at once: a panel that was never busy is none.
    fn drawn(&mut self) -> Result<()> {
        for _ in 0..10 {
            if self.wires.is_busy()? {
                return self.idle();
            }
            self.wires.pause(LOOK);
        }
        Err(no_panel("nothing answers at the panel's pins"))
    }
}

/// There is no panel, or it doesn't do what one does.
pub(super) fn no_panel(what: &str) -> Fault {
    Fault::new(Code::NoPanel, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records what is sent; busy for some looks after each activation.
    #[derive(Debug, Default)]
    struct Fake {
        sent: Vec<(u8, Vec<u8>)>,
        resets: usize,
        busy: usize,
        busy_after: usize,
        waited: Duration,
    }

    impl Wires for Fake {
        fn reset(&mut self) -> Result<()> {
            self.resets += 1;
            Ok(())
        }

        fn send(&mut self, command: u8, data: &[u8]) -> Result<()> {
            assert_eq!(self.busy, 0, "a busy controller doesn't listen");
            if command == command::ACTIVATE {
                self.busy = self.busy_after;
            }
            self.sent.push((command, data.to_vec()));
            Ok(())
        }

        fn is_busy(&mut self) -> Result<bool> {
            Ok(self.busy > 0)
        }

        fn pause(&mut self, time: Duration) {
            self.waited += time;
            self.busy = self.busy.saturating_sub(1);
        }
    }

    fn panel(model: Model) -> Panel<Fake> {
        Panel::new(Fake { busy_after: 100, ..Fake::default() }, model)
    }

    fn white(model: Model) -> Bitmap {
        let (width, height) = model.surface(Rotation::R0);
        Bitmap::of(&[], width, height)
    }

    /// The commands since the last look, pictures as their length.
    fn sent(panel: &mut Panel<Fake>) -> Vec<(u8, Vec<u8>)> {
        let sent = std::mem::take(&mut panel.wires.sent);
        sent.into_iter()
            .map(|(command, data)| if data.len() > 8 { (command, data.len().to_be_bytes()[4..].to_vec()) } else { (command, data) })
            .collect()
    }

    #[test]
    fn a_full_refresh_is_what_the_datasheet_asks_for() {
        let mut panel = panel(Model::Waveshare213V4);
        panel.show(&white(Model::Waveshare213V4), Rotation::R0, Refresh::Partial).unwrap();
        // 16 bytes for each of 250 rows.
        let picture = 4000u32.to_be_bytes().to_vec();
        assert_eq!(
            sent(&mut panel),
            [
                (0x12, vec![]),
                (0x01, vec![249, 0, 0]),
                (0x11, vec![3]),
                (0x44, vec![0, 15]),
                (0x45, vec![0, 0, 249, 0]),
                (0x3c, vec![5]),
                (0x21, vec![0, 0x80]),
                (0x18, vec![0x80]),
                (0x4e, vec![0]),
                (0x4f, vec![0, 0]),
                (0x26, picture.clone()),
                (0x4e, vec![0]),
                (0x4f, vec![0, 0]),
                (0x24, picture),
                (0x22, vec![0xf7]),
                (0x20, vec![]),
                (0x10, vec![1]),
            ]
        );
        assert_eq!((panel.wires.resets, panel.wires.waited), (1, LOOK * 100));
    }

    #[test]
    fn a_partial_refresh_tells_what_stood_there_and_what_shall() {
        let model = Model::Waveshare213V4;
        let mut panel = panel(model);
        panel.show(&white(model), Rotation::R0, Refresh::Full).unwrap();
        sent(&mut panel);
        let area = super::super::drawing::Area { x: 0, y: 0, width: 1, height: 1 };
        let dot = Bitmap::of(&[super::super::drawing::Item::Fill { area, ink: true }], 250, 122);
        panel.show(&dot, Rotation::R0, Refresh::Partial).unwrap();
        let written: Vec<_> = panel.wires.sent.iter().filter(|(_, data)| data.len() > 8).cloned().collect();
        assert_eq!((written[0].0, written[1].0), (0x26, 0x24));
        assert!(written[0].1.iter().all(|byte| *byte == 0xff));
        // The reader's upper left is the last row's first pixel.
        assert_eq!(written[1].1[249 * 16], 0x7f);
        let sent = sent(&mut panel);
        assert!(sent.contains(&(0x22, vec![0xff])) && !sent.iter().any(|(command, _)| *command == 0x12), "{sent:?}");
        assert_eq!(sent.last(), Some(&(0x10, vec![1])));
    }

    #[test]
    fn other_panels_have_their_own_size_and_full_refreshes_only() {
        for (model, window, bytes) in
            [(Model::Waveshare29V2, [0, 0, 39, 1], 16 * 296u32), (Model::Waveshare154V2, [0, 0, 199, 0], 25 * 200)]
        {
            let mut panel = panel(model);
            for _ in 0..2 {
                panel.show(&white(model), Rotation::R0, Refresh::Partial).unwrap();
                let sent = sent(&mut panel);
                assert!(sent.contains(&(0x45, window.to_vec())) && sent.contains(&(0x22, vec![0xf7])), "{sent:?}");
                assert!(sent.contains(&(0x24, bytes.to_be_bytes().to_vec())), "{sent:?}");
            }
        }
    }

    #[test]
    fn a_panel_that_does_not_answer_or_never_ends_is_an_error() {
        for busy_after in [0, usize::MAX] {
            let mut panel = Panel::new(Fake { busy_after, ..Fake::default() }, Model::Waveshare213V4);
            let fault = panel.show(&white(Model::Waveshare213V4), Rotation::R0, Refresh::Full).unwrap_err();
            assert_eq!(fault.code, Code::NoPanel);
            assert!(panel.wires.waited < Duration::from_secs(30));
            // What the panel shows now isn't known, so the next refresh is a full one.
            assert_eq!(panel.shown, None);
        }
    }
}
