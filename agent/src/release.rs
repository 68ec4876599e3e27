//! What this build is: version, schema, and what must be healthy. The packaging puts it into the package as
//! `release.toml`; the release maker and the installer's health gate read it there.

/// The version of this build, as `--version` shows it.
pub(crate) const VERSION: &str = env!("SMOLOTCHI_VERSION");

/// The content of `release.toml`.
pub(crate) fn release_toml() -> String {
    let schema = smolotchi_store::schema_own();
    format!(
        r#"version = "{VERSION}"
[schema]
own = {schema}
[health]
units = ["smolotchi-core.service", "smolotchi-web.socket"]
heartbeat = "/run/smolotchi/core/heartbeat.json"
prove = "/run/smolotchi/core.sock"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_toml_is_toml_with_this_build_in_it() {
        let parsed: toml::Table = release_toml().parse().unwrap();
        assert_eq!(parsed["version"].as_str(), Some(VERSION));
        assert_eq!(parsed["schema"]["own"].as_integer(), Some(i64::from(smolotchi_store::schema_own())));
        assert_eq!(parsed["health"]["units"].as_array().unwrap().len(), 2);
    }
}
