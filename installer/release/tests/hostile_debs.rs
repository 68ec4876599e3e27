//! Packages that nobody of ours would build: each is refused, with the reason that was meant. The first of the table is a good one,
//! built by the same code, so that the table can't pass by building nonsense.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
use common::code;
use flate2::{Compression, write::GzEncoder};
use smolotchi_release::Deb;
use std::io::Write;

const CONTROL: &str = "Package: smolotchi\nVersion: 0.2.0\nArchitecture: amd64\nDescription: x\n y\n";

/// One tar entry; everything can be wrong.
#[derive(Clone)]
struct File {
    name: String,
    kind: u8,
    mode: u32,
    uid: u64,
    user: &'static str,
    target: &'static str,
    data: Vec<u8>,
    magic: &'static [u8; 8],
    tweak: fn(&mut [u8; 512]),
}

fn file(name: &str) -> File {
    let name = name.to_owned();
    File { name, kind: b'0', mode: 0o644, uid: 0, user: "root", target: "", data: b"data".to_vec(), magic: b"ustar  \0", tweak: |_| {} }
}

fn folder(name: &str) -> File {
    File { kind: b'5', mode: 0o755, data: vec![], ..file(name) }
}

/// Nothing after the name of the link's target, and no owner.
fn v7(block: &mut [u8; 512]) {
    block[257..].fill(0);
    block[108..124].fill(0);
}

fn link(name: &str, target: &'static str) -> File {
    File { kind: b'2', mode: 0o777, target, data: vec![], ..file(name) }
}

fn of_kind(kind: u8) -> File {
    File { kind, data: vec![], ..file("./usr/x") }
}

fn tar(files: &[File]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for file in files {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..file.name.len()].copy_from_slice(file.name.as_bytes());
        old.linkname[..file.target.len()].copy_from_slice(file.target.as_bytes());
        old.linkflag[0] = file.kind;
        header.set_mode(file.mode);
        header.set_uid(file.uid);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(file.data.len() as u64);
        header.set_username(file.user).unwrap();
        let mut block: [u8; 512] = *header.as_bytes();
        block[257..265].copy_from_slice(file.magic);
        (file.tweak)(&mut block);
        *header.as_mut_bytes() = block;
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&file.data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes
}

