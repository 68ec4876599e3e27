//! Profiles: the text of one becomes steps, or one error that says line, key and what was expected. Pure.
//!
//! Core reads them when they are added, the worker when it plans, `smolotchi profiles check` before either. A profile of another
//! release may name actions that this one doesn't know: adding refuses them, planning denies them.

use super::actions::{self, Action, Parameter};
use serde_json::{Map, Value};
use smolotchi_operator::{Code, Fault, Result};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The longest name, in bytes.
const NAME_BYTES: usize = 64;
/// The most steps.
const STEPS: usize = 64;
/// The largest text, in bytes.
const TEXT_BYTES: usize = 64 * 1024;

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Its name.
    pub(crate) name: String,
    /// From 1.
    pub(crate) version: u32,
    /// One sentence.
    pub(crate) description: String,
    /// In the order in which they are done.
    pub(crate) steps: Vec<Step>,
}

/// One step as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// The name of an action.
    pub(crate) action: String,
    /// What was given for its parameters.
    pub(crate) parameters: Map<String, Value>,
}

impl Profile {
    /// Reads a profile's text; `file` is only for the error. Errors: `profile.invalid` with file, line, key and what was expected.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Profile> {
        let (profile, unknown) = read(file, text)?;
        unknown.map_or(Ok(profile), Err)
    }

    /// As [`Profile::parse`], but steps with an action that this release doesn't know are taken: the planner denies them.
    pub(crate) fn parse_kept(file: &str, text: &str) -> Result<Profile> {
        read(file, text).map(|(profile, _)| profile)
    }
}

/// Where a mistake can be told.
struct Place<'a> {
    file: &'a str,
    text: &'a str,
}

impl Place<'_> {
    fn line(&self, at: usize) -> usize {
        self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn invalid(&self, at: usize, key: &str, given: impl Into<Value>, expected: impl Into<Value>) -> Fault {
        Fault::new(Code::ProfileInvalid, "the profile says something that it can't say")
            .fact("file", self.file)
            .fact("line", self.line(at))
            .fact("key", key)
            .fact("given", given)
            .fact("expected", expected)
    }
}

/// The profile, and the error about the first action that this release doesn't know.
fn read(file: &str, text: &str) -> Result<(Profile, Option<Fault>)> {
    let place = Place { file, text };
    if text.len() > TEXT_BYTES {
        return Err(place.invalid(0, "", format!("{} bytes", text.len()), format!("at most {TEXT_BYTES} bytes")));
    }
    let document = DeTable::parse(text).map_err(|error| {
        Fault::new(Code::ProfileInvalid, "the profile is not TOML")
            .fact("file", file)
            .fact("line", error.span().map_or(1, |span| place.line(span.start)))
            .fact("cause", error.message())
    })?;
    let table = document.get_ref();
    for (name, _) in table {
        if !["name", "version", "description", "step"].contains(&name.get_ref().as_ref()) {
            let at = name.span().start;
            return Err(place.invalid(at, name.get_ref(), "an unknown key", "name, version, description or [[step]]"));
        }
    }
    let name = string(&place, table, "name", "a name of lower-case letters, digits and hyphens")?;
    if !is_name(&name) {
        return Err(place.invalid(at(table, "name"), "name", name, "a name of 1 to 64 lower-case letters, digits and hyphens"));
    }
    let version = match table.get("version").map(Spanned::get_ref).and_then(integer) {
        Some(number) if (1..=1_000_000_000).contains(&number) => number as u32,
        _ => return Err(place.invalid(at(table, "version"), "version", shown(table.get("version")), "a whole number from 1")),
    };
    let description = string(&place, table, "description", "one sentence")?;
    let given = match table.get("step").map(Spanned::get_ref) {
        Some(DeValue::Array(steps)) if (1..=STEPS).contains(&steps.len()) => steps,
        _ => return Err(place.invalid(at(table, "step"), "step", shown(table.get("step")), format!("1 to {STEPS} [[step]]"))),
    };
    let (mut steps, mut unknown) = (Vec::with_capacity(given.len()), None);
    for one in given {
        let (step, fault) = step(&place, one)?;
        steps.push(step);
        unknown = unknown.or(fault);
    }
    Ok((Profile { name, version, description, steps }, unknown))
}

fn step(place: &Place<'_>, given: &Spanned<DeValue<'_>>) -> Result<(Step, Option<Fault>)> {
    let DeValue::Table(table) = given.get_ref() else {
        return Err(place.invalid(given.span().start, "step", shown(Some(given)), "[[step]]"));
    };
    if !table.contains_key("action") {
        return Err(place.invalid(given.span().start, "step.action", "nothing", actions::names()));
    }
    let action = string(place, table, "action", "the name of an action")?;
    let known = actions::find(&action);
    let mut parameters = Map::new();
    for (name, value) in table.iter().filter(|(name, _)| name.get_ref() != "action") {
        let key = format!("step.{}", name.get_ref());
        let Some(json) = json(value.get_ref()) else {
            return Err(place.invalid(name.span().start, &key, shown(Some(value)), "a number or a list of strings"));
        };
        if let Some(action) = known {
            check(place, action, name, &key, &json)?;
        }
        parameters.insert(name.get_ref().to_string(), json);
    }
    let fault = known.is_none().then(|| place.invalid(at(table, "action"), "step.action", action.clone(), actions::names()));
    Ok((Step { action, parameters }, fault))
}

