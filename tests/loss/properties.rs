//! What the losses must be by themselves.

use crate::nets::{Form, Net, Split};
use convergd::interaction::transform::{moebius, or_inverse, single};
use convergd::loss::{
    Baseline, FeatureConsistencyLoss, Halves, InteractionLoss, InteractionPenalty, LossError,
    Network, OutputConsistencyLoss, Ramped, Sets, Settings, Variables, log_odds,
};
use std::collections::BTreeMap;
use tch::nn::Module;
use tch::{Device, Kind, Tensor};

const SAMPLES: i64 = 8;

fn columns(groups: usize) -> Settings {
    Settings {
        lambda: 0.6,
        variables: Variables::Columns { groups },
        seed: Some(3),
        ..Settings::default()
    }
}

/// Vectors and labels of three classes.
fn vectors(samples: i64, columns: i64, kind: Kind) -> (Tensor, Tensor) {
    tch::manual_seed(2);
    let inputs = Tensor::randn([samples, columns], (kind, Device::Cpu));
    (inputs, Tensor::randint(3, [samples], (Kind::Int64, Device::Cpu)))
}

fn mlp(seed: i64) -> Net {
    Net::random_mlp(seed, 6, Kind::Float, 2.0)
}

/// Network of the form of `fixtures/make_loss.py`, with batch normalisation.
fn cnn(seed: i64, split: Split) -> Net {
    tch::manual_seed(seed);
    let on_cpu = (Kind::Float, Device::Cpu);
    let mut tensors = BTreeMap::new();
    let mut add = |name: &str, tensor| tensors.insert(name.to_owned(), tensor);
    for (layer, shape) in [("low.0", &[4i64, 1, 3, 3][..]), ("high.0", &[6, 4, 3, 3])] {
        add(&format!("{layer}.weight"), Tensor::randn(shape, on_cpu));
        add(&format!("{layer}.bias"), Tensor::randn([shape[0]], on_cpu));
    }
    add("high.4.weight", Tensor::randn([5, 6 * 16], on_cpu));
    add("high.4.bias", Tensor::randn([5], on_cpu));
    for (norm, channels) in [("low.1", 4), ("high.1", 6)] {
        add(&format!("{norm}.weight"), Tensor::ones([channels], on_cpu));
        add(&format!("{norm}.bias"), Tensor::zeros([channels], on_cpu));
        add(&format!("{norm}.running_mean"), Tensor::zeros([channels], on_cpu));
        add(&format!("{norm}.running_var"), Tensor::ones([channels], on_cpu));
    }
    Net::new(Form::Cnn, split, tensors)
}

fn images() -> (Tensor, Tensor) {
    tch::manual_seed(2);
    let inputs = Tensor::randn([SAMPLES, 1, 8, 8], (Kind::Float, Device::Cpu));
    (inputs, Tensor::randint(5, [SAMPLES], (Kind::Int64, Device::Cpu)))
}

fn number(tensor: &Tensor) -> f64 {
    tensor.double_value(&[])
}

fn largest_gradient(net: &Net) -> f64 {
    net.parameters().map(|(_, p)| p.grad().abs().max().double_value(&[])).fold(0.0, f64::max)
}

#[test]
fn two_equal_networks_have_no_loss_and_no_gradient() {
    let (target, baseline) = (mlp(0), mlp(0));
    let (inputs, labels) = vectors(SAMPLES, 6, Kind::Float);
    let nets = [&target as &dyn Network, &baseline];
    let mut interaction = InteractionLoss::new(Settings { lambda: 1.0, ..columns(6) }).unwrap();
    let mut outputs = OutputConsistencyLoss::new(1.0, 0).unwrap();
    let mut features = FeatureConsistencyLoss::new(1.0, 0).unwrap();
    for result in [
        interaction.evaluate(nets, &inputs, &labels).unwrap(),
        outputs.evaluate(nets, &inputs, &labels).unwrap(),
        features.evaluate(nets, &inputs, &labels).unwrap(),
    ] {
        assert_eq!((number(&result.consistency), number(&result.loss)), (0.0, 0.0));
        result.loss.backward();
    }
    assert_eq!((largest_gradient(&target), largest_gradient(&baseline)), (0.0, 0.0));
    let other = interaction.evaluate([&target, &mlp(1)], &inputs, &labels).unwrap();
    assert!(number(&other.consistency) > 0.01, "networks that differ have one");
}

