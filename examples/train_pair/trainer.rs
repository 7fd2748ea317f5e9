//! The training of one network or of both.

use super::data::{self, Data, Part};
use super::job::{Job, Regularizer};
use super::networks;
use anyhow::{Context, Result};
use convergd::control::Client;
use convergd::loss::{
    Baseline, FeatureConsistencyLoss, InteractionLoss, InteractionPenalty, Network,
    OutputConsistencyLoss, Ramped, Settings, Variables,
};
use convergd::network::device;
use convergd::role::Role;
use convergd::saving::save_checkpoint;
use std::io::Write;
use std::time::{Duration, Instant};
use tch::nn::{self, Optimizer, OptimizerConfig};
use tch::{Kind, Reduction, Tensor};

/// Samples that pass at a time when a network is tested.
const TEST_BATCH: usize = 500;

/// Padding, the start and the end of a text, in BERT's vocabulary.
const NO_WORDS: [i64; 3] = [0, 101, 102];

/// A network, its parameters and what the sidecar says to it.
struct Training {
    role: Role,
    network: Box<dyn Network>,
    store: nn::VarStore,
    optimizer: Optimizer,
    control: Client,
}

/// What λ weighs, with its random numbers. Of penalties there is one for each network.
enum Loss {
    Penalty(Vec<InteractionPenalty>),
    Interaction(InteractionLoss),
    Outputs(OutputConsistencyLoss),
    Features(FeatureConsistencyLoss),
}

/// Trains until told to stop or until the last epoch; says why it ended.
pub(crate) fn train(job: &Job) -> Result<String> {
    job.check()?;
    tch::set_num_threads(job.threads);
    let data = load(job)?;
    let mut trainings = (job.network.roles().iter().zip(0..))
        .map(|(role, index)| Training::new(job, &data, *role, index))
        .collect::<Result<Vec<_>>>()?;
    let mut loss = Loss::new(job, trainings.len())?;
    let mut random = fastrand::Rng::with_seed(job.seed);
    let mut order: Vec<i64> = (0..data.training.len() as i64).collect();
    // A last batch of one sample has no variance.
    let batches = order.chunks(job.batch).filter(|batch| batch.len() > 1).count();
    let mut reason = format!("all {} epochs done", job.epochs);
    let mut last = 0;
    for epoch in 1..=job.epochs {
        let started = Instant::now();
        random.shuffle(&mut order);
        let mut entropy = vec![0.0; trainings.len()];
        for batch in order.chunks(job.batch).filter(|batch| batch.len() > 1) {
            let batch = data.training.rows(batch);
            let own = loss.step(&mut trainings, &batch)?;
            entropy.iter_mut().zip(own).for_each(|(sum, own)| *sum += own / batches as f64);
        }
        last = epoch;
        let lambda = loss.lambda();
        for (training, entropy) in trainings.iter().zip(entropy) {
            training.save(job, epoch)?;
            training.report(job, epoch, entropy, lambda, &data.test)?;
        }
        let least = Duration::from_secs_f64(job.min_epoch_seconds);
        std::thread::sleep(least.saturating_sub(started.elapsed()));
        let decisions: Vec<_> =
            trainings.iter_mut().map(|training| training.control.poll(epoch).clone()).collect();
        // Both are in one process, and do what the first was told.
        let decision = &decisions[0];
        if decision.is_stop() {
            reason = format!("told to stop: {}", decision.reason);
            break;
        }
        // The control file counts the ramp in epochs, the loss in batches.
        loss.set_lambda(decision.lambda, decision.ramp * batches as u64)?;
    }
    for training in &mut trainings {
        training.control.done(last);
    }
    Ok(format!("ended after epoch {last}: {reason}"))
}

fn load(job: &Job) -> Result<Data> {
    let Data { training, test } = data::load(&job.data)?;
    let training = training.some(0, job.samples.unwrap_or(usize::MAX));
    let training = data::mislabel(&training, job.label_noise)?;
    let test = test.some(job.probe_samples, usize::MAX);
    anyhow::ensure!(
        test.len() > 0,
        "no test image is left beside the probe; give `--probe-samples`"
    );
    let device = device::find(job.device)?.torch();
    Ok(Data { training: training.on(device), test: test.on(device) })
}

impl Training {
    fn new(job: &Job, data: &Data, role: Role, index: u64) -> Result<Self> {
        let store = nn::VarStore::new(data.training.labels.device());
        tch::manual_seed((job.seed + index) as i64);
        let sample = &data.training.inputs.size()[1..];
        let network = job.architecture.build(&store.root(), sample, data::CLASSES)?;
        let parameters = networks::parameters(&store);
        println!("{}: {:?}, {parameters} parameters", role.name(), job.architecture);
        let optimizer = nn::Adam::default().build(&store, job.rate)?;
        let control = Client::new(&job.run.join("control"), role, 0);
        Ok(Self { role, network, store, optimizer, control })
    }

