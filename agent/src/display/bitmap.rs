//! Ink on a surface: one bit a pixel. Turns a drawing into pixels, and pixels into what a panel or a file takes.

use super::drawing::{Area, Font, Item};
use super::panel::Rotation;
use embedded_graphics::Pixel;
use embedded_graphics::mono_font::iso_8859_1::{FONT_6X10, FONT_7X13_BOLD, FONT_9X18_BOLD};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::{DrawTarget, Drawable, OriginDimensions, Point, Size};
use embedded_graphics::primitives::{PrimitiveStyle, Rectangle, StyledDrawable};
use embedded_graphics::text::{Baseline, Text};
use smolotchi_operator::{Code, Fault, Result};
use std::convert::Infallible;

/// A black and white picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bitmap {
    width: u32,
    height: u32,
    /// Rows from the top, each padded to a whole byte; the leftmost pixel is the highest bit; 1 is black.
    bits: Vec<u8>,
}

impl Bitmap {
    fn new(width: u32, height: u32) -> Self {
        Bitmap { width, height, bits: vec![0; (width.div_ceil(8) * height) as usize] }
    }

    /// A drawing in ink.
    pub(super) fn of(items: &[Item], width: u32, height: u32) -> Self {
        let mut bitmap = Bitmap::new(width, height);
        for item in items {
            bitmap.paint(item);
        }
        bitmap
    }

    fn paint(&mut self, item: &Item) {
        let colour = |ink| if ink { BinaryColor::On } else { BinaryColor::Off };
        let point = |x: u32, y: u32| Point::new(i32::try_from(x).unwrap_or(i32::MAX), i32::try_from(y).unwrap_or(i32::MAX));
        let done: std::result::Result<(), Infallible> = match item {
            Item::Fill { area: Area { x, y, width, height }, ink } => {
                Rectangle::new(point(*x, *y), Size::new(*width, *height)).draw_styled(&PrimitiveStyle::with_fill(colour(*ink)), self)
            }
            Item::Text { x, y, font, ink, text } => {
                Text::with_baseline(text, point(*x, *y), MonoTextStyle::new(face(*font), colour(*ink)), Baseline::Top).draw(self).map(drop)
            }
        };
        // It can't fail: the error has no values.
        let Ok(()) = done;
    }

    /// Whether a pixel is black; outside all is white.
    pub(super) fn ink(&self, x: u32, y: u32) -> bool {
        x < self.width && y < self.height && self.bits[self.at(x, y)] & mask(x) != 0
    }

    fn set(&mut self, x: u32, y: u32, ink: bool) {
        if x < self.width && y < self.height {
            let at = self.at(x, y);
            if ink { self.bits[at] |= mask(x) } else { self.bits[at] &= !mask(x) }
        }
    }

    fn at(&self, x: u32, y: u32) -> usize {
        (y * self.width.div_ceil(8) + x / 8) as usize
    }

    /// The rows with 1 for white, as panels and PNG have it.
    pub(super) fn white_bits(&self) -> Vec<u8> {
        self.bits.iter().map(|byte| !byte).collect()
    }

    /// As an upright panel takes a picture that is to be read in another position.
    pub(super) fn turned(&self, rotation: Rotation) -> Bitmap {
        let (width, height) = if rotation.is_landscape() { (self.height, self.width) } else { (self.width, self.height) };
        let mut turned = Bitmap::new(width, height);
        for y in 0..height {
            for x in 0..width {
                let (from_x, from_y) = match rotation {
                    Rotation::R0 => (self.width - 1 - y, x),
                    Rotation::R90 => (x, y),
                    Rotation::R180 => (y, self.height - 1 - x),
                    Rotation::R270 => (self.width - 1 - x, self.height - 1 - y),
                };
                turned.set(x, y, self.ink(from_x, from_y));
            }
        }
        turned
    }

    /// As a PNG with one bit a pixel.
    pub(super) fn png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width, self.height);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        encoder.set_compression(png::Compression::Balanced);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.white_bits())?;
            writer.finish()
        });
        written.map_err(|error| Fault::new(Code::Io, "could not make the picture").cause(&error))?;
        Ok(bytes)
    }

    /// Two rows of pixels in each line of text, ink as it would be on paper.
    pub(super) fn half_blocks(&self) -> String {
        let mut text = String::new();
        for y in (0..self.height).step_by(2) {
            for x in 0..self.width {
                // A terminal writes light on dark: what is white paper is a block.
                text.push(match (self.ink(x, y), self.ink(x, y + 1)) {
                    (false, false) => '\u{2588}',
                    (false, true) => '\u{2580}',
                    (true, false) => '\u{2584}',
                    (true, true) => ' ',
                });
            }
            text.push('\n');
        }
        text
    }
}

