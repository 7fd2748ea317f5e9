//! Copies a checkpoint into a program by name: parameters and buffers (DESIGN section 4.1).
//!
//! Names, shapes and types are checked before any data is read, so a checkpoint cannot ask for more memory
//! than the program has; all data is read before the first tensor is copied, so a failure never
//! leaves a half-updated network.

use super::probe::{kind, to_tensor};
use super::{Context, NetworkError, Program, first_lines};
use crate::layout::{Flaw, Reading, Stored, Weights};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tch::{Kind, Tensor};

/// Wrappers that put their name into the names of parameters, anywhere.
const WRAPPERS: [&str; 3] = ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."];
/// What to ask where a checkpoint does not fit.
const OF_WHICH: &str = "is it of the network that the program was exported from?";
/// Names listed in a message before it only counts.
const NAMES_SHOWN: usize = 3;
/// Prefixes that are looked at to name what is missing.
const MOST_PREFIXES: usize = 64;

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// Hash of everything that was copied.
    pub digest: blake3::Hash,
    /// Tensors that stand among the weights and that the program does not know.
    pub unused: Vec<String>,
}

/// The stored tensors by their names without wrappers.
type ByName<'a> = BTreeMap<String, &'a Stored>;

/// Copies the weights of a checkpoint into `program`. `named` is the path that messages speak of.
///
/// # Errors
/// A damaged checkpoint, a missing name, a wrong shape or type: the program is unchanged.
pub fn load(
    program: &Program,
    reading: &Reading,
    file: &Path,
    named: &Path,
) -> Result<Loaded, NetworkError> {
    let refuse_flaw = |flaw: Flaw| NetworkError::Checkpoint {
        path: named.to_owned(),
        message: flaw.to_string(),
        is_passing: matches!(flaw, Flaw::Read(_)),
    };
    let refuse = |message: String| refuse_flaw(Flaw::new(message));
    let weights = reading.layout.open(file, &reading.limits);
    let weights = weights.map_err(refuse_flaw)?;
    let stored = by_name(&weights).map_err(refuse)?;
    let prefix = find_prefix(program, &stored, reading.weights.as_deref()).map_err(refuse)?;
    let chosen = choose(program, &stored, &prefix).map_err(refuse)?;
    let (sources, digest) = read(program, &chosen).map_err(refuse_flaw)?;
    refuse_torn_ties(program, &sources).map_err(refuse)?;
    copy(program, &sources)?;
    Ok(Loaded { digest, unused: unused(program, &stored, &prefix) })
}

fn by_name(weights: &Weights) -> Result<ByName<'_>, String> {
    let mut stored = ByName::new();
    for tensor in &weights.tensors {
        if let Some(other) = stored.insert(unwrapped(&tensor.name), tensor) {
            return Err(format!(
                "has `{}` and `{}`, which are one name without wrappers; save one of them",
                other.name, tensor.name
            ));
        }
    }
    Ok(stored)
}

fn unwrapped(name: &str) -> String {
    WRAPPERS.iter().fold(name.to_owned(), |name, wrapper| name.replace(wrapper, ""))
}

/// The names of each tensor of the program: tied ones have several, of which a checkpoint needs one.
fn groups(program: &Program) -> Vec<Vec<&str>> {
    let mut groups: BTreeMap<(usize, usize), Vec<&str>> = BTreeMap::new();
    for (index, (name, tensor)) in program.parameters().iter().enumerate() {
        // Empty tensors share no storage.
        let key = match tensor.numel() {
            0 => (0, index),
            _ => (tensor.data_ptr() as usize, 0),
        };
        groups.entry(key).or_default().push(name);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|names| program.parameters().iter().position(|(name, _)| name == names[0]));
    groups
}

/// The one prefix under which every tensor of the program is stored.
fn find_prefix(
    program: &Program,
    stored: &ByName<'_>,
    key: Option<&str>,
) -> Result<String, String> {
    let groups = groups(program);
    let Some(first) = groups.first() else { return Ok(String::new()) };
    let candidates: BTreeSet<&str> = stored
        .keys()
        .flat_map(|name| first.iter().filter_map(|wanted| name.strip_suffix(wanted)))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .collect();
    let is_stored = |prefix: &str, names: &Vec<&str>| {
        names.iter().any(|name| stored.contains_key(&format!("{prefix}{name}")))
    };
    let is_complete = |prefix: &&str| groups.iter().all(|names| is_stored(prefix, names));
    let complete: Vec<&str> = candidates.iter().copied().filter(is_complete).collect();
    if complete.is_empty() {
        let missing = |prefix: &str| -> Vec<&str> {
            let absent = groups.iter().filter(|names| !is_stored(prefix, names));
            absent.map(|names| names[0]).collect()
        };
        let nearest = candidates.iter().take(MOST_PREFIXES).map(|prefix| missing(prefix));
        let nearest = nearest.min_by_key(Vec::len).unwrap_or_else(|| missing(""));
        return Err(describe_missing(&nearest));
    }
    one_of(&complete, key).map(str::to_owned)
}

