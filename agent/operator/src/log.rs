//! Log lines on standard error. Under systemd each carries its priority, so that `journalctl -p err` finds errors;
//! an error line always starts with its code.

use crate::{Code, Fault};
use anstyle::{AnsiColor, Style};
use std::io::Write;
use std::sync::OnceLock;

/// Syslog priorities that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Priority {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
}

/// True when systemd reads our standard error.
pub fn to_journal() -> bool {
    static TO_JOURNAL: OnceLock<bool> = OnceLock::new();
    *TO_JOURNAL.get_or_init(|| std::env::var_os("JOURNAL_STREAM").is_some() && !std::io::IsTerminal::is_terminal(&std::io::stderr()))
}

fn line(priority: Priority, text: &str) {
    let mut err = anstream::stderr().lock();
    let result = if to_journal() {
        // One journal entry per line would tear a message apart.
        writeln!(err, "<{}>{}", priority as u8, text.replace('\n', " | "))
    } else {
        let (word, style) = match priority {
            Priority::Error => ("error: ", AnsiColor::Red.on_default().bold()),
            Priority::Warning => ("warning: ", AnsiColor::Yellow.on_default().bold()),
            Priority::Notice | Priority::Info => ("", Style::new()),
        };
        writeln!(err, "{style}{word}{style:#}{text}")
    };
    // Nobody is left to tell.
    let _ = result;
}

/// An error: the fault's code, message and facts, and its hint.
pub fn fault(fault: &Fault) {
    if to_journal() {
        line(Priority::Error, &format!("{fault}; hint: {}", fault.hint));
    } else {
        line(Priority::Error, &fault.to_string());
        let style = AnsiColor::Cyan.on_default();
        let _ = writeln!(anstream::stderr(), "{style}hint:{style:#} {}", fault.hint);
    }
}

/// Something that may need attention.
pub fn warning(code: Code, text: impl AsRef<str>) {
    line(Priority::Warning, &format!("[{code}] {}", text.as_ref()));
}

/// Something that an operator wants to find later.
pub fn notice(text: impl AsRef<str>) {
    line(Priority::Notice, text.as_ref());
}

/// Something that helps to follow what happens.
pub fn info(text: impl AsRef<str>) {
    line(Priority::Info, text.as_ref());
}
