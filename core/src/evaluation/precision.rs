//! The precision of the forwards that is asked for.

/// Samples that are evaluated in float32 too where the precision is lower.
pub const REFERENCE_SAMPLES: usize = 4;

/// How matrix products and convolutions are computed; weights, features and everything else stay float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// float32, TF32 forbidden.
    #[default]
    Float32,
    /// TF32 on NVIDIA's tensor cores: 10 bits of mantissa.
    Tf32,
    /// bfloat16 by libtorch's autocast: 7 bits of mantissa.
    Bf16,
}

/// A text that names no precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write `fp32`, `tf32` or `bf16`")]
pub struct UnknownPrecision;

impl std::str::FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, UnknownPrecision> {
        let all = [Self::Float32, Self::Tf32, Self::Bf16];
        all.into_iter().find(|precision| precision.name() == text).ok_or(UnknownPrecision)
    }
}

impl Precision {
    /// The name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precisions_are_read_from_their_names() {
        for precision in [Precision::Float32, Precision::Tf32, Precision::Bf16] {
            assert_eq!(precision.name().parse(), Ok(precision));
        }
        for text in ["", "float32", "BF16", "fp16"] {
            assert_eq!(text.parse::<Precision>(), Err(UnknownPrecision), "{text}");
        }
    }
}
