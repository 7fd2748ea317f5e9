//! `convergd status`: the state of a running or finished run, from its history.

use super::report::utc;
use super::run_state::RunState;
use super::told::Told;
use super::{ConfigArgument, Exit, say};
use crate::config::Config;
use crate::convergence::Monitor;
use crate::evaluation::{Precision, cache};
use crate::history::{CheckpointRow, DeliveryRow, Failure, History, Holder, Outcome, PairRow};
use crate::policy::{Notice, PolicyState};
use clap::Args;
use serde_json::json;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Checkpoints of one outcome that are told one by one.
const MOST_SHOWN: usize = 10;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = arguments.config.load()?;
    let history = History::open_for_reading(&config.state)?;
    let state = RunState::read(&config, &history)?;
    let most = if arguments.json { usize::MAX } else { MOST_SHOWN };
    let quarantined = history.checkpoints_that(Outcome::Quarantined, most)?;
    let skipped = history.checkpoints_that(Outcome::Skipped, most)?;
    let notices = history.notices()?;
    let cached = cache::usage(&config.values()).unwrap_or_default();
    let told = Told::of(&history, state.decisions.last())?;
    let RunState { last, policy, decisions, .. } = &state;
    if arguments.json {
        let best = decisions.last().and_then(|row| row.document.best.as_ref());
        let best = match best {
            Some(best) => history.pair(best.step)?,
            None => None,
        };
        let value = json!({
            "run": config.name,
            "state": config.state,
            "at_work": state.holder.as_ref().map(|holder| *holder != Holder::Nobody),
            "stopped": policy.stopped,
            "phase": state.is_known().then_some(&policy.phase),
            "lambda": state.is_known().then_some(policy.lambda),
            "pairs": state.pairs,
            "step": last.as_ref().map(|pair| pair.step),
            "monitors": last.as_ref().map(|pair| &pair.monitors),
            "best": best.as_ref().map(|pair| json!({"step": pair.step, "monitors": pair.monitors})),
            "certified": last.as_ref().map(|pair| pair.certified),
            "samples": last.as_ref().map(|pair| pair.samples),
            "gap_max": last.as_ref().map(|pair| pair.gap_max),
            "noise_floor": last.as_ref().and_then(|pair| pair.noise_floor),
            "ended": state.ended,
            "failed": state.failure,
            "value_cache": {
                "tables": cached.tables, "bytes": cached.bytes, "size": config.cache_size,
            },
            "waiting": state.waiting,
            "skipped": state.skipped,
            "quarantined": state.quarantined,
            "set_aside": quarantined.iter().chain(&skipped).map(|row| json!({
                "network": row.role, "step": row.step, "path": row.path,
                "outcome": row.outcome.name(), "reason": row.reason,
            })).collect::<Vec<_>>(),
            "decisions": decisions.iter().map(|row| &row.decision).collect::<Vec<_>>(),
            "notices": notices,
            "alerts": state.alerts(),
            "rules": policy.rules.iter().map(|(id, rule)| json!({
                "rule": id, "holds": rule.holds, "warm": rule.warm, "reason": rule.reason,
            })).collect::<Vec<_>>(),
            "delivered": decisions.last().and_then(|row| row.delivered),
            "acknowledged": told.acknowledged(),
            "escalations": told.escalations(),
            "untold": told.untold(),
        });
        say(serde_json::to_string_pretty(&value)?);
        return Ok(Exit::Done);
    }
    let at_work = match &state.holder {
        Some(Holder::Process(pid)) => format!(", at work as process {pid}"),
        Some(Holder::Nobody) => ", not at work".to_owned(),
        None => String::new(),
    };
    say(format!("run         {} ({}){at_work}", config.name, config.state.display()));
    match last {
        None => {
            say("pairs       none yet");
            describe_waiting(&config);
            if state.is_known() {
                describe_phase(policy);
            }
        }
        Some(pair) => {
            describe(pair, policy, state.pairs);
            for (rule, reason) in state.reasons() {
                say(format!("rule        {rule}: {reason}"));
            }
            // float32 has no floor.
            if config.network.precision != Precision::Float32 {
                describe_noise(history.largest_noise_floor()?, &config);
            }
        }
    }
    let RunState { waiting, skipped: skipped_count, quarantined: quarantined_count, .. } = state;
    say(format!(
        "checkpoints {waiting} waiting, {skipped_count} skipped, {quarantined_count} quarantined"
    ));
    describe_set_aside(&quarantined, quarantined_count);
    describe_set_aside(&skipped, skipped_count);
    let [bytes, size] = [cached.bytes, config.cache_size].map(readable);
    say(format!("value cache {} tables, {bytes} of {size}", cached.tables));
    if let Some(ended) = &state.ended {
        say(format!("ended       {ended}"));
    }
    if let Some(Failure { time, error }) = &state.failure {
        say(format!("failed      {}: {error}", utc(*time)));
    }
    describe_notices(&notices, &state.alerts());
    for row in decisions {
        describe_decision(row, state.is_dry);
    }
    told.describe();
    Ok(Exit::Done)
}

