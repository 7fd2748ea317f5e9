//! The held-out samples on which both networks are compared.

use super::NetworkError;
use crate::evaluation::probe::digest;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use tch::{Kind, Tensor};

/// What to try where a file is not a probe.
const WRITE_IT: &str = "write it with `convergd.make_probe`";
/// Tensors of the file that are no further input.
const RESERVED: [&str; 4] = ["inputs", "labels", "variables", "baseline"];
/// Which tokens are there (not 0) and which are padding (0).
pub const ATTENTION_MASK: &str = "attention_mask";

/// A checked probe file.
#[derive(Debug)]
pub struct Probe {
    /// float32 [P, …], or token ids int64 [P, L].
    pub inputs: Tensor,
    /// What programs may take besides, by name: float32 or int64 [P, …], such as `attention_mask`.
    pub further: BTreeMap<String, Tensor>,
    /// Class of each sample, where the file has `labels`.
    pub labels: Option<Vec<i64>>,
    /// Variable of each position, [P][positions], −1 where always present, where the file says.
    pub variables: Option<Vec<Vec<i64>>>,
    /// The value of an absent position, as the features of one sample or broadcast to them.
    pub baseline: Option<Tensor>,
    /// Hash of the file and of the number of samples taken from it.
    pub digest: blake3::Hash,
}

impl Probe {
    /// Reads a file; only its first `samples` samples where that is given.
    ///
    /// # Errors
    /// Anything in the file that cannot be used, with the tensor and the value.
    pub fn read(path: &Path, samples: Option<usize>) -> Result<Self, NetworkError> {
        let refuse = |message: String| NetworkError::Probe { path: path.to_owned(), message };
        let bytes =
            std::fs::read(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| refuse(format!("is no safetensors file: {error}; {WRITE_IT}")))?;
        Self::from_file(&file, &bytes, samples).map_err(refuse)
    }

    fn from_file(
        file: &SafeTensors<'_>,
        bytes: &[u8],
        samples: Option<usize>,
    ) -> Result<Self, String> {
        let inputs = tensor(file, "inputs")?
            .ok_or_else(|| format!("has no tensor `inputs`, but {:?}; {WRITE_IT}", file.names()))?;
        if inputs.dim() < 2 || inputs.size()[0] < 1 {
            return Err(format!(
                "has `inputs` of shape {:?}; it needs [samples, …] with at least 1 sample",
                inputs.size()
            ));
        }
        let inputs = numbers("inputs", inputs)?;
        let all = inputs.size()[0];
        let taken = samples.and_then(|samples| i64::try_from(samples).ok()).unwrap_or(all).min(all);
        let labels = match tensor(file, "labels")? {
            Some(labels) => Some(read_labels(&labels, all)?),
            None => None,
        };
        let variables = match tensor(file, "variables")? {
            Some(variables) => Some(read_variables(&variables, all)?),
            None => None,
        };
        let baseline = tensor(file, "baseline")?.map(|baseline| baseline.to_kind(Kind::Float));
        if let Some(baseline) = &baseline {
            refuse_not_finite("baseline", baseline)?;
        }
        let mut further = BTreeMap::new();
        for name in file.names() {
            if RESERVED.contains(&name) {
                continue;
            }
            let Some(own) = tensor(file, name)? else { continue };
            if own.dim() < 1 || own.size()[0] != all {
                return Err(format!(
                    "has `{name}` of shape {:?}; an input needs [{all}, …] like `inputs`",
                    own.size()
                ));
            }
            further.insert(name.to_owned(), numbers(name, own)?.narrow(0, 0, taken));
        }
        let take = taken as usize;
        Ok(Self {
            inputs: inputs.narrow(0, 0, taken),
            further,
            labels: labels.map(|labels| labels[..take].to_vec()),
            variables: variables.map(|variables| variables[..take].to_vec()),
            baseline,
            digest: digest(bytes, taken as u64),
        })
    }

    /// Number of samples P.
    pub fn samples(&self) -> usize {
        self.inputs.size()[0] as usize
    }

    /// One sample as a program takes it: [1, …] of `inputs`, then of the tensors named, in order.
    ///
    /// # Errors
    /// The name of a tensor that is not there.
    pub fn sample(&self, sample: usize, names: &[String]) -> Result<Vec<Tensor>, String> {
        self.some(sample..sample + 1, names)
    }

    /// The inputs of some samples, as of one.
    ///
    /// # Errors
    /// As [`Probe::sample`].
    pub fn some(&self, samples: Range<usize>, names: &[String]) -> Result<Vec<Tensor>, String> {
        let (first, count) = (samples.start as i64, samples.len() as i64);
        let mut all = vec![&self.inputs];
        for name in names {
            all.push(self.further.get(name).ok_or_else(|| {
                let there: Vec<_> = self.further.keys().collect();
                format!(
                    "has no tensor `{name}`, which the program takes besides `inputs`, but \
                     {there:?}; give `convergd.make_probe` the same named inputs as \
                     `export_program`"
                )
            })?);
        }
        Ok(all.into_iter().map(|tensor| tensor.narrow(0, first, count)).collect())
    }

