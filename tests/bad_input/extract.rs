//! Value tables that cannot be extracted, and the way there and back for those that can.

use crate::bench::{Bench, Finished, eventually, fixtures};
use convergd::sparsify::{Problem, Settings, Solver, Status};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;

/// Tables that one thread takes at a time.
const BLOCK: usize = 64;

fn extract(bench: &Bench, values: &str, more: &[&str]) -> Finished {
    let values = fixtures().unwrap().join("values").join(format!("{values}.safetensors"));
    extract_file(bench, values.to_str().unwrap(), more)
}

fn extract_file(bench: &Bench, values: &str, more: &[&str]) -> Finished {
    let arguments = ["extract", "--values", values, "--out", "out.safetensors"];
    bench.command(&[&arguments, more].concat())
}

/// Tables that float32 holds exactly, one after the other.
fn random_tables(samples: usize, variables: usize) -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(3);
    (0..samples << variables).map(|_| f64::from(random.f32() - 0.5)).collect()
}

/// Writes `values` between two other tensors.
fn put_tables(bench: &Bench, name: &str, dtype: Dtype, variables: usize, numbers: &[f64]) {
    let bytes: Vec<u8> = match dtype {
        Dtype::F32 => numbers.iter().flat_map(|&number| (number as f32).to_le_bytes()).collect(),
        _ => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
    };
    let shape = vec![numbers.len() >> variables, 1 << variables];
    let other = [255; 16];
    let other = &other[..2 * dtype.bitsize() / 8];
    let tensors = [
        ("a", TensorView::new(dtype, vec![2], other).unwrap()),
        ("values", TensorView::new(dtype, shape, &bytes).unwrap()),
        ("z", TensorView::new(dtype, vec![2], other).unwrap()),
    ];
    std::fs::write(bench.path(name), safetensors::serialize(tensors, None).unwrap()).unwrap();
}

