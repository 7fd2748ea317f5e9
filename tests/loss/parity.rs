//! Losses, gradients of every parameter and running statistics against `convergd.torch`.

use crate::common;
use crate::nets::{Form, Net, Split};
use convergd::evaluation::DeviceChoice;
use convergd::loss::{
    Baseline, FeatureConsistencyLoss, InteractionLoss, InteractionPenalty, Network,
    OutputConsistencyLoss, PairLoss, Sets, Settings, Variables,
};
use convergd::network::precision::use_float32;
use serde_json::Value;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Largest difference of a loss or a gradient, absolute where numbers are below 1.
const TOLERANCE: f64 = 1e-5;

/// What `fixtures/make_loss.py` wrote of a case.
struct Case {
    name: String,
    of: Value,
    tensors: BTreeMap<String, Tensor>,
}

/// What both packages give.
struct Found {
    loss: Tensor,
    regularizer: Tensor,
    cross_entropy: Tensor,
}

impl From<PairLoss> for Found {
    fn from(result: PairLoss) -> Self {
        let PairLoss { loss, consistency, cross_entropy, .. } = result;
        Self { loss, regularizer: consistency, cross_entropy: Tensor::stack(&cross_entropy, 0) }
    }
}

impl Case {
    fn read_all() -> Option<Vec<Self>> {
        if !common::has_python() {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        common::succeed(common::script("make_loss.py").arg(directory.path()));
        let cases = std::fs::read(directory.path().join("cases.json")).unwrap();
        let cases: BTreeMap<String, Value> = serde_json::from_slice(&cases).unwrap();
        let read = |(name, of)| {
            let path = directory.path().join(format!("{name}.safetensors"));
            let tensors = Tensor::read_safetensors(path).unwrap().into_iter().collect();
            Self { name, of, tensors }
        };
        Some(cases.into_iter().map(read).collect())
    }

    /// Its tensors on a device, but for what is drawn on the CPU.
    fn on(&self, device: Device) -> Self {
        let to = |(name, tensor): (&String, &Tensor)| {
            let is_drawn = ["present", "rows", "units"].contains(&name.as_str());
            let device = if is_drawn { Device::Cpu } else { device };
            (name.clone(), tensor.to_device(device))
        };
        let tensors = self.tensors.iter().map(to).collect();
        Self { name: self.name.clone(), of: self.of.clone(), tensors }
    }

    fn tensor(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }

    fn net(&self, role: &str) -> Net {
        let form = match self.of["network"].as_str().unwrap() {
            "cnn" => Form::Cnn,
            "mlp" => Form::Mlp,
            _ => Form::Text,
        };
        let split = if self.of["split"].is_null() { Split::Input } else { Split::Low };
        let start = format!("{role}.before.");
        let own = self.tensors.iter().filter_map(|(name, tensor)| {
            Some((name.strip_prefix(&start)?.to_owned(), tensor.copy()))
        });
        Net::new(form, split, own.collect())
    }

    fn roles(&self) -> &'static [&'static str] {
        if self.of["loss"] == "penalty" { &["target"] } else { &["target", "baseline"] }
    }

    fn lambda(&self) -> f64 {
        self.of["lambda"].as_f64().unwrap_or(0.6)
    }

    fn settings(&self) -> Settings {
        let rule = &self.of["variables"];
        let whole = |value: &Value| value.as_u64().map(|number| number as usize);
        let variables = if let Some(patches) = rule.get("patches") {
            Variables::ImagePatches {
                grid: whole(&patches["grid"]).unwrap(),
                select: whole(&patches["select"]),
                margin: whole(&patches["margin"]).unwrap(),
            }
        } else if let Some(groups) = rule.get("columns") {
            Variables::Columns { groups: whole(groups).unwrap() }
        } else {
            let exclude_ids = serde_json::from_value(rule["exclude_ids"].clone()).unwrap();
            Variables::Tokens { select: whole(&rule["tokens"]).unwrap(), exclude_ids }
        };
        let baseline = if self.of["baseline"] == "mean" { Baseline::Mean } else { Baseline::Zero };
        Settings { lambda: self.lambda(), variables, baseline, ..Settings::default() }
    }