fn check(place: &Place<'_>, action: &Action, name: &Spanned<std::borrow::Cow<'_, str>>, key: &str, value: &Value) -> Result<()> {
    let parameter = action.parameters.iter().find(|parameter| parameter.name == name.get_ref());
    let refused = |expected: String| place.invalid(name.span().start, key, value.to_string(), expected);
    match parameter {
        None => {
            let names: Vec<_> = action.parameters.iter().map(|parameter| parameter.name).collect();
            Err(refused(if names.is_empty() { format!("{} has no parameters", action.name) } else { names.join(", ") }))
        }
        Some(Parameter { kind, .. }) if kind.takes(value) => Ok(()),
        Some(Parameter { kind, .. }) => Err(refused(kind.expected())),
    }
}

/// Lower-case letters, digits and hyphens.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn string(place: &Place<'_>, table: &DeTable<'_>, key: &str, expected: &str) -> Result<String> {
    let text = table.get(key).and_then(|value| value.get_ref().as_str()).map(str::to_owned);
    let fit = text.filter(|text| (1..=1000).contains(&text.len()) && !text.chars().any(char::is_control));
    fit.ok_or_else(|| place.invalid(at(table, key), key, shown(table.get(key)), expected))
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let DeValue::Integer(number) = value else { return None };
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// Where a key's value stands; the beginning if there is none.
fn at(table: &DeTable<'_>, key: &str) -> usize {
    table.get(key).map_or(0, |value| value.span().start)
}

fn shown(value: Option<&Spanned<DeValue<'_>>>) -> Value {
    let Some(value) = value else { return Value::from("nothing") };
    match json(value.get_ref()) {
        Some(json) => Value::from(json.to_string()),
        None => Value::from(format!("a {}", value.get_ref().type_str())),
    }
}

/// A number, a string or a list of strings.
fn json(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::Integer(_) => integer(value).map(Value::from),
        DeValue::String(text) => Some(Value::from(text.as_ref())),
        DeValue::Array(items) => {
            items.iter().map(|item| item.get_ref().as_str().map(Value::from)).collect::<Option<Vec<_>>>().map(Value::from)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name = \"p\"\nversion = 3\ndescription = \"d\"\n[[step]]\naction = \"disk-forecast\"\ndays = 7\n\
        [[step]]\naction = \"neighbours\"\ninterfaces = [\"eth0\"]\n";

    #[test]
    fn a_profile_is_read_whole() {
        let profile = Profile::parse("f", GOOD).unwrap();
        assert_eq!((profile.name.as_str(), profile.version, profile.steps.len()), ("p", 3, 2));
        assert_eq!(profile.steps[0].parameters["days"], 7);
        assert_eq!(profile.steps[1].parameters["interfaces"][0], "eth0");
    }

    #[test]
    fn mistakes_name_line_key_and_expectation() {
        let cases = [
            ("name = \"p\"", "name = \"P\"", 1, "name", "lower-case"),
            ("name = \"p\"", "name = 1", 1, "name", "lower-case"),
            ("version = 3", "version = 0", 2, "version", "from 1"),
            ("version = 3", "version = \"3\"", 2, "version", "from 1"),
            ("version = 3", "", 1, "version", "from 1"),
            ("description = \"d\"", "descripton = \"d\"", 3, "descripton", "description"),
            ("days = 7", "days = 0", 6, "step.days", "whole number from 1"),
            ("days = 7", "days = 1.5", 6, "step.days", "a number"),
            ("days = 7", "day = 7", 6, "step.day", "days"),
            ("action = \"disk-forecast\"", "action = \"disk-forecst\"", 5, "step.action", "disk-forecast"),
            ("interfaces = [\"eth0\"]", "interfaces = [\"eth 0\"]", 9, "step.interfaces", "interface"),
            ("interfaces = [\"eth0\"]", "interfaces = \"eth0\"", 9, "step.interfaces", "interface"),
            ("interfaces = [\"eth0\"]", "networks = [\"10.0.0.1/33\"]", 9, "step.networks", "network"),
        ];
        for (from, to, line, key, expected) in cases {
            let text = GOOD.replace(from, to);
            let fault = Profile::parse("/etc/smolotchi/profiles/p.toml", &text).unwrap_err();
            assert_eq!(fault.code, Code::ProfileInvalid, "{to}");
            assert_eq!(fault.details["file"], "/etc/smolotchi/profiles/p.toml", "{to}");
            assert_eq!((&fault.details["line"], &fault.details["key"]), (&Value::from(line), &Value::from(key)), "{to}: {fault}");
            assert!(fault.details["expected"].as_str().unwrap().contains(expected), "{to}: {fault}");
        }
        for (text, line) in [("a = = 1", 1), ("\n[x", 2)] {
            assert_eq!(Profile::parse("f", text).unwrap_err().details["line"], line, "{text}");
        }
        assert!(Profile::parse("f", "name = \"p\"\nversion = 1\ndescription = \"d\"\nstep = []").is_err());
    }

    #[test]
    fn what_only_another_release_knows_is_kept() {
        let text = GOOD.replace("disk-forecast", "from-the-future").replace("days = 7", "words = [\"x\"]");
        assert!(Profile::parse("f", &text).is_err());
        assert_eq!(Profile::parse_kept("f", &text).unwrap().steps[0].action, "from-the-future");
    }
}
