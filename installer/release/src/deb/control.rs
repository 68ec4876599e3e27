//! The control file of a .deb, deb-control(5): one paragraph, each field once.

use super::invalid;
use crate::{Result, tree};

/// The fields that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Control {
    /// The package's name.
    pub package: String,
    /// The package's version.
    pub version: String,
    /// A Debian architecture, or `all`.
    pub architecture: String,
    /// The raw `Depends` field.
    pub depends: Option<String>,
    /// The `Installed-Size` field, in KiB.
    pub installed_kib: Option<u64>,
}

impl Control {
    /// Reads a control file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Control> {
        let text = std::str::from_utf8(bytes).map_err(|_| invalid("its control file is not UTF-8"))?;
        let mut fields: Vec<(&str, String)> = Vec::new();
        for line in text.trim_end_matches('\n').split('\n') {
            if line.starts_with([' ', '\t']) {
                let (_, value) = fields.last_mut().ok_or_else(|| invalid("its control file begins in mid-field"))?;
                value.push('\n');
                value.push_str(line.trim());
                continue;
            }
            // An empty line would begin a second paragraph, which some readers ignore and others merge.
            let (name, value) = line
                .split_once(':')
                .filter(|(name, _)| is_field_name(name))
                .ok_or_else(|| invalid("its control file is malformed").fact("line", line))?;
            if fields.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                return Err(invalid("its control file has a field twice").fact("field", name));
            }
            fields.push((name, value.trim().to_owned()));
        }
        let get = |name: &str| fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone());
        let need = |name: &str| get(name).ok_or_else(|| invalid("its control file lacks a field").fact("field", name));
        let control = Control {
            package: need("Package")?,
            version: need("Version")?,
            architecture: need("Architecture")?,
            depends: get("Depends"),
            installed_kib: get("Installed-Size").and_then(|size| size.parse().ok()),
        };
        let rules = [
            (tree::is_package_name(&control.package), "Package", &control.package),
            (is_version(&control.version), "Version", &control.version),
            (tree::is_architecture(&control.architecture), "Architecture", &control.architecture),
        ];
        for (holds, field, value) in rules {
            if !holds {
                return Err(invalid("its control file has an impossible value").fact("field", field).fact("found", value));
            }
        }
        Ok(control)
    }
}

fn is_field_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['#', '-']) && name.bytes().all(|b| b.is_ascii_graphic())
}

/// Debian's characters; with an epoch, because a package of somebody else's may be read too.
fn is_version(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".+~:-".contains(&b))
}