/// Bytes in the largest unit that they fill.
fn readable(bytes: u64) -> String {
    let unit =
        [(40, "TiB"), (30, "GiB"), (20, "MiB")].into_iter().find(|(bits, _)| bytes >> bits > 0);
    let (bits, unit) = unit.unwrap_or((10, "KiB"));
    format!("{:.1} {unit}", bytes as f64 / (1u64 << bits) as f64)
}

fn describe(pair: &PairRow, policy: &PolicyState, pairs: u64) {
    let PairRow { step, certified, samples, gap_max, .. } = pair;
    say(format!("pairs       {pairs}, the last at step {step}"));
    describe_phase(policy);
    say(format!("extraction  {certified} of {samples} certified, largest gap {gap_max:.1e}"));
    for monitor in Monitor::CHIEF {
        if let Some(estimate) = pair.monitors.get(&monitor) {
            say(format!(
                "            {:<20} {:>9.4} ± {:.4}",
                monitor.name(),
                estimate.value,
                estimate.standard_error
            ));
        }
    }
}

fn describe_phase(policy: &PolicyState) {
    say(format!("phase       {} (λ = {})", policy.phase, policy.lambda));
}

/// Directories that there is nothing in yet.
fn describe_waiting(config: &Config) {
    for watched in &config.watch {
        let directory = watched.directory.display();
        let what = match std::fs::read_dir(&watched.directory).map(|mut all| all.next()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                "is not there yet; a run waits for it".to_owned()
            }
            Err(error) => format!("cannot be read: {error}"),
            Ok(None) => "is empty".to_owned(),
            Ok(Some(_)) => continue,
        };
        say(format!("            {}: `{directory}` {what}", watched.role));
    }
}

/// What the precision does to effects.
fn describe_noise(floor: Option<f64>, config: &Config) {
    let Some(floor) = floor else { return };
    let salience = config.interactions.salience;
    let verdict = match floor <= salience {
        true => "supports",
        false => "does not support",
    };
    say(format!(
        "precision   {} moves effects by up to {floor:.3} of the output: it {verdict} a salience of {salience}",
        config.network.precision.name()
    ));
}

/// The newest of so many, with their reasons.
fn describe_set_aside(rows: &[CheckpointRow], count: u64) {
    let earlier = count.saturating_sub(rows.len() as u64);
    if earlier > 0 {
        say(format!("            {earlier} earlier ones are in `--json`"));
    }
    for CheckpointRow { role, step, outcome, reason, path, .. } in rows {
        let reason = reason.as_deref().unwrap_or_default();
        say(format!("            {role} {step} {}: `{path}`: {reason}", outcome.name()));
    }
}

/// The newest of them, and which alerts still hold.
fn describe_notices(notices: &[Notice], alerts: &[&str]) {
    let earlier = notices.len().saturating_sub(MOST_SHOWN);
    for notice in &notices[earlier..] {
        say(format!("notice      {}", notice.headline()));
        say(format!("            {}", notice.reason));
    }
    if !alerts.is_empty() {
        say(format!("alerts      {}", alerts.join(", ")));
    }
}

fn describe_decision(row: &DeliveryRow, is_dry: bool) {
    let decision = &row.decision;
    say(format!("decision    {}", decision.headline()));
    say(format!("            {}", decision.reason));
    if let Some(best) = &row.document.best {
        let target = best.target.as_deref().unwrap_or("its checkpoint is gone");
        let baseline = best.baseline.as_deref().unwrap_or("its checkpoint is gone");
        say(format!("            best step {}: {target}", best.step));
        say(format!("            and of the baseline: {baseline}"));
    }
    match (is_dry, row.delivered) {
        (true, _) => say("            a dry run, nobody is told"),
        (false, None) => say("            not delivered"),
        (false, Some(_)) => {}
    }
}
