//! The golden files of every format are read for good: a change here breaks machines that are out there.

mod common;
use common::*;
use smolotchi_release::{Deb, Origin, ReleaseToml, SlotManifest, bundle, sha256_file};

#[test]
fn manifest() {
    let manifest = common::manifest();
    assert_eq!((manifest.version.as_str(), manifest.schema.own, manifest.debs.len()), ("0.2.0", 3, 2));
    assert_eq!(manifest.health.units, ["smolotchi-core.service", "smolotchi-web.socket"]);
    assert_eq!(manifest.health.prove, "/run/smolotchi/core.sock");
    assert_eq!(manifest.deb("smolotchi", "amd64").unwrap().path, "pool/smolotchi_0.2.0_amd64.deb");
    assert_eq!(manifest.deb("smolotchi", "arm64"), None);
    assert_eq!(manifest.deb("smolotchi-archive-keyring", "arm64").unwrap().version, "2026.1");
    assert_eq!(manifest.to_toml().unwrap().as_bytes(), read(MANIFEST));
}

#[test]
fn channel() {
    let channel = common::channel();
    assert_eq!((channel.channel.as_str(), channel.sequence, channel.version.as_str()), ("stable", 7, "0.2.0"));
    assert_eq!(channel.expires_at.to_string(), "2036-01-01T00:00:00Z");
    channel.check_manifest(&read(MANIFEST)).unwrap();
    assert_eq!(code(channel.check_manifest(b"other")), "release.file-mismatch");
    assert_eq!(channel.to_toml().unwrap().as_bytes(), read(CHANNEL));
}

#[test]
fn a_channel_is_fresh_until_it_expires_and_never_goes_back() {
    let at = |text: &str| Some(text.parse().unwrap());
    let table = [
        (None, None, "ok"),
        (None, Some(7), "ok"),
        (None, Some(6), "ok"),
        (None, Some(8), "release.channel-replayed"),
        (at("2030-01-01T00:00:00Z"), None, "ok"),
        (at("1970-01-01T00:00:00Z"), None, "ok"),
        (at("2036-01-01T00:00:00Z"), Some(7), "ok"),
        (at("2036-01-01T00:00:01Z"), Some(7), "release.channel-expired"),
        (at("2036-01-01T00:00:01Z"), Some(8), "release.channel-replayed"),
    ];
    for (now, seen, expected) in table {
        assert_eq!(code(common::channel().freshness(now, seen)), expected, "{now:?} {seen:?}");
    }
}

#[test]
fn deb() {
    let path = golden().join("tree/pool/smolotchi_0.2.0_amd64.deb");
    let deb = Deb::open(&path).unwrap();
    assert_eq!((deb.package(), deb.version(), deb.architecture()), ("smolotchi", "0.2.0", "amd64"));
    assert_eq!(deb.depends(), Some("libc6 (>= 2.36)"));
    assert_eq!((deb.sha256().to_owned(), deb.size()), sha256_file(&path).unwrap());
    assert_eq!(deb.installed_bytes(), 189 + 7);
    assert_eq!(deb.read_file("/usr/lib/smolotchi/release.toml").unwrap().unwrap(), read("release.toml"));
    assert_eq!(deb.read_file("/usr/lib/smolotchi/other.toml").unwrap(), None);
    let manifest = common::manifest();
    assert_eq!(deb.clone().verify(manifest.deb("smolotchi", "amd64").unwrap()).unwrap().installable(), path);
    assert_eq!(Deb::open_verified(&path, manifest.deb("smolotchi", "amd64").unwrap()).unwrap().installable(), path);
}

#[test]
fn verifying_a_deb_names_what_differs() {
    type Change = fn(&mut smolotchi_release::DebEntry);
    let table: [(&str, Change, &str); 6] = [
        ("size", |entry| entry.size += 1, "release.file-truncated"),
        ("size", |entry| entry.size -= 1, "release.file-mismatch"),
        ("sha256", |entry| entry.sha256 = "0".repeat(64), "release.file-mismatch"),
        ("package", |entry| entry.package.push('x'), "release.deb-invalid"),
        ("version", |entry| entry.version.push('x'), "release.deb-invalid"),
        ("architecture", |entry| entry.architecture = "arm64".into(), "release.wrong-architecture"),
    ];
    let path = golden().join("tree/pool/smolotchi_0.2.0_amd64.deb");
    for (what, change, expected) in table {
        let mut entry = common::manifest().deb("smolotchi", "amd64").unwrap().clone();
        change(&mut entry);
        assert_eq!(code(Deb::open(&path).unwrap().verify(&entry)), expected, "{what}");
        assert_eq!(code(Deb::open_verified(&path, &entry)), expected, "{what}");
    }
}

#[test]
fn bundle() {
    let folder = tempfile::tempdir().unwrap();
    let contents = bundle::unpack(&golden().join("smolotchi-0.2.0-amd64.bundle"), folder.path()).unwrap();
    assert_eq!((contents.channel.as_str(), contents.version.as_str(), contents.paths.len()), ("stable", "0.2.0", 6));
    for path in &contents.paths {
        assert!(std::fs::read(folder.path().join(path)).unwrap() == read(&format!("tree/{path}")), "{path}");
    }
    assert_eq!(code(bundle::unpack(&golden().join("smolotchi-0.2.0-amd64.bundle"), folder.path())), "io.failed", "the folder isn't empty");
    // Another program reads it too.
    let listing = std::process::Command::new("tar").arg("tf").arg(golden().join("smolotchi-0.2.0-amd64.bundle")).output().unwrap();
    assert!(listing.status.success() && listing.stderr.is_empty(), "{listing:?}");
    assert_eq!(String::from_utf8(listing.stdout).unwrap().lines().collect::<Vec<_>>(), contents.paths);
}

#[test]
fn release_toml() {
    let release = ReleaseToml::parse(&read("release.toml")).unwrap();
    assert_eq!((release.version.as_str(), release.schema.own), ("0.2.0", 3));
    assert_eq!(release.to_toml().unwrap().as_bytes(), read("release.toml"));
    // A later release may say more.
    let later = [b"later = true\n".as_slice(), &read("release.toml")].concat();
    assert_eq!(ReleaseToml::parse(&later).unwrap(), release);
    assert_eq!(code(ReleaseToml::parse(b"version = \"0.2.0\"")), "release.toml-invalid");
}

#[test]
fn slot() {
    let slot = SlotManifest::verify_in(&golden().join("slot")).unwrap();
    assert_eq!((slot.version.as_str(), slot.schema, slot.debs[0].origin), ("0.2.0", Some(3), Origin::Original));
    assert_eq!(slot.to_toml().unwrap().as_bytes(), read("slot/slot.toml"));
}

#[test]
fn a_slot_notices_every_damaged_file() {
    let files = ["slot.toml", "smolotchi.db", "debs/smolotchi_0.2.0_amd64.deb"];
    for damaged in files {
        for cut in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("debs")).unwrap();
            for file in files {
                let mut bytes = read(&format!("slot/{file}"));
                if file == damaged && cut {
                    bytes.pop();
                    bytes.pop();
                } else if file == damaged {
                    bytes[0] ^= 1;
                }
                std::fs::write(folder.path().join(file), bytes).unwrap();
            }
            assert_eq!(code(SlotManifest::verify_in(folder.path())), "change.slot-damaged", "{damaged}, cut: {cut}");
            std::fs::remove_file(folder.path().join(damaged)).unwrap();
            assert_eq!(code(SlotManifest::verify_in(folder.path())), "change.slot-damaged", "{damaged} missing");
        }
    }
}
