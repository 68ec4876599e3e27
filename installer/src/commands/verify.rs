//! verify: everything about a source that can be verified without changing anything.

use crate::change::memory::Memory;
use crate::cli::SourceArgs;
use crate::paths::Paths;
use crate::plan::target;
use crate::source::{self, Wanted};
use crate::{host, settings};
use serde::Serialize;
use smolotchi_operator::progress::Progress;
use smolotchi_operator::{Exit, Fault, Format, Result, Table, output};

#[derive(Serialize)]
struct Verified {
    from: String,
    version: String,
    channel: Option<String>,
    sequence: Option<u64>,
    schema: u32,
    packages: Vec<VerifiedDeb>,
}

#[derive(Serialize)]
struct VerifiedDeb {
    package: String,
    version: String,
    architecture: String,
    size: u64,
    sha256: String,
}

impl Table for Verified {
    fn table(&self) -> String {
        let mut rows = vec![vec!["release".to_owned(), self.version.clone()], vec!["from".to_owned(), self.from.clone()]];
        if let (Some(channel), Some(sequence)) = (&self.channel, self.sequence) {
            rows.push(vec!["channel".to_owned(), format!("{channel}, sequence {sequence}")]);
        }
        rows.push(vec!["schema".to_owned(), self.schema.to_string()]);
        for deb in &self.packages {
            rows.push(vec!["verified".to_owned(), format!("{} {} {} ({} bytes)", deb.package, deb.version, deb.architecture, deb.size)]);
        }
        output::columns(&rows)
    }
}

/// Verifies channel, manifest and every package for this machine.
pub(super) fn verify(paths: &Paths, format: Format, args: &SourceArgs) -> Result<Exit> {
    let settings = settings::load(paths)?;
    let from = source::named(args.from.as_ref(), settings.source.from.as_ref())?;
    let wanted = Wanted {
        version: args.to.clone(),
        channel: args.channel.clone().unwrap_or(settings.source.channel),
        accept_expired: args.accept_expired,
    };
    let progress = Progress::new(format);
    let trust = source::trust(paths, &args.trust)?;
    let release = source::find(&from, &wanted, &trust, &Memory::load(paths)?)?;
    let architecture = host::dpkg::architecture()?;
    let scratch = tempfile::Builder::new()
        .prefix("smolotchi-install-")
        .tempdir_in("/var/tmp")
        .map_err(|error| Fault::io("could not make a folder to verify in", "/var/tmp", &error))?;
    let mut packages = Vec::new();
    for deb in target(&release.manifest, &architecture)?.debs {
        progress.step("verify", &format!("verifying {} {}", deb.package, deb.version));
        let verified = release.fetch(&deb.package, &architecture, scratch.path())?;
        packages.push(VerifiedDeb {
            package: verified.package().to_owned(),
            version: verified.version().to_owned(),
            architecture: verified.architecture().to_owned(),
            size: verified.size(),
            sha256: verified.sha256().to_owned(),
        });
        let _ = std::fs::remove_file(verified.path());
    }
    progress.done();
    let (channel, sequence) = release.channel.clone().unzip();
    let verified = Verified {
        from: release.from().to_owned(),
        version: release.manifest.version.clone(),
        channel,
        sequence,
        schema: release.manifest.schema.own,
        packages,
    };
    output::emit(format, &verified);
    Ok(Exit::Success)
}
