//! All that is on one device: both programs, the probe, the checkpoint that is being evaluated.

use super::batch::Batch;
use super::sample::{Sample, sample, samples};
use super::values::Values;
use super::{
    Device, MaskedInputs, NetworkError, Probe, Program, Source, device, masked, memory, precision,
    variables, weights,
};
use crate::evaluation::{Assignment, DeviceChoice, Precision, Settings, VariableRule, Variables};
use crate::failpoint;
use crate::role::Role;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tch::Tensor;

/// One checkpoint and what is wanted of it.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) source: Source,
    /// Hash of its weights, as one device has read them.
    pub(super) digest: blake3::Hash,
    pub(super) variables: Variables,
    pub(super) precision: Precision,
}

/// Everything that the thread of a device owns.
pub(super) struct Networks {
    settings: Settings,
    device: Device,
    programs: [Program; 2],
    batches: [Batch; 2],
    probe: Probe,
    /// The hashes of the weights that the programs hold.
    loaded: [Option<blake3::Hash>; 2],
    /// Those of a checkpoint that is being evaluated.
    inputs: Option<(Role, MaskedInputs)>,
    /// Bytes of a GPU that were held for it.
    held: Arc<AtomicU64>,
    /// Of which networks it has been said that checkpoints hold more than the program.
    was_unused: [bool; 2],
}

/// What the other threads need to know of them.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) device: Device,
    pub(super) samples: usize,
    pub(super) labels: Option<Vec<i64>>,
    /// What must not change within a run: name and value.
    pub(super) facts: Vec<(&'static str, String)>,
    /// Hashes of the programs, (target, baseline), and of the probe.
    pub(super) programs: [blake3::Hash; 2],
    pub(super) probe: blake3::Hash,
    /// Rows of a batch where there is enough memory, (target, baseline).
    pub(super) batches: [usize; 2],
}

impl Networks {
    /// Loads and tries everything on the device of this number.
    ///
    /// # Errors
    /// A device, program or probe that cannot be used.
    pub(super) fn load(settings: Settings, number: usize) -> Result<Self, NetworkError> {
        device::prepare(settings.threads);
        let choice = settings.devices.get(number).copied();
        let choice =
            choice.ok_or_else(|| NetworkError::Device("BUG: no such device".to_owned()))?;
        let device = device::find(choice)?;
        if failpoint::fails("device-start") {
            return Err(NetworkError::Device(format!("{device}: a test lets it fail")));
        }
        if failpoint::fails("memory-start") {
            let message = "out of memory, in a test".to_owned();
            return Err(NetworkError::Memory { device: device.to_string(), message });
        }
        precision::check(settings.precision, device)?;
        precision::use_float32(device.0)?;
        let probe = Probe::read(&settings.probe, settings.samples)?;
        let needs_rule = probe.variables.is_none() && settings.variables.is_none();
        let load = |role: Role| Program::load(&settings.programs[role.index()], device, &probe);
        let programs = [load(Role::Target)?, load(Role::Baseline)?];
        if needs_rule {
            return Err(NetworkError::Probe {
                path: settings.probe.clone(),
                message: "has no tensor `variables`, and the configuration has no rule; add \
                          `probe.variables`, such as `{image_patches: {grid: 5, margin: 1}}`"
                    .to_owned(),
            });
        }
        let first = |role: Role| sample(&programs[role.index()], &probe, 0, device.0);
        let first = [first(Role::Target)?, first(Role::Baseline)?];
        let mut networks = Self {
            settings,
            device,
            programs,
            batches: [0, 1].map(|_| Batch::given(1, device)),
            probe,
            loaded: [None; 2],
            inputs: None,
            held: Arc::default(),
            // One device says it for all.
            was_unused: [number > 0; 2],
        };
        networks.check_classes(&first)?;
        let variables = networks.check_variables(&first)?;
        networks.size_batches(&first, variables)?;
        drop(first);
        networks.release();
        Ok(networks)
    }

    /// `first` is the first probe sample, as each network sees it.
    fn size_batches(&mut self, first: &[Sample; 2], variables: usize) -> Result<(), NetworkError> {
        let Settings { devices, batch, memory, precision, .. } = &self.settings;
        let all = self.probe.samples() << variables;
        // Workers on one device share its memory.
        let is_same =
            |choice: &&DeviceChoice| device::find(**choice).is_ok_and(|d| d == self.device);
        let share = memory / devices.iter().filter(is_same).count().max(1) as f64;
        for (index, sample) in first.iter().enumerate() {
            let mut sized = match batch {
                // More than there are at all is no other number.
                Some(rows) => Batch::given((*rows).min(all), self.device),
                None => Batch::suitable(sample, all, self.device),
            };
            let program = &self.programs[index];
            // What a lower precision is compared with goes through in the same batches.
            let lower = Some(*precision).filter(|precision| *precision != Precision::Float32);
            for precision in lower.into_iter().chain([Precision::Float32]) {
                precision::within(precision, self.device.0, || sized.bind(program, sample, share))?;
            }
            self.batches[index] = sized;
        }
        Ok(())
    }

