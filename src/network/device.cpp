// What tch does not offer of libtorch: the memory of a GPU.
#include <c10/core/CachingDeviceAllocator.h>

// Bytes that libtorch holds on a CUDA device, in use or kept for the next tensor; -1 where it does not tell.
extern "C" int64_t convergd_cuda_memory(int index) noexcept {
  try {
    constexpr auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    return allocator->getDeviceStats(static_cast<c10::DeviceIndex>(index)).reserved_bytes[all].current;
  } catch (...) {
    return -1;
  }
}