fn end(mut tar: Vec<u8>) -> Vec<u8> {
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One file of 513 MiB of zeros, well-formed: a few megabytes when packed.
fn bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let claims = File { tweak: |b| b[124..136].copy_from_slice(b"04004000000\0"), ..file("./x") };
    encoder.write_all(&tar(&[claims])[..512]).unwrap();
    for _ in 0..513 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    encoder.write_all(&[0; 1024]).unwrap();
    encoder.finish().unwrap()
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        bytes.extend_from_slice(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", content.len()).as_bytes());
        bytes.extend_from_slice(content);
        if content.len() % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

fn control(text: &str) -> Vec<u8> {
    gz(&end(tar(&[folder("./"), File { data: text.into(), ..file("./control") }])))
}

fn deb(control: &[u8], data: &[u8]) -> Vec<u8> {
    ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", control), ("data.tar.gz", data)])
}

/// A package with these files.
fn with(files: &[File]) -> Vec<u8> {
    deb(&control(CONTROL), &gz(&end(tar(files))))
}

/// A package with this control file.
fn saying(text: &str) -> Vec<u8> {
    deb(&control(text), &gz(&end(tar(&[folder("./")]))))
}

fn open(bytes: &[u8]) -> (&'static str, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.deb");
    std::fs::write(&path, bytes).unwrap();
    let result = Deb::open(&path);
    let text = result.as_ref().err().map(|error| format!("{error} {:?}", std::error::Error::source(error))).unwrap_or_default();
    (code(result), text)
}

#[test]
fn what_is_shipped_is_taken() {
    let good: Vec<(&str, Vec<u8>)> = vec![
        ("files", with(&[folder("./"), folder("./usr/"), file("./usr/x"), link("./usr/y", "x"), link("./usr/z", "/dev/null")])),
        ("folders not named", with(&[file("./usr/lib/x")])),
        ("a folder named after its content", with(&[file("./usr/x"), folder("./usr/")])),
        ("ustar headers", with(&[File { magic: b"ustar\x0000", ..file("./usr/x") }])),
        ("v7 headers without owners, as cargo-deb writes them", with(&[File { magic: &[0; 8], kind: 0, tweak: v7, ..file("./usr/x") }])),
        ("a link up and down again", with(&[link("./usr/bin/x", "../lib/x")])),
        ("an empty file", with(&[File { data: vec![], ..file("./x") }])),
        ("GNU tar's full record", deb(&control(CONTROL), &gz(&[tar(&[file("./x")]), vec![0; 10240 - 1024]].concat()))),
    ];
    for (what, bytes) in good {
        assert_eq!(open(&bytes), ("ok", String::new()), "{what}");
    }
}

#[test]
fn hostile_packages_are_refused() {
    let (good, data) = (control(CONTROL), gz(&end(tar(&[file("./x")]))));
    let (binary, parts): (&[u8], _) = (b"2.0\n", |c: &str, d: &str| ar(&[("debian-binary", b"2.0\n"), (c, &good), (d, &data)]));
    let long = "x".repeat(99);
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        // Names.
        ("an absolute name", with(&[file("/etc/passwd")]), "plain path"),
        ("a name without ./", with(&[file("etc/passwd")]), "plain path"),
        ("..", with(&[file("./../etc/passwd")]), "plain path"),
        (".. inside", with(&[file("./usr/../../etc/passwd")]), "plain path"),
        ("two slashes", with(&[file("./usr//x")]), "plain path"),
        ("a dot inside", with(&[file("./usr/./x")]), "plain path"),
        ("an empty name", with(&[file("")]), "plain path"),
        ("a file called as the root", with(&[file("./")]), "plain path"),
        ("a file with a slash at its end", with(&[file("./usr/")]), "plain path"),
        ("a blank in a name", with(&[file("./usr/a b")]), "name in a header"),
        ("an escape in a name", with(&[file("./usr/\u{1b}[2J")]), "name in a header"),
        ("a line feed in a name", with(&[file("./usr/a\nb")]), "name in a header"),
        ("bytes after a name's end", with(&[File { tweak: |b| b[50] = b'x', ..file("./x") }]), "name in a header"),
        ("the same name twice", with(&[file("./x"), file("./x")]), "twice"),
        ("the same folder twice", with(&[folder("./usr/"), folder("./usr/")]), "twice"),
        ("a file, then a folder of its name", with(&[file("./x"), folder("./x/")]), "twice"),
        ("a folder implied, then a link of its name", with(&[file("./a/x"), link("./a", "/etc")]), "twice"),
        ("through a link", with(&[link("./a", "/etc"), file("./a/passwd")]), "through a link"),
        ("through a link, deeper", with(&[link("./a", "/etc"), file("./a/b/c")]), "through a link"),
        ("through a file", with(&[file("./a"), file("./a/b")]), "through a link"),
        (
            "a prefix that hides ..",
            with(&[File { magic: b"ustar\x0000", tweak: |b| b[345..347].copy_from_slice(b".."), ..file("x") }]),
            "plain path",
        ),
        // Links and kinds.
        ("a link out", with(&[link("./usr/x", "../../etc")]), "leads out"),
        ("an absolute link out", with(&[link("./usr/x", "/usr/../../etc")]), "leads out"),
        ("a link to nowhere", with(&[link("./x", "")]), "nowhere"),
        ("a hard link", with(&[File { target: "./etc/shadow", ..of_kind(b'1') }]), "type '1'"),
        ("a character device", with(&[of_kind(b'3')]), "type '3'"),
        ("a block device", with(&[of_kind(b'4')]), "type '4'"),
        ("a pipe", with(&[of_kind(b'6')]), "type '6'"),
        ("a contiguous file", with(&[of_kind(b'7')]), "type '7'"),
        ("a file of the old kind", with(&[of_kind(0)]), "not shipped"),
        ("a GNU long name", with(&[File { data: b"./usr/y\0".to_vec(), ..of_kind(b'L') }, file(&long)]), "type 'L'"),
        ("a GNU long link", with(&[of_kind(b'K')]), "type 'K'"),
        ("a GNU sparse file", with(&[of_kind(b'S')]), "type 'S'"),
        ("a pax record", with(&[of_kind(b'x')]), "type 'x'"),
        ("a global pax record", with(&[of_kind(b'g')]), "type 'g'"),
        ("a folder with content", with(&[File { data: vec![1], ..folder("./usr/") }]), "with content"),
        ("a file with a target", with(&[File { target: "x", ..file("./x") }]), "link's target"),
        // Owners and modes.
        ("set-user-id", with(&[File { mode: 0o4755, ..file("./x") }]), "set-user-id"),
        ("set-group-id", with(&[File { mode: 0o2755, ..file("./x") }]), "set-user-id"),
        ("sticky", with(&[File { mode: 0o1777, ..folder("./tmp/") }]), "set-user-id"),
        ("writable by everyone", with(&[File { mode: 0o666, ..file("./x") }]), "writable by everyone"),
        ("a mode of sixteen bits", with(&[File { mode: 0o100_644, ..file("./x") }]), "impossible mode"),
        ("another owner", with(&[File { uid: 1000, ..file("./x") }]), "belong to root"),
        ("another owner's name", with(&[File { user: "nobody", ..file("./x") }]), "belong to root"),
        // The tar's form.
        ("a GNU extension", with(&[File { tweak: |b| b[345] = b'1', ..file("./x") }]), "extensions"),
        ("a v7 header with more", with(&[File { magic: &[0; 8], ..file("./x") }]), "neither"),
        ("a v7 folder by its slash", with(&[File { magic: &[0; 8], kind: 0, data: vec![], tweak: v7, ..file("./usr/") }]), "plain path"),
        ("a number in base 256", with(&[File { tweak: |b| b[124] = 0x80, ..file("./x") }]), "number in a header"),
        ("a negative number", with(&[File { tweak: |b| b[124] = b'-', ..file("./x") }]), "number in a header"),
        ("a size past the end", with(&[File { tweak: |b| b[124..136].copy_from_slice(b"00000400000\0"), ..file("./x") }]), "ends inside"),
        (
            "a wrong checksum",
            deb(
                &good,
                &gz(&{
                    let mut bytes = end(tar(&[file("./x")]));
                    bytes[148] = b'1';
                    bytes
                }),
            ),
            "checksum",
        ),
        (
            "padding with content",
            deb(
                &good,
                &gz(&{
                    let mut bytes = end(tar(&[file("./x")]));
                    bytes[512 + 100] = 1;
                    bytes
                }),
            ),
            "padding",
        ),
        ("no end", deb(&good, &gz(&tar(&[file("./x")]))), "too early"),
        ("half an end", deb(&good, &gz(&[tar(&[file("./x")]), vec![0; 512]].concat())), "end in zeros"),
        ("files after the end", deb(&good, &gz(&[end(tar(&[file("./x")])), tar(&[file("./y")])].concat())), "end in zeros"),
        ("many zeros", deb(&good, &gz(&[end(tar(&[file("./x")])), vec![0; 512 * 20]].concat())), "end in zeros"),
        ("an empty archive", deb(&good, &gz(&[])), "too early"),
        ("a bomb", deb(&good, &bomb()), "ends inside"),
        // gzip.
        ("a second gzip member", deb(&good, &[data.clone(), data.clone()].concat()), "follows"),
        ("bytes after gzip's end", deb(&good, &[&data[..], b"xx"].concat()), "follows"),
        ("a gzip cut", deb(&good, &data[..data.len() - 4]), "UnexpectedEof"),
        (
            "a gzip with another checksum",
            deb(&good, &{
                let mut bytes = data.clone();
                let at = bytes.len() - 8;
                bytes[at] ^= 1;
                bytes
            }),
            "corrupt gzip",
        ),
        ("not gzip", deb(&good, &end(tar(&[file("./x")]))), "malformed"),
        // ar.
        ("not ar", b"!<thin>\nxxxx".to_vec(), "not an ar archive"),
        ("xz by name", parts("control.tar.gz", "data.tar.xz"), "three of a package"),
        ("uncompressed by name", parts("control.tar.gz", "data.tar"), "three of a package"),
        ("zstd by name", parts("control.tar.zst", "data.tar.gz"), "three of a package"),
        ("the wrong order", parts("data.tar.gz", "control.tar.gz"), "three of a package"),
        ("a slash after a name", parts("control.tar.gz/", "data.tar.gz"), "three of a package"),
        (
            "something between",
            ar(&[("debian-binary", binary), ("_gpgorigin", b"x"), ("control.tar.gz", &good), ("data.tar.gz", &data)]),
            "three of a package",
        ),
        (
            "a fourth part",
            ar(&[("debian-binary", binary), ("control.tar.gz", &good), ("data.tar.gz", &data), ("x", b"x")]),
            "follows after its end",
        ),
        ("another format", ar(&[("debian-binary", b"2.1\n"), ("control.tar.gz", &good), ("data.tar.gz", &data)]), "other"),
        (
            "a negative size",
            {
                let mut bytes = deb(&good, &data);
                bytes[8 + 48..8 + 58].copy_from_slice(b"-4        ");
                bytes
            },
            "header of a part",
        ),
        // The control archive.
        ("no control file", deb(&gz(&end(tar(&[file("./postinst")]))), &data), "no control file"),
        (
            "two control files",
            deb(&gz(&end(tar(&[File { data: CONTROL.into(), ..file("./control") }, file("./control")]))), &data),
            "twice",
        ),
        ("a link in the control archive", deb(&gz(&end(tar(&[link("./control", "/etc/passwd")]))), &data), "more than files"),
        ("a folder in the control archive", deb(&gz(&end(tar(&[folder("./x/")]))), &data), "more than files"),
        ("a file deeper in the control archive", deb(&gz(&end(tar(&[file("./x/control")]))), &data), "holds folders"),
        ("no Version", saying("Package: smolotchi\nArchitecture: amd64\n"), "lacks a field"),
        ("a field twice", saying(&format!("{CONTROL}version: 9\n")), "twice"),
        ("two paragraphs", saying(&format!("{CONTROL}\nPackage: other\n")), "malformed"),
        ("an empty control file", saying(""), "malformed"),
        ("a continued beginning", saying(&format!(" x\n{CONTROL}")), "mid-field"),
        ("a package name with a path", saying(&CONTROL.replace("smolotchi", "../x")), "impossible value"),
        ("a version with a path", saying(&CONTROL.replace("0.2.0", "0/2")), "impossible value"),
        ("not UTF-8", deb(&gz(&end(tar(&[File { data: vec![0xff], ..file("./control") }]))), &data), "UTF-8"),
    ];
    for (what, bytes, why) in table {
        let (code, text) = open(&bytes);
        assert_eq!(code, "release.deb-invalid", "{what}: {text}");
        assert!(text.contains(why), "{what}: expected «{why}», found: {text}");
    }
}
