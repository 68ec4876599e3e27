//! The lines of a Waveshare module on a Raspberry Pi's header: SPI 0, chip 0, and three pins of the first GPIO chip.

use super::panel::{Wires, no_panel};
use gpiocdev::Request;
use gpiocdev::line::Value;
use rustix::fs::Access;
use rustix::io::Errno;
use smolotchi_operator::Result;
use spidev::{SpiModeFlags, Spidev, SpidevOptions};
use std::io::Write;
use std::time::Duration;

/// The devices; the unit allows these and no others.
const SPI: &str = "/dev/spidev0.0";
const GPIO: &str = "/dev/gpiochip0";
/// The pins, by their BCM numbers.
const RESET: u32 = 17;
const BUSY: u32 = 24;
const DATA: u32 = 25;
const POWER: u32 = 18;
/// Well within what the controllers take (20 MHz).
const HERTZ: u32 = 4_000_000;
/// The kernel's buffer is 4096 bytes unless it was told otherwise.
const CHUNK: usize = 2048;

/// The lines, held as long as this is.
#[derive(Debug)]
pub(super) struct Header {
    spi: Spidev,
    outputs: Request,
    busy: Request,
}

impl Header {
    /// Opens the devices. Errors: `display.no-panel` with the path and the system's words.
    pub(super) fn open() -> Result<Self> {
        for path in [SPI, GPIO] {
            may_use(path)?;
        }
        let refused = |path: &'static str| {
            move |error: std::io::Error| no_panel("a device of the panel can't be used").fact("path", path).cause(&error)
        };
        let mut spi = Spidev::open(SPI).map_err(refused(SPI))?;
        let options = SpidevOptions::new().bits_per_word(8).max_speed_hz(HERTZ).mode(SpiModeFlags::SPI_MODE_0).build();
        spi.configure(&options).map_err(refused(SPI))?;
        let taken = |error: gpiocdev::Error| no_panel("a pin of the panel can't be used").fact("path", GPIO).cause(&error);
        let request = || {
            let mut builder = Request::builder();
            builder.on_chip(GPIO).with_consumer("smolotchi-display");
            builder
        };
        // Some modules switch their power with a pin; the others don't mind.
        let mut outputs = request();
        outputs.with_lines(&[RESET, POWER]).as_output(Value::Active).with_line(DATA).as_output(Value::Inactive);
        let outputs = outputs.request().map_err(taken)?;
        let busy = request().with_line(BUSY).as_input().request().map_err(taken)?;
        Ok(Header { spi, outputs, busy })
    }

    fn pin(&mut self, pin: u32, value: Value) -> Result<()> {
        self.outputs
            .set_value(pin, value)
            .map(drop)
            .map_err(|error| no_panel("a pin of the panel can't be set").fact("pin", pin).cause(&error))
    }

    fn transfer(&mut self, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.chunks(CHUNK) {
            self.spi.write_all(chunk).map_err(|error| no_panel("the panel can't be written to").fact("path", SPI).cause(&error))?;
        }
        Ok(())
    }
}

/// Tells apart what an operator has to mend: a device that isn't there, and one that this user may not use.
fn may_use(path: &str) -> Result<()> {
    rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK).map_err(|error| {
        let fault = no_panel("a device of the panel can't be used").fact("path", path).cause(&error);
        match error {
            Errno::ACCESS => fault.hint("let the service use it: usermod -aG spi,gpio smolotchi-display, then start it again"),
            _ => fault,
        }
    })
}

impl Wires for Header {
    fn reset(&mut self) -> Result<()> {
        for (value, millis) in [(Value::Active, 20), (Value::Inactive, 2), (Value::Active, 20)] {
            self.pin(RESET, value)?;
            self.pause(Duration::from_millis(millis));
        }
        Ok(())
    }

    fn send(&mut self, command: u8, data: &[u8]) -> Result<()> {
        self.pin(DATA, Value::Inactive)?;
        self.transfer(&[command])?;
        if data.is_empty() {
            return Ok(());
        }
        self.pin(DATA, Value::Active)?;
        self.transfer(data)
    }

    fn is_busy(&mut self) -> Result<bool> {
        let value = self.busy.value(BUSY).map_err(|error| no_panel("a pin of the panel can't be read").fact("pin", BUSY).cause(&error))?;
        Ok(value == Value::Active)
    }

    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}
