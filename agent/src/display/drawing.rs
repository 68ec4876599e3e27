//! A page on a surface of so many pixels: where each text and bar goes. Pure; [`super::bitmap`] turns it into ink.

use super::page::{Page, Row, fit, wrap};

/// One thing to draw; the later ones are over the earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A filled rectangle.
    Fill {
        /// Where.
        area: Area,
        /// Black, or white.
        ink: bool,
    },
    /// One line of text, from its upper left corner.
    Text {
        /// Left.
        x: u32,
        /// Top.
        y: u32,
        /// The letters' size.
        font: Font,
        /// Black on white, or white on black.
        ink: bool,
        /// Printable Latin-1.
        text: String,
    },
}

/// A rectangle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub(super) struct Area {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// The three sizes of letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Font {
    /// 6 × 10.
    Plain,
    /// 7 × 13, bold.
    Bold,
    /// 9 × 18, bold.
    Title,
}

impl Font {
    /// A letter's width and height.
    pub(super) fn size(self) -> (u32, u32) {
        match self {
            Font::Plain => (6, 10),
            Font::Bold => (7, 13),
            Font::Title => (9, 18),
        }
    }

    /// How many letters go into so many pixels.
    fn columns(self, width: u32) -> usize {
        (width / self.size().0) as usize
    }
}

/// Between text and edge.
const MARGIN: u32 = 3;
/// The head's height.
const HEAD: u32 = 20;
/// From one row to the next.
const PITCH: u32 = 12;
/// The foot's height.
const FOOT: u32 = 13;
/// The columns of a label, with the blank behind it.
const LABEL: u32 = 9;
/// From this width on, two short rows share a line.
const WIDE: u32 = 200;
/// The least width of a bar that says something.
const BAR: u32 = 20;

/// Lays a page out.
pub(super) fn draw(page: &Page, width: u32, height: u32) -> Vec<Item> {
    let mut items = vec![Item::Fill { area: Area { x: 0, y: 0, width, height }, ink: false }];
    let mut y = head(page, width, &mut items);
    let bottom = height.saturating_sub(FOOT);
    y = reasons(page, width, y, bottom, &mut items);
    rows(&page.rows, width, y, bottom, &mut items);
    items.push(Item::Fill { area: Area { x: 0, y: bottom, width, height: 1 }, ink: true });
    let columns = Font::Plain.columns(width.saturating_sub(2 * MARGIN));
    // On a narrow panel the moment itself must stay.
    let short = page.foot.trim_start_matches("as of ").trim_end_matches(" UTC");
    let foot = fit(if page.foot.len() <= columns { &page.foot } else { short }, columns);
    items.push(Item::Text { x: MARGIN, y: bottom + 2, font: Font::Plain, ink: true, text: foot });
    items
}

/// Name and verdict; where they don't fit side by side, the verdict has a line of its own. Returns where the rest begins.
fn head(page: &Page, width: u32, items: &mut Vec<Item>) -> u32 {
    let (letter, _) = Font::Title.size();
    let verdict_width = letters(page.verdict) * letter;
    let beside = width.saturating_sub(verdict_width + 4 * MARGIN);
    let one_line = Font::Title.columns(beside) >= 8;
    let height = if one_line { HEAD } else { 2 * HEAD };
    items.push(Item::Fill { area: Area { x: 0, y: 0, width, height }, ink: page.alarm });
    if !page.alarm {
        items.push(Item::Fill { area: Area { x: 0, y: height - 1, width, height: 1 }, ink: true });
    }
    let room = if one_line { beside } else { width.saturating_sub(2 * MARGIN) };
    let title = fit(&page.title, Font::Title.columns(room));
    items.push(Item::Text { x: MARGIN, y: 1, font: Font::Title, ink: !page.alarm, text: title });
    let (x, y) = if one_line { (width.saturating_sub(verdict_width + MARGIN), 1) } else { (MARGIN, 1 + HEAD) };
    items.push(Item::Text { x, y, font: Font::Title, ink: !page.alarm, text: page.verdict.to_owned() });
    height + 3
}

/// The reasons, large; they may take half of what is left.
fn reasons(page: &Page, width: u32, mut y: u32, bottom: u32, items: &mut Vec<Item>) -> u32 {
    let (_, line) = Font::Bold.size();
    let columns = Font::Bold.columns(width.saturating_sub(2 * MARGIN));
    let mut left = (bottom.saturating_sub(y) / 2 / line).max(1) as usize;
    for (at, reason) in page.reasons.iter().enumerate() {
        // Each later reason gets a line, if there are so many.
        let later = page.reasons.len() - at - 1;
        for text in wrap(reason, columns, left.saturating_sub(later).max(1)) {
            if left == 0 {
                break;
            }
            items.push(Item::Text { x: MARGIN, y, font: Font::Bold, ink: true, text });
            y += line;
            left -= 1;
        }
    }
    if page.reasons.is_empty() { y } else { y + 2 }
}

