//! The only module that knows `serde_yaml`: text → loose types, with the place of everything.
//!
//! serde stops at the first mistake. Every field of the loose types may be absent, so the mistaken
//! node is recorded, cut out, and the rest is read again, until nothing is left to say.

use super::problem::{Problem, Problems};
use super::written::Written;
use saphyr_parser::{Event, Parser};
use serde::de::DeserializeOwned;
use serde_path_to_error::{Segment, Track};
use serde_yaml::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// More mistakes than this in one file are not worth listing.
const MOST_PROBLEMS: usize = 50;

/// A parsed file and its mistakes so far.
pub(super) struct Document {
    file: PathBuf,
    value: Value,
    places: BTreeMap<String, (usize, usize)>,
    problems: Vec<Problem>,
    /// Whether there is more that was not read.
    is_cut_short: bool,
}

/// The mistakes of a document that has been read, and where its nodes stood.
pub(super) struct Checked {
    file: PathBuf,
    places: BTreeMap<String, (usize, usize)>,
    problems: Vec<Problem>,
    is_cut_short: bool,
}

impl Document {
    pub(super) fn parse(file: &Path, text: &str) -> Result<Self, Problems> {
        let value = serde_yaml::from_str(text).map_err(|error| Problems {
            file: file.to_owned(),
            list: vec![Problem {
                place: error.location().map(|at| (at.line(), at.column())),
                path: String::new(),
                message: format!("is no valid YAML: {error}"),
            }],
        })?;
        Ok(Self {
            file: file.to_owned(),
            value,
            places: places(text),
            problems: Vec::new(),
            is_cut_short: false,
        })
    }

    /// What stands in it; before it is read.
    pub(super) fn written(&self) -> Written {
        let mut written = Written::default();
        flatten(String::new(), &self.value, &mut written.leaves);
        let policy = self.value.get("policy").cloned().unwrap_or_default();
        let policy: serde_yaml::Mapping = [(Value::from("policy"), policy)].into_iter().collect();
        // A value that was read can be written.
        written.policy = serde_yaml::to_string(&policy).unwrap_or_default();
        written
    }

    /// Reads the document, leaving out every node with a mistake.
    pub(super) fn read<T: DeserializeOwned + Default>(&mut self) -> T {
        let mut value = std::mem::take(&mut self.value);
        if value.is_null() {
            value = Value::Mapping(serde_yaml::Mapping::new());
        }
        // How often an item of a list was replaced.
        let mut replaced: BTreeMap<String, usize> = BTreeMap::new();
        while self.problems.len() < MOST_PROBLEMS {
            let mut track = Track::new();
            let tracked = serde_path_to_error::Deserializer::new(value.clone(), &mut track);
            match serde_yaml::with::singleton_map_recursive::deserialize(tracked) {
                Ok(read) => return read,
                Err(error) => {
                    let mut path: Vec<Segment> = track.path().iter().cloned().collect();
                    let message = error.to_string();
                    name_unknown_field(&mut path, &message, &value);
                    // An item that was told of is in the way yet: the next that might do, or else the whole list.
                    if let Some(count) = replaced.get_mut(&display(&path)) {
                        let is_replaced = replace(&mut value, &path, *count);
                        *count += 1;
                        match is_replaced || cut(&mut value, &path[..path.len() - 1]) {
                            true => continue,
                            false => break,
                        }
                    }
                    let given = descend(&value, &path).and_then(Value::as_str);
                    let explained = explain(&message, given);
                    self.record(&path, explained);
                    if matches!(path.last(), Some(Segment::Seq { .. })) {
                        replaced.insert(display(&path), 0);
                    }
                    if !cut(&mut value, &path) {
                        break;
                    }
                    // What held nothing but that: as a choice it would be a second mistake, and so would be one around it.
                    let mut above = &path[..path.len() - 1];
                    let holds_nothing = |value: &Value| {
                        value.as_mapping().is_some_and(serde_yaml::Mapping::is_empty)
                    };
                    while descend(&value, above).is_some_and(holds_nothing)
                        && cut(&mut value, above)
                    {
                        above = &above[..above.len() - 1];
                    }
                }
            }
        }
        self.is_cut_short = true;
        T::default()
    }

