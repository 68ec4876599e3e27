//! The planner: a profile under a policy becomes a plan, each step with the policy's word. Pure: the same in, the same out.

use super::actions::{self, Action, Kind};
use super::policy::{Network, Policy};
use super::profile::{Profile, Step};
use crate::powers::Power;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Of the plan's document.
pub(crate) const FORMAT: &str = "smolotchi/plan/1";

/// What a run will do, with no choices left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// [`FORMAT`].
    pub(crate) format: String,
    /// What it was made from.
    pub(crate) profile: Source,
    /// The policy that held.
    pub(crate) policy: Policy,
    /// How many runs had begun within the hour before.
    pub(crate) runs_last_hour: u64,
    /// In this order.
    pub(crate) steps: Vec<Planned>,
}

/// A version of a profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Source {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: u32,
    /// Of its text.
    pub(crate) sha256: String,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Planned {
    /// From 1.
    pub(crate) step: u32,
    /// The action.
    pub(crate) action: String,
    /// Every parameter, with what holds when none was given, within the policy's scope.
    pub(crate) parameters: Map<String, Value>,
    /// The policy's word.
    pub(crate) word: Word,
}

/// What the policy says of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Word {
    /// The rule that decided: a setting, or `registry`.
    pub(crate) rule: String,
    /// What it decided.
    pub(crate) verdict: Verdict,
    /// Why, in words.
    pub(crate) reason: String,
    /// The action's risk class; `unknown` for an action that this release doesn't have.
    pub(crate) risk: String,
}

/// Whether a step is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It is.
    Allow,
    /// If somebody allows it.
    Stage,
    /// It isn't.
    Deny,
}

impl Verdict {
    /// The word in plans.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Verdict::Allow => "allow",
            Verdict::Stage => "stage",
            Verdict::Deny => "deny",
        }
    }
}

/// Plans a profile under a policy. `runs_last_hour`: how many other runs began within the last hour.
pub(crate) fn plan(profile: &Profile, sha256: &str, policy: &Policy, runs_last_hour: u64) -> Plan {
    let steps = profile.steps.iter().zip(1..).map(|(step, number)| planned(step, number, policy, runs_last_hour)).collect();
    let profile = Source { name: profile.name.clone(), version: profile.version, sha256: sha256.to_owned() };
    Plan { format: FORMAT.to_owned(), profile, policy: policy.clone(), runs_last_hour, steps }
}

fn planned(step: &Step, number: u32, policy: &Policy, runs_last_hour: u64) -> Planned {
    let word = |rule: &str, verdict, reason: String, risk: &str| Word { rule: rule.into(), verdict, reason, risk: risk.into() };
    let done = |parameters, word| Planned { step: number, action: step.action.clone(), parameters, word };
    let Some(action) = actions::find(&step.action) else {
        let reason = format!("this release has no action {}", step.action);
        return done(step.parameters.clone(), word("registry", Verdict::Deny, reason, "unknown"));
    };
    let risk = action.risk.as_str();
    let deny = |rule: &str, reason: String| word(rule, Verdict::Deny, reason, risk);
    if !policy.actions.contains(&step.action) {
        return done(step.parameters.clone(), deny("policy.actions", format!("{} is not among the allowed actions", action.name)));
    }
    if policy.runs_per_hour > 0 && runs_last_hour >= policy.runs_per_hour {
        let reason = format!("{runs_last_hour} runs began within the last hour, {} are allowed", policy.runs_per_hour);
        return done(step.parameters.clone(), deny("policy.runs_per_hour", reason));
    }
    let parameters = match resolve(action, step, policy) {
        Ok(parameters) => parameters,
        Err((rule, reason)) => return done(step.parameters.clone(), deny(rule, reason)),
    };
    let word = if action.risk > policy.max_risk {
        let on = parameters.get("interface").and_then(Value::as_str).map(subject).unwrap_or_default();
        let reason = format!("{on}its risk is {risk}, and only up to {} is allowed without asking", policy.max_risk.as_str());
        word("policy.max_risk", Verdict::Stage, reason, risk)
    } else {
        word("policy.max_risk", Verdict::Allow, format!("its risk is {risk}, which is allowed without asking"), risk)
    };
    done(parameters, word)
}

