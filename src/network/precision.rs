//! The precision of the forwards, and what is lost by less than float32.
//!
//! An interaction is a difference of up to 2^n outputs, which amplifies their rounding. So float32 without
//! TF32 is the default, and a lower precision is compared with it at every checkpoint on a few samples
//! ([`ProbeValues::reference`](super::ProbeValues)).

use super::{Device, NetworkError};

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

    /// Whether the device can compute so.
    ///
    /// # Errors
    /// TF32 on a CPU.
    pub fn check(self, device: Device) -> Result<(), NetworkError> {
        match self == Self::Tf32 && device.is_cpu() {
            true => Err(NetworkError::Device(
                "`compute.precision: tf32` is of NVIDIA GPUs, but the networks run on the CPU; take `fp32`"
                    .to_owned(),
            )),
            false => Ok(()),
        }
    }

    /// Does the work in this precision, and leaves float32 behind.
    ///
    /// # Errors
    /// The work's, and libtorch's.
    pub fn within<T>(
        self,
        device: tch::Device,
        work: impl FnOnce() -> Result<T, NetworkError>,
    ) -> Result<T, NetworkError> {
        /// Also where the work panics.
        struct Restore(tch::Device);
        impl Drop for Restore {
            fn drop(&mut self) {
                let _ = use_float32(self.0);
            }
        }
        set(self, device)?;
        let _restore = Restore(device);
        work()
    }
}

/// What holds outside of [`Precision::within`]; libtorch by itself allows TF32 in convolutions.
///
/// # Errors
/// libtorch's.
pub fn use_float32(device: tch::Device) -> Result<(), NetworkError> {
    set(Precision::Float32, device)
}

fn set(precision: Precision, device: tch::Device) -> Result<(), NetworkError> {
    let (tf32, bf16) = (precision == Precision::Tf32, precision == Precision::Bf16);
    match convergd_set_precision(device.is_cuda(), tf32, bf16) {
        0 => Ok(()),
        _ => Err(NetworkError::Torch {
            context: format!("precision {}", precision.name()),
            message: "libtorch refuses it; take `compute.precision: fp32`".to_owned(),
        }),
    }
}

// SAFETY: the signature is that of `precision.cpp`, which catches all exceptions.
unsafe extern "C" {
    safe fn convergd_set_precision(cuda: bool, tf32: bool, bf16: bool) -> std::ffi::c_int;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn precisions_are_read_from_their_names() {
        for precision in [Precision::Float32, Precision::Tf32, Precision::Bf16] {
            assert_eq!(precision.name().parse(), Ok(precision));
        }
        for text in ["", "float32", "BF16", "fp16"] {
            assert_eq!(text.parse::<Precision>(), Err(UnknownPrecision), "{text}");
        }
    }

    #[test]
    fn tf32_is_refused_on_a_cpu() {
        let error = Precision::Tf32.check(Device::CPU).expect_err("refused").to_string();
        assert!(error.contains("tf32") && error.contains("fp32"), "{error}");
        assert!(Precision::Bf16.check(Device::CPU).is_ok());
    }

    #[test]
    fn a_product_is_rounded_to_bfloat16_within_and_exact_again_after() {
        let own = Tensor::from_slice(&[1.0f32 + 1.0 / 1024.0]).view([1, 1]);
        let product = || Ok(own.matmul(&own));
        let value = |tensor: Tensor| tensor.to_kind(Kind::Double).double_value(&[0, 0]);
        let cpu = tch::Device::Cpu;
        let exact = (1.0 + 1.0 / 1024.0f64).powi(2);
        let low = Precision::Bf16.within(cpu, product).expect("a product");
        assert_eq!(low.kind(), Kind::BFloat16);
        assert_eq!(value(low), 1.0);
        for precision in [Precision::Float32, Precision::Tf32] {
            let high = value(precision.within(cpu, product).expect("a product"));
            assert!((high - exact).abs() < 1e-7, "{high}");
        }
    }

    #[test]
    fn work_that_fails_leaves_float32_behind() {
        let cpu = tch::Device::Cpu;
        let failed = Precision::Bf16.within(cpu, || Err::<(), _>(NetworkError::Died));
        assert!(failed.is_err());
        let panicked = std::panic::catch_unwind(|| {
            Precision::Bf16.within(cpu, || -> Result<(), NetworkError> { panic!("as tch does") })
        });
        assert!(panicked.is_err());
        let one = Tensor::ones([1, 1], (Kind::Float, cpu));
        assert_eq!(one.matmul(&one).kind(), Kind::Float);
    }
}