    fn record(&mut self, path: &[Segment], message: String) {
        let path = display(path);
        let place = place_of(&self.places, &path);
        self.problems.push(Problem { place, path, message });
    }

    pub(super) fn into_problems(self) -> Checked {
        let Self { file, places, problems, is_cut_short, .. } = self;
        Checked { file, places, problems, is_cut_short }
    }
}

impl Checked {
    /// Records a mistake at a path, unless one at, above or below that path is known already.
    pub(super) fn report(&mut self, path: &str, message: impl Into<String>) {
        let holds = |above: &str, below: &str| {
            below.strip_prefix(above).is_some_and(|rest| {
                rest.is_empty() || above.is_empty() || rest.starts_with(['.', '['])
            })
        };
        let is_known = |known: &Problem| holds(&known.path, path) || holds(path, &known.path);
        // What was not read is not missing.
        if self.is_cut_short || self.problems.iter().any(is_known) {
            return;
        }
        let place = place_of(&self.places, path);
        self.problems.push(Problem { place, path: path.to_owned(), message: message.into() });
    }

    /// The result, if there is no mistake.
    pub(super) fn finish<T>(mut self, result: Option<T>) -> Result<T, Problems> {
        self.problems.sort();
        if self.is_cut_short {
            let message = "there may be more mistakes; mend these first".to_owned();
            self.problems.push(Problem { place: None, path: String::new(), message });
        }
        match result {
            Some(result) if self.problems.is_empty() => Ok(result),
            _ if self.problems.is_empty() => {
                Err(Problems::of(&self.file, "BUG: refused without a reason".to_owned()))
            }
            _ => Err(Problems { file: self.file, list: self.problems }),
        }
    }
}

/// Every value that holds no others, by its path.
fn flatten(path: String, value: &Value, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Mapping(map) if !map.is_empty() => {
            for (key, value) in map {
                let key = key.as_str().map_or_else(|| text(key), str::to_owned);
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                flatten(path, value, leaves);
            }
        }
        Value::Sequence(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                flatten(format!("{path}[{index}]"), value, leaves);
            }
        }
        value => {
            leaves.insert(path, text(value));
        }
    }
}

fn text(value: &Value) -> String {
    serde_yaml::to_string(value).unwrap_or_default()
}

/// The place of a path, or of the nearest node above it.
fn place_of(places: &BTreeMap<String, (usize, usize)>, path: &str) -> Option<(usize, usize)> {
    let mut path = path;
    loop {
        if let Some(place) = places.get(path) {
            return Some(*place);
        }
        let cut = path.rfind(['.', '['])?;
        path = &path[..cut];
    }
}

/// The path of an unknown field ends at the map that holds it; its name stands in the message.
fn name_unknown_field(path: &mut Vec<Segment>, message: &str, value: &Value) {
    let Some(name) = message.strip_prefix("unknown field `").and_then(|m| m.split('`').next())
    else {
        return;
    };
    let named = matches!(path.last(), Some(Segment::Map { key }) if key == name);
    let holds_it = |path: &[Segment]| {
        descend(value, path).and_then(Value::as_mapping).is_some_and(|map| map.contains_key(name))
    };
    if named && !path.is_empty() && holds_it(&path[..path.len() - 1]) {
        return;
    }
    while !holds_it(path) && path.pop().is_some() {}
    path.push(Segment::Map { key: name.to_owned() });
}

fn descend<'a>(value: &'a Value, path: &[Segment]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        Segment::Seq { index } => value.get(*index),
        Segment::Map { key } | Segment::Enum { variant: key } => value.get(key.as_str()),
        Segment::Unknown => None,
    })
}

/// Puts something of another type in the place of an item of a list; false where nothing is left to try.
fn replace(value: &mut Value, path: &[Segment], count: usize) -> bool {
    let stand_ins = [Value::from("-"), Value::from(0), Value::from(false)];
    let Some(stand_in) = stand_ins.into_iter().nth(count) else { return false };
    let Some((Segment::Seq { index }, above)) = path.split_last() else { return false };
    let parent = descend_mut(value, above).and_then(Value::as_sequence_mut);
    let Some(item) = parent.and_then(|items| items.get_mut(*index)) else { return false };
    *item = stand_in;
    true
}