/// Every parameter with its value, or the rule that refuses it and why.
fn resolve(action: &Action, step: &Step, policy: &Policy) -> Result<Map<String, Value>, (&'static str, String)> {
    let mut resolved = Map::new();
    if let Some(name) = step.parameters.keys().find(|name| action.parameters.iter().all(|parameter| parameter.name != name.as_str())) {
        return Err(("registry", format!("{} has no parameter {name} in this release", action.name)));
    }
    for parameter in action.parameters {
        let given = step.parameters.get(parameter.name);
        if given.is_some_and(|value| !parameter.kind.takes(value)) {
            return Err(("registry", format!("{} is not {}", parameter.name, parameter.kind.expected())));
        }
        let value = match parameter.kind {
            Kind::Integer { usual, .. } => Some(given.cloned().unwrap_or_else(|| usual.into())),
            Kind::Interface(power) => Some(one_of(given, power, action, policy)?),
            Kind::Interfaces => scope(given, &policy.interfaces, |name| policy.interfaces.iter().any(|allowed| allowed == name))
                .map_err(|name| ("policy.interfaces", format!("{name} is not among the allowed interfaces")))?,
            Kind::Networks => scope(given, &policy.networks, |network| lies_in(network, &policy.networks))
                .map_err(|network| ("policy.networks", format!("{network} does not lie in the allowed networks")))?,
        };
        if let Some(value) = value {
            resolved.insert(parameter.name.to_owned(), value);
        }
    }
    Ok(resolved)
}

/// What a step is limited to: what it names, if all of that is allowed; else all that is allowed; `None` for no limit.
fn scope(given: Option<&Value>, allowed: &[String], fits: impl Fn(&str) -> bool) -> Result<Option<Value>, String> {
    let Some(given) = given else {
        return Ok((!allowed.is_empty()).then(|| Value::from(allowed.to_vec())));
    };
    let outside = given.as_array().into_iter().flatten().filter_map(Value::as_str).find(|item| !allowed.is_empty() && !fits(item));
    outside.map_or_else(|| Ok(Some(given.clone())), |item| Err(item.to_owned()))
}

/// One interface of a service with a capability: the one that the step names, or the only one that there is.
fn one_of(given: Option<&Value>, power: Power, action: &Action, policy: &Policy) -> Result<Value, (&'static str, String)> {
    let name = match (given.and_then(Value::as_str), power.interfaces(policy)) {
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, []) => return Err((power.setting(), "no interface is allowed".to_owned())),
        (None, all) => return Err((power.setting(), format!("the step names no interface, and {} are allowed", all.len()))),
    };
    power.refuses(policy, action.name, name).map_or_else(|| Ok(name.into()), Err)
}

/// How the words of a stage request begin that is about one interface. Core looks for them before it does what was approved.
pub(crate) fn subject(interface: &str) -> String {
    format!("on {interface}: ")
}

