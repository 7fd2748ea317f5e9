//! One pair: values, extraction, and the transaction that stores it with its decision.

use super::arrivals::checkpoint_row;
use super::figures::tell_with_monitors;
use super::keeping::RETRY;
use super::settings::say_begun;
use super::watchers::Watchers;
use super::{Daemon, DaemonError, Result};
use crate::checkpoint::{self, Checkpoint, Next};
use crate::clock::now;
use crate::convergence::{Monitor, Monitors};
use crate::evaluation::{ProbeValues, Settings, Variables};
use crate::extractor::ExtractError;
use crate::failpoint;
use crate::history::{DeliveryRow, Evidence, HistoryError, Outcome, PairRecord, PairRow};
use crate::network::{Answer, Device, Evaluated, Evaluator, NetworkError, Source, device, memory};
use crate::pipeline::{self, Analysis};
use crate::policy::{self, Decision, MissingMonitor, Notice, Severity};
use crate::priority;
use crate::role::Role;
use crate::tensor_solver::extractor;
use crossbeam_channel::bounded;
use std::time::{Duration, Instant};

/// How often a checkpoint is read that the system cannot read, or has no memory for.
pub(crate) const MOST_TRIES: u32 = 5;

/// What a pair led to.
struct Concluded {
    decision: Option<Decision>,
    /// What ends the run.
    missing: Option<MissingMonitor>,
}