fn descend_mut<'a>(value: &'a mut Value, path: &[Segment]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        Segment::Seq { index } => value.get_mut(*index),
        Segment::Map { key } | Segment::Enum { variant: key } => value.get_mut(key.as_str()),
        Segment::Unknown => None,
    })
}

/// Removes the node at `path`; false where it cannot be found.
fn cut(value: &mut Value, path: &[Segment]) -> bool {
    let Some((last, above)) = path.split_last() else { return false };
    match (descend_mut(value, above), last) {
        (Some(Value::Mapping(map)), Segment::Map { key } | Segment::Enum { variant: key }) => {
            map.remove(key.as_str()).is_some()
        }
        // An item is emptied, not removed: the items behind it keep their indices.
        (Some(Value::Sequence(items)), Segment::Seq { index }) => match items.get_mut(*index) {
            Some(item) if !item.is_null() => {
                *item = Value::Null;
                true
            }
            _ => false,
        },
        _ => false,
    }
}

fn display(path: &[Segment]) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("[{index}]")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Segment::Unknown => {}
        }
    }
    text
}

/// serde's message, with the nearest known name where one was misspelt.
fn explain(message: &str, given: Option<&str>) -> String {
    if message == "invalid type: unit variant, expected newtype variant" {
        let name = given.unwrap_or("stop");
        return format!(
            "is a name alone; write it with what belongs to it, such as `{{{name}: {{}}}}`"
        );
    }
    // What a type is written like stands at the type (`expecting`).
    if let Some((start, form)) = message.split_once(", expected write ") {
        return format!("{start}; write {form}");
    }
    if let Some((start, form)) =
        message.split_once(", expected ").filter(|_| message.starts_with("invalid "))
    {
        let form = match form {
            "usize" | "u64" | "u32" => "a whole number of 0 or more",
            "f64" => "a number",
            "a sequence" => "a list, such as `[a, b]`",
            form if form.starts_with("struct ") => "settings by name, such as `{name: value}`",
            form => form,
        };
        return format!("{start}, expected {form}");
    }
    let misspelt = ["unknown field `", "unknown variant `"];
    if !misspelt.iter().any(|start| message.starts_with(start)) {
        return message.to_owned();
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let Some(wrong) = names.next() else { return message.to_owned() };
    let near = names
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3)
        .min();
    match near {
        Some((_, name)) => format!("{message}; did you mean `{name}`?"),
        None => message.to_owned(),
    }
}

/// Line and column of every node, by path.
fn places(text: &str) -> BTreeMap<String, (usize, usize)> {
    /// An open collection: its path, and the next index or the key that waits for its value.
    enum Open {
        Sequence(String, usize),
        Mapping(String, Option<String>),
    }
    let mut places = BTreeMap::new();
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        let place = (span.start.line(), span.start.col() + 1);
        let is_node = matches!(
            event,
            Event::Scalar(..)
                | Event::Alias(..)
                | Event::SequenceStart(..)
                | Event::MappingStart(..)
        );
        if !is_node {
            if matches!(event, Event::SequenceEnd | Event::MappingEnd) {
                open.pop();
            }
            continue;
        }
        let path = match open.last_mut() {
            None => String::new(),
            Some(Open::Sequence(path, next)) => {
                *next += 1;
                format!("{path}[{}]", *next - 1)
            }
            Some(Open::Mapping(path, key)) => match (key.take(), &event) {
                (Some(key), _) if path.is_empty() => key,
                (Some(key), _) => format!("{path}.{key}"),
                (None, Event::Scalar(name, ..)) => {
                    let child =
                        if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
                    *key = Some(name.to_string());
                    // A key is where a reader looks for a mistake.
                    places.insert(child, place);
                    continue;
                }
                (None, _) => continue,
            },
        };
        places.entry(path.clone()).or_insert(place);
        match event {
            Event::SequenceStart(..) => open.push(Open::Sequence(path, 0)),
            Event::MappingStart(..) => open.push(Open::Mapping(path, None)),
            _ => {}
        }
    }
    places
}
