//! Stamps the release's version into the binary: SMOLOTCHI_VERSION if the release maker sets it, else the crate's.

fn main() {
    println!("cargo::rerun-if-env-changed=SMOLOTCHI_VERSION");
    let set = std::env::var("SMOLOTCHI_VERSION").ok().filter(|text| !text.is_empty());
    let version = set.or_else(|| std::env::var("CARGO_PKG_VERSION").ok()).unwrap_or_default();
    println!("cargo::rustc-env=SMOLOTCHI_VERSION={version}");
}
