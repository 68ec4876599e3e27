//! What the unit files say of each service's sandbox: every directive, where it stands and why. Pure, but for reading the files.

use crate::fault;
use smolotchi_operator::{Fault, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// The services, in the order of the tables.
pub const SERVICES: [&str; 9] = ["core", "web", "ai", "prune", "display", "arp", "net", "install-change", "install-heal"];

/// The file that denies. A file of this name in a more specific folder replaces it.
pub const BASELINE: &str = "10-baseline.conf";

/// Directives that shape a sandbox. They stand in drop-ins, and in no unit.
const SANDBOX: [&str; 58] = [
    "AmbientCapabilities",
    "BindPaths",
    "BindReadOnlyPaths",
    "CapabilityBoundingSet",
    "Delegate",
    "DeviceAllow",
    "DevicePolicy",
    "DynamicUser",
    "ExecPaths",
    "IPAddressAllow",
    "IPAddressDeny",
    "InaccessiblePaths",
    "JoinsNamespaceOf",
    "KeyringMode",
    "LimitCORE",
    "LockPersonality",
    "LogRateLimitBurst",
    "LogRateLimitIntervalSec",
    "MemoryDenyWriteExecute",
    "MountAPIVFS",
    "NetworkNamespacePath",
    "NoExecPaths",
    "NoNewPrivileges",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProtectSystem",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RemoveIPC",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "RootDirectory",
    "RootDirectoryStartOnly",
    "RootImage",
    "RuntimeDirectory",
    "RuntimeDirectoryMode",
    "StateDirectory",
    "StateDirectoryMode",
    "SupplementaryGroups",
    "SystemCallArchitectures",
    "SystemCallErrorNumber",
    "SystemCallFilter",
    "UMask",
];

/// Directives that bound what a service uses. They stand in its unit, each below its reason.
pub const BOUNDS: [&str; 9] =
    ["MemoryMax", "MemorySwapMax", "LimitDATA", "LimitNOFILE", "TasksMax", "OOMScoreAdjust", "Nice", "CPUWeight", "IOWeight"];

/// Of these, what a drop-in says is added to what the baseline says; nothing takes all of it back.
const LISTS: [&str; 11] = [
    "BindPaths",
    "BindReadOnlyPaths",
    "CapabilityBoundingSet",
    "DeviceAllow",
    "ExecPaths",
    "InaccessiblePaths",
    "NoExecPaths",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "RestrictAddressFamilies",
    "SystemCallFilter",
];

/// One line `Name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// The file, below the folder of units.
    pub file: String,
    /// `Service`, `Unit`, …
    pub section: String,
    /// Before the `=`.
    pub name: String,
    /// After it.
    pub value: String,
    /// The comment above its paragraph; empty if there is none.
    pub why: String,
}

impl Directive {
    /// Whether it shapes a sandbox.
    pub fn is_sandbox(&self) -> bool {
        SANDBOX.contains(&self.name.as_str())
    }

    fn is_list(&self) -> bool {
        LISTS.contains(&self.name.as_str())
    }
}

/// The directives of a unit file, each with the comment of its paragraph: comment lines, then directives up to an empty line.
pub fn parse(file: &str, text: &str) -> Vec<Directive> {
    let (mut section, mut why, mut after_directive, mut found) = (String::new(), String::new(), false, Vec::new());
    for line in text.lines().map(str::trim) {
        if line.is_empty() {
            why.clear();
        } else if let Some(comment) = line.strip_prefix('#') {
            if after_directive {
                why.clear();
            }
            if !why.is_empty() {
                why.push(' ');
            }
            why.push_str(comment.trim());
        } else if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
            why.clear();
        } else if let Some((name, value)) = line.split_once('=') {
            found.push(Directive {
                file: file.to_owned(),
                section: section.clone(),
                name: name.to_owned(),
                value: value.to_owned(),
                why: why.clone(),
            });
        }
        after_directive = !line.starts_with('#') && line.contains('=');
    }
    found
}

