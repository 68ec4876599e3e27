//! From the library's errors to the operator's.

use smolotchi_operator::{Code, Fault, Result};
use smolotchi_release::ReleaseError;
use std::path::Path;

/// Adds `or_fault` to the library's results.
pub(crate) trait OrFault<T> {
    /// The same result with the error as a [`Fault`].
    fn or_fault(self) -> Result<T>;
}

impl<T> OrFault<T> for Result<T, ReleaseError> {
    fn or_fault(self) -> Result<T> {
        self.map_err(|error| {
            let code = Code::ALL.iter().copied().find(|code| code.as_str() == error.code()).unwrap_or(Code::Io);
            let fault =
                error.facts().iter().fold(Fault::new(code, error.message()), |fault, (name, value)| fault.fact(name, value.as_str()));
            match std::error::Error::source(&error) {
                Some(source) => fault.cause(source),
                None => fault,
            }
        })
    }
}

/// Input that can't be made into a release.
pub(crate) fn input(message: impl Into<String>) -> Fault {
    Fault::new(Code::MakerInput, message)
}

/// Reads a small file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Fault::new(Code::FileMissing, "a file is missing").fact("path", path.display().to_string()),
        _ => Fault::io("could not read a file", path, &error),
    })
}

/// Makes a folder and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| Fault::io("could not make a folder", path, &error))
}