#[test]
fn at_lambda_zero_each_network_runs_once_and_the_loss_is_plain() {
    let (target, baseline) = (mlp(0), mlp(1));
    let (inputs, labels) = vectors(SAMPLES, 6, Kind::Float);
    let plain = [&target, &baseline].map(|net| {
        number(&net.head(&net.features(&inputs, true), true).cross_entropy_for_logits(&labels))
    });
    let nets = [&target as &dyn Network, &baseline];
    let mut interaction = InteractionLoss::new(Settings { lambda: 0.0, ..columns(6) }).unwrap();
    let mut outputs = OutputConsistencyLoss::new(0.0, 0).unwrap();
    let mut features = FeatureConsistencyLoss::new(0.0, 0).unwrap();
    let [_, _] = [&target, &baseline].map(|net| net.passes.take());
    let results = [
        interaction.evaluate(nets, &inputs, &labels).unwrap(),
        outputs.evaluate(nets, &inputs, &labels).unwrap(),
        features.evaluate(nets, &inputs, &labels).unwrap(),
    ];
    for result in &results {
        assert_eq!(result.cross_entropy.each_ref().map(number), plain);
        assert_eq!((number(&result.consistency), result.lambda), (0.0, 0.0));
        assert!((number(&result.loss) - plain[0] - plain[1]).abs() < 1e-6);
    }
    assert_eq!(target.passes.take(), [SAMPLES; 3]);
    assert_eq!(baseline.passes.take(), [SAMPLES; 3]);
    let mut penalty = InteractionPenalty::new(Settings { lambda: 0.0, ..columns(6) }).unwrap();
    let alone = penalty.evaluate(&target, &inputs, &labels).unwrap();
    assert_eq!((number(&alone.loss), number(&alone.penalty)), (plain[0], 0.0));
    assert_eq!(target.passes.take(), [SAMPLES]);
    // And with λ each runs twice: the four copies are one batch.
    interaction.set_lambda(0.5, None).unwrap();
    interaction.evaluate(nets, &inputs, &labels).unwrap();
    assert_eq!(target.passes.take(), [SAMPLES, 4 * SAMPLES]);
}

#[test]
fn the_four_copies_are_of_a_share_of_the_samples() {
    let (inputs, labels) = images();
    for (fraction, rows) in [(1.0, 32), (0.25, 8), (0.01, 4)] {
        let (target, baseline) = (cnn(0, Split::Low), cnn(1, Split::Input));
        let settings = Settings { lambda: 0.5, fraction, seed: Some(0), ..Settings::default() };
        let mut loss = InteractionLoss::new(settings.clone()).unwrap();
        let result = loss.evaluate([&target, &baseline], &inputs, &labels).unwrap();
        assert_eq!(target.passes.take(), [SAMPLES, rows]);
        assert_eq!(baseline.passes.take(), [SAMPLES, rows]);
        assert!(number(&result.consistency) > 0.0);
        let mut penalty = InteractionPenalty::new(settings).unwrap();
        let alone = penalty.evaluate(&target, &inputs, &labels).unwrap();
        assert_eq!(target.passes.take(), [SAMPLES, rows]);
        assert!(number(&alone.penalty) > 0.0);
    }
}

#[test]
fn masked_copies_do_not_move_the_running_statistics() {
    let (inputs, labels) = images();
    for split in [Split::Low, Split::Input] {
        let (plain, trained) = (cnn(0, split), cnn(0, split));
        let _ = plain.head(&plain.features(&inputs, true), true);
        let settings = Settings { lambda: 0.5, seed: Some(0), ..Settings::default() };
        let mut loss = InteractionPenalty::new(settings).unwrap();
        loss.evaluate(&trained, &inputs, &labels).unwrap();
        for (name, statistic) in plain.tensors.iter().filter(|(name, _)| name.contains("running")) {
            assert!(*statistic == trained.tensors[name], "{name}");
            assert!(*statistic != cnn(0, split).tensors[name], "the plain batch moves {name}");
        }
    }
}

#[test]
fn dropout_is_off_for_masked_copies_alone() {
    let net = mlp(0);
    let dropping = Halves {
        features: |inputs: &Tensor, train: bool| net.features(inputs, train),
        head: |hidden: &Tensor, train: bool| net.head(&hidden.dropout(0.5, train), train),
    };
    let (inputs, labels) = vectors(SAMPLES, 6, Kind::Float);
    let mut loss = InteractionLoss::new(columns(6)).unwrap();
    let sets = loss.draw(&inputs).unwrap();
    let of = |net| loss.interactions(net, &inputs, &labels, &sets).unwrap();
    assert!(of(&dropping) == of(&net));
    let result = loss.evaluate_on([&dropping, &net], &inputs, &labels, &sets).unwrap();
    assert!(result.logits[0] != result.logits[1], "the plain batch has its dropout");
}

