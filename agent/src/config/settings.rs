//! Step three: merged values become settings, or one error that says where and what was expected.

use super::fragment::Given;
use super::keys::{Kind, key};
use super::merge::Merged;
use crate::ai::actions::Risk;
use crate::ai::policy::{self, Policy};
use crate::display::{Model, Rotation};
use crate::senses::Limits;
use smolotchi_operator::{Code, Fault, Result};
use std::time::Duration;

/// Everything that can be set, valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `[core]`
    pub(crate) core: CoreSettings,
    /// `[retention]`
    pub(crate) retention: RetentionSettings,
    /// `[jobs]` and `[artifacts]`
    pub(crate) work: WorkSettings,
    /// `[senses]`
    pub(crate) senses: SensesSettings,
    /// `[ai]`
    pub(crate) ai: AiSettings,
    /// `[policy]`
    pub(crate) policy: Policy,
    /// `[web]`
    pub(crate) web: WebSettings,
    /// `[display]`
    pub(crate) display: DisplaySettings,
}

/// `[display]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DisplaySettings {
    /// Which panel there is.
    pub(crate) panel: Model,
    /// How it hangs.
    pub(crate) rotation: Rotation,
    /// Between two looks.
    pub(crate) interval: Duration,
}

/// `[core]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CoreSettings {
    /// Free space in MiB below which core is unhealthy; 0 for no check.
    pub(crate) min_free_mib: u64,
}

/// `[retention]`; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetentionSettings {
    /// The newest events to keep.
    pub(crate) max_events: Option<u64>,
    /// The age in days from which events go.
    pub(crate) max_age_days: Option<u32>,
    /// What the database may take, in bytes.
    pub(crate) max_bytes: Option<u64>,
    /// The free space in MiB below which the oldest events go.
    pub(crate) min_free_mib: Option<u64>,
}

/// `[jobs]` and `[artifacts]`; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkSettings {
    /// The age in days, from their end, from which jobs go.
    pub(crate) job_days: Option<u32>,
    /// The age in days from which artifacts go.
    pub(crate) artifact_days: Option<u32>,
    /// The bytes that artifacts may take.
    pub(crate) artifact_bytes: Option<u64>,
}

/// `[senses]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SensesSettings {
    /// The providers that look.
    pub(crate) providers: Vec<String>,
    /// How often.
    pub(crate) limits: Limits,
}

/// `[ai]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AiSettings {
    /// What is run by itself.
    pub(crate) profile: String,
    /// How often; `None`: never.
    pub(crate) every_hours: Option<u64>,
}

/// `[web]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebSettings {
    /// Host names, lower case, besides localhost.
    pub(crate) hosts: Vec<String>,
    /// Seconds after which the page reloads itself.
    pub(crate) refresh_seconds: Option<u64>,
    /// Where the TLS certificate is: a path, a credential's name, or empty for no TLS.
    pub(crate) tls_certificate: String,
    /// The same for its key.
    pub(crate) tls_key: String,
}

