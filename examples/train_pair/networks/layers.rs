//! Layers as PyTorch has them.

use tch::Tensor;
use tch::nn::{self, BatchNormConfig, ConvConfig, Init, ModuleT, Path};

/// A square convolution.
pub(crate) fn conv(
    path: Path,
    [from, to]: [i64; 2],
    kernel: i64,
    stride: i64,
    padding: i64,
    bias: bool,
) -> nn::Conv2D {
    let config = ConvConfig { stride, padding, bias, ..ConvConfig::default() };
    nn::conv2d(path, from, to, kernel, config)
}

/// Batch normalisation with the counter of batches, which PyTorch keeps too, so that checkpoints have all its buffers.
#[derive(Debug)]
pub(crate) struct Norm {
    norm: nn::BatchNorm,
    batches: Tensor,
}

/// Batch normalisation of a feature map.
pub(crate) fn norm(path: Path, channels: i64) -> Norm {
    let config = BatchNormConfig { ws_init: Init::Const(1.0), ..BatchNormConfig::default() };
    let none = Tensor::zeros([0i64; 0], (tch::Kind::Int64, path.device()));
    let batches = path.add("num_batches_tracked", none, false);
    Norm { norm: nn::batch_norm2d(path, channels, config), batches }
}

impl ModuleT for Norm {
    fn forward_t(&self, inputs: &Tensor, train: bool) -> Tensor {
        if train {
            let _ = self.batches.shallow_clone().g_add_scalar_(1);
        }
        self.norm.forward_t(inputs, train)
    }
}
