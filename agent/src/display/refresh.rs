//! When a panel is drawn anew, and how. Pure.
//!
//! E-paper wears, flickers and leaves ghosts: it is drawn when what it shows has changed, a figure counts from a step on, few partial
//! refreshes stand between two full ones, and there is one full refresh a day at least (Waveshare's advice for its modules).

use super::facts::Facts;
use super::panel::Refresh;

/// Partial refreshes between two full ones, at most.
const PARTIAL_IN_A_ROW: u32 = 5;
/// Between two full refreshes, at most.
const FULL_EVERY_MS: u64 = 24 * 3600 * 1000;

/// Steps below which a figure is the same.
const MEMORY_STEP: u8 = 5;
const TEMPERATURE_STEP: u16 = 3;
/// From here on, figures that moved within a reason count as well.
const FIGURES_EVERY_MS: u64 = 3600 * 1000;

/// What the panel shows, and how it got there.
#[derive(Debug)]
pub(super) struct Shown {
    facts: Facts,
    partial: u32,
    at_ms: u64,
    full_at_ms: u64,
}

impl Shown {
    /// What there is to do, with the time since boot in ms: nothing, if there is nothing new, or nothing of it would be `drawn`.
    pub(super) fn next<D: PartialEq>(shown: Option<&Shown>, facts: &Facts, now_ms: u64, drawn: impl Fn(&Facts) -> D) -> Option<Refresh> {
        let Some(shown) = shown else { return Some(Refresh::Full) };
        let full = now_ms.saturating_sub(shown.full_at_ms) >= FULL_EVERY_MS;
        if full {
            return Some(Refresh::Full);
        }
        let news = news(&shown.facts, facts, now_ms.saturating_sub(shown.at_ms) >= FIGURES_EVERY_MS);
        if news == shown.facts || drawn(&news) == drawn(&shown.facts) {
            return None;
        }
        let turned = shown.facts.well() != facts.well();
        Some(if turned || shown.partial >= PARTIAL_IN_A_ROW { Refresh::Full } else { Refresh::Partial })
    }

    /// What the panel shows after a refresh.
    pub(super) fn after(shown: Option<&Shown>, facts: Facts, refresh: Refresh, now_ms: u64) -> Shown {
        match (refresh, shown) {
            (Refresh::Partial, Some(shown)) => Shown { facts, partial: shown.partial + 1, at_ms: now_ms, full_at_ms: shown.full_at_ms },
            _ => Shown { facts, partial: 0, at_ms: now_ms, full_at_ms: now_ms },
        }
    }
}

/// The newer one, but with the old one's value where a reader would learn nothing from it: the moment, figures below their step, and
/// figures within a reason, unless they count.
fn news(old: &Facts, new: &Facts, figures: bool) -> Facts {
    let near = |a: Option<u8>, b: Option<u8>, step| a.zip(b).is_some_and(|(a, b)| a.abs_diff(b) < step);
    let warm = old.temperature.zip(new.temperature).is_some_and(|(a, b)| a.abs_diff(b) < TEMPERATURE_STEP);
    let mut news = Facts { as_of: old.as_of.clone(), ..new.clone() };
    if near(old.memory, new.memory, MEMORY_STEP) {
        news.memory = old.memory;
    }
    if warm {
        news.temperature = old.temperature;
    }
    if !figures && old.ill.len() == new.ill.len() && old.ill.iter().zip(&new.ill).all(|(old, new)| words(old).eq(words(new))) {
        news.ill.clone_from(&old.ill);
    }
    news
}

/// A text without its figures.
fn words(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|letter| !letter.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn time_alone_draws_once_a_day_and_a_figure_counts_from_its_step() {
        let facts = samples::well();
        let shown = Shown::after(None, facts.clone(), Refresh::Full, 1000);
        assert_eq!(Shown::next(None, &facts, 0, Facts::clone), Some(Refresh::Full));
        let changed = |change: fn(&mut Facts)| {
            let mut facts = facts.clone();
            change(&mut facts);
            Shown::next(Some(&shown), &facts, 2000, Facts::clone)
        };
        assert_eq!(changed(|facts| facts.as_of = "later".into()), None);
        assert_eq!(changed(|facts| facts.memory = facts.memory.map(|percent| percent + MEMORY_STEP - 1)), None);
        assert_eq!(changed(|facts| facts.memory = facts.memory.map(|percent| percent + MEMORY_STEP)), Some(Refresh::Partial));
        assert_eq!(changed(|facts| facts.memory = None), Some(Refresh::Partial));
        assert_eq!(changed(|facts| facts.temperature = facts.temperature.map(|degrees| degrees - 2)), None);
        assert_eq!(changed(|facts| facts.temperature = facts.temperature.map(|degrees| degrees - 3)), Some(Refresh::Partial));
        assert_eq!(changed(|facts| facts.disk = facts.disk.map(|percent| percent + 1)), Some(Refresh::Partial));
        assert_eq!(changed(|facts| facts.ill.push("x".into())), Some(Refresh::Full));
        assert_eq!(Shown::next(Some(&shown), &facts, 999 + FULL_EVERY_MS, Facts::clone), None);
        assert_eq!(Shown::next(Some(&shown), &facts, 1000 + FULL_EVERY_MS, Facts::clone), Some(Refresh::Full));
    }

    #[test]
    fn a_reason_whose_figures_move_is_drawn_once_an_hour_and_what_is_not_seen_never() {
        let ill = |reasons: &[&str]| Facts { ill: reasons.iter().map(|reason| (*reason).to_owned()).collect(), ..samples::well() };
        let facts = ill(&["disk: 13 MiB free, at least 16 wanted"]);
        let shown = Shown::after(None, facts.clone(), Refresh::Full, 1000);
        let next = |facts: &Facts, now_ms| Shown::next(Some(&shown), facts, now_ms, Facts::clone);
        let lower = Facts { memory: facts.memory.map(|percent| percent + 1), ..ill(&["disk: 9 MiB free, at least 16 wanted"]) };
        assert_eq!(next(&lower, 2000), None);
        assert_eq!(next(&lower, 999 + FIGURES_EVERY_MS), None);
        assert_eq!(next(&lower, 1000 + FIGURES_EVERY_MS), Some(Refresh::Partial));
        assert_eq!(next(&facts, 1000 + FIGURES_EVERY_MS), None);
        assert_eq!(next(&ill(&["disk: can't be asked"]), 2000), Some(Refresh::Partial));
        assert_eq!(next(&ill(&["disk: 13 MiB free, at least 16 wanted", "loop: slow"]), 2000), Some(Refresh::Partial));
        // Two dots stand where these differ.
        let unseen = Shown::next(Some(&shown), &ill(&["disk: 13 MiB free, at most nothing"]), 2000, |facts| facts.ill[0][..20].to_owned());
        assert_eq!(unseen, None);
    }

    #[test]
    fn the_sixth_change_in_a_row_is_a_full_refresh() {
        let mut facts = samples::well();
        let mut shown = Shown::after(None, facts.clone(), Refresh::Full, 0);
        let mut seen = Vec::new();
        for now in 1..=7 {
            facts.findings = Some(now);
            let refresh = Shown::next(Some(&shown), &facts, now, Facts::clone).unwrap();
            shown = Shown::after(Some(&shown), facts.clone(), refresh, now);
            seen.push(refresh);
        }
        let mut expected = [Refresh::Partial; 7];
        expected[5] = Refresh::Full;
        assert_eq!(seen, expected);
    }
}
