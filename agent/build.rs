//! Stamps the release's version into the binary: SMOLOTCHI_VERSION if the release maker sets it, else the crate's.

fn main() {
    println!("cargo::rerun-if-env-changed=SMOLOTCHI_VERSION");
    let version = std::env::var("SMOLOTCHI_VERSION").or_else(|_| std::env::var("CARGO_PKG_VERSION")).unwrap_or_default();
    println!("cargo::rustc-env=SMOLOTCHI_VERSION={version}");
}
