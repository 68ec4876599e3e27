//! The error catalogue: every error that a Smolotchi program can show, with its exit code and its hint.
//!
//! A code is stable once released: scripts match on it, the journal carries it, the documentation is generated from it.

use crate::Exit;

macro_rules! catalogue {
    ($($variant:ident, $text:literal, $exit:ident, $hint:literal;)*) => {
        /// One line of the error catalogue.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each variant is documented by its text and hint in the table")]
        pub enum Code { $($variant,)* }

        impl Code {
            /// Every code, in the order of the catalogue.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The stable name, `area.what`, lower case with hyphens.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }

            /// The exit code of a program that ends with this error.
            pub const fn exit(self) -> Exit {
                match self { $(Code::$variant => Exit::$exit,)* }
            }

            /// What the operator can do about it, when the place that raises it has nothing better to say.
            pub const fn hint(self) -> &'static str {
                match self { $(Code::$variant => $hint,)* }
            }
        }
    };
}

catalogue! {
    // The command line and the machine around it.
    Usage, "cli.usage", Usage, "see --help";
    NotRoot, "cli.not-root", Usage, "run it as root, for example with sudo";
    Interrupted, "cli.interrupted", Runtime, "run it again; what was begun is finished or undone by itself";
    Io, "io.failed", Runtime, "check the disk (df -h, df -i, dmesg) and the permissions of the path";
    DiskFull, "io.disk-full", Runtime, "free some space, then run it again";
    ProgramMissing, "dependency.program-missing", Dependency, "install the package that provides it";
    ProgramFailed, "dependency.program-failed", Runtime, "the details hold what the program said";
    ServiceDown, "dependency.service-down", Dependency, "see: systemctl status 'smolotchi-*'";

    // Configuration.
    ConfigSyntax, "config.syntax", Validation, "mend the file, then check with: smolotchi config check";
    ConfigUnknownKey, "config.unknown-key", Validation, "mend the file, then check with: smolotchi config check";
    ConfigInvalid, "config.invalid", Validation, "mend the file, then check with: smolotchi config check";

    // The store.
    StoreMissing, "store.missing", Dependency, "the package creates it: dpkg-reconfigure smolotchi";
    StoreExists, "store.exists", Validation, "nothing is ever overwritten: name another target, or move this one away";
    StoreInvalidEvent, "store.invalid-event", Validation, "an event needs a topic, up to 128 bytes of lower-case words joined by dots, and a JSON body";
    StoreNotInSchema, "store.not-in-schema", Validation, "a newer release has it: smolotchi-install upgrade";
    StoreNewerSchema, "store.newer-schema", Validation, "install the newer version again, or go back with: smolotchi-install rollback";
    StoreOlderSchema, "store.older-schema", Validation, "migrate with: smolotchi db migrate";
    StoreIrreversible, "store.irreversible", Operator, "this step back would lose data; the runbook store.irreversible has the way back to a snapshot";
    StoreChecksum, "store.checksum", Operator, "the database was migrated by other code than this release's; see: smolotchi db info";
    StoreCheckFailed, "store.check-failed", Runtime, "nothing was changed; report it together with: smolotchi db info";
    StoreDamaged, "store.damaged", Operator, "keep a copy of the file, then see the runbook store.damaged for the way back to a snapshot";
    StoreBusy, "store.busy", Runtime, "core owns the database while it runs: ask core, or stop it first";
    StoreWrongUser, "store.wrong-user", Usage, "the database belongs to the user smolotchi: runuser -u smolotchi -- smolotchi …";
    AuditBroken, "audit.broken", Operator, "keep a copy of the database, then see the runbook audit.broken";
    StoreFailed, "store.failed", Runtime, "see the details; smolotchi db check tells whether the database is whole";

    // Core, web, prune.
    CoreUnreachable, "core.unreachable", Dependency, "start it: systemctl reset-failed 'smolotchi-*'; systemctl start smolotchi-core.service; then see: journalctl -u smolotchi-core";
    CoreRefused, "core.refused", Validation, "only root and the service's own users may do this";
    CoreRequest, "core.request", Validation, "the details say what was expected";
    CoreTooLarge, "core.too-large", Validation, "nothing was stored; put it into an artifact, and tell its number";
    CoreBusy, "core.busy", Runtime, "others ask for the same; ask again in a moment";
    CoreNotFound, "core.not-found", Dependency, "list what there is, and ask for that";
    CoreAnswer, "core.answer", Runtime, "core answered something unexpected; are both from the same version?";
    CoreFailed, "core.failed", Runtime, "see: journalctl -u smolotchi-core";
    ProfileInvalid, "profile.invalid", Validation, "mend the file, then check with: smolotchi profiles check FILE";
    ProfileChanged, "profile.changed", Validation, "raise the version in the file, then add it again";
    ProfileUnknown, "profile.unknown", Validation, "see: smolotchi profiles list";
    FindingUnknown, "finding.unknown", Validation, "see: smolotchi findings list";
    RunUnknown, "run.unknown", Validation, "see: smolotchi ai runs";
    RunNotHeld, "run.not-held", Validation, "only the worker that holds a run's job may write it";
    RunInvalidFinding, "run.invalid-finding", Validation, "the details say what was expected";
    RunFailed, "run.failed", Runtime, "the details say why; see: journalctl -u smolotchi-ai";
    RunNotInTime, "run.not-in-time", Runtime, "it goes on by itself: smolotchi ai runs; is the worker there? systemctl status smolotchi-ai";
    RunRecord, "run.record", Validation, "its plan or inputs are of another release or damaged; see: smolotchi artifacts verify";
    RunNotDone, "run.not-done", Validation, "wait for its end: smolotchi ai runs";
    ReplayDiffers, "ai.replay-differs", Operator, "the records are not what this release's actions made: another release, or changed by other hands";
    BaselineNoRun, "baseline.no-run", Validation, "let it look first: smolotchi ai run PROFILE --wait";
    JobUnknown, "job.unknown", Validation, "see: smolotchi jobs list";
    JobNotHeld, "job.not-held", Validation, "the lease ended, or the job was cancelled: stop working on it and lease again";
    JobEnded, "job.ended", Validation, "see: smolotchi jobs show";
    JobLost, "job.lost", Runtime, "it is queued again by itself; see: smolotchi jobs list";
    LeaseHeld, "lease.held", Runtime, "wait for it; who holds it: smolotchi locks list";
    LeaseNotHeld, "lease.not-held", Validation, "it ended or was given up: take it again";
    StageUnknown, "stage.unknown", Validation, "see: smolotchi stages list";
    StageDecided, "stage.decided", Validation, "a decision stands; see: smolotchi stages show";
    ArtifactUnknown, "artifact.unknown", Validation, "see: smolotchi artifacts list";
    ArtifactDamaged, "artifact.damaged", Operator, "the content was set aside and is never given out; check the card (dmesg), and put the content again if there is a copy";
    ArtifactNeeded, "artifact.needed", Validation, "nothing was removed: leave these out";
    ArtifactTooLarge, "artifact.too-large", Validation, "nothing was stored; split it, or keep it elsewhere";
    WebNoSocket, "web.no-socket", Dependency, "start it through its socket: systemctl start smolotchi-web.socket";
    NoPanel, "display.no-panel", Dependency, "is SPI on (dtparam=spi=on), the panel plugged in, and [display] panel the right one? see: journalctl -u smolotchi-display";
    WebNotProtected, "web.not-protected", Validation, "who isn't on this machine needs a token and TLS: see /usr/share/doc/smolotchi/guides/web.md, or listen at loopback or a unix socket only";
    WebTls, "web.tls", Validation, "name a PEM certificate and its key that the user smolotchi-web can read, as [web] tls_certificate and tls_key";
    DoctorFailed, "doctor.failed", Runtime, "each failed line names what to do";
    Unhealthy, "health.unhealthy", Runtime, "smolotchi status says what; journalctl -u 'smolotchi-*' says why";

    // Releases: signatures, manifests, channels, packages, bundles.
    SignatureMissing, "release.signature-missing", Validation, "fetch the release again, whole; a .minisig stands beside every signed file";
    SignatureMalformed, "release.signature-malformed", Validation, "fetch the release again; the signature file is damaged or was tampered with";
    SignatureUnknownKey, "release.signature-unknown-key", Validation, "install the current smolotchi-archive-keyring, or name the key with --trust";
    SignatureInvalid, "release.signature-invalid", Validation, "fetch the release again from a place that you trust; do not use this copy";
    KeyMalformed, "release.key-malformed", Validation, "mend or remove the file; a public key is the two lines that minisign writes";
    NoTrust, "release.no-trusted-keys", Dependency, "install smolotchi-archive-keyring, or name a key with --trust";
    ManifestInvalid, "release.manifest-invalid", Validation, "the release is signed but not one that this version understands; upgrade smolotchi-install";
    ReleaseTomlInvalid, "release.toml-invalid", Validation, "the package is damaged or not Smolotchi's; install it again";
    ChannelInvalid, "release.channel-invalid", Validation, "the channel is signed but not one that this version understands; upgrade smolotchi-install";
    ChannelExpired, "release.channel-expired", Validation, "refresh the copy, or accept it knowingly with --accept-expired";
    ChannelReplayed, "release.channel-replayed", Validation, "this copy is older than one already seen on this machine; refresh it";
    ChannelUnknown, "release.channel-unknown", Validation, "name a channel that the source has; its folder channels lists them, and a folder without one is no source";
    VersionUnknown, "release.version-unknown", Validation, "name a version that the source has";
    FileMissing, "release.file-missing", Validation, "the source is incomplete; copy or fetch it again";
    FileTruncated, "release.file-truncated", Validation, "the copy is shorter than the signed size; fetch it again";
    FileMismatch, "release.file-mismatch", Validation, "the copy differs from what was signed; fetch it again from a place that you trust";
    DebInvalid, "release.deb-invalid", Validation, "the file is not a package of this release; fetch it again";
    DebWrongArchitecture, "release.wrong-architecture", Validation, "use the release for this machine's architecture (dpkg --print-architecture)";
    BundleInvalid, "release.bundle-invalid", Validation, "copy the bundle again; it is damaged or not a bundle";
    SourceUnreachable, "source.unreachable", Dependency, "check the address and the network, or use a folder or a bundle";
    SourceMissing, "source.missing", Usage, "name it with --from URL|FOLDER|BUNDLE, or set source.from in /etc/smolotchi-install/config.d";

    // Changes.
    NotInstalled, "change.not-installed", Validation, "install it first: smolotchi-install install --from …";
    AlreadyInstalled, "change.already-installed", Validation, "use: smolotchi-install upgrade";
    Downgrade, "change.downgrade", Validation, "to go back use: smolotchi-install rollback";
    Blocked, "change.version-blocked", Validation, "it failed on this machine, or was rolled back from; see: smolotchi-install status; override with --unblock";
    Skipped, "change.version-skipped", Validation, "the operator doesn't want it here; see: smolotchi-install status; override with --unblock";
    Held, "change.held", Validation, "lift the hold with: apt-mark unhold smolotchi";
    Paused, "change.paused", Validation, "end the pause with: smolotchi-install resume";
    WindowClosed, "change.window-closed", Validation, "wait for the window ([window] in /etc/smolotchi-install/config.d), or say --now";
    RehearsalFailed, "change.rehearsal-failed", Validation, "nothing was touched: keep this version and report the details to the release's maker";
    Irreversible, "change.irreversible", Validation, "nothing was touched: take it knowingly with --accept-irreversible";
    ChangeOpen, "change.open", Validation, "another change is being carried out; see: smolotchi-install status";
    Locked, "change.locked", Runtime, "another package operation is running; wait for it, or raise packages.lock_timeout_s in /etc/smolotchi-install/config.d";
    NoSlot, "change.no-slot", Validation, "there is no release to go back to; see: smolotchi-install status";
    SlotDamaged, "change.slot-damaged", Operator, "the kept release is damaged; install a version by hand with apt";
    Preflight, "change.preflight", Validation, "nothing was touched; mend what is named and run it again";
    JournalDamaged, "change.journal-damaged", Operator, "see: smolotchi-install history; the record was set aside";
    RolledBack, "change.rolled-back", RolledBack, "the version is blocked on this machine; see: smolotchi-install status";
    RollbackFailed, "change.rollback-failed", Operator, "see: smolotchi-install status, journalctl -u smolotchi-install-change";
    TaskFailed, "change.task-failed", Runtime, "see the details; the change is undone by itself";
    HealFailed, "change.heal-failed", Operator, "see: journalctl -u smolotchi-install-heal, dpkg --audit; then install the named packages by hand";
    GateUnhealthy, "change.gate-unhealthy", RolledBack, "see: smolotchi-install status";

    // Making releases.
    MakerInput, "maker.input", Validation, "see: smolotchi-release --help";

    // The lab.
    LabFailed, "lab.failed", Runtime, "see the details; smolotchi-lab down removes what is left";
}

