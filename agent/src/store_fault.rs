//! The one place where an error of the store becomes what an operator sees.

use smolotchi_operator::{Code, Fault};
use smolotchi_store::StoreError;

/// The store's error under the catalogue's code of the same name, with its facts.
pub(crate) fn store_fault(error: StoreError) -> Fault {
    let code = code_named(error.code()).unwrap_or(Code::StoreFailed);
    let mut fault = Fault::new(code, error.to_string());
    for (name, value) in error.facts() {
        fault = fault.fact(name, value);
    }
    match std::error::Error::source(&error) {
        Some(source) => fault.cause(source),
        None => fault,
    }
}

/// The catalogue's line with this name.
pub(crate) fn code_named(name: &str) -> Option<Code> {
    Code::ALL.iter().copied().find(|code| code.as_str() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn the_catalogue_knows_every_code_of_the_store() {
        let path = || PathBuf::from("/x");
        let errors = [
            StoreError::Missing { path: path() },
            StoreError::Exists { path: path() },
            StoreError::Newer { current: 4, own: 3 },
            StoreError::Older { current: 2, own: 3 },
            StoreError::Irreversible { number: 1, name: "a".into() },
            StoreError::Checksum { number: 1, name: "a".into(), recorded: "b".into(), compiled: "c".into() },
            StoreError::CheckFailed { number: 1, name: "a".into(), violations: vec![] },
            StoreError::Damaged { path: path(), what: "x".into() },
            StoreError::Busy { path: path() },
            StoreError::WrongUser { path: path(), owner: 1, caller: 0 },
            StoreError::InvalidEvent { index: 0, what: "x".into() },
            StoreError::Io { what: "x", path: path(), source: std::io::Error::other("y") },
        ];
        for error in errors {
            let code = error.code();
            assert_eq!(store_fault(error).code.as_str(), code);
        }
    }
}
