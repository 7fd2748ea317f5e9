//! `convergd replay`: policies over the stored history of a run.

mod compare;
mod recomputed;

use super::ran::{Pair, Ran};
use super::{ConfigArgument, Exit, say};
use crate::config::Config;
use crate::history::{History, PairRow};
use crate::policy::{Decision, MissingMonitor, Observation, Policy, Replayed};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Another file whose `policy` is replayed beside it; may be given several times
    #[arg(long = "policy", value_name = "FILE")]
    policies: Vec<PathBuf>,
    #[command(flatten)]
    recomputed: recomputed::FromValues,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// One policy and what it makes of the history.
struct Candidate {
    file: PathBuf,
    policy: Policy,
    replayed: Replayed,
    /// Whether these are the decisions that were made; of the run's own policy.
    as_decided: Option<bool>,
}

impl Candidate {
    /// The decision that ends the run, or the last one.
    fn last(&self) -> Option<&Decision> {
        self.replayed.decisions.last()
    }

    /// The pair that its last decision names the best.
    fn best<'a>(&self, pairs: &'a [PairRow]) -> Option<&'a PairRow> {
        let step = self.last()?.best_step?;
        pairs.iter().find(|pair| pair.step == step)
    }

    /// Where its rules stand at the end; nothing where it has ended the run.
    fn standing(&self) -> impl Iterator<Item = (&str, &str)> {
        let Replayed { state, missing, .. } = &self.replayed;
        let goes_on = !state.stopped && missing.is_none();
        state.reasons(&self.policy).filter(move |_| goes_on)
    }

    fn json(&self, pairs: &[PairRow]) -> Value {
        let best = self.best(pairs);
        let missing = self.replayed.missing.as_ref();
        let holds = |rule: &str| self.replayed.state.rules.get(rule).is_some_and(|r| r.holds);
        let rules = self
            .standing()
            .map(|(rule, reason)| json!({"rule": rule, "holds": holds(rule), "reason": reason}));
        json!({
            "policy": self.file,
            "decisions": self.replayed.decisions,
            "notices": self.replayed.notices,
            "missing": missing.map(|m| json!({"rule": m.rule, "monitor": m.monitor, "step": m.step})),
            "rules": rules.collect::<Vec<_>>(),
            "as_decided": self.as_decided,
            "best": best.map(|pair| json!({"step": pair.step, "monitors": pair.monitors})),
        })
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = arguments.config.load()?;
    let others = arguments.policies.iter().map(|file| Ok((file, Config::load_policy(file)?)));
    let others: Vec<(&PathBuf, Policy)> = others.collect::<anyhow::Result<_>>()?;
    let history = History::open_for_reading(&config.state)?;
    let mut pairs = history.pairs()?;
    let made: Vec<Decision> = history.decisions()?.into_iter().map(|row| row.decision).collect();
    let ran = Ran::of(&history)?;
    let given = std::iter::once(&config.policy).chain(others.iter().map(|(_, policy)| policy));
    let needs_samples = given.chain(ran.policies()).any(Policy::needs_samples);
    let recomputed = arguments.recomputed.over(&config, &history, &mut pairs)?;
    let observations: Vec<Pair> = match recomputed.as_ref() {
        Some(recomputed) => recomputed.observations.clone(),
        None => pairs
            .iter()
            .map(|pair| observation(pair, &history, needs_samples))
            .collect::<anyhow::Result<_>>()?,
    };
    // With other settings the decisions may well be others.
    let said = history.notices()?;
    let is_it = |replayed: &Replayed| {
        let mut notices = replayed.notices.clone();
        notices.sort_by(|a, b| (a.step, &a.id).cmp(&(b.step, &b.id)));
        recomputed.is_none().then(|| replayed.decisions == made && notices == said)
    };
    let as_ran = is_it(&ran.as_it_was(&observations, &config.policy));
    let replayed = ran.under(&observations, &config.policy);
    let as_decided = is_it(&replayed);
    let (file, policy) = (config.source.clone(), config.policy.clone());
    let mut all = vec![Candidate { file, policy, replayed, as_decided }];
    all.extend(others.into_iter().map(|(file, policy)| {
        let replayed = ran.under(&observations, &policy);
        Candidate { file: file.clone(), policy, replayed, as_decided: None }
    }));
    if arguments.json {
        let policies: Vec<Value> = all.iter().map(|candidate| candidate.json(&pairs)).collect();
        let steps = pairs.first().zip(pairs.last()).map(|(first, last)| [first.step, last.step]);
        let value = json!({
            "run": config.name, "state": config.state, "pairs": pairs.len(), "steps": steps,
            "decided": made, "policies": policies,
            "recomputed": recomputed.as_ref().map(recomputed::Recomputed::json),
            "as_ran": {
                "policies": ran.policies().count(), "interventions": ran.persons(),
                "as_decided": as_ran,
            },
        });
        say(serde_json::to_string_pretty(&value)?);
        return Ok(Exit::Done);
    }
    describe(&config, &pairs, recomputed.as_ref(), &all, &ran.describe(as_ran));
    let is_bare = |(pair, _): &&Pair| pair.finite && pair.samples.is_none();
    let bare = observations.iter().filter(is_bare).count();
    if needs_samples && bare > 0 && recomputed.is_none() {
        say(format!(
            "{bare} pairs have no samples in the history, so nothing is significant there: an earlier version \
             stored them"
        ));
    }
    Ok(Exit::Done)
}

