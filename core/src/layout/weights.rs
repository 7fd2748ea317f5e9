//! The tensors of a checkpoint, by name; their data is read when it is asked for.

use super::Flaw;
use ::safetensors::Dtype;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// All tensors of a checkpoint.
#[derive(Debug, Default)]
pub struct Weights {
    /// In the order of their names.
    pub tensors: Vec<Stored>,
}

/// One tensor, not yet read.
#[derive(Debug)]
pub struct Stored {
    /// Its name, with the keys of the dicts around it.
    pub name: String,
    /// Type of its numbers.
    pub dtype: Dtype,
    /// Outermost first.
    pub shape: Vec<usize>,
    pub(super) data: Data,
}

/// Where the bytes of a tensor come from.
#[derive(Debug)]
pub(super) enum Data {
    /// A stretch of a file, row by row.
    Range { file: Arc<File>, offset: u64, length: usize },
    /// A tensor of `torch.save`; checks the checksum of its storage.
    Torch(Box<pytorch_reader::Tensor>),
    /// A tensor of TorchScript.
    Script(Box<super::torchscript::View>),
}

impl Weights {
    pub(super) fn new(mut tensors: Vec<Stored>) -> Self {
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Self { tensors }
    }
}

impl Stored {
    /// The bytes, row by row, little-endian. As many as shape and type ask for, so look at these first.
    ///
    /// # Errors
    /// A file that is damaged or has become shorter.
    pub fn read(&self) -> Result<Vec<u8>, Flaw> {
        match &self.data {
            Data::Range { file, offset, length } => {
                let mut bytes = vec![0; *length];
                file.read_exact_at(&mut bytes, *offset)?;
                Ok(bytes)
            }
            Data::Torch(tensor) => {
                tensor.read().map_err(|error| Flaw::new(format!("is damaged: {error}")))
            }
            Data::Script(view) => view.read(&self.shape),
        }
    }
}
