//! The networks of `fixtures/make_loss.py`, from tensors by name.

use convergd::loss::Network;
use std::cell::RefCell;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Up to where a network runs before features are masked.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Split {
    Input,
    Low,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    Cnn,
    Mlp,
    Text,
}

/// Parameters, of which a gradient is wanted, and running statistics, by name.
pub(crate) struct Net {
    pub(crate) form: Form,
    pub(crate) split: Split,
    pub(crate) tensors: BTreeMap<String, Tensor>,
    /// Rows of each pass through the head.
    pub(crate) passes: RefCell<Vec<i64>>,
}

impl Net {
    pub(crate) fn new(form: Form, split: Split, tensors: BTreeMap<String, Tensor>) -> Self {
        let net = Self { form, split, tensors, passes: RefCell::default() };
        for (_, parameter) in net.parameters() {
            let _ = parameter.set_requires_grad(true);
        }
        net
    }

    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        let is_parameter = |name: &str| name.ends_with("weight") || name.ends_with("bias");
        self.tensors.iter().filter(move |(name, _)| is_parameter(name))
    }

    /// An MLP with random weights: columns in, some classes out.
    pub(crate) fn random_mlp(seed: i64, columns: i64, kind: Kind, scale: f64) -> Self {
        tch::manual_seed(seed);
        let draw = |shape: &[i64], size: i64| {
            Tensor::randn(shape, (kind, tch::Device::Cpu)) * (scale / (size as f64).sqrt())
        };
        let mut tensors = BTreeMap::new();
        for (name, from, to) in [("low.0", columns, 8), ("high.0", 8, 6), ("high.2", 6, 3)] {
            tensors.insert(format!("{name}.weight"), draw(&[to, from], from));
            tensors.insert(format!("{name}.bias"), draw(&[to], from));
        }
        Self::new(Form::Mlp, Split::Input, tensors)
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }

    fn linear(&self, name: &str, x: &Tensor) -> Tensor {
        let [weight, bias] = ["weight", "bias"].map(|part| self.get(&format!("{name}.{part}")));
        x.linear(weight, Some(bias))
    }

    fn conv(&self, name: &str, x: &Tensor, stride: i64) -> Tensor {
        let [weight, bias] = ["weight", "bias"].map(|part| self.get(&format!("{name}.{part}")));
        x.conv2d(weight, Some(bias), [stride, stride], [1, 1], [1, 1], 1)
    }

    fn norm(&self, name: &str, x: &Tensor, train: bool) -> Tensor {
        let names = ["weight", "bias", "running_mean", "running_var"];
        let [w, b, mean, var] = names.map(|part| Some(self.get(&format!("{name}.{part}"))));
        x.batch_norm(w, b, mean, var, train, 0.1, 1e-5, false)
    }

    fn low(&self, x: &Tensor, train: bool) -> Tensor {
        match self.form {
            Form::Cnn => self.norm("low.1", &self.conv("low.0", x, 1), train).relu(),
            Form::Mlp => self.linear("low.0", x).tanh(),
            Form::Text => Tensor::embedding(self.get("low.weight"), x, -1, false, false),
        }
    }

    fn high(&self, x: &Tensor, train: bool) -> Tensor {
        match self.form {
            Form::Cnn => {
                let hidden = self.norm("high.1", &self.conv("high.0", x, 2), train).relu();
                self.linear("high.4", &hidden.flatten(1, -1))
            }
            Form::Mlp => self.linear("high.2", &self.linear("high.0", x).tanh()),
            Form::Text => {
                let mean = self.linear("first", x).mean_dim(&[1i64][..], false, None::<Kind>);
                self.linear("last", &mean.tanh())
            }
        }
    }
}

impl Network for Net {
    fn features(&self, inputs: &Tensor, train: bool) -> Tensor {
        match self.split {
            Split::Input => inputs.shallow_clone(),
            Split::Low => self.low(inputs, train),
        }
    }

    fn head(&self, features: &Tensor, train: bool) -> Tensor {
        self.passes.borrow_mut().push(features.size()[0]);
        match self.split {
            Split::Input => self.high(&self.low(features, train), train),
            Split::Low => self.high(features, train),
        }
    }
}
