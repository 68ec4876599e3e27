//! Turns the release library's errors into what an operator sees. The one place that knows both.

use smolotchi_operator::{Code, Fault};
use smolotchi_release::ReleaseError;

/// Extension of results of the release library.
pub trait OrFault<T> {
    /// The same result with the error as a [`Fault`].
    fn or_fault(self) -> Result<T, Fault>;
}

impl<T> OrFault<T> for Result<T, ReleaseError> {
    fn or_fault(self) -> Result<T, Fault> {
        self.map_err(|error| from_release(&error))
    }
}

/// The fault for an error of the release library; its facts become details.
pub fn from_release(error: &ReleaseError) -> Fault {
    let code = Code::ALL.iter().copied().find(|code| code.as_str() == error.code()).unwrap_or(Code::Io);
    let mut fault = Fault::new(code, error.message());
    for (name, value) in error.facts() {
        fault = fault.fact(name, value.as_str());
    }
    match std::error::Error::source(error) {
        Some(source) => fault.cause(source),
        None => fault,
    }
}