impl Daemon<'_> {
    /// Evaluates the next complete pair, if there is one.
    pub(super) fn evaluate_next(&mut self, watchers: &Watchers) -> Result<Option<Decision>> {
        let last = self.pairs.last();
        let Some(Next { pair, skipped }) = self.pairs.take_next() else { return Ok(None) };
        let step = pair[0].step;
        self.begin_pair(step);
        self.news.stand(|standing| standing.evaluating = Some(step));
        let decision = self.evaluate(watchers, &pair);
        // The trainings beside this need it more until the next checkpoint.
        memory::release();
        self.news.stand(|standing| standing.evaluating = None);
        self.course.end_pair();
        self.show_progress();
        if let Err(DaemonError::Network(error)) = &decision
            && error.is_of_checkpoint()
            && !self.is_of_fixed(error)
        {
            if self.is_interrupted {
                // Perhaps it could not be read in time only: the next start finds all of it.
                return Ok(None);
            }
            // What would have been skipped for this pair may be the best there is.
            let skipped = skipped.into_iter().map(|(checkpoint, _)| checkpoint);
            self.quarantine_pair(pair, error, last, skipped.collect())?;
            return Ok(None);
        }
        let Concluded { decision, missing } = decision?;
        for (checkpoint, reason) in skipped {
            self.skip(checkpoint, reason)?;
        }
        for (checkpoint, place) in pair.iter().zip(["target-unpinned", "pair-unpinned"]) {
            self.unpin(checkpoint);
            failpoint::reach(place);
        }
        self.show_queue();
        match missing {
            Some(missing) => {
                let why = DaemonError::Missing(missing);
                let said = why.to_string();
                self.keep(|history| history.record_end(&said, &[]))?;
                Err(why)
            }
            None => Ok(decision),
        }
    }

    /// One bad checkpoint makes a pair impossible: it is quarantined, and its partner waits for the step
    /// to be saved again.
    fn quarantine_pair(
        &mut self,
        pair: [Checkpoint; 2],
        error: &NetworkError,
        last: Option<[u64; 2]>,
        mut good: Vec<Checkpoint>,
    ) -> Result<()> {
        self.metrics.count_error("values");
        let NetworkError::Checkpoint { path: bad, message, .. } = error else { return Ok(()) };
        for checkpoint in pair {
            match checkpoint.path == *bad {
                true => {
                    self.pairs.note_quarantined(checkpoint.role, checkpoint.step);
                    self.set_aside(checkpoint, Outcome::Quarantined, message)?;
                }
                false => good.push(checkpoint),
            }
        }
        good.retain(|good| self.pairs.fixed() != Some(good));
        self.pairs.take_back(last, good);
        Ok(())
    }

    /// Without the fixed checkpoint there is no pair at all: no other takes its place.
    fn is_of_fixed(&self, error: &NetworkError) -> bool {
        let fixed = self.pairs.fixed();
        matches!(error, NetworkError::Checkpoint { path, .. } if fixed.is_some_and(|f| f.path == *path))
    }

    fn evaluate(&mut self, watchers: &Watchers, pair: &[Checkpoint; 2]) -> Result<Concluded> {
        let started = Instant::now();
        let mut keys = [None, None];
        let (valued, analysis) = match self.variables(watchers, pair)? {
            Some(variables) => {
                let target = self.values(watchers, &pair[0], &variables)?;
                failpoint::reach("target-valued");
                let baseline = self.values(watchers, &pair[1], &variables)?;
                failpoint::reach("baseline-valued");
                keys = [Some(target.key), Some(baseline.key)];
                let (target, baseline) = (target.values, baseline.values);
                let valued = Instant::now();
                if target == baseline && !std::mem::replace(&mut self.was_same, true) {
                    tracing::warn!(
                        step = pair[0].step,
                        "both networks give the same outputs: a network always agrees with itself; train them \
                         from different seeds"
                    );
                }
                (valued, self.analyse(watchers, [&target, &baseline], &variables)?)
            }
            None => {
                let trouble = "outputs are not finite, so the variables are chosen at a later pair";
                let samples = 2 * self.evaluator.samples();
                (Instant::now(), Analysis::failed(samples, trouble.to_owned()))
            }
        };
        // Of the networks, which have given it back, or of the solver, which is about to.
        let of_solver = memory::held(self.evaluator.device());
        self.metrics.show_device_memory(self.evaluator.held().max(of_solver));
        let extracted = Instant::now();
        failpoint::reach("extracted");
        let (delivery, outcome) = self.commit(pair, &analysis, keys)?;
        failpoint::reach("committed");
        for (stage, from, to) in [
            ("values", started, valued),
            ("extraction", valued, extracted),
            ("commit", extracted, Instant::now()),
        ] {
            self.metrics.observe_stage(stage, to.duration_since(from).as_secs_f64());
        }
        self.log_pair(pair[0].step, &analysis, started.elapsed());
        self.release_former_bests();
        failpoint::reach("bests-released");
        self.warn_of_noise(pair[0].step, analysis.noise_floor);
        if let Some(DeliveryRow { decision, document, .. }) = &delivery {
            self.announce(decision, document)?;
        }
        self.show_notices(&outcome.notices);
        self.write_events();
        Ok(Concluded { decision: outcome.decision, missing: outcome.missing })
    }

    fn show_notices(&self, notices: &[Notice]) {
        self.metrics.rules.show(&self.rules, &self.policy);
        for notice in notices {
            let Notice { rule, action, message, severity, step, best_step, reason, .. } = notice;
            self.metrics.rules.count_notice(action);
            let severity = severity.map(Severity::name);
            let (message, action) = (message.as_deref(), action.as_str());
            tracing::warn!(rule, action, severity, step, best_step, message, "notice: {reason}");
        }
    }

    /// The values of a checkpoint; those of a fixed one are computed once.
    fn values(
        &mut self,
        watchers: &Watchers,
        checkpoint: &Checkpoint,
        variables: &Variables,
    ) -> Result<Evaluated> {
        let is_fixed = self.pairs.fixed() == Some(checkpoint);
        if let Some(values) = self.fixed_values.as_ref().filter(|_| is_fixed) {
            return Ok(values.clone());
        }
        let evaluated = self.read(watchers, &[checkpoint], |evaluator| {
            evaluator.evaluate(source(checkpoint), variables)
        })?;
        self.metrics.count_rows(checkpoint.role, evaluated.rows);
        self.metrics.show_cache(&evaluated.cached);
        if is_fixed {
            self.fixed_values = Some(evaluated.clone());
        }
        Ok(evaluated)
    }

    /// Asks the networks for something that reads checkpoints: again where the system could not read
    /// them or others had the memory, and never of what was rewritten in place before or meanwhile.
    fn read<T>(
        &mut self,
        watchers: &Watchers,
        checkpoints: &[&Checkpoint],
        question: impl Fn(&Evaluator) -> Answer<T>,
    ) -> Result<T> {
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = match self.refuse_rewritten(checkpoints) {
                Ok(()) => {
                    let answer = question(&self.evaluator);
                    let answer = self.wait_for(watchers, answer.receiver())?;
                    let answer = answer.unwrap_or(Err(NetworkError::Died));
                    self.show_devices();
                    // What was read may be two saves in one.
                    self.refuse_rewritten(checkpoints).and(answer)
                }
                Err(error) => Err(error),
            };
            match answer {
                Err(error) if error.is_passing() && tries < MOST_TRIES && !self.is_interrupted => {
                    tracing::warn!("{error}; trying again");
                    self.is_interrupted = self.interrupts.recv_timeout(RETRY).is_ok();
                }
                answer => return Ok(answer?),
            }
        }
    }

    /// How many devices are left; what was prepared on one that is not is prepared anew.
    pub(super) fn show_devices(&mut self) {
        let devices = self.evaluator.devices().len();
        let before = self.metrics.show_devices(devices);
        for _ in devices..before {
            self.metrics.count_error("device");
            self.extractor = None;
        }
        if devices < before {
            let left = device::names(&self.evaluator.devices());
            self.news.stand(|standing| standing.device = left);
        }
    }

    fn refuse_rewritten(
        &self,
        checkpoints: &[&Checkpoint],
    ) -> std::result::Result<(), NetworkError> {
        checkpoints.iter().try_for_each(|checkpoint| self.refuse_rewritten_one(checkpoint))
    }

    fn refuse_rewritten_one(
        &self,
        checkpoint: &Checkpoint,
    ) -> std::result::Result<(), NetworkError> {
        let (is_it, message) = match self.pairs.fixed() == Some(checkpoint) {
            true => {
                let layout = self.config.network.reading[Role::Baseline.index()].layout;
                let is_it = checkpoint::fixed::is_unchanged(checkpoint, layout);
                (
                    Ok(is_it),
                    "was changed or removed before it was evaluated; the fixed baseline must stay as it is",
                )
            }
            false => (
                checkpoint::pin::is_intact(&checkpoint.pin, &checkpoint.identity),
                "was rewritten in place before it was evaluated; write checkpoints under \
                 another name and rename them",
            ),
        };
        let path = checkpoint.path.clone();
        match is_it {
            Ok(true) => Ok(()),
            Ok(false) => {
                let message = message.to_owned();
                Err(NetworkError::Checkpoint { path, message, is_passing: false })
            }
            Err(error) => {
                let message = format!("cannot be read: {error}");
                Err(NetworkError::Checkpoint { path, message, is_passing: true })
            }
        }
    }

    /// Extracts where the networks are. Beside a training the memory of a GPU can run out: from then on
    /// the CPU does it, with the same answers.
    fn analyse(
        &mut self,
        watchers: &Watchers,
        values: [&ProbeValues; 2],
        variables: &Variables,
    ) -> Result<Analysis> {
        let device = self.evaluator.device();
        let device = if self.extracts_on_cpu { Device::CPU } else { device };
        let analysis = match self.analyse_on(device, watchers, values, variables)? {
            Err(error @ ExtractError::Device(_)) if !device.is_cpu() => {
                tracing::warn!(%device, "extraction moves to the CPU until the next start: {error}");
                (self.extractor, self.extracts_on_cpu) = (None, true);
                self.analyse_on(Device::CPU, watchers, values, variables)?
            }
            analysis => analysis,
        };
        analysis.map_err(|error| match error {
            ExtractError::Threads(_) => DaemonError::System(error.to_string()),
            error => DaemonError::Internal(error.to_string()),
        })
    }

    /// Extracts on the device, or where it was done before.
    fn analyse_on(
        &mut self,
        device: Device,
        watchers: &Watchers,
        values: [&ProbeValues; 2],
        variables: &Variables,
    ) -> Result<std::result::Result<Analysis, ExtractError>> {
        let settings = self.config.interactions;
        let Settings { threads, memory: share, priority, .. } = self.config.network;
        let has_labels = self.evaluator.labels().is_some();
        let (made, counting) = (self.extractor.take(), self.course.counting());
        let (done, answer) = bounded(1);
        let answer = std::thread::scope(|scope| {
            let extraction = scope.spawn(move || {
                // Before the extractor starts threads of its own.
                priority::stand_back(priority);
                let made = match made {
                    Some(made) => Ok(made),
                    None => extractor(variables.count, settings.solver, device, threads, share)
                        .map(counting),
                };
                let extracted = made.map(|extractor| {
                    let analysis =
                        pipeline::analyse(values, variables, has_labels, &settings, &*extractor);
                    (extractor, analysis)
                });
                // Nobody waits any more where the history has failed.
                let _ = done.send(extracted);
            });
            let answer = self.wait_for(watchers, &answer);
            // A panic there is an error here.
            let _ = extraction.join();
            answer
        });
        match answer? {
            Some(Ok((extractor, analysis))) => {
                self.extractor = Some(extractor);
                Ok(analysis)
            }
            Some(Err(error)) => Ok(Err(error)),
            None => Err(DaemonError::Internal("the extraction ended without an answer".to_owned())),
        }
    }

    /// The variables, chosen at the first pair whose outputs are finite.
    fn variables(
        &mut self,
        watchers: &Watchers,
        pair: &[Checkpoint; 2],
    ) -> Result<Option<Variables>> {
        if let Some(variables) = &self.variables {
            return Ok(Some(variables.clone()));
        }
        let chosen = self.read(watchers, &[&pair[0], &pair[1]], |evaluator| {
            evaluator.choose([source(&pair[0]), source(&pair[1])])
        })?;
        let Some(chosen) = chosen else { return Ok(None) };
        let text = serde_json::to_string(&chosen).map_err(HistoryError::Value)?;
        self.keep(|history| history.keep_fact("variables", &text))?;
        failpoint::reach("variables-kept");
        tracing::info!(variables = chosen.count, step = pair[0].step, "variables are chosen");
        let largest_basis = self.config.interactions.solver.largest_basis;
        // A basis has a row for each subset but ∅ at most.
        if (1 << chosen.count) - 1 > largest_basis {
            tracing::warn!(
                "with {} variables some extractions stay near-optimal (`interactions.largest_basis` is \
                 {largest_basis}), which makes the two networks look more alike than they are",
                chosen.count
            );
        }
        self.variables = Some(chosen.clone());
        say_begun(&self.config.state, &self.evaluator, self.variables.as_ref());
        Ok(Some(chosen))
    }

    /// The policy, then one transaction. Signals go out after it.
    fn commit(
        &mut self,
        pair: &[Checkpoint; 2],
        analysis: &Analysis,
        values: [Option<String>; 2],
    ) -> Result<(Option<DeliveryRow>, policy::Outcome)> {
        let (step, time) = (pair[0].step, self.clock.now());
        let outcome = pipeline::decide(&self.rules, self.policy.clone(), step, analysis, time);
        let policy::Outcome { state: policy, decision, notices, .. } = &outcome;
        let (monitors, strengths) = match &analysis.convergence {
            Some(convergence) => (convergence.monitors.clone(), convergence.strengths.clone()),
            None => Default::default(),
        };
        let row = PairRow {
            step,
            time,
            paths: [0, 1].map(|i| pair[i].path.display().to_string()),
            finite: analysis.convergence.is_some(),
            samples: analysis.samples,
            certified: analysis.certified,
            gap_max: analysis.gap_max,
            noise_floor: analysis.noise_floor,
            monitors,
            strengths,
            policy: policy.clone(),
        };
        if policy.best_steps().contains(&step) {
            self.keep_as_best(pair);
            failpoint::reach("best-kept");
        }
        let delivery = match decision {
            Some(decision) => Some(self.document(decision, &row, pair)?),
            None => None,
        };
        let checkpoints = [0, 1].map(|i| {
            let mut row = checkpoint_row(&pair[i], Outcome::Evaluated);
            row.reason = analysis.trouble.clone();
            row
        });
        let samples = analysis.convergence.as_ref().map(|c| c.samples.clone());
        let outbox = self.notices.outbox();
        let told =
            outbox.map(|outbox| outbox.pair(delivery.as_ref(), notices, time)).transpose()?;
        let record = PairRecord {
            pair: &row,
            evidence: &Evidence { samples, values },
            checkpoints: &checkpoints,
            decision: delivery.as_ref(),
            notices,
            notifications: &told.unwrap_or_default(),
        };
        self.keep(|history| history.record_pair(&record))?;
        self.news.pair(step);
        self.notices.wake();
        self.policy = policy.clone();
        self.show_pair(&row);
        if row.finite {
            self.metrics.evaluation_last_success.set(now());
        }
        self.metrics.pairs_total.inc();
        for role in self.config.trainings() {
            self.metrics.count_checkpoint(role, Outcome::Evaluated);
        }
        if let Some(row) = &delivery {
            self.generation = row.document.generation;
        }
        Ok((delivery, outcome))
    }

    pub(super) fn show_pair(&self, row: &PairRow) {
        self.metrics.pair_step.set(i64::try_from(row.step).unwrap_or(i64::MAX));
        self.metrics.pair_not_finite.set(i64::from(!row.finite));
        if row.finite {
            self.metrics.solver_gap_max.set(row.gap_max);
            self.metrics.evaluation_last_success.set(row.time.min(now()));
        }
        self.metrics.show_noise_floor(row.noise_floor);
        self.metrics.show_monitors(&row.monitors);
        self.metrics.show_strengths(&row.strengths);
    }

    /// Once a run: a precision that is too low for the salience stays so.
    fn warn_of_noise(&mut self, step: u64, noise_floor: Option<[f64; 2]>) {
        let precision = self.config.network.precision.name();
        let salience = self.config.interactions.salience;
        let floor = noise_floor.map_or(0.0, |[target, baseline]| target.max(baseline));
        if floor > salience && !std::mem::replace(&mut self.was_noisy, true) {
            tracing::warn!(
                step,
                "precision {precision} moves effects by up to {floor:.3} of the output, but the salience is \
                 {salience}: take `compute.precision: fp32`, or a salience of at least that"
            );
        }
    }

    fn log_pair(&self, step: u64, analysis: &Analysis, took: Duration) {
        let Analysis { convergence, samples, certified, exact, gap_max, trouble, .. } = analysis;
        if let Some(trouble) = trouble {
            tracing::warn!(step, "no convergence: {trouble}");
        } else if certified < samples {
            self.metrics.count_error("extraction");
            let wanted = self.config.interactions.solver.gap;
            tracing::warn!(
                step,
                "{certified} of {samples} extractions are proven to the gap {wanted:.1e}, the others to \
                 {gap_max:.1e} at worst; fewer variables or a larger `interactions.largest_basis` help"
            );
        }
        let none = Monitors::new();
        tell_with_monitors!(
            convergence.as_ref().map_or(&none, |convergence| &convergence.monitors),
            {
                step,
                extractions = samples,
                certified,
                exact,
                gap_max,
                phase = self.policy.phase,
                lambda = self.policy.lambda,
                seconds = took.as_secs_f64(),
            }
            "pair"
        );
    }
}

fn source(checkpoint: &Checkpoint) -> Source {
    let Checkpoint { role, pin, path, .. } = checkpoint.clone();
    Source { role, file: pin, name: path }
}
