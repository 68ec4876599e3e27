//! The states of a change, as its journal tells them: one function from state and event to state, which the status shows
//! and docs/concepts/upgrades.md draws. It decides nothing: what to do next is the executor's.

use super::journal::{Event, Verdict};
use crate::plan::Task;

/// Where a change stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// Opened; nothing is touched.
    #[default]
    Open,
    /// The running version is being kept.
    Saving,
    /// dpkg replaces the packages.
    Changing,
    /// The new version is being judged.
    Watching,
    /// dpkg brings the version before back.
    GoingBack,
    /// The version before is being judged.
    WatchingBack,
    /// An end.
    Closed(Verdict),
}

impl State {
    /// Every state, in the order in which a change meets them.
    #[cfg(test)]
    const ALL: [State; 10] = [
        State::Open,
        State::Saving,
        State::Changing,
        State::Watching,
        State::GoingBack,
        State::WatchingBack,
        State::Closed(Verdict::Committed),
        State::Closed(Verdict::Abandoned),
        State::Closed(Verdict::RolledBack),
        State::Closed(Verdict::OperatorNeeded),
    ];

    /// The word in `status` and on the picture.
    pub fn word(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Saving => "saving",
            State::Changing => "changing",
            State::Watching => "watching",
            State::GoingBack => "going-back",
            State::WatchingBack => "watching-back",
            State::Closed(verdict) => verdict.as_str(),
        }
    }

    /// Where an event leads. An event that isn't foreseen here leaves the state as it is: the journal may be of a later version.
    pub fn after(self, event: &Event) -> State {
        self.next(event).unwrap_or(self)
    }

    fn next(self, event: &Event) -> Option<State> {
        use State::{Changing, Closed, GoingBack, Open, Saving, Watching, WatchingBack};
        Some(match (self, event) {
            (Open, Event::Started { task: Task::SaveSlot }) => Saving,
            (Open | Saving, Event::Started { task: Task::Packages }) => Changing,
            (Open | Saving | Changing, Event::Started { task: Task::Watch }) => Watching,
            (Changing | Watching, Event::Undoing { .. }) => GoingBack,
            (GoingBack, Event::Reverted) => WatchingBack,
            (Watching, Event::Closed { verdict: Verdict::Committed, .. }) => Closed(Verdict::Committed),
            (Open | Saving | Changing | Watching, Event::Closed { verdict: Verdict::Abandoned, .. }) => Closed(Verdict::Abandoned),
            (GoingBack | WatchingBack, Event::Closed { verdict: Verdict::OperatorNeeded, .. }) => Closed(Verdict::OperatorNeeded),
            (WatchingBack, Event::Closed { verdict: Verdict::RolledBack, .. }) => Closed(Verdict::RolledBack),
            _ => return None,
        })
    }

    /// What happens after a power cut in this state.
    #[cfg(test)]
    fn after_a_cut(self) -> &'static str {
        match self {
            State::Open => "Nothing was touched: the change goes on as if it had just been opened.",
            State::Saving => "A half-made slot is thrown away and made anew; the old version runs meanwhile.",
            State::Changing => {
                "Before anything of the agent starts, the healer hands the same packages, kept and hashed, to dpkg again, whoever had run it; that finishes whatever dpkg had begun, and the migration, which is one transaction, with it. If dpkg had not begun, the executor runs it, or lets go of a change that was apt's."
            }
            State::Watching => {
                "The new version is judged anew for a whole window; the reboot itself is not held against it. Where apt or dpkg was still at work, the healer finishes what it had begun first; only if a package can't be finished does the change go back."
            }
            State::GoingBack => "The healer hands the slot's packages to dpkg again, then the executor goes on.",
            State::WatchingBack => "The old version is judged anew for a whole window.",
            State::Closed(_) => {
                "The verdict stands in the journal: what follows from it (the report, the pin, the kept packages) is done again, and the change is taken off the table."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    fn events() -> Vec<(&'static str, Event)> {
        let closed = |verdict| Event::Closed { verdict, reason: String::new() };
        vec![
            ("keep the slot", Event::Started { task: Task::SaveSlot }),
            ("run dpkg", Event::Started { task: Task::Packages }),
            ("watch", Event::Started { task: Task::Watch }),
            ("sick, or dpkg failed", Event::Undoing { reason: String::new(), blame: true }),
            ("old packages are back", Event::Reverted),
            ("healthy", closed(Verdict::Committed)),
            ("nothing changed", closed(Verdict::Abandoned)),
            ("old version healthy", closed(Verdict::RolledBack)),
            ("old version sick too", closed(Verdict::OperatorNeeded)),
        ]
    }

    fn documentation(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/concepts").join(name)
    }

    /// The state machine for graphviz: every state, and every event that leads from one to another. The mark goes into the picture.
    fn dot(mark: &str) -> String {
        let mut text = format!("digraph change {{\n  id=\"{mark}\";\n");
        text.push_str(
            "  rankdir=TB; nodesep=0.5; ranksep=0.55; bgcolor=\"white\";\n  \
             node [shape=box style=\"rounded,filled\" fillcolor=\"#eef3fb\" color=\"#34506e\" fontname=\"sans-serif\" fontsize=13];\n  \
             edge [color=\"#5b6b7b\" fontname=\"sans-serif\" fontsize=11];\n",
        );
        for state in State::ALL {
            let (fill, shape) = match state {
                State::Closed(Verdict::Committed) => ("#d9f2dd", "penwidth=2"),
                State::Closed(Verdict::RolledBack | Verdict::Abandoned) => ("#fdf1cf", "penwidth=2"),
                State::Closed(Verdict::OperatorNeeded) => ("#f9d9d6", "penwidth=2"),
                _ => ("#eef3fb", ""),
            };
            text.push_str(&format!("  \"{}\" [fillcolor=\"{fill}\" {shape}];\n", state.word()));
        }
        for from in State::ALL {
            for (what, event) in events() {
                if let Some(to) = from.next(&event) {
                    text.push_str(&format!("  \"{}\" -> \"{}\" [label=\"{what}\"];\n", from.word(), to.word()));
                }
            }
        }
        let ends: Vec<String> = State::ALL[6..].iter().map(|end| format!("\"{}\"", end.word())).collect();
        text.push_str(&format!("  {{ rank=same; {} }}\n}}\n", ends.join("; ")));
        text
    }

    /// The table of what a power cut does, in the document.
    fn table() -> String {
        let mut text = String::from("| power cut while | after the next boot |\n|---|---|\n");
        for state in State::ALL.iter().take(7) {
            let word = if matches!(state, State::Closed(_)) { "closed, but not yet put away" } else { state.word() };
            text.push_str(&format!("| {word} | {} |\n", state.after_a_cut()));
        }
        text
    }

    /// Written again with `UPDATE=1 cargo test -p smolotchi-install state`, then drawn with `make figures`.
    #[test]
    fn the_picture_and_the_table_are_the_codes() {
        use sha2::{Digest, Sha256};
        let text = documentation("upgrades.md");
        let mark = format!("{:x}", Sha256::digest(dot("")));
        let (begin, end) = ("<!-- power cuts -->\n", "<!-- end -->\n");
        let page = std::fs::read_to_string(&text).unwrap();
        let (head, rest) = page.split_once(begin).unwrap();
        let (shown, tail) = rest.split_once(end).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(documentation("upgrades.dot"), dot(&mark)).unwrap();
            std::fs::write(&text, format!("{head}{begin}{}{end}{tail}", table())).unwrap();
            return;
        }
        for file in ["upgrades.dot", "upgrades.svg"] {
            let drawn = std::fs::read_to_string(documentation(file)).unwrap();
            assert!(drawn.contains(&format!("id=\"{mark}\"")), "{file} is of another state machine");
        }
        assert_eq!(shown, table(), "the table of power cuts is not the code's");
    }

    #[test]
    fn every_state_is_reached_and_ends() {
        let next = |state: State| events().into_iter().filter_map(move |(_, event)| state.next(&event)).collect::<Vec<_>>();
        let mut reached = vec![State::Open];
        let mut at = 0;
        while at < reached.len() {
            for state in next(reached[at]) {
                if !reached.contains(&state) {
                    reached.push(state);
                }
            }
            at += 1;
        }
        assert_eq!(reached.len(), State::ALL.len());
        for state in State::ALL {
            assert_eq!(next(state).is_empty(), matches!(state, State::Closed(_)), "{state:?}");
        }
    }
}
