//! What the benches share: their arguments, the value tables and aligned printing.

#![allow(dead_code, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

use safetensors::SafeTensors;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The arguments of a bench.
pub(crate) struct Arguments {
    /// Directory of `make_tables.py`.
    pub(crate) tables: PathBuf,
    /// The file of tables with known optima, if one is there.
    pub(crate) golden: Option<PathBuf>,
    /// The only section to print.
    pub(crate) only: Option<String>,
}

impl Arguments {
    /// Reads `--tables DIR`, `--golden FILE` and `--only SECTION`; cargo's own flags are skipped.
    ///
    /// # Panics
    /// When a flag has no value.
    pub(crate) fn read() -> Self {
        let mut read = Self { tables: PathBuf::from("target/bench"), golden: None, only: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("`{flag}` needs a value"));
            match flag.as_str() {
                "--tables" => read.tables = value().into(),
                "--golden" => read.golden = Some(value().into()),
                "--only" => read.only = Some(value()),
                _ => {}
            }
        }
        if let Some(golden) = read.golden.take_if(|golden| !golden.is_file()) {
            println!("skipped: there are no golden tables at `{}`", golden.display());
        }
        read
    }

    /// Whether a section is to be printed.
    pub(crate) fn wants(&self, section: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == section)
    }

    /// The fresh tables of n variables.
    ///
    /// # Panics
    /// When the file is not there or is no file of tables.
    pub(crate) fn fresh(&self, n: usize) -> Vec<Vec<f64>> {
        let path = self.tables.join(format!("tables_n{n}.safetensors"));
        rows(&numbers(&path, "values").unwrap(), n)
    }

    /// The recorded run of n variables: tables by step and network.
    ///
    /// # Panics
    /// When the file is not there or does not hold the tables of two networks.
    pub(crate) fn pairs(&self, n: usize) -> Vec<[Vec<Vec<f64>>; 2]> {
        let path = self.tables.join(format!("pairs_n{n}.safetensors"));
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let shape = file.tensor("values").unwrap().shape().to_vec();
        assert_eq!((shape.len(), shape[1], shape[3]), (4, 2, 1 << n), "{}", path.display());
        let tables = rows(&numbers(&path, "values").unwrap(), n);
        let steps = tables.chunks_exact(2 * shape[2]);
        let halves = steps.map(|step| step.split_at(shape[2]));
        halves.map(|(target, baseline)| [target.to_vec(), baseline.to_vec()]).collect()
    }

    /// The golden tables of n variables with their optima at a noise, where the file has them.
    pub(crate) fn golden(&self, n: usize, noise: f64) -> Vec<(Vec<f64>, f64)> {
        let Some(path) = &self.golden else { return Vec::new() };
        let Some(values) = numbers(path, &format!("values_n{n}")) else { return Vec::new() };
        let optima = numbers(path, &format!("objective_n{n}_r{noise}"));
        rows(&values, n).into_iter().zip(optima.unwrap_or_default()).collect()
    }
}

fn rows(values: &[f64], n: usize) -> Vec<Vec<f64>> {
    values.chunks_exact(1 << n).map(<[f64]>::to_vec).collect()
}

/// A float64 tensor of a file, or `None` where the file does not name it.
fn numbers(path: &Path, name: &str) -> Option<Vec<f64>> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| {
        panic!("`{}`: {error}; `make_tables.py` writes it", path.display())
    });
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(name).ok()?;
    assert_eq!(view.dtype(), safetensors::Dtype::F64, "`{name}` is float64");
    Some(view.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect())
}

/// Runs once and gives the seconds with the result.
pub(crate) fn timed<R>(run: impl FnOnce() -> R) -> (f64, R) {
    let start = Instant::now();
    let result = run();
    (start.elapsed().as_secs_f64(), result)
}

/// Prints a heading.
pub(crate) fn heading(text: &str) {
    println!("\n{text}\n");
}

/// Prints the names of the columns, separated by `|`.
pub(crate) fn header<const C: usize>(names: &str, widths: [usize; C]) {
    let names: Vec<_> = names.split('|').collect();
    line(names.try_into().unwrap(), widths);
}

/// Prints one line of right-aligned cells.
pub(crate) fn line<const C: usize>(cells: [&str; C], widths: [usize; C]) {
    let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}"));
    println!("{}", cells.collect::<Vec<_>>().join("  "));
}