/// What the policy saw of a pair.
fn observation(pair: &PairRow, history: &History, needs_samples: bool) -> anyhow::Result<Pair> {
    let PairRow { step, monitors, finite, .. } = pair;
    let evidence = if needs_samples { history.evidence(*step)? } else { None };
    let samples = evidence.and_then(|evidence| evidence.samples);
    let (step, monitors, finite) = (*step, monitors.clone(), *finite);
    Ok((Observation { step, monitors, finite, samples }, pair.time))
}

fn describe(
    config: &Config,
    pairs: &[PairRow],
    recomputed: Option<&recomputed::Recomputed>,
    all: &[Candidate],
    ran: &str,
) {
    let state = config.state.display();
    match pairs {
        [] => say(format!("history     {state}: no pair yet")),
        [first, .., last] | [first @ last] => say(format!(
            "history     {state}: {} pairs, from step {} to {}",
            pairs.len(),
            first.step,
            last.step
        )),
    }
    recomputed.into_iter().for_each(recomputed::Recomputed::describe);
    say(format!("as it ran   {ran}"));
    for candidate in all {
        say(format!("policy      {}", candidate.file.display()));
        tell(&candidate.replayed);
        for (rule, reason) in candidate.standing() {
            say(format!("            rule {rule}: {reason}"));
        }
        match (candidate.as_decided, candidate.replayed.decisions.is_empty()) {
            (Some(true), true) => say("            decides nothing, as it was"),
            (Some(true), false) => say("            as it was decided"),
            (Some(false), _) => say(
                "            this is not what was decided: the policy has changed since, or somebody \
                 stepped in (`convergd status` shows what was)",
            ),
            (None, true) => say("            decides nothing"),
            (None, false) => {}
        }
    }
    if all.len() > 1 {
        compare::print(pairs, all);
    }
}

/// Decisions and notices in the order of their steps.
fn tell(replayed: &Replayed) {
    let mut lines: Vec<(u64, [String; 2])> = Vec::new();
    for decision in &replayed.decisions {
        lines.push((decision.step, [decision.headline(), decision.reason.clone()]));
    }
    for notice in &replayed.notices {
        lines.push((notice.step, [notice.headline(), notice.reason.clone()]));
    }
    if let Some(MissingMonitor { rule, monitor, step }) = &replayed.missing {
        let what = format!("error at step {step} by rule `{rule}`");
        lines.push((*step, [what, format!("`{monitor}` is missing")]));
    }
    lines.sort_by_key(|(step, _)| *step);
    for line in lines.into_iter().flat_map(|(_, lines)| lines) {
        say(format!("            {line}"));
    }
}
