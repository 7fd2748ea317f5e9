//! Directories of Hugging Face: one file of weights, or shards with their index.

use super::{Flaw, Layout, Limits, Weights, flaw};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// What the trainer writes last.
const STATE: &str = "trainer_state.json";
/// Files of a directory that are looked at before it is refused.
const MOST_FILES: usize = 20_000;
/// Files of weights, in the order of preference: the file alone, the index of shards, how either is read.
const WEIGHTS: [(&str, &str, Layout); 2] = [
    ("model.safetensors", "model.safetensors.index.json", Layout::Safetensors),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", Layout::Torch),
];

/// The index of shards.
#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// What `trainer_state.json` tells.
#[derive(Deserialize)]
struct State {
    global_step: Option<u64>,
}

/// The weights of a directory.
struct Parts {
    /// Names of the files, and of the tensors that the index promises in each.
    files: BTreeMap<String, BTreeSet<String>>,
    layout: Layout,
}

/// The files that matter, by name: weights and index, and where asked for the state of the trainer. What
/// an optimiser leaves there does not change the network.
pub(super) fn files(path: &Path, with_state: bool) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for (count, entry) in std::fs::read_dir(path)?.enumerate() {
        if count >= MOST_FILES {
            let message = format!("it holds more than {MOST_FILES} files");
            return Err(std::io::Error::other(message));
        }
        let entry = entry?;
        let name = entry.file_name();
        let is_read = name.to_str().is_some_and(is_weights) || (with_state && name == STATE);
        // Not a pipe, which would wait for a writer.
        if is_read && std::fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn is_weights(name: &str) -> bool {
    name.starts_with("model") && name.ends_with(".safetensors")
        || name.starts_with("pytorch_model") && name.ends_with(".bin")
        || WEIGHTS.iter().any(|(_, index, _)| *index == name)
}

/// Whether a directory holds weights, complete or not.
pub(super) fn has_weights(path: &Path) -> bool {
    files(path, false).is_ok_and(|files| !files.is_empty())
}

/// Bytes of the files that matter.
pub(super) fn length(path: &Path) -> Result<u64, Flaw> {
    let lengths = files(path, true)?.into_iter().map(|file| Ok(std::fs::metadata(file)?.len()));
    lengths.sum::<std::io::Result<u64>>().map_err(Flaw::Read)
}

/// Whether the weights, or the index and every shard that it names, are there and complete.
pub(super) fn check(path: &Path, limits: &Limits) -> Result<(), Flaw> {
    let parts = parts(path, limits)?;
    parts.files.keys().try_for_each(|name| {
        parts.layout.check(&path.join(name), limits).map_err(|flaw| flaw.of(name))
    })
}

/// The tensors of all files; a shard must hold what the index says.
pub(super) fn open(path: &Path, limits: &Limits) -> Result<Weights, Flaw> {
    let parts = parts(path, limits)?;
    let mut tensors = Vec::new();
    for (name, promised) in &parts.files {
        let weights = parts.layout.open(&path.join(name), limits).map_err(|flaw| flaw.of(name))?;
        let held: BTreeSet<&str> = weights.tensors.iter().map(|t| t.name.as_str()).collect();
        if let Some(missing) = promised.iter().find(|tensor| !held.contains(tensor.as_str())) {
            return Err(Flaw::new(format!(
                "has `{name}` without `{missing}`, which the index says is in it"
            )));
        }
        tensors.extend(weights.tensors);
    }
    Ok(Weights::new(tensors))
}

/// The step that the trainer's state tells.
pub(super) fn step(path: &Path, limits: &Limits) -> Result<Option<u64>, Flaw> {
    if !path.join(STATE).is_file() {
        return Ok(None);
    }
    Ok(json::<State>(path, STATE, limits)?.global_step)
}

fn parts(path: &Path, limits: &Limits) -> Result<Parts, Flaw> {
    for (alone, index, layout) in WEIGHTS {
        if path.join(alone).is_file() {
            let files = BTreeMap::from([(alone.to_owned(), BTreeSet::new())]);
            return Ok(Parts { files, layout });
        }
        if path.join(index).is_file() {
            return Ok(Parts { files: shards(path, index, limits)?, layout });
        }
    }
    match super::recognise(path) {
        Some(found) if found != super::Found::Layout(Layout::Hf) => {
            Err(Flaw::new(format!("is {found}")))
        }
        _ => Err(Flaw::new(
            "holds neither `model.safetensors` nor `pytorch_model.bin`, alone or as shards with an index: \
             incomplete or still being written",
        )),
    }
}

fn shards(
    path: &Path,
    index: &str,
    limits: &Limits,
) -> Result<BTreeMap<String, BTreeSet<String>>, Flaw> {
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (tensor, file) in json::<Index>(path, index, limits)?.weight_map {
        files.entry(file).or_default().insert(tensor);
    }
    for file in files.keys() {
        if !is_plain_name(file) {
            return Err(Flaw::new(format!(
                "has `{index}`, which names `{file}`; shards stand beside their index"
            )));
        }
        if !path.join(file).is_file() {
            return Err(Flaw::new(format!(
                "lacks `{file}`, which `{index}` names: incomplete or still being written"
            )));
        }
        // Only such files are part of the identity, and pinned.
        if !is_weights(file) {
            return Err(Flaw::new(format!(
                "has `{index}`, which names `{file}`; shards are called `model-….safetensors` or \
                 `pytorch_model-….bin`"
            )));
        }
    }
    Ok(files)
}

/// A name without any way out of the directory.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!(components.next(), Some(Component::Normal(first)) if first == name)
        && components.next().is_none()
}

fn json<T: serde::de::DeserializeOwned>(
    path: &Path,
    name: &str,
    limits: &Limits,
) -> Result<T, Flaw> {
    let file = std::fs::File::open(path.join(name))?;
    let length = file.metadata()?.len();
    flaw::within(&format!("`{name}`"), length, limits.header, "limits.header")?;
    let mut text = Vec::new();
    // Not more than was looked at, should it grow meanwhile.
    file.take(length).read_to_end(&mut text)?;
    let read = serde_json::from_slice(&text);
    read.map_err(|error| Flaw::new(format!("has `{name}`, which cannot be understood: {error}")))
}
