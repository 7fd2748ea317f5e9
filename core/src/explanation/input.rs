//! What a sample looks like, from the probe file: its pixels, or its words.

use super::Variable;
use crate::evaluation::probe::{WORDS, digest};
use crate::evaluation::{Assignment, Variables};
use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a probe file is not used; a sample is explained without it.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// It is not there, or no probe.
    #[error("the probe file `{path}` {message}, so neither pixels nor words are shown")]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// It is another than that of the run.
    #[error(
        "the probe file `{path}` is not the one that the run was begun with, so neither pixels nor words are \
         shown; put that one back to see them"
    )]
    Another {
        /// The file.
        path: PathBuf,
    },
}

/// What a sample looks like.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Input {
    /// An image of 1 or 3 channels.
    Image(Image),
    /// A text, without its padding.
    Sentence(Vec<Token>),
    /// Nothing that can be shown.
    #[default]
    Other,
}

/// The pixels of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Pixels across and down.
    pub size: [usize; 2],
    /// 1 or 3.
    pub channels: usize,
    /// Row by row, channels last: 0 is the least value of the sample, 255 the largest.
    pub pixels: Vec<u8>,
    /// Where variables are patches: how many patches a side.
    pub grid: Option<usize>,
}

/// One position of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its word, else its id.
    pub text: String,
    /// The index of its variable, where it belongs to one.
    pub variable: Option<usize>,
}

/// What stands at the positions of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    pub(super) ids: Option<Vec<i64>>,
    /// May be shorter where padding follows.
    pub(super) words: Option<Vec<String>>,
    /// Whether a position is no padding.
    pub(super) there: Vec<bool>,
}

impl Sequence {
    pub(super) fn length(&self) -> usize {
        self.there.len()
    }

    pub(super) fn word(&self, position: usize) -> Option<String> {
        Some(printable(self.words.as_ref()?.get(position)?))
    }

    pub(super) fn id(&self, position: usize) -> Option<i64> {
        self.ids.as_ref()?.get(position).copied()
    }

    /// The positions that are no padding, where all of them have a word or an id.
    fn tokens(&self, variables: &[i64]) -> Option<Vec<Token>> {
        let token = |position: usize| {
            let text = self.word(position).or_else(|| self.id(position).map(|id| format!("#{id}")));
            let variable = variables.get(position).and_then(|&v| usize::try_from(v).ok());
            Some(Token { text: text?, variable })
        };
        (0..self.length()).filter(|&position| self.there[position]).map(token).collect()
    }
}

/// A word as it can be shown: what a terminal or XML would not take is replaced.
fn printable(word: &str) -> String {
    let shown = |c: char| {
        if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { c }
    };
    word.trim().chars().map(shown).collect()
}

/// A probe file that is the one of the run.
pub struct ProbeFile {
    bytes: Vec<u8>,
}

impl ProbeFile {
    /// Reads a probe file of `samples` samples that has the digest of the run's fact `probe file`.
    ///
    /// # Errors
    /// A file that is not there, is no probe, or is another.
    pub fn open(path: &Path, fact: Option<&str>, samples: usize) -> Result<Self, Unreadable> {
        let bad = |message: String| Unreadable::Bad { path: path.to_owned(), message };
        let bytes =
            std::fs::read(path).map_err(|error| bad(format!("cannot be read ({error})")))?;
        if fact != Some(digest(&bytes, samples as u64).to_hex().as_str()) {
            return Err(Unreadable::Another { path: path.to_owned() });
        }
        SafeTensors::deserialize(&bytes)
            .map_err(|error| bad(format!("is no safetensors file ({error})")))?;
        Ok(Self { bytes })
    }

    /// The variables of a sample, and what it looks like.
    pub fn sample(&self, sample: usize, variables: &Variables) -> (Vec<Variable>, Input) {
        let unknown = || (Variable::all(variables, sample, None), Input::Other);
        let Ok((_, about)) = SafeTensors::read_metadata(&self.bytes) else { return unknown() };
        let Ok(file) = SafeTensors::deserialize(&self.bytes) else { return unknown() };
        let words = about.metadata().as_ref().and_then(|metadata| metadata.get(WORDS));
        let sequence = sequence(&file, words.map(String::as_str), sample);
        let named = Variable::all(variables, sample, sequence.as_ref());
        let text = match &variables.assignment {
            Assignment::Positions(all) => sequence.zip(all.get(sample)),
            _ => None,
        };
        let text = text.filter(|(sequence, row)| sequence.length() == row.len());
        let text = text.and_then(|(sequence, row)| sequence.tokens(row));
        let input = match text {
            Some(tokens) => Input::Sentence(tokens),
            None => image(&file, sample, variables).map_or(Input::Other, Input::Image),
        };
        (named, input)
    }
}

