//! A stored run with all that came from outside: the policies that ran, and what persons decided.

use super::BadData;
use crate::config::Config;
use crate::history::{History, InterventionRow};
use crate::policy::{Happened, Intervention, Observation, Policy, Replayed, replay_run};
use std::path::Path;

/// A pair as rules saw it, and when, in seconds since 1970.
pub(super) type Pair = (Observation, f64);

/// The interventions of a run.
pub(super) struct Ran {
    /// With the policy, where it is one.
    interventions: Vec<(InterventionRow, Option<Policy>)>,
}

impl Ran {
    pub(super) fn of(history: &History) -> anyhow::Result<Self> {
        let rows = history.interventions()?.into_iter().map(|row| {
            let Intervention::Policy { text } = &row.intervention else { return Ok((row, None)) };
            let policy = Config::parse_policy(Path::new("policy in the history"), text);
            let policy = policy.map_err(|error| BadData(error.to_string()))?;
            Ok((row, Some(policy)))
        });
        Ok(Self { interventions: rows.collect::<anyhow::Result<_>>()? })
    }

    /// The policies that ran, as far as they are recorded.
    pub(super) fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.interventions.iter().filter_map(|(_, policy)| policy.as_ref())
    }

    /// The decisions under the policies that ran; `policy` stands for one that was not recorded.
    pub(super) fn as_it_was(&self, pairs: &[Pair], policy: &Policy) -> Replayed {
        replay_run(self.policies().next().unwrap_or(policy), self.events(pairs, true))
    }

    /// The decisions under one policy, with what persons decided.
    pub(super) fn under(&self, pairs: &[Pair], policy: &Policy) -> Replayed {
        replay_run(policy, self.events(pairs, false))
    }

    /// What happened, in order: an intervention comes after the pair that it came after.
    fn events<'a>(&'a self, pairs: &'a [Pair], with_policies: bool) -> Vec<Happened<'a>> {
        let happened = |(row, policy): &'_ &(InterventionRow, Option<Policy>)| match policy {
            Some(_) => with_policies,
            None => !matches!(row.intervention, Intervention::Policy { .. }),
        };
        let mut interventions = self.interventions.iter().filter(happened).peekable();
        let mut events = Vec::new();
        for (pair, time) in pairs {
            while let Some(next) = interventions.next_if(|(row, _)| row.after < Some(pair.step)) {
                events.push(event(next));
            }
            events.push(Happened::Pair(pair, *time));
        }
        events.extend(interventions.map(event));
        events
    }

    pub(super) fn persons(&self) -> usize {
        self.interventions.len() - self.policies().count()
    }

    /// `as_decided` is nothing where the pairs are not those of the run.
    pub(super) fn describe(&self, as_decided: Option<bool>) -> String {
        let verdict = match as_decided {
            Some(true) => "exactly what was decided",
            Some(false) => "not what was decided",
            None => "over other pairs",
        };
        let (policies, persons) = (self.policies().count(), self.persons());
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
