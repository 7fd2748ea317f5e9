//! Encoders in the shape of BERT (Devlin et al., 2019), with the names of Hugging Face's `BertModel`.
//!
//! They are masked at their embeddings, as `convergd.embedding_split` has it. The head takes nothing but the features, so
//! every position counts: texts are of one length, without padding.

use convergd::loss::Network;
use tch::nn::{self, Embedding, LayerNorm, Linear, Module, Path};
use tch::{Kind, Tensor};

/// Ids of tokens are below this.
pub(crate) const WORDS: i64 = 30_522;
/// The longest text.
pub(crate) const POSITIONS: i64 = 512;
const SEGMENTS: i64 = 2;
const DROPOUT: f64 = 0.1;
/// That of BERT; PyTorch's own is 1e-5.
const EPSILON: f64 = 1e-12;

/// Layers, width and heads; inner layers are four times as wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Number of layers.
    pub(crate) layers: usize,
    /// Width of a token.
    pub(crate) width: i64,
    /// Heads of attention.
    pub(crate) heads: i64,
}

/// google/bert_uncased_L-2_H-128_A-2.
pub(crate) const TINY: Shape = Shape { layers: 2, width: 128, heads: 2 };
/// google/bert_uncased_L-8_H-512_A-8.
pub(crate) const MEDIUM: Shape = Shape { layers: 8, width: 512, heads: 8 };
/// bert-base-uncased.
pub(crate) const BASE: Shape = Shape { layers: 12, width: 768, heads: 12 };

/// An encoder with its pooler.
#[derive(Debug)]
pub(crate) struct Encoder {
    words: Embedding,
    positions: Embedding,
    segments: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
    pooler: Linear,
}

impl Encoder {
    /// Ids [B, L] in, pooled [B, width] out.
    pub(crate) fn new(path: &Path, shape: Shape) -> Self {
        let own = path / "embeddings";
        let embedding =
            |name: &str, count| nn::embedding(&own / name, count, shape.width, Default::default());
        let layer = |index| Layer::new(&(path / "encoder" / "layer" / index), shape);
        Self {
            words: embedding("word_embeddings", WORDS),
            positions: embedding("position_embeddings", POSITIONS),
            segments: embedding("token_type_embeddings", SEGMENTS),
            norm: layer_norm(&own / "LayerNorm", shape.width),
            layers: (0..shape.layers).map(layer).collect(),
            pooler: linear(path / "pooler" / "dense", shape.width, shape.width),
        }
    }

    /// Ids [B, L] to [B, L, width]: word, place and segment.
    fn embedded(&self, ids: &Tensor, train: bool) -> Tensor {
        let place = Tensor::arange(ids.size()[1], (Kind::Int64, ids.device()));
        let place = self.positions.forward(&place) + self.segments.forward(&place.zeros_like());
        let sum = self.words.forward(ids) + place;
        self.norm.forward(&sum).dropout(DROPOUT, train)
    }

    /// From the embeddings [B, L, width] to [B, width].
    fn pooled(&self, embedded: &Tensor, train: bool) -> Tensor {
        let mut hidden = embedded.shallow_clone();
        for layer in &self.layers {
            hidden = layer.forward(&hidden, train);
        }
        self.pooler.forward(&hidden.select(1, 0)).tanh()
    }
}

#[derive(Debug)]
struct Layer {
    heads: i64,
    /// Query, key, value.
    projections: [Linear; 3],
    attended: (Linear, LayerNorm),
    inner: Linear,
    output: (Linear, LayerNorm),
}

impl Layer {
    fn new(path: &Path, Shape { width, heads, .. }: Shape) -> Self {
        let own = path / "attention" / "self";
        let closing = |path: Path, from| {
            let norm = layer_norm(&path / "LayerNorm", width);
            (linear(path / "dense", from, width), norm)
        };
        Self {
            heads,
            projections: ["query", "key", "value"].map(|name| linear(&own / name, width, width)),
            attended: closing(path / "attention" / "output", width),
            inner: linear(path / "intermediate" / "dense", width, 4 * width),
            output: closing(path / "output", 4 * width),
        }
    }

    fn forward(&self, hidden: &Tensor, train: bool) -> Tensor {
        let [batch, length, width] = [0, 1, 2].map(|dimension| hidden.size()[dimension]);
        let split = |tensor: Tensor| {
            tensor.view([batch, length, self.heads, width / self.heads]).transpose(1, 2)
        };
        let [query, key, value] = self.projections.each_ref().map(|own| split(own.forward(hidden)));
        let scale = ((width / self.heads) as f64).sqrt();
        let weights = (query.matmul(&key.transpose(-2, -1)) / scale).softmax(-1, None::<Kind>);
        let attended = weights.dropout(DROPOUT, train).matmul(&value).transpose(1, 2);
        let attended = attended.contiguous().view([batch, length, width]);
        let close = |(dense, norm): &(Linear, LayerNorm), own: &Tensor, beside: &Tensor| {
            norm.forward(&(dense.forward(own).dropout(DROPOUT, train) + beside))
        };
        let hidden = close(&self.attended, &attended, hidden);
        close(&self.output, &self.inner.forward(&hidden).gelu("none"), &hidden)
    }
}

fn linear(path: Path, from: i64, to: i64) -> Linear {
    nn::linear(path, from, to, Default::default())
}

fn layer_norm(path: Path, width: i64) -> LayerNorm {
    let config = nn::LayerNormConfig { eps: EPSILON, ..Default::default() };
    nn::layer_norm(path, vec![width], config)
}

/// An encoder with a classifier, as Hugging Face's `BertForSequenceClassification`.
#[derive(Debug)]
pub(crate) struct Classifier {
    encoder: Encoder,
    classifier: Linear,
}

/// An encoder under `bert` and a layer that classifies.
pub(crate) fn build(path: &Path, shape: Shape, classes: i64) -> Classifier {
    let encoder = Encoder::new(&(path / "bert"), shape);
    Classifier { encoder, classifier: linear(path / "classifier", shape.width, classes) }
}

impl Network for Classifier {
    fn features(&self, inputs: &Tensor, train: bool) -> Tensor {
        self.encoder.embedded(inputs, train)
    }

    fn head(&self, features: &Tensor, train: bool) -> Tensor {
        let pooled = self.encoder.pooled(features, train).dropout(DROPOUT, train);
        self.classifier.forward(&pooled)
    }
}
