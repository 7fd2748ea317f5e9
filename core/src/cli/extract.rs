//! `convergd extract`: value tables in, sparsest AND-OR interactions with certificates out.

use super::progress::Progress;
use super::{BadData, Exit, Torch, ending, say};
use crate::evaluation::DeviceChoice;
use crate::extractor::{CpuExtractor, Extractor};
use crate::sparsify::{EXACT_GAP, LARGEST_SHARE, Problem, Settings, Solution, Status};
use crate::tables::{Block, ReadError, Reader, Writer};
use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Uncertified tables that are named: to a reader, and in JSON.
const NAMED: usize = 5;
const LISTED: usize = 20;

#[derive(Args)]
pub(super) struct Arguments {
    /// safetensors file with `values` [B, 2^n], float32 or float64; bit i of the index = variable i
    #[arg(long, value_name = "FILE")]
    values: PathBuf,
    /// Noise bound ζ as a share of |v(N) − v(∅)|
    #[arg(long, default_value_t = 0.01, value_parser = share, allow_negative_numbers = true)]
    noise: f64,
    /// Relative gap to certify
    #[arg(long, default_value_t = 1e-3, value_parser = wanted_gap, allow_negative_numbers = true)]
    gap: f64,
    /// Tight rows up to which an answer is taken to an exact vertex; 0: near-optimal answers as they are
    #[arg(
        long, value_name = "ROWS", default_value_t = 384,
        value_parser = clap::value_parser!(u16).range(..=4096)
    )]
    largest_basis: u16,
    /// Where the splitting runs: `cpu`, `cuda`, `cuda:N`, or `auto` for CUDA where there is a device
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Threads of the CPU, where every answer is taken to its exact vertex
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// safetensors file that is written: `and`, `or`, `noise` [B, 2^n], `objective`, `bound`, `gap`,
    /// `iterations`, `status` [B] (2: exact, gap below 1e-9; 1: certified; 0: gap not reached)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, torch: &dyn Torch) -> anyhow::Result<Exit> {
    let Arguments { values, noise, gap, largest_basis, threads, out, .. } = arguments;
    refuse_same_file(values, out)?;
    let unreadable = |error: ReadError| {
        anyhow::Error::from(BadData(error.to_string())).context(format!("`{}`", values.display()))
    };
    let unwritable = |error| BadData(format!("`{}` cannot be written: {error}", out.display()));
    let mut reader = Reader::open(values).map_err(unreadable)?;
    let settings =
        Settings { gap: *gap, largest_basis: usize::from(*largest_basis), ..Settings::default() };
    let (variables, threads) = (reader.variables(), usize::from(*threads));
    let extractor: Extractor = match arguments.device {
        DeviceChoice::Cpu => Box::new(CpuExtractor::new(variables, settings, threads)?),
        device => torch.extractor(variables, settings, device, threads)?,
    };
    // From here on a signal waits until there is somebody to remove the file.
    let signals = ending::caught(&[])?;
    let mut writer =
        Writer::create(out, reader.samples(), reader.variables()).map_err(unwritable)?;
    let progress = Progress::of_terminal("tables");
    let (unfinished, shown) = (writer.temporary().to_owned(), progress.clone());
    ending::end_on(signals, move || {
        // It may be finished, and have its name, by now.
        let _ = std::fs::remove_file(&unfinished);
        shown.end();
    });
    let mut summary = Summary::new(reader.variables(), *gap);
    let total = reader.samples() as f64;
    progress.show(0.0, total, String::new());
    let mut solve_all = || -> anyhow::Result<()> {
        while let Some(block) = reader.read(extractor.tables_a_call()).map_err(unreadable)? {
            let problems =
                check(&block, *noise).with_context(|| format!("`{}`", values.display()))?;
            let started = Instant::now();
            let solutions = extractor.solve(&problems)?;
            summary.add(&solutions, started.elapsed());
            progress.show(summary.samples as f64, total, String::new());
            writer.write(&problems, &solutions).map_err(unwritable)?;
        }
        Ok(())
    };
    let solved = solve_all();
    progress.end();
    solved?;
    writer.finish().map_err(unwritable)?;
    if arguments.json {
        say(summary.json().to_string());
    } else {
        say(format!("{summary}; written to {}", out.display()));
    }
    Ok(Exit::Done)
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=LARGEST_SHARE).contains(number));
    number.ok_or_else(|| format!("it must be a number from 0 to {LARGEST_SHARE}, such as 0.01"))
}

fn wanted_gap(text: &str) -> Result<f64, String> {
    let number = share(text).ok().filter(|number| *number >= EXACT_GAP);
    number.ok_or_else(|| {
        format!("it must be a number from {EXACT_GAP:e}, which is exact, to {LARGEST_SHARE}, such as 1e-3")
    })
}

fn refuse_same_file(values: &Path, out: &Path) -> Result<(), BadData> {
    match (std::fs::canonicalize(values), std::fs::canonicalize(out)) {
        (Ok(values), Ok(out)) if values == out => {
            let message = "`--out` is the file of `--values`, which would be lost; give another";
            Err(BadData(message.to_owned()))
        }
        _ => Ok(()),
    }
}

