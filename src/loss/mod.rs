//! Losses of the regularised phase for trainers in Rust (DESIGN section 12; paper Eq. 9–12, docs/loss.md).
//!
//! ```text
//! λ · E[(𝓘_a − 𝓘_b)²]  + (1 − λ) · (CE_a + CE_b)        InteractionLoss            (Eq. 9)
//! λ · E[𝓘²]            + (1 − λ) · CE                   InteractionPenalty
//! λ · E‖z_a − z_b‖²    + (1 − λ) · (CE_a + CE_b)        OutputConsistencyLoss      (Eq. 11)
//! λ · E‖f_a − f_b‖²    + (1 − λ) · (CE_a + CE_b)        FeatureConsistencyLoss     (Eq. 12)
//!
//! 𝓘 = v(S1∪S2∪S3) − v(S1∪S3) − v(S2∪S3) + v(S3),  v = z_y − logsumexp of the other logits     (Eq. 10)
//! ```
//!
//! They are those of the Python package `convergd.torch`, number for number where the sets are given; a seed draws
//! other sets here than there.
//!
//! ```
//! use convergd::loss::{Halves, InteractionLoss, LossError, Ramped, Settings, Variables};
//! use tch::nn::{self, Module};
//! use tch::{Device, Kind, Tensor};
//!
//! # fn main() -> Result<(), LossError> {
//! let store = nn::VarStore::new(Device::Cpu);
//! let network = |path: nn::Path| {
//!     let low = nn::linear(&path / "low", 6, 8, Default::default());
//!     let high = nn::linear(&path / "high", 8, 3, Default::default());
//!     // Features are masked after the first layer. Without dropout and normalisation `train` changes nothing.
//!     Halves {
//!         features: move |inputs: &Tensor, _train: bool| low.forward(inputs).tanh(),
//!         head: move |hidden: &Tensor, _train: bool| high.forward(hidden),
//!     }
//! };
//! let (target, baseline) = (network(store.root() / "target"), network(store.root() / "baseline"));
//!
//! let variables = Variables::Columns { groups: 4 };
//! let mut loss = InteractionLoss::new(Settings { variables, seed: Some(0), ..Settings::default() })?;
//! loss.set_lambda(0.8, Some(0))?;     // what the control file says, at each step
//! let inputs = Tensor::randn([16, 6], (Kind::Float, Device::Cpu));
//! let labels = Tensor::randint(3, [16], (Kind::Int64, Device::Cpu));
//! let result = loss.evaluate([&target, &baseline], &inputs, &labels)?;
//! result.loss.backward();             // then the step of an optimiser, as usual
//! assert!(result.consistency.double_value(&[]) > 0.0);
//! # Ok(())
//! # }
//! ```

mod consistency;
mod error;
mod interaction;
mod masking;
mod network;
mod penalty;
mod ramp;
mod sets;
mod values;
mod variables;

pub use consistency::{FeatureConsistencyLoss, OutputConsistencyLoss};
pub use error::LossError;
pub use interaction::{InteractionLoss, PairLoss};
pub use masking::Baseline;
pub use network::{Halves, Network};
pub use penalty::{InteractionPenalty, PenaltyLoss};
pub use ramp::{Ramp, Ramped};
pub use sets::{Sets, Settings};
pub use values::{interaction, log_odds};
pub use variables::Variables;

/// The example of the documentation compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/loss.md")]
mod documentation {}
