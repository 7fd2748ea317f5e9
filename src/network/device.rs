//! The device, and libtorch's threads.

use super::NetworkError;

/// What the configuration asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA where there is a device, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// One CUDA device, by index.
    Cuda(usize),
}

/// A device that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device(pub(crate) tch::Device);

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            tch::Device::Cuda(index) => write!(f, "cuda:{index}"),
            _ => f.write_str("cpu"),
        }
    }
}

impl DeviceChoice {
    /// Finds the device.
    ///
    /// # Errors
    /// A CUDA device that is asked for and not there.
    pub fn find(self) -> Result<Device, NetworkError> {
        let devices = if self == Self::Cpu { 0 } else { cuda_devices() };
        match self {
            Self::Cpu => Ok(Device(tch::Device::Cpu)),
            Self::Auto if devices == 0 => Ok(Device(tch::Device::Cpu)),
            Self::Auto => Ok(Device(tch::Device::Cuda(0))),
            Self::Cuda(index) if index < devices => Ok(Device(tch::Device::Cuda(index))),
            Self::Cuda(index) => Err(NetworkError::Device(format!(
                "`compute.device` asks for cuda:{index}, but libtorch sees {devices} CUDA devices; \
                 `convergd doctor` says more, `compute.device: auto` takes what is there"
            ))),
        }
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

/// What tells the CUDA libraries to compute float32 as float32. A difference of 2^k outputs amplifies the
/// rounding of TF32, which libtorch allows in convolutions by default and tch cannot forbid. It is read
/// when they are loaded, so `main` sets it first of all.
pub const FORBID_TF32: (&str, &str) = ("NVIDIA_TF32_OVERRIDE", "0");

/// Sets the threads of libtorch: its idle ones spin.
pub fn prepare(threads: usize) {
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
