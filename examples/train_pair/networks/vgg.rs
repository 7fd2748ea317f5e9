//! VGG (Simonyan & Zisserman, 2015) in the form that is usual for CIFAR: batch normalisation, and one linear layer
//! behind the last pooling.

use super::Halves;
use super::layers::{conv, norm};
use tch::nn::{self, Path, SequentialT};

/// How many layers have weights in the form for ImageNet, which has three linear ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// VGG-11, configuration A.
    Eleven,
    /// VGG-13, configuration B.
    Thirteen,
    /// VGG-16, configuration D.
    Sixteen,
}

impl Depth {
    /// Channels of the convolutions between poolings.
    pub(crate) fn blocks(self) -> Vec<Vec<i64>> {
        let convolutions = match self {
            Self::Eleven => [1, 1, 2, 2, 2],
            Self::Thirteen => [2, 2, 2, 2, 2],
            Self::Sixteen => [2, 2, 3, 3, 3],
        };
        let channels = [64, 128, 256, 512, 512];
        channels.iter().zip(convolutions).map(|(&own, count)| vec![own; count]).collect()
    }
}

/// Split after the first convolution; images are 32×32 or larger.
pub(crate) fn build(path: &Path, depth: Depth, channels: i64, classes: i64) -> Halves {
    let features = path / "features";
    let (mut low, mut high) = (nn::seq_t(), nn::seq_t());
    // PyTorch numbers the layers without weights too.
    let (mut index, mut from) = (0, channels);
    for block in depth.blocks() {
        for to in block {
            let half = if index == 0 { &mut low } else { &mut high };
            let own = std::mem::replace(half, nn::seq_t());
            *half = add_convolution(own, &features, index, [from, to]);
            (index, from) = (index + 3, to);
        }
        high = high.add_fn(|x| x.max_pool2d_default(2));
        index += 1;
    }
    let classifier = nn::linear(path / "classifier", from, classes, Default::default());
    let high = high.add_fn(|x| x.adaptive_avg_pool2d([1, 1]).flatten(1, -1)).add(classifier);
    Halves { low, high }
}

fn add_convolution(layers: SequentialT, path: &Path, index: usize, size: [i64; 2]) -> SequentialT {
    layers
        .add(conv(path / index, size, 3, 1, 1, true))
        .add(norm(path / (index + 1), size[1]))
        .add_fn(|x| x.relu())
}
