//! Part `journal`: what our units complained about in the last day.

use super::{Check, State, ask_here};
use crate::paths::Paths;
use serde_json::Value;
use std::collections::BTreeMap;

const PART: &str = "journal";

pub(super) fn look(paths: &Paths) -> Vec<Check> {
    let args = ["--no-pager", "-q", "-u", "smolotchi-*", "-p", "warning", "--since", "-24h", "-n", "1000", "-o", "json"];
    let fields = "--output-fields=MESSAGE,PRIORITY,SMOLOTCHI_CODE";
    vec![match ask_here(paths, "journalctl", &[&args[..], &[fields]].concat()) {
        Ok(text) => judge(&text, crate::account::is_root()),
        Err(why) => Check::unknown(PART, "recent errors", why),
    }]
}

/// Judges entries, one JSON object a line, oldest first.
fn judge(text: &str, all_seen: bool) -> Check {
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let (mut errors, mut warnings, mut newest) = (0_u64, 0_u64, None);
    for entry in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let error = entry["PRIORITY"].as_str().is_some_and(|priority| priority <= "3");
        if error {
            errors += 1
        } else {
            warnings += 1
        }
        let kind = entry["SMOLOTCHI_CODE"].as_str().unwrap_or("without a code");
        *kinds.entry(kind.to_owned()).or_default() += 1;
        newest = entry["MESSAGE"].as_str().map(|text| text.chars().take(200).collect::<String>());
    }
    let name = "last 24 hours";
    if errors + warnings == 0 {
        return match all_seen {
            true => Check::ok(PART, name, "no errors and no warnings"),
            false => Check::unknown(PART, name, "only root and the group adm see the journal of the services"),
        };
    }
    let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let detail = format!("{errors} errors, {warnings} warnings ({}); the last one: {}", kinds.join(", "), newest.unwrap_or_default());
    Check::new(PART, name, State::Warning, detail).hint("journalctl -x -p warning -u 'smolotchi-*' --since -24h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_by_code() {
        assert_eq!(judge("", true).state, State::Ok);
        assert_eq!(judge("", false).state, State::Unknown);
        let text =
            "{\"PRIORITY\":\"3\",\"MESSAGE\":\"[io.failed] a\",\"SMOLOTCHI_CODE\":\"io.failed\"}\n{\"PRIORITY\":\"4\",\"MESSAGE\":\"b\"}\n";
        assert_eq!(judge(text, true).detail, "1 errors, 1 warnings (io.failed 1, without a code 1); the last one: b");
    }
}
