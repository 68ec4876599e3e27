//! Nothing that was changed on the way passes: every byte changed, every length cut, other keys, other forms.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
use common::*;
use smolotchi_release::{Channel, Deb, ErrorKind, Manifest, ReleaseError, Result, Trust, bundle, sha256_file, signature};
use std::path::Path;

/// Which bytes of a signature nobody signs and nobody reads: the text of its first line.
fn unsigned(signature: &[u8]) -> std::ops::Range<usize> {
    "untrusted comment: ".len()..signature.iter().position(|b| *b == b'\n').unwrap()
}

fn verify(path: &str, document: &[u8], signature: &[u8]) -> Result<()> {
    if path == CHANNEL {
        Channel::verify(document, signature, &trust()).map(drop)
    } else {
        Manifest::verify(document, signature, &trust()).map(drop)
    }
}

#[test]
fn every_changed_byte_of_a_signed_document_is_refused() {
    for path in [MANIFEST, CHANNEL] {
        let (document, signature) = (read(path), read(&format!("{path}.minisig")));
        verify(path, &document, &signature).unwrap();
        for at in 0..document.len() {
            for bit in 0..8 {
                let mut changed = document.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(code(verify(path, &changed, &signature)), "release.signature-invalid", "{path} byte {at} bit {bit}");
            }
        }
        for at in (0..signature.len()).filter(|at| !unsigned(&signature).contains(at)) {
            for bit in 0..8 {
                let mut changed = signature.clone();
                changed[at] ^= 1 << bit;
                assert!(verify(path, &document, &changed).is_err(), "{path}.minisig byte {at} bit {bit}");
            }
        }
    }
}

#[test]
fn every_truncation_of_a_signed_document_is_refused() {
    for path in [MANIFEST, CHANNEL] {
        let (document, signature) = (read(path), read(&format!("{path}.minisig")));
        for length in 0..document.len() {
            assert_eq!(code(verify(path, &document[..length], &signature)), "release.signature-invalid", "{path} cut to {length}");
        }
        for length in 0..signature.len() {
            assert_eq!(
                code(verify(path, &document, &signature[..length])),
                "release.signature-malformed",
                "{path}.minisig cut to {length}"
            );
        }
    }
}

#[test]
fn signatures_of_other_forms_are_refused() {
    let good = String::from_utf8(read(&format!("{MANIFEST}.minisig"))).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let malformed: Vec<(&str, String)> = vec![
        ("empty", String::new()),
        ("CRLF", good.replace('\n', "\r\n")),
        ("BOM", format!("\u{feff}{good}")),
        ("no last line feed", good.trim_end().to_owned()),
        ("a fifth line", format!("{good}x\n")),
        ("an empty fifth line", format!("{good}\n")),
        ("two signatures", format!("{good}{good}")),
        ("no first prefix", good.replacen("untrusted comment: ", "", 1)),
        ("no second prefix", good.replacen("\ntrusted comment: ", "\n", 1)),
        ("a blank in the base64", good.replacen(lines[1], &format!("{} ", lines[1]), 1)),
        ("no padding in the base64", good.replacen(lines[1], lines[1].trim_end_matches('='), 1)),
        ("an escape sequence", good.replacen("untrusted comment: ", "untrusted comment: \u{1b}[2K", 1)),
        ("a long comment", good.replacen("untrusted comment: ", &format!("untrusted comment: {}", "x".repeat(1024)), 1)),
        ("legacy", String::from_utf8(read("refused/manifest.toml.legacy.minisig")).unwrap()),
    ];
    for (what, signature) in malformed {
        assert_eq!(code(signature::verify(&trust(), &read(MANIFEST), signature.as_bytes())), "release.signature-malformed", "{what}");
    }
    let other = read("refused/manifest.toml.other-key.minisig");
    assert_eq!(code(signature::verify(&trust(), &read(MANIFEST), &other)), "release.signature-unknown-key");
    let both = Trust::load(&[&golden().join("keys"), Path::new("/nonexistent")]).unwrap();
    signature::verify(&both, &read(MANIFEST), &other).unwrap();
    // A good signature of a trusted key, over another document.
    assert_eq!(code(verify(CHANNEL, &read(CHANNEL), &read(&format!("{MANIFEST}.minisig")))), "release.signature-invalid");
    // A good signature over a document of another kind.
    assert_eq!(code(Channel::verify(&read(MANIFEST), good.as_bytes(), &trust())), "release.channel-invalid");
    let none = Trust::load(&[Path::new("/nonexistent")]).unwrap();
    assert!(none.is_empty());
    assert_eq!(code(signature::verify(&none, &read(MANIFEST), good.as_bytes())), "release.no-trusted-keys");
}

