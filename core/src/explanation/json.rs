//! An explanation for programs; the names are part of the interface (`docs/explain.md`).

use super::{Explanation, Interaction, Meaning, NetworkModel, Variable};
use serde_json::{Value, json};

impl Explanation {
    /// Everything, as one object. Numbers that are not finite are null.
    pub fn json(&self) -> Value {
        let Self { settings, model, .. } = self;
        let networks = model.networks.each_ref().map(network);
        let [target, baseline] = &self.checkpoints;
        json!({
            "run": self.run, "step": self.step, "sample": self.sample, "samples": self.samples,
            "class": self.class,
            "checkpoints": {"target": target, "baseline": baseline},
            "settings": {
                "noise": settings.noise, "salience": settings.salience, "gap": settings.solver.gap,
                "iterations": settings.solver.iterations,
                "largest_basis": settings.solver.largest_basis,
            },
            "variables": self.variables.iter().map(variable).collect::<Vec<_>>(),
            "networks": both(networks),
            "convergent": model.convergent(),
            "interactions": model.interactions.iter().map(interaction).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    /// A short form, for a list of samples: the `top` strongest interactions.
    pub fn strongest_json(&self, top: usize) -> Value {
        let strongest = self.model.interactions.iter().take(top).map(interaction);
        json!({
            "sample": self.sample, "class": self.class,
            "output": both(self.model.networks.each_ref().map(NetworkModel::output)),
            "salient": self.model.interactions.len(), "convergent": self.model.convergent(),
            "interactions": strongest.collect::<Vec<_>>(),
        })
    }
}

fn both<T: Into<Value>>([target, baseline]: [T; 2]) -> Value {
    json!({"target": target.into(), "baseline": baseline.into()})
}

fn network(network: &NetworkModel) -> Value {
    let certificate = &network.certificate;
    json!({
        "empty": network.values[0], "full": network.values[1], "output": network.output(),
        "sum": network.sum, "threshold": network.threshold, "noise": network.noise,
        "interactions": network.count, "salient": network.salient,
        "fidelity": network.fidelity,
        "largest_error": network.largest_error(), "faithful": network.is_faithful(),
        "certificate": {
            "status": network.proof(), "objective": certificate.objective,
            "bound": certificate.bound, "gap": certificate.gap(),
            "feasible": certificate.feasible, "violation": certificate.violation,
            "iterations": network.iterations,
        },
    })
}

fn variable(variable: &Variable) -> Value {
    let mut value = json!({"number": variable.number, "name": variable.description()});
    let more = match &variable.meaning {
        Meaning::Patch { row, column } => ("patch", json!({"row": row, "column": column})),
        Meaning::Words(words) => ("words", json!(words)),
        Meaning::Tokens(ids) => ("ids", json!(ids)),
        Meaning::Positions(positions) => ("positions", json!(positions)),
        Meaning::Columns { first, every } => ("columns", json!({"first": first, "every": every})),
        Meaning::Unknown => return value,
    };
    value[more.0] = more.1;
    value
}

fn interaction(interaction: &Interaction) -> Value {
    let numbers = interaction.variables.iter().map(|index| index + 1);
    json!({
        "kind": interaction.kind, "subset": interaction.subset,
        "variables": numbers.collect::<Vec<_>>(), "order": interaction.variables.len(),
        "effect": both(interaction.effects), "salient": both(interaction.agreement.salient),
        "convergent": interaction.agreement.convergent, "verdict": interaction.verdict(),
    })
}
