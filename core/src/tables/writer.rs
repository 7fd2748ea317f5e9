//! Interactions into a file, whose header is known before the first of them is.

use crate::files::Replacement;
use crate::sparsify::{Problem, Solution, Status};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::io::{Error, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The data start at a multiple of this, as the format's own library has it.
const ALIGNMENT: usize = 8;

/// A tensor of the file: a row a table.
struct Column {
    name: &'static str,
    dtype: Dtype,
    /// Whether a row has 2^n entries; one otherwise.
    is_wide: bool,
    append_row: fn(&Problem, &Solution, &mut Vec<u8>),
}

const fn number(name: &'static str, append_row: fn(&Problem, &Solution, &mut Vec<u8>)) -> Column {
    Column { name, dtype: Dtype::F64, is_wide: false, append_row }
}

const fn table(name: &'static str, append_row: fn(&Problem, &Solution, &mut Vec<u8>)) -> Column {
    Column { name, dtype: Dtype::F64, is_wide: true, append_row }
}

/// In the order in which the format's own library sorts them: by type, then by name.
const COLUMNS: [Column; 8] = [
    Column {
        name: "iterations",
        dtype: Dtype::I64,
        is_wide: false,
        append_row: |_, solution, bytes| {
            bytes.extend((solution.iterations as i64).to_le_bytes());
        },
    },
    table("and", |_, solution, bytes| append(bytes, &solution.effects.and)),
    number("bound", |_, solution, bytes| append(bytes, &[solution.certificate.bound])),
    number("gap", |_, solution, bytes| append(bytes, &[solution.certificate.gap()])),
    table("noise", |problem, solution, bytes| {
        append(bytes, &solution.effects.noise(&problem.values));
    }),
    number("objective", |_, solution, bytes| append(bytes, &[solution.certificate.objective])),
    table("or", |_, solution, bytes| append(bytes, &solution.effects.or)),
    Column {
        name: "status",
        dtype: Dtype::U8,
        is_wide: false,
        append_row: |_, solution, bytes| bytes.push(code(solution.status)),
    },
];

/// How the file says what is proven.
fn code(status: Status) -> u8 {
    match status {
        Status::GapNotReached => 0,
        Status::Certified => 1,
        Status::Exact => 2,
    }
}

fn append(bytes: &mut Vec<u8>, numbers: &[f64]) {
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

/// Writes `and`, `or`, `noise` [B, 2^n], `objective`, `bound`, `gap` (float64), `iterations` (int64) and
/// `status` (uint8: 2 exact, 1 certified, 0 gap not reached) [B], block after block. Dropped before [`Writer::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    replacement: Replacement,
    /// Where each column starts in the file.
    starts: Vec<u64>,
    samples: usize,
    /// Tables that are written.
    written: usize,
}

impl Writer {
    /// Starts a file beside `path` for the interactions of `samples` tables of `variables` variables.
    ///
    /// # Errors
    /// A file that cannot be made, or one that would be too large for any file system.
    pub fn create(path: &Path, samples: usize, variables: usize) -> Result<Self> {
        let (header, starts) = plan(samples, 1 << variables)?;
        let replacement = Replacement::beside(path)?;
        replacement.file().write_all_at(&header, 0)?;
        Ok(Self { replacement, starts, samples, written: 0 })
    }

    /// Where the unfinished file lies.
    pub fn temporary(&self) -> &Path {
        self.replacement.temporary()
    }

    /// Writes the answers to the next tables.
    ///
    /// # Errors
    /// A file that cannot be written, or more tables than were announced.
    pub fn write(&mut self, problems: &[Problem], solutions: &[Solution]) -> Result<()> {
        let written = self.written + solutions.len();
        if problems.len() != solutions.len() || written > self.samples {
            return Err(Error::other("there are more answers than tables"));
        }
        let mut bytes = Vec::new();
        for (column, start) in COLUMNS.iter().zip(&self.starts) {
            bytes.clear();
            for (problem, solution) in problems.iter().zip(solutions) {
                (column.append_row)(problem, solution, &mut bytes);
            }
            let row = bytes.len() / solutions.len().max(1);
            self.replacement.file().write_all_at(&bytes, start + (self.written * row) as u64)?;
        }
        self.written = written;
        Ok(())
    }

    /// Gives the file its name, in place of what has it.
    ///
    /// # Errors
    /// A file that cannot be synchronised or renamed, or tables that are missing.
    pub fn finish(self) -> Result<()> {
        if self.written != self.samples {
            let Self { written, samples, .. } = self;
            return Err(Error::other(format!("{written} of {samples} tables are written")));
        }
        self.replacement.commit()
    }
}

/// The head of the file, and where in the file each column starts.
fn plan(samples: usize, length: usize) -> Result<(Vec<u8>, Vec<u64>)> {
    let too_large = || Error::other("the file would be too large");
    let mut tensors = Vec::new();
    let mut end = 0usize;
    for Column { name, dtype, is_wide, .. } in &COLUMNS {
        let shape = if *is_wide { vec![samples, length] } else { vec![samples] };
        let bytes =
            shape.iter().try_fold(dtype.bitsize() / 8, |size, &axis| size.checked_mul(axis));
        let start = end;
        end = bytes.and_then(|bytes| end.checked_add(bytes)).ok_or_else(too_large)?;
        let info = TensorInfo { dtype: *dtype, shape, data_offsets: (start, end) };
        tensors.push(((*name).to_owned(), info));
    }
    let offsets: Vec<u64> = tensors.iter().map(|(_, info)| info.data_offsets.0 as u64).collect();
    let header = Metadata::new(None, tensors).map_err(Error::other)?;
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    let mut head = (header.len() as u64).to_le_bytes().to_vec();
    head.append(&mut header);
    let data = head.len() as u64;
    i64::try_from(end).ok().and_then(|end| end.checked_add_unsigned(data)).ok_or_else(too_large)?;
    Ok((head, offsets.into_iter().map(|offset| data + offset).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparsify::{Settings, Solver};
    use safetensors::tensor::TensorView;

    fn solved(samples: usize) -> (Vec<Problem>, Vec<Solution>) {
        let mut random = fastrand::Rng::with_seed(7);
        let tables = (0..samples).map(|_| (0..8).map(|_| random.f64()).collect::<Vec<_>>());
        let problems: Vec<_> =
            tables.map(|table| Problem::new(&table, 0.01).expect("a good table")).collect();
        let solutions = Solver::new(3, Settings::default()).solve(&problems);
        (problems, solutions)
    }

    /// The same file, by the library of the format and all at once.
    fn at_once(problems: &[Problem], solutions: &[Solution]) -> Vec<u8> {
        let columns: Vec<(&str, Vec<u8>)> = COLUMNS
            .iter()
            .map(|column| {
                let mut bytes = Vec::new();
                for (problem, solution) in problems.iter().zip(solutions) {
                    (column.append_row)(problem, solution, &mut bytes);
                }
                (column.name, bytes)
            })
            .collect();
        let tensors = columns.iter().zip(&COLUMNS).map(|((name, bytes), column)| {
            let wide = if column.is_wide { vec![8] } else { vec![] };
            let shape = [vec![problems.len()], wide].concat();
            (*name, TensorView::new(column.dtype, shape, bytes).expect("a good tensor"))
        });
        safetensors::serialize(tensors.rev(), None).expect("a file")
    }

    #[test]
    fn blocks_of_any_size_make_the_file_that_the_library_makes_at_once() {
        let (problems, solutions) = solved(21);
        let expected = at_once(&problems, &solutions);
        let directory = tempfile::tempdir().expect("a directory");
        for size in [1, 2, 8, 20, 21, 50] {
            let path = directory.path().join("out.safetensors");
            let mut writer = Writer::create(&path, 21, 3).expect("made");
            for (problems, solutions) in problems.chunks(size).zip(solutions.chunks(size)) {
                writer.write(problems, solutions).expect("written");
            }
            writer.finish().expect("finished");
            let found = std::fs::read(&path).expect("a file");
            assert!(found == expected, "blocks of {size}");
        }
    }

    #[test]
    fn an_unfinished_file_leaves_nothing_and_what_was_there_untouched() {
        let (problems, solutions) = solved(3);
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out.safetensors");
        std::fs::write(&path, "of yesterday").expect("written");
        let untouched = || {
            let names = std::fs::read_dir(directory.path()).expect("a directory").count();
            names == 1 && std::fs::read(&path).expect("a file") == b"of yesterday"
        };

        let mut dropped = Writer::create(&path, 3, 3).expect("made");
        dropped.write(&problems[..2], &solutions[..2]).expect("written");
        assert!(dropped.temporary().exists());
        drop(dropped);
        assert!(untouched());

        let mut short = Writer::create(&path, 3, 3).expect("made");
        short.write(&problems[..2], &solutions[..2]).expect("written");
        let error = short.finish().expect_err("a table is missing");
        assert_eq!(error.to_string(), "2 of 3 tables are written");
        assert!(untouched());

        let mut full = Writer::create(&path, 2, 3).expect("made");
        assert!(full.write(&problems, &solutions).is_err(), "more than announced");
        assert!(full.write(&problems[..2], &solutions[..1]).is_err(), "an answer is missing");
        drop(full);
        assert!(untouched());
    }

    #[test]
    fn a_file_of_impossible_size_and_a_directory_are_refused_at_the_start() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out.safetensors");
        for samples in [usize::MAX, usize::MAX >> 8, 1 << 56] {
            let error = Writer::create(&path, samples, 4).expect_err("too large");
            assert_eq!(error.to_string(), "the file would be too large", "{samples}");
        }
        assert!(Writer::create(directory.path(), 1, 2).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 0);
    }
}
