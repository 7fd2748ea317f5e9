//! `convergd status`: the state of a running or finished run, from its history.

use super::{ConfigArgument, Exit, say, told};
use crate::account::Status;
use crate::account::report::utc;
use crate::config::Config;
use crate::convergence::Monitor;
use crate::evaluation::Precision;
use crate::history::{CheckpointRow, DeliveryRow, Failure, History, Holder, PairRow};
use crate::policy::PolicyState;
use clap::Args;

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
    let most = if arguments.json { usize::MAX } else { MOST_SHOWN };
    let status = Status::of(&config, &history, most)?;
    if arguments.json {
        say(serde_json::to_string_pretty(&status.json())?);
        return Ok(Exit::Done);
    }
    let at_work = match &status.holder {
        Some(Holder::Process(pid)) => format!(", at work as process {pid}"),
        Some(Holder::Nobody) => ", not at work".to_owned(),
        None => String::new(),
    };
    say(format!("run         {} ({}){at_work}", config.name, config.state.display()));
    let policy = &status.policy;
    match &status.last {
        None => {
            say("pairs       none yet");
            describe_waiting(&config);
            if status.is_known() {
                describe_phase(policy);
            }
        }
        Some(pair) => {
            describe(pair, policy, status.pairs);
            for (rule, reason) in status.reasons() {
                say(format!("rule        {rule}: {reason}"));
            }
            for (rule, reason) in status.reasons_at_stop() {
                say(format!("rule        {rule}, at the stop: {reason}"));
            }
            // float32 has no floor.
            if config.network.precision != Precision::Float32 {
                describe_noise(history.largest_noise_floor()?, &config);
            }
        }
    }
    let Status { waiting, skipped, quarantined, .. } = &status;
    say(format!(
        "checkpoints {waiting} waiting, {} skipped, {} quarantined",
        skipped.count, quarantined.count
    ));
    describe_set_aside(&quarantined.newest, quarantined.count);
    describe_set_aside(&skipped.newest, skipped.count);
    let [bytes, size] = [status.cached.bytes, config.cache_size].map(readable);
    say(format!("value cache {} tables, {bytes} of {size}", status.cached.tables));
    if let Some(ended) = &status.ended {
        say(format!("ended       {ended}"));
    }
    if let Some(Failure { time, error }) = &status.failure {
        say(format!("failed      {}: {error}", utc(*time)));
    }
    describe_notices(&status);
    for row in &status.decisions {
        describe_decision(row, status.is_dry);
    }
    told::describe(&status.told);
    if let Some(row) = status.decisions.last().filter(|_| !status.is_dry) {
        told::describe_silent(&status.told, row, &config);
    }
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

/// The newest notices, and which alerts still hold.
fn describe_notices(status: &Status) {
    for notice in &status.notices {
        say(format!("notice      {}", notice.headline()));
        say(format!("            {}", notice.reason));
    }
    let alerts = status.alerts();
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
