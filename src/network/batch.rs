//! How many masked inputs go through a network at a time.

use super::sample::Sample;
use super::values::Outputs;
use super::{Context, Device, NetworkError, Program, guarded, memory};
use tch::Tensor;

/// Features of a batch on a CPU: more take longer, row by row.
const CACHED_BYTES: usize = 16 << 20;
/// Features of a batch on a GPU: fewer leave it idle, more gain little (docs/gpu.md).
const FILLING_BYTES: usize = 32 << 20;
/// Rows of a batch that is not chosen, where there is memory.
const LEAST: usize = 16;
const MOST: usize = 256;
const MOST_ON_A_GPU: usize = 8192;
/// Batches of a checkpoint at least, where they are large: several devices share them.
const BATCHES: usize = 8;
/// Batches of which it is measured what they need.
const TRIALS: [i64; 2] = [2, LEAST as i64];

/// Rows of a batch: what suits the device, as far as there is memory.
#[derive(Debug)]
pub struct Batch {
    device: Device,
    /// Where there is enough memory.
    full: usize,
    /// At present.
    rows: usize,
    /// What bounds it beforehand.
    bound: Option<Bound>,
    /// Bytes of the device that were free before the checkpoint.
    free: Option<u64>,
}

/// A share of a device's free memory, for who needs so much.
#[derive(Clone, Copy, Debug)]
struct Bound {
    share: f64,
    need: Need,
}

/// Bytes that a batch needs beside the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Need {
    /// However small it is.
    fixed: f64,
    /// For each of its rows.
    row: f64,
}

impl Batch {
    /// So many rows.
    pub fn given(rows: usize, device: Device) -> Self {
        let full = rows.max(1);
        Self { device, full, rows: full, bound: None, free: None }
    }

    /// On a CPU what its caches help with, on a GPU what fills it, for features like those of a sample and so many rows
    /// in all.
    pub fn suitable(sample: &Sample, all: usize, device: Device) -> Self {
        let (bytes, most) = match device.is_cpu() {
            true => (CACHED_BYTES, MOST),
            false => (FILLING_BYTES, MOST_ON_A_GPU),
        };
        let rows = (bytes / bytes_of_a_row(sample).max(1)).min(most);
        Self::given(rows.min(all.div_ceil(BATCHES)).max(LEAST), device)
    }

    /// From now on it takes no more than a share of the device's free memory, by what two small batches need in the
    /// precision that is set; of several precisions the one counts that needs most.
    ///
    /// # Errors
    /// A network that does not take them.
    pub fn bind(
        &mut self,
        program: &Program,
        sample: &Sample,
        share: f64,
    ) -> Result<(), NetworkError> {
        let [small, large] = TRIALS;
        let few = trial(program, sample, small)?;
        // The larger one is under that share too.
        let room = memory::free(self.device).map_or(f64::INFINITY, |free| share * free as f64);
        let more = match few {
            Some(few) if few as f64 * (large / small) as f64 <= room => {
                trial(program, sample, large)?
            }
            _ => None,
        };
        let Need { fixed, row } = Need::of(few, more);
        // As much again as the features takes the mask.
        let need = Need { fixed, row: row + bytes_of_a_row(sample) as f64 };
        let need = self.bound.map_or(need, |bound| bound.need.or_more(need));
        self.bound = Some(Bound { share, need });
        Ok(())
    }

    /// Where there is enough memory.
    pub fn full(&self) -> usize {
        self.full
    }

    /// At present.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Before a checkpoint: as many as there is memory for now.
    pub fn begin(&mut self) {
        self.free = self.bound.and_then(|_| memory::free(self.device));
        let before = self.rows;
        let most = match (self.bound, self.free) {
            (Some(bound), Some(free)) => bound.rows(free),
            // What was too much for the last checkpoint may have become possible.
            _ => self.rows.saturating_mul(2),
        };
        self.rows = self.full.min(most);
        if self.rows < self.full && self.rows < before {
            let (device, rows, wanted, free) = (self.device, self.rows, self.full, self.free);
            tracing::info!(
                %device, rows, wanted, free,
                "batches are smaller than they might be: more rows need more than `compute.memory` of what is free"
            );
        }
    }

    /// Halves it where an error of so many rows says that there was not enough memory, and gives back what is kept; not
    /// where there is nothing to halve. So many rows need more than was free, which later checkpoints go by.
    pub fn shrink(&mut self, error: &NetworkError, rows: usize) -> bool {
        self.rows = self.rows.min(rows.max(1));
        if self.rows == 1 || !error.lacks_memory() {
            return false;
        }
        let failed = self.rows;
        self.rows = self.rows.div_ceil(2).min(self.rows - 1);
        memory::release();
        if let (Some(bound), Some(before)) = (&mut self.bound, self.free) {
            // Others may have taken of it since.
            let free = memory::free(self.device).map_or(before, |now| now.min(before));
            let row = free as f64 / failed as f64;
            bound.need = bound.need.or_more(Need { fixed: 0.0, row });
        }
        let (device, rows) = (self.device, self.rows);
        tracing::warn!(
            %device, rows,
            "not enough memory for {failed} rows at a time, so it goes on with smaller batches: {error}"
        );
        true
    }
}

