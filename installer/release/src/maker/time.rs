//! The current time, in whole seconds; SOURCE_DATE_EPOCH stands in for it where set.

use super::fault::input;
use jiff::Timestamp;
use smolotchi_operator::Result;

/// What is taken for now.
pub(crate) fn now() -> Result<Timestamp> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else {
        return seconds(Timestamp::now().as_second());
    };
    let text = text.to_string_lossy();
    let second = text.parse().map_err(|_| input("SOURCE_DATE_EPOCH is not a number of seconds").fact("found", text.as_ref()))?;
    seconds(second)
}

/// A time a number of days later.
pub(crate) fn days_after(time: Timestamp, days: u32) -> Result<Timestamp> {
    seconds(time.as_second() + i64::from(days) * 86_400)
}

/// As in a Release file.
pub(crate) fn rfc2822(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

fn seconds(second: i64) -> Result<Timestamp> {
    Timestamp::from_second(second).map_err(|error| input("a time is out of range").cause(&error))
}
