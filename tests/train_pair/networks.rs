//! Numbers of parameters against the published ones and against formulae, and outputs against PyTorch.

use crate::common;
use crate::example::networks::{Architecture, bert, parameters, vgg};
use clap::ValueEnum;
use convergd::loss::{InteractionLoss, Settings};
use convergd::saving::{save_checkpoint, save_tensors};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

fn count(architecture: Architecture, classes: i64) -> usize {
    let store = VarStore::new(Device::Cpu);
    architecture.build(&store.root(), &[3, 32, 32], classes).unwrap();
    parameters(&store)
}

/// Weights and biases.
fn linear(from: usize, to: usize) -> usize {
    from * to + to
}

fn conv(from: usize, to: usize, kernel: usize) -> usize {
    linear(from * kernel * kernel, to)
}

/// torchvision's documentation gives VGG with three linear layers for 1,000 classes and without batch normalisation: 132,863,336,
/// 133,047,848 and 138,357,544. The convolutions are the same.
#[test]
fn vgg_is_that_of_torchvision_but_for_its_head() {
    let head = linear(512 * 49, 4096) + linear(4096, 4096) + linear(4096, 1000);
    assert_eq!(head, 123_642_856);
    for (architecture, depth, published) in [
        (Architecture::Vgg11, vgg::Depth::Eleven, 132_863_336),
        (Architecture::Vgg13, vgg::Depth::Thirteen, 133_047_848),
        (Architecture::Vgg16, vgg::Depth::Sixteen, 138_357_544),
    ] {
        let own: Vec<usize> =
            depth.blocks().into_iter().flatten().map(|channels| channels as usize).collect();
        let from = std::iter::once(3).chain(own.iter().copied());
        let convolutions: usize = from.zip(&own).map(|(from, to)| conv(from, *to, 3)).sum();
        let norms: usize = own.iter().map(|channels| 2 * channels).sum();
        assert_eq!(convolutions + head, published, "{architecture:?}");
        assert_eq!(count(architecture, 10), convolutions + norms + linear(512, 10));
    }
    // Often given as 14.7 million.
    assert_eq!(count(Architecture::Vgg16, 10), 14_728_266);
}

/// He et al. (2016), table 6: 0.27 and 0.46 million.
#[test]
fn resnet_is_that_of_its_paper() {
    for (architecture, blocks, published) in
        [(Architecture::Resnet20, 3, 0.27), (Architecture::Resnet32, 5, 0.46)]
    {
        // Convolutions have no bias, normalisations have two numbers a channel.
        let layer = |from: usize, to: usize| 9 * from * to + 2 * to;
        let stage = |from, to| layer(from, to) + (2 * blocks - 1) * layer(to, to);
        let stages = stage(16, 16) + stage(16, 32) + stage(32, 64);
        let wanted = layer(3, 16) + stages + linear(64, 10);
        assert_eq!(count(architecture, 10), wanted);
        assert_eq!((wanted as f64 / 1e4).round() / 100.0, published);
    }
    assert_eq!(count(Architecture::Resnet20, 10), 269_722);
    assert_eq!(count(Architecture::Resnet32, 10), 464_154);
}

/// torchvision's documentation: 61,100,840 for 1,000 classes.
#[test]
fn alexnet_is_that_of_torchvision() {
    let convolutions = conv(3, 64, 11)
        + conv(64, 192, 5)
        + conv(192, 384, 3)
        + conv(384, 256, 3)
        + conv(256, 256, 3);
    let head = linear(256 * 36, 4096) + linear(4096, 4096) + linear(4096, 1000);
    assert_eq!(convolutions + head, 61_100_840);
    assert_eq!(count(Architecture::Alexnet, 1000), 61_100_840);
}

