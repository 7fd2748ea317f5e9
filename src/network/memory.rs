//! Memory: what is free of a device, what a network needs there, and giving it back.

use super::{Device, host};
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

/// What libtorch says where there is not enough: of a GPU, of the machine, for a library of NVIDIA's, for one that it
/// begins to use, for oneDNN (which says the same where it may not write code).
const EXHAUSTED: [&str; 8] = [
    "out of memory",
    "can't allocate memory",
    "std::bad_alloc",
    "could not create a primitive",
    "could not create a memory",
    "ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_NOT_INITIALIZED",
];

// SAFETY: the signatures are those of `memory.cpp`, which catches all exceptions.
unsafe extern "C" {
    safe fn convergd_cuda_held(index: c_int) -> i64;
    safe fn convergd_cuda_free(index: c_int) -> i64;
    safe fn convergd_cuda_release() -> c_int;
    safe fn convergd_measure() -> *mut c_void;
    unsafe fn convergd_measured(measurement: *mut c_void) -> i64;
}

/// Bytes that libtorch holds on a GPU, in use or kept for the next tensor; nothing on the CPU, whose memory is
/// that of the process.
pub fn held(device: Device) -> Option<u64> {
    u64::try_from(convergd_cuda_held(index(device)?)).ok()
}

/// Bytes of a device that this process could have now; nothing where the system does not tell.
pub fn free(device: Device) -> Option<u64> {
    match index(device) {
        Some(index) => u64::try_from(convergd_cuda_free(index)).ok(),
        None => host::free(),
    }
}

fn index(device: Device) -> Option<c_int> {
    let tch::Device::Cuda(index) = device.0 else { return None };
    c_int::try_from(index).ok()
}

/// Whether libtorch says that there was not enough memory.
pub(super) fn is_exhausted(message: &str) -> bool {
    EXHAUSTED.iter().any(|text| message.contains(text))
}

/// What some work gives, and the most bytes that the tensors that it made took at once, on any device.
pub(super) fn measured<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    let measurement = Measurement(NonNull::new(convergd_measure()));
    let result = work();
    (result, measurement.end())
}

/// It ends on its thread, also where the work panics.
struct Measurement(Option<NonNull<c_void>>);

impl Measurement {
    fn end(mut self) -> Option<u64> {
        self.take().and_then(|bytes| u64::try_from(bytes).ok())
    }

    fn take(&mut self) -> Option<i64> {
        // SAFETY: it came from `convergd_measure` on this thread, since a pointer cannot be sent, and is gone now.
        self.0.take().map(|begun| unsafe { convergd_measured(begun.as_ptr()) })
    }
}

impl Drop for Measurement {
    fn drop(&mut self) {
        let _ = self.take();
    }
}

/// Has the process keep the memory of tensors between two forwards.
pub fn keep() {
    heap::keep();
}

/// Gives what is kept back, to the system and to GPUs.
pub fn release() {
    heap::release();
    release_gpus();
}

/// Gives what is kept of GPUs back to them.
pub(super) fn release_gpus() {
    if convergd_cuda_release() != 0 {
        // Perhaps a GPU that has failed, behind which others are.
        tracing::debug!("libtorch did not give the memory of every GPU back");
    }
}

/// libtorch's allocator on the CPU is that of the C library, which hands the memory of each large tensor back
/// to the system and takes it anew, page by page: a third of the time of a forward.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod heap {
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
mod heap {
    pub(super) fn keep() {}
    pub(super) fn release() {}
}

#[cfg(test)]
#[allow(clippy::print_stderr)]
mod tests {
    use super::*;
    use crate::network::device::cuda_devices;
    use crate::network::{NetworkError, first_lines, guarded};
    use tch::{Kind, Tensor};

    #[test]
    fn only_a_gpu_has_memory_of_its_own() {
        assert_eq!(held(Device::CPU), None);
        let gpu = Device(tch::Device::Cuda(0));
        if cuda_devices() == 0 {
            // libtorch has no allocator to ask: it is told, not fatal.
            assert_eq!((held(gpu), free(gpu)), (None, None));
            release();
            return;
        }
        let before = free(gpu).expect("told");
        let tensor = Tensor::zeros([1 << 24], (Kind::Float, gpu.torch()));
        let with = held(gpu).expect("told");
        assert!(with >= 64 << 20, "{with} with {tensor:?}");
        assert!(free(gpu).expect("told") <= before - (32 << 20));
        drop(tensor);
        release();
        assert!(held(gpu).expect("told") <= with - (64 << 20));
    }

    #[test]
    fn libraries_tell_of_too_little_memory_in_words_of_their_own() {
        for text in [
            "CUDA out of memory. Tried to allocate 2.00 GiB.",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
            "std::bad_alloc",
            "could not create a primitive",
        ] {
            assert!(is_exhausted(text), "{text}");
        }
        for text in ["CUDA error: an illegal memory access was encountered", "misaligned address"] {
            assert!(!is_exhausted(text), "{text}");
        }
    }

    #[test]
    fn the_most_bytes_at_once_are_counted() {
        let floats = |count: i64| Tensor::ones([count], (Kind::Float, tch::Device::Cpu));
        // What was made before counts for nothing, also where it is dropped meanwhile.
        let before = floats(1 << 20);
        let (sum, bytes) = measured(|| {
            drop(before);
            drop(floats(1000));
            let (a, b) = (floats(500), floats(700));
            (a.sum(Kind::Float) + b.sum(Kind::Float)).double_value(&[])
        });
        assert_eq!(sum, 1200.0);
        let bytes = bytes.expect("measured");
        assert!((4800..4800 + 64).contains(&bytes), "{bytes}");
        // And no more is counted.
        let (_, bytes) = measured(|| ());
        assert_eq!(bytes, Some(0));
    }

    #[test]
    fn a_measurement_ends_where_the_work_panics() {
        let panicked = std::panic::catch_unwind(|| measured(|| panic!("as tch does")));
        assert!(panicked.is_err());
        assert_eq!(measured(|| 1), (1, Some(0)));
    }

    #[test]
    fn what_libtorch_says_of_too_little_memory_is_understood() {
        // More than a process can address.
        let size = [1i64 << 47, 64];
        let error = Tensor::f_empty(size, (Kind::Float, tch::Device::Cpu)).expect_err("too much");
        let message = first_lines(&error);
        assert!(is_exhausted(&message), "{message}");
        let panicked = guarded(|| Ok(Tensor::empty(size, (Kind::Float, tch::Device::Cpu))));
        let error = panicked.expect_err("too much").on(Device::CPU);
        let text = error.to_string();
        assert!(matches!(error, NetworkError::Memory { .. }) && error.is_passing(), "{text}");
        assert!(text.starts_with("cpu has not enough memory"), "{text}");
        let shapes = Tensor::from_slice(&[1.0]).f_matmul(&Tensor::from_slice(&[1.0, 2.0]));
        assert!(!is_exhausted(&first_lines(&shapes.expect_err("shapes"))));
        if cuda_devices() == 0 {
            eprintln!("skipped: libtorch sees no CUDA device");
            return;
        }
        let device = tch::Device::Cuda(0);
        let error = Tensor::f_empty([1i64 << 40], (Kind::Float, device)).expect_err("too much");
        let message = first_lines(&error);
        assert!(is_exhausted(&message), "{message}");
    }
}