/// Eq. 10 by itself: 𝓘 is what AND effects within S1∪S2∪S3 that meet S1 and S2 give, minus OR effects that meet S1 and
/// S2 but not S3, for any split of v into the two.
#[test]
fn an_interaction_is_the_sum_of_effects_that_meet_both_sets() {
    let (variables, samples) = (5usize, 40);
    let net = Net::random_mlp(3, 5, Kind::Double, 2.5);
    let (inputs, labels) = vectors(samples, 5, Kind::Double);
    let masked = |subset: usize| {
        let keep: Vec<f64> = (0..variables).map(|i| (subset >> i & 1) as f64).collect();
        let logits = net.head(&(&inputs * Tensor::from_slice(&keep)), false);
        Vec::<f64>::try_from(log_odds(&logits, &labels).unwrap()).unwrap()
    };
    let tables: Vec<Vec<f64>> = (0..1 << variables).map(masked).collect();
    let mut loss = InteractionLoss::new(columns(variables)).unwrap();
    let sets = loss.draw(&inputs).unwrap();
    let found = loss.interactions(&net, &inputs, &labels, &sets).unwrap();
    let found = Vec::<f64>::try_from(found).unwrap();
    let present = Vec::<bool>::try_from(sets.present.flatten(0, -1)).unwrap();
    let mut random = fastrand::Rng::with_seed(4);
    for (sample, &found) in found.iter().enumerate() {
        let (ands, ors) = effects(tables.iter().map(|row| row[sample]).collect(), &mut random);
        let set = |copy: usize| {
            let at = (copy * samples as usize + sample) * variables;
            (0..variables).filter(|i| present[at + i]).map(|i| 1usize << i).sum::<usize>()
        };
        let [both, first, second, context] = [0, 1, 2, 3].map(set);
        let (first, second) = (first & !context, second & !context);
        let meeting = (1usize..1 << variables).filter(|t| t & first != 0 && t & second != 0);
        let wanted: f64 = meeting
            .map(|t| {
                let and = if t & !both == 0 { ands[t] } else { 0.0 };
                let or = if t & context == 0 { ors[t] } else { 0.0 };
                and - or
            })
            .sum();
        assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
    }
    assert!(found.iter().any(|found| found.abs() > 0.1));
}

/// AND and OR effects of a table, split at random between the two.
fn effects(table: Vec<f64>, random: &mut fastrand::Rng) -> (Vec<f64>, Vec<f64>) {
    let shift: Vec<f64> = table.iter().map(|_| random.f64() - 0.5).collect();
    let mut ands: Vec<f64> = table.iter().zip(&shift).map(|(v, s)| 0.5 * v + s).collect();
    let mut ors: Vec<f64> = table.iter().zip(&shift).map(|(v, s)| 0.5 * v - s).collect();
    let nothing = ors[0];
    ors.iter_mut().for_each(|value| *value -= nothing);
    moebius(single(&mut ands));
    or_inverse(single(&mut ors));
    (ands, ors)
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let (inputs, labels) = vectors(4, 6, Kind::Double);
    for baseline in [Baseline::Zero, Baseline::Mean] {
        let nets = [0, 1].map(|seed| Net::random_mlp(seed, 6, Kind::Double, 1.5));
        let mut loss = InteractionLoss::new(Settings { baseline, ..columns(3) }).unwrap();
        let sets = loss.draw(&inputs).unwrap();
        let mut penalty = InteractionPenalty::new(Settings { baseline, ..columns(3) }).unwrap();
        let mut outputs = OutputConsistencyLoss::new(0.4, 0).unwrap();
        let mut total = || {
            let both = [&nets[0] as &dyn Network, &nets[1]];
            let pair = loss.evaluate_on(both, &inputs, &labels, &sets).unwrap().loss;
            let one = penalty.evaluate_on(&nets[0], &inputs, &labels, &sets).unwrap().loss;
            pair + one + outputs.evaluate(both, &inputs, &labels).unwrap().loss
        };
        total().backward();
        let step = 1e-6;
        let mut checked = 0;
        for (name, parameter) in nets.iter().flat_map(Net::parameters) {
            let gradient = parameter.grad().flatten(0, -1);
            let flat = parameter.detach().view([-1]);
            for index in 0..flat.numel() as i64 {
                let mut moved = |by: f64| {
                    let _ = flat.narrow(0, index, 1).g_add_scalar_(by);
                    number(&total())
                };
                let (up, down) = (moved(step), moved(-2.0 * step));
                moved(step);
                let (found, wanted) = (gradient.double_value(&[index]), (up - down) / (2.0 * step));
                assert!((found - wanted).abs() < 1e-6, "{name} {index}: {found} {wanted}");
                checked += 1;
            }
        }
        assert_eq!(checked, 2 * (6 * 8 + 8 + 8 * 6 + 6 + 6 * 3 + 3));
    }
}