/// The rows, as many as there is room for; two short ones share a line where it is wide enough.
fn rows(rows: &[Row], width: u32, mut y: u32, bottom: u32, items: &mut Vec<Item>) {
    let wide = width >= WIDE;
    let half = (width - MARGIN) / 2;
    let mut rest = rows.iter().peekable();
    while let Some(first) = rest.next() {
        if y + PITCH > bottom + 1 {
            return;
        }
        match rest.next_if(|second| wide && first.short && second.short) {
            Some(second) => {
                row(first, MARGIN, y, half - MARGIN, 1, items);
                row(second, MARGIN + half, y, half - MARGIN, 1, items);
                y += PITCH;
            }
            None => {
                let room = ((bottom + 1 - y) / PITCH) as usize;
                // What is last may use the lines that are left; on a narrow panel each may use two.
                let lines = match (rest.peek(), wide) {
                    (None, _) => room.min(3),
                    (Some(_), true) => 1,
                    (Some(_), false) => room.min(2),
                };
                let used = row(first, MARGIN, y, width - 2 * MARGIN, lines, items);
                y += PITCH * used.max(1);
            }
        }
    }
}

/// One row; how many lines it took.
fn row(row: &Row, x: u32, y: u32, width: u32, lines: usize, items: &mut Vec<Item>) -> u32 {
    let (letter, height) = Font::Plain.size();
    let label = fit(row.label, Font::Plain.columns(width));
    items.push(Item::Text { x, y, font: Font::Plain, ink: true, text: label });
    let (mut left, mut room) = (x + LABEL * letter, width.saturating_sub(LABEL * letter));
    if let Some(percent) = row.percent {
        let bar = room.saturating_sub(6 * letter).min(100);
        if bar >= BAR {
            let area = Area { x: left, y: y + 1, width: bar, height: height - 2 };
            let inner = Area { x: left + 1, y: y + 2, width: bar - 2, height: height - 4 };
            let filled = Area { x: left + 2, y: y + 3, width: (bar - 4) * u32::from(percent.min(100)) / 100, height: height - 6 };
            items.extend([(area, true), (inner, false), (filled, true)].map(|(area, ink)| Item::Fill { area, ink }));
            left += bar + letter;
            room -= bar + letter;
        }
    }
    let texts = wrap(&row.value, Font::Plain.columns(room), lines);
    let mut used = 0;
    for text in texts {
        items.push(Item::Text { x: left, y: y + used * PITCH, font: Font::Plain, ink: true, text });
        used += 1;
    }
    used
}

fn letters(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::facts::Facts;
    use super::super::samples;
    use super::*;

    /// Everything stays on the surface, and no two texts overlap.
    #[test]
    fn no_page_leaves_its_surface_or_writes_over_itself() {
        let sizes = [(250, 122), (122, 250), (296, 128), (128, 296), (200, 200)];
        for (name, facts) in samples::all() {
            for page in [Page::of(&facts), Page::stopped(&facts)] {
                for (width, height) in sizes {
                    let texts: Vec<Area> = draw(&page, width, height)
                        .into_iter()
                        .filter_map(|item| match item {
                            Item::Fill { area, .. } => {
                                assert!(
                                    area.x + area.width <= width && area.y + area.height <= height,
                                    "{name} {width}x{height}: {area:?}"
                                );
                                None
                            }
                            Item::Text { x, y, font, text, .. } => {
                                let (letter, line) = font.size();
                                let area = Area { x, y, width: letters(&text) * letter, height: line };
                                assert!(x + area.width <= width && y + line <= height, "{name} {width}x{height}: {text:?}");
                                Some(area)
                            }
                        })
                        .collect();
                    for (at, a) in texts.iter().enumerate() {
                        for b in &texts[at + 1..] {
                            let apart = a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
                            assert!(apart, "{name} {width}x{height}: {a:?} {b:?}");
                        }
                    }
                }
            }
        }
    }

    fn texts(facts: &Facts) -> Vec<String> {
        draw(&Page::of(facts), 250, 122)
            .into_iter()
            .filter_map(|item| match item {
                Item::Text { text, .. } => Some(text),
                Item::Fill { .. } => None,
            })
            .collect()
    }

    #[test]
    fn reasons_come_before_figures_and_the_time_is_always_there() {
        let ill = samples::ill();
        let texts = texts(&ill);
        assert_eq!(texts[1], "UNHEALTHY");
        assert!(ill.ill[0].starts_with(&texts[2]), "{texts:?}");
        assert_eq!(texts.last(), Some(&ill.as_of));
    }
}
