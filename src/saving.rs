//! Checkpoints that a trainer in Rust writes, as `convergd.save_checkpoint` does in Python: safetensors files that a
//! reader never sees half-written, with parameters and buffers by their names.

use crate::files::write_atomically;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};
use thiserror::Error;

/// Why tensors cannot be saved.
#[derive(Debug, Error)]
pub enum SaveError {
    /// A tensor of a type that safetensors files do not have.
    #[error(
        "`{name}` is {kind:?}, which a safetensors file cannot hold; convert it, or leave it out"
    )]
    Kind {
        /// Its name.
        name: String,
        /// Its type.
        kind: Kind,
    },
    /// libtorch or safetensors refuses a tensor.
    #[error("`{name}` cannot be read: {message}")]
    Tensor {
        /// Its name.
        name: String,
        /// Their words.
        message: String,
    },
    /// Names or sizes that do not fit a file.
    #[error(transparent)]
    Format(#[from] SafeTensorError),
    /// Whatever the file system says; what was there is unchanged.
    #[error("`{path}` cannot be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Writes tensors, such as those of a `VarStore` (`variables()`), to `<directory>/step-<step>.safetensors`; the step is
/// padded to eight digits. The directory is made if it is missing, the file appears whole or not at all.
///
/// # Errors
/// A tensor that cannot be saved, a file that cannot be written.
pub fn save_checkpoint<T: Borrow<Tensor>>(
    tensors: &HashMap<String, T>,
    directory: &Path,
    step: u64,
) -> Result<PathBuf, SaveError> {
    let path = directory.join(format!("step-{step:08}.safetensors"));
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.borrow()));
    let metadata = [("format", "pt".to_owned()), ("step", step.to_string())];
    let metadata = metadata.map(|(name, value)| (name.to_owned(), value)).into();
    save_tensors(named, Some(metadata), &path)?;
    Ok(path)
}

/// Writes tensors by name to a safetensors file, such as a probe set, whole or not at all. Tensors that share memory are
/// written once under each of their names.
///
/// # Errors
/// As [`save_checkpoint`].
pub fn save_tensors<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    metadata: Option<HashMap<String, String>>,
    path: &Path,
) -> Result<(), SaveError> {
    let stored = tensors.into_iter().map(|(name, tensor)| Stored::of(name, tensor));
    let stored = stored.collect::<Result<Vec<_>, _>>()?;
    let views = stored.iter().map(|own| {
        let view = TensorView::new(own.dtype, own.shape.clone(), &own.bytes)?;
        Ok::<_, SafeTensorError>((&own.name, view))
    });
    let bytes = safetensors::serialize(views.collect::<Result<Vec<_>, _>>()?, metadata)?;
    let refuse = |source| SaveError::Write { path: path.to_owned(), source };
    write_atomically(path, &bytes).map_err(refuse)
}

struct Stored {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn of(name: &str, tensor: &Tensor) -> Result<Self, SaveError> {
        let kind = tensor.kind();
        let refuse = || SaveError::Kind { name: name.to_owned(), kind };
        let dtype = dtype(kind).ok_or_else(refuse)?;
        let mut bytes = vec![0; tensor.numel() * kind.elt_size_in_bytes()];
        let copy = || {
            let tensor = tensor.detach().f_to_device(Device::Cpu)?.f_contiguous()?;
            tensor.f_copy_data_u8(&mut bytes, tensor.numel())
        };
        copy_of(copy, name)?;
        let shape = tensor.size().into_iter().map(|size| size as usize).collect();
        Ok(Self { name: name.to_owned(), dtype, shape, bytes })
    }
}

fn copy_of(copy: impl FnOnce() -> Result<(), tch::TchError>, name: &str) -> Result<(), SaveError> {
    copy().map_err(|error| SaveError::Tensor {
        name: name.to_owned(),
        message: crate::network::first_lines(&error),
    })
}

fn dtype(kind: Kind) -> Option<Dtype> {
    Some(match kind {
        Kind::Double => Dtype::F64,
        Kind::Float => Dtype::F32,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Int64 => Dtype::I64,
        Kind::Int => Dtype::I32,
        Kind::Int16 => Dtype::I16,
        Kind::Int8 => Dtype::I8,
        Kind::Uint8 => Dtype::U8,
        Kind::Bool => Dtype::BOOL,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_read_back_and_a_checkpoint_has_its_step() {
        let directory = tempfile::tempdir().expect("a directory");
        let matrix = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).view([2, 3]);
        let tensors = HashMap::from([
            ("transposed".to_owned(), matrix.transpose(0, 1)),
            ("tied".to_owned(), matrix.shallow_clone()),
            ("matrix".to_owned(), matrix.set_requires_grad(true)),
            ("count".to_owned(), Tensor::from(7i64)),
            ("half".to_owned(), Tensor::from_slice(&[0.5f32]).to_kind(Kind::BFloat16)),
            ("none".to_owned(), Tensor::zeros([0i64, 4], (Kind::Bool, Device::Cpu))),
        ]);
        let path = save_checkpoint(&tensors, &directory.path().join("new"), 12).expect("saved");
        assert_eq!(path.file_name().expect("a name"), "step-00000012.safetensors");
        let found: HashMap<_, _> =
            Tensor::read_safetensors(&path).expect("read").into_iter().collect();
        assert_eq!(found.len(), tensors.len());
        for (name, tensor) in &tensors {
            assert_eq!((found[name].kind(), found[name].size()), (tensor.kind(), tensor.size()));
            assert!(found[name] == *tensor, "{name}");
        }
        let bytes = std::fs::read(&path).expect("read");
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
        assert_eq!(header.metadata().as_ref().expect("metadata")["step"], "12");
        assert_eq!(std::fs::read_dir(directory.path().join("new")).expect("a listing").count(), 1);
    }

    #[test]
    fn what_cannot_be_saved_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let complex = Tensor::zeros([1], (Kind::ComplexFloat, Device::Cpu));
        let tensors = HashMap::from([("phase".to_owned(), complex)]);
        let error = save_checkpoint(&tensors, directory.path(), 0).expect_err("refused");
        assert!(error.to_string().contains("`phase` is ComplexFloat"), "{error}");
        let file = directory.path().join("file");
        std::fs::write(&file, "").expect("written");
        let none: HashMap<String, Tensor> = HashMap::new();
        let error = save_checkpoint(&none, &file, 0).expect_err("no directory").to_string();
        assert!(error.contains("step-00000000.safetensors` cannot be written"), "{error}");
    }
}
