//! What changed the policy's memory from outside.

use super::notification::insert_notifications;
use super::store::{delete_end, insert_decision};
use super::{DeliveryRow, History, HistoryError, NotificationRow, PairRow};
use crate::policy::{Intervention, Policy, PolicyState};
use rusqlite::params;

type Result<T> = std::result::Result<T, HistoryError>;

/// One intervention.
#[derive(Clone, Debug, PartialEq)]
pub struct InterventionRow {
    /// They are numbered in order, from 1.
    pub number: u64,
    /// Step of the last pair before it; nothing before the first pair.
    pub after: Option<u64>,
    /// When, in seconds since 1970.
    pub time: f64,
    /// What it was.
    pub intervention: Intervention,
    /// The policy's memory after it.
    pub policy: PolicyState,
}

/// All that one transaction stores of an intervention.
#[derive(Clone, Copy)]
pub struct InterventionRecord<'a> {
    /// It.
    pub row: &'a InterventionRow,
    /// What was decided by it.
    pub decision: Option<&'a DeliveryRow>,
    /// The request by which it was asked for.
    pub request: Option<&'a str>,
    /// What webhooks are to be told of it.
    pub notifications: &'a [NotificationRow],
}

impl History {
    /// Stores an intervention and what was decided by it, in one transaction. By a `resume` training goes on.
    ///
    /// # Errors
    /// SQLite's; nothing is stored then.
    pub fn record_intervention(&mut self, record: InterventionRecord<'_>) -> Result<()> {
        let InterventionRecord { row, decision, request, notifications } = record;
        let InterventionRow { number, after, time, intervention, policy } = row;
        let transaction = self.connection.transaction()?;
        transaction.execute(
            "INSERT INTO intervention VALUES (?, ?, ?, ?, ?)",
            params![
                *number as i64,
                after.map(|step| step as i64),
                time,
                serde_json::to_string(intervention)?,
                serde_json::to_string(policy)?,
            ],
        )?;
        if let Some(row) = decision {
            insert_decision(&transaction, row, request)?;
        }
        if matches!(intervention, Intervention::Resume { .. }) {
            delete_end(&transaction)?;
        }
        insert_notifications(&transaction, notifications)?;
        Ok(transaction.commit()?)
    }

    /// All interventions in order.
    ///
    /// # Errors
    /// SQLite's, and a stored value that cannot be read.
    pub fn interventions(&self) -> Result<Vec<InterventionRow>> {
        self.read_interventions("ORDER BY number")
    }

    /// The policy that runs or ran last, as YAML.
    ///
    /// # Errors
    /// As [`History::interventions`].
    pub fn last_policy(&self) -> Result<Option<String>> {
        let rows = self.interventions()?;
        Ok(rows.into_iter().rev().find_map(|row| match row.intervention {
            Intervention::Policy { text } => Some(text),
            _ => None,
        }))
    }

    /// The last intervention.
    ///
    /// # Errors
    /// As [`History::interventions`].
    pub fn last_intervention(&self) -> Result<Option<InterventionRow>> {
        Ok(self.read_interventions("ORDER BY number DESC LIMIT 1")?.pop())
    }

    fn read_interventions(&self, order: &str) -> Result<Vec<InterventionRow>> {
        let select = "SELECT number, after, time, intervention, policy FROM intervention";
        let mut query = self.connection.prepare_cached(&format!("{select} {order}"))?;
        let rows = query.query_map([], |row| {
            let texts: [String; 2] = [row.get(3)?, row.get(4)?];
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?, row.get(2)?, texts))
        })?;
        rows.map(|row| {
            let (number, after, time, [intervention, policy]) = row?;
            Ok(InterventionRow {
                number: number as u64,
                after: after.map(|step| step as u64),
                time,
                intervention: serde_json::from_str(&intervention)?,
                policy: serde_json::from_str(&policy)?,
            })
        })
        .collect()
    }

    /// Steps between the last two pairs.
    ///
    /// # Errors
    /// SQLite's.
    pub fn last_distance(&self) -> Result<Option<u64>> {
        let mut query =
            self.connection.prepare_cached("SELECT step FROM pair ORDER BY step DESC LIMIT 2")?;
        let steps: Vec<i64> =
            query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        Ok(steps.first().zip(steps.get(1)).map(|(last, before)| last.abs_diff(*before)))
    }

    /// The policy's memory now: after the last pair, or after an intervention behind it; before both, that of a run that
    /// begins with `policy`.
    ///
    /// # Errors
    /// As [`History::pairs`].
    pub fn policy_state(&self, last: Option<&PairRow>, policy: &Policy) -> Result<PolicyState> {
        let behind =
            self.last_intervention()?.filter(|row| row.after == last.map(|pair| pair.step));
        let begin = || PolicyState::begin(policy);
        let of_pair = || last.map(|pair| pair.policy.clone()).unwrap_or_else(begin);
        Ok(behind.map_or_else(of_pair, |row| row.policy))
    }
}