fn mask(x: u32) -> u8 {
    0x80 >> (x % 8)
}

fn face(font: Font) -> &'static MonoFont<'static> {
    match font {
        Font::Plain => &FONT_6X10,
        Font::Bold => &FONT_7X13_BOLD,
        Font::Title => &FONT_9X18_BOLD,
    }
}

impl OriginDimensions for Bitmap {
    fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }
}

impl DrawTarget for Bitmap {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(&mut self, pixels: I) -> std::result::Result<(), Infallible> {
        for Pixel(at, colour) in pixels {
            if let (Ok(x), Ok(y)) = (u32::try_from(at.x), u32::try_from(at.y)) {
                self.set(x, y, colour.is_on());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Black at these pixels.
    fn dots(width: u32, height: u32, dots: &[(u32, u32)]) -> Bitmap {
        let mut bitmap = Bitmap::new(width, height);
        dots.iter().for_each(|(x, y)| bitmap.set(*x, *y, true));
        bitmap
    }

    #[test]
    fn the_fonts_are_as_wide_and_high_as_the_layout_thinks() {
        for font in [Font::Plain, Font::Bold, Font::Title] {
            let face = face(font);
            assert_eq!((face.character_size.width + face.character_spacing, face.character_size.height), font.size());
        }
    }

    #[test]
    fn text_leaves_ink_within_its_cell_only() {
        let text = |text: &str, ink| Item::Text { x: 2, y: 1, font: Font::Plain, ink, text: text.into() };
        let bitmap = Bitmap::of(&[text("\u{c4}g", true)], 20, 14);
        let inked: Vec<_> = (0..14).flat_map(|y| (0..20).map(move |x| (x, y))).filter(|(x, y)| bitmap.ink(*x, *y)).collect();
        assert!(inked.len() > 20 && inked.iter().all(|(x, y)| (2..14).contains(x) && (1..11).contains(y)), "{inked:?}");
        // A letter that the font doesn't have would be drawn as a question mark.
        assert_ne!(bitmap, Bitmap::of(&[text("?g", true)], 20, 14));
        assert_eq!(Bitmap::of(&[text("\u{c4}g", false)], 20, 14), Bitmap::new(20, 14));
    }

    #[test]
    fn a_turned_picture_has_its_corner_where_the_reader_sees_it() {
        // A dot at the reader's upper left, and one right of it.
        let landscape = dots(5, 3, &[(0, 0), (1, 0)]);
        assert_eq!(landscape.turned(Rotation::R0), dots(3, 5, &[(0, 4), (0, 3)]));
        assert_eq!(landscape.turned(Rotation::R180), dots(3, 5, &[(2, 0), (2, 1)]));
        let portrait = dots(3, 5, &[(0, 0), (1, 0)]);
        assert_eq!(portrait.turned(Rotation::R90), portrait);
        assert_eq!(portrait.turned(Rotation::R270), dots(3, 5, &[(2, 4), (1, 4)]));
    }

    #[test]
    fn a_png_holds_the_pixels() {
        let bitmap = dots(10, 3, &[(0, 0), (9, 2)]);
        let bytes = bitmap.png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
        let mut data = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut data).unwrap();
        assert_eq!((info.width, info.height, info.color_type, info.bit_depth), (10, 3, png::ColorType::Grayscale, png::BitDepth::One));
        // What lies beyond the tenth pixel doesn't matter.
        let seen: Vec<_> = data.chunks(2).map(|row| (row[0], row[1] & 0xc0)).collect();
        assert_eq!(seen, [(0x7f, 0xc0), (0xff, 0xc0), (0xff, 0x80)]);
    }

    #[test]
    fn half_blocks_hold_two_rows_a_line() {
        let bitmap = dots(3, 3, &[(0, 0), (1, 1), (2, 0), (2, 1)]);
        assert_eq!(bitmap.half_blocks(), "\u{2584}\u{2580} \n\u{2588}\u{2588}\u{2588}\n");
    }
}
