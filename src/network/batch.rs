//! How many masked inputs go through a network at a time.

use super::sample::Sample;
use super::{Device, NetworkError, Program, guarded, memory};
use tch::Tensor;

/// Features of a batch on a CPU: more take longer, row by row.
const CACHED_BYTES: usize = 16 << 20;
/// Features of a batch on a GPU: fewer leave it idle, more gain little (docs/gpu.md).
const FILLING_BYTES: usize = 32 << 20;
/// Rows of a batch that is not chosen, where there is memory.
const LEAST: usize = 16;
const MOST: usize = 256;
const MOST_ON_A_GPU: usize = 8192;
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
    /// So many rows. Only where the memory does not suffice they are fewer.
    pub fn given(rows: usize, device: Device) -> Self {
        let full = rows.max(1);
        Self { device, full, rows: full, bound: None }
    }

    /// On a CPU what its caches help with, on a GPU what fills it, for features like those of a sample; never more
    /// than a share of the device's free memory. What a row needs is measured with two small batches.
    ///
    /// # Errors
    /// A network that does not take them.
    pub fn suitable(
        program: &Program,
        sample: &Sample,
        device: Device,
        share: f64,
    ) -> Result<Self, NetworkError> {
        let features = &sample.features;
        let row = features.numel() * features.kind().elt_size_in_bytes();
        let (bytes, most) = match device.is_cpu() {
            true => (CACHED_BYTES, MOST),
            false => (FILLING_BYTES, MOST_ON_A_GPU),
        };
        let full = (bytes / row.max(1)).clamp(LEAST, most);
        let mut needed = [None; 2];
        for (needed, rows) in needed.iter_mut().zip(TRIALS) {
            *needed = trial(program, sample, rows)?;
        }
        let bound = match needed {
            // As much again as the features takes the mask.
            [Some(few), Some(more)] => {
                let Need { fixed, row: each } = Need::of(few, more);
                Some(Bound { share, need: Need { fixed, row: each + row as f64 } })
            }
            _ => None,
        };
        Ok(Self { device, full, rows: full, bound })
    }

    /// Where there is enough memory.
    pub fn full(&self) -> usize {
        self.full
    }

    /// At present.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Before a checkpoint: what was too much for the last one may have become possible.
    pub fn begin(&mut self) {
        let free = self.bound.and(memory::free(self.device));
        let most = self.bound.zip(free).map_or(usize::MAX, |(bound, free)| bound.rows(free));
        let before = self.rows;
        self.rows = self.full.min(self.rows.saturating_mul(2)).min(most);
        if self.rows == most && self.rows < before {
            let (device, rows) = (self.device, self.rows);
            tracing::info!(%device, rows, free, "batches are small: the device has little free memory");
        }
    }

    /// Halves it where an error says that there was not enough memory, and gives back what is kept; not where there
    /// is nothing to halve.
    pub fn shrink(&mut self, error: &NetworkError) -> bool {
        if self.rows == 1 || !memory::is_exhausted(error) {
            return false;
        }
        self.rows = self.rows.div_ceil(2).min(self.rows - 1);
        memory::release();
        let (device, rows) = (self.device, self.rows);
        tracing::warn!(%device, rows, "not enough memory, so it goes on with smaller batches: {error}");
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
    /// From the bytes that the trials took.
    fn of(few: u64, more: u64) -> Self {
        let [less, most] = TRIALS.map(|rows| rows as f64);
        let row = (more as f64 - few as f64).max(0.0) / (most - less);
        Self { fixed: (few as f64 - less * row).max(0.0), row }
    }
}

/// The most bytes that a batch of copies of a sample takes; nothing where libtorch does not tell.
fn trial(program: &Program, sample: &Sample, rows: i64) -> Result<Option<u64>, NetworkError> {
    let copies = |own: &Tensor| {
        let mut size = own.size();
        size[0] = rows;
        own.expand(size, false)
    };
    let further: Vec<Tensor> = sample.further.iter().map(copies).collect();
    let (logits, bytes) = memory::measured(|| {
        guarded(|| program.head(&copies(&sample.features).contiguous(), &further))
    });
    logits.map(|_| bytes)
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
        while batch.shrink(&exhausted()) {
            seen.push(batch.rows());
        }
        assert_eq!(seen, [50, 25, 13, 7, 4, 2, 1]);
        let mut batch = Batch::given(100, Device::CPU);
        assert!(!batch.shrink(&NetworkError::Died), "no matter of memory");
        assert_eq!((batch.rows(), batch.full()), (100, 100));
    }

    #[test]
    fn it_grows_again_from_checkpoint_to_checkpoint() {
        let mut batch = Batch::given(100, Device::CPU);
        for _ in 0..3 {
            assert!(batch.shrink(&exhausted()));
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            batch.begin();
            seen.push(batch.rows());
        }
        assert_eq!(seen, [26, 52, 100, 100]);
    }

    #[test]
    fn a_batch_takes_its_share_of_what_is_free() {
        // 1,000 bytes, and 10 for each row.
        let need = Need::of(1_020, 1_160);
        assert_eq!(need, Need { fixed: 1_000.0, row: 10.0 });
        let bound = Bound { share: 0.5, need };
        assert_eq!(bound.rows(4_000), 100);
        assert_eq!(bound.rows(1_000), 1, "one row is always tried");
        assert!(bound.rows(u64::MAX) > 1 << 50);
        // What does not grow with the rows bounds nothing but itself.
        let bound = Bound { share: 1.0, need: Need::of(500, 400) };
        assert_eq!(bound.need, Need { fixed: 500.0, row: 0.0 });
        assert_eq!(bound.rows(600), 100);
        // A share of nearly nothing: one row at a time, whatever suits.
        let bound = Some(Bound { share: 1e-12, need });
        let mut batch = Batch { device: Device::CPU, full: 64, rows: 64, bound };
        batch.begin();
        assert_eq!((batch.rows(), batch.full()), (1, 64));
    }
}
