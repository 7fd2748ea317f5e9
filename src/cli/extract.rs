//! `convergd extract`: value tables in, sparsest AND-OR interactions with certificates out.

use super::{BadData, Exit, say};
use crate::files::write_atomically;
use crate::interaction::subset::variables_of;
use crate::sparsify::{Problem, Settings, Solution, Solver, Status};
use anyhow::Context;
use clap::Args;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Args)]
pub(super) struct Arguments {
    /// safetensors file with `values` [B, 2^n], float32 or float64; bit i of the index = variable i
    #[arg(long, value_name = "FILE")]
    values: PathBuf,
    /// Noise bound ζ as a share of |v(N) − v(∅)|
    #[arg(long, default_value_t = 0.01, value_parser = share, allow_negative_numbers = true)]
    noise: f64,
    /// Relative gap to certify
    #[arg(long, default_value_t = 1e-3, value_parser = above_zero, allow_negative_numbers = true)]
    gap: f64,
    /// Where it runs; `cpu` so far
    #[arg(long, default_value = "cpu", value_parser = ["cpu"])]
    device: String,
    /// Threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// safetensors file that is written: `and`, `or`, `noise` [B, 2^n], `objective`, `bound`, `gap`,
    /// `iterations` [B]
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let Arguments { values, noise, gap, threads, out, .. } = arguments;
    if let (Ok(values), Ok(out)) = (std::fs::canonicalize(values), std::fs::canonicalize(out))
        && values == out
    {
        let message = "`--out` is the file of `--values`, which would be lost; give another";
        return Err(BadData(message.to_owned()).into());
    }
    let tables = read(values).with_context(|| format!("`{}`", values.display()))?;
    let mut problems = Vec::with_capacity(tables.len());
    for (index, table) in tables.iter().enumerate() {
        let problem = Problem::new(table, *noise).map_err(|error| BadData(error.to_string()));
        problems.push(problem.with_context(|| format!("`{}`: table {index}", values.display()))?);
    }
    let n = problems.first().map_or(0, |problem| problem.variables);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(*threads)).build()?;
    let solver = Solver::new(n, Settings { gap: *gap, ..Settings::default() });
    let started = Instant::now();
    let solutions = pool.install(|| solver.solve(&problems));
    let seconds = started.elapsed().as_secs_f64();
    write(out, &tables, &solutions)
        .map_err(|error| BadData(format!("`{}` cannot be written: {error}", out.display())))?;
    let certified = solutions.iter().filter(|s| s.status == Status::Certified).count();
    let gap_max = solutions.iter().map(|s| s.certificate.gap()).fold(0.0, f64::max);
    let samples = solutions.len();
    if arguments.json {
        let value = json!({
            "samples": samples, "n": n, "seconds": seconds, "gap_max": gap_max,
            "certified": certified,
        });
        say(value.to_string());
    } else {
        say(format!(
            "{certified} of {samples} tables (n = {n}) certified to {gap:.1e} in {seconds:.3} s; \
             largest gap {gap_max:.2e}; written to {}",
            out.display()
        ));
    }
    Ok(Exit::Done)
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "it must be a number of 0 or more, such as 0.01".to_owned())
}

fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "it must be a number above 0, such as 1e-3".to_owned())
}

fn read(path: &std::path::Path) -> anyhow::Result<Vec<Vec<f64>>> {
    let bytes = std::fs::read(path).map_err(|error| BadData(format!("cannot be read: {error}")))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| BadData(format!("is no safetensors file: {error}")))?;
    let view = file
        .tensor("values")
        .map_err(|_| BadData(format!("has no tensor `values`; it has {:?}", file.names())))?;
    let [samples, length] = *view.shape() else {
        return Err(
            BadData(format!("`values` has shape {:?}; it needs [B, 2^n]", view.shape())).into()
        );
    };
    if variables_of(length).is_none() || samples == 0 {
        let message = format!(
            "`values` has shape {:?}; it needs [B, 2^n] with B ≥ 1 and n from 2 to 16",
            view.shape()
        );
        return Err(BadData(message).into());
    }
    let numbers: Vec<f64> = match view.dtype() {
        Dtype::F64 => {
            view.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
        }
        Dtype::F32 => {
            let chunks = view.data().as_chunks::<4>().0;
            chunks.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
        }
        other => {
            let message = format!("`values` has type {other:?}; it needs float32 or float64");
            return Err(BadData(message).into());
        }
    };
    Ok(numbers.chunks_exact(length).map(<[f64]>::to_vec).collect())
}

fn write(
    path: &std::path::Path,
    tables: &[Vec<f64>],
    solutions: &[Solution],
) -> anyhow::Result<()> {
    let rows = |of: &dyn Fn(usize) -> Vec<f64>| -> Vec<u8> {
        (0..solutions.len()).flat_map(of).flat_map(f64::to_le_bytes).collect()
    };
    let one = |of: fn(&Solution) -> f64| rows(&|i| vec![of(&solutions[i])]);
    let wide = [
        ("and", rows(&|i| solutions[i].effects.and.clone())),
        ("or", rows(&|i| solutions[i].effects.or.clone())),
        ("noise", rows(&|i| solutions[i].effects.noise(&tables[i]))),
    ];
    let narrow = [
        ("objective", one(|s| s.certificate.objective)),
        ("bound", one(|s| s.certificate.bound)),
        ("gap", one(|s| s.certificate.gap())),
    ];
    let iterations: Vec<u8> =
        solutions.iter().flat_map(|s| (s.iterations as i64).to_le_bytes()).collect();
    let (samples, length) = (tables.len(), tables.first().map_or(0, Vec::len));
    let mut tensors = Vec::new();
    for (name, data) in &wide {
        tensors.push((*name, TensorView::new(Dtype::F64, vec![samples, length], data)?));
    }
    for (name, data) in &narrow {
        tensors.push((*name, TensorView::new(Dtype::F64, vec![samples], data)?));
    }
    tensors.push(("iterations", TensorView::new(Dtype::I64, vec![samples], &iterations)?));
    Ok(write_atomically(path, &safetensors::serialize(tensors, None)?)?)
}
