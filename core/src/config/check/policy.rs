//! `policy:` → [`Policy`].

use super::Check;
use crate::config::file;
use crate::policy::{Action, FIRST_PHASE, MANUAL, Missing, Policy, Rule, Severity, Start, Warmup};
use std::collections::{BTreeMap, BTreeSet};

/// `policy.phases:`, checked.
type Phases = BTreeMap<String, PhaseOfTraining>;

struct PhaseOfTraining {
    lambda: Option<f64>,
    ramp: Option<u64>,
    to: Option<BTreeSet<String>>,
}

impl Check {
    pub(super) fn policy(&mut self, policy: file::Policy) -> Option<Policy> {
        let missing = match policy.missing {
            None | Some(file::Missing::Skip) => Missing::Skip,
            Some(file::Missing::CountAsBad) => Missing::CountAsBad,
            Some(file::Missing::Error) => Missing::Error,
        };
        if policy.steps_per_epoch == Some(0) {
            self.checked.report("policy.steps_per_epoch", "is 0, but must be at least 1");
        }
        // With a mistaken number epochs are no mistakes of their own.
        self.steps_per_epoch = policy.steps_per_epoch.map(|steps| steps.max(1));
        let given = policy.start;
        let phases = self.phases(policy.phases.unwrap_or_default(), given.as_deref());
        let start = self.start(given, &phases);
        let Some(files) = policy.rules.filter(|rules| !rules.is_empty()) else {
            self.checked.report("policy.rules", "is missing: give at least one rule");
            return None;
        };
        let mut ids = BTreeSet::new();
        let wanted = files.len();
        for (index, _) in files.iter().enumerate().filter(|(_, rule)| rule.is_none()) {
            // Unless it is known why.
            self.checked.report(&format!("policy.rules[{index}]"), "is empty: give a rule");
        }
        self.phases_exist(&files, &phases, &start.phase);
        let rules: Vec<Rule> = files
            .into_iter()
            .enumerate()
            .filter_map(|(index, rule)| {
                self.rule(&format!("policy.rules[{index}]"), rule?, &mut ids, &phases)
            })
            .collect();
        if rules.len() < wanted {
            return None;
        }
        // A policy that only tells people need not end.
        let waits = rules.iter().any(|rule| rule.then.is_control() && rule.when.waits());
        let ends = |rule: &Rule| {
            let always = rule.phase.is_none() && rule.warmup == Warmup::default();
            always && rule.when.is_budget() && rule.then == Action::Stop
        };
        if waits && !rules.iter().any(ends) {
            self.checked.report(
                "policy.rules",
                "has rules that wait for a monitor but no budget (a rule without `phase` and `warmup`), \
                 and no criterion is sure to end; add a rule such as `{id: budget, when: {reached: {step: \
                 100000}}, then: {stop: {}}}`",
            );
        }
        let allowed = |(name, phase): (String, PhaseOfTraining)| Some((name, phase.to?));
        let transitions = phases.into_iter().filter_map(allowed).collect();
        let policy = Policy { rules, missing, transitions, start };
        self.switches_are_allowed(&policy);
        Some(policy)
    }

    /// The phase in which a run starts, with its λ.
    fn start(&mut self, given: Option<String>, phases: &Phases) -> Start {
        let Some(phase) = given else { return Start::default() };
        match phases.get(&phase).and_then(|phase| phase.lambda) {
            Some(lambda) => Start { phase, lambda },
            None => {
                let message = format!(
                    "is `{phase}`, whose λ is not given; write `phases: {{{phase}: {{lambda: 0.8}}}}`"
                );
                self.checked.report("policy.start", message);
                Start::default()
            }
        }
    }