impl Bound {
    fn rows(self, free: u64) -> usize {
        let Need { fixed, row } = self.need;
        let rows = (self.share * free as f64 - fixed) / row.max(1.0);
        // Saturates; less than nothing is nothing.
        (rows as usize).max(1)
    }
}

impl Need {
    /// From the bytes that the trials took; nothing of one that was too much.
    fn of(few: Option<u64>, more: Option<u64>) -> Self {
        let [less, most] = TRIALS.map(|rows| rows as f64);
        match (few, more) {
            (Some(few), Some(more)) => {
                let row = (more as f64 - few as f64).max(0.0) / (most - less);
                Self { fixed: (few as f64 - less * row).max(0.0), row }
            }
            (Some(few), None) => Self { fixed: 0.0, row: few as f64 / less },
            // One row is always tried.
            (None, _) => Self { fixed: 0.0, row: f64::INFINITY },
        }
    }

    fn or_more(self, other: Self) -> Self {
        Self { fixed: self.fixed.max(other.fixed), row: self.row.max(other.row) }
    }
}

fn bytes_of_a_row(sample: &Sample) -> usize {
    sample.features.numel() * sample.features.kind().elt_size_in_bytes()
}

/// The most bytes that a batch of copies of a sample takes on its way to v(S); nothing where that is too much.
fn trial(program: &Program, sample: &Sample, rows: i64) -> Result<Option<u64>, NetworkError> {
    let copies = |own: &Tensor| {
        let mut size = own.size();
        size[0] = rows;
        own.expand(size, false)
    };
    let further: Vec<Tensor> = sample.further.iter().map(copies).collect();
    let through = || {
        let features = copies(&sample.features).f_contiguous().context(|| "a trial".to_owned())?;
        let mut outputs = Outputs::default();
        outputs.add(0, rows as usize, false);
        outputs.take(program.head(&features, &further)?)?;
        outputs.finish()
    };
    let (values, bytes) = memory::measured(|| guarded(through));
    match values {
        Ok(_) => Ok(Some(bytes.unwrap_or(0))),
        Err(error) if error.lacks_memory() => {
            memory::release();
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exhausted() -> NetworkError {
        let message = "CUDA out of memory. Tried to allocate 2.00 GiB".to_owned();
        NetworkError::Torch { context: "a batch".to_owned(), message }
    }

    #[test]
    fn a_batch_is_halved_down_to_one_row_and_no_further() {
        let mut batch = Batch::given(100, Device::CPU);
        let mut seen = Vec::new();
        while batch.shrink(&exhausted(), usize::MAX) {
            seen.push(batch.rows());
        }
        assert_eq!(seen, [50, 25, 13, 7, 4, 2, 1]);
        let mut batch = Batch::given(100_000, Device::CPU);
        assert!(batch.shrink(&exhausted(), 900), "the last batch of a part may be small");
        assert_eq!(batch.rows(), 450);
        let mut batch = Batch::given(100, Device::CPU);
        assert!(!batch.shrink(&NetworkError::Died, 100), "no matter of memory");
        assert_eq!((batch.rows(), batch.full()), (100, 100));
    }

    #[test]
    fn without_a_bound_it_grows_again_from_checkpoint_to_checkpoint() {
        let mut batch = Batch::given(100, Device::CPU);
        for _ in 0..3 {
            assert!(batch.shrink(&exhausted(), usize::MAX));
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            batch.begin();
            seen.push(batch.rows());
        }
        assert_eq!(seen, [26, 52, 100, 100]);
    }

    #[test]
    fn what_was_too_much_is_not_tried_again_while_no_more_is_free() {
        let bound = Some(Bound { share: 0.5, need: Need { fixed: 0.0, row: 1.0 } });
        let (device, free) = (Device::CPU, Some(1_000_000));
        let mut batch = Batch { device, full: 1_000, rows: 1_000, bound, free };
        assert!(batch.shrink(&exhausted(), usize::MAX) && batch.shrink(&exhausted(), usize::MAX));
        assert_eq!(batch.rows(), 250);
        // Neither 1,000 rows nor 500 had enough in a million bytes.
        let bound = batch.bound.expect("bound");
        assert_eq!(bound.need.row, 2_000.0);
        assert_eq!([bound.rows(1_000_000), bound.rows(8_000_000)], [250, 2_000]);
    }

    #[test]
    fn what_others_took_meanwhile_is_not_learnt_as_a_need() {
        let bound = Some(Bound { share: 0.5, need: Need { fixed: 0.0, row: 1.0 } });
        // More than any machine has: all but what is there now went to others.
        let (device, free) = (Device::CPU, Some(1 << 60));
        let mut batch = Batch { device, full: 1_000, rows: 1_000, bound, free };
        assert!(batch.shrink(&exhausted(), usize::MAX));
        let row = batch.bound.expect("bound").need.row;
        assert!(row < (1u64 << 50) as f64 / 1_000.0, "{row}");
    }

    /// A network with a wide layer, and a sample of its probe.
    fn wide(directory: &std::path::Path) -> (Program, Sample) {
        let floats = |size: [i64; 2]| Tensor::ones(size, (tch::Kind::Float, tch::Device::Cpu));
        let (first, last) = (floats([16, 4096]), floats([4096, 3]));
        let mut layers = |inputs: &[Tensor]| vec![inputs[0].matmul(&first).relu().matmul(&last)];
        let traced =
            tch::CModule::create_by_tracing("Wide", "forward", &[floats([2, 16])], &mut layers);
        let path = directory.join("program.ts");
        traced.expect("traced").save(&path).expect("saved");
        let inputs = vec![0u8; 4 * 16 * 2];
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 16], &inputs);
        let file =
            safetensors::serialize([("inputs", view.expect("a view"))], None).expect("a file");
        let probe = directory.join("probe.safetensors");
        std::fs::write(&probe, file).expect("written");
        let probe = super::super::Probe::read(&probe, None).expect("a probe");
        let program = Program::load(&path, Device::CPU, &probe).expect("a program");
        let sample = super::super::sample::sample(&program, &probe, 0, tch::Device::Cpu);
        (program, sample.expect("a sample"))
    }

    #[test]
    fn what_small_batches_need_tells_what_a_large_one_does() {
        let directory = tempfile::tempdir().expect("a directory");
        let (program, sample) = wide(directory.path());
        let mut batch = Batch::suitable(&sample, 10_000, Device::CPU);
        assert_eq!((batch.full(), batch.rows()), (256, 256));
        assert_eq!(Batch::suitable(&sample, 900, Device::CPU).full(), 113, "eight of them");
        assert_eq!(Batch::suitable(&sample, 3, Device::CPU).full(), LEAST);
        batch.bind(&program, &sample, 0.5).expect("bound");
        let bound = batch.bound.expect("measured");
        // Two tensors of 4,096 numbers for each row at the same time.
        assert!(bound.need.row >= 2.0 * 4.0 * 4096.0, "{bound:?}");
        for rows in [64, 256] {
            let taken = trial(&program, &sample, rows).expect("through").expect("measured") as f64;
            let foreseen = bound.need.fixed + rows as f64 * bound.need.row;
            assert!((0.8 * foreseen..=foreseen).contains(&taken), "{taken} of {foreseen}");
        }
        // As much memory as a hundred rows take, half of which may be taken.
        let free = bound.need.fixed + 100.0 * bound.need.row;
        let rows = bound.rows(free as u64);
        let taken = trial(&program, &sample, rows as i64).expect("through").expect("measured");
        assert!(
            (30..100).contains(&rows) && taken as f64 <= 0.5 * free,
            "{taken} of {free}, {rows} rows"
        );
    }

    #[test]
    fn a_batch_takes_its_share_of_what_is_free() {
        // 1,000 bytes, and 10 for each row.
        let need = Need::of(Some(1_020), Some(1_160));
        assert_eq!(need, Need { fixed: 1_000.0, row: 10.0 });
        let bound = Bound { share: 0.5, need };
        assert_eq!(bound.rows(4_000), 100);
        assert_eq!(bound.rows(1_000), 1, "one row is always tried");
        assert!(bound.rows(u64::MAX) > 1 << 50);
        // What does not grow with the rows bounds nothing but itself.
        let bound = Bound { share: 1.0, need: Need::of(Some(500), Some(400)) };
        assert_eq!(bound.need, Need { fixed: 500.0, row: 0.0 });
        assert_eq!(bound.rows(600), 100);
        // A share of nearly nothing: one row at a time, whatever suits.
        let bound = Some(Bound { share: 1e-12, need });
        let mut batch = Batch { device: Device::CPU, full: 64, rows: 64, bound, free: None };
        batch.begin();
        assert_eq!((batch.rows(), batch.full()), (1, 64));
        // What only small batches were measured of, or none.
        assert_eq!(Need::of(Some(500), None), Need { fixed: 0.0, row: 250.0 });
        let bound = Bound { share: 1.0, need: Need::of(None, None) };
        assert_eq!(bound.rows(u64::MAX), 1);
    }
}
