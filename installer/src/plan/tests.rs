//! The plan as a table: machine and request in, plan or refusal out.

use super::*;
use crate::inventory::Package;

fn inventory(installed: Option<(&str, &str)>) -> Inventory {
    Inventory {
        architecture: "arm64".into(),
        packages: installed
            .map(|(version, state)| Package { name: "smolotchi".into(), version: version.into(), state: state.into() })
            .into_iter()
            .chain([Package { name: "smolotchi-install".into(), version: "0.2.0".into(), state: "ii ".into() }])
            .collect(),
        schema: Some(1),
        disk_free: 1 << 30,
        database_bytes: Some(1 << 20),
        dpkg_audit: String::new(),
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
    }
}

fn ask(kind: Kind) -> Request {
    Request { kind, trigger: Trigger::Installer, unblock: false }
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
        (Some(("0.1.0", "hi ")), "0.2.0", Kind::Upgrade, Ok(true)),
        (Some(("0.1.0", "iF ")), "0.1.0", Kind::Upgrade, Ok(true)),
        (Some(("0.1.0", "ii ")), "0.2.0", Kind::Install, Err(Code::AlreadyInstalled)),
        (Some(("0.10.0", "ii ")), "0.9.0", Kind::Upgrade, Err(Code::Downgrade)),
        (Some(("0.2.0", "ii ")), "0.1.0", Kind::Rollback, Ok(true)),
        (Some(("0.2.0", "ii ")), "0.3.0", Kind::Upgrade, Err(Code::Blocked)),
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

#[test]
fn preflight_says_numbers() {
    let mut full = inventory(Some(("0.1.0", "ii ")));
    full.disk_free = 1 << 20;
    let fault = plan(&Settings::default(), &full, &release("0.2.0"), ask(Kind::Upgrade)).unwrap_err();
    assert_eq!(fault.code, Code::Preflight);
    assert_eq!(fault.details["free_bytes"], 1 << 20);
    let mut broken = inventory(Some(("0.1.0", "ii ")));
    broken.dpkg_audit = "half-installed".into();
    assert_eq!(plan(&Settings::default(), &broken, &release("0.2.0"), ask(Kind::Upgrade)).unwrap_err().code, Code::Preflight);
    assert!(plan(&Settings::default(), &broken, &release("0.0.9"), ask(Kind::Rollback)).unwrap().is_some(), "going back is the repair");
    broken.packages[0].state = "iF ".into();
    assert!(plan(&Settings::default(), &broken, &release("0.2.0"), ask(Kind::Upgrade)).unwrap().is_some(), "unpacking anew is the repair");
    let mut open = inventory(Some(("0.1.0", "ii ")));
    open.open_change = Some("0001".into());
    assert_eq!(plan(&Settings::default(), &open, &release("0.2.0"), ask(Kind::Upgrade)).unwrap_err().code, Code::ChangeOpen);
}

#[test]
fn the_operator_may_unblock() {
    let request = Request { unblock: true, ..ask(Kind::Upgrade) };
    assert!(plan(&Settings::default(), &inventory(Some(("0.2.0", "ii "))), &release("0.3.0"), request).unwrap().is_some());
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