    fn phases(
        &mut self,
        phases: BTreeMap<String, Option<file::PhaseOfTraining>>,
        start: Option<&str>,
    ) -> Phases {
        let names: Vec<String> = phases.keys().cloned().collect();
        if start.is_none() && !names.is_empty() && !names.iter().any(|name| name == FIRST_PHASE) {
            let message = format!(
                "lacks `{FIRST_PHASE}`, in which a run starts; add it, or name another with `policy.start`"
            );
            self.checked.report("policy.phases", message);
        }
        let mut known = Phases::new();
        for (name, phase) in phases {
            // Nothing behind the colon is nothing said of it.
            let file::PhaseOfTraining { lambda, ramp, to } = phase.unwrap_or_default();
            let at = format!("policy.phases.{name}");
            let unknown = to.iter().flatten().filter(|to| !names.contains(to));
            let unknown: Vec<String> = unknown.map(|to| format!("`{to}`")).collect();
            if !unknown.is_empty() {
                let (unknown, names) = (unknown.join(", "), names.join(", "));
                let message = format!("names {unknown}, but the phases are {names}");
                self.checked.report(&format!("{at}.to"), message);
            }
            let lambda = lambda.and_then(|lambda| {
                self.number(&format!("{at}.lambda"), Some(lambda), 0.0..=1.0, 0.0)
            });
            if name == FIRST_PHASE && lambda.is_some_and(|lambda| lambda > 0.0) {
                let message = format!(
                    "is above 0, but `{FIRST_PHASE}` is training as it is without convergd; give another phase, and \
                     `policy.start: <its name>`"
                );
                self.checked.report(&format!("{at}.lambda"), message);
            }
            let to = to.map(|to| to.into_iter().collect());
            known.insert(name, PhaseOfTraining { lambda, ramp, to });
        }
        known
    }

    /// A switch that no phase allows would never be made.
    fn switches_are_allowed(&mut self, policy: &Policy) {
        for (index, rule) in policy.rules.iter().enumerate() {
            let Action::Phase { to, .. } = &rule.then else { continue };
            let Some(from) = rule.phase.as_ref().filter(|from| !policy.allows(from, to)) else {
                continue;
            };
            let message = format!(
                "is `{to}`, but `policy.phases.{from}.to` does not allow it after `{from}`"
            );
            self.checked.report(&format!("policy.rules[{index}].then.phase.to"), message);
        }
    }

    /// A rule for a phase that no rule leads to would never hold.
    fn phases_exist(&mut self, rules: &[Option<file::Rule>], phases: &Phases, start: &str) {
        let leads_to = |rule: &file::Rule| match &rule.then {
            Some(file::Action::Phase(file::Phase { to, .. })) => to.clone(),
            _ => None,
        };
        let mut known: Vec<String> = rules.iter().flatten().filter_map(leads_to).collect();
        if known.len() < rules.iter().filter(|rule| may_switch(rule.as_ref())).count() {
            // What a mistaken rule leads to is not known.
            return;
        }
        known.push(start.to_owned());
        // A person may lead to these.
        known.extend(phases.keys().cloned());
        for (index, rule) in rules.iter().enumerate() {
            let phase = rule.as_ref().and_then(|rule| rule.phase.as_ref());
            if let Some(phase) = phase.filter(|phase| !known.contains(phase)) {
                let message = format!(
                    "is `{phase}`, but the run only knows the phases {}; the rule would never hold",
                    known.join(", ")
                );
                self.checked.report(&format!("policy.rules[{index}].phase"), message);
            }
        }
    }

    fn rule(
        &mut self,
        at: &str,
        rule: file::Rule,
        ids: &mut BTreeSet<String>,
        phases: &Phases,
    ) -> Option<Rule> {
        let id = self.required(&format!("{at}.id"), rule.id, "a name of its own");
        if let Some(id) = &id
            && !ids.insert(id.clone())
        {
            let message = format!("is `{id}`, which another rule has; ids key the stored state");
            self.checked.report(&format!("{at}.id"), message);
        }
        // Their ids are `manual-1@STEP`, and a rule's `ID@STEP`.
        let is_manual = |id: &String| *id == MANUAL || id.starts_with(&format!("{MANUAL}-"));
        if id.as_ref().is_some_and(String::is_empty) {
            self.checked.report(&format!("{at}.id"), "is empty: give a name of its own");
        }
        if let Some(id) = id.as_ref().filter(|id| is_manual(id)) {
            let message = format!("is `{id}`, which names decisions of persons; give another");
            self.checked.report(&format!("{at}.id"), message);
        }
        let when = self.required(
            &format!("{at}.when"),
            rule.when,
            "a condition, such as `{peaked: {metric: convergence_score}}`",
        );
        let when = when.and_then(|when| self.condition(&format!("{at}.when"), when, 0));
        let then =
            self.required(&format!("{at}.then"), rule.then, "an action, such as `{stop: {}}`");
        let then = then.and_then(|then| self.action(&format!("{at}.then"), then, phases));
        let warmup = self.warmup(&format!("{at}.warmup"), rule.warmup.unwrap_or_default());
        let cooldown = match rule.cooldown {
            None => Some(None),
            Some(_) => self.patience(&format!("{at}.cooldown"), rule.cooldown).map(Some),
        };
        Some(Rule {
            id: id?,
            when: when?,
            then: then?,
            warmup: warmup?,
            cooldown: cooldown?,
            phase: rule.phase,
        })
    }

