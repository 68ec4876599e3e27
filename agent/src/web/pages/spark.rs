//! A sensor's last day as a small picture: SVG made of elements and attributes only, with its words for who can't see it.

use super::words::quantity;
use maud::{Markup, html};

/// The picture's own units; the style sheet decides how large it is.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 48.0;
/// Room above and below the line.
const MARGIN: f64 = 3.0;
/// No more corners than this: a phone shows no more.
const COLUMNS: usize = 120;

/// The line through `points` (milliseconds, value; oldest first) from `from` to `to`. A value holds until the next one:
/// only changes are stored.
pub(super) fn spark(name: &str, unit: &str, points: &[(i64, f64)], from: i64, to: i64) -> Markup {
    let points: Vec<_> = points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
    let (Some((_, last)), true) = (points.last(), to > from) else { return html! { span.soft { "nothing in this time" } } };
    let low = points.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
    let told = format!("{name}: lowest {}, highest {}, last {}", quantity(low, unit), quantity(high, unit), quantity(*last, unit));
    html! {
        svg.spark viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(told) {
            title { (told) }
            path.line d=(path(&points, from, to, low, high)) fill="none" vector-effect="non-scaling-stroke" {}
        }
    }
}

/// The steps of the line; of many points in one column only the lowest, the highest and the last one.
fn path(points: &[(i64, f64)], from: i64, to: i64, low: f64, high: f64) -> String {
    let span = (to - from) as f64;
    let x = |at: i64| ((at.clamp(from, to) - from) as f64 / span * WIDTH * 10.0).round() / 10.0;
    let y = |value: f64| {
        let part = if high > low { (value - low) / (high - low) } else { 0.5 };
        ((HEIGHT - MARGIN - part * (HEIGHT - 2.0 * MARGIN)) * 10.0).round() / 10.0
    };
    let column = |at: i64| ((at.clamp(from, to) - from) as f64 / span * COLUMNS as f64) as usize;
    let mut text = String::new();
    for group in points.chunk_by(|a, b| column(a.0) == column(b.0)) {
        let start = x(group[0].0);
        text.push_str(&if text.is_empty() { format!("M{start} {}", y(group[0].1)) } else { format!("H{start}") });
        let lowest = group.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
        let highest = group.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
        for value in [lowest, highest, group[group.len() - 1].1] {
            text.push_str(&format!("V{}", y(value)));
        }
    }
    text.push_str(&format!("H{WIDTH}"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_holds_until_the_next() {
        let text = path(&[(0, 1.0), (50, 3.0)], 0, 100, 1.0, 3.0);
        assert_eq!(text, "M0 45V45V45V45H120V3V3V3H240");
    }

    #[test]
    fn many_points_are_few_corners_and_nothing_is_no_line() {
        let many: Vec<_> = (0..100_000).map(|n| (n, (n % 97) as f64)).collect();
        assert!(path(&many, 0, 100_000, 0.0, 96.0).len() < COLUMNS * 40);
        assert!(spark("n", "", &[], 0, 10).into_string().contains("nothing"));
        assert!(spark("n", "", &[(0, f64::NAN)], 0, 10).into_string().contains("nothing"));
        let flat = spark("<b>", "%", &[(0, 7.0)], 0, 10).into_string();
        assert!(flat.contains("M0 24") && flat.contains("lowest 7.0 %") && !flat.contains("<b>"), "{flat}");
    }
}