#[test]
fn half_precision_leaves_v_in_float32() {
    let (inputs, labels) = vectors(SAMPLES, 6, Kind::Float);
    let net = mlp(0);
    let half = Halves {
        features: |inputs: &Tensor, train: bool| net.features(inputs, train),
        head: |hidden: &Tensor, train: bool| net.head(hidden, train).to_kind(Kind::BFloat16),
    };
    let mut loss = InteractionPenalty::new(columns(6)).unwrap();
    let result = loss.evaluate(&half, &inputs, &labels).unwrap();
    assert_eq!(result.logits.kind(), Kind::BFloat16);
    assert_eq!((result.penalty.kind(), result.loss.kind()), (Kind::Float, Kind::Float));
    let logits = Tensor::from_slice(&[3f32, 1.0, 0.5]).to_kind(Kind::BFloat16);
    let v = log_odds(&logits, &Tensor::from(0i64)).unwrap();
    let p = 3f64.exp() / (3f64.exp() + 1f64.exp() + 0.5f64.exp());
    assert!((number(&v) - (p / (1.0 - p)).ln()).abs() < 1e-6);
}

#[test]
fn the_same_seed_draws_the_same_whatever_the_networks() {
    let (inputs, _) = images();
    let draw = |seed| {
        let settings = Settings { fraction: 0.5, seed: Some(seed), ..Settings::default() };
        InteractionLoss::new(settings).unwrap().draw(&inputs).unwrap()
    };
    let [first, again, other] = [4, 4, 5].map(draw);
    assert!(first.present == again.present && first.rows.unwrap() == again.rows.unwrap());
    assert!(first.present != other.present);
}

#[test]
fn following_the_gradient_brings_two_networks_together() {
    let nets = [0, 1].map(|seed| Net::random_mlp(seed, 6, Kind::Float, 3.0));
    let (inputs, labels) = vectors(32, 6, Kind::Float);
    let mut loss = InteractionLoss::new(Settings { lambda: 0.8, ..columns(6) }).unwrap();
    let mut seen = Vec::new();
    for _ in 0..60 {
        let result = loss.evaluate([&nets[0], &nets[1]], &inputs, &labels).unwrap();
        result.loss.backward();
        for (_, parameter) in nets.iter().flat_map(Net::parameters) {
            let mut gradient = parameter.grad();
            let _ = parameter.detach().g_sub_(&(0.02 * &gradient));
            let _ = gradient.zero_();
        }
        seen.push(number(&result.consistency));
    }
    let [first, last] = [&seen[..10], &seen[50..]].map(|some| some.iter().sum::<f64>());
    assert!(last < 0.3 * first, "{first} {last}");
}

#[test]
fn lambda_ramps_from_the_change_on() {
    let (target, baseline) = (mlp(0), mlp(1));
    let (inputs, labels) = vectors(SAMPLES, 6, Kind::Float);
    let settings = Settings { lambda: 0.0, ramp: 4, ..columns(6) };
    let mut loss = InteractionLoss::new(settings).unwrap();
    let seen: Vec<f64> = (0..6)
        .map(|step| {
            if step > 0 {
                loss.set_lambda(0.8, None).unwrap();
            }
            loss.evaluate([&target, &baseline], &inputs, &labels).unwrap().lambda
        })
        .collect();
    let wanted = [0.0, 0.2, 0.4, 0.6, 0.8, 0.8];
    assert!(seen.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12), "{seen:?}");
    assert_eq!(loss.lambda(), 0.8);
}

