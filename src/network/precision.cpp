// What tch does not offer of libtorch: the precision of matrix products and convolutions.
#include <ATen/Context.h>

// Their header brings every operation of libtorch along, for five times as long a compilation. Another signature would not
// link.
namespace at::autocast {
TORCH_API void set_autocast_enabled(at::DeviceType device_type, bool enabled);
TORCH_API void set_autocast_dtype(at::DeviceType device_type, at::ScalarType dtype);
TORCH_API void set_autocast_cache_enabled(bool enabled);
}  // namespace at::autocast

// TF32 holds for the process, autocast for the thread that calls. Returns 0, or 1 where libtorch
// refuses.
extern "C" int convergd_set_precision(bool cuda, bool tf32, bool bf16) noexcept {
  try {
    at::globalContext().setAllowTF32CuBLAS(tf32);
    at::globalContext().setAllowTF32CuDNN(tf32);
    const auto device = cuda ? at::kCUDA : at::kCPU;
    at::autocast::set_autocast_dtype(device, at::kBFloat16);
    // Weights are overwritten in place from checkpoint to checkpoint: no cast of them is kept.
    at::autocast::set_autocast_cache_enabled(false);
    at::autocast::set_autocast_enabled(device, bf16);
    return 0;
  } catch (...) {
    return 1;
  }
}
