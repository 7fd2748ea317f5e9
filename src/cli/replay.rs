//! `convergd replay`: policies over the stored history of a run.

use super::{ConfigArgument, Exit, say};
use crate::config::Config;
use crate::convergence::Monitor;
use crate::history::{History, PairRow};
use crate::policy::{Decision, Observation, Policy, replay};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Monitors by which policies are compared, at the step that they name the best.
const COMPARED: [Monitor; 3] =
    [Monitor::ConvergenceScore, Monitor::ProbeLoss, Monitor::ProbeAccuracy];

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Another file whose `policy` is replayed beside it; may be given several times
    #[arg(long = "policy", value_name = "FILE")]
    policies: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// One policy and what it decides.
struct Replayed {
    file: PathBuf,
    decisions: Vec<Decision>,
    /// Whether these are the decisions that were made; of the run's own policy.
    as_decided: Option<bool>,
}

impl Replayed {
    /// The decision that ends the run, or the last one.
    fn last(&self) -> Option<&Decision> {
        self.decisions.last()
    }

    /// The pair that its last decision names the best.
    fn best<'a>(&self, pairs: &'a [PairRow]) -> Option<&'a PairRow> {
        let step = self.last()?.best_step?;
        pairs.iter().find(|pair| pair.step == step)
    }

    fn json(&self, pairs: &[PairRow]) -> Value {
        let best = self.best(pairs);
        json!({
            "policy": self.file,
            "decisions": self.decisions,
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
    let pairs = history.pairs()?;
    let made: Vec<Decision> = history.decisions()?.into_iter().map(|row| row.decision).collect();
    let observations: Vec<(Observation, f64)> = pairs.iter().map(observation).collect();
    let over =
        |policy: &Policy| replay(policy, observations.iter().map(|(pair, time)| (pair, *time)));
    let decisions = over(&config.policy);
    let as_decided = Some(decisions == made);
    let mut all = vec![Replayed { file: config.source.clone(), decisions, as_decided }];
    all.extend(others.into_iter().map(|(file, policy)| Replayed {
        file: file.clone(),
        decisions: over(&policy),
        as_decided: None,
    }));
    if arguments.json {
        let policies: Vec<Value> = all.iter().map(|replayed| replayed.json(&pairs)).collect();
        let steps = pairs.first().zip(pairs.last()).map(|(first, last)| [first.step, last.step]);
        let value = json!({
            "run": config.name, "state": config.state, "pairs": pairs.len(), "steps": steps,
            "decided": made, "policies": policies,
        });
        say(serde_json::to_string_pretty(&value)?);
        return Ok(Exit::Done);
    }
    describe(&config, &pairs, &all);
    Ok(Exit::Done)
}

/// What the policy saw of a pair.
fn observation(pair: &PairRow) -> (Observation, f64) {
    let PairRow { step, monitors, finite, .. } = pair;
    (Observation { step: *step, monitors: monitors.clone(), finite: *finite }, pair.time)
}

fn describe(config: &Config, pairs: &[PairRow], all: &[Replayed]) {
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
    for replayed in all {
        say(format!("policy      {}", replayed.file.display()));
        for decision in &replayed.decisions {
            let Decision { action, step, rule, reason, .. } = decision;
            say(format!("            {action} at step {step} by rule `{rule}`"));
            say(format!("            {reason}"));
        }
        match (replayed.as_decided, replayed.decisions.is_empty()) {
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
        compare(pairs, all);
    }
}

/// One line a policy: where it ends, and what its best step is worth.
fn compare(pairs: &[PairRow], all: &[Replayed]) {
    let names: String = COMPARED.iter().map(|monitor| format!("{:>19}", monitor.name())).collect();
    say(format!("\n{:<28}{:>8}{:>8}{:>8}{names}", "policy", "action", "at", "best"));
    for replayed in all {
        let name = replayed.file.file_name().unwrap_or_default().to_string_lossy();
        let Some(last) = replayed.last() else {
            say(format!("{name:<28}{:>8}", "none"));
            continue;
        };
        let best = replayed.best(pairs);
        let value = |monitor: &Monitor| {
            let estimate = best.and_then(|pair| pair.monitors.get(monitor));
            estimate.map_or_else(|| "-".to_owned(), |estimate| format!("{:.4}", estimate.value))
        };
        let values: String = COMPARED.iter().map(|m| format!("{:>19}", value(m))).collect();
        let step = last.best_step.map_or_else(|| "-".to_owned(), |step| step.to_string());
        say(format!("{name:<28}{:>8}{:>8}{step:>8}{values}", last.action, last.step));
    }
    say(
        "monitors at the best step of each; what would have come after another phase switch is not known",
    );
}