/// Positions are those of token ids [P, L], or of features [P, L, D].
fn sequence(file: &SafeTensors<'_>, words: Option<&str>, sample: usize) -> Option<Sequence> {
    let inputs = file.tensor("inputs").ok()?;
    let is_float = matches!(inputs.dtype(), Dtype::F32 | Dtype::F64);
    let length = match *inputs.shape() {
        [_, length] if !is_float => length,
        [_, length, _] if is_float => length,
        _ => return None,
    };
    let row = |name: &str| {
        let tensor =
            file.tensor(name).ok().filter(|tensor| tensor.shape().get(1) == Some(&length))?;
        let is_flat = tensor.shape().len() == 2;
        let numbers = numbers(&tensor, sample).filter(|_| is_flat)?;
        Some(numbers.into_iter().map(|number| number as i64).collect::<Vec<_>>())
    };
    let there = row("attention_mask").map(|mask| mask.iter().map(|&there| there != 0).collect());
    let words: Option<Vec<Vec<String>>> = words.and_then(|text| serde_json::from_str(text).ok());
    Some(Sequence {
        ids: if is_float { None } else { row("inputs") },
        words: words.and_then(|words| words.into_iter().nth(sample)),
        there: there.unwrap_or_else(|| vec![true; length]),
    })
}

fn image(file: &SafeTensors<'_>, sample: usize, variables: &Variables) -> Option<Image> {
    let inputs = file.tensor("inputs").ok()?;
    let [_, channels @ (1 | 3), height, width] = *inputs.shape() else { return None };
    let values = numbers(&inputs, sample)?;
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let range = if high > low { high - low } else { 1.0 };
    let plane = height * width;
    let level = |value: f64| (255.0 * (value - low) / range).round() as u8;
    let pixels = (0..plane).flat_map(|at| (0..channels).map(move |channel| channel * plane + at));
    let pixels = pixels.map(|at| values.get(at).map_or(0, |&value| level(value))).collect();
    let grid = match variables.assignment {
        Assignment::Patches { grid, .. } => Some(grid),
        _ => None,
    };
    Some(Image { size: [width, height], channels, pixels, grid })
}

