//! The subset transforms against the roofline of this machine, one thread, eight lanes of f64.
//!
//! `make bench-solver`, or `cargo bench -p convergd-analysis --bench transforms`.
//!
//! Three bounds hold for a table of W = 64·2^n bytes, and the largest one binds:
//!
//! - *stream*: every byte is read and written once, at the speed at which a plain pass
//!   `a[i] ← a[i] + c` goes over an array of the same size, wherever it lies;
//! - *registers*: a register file that holds 2^r rows can do r of the n stages on rows that it has
//!   loaded, so ⌈n/r⌉ times the table goes through it, at best at the speed of the first cache;
//! - *adds*: n·2^(n−1) additions a lane (and 2^n for the complement of OR), at the speed of
//!   independent additions in registers.
//!
//! The share is of that bound. Beside it stands the time of ⌈n/9⌉ plain passes (*passes*): a first
//! cache of 32 to 48 KiB holds the rows of nine stages. It is no bound: a table that is little larger
//! than the cache stays in it in part.
//!
//! All speeds are measured in the same run, interleaved with the transforms; the best time of many
//! rounds counts for both. Tables start at a cache line.
#![allow(clippy::print_stdout, missing_docs)]

mod common;

use common::{Arguments, header, heading, line, timed};
use convergd_analysis::interaction::transform::{Row, moebius, or, zeta, zeta_adjoint};
use std::hint::black_box;

const LANES: usize = 8;
type Lane = Row<LANES>;

const VARIABLES: [usize; 5] = [8, 10, 12, 14, 16];
const ROW_BYTES: usize = LANES * size_of::<f64>();
/// A round of calls on the same table: a call makes numbers up to 2^n times as large, so that this
/// many stay finite.
const CALLS: usize = 48;
const SECONDS_A_SIZE: f64 = 0.6;
/// Additions to each independent sum in a round.
const ADDITIONS: usize = 4096;

/// Stages whose rows the first cache holds: 512 rows of 64 bytes.
const STAGES_IN_FIRST_CACHE: usize = 9;

/// What is measured: the two peaks and the transforms.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kernel {
    Stream,
    Adds,
    Zeta,
    ZetaAdjoint,
    Moebius,
    Or,
}

use Kernel::{Adds, Moebius, Or, Stream, Zeta, ZetaAdjoint};

const TRANSFORMS: [Kernel; 4] = [Zeta, ZetaAdjoint, Moebius, Or];

#[inline(always)]
fn stream(table: &mut [Lane]) {
    for value in table.as_flattened_mut() {
        *value += 1.0;
    }
}

#[inline(always)]
fn adds<const SUMS: usize>(table: &mut [Lane]) {
    let step = table[0];
    let mut sums = [step; SUMS];
    for _ in 0..ADDITIONS {
        for sum in &mut sums {
            for lane in 0..LANES {
                sum[lane] += step[lane];
            }
        }
    }
    black_box(&sums);
}

/// Runs a kernel `CALLS` times; inlined into each set of instructions below. As many sums as `SUMS`
/// fit into its registers.
#[inline(always)]
fn repeat<const SUMS: usize>(kernel: Kernel, table: &mut [Lane]) {
    macro_rules! repeat {
        ($call:ident) => {
            for _ in 0..CALLS {
                $call(black_box(&mut *table));
            }
        };
    }
    match kernel {
        Stream => repeat!(stream),
        Adds => adds::<SUMS>(black_box(table)),
        Zeta => repeat!(zeta),
        ZetaAdjoint => repeat!(zeta_adjoint),
        Moebius => repeat!(moebius),
        Or => repeat!(or),
    }
}

/// The instructions that the solver would choose here.
#[derive(Clone, Copy)]
struct Instructions {
    name: &'static str,
    register_bytes: usize,
    sums: usize,
    run: fn(Kernel, &mut [Lane]),
}

#[cfg(target_arch = "x86_64")]
fn best_instructions() -> Instructions {
    #[target_feature(enable = "avx512f")]
    fn run_avx512(kernel: Kernel, table: &mut [Lane]) {
        repeat::<12>(kernel, table);
    }
    #[target_feature(enable = "avx2")]
    fn run_avx2(kernel: Kernel, table: &mut [Lane]) {
        repeat::<6>(kernel, table);
    }
    if std::is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor was just asked for AVX-512.
        let run = |kernel, table: &mut [Lane]| unsafe { run_avx512(kernel, table) };
        return Instructions { name: "AVX-512", register_bytes: 32 * 64, sums: 12, run };
    }
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was just asked for AVX2.
        let run = |kernel, table: &mut [Lane]| unsafe { run_avx2(kernel, table) };
        return Instructions { name: "AVX2", register_bytes: 16 * 32, sums: 6, run };
    }
    Instructions { name: "SSE2", register_bytes: 16 * 16, sums: 3, run: repeat::<3> }
}

#[cfg(not(target_arch = "x86_64"))]
fn best_instructions() -> Instructions {
    Instructions { name: "128-bit", register_bytes: 32 * 16, sums: 6, run: repeat::<6> }
}

/// Best seconds a call of every kernel on tables of 2^n rows; for `Adds`, a round of additions.
struct Times(Vec<(Kernel, f64)>);

