//! A small convolutional network for small images.

use super::Halves;
use super::layers::{conv, norm};
use tch::nn::{self, Path};

const WIDTH: i64 = 16;

/// That of `examples/pytorch/digits.py`, for images of any size. Batch normalisation is in the first two blocks only: in
/// all of them it would hold the memorising down, and the test loss would hardly rise again.
pub(crate) fn build(path: &Path, channels: i64, side: i64, classes: i64) -> Halves {
    let (low, high) = (path / "low", path / "high");
    let side = (side + 1) / 2;
    Halves {
        low: nn::seq_t()
            .add(conv(&low / "0", [channels, WIDTH], 3, 1, 1, true))
            .add(norm(&low / "1", WIDTH))
            .add_fn(|x| x.relu()),
        high: nn::seq_t()
            .add(conv(&high / "0", [WIDTH, WIDTH], 3, 1, 1, true))
            .add(norm(&high / "1", WIDTH))
            .add_fn(|x| x.relu())
            .add(conv(&high / "3", [WIDTH, 2 * WIDTH], 3, 2, 1, true))
            .add_fn(|x| x.relu().flatten(1, -1))
            .add(nn::linear(&high / "6", 2 * WIDTH * side * side, 64, Default::default()))
            .add_fn(|x| x.relu())
            .add(nn::linear(path / "classify", 64, classes, Default::default())),
    }
}
