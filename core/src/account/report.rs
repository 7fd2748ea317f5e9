//! What the report and the page show of a run, from its history.

use super::rules;
use crate::clock::now;
use crate::config::Config;
use crate::evaluation::Variables;
use crate::history::{self, DeliveryRow, History, HistoryError, Outcome, setting};
use crate::policy::{Notice, PolicyState};
use crate::telemetry::report::{DecisionRow, PairRow, Report};
use std::sync::Arc;

/// All pairs of a run, as they are shown.
///
/// # Errors
/// A history that cannot be read.
pub fn pairs(history: &History) -> Result<Vec<Arc<PairRow>>, HistoryError> {
    Ok(history.pairs()?.into_iter().map(pair).collect())
}

/// A pair, as it is shown.
pub fn pair(pair: history::PairRow) -> Arc<PairRow> {
    let history::PairRow { step, monitors, strengths, samples, certified, gap_max, .. } = pair;
    Arc::new(PairRow { step, monitors, strengths, samples, certified, gap_max })
}

/// The report of a run with these pairs; of notices and of checkpoints that were set aside the newest `most`.
///
/// # Errors
/// A history that cannot be read.
pub fn report(
    config: &Config,
    history: &History,
    pairs: Vec<Arc<PairRow>>,
    most: usize,
) -> Result<Report, HistoryError> {
    let last = history.last_pair()?;
    let rules = rules(config, history)?;
    let policy = history.policy_state(last.as_ref(), &rules)?;
    let primary = rules.primary();
    let best = rules.bests(&policy).get(&primary).map(|best| best.at.step);
    let mut skipped = Vec::new();
    for outcome in [Outcome::Skipped, Outcome::Quarantined] {
        for row in history.checkpoints_that(outcome, most)? {
            let reason = row.reason.unwrap_or_default();
            skipped.push((row.path, format!("{}: {reason}", outcome.name())));
        }
    }
    let decisions = history.decisions()?.into_iter().map(decision_row).collect();
    let notices = history.last_notices(most)?.into_iter().map(notice_row).collect();
    Ok(Report {
        title: config.name.clone(),
        state: state(last.is_some(), &policy),
        state_directory: config.state.display().to_string(),
        generated: utc(now()),
        facts: facts(history)?,
        primary,
        best,
        pairs,
        decisions,
        notices,
        skipped,
    })
}

fn state(has_pairs: bool, policy: &PolicyState) -> String {
    match policy {
        policy if policy.stopped => "stopped early".to_owned(),
        _ if !has_pairs => "no pair yet".to_owned(),
        policy => format!("phase {}", policy.phase),
    }
}

fn facts(history: &History) -> Result<Vec<(String, String)>, HistoryError> {
    let mut facts = vec![("convergd".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    for (name, value) in history.facts()? {
        if name == "variables" {
            let variables: Variables = serde_json::from_str(&value)?;
            facts.push((name, variables.count.to_string()));
            facts.push(("probe samples".to_owned(), variables.classes.len().to_string()));
        } else {
            let value = setting::readable(&name, &value);
            facts.push((name, value));
        }
    }
    Ok(facts)
}

fn decision_row(row: DeliveryRow) -> DecisionRow {
    let decision = row.decision;
    DecisionRow {
        step: decision.step,
        action: decision.action,
        rule: decision.rule,
        reason: decision.reason,
        best_step: decision.best_step,
        time: utc(decision.time),
    }
}

fn notice_row(notice: Notice) -> DecisionRow {
    let Notice { step, action, rule, reason, message, best_step, time, .. } = notice;
    let reason = message.map_or(reason.clone(), |message| format!("{message}: {reason}"));
    DecisionRow { step, action, rule, reason, best_step, time: utc(time) }
}

/// Seconds since 1970 as a date and time in UTC.
pub fn utc(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date: years of 400-year eras that begin in March.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_written_as_dates() {
        assert_eq!(super::utc(0.0), "1970-01-01 00:00:00 UTC");
        assert_eq!(super::utc(951_782_400.0), "2000-02-29 00:00:00 UTC");
        assert_eq!(super::utc(1_795_428_123.9), "2026-11-23 10:02:03 UTC");
    }
}