    pub(super) fn about(&self) -> About {
        About {
            device: self.device,
            samples: self.probe.samples(),
            labels: self.probe.labels.clone(),
            facts: self.facts(),
            programs: self.programs.each_ref().map(Program::digest),
            probe: self.probe.digest,
            batches: self.batches.each_ref().map(Batch::full),
        }
    }

    /// Counters of the rows that have gone through both programs.
    pub(super) fn rows(&self) -> [Arc<AtomicU64>; 2] {
        self.programs.each_ref().map(Program::rows)
    }

    /// Bytes of a GPU that were held for the last checkpoint, and given back.
    pub(super) fn held(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.held)
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let Settings { variables, baseline, precision, .. } = &self.settings;
        let [target, baseline_program] = &self.programs;
        let key = |index: usize| format!("{:?}", self.settings.reading[index].weights);
        vec![
            ("probe file", self.probe.digest.to_hex().to_string()),
            ("target program", target.digest().to_hex().to_string()),
            ("baseline program", baseline_program.digest().to_hex().to_string()),
            ("target weights", key(0)),
            ("baseline weights", key(1)),
            ("variable rule", format!("{variables:?}")),
            ("masking baseline", format!("{baseline:?}")),
            ("precision", precision.name().to_owned()),
        ]
    }

    /// `first` is the first probe sample, as each network sees it.
    fn check_classes(&self, first: &[Sample; 2]) -> Result<(), NetworkError> {
        let mut count = None;
        for ((role, program), sample) in Role::BOTH.into_iter().zip(&self.programs).zip(first) {
            let classes = program.head(&sample.features, &sample.further)?.size()[1];
            if *count.get_or_insert(classes) != classes {
                return Err(NetworkError::Program {
                    path: self.settings.programs[role.index()].clone(),
                    message: format!(
                        "has {classes} classes, but the target's has {}; a pair learns one task",
                        count.unwrap_or_default()
                    ),
                });
            }
            let labels = self.probe.labels.as_deref().unwrap_or_default();
            if let Some(at) = labels.iter().position(|&label| label >= classes) {
                return Err(NetworkError::Probe {
                    path: self.settings.probe.clone(),
                    message: format!(
                        "has label {} at sample {at}, but the {role} network has {classes} classes; \
                         labels count from 0",
                        labels[at]
                    ),
                });
            }
        }
        Ok(())
    }

    /// What does not fit is said before the first checkpoint, not at it. Gives the number of variables.
    fn check_variables(&self, first: &[Sample; 2]) -> Result<usize, NetworkError> {
        for (role, sample) in Role::BOTH.into_iter().zip(first) {
            variables::Layout::of(&sample.features).map_err(|message| NetworkError::Program {
                path: self.settings.programs[role.index()].clone(),
                message,
            })?;
        }
        let [target, baseline] = first.each_ref().map(|s| std::slice::from_ref(&s.features));
        let (count, assignment) = self.assign([target, baseline])?;
        let chosen = Variables { count, classes: Vec::new(), assignment };
        for sample in first {
            masked::check(&sample.features, &self.probe, &chosen, self.settings.baseline)
                .map_err(|message| self.refuse_probe(message))?;
        }
        Ok(count)
    }

    /// Which positions form which variable, by the probe or by the rule.
    fn assign(&self, features: [&[Tensor]; 2]) -> Result<(usize, Assignment), NetworkError> {
        match (&self.probe.variables, &self.settings.variables) {
            (Some(given), _) => {
                variables::from_probe(given).map_err(|message| self.refuse_probe(message))
            }
            (None, Some(VariableRule::Tokens { select, exclude_ids })) => self
                .probe
                .tokens()
                .and_then(|tokens| variables::draw_tokens(&tokens, *select, exclude_ids))
                .map(|assignment| (*select, assignment))
                .map_err(|message| self.refuse_probe(message)),
            (None, Some(rule)) => {
                variables::choose(rule, features).map_err(|(role, message)| NetworkError::Program {
                    path: self.settings.programs[role.index()].clone(),
                    message,
                })
            }
            (None, None) => Err(self.refuse_probe("BUG: no variables and no rule".to_owned())),
        }
    }

    fn refuse_probe(&self, message: String) -> NetworkError {
        NetworkError::Probe { path: self.settings.probe.clone(), message }
    }

    /// Chooses the variables from the first pair of checkpoints; nothing where its outputs are not finite.
    pub(super) fn choose(&mut self, pair: &[Source; 2]) -> Result<Option<Variables>, NetworkError> {
        self.may_fail()?;
        let mut features = Vec::new();
        let mut predicted = Vec::new();
        for source in pair {
            let role = source.role;
            self.load_weights(source)?;
            self.programs[role.index()].go()?;
            let program = &self.programs[role.index()];
            let own = samples(program, &self.probe, self.device.0)?;
            for sample in &own {
                let logits = program.head(&sample.features, &sample.further)?;
                if !is_finite(&sample.features) || !is_finite(&logits) {
                    return Ok(None);
                }
                if role == Role::Target && self.probe.labels.is_none() {
                    predicted.push(logits.argmax(1, false).int64_value(&[0]));
                }
            }
            features.push(own.into_iter().map(|sample| sample.features).collect::<Vec<_>>());
        }
        let (count, assignment) = self.assign([&features[0], &features[1]])?;
        let classes = self.probe.labels.clone().unwrap_or(predicted);
        Ok(Some(Variables { count, classes, assignment }))
    }

    /// Copies a checkpoint into its program; the hash of what was copied.
    pub(super) fn load_weights(&mut self, source: &Source) -> Result<blake3::Hash, NetworkError> {
        let Source { role, file, name } = source;
        let index = role.index();
        // Where they are copied into.
        self.programs[index].come_home()?;
        (self.inputs, self.loaded[index]) = (None, None);
        let reading = &self.settings.reading[index];
        let loaded = weights::load(&self.programs[index], reading, file, name)?;
        if !loaded.unused.is_empty() && !std::mem::replace(&mut self.was_unused[index], true) {
            let names = weights::shortened(&loaded.unused);
            let file = name.display();
            tracing::warn!(network = %role, %file, "holds tensors that the program does not use: {names}");
        }
        self.loaded[index] = Some(loaded.digest);
        Ok(loaded.digest)
    }

    /// What some rows of a checkpoint give: masked inputs, counted sample by sample and subset by subset.
    pub(super) fn values(
        &mut self,
        question: &Question,
        rows: Range<usize>,
    ) -> Result<Values, NetworkError> {
        self.may_fail()?;
        let Some((role, inputs)) = &self.inputs else {
            return Err(NetworkError::Device("BUG: a checkpoint was not prepared".to_owned()));
        };
        let (program, batch) = (&self.programs[role.index()], &mut self.batches[role.index()]);
        precision::within(question.precision, self.device.0, || {
            inputs.through(program, rows, batch)
        })
    }

    /// The masked inputs of a checkpoint, whose weights may be here already. Before any device is at work on them, for
    /// the precision of their features is float32 whatever that of the process is then.
    pub(super) fn prepare(&mut self, question: &Question) -> Result<(), NetworkError> {
        if failpoint::fails("memory") {
            let (context, message) =
                (self.device.to_string(), "out of memory, in a test".to_owned());
            return Err(NetworkError::Torch { context, message });
        }
        let Question { source, digest, variables, .. } = question;
        let index = source.role.index();
        if self.loaded[index] != Some(*digest) && self.load_weights(source)? != *digest {
            return Err(NetworkError::Checkpoint {
                path: source.name.clone(),
                message: "was rewritten while it was read; write checkpoints under another name and rename them"
                    .to_owned(),
                is_passing: true,
            });
        }
        self.inputs = None;
        let program = &mut self.programs[index];
        program.go()?;
        let baseline = self.settings.baseline;
        let inputs = MaskedInputs::new(program, &self.probe, variables, baseline, self.device.0)?;
        self.batches[index].begin();
        self.inputs = Some((source.role, inputs));
        Ok(())
    }

    /// Lets go of all memory of the device that is not needed until the next checkpoint.
    pub(super) fn release(&mut self) {
        self.held.store(memory::held(self.device).unwrap_or(0), Ordering::Relaxed);
        self.inputs = None;
        for program in &mut self.programs {
            if let Err(error) = program.come_home() {
                tracing::warn!(device = %self.device, "its memory is not given back: {error}");
            }
        }
        if !self.device.is_cpu() {
            memory::release_gpus();
        }
    }

    fn may_fail(&self) -> Result<(), NetworkError> {
        match failpoint::fails("device") {
            true => Err(NetworkError::Torch {
                context: self.device.to_string(),
                message: "a test lets it fail".to_owned(),
            }),
            false => Ok(()),
        }
    }
}

fn is_finite(tensor: &Tensor) -> bool {
    tensor.isfinite().all().int64_value(&[]) != 0
}