impl Merged {
    /// Validates all values. Errors: `config.invalid` with file, line, key and what was expected.
    pub(crate) fn settings(&self) -> Result<Settings> {
        let limit = |number: u64| (number > 0).then_some(number);
        let limits = Limits { min: self.take("senses.min_interval", Kind::span)?, max: self.take("senses.max_interval", Kind::span)? };
        if limits.min > limits.max {
            // The one that was written last is the one that doesn't fit.
            let written = |name| self.get(name).map(|(_, at)| (self.files().iter().position(|file| *file == at.file), at.line));
            let (least, most) = ("senses.min_interval", "senses.max_interval");
            return Err(if written(least) > written(most) {
                self.invalid(least).fact("expected", format!("at most {most}, {} s", limits.max.as_secs()))
            } else {
                self.invalid(most).fact("expected", format!("at least {least}, {} s", limits.min.as_secs()))
            });
        }
        Ok(Settings {
            core: CoreSettings { min_free_mib: self.integer("core.min_free_mib")? },
            retention: RetentionSettings {
                max_events: limit(self.integer("retention.max_events")?),
                max_age_days: limit(self.integer("retention.max_age_days")?).and_then(|days| u32::try_from(days).ok()),
                max_bytes: limit(self.integer("retention.max_bytes")?),
                min_free_mib: limit(self.integer("retention.min_free_mib")?),
            },
            work: WorkSettings {
                job_days: limit(self.integer("jobs.max_age_days")?).and_then(|days| u32::try_from(days).ok()),
                artifact_days: limit(self.integer("artifacts.max_age_days")?).and_then(|days| u32::try_from(days).ok()),
                artifact_bytes: limit(self.integer("artifacts.max_mib")?).map(|mib| mib * 1024 * 1024),
            },
            senses: SensesSettings { providers: self.take("senses.providers", Kind::list)?, limits },
            ai: AiSettings { profile: self.take("ai.profile", Kind::text)?, every_hours: limit(self.integer("ai.every_hours")?) },
            policy: Policy {
                actions: self.take("policy.actions", Kind::list)?,
                max_risk: policy::risk(&self.take("policy.max_risk", Kind::text)?).unwrap_or(Risk::Passive),
                interfaces: self.take("policy.interfaces", Kind::list)?,
                networks: self.take("policy.networks", Kind::list)?,
                arp_interfaces: self.take("policy.arp_interfaces", Kind::list)?,
                net_interfaces: self.take("policy.net_interfaces", Kind::list)?,
                runs_per_hour: self.integer("policy.runs_per_hour")?,
                decision_hours: self.integer("policy.decision_hours")?,
            },
            web: WebSettings {
                hosts: self.take("web.hosts", Kind::list)?.iter().map(|host| host.to_ascii_lowercase()).collect(),
                refresh_seconds: limit(self.integer("web.refresh_seconds")?),
                tls_certificate: self.take("web.tls_certificate", Kind::text)?,
                tls_key: self.take("web.tls_key", Kind::text)?,
            },
            display: DisplaySettings {
                panel: self.take("display.panel", |kind, given| kind.text(given).and_then(|name| Model::named(&name)))?,
                rotation: self.take("display.rotation", |kind, given| kind.choice(given).and_then(Rotation::degrees))?,
                interval: self.take("display.interval", Kind::span)?,
            },
        })
    }

    /// One value, by what its kind takes. The other kinds have the same: `self.take(name, Kind::flag)`.
    fn take<T>(&self, name: &str, take: fn(Kind, &Given) -> Option<T>) -> Result<T> {
        let value = self.get(name).zip(key(name)).and_then(|((given, _), key)| take(key.kind, given));
        value.ok_or_else(|| self.invalid(name))
    }

    fn integer(&self, name: &str) -> Result<u64> {
        self.take(name, Kind::integer)
    }

