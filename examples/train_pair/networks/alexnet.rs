//! AlexNet in the form of torchvision ("One weird trick", Krizhevsky, 2014).

use super::Halves;
use super::layers::conv;
use tch::nn::{self, Path};

/// The side that images are enlarged to: its poolings leave nothing of much smaller ones.
const SIDE: i64 = 224;

/// Split after the first pooling.
pub(crate) fn build(path: &Path, channels: i64, classes: i64) -> Halves {
    let (features, classifier) = (path / "features", path / "classifier");
    let linear =
        |index: usize, from, to| nn::linear(&classifier / index, from, to, Default::default());
    Halves {
        low: nn::seq_t()
            .add_fn(|x| x.upsample_bilinear2d([SIDE, SIDE], false, None, None))
            .add(conv(&features / 0, [channels, 64], 11, 4, 2, true))
            .add_fn(|x| x.relu().max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false)),
        high: nn::seq_t()
            .add(conv(&features / 3, [64, 192], 5, 1, 2, true))
            .add_fn(|x| x.relu().max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false))
            .add(conv(&features / 6, [192, 384], 3, 1, 1, true))
            .add_fn(|x| x.relu())
            .add(conv(&features / 8, [384, 256], 3, 1, 1, true))
            .add_fn(|x| x.relu())
            .add(conv(&features / 10, [256, 256], 3, 1, 1, true))
            .add_fn(|x| x.relu().max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false))
            .add_fn(|x| x.adaptive_avg_pool2d([6, 6]).flatten(1, -1))
            .add_fn_t(|x, train| x.dropout(0.5, train))
            .add(linear(1, 256 * 36, 4096))
            .add_fn(|x| x.relu())
            .add_fn_t(|x, train| x.dropout(0.5, train))
            .add(linear(4, 4096, 4096))
            .add_fn(|x| x.relu())
            .add(linear(6, 4096, classes)),
    }
}
