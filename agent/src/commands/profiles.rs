//! `smolotchi profiles`: list, show, check and add what the ai worker looks at.

use crate::ai::escaped;
use crate::ai::profile::Profile as Parsed;
use crate::cli::ProfilesVerb;
use crate::client::{Client, block_on};
use crate::paths::Paths;
use crate::wire::{NewProfile, Profile, Profiles};
use serde::Serialize;
use smolotchi_operator::output::{columns, emit};
use smolotchi_operator::{Code, Exit, Fault, Format, Result, Table};
use std::path::Path;

impl Table for Profiles {
    fn table(&self) -> String {
        let row = |profile: &Profile| {
            let about = Parsed::parse_kept(&profile.name, &profile.text).map_or_else(|fault| fault.message, |parsed| parsed.description);
            vec![profile.name.clone(), profile.version.to_string(), profile.added_at.clone(), about]
        };
        columns(&self.profiles.iter().map(row).collect::<Vec<_>>())
    }
}

impl Table for Profile {
    fn table(&self) -> String {
        self.text.clone()
    }
}

/// A profile that was checked or added.
#[derive(Debug, Serialize)]
struct Taken {
    name: String,
    version: u32,
    steps: usize,
    added: bool,
}

impl Table for Taken {
    fn table(&self) -> String {
        let done = if self.added { "is kept" } else { "is valid" };
        format!("{} version {} with {} steps {done}\n", self.name, self.version, self.steps)
    }
}

/// Runs the verb. Errors: `profile.unknown`, `profile.invalid`, `profile.changed`.
pub(crate) fn run(paths: &Paths, format: Format, verb: ProfilesVerb) -> Result<Exit> {
    let client = Client::new(paths.socket());
    match verb {
        ProfilesVerb::List => emit(format, &block_on(client.get::<Profiles>("/v1/profiles"))?),
        ProfilesVerb::Show { name, at } => emit(format, &block_on(newest(&client, &name, at))?),
        ProfilesVerb::Check { file } => {
            let (Parsed { name, version, steps, .. }, _) = read(&file)?;
            emit(format, &Taken { name, version, steps: steps.len(), added: false });
        }
        ProfilesVerb::Add { file } => {
            let (Parsed { name, version, steps, .. }, text) = read(&file)?;
            block_on(client.post::<_, Profile>("/v1/profiles", &NewProfile { text }))?;
            emit(format, &Taken { name, version, steps: steps.len(), added: true });
        }
    }
    Ok(Exit::Success)
}

/// A version of a profile, or its newest.
pub(super) async fn newest(client: &Client, name: &str, version: Option<u32>) -> Result<Profile> {
    let found: Profiles = client.get(&format!("/v1/profiles?name={}", escaped(name))).await?;
    let found = found.profiles.into_iter().find(|profile| version.is_none_or(|version| profile.version == version));
    found.ok_or_else(|| Fault::new(Code::ProfileUnknown, "there is no such profile").fact("profile", name))
}

fn read(file: &Path) -> Result<(Parsed, String)> {
    let text = std::fs::read_to_string(file).map_err(|error| Fault::io("could not read the profile", file, &error))?;
    Ok((Parsed::parse(&file.display().to_string(), &text)?, text))
}