impl Times {
    fn measure(n: usize, instructions: Instructions) -> Self {
        let mut memory = vec![0.0; (LANES << n) + ROW_BYTES];
        let start = memory.as_ptr().align_offset(ROW_BYTES);
        let (rows, _) = memory[start..].as_chunks_mut();
        let table = &mut rows[..1 << n];
        let kernels = [Stream, Adds].into_iter().chain(TRANSFORMS);
        let mut times: Vec<_> = kernels.map(|kernel| (kernel, f64::INFINITY)).collect();
        let mut spent = 0.0;
        while spent < SECONDS_A_SIZE {
            for (kernel, best) in &mut times {
                for (s, row) in table.iter_mut().enumerate() {
                    *row = [1e-3 * (s % 97) as f64; LANES];
                }
                let (seconds, ()) = timed(|| (instructions.run)(*kernel, table));
                spent += seconds;
                let calls = if *kernel == Adds { 1 } else { CALLS };
                *best = best.min(seconds / calls as f64);
            }
        }
        Self(times)
    }

    fn of(&self, kernel: Kernel) -> f64 {
        self.0.iter().find(|(measured, _)| *measured == kernel).map_or(f64::NAN, |&(_, time)| time)
    }
}

/// The speeds of this machine that all sizes share.
struct Machine {
    /// Additions a second in registers.
    adds: f64,
    /// Bytes a second of the fastest streaming pass, which is the one in the first cache.
    first_cache: f64,
    /// Stages of a transform that fit into the registers at once.
    stages: usize,
}

impl Machine {
    fn of(instructions: Instructions, times: &[(usize, Times)]) -> Self {
        let adds = times.iter().map(|(_, times)| times.of(Adds)).fold(f64::INFINITY, f64::min);
        let rows = instructions.register_bytes / ROW_BYTES;
        Self {
            adds: (ADDITIONS * instructions.sums * LANES) as f64 / adds,
            first_cache: times.iter().map(|(n, times)| streaming(*n, times)).fold(0.0, f64::max),
            stages: rows.ilog2().max(1) as usize,
        }
    }

    /// The seconds below which no call can stay: by streaming, by the registers, by additions.
    fn bounds(&self, kernel: Kernel, n: usize, times: &Times) -> [(&'static str, f64); 3] {
        let loads = n.div_ceil(self.stages) as f64;
        [
            ("stream", times.of(Stream)),
            ("registers", loads * moved(n) / self.first_cache),
            ("adds", additions(kernel, n) / self.adds),
        ]
    }
}

/// Seconds of as many plain passes as a transform goes over the memory.
fn passes(n: usize, times: &Times) -> f64 {
    n.div_ceil(STAGES_IN_FIRST_CACHE) as f64 * times.of(Stream)
}

/// Bytes of a table, read and written once.
fn moved(n: usize) -> f64 {
    2.0 * (ROW_BYTES << n) as f64
}

/// Bytes a second of the streaming pass over a table of n variables.
fn streaming(n: usize, times: &Times) -> f64 {
    moved(n) / times.of(Stream)
}

/// Additions of a call on all lanes.
fn additions(kernel: Kernel, n: usize) -> f64 {
    let complement = if kernel == Or { 1 << n } else { 0 };
    ((n << (n - 1)) + complement) as f64 * LANES as f64
}

fn print_machine(machine: &Machine, times: &[(usize, Times)]) {
    println!("additions in registers: {:.1} G/s", machine.adds * 1e-9);
    for (n, times) in times {
        let (kibibytes, speed) = (moved(*n) / 2048.0, streaming(*n, times) * 1e-9);
        println!("read-add-write over {kibibytes:>4.0} KiB (n = {n}): {speed:.1} GB/s");
    }
}

fn print_transforms(machine: &Machine, times: &[(usize, Times)]) {
    let widths = [3, 12, 9, 8, 8, 10, 8, 9, 7, 7, 10, 6, 8, 9];
    let names = "n|transform|KiB moved|k adds|stream|registers|adds|measured|GB/s|Gadd/s|binds|share\
                 |passes|of these";
    header(names, widths);
    for (n, times) in times {
        for kernel in TRANSFORMS {
            let (moved, additions, time) = (moved(*n), additions(kernel, *n), times.of(kernel));
            let [stream, registers, adds] = machine.bounds(kernel, *n, times);
            let (binds, bound) = [stream, registers, adds]
                .into_iter()
                .fold(("", 0.0), |most, bound| if bound.1 > most.1 { bound } else { most });
            let passes = passes(*n, times).max(bound);
            let microseconds = |seconds: f64| format!("{:.2}", seconds * 1e6);
            line(
                [
                    &n.to_string(),
                    &format!("{kernel:?}"),
                    &format!("{:.0}", moved / 1024.0),
                    &format!("{:.1}", additions * 1e-3),
                    &microseconds(stream.1),
                    &microseconds(registers.1),
                    &microseconds(adds.1),
                    &microseconds(time),
                    &format!("{:.1}", moved / time * 1e-9),
                    &format!("{:.1}", additions / time * 1e-9),
                    binds,
                    &format!("{:.0} %", 100.0 * bound / time),
                    &microseconds(passes),
                    &format!("{:.0} %", 100.0 * passes / time),
                ],
                widths,
            );
        }
    }
}

fn main() {
    if !Arguments::read().wants("transforms") {
        return;
    }
    let instructions = best_instructions();
    let times: Vec<_> = VARIABLES.iter().map(|&n| (n, Times::measure(n, instructions))).collect();
    let machine = Machine::of(instructions, &times);
    heading(&format!("Transforms: one thread, {LANES} lanes of f64, {}", instructions.name));
    print_machine(&machine, &times);
    println!();
    print_transforms(&machine, &times);
    println!(
        "\nstream, registers, adds: the three bounds; measured: all in µs a call of {LANES} tables;\n\
         registers: {} stages a load; share: of the bound that binds;\n\
         passes: as many plain passes as the first cache needs, or the bound",
        machine.stages
    );
}
