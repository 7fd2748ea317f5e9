//! The AND-OR logical model of one sample in both networks of a stored pair (paper Eq. 3, Fig. 1 and 8).
//!
//! [`Model`] is the computation: the effects of both networks, which of them are salient and convergent, and how
//! far the model is from v(S) for every masked state S. [`Variable`] says what a variable is, [`Input`] what the
//! sample looks like. An [`Explanation`] is all of it, as [`Explanation::text`] for a terminal,
//! [`Explanation::json`], [`Explanation::picture`] (SVG) and [`Explanation::page`] (HTML).

mod begun;
mod input;
mod json;
mod model;
mod names;
mod page;
mod picture;
mod stored;
mod text;

#[cfg(test)]
mod tests;

pub use begun::Begun;
pub use input::{Image, Input, ProbeFile, Sequence, Token, Unreadable};
pub use model::{ExplainError, Interaction, Model, NetworkModel};
pub use names::{Meaning, Variable};
pub(crate) use picture::STYLE;
pub use stored::{StoredError, StoredPair};

use crate::config::Interactions as Settings;
use crate::telemetry::chart::number;

/// The names of the two networks, in the order of all pairs of numbers.
const NETWORKS: [&str; 2] = ["target", "baseline"];

/// One sample, explained.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Name of the run.
    pub run: String,
    /// Step of the pair.
    pub step: u64,
    /// Number of the sample, from 0.
    pub sample: usize,
    /// Number of samples P.
    pub samples: usize,
    /// The class y* whose log-odds is v.
    pub class: i64,
    /// The checkpoints of (target, baseline), where the trainers wrote them.
    pub checkpoints: [String; 2],
    /// Those that the run was begun with.
    pub settings: Settings,
    /// The variables, by their bit in the bitmasks.
    pub variables: Vec<Variable>,
    /// What the sample looks like.
    pub input: Input,
    /// The effects and what they tell.
    pub model: Model,
    /// What a reader should know beside: settings that differ, a probe file that is not there.
    pub notes: Vec<String>,
}

impl Explanation {
    /// For example "digits: step 8, sample 0 of 0 to 39, class 5".
    fn title(&self) -> String {
        let Self { run, step, sample, class, .. } = self;
        let last = self.samples.saturating_sub(1);
        format!("{run}: step {step}, sample {sample} (of 0 to {last}), class {class}")
    }

    /// The variables of an interaction, for a reader: "1, 3" or "2 melted, 3 due".
    pub(crate) fn members(&self, interaction: &Interaction) -> String {
        let label = |&index: &usize| {
            self.variables.get(index).map_or_else(|| (index + 1).to_string(), Variable::label)
        };
        interaction.variables.iter().map(label).collect::<Vec<_>>().join(", ")
    }
}

/// A label and the values of (target, baseline) as text.
type Row = (&'static str, [String; 2]);

impl Explanation {
    /// What each network does alone, for a reader; effects, values and errors are log-odds.
    fn numbers(&self) -> Vec<Row> {
        let networks = &self.model.networks;
        let row = |name, of: &dyn Fn(&NetworkModel) -> String| (name, networks.each_ref().map(of));
        vec![
            row("v(∅)", &|network| number(network.values[0])),
            row("v(N)", &|network| number(network.values[1])),
            row("v(N) − v(∅)", &|network| number(network.output())),
            row("sum of all effects", &|network| number(network.sum)),
            row("salient above (τ)", &|network| number(network.threshold)),
            row("interactions", &|network| network.count.to_string()),
            row("salient ones", &|network| network.salient.to_string()),
            row("largest error, all kept", &|network| number(network.largest_error())),
            row("allowed error (ζ)", &|network| number(network.noise)),
        ]
    }

    /// The certificates, for a reader.
    fn certificates(&self) -> Vec<Row> {
        let networks = &self.model.networks;
        let row = |name, of: &dyn Fn(&NetworkModel) -> String| (name, networks.each_ref().map(of));
        vec![
            row("certificate", &|network| network.proof().to_owned()),
            row("cost Σc·|effect|", &|network| number(network.certificate.objective)),
            row("proven lower bound", &|network| number(network.certificate.bound)),
            row("relative gap", &|network| match network.certificate.gap() {
                gap if gap.is_finite() => number(gap),
                _ => "none proven".to_owned(),
            }),
        ]
    }
}

/// An effect with its sign.
pub(crate) fn signed(effect: f64) -> String {
    if effect > 0.0 { format!("+{}", number(effect)) } else { number(effect) }
}

/// A text of at most so many characters; what is longer ends with "…".
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// How many of a list are shown.
fn shown(count: usize, all: usize) -> String {
    match all {
        0 => "none".to_owned(),
        all if count < all => format!("the {count} strongest of {all}"),
        all => format!("all {all}"),
    }
}