    fn sets(&self) -> Sets {
        let copy = |name: &str| self.tensors.get(name).map(Tensor::shallow_clone);
        let present = self.tensor("present").to_kind(Kind::Bool);
        match self.of["fraction"].is_null() && copy("units").is_none() {
            true => Sets::given(present),
            false => Sets { rows: copy("rows"), units: copy("units"), present },
        }
    }

    fn evaluate(&self, nets: &[Net]) -> Found {
        let (inputs, labels) = (self.tensor("inputs"), self.tensor("labels"));
        let both = || [&nets[0] as &dyn Network, &nets[1]];
        match self.of["loss"].as_str().unwrap() {
            "penalty" => {
                let mut loss = InteractionPenalty::new(self.settings()).unwrap();
                let result = loss.evaluate_on(&nets[0], inputs, labels, &self.sets()).unwrap();
                let cross_entropy = result.cross_entropy.unsqueeze(0);
                Found { loss: result.loss, regularizer: result.penalty, cross_entropy }
            }
            "outputs" => {
                let mut loss = OutputConsistencyLoss::new(self.lambda(), 0).unwrap();
                loss.evaluate(both(), inputs, labels).unwrap().into()
            }
            "features" => {
                let mut loss = FeatureConsistencyLoss::new(self.lambda(), 0).unwrap();
                loss.evaluate(both(), inputs, labels).unwrap().into()
            }
            _ => {
                let mut loss = InteractionLoss::new(self.settings()).unwrap();
                loss.evaluate_on(both(), inputs, labels, &self.sets()).unwrap().into()
            }
        }
    }
}

/// The largest difference of two tensors of the same shape, relative where numbers are above 1.
fn difference(found: &Tensor, wanted: &Tensor) -> f64 {
    assert_eq!(found.size(), wanted.size());
    let double = |tensor: &Tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double);
    let (found, wanted) = (double(found), double(wanted));
    let distance = (&found - &wanted).abs() / wanted.abs().clamp_min(1.0);
    let largest = distance.max().double_value(&[]);
    if largest.is_nan() { f64::INFINITY } else { largest }
}

#[test]
fn losses_gradients_and_statistics_are_those_of_python() {
    let Some(cases) = Case::read_all() else { return };
    tch::set_num_threads(1);
    assert_eq!(cases.len(), 13);
    for device in common::devices() {
        let device = match device {
            DeviceChoice::Cpu => Device::Cpu,
            _ => Device::Cuda(0),
        };
        use_float32(device).unwrap();
        cases.iter().for_each(|case| assert_parity(&case.on(device), device));
    }
}

fn assert_parity(case: &Case, device: Device) {
    let nets: Vec<Net> = case.roles().iter().map(|role| case.net(role)).collect();
    let found = case.evaluate(&nets);
    let mut worst = 0f64;
    let mut check = |what: &str, found: &Tensor, wanted: &Tensor| {
        let error = difference(found, wanted);
        assert!(error <= TOLERANCE, "{}, {device:?}: {what} is off by {error}", case.name);
        worst = worst.max(error);
    };
    check("loss", &found.loss, case.tensor("loss"));
    check("regularizer", &found.regularizer, case.tensor("regularizer"));
    check("cross entropy", &found.cross_entropy, case.tensor("cross_entropy"));
    found.loss.backward();
    let (mut gradients, mut statistics) = (0, 0);
    for (role, net) in case.roles().iter().zip(&nets) {
        for (name, parameter) in net.parameters() {
            let name = format!("{role}.gradient.{name}");
            check(&name, &parameter.grad(), case.tensor(&name));
            gradients += 1;
        }
        for (name, tensor) in net.tensors.iter().filter(|(name, _)| name.contains("running")) {
            let name = format!("{role}.after.{name}");
            check(&name, tensor, case.tensor(&name));
            statistics += 1;
        }
    }
    let wanted = |part: &str| case.tensors.keys().filter(|name| name.contains(part)).count();
    assert_eq!(gradients, wanted(".gradient."), "{}", case.name);
    assert_eq!(statistics, wanted(".after.") - wanted(".after.") / 3, "all but the counters");
    eprintln!("{}, {device:?}: {gradients} gradients, largest error {worst:.1e}", case.name);
}