impl Code {
    /// The MESSAGE_ID of journal entries about this error, 32 hex digits. Made of the name, so it lives as long as the code.
    pub fn message_id(self) -> String {
        message_id(self.as_str())
    }
}

/// An identity for a kind of journal entry: a UUID (RFC 9562, version 8) made of a hash (FNV-1a) of the name.
pub(crate) fn message_id(name: &str) -> String {
    let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    for byte in b"smolotchi/journal/".iter().chain(name.as_bytes()) {
        hash = (hash ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
    }
    let version = (hash & !(0xf << 76)) | (8 << 76);
    format!("{:032x}", (version & !(0b11 << 62)) | (0b10 << 62))
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_well_formed() {
        let (mut seen, mut ids) = (HashSet::new(), HashSet::new());
        for code in Code::ALL {
            let text = code.as_str();
            assert!(seen.insert(text), "{text} stands twice");
            let (area, what) = text.split_once('.').expect(text);
            for part in [area, what] {
                assert!(!part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{text}");
            }
            assert!(!code.hint().is_empty(), "{text} has no hint");
            assert_ne!(code.exit(), Exit::Success, "{text} is an error that exits 0");
            let id = code.message_id();
            assert!(id.len() == 32 && &id[12..13] == "8" && "89ab".contains(&id[16..17]), "{text}: {id} is no UUID");
            assert!(ids.insert(id), "{text}: its MESSAGE_ID stands twice");
        }
    }
}