/// The prefix that `weights` of the configuration chooses; without it there must be one.
fn one_of<'a>(complete: &[&'a str], key: Option<&str>) -> Result<&'a str, String> {
    let shown = |prefixes: &[&str]| {
        let shown = prefixes.iter().take(NAMES_SHOWN).map(|prefix| format!("`{prefix}…`"));
        shown.collect::<Vec<_>>().join(" and as ")
    };
    let Some(key) = key else {
        return match complete {
            [prefix] => Ok(prefix),
            _ => Err(format!(
                "holds the whole network more than once, as {}; choose one with `weights`, such as \
                 `weights: {}`",
                shown(complete),
                complete
                    .iter()
                    .find(|prefix| !prefix.is_empty())
                    .map_or("", |p| p.trim_end_matches('.'))
            )),
        };
    };
    let exact = if key.is_empty() { String::new() } else { format!("{key}.") };
    if let Some(prefix) = complete.iter().find(|prefix| **prefix == exact) {
        return Ok(prefix);
    }
    let within = format!(".{exact}");
    let holds = |prefix: &&&str| !key.is_empty() && format!(".{prefix}").contains(&within);
    let found: Vec<&str> = complete.iter().filter(holds).copied().collect();
    match found[..] {
        [prefix] => Ok(prefix),
        [] => Err(format!(
            "holds no whole network under `weights: {key}`, but one as {}",
            shown(complete)
        )),
        _ => Err(format!("holds the whole network under `weights: {key}` as {}", shown(&found))),
    }
}

fn describe_missing(missing: &[&str]) -> String {
    format!("lacks {}; {OF_WHICH}", shortened(missing))
}

/// The first names, and the number of the others.
pub(super) fn shortened<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<_> =
        names.iter().take(NAMES_SHOWN).map(|name| format!("`{}`", name.as_ref())).collect();
    let more = names.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// The stored tensor for each parameter, checked; nothing where a name that is tied to it stands in.
fn choose<'a>(
    program: &Program,
    stored: &ByName<'a>,
    prefix: &str,
) -> Result<Vec<Option<&'a Stored>>, String> {
    let find = |(name, parameter): &(String, Tensor)| {
        let found = stored.get(&format!("{prefix}{name}")).copied();
        found.map(|found| check(parameter, found).map(|()| found)).transpose()
    };
    program.parameters().iter().map(find).collect()
}

fn check(parameter: &Tensor, stored: &Stored) -> Result<(), String> {
    let Stored { name, dtype, shape, .. } = stored;
    let same =
        parameter.size().iter().copied().map(usize::try_from).eq(shape.iter().copied().map(Ok));
    if !same {
        return Err(format!(
            "has `{name}` of shape {shape:?}, but the program wants {:?}; {OF_WHICH}",
            parameter.size()
        ));
    }
    let kind = kind(*dtype).map_err(|message| format!("has `{name}` {message}"))?;
    let is_float = matches!(kind, Kind::Double | Kind::Float | Kind::Half | Kind::BFloat16);
    if parameter.is_floating_point() != is_float {
        return Err(format!(
            "has `{name}` of type {kind:?}, but the program wants {:?}; {OF_WHICH}",
            parameter.kind()
        ));
    }
    Ok(())
}

/// What is copied, parameter by parameter.
type Sources = Vec<Option<Tensor>>;

fn read(program: &Program, chosen: &[Option<&Stored>]) -> Result<(Sources, blake3::Hash), Flaw> {
    let mut hasher = blake3::Hasher::new();
    let mut sources = Vec::with_capacity(chosen.len());
    for ((name, _), stored) in program.parameters().iter().zip(chosen) {
        let Some(stored) = stored else {
            sources.push(None);
            continue;
        };
        let Stored { dtype, shape, .. } = stored;
        let bytes = stored.read()?;
        hasher.update(format!("{name} {dtype:?} {shape:?} ").as_bytes()).update(&bytes);
        let tensor = to_tensor(*dtype, shape, &bytes);
        let refuse = |message| Flaw::new(format!("has `{}` {message}", stored.name));
        sources.push(Some(tensor.map_err(refuse)?));
    }
    Ok((sources, hasher.finalize()))
}

fn copy(program: &Program, sources: &Sources) -> Result<(), NetworkError> {
    tch::no_grad(|| {
        for ((name, parameter), source) in program.parameters().iter().zip(sources) {
            let mut parameter = parameter.shallow_clone();
            if let Some(source) = source {
                parameter.f_copy_(source).context(|| format!("copying `{name}`"))?;
            }
        }
        Ok(())
    })
}

/// Tensors under the prefix that nothing was copied from.
fn unused(program: &Program, stored: &ByName<'_>, prefix: &str) -> Vec<String> {
    let wanted: BTreeSet<&str> =
        program.parameters().iter().map(|(name, _)| name.as_str()).collect();
    let own = stored.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
    own.filter(|(name, _)| !wanted.contains(name)).map(|(_, tensor)| tensor.name.clone()).collect()
}

/// Names that share storage in the program must be stored alike.
fn refuse_torn_ties(program: &Program, sources: &Sources) -> Result<(), String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_chooses_among_whole_networks() {
        let complete = ["ema.module.", "model.", "state_dict.model."];
        assert_eq!(one_of(&complete, Some("ema")), Ok("ema.module."));
        assert_eq!(one_of(&complete, Some("model")), Ok("model."), "the exact one comes first");
        assert_eq!(one_of(&complete, Some("state_dict")), Ok("state_dict.model."));
        assert_eq!(one_of(&["", "ema."], Some("")), Ok(""));
        assert_eq!(one_of(&["model."], None), Ok("model."));
        let refused = |key| one_of(&complete, key).expect_err("refused");
        assert!(refused(None).contains("such as `weights: ema.module`"), "{}", refused(None));
        assert!(refused(Some("mode")).contains("no whole network under `weights: mode`"));
        assert!(refused(Some("")).contains("no whole network"));
    }
}