    /// The token ids [P][L] and which of them are there, where the inputs are token ids.
    ///
    /// # Errors
    /// Inputs that are no token ids, a mask of another shape.
    pub fn tokens(&self) -> Result<Vec<Vec<(i64, bool)>>, String> {
        let shape = self.inputs.size();
        if self.inputs.kind() != Kind::Int64 || shape.len() != 2 {
            return Err(format!(
                "has `inputs` of shape {shape:?} and type {:?}, but `tokens` needs token ids, int64 \
                 [samples, length]; use `image_patches` or `columns`",
                self.inputs.kind()
            ));
        }
        let mask = match self.further.get(ATTENTION_MASK) {
            Some(mask) if mask.size() == shape => mask.ne(0),
            Some(mask) => {
                return Err(format!(
                    "has `{ATTENTION_MASK}` of shape {:?}, but `inputs` of shape {shape:?}; they \
                     must be alike",
                    mask.size()
                ));
            }
            None => self.inputs.ones_like().to_kind(Kind::Bool),
        };
        let ids = Vec::<Vec<i64>>::try_from(&self.inputs).map_err(|error| error.to_string())?;
        let mask = Vec::<Vec<bool>>::try_from(mask).map_err(|error| error.to_string())?;
        let rows = ids.into_iter().zip(mask);
        Ok(rows.map(|(ids, mask)| ids.into_iter().zip(mask).collect()).collect())
    }
}

/// An input as programs take it: float32, or int64 where it is of integers.
fn numbers(name: &str, tensor: Tensor) -> Result<Tensor, String> {
    match tensor.kind() {
        Kind::Float | Kind::Double => {
            refuse_not_finite(name, &tensor)?;
            Ok(tensor.to_kind(Kind::Float))
        }
        Kind::Int64 | Kind::Int | Kind::Int16 | Kind::Int8 | Kind::Uint8 | Kind::Bool => {
            Ok(tensor.to_kind(Kind::Int64))
        }
        kind => Err(format!("has `{name}` of type {kind:?}; it needs float32 or int64")),
    }
}

fn tensor(file: &SafeTensors<'_>, name: &str) -> Result<Option<Tensor>, String> {
    let Ok(view) = file.tensor(name) else { return Ok(None) };
    view_to_tensor(&view).map(Some).map_err(|message| format!("has `{name}` {message}"))
}

fn view_to_tensor(view: &safetensors::tensor::TensorView<'_>) -> Result<Tensor, String> {
    to_tensor(view.dtype(), view.shape(), view.data())
}

/// A tensor that owns a copy of the data.
pub(super) fn to_tensor(dtype: Dtype, shape: &[usize], data: &[u8]) -> Result<Tensor, String> {
    let kind = kind(dtype)?;
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    Tensor::f_from_data_size(data, &shape, kind)
        .map_err(|error| format!("of shape {shape:?}: {}", super::first_lines(&error)))
}

/// libtorch's name of a type.
pub(super) fn kind(dtype: Dtype) -> Result<Kind, String> {
    Ok(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        other => return Err(format!("of type {other:?}, which is not supported")),
    })
}

/// The first value that is not finite, with its index.
fn refuse_not_finite(name: &str, tensor: &Tensor) -> Result<(), String> {
    let values = Vec::<f64>::try_from(tensor.flatten(0, -1)).map_err(|error| error.to_string())?;
    let Some(at) = values.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    let (mut index, mut rest) = (Vec::new(), at as i64);
    for &size in tensor.size().iter().rev() {
        index.insert(0, rest % size);
        rest /= size;
    }
    Err(format!("has `{name}` with {} at {index:?}; every value must be finite", values[at]))
}

fn read_labels(labels: &Tensor, samples: i64) -> Result<Vec<i64>, String> {
    if labels.kind() != Kind::Int64 || labels.size() != [samples] {
        return Err(format!(
            "has `labels` of shape {:?} and type {:?}; it needs int64 [{samples}], one a sample",
            labels.size(),
            labels.kind()
        ));
    }
    let labels = Vec::<i64>::try_from(labels).map_err(|error| error.to_string())?;
    match labels.iter().position(|&label| label < 0) {
        Some(sample) => {
            Err(format!("has label {} at sample {sample}; labels are 0 or more", labels[sample]))
        }
        None => Ok(labels),
    }
}

fn read_variables(variables: &Tensor, samples: i64) -> Result<Vec<Vec<i64>>, String> {
    let fits = variables.kind() == Kind::Int64
        && variables.dim() == 2
        && variables.size()[0] == samples
        && variables.size()[1] > 0;
    if !fits {
        return Err(format!(
            "has `variables` of shape {:?} and type {:?}; it needs int64 [{samples}, positions]",
            variables.size(),
            variables.kind()
        ));
    }
    Vec::<Vec<i64>>::try_from(variables).map_err(|error| error.to_string())
}