fn lies_in(network: &str, allowed: &[String]) -> bool {
    let Some(network) = Network::parse(network) else { return false };
    allowed.iter().filter_map(|outer| Network::parse(outer)).any(|outer| outer.holds(&network))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ai::actions::Risk;
    use crate::ai::dice::Dice;
    use serde_json::json;

    pub(crate) fn policy() -> Policy {
        Policy {
            actions: actions::ALL.iter().map(|action| action.name.to_owned()).collect(),
            max_risk: Risk::Passive,
            interfaces: Vec::new(),
            networks: Vec::new(),
            arp_interfaces: Vec::new(),
            net_interfaces: Vec::new(),
            runs_per_hour: 12,
            decision_hours: 24,
        }
    }

    fn one(action: &str, parameters: Value, policy: &Policy, runs: u64) -> Planned {
        let step = Step { action: action.into(), parameters: parameters.as_object().unwrap().clone() };
        let profile = Profile { name: "p".into(), version: 1, description: "d".into(), steps: vec![step] };
        plan(&profile, "00", policy, runs).steps.remove(0)
    }

    #[test]
    fn each_rule_has_its_word() {
        let eth0 = || Policy { interfaces: vec!["eth0".into()], networks: vec!["192.0.2.0/24".into()], ..policy() };
        let none = || Policy { actions: Vec::new(), ..policy() };
        let bold = || Policy { max_risk: Risk::Record, ..policy() };
        let wired = || Policy { arp_interfaces: vec!["eth0".into()], net_interfaces: vec!["wlan0".into(), "usb0".into()], ..bold() };
        let free = || Policy { runs_per_hour: 0, ..policy() };
        let cases = [
            ("neighbours", json!({}), policy(), 0, Verdict::Allow, "policy.max_risk", json!({})),
            ("neighbours", json!({}), none(), 0, Verdict::Deny, "policy.actions", json!({})),
            ("neighbours", json!({}), policy(), 12, Verdict::Deny, "policy.runs_per_hour", json!({})),
            ("neighbours", json!({}), free(), 99, Verdict::Allow, "policy.max_risk", json!({})),
            (
                "neighbours",
                json!({}),
                eth0(),
                0,
                Verdict::Allow,
                "policy.max_risk",
                json!({"interfaces":["eth0"],"networks":["192.0.2.0/24"]}),
            ),
            ("neighbours", json!({"interfaces":["wlan0"]}), eth0(), 0, Verdict::Deny, "policy.interfaces", json!({"interfaces":["wlan0"]})),
            (
                "neighbours",
                json!({"networks":["192.0.0.0/16"]}),
                eth0(),
                0,
                Verdict::Deny,
                "policy.networks",
                json!({"networks":["192.0.0.0/16"]}),
            ),
            (
                "neighbours",
                json!({"interfaces":["wlan0"]}),
                policy(),
                0,
                Verdict::Allow,
                "policy.max_risk",
                json!({"interfaces":["wlan0"]}),
            ),
            ("disk-forecast", json!({"days":3}), policy(), 0, Verdict::Allow, "policy.max_risk", json!({"days":3,"min_free_percent":5})),
            ("disk-forecast", json!({"dys":3}), policy(), 0, Verdict::Deny, "registry", json!({"dys":3})),
            ("disk-forecast", json!({"days":"3"}), policy(), 0, Verdict::Deny, "registry", json!({"days":"3"})),
            ("configuration-snapshot", json!({}), policy(), 0, Verdict::Stage, "policy.max_risk", json!({})),
            ("configuration-snapshot", json!({}), bold(), 0, Verdict::Allow, "policy.max_risk", json!({})),
            ("arp-listen", json!({}), policy(), 0, Verdict::Deny, "policy.arp_interfaces", json!({})),
            ("arp-listen", json!({}), wired(), 0, Verdict::Allow, "policy.max_risk", json!({"interface":"eth0","seconds":30})),
            ("arp-listen", json!({"interface":"wlan0"}), wired(), 0, Verdict::Deny, "policy.arp_interfaces", json!({"interface":"wlan0"})),
            ("arp-listen", json!({"interface":7}), wired(), 0, Verdict::Deny, "registry", json!({"interface":7})),
            ("arp-listen", json!({"seconds":61}), wired(), 0, Verdict::Deny, "registry", json!({"seconds":61})),
            ("link-restart", json!({}), policy(), 0, Verdict::Deny, "policy.net_interfaces", json!({})),
            ("link-restart", json!({}), wired(), 0, Verdict::Deny, "policy.net_interfaces", json!({})),
            ("link-restart", json!({"interface":"usb0"}), wired(), 0, Verdict::Stage, "policy.max_risk", json!({"interface":"usb0"})),
            (
                "neighbours-flush",
                json!({"interface":"eth0"}),
                wired(),
                0,
                Verdict::Deny,
                "policy.net_interfaces",
                json!({"interface":"eth0"}),
            ),
            ("no-such-thing", json!({"x":1}), policy(), 0, Verdict::Deny, "registry", json!({"x":1})),
        ];
        for (action, parameters, policy, runs, verdict, rule, resolved) in cases {
            let planned = one(action, parameters.clone(), &policy, runs);
            assert_eq!((planned.word.verdict, planned.word.rule.as_str()), (verdict, rule), "{action} {parameters} {planned:?}");
            assert_eq!(Value::from(planned.parameters), resolved, "{action} {parameters}");
        }
    }

    fn profile(dice: &mut Dice) -> Profile {
        let some =
            |dice: &mut Dice, items: &[&str]| items.iter().filter(|_| dice.below(2) == 0).map(|item| json!(item)).collect::<Vec<_>>();
        let steps = (0..1 + dice.below(8)).map(|_| {
            let action = if dice.below(9) == 0 { "unheard-of" } else { actions::ALL[dice.below(actions::ALL.len() as u64) as usize].name };
            let mut parameters = Map::new();
            for parameter in actions::find(action).map_or(&[][..], |action| action.parameters) {
                match (dice.below(2), parameter.kind) {
                    (0, _) => continue,
                    (_, Kind::Integer { min, .. }) => parameters.insert(parameter.name.into(), json!(min - 1 + dice.below(4) as i64)),
                    (_, Kind::Interface(_)) => {
                        parameters.insert(parameter.name.into(), json!(["eth0", "wlan0", "usb0"][dice.below(3) as usize]))
                    }
                    (_, Kind::Interfaces) => parameters.insert(parameter.name.into(), json!(some(dice, &["eth0", "wlan0", "usb0"]))),
                    (_, Kind::Networks) => {
                        parameters.insert(parameter.name.into(), json!(some(dice, &["192.0.2.0/25", "10.0.0.0/8", "::/0"])))
                    }
                };
            }
            Step { action: action.into(), parameters }
        });
        Profile { name: "p".into(), version: 1, description: "d".into(), steps: steps.collect() }
    }

    fn strict(dice: &mut Dice) -> Policy {
        let mut strict = policy();
        strict.actions.retain(|_| dice.below(4) > 0);
        strict.max_risk = if dice.below(2) == 0 { Risk::Passive } else { Risk::Record };
        strict.interfaces = ["eth0", "wlan0"].iter().filter(|_| dice.below(2) == 0).map(|name| (*name).to_owned()).collect();
        strict.networks = ["192.0.2.0/24", "10.0.0.0/8"].iter().filter(|_| dice.below(2) == 0).map(|net| (*net).to_owned()).collect();
        strict.arp_interfaces = ["eth0", "wlan0"].iter().filter(|_| dice.below(2) == 0).map(|name| (*name).to_owned()).collect();
        strict.net_interfaces = ["eth0", "usb0"].iter().filter(|_| dice.below(2) == 0).map(|name| (*name).to_owned()).collect();
        strict.runs_per_hour = dice.below(4);
        strict
    }

    /// For many profiles and policies: the same plan twice; nothing above the risk is allowed; nothing forbidden is allowed or
    /// even asked for; what is looked at lies in the scope; and less policy never takes away what more policy gave.
    #[test]
    fn a_plan_never_goes_beyond_its_policy() {
        for seed in 0..1000 {
            let mut dice = Dice::new(seed);
            let (profile, policy, runs) = (profile(&mut dice), strict(&mut dice), dice.below(5));
            let made = plan(&profile, "00", &policy, runs);
            assert_eq!(serde_json::to_vec(&made).unwrap(), serde_json::to_vec(&plan(&profile, "00", &policy, runs)).unwrap());
            assert_eq!(serde_json::from_slice::<Plan>(&serde_json::to_vec(&made).unwrap()).unwrap(), made, "seed {seed}");
            let loose = Policy {
                runs_per_hour: 0,
                max_risk: Risk::Active,
                arp_interfaces: policy.arp_interfaces.clone(),
                net_interfaces: policy.net_interfaces.clone(),
                ..super::tests::policy()
            };
            for (step, freer) in made.steps.iter().zip(plan(&profile, "00", &loose, runs).steps) {
                if step.word.verdict == Verdict::Deny {
                    continue;
                }
                let action = actions::find(&step.action).unwrap_or_else(|| panic!("seed {seed}: {step:?}"));
                assert!(policy.actions.contains(&step.action) && (policy.runs_per_hour == 0 || runs < policy.runs_per_hour), "seed {seed}");
                assert_eq!(step.word.verdict == Verdict::Allow, action.risk <= policy.max_risk, "seed {seed}: {step:?}");
                assert_eq!(freer.word.verdict, Verdict::Allow, "seed {seed}: {step:?}");
                let within = |name: &str, fits: &dyn Fn(&str) -> bool| {
                    step.parameters
                        .get(name)
                        .and_then(Value::as_array)
                        .is_none_or(|items| items.iter().all(|item| fits(item.as_str().unwrap())))
                };
                for parameter in action.parameters {
                    if let Kind::Interface(power) = parameter.kind {
                        assert!(
                            power.interfaces(&policy).iter().any(|name| *name == step.parameters[parameter.name]),
                            "seed {seed}: {step:?}"
                        );
                    }
                }
                assert!(policy.interfaces.is_empty() || within("interfaces", &|name| policy.interfaces.iter().any(|one| one == name)));
                assert!(
                    policy.networks.is_empty() || within("networks", &|network| lies_in(network, &policy.networks)),
                    "seed {seed}: {step:?}"
                );
                for parameter in action.parameters {
                    let limited = match parameter.kind {
                        Kind::Integer { .. } => true,
                        Kind::Interface(_) => true,
                        Kind::Interfaces => !policy.interfaces.is_empty(),
                        Kind::Networks => !policy.networks.is_empty(),
                    };
                    assert!(!limited || step.parameters.contains_key(parameter.name), "seed {seed}: {step:?}");
                }
            }
        }
    }
}