/// The numbers of one sample, in the types that probes have.
fn numbers(tensor: &safetensors::tensor::TensorView<'_>, sample: usize) -> Option<Vec<f64>> {
    let [samples, rest @ ..] = tensor.shape() else { return None };
    let count: usize = rest.iter().product();
    let size = match tensor.dtype() {
        Dtype::F64 | Dtype::I64 => 8,
        Dtype::F32 | Dtype::I32 => 4,
        Dtype::I16 => 2,
        Dtype::I8 | Dtype::U8 | Dtype::BOOL => 1,
        _ => return None,
    };
    if sample >= *samples || count == 0 {
        return None;
    }
    let bytes = tensor.data().get(sample * count * size..(sample + 1) * count * size)?;
    let wide = || bytes.as_chunks::<8>().0.iter();
    let middle = || bytes.as_chunks::<4>().0.iter();
    Some(match tensor.dtype() {
        Dtype::F64 => wide().map(|bytes| f64::from_le_bytes(*bytes)).collect(),
        Dtype::I64 => wide().map(|bytes| i64::from_le_bytes(*bytes) as f64).collect(),
        Dtype::F32 => middle().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect(),
        Dtype::I32 => middle().map(|bytes| f64::from(i32::from_le_bytes(*bytes))).collect(),
        Dtype::I16 => {
            let pairs = bytes.as_chunks::<2>().0.iter();
            pairs.map(|bytes| f64::from(i16::from_le_bytes(*bytes))).collect()
        }
        Dtype::I8 => bytes.iter().map(|&byte| f64::from(byte as i8)).collect(),
        _ => bytes.iter().map(|&byte| f64::from(byte)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;
    use std::collections::HashMap;

    type Named<'a> = (&'a str, Dtype, Vec<usize>, Vec<u8>);

    /// A probe file and its digest with two samples.
    fn probe(tensors: &[Named<'_>], words: Option<&str>) -> (tempfile::TempDir, PathBuf, String) {
        let views = tensors.iter().map(|(name, dtype, shape, data)| {
            (*name, TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        let about = words.map(|words| HashMap::from([(WORDS.to_owned(), words.to_owned())]));
        let bytes = safetensors::serialize(views, about).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("probe.safetensors");
        std::fs::write(&path, &bytes).unwrap();
        (directory, path, digest(&bytes, 2).to_hex().to_string())
    }

    fn look(path: &Path, digest: &str, sample: usize, of: &Variables) -> (Vec<Variable>, Input) {
        ProbeFile::open(path, Some(digest), 2).unwrap().sample(sample, of)
    }

    fn ids(name: &str, rows: &[i64]) -> (String, Dtype, Vec<usize>, Vec<u8>) {
        let bytes = rows.iter().flat_map(|id| id.to_le_bytes()).collect();
        (name.to_owned(), Dtype::I64, vec![2, rows.len() / 2], bytes)
    }

    fn text_probe(words: Option<&str>) -> (tempfile::TempDir, PathBuf, String) {
        let (inputs, mask) = (
            ids("inputs", &[1, 5, 2, 0, 1, 6, 7, 2]),
            ids("attention_mask", &[1, 1, 1, 0, 1, 1, 1, 1]),
        );
        let named = [&inputs, &mask].map(|(n, d, s, b)| (n.as_str(), *d, s.clone(), b.clone()));
        probe(&named, words)
    }

    fn in_text() -> Variables {
        let rows = vec![vec![0, 1, -1, -1], vec![-1, 1, 0, -1]];
        Variables { count: 2, classes: vec![0, 0], assignment: Assignment::Positions(rows) }
    }

    fn sentence(words: Option<&str>, sample: usize) -> Vec<(String, Option<usize>)> {
        let (_kept, path, digest) = text_probe(words);
        let (_, input) = look(&path, &digest, sample, &in_text());
        let Input::Sentence(tokens) = input else { panic!("{input:?}") };
        tokens.into_iter().map(|token| (token.text, token.variable)).collect()
    }

    #[test]
    fn a_text_is_its_words_without_padding_else_its_ids() {
        let words = r#"[["a", "b\u0007 ", "c"], ["x", "y", "z", "."]]"#;
        let of = |texts: [&str; 3]| {
            let variables = [Some(0), Some(1), None];
            texts.map(str::to_owned).into_iter().zip(variables).collect::<Vec<_>>()
        };
        assert_eq!(sentence(Some(words), 0), of(["a", "b\u{fffd}", "c"]));
        assert_eq!(sentence(None, 0), of(["#1", "#5", "#2"]));
        assert_eq!(sentence(Some("no JSON"), 0), of(["#1", "#5", "#2"]));
        assert_eq!(sentence(Some(words), 1)[2], ("z".to_owned(), Some(0)));
    }

    #[test]
    fn an_image_is_scaled_between_its_least_and_largest_value() {
        // Sample 1 of [2, 3, 1, 2]: channels first in the file, last in the image.
        let values: Vec<f32> = (0..12).map(|i| i as f32 * 10.0).collect();
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let (_kept, path, digest) = probe(&[("inputs", Dtype::F32, vec![2, 3, 1, 2], bytes)], None);
        let chosen = vec![vec![0, 3], vec![1, 2]];
        let variables = Variables {
            count: 2,
            classes: vec![0, 0],
            assignment: Assignment::Patches { grid: 2, chosen },
        };
        let (named, input) = look(&path, &digest, 1, &variables);
        let pixels = vec![0, 102, 204, 51, 153, 255];
        assert_eq!(input, Input::Image(Image { size: [2, 1], channels: 3, pixels, grid: Some(2) }));
        assert_eq!(named[1].description(), "row 2, column 1");
    }

    #[test]
    fn a_constant_image_has_pixels_too() {
        let bytes = [7.0f32; 8].iter().flat_map(|value| value.to_le_bytes()).collect();
        let (_kept, path, digest) = probe(&[("inputs", Dtype::F32, vec![2, 1, 2, 2], bytes)], None);
        let variables =
            Variables { count: 2, classes: vec![0, 0], assignment: Assignment::Columns };
        let (_, input) = look(&path, &digest, 0, &variables);
        let pixels = vec![0; 4];
        assert_eq!(input, Input::Image(Image { size: [2, 2], channels: 1, pixels, grid: None }));
    }

    #[test]
    fn another_file_and_none_are_told_apart() {
        let (kept, path, digest) = text_probe(None);
        let refusal = |path: &Path, fact: &str, samples| {
            ProbeFile::open(path, Some(fact), samples).err().unwrap().to_string()
        };
        assert!(refusal(&path, "00", 2).contains("is not the one that the run was begun with"));
        assert!(refusal(&path, &digest, 1).contains("is not the one"), "other samples are taken");
        assert!(refusal(&kept.path().join("none"), &digest, 2).contains("cannot be read"));
    }
}
