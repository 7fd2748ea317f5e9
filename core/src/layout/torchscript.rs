//! TorchScript files as checkpoints: parameters and buffers are read, the code in them is not loaded.
//!
//! libtorch would run what a module does when it is loaded, and names no buffers.

use super::archive::Archive;
use super::pickle::glance;
use super::script::{self, Tensor, Value};
use super::weights::{Data, Stored};
use super::{Flaw, Limits, Weights, flaw};
use std::path::Path;
use std::sync::Arc;

/// Whether the file is complete and its module can be read as data.
pub(super) fn check(path: &Path, limits: &Limits) -> Result<(), Flaw> {
    open(path, limits).map(|_| ())
}

/// All tensors of the module and the modules in it, by the names of `named_parameters()` and
/// `named_buffers()`.
pub(super) fn open(path: &Path, limits: &Limits) -> Result<Weights, Flaw> {
    let (archive, pickle) = read(path, limits)?;
    let archive = Arc::new(archive);
    let module = script::read(&pickle)?;
    let mut found = Found { archive, limits, visited: 0, names: 0, tensors: Vec::new() };
    found.walk("", &module)?;
    Ok(Weights::new(found.tensors))
}

fn read(path: &Path, limits: &Limits) -> Result<(Archive, Vec<u8>), Flaw> {
    let mut start = [0; 4];
    std::io::Read::read(&mut std::fs::File::open(path)?, &mut start)?;
    if start != super::archive::MAGIC {
        return Err(no_script(path));
    }
    let archive = Archive::open(path, limits)?;
    if !archive.is_torchscript() {
        return Err(no_script(path));
    }
    let pickle = archive.pickle(limits)?;
    glance(&mut &pickle[..], limits.objects)?;
    Ok((archive, pickle))
}

fn no_script(path: &Path) -> Flaw {
    match super::recognise(path) {
        Some(found) => Flaw::new(format!("is no TorchScript file, but {found}")),
        None => Flaw::new("is no TorchScript file: write it with `torch.jit.save`"),
    }
}

/// The walk over a module.
struct Found<'a> {
    archive: Arc<Archive>,
    limits: &'a Limits,
    /// Modules may share parts, and a small file could name a few of them very often.
    visited: u64,
    /// Bytes of all names: a long one is part of every name below it.
    names: u64,
    tensors: Vec<Stored>,
}

impl Found<'_> {
    fn walk(&mut self, prefix: &str, value: &Value) -> Result<(), Flaw> {
        self.visited += 1;
        self.names += prefix.len() as u64;
        let Limits { objects, header, .. } = *self.limits;
        flaw::within("its module", self.visited, objects, "limits.objects")?;
        flaw::within("the length of all names", self.names, header, "limits.header")?;
        match value {
            Value::Object(attributes) => attributes.iter().try_for_each(|(name, value)| {
                let dot = if prefix.is_empty() { "" } else { "." };
                self.walk(&format!("{prefix}{dot}{name}"), value)
            }),
            Value::Tensor(tensor) => self.keep(prefix, tensor),
            _ => Ok(()),
        }
    }

    fn keep(&mut self, name: &str, tensor: &Tensor) -> Result<(), Flaw> {
        let held = self.archive.entry(&self.storage(tensor))?.length as usize;
        if tensor.extent().is_none_or(|extent| extent > held) {
            return Err(Flaw::new(format!(
                "is damaged: `{name}` of shape {:?} does not fit into its {held} bytes",
                tensor.shape
            )));
        }
        let view = View {
            archive: self.archive.clone(),
            storage: self.storage(tensor),
            offset: tensor.offset,
            stride: tensor.stride.clone(),
            width: tensor.width(),
        };
        let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
        let data = Data::Script(Box::new(view));
        self.tensors.push(Stored { name: name.to_owned(), dtype, shape, data });
        Ok(())
    }

    fn storage(&self, tensor: &Tensor) -> String {
        format!("{}data/{}", self.archive.root, tensor.storage)
    }
}

/// Where a tensor stands in its storage.
#[derive(Debug)]
pub(super) struct View {
    archive: Arc<Archive>,
    storage: String,
    /// In elements, as `stride`.
    offset: usize,
    stride: Vec<usize>,
    /// Bytes of an element.
    width: usize,
}

impl View {
    /// The elements row by row.
    pub(super) fn read(&self, shape: &[usize]) -> Result<Vec<u8>, Flaw> {
        let storage = self.archive.read(&self.storage)?;
        let count = shape.iter().product();
        let mut bytes = Vec::with_capacity(count * self.width);
        let mut index = vec![0; shape.len()];
        for _ in 0..count {
            let at: usize = index.iter().zip(&self.stride).map(|(i, step)| i * step).sum();
            let from = (self.offset + at) * self.width;
            let element = storage.get(from..from + self.width);
            bytes.extend(
                element.ok_or_else(|| Flaw::new("is damaged: a tensor leaves its storage"))?,
            );
            advance(&mut index, shape);
        }
        Ok(bytes)
    }
}

/// The next index, the last dimension first.
fn advance(index: &mut [usize], shape: &[usize]) {
    for (own, size) in index.iter_mut().zip(shape).rev() {
        *own += 1;
        if *own < *size {
            return;
        }
        *own = 0;
    }
}
