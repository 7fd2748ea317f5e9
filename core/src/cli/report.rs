//! `convergd report`: the page of a run, from its history.

use super::{ConfigArgument, Exit, write_output};
use crate::clock::now;
use crate::config::Config;
use crate::convergence::Monitor;
use crate::evaluation::Variables;
use crate::history::{DeliveryRow, History, Outcome};
use crate::policy::Notice;
use crate::telemetry::report::{DecisionRow, PairRow, Report};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Where the page is written
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = arguments.config.load()?;
    write_output(&arguments.output, &page(&config)?)?;
    Ok(Exit::Done)
}

/// The page of a run as it stands.
///
/// # Errors
/// A history that cannot be read.
pub fn page(config: &Config) -> anyhow::Result<String> {
    let history = History::open_for_reading(&config.state)?;
    let pairs = history.pairs()?;
    let decisions = history.decisions()?;
    let policy =
        pairs.last().map(|last| history.policy_state(Some(last), &config.policy)).transpose()?;
    let state = match policy {
        None => "no pair yet".to_owned(),
        Some(policy) if policy.stopped => "stopped early".to_owned(),
        Some(policy) => format!("phase {}", policy.phase),
    };
    let left_out = [Outcome::Skipped, Outcome::Quarantined];
    let mut skipped = Vec::new();
    for outcome in left_out {
        for row in history.checkpoints_that(outcome, usize::MAX)? {
            let reason = row.reason.unwrap_or_default();
            skipped.push((row.path, format!("{}: {reason}", outcome.name())));
        }
    }
    let report = Report {
        title: config.name.clone(),
        state,
        state_directory: config.state.display().to_string(),
        generated: utc(now()),
        facts: facts(&history)?,
        primary: primary(config),
        pairs: pairs
            .into_iter()
            .map(|pair| PairRow {
                step: pair.step,
                monitors: pair.monitors,
                strengths: pair.strengths,
                samples: pair.samples,
                certified: pair.certified,
                gap_max: pair.gap_max,
            })
            .collect(),
        decisions: decisions.into_iter().map(decision_row).collect(),
        notices: history.notices()?.into_iter().map(notice_row).collect(),
        skipped,
    };
    Ok(report.render())
}

/// The monitor of the first rule that follows one.
fn primary(config: &Config) -> Monitor {
    let mut monitors = config.policy.rules.iter().flat_map(|rule| rule.when.monitors());
    monitors.next().unwrap_or(Monitor::ConvergenceScore)
}

fn facts(history: &History) -> anyhow::Result<Vec<(String, String)>> {
    let mut facts = vec![("convergd".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    for (name, value) in history.facts()? {
        if name == "variables" {
            let variables: Variables = serde_json::from_str(&value)?;
            facts.push((name, variables.count.to_string()));
            facts.push(("probe samples".to_owned(), variables.classes.len().to_string()));
        } else {
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
pub(super) fn utc(seconds: f64) -> String {
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
