use super::*;
use crate::interaction::naive;
use proptest::prelude::*;

type Fast<const L: usize, T> = fn(&mut [Row<L, T>]);
type Slow = fn(&[f64]) -> Vec<f64>;

const FORMS: [Form; 4] = [Form::Zeta, Form::Moebius, Form::Adjoint, Form::Or];
/// More variables than three levels of cache blocks need for a row of 64 bytes.
const MOST_VARIABLES: u32 = 16;

fn oracle(form: Form) -> Slow {
    match form {
        Form::Zeta => naive::zeta,
        Form::Moebius => naive::moebius,
        Form::Adjoint => naive::zeta_adjoint,
        Form::Or => naive::or,
    }
}

/// Numbers of several sizes, so that another order of additions rounds in another way.
fn numbers<const L: usize, T: Real>(variables: u32, seed: u64) -> Vec<Row<L, T>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut number = || T::of((random.f64() - 0.5) * f64::from(1 << random.u32(0..20)));
    (0..1 << variables).map(|_| std::array::from_fn(|_| number())).collect()
}

/// Bit patterns, which tell 0 and −0 apart.
fn bits<const L: usize, T: Real>(table: &[Row<L, T>]) -> Vec<u64> {
    table.as_flattened().iter().map(|number| number.wide().to_bits()).collect()
}

type Way<const L: usize, T> = (String, Box<dyn Fn(Form, &mut [Row<L, T>])>);

/// The portable transforms, compiled once.
#[inline(never)]
fn plain<const L: usize, T: Real>(form: Form, table: &mut [Row<L, T>]) {
    portable(form, table);
}

/// Every way in which this processor can do a transform, the vectors also where others are faster.
fn ways<const L: usize, T: Real>() -> Vec<Way<L, T>> {
    let mut ways: Vec<Way<L, T>> = Vec::new();
    for with in Instructions::available() {
        ways.push((format!("{with:?}"), Box::new(move |form, table| apply(form, table, with))));
    }
    #[cfg(target_arch = "x86_64")]
    for vectors in [Vectors::Avx2, Vectors::Avx512] {
        if vectors.are_there() {
            let way = move |form, table: &mut [Row<L, T>]| {
                if !in_vectors(form, table, vectors) {
                    plain(form, table);
                }
            };
            ways.push((format!("vectors of {vectors:?}"), Box::new(way)));
        }
    }
    ways
}

/// Every transform in every way, bit by bit as the portable one, also where no row starts at a cache line.
fn all_ways_agree<const L: usize, T: Real>(variables: u32, seed: u64) {
    let table = numbers::<L, T>(variables, seed);
    for form in FORMS {
        let mut expected = table.clone();
        plain(form, &mut expected);
        for (name, way) in ways::<L, T>() {
            for start in [0, 1] {
                let mut result = [&vec![[T::ZERO; L]; start], table.as_slice()].concat();
                way(form, &mut result[start..]);
                let same = bits(&result[start..]) == bits(&expected);
                assert!(same, "{form:?} of {variables} variables, {L} lanes, by {name}");
            }
        }
    }
}

/// The portable transforms by their definitions, lane by lane, at rounding's distance.
fn portable_equals_naive<const L: usize, T: Real>(variables: u32, precision: f64) {
    let table = numbers::<L, T>(variables, u64::from(variables));
    for form in FORMS {
        let mut result = table.clone();
        plain(form, &mut result);
        for lane in 0..L {
            let alone: Vec<_> = table.iter().map(|row| row[lane].wide()).collect();
            let size: f64 = alone.iter().map(|number| number.abs()).sum();
            for (row, expected) in result.iter().zip(oracle(form)(&alone)) {
                let error = (row[lane].wide() - expected).abs();
                assert!(error <= precision * size, "{form:?}, {variables} variables: {error}");
            }
        }
    }
}

#[test]
fn portable_transforms_equal_their_naive_oracles() {
    for variables in 1..=12 {
        portable_equals_naive::<1, f64>(variables, 1e-14);
        portable_equals_naive::<1, f32>(variables, 1e-6);
    }
    for variables in 1..=9 {
        portable_equals_naive::<3, f64>(variables, 1e-14);
        portable_equals_naive::<16, f32>(variables, 1e-6);
    }
}

#[test]
fn all_ways_give_the_same_bits_in_all_batch_sizes() {
    fn of<T: Real>(variables: u32) {
        let seed = u64::from(variables);
        all_ways_agree::<1, T>(variables, seed);
        all_ways_agree::<2, T>(variables, seed);
        all_ways_agree::<3, T>(variables, seed);
        all_ways_agree::<5, T>(variables, seed);
        all_ways_agree::<8, T>(variables, seed);
        all_ways_agree::<16, T>(variables, seed);
        all_ways_agree::<24, T>(variables, seed);
    }
    for variables in 0..=12 {
        of::<f64>(variables);
        of::<f32>(variables);
    }
}

