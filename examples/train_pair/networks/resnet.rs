//! ResNet in its form for CIFAR (He et al., 2016, section 4.2): three stages of 16, 32 and 64 channels, shortcuts
//! without parameters.

use super::Halves;
use super::layers::{Norm, conv, norm};
use tch::Tensor;
use tch::nn::{self, Conv2D, ModuleT, Path};

/// ResNet of 6n + 2 layers, split after the first one.
pub(crate) fn build(path: &Path, depth: usize, channels: i64, classes: i64) -> Halves {
    let low = nn::seq_t()
        .add(conv(path / "conv1", [channels, 16], 3, 1, 1, false))
        .add(norm(path / "bn1", 16))
        .add_fn(|x| x.relu());
    let (mut high, mut from) = (nn::seq_t(), 16);
    for (stage, to) in [16, 32, 64].into_iter().enumerate() {
        for index in 0..(depth - 2) / 6 {
            let stride = if index == 0 && stage > 0 { 2 } else { 1 };
            let path = path / format!("layer{}", stage + 1) / index;
            high = high.add(Block::new(&path, [from, to], stride));
            from = to;
        }
    }
    let high = high.add_fn(|x| x.adaptive_avg_pool2d([1, 1]).flatten(1, -1)).add(nn::linear(
        path / "fc",
        from,
        classes,
        Default::default(),
    ));
    Halves { low, high }
}

/// Two convolutions beside a shortcut, which takes every second pixel and fills new channels with zeros where the
/// block makes a map smaller (option A).
#[derive(Debug)]
struct Block {
    convolutions: [Conv2D; 2],
    norms: [Norm; 2],
    stride: i64,
    new_channels: i64,
}

impl Block {
    fn new(path: &Path, [from, to]: [i64; 2], stride: i64) -> Self {
        let first = conv(path / "conv1", [from, to], 3, stride, 1, false);
        let second = conv(path / "conv2", [to, to], 3, 1, 1, false);
        let norms = ["bn1", "bn2"].map(|name| norm(path / name, to));
        Self { convolutions: [first, second], norms, stride, new_channels: to - from }
    }
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let [first, second] = &self.convolutions;
        let hidden = self.norms[0].forward_t(&x.apply(first), train).relu();
        let hidden = self.norms[1].forward_t(&hidden.apply(second), train);
        let every = |x: &Tensor, dimension| x.slice(dimension, 0, i64::MAX, self.stride);
        let shortcut = every(&every(x, 2), 3);
        let half = self.new_channels / 2;
        let shortcut = shortcut.constant_pad_nd([0, 0, 0, 0, half, self.new_channels - half]);
        (hidden + shortcut).relu()
    }
}
