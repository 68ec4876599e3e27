//! The plan as a table: machine and request in, plan or refusal out.

use super::*;
use crate::inventory::Package;

fn inventory(installed: Option<(&str, &str)>) -> Inventory {
    Inventory {
        architecture: "arm64".into(),
        cpu: vec!["fp".into(), "asimd".into()],
        pace_ms: 60,
        packages: installed
            .map(|(version, state)| Package { name: "smolotchi".into(), version: version.into(), state: state.into() })
            .into_iter()
            .chain([Package { name: "smolotchi-install".into(), version: "0.2.0".into(), state: "ii ".into() }])
            .collect(),
        libc: Some("2.36-9+deb12u13".into()),
        schema: Some(1),
        disk_free: 1 << 30,
        inodes_free: Some(10_000),
        memory_free: 256 << 20,
        unwritable: None,
        database_bytes: Some(1 << 20),
        database_damage: None,
        rehearsal: None,
        unrehearsed: "not asked for".into(),
        core_start_ms: Some(700),
        dpkg_audit: String::new(),
        dpkg_interrupted: false,
        unsafe_io: Vec::new(),
        skipped: vec![("0.3.1".into(), "not wanted".into())],
        paused: None,
        closed: None,
        blocked: vec![("0.3.0".into(), "its core crashed".into())],
        down: Vec::new(),
        open_change: None,
    }
}

fn release(version: &str) -> Target {
    let deb = |package: &str, version: &str| PlannedDeb {
        package: package.into(),
        version: version.into(),
        file: format!("{package}_{version}_arm64.deb"),
        size: 3 << 20,
        sha256: "00".repeat(32),
    };
    Target {
        version: version.into(),
        schema: Some(3),
        health: Health { units: vec!["smolotchi-core.service".into()], heartbeat: "/run/h".into(), prove: "/run/s".into() },
        debs: vec![deb("smolotchi", version), deb("smolotchi-install", "0.1.0")],
        remote: true,
        contents: Contents { installed_bytes: Some(8 << 20), libc: Some("2.36".into()) },
    }
}

fn ask(kind: Kind) -> Request {
    Request::plain(kind, Trigger::Installer)
}