    pub(super) fn required<T>(&mut self, at: &str, value: Option<T>, what: &str) -> Option<T> {
        if value.is_none() {
            self.checked.report(at, format!("is missing: give {what}"));
        }
        value
    }

    fn action(&mut self, at: &str, action: file::Action, phases: &Phases) -> Option<Action> {
        match action {
            file::Action::Stop(_) => Some(Action::Stop),
            file::Action::Phase(phase) => self.switch(&format!("{at}.phase"), phase, phases),
            file::Action::MarkBest(_) => Some(Action::MarkBest),
            file::Action::Notify(file::Notify { message }) => Some(Action::Notify { message }),
            file::Action::Alert(file::Alert { severity, message }) => {
                let severity = match severity {
                    Some(file::Severity::Info) => Severity::Info,
                    None | Some(file::Severity::Warning) => Severity::Warning,
                    Some(file::Severity::Critical) => Severity::Critical,
                };
                Some(Action::Alert { severity, message })
            }
        }
    }

    fn switch(&mut self, at: &str, phase: file::Phase, phases: &Phases) -> Option<Action> {
        let to = phase.to.filter(|to| !to.is_empty());
        let to = self.required(&format!("{at}.to"), to, "the name of the phase");
        let known = to.as_ref().and_then(|to| phases.get(to));
        if let Some(to) = to.as_ref().filter(|_| !phases.is_empty() && known.is_none()) {
            let names: Vec<&str> = phases.keys().map(String::as_str).collect();
            let message = format!("is `{to}`, but `policy.phases` has {}", names.join(", "));
            self.checked.report(&format!("{at}.to"), message);
        }
        let lambda = phase.lambda.or_else(|| known?.lambda);
        let lambda = self.required(&format!("{at}.lambda"), lambda, "λ, from 0 to 1");
        let lambda =
            lambda.and_then(|l| self.number(&format!("{at}.lambda"), Some(l), 0.0..=1.0, 0.0));
        let most = phase.max_output_scale;
        let most = match most {
            None => Some(None),
            Some(_) => {
                self.number(&format!("{at}.max_output_scale"), most, 0.0..=f64::MAX, 0.0).map(Some)
            }
        };
        let ramp = phase.ramp.or_else(|| known?.ramp).unwrap_or(0);
        Some(Action::Phase { to: to?, lambda: lambda?, ramp, max_output_scale: most? })
    }

    fn warmup(&mut self, at: &str, warmup: file::Warmup) -> Option<Warmup> {
        let scale = warmup.min_output_scale;
        let scale = self.number(&format!("{at}.min_output_scale"), scale, 0.0..=f64::MAX, 0.0);
        let epoch = match warmup.epoch {
            None => Some(0),
            Some(epoch) => self.steps_of(&format!("{at}.epoch"), epoch),
        };
        Some(Warmup {
            checks: warmup.checks.unwrap_or(0),
            step: warmup.step.unwrap_or(0).max(epoch?),
            min_output_scale: scale?,
        })
    }
}

/// Whether a rule switches the phase, or might, were it not mistaken.
fn may_switch(rule: Option<&file::Rule>) -> bool {
    let then = rule.and_then(|rule| rule.then.as_ref());
    then.is_none_or(|then| matches!(then, file::Action::Phase(_)))
}
