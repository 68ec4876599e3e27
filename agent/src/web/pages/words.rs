//! Values for people: moments, sizes, readings, JSON. Pure; nothing here knows a page.

use crate::commands::events::words;
use crate::wire::readings;
use maud::{Markup, html};
use serde_json::Value;

/// The longest text shown in a list; the whole of it is on the page of the thing itself, or in its JSON.
const MAX_CHARS: usize = 300;

/// A moment: for people in UTC, for programs as it is.
pub(super) fn time(rfc3339: &str) -> Markup {
    let shown = rfc3339.trim_end_matches('Z').replacen('T', " ", 1);
    html! { time datetime=(rfc3339) { (shown) " UTC" } }
}

/// A severity or a state, as a mark with a colour of its own.
pub(super) fn mark(word: &str) -> Markup {
    html! { span.mark.(word) { (word) } }
}

/// The word that JSON has for one of our states.
pub(super) fn word(state: impl serde::Serialize) -> String {
    serde_json::to_value(state).ok().and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
}

/// A body for people on one line: an object as its pairs, everything else as at the command line.
pub(super) fn line(value: &Value) -> String {
    let pair = |(name, value): (&String, &Value)| format!("{}: {}", words(&Value::from(name.as_str())), words(value));
    let whole = match value {
        Value::Object(pairs) => pairs.iter().map(pair).collect::<Vec<_>>().join(", "),
        other => words(other),
    };
    shortened(&whole)
}

/// The first of it, if it is long.
pub(super) fn shortened(text: &str) -> String {
    if text.chars().count() <= MAX_CHARS { text.to_owned() } else { text.chars().take(MAX_CHARS).chain(['…']).collect() }
}

/// An object as a list of facts; anything else as JSON.
pub(super) fn facts(value: &Value) -> Markup {
    match value {
        Value::Object(pairs) if !pairs.is_empty() => html! {
            dl.facts {
                @for (name, value) in pairs {
                    div { dt { (name) } dd { @if is_flat(value) { (line(value)) } @else { (json(value)) } } }
                }
            }
        },
        Value::Object(_) | Value::Null => html! { p.soft { "No facts were recorded." } },
        other => json(other),
    }
}

/// Whether it reads well on one line.
fn is_flat(value: &Value) -> bool {
    let plain = |value: &Value| !value.is_object() && !value.is_array();
    match value {
        Value::Object(pairs) => pairs.len() <= 4 && pairs.values().all(plain),
        Value::Array(items) => items.is_empty(),
        _ => true,
    }
}

/// JSON as it is, indented.
pub(super) fn json(value: &Value) -> Markup {
    html! { pre tabindex="0" { (serde_json::to_string_pretty(value).unwrap_or_default()) } }
}

/// A size.
pub(super) fn size(bytes: f64) -> String {
    let (mut size, mut unit) = (bytes, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if size.abs() < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    if unit == "B" { format!("{size:.0} B") } else { format!("{size:.1} {unit}") }
}

/// A number in its unit.
pub(super) fn quantity(number: f64, unit: &str) -> String {
    let plain = if number.fract() == 0.0 && number.abs() < 1e15 { format!("{number:.0}") } else { format!("{number:.2}") };
    match unit {
        "B" => size(number),
        "B/s" => format!("{}/s", size(number)),
        "C" => format!("{number:.1} °C"),
        "%" => format!("{number:.1} %"),
        "" | "count" => plain,
        unit => format!("{plain} {unit}"),
    }
}

/// A reading's value in its unit.
pub(super) fn reading(value: &readings::Value, unit: &str) -> String {
    match value {
        readings::Value::Number(number) => quantity(*number, unit),
        readings::Value::Text(text) => shortened(&words(&Value::from(text.as_str()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_told_in_their_units() {
        let cases = [
            (0.0, "B", "0 B"),
            (1023.0, "B", "1023 B"),
            (1536.0, "B", "1.5 KiB"),
            (512.0 * 1024.0 * 1024.0, "B", "512.0 MiB"),
            (2048.0, "B/s", "2.0 KiB/s"),
            (48.25, "C", "48.2 °C"),
            (7.0, "count", "7"),
            (0.25, "", "0.25"),
            (3.0, "ms", "3 ms"),
        ];
        for (number, unit, expected) in cases {
            assert_eq!(quantity(number, unit), expected);
        }
    }

    #[test]
    fn bodies_are_one_short_line() {
        assert_eq!(line(&json!({"a": 1, "b": "x\ny"})), "a: 1, b: x y");
        assert_eq!(line(&json!("x".repeat(400))).chars().count(), 301);
        let hostile = json!({"<b>": "<script>", "n": {"<i>": 1}});
        let shown = facts(&hostile).into_string();
        assert!(!shown.contains("<b>") && !shown.contains("<script>") && !shown.contains("<i>"), "{shown}");
    }
}