#[test]
fn mistakes_are_named() {
    let (images, labels) = images();
    let (net, other) = (cnn(0, Split::Low), cnn(1, Split::Low));
    let both = [&net as &dyn Network, &other];
    let of = |settings: Settings| {
        InteractionLoss::new(settings)
            .and_then(|mut loss| loss.evaluate(both, &images, &labels).map(|_| ()))
    };
    let patches = |grid, select, margin| Settings {
        variables: Variables::ImagePatches { grid, select, margin },
        ..columns(2)
    };
    let tokens = Variables::Tokens { select: 3, exclude_ids: vec![] };
    says(of(columns(3)), "features must be [B, D] with 3 columns or more, got shape [8, 4, 8, 8]");
    says(of(columns(1)), "`groups` must be 2 or more, got 1");
    says(
        of(patches(3, Some(2), 1)),
        "2 to the 1 patches of a grid of 3 without a margin of 1, got 2",
    );
    says(of(patches(9, Some(2), 0)), "a 8×8 feature map has no 9×9 patches");
    says(
        of(Settings { variables: tokens.clone(), ..columns(2) }),
        "`Tokens` needs ids int64 [B, L]",
    );
    says(of(Settings { fraction: 0.0, ..columns(2) }), "`fraction` must be more than 0");
    says(of(Settings { lambda: 2.0, ..columns(2) }), "`lambda` must be 0 to 1, got 2");

    let mut loss = InteractionLoss::new(patches(4, Some(8), 0)).unwrap();
    let bad_labels = loss.evaluate(both, &images, &labels.narrow(0, 0, 3));
    says(bad_labels, "labels must be int64 [8] for 8 samples, got Int64 [3]");
    let no_class = loss.evaluate(both, &images, &(&labels + 5));
    says(no_class, "libtorch refuses a step of the loss");
    let bools = |shape: &[i64]| Sets::given(Tensor::ones(shape, (Kind::Bool, Device::Cpu)));
    let on = |loss: &mut InteractionLoss, sets| loss.evaluate_on(both, &images, &labels, &sets);
    let wanted =
        "`present` must be bool [4, 8, 8], four sets of 8 samples with 8 variables, got Bool";
    for shape in [&[4i64, 8, 7][..], &[3, 8, 8], &[4, 7, 8], &[4]] {
        says(on(&mut loss, bools(shape)), wanted);
    }
    let units = Some(Tensor::full([8, 16], 8, (Kind::Int64, Device::Cpu)));
    says(on(&mut loss, Sets { units, ..bools(&[4, 8, 8]) }), "a variable below 8 or −1 for each");
    let mut loss = InteractionLoss::new(Settings { variables: tokens, ..columns(2) }).unwrap();
    says(on(&mut loss, bools(&[4, 8, 3])), "give `units` beside `present`");

    let around = Halves {
        features: |inputs: &Tensor, train: bool| net.features(inputs, train),
        head: |hidden: &Tensor, train: bool| net.head(&hidden.narrow(0, 0, 8), train),
    };
    let mut loss = InteractionLoss::new(patches(4, Some(8), 0)).unwrap();
    let result = loss.evaluate([&around, &other], &images, &labels);
    says(result, "32 samples at the split gave logits of shape [8, 5]");
    let narrow = Halves {
        features: |inputs: &Tensor, _train: bool| inputs.shallow_clone(),
        head: |hidden: &Tensor, train: bool| net.head(&net.features(hidden, train), train),
    };
    let mut loss = FeatureConsistencyLoss::new(0.5, 0).unwrap();
    let result = loss.evaluate([&net, &narrow], &images, &labels);
    says(result, "has shape [8, 4, 8, 8] and [8, 1, 8, 8]; compare layers of the same shape");
}

#[track_caller]
fn says<T>(result: Result<T, LossError>, part: &str) {
    let error = result.err().expect("it is refused").to_string();
    assert!(error.contains(part), "`{part}` is not in: {error}");
    assert!(!error.contains("BUG"), "{error}");
}

#[test]
fn a_layer_of_tch_is_a_part_of_a_network() {
    let store = tch::nn::VarStore::new(Device::Cpu);
    let [low, high] = [("low", 6, 6), ("high", 6, 3)]
        .map(|(name, from, to)| tch::nn::linear(store.root() / name, from, to, Default::default()));
    let net = Halves {
        features: |inputs: &Tensor, _train: bool| low.forward(inputs),
        head: |hidden: &Tensor, _train: bool| high.forward(&hidden.tanh()),
    };
    let (inputs, labels) = vectors(SAMPLES, 6, Kind::Float);
    let mut loss = InteractionPenalty::new(columns(6)).unwrap();
    loss.evaluate(&net, &inputs, &labels).unwrap().loss.backward();
    assert!(store.trainable_variables().iter().all(|p| p.grad().defined()));
}
