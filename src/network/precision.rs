//! The precision of the forwards, and what is lost by less than float32.
//!
//! An interaction is a difference of up to 2^n outputs, which amplifies their rounding. So float32 without
//! TF32 is the default, and a lower precision is compared with it at every checkpoint on a few samples
//! ([`ProbeValues::reference`](super::ProbeValues)).

use super::{Device, NetworkError};
use crate::evaluation::Precision;
use std::sync::{Mutex, PoisonError};

/// Whether the device can compute so.
///
/// # Errors
/// TF32 on a CPU.
pub fn check(precision: Precision, device: Device) -> Result<(), NetworkError> {
    match precision == Precision::Tf32 && device.is_cpu() {
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
    precision: Precision,
    device: tch::Device,
    work: impl FnOnce() -> Result<T, NetworkError>,
) -> Result<T, NetworkError> {
    /// Also where the work panics.
    struct Restore(Precision, tch::Device);
    impl Drop for Restore {
        fn drop(&mut self) {
            let Self(precision, device) = *self;
            let _ = set(Precision::Float32, device, |uses| *uses -= u32::from(is_tf32(precision)));
        }
    }
    // First, so that what libtorch refuses halfway is undone.
    let restore = Restore(precision, device);
    set(precision, device, |uses| *uses += u32::from(is_tf32(precision)))?;
    let result = work();
    drop(restore);
    result
}

/// TF32 belongs to the process, and several devices may be at work: it holds until the last has done.
static USES_OF_TF32: Mutex<u32> = Mutex::new(0);

fn is_tf32(precision: Precision) -> bool {
    precision == Precision::Tf32
}

/// What holds outside of [`within`]; libtorch by itself allows TF32 in convolutions.
///
/// # Errors
/// libtorch's.
pub fn use_float32(device: tch::Device) -> Result<(), NetworkError> {
    set(Precision::Float32, device, |_| ())
}

/// Autocast is of the thread that calls.
fn set(
    precision: Precision,
    device: tch::Device,
    count: impl FnOnce(&mut u32),
) -> Result<(), NetworkError> {
    let mut uses = USES_OF_TF32.lock().unwrap_or_else(PoisonError::into_inner);
    count(&mut uses);
    let bf16 = precision == Precision::Bf16;
    match convergd_set_precision(device.is_cuda(), *uses > 0, bf16) {
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
#[allow(clippy::print_stderr)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn tf32_is_refused_on_a_cpu() {
        let error = check(Precision::Tf32, Device::CPU).expect_err("refused").to_string();
        assert!(error.contains("tf32") && error.contains("fp32"), "{error}");
        assert!(check(Precision::Bf16, Device::CPU).is_ok());
    }

    #[test]
    fn a_product_is_rounded_to_bfloat16_within_and_exact_again_after() {
        let own = Tensor::from_slice(&[1.0f32 + 1.0 / 1024.0]).view([1, 1]);
        let product = || Ok(own.matmul(&own));
        let value = |tensor: Tensor| tensor.to_kind(Kind::Double).double_value(&[0, 0]);
        let cpu = tch::Device::Cpu;
        let exact = (1.0 + 1.0 / 1024.0f64).powi(2);
        let low = within(Precision::Bf16, cpu, product).expect("a product");
        assert_eq!(low.kind(), Kind::BFloat16);
        assert_eq!(value(low), 1.0);
        for precision in [Precision::Float32, Precision::Tf32] {
            let high = value(within(precision, cpu, product).expect("a product"));
            assert!((high - exact).abs() < 1e-7, "{high}");
        }
    }

    #[test]
    fn products_on_a_gpu_are_rounded_to_tf32_within_and_exact_again_after() {
        if crate::network::device::cuda_devices() == 0 {
            eprintln!("skipped: libtorch sees no CUDA device");
            return;
        }
        // Beyond the 10 bits of a TF32's fraction; large enough for the tensor cores.
        let (size, device) = (64, tch::Device::Cuda(0));
        let own = Tensor::full([size, size], 1.0 + 1.0 / 4096.0, (Kind::Float, device));
        let product = || Ok(own.matmul(&own).double_value(&[0, 0]));
        let exact = size as f64 * (1.0 + 1.0 / 4096.0f64).powi(2);
        for (precision, wanted) in [
            (Precision::Float32, exact),
            (Precision::Tf32, size as f64),
            (Precision::Float32, exact),
            (Precision::Bf16, size as f64),
            (Precision::Float32, exact),
        ] {
            let found = within(precision, device, product).expect("a product");
            assert!((found - wanted).abs() < 1e-3, "{}: {found}", precision.name());
        }
    }

    #[test]
    fn work_that_fails_leaves_float32_behind() {
        let cpu = tch::Device::Cpu;
        let failed = within(Precision::Bf16, cpu, || Err::<(), _>(NetworkError::Died));
        assert!(failed.is_err());
        let panicked = std::panic::catch_unwind(|| {
            within(Precision::Bf16, cpu, || -> Result<(), NetworkError> { panic!("as tch does") })
        });
        assert!(panicked.is_err());
        let one = Tensor::ones([1, 1], (Kind::Float, cpu));
        assert_eq!(one.matmul(&one).kind(), Kind::Float);
    }
}
