//! Value tables that cannot be extracted, and the way there and back for one that can.

use crate::bench::{Bench, fixtures};
use safetensors::SafeTensors;
use serde_json::Value;

fn extract(bench: &Bench, values: &str, more: &[&str]) -> crate::bench::Finished {
    let values = fixtures().unwrap().join("values").join(format!("{values}.safetensors"));
    let arguments = ["extract", "--values", values.to_str().unwrap(), "--out", "out.safetensors"];
    bench.command(&[&arguments, more].concat())
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
    }
    for (option, value, part) in [
        ("--noise", "-0.1", "'-0.1' for '--noise <NOISE>'"),
        ("--noise", "nan", "0 or more, such as 0.01"),
        ("--gap", "0", "above 0, such as 1e-3"),
        ("--threads", "0", "'--threads <THREADS>'"),
        ("--device", "tpu", "possible values: cpu"),
    ] {
        extract(&bench, "good", &[option, value]).expect(64, &[part]);
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

fn numbers(file: &[u8], name: &str, bytes: usize) -> Vec<f64> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    let data = tensors.tensor(name).unwrap().data().to_vec();
    let number = |chunk: &[u8]| match bytes {
        4 => f64::from(f32::from_le_bytes(chunk.try_into().unwrap())),
        _ => f64::from_le_bytes(chunk.try_into().unwrap()),
    };
    data.chunks_exact(bytes).map(number).collect()
}
