//! Files of `torch.save`, as archives and in the legacy form, Lightning's among them.
//!
//! `pytorch-reader` reads them as data. Before it does, this bounds what it can be made to build, and
//! refuses what is no state dict.

use super::aliases::{Alias, aliases};
use super::archive::{Archive, MAGIC};
use super::pickle::{Glance, glance};
use super::weights::{Data, Stored};
use super::{Flaw, Limits, Weights, recognise};
use ::safetensors::Dtype;
use pytorch_reader::{DType, PickleValue, PytorchReader, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

/// Keys that hold the step, in the order in which they are looked for.
const STEP_KEYS: [&str; 4] = ["step", "global_step", "iteration", "epoch"];
/// Pickles of a legacy file: magic number, protocol, system, the object, keys of its storages.
const LEGACY_PICKLES: usize = 5;
/// The one among them that holds the object.
const LEGACY_OBJECT: usize = 3;
/// Bytes of an index in a name, at most.
const INDEX: u64 = 11;
/// Things that a tensor counts as: about as many build one.
const OBJECTS: u64 = 30;
/// Classes of dicts that may stand at the top.
const DICTS: [&str; 2] = ["collections.OrderedDict", "builtins.dict"];

/// Whether the file is complete and holds a dict with tensors.
pub(super) fn check(path: &Path, limits: &Limits) -> Result<(), Flaw> {
    match bounded(path, limits)? {
        // Finds out whether every storage of a legacy file is there.
        Form::Legacy => open(path, limits).map(|_| ()),
        Form::Archive => Ok(()),
    }
}

/// As [`check`], and Lightning wrote it.
pub(super) fn check_lightning(path: &Path, limits: &Limits) -> Result<(), Flaw> {
    check(path, limits)?;
    let found = top_level(path)?;
    if matches!(found.get("state_dict"), Some(PickleValue::Dict(_))) {
        return Ok(());
    }
    Err(Flaw::new("is no Lightning checkpoint: it has no dict `state_dict`; write `layout: torch`"))
}

/// The tensors of a file whose pickles are within their limits.
pub(super) fn open(path: &Path, limits: &Limits) -> Result<Weights, Flaw> {
    let names = length_of_names(&value(path)?, 0);
    super::flaw::within("the length of all names", names, limits.header, "limits.header")?;
    let reader = PytorchReader::new(path).map_err(|error| unreadable(&error))?;
    let mut tensors: BTreeMap<_, _> = reader.into_tensors().into_iter().collect();
    fill(&mut tensors, &shared(path, limits)?, names, limits)?;
    let stored = |(name, tensor): (String, Tensor)| Stored {
        name,
        dtype: dtype(tensor.dtype()),
        shape: tensor.shape().to_vec(),
        data: Data::Torch(Box::new(tensor)),
    };
    Ok(Weights::new(tensors.into_iter().map(stored).collect()))
}

/// What stands in several places of the object that was saved.
fn shared(path: &Path, limits: &Limits) -> Result<Vec<Alias>, Flaw> {
    let mut reader = BufReader::new(File::open(path)?);
    if reader.fill_buf()?.starts_with(&MAGIC) {
        return aliases(&mut &Archive::open(path, limits)?.pickle(limits)?[..], limits);
    }
    for _ in 0..LEGACY_OBJECT {
        glance(&mut reader, limits.objects)?;
    }
    aliases(&mut reader.take(limits.header), limits)
}

/// Gives the tensors of a dict that stands in several places the names of each; `names` is the length of
/// those they have.
fn fill(
    tensors: &mut BTreeMap<String, Tensor>,
    shared: &[Alias],
    mut names: u64,
    limits: &Limits,
) -> Result<(), Flaw> {
    let mut objects = 0;
    for Alias { place, of } in shared {
        let of = format!("{of}.");
        let named = tensors.range(of.clone()..).take_while(|(name, _)| name.starts_with(&of));
        let again = |(name, tensor): (&String, &Tensor)| {
            (format!("{place}.{}", &name[of.len()..]), tensor.clone())
        };
        let again = named.map(again).filter(|(name, _)| !tensors.contains_key(name));
        let again: Vec<_> = again.collect();
        objects += OBJECTS * again.len() as u64;
        names = again.iter().fold(names, |sum, (name, _)| sum.saturating_add(name.len() as u64));
        super::flaw::within("what it holds twice", objects, limits.objects, "limits.objects")?;
        super::flaw::within("the length of all names", names, limits.header, "limits.header")?;
        tensors.extend(again);
    }
    Ok(())
}

/// The step at the top of the dict.
pub(super) fn step(path: &Path, limits: &Limits) -> Result<Option<u64>, Flaw> {
    bounded(path, limits)?;
    let found = top_level(path)?;
    let number = |key: &&str| match found.get(*key) {
        Some(PickleValue::Int(step)) => u64::try_from(*step).ok(),
        _ => None,
    };
    Ok(STEP_KEYS.iter().find_map(number))
}

/// What `torch.save` may have written.
enum Form {
    Archive,
    Legacy,
}

/// Refuses what is none of `torch.save`, holds no dict, or would build too much.
fn bounded(path: &Path, limits: &Limits) -> Result<Form, Flaw> {
    let mut reader = BufReader::new(File::open(path)?);
    let start = reader.fill_buf()?;
    if start.starts_with(&MAGIC) {
        let archive = Archive::open(path, limits)?;
        if archive.is_torchscript() {
            return Err(Flaw::new("is a TorchScript file; write `layout: torchscript`"));
        }
        refuse_objects(&glance(&mut &archive.pickle(limits)?[..], limits.objects)?)?;
        return Ok(Form::Archive);
    }
    if !recognise::is_legacy(start) {
        return Err(not_of_torch(path));
    }
    for index in 0..LEGACY_PICKLES {
        let found = glance(&mut reader, limits.objects)?;
        if index == LEGACY_OBJECT {
            refuse_objects(&found)?;
        }
    }
    let pickles = reader.stream_position()?;
    super::flaw::within("its pickles", pickles, limits.header, "limits.header")?;
    Ok(Form::Legacy)
}

fn not_of_torch(path: &Path) -> Flaw {
    match recognise(path) {
        Some(found) => Flaw::new(format!("is no file of `torch.save`, but {found}")),
        None => {
            Flaw::new("is no file of `torch.save`: it begins neither as an archive nor as a pickle")
        }
    }
}

/// Objects at the top of a pickle are modules as a rule; reading one would mean to trust its class.
fn refuse_objects(found: &Glance) -> Result<(), Flaw> {
    match &found.class {
        Some(class) if !DICTS.contains(&class.as_str()) => Err(Flaw::new(format!(
            "holds an object of class `{class}`, no dict of tensors; save its weights alone: \
             `torch.save(model.state_dict(), …)`"
        ))),
        _ => Ok(()),
    }
}

fn top_level(path: &Path) -> Result<HashMap<String, PickleValue>, Flaw> {
    match value(path)? {
        PickleValue::Dict(dict) => Ok(dict),
        _ => Err(Flaw::new("holds no dict of tensors; save `model.state_dict()`")),
    }
}

/// What the pickle holds, without the data of tensors.
fn value(path: &Path) -> Result<PickleValue, Flaw> {
    PytorchReader::read_pickle_data(path, None).map_err(|error| unreadable(&error))
}

/// Bytes of the names of all tensors: a long key above many tensors is in the name of each of them.
fn length_of_names(value: &PickleValue, above: u64) -> u64 {
    let all = |items: &mut dyn Iterator<Item = u64>| items.fold(0, u64::saturating_add);
    match value {
        PickleValue::Dict(dict) => all(&mut dict
            .iter()
            .map(|(key, value)| length_of_names(value, above + key.len() as u64 + 1))),
        PickleValue::List(items) => {
            all(&mut items.iter().map(|value| length_of_names(value, above + INDEX)))
        }
        PickleValue::Unsupported(_) => above,
        _ => 0,
    }
}

fn unreadable(error: &pytorch_reader::PytorchError) -> Flaw {
    Flaw::new(format!("is damaged, or holds what cannot be read as data: {error}"))
}

pub(super) fn dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}
