//! `convergd stop`, `phase`, `resume` and `reload`: what a person says to a run.

use super::{ConfigArgument, Exit, say};
use crate::clock::now;
use crate::config::Config;
use crate::history::{History, HistoryError, StateLock};
use crate::person::requests::{Desk, Reply, Wish};
use crate::person::{decide_alone, expect_history};
use crate::policy::Intervention;
use anyhow::Context;
use clap::Args;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two looks for an answer.
const POLL: Duration = Duration::from_millis(50);

#[derive(Args)]
pub(super) struct Common {
    #[command(flatten)]
    config: ConfigArgument,
    /// Seconds to wait for a run that is at work
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct Stop {
    #[command(flatten)]
    common: Common,
    /// Why; part of the decision
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Args)]
pub(super) struct Phase {
    #[command(flatten)]
    common: Common,
    /// Name of the phase
    #[arg(long, value_name = "NAME")]
    to: String,
    /// Weight λ of the interaction loss in it, from 0 to 1
    #[arg(long, value_name = "L")]
    lambda: f64,
    /// Training steps over which λ rises
    #[arg(long, value_name = "N", default_value_t = 0)]
    ramp: u64,
    /// Why; part of the decision
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Args)]
pub(super) struct Resume {
    #[command(flatten)]
    common: Common,
    /// Why; part of the decision
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Args)]
pub(super) struct Reload {
    #[command(flatten)]
    common: Common,
}

/// The run that is at work looks at the file: it has the environment, and it says mistakes in its log too.
pub(super) fn reload(arguments: &Reload) -> anyhow::Result<Exit> {
    let common = &arguments.common;
    let state = Config::load_state(&common.config.config)?;
    expect_history(&state)?;
    let alone = |_lock: StateLock, _request: Option<&str>| {
        Ok(Reply::refused("no run is at work; the next one reads the file as it is then"))
    };
    tell(&ask(&state, common, Wish::Reload, alone)?, &state, common.json)
}

fn because(reason: &Option<String>) -> String {
    reason.clone().unwrap_or_else(|| "a person asked for it".to_owned())
}

pub(super) fn stop(arguments: &Stop) -> anyhow::Result<Exit> {
    decide(&arguments.common, Intervention::Stop { reason: because(&arguments.reason) })
}

pub(super) fn phase(arguments: &Phase) -> anyhow::Result<Exit> {
    let Phase { to, lambda, ramp, reason, .. } = arguments;
    let (to, reason) = (to.clone(), because(reason));
    decide(&arguments.common, Intervention::Phase { to, lambda: *lambda, ramp: *ramp, reason })
}

pub(super) fn resume(arguments: &Resume) -> anyhow::Result<Exit> {
    decide(&arguments.common, Intervention::Resume { reason: because(&arguments.reason) })
}

/// With the run that is at work, or where there is none, alone.
fn decide(common: &Common, intervention: Intervention) -> anyhow::Result<Exit> {
    #[cfg(feature = "failpoints")]
    let _armed = crate::failpoint::arm();
    // A run at work has its own configuration: mistakes in the file since are no reason not to ask it.
    let state = Config::load_state(&common.config.config)?;
    expect_history(&state)?;
    let alone = |lock: StateLock, request: Option<&str>| {
        let config = common.config.load()?;
        let decided = decide_alone(&config, intervention.clone(), request, &lock)?;
        Ok(decided.map_or_else(Reply::refused, Reply::decided))
    };
    let wish = Wish::Decide(intervention.clone());
    tell(&ask(&state, common, wish, alone)?, &state, common.json)
}

/// Asks the run that is at work, or does it alone where there is none, or none any more: that one may have done it.
fn ask(
    state: &Path,
    common: &Common,
    wish: Wish,
    alone: impl FnOnce(StateLock, Option<&str>) -> anyhow::Result<Reply>,
) -> anyhow::Result<Reply> {
    let patience = Duration::from_secs(common.wait);
    let held = match StateLock::try_take(state) {
        Ok(lock) => return alone(lock, None),
        Err(error @ HistoryError::Held { .. }) => error,
        Err(error) => return Err(error.into()),
    };
    let desk = Desk::of(state);
    let id = desk
        .ask(wish, now(), patience)
        .with_context(|| format!("`{}` takes no request", state.display()))?;
    let started = Instant::now();
    loop {
        if let Some(reply) = desk.reply(&id) {
            return Ok(reply);
        }
        match StateLock::try_take(state) {
            // It has ended. What it has done is answered, or in the history where it was killed before that.
            Ok(lock) => {
                let reply = desk.reply(&id);
                desk.forget(&id);
                return reply.map_or_else(|| alone(lock, Some(&id)), Ok);
            }
            Err(HistoryError::Held { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if started.elapsed() >= patience {
            let advice = match desk.withdraw(&id) {
                true => "the request is taken back; give it more time with `--wait`",
                false => "it has the request; `convergd status` tells whether it was done",
            };
            let message = format!("the run does not answer within {patience:?}; {advice}");
            return Err(anyhow::Error::new(held).context(message));
        }
        std::thread::sleep(POLL);
    }
}

/// Prints what became of it.
fn tell(reply: &Reply, state: &Path, json: bool) -> anyhow::Result<Exit> {
    let exit = if reply.refused.is_some() { Exit::Usage } else { Exit::Done };
    if json {
        say(serde_json::to_string_pretty(reply)?);
        return Ok(exit);
    }
    if let Some(refused) = &reply.refused {
        let _ = writeln!(std::io::stderr(), "error: {refused}");
        return Ok(exit);
    }
    let Some(decision) = &reply.decision else {
        say("reloaded");
        return Ok(exit);
    };
    let words = match decision.action.as_str() {
        "phase" => format!("phase {} (λ = {})", decision.phase, decision.lambda),
        action => action.to_owned(),
    };
    let generation = reply.generation.unwrap_or_default();
    let is_dry = History::open_for_reading(state)?.is_dry()?;
    let told = match (is_dry, reply.delivered) {
        (true, _) => "a dry run, nobody is told",
        (false, true) => "it is in the control file",
        (false, false) => "it is not in the control file yet",
    };
    say(format!(
        "{words} at step {} as `{}`, generation {generation}; {told}",
        decision.step, decision.id
    ));
    if let Some(best) = decision.best_step {
        say(format!("best step {best}"));
    }
    Ok(exit)
}