/// The problems of a block; what is wrong with a table names it by its place in the file.
fn check(block: &Block, noise: f64) -> anyhow::Result<Vec<Problem>> {
    let problem = |(index, table)| {
        let problem = Problem::new(table, noise).map_err(|error| BadData(error.to_string()));
        problem.with_context(|| format!("table {index}"))
    };
    block.tables().map(problem).collect()
}

/// What came out, so far.
struct Summary {
    variables: usize,
    /// The relative gap that was wanted.
    gap: f64,
    samples: usize,
    certified: usize,
    exact: usize,
    /// The first uncertified tables, [`LISTED`] at most.
    not_certified: Vec<usize>,
    /// The largest finite gap.
    gap_max: f64,
    /// Tables with an infinite gap.
    without_proof: usize,
    /// Time of solving alone.
    time: Duration,
}

impl Summary {
    fn new(variables: usize, gap: f64) -> Self {
        let not_certified = Vec::new();
        let time = Duration::ZERO;
        Self {
            variables,
            gap,
            samples: 0,
            certified: 0,
            exact: 0,
            not_certified,
            gap_max: 0.0,
            without_proof: 0,
            time,
        }
    }

    /// Takes in the answers to the next tables.
    fn add(&mut self, solutions: &[Solution], time: Duration) {
        for solution in solutions {
            let gap = solution.certificate.gap();
            if gap <= self.gap {
                self.certified += 1;
            } else if self.not_certified.len() < LISTED {
                self.not_certified.push(self.samples);
            }
            self.exact += usize::from(solution.status == Status::Exact);
            match gap.is_finite() {
                true => self.gap_max = self.gap_max.max(gap),
                false => self.without_proof += 1,
            }
            self.samples += 1;
        }
        self.time += time;
    }

    fn json(&self) -> Value {
        json!({
            "samples": self.samples, "n": self.variables, "seconds": self.time.as_secs_f64(),
            "gap_max": self.gap_max, "certified": self.certified,
            "exact": self.exact, "not_certified": self.not_certified,
            "without_proof": self.without_proof,
        })
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { variables, gap, samples, certified, exact, gap_max, .. } = self;
        let seconds = self.time.as_secs_f64();
        write!(
            f,
            "{certified} of {samples} tables (n = {variables}) certified to {gap:.1e}, \
             {exact} of them exact, in {seconds:.3} s; largest gap {gap_max:.2e}"
        )?;
        let missed = samples - certified;
        if missed > 0 {
            let named: Vec<String> =
                self.not_certified.iter().take(NAMED).map(ToString::to_string).collect();
            let more = if missed > named.len() { ", …" } else { "" };
            let (were, tables) = if missed == 1 { ("was", "table") } else { ("were", "tables") };
            write!(f, "; {missed} {were} not: {tables} {}{more}", named.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparsify::Solver;

    fn solutions(samples: usize, uncertified: &[usize]) -> Vec<Solution> {
        let problem = Problem::new(&[0.0, 1.0, 2.0, 4.0], 0.0).expect("a good table");
        let solver = Solver::new(2, Settings::default());
        let mut solutions = solver.solve(&vec![problem; samples]);
        for &index in uncertified {
            solutions[index].certificate.bound = solutions[index].certificate.objective / 2.0;
        }
        solutions
    }

    #[test]
    fn tables_without_a_certificate_are_counted_and_named_across_blocks() {
        let mut summary = Summary::new(2, 1e-3);
        summary.add(&solutions(10, &[]), Duration::from_millis(250));
        let said = summary.to_string();
        assert!(
            said.starts_with(
                "10 of 10 tables (n = 2) certified to 1.0e-3, 0 of them exact, in 0.250 s"
            ),
            "{said}"
        );
        assert!(!said.contains("not"), "{said}");

        summary.add(&solutions(10, &[7]), Duration::from_millis(250));
        let said = summary.to_string();
        assert!(
            said.starts_with(
                "19 of 20 tables (n = 2) certified to 1.0e-3, 0 of them exact, in 0.500 s"
            ),
            "{said}"
        );
        assert!(said.ends_with("; largest gap 5.00e-1; 1 was not: table 17"), "{said}");

        summary.add(&solutions(10, &[0, 9]), Duration::ZERO);
        assert!(summary.to_string().ends_with("; 3 were not: tables 17, 20, 29"));
        assert_eq!(summary.json()["not_certified"], json!([17, 20, 29]));

        summary.add(&solutions(40, &Vec::from_iter(0..40)), Duration::ZERO);
        assert!(summary.to_string().ends_with("; 43 were not: tables 17, 20, 29, 30, 31, …"));
        let json = summary.json();
        assert_eq!((&json["samples"], &json["certified"]), (&json!(70), &json!(27)));
        assert_eq!(json["not_certified"].as_array().map(Vec::len), Some(LISTED));
    }
}