    fn invalid(&self, name: &str) -> Fault {
        let fault = Fault::new(Code::ConfigInvalid, "a setting has a value that it can't have");
        let fault = match self.get(name) {
            Some((given, origin)) => fault.fact("file", origin.file.as_str()).fact("line", origin.line).fact("given", given.to_string()),
            None => fault.fact("given", "nothing"),
        };
        fault.fact("key", name).fact("expected", key(name).map(|key| key.kind.expected()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DEFAULTS, Fragment};
    use super::*;

    fn settings(text: &str) -> Result<Settings> {
        let (merged, refused) = Merged::new(vec![Fragment::parse("built in", DEFAULTS)?, Fragment::parse("/etc/t.toml", text)?]);
        match refused.into_iter().next() {
            Some(fault) => Err(fault),
            None => merged.settings(),
        }
    }

    #[test]
    fn values_are_taken() {
        let settings =
            settings("[retention]\nmax_events = 0\nmax_age_days = 3\n[web]\nhosts = [\"Node7.example\", \"::1\"]\nrefresh_seconds = 5")
                .unwrap();
        assert_eq!(settings.retention, RetentionSettings { max_events: None, max_age_days: Some(3), max_bytes: None, min_free_mib: None });
        assert_eq!((settings.web.hosts, settings.web.refresh_seconds), (vec!["node7.example".into(), "::1".into()], Some(5)));
        assert_eq!((settings.web.tls_certificate, settings.web.tls_key), (String::new(), String::new()));
    }

    #[test]
    fn mistakes_name_file_line_key_and_expectation() {
        let cases = [
            ("[core]\nmin_free_mib = -1", "config.invalid", "core.min_free_mib", 2, "whole number from 0"),
            ("[core]\nmin_free_mib = 1.5", "config.invalid", "core.min_free_mib", 2, "whole number"),
            ("[core]\nmin_free_mib = \"16\"", "config.invalid", "core.min_free_mib", 2, "whole number"),
            ("[core]\nmin_free_mib = 99999999999999999999", "config.invalid", "core.min_free_mib", 2, "whole number"),
            ("\n[web]\nrefresh_seconds = 4", "config.invalid", "web.refresh_seconds", 3, "0 or a whole number from 5"),
            ("[web]\nhosts = \"a\"", "config.invalid", "web.hosts", 2, "list of host names"),
            ("[web]\nhosts = [\"a\", 1]", "config.invalid", "web.hosts", 2, "list of host names"),
            ("[web]\nhosts = [\"a:80\"]", "config.invalid", "web.hosts", 2, "without port"),
            ("[web]\nhosts = [\"\"]", "config.invalid", "web.hosts", 2, "list of host names"),
            ("[web]\ntls_key = \"a/b\"", "config.invalid", "web.tls_key", 2, "an absolute path"),
            ("[policy]\nactions = [\"neighbours\", \"scan\"]", "config.invalid", "policy.actions", 2, "list of actions"),
            ("[policy]\nmax_risk = \"active\"", "config.invalid", "policy.max_risk", 2, "passive"),
            ("[policy]\n\nmax_risk = 1", "config.invalid", "policy.max_risk", 3, "passive"),
            ("[policy]\ninterfaces = [\"eth 0\"]", "config.invalid", "policy.interfaces", 2, "eth0"),
            ("[policy]\narp_interfaces = \"eth0\"", "config.invalid", "policy.arp_interfaces", 2, "eth0"),
            ("[policy]\nmax_risk = \"change\"", "config.invalid", "policy.max_risk", 2, "passive"),
            ("[policy]\nnetworks = [\"192.0.2.0/33\"]", "config.invalid", "policy.networks", 2, "198.51.100.0/24"),
            ("[policy]\nruns_per_hour = -1", "config.invalid", "policy.runs_per_hour", 2, "0 or a whole number"),
            ("[policy]\ndecision_hours = 0", "config.invalid", "policy.decision_hours", 2, "whole number from 1"),
            ("[policy]\nmax_rsk = \"passive\"", "config.unknown-key", "policy.max_rsk", 2, "policy.max_risk"),
            ("[senses]\nmin_interval = \"1 h\"", "config.invalid", "senses.min_interval", 2, "at most senses.max_interval, 600 s"),
            (
                "[senses]\nmin_interval = \"1 h\"\nmax_interval = \"60 s\"",
                "config.invalid",
                "senses.max_interval",
                3,
                "at least senses.min_interval, 3600 s",
            ),
            ("[ai]\nprofile = \"../x\"", "config.invalid", "ai.profile", 2, "name of a profile"),
            ("[ai]\nevery_hours = 9999", "config.invalid", "ai.every_hours", 2, "0 or a whole number"),
            ("[retention]\nmax_event = 1", "config.unknown-key", "retention.max_event", 2, "retention.max_events, retention.max_age_days"),
            ("[nope]\nx = 1", "config.unknown-key", "nope.x", 2, "core.min_free_mib"),
            ("x = 1", "config.unknown-key", "x", 1, "core.min_free_mib"),
            ("core = 1", "config.unknown-key", "core", 1, "core.min_free_mib"),
            ("[core.min_free_mib]\nx = 1", "config.invalid", "core.min_free_mib", 1, "whole number"),
        ];
        for (text, code, key, line, expected) in cases {
            let fault = settings(text).unwrap_err();
            assert_eq!(fault.code.as_str(), code, "{text}");
            assert_eq!(fault.details["key"], key, "{text}");
            assert_eq!(fault.details["line"], line, "{text}");
            assert_eq!(fault.details["file"], "/etc/t.toml", "{text}");
            assert!(fault.details["expected"].as_str().unwrap().contains(expected), "{text}: {fault}");
        }
    }
}