/// The model cards of google/bert_uncased_L-2_H-128_A-2 and L-8_H-512_A-8 give 4.4 and 41.4 million, that of bert-base-uncased
/// 110 million; exactly 4,385,920, 41,373,184 and 109,482,240 in `transformers`, with the pooler.
#[test]
fn encoders_are_those_of_google() {
    for (shape, published) in
        [(bert::TINY, 4_385_920), (bert::MEDIUM, 41_373_184), (bert::BASE, 109_482_240)]
    {
        let (width, norm) = (shape.width as usize, 2 * shape.width as usize);
        let embeddings = (30_522 + 512 + 2) * width + norm;
        let attention = 4 * linear(width, width) + norm;
        let inner = linear(width, 4 * width) + linear(4 * width, width) + norm;
        let wanted = embeddings + shape.layers * (attention + inner) + linear(width, width);
        assert_eq!(wanted, published);
        let store = VarStore::new(Device::Cpu);
        bert::Encoder::new(&store.root(), shape);
        assert_eq!(parameters(&store), published);
    }
}

/// What `export.py` builds has the same names, shapes and outputs, so that an exported program takes the checkpoints.
#[test]
fn outputs_are_those_of_pytorch_from_the_same_checkpoint() {
    if !common::has_python() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut script = common::script("check_networks.py");
    for (architecture, sample) in [
        (Architecture::Small, &[1i64, 9, 9][..]),
        (Architecture::Vgg11, &[3, 32, 32]),
        (Architecture::Resnet20, &[3, 32, 32]),
        (Architecture::Alexnet, &[3, 32, 32]),
        (Architecture::BertTiny, &[7]),
    ] {
        let name = architecture.to_possible_value().unwrap().get_name().to_owned();
        let store = VarStore::new(Device::Cpu);
        let network = architecture.build(&store.root(), sample, 10).unwrap();
        let shape: Vec<i64> = std::iter::once(4).chain(sample.iter().copied()).collect();
        let inputs = match architecture.encoder() {
            Some(_) => Tensor::randint(30_522, &shape, (Kind::Int64, Device::Cpu)),
            None => Tensor::rand(&shape, (Kind::Float, Device::Cpu)),
        };
        let logits = tch::no_grad(|| {
            // Statistics away from where they begin.
            let _ = network.head(&network.features(&inputs, true), true);
            network.head(&network.features(&inputs, false), false)
        });
        let own = directory.path().join(name);
        save_checkpoint(&store.variables(), &own, 1).unwrap();
        let tensors = [("inputs", &inputs), ("logits", &logits)];
        save_tensors(tensors, None, &own.join("outputs.safetensors")).unwrap();
        script.arg(own);
    }
    eprintln!("{}", common::succeed(&mut script));
}

/// AlexNet, ResNet and an encoder can be trained with the loss of a pair.
#[test]
fn losses_reach_every_parameter() {
    let rules = [
        (
            Architecture::Resnet20,
            Settings::default(),
            Tensor::rand([2, 3, 32, 32], on(Kind::Float)),
        ),
        (Architecture::Alexnet, Settings::default(), Tensor::rand([2, 3, 32, 32], on(Kind::Float))),
        (
            Architecture::BertTiny,
            Settings {
                variables: convergd::loss::Variables::Tokens { select: 3, exclude_ids: vec![0] },
                ..Settings::default()
            },
            Tensor::randint_low(1, 30_522, [2, 7], on(Kind::Int64)),
        ),
    ];
    for (architecture, settings, inputs) in rules {
        let stores = [(); 2].map(|()| VarStore::new(Device::Cpu));
        let sample = &inputs.size()[1..];
        let [a, b] =
            stores.each_ref().map(|store| architecture.build(&store.root(), sample, 10).unwrap());
        let mut loss = InteractionLoss::new(Settings { lambda: 0.5, ..settings }).unwrap();
        let labels = Tensor::from_slice(&[3i64, 7]);
        let result = loss.evaluate([&*a, &*b], &inputs, &labels).unwrap();
        assert!(result.consistency.double_value(&[]) > 0.0, "{architecture:?}");
        result.loss.backward();
        for (name, parameter) in stores.iter().flat_map(VarStore::variables) {
            let is_reached = !parameter.requires_grad() || parameter.grad().defined();
            assert!(is_reached, "{architecture:?}: {name}");
        }
    }
}

fn on(kind: Kind) -> (Kind, Device) {
    (kind, Device::Cpu)
}
