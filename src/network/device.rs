//! The device, and libtorch's threads.

use super::{NetworkError, memory};
use crate::evaluation::DeviceChoice;

/// A device that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device(pub(crate) tch::Device);

impl Device {
    /// The CPU, which is always there.
    pub const CPU: Self = Self(tch::Device::Cpu);

    /// As tch names it.
    pub fn torch(self) -> tch::Device {
        self.0
    }

    /// Whether it is the CPU.
    pub fn is_cpu(self) -> bool {
        self == Self::CPU
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            tch::Device::Cuda(index) => write!(f, "cuda:{index}"),
            _ => f.write_str("cpu"),
        }
    }
}

/// Several, for people.
pub fn names(devices: &[Device]) -> String {
    devices.iter().map(Device::to_string).collect::<Vec<_>>().join(",")
}

/// How libtorch begins what the driver or a library of a GPU tells it, whatever was asked of them.
const FAILURES: [&str; 7] = [
    "CUDA error",
    "CUDA driver",
    "CUDA unknown error",
    "NVIDIA driver",
    "cuDNN error",
    "CUDNN_STATUS",
    "CUBLAS_STATUS",
];

/// The same where what was asked of it was wrong, such as a token beyond the vocabulary.
const REFUSALS: [&str; 3] =
    ["device-side assert", "_STATUS_NOT_SUPPORTED", "_STATUS_INVALID_VALUE"];

/// Whether libtorch says that a device has failed, and not what it was given.
pub(super) fn is_failure(message: &str) -> bool {
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    says(&FAILURES) && !says(&REFUSALS)
}

/// Finds the device that is asked for.
///
/// # Errors
/// A CUDA device that is not there.
pub fn find(choice: DeviceChoice) -> Result<Device, NetworkError> {
    let devices = if choice == DeviceChoice::Cpu { 0 } else { cuda_devices() };
    match choice {
        DeviceChoice::Cpu => Ok(Device::CPU),
        DeviceChoice::Auto if devices == 0 => Ok(Device::CPU),
        DeviceChoice::Auto => Ok(Device(tch::Device::Cuda(0))),
        DeviceChoice::Cuda(index) if index < devices => Ok(Device(tch::Device::Cuda(index))),
        DeviceChoice::Cuda(index) => Err(NetworkError::Device(format!(
            "cuda:{index} is asked for, but libtorch sees {devices} CUDA devices; \
             `convergd doctor` says more, the device `auto` takes what is there"
        ))),
    }
}

/// Number of CUDA devices that libtorch can use.
///
/// The linker drops libtorch_cuda, since no symbol of it is named; it has to be opened by hand, and
/// before the first question about CUDA, whose answer libtorch keeps.
pub fn cuda_devices() -> usize {
    static OPENED: std::sync::OnceLock<()> = std::sync::OnceLock::new();
    OPENED.get_or_init(open_libtorch_cuda);
    usize::try_from(tch::Cuda::device_count()).unwrap_or(0)
}

#[cfg(target_os = "linux")]
fn open_libtorch_cuda() {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: libtorch_cuda's initialisers register kernels; it belongs to the libtorch linked here.
    match unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) } {
        // It stays open as long as the process lives.
        Ok(library) => std::mem::forget(library),
        Err(error) => tracing::debug!(%error, "libtorch has no CUDA part here"),
    }
}

#[cfg(not(target_os = "linux"))]
fn open_libtorch_cuda() {}

/// What would have the CUDA libraries compute float32 as TF32, or never so, whatever
/// [`Precision`](super::Precision) says. It is read when they are loaded, so `main` clears it first of all.
pub const TF32_OVERRIDE: &str = "NVIDIA_TF32_OVERRIDE";

/// Sets the threads of libtorch, since its idle ones spin, and how the process keeps its memory.
pub fn prepare(threads: usize) {
    memory::keep();
    let threads = i32::try_from(threads).unwrap_or(i32::MAX);
    tch::set_num_threads(threads);
    // libtorch refuses a second call.
    static INTEROP: std::sync::Once = std::sync::Once::new();
    INTEROP.call_once(|| tch::set_num_interop_threads(1));
}

/// Whether libtorch computes, for `doctor`.
pub fn self_test() -> bool {
    tch::Tensor::from_slice(&[1.5f64, 2.5]).sum(tch::Kind::Double).double_value(&[]) == 4.0
}

/// The libtorch that is loaded, for `doctor`.
pub fn libtorch_path() -> Option<std::path::PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.contains("libtorch_cpu"))?;
    line.split_whitespace().last().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cuda_device_that_is_not_there_says_what_to_try() {
        let missing = cuda_devices();
        let error = find(DeviceChoice::Cuda(missing)).unwrap_err();
        assert!(matches!(error, NetworkError::Device(_)));
        let text = error.to_string();
        assert!(text.contains(&format!("cuda:{missing}")) && text.contains("auto"), "{text}");
    }

    #[test]
    fn a_driver_that_fails_is_not_taken_for_a_program_that_does() {
        for message in [
            "CUDA error: an illegal memory access was encountered",
            "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`",
            "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
            "CUDA driver version is insufficient for CUDA runtime version",
            "Found no NVIDIA driver on your system.",
        ] {
            assert!(is_failure(message), "{message}");
        }
        for message in [
            "The size of tensor a (3) must match the size of tensor b (4)",
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
            "CUDA error: device-side assert triggered",
            "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input.",
            "CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm(...)`",
            "mat1 and mat2 shapes cannot be multiplied (1x8 and 4x2)",
        ] {
            assert!(!is_failure(message), "{message}");
        }
    }
}
