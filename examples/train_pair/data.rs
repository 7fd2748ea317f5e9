//! Samples and labels from files: IDX (MNIST, Fashion-MNIST, digits; ids of tokens) and CIFAR-10 binary.

use super::networks::bert;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Classes of all these.
pub(crate) const CLASSES: i64 = 10;
/// A label and three channels of 32×32.
const CIFAR_RECORD: usize = 1 + 3 * 32 * 32;
/// Types of IDX files.
const IDX_BYTES: u8 = 8;
const IDX_INTEGERS: u8 = 12;

/// Some samples: images float32 [P, C, H, W] within 0 and 1, or ids int64 [P, L]; labels int64 [P].
#[derive(Debug)]
pub(crate) struct Part {
    /// Images or ids.
    pub(crate) inputs: Tensor,
    /// Their classes.
    pub(crate) labels: Tensor,
}

/// What is trained on, and what is not.
#[derive(Debug)]
pub(crate) struct Data {
    /// For training.
    pub(crate) training: Part,
    /// Held out: probe and test.
    pub(crate) test: Part,
}

impl Part {
    /// The number of samples.
    pub(crate) fn len(&self) -> usize {
        self.labels.size()[0] as usize
    }

    /// The same samples on a device.
    pub(crate) fn on(&self, device: Device) -> Self {
        Self { inputs: self.inputs.to_device(device), labels: self.labels.to_device(device) }
    }

    /// Samples from `start` on, at most `count`.
    pub(crate) fn some(&self, start: usize, count: usize) -> Self {
        let start = start.min(self.len());
        let count = count.min(self.len() - start) as i64;
        let take = |tensor: &Tensor| tensor.narrow(0, start as i64, count);
        Self { inputs: take(&self.inputs), labels: take(&self.labels) }
    }

    /// Samples by their indices.
    pub(crate) fn rows(&self, rows: &[i64]) -> Self {
        let rows = Tensor::from_slice(rows).to_device(self.labels.device());
        let take = |tensor: &Tensor| tensor.index_select(0, &rows);
        Self { inputs: take(&self.inputs), labels: take(&self.labels) }
    }

    fn of_images(bytes: &[u8], [channels, height, width]: [i64; 3], labels: &[u8]) -> Result<Self> {
        let inputs = Tensor::from_slice(bytes).to_kind(Kind::Float) / 255.0;
        Self::new(inputs.view([-1, channels, height, width]), labels)
    }

    fn new(inputs: Tensor, labels: &[u8]) -> Result<Self> {
        let samples = inputs.size()[0];
        ensure!(samples > 0, "there is no sample");
        ensure!(samples == labels.len() as i64, "{samples} samples have {} labels", labels.len());
        if let Some(label) = labels.iter().find(|&&label| i64::from(label) >= CLASSES) {
            bail!("label {label} is none of {CLASSES} classes");
        }
        Ok(Self { inputs, labels: Tensor::from_slice(labels).to_kind(Kind::Int64) })
    }
}

/// Reads a directory of IDX files or of CIFAR-10 binary files; whichever is there.
pub(crate) fn load(directory: &Path) -> Result<Data> {
    let is_cifar = directory.join("test_batch.bin").exists();
    let (training, test) = match is_cifar {
        true => {
            let batches: Vec<String> = (1..=5).map(|n| format!("data_batch_{n}.bin")).collect();
            (read_cifar(directory, &batches), read_cifar(directory, &["test_batch.bin".to_owned()]))
        }
        false => (read_idx(directory, "train"), read_idx(directory, "t10k")),
    };
    Ok(Data { training: training?, test: test? })
}

/// Images as bytes `<part>-images-idx3-ubyte`, or ids of tokens as four bytes `<part>-ids-idx2-int`.
fn read_idx(directory: &Path, part: &str) -> Result<Part> {
    let labels = directory.join(format!("{part}-labels-idx1-ubyte"));
    let labels = read_idx_file(&labels, IDX_BYTES)?.0;
    let ids = directory.join(format!("{part}-ids-idx2-int"));
    let samples = match ids.exists() {
        true => {
            let (bytes, shape) = read_idx_file(&ids, IDX_INTEGERS)?;
            let ids: Vec<i64> = bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|id| i64::from(i32::from_be_bytes(*id)))
                .collect();
            if let Some(id) = ids.iter().find(|id| !(0..bert::WORDS).contains(*id)) {
                bail!("id {id} is none of {} tokens", bert::WORDS);
            }
            let [_, length] = shape[..] else { bail!("ids have dimensions {shape:?}, wanted two") };
            Part::new(Tensor::from_slice(&ids).view([-1, length]), &labels)
        }
        false => {
            let images = directory.join(format!("{part}-images-idx3-ubyte"));
            let (bytes, shape) = read_idx_file(&images, IDX_BYTES)?;
            let [_, height, width] = shape[..] else {
                bail!("images have dimensions {shape:?}, wanted three")
            };
            Part::of_images(&bytes, [1, height, width], &labels)
        }
    };
    samples.with_context(|| format!("`{part}` in {}", directory.display()))
}

/// The data and its dimensions. Before them stand two zeros, a type, the number of dimensions, and each as a
/// big-endian number.
fn read_idx_file(path: &Path, kind: u8) -> Result<(Vec<u8>, Vec<i64>)> {
    let name = path.display();
    let mut bytes = std::fs::read(path).with_context(|| {
        format!("{name} cannot be read; files that end in `.gz` are unpacked with `gunzip -k`")
    })?;
    let Some((&[0, 0, found, dimensions], rest)) = bytes.split_first_chunk() else {
        bail!("{name} is no IDX file")
    };
    ensure!(found == kind, "{name} holds type {found}, wanted {kind}");
    let (numbers, _) = rest.as_chunks::<4>();
    let numbers = numbers.get(..usize::from(dimensions));
    let numbers = numbers.with_context(|| format!("{name} ends within its header"))?;
    let shape: Vec<i64> = numbers.iter().map(|n| i64::from(u32::from_be_bytes(*n))).collect();
    let data = bytes.split_off(4 + 4 * usize::from(dimensions));
    let size = if kind == IDX_INTEGERS { 4 } else { 1 };
    ensure!(
        data.len() as i64 == shape.iter().product::<i64>() * size,
        "{name} has {} bytes for {shape:?}",
        data.len()
    );
    Ok((data, shape))
}

fn read_cifar(directory: &Path, names: &[String]) -> Result<Part> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for name in names {
        let path = directory.join(name);
        let bytes =
            std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        ensure!(
            bytes.len().is_multiple_of(CIFAR_RECORD),
            "{} has {} bytes, no multiple of {CIFAR_RECORD}",
            path.display(),
            bytes.len()
        );
        for record in bytes.chunks_exact(CIFAR_RECORD) {
            labels.push(record[0]);
            images.extend_from_slice(&record[1..]);
        }
    }
    Part::of_images(&images, [3, 32, 32], &labels)
        .with_context(|| format!("CIFAR-10 in {}", directory.display()))
}

/// Replaces a share of the labels by wrong ones, the same for every run: what networks then memorise is seen in
/// the test loss.
pub(crate) fn mislabel(part: &Part, share: f64) -> Result<Part> {
    let mut random = fastrand::Rng::with_seed(20);
    let mut labels = Vec::<i64>::try_from(&part.labels)?;
    for label in &mut labels {
        let (is_wrong, shift) = (random.f64() < share, random.i64(1..CLASSES));
        if is_wrong {
            *label = (*label + shift) % CLASSES;
        }
    }
    Ok(Part { inputs: part.inputs.shallow_clone(), labels: Tensor::from_slice(&labels) })
}
