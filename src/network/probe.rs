//! The held-out samples on which both networks are compared.

use super::NetworkError;
use safetensors::{Dtype, SafeTensors};
use std::path::Path;
use tch::{Kind, Tensor};

/// What to try where a file is not a probe.
const WRITE_IT: &str = "write it with `convergd.make_probe`";

/// A checked probe file.
#[derive(Debug)]
pub struct Probe {
    /// float32 [P, …].
    pub inputs: Tensor,
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
        if !inputs.kind().eq(&Kind::Float) && !inputs.kind().eq(&Kind::Double) {
            return Err(format!("has `inputs` of type {:?}; it needs float32", inputs.kind()));
        }
        refuse_not_finite("inputs", &inputs)?;
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
        let mut hasher = blake3::Hasher::new();
        hasher.update(bytes).update(&taken.to_le_bytes());
        let take = taken as usize;
        Ok(Self {
            inputs: inputs.narrow(0, 0, taken).to_kind(Kind::Float),
            labels: labels.map(|labels| labels[..take].to_vec()),
            variables: variables.map(|variables| variables[..take].to_vec()),
            baseline,
            digest: hasher.finalize(),
        })
    }

    /// Number of samples P.
    pub fn samples(&self) -> usize {
        self.inputs.size()[0] as usize
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