#[test]
fn tables_beyond_the_second_cache_give_the_same_bits() {
    for variables in 13..=MOST_VARIABLES {
        all_ways_agree::<8, f64>(variables, 1);
        all_ways_agree::<16, f32>(variables, 2);
        all_ways_agree::<4, f64>(variables, 3);
        all_ways_agree::<3, f32>(variables, 4);
    }
}

/// Eight rows fill 25 vectors, and no tile divides the distance of the outer stages.
#[test]
fn rows_that_no_tile_divides_give_the_same_bits() {
    for variables in 6..=11 {
        all_ways_agree::<25, f64>(variables, 5);
    }
}

/// Infinities, denormals and zeros of both signs go the same way in every order of lanes.
#[test]
fn special_numbers_give_the_same_bits() {
    let special = [0.0, -0.0, 5e-324, -5e-324, f64::MAX, f64::MIN_POSITIVE, 1.0, -1.0];
    let mut table: Vec<Row<8>> = (0..1 << 9)
        .map(|s: usize| std::array::from_fn(|lane| special[(s * 5 + lane) % 8]))
        .collect();
    table[77][3] = f64::INFINITY;
    for form in FORMS {
        let mut expected = table.clone();
        plain(form, &mut expected);
        // Of a NaN only that it is one.
        let known = |table: &[Row<8>]| -> Vec<Option<u64>> {
            table.as_flattened().iter().map(|x| (!x.is_nan()).then_some(x.to_bits())).collect()
        };
        for (name, way) in ways() {
            let mut result = table.clone();
            way(form, &mut result);
            assert!(known(&result) == known(&expected), "{form:?} by {name}");
        }
    }
}

#[test]
fn the_best_instructions_are_among_the_available() {
    let available: Vec<_> = Instructions::available().collect();
    assert_eq!(available[0], Instructions::Portable);
    assert_eq!(available.last(), Some(&Instructions::best()));
}

fn table() -> impl Strategy<Value = Vec<f64>> {
    (2usize..=10).prop_flat_map(|n| prop::collection::vec(-10.0..10.0f64, 1 << n))
}

fn close(fast: &[f64], slow: &[f64]) -> Result<(), TestCaseError> {
    for (subset, (a, b)) in fast.iter().zip(slow).enumerate() {
        prop_assert!((a - b).abs() < 1e-8, "subset {subset:b}: {a} is not {b}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn fast_transforms_equal_their_naive_oracles(table in table()) {
        let pairs: [(Fast<1, f64>, Slow); 4] = [
            (zeta, naive::zeta), (moebius, naive::moebius),
            (zeta_adjoint, naive::zeta_adjoint), (or, naive::or),
        ];
        for (fast, slow) in pairs {
            let mut result = table.clone();
            fast(single(&mut result));
            close(&result, &slow(&table))?;
        }
    }

    #[test]
    fn no_way_changes_a_bit(variables in 0u32..=13, seed in any::<u64>()) {
        all_ways_agree::<8, f64>(variables, seed);
        all_ways_agree::<16, f32>(variables, seed);
        all_ways_agree::<2, f64>(variables, seed);
    }

    #[test]
    fn inverses_undo_their_transforms(mut table in table()) {
        table[0] = 0.0;
        let mut there = table.clone();
        zeta(single(&mut there));
        moebius(single(&mut there));
        close(&there, &table)?;
        or(single(&mut there));
        or_inverse(single(&mut there));
        close(&there, &table)?;
    }

    #[test]
    fn adjoints_satisfy_their_inner_product(a in table(), seed in 0u64..1000) {
        let b: Vec<f64> =
            (0..a.len() as u64).map(|i| ((i * 37 + seed * 11) % 23) as f64 - 11.0).collect();
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let pairs: [(Fast<1, f64>, Fast<1, f64>); 2] = [(zeta, zeta_adjoint), (or, or)];
        for (forward, adjoint) in pairs {
            let (mut left, mut right) = (a.clone(), b.clone());
            forward(single(&mut left));
            adjoint(single(&mut right));
            let (left, right) = (dot(&left, &b), dot(&a, &right));
            prop_assert!((left - right).abs() <= 1e-9 * (1.0 + left.abs()));
        }
    }

    #[test]
    fn lanes_do_not_mix(a in table()) {
        let mut batch: Vec<Row<3>> = a.iter().map(|&v| [v, -2.0 * v, 0.5 * v]).collect();
        let mut alone = a;
        or(single(&mut alone));
        or(&mut batch);
        for (row, &value) in batch.iter().zip(&alone) {
            for (lane, factor) in [1.0, -2.0, 0.5].into_iter().enumerate() {
                prop_assert!((row[lane] - factor * value).abs() < 1e-8);
            }
        }
    }
}
