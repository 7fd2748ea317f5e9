//! A stored run with all that came from outside: the policies that ran, and what persons decided.

use super::BadData;
use crate::config::Config;
use crate::history::{History, InterventionRow};
use crate::policy::{Happened, Intervention, Observation, Policy, Replayed, replay_run};
use std::path::Path;

/// Pairs and interventions of a run.
pub(super) struct Ran<'a> {
    pairs: &'a [(Observation, f64)],
    /// With the policy, where it is one.
    interventions: Vec<(InterventionRow, Option<Policy>)>,
}

/// The policies that ran, as far as they are recorded.
pub(super) fn policies_that_ran(history: &History) -> anyhow::Result<Vec<Policy>> {
    Ok(with_policies(history)?.into_iter().filter_map(|(_, policy)| policy).collect())
}

fn with_policies(history: &History) -> anyhow::Result<Vec<(InterventionRow, Option<Policy>)>> {
    let rows = history.interventions()?.into_iter().map(|row| {
        let Intervention::Policy { text } = &row.intervention else { return Ok((row, None)) };
        let policy = Config::parse_policy(Path::new("policy in the history"), text);
        let policy = policy.map_err(|error| BadData(error.to_string()))?;
        Ok((row, Some(policy)))
    });
    rows.collect()
}

impl<'a> Ran<'a> {
    pub(super) fn of(history: &History, pairs: &'a [(Observation, f64)]) -> anyhow::Result<Self> {
        Ok(Self { pairs, interventions: with_policies(history)? })
    }

    /// The decisions under the policies that ran; `policy` stands for one that was not recorded.
    pub(super) fn as_it_was(&self, policy: &Policy) -> Replayed {
        let first = self.interventions.iter().find_map(|(_, policy)| policy.as_ref());
        replay_run(first.unwrap_or(policy), self.events(true))
    }

    /// The decisions under one policy, with what persons decided.
    pub(super) fn under(&self, policy: &Policy) -> Replayed {
        replay_run(policy, self.events(false))
    }

    /// What happened, in order: an intervention comes after the pair that it came after.
    fn events(&self, with_policies: bool) -> Vec<Happened<'_>> {
        let happened = |(row, policy): &'_ &(InterventionRow, Option<Policy>)| match policy {
            Some(_) => with_policies,
            None => !matches!(row.intervention, Intervention::Policy { .. }),
        };
        let mut interventions = self.interventions.iter().filter(happened).peekable();
        let mut events = Vec::new();
        for (pair, time) in self.pairs {
            while let Some(next) = interventions.next_if(|(row, _)| row.after < Some(pair.step)) {
                events.push(event(next));
            }
            events.push(Happened::Pair(pair, *time));
        }
        events.extend(interventions.map(event));
        events
    }

    pub(super) fn policies(&self) -> usize {
        self.interventions.iter().filter(|(_, policy)| policy.is_some()).count()
    }

    pub(super) fn persons(&self) -> usize {
        self.interventions.len() - self.policies()
    }

    /// `as_decided` is nothing where the pairs are not those of the run.
    pub(super) fn describe(&self, as_decided: Option<bool>) -> String {
        let verdict = match as_decided {
            Some(true) => "exactly what was decided",
            Some(false) => "not what was decided",
            None => "over other pairs",
        };
        let (policies, persons) = (self.policies(), self.persons());
        let of = |count, one, many| format!("{count} {}", if count == 1 { one } else { many });
        let policies = of(policies, "policy", "policies");
        let persons = of(persons, "decision of a person", "decisions of persons");
        format!("{policies} recorded, {persons}: replayed, {verdict}")
    }
}

fn event((row, policy): &(InterventionRow, Option<Policy>)) -> Happened<'_> {
    match policy {
        Some(policy) => Happened::Policy(policy),
        None => Happened::Person(&row.intervention, row.after.unwrap_or(0), row.time),
    }
}