/// What the files say of one service.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// `core`, `web`, …
    pub service: String,
    /// Of the unit file itself.
    pub unit: Vec<Directive>,
    /// Of its baseline.
    pub baseline: Vec<Directive>,
    /// Of its other drop-ins, by name.
    pub more: Vec<Directive>,
}

impl Sandbox {
    /// Reads a service's unit and drop-ins below `folder`, as systemd takes them: the more specific folder masks by name.
    pub fn read(folder: &Path, service: &str) -> Result<Sandbox> {
        let unit = format!("smolotchi-{service}.service");
        let mut prefixes = vec![format!("{unit}.d")];
        let mut stem = format!("smolotchi-{service}");
        while let Some(dash) = stem.rfind('-') {
            stem.truncate(dash);
            prefixes.push(format!("{stem}-.service.d"));
        }
        let (mut baseline, mut more, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for prefix in prefixes {
            let mut names: Vec<String> = std::fs::read_dir(folder.join(&prefix))
                .into_iter()
                .flatten()
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .filter(|name| name.ends_with(".conf"))
                .collect();
            names.sort();
            for name in names {
                if !seen.insert(name.clone()) {
                    continue;
                }
                let file = format!("{prefix}/{name}");
                let directives = parse(&file, &read(&folder.join(&file))?);
                if name == BASELINE { baseline.extend(directives) } else { more.extend(directives) }
            }
        }
        let own = parse(&unit, &read(&folder.join(&unit))?);
        Ok(Sandbox { service: service.to_owned(), unit: own, baseline, more })
    }

    /// What is wrong with it, in words: a directive in the unit, one that stands twice or has no reason.
    pub fn faults(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for directive in self.unit.iter().filter(|directive| directive.is_sandbox()) {
            wrong.push(format!("{}: {}= stands in the unit, not in a drop-in", directive.file, directive.name));
        }
        if self.baseline.is_empty() {
            wrong.push(format!("smolotchi-{}.service has no baseline", self.service));
        }
        let mut said: BTreeSet<(String, String)> = BTreeSet::new();
        let mut single: BTreeSet<(String, String)> = BTreeSet::new();
        for directive in self.baseline.iter().chain(&self.more) {
            let place = format!("{}: {}={}", directive.file, directive.name, directive.value);
            if directive.section == "Service" && !directive.is_sandbox() {
                wrong.push(format!("{place} shapes no sandbox: it belongs into the unit"));
            }
            if directive.why.is_empty() && directive.section == "Service" {
                wrong.push(format!("{place} has no reason above it"));
            }
            if !directive.is_list() || directive.value.is_empty() {
                if !single.insert((directive.file.clone(), directive.name.clone()))
                    || !said.insert((directive.name.clone(), directive.value.clone()))
                {
                    wrong.push(format!("{place} stands twice"));
                }
                if directive.is_list() {
                    said.retain(|(name, _)| *name != directive.name);
                }
                continue;
            }
            for word in words(directive) {
                if !said.insert((directive.name.clone(), word.clone())) {
                    wrong.push(format!("{place}: {word} stands twice"));
                }
            }
        }
        wrong
    }
}

/// The values of a list. A device's rights are part of it; what is taken away is another value than what is given.
fn words(directive: &Directive) -> Vec<String> {
    match directive.name.as_str() {
        "DeviceAllow" => vec![directive.value.clone()],
        _ => {
            let (mark, values) = directive.value.strip_prefix('~').map_or(("", directive.value.as_str()), |values| ("~", values));
            values.split_whitespace().map(|word| format!("{mark}{word}")).collect()
        }
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Fault::io("could not read a unit file", path, &error))
}

/// The tables of docs/concepts/hardening.md: what everything is denied, and what each service may beyond that.
pub fn page(folder: &Path) -> Result<String> {
    let all: Vec<Sandbox> = SERVICES.iter().map(|service| Sandbox::read(folder, service)).collect::<Result<_>>()?;
    let (Some(agent), Some(installer)) =
        (all.iter().find(|sandbox| sandbox.service == "core"), all.iter().find(|sandbox| sandbox.service == "install-change"))
    else {
        return Err(fault("a service is missing"));
    };
    let mut page = String::from("### What every service of the agent is denied\n\n| directive | why |\n|---|---|\n");
    table(&mut page, &agent.baseline, None);
    page.push_str("\n### What a service may beyond that\n\n| service | directive | why |\n|---|---|---|\n");
    for sandbox in &all {
        table(&mut page, &sandbox.more, Some(&sandbox.service));
    }
    page.push_str("\n### What a service may use\n\n| service | bound | why |\n|---|---|---|\n");
    for sandbox in &all {
        let bounds: Vec<Directive> = sandbox.unit.iter().filter(|directive| BOUNDS.contains(&directive.name.as_str())).cloned().collect();
        table(&mut page, &bounds, Some(&sandbox.service));
    }
    page.push_str("\n### What the installer's services are denied\n\n| directive | why |\n|---|---|\n");
    table(&mut page, &installer.baseline, None);
    Ok(page)
}

fn table(page: &mut String, directives: &[Directive], service: Option<&str>) {
    let mut rows: Vec<(&str, Vec<String>)> = Vec::new();
    for directive in directives.iter().filter(|directive| directive.section == "Service") {
        let said = format!("`{}={}`", directive.name, directive.value.replace('|', "\\|"));
        match rows.last_mut() {
            Some((why, said_before)) if *why == directive.why => said_before.push(said),
            _ => rows.push((&directive.why, vec![said])),
        }
    }
    for (why, said) in rows {
        let service = service.map(|service| format!("| {service} ")).unwrap_or_default();
        page.push_str(&format!("{service}| {} | {} |\n", said.join("<br>"), why.replace('|', "\\|")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(unit: &str, baseline: &str, more: &str) -> Sandbox {
        let parse = |file, text: &str| parse(file, &format!("[Service]\n{text}"));
        Sandbox { service: "x".into(), unit: parse("u", unit), baseline: parse("b", baseline), more: parse("m", more) }
    }

    #[test]
    fn a_directive_belongs_to_the_comment_of_its_paragraph() {
        let text = "# of the file\n[Service]\n# One\n# reason.\nA=1\nB=2\n\nC=3\n# Another.\nD=4\n";
        let whys: Vec<_> = parse("f", text).into_iter().map(|directive| (directive.name, directive.why)).collect();
        let expected = [("A", "One reason."), ("B", "One reason."), ("C", ""), ("D", "Another.")];
        assert_eq!(whys, expected.map(|(name, why)| (name.to_owned(), why.to_owned())));
    }

    #[test]
    fn what_stands_twice_in_the_unit_or_without_a_reason_is_found() {
        let good = sandbox(
            "Type=notify",
            "# r\nPrivateTmp=yes\nSystemCallFilter=a b\nProcSubset=pid",
            "# r\nSystemCallFilter=c\nSystemCallFilter=~a\nProcSubset=all",
        );
        assert_eq!(good.faults(), Vec::<String>::new());
        let reset = sandbox("", "# r\nInaccessiblePaths=/a /b", "# r\nInaccessiblePaths=\nInaccessiblePaths=/a");
        assert_eq!(reset.faults(), Vec::<String>::new());
        let cases = [
            (sandbox("PrivateTmp=yes", "# r\nUMask=0077", ""), "stands in the unit"),
            (sandbox("", "", ""), "no baseline"),
            (sandbox("", "# r\nPrivateTmp=yes", "# r\nPrivateTmp=yes"), "stands twice"),
            (sandbox("", "# r\nUMask=0077\nUMask=0027", ""), "stands twice"),
            (sandbox("", "# r\nSystemCallFilter=a b", "# r\nSystemCallFilter=b"), "b stands twice"),
            (sandbox("", "PrivateTmp=yes", ""), "no reason"),
            (sandbox("", "# r\nType=notify", ""), "shapes no sandbox"),
        ];
        for (sandbox, words) in cases {
            let faults = sandbox.faults();
            assert!(faults.len() == 1 && faults[0].contains(words), "{words}: {faults:?}");
        }
    }
}
