//! Copies a checkpoint into a program by name: parameters and buffers (DESIGN section 4.1).
//!
//! Everything is checked before the first tensor is copied, so a failure never leaves a
//! half-updated network.

use super::probe::view_to_tensor;
use super::{Context, NetworkError, Program, first_lines};
use safetensors::SafeTensors;
use std::collections::BTreeSet;
use std::path::Path;
use tch::Tensor;

/// Wrappers that put their name into the names of parameters, anywhere.
const WRAPPERS: [&str; 3] = ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."];
/// What to ask where a checkpoint does not fit.
const OF_WHICH: &str = "is it of the network that the program was exported from?";
/// Names listed in a message before it only counts.
const NAMES_SHOWN: usize = 3;

/// Copies the weights of a checkpoint file into `program`; gives the hash of the file's bytes.
/// `named` is the file that messages speak of.
///
/// # Errors
/// A damaged file, a missing name, a wrong shape or type: the program is unchanged.
pub fn load(program: &Program, file: &Path, named: &Path) -> Result<blake3::Hash, NetworkError> {
    let refuse = |message: String| NetworkError::Checkpoint { path: named.to_owned(), message };
    // Read, not mapped: a writer that cuts the file short meanwhile gives an error, not a crash.
    let bytes = std::fs::read(file).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|error| refuse(format!("is no complete safetensors file: {error}")))?;
    let sources = collect(program, &tensors).map_err(refuse)?;
    tch::no_grad(|| {
        for ((name, parameter), source) in program.parameters().iter().zip(sources) {
            let mut parameter = parameter.shallow_clone();
            if let Some(source) = source {
                parameter.f_copy_(&source).context(|| format!("copying `{name}`"))?;
            }
        }
        Ok(())
    })?;
    Ok(blake3::hash(&bytes))
}

/// The checkpoint's tensor for each parameter, checked; nothing for a name that shares its storage
/// with another one that the checkpoint holds.
fn collect(program: &Program, tensors: &SafeTensors<'_>) -> Result<Vec<Option<Tensor>>, String> {
    let stored: Vec<(String, &str)> =
        tensors.names().into_iter().map(|name| (unwrapped(name), name)).collect();
    let prefix = find_prefix(program, &stored)?;
    let mut sources = Vec::with_capacity(program.parameters().len());
    for (name, parameter) in program.parameters() {
        let wanted = format!("{prefix}{name}");
        let Some((_, original)) = stored.iter().find(|(stored, _)| *stored == wanted) else {
            // find_prefix has seen that a tied name stands in for it.
            sources.push(None);
            continue;
        };
        let view = tensors.tensor(original).map_err(|error| error.to_string())?;
        let tensor =
            view_to_tensor(&view).map_err(|message| format!("has `{original}` {message}"))?;
        check(original, parameter, &tensor)?;
        sources.push(Some(tensor));
    }
    refuse_torn_ties(program, &sources)?;
    Ok(sources)
}

fn unwrapped(name: &str) -> String {
    WRAPPERS.iter().fold(name.to_owned(), |name, wrapper| name.replace(wrapper, ""))
}

/// The one prefix under which every wanted name (or one tied to it) is stored.
fn find_prefix(program: &Program, stored: &[(String, &str)]) -> Result<String, String> {
    let names: BTreeSet<&str> = stored.iter().map(|(name, _)| name.as_str()).collect();
    let Some((first, _)) = program.parameters().first() else { return Ok(String::new()) };
    let candidates: BTreeSet<&str> =
        names.iter().filter_map(|name| name.strip_suffix(first.as_str())).collect();
    let missing = |prefix: &str| -> Vec<String> {
        let is_stored = |name: &str| names.contains(format!("{prefix}{name}").as_str());
        let tied = |tensor: &Tensor| {
            program.parameters().iter().any(|(name, other)| {
                other.data_ptr() == tensor.data_ptr() && tensor.numel() > 0 && is_stored(name)
            })
        };
        let parameters = program.parameters().iter();
        let absent = parameters.filter(|(name, tensor)| !is_stored(name) && !tied(tensor));
        absent.map(|(name, _)| name.clone()).collect()
    };
    let complete: Vec<&str> =
        candidates.iter().copied().filter(|p| missing(p).is_empty()).collect();
    match complete[..] {
        [prefix] => Ok(prefix.to_owned()),
        [] => {
            let nearest = candidates.iter().map(|prefix| missing(prefix)).min_by_key(Vec::len);
            Err(describe_missing(&nearest.unwrap_or_else(|| missing(""))))
        }
        [first, second, ..] => Err(format!(
            "holds the whole network more than once, as `{first}…` and as `{second}…`; save one of them"
        )),
    }
}

fn describe_missing(missing: &[String]) -> String {
    let shown: Vec<_> = missing.iter().take(NAMES_SHOWN).map(|name| format!("`{name}`")).collect();
    let more = missing.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("lacks {}{more}; {OF_WHICH}", shown.join(", "))
}

fn check(name: &str, parameter: &Tensor, stored: &Tensor) -> Result<(), String> {
    if parameter.size() != stored.size() {
        return Err(format!(
            "has `{name}` of shape {:?}, but the program wants {:?}; {OF_WHICH}",
            stored.size(),
            parameter.size()
        ));
    }
    let floating = |tensor: &Tensor| tensor.is_floating_point();
    if floating(parameter) != floating(stored) {
        return Err(format!(
            "has `{name}` of type {:?}, but the program wants {:?}; {OF_WHICH}",
            stored.kind(),
            parameter.kind()
        ));
    }
    Ok(())
}

/// Names that share storage in the program must be stored alike.
fn refuse_torn_ties(program: &Program, sources: &[Option<Tensor>]) -> Result<(), String> {
    let pairs = || program.parameters().iter().zip(sources);
    for (index, ((name, parameter), source)) in pairs().enumerate() {
        let Some(source) = source else { continue };
        for ((other_name, other), other_source) in pairs().skip(index + 1) {
            let tied = parameter.numel() > 0 && parameter.data_ptr() == other.data_ptr();
            let Some(other_source) = other_source.as_ref().filter(|_| tied) else { continue };
            // NaN in both is the same NaN: diverged weights are no torn ties.
            let clean = |tensor: &Tensor| match tensor.is_floating_point() {
                true => tensor.nan_to_num(0.0, None, None),
                false => tensor.shallow_clone(),
            };
            let equal = clean(source).f_equal(&clean(other_source));
            if !equal.map_err(|error| first_lines(&error))? {
                return Err(format!(
                    "has different tensors for `{name}` and `{other_name}`, which the program ties"
                ));
            }
        }
    }
    Ok(())
}