#[test]
fn a_malformed_key_file_is_an_error_and_not_ignored() {
    let good = String::from_utf8(read("keys/smolotchi.pub")).unwrap();
    let table = [
        ("good", good.clone(), "ok"),
        ("empty", String::new(), "release.key-malformed"),
        ("no comment", good.lines().nth(1).unwrap().to_owned() + "\n", "release.key-malformed"),
        ("CRLF", good.replace('\n', "\r\n"), "release.key-malformed"),
        ("a third line", format!("{good}x\n"), "release.key-malformed"),
        ("cut", good[..good.len() - 5].to_owned() + "\n", "release.key-malformed"),
        ("an escape sequence", good.replacen("comment: ", "comment: \u{1b}[2K", 1), "release.key-malformed"),
        ("long", good.replacen("comment: ", &format!("comment: {}", "x".repeat(600)), 1), "release.key-malformed"),
    ];
    for (what, text, expected) in table {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.pub"), text).unwrap();
        std::fs::write(folder.path().join("README"), "no key").unwrap();
        assert_eq!(code(Trust::load(&[folder.path()])), expected, "{what}");
    }
    let id = trust().keys().next().unwrap().0.to_string();
    assert!(good.contains(&id), "{id} is not as minisign writes it: {good}");
    assert_eq!(code(Trust::from_files(&["/nonexistent/a.pub".into()])), "release.file-missing");
}

#[test]
fn every_changed_byte_and_every_truncation_of_a_deb_is_refused() {
    let entry = manifest().deb("smolotchi", "amd64").unwrap().clone();
    let good = read("tree/pool/smolotchi_0.2.0_amd64.deb");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.deb");
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1 << (at % 8);
        std::fs::write(&path, &changed).unwrap();
        assert_eq!(code(Deb::open_verified(&path, &entry)), "release.file-mismatch", "byte {at}");
        let untrusted = Deb::open(&path).and_then(|deb| deb.verify(&entry));
        assert!(untrusted.is_err(), "byte {at}");
        std::fs::write(&path, &good[..at]).unwrap();
        assert_eq!(code(Deb::open_verified(&path, &entry)), "release.file-truncated", "cut to {at}");
        assert_eq!(code(Deb::open(&path)), "release.file-truncated", "cut to {at}");
    }
    std::fs::write(&path, [&good[..], b"x"].concat()).unwrap();
    assert_eq!(code(Deb::open(&path)), "release.deb-invalid", "one byte more");
    assert_eq!(code(Deb::open(&folder.path().join("none.deb"))), "release.file-missing");
}

/// What the installer does with a bundle, in short.
fn accept(bundle: &Path) -> Result<()> {
    // Tens of thousands of small files: in memory where there is such a place.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let contents = bundle::unpack(bundle, folder.path())?;
    let read = |path: &str| {
        let path = folder.path().join(path);
        std::fs::read(&path).map_err(|error| ReleaseError::io("could not read", &path, error))
    };
    let path = format!("channels/{}.toml", contents.channel);
    let channel = Channel::verify(&read(&path)?, &read(&format!("{path}.minisig"))?, &trust())?;
    let bytes = read(&channel.manifest)?;
    channel.check_manifest(&bytes)?;
    let manifest = Manifest::verify(&bytes, &read(&format!("{}.minisig", channel.manifest))?, &trust())?;
    if channel.channel != contents.channel || manifest.debs.len() + 4 != contents.paths.len() {
        return Err(ReleaseError::new(ErrorKind::BundleInvalid, "other files than named"));
    }
    for entry in &manifest.debs {
        Deb::open_verified(&folder.path().join(&entry.path), entry)?;
    }
    Ok(())
}

#[test]
fn every_changed_byte_and_every_truncation_of_a_bundle_is_refused() {
    let good = golden().join("smolotchi-0.2.0-amd64.bundle");
    accept(&good).unwrap();
    let bytes = std::fs::read(&good).unwrap();
    let free: Vec<usize> = bytes
        .windows(19)
        .enumerate()
        .filter(|(_, window)| *window == b"untrusted comment: ")
        .flat_map(|(at, _)| unsigned(&bytes[at..]).map(move |offset| at + offset))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.bundle");
    for at in 0..bytes.len() {
        if !free.contains(&at) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            std::fs::write(&path, &changed).unwrap();
            assert_ne!(code(accept(&path)), "ok", "byte {at}");
        }
        std::fs::write(&path, &bytes[..at]).unwrap();
        assert_eq!(code(accept(&path)), "release.file-truncated", "cut to {at}");
    }
    std::fs::write(&path, [&bytes[..], b"\0"].concat()).unwrap();
    assert_eq!(code(accept(&path)), "release.bundle-invalid", "one byte more");
    assert_eq!(code(accept(&folder.path().join("none"))), "release.file-missing");
}

#[test]
fn a_tar_by_another_program_is_no_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.bundle");
    let made = std::process::Command::new("tar")
        .args(["--format=ustar", "--sort=name", "-cf"])
        .arg(&path)
        .arg("-C")
        .arg(golden().join("tree"))
        .args(["channels", "pool", "releases"])
        .status()
        .unwrap();
    assert!(made.success());
    assert_eq!(code(accept(&path)), "release.bundle-invalid");
    let (_, size) = sha256_file(&path).unwrap();
    assert!(size > 0);
}
