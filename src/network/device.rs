//! The device, and libtorch's threads.

use super::NetworkError;
use crate::evaluation::DeviceChoice;
use std::ffi::c_int;

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

    /// Bytes that libtorch holds on a GPU, in use or kept for the next tensor; nothing on the CPU, whose memory is
    /// that of the process.
    pub fn memory(self) -> Option<u64> {
        let tch::Device::Cuda(index) = self.0 else { return None };
        u64::try_from(convergd_cuda_memory(c_int::try_from(index).ok()?)).ok()
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

unsafe extern "C" {
    /// `device.cpp`.
    safe fn convergd_cuda_memory(index: c_int) -> i64;
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

/// Gives the memory that is kept between two forwards back to the system.
pub fn release_memory() {
    memory::release();
}

/// libtorch's allocator on the CPU is that of the C library, which hands the memory of each large tensor back
/// to the system and takes it anew, page by page: a third of the time of a forward.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod memory {
    use libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, c_int, malloc_trim, mallopt};

    /// The most that the C library takes: larger tensors still come and go.
    const FROM_HEAP: c_int = 32 << 20;
    /// Free memory that is kept until [`release`].
    const KEPT: c_int = 1 << 30;

    pub(super) fn keep() {
        // Heaps of other threads are limited to 64 MiB and given back piece by piece.
        for (what, value) in
            [(M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, FROM_HEAP), (M_TRIM_THRESHOLD, KEPT)]
        {
            // SAFETY: it sets a number; what it refuses stays as it was.
            unsafe { mallopt(what, value) };
        }
    }

    pub(super) fn release() {
        // SAFETY: it gives back what nobody uses.
        unsafe { malloc_trim(0) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod memory {
    pub(super) fn keep() {}
    pub(super) fn release() {}
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
    fn only_a_gpu_has_memory_of_its_own() {
        assert_eq!(Device::CPU.memory(), None);
        let gpus = cuda_devices();
        if gpus == 0 {
            // libtorch has no allocator to ask: it is told, not fatal.
            assert_eq!(Device(tch::Device::Cuda(0)).memory(), None);
            return;
        }
        let device = Device(tch::Device::Cuda(0));
        let tensor = tch::Tensor::zeros([1 << 20], (tch::Kind::Float, device.torch()));
        let held = device.memory();
        assert!(held >= Some(4 << 20), "{held:?} with {tensor:?}");
    }

    #[test]
    fn a_cuda_device_that_is_not_there_says_what_to_try() {
        let missing = cuda_devices();
        let error = find(DeviceChoice::Cuda(missing)).unwrap_err();
        assert!(matches!(error, NetworkError::Device(_)));
        let text = error.to_string();
        assert!(text.contains(&format!("cuda:{missing}")) && text.contains("auto"), "{text}");
    }
}
