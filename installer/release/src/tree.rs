//! Where things stand in a release tree, relative to its root: one place for the shapes of its paths.

/// The suffix of a detached signature.
pub const SIGNATURE_SUFFIX: &str = ".minisig";

/// `channels/NAME.toml`.
pub fn channel_path(channel: &str) -> String {
    format!("channels/{channel}.toml")
}

/// `releases/VERSION/manifest.toml`.
pub fn manifest_path(version: &str) -> String {
    format!("releases/{version}/manifest.toml")
}

/// `pool/NAME_VERSION_ARCH.deb`.
pub fn deb_path(package: &str, version: &str, architecture: &str) -> String {
    format!("pool/{package}_{version}_{architecture}.deb")
}

/// The signature's path beside a document's.
pub fn signature_path(document: &str) -> String {
    format!("{document}{SIGNATURE_SUFFIX}")
}

/// A channel's name: a lower-case letter, then lower-case letters, digits and hyphens; at most 32.
pub fn is_channel_name(text: &str) -> bool {
    text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A Debian package's name (Policy 5.6.1), at most 64.
pub fn is_package_name(text: &str) -> bool {
    (2..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+.-".contains(&b))
        && !text.contains("..")
}

/// A Debian architecture's name, or `all`.
pub fn is_architecture(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A file name without a folder: letters, digits and `. _ + ~ -`, not starting with a dot or a hyphen, at most 255.
pub fn is_file_name(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+~-".contains(&b))
}