/// Unfinished files in the directory.
fn unfinished(bench: &Bench) -> usize {
    let entries = std::fs::read_dir(bench.path("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".tmp-")).count()
}

#[test]
fn bad_tables_are_refused_with_their_place_and_nothing_is_written() {
    let Some(bench) = Bench::empty() else { return };
    for (name, parts) in [
        ("nan", &["nan.safetensors`: table 3: v(S) is NaN for S = 0b110"][..]),
        ("length", &["`values` has shape [5, 15]; it needs [B, 2^n]", "n from 2 to 16"]),
        ("flat", &["`values` has shape [16]; it needs [B, 2^n]"]),
        ("empty", &["`values` has shape [0, 16]", "B ≥ 1"]),
        ("integer", &["`values` has type I64; it needs float32 or float64"]),
        ("absent", &["has no tensor `values`; it has [\"tables\"]"]),
        ("text", &["text.safetensors`: is no safetensors file"]),
        ("missing", &["missing.safetensors`: cannot be read: No such file"]),
    ] {
        extract(&bench, name, &["--json"]).expect(65, parts);
        assert!(!bench.path("out.safetensors").exists());
        assert_eq!(unfinished(&bench), 0);
    }
    for (option, value, part) in [
        ("--noise", "-0.1", "'-0.1' for '--noise <NOISE>'"),
        ("--noise", "nan", "from 0 to 0.5, such as 0.01"),
        ("--noise", "10", "from 0 to 0.5, such as 0.01"),
        ("--gap", "0", "from 1e-9, which is exact, to 0.5, such as 1e-3"),
        ("--gap", "5", "from 1e-9, which is exact, to 0.5, such as 1e-3"),
        ("--threads", "0", "'--threads <THREADS>'"),
        ("--device", "tpu", "write `auto`, `cpu`, `cuda` or `cuda:N`"),
    ] {
        extract(&bench, "good", &[option, value]).expect(64, &[part]);
    }
}

#[test]
fn a_device_that_is_not_there_is_missing_and_nothing_is_written() {
    let Some(bench) = Bench::empty() else { return };
    let parts = ["cuda:99 is asked for, but libtorch sees", "`convergd doctor`", "`auto`"];
    extract(&bench, "good", &["--device", "cuda:99"]).expect(69, &parts);
    assert!(!bench.path("out.safetensors").exists());
    assert_eq!(unfinished(&bench), 0);
}

#[test]
fn a_cuda_device_gives_the_answers_of_the_cpu() {
    let Some(bench) = Bench::empty() else { return };
    put_tables(&bench, "values.safetensors", Dtype::F64, 5, &random_tables(BLOCK + 1, 5));
    let on = |device: &str| {
        let finished = extract_file(&bench, "values.safetensors", &["--device", device]);
        (finished.code != Some(69)).then(|| {
            finished.expect(0, &[]);
            std::fs::read(bench.path("out.safetensors")).unwrap()
        })
    };
    let Some(found) = on("cuda") else {
        eprintln!("skipped: libtorch sees no CUDA device");
        return;
    };
    let wanted = on("cpu").unwrap();
    for name in ["and", "or", "objective", "bound"] {
        let pairs = numbers(&found, name, 8).into_iter().zip(numbers(&wanted, name, 8));
        let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-9, "`{name}` differs by {apart:e}");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_bad_data_and_no_internal_error() {
    let Some(bench) = Bench::empty() else { return };
    let values = fixtures().unwrap().join("values/good.safetensors");
    let arguments = ["extract", "--values", values.to_str().unwrap(), "--out"];
    for out in ["run.yaml/out.safetensors", "/proc/convergd/out.safetensors"] {
        let finished = bench.command(&[&arguments[..], &[out]].concat());
        finished.expect(65, &[out, "cannot be written: "]);
    }
}

#[test]
fn interactions_of_a_good_file_give_its_values_back() {
    let Some(bench) = Bench::empty() else { return };
    for (name, kind) in [("good", 8), ("single", 4)] {
        let finished = extract(&bench, name, &["--json", "--gap", "1e-6"]);
        let summary: Value = serde_json::from_str(&finished.expect(0, &[]).out).unwrap();
        assert_eq!((&summary["samples"], &summary["n"]), (&Value::from(5), &Value::from(4)));
        assert_eq!(summary["certified"], Value::from(5), "{summary}");
        assert!(summary["seconds"].as_f64().unwrap() >= 0.0);
        assert!((0.0..=1e-6).contains(&summary["gap_max"].as_f64().unwrap()), "{summary}");
        let values = fixtures().unwrap().join("values").join(format!("{name}.safetensors"));
        let values = numbers(&std::fs::read(values).unwrap(), "values", kind);
        let out = std::fs::read(bench.path("out.safetensors")).unwrap();
        let [and, or, noise] = ["and", "or", "noise"].map(|name| numbers(&out, name, 8));
        for (sample, table) in values.chunks_exact(16).enumerate() {
            let of = |all: &[f64], set: usize| all[16 * sample + set];
            assert_eq!([of(&and, 0), of(&or, 0), of(&noise, 0)], [0.0; 3], "the empty set");
            for present in 1..16usize {
                let triggered: f64 = (1..16)
                    .map(|set| {
                        let all = if set & present == set { of(&and, set) } else { 0.0 };
                        let any = if set & present != 0 { of(&or, set) } else { 0.0 };
                        all + any
                    })
                    .sum();
                let error = table[0] + triggered + of(&noise, present) - table[present];
                assert!(error.abs() < 1e-9, "table {sample}, S = {present:#b}: {error}");
                let bound = 0.01 * (table[15] - table[0]).abs();
                assert!(of(&noise, present).abs() <= bound + 1e-8, "the noise is above its bound");
            }
        }
    }
}

#[test]
fn a_table_gives_the_same_bits_alone_and_in_any_block() {
    let Some(bench) = Bench::empty() else { return };
    let samples = 2 * BLOCK + 37;
    let tables = random_tables(samples, 4);
    let mut outputs = Vec::new();
    for (dtype, threads) in [(Dtype::F64, "1"), (Dtype::F64, "3"), (Dtype::F32, "2")] {
        put_tables(&bench, "values.safetensors", dtype, 4, &tables);
        extract_file(&bench, "values.safetensors", &["--threads", threads]).expect(0, &[]);
        outputs.push(std::fs::read(bench.path("out.safetensors")).unwrap());
    }
    assert!(outputs.iter().all(|output| *output == outputs[0]), "blocks of other sizes differ");

    let of = |name: &str| numbers(&outputs[0], name, 8);
    let [and, or, noise] = ["and", "or", "noise"].map(of);
    let [objective, bound, gap] = ["objective", "bound", "gap"].map(of);
    let written = SafeTensors::deserialize(&outputs[0]).unwrap();
    let status = written.tensor("status").unwrap();
    let solver = Solver::new(4, Settings::default());
    for (index, table) in tables.chunks_exact(16).enumerate() {
        let alone = &solver.solve(&[Problem::new(table, 0.01).unwrap()])[0];
        let row = 16 * index..16 * (index + 1);
        assert_eq!(alone.effects.and, and[row.clone()], "table {index}");
        assert_eq!(alone.effects.or, or[row.clone()], "table {index}");
        assert_eq!(alone.effects.noise(table), noise[row], "table {index}");
        let certificate = [objective[index], bound[index], gap[index]];
        let expected = &alone.certificate;
        assert_eq!(certificate, [expected.objective, expected.bound, expected.gap()]);
        let proven = [Status::GapNotReached, Status::Certified, Status::Exact];
        assert_eq!(proven[usize::from(status.data()[index])], alone.status);
    }

    for index in [0, BLOCK - 1, BLOCK, samples - 1] {
        let table = &tables[16 * index..16 * (index + 1)];
        put_tables(&bench, "values.safetensors", Dtype::F64, 4, table);
        extract_file(&bench, "values.safetensors", &[]).expect(0, &[]);
        let output = std::fs::read(bench.path("out.safetensors")).unwrap();
        let (alone, all) = (
            SafeTensors::deserialize(&output).unwrap(),
            SafeTensors::deserialize(&outputs[0]).unwrap(),
        );
        for (name, row) in alone.tensors() {
            let row = row.data();
            let place = row.len() * index..row.len() * (index + 1);
            let in_block = &all.tensor(&name).unwrap().data()[place];
            assert!(row == in_block, "`{name}` of table {index}");
        }
    }
}

#[test]
fn python_reads_the_file_as_it_was_written() {
    let Some(bench) = Bench::empty() else { return };
    put_tables(&bench, "values.safetensors", Dtype::F32, 3, &random_tables(BLOCK + 1, 3));
    extract_file(&bench, "values.safetensors", &[]).expect(0, &[]);
    let code = "\
import sys
from safetensors.numpy import load_file, save_file
tensors = load_file(sys.argv[1])
save_file(tensors, sys.argv[2])
print(*(f'{name}:{t.dtype}:{t.shape}' for name, t in sorted(tensors.items())), sep='\\n')";
    let said = bench.python(code, &["out.safetensors", "again.safetensors"]);
    let expected = "\
and:float64:(65, 8)
bound:float64:(65,)
gap:float64:(65,)
iterations:int64:(65,)
noise:float64:(65, 8)
objective:float64:(65,)
or:float64:(65, 8)
status:uint8:(65,)
";
    assert_eq!(said, expected);
    let read = |name: &str| std::fs::read(bench.path(name)).unwrap();
    let (written, again) = (read("out.safetensors"), read("again.safetensors"));
    let header = u64::from_le_bytes(*written.first_chunk().unwrap());
    assert_eq!(header % 8, 0, "the data are aligned");
    let again = SafeTensors::deserialize(&again).unwrap();
    for (name, tensor) in SafeTensors::deserialize(&written).unwrap().tensors() {
        assert!(again.tensor(&name).unwrap() == tensor, "`{name}` is another one in Python");
    }
}

#[test]
fn what_is_found_late_leaves_nothing_and_an_earlier_file_untouched() {
    let Some(bench) = Bench::empty() else { return };
    let mut tables = random_tables(2 * BLOCK, 4);
    tables[16 * (2 * BLOCK - 1) + 5] = f64::NEG_INFINITY;
    put_tables(&bench, "late.safetensors", Dtype::F64, 4, &tables);
    let parts = ["late.safetensors`: table 127: v(S) is -inf for S = 0b101"];
    extract_file(&bench, "late.safetensors", &["--json"]).expect(65, &parts);
    assert!(!bench.path("out.safetensors").exists());
    assert_eq!(unfinished(&bench), 0);

    std::fs::write(bench.path("out.safetensors"), "of yesterday").unwrap();
    let whole = std::fs::read(bench.path("late.safetensors")).unwrap();
    std::fs::write(bench.path("short.safetensors"), &whole[..whole.len() - 1]).unwrap();
    let length = format!("short.safetensors`: is {} bytes long", whole.len() - 1);
    for (name, parts) in [
        ("late.safetensors", &parts[..]),
        ("short.safetensors", &[&length, "truncated or still being written"]),
    ] {
        extract_file(&bench, name, &[]).expect(65, parts);
        assert_eq!(std::fs::read(bench.path("out.safetensors")).unwrap(), b"of yesterday");
        assert_eq!(unfinished(&bench), 0);
    }
}

#[test]
fn values_are_not_overwritten_by_their_interactions() {
    let Some(bench) = Bench::empty() else { return };
    bench.put("values/good.safetensors", "out.safetensors");
    std::os::unix::fs::symlink("out.safetensors", bench.path("link.safetensors")).unwrap();
    let before = std::fs::read(bench.path("out.safetensors")).unwrap();
    for values in ["out.safetensors", "./out.safetensors", "link.safetensors"] {
        extract_file(&bench, values, &[]).expect(65, &["which would be lost; give another"]);
        assert_eq!(std::fs::read(bench.path("out.safetensors")).unwrap(), before);
    }
}

#[test]
fn tables_that_miss_the_gap_are_told_and_no_failure() {
    let Some(bench) = Bench::empty() else { return };
    put_tables(&bench, "values.safetensors", Dtype::F64, 6, &random_tables(BLOCK + 8, 6));
    let finished = extract_file(
        &bench,
        "values.safetensors",
        &["--json", "--gap", "1e-9", "--largest-basis", "0"],
    );
    let summary: Value = serde_json::from_str(&finished.expect(0, &[]).out).unwrap();
    let output = std::fs::read(bench.path("out.safetensors")).unwrap();
    let missed: Vec<usize> = numbers(&output, "gap", 8)
        .iter()
        .enumerate()
        .filter_map(|(index, gap)| (*gap > 1e-9).then_some(index))
        .collect();
    assert!(!missed.is_empty(), "near-optimal answers are not exact: {summary}");
    assert_eq!(summary["certified"], Value::from(BLOCK + 8 - missed.len()), "{summary}");
    assert_eq!(summary["not_certified"], Value::from(missed[..missed.len().min(20)].to_vec()));
}

#[test]
fn memory_does_not_grow_with_the_number_of_tables() {
    let Some(bench) = Bench::empty() else { return };
    let peak = |samples: usize| {
        put_tables(&bench, "values.safetensors", Dtype::F64, 6, &random_tables(samples, 6));
        let arguments = ["extract", "--threads", "2", "--values", "values.safetensors", "--out"];
        bench.peak_memory(&[&arguments[..], &["out.safetensors"]].concat())
    };
    let (few, many) = (peak(2_000), peak(20_000));
    // All in memory, with what is made of them, they would take 100 MB more.
    assert!(many < few + 5_000_000, "2,000 tables took {few} bytes, 20,000 took {many}");
}

#[test]
fn a_signal_ends_the_work_and_takes_the_unfinished_file_with_it() {
    let Some(bench) = Bench::empty() else { return };
    put_tables(&bench, "values.safetensors", Dtype::F64, 6, &random_tables(20_000, 6));
    let arguments = ["extract", "--values", "values.safetensors", "--out", "out.safetensors"];
    let running = bench.start(&arguments);
    eventually("an unfinished file", || unfinished(&bench) == 1);
    let pid = rustix::process::Pid::from_raw(running.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(running.finish().code, Some(128 + 15));
    assert_eq!(unfinished(&bench), 0);
    assert!(!bench.path("out.safetensors").exists());
}

fn numbers(file: &[u8], name: &str, bytes: usize) -> Vec<f64> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let data = tensors.tensor(name).unwrap().data().to_vec();
    let number = |chunk: &[u8]| match bytes {
        4 => f64::from(f32::from_le_bytes(chunk.try_into().unwrap())),
        _ => f64::from_le_bytes(chunk.try_into().unwrap()),
    };
    data.chunks_exact(bytes).map(number).collect()
}