    fn save(&self, job: &Job, epoch: u64) -> Result<()> {
        let directory = job.run.join(self.role.name());
        save_checkpoint(&self.store.variables(), &directory, epoch)
            .with_context(|| format!("a checkpoint in {}", directory.display()))?;
        Ok(())
    }

    /// Prints a line and appends the same numbers to `log.jsonl`.
    fn report(&self, job: &Job, epoch: u64, entropy: f64, lambda: f64, test: &Part) -> Result<()> {
        let [loss, accuracy] = self.test(test);
        let name = self.role.name();
        println!(
            "{name} epoch {epoch:3}  train loss {entropy:.3}  test loss {loss:.3}  test accuracy {accuracy:.3}  \
             lambda {lambda:.2}"
        );
        let line = serde_json::json!({
            "step": epoch, "train_loss": entropy, "test_loss": loss, "test_accuracy": accuracy, "lambda": lambda,
        });
        let path = job.run.join(name).join("log.jsonl");
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        Ok(writeln!(log, "{line}")?)
    }

    /// Mean cross entropy in nats and accuracy.
    fn test(&self, part: &Part) -> [f64; 2] {
        let mut sums = [0.0; 2];
        tch::no_grad(|| {
            for start in (0..part.len()).step_by(TEST_BATCH) {
                let some = part.some(start, TEST_BATCH);
                let logits = self.network.head(&self.network.features(&some.inputs, false), false);
                let entropy = logits.cross_entropy_loss::<Tensor>(
                    &some.labels,
                    None,
                    Reduction::Sum,
                    -100,
                    0.0,
                );
                let hits = logits.argmax(1, false).eq_tensor(&some.labels).sum(Kind::Double);
                sums[0] += entropy.double_value(&[]);
                sums[1] += hits.double_value(&[]);
            }
        });
        sums.map(|sum| sum / part.len() as f64)
    }
}

impl Loss {
    fn new(job: &Job, networks: usize) -> Result<Self> {
        let of_kind = match job.architecture.encoder() {
            None => Settings::default(),
            Some(_) => Settings {
                variables: Variables::Tokens { select: 8, exclude_ids: NO_WORDS.to_vec() },
                baseline: Baseline::Mean,
                ..Settings::default()
            },
        };
        let settings =
            || Settings { fraction: job.fraction, seed: Some(job.seed), ..of_kind.clone() };
        Ok(match job.loss {
            Regularizer::Penalty => {
                let own = (0..networks).map(|_| InteractionPenalty::new(settings()));
                Self::Penalty(own.collect::<Result<_, _>>()?)
            }
            Regularizer::Interaction => Self::Interaction(InteractionLoss::new(settings())?),
            Regularizer::Outputs => Self::Outputs(OutputConsistencyLoss::new(0.0, 0)?),
            Regularizer::Features => Self::Features(FeatureConsistencyLoss::new(0.0, 0)?),
        })
    }

    fn all(&mut self) -> Vec<&mut dyn Ramped> {
        match self {
            Self::Penalty(own) => own.iter_mut().map(|one| one as &mut dyn Ramped).collect(),
            Self::Interaction(pair) => vec![pair],
            Self::Outputs(pair) => vec![pair],
            Self::Features(pair) => vec![pair],
        }
    }

    fn set_lambda(&mut self, lambda: f64, ramp: u64) -> Result<()> {
        for one in self.all() {
            one.set_lambda(lambda, Some(ramp))?;
        }
        Ok(())
    }

    fn lambda(&mut self) -> f64 {
        self.all()[0].lambda()
    }

    /// One step of the optimisers on a batch; the cross entropy of each network.
    fn step(&mut self, trainings: &mut [Training], batch: &Part) -> Result<Vec<f64>> {
        let Part { inputs, labels } = batch;
        let networks: Vec<&dyn Network> = trainings.iter().map(|own| &*own.network).collect();
        let both = || [networks[0], networks[1]];
        let pair = match self {
            Self::Penalty(own) => {
                let results = own.iter_mut().zip(&networks);
                let results = results.map(|(own, network)| own.evaluate(*network, inputs, labels));
                let results = results.collect::<Result<Vec<_>, _>>()?;
                for (training, result) in trainings.iter_mut().zip(&results) {
                    training.optimizer.backward_step(&result.loss);
                }
                return Ok(results.iter().map(|own| own.cross_entropy.double_value(&[])).collect());
            }
            Self::Interaction(loss) => loss.evaluate(both(), inputs, labels)?,
            Self::Outputs(loss) => loss.evaluate(both(), inputs, labels)?,
            Self::Features(loss) => loss.evaluate(both(), inputs, labels)?,
        };
        trainings.iter_mut().for_each(|own| own.optimizer.zero_grad());
        pair.loss.backward();
        trainings.iter_mut().for_each(|own| own.optimizer.step());
        Ok(pair.cross_entropy.iter().map(|own| own.double_value(&[])).collect())
    }
}
