//! `bundle`: one channel's release for one architecture as a single file.

use super::fault::{OrFault, input};
use super::{check, cli};
use serde::Serialize;
use smolotchi_operator::{Code, Fault, Result, Table, durable};
use smolotchi_release::{Trust, bundle, sha256_file, tree};
use std::path::PathBuf;

/// What was written.
#[derive(Debug, Serialize)]
pub(crate) struct Written {
    file: PathBuf,
    channel: String,
    version: String,
    architecture: String,
    size: u64,
    sha256: String,
    paths: Vec<String>,
}

impl Table for Written {
    fn table(&self) -> String {
        let Written { file, channel, version, architecture, size, sha256, .. } = self;
        format!("wrote   {} ({size} bytes)\nholds   {version} of {channel} for {architecture}\nsha256  {sha256}\n", file.display())
    }
}

/// Checks the channel, its manifest and the packages, then writes the bundle beside and renames it.
pub(crate) fn run(request: &cli::Bundle) -> Result<Written> {
    let trust = request.trust.clone().unwrap_or_else(|| request.tree.join("keys"));
    let trust = Trust::load(&[&trust]).or_fault()?;
    let (channel, manifest) = check::channel(&request.tree, &request.channel, &trust)?;
    if !manifest.debs.iter().any(|deb| deb.architecture == request.arch) {
        return Err(input("the release has no packages for this architecture").fact("found", request.arch.as_str()));
    }
    let debs: Vec<_> = manifest.debs.iter().filter(|deb| deb.architecture == request.arch || deb.architecture == "all").collect();
    for deb in &debs {
        check::deb(&request.tree, deb)?;
    }
    let documents = [tree::channel_path(&channel.channel), channel.manifest];
    let mut paths: Vec<String> = debs.iter().map(|deb| deb.path.clone()).collect();
    for path in documents {
        paths.push(tree::signature_path(&path));
        paths.push(path);
    }
    let name = request.out.file_name().ok_or_else(|| input("the bundle needs a file name"))?;
    let staged = request.out.with_file_name(format!(".{}.staging", name.to_string_lossy()));
    let written =
        std::fs::File::create(&staged).map_err(|error| Fault::io("could not write the bundle", &staged, &error)).and_then(|mut file| {
            let contents = bundle::write(&request.tree, paths, &mut file).or_fault()?;
            file.sync_all().map_err(|error| Fault::io("could not write the bundle", &staged, &error))?;
            Ok(contents)
        });
    let contents = match written.and_then(|contents| durable::rename(&staged, &request.out).map(|()| contents)) {
        Ok(contents) => contents,
        Err(fault) => {
            let _ = std::fs::remove_file(&staged);
            return Err(fault);
        }
    };
    if contents.version != channel.version {
        return Err(Fault::new(Code::BundleInvalid, "the bundle holds another version than its channel"));
    }
    let (sha256, size) = sha256_file(&request.out).or_fault()?;
    Ok(Written {
        file: request.out.clone(),
        channel: contents.channel,
        version: contents.version,
        architecture: request.arch.clone(),
        size,
        sha256,
        paths: contents.paths,
    })
}