#[test]
fn requests_and_refusals() {
    let settings = Settings::default();
    type Case = (Option<(&'static str, &'static str)>, &'static str, Kind, std::result::Result<bool, Code>);
    let cases: &[Case] = &[
        (None, "0.1.0", Kind::Install, Ok(true)),
        (None, "0.1.0", Kind::Upgrade, Err(Code::NotInstalled)),
        (None, "0.1.0", Kind::Rollback, Err(Code::NotInstalled)),
        (Some(("0.1.0", "rc ")), "0.1.0", Kind::Install, Ok(true)),
        (Some(("0.1.0", "ii ")), "0.1.0", Kind::Install, Ok(false)),
        (Some(("0.1.0", "ii ")), "0.1.0", Kind::Upgrade, Ok(false)),
        (Some(("0.1.0", "hi ")), "0.2.0", Kind::Upgrade, Err(Code::Held)),
        (Some(("0.2.0", "hi ")), "0.1.0", Kind::Rollback, Ok(true)),
        (Some(("0.1.0", "iF ")), "0.1.0", Kind::Upgrade, Ok(true)),
        (Some(("0.1.0", "ii ")), "0.2.0", Kind::Install, Err(Code::AlreadyInstalled)),
        (Some(("0.10.0", "ii ")), "0.9.0", Kind::Upgrade, Err(Code::Downgrade)),
        (Some(("0.2.0", "ii ")), "0.1.0", Kind::Rollback, Ok(true)),
        (Some(("0.2.0", "ii ")), "0.3.0", Kind::Upgrade, Err(Code::Blocked)),
        (Some(("0.2.0", "ii ")), "0.3.1", Kind::Upgrade, Err(Code::Skipped)),
    ];
    for (installed, to, kind, expected) in cases {
        let got = plan(&settings, &inventory(*installed), &release(to), ask(*kind)).map(|plan| plan.is_some()).map_err(|fault| fault.code);
        assert_eq!(got, *expected, "{installed:?} {kind:?} {to}");
    }
}

#[test]
fn only_what_must_move_moves() {
    let plan = plan(&Settings::default(), &inventory(Some(("0.1.0", "ii "))), &release("0.2.0"), ask(Kind::Upgrade)).unwrap().unwrap();
    let names: Vec<_> = plan.debs.iter().map(|deb| deb.package.as_str()).collect();
    assert_eq!(names, ["smolotchi"], "an older installer in the release must not replace the newer one");
    assert_eq!(plan.tasks, [Task::SaveSlot, Task::Packages, Task::Watch]);
    assert_eq!((plan.schema_from, plan.schema_to), (Some(1), Some(3)));
}

#[test]
fn what_was_down_before_is_excused_but_core_is_not() {
    let mut inventory = inventory(Some(("0.1.0", "ii ")));
    inventory.down = vec!["smolotchi-core.service".into(), "smolotchi-web.socket".into()];
    let plan = plan(&Settings::default(), &inventory, &release("0.2.0"), ask(Kind::Upgrade)).unwrap().unwrap();
    assert_eq!(plan.excused, ["smolotchi-web.socket"]);
}

/// Everything that stops a change before it begins: what is wrong, how an upgrade by us, an upgrade by apt and a rollback
/// by us take it, and which fact tells it.
#[test]
fn preflight_says_numbers() {
    type Case = (&'static str, fn(&mut Inventory), [Option<Code>; 3], &'static str, &'static str);
    let preflight = Some(Code::Preflight);
    let cases: &[Case] = &[
        ("nothing", |_| {}, [None, None, None], "", ""),
        ("disk", |inventory| inventory.disk_free = 20 << 20, [preflight; 3], "free_bytes", "20971520"),
        ("inodes", |inventory| inventory.inodes_free = Some(100), [preflight; 3], "free_inodes", "100"),
        ("inodes that aren't counted", |inventory| inventory.inodes_free = None, [None, None, None], "", ""),
        ("read-only", |inventory| inventory.unwritable = Some("/usr".into()), [preflight; 3], "found", "\"/usr\""),
        ("memory", |inventory| inventory.memory_free = 40 << 20, [preflight, None, None], "needed_bytes", "50331648"),
        ("C library", |inventory| inventory.libc = Some("2.31-13".into()), [preflight, preflight, None], "needed", "\"2.36\""),
        ("another C library", |inventory| inventory.libc = None, [None, None, None], "", ""),
        ("database", |inventory| inventory.database_damage = Some("page 7".into()), [preflight, None, None], "found", "\"page 7\""),
        ("dpkg", |inventory| inventory.dpkg_audit = "half".into(), [preflight, None, None], "dpkg_audit", "\"half\""),
        ("dpkg's notes", |inventory| inventory.dpkg_interrupted = true, [preflight, None, None], "check", "\"dpkg\""),
        ("pause", |inventory| inventory.paused = Some("paused: x".into()), [Some(Code::Paused), None, None], "pause", "\"paused: x\""),
        ("window", |inventory| inventory.closed = Some("closed".into()), [Some(Code::WindowClosed), None, None], "", ""),
        ("hold", |inventory| inventory.packages[0].state = "hi ".into(), [Some(Code::Held), None, None], "package", "\"smolotchi\""),
        ("open change", |inventory| inventory.open_change = Some("0001".into()), [Some(Code::ChangeOpen); 3], "change", "\"0001\""),
    ];
    for (what, change, expected, fact, value) in cases {
        let mut machine = inventory(Some(("0.2.0", "ii ")));
        change(&mut machine);
        let requests = [
            (release("0.2.1"), ask(Kind::Upgrade)),
            (release("0.2.1"), Request::plain(Kind::Upgrade, Trigger::Apt)),
            (release("0.1.0"), ask(Kind::Rollback)),
        ];
        for ((target, request), code) in requests.iter().zip(expected) {
            let got = plan(&Settings::default(), &machine, target, *request);
            assert_eq!(got.as_ref().err().map(|fault| fault.code), *code, "{what}: {request:?}");
            if let (Err(fault), false) = (got, fact.is_empty()) {
                assert_eq!(fault.details[*fact].to_string(), *value, "{what}");
            }
        }
    }
    let mut closed = inventory(Some(("0.2.0", "ii ")));
    closed.closed = Some("closed".into());
    assert!(plan(&Settings::default(), &closed, &release("0.2.1"), Request { now: true, ..ask(Kind::Upgrade) }).is_ok(), "--now");
    let mut broken = inventory(Some(("0.1.0", "iF ")));
    broken.dpkg_audit = "half-configured".into();
    assert!(plan(&Settings::default(), &broken, &release("0.2.0"), ask(Kind::Upgrade)).unwrap().is_some(), "unpacking anew is the repair");
}

fn rehearsal(reversible: bool, undo: Undo) -> Rehearsal {
    let step = RehearsedMigration { number: 2, name: "severity".into(), direction: "up".into(), reversible, rows: 1_000 };
    Rehearsal { from: 1, to: 2, migrations: vec![step], undo, duration_ms: 300, undo_ms: 200, bytes_before: 1 << 20, bytes_after: 3 << 20 }
}

#[test]
fn what_cant_be_undone_needs_a_word() {
    let accepting = |version: &str| {
        let migrations = crate::settings::MigrationSettings { accept_irreversible: vec![version.to_owned()] };
        Settings { migrations, ..Settings::default() }
    };
    let upgrade = ask(Kind::Upgrade);
    let accepted = Request { accept_irreversible: true, ..upgrade };
    let apt = Request::plain(Kind::Upgrade, Trigger::Apt);
    for (rehearsed, settings, request, refused) in [
        (rehearsal(true, Undo::Proven), Settings::default(), upgrade, false),
        (rehearsal(false, Undo::Impossible), Settings::default(), upgrade, true),
        (rehearsal(false, Undo::Impossible), Settings::default(), apt, true),
        (rehearsal(true, Undo::Unknown), Settings::default(), upgrade, true),
        (rehearsal(false, Undo::Impossible), Settings::default(), accepted, false),
        (rehearsal(false, Undo::Impossible), accepting("0.2.0"), apt, false),
        (rehearsal(false, Undo::Impossible), accepting("0.2.1"), apt, true),
    ] {
        let mut machine = inventory(Some(("0.1.0", "ii ")));
        machine.rehearsal = Some(rehearsed.clone());
        let got = plan(&settings, &machine, &release("0.2.0"), request);
        assert_eq!(got.as_ref().is_err_and(|fault| fault.code == Code::Irreversible), refused, "{rehearsed:?} {request:?}: {got:?}");
        if let Err(fault) = got {
            assert!(fault.details["costs"].as_str().unwrap().contains("snapshot"), "{fault}");
        }
    }
}

#[test]
fn a_plan_says_what_it_costs() {
    let mut machine = inventory(Some(("0.1.0", "ii ")));
    machine.unsafe_io = vec!["/etc/dpkg/dpkg.cfg.d/fast".into()];
    let make = |machine: &Inventory| plan(&Settings::default(), machine, &release("0.2.0"), ask(Kind::Upgrade)).unwrap().unwrap();
    let blind = make(&machine);
    assert_eq!((blind.facts.download_bytes, blind.facts.rehearsed, blind.facts.downtime_ms), (3 << 20, None, None));
    assert!(blind.facts.worst_case.starts_with("unknown"), "{}", blind.facts.worst_case);
    assert!(blind.facts.notes[0].contains("dpkg.cfg.d/fast"), "{:?}", blind.facts.notes);

    machine.rehearsal = Some(rehearsal(true, Undo::Proven));
    let seen = make(&machine);
    // The package, the records, the slot (8 MiB of files and the database), dpkg's new files, the migration.
    assert_eq!(seen.facts.disk_peak, (3 + 2 + (8 + 1) + 8 + (3 + 2)) << 20);
    assert_eq!(seen.disk_needed, seen.facts.disk_peak + (16 << 20));
    assert_eq!(seen.facts.downtime_ms, Some(1_000 + 3 * (700 + 60 + 300)));
    assert!(seen.facts.worst_case.starts_with("0 rows") && seen.facts.worst_case.contains("1000 rows"), "{}", seen.facts.worst_case);
    let table = seen.table();
    for words in ["up 0002 severity: 1000 rows, can be undone", "4180 ms at most", "there and back", "force-unsafe-io"] {
        assert!(table.contains(words), "{words}: {table}");
    }
    // An older installer's plan is still read.
    let mut json = serde_json::to_value(&seen).unwrap();
    json.as_object_mut().unwrap().remove("facts");
    assert_eq!(serde_json::from_value::<Plan>(json).unwrap().facts, Facts::default());

    machine.rehearsal = None;
    machine.schema = Some(3);
    assert_eq!(make(&machine).facts.downtime_ms, Some(1_000 + 3 * (700 + 60)), "the schema stays");
    machine.database_bytes = None;
    assert!(make(&machine).facts.worst_case.starts_with("0 rows"));
}

#[test]
fn a_processor_that_is_too_old_is_refused_by_every_way_in() {
    let zero_w = "half thumb fastmult vfp edsp java tls";
    let upgrade = ask(Kind::Upgrade);
    let apt = Request::plain(Kind::Upgrade, Trigger::Apt);
    for (architecture, features, request, refused) in [
        ("armhf", zero_w, upgrade, true),
        ("armhf", zero_w, apt, true),
        ("armhf", zero_w, ask(Kind::Rollback), false),
        ("armhf", "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm", upgrade, false),
        ("armhf", "half thumb fastmult vfp edsp vfpv3 vfpv3d16", upgrade, false),
        ("armhf", "fp asimd evtstrm crc32 cpuid", upgrade, false),
        ("armhf", "", upgrade, false),
        ("arm64", "fp asimd evtstrm crc32 cpuid", upgrade, false),
        ("amd64", "fpu vme sse sse2", upgrade, false),
    ] {
        let mut machine = inventory(Some(("0.2.0", "ii ")));
        machine.architecture = architecture.into();
        machine.cpu = features.split_whitespace().map(str::to_owned).collect();
        let to = if request.kind == Kind::Rollback { "0.1.0" } else { "0.2.1" };
        match plan(&Settings::default(), &machine, &release(to), request) {
            Err(fault) => {
                assert!(refused, "{architecture} {features}: {fault}");
                let facts = ["check", "needed", "found"].map(|name| fault.details[name].as_str().unwrap_or_default().to_owned());
                assert_eq!(facts, ["CPU", "ARMv7 with VFPv3", zero_w]);
            }
            Ok(_) => assert!(!refused, "{architecture} {features} {request:?}"),
        }
    }
}

#[test]
fn the_c_library_that_a_package_needs() {
    for (depends, expected) in [
        ("libc6 (>= 2.34), systemd (>= 252)", Some("2.34")),
        ("adduser, libc6 (>= 2.36~), libgcc-s1 (>= 4.2)", Some("2.36~")),
        ("libc6", None),
        ("libc6-dev (>= 2.34)", None),
        ("libc6 (<< 3)", None),
        ("", None),
    ] {
        assert_eq!(Contents::libc_of(depends).as_deref(), expected, "{depends}");
    }
}

#[test]
fn the_operator_may_unblock() {
    let request = Request { unblock: true, ..ask(Kind::Upgrade) };
    for version in ["0.3.0", "0.3.1"] {
        assert!(plan(&Settings::default(), &inventory(Some(("0.2.0", "ii "))), &release(version), request).unwrap().is_some());
    }
}

#[test]
fn a_release_without_this_architecture_is_refused() {
    let entry = smolotchi_release::DebEntry {
        package: "smolotchi".into(),
        version: "0.2.0".into(),
        architecture: "amd64".into(),
        path: "pool/smolotchi_0.2.0_amd64.deb".into(),
        size: 1,
        sha256: "00".repeat(32),
    };
    let health = Health { units: vec!["a.service".into()], heartbeat: "/run/h".into(), prove: "/run/s".into() };
    let manifest = Manifest::new("0.2.0".into(), smolotchi_release::Schema { own: 3 }, health, vec![entry]).unwrap();
    let fault = target(&manifest, "arm64").unwrap_err();
    assert_eq!(fault.code, Code::DebWrongArchitecture);
    assert_eq!(fault.details["offered"], "amd64");
    assert_eq!(target(&manifest, "amd64").unwrap().debs.len(), 1);
}
