//! The networks that can be trained, each split after its first layers. Parameters and buffers have the names that
//! PyTorch gives them, so that a program exported by `export.py`, or of torchvision's or Hugging Face's network, fits their
//! checkpoints.

pub(crate) mod alexnet;
pub(crate) mod bert;
mod layers;
pub(crate) mod resnet;
pub(crate) mod small;
pub(crate) mod vgg;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use convergd::loss::Network;
use tch::Tensor;
use tch::nn::{ModuleT, Path, SequentialT, VarStore};

/// A network by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    /// Four layers, three of them convolutions, for any small image.
    Small,
    /// VGG-11 with batch normalisation, CIFAR form.
    Vgg11,
    /// VGG-13 with batch normalisation, CIFAR form.
    Vgg13,
    /// VGG-16 with batch normalisation, CIFAR form.
    Vgg16,
    /// ResNet-20, CIFAR form.
    Resnet20,
    /// ResNet-32, CIFAR form.
    Resnet32,
    /// AlexNet; images are enlarged to 224×224.
    Alexnet,
    /// An encoder of two layers, for ids of tokens.
    BertTiny,
    /// An encoder of eight layers, for ids of tokens.
    BertMedium,
    /// An encoder of twelve layers, for ids of tokens.
    BertBase,
}

impl Architecture {
    /// The shape of an encoder, nothing for a network of images.
    pub(crate) fn encoder(self) -> Option<bert::Shape> {
        match self {
            Self::BertTiny => Some(bert::TINY),
            Self::BertMedium => Some(bert::MEDIUM),
            Self::BertBase => Some(bert::BASE),
            _ => None,
        }
    }

    /// The network for samples of a shape: square images [C, H, W], or texts [L].
    pub(crate) fn build(
        self,
        path: &Path,
        sample: &[i64],
        classes: i64,
    ) -> Result<Box<dyn Network>> {
        if let Some(shape) = self.encoder() {
            let is_text = matches!(sample, [length] if *length <= bert::POSITIONS);
            ensure!(
                is_text,
                "an encoder takes at most {} ids, not samples of shape {sample:?}",
                bert::POSITIONS
            );
            return Ok(Box::new(bert::build(path, shape, classes)));
        }
        let [channels, height, width] = *sample else {
            bail!("this network takes images, not samples of shape {sample:?}; take an encoder")
        };
        ensure!(height == width, "images must be square, these are {height}×{width}");
        let vgg = |depth| Box::new(vgg::build(path, depth, channels, classes));
        let resnet = |depth| Box::new(resnet::build(path, depth, channels, classes));
        let least = if matches!(self, Self::Vgg11 | Self::Vgg13 | Self::Vgg16) { 32 } else { 4 };
        ensure!(
            height >= least,
            "images of {height} pixels a side are too small for it, {least} is the least"
        );
        Ok(match self {
            Self::Vgg11 => vgg(vgg::Depth::Eleven),
            Self::Vgg13 => vgg(vgg::Depth::Thirteen),
            Self::Vgg16 => vgg(vgg::Depth::Sixteen),
            Self::Resnet20 => resnet(20),
            Self::Resnet32 => resnet(32),
            Self::Alexnet => Box::new(alexnet::build(path, channels, classes)),
            _ => Box::new(small::build(path, channels, height, classes)),
        })
    }
}

/// Numbers that are trained; running statistics are not.
pub(crate) fn parameters(store: &VarStore) -> usize {
    store.trainable_variables().iter().map(Tensor::numel).sum()
}

/// Layers below and above a split.
#[derive(Debug)]
pub(crate) struct Halves {
    /// Up to the split.
    pub(crate) low: SequentialT,
    /// From there on.
    pub(crate) high: SequentialT,
}

impl Network for Halves {
    fn features(&self, inputs: &Tensor, train: bool) -> Tensor {
        self.low.forward_t(inputs, train)
    }

    fn head(&self, features: &Tensor, train: bool) -> Tensor {
        self.high.forward_t(features, train)
    }
}
