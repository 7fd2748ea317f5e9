//! What a network gave.

/// What one network gives for the probe, before any extraction. This is what the cache holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeValues {
    /// v(S) by sample and bitmask, [P][2^n], in log-odds. May hold NaN when the weights do.
    pub values: Vec<Vec<f64>>,
    /// Logits of the unmasked samples, [P][classes].
    pub logits: Vec<Vec<f64>>,
    /// v(S) of the first samples (at most [`REFERENCE_SAMPLES`](super::precision::REFERENCE_SAMPLES)) in float32,
    /// [samples][2^n]; empty where `values` are in float32 themselves.
    pub reference: Vec<Vec<f64>>,
}

impl ProbeValues {
    /// Bytes of all numbers.
    pub fn bytes(&self) -> u64 {
        let all = [&self.values, &self.logits, &self.reference];
        let numbers: usize = all.into_iter().flatten().map(Vec::len).sum();
        (numbers * size_of::<f64>()) as u64
    }

    /// v(N) − v(∅) of each sample, in log-odds.
    pub fn outputs(&self) -> Vec<f64> {
        let output = |table: &Vec<f64>| match table.as_slice() {
            [empty, .., full] => full - empty,
            _ => 0.0,
        };
        self.values.iter().map(output).collect()
    }
}
